//! Lists narrowed by each field that they can be narrowed by.

use crate::bench::Bench;
use serde_json::Value;
use serde_json::json;
use tandem::store::ai_profiles::AI_PROFILES;
use tandem::store::api_keys::API_KEYS;
use tandem::store::audit_log::AUDIT_LOG;
use tandem::store::campaigns::CAMPAIGNS;
use tandem::store::numbers::NUMBERS;
use tandem::store::resource::Resource;
use tandem::store::routing_profiles::ROUTING_PROFILES;
use tandem::store::tenants::TENANTS;
use tandem::store::trunks::TRUNKS;
use tandem::store::webhooks::WEBHOOKS;

const A: usize = 0;
const PLATFORM: usize = 2;

/// Makes two things that differ in every field that lists of them are narrowed by; each of these fields finds
/// the one and the other. Their ids.
async fn told_apart(
    bench: &Bench,
    (noun, resource): (&str, &Resource),
    key: usize,
    [one, other]: [Value; 2],
) -> [Value; 2] {
    let path = bench.path(0, noun);
    let made = [bench.make(&path, key, one).await, bench.make(&path, key, other).await];
    for field in resource.fields.iter().filter(|field| field.is_filter) {
        let name = field.name;
        assert_ne!(made[0][name], made[1][name], "{noun}: {name} is the same");
        for own in &made {
            let text = match &own[name] {
                Value::String(text) => text.replace('+', "%2B"),
                value => value.to_string(),
            };
            let list = bench.read(&format!("{path}?{name}={text}"), A).await;
            let rows = list[resource.plural].as_array().unwrap();
            let ids: Vec<_> = rows.iter().map(|row| &row["id"]).collect();
            assert_eq!(ids, [&own["id"]], "{noun} by {name}: {list}");
        }
    }
    made.map(|made| made["id"].clone())
}

#[tokio::test]
async fn each_field_that_narrows_a_list_tells_things_apart() {
    let bench = Bench::new().await;
    let profile = |name: &str, role: &str| {
        json!({
            "name": name, "role": role, "system_prompt": "You answer.", "agent": {"kind": "echo"},
        })
    };
    let both = [profile("one", "sales"), profile("two", "support")];
    let profiles = told_apart(&bench, ("ai-profiles", &AI_PROFILES), A, both).await;

    let outbound = json!({"gateway": [{"name": "own", "uri": "sip:gateway.example"}],
        "digest": {"password_ref": "sealed:password"}});
    let telnyx = json!({"name": "two", "profile": "telnyx", "enabled": true,
        "overrides": {"vars": {"username": "u"}, "outbound": outbound},
        "secrets": {"password": "hunter2"}});
    let both = [json!({"name": "one", "profile": "generic", "enabled": false}), telnyx];
    let trunks = told_apart(&bench, ("trunks", &TRUNKS), A, both).await;

    let both = [
        json!({"name": "one", "status": "active", "ai_profile_id": profiles[0]}),
        json!({"name": "two", "status": "paused", "ai_profile_id": profiles[1]}),
    ];
    let campaigns = told_apart(&bench, ("campaigns", &CAMPAIGNS), A, both).await;

    let both = [
        json!({"name": "one", "plan": "starter", "country": "IN"}),
        json!({"name": "two", "plan": "growth", "country": "US"}),
    ];
    let noun = ("routing-profiles", &ROUTING_PROFILES);
    let routing = told_apart(&bench, noun, PLATFORM, both).await;

    let key = |label: &str| json!({"role": "read-only", "label": label});
    told_apart(&bench, ("api-keys", &API_KEYS), A, [key("one"), key("two")]).await;

    let hook = |is_active: bool| json!({"url": "https://hooks.example/", "is_active": is_active});
    told_apart(&bench, ("webhooks", &WEBHOOKS), A, [hook(true), hook(false)]).await;

    let number = |at: usize, first: &str, word: &str, status: &str, state: &str| {
        json!({
            "first_number": first, "provider": word, "label": word, "assignment_status": status,
            "compliance_state": state, "trunk_id": trunks[at], "routing_profile_id": routing[at],
            "ai_profile_id": profiles[at], "campaign_id": campaigns[at], "outbound_trunk_id": trunks[at],
        })
    };
    let both = [
        number(0, "+15550100", "one", "assigned", "approved"),
        // It is not active, for either reason.
        number(1, "+15550101", "two", "reserved", "pending"),
    ];
    told_apart(&bench, ("numbers", &NUMBERS), PLATFORM, both).await;
}

/// Of two rows that differ in every field that lists of them are narrowed by, each of these fields finds the one
/// without the other. More of their kind are there.
async fn told_apart_among_others(
    bench: &Bench,
    (path, resource): (&str, &Resource),
    [one, other]: [&Value; 2],
) {
    for field in resource.fields.iter().filter(|field| field.is_filter) {
        let name = field.name;
        for (own, not) in [(one, other), (other, one)] {
            let text = own[name].as_str().unwrap().replace(' ', "%20");
            let list = bench.read(&format!("{path}?{name}={text}"), PLATFORM).await;
            let rows = list[resource.plural].as_array().unwrap();
            let has = |row: &Value| rows.iter().any(|found| found["id"] == row["id"]);
            assert!(has(own) && !has(not), "{path} by {name}: {list}");
        }
    }
}

#[tokio::test]
async fn each_field_that_narrows_tenants_and_the_audit_log_tells_them_apart() {
    let bench = Bench::new().await;
    let tenant = |name: &str, status: &str, plan: &str| json!({"name": name, "status": status, "plan": plan});
    let path = "/api/v1/tenants";
    let one = bench.make(path, PLATFORM, tenant("one", "active", "growth")).await;
    let other = bench.make(path, PLATFORM, tenant("two", "suspended", "custom")).await;
    told_apart_among_others(&bench, (path, &TENANTS), [&one, &other]).await;

    let body = json!({"name": "one", "profile": "generic"});
    let trunk = bench.make(&bench.path(0, "trunks"), A, body).await;
    let path = bench.path(0, "routing-profiles");
    let profile = bench.make(&path, PLATFORM, json!({"name": "two"})).await;
    let item = format!("{path}/{}", profile["id"].as_str().unwrap());
    let changed = bench.send(("PATCH", &item), PLATFORM, &json!({"name": "new"})).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let path = bench.path(0, "audit-log");
    let log = bench.read(&path, PLATFORM).await;
    let entry = |action: &str, of: &Value| {
        let entries = log["entries"].as_array().unwrap().iter();
        let mut own = entries.filter(|entry| entry["subject_id"] == of["id"]);
        own.find(|entry| entry["action"] == action).unwrap()
    };
    let both = [entry("create", &trunk), entry("update", &profile)];
    told_apart_among_others(&bench, (&path, &AUDIT_LOG), both).await;
}
