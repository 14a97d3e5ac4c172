//! TLS both ways over loopback: what is believed, what is refused and in which words.

use crate::net::connect::Destination;
use crate::net::connect::TlsTo;
use crate::net::end::ConnectFailure;
use crate::net::end::FlowEnd;
use crate::net::flow::FlowLimits;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::flow::tests::Collector;
use crate::net::flow::tests::Seen;
use crate::net::tcp;
use crate::net::tcp::TcpListener;
use crate::net::tls::server::TlsServer;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::types::secret::Secret;
use crate::types::tls::ClientCertificates;
use crate::types::tls::TlsCredentials;
use crate::types::tls::TlsServerSettings;
use crate::types::tls::TlsSettings;
use crate::types::tls::TlsVerify;
use crate::types::tls::TlsVersion;
use crate::types::transport::Transport;
use bytes::Bytes;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::KeyPair;
use rcgen::SanType;
use rcgen::date_time_ymd;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        // Authorities of one name would be told apart by their signatures alone.
        let name = format!("authority {}", crate::clock::random_u64());
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    fn sign(&self, params: &CertificateParams) -> TlsCredentials {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let chain = vec![certificate.der().to_vec()];
        TlsCredentials { chain, key: Secret::new(key.serialize_pem()) }
    }

    fn credentials(&self, names: &[&str]) -> TlsCredentials {
        self.sign(&params(names))
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).unwrap()
}

fn shown(credentials: TlsCredentials) -> TlsServerSettings {
    let clients = ClientCertificates::Ignored;
    TlsServerSettings { min_version: TlsVersion::V1_2, credentials, clients }
}

fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings { authorities: vec![authority.der()], ..TlsSettings::default() }
}

struct Bench {
    flows: Flows,
    server: TlsServer,
    seen: mpsc::Receiver<Seen>,
    _ingress: Arc<dyn Ingress>,
    listener: TcpListener,
}

impl Bench {
    fn new(settings: &TlsServerSettings) -> Self {
        Self::limited(settings, FlowLimits::default())
    }

    fn limited(settings: &TlsServerSettings, limits: FlowLimits) -> Self {
        let flows = Flows::new(limits);
        let (ingress, seen) = Collector::connected();
        flows.attach(&ingress);
        let server = TlsServer::new(settings).unwrap();
        let bound = tcp::bind_for(Transport::Tls, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = bound.start_tls(2, &flows, &ingress, server.clone()).unwrap();
        Self { flows, server, seen, _ingress: ingress, listener }
    }

    fn to(&self, name: &str, settings: TlsSettings) -> Destination {
        let tls = TlsTo { server_name: name.to_owned(), settings: Arc::new(settings) };
        let plain = Destination::plain(Transport::Tls, self.listener.local(), 0);
        Destination { tls: Some(tls), ..plain }
    }

    async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.unwrap().unwrap()
    }

    async fn message(&mut self) -> Flow {
        match self.next().await {
            Seen::Message(flow, message) => {
                assert_eq!(message, OPTIONS);
                flow
            }
            Seen::Closed(id) => panic!("closed: {:?}", self.flows.why_closed(id)),
        }
    }

    async fn closed(&mut self) -> (FlowId, FlowEnd) {
        match self.next().await {
            Seen::Closed(id) => (id, self.flows.why_closed(id).unwrap()),
            Seen::Message(_, message) => panic!("{message:?}"),
        }
    }

    /// Sends a request to `to` and waits until it arrived; the flows of both ends.
    async fn arrives(&mut self, to: &Destination) -> (Flow, Flow) {
        let own = self.flows.connect(to).unwrap();
        self.flows.send(&own, Bytes::from_static(OPTIONS)).unwrap();
        (own, self.message().await)
    }

    async fn fails(&mut self, to: &Destination) -> ConnectFailure {
        let own = self.flows.connect(to).unwrap();
        // It may have failed already.
        self.flows.send(&own, Bytes::from_static(OPTIONS)).ok();
        match self.closed().await {
            (id, FlowEnd::Failed(failure)) if id == own.id => failure,
            other => panic!("{other:?}"),
        }
    }
}

