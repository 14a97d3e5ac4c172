//! Finding SIP servers (RFC 3263): from a next hop to an ordered list of addresses, given what DNS
//! says.
#![warn(clippy::indexing_slicing)]

pub mod exercise;

use crate::sip::message::uri::Uri;
use crate::types::limit::LOCATE_ADDRESSES_MAX;
use crate::types::limit::LOCATE_NAME_BYTES_MAX;
use crate::types::limit::LOCATE_RECORDS_MAX;
use crate::types::limit::LOCATE_TARGETS_MAX;
use crate::types::random::Random;
use crate::types::transport::Transport;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// Whom a request is handed to: the first Route, a proxy, or the Request-URI itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Host name in lower case, or address without brackets.
    pub host: String,
    /// The port, where one is written.
    pub port: Option<u16>,
    /// The transport, where one is written.
    pub transport: Option<Transport>,
    /// `sips:`: TLS alone will do.
    pub secure: bool,
}

/// What a search may find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The transports allowed, the one preferred first.
    pub transports: Vec<Transport>,
    /// Ask for NAPTR and SRV records, not for addresses alone.
    pub services: bool,
    /// IPv4 addresses are of use.
    pub v4: bool,
    /// IPv6 addresses are of use.
    pub v6: bool,
}

/// An address to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// The name its certificate must prove: that of the next hop, whatever DNS made of it (RFC 5922
    /// §4).
    pub server_name: String,
}

/// Nothing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LocateError {
    /// The next hop is no SIP URI, or has no host one can look for.
    #[error("the next hop is no SIP address")]
    NotSip,
    /// It asks for a transport that is not allowed.
    #[error("the next hop asks for {0}, which the trunk does not allow")]
    NotAllowed(Transport),
    /// No transport is left.
    #[error("no transport is allowed that fits the next hop")]
    NoTransport,
    /// DNS knows no such name, or no address of it that is of use.
    #[error("DNS knows no address of the next hop")]
    NoAddress,
    /// DNS says that there is no such service (RFC 2782: the target is the root).
    #[error("DNS says that the next hop takes no SIP")]
    NoService,
    /// DNS did not answer, or answered with an error.
    #[error("DNS does not answer")]
    DnsFailed,
    /// DNS was not asked: too many questions are under way already.
    #[error("too many names are looked up")]
    TooMany,
}

/// The addresses that a search may have missed, since DNS did not answer all its questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// IPv4 addresses.
    pub v4: bool,
    /// IPv6 addresses.
    pub v6: bool,
}

impl Missed {
    /// Nothing was found out.
    pub const ALL: Self = Self { v4: true, v6: true };

    /// Whether DNS answered all questions.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.v4 && !self.v6
    }

    /// Whether this address may be one of them.
    #[must_use]
    pub const fn may_have(self, address: IpAddr) -> bool {
        if address.to_canonical().is_ipv4() { self.v4 } else { self.v6 }
    }

    /// What either of two searches may have missed.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }

    /// What is missed where this question has no answer.
    const fn without(question: &Question) -> Self {
        match question {
            Question::Naptr(_) | Question::Srv(_) => Self::ALL,
            Question::A(_) => Self { v4: true, v6: false },
            Question::Aaaa(_) => Self { v4: false, v6: true },
        }
    }
}

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Naming authority pointers (RFC 3403).
    Naptr(String),
    /// Services (RFC 2782).
    Srv(String),
    /// IPv4 addresses.
    A(String),
    /// IPv6 addresses.
    Aaaa(String),
}

/// What DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Naptr`].
    Naptr(Vec<NaptrRecord>),
    /// To [`Question::Srv`].
    Srv(Vec<SrvRecord>),
    /// To [`Question::A`].
    A(Vec<Ipv4Addr>),
    /// To [`Question::Aaaa`].
    Aaaa(Vec<Ipv6Addr>),
    /// There is no such name, or nothing of that kind.
    Nothing,
    /// It did not answer, or with an error.
    Failed,
}

/// A NAPTR record, as far as SIP uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaptrRecord {
    /// Records of a lower order come first.
    pub order: u16,
    /// Among those of one order, lower ones come first.
    pub preference: u16,
    /// `s`: the replacement names a service.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
    pub service: String,
    /// The next name.
    pub replacement: String,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Host; `.`: no such service.
    pub target: String,
}

