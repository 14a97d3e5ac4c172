//! Transfers with SIPp as carriers and targets that misbehave: the caller is never lost.

use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rtp::Stream;
use crate::rtp::audio;
use crate::sipp_carrier::Gateway;
use crate::sipp_transfers::Around;
use crate::sipp_transfers::finishes;
use crate::transfers::talking;
use crate::transfers::transfer;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than a call waits for whomever it was to be transferred to.
const COMES_BACK: Duration = Duration::from_secs(40);

fn blind() -> Value {
    json!({"calls": {"refer_out": "blind"}})
}

fn refer() -> Value {
    json!({"to": CALLED, "mode": "refer"})
}

/// Asks for a transfer until the one before it is over, so that this one may begin.
async fn transfer_anew(node: &Node, key: &str, call: &str, wish: Value) {
    let path = calls(1, &format!("/{call}/transfer"));
    wait_for("the transfer before is over", async || {
        let answer = node.post(&path, key, &wish).await;
        assert!([202, 409].contains(&answer.status), "{}", answer.body);
        (answer.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_carrier_that_hangs_up_instead_of_telling_has_transferred_only_if_the_target_rang() {
    let around = Around::new(blind()).await;
    for (scenario, last, why) in [
        ("refer-accepted-then-bye", "transfer_failed", "normal"),
        ("refer-ringing-then-bye", "transfer_completed", "transferred"),
        ("refer-crossed-by-bye", "transfer_failed", "normal"),
    ] {
        let (sipp, call) = around.call(scenario).await;
        transfer(&around.node, &around.key, &call, refer()).await;
        finishes(sipp).await;
        let (story, cause) = around.story(&call).await;
        assert_eq!(story, ["transfer_begun", last], "{scenario}");
        assert_eq!(cause, why, "{scenario}");
    }
}

#[tokio::test]
async fn requests_that_cross_around_a_transfer_cost_neither_the_transfer_nor_the_call() {
    let around = Around::new(blind()).await;
    // Its new offer crosses our REFER: both go through.
    let (sipp, call) = around.call("refer-glare").await;
    transfer(&around.node, &around.key, &call, refer()).await;
    finishes(sipp).await;
    let (story, cause) = around.story(&call).await;
    assert_eq!(story, ["transfer_begun", "transfer_completed"]);
    assert_eq!(cause, "transferred");
    // It has something of its own under way and says so: the caller stays, and may be transferred later.
    let (sipp, call) = around.call("refer-pending").await;
    transfer(&around.node, &around.key, &call, refer()).await;
    transfer_anew(&around.node, &around.key, &call, refer()).await;
    finishes(sipp).await;
    let (story, cause) = around.story(&call).await;
    let steps = ["begun", "failed", "begun", "completed"].map(|it| format!("transfer_{it}"));
    assert_eq!((story, cause.as_str()), (steps.to_vec(), "transferred"));
}

#[tokio::test]
async fn a_carrier_that_accepts_a_transfer_and_then_says_nothing_keeps_the_caller_with_us() {
    let mut around = Around::new(blind()).await;
    let (sipp, call) = around.call("refer-accepted-and-silent").await;
    transfer(&around.node, &around.key, &call, refer()).await;
    // After its 30 s the caller is the agent's again, who may try it otherwise.
    transfer_anew(&around.node, &around.key, &call, json!({"to": CALLED})).await;
    answer(&mut around.target).await;
    assert_eq!(around.target.ask("BYE", "", "").await.status(), 200);
    // Gone too soon to count: the caller is with the agent, until that hangs up.
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(around.node.post(&path, &around.key, &json!({})).await.status, 202);
    finishes(sipp).await;
    let (story, cause) = around.story(&call).await;
    let steps = ["begun", "failed", "begun", "failed"].map(|it| format!("transfer_{it}"));
    assert_eq!((story, cause.as_str()), (steps.to_vec(), "normal"));
}

/// The caller says something until the agent, an echo, gives it back.
async fn echoes(phone: &Phone, port: u16, level: u8) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    let mut stream = Stream::new(u32::from(level) + 7, level);
    let heard = async {
        let mut buffer = [0; 2_048];
        loop {
            let (length, _) = phone.media.recv_from(&mut buffer).await.unwrap();
            let payload = audio(&buffer[..length]);
            if !payload.is_empty() && payload.iter().all(|byte| *byte == level) {
                return;
            }
        }
    };
    tokio::select! {
        () = stream.send(&phone.media, switch, (u32::MAX, 1)) => (),
        heard = timeout(COMES_BACK, heard) => heard.expect("the caller is back with its agent"),
    }
}

#[tokio::test]
async fn a_caller_comes_back_from_every_target_that_misbehaves() {
    let (node, _far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, port, call) = talking(&node).await;
    echoes(&phone, port, 0x51).await;
    let elsewhere = "Contact: <sip:+15550199@192.0.2.77>";
    let cases = [
        ("leaves at once", Gateway::new("target-leaves-at-once", 1).await),
        ("answers nonsense", Gateway::new("target-answers-nonsense", 1).await),
        ("says nothing", Gateway::new("carrier-silent", 1).await),
        ("sends away", Gateway::refusing(1, "302 Moved Temporarily", elsewhere).await),
        ("is broken", Gateway::refusing(1, "500 Server Internal Error", "X-Case: 500").await),
    ];
    for ((what, target), level) in cases.into_iter().zip(0x52..) {
        let wish = json!({"uri": format!("sip:desk@{}", target.address)});
        transfer_anew(&node, &key, &call, wish).await;
        echoes(&phone, port, level).await;
        target.finishes().await;
        assert!(phone.is_served().await, "after one that {what}");
    }

    // Given up: one answers in that moment, the other is not there any more.
    for (scenario, level) in
        [("carrier-answers-while-cancelled", 0x5a), ("target-rings-and-vanishes", 0x5b)]
    {
        let target = Gateway::new(scenario, 1).await;
        let wish = json!({"uri": format!("sip:desk@{}", target.address)});
        transfer_anew(&node, &key, &call, wish).await;
        let rings = format!("/{call}/trace");
        wait_for("it rings", async || {
            let trace = node.read(&calls(1, &rings), &key).await;
            let messages = trace["messages"].as_array()?.iter();
            let from = target.address.to_string();
            let of_target = |text: &str| text.starts_with("SIP/2.0 180") && text.contains(&from);
            let mut texts = messages.filter_map(|message| message["text"].as_str());
            texts.any(of_target).then_some(())
        })
        .await;
        transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
        echoes(&phone, port, level).await;
        target.finishes().await;
    }
    phone.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    for (name, times) in [("transfer_failed", 5), ("transfer_withdrawn", 2)] {
        let told = format!(
            "SELECT count(*) FROM call_events WHERE call_id = '{call}' AND name = '{name}'"
        );
        assert_eq!(node.count(&told).await, times, "{name}");
    }
}
