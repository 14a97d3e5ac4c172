//! Whole calls over IPv6, signalling and audio, both ways and by UDP, TCP and TLS.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::phone::Phone;
use crate::rows;
use crate::sipp::Sipp;
use crate::talk;
use serde_json::Value;
use serde_json::json;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const HERE: Ipv6Addr = Ipv6Addr::LOCALHOST;
/// A number whose calls an agent behind a SIP address takes.
const AGENTS: &str = "+15550112";
/// Whom a stranger asks for: nobody is answered more than was asked.
const LONG: &str = "somebody-of-a-rather-long-name";

/// A node at `[::1]` whose only trunk is there too, with these gateways.
async fn node(gateways: &[Value], agent: Value) -> Node {
    let node = Home::with("[::1]:0", 100, "unknown_source = \"refuse\"\n").start().await;
    let more = json!({"outbound": {"enabled": !gateways.is_empty(), "gateway": gateways}});
    node.put(&[
        carrier::trunk(4, "::1/128", &[], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node
}

fn gateway(at: SocketAddr, transport: &str) -> Value {
    json!({"name": "six", "uri": format!("sip:{at};transport={transport}"), "dns": "fixed"})
}

#[tokio::test]
async fn a_caller_over_ipv6_is_forwarded_over_ipv6_and_both_hear_each_other() {
    // The gateway's port is known before the node is, which is called from its own.
    let nowhere = SocketAddr::from((HERE, 9));
    let mut far = Phone::new(HERE.into(), nowhere, CALLED).await;
    let forward = json!({"kind": "forward", "to": CALLED});
    let node = node(&[gateway(far.local(), "udp")], forward).await;
    let agent = json!({"kind": "sip", "uri": format!("sip:bot@{}", far.local())});
    node.put(&[rows::profile(12, 1, agent), rows::number(13, 1, 12, AGENTS)]).await;
    assert!(node.sip().is_ipv6(), "{}", node.sip());
    far.switch = node.sip();
    let mut phone = Phone::new(HERE.into(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    assert!(offer.contains("IN IP6 ::1"), "{offer}");
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = answer(&mut far).await;
    let via = format!("SIP/2.0/UDP [::1]:{};", node.sip().port());
    assert!(invite.header("via").starts_with(&via), "{invite:?}");
    assert!(invite.header("contact").contains("@[::1]:"), "{invite:?}");
    assert!(invite.start.starts_with(&format!("INVITE sip:{CALLED}@[::1]")), "{invite:?}");
    assert!(invite.body.contains("c=IN IP6 ::1"), "{invite:?}");
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    assert!(ok.body.contains("c=IN IP6 ::1") && ok.body.contains("o="), "{ok:?}");
    assert!(!ok.body.contains("IN IP4"), "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    hears((&phone, ok.audio_port()), &far, 0x31).await;
    hears((&far, invite.audio_port()), &phone, 0x33).await;
    phone.hang_up().await;
    hear_bye(&far).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    let sql = format!(
        "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND source = '{}'",
        phone.call_id,
        phone.local()
    );
    assert_eq!(node.count(&sql).await, 1, "{sql}");

    // An agent behind a SIP address.
    let mut phone = Phone::new(HERE.into(), node.sip(), AGENTS).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = answer(&mut far).await;
    assert!(invite.start.starts_with("INVITE sip:bot@[::1]:"), "{invite:?}");
    assert!(invite.header("from").contains("@[::1]>"), "{invite:?}");
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    hears((&phone, ok.audio_port()), &far, 0x37).await;
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn calls_over_ipv6_go_by_tcp_both_ways() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = node(&[gateway(address, "tcp")], json!({"kind": "echo"})).await;
    let uri = format!("sip:{NUMBER}@{};transport=tcp", node.listener("public", "tcp"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.current_dir(node.home.folder()).args(["call", &uri, "--duration", "2"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let said = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&text));
    let heard = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND transport = 'tcp' \
                 AND source LIKE '[::1]:%' AND packets_in > 20 AND packets_out > 20";
    wait_for("the record", async || (node.count(heard).await == 1).then_some(())).await;

    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut far = Peer::new(stream);
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TCP [::1]:"), "{invite:?}");
    assert!(invite.body.contains("c=IN IP6 ::1"), "{invite:?}");
    let media = Phone::new(HERE.into(), node.sip(), CALLED).await;
    let here = format!("Contact: <sip:gw@{address};transport=tcp>\r\n");
    far.answer(&invite, "200 OK", &here, &media.sdp()).await;
    far.expect("ACK ").await;
    hears((&media, invite.audio_port()), &media, 0x35).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let bye = far.expect("BYE ").await;
    far.answer(&bye, "200 OK", "", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

/// Whoever takes the connections of the switch with this certificate.
fn acceptor(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let settings = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(settings))
}

#[tokio::test]
async fn calls_over_ipv6_go_by_tls_both_ways_to_who_proves_that_address() {
    let made = rcgen::generate_simple_self_signed([HERE.to_string()]).unwrap();
    let more =
        "transports = [\"tls\"]\ntls_cert_file = \"sip.pem\"\ntls_key_ref = \"file:sip.key\"\n";
    let home = Home::with("[::1]:0", 100, more);
    home.write("sip.key", &made.signing_key.serialize_pem());
    home.write("sip.pem", &made.cert.pem());
    let node = home.start().await;
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let overrides = json!({
        "inbound": {"transports": ["tls"]},
        "outbound": {"gateway": [gateway(address, "tls")]},
        "tls": {"verify": "ca", "ca_file": "sip.pem"},
    });
    node.put(&[
        carrier::trunk(4, "::1/128", &[], overrides),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let uri = format!("sips:{NUMBER}@{}", node.listener("public", "tls"));
    let said = node.ask("", &["call", &uri, "--duration", "1", "--ca-file", "sip.pem"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let heard = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND transport = 'tls' \
                 AND source LIKE '[::1]:%' AND packets_in > 10 AND packets_out > 10";
    wait_for("the record", async || (node.count(heard).await == 1).then_some(())).await;

    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let stream = timeout(PATIENCE, acceptor(&made).accept(stream)).await.unwrap().unwrap();
    let mut far = Peer::new(stream);
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TLS [::1]:"), "{invite:?}");
    far.answer(&invite, "486 Busy Here", "", "").await;
    far.expect("ACK ").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "busy");
}

#[tokio::test]
async fn sipp_calls_over_ipv6_and_a_stranger_there_is_answered_ten_times_and_then_slowly() {
    let node = node(&[], json!({"kind": "tone"})).await;
    let enabled = |is| format!("UPDATE trunks SET enabled = {is} WHERE id = '{}'", rows::uuid(4));
    node.put(&[enabled(false)]).await;
    let stranger = talk::Peer::at("::1", node.sip()).await;
    let asked = 60;
    for _ in 0..asked {
        stranger.send("OPTIONS", LONG).await;
    }
    let counter = "sip_requests_unknown_source_total";
    wait_for("all are counted", async || (node.metric(counter).await >= asked).then_some(())).await;
    // Ten at once and five a second for a whole /64.
    let answers = stranger.count_answers().await;
    assert!((10..asked).contains(&answers), "{answers}");
    node.put(&[enabled(true)]).await;
    Sipp::new("basic", HERE.into(), node.sip(), NUMBER).calls(3, 5, 200).succeeds().await;
}
