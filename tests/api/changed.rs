//! What a change leaves behind: an entry of the audit log, and all that it did not name as it was.

use crate::access::changes_below;
use crate::bench::Bench;
use crate::postgres;
use serde_json::Value;
use serde_json::json;
use tandem::store::ai_profiles::AI_PROFILES;
use tandem::store::campaigns::CAMPAIGNS;
use tandem::store::numbers::NUMBERS;
use tandem::store::resource::Resource;
use tandem::store::resource::field::Given;
use tandem::store::routing_profiles::ROUTING_PROFILES;
use tandem::store::tenants::TENANTS;
use tandem::store::trunks::TRUNKS;
use tandem::store::webhooks::WEBHOOKS;

const A: usize = 0;
const PLATFORM: usize = 2;

/// A thing of the first tenant that nothing else needs.
async fn make(bench: &Bench, noun: &str, number: usize) -> Value {
    let name = format!("n{number}");
    let body = match noun {
        "ai-profiles" => json!({"name": name, "system_prompt": "x", "agent": {"kind": "echo"}}),
        "trunks" => json!({"name": name, "profile": "generic"}),
        "numbers" => json!({"first_number": format!("+155501{number:02}")}),
        "routing-profiles" | "campaigns" => json!({"name": name}),
        "api-keys" => json!({"role": "read-only", "label": name}),
        "webhooks" => json!({"url": "https://hooks.example/"}),
        noun => panic!("how is one of {noun} made?"),
    };
    bench.make(&bench.path(0, noun), PLATFORM, body).await
}

/// What a route is sent, what the audit log calls that, and the field that is another one then.
fn change_by(method: &str, below: &str) -> (Value, &'static str, &'static str) {
    match (method, below) {
        ("PATCH", "numbers/{id}") => (json!({"label": "new"}), "update", "label"),
        ("PATCH", "webhooks/{id}") => (json!({"description": "new"}), "update", "description"),
        ("PATCH", _) => (json!({"name": "new"}), "update", "name"),
        ("DELETE", "api-keys/{id}") => (Value::Null, "revoke", "revoked_at"),
        ("DELETE", _) => (Value::Null, "delete", "id"),
        ("POST", "api-keys/{id}/rotate") => (json!({}), "rotate", "revoked_at"),
        ("POST", "webhooks/{id}/rotate-secret") => (Value::Null, "rotate-secret", "secrets"),
        ("POST", "webhooks/{id}/replay") => (json!({"state": "dead"}), "replay", "events"),
        _ => panic!("what does {method} {below} take?"),
    }
}

/// Lets the endpoint have dead letters; answers how many.
async fn dead_letters(bench: &Bench, endpoint: &str) -> i64 {
    bench.call(bench.tenants[0], "+15557701").await;
    let of_it = format!("WHERE endpoint_id = '{endpoint}'");
    let settle = format!("UPDATE webhook_outbox SET state = 'dead', settled_at = now() {of_it}");
    postgres::execute(&bench.database, &settle).await.unwrap();
    let count = format!("SELECT count(*) FROM webhook_outbox {of_it}");
    postgres::count(&bench.database, &count).await
}

