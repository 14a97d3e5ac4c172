//! Campaigns: which numbers call for them, when, and how many calls at once.

use crate::call_out::node;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::http;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tandem::types::cause::HangupCause;

/// Changes something by the API, and waits until routing has it.
async fn put(node: &Node, key: &str, (method, path): (&str, &str), body: Value) -> Value {
    let changes = "routing_changes_total";
    let due = node.metric(changes).await + 1;
    let headers = [("authorization", format!("Bearer {key}"))];
    let path = format!("/api/v1/tenants/{}/{path}", rows::uuid(1));
    let body = body.to_string();
    let answer = http::request_with(node.http(), (method, &path), &headers, &body).await;
    assert!([200, 201].contains(&answer.status), "{method} {path}: {}", answer.body);
    wait_for("the change is in force", async || (node.metric(changes).await >= due).then_some(()))
        .await;
    answer.json()
}

/// What a call is refused with that is placed, and by the dry run, which says the same of what is configured.
async fn refused(node: &Node, key: &str, wish: Value) -> (u16, String) {
    let answer = node.post(&calls(1, ""), key, &wish).await;
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    // Calls that are under way are none of the dry run's.
    let told = if code == "campaign_limit" { Value::Null } else { json!(code) };
    assert_eq!(explained(node, key, &wish).await["cause"], told, "{wish}");
    (answer.status, code)
}

/// The dry run of a call out.
async fn explained(node: &Node, key: &str, wish: &Value) -> Value {
    let mut wish = wish.clone();
    wish["direction"] = json!("outbound");
    let path = format!("/api/v1/tenants/{}/explain", rows::uuid(1));
    let answer = node.post(&path, key, &wish).await;
    assert_eq!(answer.status, 200, "{wish}: {}", answer.body);
    answer.json()
}

/// The status of a call that is placed in Twilio's form, and what is said of it.
async fn by_twilio(node: &Node, key: &str, from: &str) -> (u16, String) {
    let account = format!("AC{}", rows::uuid(1).simple());
    let pair = STANDARD.encode(format!("{account}:{key}"));
    let headers = [
        ("authorization", format!("Basic {pair}")),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
    ];
    let form = format!("To={CALLED}&From={from}").replace('+', "%2B");
    let path = format!("/2010-04-01/Accounts/{account}/Calls.json");
    let answer = http::request_as(node.http(), ("POST", &path), &headers, &form).await;
    (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_campaign_calls_by_its_numbers_in_its_window_and_so_many_at_once() {
    let (node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    node.put(&[rows::number(5, 1, 2, "+15550111")]).await;
    let made =
        json!({"name": "spring", "time_zone": "Asia/Kolkata", "weekdays": [], "calls_max": 1});
    let campaign = put(&node, &key, ("POST", "campaigns"), made).await;
    let id = campaign["id"].as_str().unwrap();
    let item = format!("campaigns/{id}");
    let plain = json!({"to": CALLED, "campaign_id": id});
    let by = |from: &str| json!({"to": CALLED, "campaign_id": id, "from": from});

    let unknown = json!({"to": CALLED, "campaign_id": rows::uuid(99)});
    assert_eq!(refused(&node, &key, unknown).await, (422, "campaign_unknown".to_owned()));
    let none = (422, "number_not_in_campaign".to_owned());
    assert_eq!(refused(&node, &key, plain.clone()).await, none);
    let number = format!("numbers/{}", rows::uuid(5));
    put(&node, &key, ("PATCH", &number), json!({"campaign_id": id})).await;
    assert_eq!(refused(&node, &key, by(NUMBER)).await, none);
    let closed = (409, "campaign_closed".to_owned());
    assert_eq!(refused(&node, &key, plain.clone()).await, closed);
    // The number is its own, whether or not the campaign is named.
    let by_number = json!({"to": CALLED, "from": "+15550111"});
    assert_eq!(refused(&node, &key, by_number.clone()).await, closed);
    let own = by_twilio(&node, &key, "+15550111").await;
    assert_eq!(own, (409, HangupCause::CampaignClosed.text().to_owned()));
    let days = json!({"weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]});
    put(&node, &key, ("PATCH", &item), days).await;

    let told = explained(&node, &key, &plain).await;
    assert_eq!(told["accepted"], true, "{told}");
    assert!(steps(&told).contains("campaign: spring calls now"), "{told}");
    let placed = node.post(&calls(1, ""), &key, &plain).await;
    assert_eq!(placed.status, 201, "{}", placed.body);
    let call = placed.json()["id"].as_str().unwrap().to_owned();
    let invite = answer(&mut far).await;
    assert!(invite.header("from").contains("+15550111"), "{invite:?}");
    let full = (409, "campaign_limit".to_owned());
    assert_eq!(refused(&node, &key, plain.clone()).await, full);
    assert_eq!(refused(&node, &key, by_number).await, full);
    let own = by_twilio(&node, &key, "+15550111").await;
    assert_eq!(own, (409, HangupCause::CampaignLimit.text().to_owned()));
    put(&node, &key, ("PATCH", &item), json!({"status": "paused"})).await;
    let paused = (409, "campaign_paused".to_owned());
    assert_eq!(refused(&node, &key, plain.clone()).await, paused);
    put(&node, &key, ("PATCH", &item), json!({"status": "active"})).await;

    let hang_up = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&hang_up, &key, &Value::Null).await.status, 202);
    hear_bye(&far).await;
    let record = shown(&node, 1, &call, &key).await;
    assert!(steps(&record).contains("campaign: spring calls now"), "{record}");
    wait_for("the place of the call is free", async || {
        (node.post(&calls(1, ""), &key, &plain).await.status == 201).then_some(())
    })
    .await;
    let headers = [("authorization", format!("Bearer {key}"))];
    let path = format!("/api/v1/tenants/{}/{item}", rows::uuid(1));
    let kept = http::request(node.http(), "DELETE", &path, &headers).await;
    assert_eq!(kept.status, 409, "{}", kept.body);
}
