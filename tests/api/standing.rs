//! Numbers as they stand: what they are assigned to, and whether they may be used; and routing profiles that numbers follow.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::postgres;
use serde_json::Value;
use serde_json::json;

const A: usize = 0;
const B: usize = 1;
const PLATFORM: usize = 2;

async fn changed(bench: &Bench, item: &str, change: Value) -> Value {
    let answer = bench.send(("PATCH", item), PLATFORM, &change).await;
    assert_eq!(answer.status, 200, "{change}: {}", answer.body);
    answer.json()
}

#[tokio::test]
async fn whether_a_number_is_assigned_follows_from_what_it_is_assigned_to() {
    let bench = Bench::new().await;
    let profile =
        json!({"name": "desk", "system_prompt": "You answer.", "agent": {"kind": "echo"}});
    let path = bench.path(0, "ai-profiles");
    bench.make(&path, A, profile.clone()).await;
    let mut second = profile;
    second["name"] = json!("second");
    let profile = bench.make(&path, A, second).await;
    let campaign = bench.make(&bench.path(0, "campaigns"), A, json!({"name": "c"})).await;
    let numbers = bench.path(0, "numbers");
    let made = bench.make(&numbers, PLATFORM, json!({"first_number": "+15550100"})).await;
    assert_eq!(made["assignment_status"], "available", "{made}");
    let item = format!("{numbers}/{}", made["id"].as_str().unwrap());
    let said = changed(&bench, &item, json!({"ai_profile_id": profile["id"]})).await;
    assert_eq!(said["assignment_status"], "assigned");
    let said =
        changed(&bench, &item, json!({"campaign_id": campaign["id"], "ai_profile_id": null})).await;
    assert_eq!(said["assignment_status"], "assigned");
    for (status, why) in [("available", "is assigned"), ("assigned", "")] {
        let answer =
            bench.send(("PATCH", &item), PLATFORM, &json!({"assignment_status": status})).await;
        if why.is_empty() {
            assert_eq!(answer.status, 200, "{}", answer.body);
        } else {
            check_field(&answer, 409, "conflict", "assignment_status");
        }
    }
    // What is deleted is nobody's assignment any more, and psql is believed no more than the API.
    changed(&bench, &item, json!({"campaign_id": null, "ai_profile_id": profile["id"]})).await;
    let gone = format!("{path}/{}", profile["id"].as_str().unwrap());
    assert_eq!(bench.send(("DELETE", &gone), A, &Value::Null).await.status, 204);
    assert_eq!(bench.read(&item, A).await["assignment_status"], "available");
    let sql = "UPDATE phone_numbers SET assignment_status = 'assigned'";
    postgres::execute(&bench.database, sql).await.unwrap();
    assert_eq!(bench.read(&item, A).await["assignment_status"], "available");
    let list = bench.read(&format!("{numbers}?assignment_status=available"), A).await;
    assert_eq!(list["numbers"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn a_number_is_not_active_before_it_may_be_used() {
    let bench = Bench::new().await;
    let numbers = bench.path(0, "numbers");
    let body = json!({"first_number": "+15550100", "compliance_state": "pending"});
    let made = bench.make(&numbers, PLATFORM, body).await;
    assert_eq!(made["is_active"], false, "{made}");
    let item = format!("{numbers}/{}", made["id"].as_str().unwrap());
    let on = json!({"is_active": true});
    for key in [A, PLATFORM] {
        let answer = bench.send(("PATCH", &item), key, &on).await;
        check_field(&answer, 409, "conflict", "is_active");
    }
    let body =
        json!({"first_number": "+15550101", "compliance_state": "rejected", "is_active": true});
    let answer = bench.send(("POST", &numbers), PLATFORM, &body).await;
    check_field(&answer, 409, "conflict", "is_active");
    changed(&bench, &item, json!({"compliance_state": "approved"})).await;
    let answer = bench.send(("PATCH", &item), A, &on).await;
    assert_eq!(answer.json()["is_active"], true, "{}", answer.body);
    // Taken away again, and lifted by the platform alone.
    let released = changed(&bench, &item, json!({"assignment_status": "released"})).await;
    assert_eq!(released["is_active"], false, "{released}");
    check_field(&bench.send(("PATCH", &item), A, &on).await, 409, "conflict", "is_active");
    let lifted = json!({"assignment_status": "available", "is_active": true});
    let lifted = changed(&bench, &item, lifted).await;
    assert_eq!(
        (&lifted["is_active"], &lifted["assignment_status"]),
        (&json!(true), &json!("available"))
    );
}

#[tokio::test]
async fn a_routing_profile_names_a_country_whose_numbering_is_known() {
    let bench = Bench::new().await;
    let path = "/api/v1/routing-profiles";
    for country in ["XX", "gb", "GBR"] {
        let body = json!({"name": "way", "country": country});
        let answer = bench.send(("POST", path), PLATFORM, &body).await;
        check_field(&answer, 400, "invalid_value", "country");
    }
    let body = json!({"name": "way", "country": "GB", "plan": "growth"});
    let made = bench.make(path, PLATFORM, body).await;
    assert_eq!((&made["country"], &made["plan"]), (&json!("GB"), &json!("growth")));
}

#[tokio::test]
async fn the_admins_of_a_tenant_make_so_much_of_each_thing_and_others_as_much() {
    let bench = Bench::new().await;
    let (tenant, agent) = (bench.tenants[0], json!({"kind": "echo"}));
    // One key is there, and those that open nothing take no room.
    let made = format!(
        "INSERT INTO api_keys (id, tenant_id, role, hash, revoked_at, expires_at) \
         SELECT gen_random_uuid(), '{tenant}', 'viewer', sha256(n::text::bytea), \
                CASE WHEN n % 4 = 1 THEN now() END, CASE WHEN n % 4 = 2 THEN now() END \
         FROM generate_series(1, 198) n; \
         INSERT INTO trunks (id, tenant_id, name, profile) \
         SELECT gen_random_uuid(), '{tenant}', 't-' || n, 'generic' FROM generate_series(1, 199) n; \
         INSERT INTO ai_profiles (id, tenant_id, name, system_prompt, agent) \
         SELECT gen_random_uuid(), '{tenant}', 'p-' || n, 'x', '{agent}' FROM generate_series(1, 999) n; \
         INSERT INTO campaigns (id, tenant_id, name) \
         SELECT gen_random_uuid(), '{tenant}', 'c-' || n FROM generate_series(1, 999) n"
    );
    postgres::execute(&bench.database, &made).await.unwrap();
    let profile = json!({"name": "last", "system_prompt": "x", "agent": agent});
    let things = [
        ("api-keys", json!({"role": "read-only"}), "at most 100 "),
        ("trunks", json!({"name": "last", "profile": "generic"}), "at most 200 "),
        ("ai-profiles", profile, "at most 1000 "),
        ("campaigns", json!({"name": "last"}), "at most 1000 "),
    ];
    for (noun, body, most) in &things {
        bench.make(&bench.path(0, noun), A, body.clone()).await;
        let mut body = body.clone();
        if body["name"].is_string() {
            body["name"] = json!("over");
        }
        for key in [A, PLATFORM] {
            let refused = bench.send(("POST", &bench.path(0, noun)), key, &body).await;
            check_error(&refused, 409, "conflict");
            assert!(refused.body.contains(most), "{}", refused.body);
        }
        bench.make(&bench.path(1, noun), B, body).await;
    }
    // A key that takes the place of another is no more of them, also while both open.
    let keys = bench.path(0, "api-keys");
    let own = bench.read(&format!("{keys}?limit=200"), A).await;
    let is_open = |key: &&Value| key["revoked_at"].is_null() && key["expires_at"].is_null();
    let open: Vec<_> =
        own["api_keys"].as_array().unwrap().iter().filter(is_open).cloned().collect();
    assert_eq!(open.len(), 100);
    for (of, keep_s) in open.iter().filter(|key| key["role"] == "read-only").zip([0, 60]) {
        let path = format!("{keys}/{}/rotate", of["id"].as_str().unwrap());
        let rotated = bench.send(("POST", &path), A, &json!({"keep_s": keep_s})).await;
        assert_eq!(rotated.status, 201, "{}", rotated.body);
    }
    for key in open.iter().filter(|key| key["role"] == "read-only").skip(2).take(2) {
        let path = format!("{keys}/{}", key["id"].as_str().unwrap());
        assert_eq!(bench.send(("DELETE", &path), A, &Value::Null).await.status, 204);
    }
    bench.make(&keys, A, json!({"role": "read-only"})).await;
    bench.make("/api/v1/api-keys", PLATFORM, json!({"role": "read-only"})).await;
}

#[tokio::test]
async fn a_tenant_with_very_many_keys_from_before_gives_each_a_successor_at_once() {
    let bench = Bench::new().await;
    let insert = format!(
        "INSERT INTO api_keys (id, tenant_id, role, hash) \
         SELECT gen_random_uuid(), '{}', 'viewer', sha256(n::text::bytea) FROM generate_series(1, 250) n",
        bench.tenants[0]
    );
    let (off, on) = ("DISABLE TRIGGER check_max", "ENABLE TRIGGER check_max");
    for sql in [format!("ALTER TABLE api_keys {off}"), insert, format!("ALTER TABLE api_keys {on}")]
    {
        postgres::execute(&bench.database, &sql).await.unwrap();
    }
    let keys = bench.path(0, "api-keys");
    let own = bench.read(&format!("{keys}?limit=10"), A).await;
    let old = own["api_keys"].as_array().unwrap().iter();
    let old: Vec<_> = old.filter(|key| key["role"] == "read-only").take(2).collect();
    let rotate = async |of: &Value, keep_s: u32| {
        let path = format!("{keys}/{}/rotate", of["id"].as_str().unwrap());
        bench.send(("POST", &path), A, &json!({"keep_s": keep_s})).await
    };
    let rotated = rotate(old[0], 0).await;
    assert_eq!(rotated.status, 201, "{}", rotated.body);
    // Beside the old one it would be one more.
    check_error(&rotate(old[1], 60).await, 409, "conflict");
}

#[tokio::test]
async fn a_tenants_key_claims_no_more_numbers_than_a_tenant_may_need() {
    let bench = Bench::new().await;
    let numbers = bench.path(0, "numbers");
    let trunk = json!({"name": "own", "profile": "generic"});
    let trunk = bench.make(&bench.path(0, "trunks"), A, trunk).await["id"].clone();
    let range = |first: u64, width: u64| {
        json!({"first_number": format!("+{first}"), "last_number": format!("+{}", first + width - 1),
               "trunk_id": trunk})
    };
    let wide = range(440_000_000_000, 10_001);
    let refused = bench.send(("POST", &numbers), A, &wide).await;
    check_field(&refused, 400, "invalid_value", "last_number");
    bench.make(&numbers, PLATFORM, wide).await;
    let claimed = async |n: u64| {
        bench.send(("POST", &numbers), A, &range(450_000_000_000 + n * 10_000, 10_000)).await
    };
    for n in 0..8 {
        assert_eq!(claimed(n).await.status, 201);
    }
    // With those of the platform's giving they are too many.
    check_error(&claimed(8).await, 409, "conflict");
    bench.make(&numbers, A, range(460_000_000_000, 9_999)).await;
    let one = bench.send(("POST", &numbers), A, &range(470_000_000_000, 1)).await;
    check_error(&one, 409, "conflict");
    assert!(one.body.contains("100000"), "{}", one.body);
    bench.make(&numbers, PLATFORM, range(470_000_000_000, 1)).await;
    // Another tenant's are not counted, and a change that claims nothing is none of it.
    let own = bench
        .make(&bench.path(1, "trunks"), B, json!({"name": "of-b", "profile": "generic"}))
        .await;
    let mut of_b = range(480_000_000_000, 10_000);
    of_b["trunk_id"] = own["id"].clone();
    bench.make(&bench.path(1, "numbers"), B, of_b).await;
    let list = bench.read(&numbers, A).await;
    let item = format!("{numbers}/{}", list["numbers"][0]["id"].as_str().unwrap());
    let labelled = bench.send(("PATCH", &item), A, &json!({"label": "x"})).await;
    assert_eq!(labelled.status, 200, "{}", labelled.body);
    // And so many entries.
    let of_a = bench.tenants[0];
    let few = format!(
        "DELETE FROM phone_numbers WHERE tenant_id = '{of_a}'; \
         INSERT INTO phone_numbers (id, tenant_id, first_number, last_number) \
         SELECT gen_random_uuid(), '{of_a}', number, number FROM generate_series(1, 9999) n, \
              concat('+', 490000000000 + n) AS number"
    );
    postgres::execute(&bench.database, &few).await.unwrap();
    bench.make(&numbers, A, range(460_000_000_000, 1)).await;
    let one = bench.send(("POST", &numbers), A, &range(470_000_000_000, 1)).await;
    check_error(&one, 409, "conflict");
}
