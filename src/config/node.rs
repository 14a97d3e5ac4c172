//! `NodeConfig`: what `tandem.toml` says of this node.

use crate::config::agents;
use crate::config::agents::AGENTS;
use crate::config::http;
use crate::config::http::HTTP;
use crate::config::http::HttpSettings;
use crate::config::listener;
use crate::config::listener::LISTENER;
use crate::config::otlp;
use crate::config::otlp::OTLP;
use crate::config::otlp::OtlpSettings;
use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::recordings;
use crate::config::recordings::RECORDINGS;
use crate::config::recordings::RecordingSettings;
use crate::config::schema::Built;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::schema::nearest;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tls::TlsSource;
use crate::config::tree::Table;
use crate::config::tree::Value;
use crate::config::tree::View;
use crate::config::trunk_text;
use crate::config::webhooks;
use crate::config::webhooks::WEBHOOKS;
use crate::config::webhooks::WebhookSettings;
use crate::routing::admission::NodeLimits;
use crate::routing::trunk::Trunk;
use crate::types::name::ListenerName;
use crate::types::reach::Reach;
use crate::types::secret::Secret;
use crate::types::tls::TlsServerSettings;
use crate::types::transport::Transport;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// The defaults of `tandem.toml`; an array of tables has its defaults in code.
pub(crate) const DEFAULTS: &str = r#"data_dir = "data"
region = ""

[media]
ports = [16384, 32767]
threads = 0
realtime = true

[sip]
shards = 0

[http]
bind = "127.0.0.1:8080"
tls_cert_file = ""
tls_key_ref = ""
cors_origins = []
public_url = ""
requests_per_s = 100

[dns]
servers = []

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
keep_s = 604800

[secrets]
key_ref = ""
old_key_ref = ""

[recordings]
dir = ""
key_ref = ""
old_key_ref = ""

[agents]
allow_networks = []

[webhooks]
allow_http = false
allow_networks = []
timeout_ms = 10000
retry_first_ms = 1000
retry_max_ms = 600000
attempts_max = 150
concurrency = 4
keep_s = 604800

[otlp]
endpoint = ""
authorization_ref = ""
service_name = "tandem"
sample_percent = 100
"#;

pub(crate) const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: Built::Yes }
}

/// `tandem.toml`.
pub(crate) const NODE: &[Key] = &[
    key("database", Kind::Secret(check_database)),
    key("data_dir", Kind::Parsed(not_empty)),
    key("region", Kind::Parsed(trunk_text::country_or_empty)),
    key("listener", Kind::Tables(LISTENER)),
    key("media", Kind::Table(MEDIA)),
    key("sip", Kind::Table(&[key("shards", Kind::Integer(0, 256))])),
    key("http", Kind::Table(HTTP)),
    key("dns", Kind::Table(&[key("servers", Kind::ParsedList(check_dns_server))])),
    key("limits", Kind::Table(LIMITS)),
    key("log", Kind::Table(LOG)),
    key("profiles", Kind::Table(&[key("dir", Kind::Parsed(not_empty))])),
    key("drain", Kind::Table(&[key("limit_s", Kind::Integer(0, 86_400))])),
    key("trace", Kind::Table(TRACE)),
    key("secrets", Kind::Table(SECRETS)),
    key("recordings", Kind::Table(RECORDINGS)),
    key("agents", Kind::Table(AGENTS)),
    key("webhooks", Kind::Table(WEBHOOKS)),
    key("otlp", Kind::Table(OTLP)),
];

const MEDIA: &[Key] = &[
    key("ports", Kind::Range(1024, 65_535)),
    key("threads", Kind::Integer(0, 256)),
    key("realtime", Kind::Flag),
];

const LIMITS: &[Key] =
    &[key("calls", Kind::Integer(0, 1_000_000)), key("cps", Kind::Integer(0, 1_000_000))];

const TRACE: &[Key] = &[
    key("megabytes", Kind::Integer(0, 65_536)),
    key("life_s", Kind::Integer(1, 604_800)),
    key("keep_s", Kind::Integer(0, 31_536_000)),
];

