//! The end of a node: in order, in a hurry, and by a kill.

use crate::node;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::Peer;
use crate::talk::Talk;
use serde_json::json;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use tandem::caller::EndedBy;
use tandem::clock;

const NUMBER: &str = "+15550160";
/// Calls that a node has when it is to end.
const RUNNING: usize = 10;
/// A node that ends at once does not wait for its calls, only for their records.
const AT_ONCE: Duration = Duration::from_secs(15);

async fn node() -> Node {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    node
}

async fn drains(node: &Node) {
    wait_for("it drains", async || (node.get("/readyz").await.status == 503).then_some(())).await;
}

#[tokio::test]
async fn a_node_that_drains_takes_no_call_and_lets_the_running_ones_finish() {
    let mut node = node().await;
    let sip = node.sip();
    assert_eq!(node.get("/readyz").await.status, 200);
    let mut talks = Vec::new();
    for _ in 0..RUNNING {
        talks.push(Talk::answered(talk::plan(sip, NUMBER)).await);
    }
    node.signal("TERM");
    drains(&node).await;
    assert_eq!(node.get("/readyz").await.json()["draining"], true);
    assert_eq!(node.get("/healthz").await.status, 200);
    let peer = Peer::at("127.0.0.1", sip).await;
    assert_eq!(peer.invite(NUMBER).await.refusal(), (503, "draining", true));
    assert_eq!(peer.options().await.status(), 503);
    // 2 s of the calls go on.
    let mut call_ids = Vec::new();
    for mut talk in talks {
        talk.hear(100).await;
        let summary = talk.hang_up().await;
        assert_eq!((summary.problem, summary.ended_by), (None, Some(EndedBy::Us)));
        call_ids.push(summary.call_id);
    }
    assert_eq!(node.ended().await.code(), Some(0));

    let ports_are_free = UdpSocket::bind(sip).is_ok() && TcpListener::bind(sip).is_ok();
    assert!(ports_are_free, "{sip} is still taken");
    let cluster = node.home.cluster();
    for call_id in &call_ids {
        let record = node::record(&cluster.database(), call_id).await;
        assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    }
    cluster.stop().unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_the_running_calls_at_once() {
    let mut node = node().await;
    let talk = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    node.signal("TERM");
    drains(&node).await;
    let begun = clock::now();
    node.signal("TERM");
    let summary = talk.over().await;
    assert_eq!(summary.ended_by, Some(EndedBy::FarEnd));
    let reason = summary.bye_reason.unwrap_or_default();
    assert!(reason.contains("text=\"draining\""), "{reason}");
    assert_eq!(node.ended().await.code(), Some(0));
    assert!(clock::now().since(begun) < AT_ONCE, "it ended late");

    let cluster = node.home.cluster();
    let record = node::record(&cluster.database(), &summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("draining", "switch"));
    cluster.stop().unwrap();
}

#[tokio::test]
async fn the_records_of_killed_calls_are_closed_once() {
    const CALLS: i64 = 3;
    const INTERRUPTED: &str = "SELECT count(*) FROM calls WHERE cause = 'interrupted' \
         AND ended_at IS NOT NULL AND answered_at IS NOT NULL";
    const ENDS: &str = "SELECT count(*) FROM call_events WHERE name = 'ended'";
    const REVISIONS: &str = "SELECT sum(rev)::bigint FROM calls";
    let mut node = node().await;
    let finished = Talk::answered(talk::plan(node.sip(), NUMBER)).await.hang_up().await;
    assert_eq!(node.record(&finished.call_id).await.cause, "normal");
    let mut talks = Vec::new();
    for _ in 0..CALLS {
        talks.push(Talk::answered(talk::plan(node.sip(), NUMBER)).await);
    }
    for talk in &mut talks {
        talk.hear(25).await;
    }
    node.signal("KILL");
    assert_eq!(node.ended().await.signal(), Some(9));
    drop(talks);

    node.launch().await;
    wait_for("the records are closed", async || {
        (node.count(INTERRUPTED).await == CALLS).then_some(())
    })
    .await;
    assert_eq!(node.count("SELECT count(*) FROM calls").await, CALLS + 1);
    assert_eq!(node.count(ENDS).await, CALLS + 1);
    let revisions = node.count(REVISIONS).await;
    assert_eq!(Talk::answered(talk::plan(node.sip(), NUMBER)).await.hang_up().await.problem, None);
    node.signal("TERM");
    assert_eq!(node.ended().await.code(), Some(0));

    // Another start finds nothing to close.
    node.launch().await;
    assert_eq!(node.count(INTERRUPTED).await, CALLS);
    assert_eq!(node.count(ENDS).await, CALLS + 2);
    let added = "SELECT sum(rev)::bigint FROM calls WHERE cause = 'interrupted' OR arrived_at <= \
                 (SELECT max(arrived_at) FROM calls WHERE cause = 'interrupted')";
    assert_eq!(node.count(added).await, revisions);
}
