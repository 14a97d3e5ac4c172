//! `NodeConfig`: what `tandem.toml` says of this node.

use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::schema::Built;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::schema::nearest;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tree::Node;
use crate::config::tree::Table;
use crate::config::tree::Value;
use crate::config::tree::View;
use crate::routing::admission::NodeLimits;
use crate::routing::trunk::Trunk;
use crate::types::name::ListenerName;
use crate::types::secret::Secret;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The defaults of `tandem.toml`; an array of tables has its defaults in code.
pub(crate) const DEFAULTS: &str = r#"data_dir = "data"

[media]
ports = [16384, 32767]
threads = 0
realtime = true

[sip]
shards = 0

[http]
bind = "127.0.0.1:8080"

[limits]
calls = 0
cps = 0

[log]
level = "info"
format = "auto"

[profiles]
dir = "sip-profiles"

[drain]
limit_s = 300

[trace]
megabytes = 32
life_s = 900
"#;

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: Built::Yes }
}

/// `tandem.toml`.
pub(crate) const NODE: &[Key] = &[
    key("database", Kind::Secret(check_database)),
    key("data_dir", Kind::Parsed(not_empty)),
    key("listener", Kind::Tables(LISTENER)),
    key("media", Kind::Table(MEDIA)),
    key("sip", Kind::Table(&[key("shards", Kind::Integer(0, 256))])),
    key("http", Kind::Table(&[key("bind", Kind::Parsed(check_socket))])),
    key("limits", Kind::Table(LIMITS)),
    key("log", Kind::Table(LOG)),
    key("profiles", Kind::Table(&[key("dir", Kind::Parsed(not_empty))])),
    key("drain", Kind::Table(&[key("limit_s", Kind::Integer(0, 86_400))])),
    key("trace", Kind::Table(TRACE)),
];

/// `[[listener]]`.
pub(crate) const LISTENER: &[Key] = &[
    key("name", Kind::Parsed(check_listener_name)),
    key("bind", Kind::Parsed(check_socket)),
    Key {
        name: "transports",
        kind: Kind::Choices(&["udp", "tcp", "tls"]),
        built: Built::Only(&["udp", "tcp"]),
    },
    key("advertise_sip", Kind::Parsed(check_host_port)),
    key("advertise_rtp", Kind::Parsed(check_address)),
    key("unknown_source", Kind::Choice(&["drop", "refuse"])),
];

const MEDIA: &[Key] = &[
    key("ports", Kind::Range(1024, 65_535)),
    key("threads", Kind::Integer(0, 256)),
    key("realtime", Kind::Flag),
];

const LIMITS: &[Key] =
    &[key("calls", Kind::Integer(0, 1_000_000)), key("cps", Kind::Integer(0, 1_000_000))];

const TRACE: &[Key] =
    &[key("megabytes", Kind::Integer(0, 65_536)), key("life_s", Kind::Integer(1, 604_800))];

const LOG: &[Key] = &[
    key("level", Kind::Choice(&["error", "warn", "info", "debug", "trace"])),
    key("format", Kind::Choice(&["auto", "text", "json"])),
];

/// What this node binds, where it keeps things, and what it may carry.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The database; `None`: none is configured, which `run` refuses.
    pub database: Option<Database>,
    /// Where the journal, the routing table's file and the private database are.
    pub data_dir: PathBuf,
    /// Where SIP is heard.
    pub listeners: Vec<Listener>,
    /// Media.
    pub media: MediaSettings,
    /// SIP shards; `None`: half the processors.
    pub sip_shards: Option<usize>,
    /// Where HTTP is heard.
    pub http_bind: SocketAddr,
    /// Limits of the node.
    pub limits: NodeLimits,
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// How logs look.
    pub log_format: LogFormat,
    /// How long running calls may go on at shutdown.
    pub drain_limit: Duration,
    /// Bytes of signalling kept for explaining calls; 0: none.
    pub trace_bytes_max: usize,
    /// How long signalling is kept after a dialog's last message.
    pub trace_life: Duration,
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A PostgreSQL of its own in the data directory.
    Private,
    /// The PostgreSQL at a URL.
    Url(Secret<String>),
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// Where SIP is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name; trunks refer to it.
    pub name: ListenerName,
    /// The address it binds; port 0: any free one.
    pub bind: SocketAddr,
    /// What it speaks.
    pub transports: Vec<Transport>,
    /// The host peers reach it at, for Via and Contact.
    pub advertise_host: String,
    /// The port peers reach it at; `None`: the port it is bound to.
    pub advertise_port: Option<u16>,
    /// The address peers send media to.
    pub advertise_rtp: IpAddr,
    /// What becomes of messages of sources no trunk knows.
    pub unknown_source: UnknownSource,
}

