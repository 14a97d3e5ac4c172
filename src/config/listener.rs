//! `[[listener]]` of `tandem.toml`: where SIP is heard.

use crate::config::node::Listener;
use crate::config::node::ListenerTls;
use crate::config::node::UnknownSource;
use crate::config::node::key;
use crate::config::node::not_empty;
use crate::config::problem::Problem;
use crate::config::problem::Severity;
use crate::config::problem::Sources;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tls;
use crate::config::tls::AskClients;
use crate::config::tls::TlsPart;
use crate::config::tls::TlsSource;
use crate::config::tree::Node;
use crate::config::tree::View;
use crate::types::name::ListenerName;
use crate::types::tls::TlsVersion;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::net::SocketAddr;

/// `[[listener]]`.
pub(crate) const LISTENER: &[Key] = &[
    key("name", Kind::Parsed(check_listener_name)),
    key("bind", Kind::Parsed(check_socket)),
    key("transports", Kind::Choices(&["udp", "tcp", "tls"])),
    key("advertise_sip", Kind::Parsed(check_host_port)),
    key("advertise_rtp", Kind::Parsed(check_address)),
    key("unknown_source", Kind::Choice(&["drop", "refuse"])),
    key("udp_sockets", Kind::Integer(0, 64)),
    key("dscp", Kind::Integer(0, 63)),
    key("tls_cert_file", Kind::Parsed(not_empty)),
    key("tls_key_ref", Kind::Secret(secret::check_own)),
    key("tls_min_version", Kind::Choice(&["1.2", "1.3"])),
    key("tls_client_certs", Kind::Choice(&["ignore", "request", "require"])),
    key("tls_client_ca_file", Kind::Parsed(not_empty)),
];

/// Reads every listener; those with a problem are left out.
pub(crate) fn read(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, (node, table)) in view.tables("listener").enumerate() {
        let before = errors(problems);
        let mut reading = Reading { node, table, sources, problems: &mut *problems };
        let Some(listener) = reading.listener(index, secrets) else { continue };
        let at = |key| table.node(key).map_or(node.at, |node| node.at);
        if listeners.iter().any(|other| other.name == listener.name) {
            let message = format!("a second listener with the name `{}`", listener.name);
            problems.push(Problem::error(sources, at("name"), message));
        }
        if let Some(other) = listeners.iter().find(|other| collide(other, &listener)) {
            let message = format!("listener `{}` binds this address too", other.name);
            problems.push(Problem::error(sources, at("bind"), message));
        }
        if errors(problems) == before {
            listeners.push(listener);
        }
    }
    listeners
}

/// Warnings stop nothing.
fn errors(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.severity == Severity::Error).count()
}

