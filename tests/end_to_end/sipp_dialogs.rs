//! SIPp as carriers that try what dialogs of calls out have to bear.

use crate::node::wait_for;
use crate::sipp_carrier::Gateway;
use crate::sipp_carrier::by_udp;
use crate::sipp_carrier::dial;
use crate::sipp_carrier::in_order;
use crate::sipp_carrier::node;
use crate::sipp_carrier::outcome;
use crate::sipp_carrier::trunk;
use serde_json::json;

#[tokio::test]
async fn calls_out_bear_what_carriers_do_within_them() {
    let timed = json!({"session_timer": {"mode": "offer", "expires_s": 90, "refresher": "remote"}});
    let cases = [
        // The scenario, how the trunk differs, and cause, who ended it and whether it was answered.
        ("carrier-refreshes", timed, ("normal", "caller", true)),
        ("carrier-forks", json!({}), ("normal", "caller", true)),
        (
            "carrier-answers-while-cancelled",
            json!({"calls": {"ring_timeout_s": 1}}),
            ("no_answer", "caller", false),
        ),
        // It answers, and no voice ever comes.
        (
            "carrier-holds",
            json!({"network": {"rtp_inactivity_s": 2}}),
            ("media_timeout", "switch", true),
        ),
    ];
    let (mut gateways, mut trunks) = (Vec::new(), Vec::new());
    for (id, (scenario, more, _)) in (4..).zip(&cases) {
        let gateway = Gateway::new(scenario, 1).await;
        trunks.push(trunk(id, in_order(&[by_udp(gateway.address)]), more.clone()));
        gateways.push(gateway);
    }
    let (node, key) = node(trunks).await;
    let mut calls = Vec::new();
    for (id, _) in (4..).zip(&cases) {
        calls.push(dial(&node, &key, id).await);
    }
    for (((scenario, _, expected), call), gateway) in cases.iter().zip(&calls).zip(gateways) {
        let (record, steps) = outcome(&node, &key, call).await;
        let told = (
            record["cause"].as_str().unwrap(),
            record["ended_by"].as_str().unwrap(),
            !record["times"]["answered"].is_null(),
        );
        gateway.finishes().await;
        assert_eq!(told, *expected, "{scenario}: {steps}");
    }
    let running = "SELECT count(*) FROM calls WHERE ended_at IS NULL";
    wait_for("nothing is left", async || (node.count(running).await == 0).then_some(())).await;
}

/// Two sides of which each waits for the other's first packet hear nothing for ever: SIPp sends back what it gets and
/// nothing of its own, and the agent has nothing to say by itself either.
#[tokio::test]
async fn a_carrier_that_sends_nothing_until_it_hears_us_is_heard() {
    let gateway = Gateway::with("carrier-answers", 1, &[], &["-rtp_echo", "-d", "1500"]).await;
    let (node, key) = node(vec![trunk(4, in_order(&[by_udp(gateway.address)]), json!({}))]).await;
    let call = dial(&node, &key, 4).await;
    let (record, steps) = outcome(&node, &key, &call).await;
    gateway.finishes().await;
    assert_eq!(record["cause"], "normal", "{steps}");
    let heard = format!(
        "SELECT count(*) FROM calls WHERE id = '{call}' AND packets_out > 20 AND packets_in > 20"
    );
    assert_eq!(node.count(&heard).await, 1, "{record}");
}

/// Of an interval of 90 s, the shortest there is, half passes until we refresh, and two thirds until we miss the refresh
/// of others. `tests/sip_session.rs` has all of this by a virtual clock; here a stack of others sees it.
#[tokio::test]
async fn sipp_has_its_session_refreshed_by_us_and_is_hung_up_where_it_does_not_refresh_its_own() {
    let patient = ["-recv_timeout", "90000"];
    let refreshed = Gateway::with("carrier-is-refreshed", 1, &[], &patient).await;
    let forgetful = Gateway::with("carrier-never-refreshes", 1, &[], &patient).await;
    // Neither says a word.
    let timed = |refresher: &str| {
        json!({"session_timer": {"mode": "offer", "expires_s": 90, "refresher": refresher},
               "network": {"rtp_inactivity_s": 0}})
    };
    let (node, key) = node(vec![
        trunk(4, in_order(&[by_udp(refreshed.address)]), timed("local")),
        trunk(5, in_order(&[by_udp(forgetful.address)]), timed("remote")),
    ])
    .await;
    let calls = [dial(&node, &key, 4).await, dial(&node, &key, 5).await];
    refreshed.finishes().await;
    forgetful.finishes().await;
    let ends = [("normal", "caller"), ("session_expired", "switch")];
    for (call, end) in calls.iter().zip(ends) {
        let (record, steps) = outcome(&node, &key, call).await;
        let told = (record["cause"].as_str().unwrap(), record["ended_by"].as_str().unwrap());
        assert_eq!(told, end, "{steps}");
    }
}