/// What becomes of messages of sources no trunk knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSource {
    /// Silence.
    Drop,
    /// 403.
    Refuse,
}

/// Media of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSettings {
    /// RTP and RTCP ports.
    pub ports: RangeInclusive<u16>,
    /// Media threads; `None`: half the processors.
    pub threads: Option<usize>,
    /// Ask for real-time scheduling.
    pub realtime: bool,
}

/// Reads the checked tree of `tandem.toml`; reports what is wrong only as a whole.
pub(crate) fn build(
    tree: &Table,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> NodeConfig {
    let view = View(tree);
    let optional = |path| Some(view.number::<usize>(path)).filter(|count| *count > 0);
    let listeners = listeners(view, sources, problems);
    check_ports(view, sources, problems);
    let http_bind = view.text("http.bind").parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    if let Some(node) = view.node("http.bind").filter(|_| !http_bind.ip().is_loopback()) {
        let message = "`http.bind` is not on loopback: metrics and health are open to the network";
        problems.push(Problem::warning(sources, node.at, message));
    }
    let (first, last) = ports(view);
    NodeConfig {
        database: database(view, sources, secrets, problems),
        data_dir: view.text("data_dir").into(),
        listeners,
        media: MediaSettings {
            ports: first..=last,
            threads: optional("media.threads"),
            realtime: view.flag("media.realtime"),
        },
        sip_shards: optional("sip.shards"),
        http_bind,
        limits: NodeLimits {
            calls_max: view.number("limits.calls"),
            cps_max: view.number("limits.cps"),
        },
        log_level: view.text("log.level").to_owned(),
        log_format: match view.text("log.format") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        },
        drain_limit: Duration::from_secs(view.number("drain.limit_s")),
        trace_bytes_max: view.number::<usize>("trace.megabytes") << 20,
        trace_life: Duration::from_secs(view.number("trace.life_s")),
    }
}

fn database(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> Option<Database> {
    let text = view.given("database").filter(|text| check_database(text).is_ok())?;
    if text == "private" {
        return Some(Database::Private);
    }
    if is_postgres(text) {
        return Some(Database::Url(Secret::new(text.to_owned())));
    }
    if let Some((advice, node)) = secret::advice(secrets, text).zip(view.node("database")) {
        problems.push(Problem::warning(sources, node.at, format!("`database`: {advice}")));
    }
    let why = match secret::resolve(secrets, text) {
        Ok(url) if is_postgres(url.expose()) => return Some(Database::Url(url)),
        Ok(_) => format!("{text} holds no postgres:// URL"),
        Err(why) => why,
    };
    if let Some(node) = view.node("database") {
        problems.push(Problem::error(sources, node.at, format!("`database`: {why}")));
    }
    None
}

fn listeners(view: View<'_>, sources: &Sources, problems: &mut Vec<Problem>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, (node, table)) in view.tables("listener").enumerate() {
        let before = problems.len();
        let Some(listener) = listener(index, (node, table), sources, problems) else {
            continue;
        };
        let at = |key| table.node(key).map_or(node.at, |node| node.at);
        if listeners.iter().any(|other| other.name == listener.name) {
            let message = format!("a second listener with the name `{}`", listener.name);
            problems.push(Problem::error(sources, at("name"), message));
        }
        if let Some(other) = listeners.iter().find(|other| collide(other, &listener)) {
            let message = format!("listener `{}` binds this address too", other.name);
            problems.push(Problem::error(sources, at("bind"), message));
        }
        if problems.len() == before {
            listeners.push(listener);
        }
    }
    listeners
}

