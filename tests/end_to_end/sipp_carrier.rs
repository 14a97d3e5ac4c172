//! SIPp as a carrier's gateway: what it is to do with the calls of the switch.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::key;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::sipp::Report;
use crate::sipp::Running;
use crate::sipp::Sipp;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;

/// How long a carrier keeps calls that it ends itself.
const HOLD_MS: &str = "200";

/// A gateway that runs. Dropping it ends it.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    scenario: String,
    running: Running,
}

impl Gateway {
    /// SIPp with a scenario, for so many calls, at an address of its own.
    pub(crate) async fn new(scenario: &str, calls: u32) -> Self {
        Self::with(scenario, calls, &[], &[]).await
    }

    /// A gateway that refuses so many calls so; `header` is one more of its response.
    pub(crate) async fn refusing(calls: u32, status: &str, header: &str) -> Self {
        let words = [("status", status), ("header", header)];
        Self::with("carrier-refuses", calls, &words, &[]).await
    }

    /// The same as [`Gateway::new`] with words for the gaps of the scenario, and other arguments of
    /// SIPp.
    pub(crate) async fn with(
        scenario: &str,
        calls: u32,
        words: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let local = own_address();
        let address = SocketAddr::new(local, 5060);
        // Whom SIPp would call: nobody.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let calls = calls.to_string();
        let sipp = Sipp::new(scenario, local, nobody, "carrier")
            .args(&["-p", "5060", "-d", HOLD_MS, "-m", &calls])
            // A repeated message where none is expected is no reason to give a call up.
            .args(&["-default_behaviors", "all,-abortunexp"])
            .args(args);
        let filled = words.iter().fold(sipp, |sipp, (gap, word)| sipp.word(gap, word));
        let running = filled.start();
        let tables = if args.contains(&"t1") { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
        wait_for("SIPp listens", async || is_bound(address, tables).then_some(())).await;
        Self { address, scenario: scenario.to_owned(), running }
    }

    /// It had all its calls, and each went as its scenario says.
    pub(crate) async fn finishes(self) -> Report {
        let report = self.running.report().await;
        let (exit, failed) = (report.exit, report.failed);
        assert!(exit == Some(0) && failed == 0, "{}: {exit:?}: {}", self.scenario, report.text);
        report
    }
}

/// Whether a socket of this machine has the address, in one of these tables of the kernel.
pub(crate) fn is_bound(address: SocketAddr, tables: [&str; 2]) -> bool {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
    let local = format!("{:08X}:{:04X} ", u32::from_ne_bytes(ip.octets()), address.port());
    tables.iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        text.lines().any(|line| line.split_once(": ").is_some_and(|(_, row)| row.contains(&local)))
    })
}

/// An address of this machine where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::new(own_address(), 5060)
}

/// The gateways of a trunk, by these URIs: the first is asked first, by the usual strategy.
pub(crate) fn in_order(uris: &[String]) -> Value {
    let ranked = uris.iter().zip(1..);
    let row = |(uri, rank): (&String, u16)| json!({"name": format!("g{rank}"), "uri": uri, "dns": "fixed", "priority": rank});
    ranked.map(row).collect()
}

/// The same, all of one priority.
pub(crate) fn alike(gateways: &[Gateway]) -> Value {
    let ranked = gateways.iter().zip(1..);
    let row = |(gateway, rank): (&Gateway, u16)| {
        json!({"name": format!("g{rank}"), "uri": format!("sip:{}", gateway.address),
               "dns": "fixed", "priority": 1})
    };
    ranked.map(row).collect()
}

/// A trunk by which the tenant may call, over these gateways; it takes no calls.
pub(crate) fn trunk(id: u128, gateways: Value, more: Value) -> String {
    let mut overrides = json!({
        "inbound": {"enabled": false},
        "outbound": {"enabled": true, "gateway": gateways},
        "calls": {"no_reply_timeout_ms": 20_000},
        "failover": {"gateway_cooldown_s": 600},
        "security": {"allow_destinations": ["+1555"], "max_calls_per_destination_per_min": 0},
        "caller_id": {"default": NUMBER},
    });
    carrier::merge(&mut overrides, more);
    rows::trunk_with(id, overrides)
}

/// The URI of a gateway.
pub(crate) fn by_udp(address: SocketAddr) -> String {
    format!("sip:{address}")
}

/// A node whose tenant calls by these trunks, of which one must have the identity 4.
pub(crate) async fn node(trunks: Vec<String>) -> (Node, String) {
    let node = Home::new().start().await;
    let mut all = trunks;
    all.extend([
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ]);
    node.put(&all).await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, key)
}

/// Places a call by a trunk.
pub(crate) async fn dial(node: &Node, key: &str, trunk: u128) -> String {
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": format!("trunk-{trunk}")});
    place(node, key, wish).await
}

/// The closed record of a call, and the steps of its decision.
pub(crate) async fn outcome(node: &Node, key: &str, call: &str) -> (Value, String) {
    let record = shown(node, 1, call, key).await;
    let steps = steps(&record);
    (record, steps)
}
