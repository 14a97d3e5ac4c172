//! A registrar over TLS, written from the RFCs, and the calls by the registered connection, also once that is lost.

use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::next_hops::the_call;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
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
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.8\r\ns=-\r\nc=IN IP4 127.0.0.8\r\nt=0 0\r\n\
                   m=audio 9998 RTP/AVP 0\r\n";

/// Where the carrier listens.
struct Registrar {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    address: SocketAddr,
}

impl Registrar {
    /// One with the certificate and the key that these files get.
    async fn start(home: &Home) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        home.write("peer.pem", &made.cert.pem());
        home.write("peer.key", &made.signing_key.serialize_pem());
        let settings = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.cert.der().clone()],
                PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(settings)), address }
    }

    /// The next connection of the switch.
    async fn accept(&self) -> Peer<TlsStream<TcpStream>> {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        Peer::new(timeout(PATIENCE, self.acceptor.accept(stream)).await.unwrap().unwrap())
    }
}

/// A node whose trunk is registered by a connection, and takes calls as `inbound` says.
struct Registered {
    node: Node,
    registrar: Registrar,
    peer: Peer<TlsStream<TcpStream>>,
    /// The listener that speaks TLS.
    secure: SocketAddr,
    key: String,
}

async fn node(inbound: Value) -> (Node, Registrar) {
    // Whoever asks where we are is told the listener that speaks TLS, though it is not the first.
    let more = "[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\ntransports = [\"tls\"]\n\
                tls_cert_file = \"peer.pem\"\ntls_key_ref = \"file:peer.key\"\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    home.write("password", "s3cret");
    let registrar = Registrar::start(&home).await;
    let node = home.start().await;
    let overrides = json!({
        "inbound": inbound,
        "registration": {
            "enabled": true, "registrar": "sip:carrier.example",
            "proxy": format!("sip:{};transport=tls;lr", registrar.address),
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
    (node, registrar)
}

async fn registered(inbound: Value) -> Registered {
    let (node, registrar) = node(inbound).await;
    let address = registrar.address;
    let mut peer = registrar.accept().await;
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
    Registered { node, registrar, peer, secure, key }
}

impl Registered {
    /// Calls out by the registered connection, and is answered; the id of the call.
    async fn call_out(&mut self) -> String {
        let (address, secure) = (self.registrar.address, self.secure);
        let call = place(&self.node, &self.key, json!({"to": CALLED, "from": NUMBER})).await;
        let invite = self.peer.expect("INVITE ").await;
        assert_eq!(invite.header("route"), format!("<sip:{address};transport=tls;lr>"));
        let contact = invite.header("contact");
        assert!(contact.contains(&format!("@{secure};transport=tls")), "{invite:?}");
        let here = format!("Contact: <sip:gw@{address};transport=tls>\r\n");
        self.peer.answer(&invite, "200 OK", &here, SDP).await;
        self.peer.expect("ACK ").await;
        call
    }

    /// Is called by the registered connection, and answers; the id of the call.
    async fn call_in(&mut self) -> String {
        let (address, secure) = (self.registrar.address, self.secure);
        let head = |method: &str, to: &str| {
            format!(
                "{method} sip:pilot@{secure};transport=tls SIP/2.0\r\n\
                 Via: SIP/2.0/TLS {address};branch=z9hG4bK-in-{method}\r\nMax-Forwards: 70\r\n\
                 From: <sip:{CALLED}@carrier.example>;tag=there\r\nTo: {to}\r\n\
                 Call-ID: in@carrier.example\r\nCSeq: 1 {method}\r\n\
                 Contact: <sip:gw@carrier.example>\r\n"
            )
        };
        let invite = head("INVITE", &format!("<sip:{NUMBER}@carrier.example>"));
        let length = SDP.len();
        let body =
            format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}");
        self.say(&(invite + &body)).await;
        let ok = self.peer.expect("SIP/2.0 200").await;
        self.say(&(head("ACK", ok.header("to")) + "Content-Length: 0\r\n\r\n")).await;
        the_call(&self.node, &self.key).await
    }

    async fn say(&mut self, text: &str) {
        self.peer.stream.write_all(text.as_bytes()).await.unwrap();
        self.peer.stream.flush().await.unwrap();
    }

    /// Has the switch hang up.
    async fn hang_up(&self, call: &str) {
        let path = calls(1, &format!("/{call}/hangup"));
        assert_eq!(self.node.post(&path, &self.key, &json!({})).await.status, 202);
    }

    /// The carrier is told of the end, and answers.
    async fn hear_bye(&mut self, call: &str) {
        let bye = self.peer.expect("BYE ").await;
        self.peer.answer(&bye, "200 OK", "", "").await;
        let record = shown(&self.node, 1, call, &self.key).await;
        assert_eq!(record["cause"], "normal", "{}", steps(&record));
    }

    /// The connection is lost, and then the switch hangs up: by another one.
    async fn hang_up_once_lost(mut self, call: &str) {
        self.peer.stream.shutdown().await.unwrap();
        self.hang_up(call).await;
        self.peer = self.registrar.accept().await;
        self.hear_bye(call).await;
    }
}

#[tokio::test]
async fn a_trunk_registers_by_tls_and_its_calls_out_take_that_connection() {
    let mut registered = registered(json!({"source_cidrs": ["127.0.0.8/32"]})).await;
    let call = registered.call_out().await;
    registered.hang_up(&call).await;
    registered.hear_bye(&call).await;
    let opened = registered.node.metric("sip_flows_opened_total{transport=\"tls\"}").await;
    assert_eq!(opened, 1, "one connection");
}

#[tokio::test]
async fn a_call_out_whose_registered_connection_is_lost_is_hung_up_by_a_new_one() {
    let mut registered = registered(json!({"source_cidrs": ["127.0.0.8/32"]})).await;
    let call = registered.call_out().await;
    registered.hang_up_once_lost(&call).await;
}

#[tokio::test]
async fn a_call_in_whose_registered_connection_is_lost_is_hung_up_where_the_registrar_listens() {
    let inbound = json!({"source_cidrs": ["127.0.0.1/32"], "transports": ["tls"]});
    let mut registered = registered(inbound).await;
    let call = registered.call_in().await;
    registered.hang_up_once_lost(&call).await;
}
