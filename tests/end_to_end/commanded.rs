//! What is commanded of calls: answered with how the call stands, refused where it makes no sense or is another
//! tenant's, and noted with who did it. And numbers, as they may be used and are written in their country.

use crate::call_out;
use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::http;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::talk::Peer;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;

const NOBODYS_CALL: &str = "01900000-0000-7000-8000-000000000001";
const STATES: [&str; 5] = ["initiated", "ringing", "answered", "ended", "failed"];

async fn command(node: &Node, key: &str, (call, name): (&str, &str), wish: Value) -> (u16, Value) {
    let answer = node.post(&calls(1, &format!("/{call}/{name}")), key, &wish).await;
    (answer.status, answer.json())
}

/// The entries of the audit log about a call, the oldest first, once there are so many.
async fn entries(node: &Node, key: &str, call: &str, many: usize) -> Vec<Value> {
    let path = format!("/api/v1/tenants/{}/audit-log?subject_id={call}", rows::uuid(1));
    let mut found = wait_for("the entries", async || {
        let log = node.read(&path, key).await;
        let found = log["entries"].as_array().unwrap().clone();
        (found.len() >= many).then_some(found)
    })
    .await;
    found.reverse();
    found
}

#[tokio::test]
async fn each_command_is_answered_with_how_the_call_stands_and_noted_with_who_gave_it() {
    let (node, mut far, operator) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let admin = key(&node, 1, KeyRole::Admin).await;
    let call = place(&node, &operator, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    wait_for("the call is answered", async || {
        let shown = node.read(&calls(1, &format!("/{call}")), &operator).await;
        (shown["live"]["state"] == "answered").then_some(())
    })
    .await;
    for (name, wish, code) in [
        ("transfer", json!({"mode": "confirm"}), "no_consultation"),
        ("transfer", json!({"mode": "withdraw"}), "no_transfer"),
        ("resume", json!({}), "not_on_hold"),
    ] {
        let (status, body) = command(&node, &operator, (&call, name), wish).await;
        assert_eq!((status, body["code"].as_str()), (409, Some(code)), "{body}");
    }
    let (status, muted) =
        command(&node, &operator, (&call, "mute"), json!({"party": "agent"})).await;
    assert_eq!((status, &muted["agent_muted"]), (200, &json!(true)), "{muted}");
    let wish = json!({"to": "+15550143", "mode": "bridge"});
    let (status, moving) = command(&node, &operator, (&call, "transfer"), wish.clone()).await;
    assert_eq!((status, moving["state"].as_str()), (202, Some("answered")), "{moving}");
    assert_eq!(moving["phase"], "transferring", "{moving}");
    let (status, body) = command(&node, &operator, (&call, "transfer"), wish).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("transfer_under_way")), "{body}");
    let attach = json!({"ai_profile_id": rows::uuid(2).to_string()});
    let (status, body) = command(&node, &operator, (&call, "attach"), attach).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("not_with_agent")), "{body}");
    let stored = |more: &str| format!("SELECT count(*) FROM calls WHERE id = '{call}'{more}");
    let (begun, closed) = (stored(""), stored(" AND ended_at IS NOT NULL"));
    wait_for("a record", async || (node.count(&begun).await == 1).then_some(())).await;
    let (status, ending) = command(&node, &operator, (&call, "hangup"), json!({})).await;
    assert_eq!((status, ending["phase"].as_str()), (202, Some("ending")), "{ending}");
    assert!(STATES.contains(&ending["state"].as_str().unwrap()), "{ending}");
    hear_bye(&far).await;
    // Its end is known before its record says so.
    while node.count(&closed).await == 0 {
        let (status, body) = command(&node, &operator, (&call, "hold"), json!({})).await;
        assert_eq!((status, body["code"].as_str()), (409, Some("call_over")), "{body}");
    }
    let record = shown(&node, 1, &call, &operator).await;
    assert_eq!((&record["status"], &record["ended_by"]), (&json!("ended"), &json!("operator")));
    let (status, body) = command(&node, &operator, (&call, "hangup"), json!({})).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("call_over")), "{body}");
    // Also where nobody can say any more what the text of a number means; and no other call is there at all.
    for (name, to) in
        [("transfer", "(555) 200-0143"), ("supervise", "(555) 200-0143"), ("transfer", "+15550143")]
    {
        let (status, body) = command(&node, &operator, (&call, name), json!({"to": to})).await;
        assert_eq!((status, body["code"].as_str()), (409, Some("call_over")), "{name}: {body}");
        let nobodys = (NOBODYS_CALL, name);
        let (status, body) = command(&node, &operator, nobodys, json!({"to": to})).await;
        assert_eq!((status, body["code"].as_str()), (404, Some("not_found")), "{name}: {body}");
    }
    // What was refused is no change.
    let noted = entries(&node, &admin, &call, 4).await;
    let actions: Vec<_> = noted.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "mute", "transfer", "hangup"], "{noted:?}");
    assert!(noted.iter().all(|entry| entry["api_key_id"] == noted[0]["api_key_id"]), "{noted:?}");
    let detail = |at: usize, path: &str| noted[at]["detail"].pointer(path).cloned();
    assert_eq!(detail(0, "/after/state"), Some(json!("initiated")));
    assert_eq!(detail(1, "/before/agent_muted"), Some(json!(false)));
    assert_eq!(detail(1, "/after/agent_muted"), Some(json!(true)));
    assert_eq!(detail(2, "/before/phase"), Some(json!("with_agent")));
    assert_eq!(detail(2, "/after/phase"), Some(json!("transferring")));
    assert_eq!(detail(3, "/before/state"), Some(json!("answered")));
    assert_eq!(detail(3, "/after/phase"), Some(json!("ending")));
    let text = Value::from(noted).to_string();
    assert!(
        ["5550142", "5550143", "5550110"].iter().all(|number| !text.contains(number)),
        "{text}"
    );
}

