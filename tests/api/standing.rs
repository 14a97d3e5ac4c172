//! Numbers as they stand: what they are assigned to, and whether they may be used; and routing profiles that numbers follow.

use crate::bench::Bench;
use crate::bench::check_field;
use crate::postgres;
use serde_json::Value;
use serde_json::json;

const A: usize = 0;
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
