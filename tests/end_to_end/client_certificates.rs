//! Carriers that prove by their certificates who they are: from the handshake to the call, or to the reason
//! why there is none; and trunks that prove it to their carrier.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::phone::Heard;
use crate::rows;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use serde_json::json;
use std::sync::Arc;
use tandem::clock;
use tandem::store::api_keys::KeyRole;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::server;

const NAME: &str = "sip.example.com";
const CARRIER: &str = "sbc.carrier.example";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 9998 RTP/AVP 0\r\n";

/// An authority that signs certificates of carriers.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a carrier shows.
type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> Shown {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Gives a trunk a certificate, with its key, where its files are.
    fn issue(&self, home: &Home) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        home.write("own.pem", &certificate.pem());
        home.write("own.key", &key.serialize_pem());
        certificate.der().clone()
    }

    /// A carrier that takes connections of those alone whom this authority knows; shows a certificate of its own,
    /// which is in `peer.pem`.
    fn carrier(&self, home: &Home, address: &str) -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed([address.to_owned()]).unwrap();
        home.write("peer.pem", &made.cert.pem());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![made.cert.der().clone()],
                PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(settings))
    }
}

/// The next connection of the switch, and the certificate that it shows.
async fn accepted(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
) -> (Peer<server::TlsStream<TcpStream>>, CertificateDer<'static>) {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await.expect("a handshake").unwrap();
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.expect("a certificate").clone();
    (Peer::new(stream), shown)
}

/// A node that asks peers over TLS for certificates of `authority`, and the certificate it shows itself.
async fn node(authority: &Authority) -> (Node, CertificateDer<'static>) {
    let more = "transports = [\"tls\"]\ntls_cert_file = \"sip.pem\"\ntls_key_ref = \"file:sip.key\"\n\
                tls_client_certs = \"request\"\ntls_client_ca_file = \"carriers.pem\"\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    home.write("sip.key", &made.signing_key.serialize_pem());
    home.write("sip.pem", &made.cert.pem());
    home.write("carriers.pem", &authority.0.pem());
    let node = home.start().await;
    let client = json!({"required": true, "san": [CARRIER]});
    let overrides = json!({"inbound": {"source_cidrs": ["127.0.0.1"], "transports": ["tls"],
                                       "tls_client": client}});
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, overrides),
    ])
    .await;
    (node, made.cert.der().clone())
}

/// A connection of a carrier that shows this; an error where the switch takes it not.
async fn connect(
    node: &Node,
    own: &CertificateDer<'static>,
    shown: Option<&Shown>,
) -> std::io::Result<Peer<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let settings = match shown {
        Some((chain, key)) => {
            settings.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
        }
        None => settings.with_no_client_auth(),
    };
    let stream = TcpStream::connect(node.listener("public", "tls")).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(settings));
    Ok(Peer::new(timeout(PATIENCE, connector.connect(name, stream)).await.unwrap()?))
}