fn names(flows: &Flows, flow: Flow) -> Vec<String> {
    let names = flows.peer_names(flow.id);
    names.iter().flat_map(|names| names.iter()).map(str::to_owned).collect()
}

#[tokio::test]
async fn both_ends_prove_their_names_and_messages_go_both_ways() {
    let authority = Authority::new();
    let settings = TlsServerSettings {
        clients: ClientCertificates::Required(vec![authority.der()]),
        ..shown(authority.credentials(&["sbc.example"]))
    };
    let mut bench = Bench::new(&settings);
    let mut own = params(&["tandem.example"]);
    own.subject_alt_names.push(SanType::URI("sip:carrier.example".try_into().unwrap()));
    let credentials = Some(authority.sign(&own));
    let to = bench.to("sbc.example", TlsSettings { credentials, ..trusting(&authority) });
    let (own, accepted) = bench.arrives(&to).await;
    assert_eq!(names(&bench.flows, own), ["sbc.example"]);
    assert_eq!(names(&bench.flows, accepted), ["carrier.example", "tandem.example"]);
    assert_eq!((accepted.transport, accepted.listener), (Transport::Tls, 2));
    bench.flows.send(&accepted, Bytes::from_static(OPTIONS)).unwrap();
    assert_eq!(bench.message().await, own);
    bench.flows.close(own.id);
    let ends = [bench.closed().await, bench.closed().await];
    assert!(ends.contains(&(own.id, FlowEnd::Told)), "{ends:?}");
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut expired = params(&["sbc.example"]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = params(&["sbc.example"]);
    early.not_before = date_time_ymd(4000, 1, 1);
    let cases = [
        (authority.credentials(&["other.example"]), ConnectFailure::WrongName),
        (authority.credentials(&["*.example"]), ConnectFailure::WrongName),
        (authority.sign(&expired), ConnectFailure::Expired),
        (authority.sign(&early), ConnectFailure::Expired),
        (other.credentials(&["sbc.example"]), ConnectFailure::UnknownAuthority),
    ];
    for (credentials, expected) in cases {
        let mut bench = Bench::new(&shown(credentials));
        let to = bench.to("sbc.example", trusting(&authority));
        assert_eq!(bench.fails(&to).await, expected);
    }
}

#[tokio::test]
async fn a_trunk_says_which_names_are_good_enough() {
    let authority = Authority::new();
    let mut bench = Bench::new(&shown(authority.credentials(&["*.pstn.example.com"])));
    let strict = bench.to("a.pstn.example.com", trusting(&authority));
    assert_eq!(bench.fails(&strict).await, ConnectFailure::WrongName);
    let wildcard = TlsSettings { allow_wildcard: true, ..trusting(&authority) };
    let lenient = bench.to("a.pstn.example.com", wildcard);
    let (own, _) = bench.arrives(&lenient).await;
    let again = bench.flows.connect(&strict).unwrap();
    assert_ne!(again.id, own.id, "what one trunk believes is no proof for another");
    assert_eq!(bench.closed().await.1, FlowEnd::Failed(ConnectFailure::WrongName));
    bench.server.replace(&shown(authority.credentials(&["edge.example.com"]))).unwrap();
    let expected_names = vec!["edge.example.com".to_owned()];
    let settings = TlsSettings { expected_names, ..trusting(&authority) };
    bench.arrives(&bench.to("generic.example.com", settings)).await;
}

#[tokio::test]
async fn an_address_is_proven_by_an_address() {
    let authority = Authority::new();
    let mut bench = Bench::new(&shown(authority.credentials(&["127.0.0.1"])));
    bench.arrives(&bench.to("127.0.0.1", trusting(&authority))).await;
    let wrong = bench.to("127.0.0.2", trusting(&authority));
    assert_eq!(bench.fails(&wrong).await, ConnectFailure::WrongName);
}

#[tokio::test]
async fn a_pinned_certificate_is_believed_and_no_other() {
    let (authority, credentials) = {
        let authority = Authority::new();
        let credentials = authority.credentials(&["whatever.example"]);
        (authority, credentials)
    };
    let pin = credentials.chain.clone();
    let mut bench = Bench::new(&shown(credentials));
    let verify = TlsVerify::Pinned;
    let pinned = TlsSettings { verify, authorities: pin, ..TlsSettings::default() };
    let to = bench.to("sbc.example", pinned);
    bench.arrives(&to).await;
    bench.server.replace(&shown(authority.credentials(&["sbc.example"]))).unwrap();
    let open = bench.flows.connect(&to).unwrap();
    bench.flows.close(open.id);
    bench.closed().await;
    bench.closed().await;
    assert_eq!(bench.fails(&to).await, ConnectFailure::UnknownAuthority);
    let nothing = TlsSettings { verify: TlsVerify::Nothing, ..TlsSettings::default() };
    let (own, _) = bench.arrives(&bench.to("sbc.example", nothing)).await;
    assert!(bench.flows.peer_names(own.id).is_none(), "nothing is proven");
}

#[tokio::test]
async fn a_peer_without_the_certificate_asked_for_is_not_served() {
    let (authority, other) = (Authority::new(), Authority::new());
    let required = TlsServerSettings {
        clients: ClientCertificates::Required(vec![authority.der()]),
        ..shown(authority.credentials(&["sbc.example"]))
    };
    let mut bench = Bench::new(&required);
    for credentials in [None, Some(other.credentials(&["x.example"]))] {
        let settings = TlsSettings { credentials, ..trusting(&authority) };
        let to = bench.to("sbc.example", settings);
        assert_eq!(bench.fails(&to).await, ConnectFailure::CertificateRefused);
    }
    let requested = TlsServerSettings {
        clients: ClientCertificates::Requested(vec![authority.der()]),
        ..required
    };
    bench.server.replace(&requested).unwrap();
    let (_, accepted) = bench.arrives(&bench.to("sbc.example", trusting(&authority))).await;
    assert!(bench.flows.peer_names(accepted.id).is_none());
}

#[tokio::test]
async fn a_new_certificate_leaves_open_connections_alone() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut bench = Bench::new(&shown(old.credentials(&["sbc.example"])));
    let (own, accepted) = bench.arrives(&bench.to("sbc.example", trusting(&old))).await;
    bench.server.replace(&shown(new.credentials(&["sbc.example"]))).unwrap();
    bench.flows.send(&own, Bytes::from_static(OPTIONS)).unwrap();
    assert_eq!(bench.message().await, accepted, "the old connection goes on");
    let (_, fresh) = bench.arrives(&bench.to("sbc.example", trusting(&new))).await;
    assert_ne!(fresh.id, accepted.id);
    let broken = TlsCredentials { key: Secret::new("nonsense".to_owned()), chain: Vec::new() };
    assert!(bench.server.replace(&shown(broken)).is_err());
    assert_eq!(
        bench.flows.connect(&bench.to("sbc.example", trusting(&new))).unwrap().transport,
        Transport::Tls
    );
}

