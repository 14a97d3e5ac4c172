//! SIPp as a carrier in attended transfers: what it does with a REFER that names a leg it has as well.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::sipp::Running;
use crate::sipp::Sipp;
use crate::transfers::transfer;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;
use tandem::store::api_keys::KeyRole;

/// A node with one carrier: SIPp calls from an address of it, and whom we call is a telephone of it.
pub(crate) struct Around {
    pub(crate) node: Node,
    pub(crate) key: String,
    pub(crate) target: Phone,
    sipp: IpAddr,
}

impl Around {
    pub(crate) async fn new(more: Value) -> Self {
        let node = Home::new().start().await;
        let target = carrier(&node, "127.0.0.9").await;
        let sipp = own_address();
        let mut overrides = json!({
            "inbound": {"source_cidrs": ["127.0.0.9/32", format!("{sipp}/32")]},
            "network": {"rtp_inactivity_s": 600},
        });
        carrier::merge(&mut overrides, more);
        node.put(&[
            carrier::trunk(4, "127.0.0.9/32", &[target.local()], overrides),
            carrier::tenant(1, 4),
            rows::profile(2, 1, json!({"kind": "echo"})),
            rows::number(3, 1, 2, NUMBER),
        ])
        .await;
        let key = key(&node, 1, KeyRole::Operator).await;
        Self { node, key, target, sipp }
    }

    /// SIPp calls; the call's id, once it is answered.
    pub(crate) async fn call(&self, scenario: &str) -> (Running, String) {
        let running = self.sipp(scenario, NUMBER).start();
        (running, self.running_call().await)
    }

    /// The call that is answered and runs, once there is one and no other.
    async fn running_call(&self) -> String {
        let answered = "SELECT count(*) FROM calls WHERE direction = 'inbound' \
                        AND answered_at IS NOT NULL AND ended_at IS NULL";
        wait_for("the call is answered", async || {
            (self.node.count(answered).await == 1).then_some(())
        })
        .await;
        let id = answered.replace("count(*)", "id::text");
        crate::postgres::text(&self.node.database(), &id).await
    }

    /// SIPp as a caller of the carrier.
    fn sipp(&self, scenario: &str, number: &str) -> Sipp {
        Sipp::new(scenario, self.sipp, self.node.sip(), number).args(&[
            "-recv_timeout",
            "90000",
            "-default_behaviors",
            "all,-abortunexp",
        ])
    }

    /// The agent consults the telephone, and is through.
    async fn consult(&mut self, call: &str) {
        let wish = json!({"to": CALLED, "mode": "attended"});
        transfer(&self.node, &self.key, call, wish).await;
        answer(&mut self.target).await;
        transfer(&self.node, &self.key, call, json!({"mode": "confirm"})).await;
    }

    /// Waits for a message of the call that begins so and has this.
    async fn hears(&self, call: &str, start: &str, part: &str) {
        let path = carrier::calls(1, &format!("/{call}/trace"));
        wait_for("the message", async || {
            let trace = self.node.read(&path, &self.key).await;
            let mut texts =
                trace["messages"].as_array()?.iter().filter_map(|it| it["text"].as_str());
            texts.any(|text| text.starts_with(start) && text.contains(part)).then_some(())
        })
        .await;
    }

    /// What happened to the call, of what concerns its transfer; and why it ended.
    pub(crate) async fn story(&self, call: &str) -> (Vec<String>, String) {
        let record = shown(&self.node, 1, call, &self.key).await;
        let events = record["events"].as_array().unwrap().iter();
        let names = events.filter_map(|event| event["name"].as_str());
        let names = names.filter(|name| name.starts_with("transfer_")).map(str::to_owned);
        (names.collect(), record["cause"].as_str().unwrap().to_owned())
    }
}

pub(crate) async fn finishes(running: Running) {
    let report = running.report().await;
    assert!(report.exit == Some(0) && report.failed == 0, "{:?}: {}", report.exit, report.text);
}

fn attended() -> Value {
    json!({"calls": {"refer_out": "attended"}})
}

#[tokio::test]
async fn a_carrier_that_connects_its_caller_with_whom_we_consulted_takes_us_out() {
    let mut around = Around::new(attended()).await;
    let (sipp, call) = around.call("attended-done").await;
    around.consult(&call).await;
    hear_bye(&around.target).await;
    finishes(sipp).await;
    let (story, cause) = around.story(&call).await;
    let begun = ["transfer_begun", "transfer_begun", "transfer_completed"];
    assert_eq!((story, cause.as_str()), (begun.map(str::to_owned).to_vec(), "transferred"));
}