/// A request by this connection, which need not be taken.
async fn ask(peer: &mut Peer<TlsStream<TcpStream>>, method: &str, cseq: u32, body: &str) -> String {
    let id = format!("{:x}", clock::random_u64());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let request = format!(
        "{method} sip:{NUMBER}@{NAME} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK{id}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+15557702@{CARRIER}>;tag=f{id}\r\nTo: <sip:{NUMBER}@{NAME}>\r\n\
         Call-ID: {id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:gw@127.0.0.1:9;transport=tls>\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A connection that is refused shows when it is read.
    peer.stream.write_all(request.as_bytes()).await.ok();
    peer.stream.flush().await.ok();
    id
}

/// Calls by this connection: the final response.
async fn call(peer: &mut Peer<TlsStream<TcpStream>>) -> Heard {
    ask(peer, "INVITE", 1, SDP).await;
    loop {
        let heard = peer.expect("SIP/2.0 ").await;
        if heard.status() >= 200 {
            return heard;
        }
    }
}

#[tokio::test]
async fn a_carrier_is_known_by_the_name_its_certificate_proves_and_by_no_other() {
    let authority = Authority::new("carriers");
    let (node, own) = node(&authority).await;
    let mut carrier = connect(&node, &own, Some(&authority.sign(CARRIER))).await.unwrap();
    let ok = call(&mut carrier).await;
    assert_eq!(ok.status(), 200, "{ok:?}");

    // Of the same authority, but another carrier; and nobody at all.
    let other = authority.sign("sbc.other.example");
    for (shown, why) in [
        (Some(&other), "the certificate proves none of its names"),
        (None, "a certificate is wanted, and none was shown"),
    ] {
        let mut stranger = connect(&node, &own, shown).await.unwrap();
        let refused = call(&mut stranger).await;
        assert_eq!(refused.status(), 403, "{refused:?}");
        let sql = format!(
            "SELECT count(*) FROM calls WHERE cause = 'unknown_source' AND transport = 'tls' \
             AND answered_at IS NULL AND decision::text LIKE '%trunk-4: {why}%'"
        );
        wait_for(why, async || (node.count(&sql).await == 1).then_some(())).await;
    }

    // Of an authority nobody believes: there is no connection to call by.
    let forged = Authority::new("carriers").sign(CARRIER);
    if let Ok(mut peer) = connect(&node, &own, Some(&forged)).await {
        // TLS 1.3: the client hears of it only now.
        ask(&mut peer, "INVITE", 1, SDP).await;
    }
    let counted = "sip_handshakes_failed_total{why=\"tls_unknown_authority\"}";
    wait_for("it is counted", async || {
        let bad = node.metric("sip_handshakes_failed_total{why=\"tls_bad_certificate\"}").await;
        (node.metric(counted).await + bad == 1).then_some(())
    })
    .await;
    wait_for("it is logged", async || node.log().contains("no TLS with a peer").then_some(()))
        .await;
    // One call in all, and the two records of those who may not.
    let records = "SELECT count(*) FROM calls";
    wait_for("the records", async || (node.count(records).await == 3).then_some(())).await;
}

#[tokio::test]
async fn an_authority_that_is_believed_no_more_ends_no_connection_and_gets_no_new_one() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let (node, own) = node(&before).await;
    let old = before.sign(CARRIER);
    let mut kept = connect(&node, &own, Some(&old)).await.unwrap();
    assert_eq!(call(&mut kept).await.status(), 200);

    node.home.write("carriers.pem", &after.0.pem());
    node.signal("HUP");
    let new = after.sign(CARRIER);
    let works = async || {
        let mut peer = connect(&node, &own, Some(&new)).await.ok()?;
        ask(&mut peer, "OPTIONS", 1, "").await;
        let answered = peer.try_expect("SIP/2.0 200").await;
        answered.then_some(peer)
    };
    let mut renewed = wait_for("the new authority is believed", works).await;
    assert_eq!(call(&mut renewed).await.status(), 200);
    if let Ok(mut refused) = connect(&node, &own, Some(&old)).await {
        ask(&mut refused, "OPTIONS", 1, "").await;
        assert!(!refused.try_expect("SIP/2.0").await, "an old certificate was believed");
    }
    // The connection from before goes on, with its call.
    ask(&mut kept, "OPTIONS", 2, "").await;
    assert!(kept.try_expect("SIP/2.0 200").await, "the old connection was cut");
}

#[tokio::test]
async fn a_trunk_shows_its_renewed_certificate_from_the_next_connection_on_and_no_call_is_cut() {
    let authority = Authority::new("operators");
    let listener = TcpListener::bind("127.0.0.8:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let home = Home::new();
    let acceptor = authority.carrier(&home, "127.0.0.8");
    let first = authority.issue(&home);
    let node = home.start().await;
    let gateway = json!({"name": "sbc", "dns": "fixed",
                         "uri": format!("sip:{address};transport=tls")});
    let overrides = json!({
        "inbound": {"enabled": false},
        "outbound": {"gateway": [gateway]},
        "tls": {"verify": "pin", "ca_file": "peer.pem",
                "cert_file": "own.pem", "key_ref": "file:own.key"},
    });
    node.put(&[
        carrier::trunk(4, "127.0.0.8/32", &[], overrides),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let wish = json!({"to": CALLED, "from": NUMBER});
    let call = place(&node, &key, wish.clone()).await;
    let (mut old, shown) = accepted(&listener, &acceptor).await;
    assert_eq!(shown, first);
    let invite = old.expect("INVITE ").await;
    let here = format!("Contact: <sip:gw@{address};transport=tls>\r\n");
    old.answer(&invite, "200 OK", &here, SDP).await;
    old.expect("ACK ").await;

    let second = authority.issue(&node.home);
    node.signal("HUP");
    // Until it is in force a call takes the connection that there is.
    let (mut new, shown) = wait_for("the renewed certificate", async || {
        place(&node, &key, wish.clone()).await;
        tokio::select! {
            new = accepted(&listener, &acceptor) => Some(new),
            invite = old.expect("INVITE ") => {
                old.answer(&invite, "486 Busy Here", "", "").await;
                old.expect("ACK ").await;
                None
            }
        }
    })
    .await;
    assert_eq!(shown, second);
    let invite = new.expect("INVITE ").await;
    new.answer(&invite, "486 Busy Here", "", "").await;
    new.expect("ACK ").await;

    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let bye = old.expect("BYE ").await;
    old.answer(&bye, "200 OK", "", "").await;
    let record = carrier::shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "normal", "{record}");
}
