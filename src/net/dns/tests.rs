//! DNS against a small server on loopback: slow, silent, wrong, cut and coming back.

use super::*;
use crate::types::transport::Transport;
use futures_util::future::join_all;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::op::OpCode;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::rdata::NAPTR;
use hickory_resolver::proto::rr::rdata::SRV;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// A DNS server whose names say what it does.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    over_tcp: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
    /// Lets answers to `slow.` names go.
    go: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let server = Self {
            address: udp.local_addr().unwrap(),
            asked: Arc::default(),
            over_tcp: Arc::default(),
            broken: Arc::default(),
            go: Arc::default(),
        };
        let (asked, broken, go) = (server.asked.clone(), server.broken.clone(), server.go.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (len, peer) = udp.recv_from(&mut buffer).await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&buffer[..len]).unwrap();
                let (udp, broken, go) = (udp.clone(), broken.clone(), go.clone());
                tokio::spawn(async move {
                    let slow = query.queries[0].name().to_ascii().starts_with("slow");
                    if slow {
                        go.notified().await;
                    }
                    let broken = broken.load(Ordering::SeqCst);
                    if let Some(bytes) = reply(&query, broken, false) {
                        udp.send_to(&bytes, peer).await.unwrap();
                    }
                });
            }
        });
        let over_tcp = server.over_tcp.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let over_tcp = over_tcp.clone();
                tokio::spawn(async move {
                    while let Ok(len) = stream.read_u16().await {
                        let mut query = vec![0; usize::from(len)];
                        stream.read_exact(&mut query).await.unwrap();
                        over_tcp.fetch_add(1, Ordering::SeqCst);
                        let query = Message::from_vec(&query).unwrap();
                        let bytes = reply(&query, false, true).unwrap();
                        stream.write_u16(bytes.len() as u16).await.unwrap();
                        stream.write_all(&bytes).await.unwrap();
                    }
                });
            }
        });
        server
    }

    pub(crate) fn dns(&self, limits: DnsLimits) -> Dns {
        Dns::of_servers(&[self.address], limits)
    }

    /// Of which tenants may ask nothing.
    pub(crate) fn dns_of_the_operator(&self) -> Dns {
        self.dns(DnsLimits { tenants_questions_max: 0, ..limits() })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn reply(query: &Message, broken: bool, tcp: bool) -> Option<Vec<u8>> {
    let asked = query.queries[0].clone();
    let text = asked.name().to_ascii();
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.add_query(asked.clone());
    message.metadata.recursion_available = true;
    let mut add = |ttl: u32, data: RData| {
        message.add_answer(Record::from_rdata(asked.name().clone(), ttl, data));
    };
    let address = |last: u8| RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    match (text.trim_end_matches('.'), asked.query_type()) {
        _ if broken => message.metadata.response_code = ResponseCode::ServFail,
        ("silent.example", _) => return None,
        ("garbage.example", _) => return Some(vec![0xff; 700]),
        ("servfail.example", _) => message.metadata.response_code = ResponseCode::ServFail,
        ("cut.example" | "many.example", _) if !tcp => message.metadata.truncation = true,
        ("cut.example", RecordType::A) => add(60, address(7)),
        ("many.example", RecordType::A) => {
            for _ in 0..50 {
                for last in 0..2 {
                    add(60, address(last));
                }
            }
        }
        ("carrier.example", RecordType::NAPTR) => {
            let (flags, service) = (b"s".to_vec().into(), b"SIP+D2T".to_vec().into());
            let next = name("_sip._tcp.carrier.example.");
            add(60, RData::NAPTR(NAPTR::new(1, 1, flags, service, Box::default(), next)));
        }
        ("_sip._tcp.carrier.example", RecordType::SRV) => {
            add(60, RData::SRV(SRV::new(1, 0, 5070, name("a.example."))));
            add(60, RData::SRV(SRV::new(2, 0, 5080, name("b.example."))));
        }
        ("_sip._udp.many-hosts.example", RecordType::SRV) => {
            let hosts = ["slow.example.", "a.example.", "b.example.", "cut.example."];
            for (host, priority) in hosts.into_iter().zip(1..) {
                add(60, RData::SRV(SRV::new(priority, 0, 5060 + priority, name(host))));
            }
        }
        ("a.example" | "slow.example", RecordType::A) => add(60, address(1)),
        ("b.example" | "slow-b.example", RecordType::A) => add(60, address(2)),
        ("half.example", RecordType::A) => add(60, address(3)),
        ("half.example", RecordType::AAAA) => return None,
        _ => message.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(message.to_vec().unwrap())
}

pub(crate) fn limits() -> DnsLimits {
    // Nothing here waits for these; a machine under load may take its time.
    DnsLimits { question: PATIENCE, search: PATIENCE * 3, ..DnsLimits::default() }
}

/// Answers are stale at once.
fn forgetful(limits: DnsLimits) -> DnsLimits {
    let keeping = Keeping { good: (Duration::ZERO, Duration::ZERO), ..limits.keeping };
    DnsLimits { keeping, ..limits }
}

fn a(name: &str) -> Question {
    Question::A(name.to_owned())
}

fn tenant(n: u128) -> Named {
    Named::ByTenant(Some(TenantId::from_uuid(Uuid::from_u128(n))))
}

fn at(last: u8) -> Answer {
    Answer::A(vec![Ipv4Addr::new(192, 0, 2, last)])
}

#[tokio::test]
async fn a_domain_leads_to_its_servers_in_order() {
    let server = Server::start().await;
    let dns = server.dns(limits());
    let transports = vec![Transport::Udp, Transport::Tcp];
    let rules = Rules { transports, services: true, v4: true, v6: true };
    let hop = NextHop::parse("sip:carrier.example").unwrap();
    let found = dns.locate(Named::ByOperator, hop.clone(), rules.clone()).await.unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|target| format!("{} {} {}", target.transport, target.address, target.server_name))
        .collect();
    let expected = ["tcp 192.0.2.1:5070 carrier.example", "tcp 192.0.2.2:5080 carrier.example"];
    assert_eq!(shown, expected);
    let before = server.asked();
    assert_eq!(dns.locate(Named::ByOperator, hop, rules).await.unwrap(), found);
    assert_eq!(server.asked(), before, "all of it is known");
}

#[tokio::test]
async fn unknown_names_and_failures_are_told_apart_and_kept() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let server = Server::start().await;
    let dns = server.dns(DnsLimits { question: Duration::from_millis(200), ..limits() });
    assert_eq!(dns.ask(&a("unknown.example")).await, Answer::Nothing);
    for name in ["servfail.example", "silent.example", "garbage.example"] {
        assert_eq!(dns.ask(&a(name)).await, Answer::Failed, "{name}");
    }
    let before = server.asked();
    assert_eq!(dns.ask(&a("unknown.example")).await, Answer::Nothing);
    assert_eq!(dns.ask(&a("silent.example")).await, Answer::Failed);
    assert_eq!(server.asked(), before, "neither is asked for again at once");
    let counted = recorder.handle().render();
    for expected in ["{how=\"nothing\"} 1", "{how=\"failed\"} 3", "{how=\"known\"} 2"] {
        assert!(counted.contains(&format!("dns_answers_total{expected}")), "{counted}");
    }
}