/// A thing that was made and changed by the route has two entries: of its making, and of this change.
async fn is_noted(bench: &Bench, (method, below): (&str, &str), number: usize) {
    let noun = below.split('/').next().unwrap();
    let thing = make(bench, noun, number).await;
    let id = thing["id"].as_str().unwrap();
    let (body, action, field) = change_by(method, below);
    let dead = if action == "replay" { dead_letters(bench, id).await } else { 0 };
    let path = bench.path(0, &below.replace("{id}", id));
    let answer = bench.send((method, &path), PLATFORM, &body).await;
    assert!((200..300).contains(&answer.status), "{method} {below}: {}", answer.body);
    let log = bench.read(&bench.path(0, &format!("audit-log?subject_id={id}")), A).await;
    let entries = log["entries"].as_array().unwrap();
    let (made, changed): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry["action"] == "create");
    assert_eq!((made.len(), changed.len()), (1, 1), "{method} {below}: {log}");
    let entry = changed[0];
    assert_eq!((&entry["action"], &entry["subject_id"]), (&json!(action), &thing["id"]), "{entry}");
    assert!(entry["api_key_id"].is_string(), "{entry}");
    let detail = &entry["detail"];
    let (before, after) = (&detail["before"], &detail["after"]);
    match action {
        "replay" => {
            assert!(dead > 0);
            assert_eq!(answer.json()["replayed"], dead);
            assert_eq!(detail, &json!({"events": dead}));
        }
        "delete" => assert_eq!((&before[field], after), (&thing[field], &Value::Null), "{entry}"),
        "update" => {
            assert_eq!((&before[field], &after[field]), (&thing[field], &body[field]), "{entry}");
        }
        _ => {
            let has = |side: &Value| side.get(field).is_some();
            assert!(has(before) && has(after) && before[field] != after[field], "{entry}");
        }
    }
}

#[tokio::test]
async fn each_route_that_changes_a_thing_leaves_one_entry_with_before_and_after() {
    let bench = Bench::new().await;
    let mut changes = changes_below("/api/v1/tenants/{tenant_id}/");
    // Recordings are made by calls: said.rs looks at what their deletion leaves.
    changes.retain(|(_, below)| !below.starts_with("recordings/"));
    assert!(changes.len() >= 16, "{changes:?}");
    for (number, change) in changes.into_iter().enumerate() {
        is_noted(&bench, change, number).await;
    }
}

/// A thing with all that may be given of its kind, and a change of one of that.
struct Whole {
    resource: &'static Resource,
    path: String,
    body: Value,
    change: Value,
}

/// What others are assigned to.
struct Others {
    trunk: Value,
    shared_trunk: Value,
    profile: Value,
    campaign: Value,
    routing: Value,
}

impl Others {
    async fn make(bench: &Bench) -> Self {
        let trunk = json!({"name": "shared", "profile": "generic"});
        let shared_trunk = bench.make("/api/v1/trunks", PLATFORM, trunk).await["id"].clone();
        let id = async |noun: &str, number: usize| make(bench, noun, number).await["id"].clone();
        Self {
            trunk: id("trunks", 1).await,
            shared_trunk,
            profile: id("ai-profiles", 2).await,
            campaign: id("campaigns", 3).await,
            routing: id("routing-profiles", 4).await,
        }
    }
}

fn whole_tenant(others: &Others) -> Whole {
    let body = json!({
        "name": "whole", "status": "suspended", "plan": "growth", "calls_max": 1, "cps_max": 2,
        "outbound_trunk_id": others.shared_trunk, "allow_destinations": ["+1555"],
        "calls_out_max": 3, "daily_minutes": 4, "daily_spend_micros": 5,
        "daily_spend_currency": "INR", "keep_calls_days": 6, "keep_traces_days": 7,
        "record": "all", "keep_recordings_days": 8, "keep_transcripts_days": 9,
        "keep_audit_days": 10
    });
    let (path, change) = ("/api/v1/tenants".to_owned(), json!({"calls_max": 11}));
    Whole { resource: &TENANTS, path, body, change }
}

fn whole_number(bench: &Bench, others: &Others) -> Whole {
    let body = json!({
        "first_number": "+15550100", "last_number": "+15550109", "trunk_id": others.trunk,
        "outbound_trunk_id": others.trunk, "routing_profile_id": others.routing,
        "ai_profile_id": others.profile, "campaign_id": others.campaign, "provider": "carrier",
        "label": "desk", "assignment_status": "assigned", "compliance_state": "approved",
        "record": "off", "is_active": false
    });
    let (path, change) = (bench.path(0, "numbers"), json!({"label": "new"}));
    Whole { resource: &NUMBERS, path, body, change }
}

