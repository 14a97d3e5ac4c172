//! Numbers that running calls bring in, by a transfer or to supervise: shown the number that the call is with, and refused at
//! once where they cannot be called.

use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::transfers::talking;
use serde_json::Value;
use serde_json::json;

/// What the trunk shows of calls that have no number of their own to show.
const DEFAULT: &str = "+15550119";
const COLLEAGUE: &str = "+15550143";

async fn ask(node: &Node, key: &str, (call, name): (&str, &str), wish: Value) -> (u16, Value) {
    let answer = node.post(&calls(1, &format!("/{call}/{name}")), key, &wish).await;
    (answer.status, answer.json())
}

/// Both commands, each with the status of what is under way.
const COMMANDS: [(&str, u16); 2] = [("supervise", 200), ("transfer", 202)];

#[tokio::test]
async fn whoever_is_called_into_a_call_is_shown_the_number_that_call_is_with() {
    let more = json!({"caller_id": {"default": DEFAULT}});
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    node.put(&[rows::number(5, 1, 2, DEFAULT)]).await;
    let (mut phone, _, inbound) = talking(&node).await;
    let outbound = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    wait_for("the call is answered", async || {
        let shown = node.read(&calls(1, &format!("/{outbound}")), &key).await;
        (shown["live"]["state"] == "answered").then_some(())
    })
    .await;
    for call in [&inbound, &outbound] {
        for (name, done) in COMMANDS {
            let (status, body) = ask(&node, &key, (call, name), json!({"to": COLLEAGUE})).await;
            assert_eq!(status, done, "{name}: {body}");
            let invite = far.expect("INVITE ").await;
            assert!(invite.start.starts_with(&format!("INVITE sip:{COLLEAGUE}@")), "{invite:?}");
            let from = invite.header("from");
            assert!(from.contains(&format!("sip:{NUMBER}@")), "{call}, {name}: {from}");
            refuse(&far, &invite, "486 Busy Here", "").await;
        }
    }
    phone.hang_up().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_called_is_refused_when_that_is_asked_for() {
    let (node, _far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, _, call) = talking(&node).await;
    for (name, _) in COMMANDS {
        for (uri, status, code) in [
            // The node lists 127.0.0.0/8 alone.
            ("sip:desk@10.255.255.1", 403, "agent_forbidden"),
            ("sips:desk@10.255.255.1", 403, "agent_forbidden"),
            ("sip:desk@127.0.0.1;transport=ws", 400, "invalid_value"),
            ("sips:desk@127.0.0.1;transport=udp", 400, "invalid_value"),
            ("sip:desk@127.0.0.1:0", 400, "invalid_value"),
        ] {
            let (is, body) = ask(&node, &key, (&call, name), json!({"uri": uri})).await;
            assert_eq!((is, &body["code"]), (status, &json!(code)), "{name} {uri}: {body}");
            assert_eq!(body["field"], "uri", "{name} {uri}: {body}");
        }
    }
    phone.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    let begun = |event: &&Value| event["name"].as_str().unwrap().starts_with("transfer_");
    let begun: Vec<_> = record["events"].as_array().unwrap().iter().filter(begun).collect();
    assert!(begun.is_empty(), "{begun:?}");
}

#[tokio::test]
async fn whoever_cannot_be_called_into_a_call_is_refused_when_that_is_asked_for() {
    let (node, far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, _, call) = talking(&node).await;
    for (name, _) in COMMANDS {
        let (status, body) = ask(&node, &key, (&call, name), json!({"to": "+4420555"})).await;
        assert_eq!((status, &body["code"]), (403, &json!("destination_denied")), "{name}: {body}");
        assert_eq!(body["field"], "to", "{name}: {body}");
    }
    // How the call stands comes first.
    let desk = carrier(&node, "127.0.0.12").await;
    let peer = json!({"uri": format!("sip:desk@{}", desk.local())});
    assert_eq!(ask(&node, &key, (&call, "transfer"), peer).await.0, 202);
    let invite = desk.expect("INVITE ").await;
    desk.respond(&invite, "180 Ringing", "", "").await;
    let (status, body) = ask(&node, &key, (&call, "transfer"), json!({"to": "+4420555"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("transfer_under_way")), "{body}");
    let withdraw = json!({"mode": "withdraw"});
    assert_eq!(ask(&node, &key, (&call, "transfer"), withdraw).await.0, 202);
    let cancel = desk.expect("CANCEL ").await;
    desk.answer(&cancel, "200 OK").await;
    refuse(&desk, &invite, "487 Request Terminated", "").await;
    let tenant = rows::uuid(1);
    node.put(&[format!("UPDATE tenants SET outbound_trunk_id = NULL WHERE id = '{tenant}'")]).await;
    for (name, _) in COMMANDS {
        let (status, body) = ask(&node, &key, (&call, name), json!({"to": COLLEAGUE})).await;
        assert_eq!((status, &body["code"]), (409, &json!("no_trunk")), "{name}: {body}");
    }
    phone.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    let told: Vec<_> = record["events"].as_array().unwrap().iter().collect();
    let is_begun =
        |event: &&Value| event["name"] == "transfer_begun" || event["name"] == "transfer_failed";
    let begun: Vec<_> = told.iter().filter(|event| is_begun(event)).collect();
    assert_eq!(begun.len(), 1, "the one to the address: {begun:?}");
    // Why it was refused is for the operator to read.
    let steps = steps(&record);
    assert_eq!(steps.matches("destination_denied").count(), 2, "{steps}");
    assert_eq!(steps.matches("no_trunk").count(), 2, "{steps}");
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "nobody was called");
}