#[tokio::test]
async fn a_carrier_that_refuses_or_is_declined_leaves_the_caller_with_the_target() {
    let mut around = Around::new(attended()).await;
    let cases = [
        ("attended-refused", "SIP/2.0 603", " REFER\r\n"),
        ("attended-declined", "SIP/2.0 200", "CSeq: 3 NOTIFY\r\n"),
    ];
    for (scenario, start, settled) in cases {
        let (sipp, call) = around.call(scenario).await;
        around.consult(&call).await;
        around.hears(&call, start, settled).await;
        // The target ends what it was given: so they were together to the end.
        assert_eq!(around.target.ask("BYE", "", "").await.status(), 200);
        finishes(sipp).await;
        still_ours(&around, &call).await;
    }
}

#[tokio::test]
async fn a_carrier_that_hangs_up_the_caller_first_may_still_take_the_target() {
    let mut around = Around::new(attended()).await;
    let (sipp, call) = around.call("attended-bye-first").await;
    around.consult(&call).await;
    finishes(sipp).await;
    // The carrier takes the target's leg after all.
    assert_eq!(around.target.ask("BYE", "", "").await.status(), 200);
    let (story, cause) = around.story(&call).await;
    assert_eq!(story.last().map(String::as_str), Some("transfer_completed"));
    assert_eq!(cause, "transferred");
    // Or does not: then the caller was who hung up.
    let (sipp, call) = around.call("attended-bye-first").await;
    around.consult(&call).await;
    finishes(sipp).await;
    hear_bye(&around.target).await;
    let (story, cause) = around.story(&call).await;
    assert_eq!(story.last().map(String::as_str), Some("transfer_failed"));
    assert_eq!(cause, "normal");
}

/// A number whose agent is a telephone.
const DESK: &str = "+15550111";

#[tokio::test]
async fn a_caller_that_is_bridged_hands_on_whom_it_talks_with_in_whatever_form_it_names_a_number() {
    let rule = json!([{"match": "^0(\\d{7})$", "to": "+1${1}"}]);
    let more = json!({
        "calls": {"refer_in": "b2bua"},
        "numbers": {"inbound_calling": rule},
        "outbound": {"user_phone": true},
    });
    let mut around = Around::new(more).await;
    let mut desk = carrier(&around.node, "127.0.0.12").await;
    let agent = json!({"kind": "sip", "uri": format!("sip:desk@{}", desk.local())});
    around.node.put(&[rows::profile(5, 1, agent), rows::number(6, 1, 5, DESK)]).await;
    for target in [
        "<sip:05550142@carrier.example;user=phone>",
        "<tel:+1-555-0142>",
        "\"Somebody\" <sip:555-0142;phone-context=+1@carrier.example>",
        "<sip:+15550142;npdi@carrier.example;user=phone>",
    ] {
        let sipp = around.sipp("caller-refers", DESK).word("target", target).word("outcome", "200");
        let running = sipp.start();
        let to_desk = answer(&mut desk).await;
        let to_target = around.target.expect("INVITE ").await;
        assert!(to_target.start.contains(&format!("sip:{CALLED}@")), "{target}: {to_target:?}");
        pick_up(&mut around.target, &to_target).await;
        let (desk_port, target_port) = (to_desk.audio_port(), to_target.audio_port());
        hears((&desk, desk_port), &around.target, 0x31).await;
        hears((&around.target, target_port), &desk, 0x32).await;
        // The caller is told, and hung up; the two go on.
        finishes(running).await;
        hears((&desk, desk_port), &around.target, 0x33).await;
        assert_eq!(around.target.ask("BYE", "", "").await.status(), 200);
        hear_bye(&desk).await;
    }
    // Whoever does not want that leaves the two as they were.
    let target = format!("<sip:{CALLED}@carrier.example>");
    let sipp = around.sipp("caller-refers", DESK).word("target", &target).word("outcome", "603");
    let running = sipp.start();
    answer(&mut desk).await;
    let invite = around.target.expect("INVITE ").await;
    refuse(&around.target, &invite, "603 Decline", "").await;
    let call = around.running_call().await;
    around.hears(&call, "NOTIFY ", "terminated").await;
    assert_eq!(desk.ask("BYE", "", "").await.status(), 200);
    finishes(running).await;
}

async fn still_ours(around: &Around, call: &str) {
    let (story, cause) = around.story(call).await;
    let ours = ["begun", "begun", "failed", "begun", "completed"];
    assert_eq!(
        (story, cause.as_str()),
        (ours.map(|it| format!("transfer_{it}")).to_vec(), "normal")
    );
}
