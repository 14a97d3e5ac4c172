//! Calls that are too many: for the RTP ports, the tenant, the trunk, the node.

use crate::node::Home;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::Peer;
use crate::talk::Talk;
use serde_json::json;
use std::time::Duration;
use tandem::caller::CallPlan;
use tandem::caller::CallProblem;

const NUMBER: &str = "+15550150";
const LIMITED: &str = "+15550151";

#[tokio::test]
async fn without_a_free_rtp_port_calls_are_refused_with_503_until_one_is_free() {
    let node = Home::with("127.0.0.1:0", 4, "").start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let first = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    let mut second = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    let peer = Peer::at("127.0.0.1", node.sip()).await;
    for _ in 0..3 {
        assert_eq!(peer.invite(NUMBER).await.refusal(), (503, "no_ports", true));
    }
    assert_eq!(node.metric("rtp_ports_exhausted_total").await, 3);
    // Who talks is not disturbed.
    second.hear(25).await;
    assert_eq!(first.hang_up().await.problem, None);
    // A returned pair rests for some seconds, so that late packets of the old call reach nobody.
    let short = CallPlan { duration: Duration::ZERO, ..talk::plan(node.sip(), NUMBER) };
    wait_for("a port is free again", async || {
        match Talk::dial(short.clone()).over().await.problem {
            None | Some(CallProblem::NoAudio) => Some(()),
            Some(CallProblem::Refused { status: 503, .. }) => None,
            Some(other) => panic!("{other}"),
        }
    })
    .await;
    second.hear(25).await;
    assert_eq!(second.hang_up().await.problem, None);
}

#[tokio::test]
async fn each_limit_refuses_with_503_and_its_own_reason_and_gives_way_again() {
    let node = Home::with("127.0.0.1:0", 100, "[limits]\ncalls = 3\n").start().await;
    let narrow = json!({
        "inbound": {"source_cidrs": ["127.0.0.2/32"]}, "limits": {"channels_in": 1}
    });
    node.put(&[
        rows::tenant(1, 0),
        rows::tenant(2, 1),
        rows::trunk(3, "127.0.0.1/32"),
        rows::trunk_with(4, narrow),
        rows::profile(5, 1, json!({"kind": "tone"})),
        rows::profile(6, 2, json!({"kind": "tone"})),
        rows::number(7, 1, 5, NUMBER),
        rows::number(8, 2, 6, LIMITED),
    ])
    .await;
    let wide = Peer::at("127.0.0.1", node.sip()).await;
    let narrow = Peer::at("127.0.0.2", node.sip()).await;

    let of_tenant = Talk::answered(talk::plan(node.sip(), LIMITED)).await;
    assert_eq!(wide.invite(LIMITED).await.refusal(), (503, "tenant_limit", true));
    let by_trunk =
        CallPlan { local: Some("127.0.0.2".parse().unwrap()), ..talk::plan(node.sip(), NUMBER) };
    let of_trunk = Talk::answered(by_trunk.clone()).await;
    assert_eq!(narrow.invite(NUMBER).await.refusal(), (503, "trunk_limit", true));
    let of_node = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    assert_eq!(wide.invite(NUMBER).await.refusal(), (503, "node_limit", true));
    for cause in ["tenant_limit", "trunk_limit", "node_limit"] {
        let refused = format!("calls_refused_total{{cause=\"{cause}\"}}");
        assert_eq!(node.metric(&refused).await, 1, "{cause}");
    }

    for talk in [of_tenant, of_trunk, of_node] {
        let summary = talk.hang_up().await;
        assert_eq!(summary.problem, None);
        node.record(&summary.call_id).await;
    }
    for plan in [talk::plan(node.sip(), LIMITED), by_trunk, talk::plan(node.sip(), NUMBER)] {
        assert_eq!(Talk::answered(plan).await.hang_up().await.problem, None);
    }
}