impl NextHop {
    /// The next hop of a SIP URI.
    ///
    /// # Errors
    /// [`LocateError::NotSip`] for other URIs and unknown transports.
    pub fn of_uri(uri: &Uri) -> Result<Self, LocateError> {
        let host = uri.host().ok_or(LocateError::NotSip)?;
        let host = std::str::from_utf8(host).map_err(|_| LocateError::NotSip)?;
        let transport = match uri.param("transport") {
            None => None,
            Some(token) => Some(transport_of(token)?),
        };
        Self::new(host, uri.port(), transport, uri.is_secure())
    }

    /// The next hop of `host[:port][;transport=...]`, or of a SIP URI.
    ///
    /// # Errors
    /// [`LocateError::NotSip`] for anything else.
    pub fn parse(text: &str) -> Result<Self, LocateError> {
        let is_uri = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("sips:"))
            || text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("sip:"));
        let text = if is_uri { text.to_owned() } else { format!("sip:{text}") };
        Self::of_uri(&Uri::from_text(&text).map_err(|_| LocateError::NotSip)?)
    }

    fn new(
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
        secure: bool,
    ) -> Result<Self, LocateError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = bare.trim_end_matches('.').to_ascii_lowercase();
        let usable = host.parse::<IpAddr>().is_ok() || is_name(&host);
        if !usable || port == Some(0) {
            return Err(LocateError::NotSip);
        }
        // A sips: URI with ;transport=tcp means TLS over TCP (RFC 3261 §26.2.2).
        let transport = match transport {
            Some(Transport::Tcp) if secure => Some(Transport::Tls),
            other => other,
        };
        Ok(Self { host, port, transport, secure })
    }
}

fn transport_of(token: &[u8]) -> Result<Transport, LocateError> {
    let token = std::str::from_utf8(token).map_err(|_| LocateError::NotSip)?;
    token.parse().map_err(|_| LocateError::NotSip)
}

/// A name DNS can be asked for.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LOCATE_NAME_BYTES_MAX
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// The port where none is written.
const fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
    }
}

/// The service that a transport is announced under.
fn service_name(transport: Transport, host: &str) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Tls => format!("_sips._tcp.{host}"),
    }
}

/// A host whose addresses are wanted.
#[derive(Clone, Debug)]
struct Wanted {
    transport: Transport,
    host: String,
    port: u16,
}

/// A service whose records are wanted.
#[derive(Clone, Debug)]
struct Service {
    transport: Transport,
    name: String,
    records: Vec<SrvRecord>,
}

#[derive(Clone, Debug)]
enum Stage {
    Naptr(Vec<NaptrRecord>),
    Services(Vec<Service>),
    Addresses(Vec<(Wanted, Vec<IpAddr>)>),
    Found(Vec<Target>),
    NoService,
}

/// One search. While it has questions, they are answered, in any order.
#[derive(Clone, Debug)]
pub struct Locator {
    hop: NextHop,
    rules: Rules,
    random: Random,
    stage: Stage,
    questions: VecDeque<Question>,
    missed: Missed,
}

impl Locator {
    /// Begins a search; `random` settles what DNS leaves to chance.
    ///
    /// # Errors
    /// When no transport fits, so that nothing can be found.
    pub fn new(hop: NextHop, mut rules: Rules, random: Random) -> Result<Self, LocateError> {
        if hop.secure {
            rules.transports.retain(|transport| *transport == Transport::Tls);
        }
        if let Some(asked) = hop.transport {
            if !rules.transports.contains(&asked) {
                return Err(LocateError::NotAllowed(asked));
            }
            rules.transports = vec![asked];
        }
        let Some(&preferred) = rules.transports.first() else {
            return Err(LocateError::NoTransport);
        };
        let stage = Stage::Found(Vec::new());
        let questions = VecDeque::new();
        let missed = Missed::default();
        let mut search = Self { hop, rules, random, stage, questions, missed };
        search.begin(preferred);
        Ok(search)
    }