const SECRETS: &[Key] = &[
    key("key_ref", Kind::Secret(secret::check_own)),
    key("old_key_ref", Kind::Secret(secret::check_own)),
];

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
    /// Where and how HTTP is served.
    pub http: HttpSettings,
    /// The DNS servers that are asked for gateways and callers; none: those of the system.
    pub dns_servers: Vec<SocketAddr>,
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
    /// How long the signalling of a call that ended is kept in the database; zero: it is not.
    pub trace_keep: Duration,
    /// The keys under which secrets are sealed in the database: the first seals, all open.
    pub seal_keys: Vec<Secret<String>>,
    /// Where recordings are, and the keys they are encrypted under.
    pub recordings: RecordingSettings,
    /// What addresses of agents may lead to.
    pub agents: Reach,
    /// How tenants are told of their calls.
    pub webhooks: WebhookSettings,
    /// The collector of traces; `None`: calls are not traced.
    pub otlp: Option<OtlpSettings>,
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
    /// UDP sockets that share the port; `None`: one for each processor, up to four.
    pub udp_sockets: Option<usize>,
    /// Traffic class of SIP from it, and of connections of ours that name it (RFC 2474); 0: the system's.
    pub dscp: u8,
    /// What it shows over TLS; there when it speaks TLS.
    pub tls: Option<ListenerTls>,
}

/// What a listener shows over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Where it comes from.
    pub source: TlsSource,
    /// What it was when the configuration was read.
    pub settings: TlsServerSettings,
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
    let listeners = listener::read(view, sources, secrets, problems);
    check_ports(view, sources, problems);
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
        http: http::read(view, sources, secrets, problems),
        dns_servers: view.texts("dns.servers").filter_map(dns_server).collect(),
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
        trace_keep: Duration::from_secs(view.number("trace.keep_s")),
        seal_keys: keys(view, sources, secrets, (&SEALING, &mut *problems)),
        recordings: recordings::read(
            view,
            Path::new(view.text("data_dir")),
            keys(view, sources, secrets, (&RECORDING, &mut *problems)),
        ),
        agents: agents::read(view),
        webhooks: webhooks::read(view, sources, problems),
        otlp: otlp::read(view, sources, secrets, problems),
    }
}

const SEALING: [&str; 2] = ["secrets.key_ref", "secrets.old_key_ref"];
const RECORDING: [&str; 2] = ["recordings.key_ref", "recordings.old_key_ref"];

/// The keys that references at these paths lead to.
fn keys(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    (paths, problems): (&[&'static str; 2], &mut Vec<Problem>),
) -> Vec<Secret<String>> {
    let mut keys = Vec::new();
    for path in *paths {
        // A reference of the wrong form was reported with the schema.
        let Some(text) = view.given(path).filter(|text| secret::check_own(text).is_ok()) else {
            continue;
        };
        let form = "holds no key: 32 random bytes in base64 (openssl rand -base64 32)";
        let why = match secret::resolve(secrets, text) {
            Ok(key) if is_seal_key(key.expose()) => {
                keys.push(key);
                continue;
            }
            Ok(_) => format!("{text} {form}"),
            Err(why) => why,
        };
        if let Some(node) = view.node(path) {
            problems.push(Problem::error(sources, node.at, format!("`{path}`: {why}")));
        }
    }
    keys
}

fn is_seal_key(text: &str) -> bool {
    STANDARD.decode(text.trim()).is_ok_and(|bytes| bytes.len() == 32)
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

/// A DNS server: an address, with a port where it is not DNS's own.
fn dns_server(text: &str) -> Option<SocketAddr> {
    let own_port = || text.parse().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let server: SocketAddr = text.parse().ok().or_else(own_port)?;
    (!server.ip().is_unspecified() && server.port() > 0).then_some(server)
}

fn check_dns_server(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no DNS server: write 192.0.2.53 or 192.0.2.53:5353");
    dns_server(text).map(drop).ok_or_else(wrong)
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

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;
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

pub(crate) fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn check_database(text: &str) -> Result<(), String> {
    let reference = !text.is_empty() && secret::check_own(text).is_ok();
    if text == "private" || is_postgres(text) || reference {
        return Ok(());
    }
    Err("write \"private\", \"postgres://...\", \"env:NAME\" or \"file:PATH\"".to_owned())
}
