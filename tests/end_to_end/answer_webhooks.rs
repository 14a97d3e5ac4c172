//! Webhooks that are asked who answers, and the trace that webhooks are told of.

use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::follower::Follower;
use crate::http;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::postgres;
use crate::receiver::Receiver;
use crate::receiver::SILENT;
use crate::receiver::Told;
use crate::rows;
use crate::schema;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use tandem::api::openapi;
use tandem::net::signature;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::types::secret::Secret;

const NUMBER: &str = "+15550136";
const SECRET: &str = "of the hook";
/// Nobody collects these traces, but webhooks are told of them.
const MORE: &str = "[webhooks]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n\
                    [otlp]\nendpoint = \"http://127.0.0.1:9\"\n[secrets]\nkey_ref = \"file:key\"\n";

struct Asked {
    node: Node,
    hook: Receiver,
    key: String,
}

impl Asked {
    /// A node whose number's profile 3 asks; 5 is another of the tenant, 6 one of another tenant.
    async fn start(timeout_ms: u64) -> Self {
        let home = Home::with("127.0.0.1:0", 100, MORE);
        home.write("key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let node = home.start().await;
        node.put(&[
            rows::tenant(1, 0),
            rows::tenant(2, 0),
            rows::trunk(2, "127.0.0.1/32"),
            rows::profile(3, 1, json!({"kind": "tone"})),
            rows::profile(5, 1, json!({"kind": "echo"})),
            rows::profile(6, 2, json!({"kind": "echo"})),
            rows::number(4, 1, 3, NUMBER),
        ])
        .await;
        let scope = KeyScope::Tenant(rows::tenant_id(1));
        let made = api_keys::create(&node.database(), scope, KeyRole::Admin, "", None).await;
        let key = made.unwrap().key.expose().clone();
        let hook = Receiver::start(200).await;
        let asked = Self { node, hook, key };
        let body = json!({
            "secrets": {"hook": SECRET},
            "answer_webhook": {
                "url": asked.hook.url(), "secret_ref": "sealed:hook", "timeout_ms": timeout_ms,
            },
        });
        let name = "routing_changes_total";
        let before = asked.node.metric(name).await;
        asked.send(("PATCH", &format!("ai-profiles/{}", rows::uuid(3))), &body, 200).await;
        wait_for("the webhook is in force", async || {
            (asked.node.metric(name).await > before).then_some(())
        })
        .await;
        asked
    }

    async fn send(&self, (method, rest): (&str, &str), body: &Value, status: u16) -> Value {
        let path = format!("/api/v1/tenants/{}/{rest}", rows::uuid(1));
        let bearer = [("authorization", format!("Bearer {}", self.key))];
        let answer =
            http::request_with(self.node.http(), (method, &path), &bearer, &body.to_string()).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        answer.json()
    }

    /// Calls, and answers what came of asking, the profile of the record and the call's id.
    async fn call(&self) -> (Value, String, String) {
        let mut talk = Talk::answered(talk::plan(self.node.sip(), NUMBER)).await;
        talk.hear(5).await;
        let summary = talk.hang_up().await;
        assert_eq!(summary.problem, None);
        assert_eq!(self.node.record(&summary.call_id).await.cause, "normal");
        let of = |what: &str| {
            format!(
                "SELECT ({what})::text FROM calls c WHERE signalling_id = '{}'",
                summary.call_id
            )
        };
        let text = async |sql: String| postgres::text(&self.node.database(), &sql).await;
        let event =
            "SELECT detail FROM call_events e WHERE e.call_id = c.id AND name = 'answer_asked'";
        let event = serde_json::from_str(&text(of(event)).await).unwrap();
        (event, text(of("ai_profile_id")).await, text(of("id")).await)
    }
}

fn check_signed(told: &Told) {
    let header = &told.headers["tandem-signature"];
    let (at, _) = header.strip_prefix("t=").unwrap().split_once(',').unwrap();
    let at = jiff::Timestamp::from_second(at.parse().unwrap()).unwrap();
    let secret = Secret::new(SECRET.to_owned());
    assert_eq!(*header, signature::sign(at, told.text.as_bytes(), &[secret]));
}

#[tokio::test]
async fn an_application_says_which_profile_answers_and_is_told_of_the_trace() {
    let asked = Asked::start(10_000).await;
    let events = Receiver::start(200).await;
    let wish = json!({"url": events.url(), "events": ["call.answer_asked", "call.ended"]});
    asked.send(("POST", "webhooks"), &wish, 201).await;
    let other = rows::uuid(5).to_string();
    let said = json!({"ai_profile_id": other, "variables": {"vip": "yes"}});
    asked.hook.answer_with(200, &said.to_string());
    let (event, profile, id) = asked.call().await;
    assert_eq!(event, json!({"outcome": "overridden", "ai_profile_id": other}));
    assert_eq!(profile, other);
    let told = asked.hook.told();
    assert_eq!(told.len(), 1, "asked once");
    check_signed(&told[0]);
    let question = &told[0].body;
    assert_eq!((&question["type"], &question["call_id"]), (&json!("call.answering"), &json!(id)));
    let document = openapi::document();
    let form = &document["components"]["schemas"]["AnsweringQuestion"];
    schema::check(&document, form, question, "question");
    assert_eq!(question["call"]["dialled"], NUMBER);
    assert_eq!(question["call"]["ai_profile_id"], rows::uuid(3).to_string());
    let trace = told[0].headers["traceparent"].clone();
    assert!(trace.starts_with(&format!("00-{}-", id.replace('-', ""))), "{trace}");
    let vip = format!("SELECT variables ->> 'vip' FROM calls WHERE id = '{id}'");
    assert_eq!(postgres::text(&asked.node.database(), &vip).await, "yes");
    // Events of the call are of the same trace.
    events.wait("both events", |told| told.len() >= 2).await;
    for told in events.told() {
        assert_eq!(told.headers["traceparent"], trace);
    }
    // What changes nothing keeps the profile, and so does what makes no sense.
    let foreign = json!({"ai_profile_id": rows::uuid(6)}).to_string();
    for (status, said, event) in [
        (200, "{}", json!({"outcome": "kept"})),
        (204, "", json!({"outcome": "kept"})),
        (200, foreign.as_str(), json!({"outcome": "failed", "why": "unknown_profile"})),
        (200, "<Response/>", json!({"outcome": "failed", "why": "bad_answer"})),
        (500, "{}", json!({"outcome": "failed", "why": "refused"})),
    ] {
        asked.hook.answer_with(status, said);
        let (came, profile, _) = asked.call().await;
        assert_eq!((came, profile), (event, rows::uuid(3).to_string()), "{status} {said}");
    }
    let count = async |outcome: &str| {
        asked.node.metric(&format!("answer_webhooks_total{{outcome=\"{outcome}\"}}")).await
    };
    assert_eq!((count("overridden").await, count("kept").await), (1, 2));
    assert_eq!(asked.node.metric("answer_webhook_seconds_count").await, 6);
}

#[tokio::test]
async fn an_application_that_is_silent_or_gone_keeps_nobody_from_answering() {
    let asked = Asked::start(300).await;
    asked.hook.answer(SILENT);
    let (event, profile, _) = asked.call().await;
    assert_eq!(event, json!({"outcome": "failed", "why": "late"}));
    assert_eq!(profile, rows::uuid(3).to_string());
    let Asked { node, hook, key } = asked;
    drop(hook);
    let asked = Asked { node, hook: Receiver::start(200).await, key };
    assert_eq!(asked.call().await.0, json!({"outcome": "failed", "why": "unreachable"}));
}

#[tokio::test]
async fn a_caller_may_hang_up_while_the_application_is_asked() {
    let asked = Asked::start(10_000).await;
    asked.hook.answer(SILENT);
    let talk = Talk::dial(talk::plan(asked.node.sip(), NUMBER));
    asked.hook.wait("the question", |told| !told.is_empty()).await;
    let summary = talk.hang_up().await;
    let record = asked.node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.is_answered), ("caller_cancelled", false));
}

