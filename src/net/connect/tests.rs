//! Ways of our own: by source address and interface, kept alive, used again.

use super::*;
use crate::net::flow::FlowLimits;
use crate::net::flow::Ingress;
use crate::net::flow::SendError;
use crate::net::flow::tests::Collector;
use crate::net::flow::tests::Seen;
use crate::net::tcp;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";

struct Bench {
    flows: Flows,
    seen: mpsc::Receiver<Seen>,
    ingress: Arc<dyn Ingress>,
}

impl Bench {
    fn new(limits: FlowLimits) -> Self {
        let flows = Flows::new(limits);
        let (ingress, seen) = Collector::connected();
        flows.attach(&ingress);
        Self { flows, seen, ingress }
    }

    async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.unwrap().unwrap()
    }

    async fn closed(&mut self) -> FlowEnd {
        match self.next().await {
            Seen::Closed(id) => self.flows.why_closed(id).unwrap(),
            Seen::Message(_, message) => panic!("{message:?}"),
        }
    }
}

fn local(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn from(address: &str) -> LocalEnd {
    LocalEnd { address: Some(address.parse().unwrap()), interface: None }
}

#[tokio::test]
async fn datagrams_leave_by_the_address_the_trunk_names() {
    let bench = Bench::new(FlowLimits::default());
    let start = |index, address: &str| {
        let bound = udp::bind(local(address), 1).unwrap();
        bound.start(index, &bench.flows, &bench.ingress).unwrap()
    };
    let everywhere = start(0, "0.0.0.0:0");
    let own = start(1, "127.0.0.9:0");
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = Destination::plain(Transport::Udp, peer.local_addr().unwrap(), 0);
    let mut buffer = [0; 16];
    let plain = bench.flows.connect(&to).unwrap();
    assert_eq!(plain.local, everywhere.local());
    let by_address = |address: &str| Destination { local: from(address), ..to.clone() };
    let listener = bench.flows.connect(&by_address("127.0.0.9")).unwrap();
    assert_eq!((listener.listener, listener.local), (1, own.local()), "a listener has it");
    let mine = bench.flows.connect(&by_address("127.0.0.8")).unwrap();
    assert_eq!(bench.flows.connect(&by_address("127.0.0.8")).unwrap(), mine, "one socket for it");
    for flow in [listener, mine] {
        bench.flows.send(&flow, Bytes::from_static(b"x")).unwrap();
        let (_, source) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!(source, flow.local);
    }
    bench.flows.close_all();
    assert_eq!(bench.flows.send(&mine, Bytes::from_static(b"x")), Err(SendError::Gone));
    let v6 = Destination { remote: local("[::1]:5060"), ..to };
    let refused = bench.flows.connect(&v6).unwrap_err();
    assert!(matches!(refused, ConnectError::NoSocket(_)), "{refused}");
}

#[tokio::test]
async fn an_answer_comes_back_to_a_socket_of_a_trunk() {
    let mut bench = Bench::new(FlowLimits::default());
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let remote = peer.local_addr().unwrap();
    let to =
        Destination { local: from("127.0.0.8"), ..Destination::plain(Transport::Udp, remote, 0) };
    let flow = bench.flows.connect(&to).unwrap();
    peer.send_to(OPTIONS, flow.local).await.unwrap();
    assert_eq!(bench.next().await, Seen::Message(flow, Bytes::from_static(OPTIONS)));
}

#[tokio::test]
async fn what_this_machine_lacks_is_said_in_words() {
    let bench = Bench::new(FlowLimits::default());
    for transport in [Transport::Udp, Transport::Tcp] {
        let plain = Destination::plain(transport, local("127.0.0.1:5060"), 0);
        let foreign = Destination { local: from("192.0.2.77"), ..plain.clone() };
        let said = bench.flows.connect(&foreign).unwrap_err().to_string();
        assert_eq!(said, "this machine has no address 192.0.2.77 to send from");
        let interface = Some("no-such-nic".parse().unwrap());
        let none = Destination { local: LocalEnd { address: None, interface }, ..plain };
        let said = bench.flows.connect(&none).unwrap_err().to_string();
        let expected = [
            "this machine has no network interface no-such-nic",
            "no permission to bind to network interface no-such-nic; it needs CAP_NET_RAW, or root",
        ];
        assert!(expected.contains(&said.as_str()), "{said}");
    }
}

#[tokio::test]
async fn connections_leave_by_the_address_the_trunk_names_and_are_told_apart_by_it() {
    let bench = Bench::new(FlowLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0);
    let from_9 = Destination { local: from("127.0.0.9"), ..plain.clone() };
    let flow = bench.flows.connect(&from_9).unwrap();
    let (_stream, source) = listener.accept().await.unwrap();
    assert_eq!(source.ip(), local("127.0.0.9:0").ip());
    assert_ne!(bench.flows.connect(&plain).unwrap().id, flow.id);
    assert_eq!(bench.flows.connect(&from_9).unwrap().id, flow.id);
}

#[tokio::test]
async fn connections_of_ours_are_bounded_apart_from_those_of_peers() {
    let bench = Bench::new(FlowLimits { ours_max: 1, ..FlowLimits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0);
    let flow = bench.flows.connect(&one).unwrap();
    let other = Destination { listener: 1, ..one.clone() };
    assert!(matches!(bench.flows.connect(&other), Err(ConnectError::TooMany)));
    assert_eq!(bench.flows.connect(&one).unwrap(), flow, "what there is may be used");
}

#[tokio::test]
async fn a_peer_that_listens_at_ever_new_ports_takes_no_connections_from_others() {
    let bench = Bench::new(FlowLimits { flows_per_address_max: 2, ..FlowLimits::default() });
    let to = |address: &str| Destination::plain(Transport::Tcp, local(address), 0);
    let first = bench.flows.connect(&to("127.0.0.2:5061")).unwrap();
    bench.flows.connect(&to("127.0.0.2:5062")).unwrap();
    let refused = bench.flows.connect(&to("127.0.0.2:5063"));
    assert!(matches!(refused, Err(ConnectError::TooMany)), "{refused:?}");
    bench.flows.connect(&to("127.0.0.3:5061")).unwrap();
    assert_eq!(bench.flows.connect(&to("127.0.0.2:5061")).unwrap(), first, "it is there");
    bench.flows.remove_stream(first.id, FlowEnd::Told);
    bench.flows.connect(&to("127.0.0.2:5063")).unwrap();
}

#[tokio::test]
async fn a_peer_that_answered_a_ping_once_must_go_on_answering() {
    let limits = FlowLimits { pong_timeout: Duration::from_millis(100), ..FlowLimits::default() };
    let mut bench = Bench::new(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Destination {
        keepalive: Some(Duration::from_millis(20)),
        ..Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0)
    };
    bench.flows.connect(&to).unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut ping = [0; 4];
    // It never answered: it may be a peer that knows no pings, and stays.
    for _ in 0..2 {
        peer.read_exact(&mut ping).await.unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
    }
    assert_eq!(bench.flows.streams_open(), 1);
    peer.read_exact(&mut ping).await.unwrap();
    peer.write_all(b"\r\n").await.unwrap();
    assert_eq!(bench.closed().await, FlowEnd::NoPong);
}

#[tokio::test]
async fn a_connection_is_pinged_as_often_as_the_most_eager_of_its_users_wants() {
    let bench = Bench::new(FlowLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0);
    let every = |keepalive| Destination { keepalive: Some(keepalive), ..plain.clone() };
    let flow = bench.flows.connect(&plain).unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let (eager, lazy) = (Duration::from_millis(20), Duration::from_secs(3_600));
    // None was wanted; then hardly any; then many, by who found the connection open.
    let mut ping = [0; 4];
    for keepalive in [lazy, eager, lazy, Duration::ZERO] {
        assert_eq!(bench.flows.connect(&every(keepalive)).unwrap().id, flow.id);
        if keepalive == eager {
            timeout(PATIENCE, peer.read_exact(&mut ping)).await.unwrap().unwrap();
        }
    }
    for _ in 0..3 {
        timeout(PATIENCE, peer.read_exact(&mut ping)).await.unwrap().unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
        peer.write_all(b"\r\n").await.unwrap();
    }
    assert_eq!(bench.flows.streams_open(), 1);
}

#[tokio::test]
async fn a_lost_connection_of_a_dialog_is_opened_again() {
    let mut bench = Bench::new(FlowLimits::default());
    let bound = tcp::bind(local("127.0.0.1:0")).unwrap();
    let remote = bound.local();
    let _listener = bound.start(3, &bench.flows, &bench.ingress).unwrap();
    let lost = Flow {
        id: FlowId::ANY,
        listener: 0,
        transport: Transport::Tcp,
        local: local("127.0.0.1:5060"),
        remote,
    };
    bench.flows.send(&lost, Bytes::from_static(OPTIONS)).unwrap();
    let Seen::Message(flow, _) = bench.next().await else { panic!("closed") };
    assert_eq!(flow.listener, 3);
    let tls = Flow { transport: Transport::Tls, ..lost };
    assert_eq!(bench.flows.send(&tls, Bytes::from_static(OPTIONS)), Err(SendError::Gone));
}

#[tokio::test]
async fn a_way_back_leads_by_the_source_of_its_leg_and_never_by_the_connection_of_another() {
    let mut bench = Bench::new(FlowLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0);
    bench.flows.connect(&plain).unwrap();
    let _plain = listener.accept().await.unwrap();
    let way = bench.flows.keep_way(Destination { local: from("127.0.0.9"), ..plain.clone() });
    assert!(!way.flow().id.is_socket());
    for _ in 0..2 {
        bench.flows.send(&way.flow(), Bytes::from_static(OPTIONS)).unwrap();
    }
    let (mut peer, source) = listener.accept().await.unwrap();
    assert_eq!(source.ip(), local("127.0.0.9:0").ip());
    let mut twice = [0; 2 * OPTIONS.len()];
    peer.read_exact(&mut twice).await.unwrap();
    drop(peer);
    assert_eq!(bench.closed().await, FlowEnd::PeerClosed);
    bench.flows.send(&way.flow(), Bytes::from_static(OPTIONS)).unwrap();
    assert_eq!(listener.accept().await.unwrap().1.ip(), source.ip());

    // What another trunk's terms proved is no proof for a dialog without terms.
    let to = TlsTo { server_name: "a.example".to_owned(), settings: Arc::default() };
    let secure = Destination { transport: Transport::Tls, tls: Some(to), ..plain };
    let there = bench.flows.connect(&secure).unwrap();
    let lost = Flow { id: FlowId::ANY, ..there };
    assert_eq!(bench.flows.send(&lost, Bytes::from_static(OPTIONS)), Err(SendError::Gone));
    let way = bench.flows.keep_way(secure);
    assert_eq!(bench.flows.send(&way.flow(), Bytes::from_static(OPTIONS)), Ok(there.id));
    let flow = way.flow();
    drop(way);
    assert_eq!(bench.flows.send(&flow, Bytes::from_static(OPTIONS)), Err(SendError::Gone));
}

/// Needs a silent connection a few times more.
struct Needy(Collector, AtomicU8);

impl Ingress for Needy {
    fn receive(&self, flow: Flow, message: Bytes) {
        self.0.receive(flow, message);
    }

    fn flow_closed(&self, id: FlowId) {
        self.0.flow_closed(id);
    }

    fn needs(&self, _: &Flow) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed) < 2
    }
}