#[tokio::test]
async fn a_call_that_rings_is_hung_up_by_a_refusal_that_its_caller_hears() {
    let node = Home::new().start().await;
    let waits = json!({"kind": "tone", "answer": {"after_ms": 60_000}});
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, waits),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let operator = key(&node, 1, KeyRole::Operator).await;
    let peer = Peer::at("127.0.0.1", node.sip()).await;
    let hang_up = async {
        let call = wait_for("the call rings", async || {
            let running = node.read(&calls(1, "?live=true"), &operator).await;
            let call = running["calls"].get(0).filter(|call| call["status"] == "ringing")?;
            Some(call["id"].as_str().unwrap().to_owned())
        })
        .await;
        let (status, ending) = command(&node, &operator, (&call, "hangup"), json!({})).await;
        assert_eq!(status, 202, "{ending}");
        call
    };
    let (response, call) = tokio::join!(peer.invite(NUMBER), hang_up);
    assert_eq!(response.refusal(), (603, "normal", false));
    // The refusal is stored first, and behind it who wanted it.
    let by = "SELECT count(*) FROM calls WHERE ended_by = 'operator'";
    wait_for("who hung up", async || (node.count(by).await == 1).then_some(())).await;
    let record = shown(&node, 1, &call, &operator).await;
    assert_eq!((&record["status"], &record["sip_status"]), (&json!("failed"), &json!(603)));
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("operator")));
}