/// One listener while it is read.
struct Reading<'a> {
    node: &'a Node,
    table: View<'a>,
    sources: &'a Sources,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn error(&mut self, key: &str, message: String) {
        let at = self.table.node(key).map_or(self.node.at, |node| node.at);
        self.problems.push(Problem::error(self.sources, at, message));
    }

    fn listener(&mut self, index: usize, secrets: &dyn Secrets) -> Option<Listener> {
        let table = self.table;
        for key in ["name", "bind"] {
            if table.node(key).is_none() {
                self.error(key, format!("`listener[{index}]` has no `{key}`"));
            }
        }
        // What does not parse was reported with the schema.
        let name = table.text("name").parse::<ListenerName>().ok()?;
        let bind = table.text("bind").parse::<SocketAddr>().ok()?;
        let transports = self.transports(&name);
        let (host, port) = self.advertised(&name, bind.ip())?;
        let advertise_rtp = self.advertised_rtp(&name, bind.ip(), &host)?;
        let speaks_tls = transports.contains(&Transport::Tls);
        Some(Listener {
            tls: if speaks_tls { Some(self.tls(&name, secrets)?) } else { None },
            name,
            bind,
            transports,
            advertise_host: host,
            advertise_port: port,
            advertise_rtp,
            unknown_source: match table.text("unknown_source") {
                "refuse" => UnknownSource::Refuse,
                _ => UnknownSource::Drop,
            },
            udp_sockets: usize::try_from(table.integer("udp_sockets"))
                .ok()
                .filter(|sockets| *sockets > 0),
            dscp: u8::try_from(table.integer("dscp")).unwrap_or(0),
        })
    }

    fn transports(&mut self, name: &ListenerName) -> Vec<Transport> {
        let table = self.table;
        let transports: Vec<Transport> = match table.node("transports") {
            None => vec![Transport::Udp, Transport::Tcp],
            Some(_) => table.texts("transports").filter_map(|text| text.parse().ok()).collect(),
        };
        let speaks = |transport| transports.contains(&transport);
        if transports.is_empty() {
            self.error("transports", format!("listener `{name}` speaks nothing"));
        }
        if speaks(Transport::Tcp) && speaks(Transport::Tls) {
            let message = format!(
                "listener `{name}`: tcp and tls cannot share a port; give tls a listener of its own"
            );
            self.error("transports", message);
        }
        transports
    }

    fn advertised(&mut self, name: &ListenerName, bind: IpAddr) -> Option<(String, Option<u16>)> {
        if let Some(advertised) = self.table.given("advertise_sip").and_then(host_port) {
            return Some(advertised);
        }
        if !bind.is_unspecified() {
            return Some((url_host(bind), None));
        }
        let message = format!(
            "listener `{name}` binds every address, so it needs `advertise_sip`: the address peers \
             reach it at"
        );
        self.error("bind", message);
        None
    }

    fn advertised_rtp(&mut self, name: &ListenerName, bind: IpAddr, host: &str) -> Option<IpAddr> {
        // The addresses of signalling and media are one unless they are said to differ.
        let host_address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let rtp = self.table.given("advertise_rtp").and_then(|text| text.parse().ok());
        let reachable = Some(bind).filter(|address| !address.is_unspecified());
        let found = rtp.or(host_address).or(reachable);
        if found.is_none() {
            let message = format!(
                "listener `{name}` binds every address and `advertise_sip` is a name, so it needs \
                 `advertise_rtp`: the address peers send media to"
            );
            self.error("bind", message);
        }
        found
    }

    fn tls(&mut self, name: &ListenerName, secrets: &dyn Secrets) -> Option<ListenerTls> {
        let table = self.table;
        let mut complete = true;
        for key in ["tls_cert_file", "tls_key_ref"] {
            if table.text(key).is_empty() {
                self.error(key, format!("listener `{name}` speaks tls, so it needs `{key}`"));
                complete = false;
            }
        }
        let clients = match table.text("tls_client_certs") {
            "request" => AskClients::Request,
            "require" => AskClients::Require,
            _ => AskClients::Ignore,
        };
        if clients != AskClients::Ignore && table.text("tls_client_ca_file").is_empty() {
            let message = format!(
                "listener `{name}` asks peers for certificates, so it needs `tls_client_ca_file`"
            );
            self.error("tls_client_certs", message);
            complete = false;
        }
        // A reference of the wrong form was reported with the schema.
        if !complete || secret::check_own(table.text("tls_key_ref")).is_err() {
            return None;
        }
        let source = TlsSource {
            certificate: table.text("tls_cert_file").to_owned(),
            key: table.text("tls_key_ref").to_owned(),
            min_version: match table.text("tls_min_version") {
                "1.3" => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            },
            clients,
            client_authorities: table.text("tls_client_ca_file").to_owned(),
        };
        let key_of = |part| match part {
            TlsPart::Certificate => "tls_cert_file",
            TlsPart::Key => "tls_key_ref",
            TlsPart::Authorities => "tls_client_ca_file",
        };
        match source.read(secrets) {
            Ok(settings) => {
                let of_key = secret::advice(secrets, &source.key).map(|own| ("tls_key_ref", own));
                let of_time = tls::advice(&settings.credentials).map(|own| ("tls_cert_file", own));
                for (key, advice) in of_key.into_iter().chain(of_time) {
                    let at = table.node(key).map_or(self.node.at, |node| node.at);
                    let message = format!("`{key}`: {advice}");
                    self.problems.push(Problem::warning(self.sources, at, message));
                }
                Some(ListenerTls { source, settings })
            }
            Err(fault) => {
                let key = key_of(fault.part);
                self.error(key, format!("`{key}`: {}", fault.message));
                None
            }
        }
    }
}

/// True when both cannot be bound: a transport in common, and the same port at the same address or
/// at every address of the family.
fn collide(a: &Listener, b: &Listener) -> bool {
    // To the system, TCP and TLS are one.
    let datagrams = |listener: &Listener| listener.transports.contains(&Transport::Udp);
    let streams = |listener: &Listener| listener.transports.iter().any(|t| t.is_reliable());
    let (one, two) = (a.bind, b.bind);
    let everywhere = one.ip().is_unspecified() || two.ip().is_unspecified();
    let same_address = one.ip() == two.ip() || (everywhere && one.is_ipv4() == two.is_ipv4());
    one.port() != 0
        && one.port() == two.port()
        && same_address
        && ((datagrams(a) && datagrams(b)) || (streams(a) && streams(b)))
}

fn check_listener_name(text: &str) -> Result<(), String> {
    text.parse::<ListenerName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn check_socket(text: &str) -> Result<(), String> {
    let good = text.parse::<SocketAddr>().is_ok();
    if good { Ok(()) } else { Err(format!("{text:?} is no address and port: write 0.0.0.0:5060")) }
}

fn check_address(text: &str) -> Result<(), String> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(()),
        _ => Err(format!("{text:?} is no IP address a peer can reach")),
    }
}

pub(crate) fn check_host_port(text: &str) -> Result<(), String> {
    let reachable = |host: &str| {
        host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|a| !a.is_unspecified())
            || (host.parse::<IpAddr>().is_err() && is_host(host))
    };
    match host_port(text) {
        Some((host, _)) if reachable(&host) => Ok(()),
        _ => Err(format!("{text:?} is no host a peer can reach: write host or host:port")),
    }
}

fn is_host(host: &str) -> bool {
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    !host.is_empty() && host.len() <= 253 && host.bytes().all(host_byte)
}

fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

pub(crate) fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((url_host(address.ip()), Some(address.port())));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((url_host(address), None));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((text.to_owned(), None)),
    }
}
