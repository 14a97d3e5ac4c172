//! `[webhooks]` of `tandem.toml`: what URLs of tenants may reach, and how patiently they are told of their calls.

use crate::config::node::key;
use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::tree::View;
use crate::config::trunk_text;
use crate::types::reach::Reach;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// `[webhooks]`.
pub(crate) const WEBHOOKS: &[Key] = &[
    key("allow_http", Kind::Flag),
    key("allow_networks", Kind::ParsedList(trunk_text::network)),
    key("timeout_ms", Kind::Integer(100, 60_000)),
    key("retry_first_ms", Kind::Integer(10, 3_600_000)),
    key("retry_max_ms", Kind::Integer(10, 86_400_000)),
    key("attempts_max", Kind::Integer(1, 10_000)),
    key("concurrency", Kind::Integer(1, 64)),
    key("keep_s", Kind::Integer(60, 31_536_000)),
];

/// How tenants are told of their calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// What their URLs may reach.
    pub reach: Reach,
    /// Longest wait for the answer to one event.
    pub timeout: Duration,
    /// Pause after the first failure; it doubles with each further one.
    pub retry_first: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// Attempts after which an event is a dead letter.
    pub attempts_max: u32,
    /// Calls told to one endpoint at once.
    pub concurrency: i32,
    /// How long events that were told, or given up, can be replayed.
    pub keep: Duration,
}

impl Default for WebhookSettings {
    /// Those of a file that says nothing.
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            timeout: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(600),
            attempts_max: 150,
            concurrency: 4,
            keep: Duration::from_secs(604_800),
        }
    }
}

pub(crate) fn read(
    view: View<'_>,
    sources: &Sources,
    problems: &mut Vec<Problem>,
) -> WebhookSettings {
    let millis = |path| Duration::from_millis(view.number(path));
    let (first, most) = (millis("webhooks.retry_first_ms"), millis("webhooks.retry_max_ms"));
    if first > most
        && let Some(node) = view.node("webhooks.retry_max_ms")
    {
        let message = "`webhooks.retry_max_ms` is shorter than `webhooks.retry_first_ms`";
        problems.push(Problem::error(sources, node.at, message));
    }
    // One that is none was reported with the schema.
    let network =
        |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let networks = view.texts("webhooks.allow_networks").filter_map(network);
    WebhookSettings {
        reach: Reach { http: view.flag("webhooks.allow_http"), networks: networks.collect() },
        timeout: millis("webhooks.timeout_ms"),
        retry_first: first,
        retry_max: most,
        attempts_max: view.number("webhooks.attempts_max"),
        concurrency: view.number("webhooks.concurrency"),
        keep: Duration::from_secs(view.number("webhooks.keep_s")),
    }
}