    fn begin(&mut self, preferred: Transport) {
        let numeric = self.hop.host.parse::<IpAddr>().ok();
        if let Some(address) = numeric {
            let port = self.hop.port.unwrap_or(default_port(preferred));
            self.stage = Stage::Found(vec![self.target(preferred, SocketAddr::new(address, port))]);
        } else if self.hop.port.is_some() || !self.rules.services {
            self.ask_own_addresses(preferred);
        } else if self.hop.transport.is_some() {
            self.ask_services(vec![(preferred, service_name(preferred, &self.hop.host))]);
        } else {
            self.questions.push_back(Question::Naptr(self.hop.host.clone()));
            self.stage = Stage::Naptr(Vec::new());
        }
    }

    /// What DNS is to be asked now; nothing when the search is over.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.questions.iter().cloned().collect()
    }

    /// Takes an answer. One that was not asked for, or does not fit, changes nothing.
    pub fn answer(&mut self, question: &Question, answer: Answer) {
        let Some(at) = self.questions.iter().position(|own| own == question) else { return };
        self.questions.remove(at);
        if answer == Answer::Failed {
            self.missed = self.missed.or(Missed::without(question));
        }
        match (&mut self.stage, question, answer) {
            (Stage::Naptr(own), Question::Naptr(_), Answer::Naptr(mut records)) => {
                records.truncate(LOCATE_RECORDS_MAX);
                *own = records;
            }
            (Stage::Services(services), Question::Srv(name), Answer::Srv(mut records)) => {
                records.truncate(LOCATE_RECORDS_MAX);
                for service in services.iter_mut().filter(|service| service.name == *name) {
                    service.records.clone_from(&records);
                }
            }
            (Stage::Addresses(hosts), Question::A(name), Answer::A(addresses)) => {
                add(hosts, name, &mut self.random, addresses.into_iter().map(IpAddr::V4));
            }
            (Stage::Addresses(hosts), Question::Aaaa(name), Answer::Aaaa(addresses)) => {
                add(hosts, name, &mut self.random, addresses.into_iter().map(IpAddr::V6));
            }
            _ => {}
        }
        if self.questions.is_empty() {
            self.advance();
        }
    }

    /// What may be missing of the targets so far.
    #[must_use]
    pub const fn missed(&self) -> Missed {
        self.missed
    }

    /// The targets in the order in which they are to be tried.
    ///
    /// # Errors
    /// Why there is none.
    pub fn finish(self) -> Result<Vec<Target>, LocateError> {
        match self.stage {
            Stage::Found(targets) if !targets.is_empty() => Ok(targets),
            Stage::NoService => Err(LocateError::NoService),
            _ if !self.missed.is_none() => Err(LocateError::DnsFailed),
            _ => Err(LocateError::NoAddress),
        }
    }

    fn advance(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Found(Vec::new())) {
            Stage::Naptr(records) => {
                let mut services = self.services_of(records);
                if services.is_empty() {
                    let host = &self.hop.host;
                    let transports = self.rules.transports.iter();
                    services = transports.map(|own| (*own, service_name(*own, host))).collect();
                }
                self.ask_services(services);
            }
            Stage::Services(services) => self.ask_addresses(services),
            Stage::Addresses(hosts) => {
                let mut targets = Vec::new();
                for (wanted, addresses) in hosts {
                    for address in addresses {
                        let at = SocketAddr::new(address, wanted.port);
                        let target = self.target(wanted.transport, at);
                        if targets.len() < LOCATE_TARGETS_MAX && !targets.contains(&target) {
                            targets.push(target);
                        }
                    }
                }
                self.stage = Stage::Found(targets);
            }
            stage @ (Stage::Found(_) | Stage::NoService) => self.stage = stage,
        }
    }

    /// The services that NAPTR records lead to, as far as they are of use, best first (RFC 3263 §4.1).
    fn services_of(&self, mut records: Vec<NaptrRecord>) -> Vec<(Transport, String)> {
        records.sort_by_key(|record| (record.order, record.preference));
        let mut services: Vec<(Transport, String)> = Vec::new();
        for record in records {
            let transport = match record.service.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Transport::Udp,
                "SIP+D2T" => Transport::Tcp,
                "SIPS+D2T" => Transport::Tls,
                _ => continue,
            };
            let name = record.replacement.trim_end_matches('.').to_ascii_lowercase();
            let of_use = record.flags.eq_ignore_ascii_case("s")
                && self.rules.transports.contains(&transport)
                && is_name(&name)
                && !services.contains(&(transport, name.clone()));
            if of_use {
                services.push((transport, name));
            }
        }
        services
    }

    fn ask_services(&mut self, services: Vec<(Transport, String)>) {
        let mut stage = Vec::new();
        for (transport, name) in services {
            let question = Question::Srv(name.clone());
            if !self.questions.contains(&question) {
                self.questions.push_back(question);
            }
            stage.push(Service { transport, name, records: Vec::new() });
        }
        self.stage = Stage::Services(stage);
    }

    fn ask_addresses(&mut self, services: Vec<Service>) {
        let mut wanted = Vec::new();
        let (mut announced, mut denied) = (false, false);
        for service in services {
            announced |= !service.records.is_empty();
            for record in weighted(service.records, &mut self.random) {
                let host = record.target.trim_end_matches('.').to_ascii_lowercase();
                denied |= host.is_empty();
                let numeric = host.parse::<IpAddr>().is_ok();
                if record.port != 0 && is_name(&host) && !numeric {
                    let (transport, port) = (service.transport, record.port);
                    wanted.push(Wanted { transport, host, port });
                }
            }
        }
        match (announced, self.rules.transports.first()) {
            (false, Some(&preferred)) => self.ask_own_addresses(preferred),
            _ if wanted.is_empty() && denied => self.stage = Stage::NoService,
            _ => self.ask_addresses_of(wanted),
        }
    }

    fn ask_own_addresses(&mut self, transport: Transport) {
        let port = self.hop.port.unwrap_or(default_port(transport));
        self.ask_addresses_of(vec![Wanted { transport, host: self.hop.host.clone(), port }]);
    }

    fn ask_addresses_of(&mut self, mut wanted: Vec<Wanted>) {
        wanted.truncate(LOCATE_TARGETS_MAX);
        let hosts = || wanted.iter().map(|wanted| wanted.host.clone());
        // IPv6 addresses are tried last, and many servers say nothing of them.
        let v4 = hosts().filter(|_| self.rules.v4).map(Question::A);
        let v6 = hosts().filter(|_| self.rules.v6).map(Question::Aaaa);
        for question in v4.chain(v6) {
            if !self.questions.contains(&question) {
                self.questions.push_back(question);
            }
        }
        let is_over = self.questions.is_empty();
        self.stage = Stage::Addresses(wanted.into_iter().map(|host| (host, Vec::new())).collect());
        if is_over {
            self.stage = Stage::Found(Vec::new());
        }
    }

    fn target(&self, transport: Transport, address: SocketAddr) -> Target {
        Target { transport, address, server_name: self.hop.host.clone() }
    }
}