#[tokio::test]
async fn an_answer_that_brings_more_variables_than_a_call_may_have_is_none() {
    let asked = Asked::start(10_000).await;
    let node = &asked.node;
    let mut far = carrier::carrier(node, "127.0.0.9").await;
    node.put(&[carrier::trunk(14, "127.0.0.9/32", &[far.local()], json!({}))]).await;
    let said = json!({"ai_profile_id": rows::uuid(5), "variables": {"n0": "y", "more": "x"}});
    asked.hook.answer_with(200, &said.to_string());
    let variables: Value = (0..64).map(|n| (format!("n{n}"), json!("x"))).collect();
    let wish =
        json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-14", "variables": variables.clone()});
    let call = call_out::place(node, &asked.key, wish).await;
    carrier::answer(&mut far).await;
    asked.hook.wait("the question", |told| !told.is_empty()).await;
    wait_for("the answer is judged", async || {
        let shown = node.read(&carrier::calls(1, &format!("/{call}")), &asked.key).await;
        let mut events = shown["events"].as_array().unwrap().iter();
        let judged = events.find(|event| event["name"] == "answer_asked")?.clone();
        assert_eq!(judged["detail"], json!({"outcome": "failed", "why": "too_many_variables"}));
        assert_eq!(shown["live"]["variables"], variables);
        Some(())
    })
    .await;
    far.hang_up().await;
    let record = carrier::shown(node, 1, &call, &asked.key).await;
    assert_eq!(record["ai_profile_id"], rows::uuid(3).to_string());
    assert_eq!(record["variables"], variables);
}

