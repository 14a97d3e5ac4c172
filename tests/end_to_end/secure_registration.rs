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
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use serde_json::json;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

const NUMBER: &str = "+15550196";

/// A peer at the other end of a TLS connection.
struct Peer {
    stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
}

impl Peer {
    /// The next message whose first line begins so; others, and line ends between them, are passed over.
    async fn expect(&mut self, start: &str) -> Heard {
        let heard = async {
            loop {
                match self.cut() {
                    Some(heard) if heard.start.starts_with(start) => return heard,
                    Some(_) => {}
                    None => {
                        let read = self.stream.read_buf(&mut self.unread).await.unwrap();
                        assert!(read > 0, "the switch closed the connection");
                    }
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {start}"))
    }

    /// Cuts a whole message off what came.
    fn cut(&mut self) -> Option<Heard> {
        let blank = self.unread.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.unread.drain(..blank);
        let text = String::from_utf8_lossy(&self.unread).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let heard = Heard::read(&format!("{head}\r\n\r\n"));
        let length: usize = heard.header("content-length").parse().unwrap();
        let body = body.get(..length)?;
        let heard = Heard { body: body.to_owned(), ..heard };
        self.unread.drain(..head.len() + 4 + length);
        Some(heard)
    }

    /// Answers a request; `headers` end with CRLF each.
    async fn answer(&mut self, request: &Heard, status: &str, headers: &str, sdp: &str) {
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let to = request.header("to");
        let tag = if to.contains(";tag=") { "" } else { ";tag=there" };
        let response = Phone::response(request, status, &format!("{headers}{kind}"))
            .replace(&format!("to: {to}\r\n"), &format!("to: {to}{tag}\r\n"))
            .replace("Content-Length: 0", &format!("Content-Length: {}", sdp.len()));
        self.stream.write_all((response + sdp).as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

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
    let mut peer = Peer { stream, unread: Vec::new() };
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
