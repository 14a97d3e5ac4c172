//! Calls that go on to agents behind SIP, each with what such a service demands: LiveKit SIP, Retell, OpenAI. None of them can
//! be had here; SIPp says and checks what their notes and sources say.

use crate::carrier::hear_bye;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Phone;
use crate::rows;
use crate::sipp_carrier::Gateway;
use md5::Digest;
use md5::Md5;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const NUMBER: &str = "+15550131";

/// A call to a number that this agent takes, whose INVITE brought `X-Case: 7`; the agent hangs up.
async fn call(home: Home, agent: Value) -> (Node, Phone) {
    let node = home.start().await;
    let variables = json!({
        "inbound": {"source_cidrs": ["127.0.0.1/32"]},
        "headers": {"inbound_to_vars": {"X-Case": "case"}},
    });
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk_with(2, variables),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let mut phone = Phone::new("127.0.0.1".parse().unwrap(), node.sip(), NUMBER).await;
    let answered = phone.call("X-Case: 7\r\n").await;
    assert_eq!(answered.status(), 200, "{answered:?}");
    hear_bye(&phone).await;
    (node, phone)
}

/// It went as the scenario says, and the agent ended it.
async fn went_well(node: &Node, phone: &Phone) {
    let record = node.record(&phone.call_id).await;
    let end = (record.cause.as_str(), record.agent_failure, record.has_fallback);
    assert_eq!(end, ("normal", None, false));
}

/// The number called is the user part, by which LiveKit finds its trunk; that asks who calls by 407 without qop, so the answer has
/// neither qop nor count (RFC 2617 section 3.2.2.1); headers become attributes.
#[tokio::test]
async fn an_agent_behind_livekit_is_called_as_its_trunk_demands() {
    let sipp = Gateway::new("agent-livekit", 1).await;
    let uri = format!("sip:{NUMBER}@{}", sipp.address);
    let home = Home::new();
    home.write("password", "open sesame");
    let agent = json!({"kind": "sip", "uri": uri, "headers": {"X-Room": "front"},
                       "username": "lk_tandem", "password_ref": "file:password"});
    let (node, phone) = call(home, agent).await;
    let report = sipp.finishes().await;
    went_well(&node, &phone).await;
    let said = |name: &str| {
        let (_, rest) = report.logged.split_once(&format!("{name}=\"")).expect(name);
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let md5 = |parts: [&str; 3]| {
        let bytes = Md5::digest(parts.join(":"));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mine = md5(["lk_tandem", "LiveKit", "open sesame"]);
    let asked = md5(["INVITE", "sip", said("uri").trim_start_matches("sip:")]);
    assert_eq!(said("response"), md5([&mine, &said("nonce"), &asked]), "{}", report.logged);
}

/// The user part is the identity that Retell's API gave the call, letter by letter; over TCP, with variables in X- headers, and no
/// SRTP since that needs TLS.
#[tokio::test]
async fn an_agent_behind_retell_is_called_over_tcp_by_its_identity() {
    let sipp = Gateway::with("agent-retell", 1, &[], &["-t", "t1"]).await;
    let agent = json!({
        "kind": "sip", "uri": format!("sip:call_8fA2b-Zq@{};transport=tcp", sipp.address),
        "headers": {"X-Case": "{var.case}", "X-Tenant": "{called}"},
    });
    let (node, phone) = call(Home::new(), agent).await;
    sipp.finishes().await;
    went_well(&node, &phone).await;
}

/// OpenAI takes calls to a project over TLS alone, from whom its certificate proves; the media are encrypted.
#[tokio::test]
async fn an_agent_behind_openai_is_called_over_tls_by_its_project() {
    let address = SocketAddr::new(own_address(), 5061);
    let words = [("relay", address.to_string())];
    let words = words.each_ref().map(|(gap, word)| (*gap, word.as_str()));
    let sipp = Gateway::with("agent-openai", 1, &words, &["-t", "t1"]).await;
    let made = rcgen::generate_simple_self_signed([address.ip().to_string()]).unwrap();
    relay(address, sipp.address, &made).await;
    let mut home = Home::new();
    home.write("peer.pem", &made.cert.pem());
    home.point("SSL_CERT_FILE", "peer.pem");
    let agent = json!({
        "kind": "sip", "uri": format!("sip:proj_AbC123@{address};transport=tls"),
        "srtp": "required", "headers": {"X-Room": "front"},
    });
    let (node, phone) = call(home, agent).await;
    sipp.finishes().await;
    went_well(&node, &phone).await;
}

/// Takes TLS off: this SIPp knows none.
async fn relay(at: SocketAddr, to: SocketAddr, made: &rcgen::CertifiedKey<rcgen::KeyPair>) {
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
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut open) = acceptor.accept(stream).await else { continue };
            let mut plain = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { drop(copy_bidirectional(&mut open, &mut plain).await) });
        }
    });
}