#[tokio::test]
async fn requests_at_once_share_one_connection_and_later_ones_use_it_again() {
    let authority = Authority::new();
    let mut bench = Bench::new(&shown(authority.credentials(&["sbc.example", "b.example"])));
    let to = bench.to("sbc.example", trusting(&authority));
    let flows: Vec<Flow> = (0..10).map(|_| bench.flows.connect(&to).unwrap()).collect();
    assert!(flows.iter().all(|flow| *flow == flows[0]), "coalesced while it opens");
    for flow in &flows {
        bench.flows.send(flow, Bytes::from_static(OPTIONS)).unwrap();
    }
    let accepted = bench.message().await;
    for _ in 1..10 {
        assert_eq!(bench.message().await, accepted);
    }
    // Equal settings in another place are the same settings.
    let (own, _) = bench.arrives(&bench.to("SBC.example", trusting(&authority))).await;
    assert_eq!(own, flows[0]);
    let (other, _) = bench.arrives(&bench.to("b.example", trusting(&authority))).await;
    assert_ne!(other.id, own.id, "another name is another peer");
}

/// A client hello that speaks TLS 1.1 at most.
fn hello_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let len = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![22, 3, 1, 0, len + 4, 1, 0, 0, len];
    bytes.extend_from_slice(&body);
    bytes
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let bench = Bench::new(&shown(Authority::new().credentials(&["sbc.example"])));
    let mut peer = TcpStream::connect(bench.listener.local()).await.unwrap();
    peer.write_all(&hello_1_1()).await.unwrap();
    let mut alert = Vec::new();
    peer.read_to_end(&mut alert).await.unwrap();
    // Fatal: protocol_version or handshake_failure.
    assert!(alert[0] == 21 && matches!(alert[5..], [2, 70 | 40]), "{alert:?}");
}