#[tokio::test]
async fn a_call_out_is_asked_about_once_it_was_answered_unless_who_placed_it_said_who_speaks() {
    let asked = Asked::start(10_000).await;
    let node = &asked.node;
    let mut far = carrier::carrier(node, "127.0.0.9").await;
    node.put(&[carrier::trunk(14, "127.0.0.9/32", &[far.local()], json!({}))]).await;
    let other = rows::uuid(5).to_string();
    asked.hook.answer_with(200, &json!({"ai_profile_id": other}).to_string());
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-14"});
    for (agent, times) in [(None, 1), (Some(json!({"kind": "echo"})), 1)] {
        let mut wish = wish.clone();
        if let Some(agent) = &agent {
            wish["agent"] = agent.clone();
        }
        let call = call_out::place(node, &asked.key, wish).await;
        let invite = far.expect("INVITE ").await;
        far.respond(&invite, "180 Ringing", "", "").await;
        assert_eq!(asked.hook.told().len(), if agent.is_none() { 0 } else { 1 });
        carrier::pick_up(&mut far, &invite).await;
        // Both are echoes; the profile's own agent is a tone.
        carrier::hears((&far, invite.audio_port()), &far, 0x51).await;
        assert_eq!(asked.hook.told().len(), times);
        node.post(&carrier::calls(1, &format!("/{call}/hangup")), &asked.key, &json!({})).await;
        carrier::hear_bye(&far).await;
        let record = carrier::shown(node, 1, &call, &asked.key).await;
        let events = record["events"].as_array().unwrap().iter();
        let outcomes = events.filter(|event| event["name"] == "answer_asked");
        let outcomes: Vec<_> = outcomes.map(|event| &event["detail"]["outcome"]).collect();
        match agent {
            None => {
                assert_eq!(record["ai_profile_id"], other);
                assert_eq!(outcomes, ["overridden"]);
                let question = &asked.hook.told()[0].body;
                assert_eq!(question["call"]["direction"], "outbound");
                assert_eq!(question["call_id"], call);
            }
            Some(_) => assert!(outcomes.is_empty(), "{record}"),
        }
    }
}

#[tokio::test]
async fn a_call_out_that_is_refused_is_told_as_failed_live_and_by_webhook() {
    let asked = Asked::start(10_000).await;
    let node = &asked.node;
    let far = carrier::carrier(node, "127.0.0.9").await;
    node.put(&[carrier::trunk(14, "127.0.0.9/32", &[far.local()], json!({}))]).await;
    let hook = Receiver::start(200).await;
    let types = ["call.failed", "call.ended", "call.record_written"];
    asked.send(("POST", "webhooks"), &json!({"url": hook.url(), "events": types}), 201).await;
    let path = format!("/api/v1/tenants/{}/events", rows::uuid(1));
    let bearer = format!("Bearer {}", asked.key);
    let headers = [("authorization", bearer.as_str())];
    let mut follower = Follower::open(node.http(), &path, &headers).await;

    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-14"});
    let call = call_out::place(node, &asked.key, wish).await;
    let invite = far.expect("INVITE ").await;
    carrier::refuse(&far, &invite, "486 Busy Here", "").await;

    let is_told = |text: &str| text.contains("event: call.failed\n") && text.ends_with("\n\n");
    assert!(follower.until("the failure", is_told).await, "{}", follower.text);
    let events = follower.events();
    let (_, failed) = events.iter().find(|(_, event)| event["type"] == "call.failed").unwrap();
    let (state, of) = (&failed["state"], &failed["call_id"]);
    assert_eq!((state, of), (&json!("failed"), &json!(call)), "{failed}");
    assert!(events.iter().all(|(_, event)| event["type"] != "call.ended"), "{}", follower.text);
    // In the order in which they are told of a call: of an end it would be before the record.
    hook.wait("the failure and the record", |told| told.len() >= 2).await;
    let told = hook.told();
    let kinds: Vec<_> = told.iter().map(|told| &told.body["type"]).collect();
    assert_eq!(kinds, ["call.failed", "call.record_written"]);
    assert_eq!((&told[0].body["call_id"], &told[0].body["id"]), (&json!(call), &failed["id"]));
    let document = openapi::document();
    let form = &document["components"]["schemas"]["CallEvent"];
    for told in &told {
        schema::check(&document, form, &told.body, "told");
    }
    let record = carrier::shown(node, 1, &call, &asked.key).await;
    assert_eq!((&record["status"], &record["cause"]), (&json!("failed"), &json!("busy")));
}
