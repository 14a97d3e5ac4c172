//! Calls through a proxy that stays in their path: Kamailio, with SIPp beyond it in a private network, or rsipstack.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::independent::Peer;
use crate::independent::recorded;
use crate::kamailio::Kamailio;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;
use crate::sipp::Running;
use crate::sipp::Sipp;
use crate::sipp_carrier::is_bound;
use rsipstack::dialog::dialog::TerminatedReason;
use rsipstack::sip::StatusCode;
use serde_json::json;
use std::net::IpAddr;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;

/// A number whose agent is never ready.
const SLOW: &str = "+15550111";

/// A node behind a proxy, and the address of the far party beyond that.
struct Behind {
    node: Node,
    kamailio: Kamailio,
    far: IpAddr,
    key: String,
}

impl Behind {
    /// With the far party at an address of its own, for SIPp.
    async fn start(transport: &str, far_transport: &str) -> Self {
        let far = SocketAddr::new(own_address(), 5060);
        Self::before(far, transport, far_transport).await
    }

    /// The proxy reaches the far party over `far_transport`; calls out reach the proxy over `transport`.
    async fn before(far: SocketAddr, transport: &str, far_transport: &str) -> Self {
        let node =
            Home::with("127.0.0.1:0", 100, "transports = [\"udp\", \"tcp\"]\n").start().await;
        let configuration = include_str!("proxy.cfg")
            .replace("SWITCH", &node.sip().to_string())
            .replace("FAR", &format!("{far};transport={far_transport}"));
        let kamailio = Kamailio::start(&configuration).await;
        let proxy = kamailio.address;
        let gateway = json!({"name": "g1", "uri": format!("sip:{proxy};transport={transport}")});
        let more = json!({
            "inbound": {"transports": ["udp", "tcp"]},
            "outbound": {"gateway": [gateway]},
        });
        let again = json!({"kind": "tone", "reinvite_after_ms": 500});
        let waits = json!({"kind": "tone", "answer": {"after_ms": 60_000}});
        node.put(&[
            carrier::trunk(4, &format!("{}/32", proxy.ip()), &[], more),
            carrier::tenant(1, 4),
            rows::profile(2, 1, again),
            rows::number(3, 1, 2, NUMBER),
            rows::profile(5, 1, waits),
            rows::number(6, 1, 5, SLOW),
        ])
        .await;
        let key = key(&node, 1, KeyRole::Operator).await;
        Self { node, kamailio, far: far.ip(), key }
    }

    /// SIPp as the far party, at whose proxy it is.
    fn sipp(&self, scenario: &str, number: &str) -> Sipp {
        Sipp::new(scenario, self.far, self.kamailio.address, number).args(&["-p", "5060"])
    }

    /// Waits until the proxy has sent on the ACK of the far party's re-INVITE: what is left is the end.
    async fn until_talked_out(&self) {
        let ack = format!("ACK 2 {}", self.far);
        wait_for("the last ACK", async || self.routed().contains(&ack).then_some(())).await;
    }

    async fn hang_up(&self, call: &str) {
        let path = calls(1, &format!("/{call}/hangup"));
        assert_eq!(self.node.post(&path, &self.key, &json!({})).await.status, 202);
    }

    /// Requests within calls that went through the proxy: method, number, and from where.
    fn routed(&self) -> Vec<String> {
        let lines = self.kamailio.noted("ROUTED");
        let short = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {} {}", words[0], words[1], words[3])
        };
        lines.iter().map(short).collect()
    }
}

/// What must have gone through the proxy in a call in which both sides changed it, and nothing past it.
fn check_way(behind: &Behind, hangs_up: IpAddr, asks_first: IpAddr) {
    let (switch, far) = (behind.node.sip().ip(), behind.far);
    let routed = behind.routed();
    let went = |method: &str, from: IpAddr| {
        let fits = |line: &&String| {
            line.starts_with(&format!("{method} ")) && line.ends_with(&format!(" {from}"))
        };
        routed.iter().filter(fits).count()
    };
    for from in [switch, far] {
        assert!(went("INVITE", from) >= 1, "re-INVITE of {from}: {routed:?}");
        assert!(went("ACK", from) >= 1, "ACK of {from}: {routed:?}");
    }
    let first = format!("ACK 1 {asks_first}");
    assert!(routed.contains(&first), "{first}: {routed:?}");
    assert!(went("BYE", hangs_up) >= 1, "BYE of {hangs_up}: {routed:?}");
    assert!(behind.kamailio.noted("ASTRAY").is_empty(), "{}", behind.kamailio.log());
}

async fn succeeded(far: Running) {
    let report = far.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
}