fn whole_profile(bench: &Bench, others: &Others) -> Whole {
    let hook = json!({
        "url": "https://crm.example/who", "secret_ref": "sealed:hook", "timeout_ms": 500
    });
    let body = json!({
        "name": "whole", "role": "sales", "system_prompt": "You sell.", "is_default": true,
        "agent": {"kind": "parrot", "hangup_after_ms": 500},
        "fallback_profiles": [others.profile], "record": "all", "answer_webhook": hook,
        "secrets": {"hook": "hunter3"}
    });
    let (path, change) = (bench.path(0, "ai-profiles"), json!({"role": "support"}));
    Whole { resource: &AI_PROFILES, path, body, change }
}

fn whole_trunk(bench: &Bench) -> Whole {
    let body = json!({
        "name": "whole", "profile": "generic", "overrides": {"limits": {"channels_in": 3}},
        "enabled": false, "secrets": {"word": "hunter2"}
    });
    let (path, change) = (bench.path(0, "trunks"), json!({"name": "new"}));
    Whole { resource: &TRUNKS, path, body, change }
}

fn whole_campaign(bench: &Bench, others: &Others) -> Whole {
    let body = json!({
        "name": "whole", "status": "paused", "ai_profile_id": others.profile,
        "time_zone": "Asia/Kolkata", "window_from": "09:00", "window_until": "21:00",
        "weekdays": ["mon", "tue"], "calls_max": 3
    });
    let (path, change) = (bench.path(0, "campaigns"), json!({"status": "active"}));
    Whole { resource: &CAMPAIGNS, path, body, change }
}

fn whole_routing_profile(bench: &Bench, others: &Others) -> Whole {
    let body = json!({
        "name": "whole", "plan": "growth", "country": "IN", "outbound_trunk_id": others.trunk,
        "inbound_trunk_id": others.trunk
    });
    let (path, change) = (bench.path(0, "routing-profiles"), json!({"country": "GB"}));
    Whole { resource: &ROUTING_PROFILES, path, body, change }
}

fn whole_webhook(bench: &Bench) -> Whole {
    let body = json!({
        "url": "https://hooks.example/x", "description": "mine", "events": ["call.ended"],
        "is_active": false
    });
    let (path, change) = (bench.path(0, "webhooks"), json!({"description": "new"}));
    Whole { resource: &WEBHOOKS, path, body, change }
}

/// One that has all there is of its kind keeps it through a change of one field.
async fn keeps_the_rest(bench: &Bench, whole: Whole) {
    let Whole { resource, path, body, change } = whole;
    let made = bench.make(&path, PLATFORM, body.clone()).await;
    for field in resource.fields.iter().filter(|field| field.given != Given::Never) {
        let given = body.get(field.name);
        assert_eq!(given, Some(&made[field.name]), "{}: {}", resource.name, field.name);
    }
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let answer = bench.send(("PATCH", &item), PLATFORM, &change).await;
    assert_eq!(answer.status, 200, "{item} {change}: {}", answer.body);
    let kept = bench.read(&item, PLATFORM).await;
    let names = resource.fields.iter().map(|field| field.name);
    for name in names.filter(|name| *name != "updated_at").chain(["id", "secrets"]) {
        let expected = change.get(name).unwrap_or(&made[name]);
        assert_eq!(&kept[name], expected, "{}: {name}", resource.name);
    }
}

#[tokio::test]
async fn a_change_of_one_field_leaves_all_others_as_they_were() {
    let bench = Bench::new().await;
    let others = Others::make(&bench).await;
    for whole in [
        whole_tenant(&others),
        whole_number(&bench, &others),
        whole_profile(&bench, &others),
        whole_trunk(&bench),
        whole_campaign(&bench, &others),
        whole_routing_profile(&bench, &others),
        whole_webhook(&bench),
    ] {
        keeps_the_rest(&bench, whole).await;
    }
}