fn listener(
    index: usize,
    (node, table): (&Node, View<'_>),
    sources: &Sources,
    problems: &mut Vec<Problem>,
) -> Option<Listener> {
    let mut error = |key: &str, message: String| {
        let at = table.node(key).map_or(node.at, |node| node.at);
        problems.push(Problem::error(sources, at, message));
    };
    for key in ["name", "bind"] {
        if table.node(key).is_none() {
            error(key, format!("`listener[{index}]` has no `{key}`"));
        }
    }
    // What does not parse was reported with the schema.
    let name = table.text("name").parse::<ListenerName>().ok()?;
    let bind = table.text("bind").parse::<SocketAddr>().ok()?;
    let transports: Vec<Transport> = match table.node("transports") {
        None => vec![Transport::Udp, Transport::Tcp],
        Some(_) => table.texts("transports").filter_map(|text| text.parse().ok()).collect(),
    };
    if transports.is_empty() {
        error("transports", format!("listener `{name}` speaks nothing"));
    }
    if transports.contains(&Transport::Tls) {
        let message = format!("listener `{name}`: transport tls is not supported in this version");
        error("transports", message);
    }
    let reachable = Some(bind.ip()).filter(|address| !address.is_unspecified());
    let advertised = table.given("advertise_sip").and_then(host_port);
    let (host, port) = match (advertised, reachable) {
        (Some(advertised), _) => advertised,
        (None, Some(address)) => (url_host(address), None),
        (None, None) => {
            let message = format!(
                "listener `{name}` binds every address, so it needs `advertise_sip`: the address \
                 peers reach it at"
            );
            error("bind", message);
            return None;
        }
    };
    // The addresses of signalling and media are one unless they are said to differ.
    let host_address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let rtp = table.given("advertise_rtp").and_then(|text| text.parse().ok());
    let Some(advertise_rtp) = rtp.or(host_address).or(reachable) else {
        let message = format!(
            "listener `{name}` binds every address and `advertise_sip` is a name, so it needs \
             `advertise_rtp`: the address peers send media to"
        );
        error("bind", message);
        return None;
    };
    Some(Listener {
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
    })
}

/// True when both cannot be bound: a transport in common, and the same port at the same address or
/// at every address of the family.
fn collide(a: &Listener, b: &Listener) -> bool {
    let (one, two) = (a.bind, b.bind);
    let everywhere = one.ip().is_unspecified() || two.ip().is_unspecified();
    let same_address = one.ip() == two.ip() || (everywhere && one.is_ipv4() == two.is_ipv4());
    one.port() != 0
        && one.port() == two.port()
        && same_address
        && a.transports.iter().any(|transport| b.transports.contains(transport))
}

fn ports(view: View<'_>) -> (u16, u16) {
    let mut ports = view.list("media.ports").iter().filter_map(|node| match node.value {
        Value::Integer(port) => u16::try_from(port).ok(),
        _ => None,
    });
    match (ports.next(), ports.next()) {
        (Some(first), Some(last)) => (first, last),
        _ => (16_384, 32_767),
    }
}

fn check_ports(view: View<'_>, sources: &Sources, problems: &mut Vec<Problem>) {
    let Some(node) = view.node("media.ports") else { return };
    let (first, last) = ports(view);
    if first % 2 == 1 {
        let message = "`media.ports` begins with an even port: RTP is even, its RTCP the next";
        problems.push(Problem::error(sources, node.at, message));
    }
    let pairs = (i64::from(last) - i64::from(first) + 1) / 2;
    let calls = view.integer("limits.calls");
    if view.list("media.ports").is_empty() || pairs < 1 {
        let message = "`media.ports` holds at least two ports: one call needs two";
        problems.push(Problem::error(sources, node.at, message));
    } else if calls > 0 && pairs < calls {
        let message =
            format!("`media.ports` has room for {pairs} calls, `limits.calls` is {calls}");
        problems.push(Problem::warning(sources, node.at, message));
    } else if pairs < PORT_PAIRS_FEW {
        let message = format!("`media.ports` has room for {pairs} calls only");
        problems.push(Problem::warning(sources, node.at, message));
    }
}

/// Below so many calls a port range looks like a mistake.
const PORT_PAIRS_FEW: i64 = 50;

/// Each trunk's listener is one of the node's.
pub(crate) fn check_listeners_of(
    trunks: &[Trunk],
    node: &NodeConfig,
    place: impl Fn(&Trunk) -> Problem,
    problems: &mut Vec<Problem>,
) {
    for trunk in trunks {
        let Some(name) = &trunk.listener else { continue };
        if node.listeners.iter().any(|listener| listener.name == *name) {
            continue;
        }
        let names = node.listeners.iter().map(|listener| listener.name.as_str());
        let hint = nearest(name.as_str(), names)
            .map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        let mut problem = place(trunk);
        problem.message = format!("`network.listener`: there is no listener `{name}`{hint}");
        problems.push(problem);
    }
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn check_database(text: &str) -> Result<(), String> {
    let reference = !text.is_empty() && secret::check(text).is_ok();
    if text == "private" || is_postgres(text) || reference {
        return Ok(());
    }
    Err("write \"private\", \"env:NAME\" or \"postgres://...\"".to_owned())
}

fn check_listener_name(text: &str) -> Result<(), String> {
    text.parse::<ListenerName>().map(|_| ()).map_err(|error| error.to_string())
}

fn check_socket(text: &str) -> Result<(), String> {
    let good = text.parse::<SocketAddr>().is_ok();
    if good { Ok(()) } else { Err(format!("{text:?} is no address and port: write 0.0.0.0:5060")) }
}

fn check_address(text: &str) -> Result<(), String> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(()),
        _ => Err(format!("{text:?} is no IP address a peer can reach")),
    }
}

fn check_host_port(text: &str) -> Result<(), String> {
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

fn host_port(text: &str) -> Option<(String, Option<u16>)> {
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
