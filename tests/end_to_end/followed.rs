//! What is told live of a call, held against the document of the API.

use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::follower::Follower;
use crate::http;
use crate::node::Home;
use crate::node::wait_for;
use crate::rows;
use crate::schema;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use tandem::api::openapi;
use tandem::store::webhooks::EVENT_TYPES;

/// What the call of this test goes through, at least.
const TOLD: [&str; 14] = [
    "call.initiated",
    "call.answered",
    "call.agent_ready",
    "call.muted",
    "call.unmuted",
    "call.keys_sent",
    "call.play_begun",
    "call.play_ended",
    "call.recording_started",
    "call.recording_paused",
    "call.recording_resumed",
    "call.recording_stopped",
    "call.variables_set",
    "call.transcript_added",
];

#[tokio::test]
async fn every_event_that_a_call_tells_is_as_the_document_has_it() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let bearer = format!("Bearer {key}");
    let events = format!("/api/v1/tenants/{}/events", rows::uuid(1));
    let mut follower =
        Follower::open(node.http(), &events, &[("authorization", bearer.as_str())]).await;
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    assert!(follower.until("the agent", |text| text.contains("event: call.agent_ready\n")).await);
    let path = |below: &str| calls(1, &format!("/{call}{below}"));
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    let turns = json!({"turns": [{"seq": 0, "speaker": "caller", "text": "hello"}]});
    for (below, body, status) in [
        ("/mute", json!({"party": "caller"}), 200),
        ("/unmute", json!({"party": "caller"}), 200),
        ("/dtmf", json!({"digits": "4"}), 200),
        ("/play", json!({"asset": "tone:ringback", "repeat": 1_000}), 200),
        ("/play/stop", json!({}), 200),
        ("/record/start", json!({}), 200),
        ("/record/pause", json!({}), 200),
        ("/record/resume", json!({}), 200),
        ("/record/stop", json!({}), 200),
        ("/transcript", turns, 200),
    ] {
        let answer = node.post(&path(below), &key, &body).await;
        assert_eq!(answer.status, status, "{below}: {}", answer.body);
        if below != "/transcript" {
            schema::check(&document, &schemas["CallStanding"], &answer.json(), below);
        }
    }
    let change = json!({"variables": {"lead": "2"}}).to_string();
    let headers = [("authorization", bearer.clone())];
    let changed = http::request_with(node.http(), ("PATCH", &path("")), &headers, &change).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    for kind in TOLD {
        let line = format!("event: {kind}\n");
        assert!(follower.until(kind, |text| text.contains(&line)).await, "{}", follower.text);
    }
    // While it runs, its figures are in it.
    let running = node.read(&path(""), &key).await;
    schema::check(&document, &schemas["CallDetail"], &running, "call");
    assert_eq!(running["live"]["legs"][0]["leg"], "near", "{running}");
    let over = node.post(&path("/hangup"), &key, &Value::Null).await;
    assert_eq!(over.status, 202, "{}", over.body);
    schema::check(&document, &schemas["CallStanding"], &over.json(), "/hangup");
    hear_bye(&far).await;
    follower.ended(1).await;

    let form = &schemas["LiveEvent"];
    let mut kinds = BTreeSet::new();
    for (_, event) in follower.events() {
        schema::check(&document, form, &event, "event");
        let kind = event["type"].as_str().unwrap().to_owned();
        assert!(EVENT_TYPES.contains(&kind.as_str()), "{event}");
        assert_eq!(event["call_id"], json!(call), "{event}");
        kinds.insert(kind);
    }
    assert!(kinds.len() > TOLD.len(), "{kinds:?}");
    // The form is one that something may fail.
    let mut wrong = follower.events().remove(0).1;
    wrong["seq"] = json!("first");
    assert!(schema::fault(&document, form, &wrong, "event").is_some(), "{wrong}");
}

#[tokio::test]
async fn how_long_a_round_trip_takes_is_shown_while_a_call_runs() {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "echo"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let key = node.operator_key().await;
    let talk = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    let running = node.read(&calls(1, "?live=true"), &key).await;
    let path = calls(1, &format!("/{}", running["calls"][0]["id"].as_str().unwrap()));
    // Each side reports when it got the other's report (RFC 3550 §6.4.1).
    wait_for("reports of both sides", async || {
        let shown = node.read(&path, &key).await;
        let leg = &shown["live"]["legs"][0];
        leg["round_trip_ms"].as_f64()?;
        leg["quality"]["in"]["round_trip_ms"].as_f64()
    })
    .await;
    talk.hang_up().await;
}