/// Gives a host its addresses, in an order of chance: a cache hands them out in the same one each
/// time, and the first would get all calls. IPv4 comes before IPv6.
fn add(
    hosts: &mut [(Wanted, Vec<IpAddr>)],
    name: &str,
    random: &mut Random,
    addresses: impl Iterator<Item = IpAddr>,
) {
    let usable = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
    let mut addresses: Vec<IpAddr> = addresses.filter(usable).take(LOCATE_ADDRESSES_MAX).collect();
    for at in (1..addresses.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).unwrap_or(at);
        addresses.swap(at, other);
    }
    for (_, own) in hosts.iter_mut().filter(|(wanted, _)| wanted.host == name) {
        own.extend_from_slice(&addresses);
        own.sort_by_key(IpAddr::is_ipv6);
    }
}

/// SRV records in the order in which they are to be tried (RFC 2782): by priority, and among those of
/// one priority by lot, weighted.
#[must_use]
pub fn weighted(mut records: Vec<SrvRecord>, random: &mut Random) -> Vec<SrvRecord> {
    // Those of weight 0 first, so that they have a small chance as the RFC wants it.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let of_priority = records.iter().take_while(|record| record.priority == priority);
        let sum: u64 = of_priority.clone().map(|record| u64::from(record.weight)).sum();
        let lot = random.below(sum + 1);
        let mut running = 0;
        let mut reaches = |record: &SrvRecord| {
            running += u64::from(record.weight);
            running >= lot
        };
        let at = of_priority.into_iter().position(&mut reaches).unwrap_or(0);
        ordered.push(records.remove(at));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A DNS of a few records.
    #[derive(Default)]
    struct Zone {
        naptr: BTreeMap<&'static str, Vec<NaptrRecord>>,
        srv: BTreeMap<&'static str, Vec<SrvRecord>>,
        a: BTreeMap<&'static str, Vec<&'static str>>,
        failing: bool,
        asked: Vec<String>,
    }

    impl Zone {
        fn answer(&mut self, question: &Question) -> Answer {
            let (kind, name) = match question {
                Question::Naptr(name) => ("NAPTR", name),
                Question::Srv(name) => ("SRV", name),
                Question::A(name) => ("A", name),
                Question::Aaaa(name) => ("AAAA", name),
            };
            self.asked.push(format!("{kind} {name}"));
            let name = name.as_str();
            let found = match question {
                Question::Naptr(_) => self.naptr.get(name).cloned().map(Answer::Naptr),
                Question::Srv(_) => self.srv.get(name).cloned().map(Answer::Srv),
                Question::A(_) => self.a.get(name).map(|own| {
                    Answer::A(own.iter().filter_map(|text| text.parse().ok()).collect())
                }),
                Question::Aaaa(_) => self.a.get(name).map(|own| {
                    Answer::Aaaa(own.iter().filter_map(|text| text.parse().ok()).collect())
                }),
            };
            found.unwrap_or(if self.failing { Answer::Failed } else { Answer::Nothing })
        }
    }

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    fn rules(transports: &[Transport]) -> Rules {
        Rules { transports: transports.to_vec(), services: true, v4: true, v6: false }
    }

    fn search(hop: &str, rules: Rules, zone: &mut Zone) -> Result<Vec<String>, LocateError> {
        let hop = NextHop::parse(hop)?;
        let mut search = Locator::new(hop, rules, Random::from_seed(1))?;
        let mut rounds = 0;
        loop {
            let questions = search.questions();
            if questions.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 5, "a search ends");
            for question in questions {
                let answer = zone.answer(&question);
                search.answer(&question, answer);
            }
        }
        let show = |target: Target| {
            format!("{} {} {}", target.transport, target.address, target.server_name)
        };
        search.finish().map(|targets| targets.into_iter().map(show).collect())
    }

    fn check(hop: &str, zone: &mut Zone, expected: &[&str]) {
        assert_eq!(search(hop, rules(&ALL), zone).unwrap(), expected, "{hop}");
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.to_owned() }
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> NaptrRecord {
        let (flags, service) = ("s".to_owned(), service.to_owned());
        NaptrRecord { order, preference, flags, service, replacement: replacement.to_owned() }
    }

    #[test]
    fn an_address_needs_no_dns() {
        let zone = &mut Zone::default();
        check("sip:192.0.2.1", zone, &["udp 192.0.2.1:5060 192.0.2.1"]);
        check("192.0.2.1:5070", zone, &["udp 192.0.2.1:5070 192.0.2.1"]);
        check("sip:192.0.2.1;transport=tls", zone, &["tls 192.0.2.1:5061 192.0.2.1"]);
        check("sips:192.0.2.1", zone, &["tls 192.0.2.1:5061 192.0.2.1"]);
        check("[2001:db8::1];transport=tcp", zone, &["tcp [2001:db8::1]:5060 2001:db8::1"]);
        assert!(zone.asked.is_empty());
    }

    #[test]
    fn an_explicit_port_skips_srv() {
        let mut zone = Zone::default();
        zone.a.insert("sbc.example", vec!["192.0.2.1"]);
        check("sip:sbc.example:5070", &mut zone, &["udp 192.0.2.1:5070 sbc.example"]);
        assert_eq!(zone.asked, ["A sbc.example"]);
    }

    #[test]
    fn transport_tls_without_port_means_5061() {
        let mut zone = Zone::default();
        zone.a.insert("sbc.example", vec!["192.0.2.1"]);
        check("sip:SBC.example.;transport=tls", &mut zone, &["tls 192.0.2.1:5061 sbc.example"]);
        assert_eq!(zone.asked, ["SRV _sips._tcp.sbc.example", "A sbc.example"]);
    }

    #[test]
    fn naptr_leads_to_services_and_they_to_addresses() {
        let mut zone = Zone::default();
        let records = vec![
            naptr(20, 10, "SIP+D2U", "_sip._udp.carrier.example."),
            naptr(10, 20, "SIP+D2T", "_sip._tcp.carrier.example"),
            naptr(10, 10, "SIPS+D2T", "_sips._tcp.carrier.example"),
            naptr(1, 1, "E2U+email", "x.example"),
        ];
        zone.naptr.insert("carrier.example", records);
        zone.srv.insert("_sips._tcp.carrier.example", vec![srv(1, 0, 5061, "a.carrier.example")]);
        zone.srv.insert("_sip._tcp.carrier.example", vec![srv(1, 0, 5060, "b.carrier.example")]);
        zone.srv.insert("_sip._udp.carrier.example", vec![srv(1, 0, 5062, "b.carrier.example")]);
        zone.a.insert("a.carrier.example", vec!["192.0.2.1"]);
        zone.a.insert("b.carrier.example", vec!["192.0.2.2"]);
        let all = [
            "tls 192.0.2.1:5061 carrier.example",
            "tcp 192.0.2.2:5060 carrier.example",
            "udp 192.0.2.2:5062 carrier.example",
        ];
        check("sip:carrier.example", &mut zone, &all);
        let only_udp = search("sip:carrier.example", rules(&[Transport::Udp]), &mut zone);
        assert_eq!(only_udp.unwrap(), all[2..]);
        let secure = search("sips:carrier.example", rules(&ALL), &mut zone);
        assert_eq!(secure.unwrap(), all[..1]);
    }

    #[test]
    fn without_naptr_each_allowed_transport_is_asked_for() {
        let mut zone = Zone::default();
        zone.srv.insert("_sip._tcp.c.example", vec![srv(1, 0, 5060, "a.example")]);
        zone.a.insert("a.example", vec!["192.0.2.1"]);
        check("sip:c.example", &mut zone, &["tcp 192.0.2.1:5060 c.example"]);
        let expected = [
            "NAPTR c.example",
            "SRV _sip._udp.c.example",
            "SRV _sip._tcp.c.example",
            "SRV _sips._tcp.c.example",
            "A a.example",
        ];
        assert_eq!(zone.asked, expected);
    }

    #[test]
    fn addresses_alone_are_asked_for_where_the_trunk_says_so() {
        let mut zone = Zone::default();
        zone.a.insert("c.example", vec!["192.0.2.1", "192.0.2.2", "2001:db8::1", "0.0.0.0"]);
        let rules = Rules { services: false, v6: true, ..rules(&ALL) };
        let mut found = search("sip:c.example", rules, &mut zone).unwrap();
        assert_eq!(found.last().unwrap(), "udp [2001:db8::1]:5060 c.example", "IPv6 is last");
        found.sort();
        assert_eq!((found.len(), zone.asked.len()), (3, 2), "{found:?}");
    }

    #[test]
    fn ipv4_addresses_of_all_hosts_are_asked_for_before_ipv6_ones() {
        let mut zone = Zone::default();
        let hosts = vec![srv(1, 0, 5060, "a.example"), srv(2, 0, 5060, "b.example")];
        zone.srv.insert("_sip._udp.c.example", hosts);
        let rules = Rules { v6: true, ..rules(&ALL) };
        let found = search("sip:c.example;transport=udp", rules, &mut zone);
        assert_eq!(found, Err(LocateError::NoAddress));
        let expected = ["A a.example", "A b.example", "AAAA a.example", "AAAA b.example"];
        assert_eq!(zone.asked.get(1..), Some(expected.map(str::to_owned).as_slice()));
    }

    #[test]
    fn srv_weights_share_the_load() {
        let records =
            vec![srv(2, 9, 1, "z"), srv(1, 3, 1, "a"), srv(1, 1, 1, "b"), srv(1, 0, 1, "c")];
        let mut first = BTreeMap::<String, u32>::new();
        let mut random = Random::from_seed(7);
        for _ in 0..10_000 {
            let order = weighted(records.clone(), &mut random);
            assert_eq!(order[3].target, "z");
            *first.entry(order[0].target.clone()).or_default() += 1;
        }
        // Of five numbers, 0 to 4, one falls to weight 0, three to weight 3, one to weight 1.
        for (name, share) in [("a", 6_000_u32), ("b", 2_000), ("c", 2_000)] {
            let count = first[name];
            assert!(count.abs_diff(share) < 300, "{name}: {count}");
        }
    }

    #[test]
    fn a_failure_is_told_from_an_unknown_name() {
        let mut zone = Zone::default();
        let unknown = search("sip:nowhere.example", rules(&ALL), &mut zone);
        assert_eq!(unknown, Err(LocateError::NoAddress));
        zone.failing = true;
        let failed = search("sip:nowhere.example", rules(&ALL), &mut zone);
        assert_eq!(failed, Err(LocateError::DnsFailed));
        zone.srv.insert("_sip._udp.none.example", vec![srv(0, 0, 0, ".")]);
        let denied = search("sip:none.example;transport=udp", rules(&ALL), &mut zone);
        assert_eq!(denied, Err(LocateError::NoService));
    }

    #[test]
    fn it_is_told_which_addresses_a_question_without_answer_may_have_had() {
        let missed = |is_failing: fn(&Question) -> bool| {
            let hop = NextHop::parse("sip:c.example").unwrap();
            let rules = Rules { v6: true, ..rules(&[Transport::Udp]) };
            let mut search = Locator::new(hop, rules, Random::from_seed(1)).unwrap();
            while let Some(question) = search.questions().first() {
                let answer = match question {
                    _ if is_failing(question) => Answer::Failed,
                    Question::A(_) => Answer::A(vec![Ipv4Addr::new(192, 0, 2, 1)]),
                    _ => Answer::Nothing,
                };
                search.answer(question, answer);
            }
            (search.missed(), search.finish().map(|found| found.len()))
        };
        assert_eq!(missed(|_| false), (Missed::default(), Ok(1)));
        assert_eq!(missed(|own| matches!(own, Question::Srv(_))), (Missed::ALL, Ok(1)));
        let (v6, found) = missed(|own| matches!(own, Question::Aaaa(_)));
        assert_eq!((v6, found), (Missed { v4: false, v6: true }, Ok(1)));
        let may_have = |text: &str| v6.may_have(text.parse().unwrap());
        assert!(may_have("2001:db8::1") && !may_have("192.0.2.1") && !may_have("::ffff:192.0.2.1"));
        let v4 = (Missed { v4: true, v6: false }, Err(LocateError::DnsFailed));
        assert_eq!(missed(|own| matches!(own, Question::A(_))), v4);
    }

    #[test]
    fn what_is_not_allowed_is_not_tried() {
        let zone = &mut Zone::default();
        let tcp = search("192.0.2.1;transport=tcp", rules(&[Transport::Udp]), zone);
        assert_eq!(tcp, Err(LocateError::NotAllowed(Transport::Tcp)));
        let secure = search("sips:192.0.2.1", rules(&[Transport::Udp]), zone);
        assert_eq!(secure, Err(LocateError::NoTransport));
        for bad in ["tel:+15550100", "sip:a b", "", "sip:x;transport=sctp", "sip:h:0", "sip:a..b"] {
            let long = search(bad, rules(&ALL), zone);
            assert_eq!(long, Err(LocateError::NotSip), "{bad}");
        }
    }

    #[test]
    fn records_without_measure_are_cut() {
        let mut zone = Zone::default();
        let many = (0..5_000).map(|port| srv(1, 1, port, "a.example")).collect();
        zone.srv.insert("_sip._udp.c.example", many);
        let name: &str = "a.example";
        zone.a.insert(name, vec!["192.0.2.1"; 5_000]);
        let found = search("sip:c.example;transport=udp", rules(&ALL), &mut zone).unwrap();
        assert!(found.len() <= LOCATE_TARGETS_MAX);
        assert_eq!(zone.asked.len(), 2, "one host is asked for once");
    }

    #[test]
    fn answers_nobody_asked_for_change_nothing() {
        let hop = NextHop::parse("sip:c.example").unwrap();
        let mut search = Locator::new(hop, rules(&ALL), Random::from_seed(1)).unwrap();
        let question = Question::Naptr("c.example".to_owned());
        search.answer(&Question::A("c.example".to_owned()), Answer::Failed);
        assert_eq!(search.questions(), std::slice::from_ref(&question));
        search.answer(&question, Answer::A(vec![Ipv4Addr::new(192, 0, 2, 9)]));
        assert!(search.questions().iter().all(|asked| matches!(asked, Question::Srv(_))));
    }
}