#[tokio::test]
async fn a_running_call_of_another_tenant_is_not_there_below_ones_own_path() {
    let (node, mut far, operator) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    node.put(&[rows::tenant(8, 0), rows::profile(80, 8, json!({"kind": "echo"}))]).await;
    let other = key(&node, 8, KeyRole::Admin).await;
    let call = place(&node, &operator, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    let item = |below: &str| calls(8, &format!("/{call}{below}"));
    for (method, below, wish) in [
        ("GET", "", Value::Null),
        ("PATCH", "", json!({"disposition": "sold"})),
        ("POST", "/hangup", json!({})),
        ("POST", "/transfer", json!({"to": "+15550143"})),
        ("POST", "/transfer", json!({"to": "+15550143", "mode": "refer"})),
        ("POST", "/hold", json!({})),
        ("POST", "/resume", json!({})),
        ("POST", "/play", json!({"asset": "x.wav"})),
        ("POST", "/play/stop", json!({})),
        ("POST", "/dtmf", json!({"digits": "1"})),
        ("POST", "/mute", json!({"party": "caller"})),
        ("POST", "/unmute", json!({"party": "caller"})),
        ("POST", "/supervise", json!({"to": "+15550143"})),
        ("POST", "/supervise/mode", json!({"mode": "barge"})),
        ("POST", "/supervise/stop", json!({})),
        ("POST", "/record/start", json!({})),
        ("POST", "/record/stop", json!({})),
        ("POST", "/record/pause", json!({})),
        ("POST", "/record/resume", json!({})),
        ("POST", "/attach", json!({"ai_profile_id": rows::uuid(80).to_string()})),
        ("GET", "/events", Value::Null),
        ("GET", "/trace/pcap", Value::Null),
        ("POST", "/tokens", json!({"may": ["watch"], "ttl_s": 60})),
        ("POST", "/transcript", json!({"turns": [{"seq": 0, "speaker": "agent", "text": "x"}]})),
        ("GET", "/transcript", Value::Null),
        ("GET", "/trace", Value::Null),
    ] {
        let headers = [("authorization", format!("Bearer {other}"))];
        let body = if wish.is_null() { String::new() } else { wish.to_string() };
        let answer = http::request_with(node.http(), (method, &item(below)), &headers, &body).await;
        assert_eq!(answer.status, 404, "{method} {below}: {}", answer.body);
    }
    // Nothing of it reached the call; its own tenant finds it among those that run.
    let running = node.read(&calls(1, "?live=true"), &operator).await;
    assert_eq!(running["calls"][0]["id"], call.as_str(), "{running}");
    assert_eq!(
        (&running["calls"][0]["status"], &running["next"]),
        (&json!("answered"), &Value::Null)
    );
    let running = node.read(&calls(8, "?live=true"), &other).await;
    assert_eq!(running["calls"], json!([]), "{running}");
    let answer = node.post(&calls(1, "?live=true&cause=normal"), &operator, &Value::Null).await;
    assert_ne!(answer.status, 200);
    far.hang_up().await;
    let record = shown(&node, 1, &call, &operator).await;
    assert_eq!(
        (&record["disposition"], &record["ended_by"]),
        (&Value::Null, &json!("caller")),
        "{record}"
    );
}

#[tokio::test]
async fn plan_and_country_lead_calls_and_a_number_that_may_not_be_used_makes_none() {
    let more = json!({"caller_id": {"on_disallowed": "reject"}});
    let (node, mut far, operator) = call_out::node(json!({"kind": "echo"}), more).await;
    let made =
        api_keys::create(&node.database(), KeyScope::AllTenants, KeyRole::Admin, "", None).await;
    let platform = made.unwrap().key.expose().clone();
    let own = "+15552000110";
    node.put(&[
        rows::number(30, 1, 2, own),
        // The tenant itself has no way out any more: the profile of its plan and country leads.
        format!("UPDATE tenants SET outbound_trunk_id = NULL WHERE id = '{}'", rows::uuid(1)),
    ])
    .await;
    let wish = json!({"to": "(555) 200-0142", "from": own});
    let refused = node.post(&calls(1, ""), &operator, &wish).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("not_a_number")));
    let profile = json!({
        "name": "us", "plan": "starter", "country": "US",
        "outbound_trunk_id": rows::uuid(4), "inbound_trunk_id": rows::uuid(4),
    });
    let answer = node.post("/api/v1/routing-profiles", &platform, &profile).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let explain = format!("/api/v1/tenants/{}/explain", rows::uuid(1));
    let coming = json!({"direction": "inbound", "source": "127.0.0.9", "from": "5552000177", "to": "5552000110"});
    let told = wait_for("the profile is followed", async || {
        let told = node.post(&explain, &operator, &coming).await.json();
        (told["accepted"] == true).then_some(told)
    })
    .await;
    let text = steps(&told);
    for step in [
        "`5552000110` is +15552000110, by the numbering of US",
        "routing profile: us, for numbers of US with the plan starter",
    ] {
        assert!(text.contains(step), "{step} in {text}");
    }
    let call = place(&node, &operator, wish.clone()).await;
    let invite = answer_national(&mut far).await;
    assert!(invite.starts_with("INVITE sip:+15552000142@"), "{invite}");
    far.hang_up().await;
    let record = shown(&node, 1, &call, &operator).await;
    assert_eq!((&record["dialled"], &record["dialled_as"]), (&json!("+15552000142"), &wish["to"]));
    // The platform takes the number away; it is neither called nor calling from then on.
    let item = format!("/api/v1/tenants/{}/numbers/{}", rows::uuid(1), rows::uuid(30));
    let headers = [("authorization", format!("Bearer {platform}"))];
    let body = json!({"compliance_state": "rejected"}).to_string();
    let answer = http::request_with(node.http(), ("PATCH", &item), &headers, &body).await;
    assert_eq!(
        (answer.status, &answer.json()["is_active"]),
        (200, &json!(false)),
        "{}",
        answer.body
    );
    let told = wait_for("the number is out of service", async || {
        let told = node.post(&explain, &operator, &coming).await.json();
        (told["accepted"] == false).then_some(told)
    })
    .await;
    assert_eq!(told["cause"], "number_inactive", "{told}");
    assert!(steps(&told).contains("its regulatory check was not passed"), "{told}");
    let refused = node.post(&calls(1, ""), &operator, &wish).await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (403, Some("caller_id_denied")),
        "{}",
        refused.body
    );
}

/// Answers the call that comes; its request line.
async fn answer_national(far: &mut crate::phone::Phone) -> String {
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    carrier::pick_up(far, &invite).await;
    invite.start
}