/// The far party calls; who hangs up is `scenario` or `switch`.
async fn called_by_far(transport: &str, who: &str) {
    let behind = Behind::start("udp", "udp").await;
    let keys = ["-key", "way", transport, "-key", "who", who];
    let far = behind.sipp("proxied-caller", NUMBER).args(&keys).start();
    if who == "switch" {
        behind.until_talked_out().await;
        let open = "FROM calls WHERE ended_at IS NULL";
        wait_for("the record is stored", async || {
            (behind.node.count(&format!("SELECT count(*) {open}")).await == 1).then_some(())
        })
        .await;
        let call =
            postgres::text(&behind.node.database(), &format!("SELECT id::text {open}")).await;
        behind.hang_up(&call).await;
    }
    succeeded(far).await;
    let switch = behind.node.sip().ip();
    check_way(&behind, if who == "switch" { switch } else { behind.far }, behind.far);
}

#[tokio::test]
async fn calls_in_through_a_proxy_are_changed_and_ended_along_its_record_route() {
    tokio::join!(called_by_far("udp", "scenario"), called_by_far("tcp", "switch"));
}

/// The switch calls the far party over `transport`, and the proxy goes on over the other.
async fn calls_far(transport: &str, far_transport: &str, who: &str) {
    let behind = Behind::start(transport, far_transport).await;
    let sipp = behind.sipp("proxied-callee", CALLED).args(&["-key", "who", who]);
    let far = if far_transport == "tcp" { sipp.over_tcp() } else { sipp }.start();
    let address = SocketAddr::new(behind.far, 5060);
    let listens = || is_bound(address, [far_transport, far_transport]);
    wait_for("SIPp listens", async || listens().then_some(())).await;
    let call = place(&behind.node, &behind.key, json!({"to": CALLED})).await;
    if who == "switch" {
        behind.until_talked_out().await;
        behind.hang_up(&call).await;
    }
    succeeded(far).await;
    let record = shown(&behind.node, 1, &call, &behind.key).await;
    assert_eq!(record["cause"], "normal");
    let switch = behind.node.sip().ip();
    check_way(&behind, if who == "switch" { switch } else { behind.far }, switch);
}

#[tokio::test]
async fn calls_out_through_a_proxy_are_changed_and_ended_along_its_record_route() {
    tokio::join!(calls_far("udp", "tcp", "switch"), calls_far("tcp", "udp", "scenario"));
}

#[tokio::test]
async fn a_call_through_a_proxy_is_cancelled_from_either_side() {
    let behind = Behind::start("tcp", "udp").await;
    let keys = ["-key", "way", "tcp"];
    succeeded(behind.sipp("proxied-cancel", SLOW).args(&keys).start()).await;
    let far = behind.sipp("proxied-cancelled", CALLED).start();
    let call = place(&behind.node, &behind.key, json!({"to": CALLED})).await;
    let rings = format!("180 {CALLED}");
    let is_there = || behind.kamailio.noted("REPLIED").iter().any(|line| line.contains(&rings));
    wait_for("it rings", async || is_there().then_some(())).await;
    behind.hang_up(&call).await;
    succeeded(far).await;
    let switch = behind.node.sip().ip();
    let cancelled = behind.kamailio.noted("CANCELLED");
    for from in [switch, behind.far] {
        assert!(cancelled.iter().any(|line| line.contains(&from.to_string())), "{cancelled:?}");
    }
}

/// Neither the stack on the other end nor the proxy in the path is ours, so what Record-Route and Route mean is
/// what others read there.
#[tokio::test]
async fn rsipstack_calls_through_kamailio_and_both_change_the_call_along_its_record_route() {
    let mut peer = Peer::at(&own_address().to_string()).await;
    let behind = Behind::before(peer.address, "udp", "udp").await;
    let (dialog, answer) = peer.call_by(behind.kamailio.address, NUMBER).await;
    assert_eq!(answer.status_code, StatusCode::OK, "{answer}");
    peer.answer_again().await;
    assert_eq!(peer.change(&dialog).await, 200);
    dialog.bye().await.unwrap();
    recorded(&behind.node, "normal", "caller", 1).await;
    check_way(&behind, behind.far, behind.far);
}

#[tokio::test]
async fn rsipstack_is_called_through_kamailio_and_both_change_the_call_along_its_record_route() {
    let mut peer = Peer::at(&own_address().to_string()).await;
    let behind = Behind::before(peer.address, "udp", "udp").await;
    let call = place(&behind.node, &behind.key, json!({"to": CALLED})).await;
    let dialog = peer.accept().await;
    peer.answer_again().await;
    assert_eq!(peer.change(&dialog).await, 200);
    behind.hang_up(&call).await;
    let ended = peer.until_ended().await;
    assert!(matches!(ended, TerminatedReason::UacBye), "{ended:?}");
    recorded(&behind.node, "normal", "operator", 1).await;
    let switch = behind.node.sip().ip();
    check_way(&behind, switch, switch);
}