#[tokio::test]
async fn a_silent_connection_is_kept_while_it_is_needed() {
    let limits = FlowLimits { idle_timeout: Duration::from_millis(20), ..FlowLimits::default() };
    let flows = Flows::new(limits);
    let (collector, seen) = Collector::new();
    let needy = Arc::new(Needy(collector, AtomicU8::new(0)));
    let ingress: Arc<dyn Ingress> = needy.clone();
    flows.attach(&ingress);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Destination::plain(Transport::Tcp, listener.local_addr().unwrap(), 0);
    flows.connect(&to).unwrap();
    let _peer = listener.accept().await.unwrap();
    let mut bench = Bench { flows, seen, ingress };
    assert_eq!(bench.closed().await, FlowEnd::Idle);
    assert_eq!(needy.1.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_connection_that_only_answers_pings_is_closed_as_a_silent_one() {
    let (idle_timeout, pong_timeout) = (Duration::from_millis(2_500), Duration::from_secs(1));
    let limits = FlowLimits { idle_timeout, pong_timeout, ..FlowLimits::default() };
    let mut bench = Bench::new(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = listener.local_addr().unwrap();
    let keepalive = Some(Duration::from_millis(20));
    let to = Destination { keepalive, ..Destination::plain(Transport::Tcp, remote, 0) };
    bench.flows.connect(&to).unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let answered = tokio::spawn(async move {
        let (mut ping, mut answered) = ([0; 4], 0);
        while peer.read_exact(&mut ping).await.is_ok() && peer.write_all(b"\r\n").await.is_ok() {
            answered += 1;
        }
        answered
    });
    assert_eq!(timeout(PATIENCE, bench.closed()).await, Ok(FlowEnd::Idle));
    assert!(answered.await.unwrap() > 0, "it was alive");
}

#[tokio::test]
async fn a_target_that_refuses_closes_the_flow_and_says_so() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let mut bench = Bench::new(FlowLimits::default());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = Destination::plain(Transport::Tcp, free, 0);
    bench.flows.connect(&to).unwrap();
    let why = bench.closed().await;
    assert_eq!(why, FlowEnd::Failed(ConnectFailure::Refused));
    assert_eq!(bench.flows.streams_open(), 0, "and the next attempt begins anew");
    // It is counted in the breath in which it is said, or in the next.
    let counted = async {
        let expected = format!("sip_connects_failed_total{{why=\"{}\"}} 1", why.as_str());
        while !recorder.handle().render().contains(&expected) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
}
