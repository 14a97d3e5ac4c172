//! A registrar over TLS, written from the RFCs, and the call that comes back by the registered connection.

use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::rows;
use serde_json::json;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const NUMBER: &str = "+15550196";

#[expect(clippy::too_many_lines, reason = "one story from the connection to the end of the call")]
#[tokio::test]
async fn a_trunk_registers_by_tls_and_its_calls_out_take_that_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let settings = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));

    // Whoever asks where we are is told the listener that speaks TLS, though it is not the first.
    let more = "[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\ntransports = [\"tls\"]\n\
                tls_cert_file = \"peer.pem\"\ntls_key_ref = \"file:peer.key\"\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    home.write("password", "s3cret");
    home.write("peer.pem", &made.cert.pem());
    home.write("peer.key", &made.signing_key.serialize_pem());
    let node = home.start().await;
    let overrides = json!({
        "inbound": {"source_cidrs": ["127.0.0.8/32"]},
        "registration": {
            "enabled": true, "registrar": "sip:carrier.example",
            "proxy": format!("sip:{address};transport=tls;lr"),
            "aor": format!("sip:{NUMBER}@carrier.example"), "contact_user": "pilot",
            "username": NUMBER, "password_ref": "file:password", "expires_s": 600,
        },
        "tls": {"verify": "pin", "ca_file": "peer.pem"},
        "outbound": {
            "enabled": true, "via_registered_flow": true,
            // Nobody is there: what reaches the registrar took the registered way.
            "gateway": [{"name": "sbc", "uri": "sip:192.0.2.99:5061;transport=tls", "dns": "fixed"}],
        },
        "security": {"allow_destinations": ["+1"]},
    });
    node.put(&[
        rows::trunk_with(4, overrides),
        crate::carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;

    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await.unwrap().unwrap();
    let mut peer = Peer::new(stream);
    let register = peer.expect("REGISTER ").await;
    assert_eq!(register.start, "REGISTER sip:carrier.example SIP/2.0");
    assert!(register.header("via").starts_with("SIP/2.0/TLS "), "{register:?}");
    let secure = node.listener("secure", "tls");
    let contact = register.header("contact").to_owned();
    assert!(contact.contains(&format!("sip:pilot@{secure};transport=tls")), "{contact}");
    let challenge =
        "WWW-Authenticate: Digest realm=\"carrier.example\", nonce=\"n\", qop=\"auth\"\r\n";
    peer.answer(&register, "401 Unauthorized", challenge, "").await;
    let register = peer.expect("REGISTER ").await;
    assert!(register.header("authorization").contains("response="), "{register:?}");
    let bound = format!(
        "Contact: {};expires=600\r\nService-Route: <sip:{address};transport=tls;lr>\r\n",
        contact.split(">").next().unwrap().to_owned() + ">"
    );
    peer.answer(&register, "200 OK", &bound, "").await;
    wait_for("the registration", async || {
        let trunk = node.trunk(rows::tenant_id(1)).await;
        (trunk["registration"]["state"] == "registered").then_some(())
    })
    .await;

    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = peer.expect("INVITE ").await;
    assert_eq!(invite.header("route"), format!("<sip:{address};transport=tls;lr>"));
    assert!(invite.header("contact").contains(&format!("@{secure};transport=tls")), "{invite:?}");
    let here = format!("Contact: <sip:gw@{address};transport=tls>\r\n");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.8\r\ns=-\r\nc=IN IP4 127.0.0.8\r\nt=0 0\r\n\
               m=audio 9998 RTP/AVP 0\r\n";
    peer.answer(&invite, "200 OK", &here, sdp).await;
    peer.expect("ACK ").await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let bye = peer.expect("BYE ").await;
    peer.answer(&bye, "200 OK", "", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "normal", "{}", steps(&record));
    assert_eq!(node.metric("sip_flows_opened_total{transport=\"tls\"}").await, 1, "one connection");
}
