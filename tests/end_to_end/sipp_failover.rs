//! SIPp as carriers whose gateways fail in each way, and those that take the calls then.

use crate::carrier::calls;
use crate::node::wait_for;
use crate::sipp_carrier::Gateway;
use crate::sipp_carrier::alike;
use crate::sipp_carrier::by_udp;
use crate::sipp_carrier::dial;
use crate::sipp_carrier::in_order;
use crate::sipp_carrier::nobody;
use crate::sipp_carrier::node;
use crate::sipp_carrier::outcome;
use crate::sipp_carrier::trunk;
use serde_json::json;

#[tokio::test]
async fn whatever_a_gateway_fails_by_the_next_one_has_the_call() {
    let at_once = Gateway::refusing(1, "503 Service Unavailable", "X-Case: 503").await;
    let throttled = Gateway::refusing(1, "503 Slow Down", "Retry-After: 600").await;
    let broken = Gateway::refusing(1, "500 Server Internal Error", "X-Case: 500").await;
    let silent = Gateway::new("carrier-silent", 1).await;
    // How each fails, and what the decision says of it.
    let failing = [
        (4, by_udp(at_once.address), "503 Service Unavailable"),
        (5, by_udp(throttled.address), "503 Slow Down"),
        (6, by_udp(broken.address), "500 Server Internal Error"),
        (7, by_udp(silent.address), "no reply"),
        (8, format!("sip:{};transport=tcp", nobody()), "cannot be reached"),
        // The kernel says that nobody has the port.
        (9, by_udp(nobody()), "cannot be reached"),
    ];
    // These, and one more that goes past the gateway that wants rest.
    let second = Gateway::new("carrier-answers", 7).await;
    let trunks = failing.iter().map(|(id, uri, said)| {
        let gateways = in_order(&[uri.clone(), by_udp(second.address)]);
        let patience = if *said == "no reply" { 2_000 } else { 20_000 };
        trunk(*id, gateways, json!({"calls": {"no_reply_timeout_ms": patience}}))
    });
    let (node, key) = node(trunks.collect()).await;
    let mut calls = Vec::new();
    for (id, ..) in &failing {
        calls.push(dial(&node, &key, *id).await);
    }
    for ((id, _, said), call) in failing.iter().zip(&calls) {
        let (record, steps) = outcome(&node, &key, call).await;
        assert_eq!((&record["cause"], &record["sip_status"]), (&json!("normal"), &json!(200)));
        let tried: Vec<_> = steps.lines().filter(|line| line.starts_with("try: ")).collect();
        let (first, next) = (format!("g1 of trunk-{id}"), format!("g2 of trunk-{id}"));
        assert!(tried[0].contains(&first) && tried[0].ends_with(said), "{steps}");
        assert!(tried[1].contains(&next) && tried[1].ends_with("answered"), "{steps}");
        assert_eq!(tried.len(), 2, "{steps}");
    }
    // It rests, and is not dead.
    let past = dial(&node, &key, 5).await;
    let (record, steps) = outcome(&node, &key, &past).await;
    assert_eq!(record["cause"], "normal", "{steps}");
    assert!(steps.contains("g1 is throttled") && !steps.contains("try: 1: g1"), "{steps}");
    for gateway in [second, at_once, throttled, broken, silent] {
        gateway.finishes().await;
    }
    let sql = "SELECT count(*) FROM calls WHERE direction = 'outbound' AND sip_status = 200 \
               AND cause = 'normal' AND answered_at IS NOT NULL AND ended_by = 'caller'";
    assert_eq!(node.count(sql).await, 7);
}

#[tokio::test]
async fn what_the_called_party_says_is_the_answer_and_no_other_gateway_is_asked() {
    let ringing = [("status", "503 Service Unavailable")];
    let refusing = [
        (4, Gateway::refusing(1, "404 Not Found", "X-Case: 404").await, "unknown_number", 404),
        (5, Gateway::refusing(1, "486 Busy Here", "X-Case: 486").await, "busy", 486),
        (6, Gateway::refusing(1, "603 Decline", "X-Case: 603").await, "rejected", 603),
        // It rang, so the call was with somebody.
        (
            7,
            Gateway::with("carrier-rings-and-refuses", 1, &ringing, &[]).await,
            "carrier_refused",
            503,
        ),
        // It is at work: the call as a whole takes too long.
        (8, Gateway::new("carrier-only-trying", 1).await, "carrier_timeout", 504),
    ];
    let second = Gateway::new("carrier-answers", 1).await;
    let mut trunks = Vec::new();
    for (id, gateway, ..) in &refusing {
        let gateways = in_order(&[by_udp(gateway.address), by_udp(second.address)]);
        let setup = if *id == 8 { 2 } else { 60 };
        trunks.push(trunk(*id, gateways, json!({"calls": {"setup_timeout_s": setup}})));
    }
    trunks.push(trunk(9, in_order(&[by_udp(second.address)]), json!({})));
    let (node, key) = node(trunks).await;
    let mut calls = Vec::new();
    for (id, ..) in &refusing {
        calls.push(dial(&node, &key, *id).await);
    }
    for ((_, gateway, cause, status), call) in refusing.into_iter().zip(&calls) {
        let (record, steps) = outcome(&node, &key, call).await;
        assert_eq!((&record["cause"], &record["sip_status"]), (&json!(cause), &json!(status)));
        assert_eq!(steps.matches("try: ").count(), 1, "{steps}");
        gateway.finishes().await;
    }
    // All that time it was there, and free.
    let call = dial(&node, &key, 9).await;
    let (record, steps) = outcome(&node, &key, &call).await;
    assert_eq!(record["cause"], "normal", "{steps}");
    second.finishes().await;
}

#[tokio::test]
async fn gateways_of_one_priority_share_the_calls_as_the_trunk_says() {
    let in_turn = [
        Gateway::new("carrier-answers", 3).await,
        Gateway::new("carrier-answers", 3).await,
        Gateway::new("carrier-answers", 3).await,
    ];
    let by_load = [Gateway::new("carrier-holds", 4).await, Gateway::new("carrier-holds", 4).await];
    let strategy = |name: &str| json!({"outbound": {"strategy": name}});
    let (node, key) = node(vec![
        trunk(4, alike(&in_turn), strategy("round_robin")),
        trunk(5, alike(&by_load), strategy("least_calls")),
    ])
    .await;
    let mut ended = Vec::new();
    for _ in 0..9 {
        ended.push(dial(&node, &key, 4).await);
    }
    let mut running = Vec::new();
    for _ in 0..8 {
        let call = dial(&node, &key, 5).await;
        // It counts once it has begun.
        let sql =
            format!("SELECT count(*) FROM calls WHERE id = '{call}' AND answered_at IS NOT NULL");
        wait_for("the answer", async || (node.count(&sql).await == 1).then_some(())).await;
        running.push(call);
    }
    for call in &running {
        let path = calls(1, &format!("/{call}/hangup"));
        assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    }
    for call in &ended {
        assert_eq!(outcome(&node, &key, call).await.0["cause"], "normal");
    }
    let mut order = Vec::new();
    for call in &running {
        let steps = outcome(&node, &key, call).await.1;
        order.push(if steps.contains("try: 1: g1") { 1 } else { 2 });
    }
    // Whoever has fewer has the next.
    assert!(order.chunks(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    for gateway in in_turn.into_iter().chain(by_load) {
        gateway.finishes().await;
    }
}