#[tokio::test]
async fn a_fault_while_a_name_is_looked_up_leaves_nothing_under_way() {
    let server = Server::start().await;
    let limits = DnsLimits { question: PATIENCE, questions_max: 1, ..limits() };
    let dns = server.dns(limits);
    let started = clock::now();
    for _ in 0..2 {
        assert_eq!(dns.ask(&a("faulty.example")).await, Answer::Failed);
    }
    assert!(clock::now().since(started) < PATIENCE, "whoever asks is told at once");
    assert!(dns.state().under_way.is_empty());
    assert_eq!(dns.ask(&a("cut.example")).await, at(7));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_by_tcp() {
    let server = Server::start().await;
    let dns = server.dns(limits());
    assert_eq!(dns.ask(&a("cut.example")).await, at(7));
    assert_eq!(server.over_tcp.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_without_measure_is_cut() {
    let server = Server::start().await;
    let dns = server.dns(limits());
    let Answer::A(addresses) = dns.ask(&a("many.example")).await else { panic!("no answer") };
    assert_eq!(addresses.len(), LOCATE_RECORDS_MAX);
}

#[tokio::test]
async fn a_slow_name_delays_nobody_else_and_is_asked_for_once() {
    let server = Server::start().await;
    let dns = server.dns(limits());
    let question = a("slow.example");
    let slow = join_all((0..20).map(|_| dns.ask(&question)));
    tokio::pin!(slow);
    let quick = async {
        // Each of these finishes while the slow ones wait.
        assert_eq!(dns.ask(&a("a.example")).await, at(1));
        assert_eq!(dns.ask(&a("b.example")).await, at(2));
    };
    tokio::select! {
        biased;
        _ = &mut slow => panic!("nobody let it go"),
        () = quick => {}
    }
    assert_eq!(server.asked(), 3, "twenty calls ask for the slow name once");
    server.go.notify_one();
    assert!(slow.await.iter().all(|answer| *answer == at(1)));
}

#[tokio::test]
async fn slow_names_of_tenants_leave_the_trunks_their_questions() {
    let server = Server::start().await;
    let limits = DnsLimits { question: PATIENCE, search: PATIENCE, ..limits() };
    let dns = server.dns(DnsLimits { questions_max: 2, tenants_questions_max: 1, ..limits });
    let rules = Rules { transports: vec![Transport::Udp], services: false, v4: true, v6: false };
    let hop = |name: &str| NextHop::parse(&format!("sip:{name}")).unwrap();
    let slow = tokio::spawn({
        let (dns, hop, rules) = (dns.clone(), hop("slow.example"), rules.clone());
        async move { dns.locate(tenant(1), hop, rules).await }
    });
    while dns.state().of_tenants == 0 {
        tokio::task::yield_now().await;
    }
    let another = dns.locate(tenant(2), hop("cut.example"), rules.clone()).await;
    assert_eq!(another, Err(LocateError::TooMany));
    let operators = dns.locate(Named::ByOperator, hop("cut.example"), rules.clone()).await;
    assert!(operators.is_ok(), "the trunks' share: {operators:?}");
    // What is known needs no question.
    assert!(dns.locate(tenant(2), hop("cut.example"), rules.clone()).await.is_ok());
    while !slow.is_finished() {
        server.go.notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!(dns.state().of_tenants, 0);
    let another = dns.locate(tenant(2), hop("many.example"), rules).await;
    assert!(another.is_ok(), "{another:?}");
}

#[tokio::test]
async fn slow_names_of_a_tenant_leave_other_tenants_and_their_peers_their_questions() {
    let server = Server::start().await;
    let limits = DnsLimits { question: PATIENCE, search: PATIENCE, ..limits() };
    let dns = server.dns(DnsLimits { tenant_questions_max: 1, ..limits });
    let rules = Rules { transports: vec![Transport::Udp], services: false, v4: true, v6: false };
    let hop = |name: &str| NextHop::parse(&format!("sip:{name}")).unwrap();
    let slow = tokio::spawn({
        let (dns, hop, rules) = (dns.clone(), hop("slow.example"), rules.clone());
        async move { dns.locate(tenant(1), hop, rules).await }
    });
    while dns.state().of_tenants == 0 {
        tokio::task::yield_now().await;
    }
    let own = dns.locate(tenant(1), hop("a.example"), rules.clone()).await;
    assert_eq!(own, Err(LocateError::TooMany));
    let peer = Named::ByPeer(Ipv4Addr::LOCALHOST.into());
    for (named, name) in [(tenant(2), "a.example"), (peer, "b.example")] {
        let others = dns.locate(named, hop(name), rules.clone()).await;
        assert!(others.is_ok(), "{named:?}: {others:?}");
    }
    while !slow.is_finished() {
        server.go.notify_one();
        tokio::task::yield_now().await;
    }
    assert!(dns.state().of_each.is_empty() && dns.state().of_tenants == 0);
    assert!(dns.locate(tenant(1), hop("cut.example"), rules).await.is_ok());
}

#[tokio::test]
async fn a_search_with_more_questions_than_a_tenant_may_ask_at_once_asks_them_all() {
    let server = Server::start().await;
    let dns = server.dns(DnsLimits { tenant_questions_max: 1, ..limits() });
    let transports = vec![Transport::Udp, Transport::Tcp];
    let rules = Rules { transports, services: true, v4: true, v6: true };
    let hop = || NextHop::parse("sip:carrier.example").unwrap();
    let found = dns.locate(tenant(1), hop(), rules.clone()).await;
    assert_eq!(found, dns.locate(Named::ByOperator, hop(), rules).await);
    assert_eq!(found.map(|found| found.len()), Ok(2));
}

/// Many servers do not answer what they are asked for IPv6 addresses.
#[tokio::test]
async fn what_came_before_a_search_ran_out_of_time_is_used() {
    let server = Server::start().await;
    let dns = server.dns(DnsLimits { search: Duration::from_millis(50), ..limits() });
    // Known, so that no load of this machine is in the way.
    assert_eq!(dns.ask(&a("half.example")).await, at(3));
    let silent = Question::Aaaa("half.example".to_owned());
    let rules = Rules { transports: vec![Transport::Udp], services: false, v4: true, v6: true };
    for named in [Named::ByOperator, tenant(1)] {
        let hop = NextHop::parse("sip:half.example").unwrap();
        let found = dns.locate(named, hop, rules.clone()).await;
        let addresses = found.map(|found| found.iter().map(|own| own.address).collect::<Vec<_>>());
        assert_eq!(addresses, Ok(vec![SocketAddr::from(([192, 0, 2, 3], 5_060))]));
        assert_eq!(dns.fresh_until(&silent), None, "that it takes longer is no failure to keep");
    }
}

#[tokio::test]
async fn a_slow_question_of_a_search_holds_up_no_other_of_it() {
    let server = Server::start().await;
    let dns = server.dns(DnsLimits { tenant_questions_max: 4, ..limits() });
    let transports = vec![Transport::Udp];
    let rules = Rules { transports, services: true, v4: true, v6: false };
    let hop = NextHop::parse("sip:many-hosts.example;transport=udp").unwrap();
    let search = dns.locate(tenant(1), hop, rules);
    tokio::pin!(search);
    let others_known = async {
        let known = |name: &str| dns.fresh_until(&a(name)).is_some();
        while !["a.example", "b.example", "cut.example"].into_iter().all(known) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        found = &mut search => panic!("nobody let the slow one go: {found:?}"),
        () = others_known => {}
    }
    server.go.notify_one();
    assert_eq!(search.await.map(|found| found.len()), Ok(4));
}

#[tokio::test]
async fn questions_under_way_are_bounded() {
    let server = Server::start().await;
    let dns = server.dns(DnsLimits { questions_max: 1, ..limits() });
    let (one, other) = (a("slow.example"), a("a.example"));
    let first = dns.ask(&one);
    tokio::pin!(first);
    tokio::select! {
        biased;
        _ = &mut first => panic!("nobody let it go"),
        answer = dns.ask(&other) => assert_eq!(answer, Answer::Failed),
    }
    server.go.notify_one();
    assert_eq!(first.await, at(1));
    assert_eq!(dns.ask(&a("b.example")).await, at(2));
}

#[tokio::test]
async fn an_old_answer_is_used_while_dns_fails() {
    let server = Server::start().await;
    let dns = server.dns(forgetful(limits()));
    assert_eq!(dns.ask(&a("a.example")).await, at(1));
    server.broken.store(true, Ordering::SeqCst);
    assert_eq!(dns.ask(&a("a.example")).await, at(1), "DNS fails, the old answer stands");
    let before = server.asked();
    assert_eq!(dns.ask(&a("a.example")).await, at(1));
    assert_eq!(server.asked(), before, "and DNS is left alone for a while");
    assert_eq!(dns.ask(&a("b.example")).await, Answer::Failed, "nothing old to use");
}

#[tokio::test]
async fn an_old_answer_is_used_while_dns_is_slow() {
    let server = Server::start().await;
    let dns = server.dns(forgetful(DnsLimits { patience: Duration::ZERO, ..limits() }));
    server.go.notify_one();
    assert_eq!(dns.ask(&a("slow.example")).await, at(1));
    // Nobody lets the next one go.
    let again = timeout(PATIENCE, dns.ask(&a("slow.example"))).await;
    assert_eq!(again, Ok(at(1)));
}