#[tokio::test]
async fn what_is_not_tls_is_closed_and_named() {
    let authority = Authority::new();
    let mut bench = Bench::new(&shown(authority.credentials(&["sbc.example"])));
    let mut peer = TcpStream::connect(bench.listener.local()).await.unwrap();
    peer.write_all(OPTIONS).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, peer.read_to_end(&mut rest)).await.unwrap().ok();
    let bound = tcp::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let remote = bound.local();
    let (ingress, _kept) = Collector::connected();
    let _plain = bound.start(0, &Flows::new(FlowLimits::default()), &ingress).unwrap();
    let to = Destination { remote, ..bench.to("sbc.example", trusting(&authority)) };
    assert_eq!(bench.fails(&to).await, ConnectFailure::HandshakeCut);
}

#[tokio::test]
async fn an_idle_tls_client_does_not_block_other_handshakes() {
    let authority = Authority::new();
    let limits =
        FlowLimits { handshake_timeout: Duration::from_secs(3_600), ..FlowLimits::default() };
    let mut bench = Bench::limited(&shown(authority.credentials(&["sbc.example"])), limits);
    let mut idle = Vec::new();
    for count in 1..=3 {
        idle.push(TcpStream::connect(bench.listener.local()).await.unwrap());
        while bench.flows.streams_open() < count {
            tokio::task::yield_now().await;
        }
    }
    // None of them ever says a word.
    bench.arrives(&bench.to("sbc.example", trusting(&authority))).await;
    drop(idle);
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_and_end() {
    let authority = Authority::new();
    let limits = FlowLimits {
        handshakes_max: 1,
        handshake_timeout: Duration::from_millis(300),
        ..FlowLimits::default()
    };
    let mut bench = Bench::limited(&shown(authority.credentials(&["sbc.example"])), limits);
    let mut idle = TcpStream::connect(bench.listener.local()).await.unwrap();
    while bench.flows.streams_open() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(bench.listener.local()).await.unwrap();
    assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0, "over the bound: closed at once");
    // The idle one is closed by its time-out, which frees its place.
    assert_eq!(timeout(PATIENCE, idle.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    while bench.flows.streams_open() > 0 {
        tokio::task::yield_now().await;
    }
    bench.arrives(&bench.to("sbc.example", trusting(&authority))).await;
}

#[tokio::test]
async fn a_target_that_is_down_fails_at_once_and_one_that_is_mute_in_time() {
    let authority = Authority::new();
    let limits = FlowLimits {
        connect_timeout: Duration::from_millis(300),
        handshake_timeout: Duration::from_millis(300),
        ..FlowLimits::default()
    };
    let mut bench = Bench::limited(&shown(authority.credentials(&["sbc.example"])), limits);
    let free = {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.local_addr().unwrap()
    };
    let to = Destination { remote: free, ..bench.to("sbc.example", trusting(&authority)) };
    assert_eq!(bench.fails(&to).await, ConnectFailure::Refused);
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let to = Destination { remote: mute.local_addr().unwrap(), ..to };
    assert_eq!(bench.fails(&to).await, ConnectFailure::HandshakeTimedOut);
    let to = Destination { tls: None, ..to };
    assert!(bench.flows.connect(&to).is_err(), "TLS needs to know whom to believe");
    assert_eq!(bench.flows.streams_open(), 0);
}
