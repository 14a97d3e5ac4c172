//! Calls placed through the API, as carriers see them.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys::KeyRole;

/// A node that calls by one carrier, with an agent; the carrier, and a key that may place calls.
pub(crate) async fn node(agent: Value, more: Value) -> (Node, Phone, String) {
    let node = Home::new().start().await;
    let far = carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, far, key)
}

/// Places a call; its id.
pub(crate) async fn place(node: &Node, key: &str, wish: Value) -> String {
    let answer = node.post(&calls(1, ""), key, &wish).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.json()["state"], "initiated");
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn events_named<'r>(record: &'r Value, name: &str) -> Vec<&'r Value> {
    let events = record["events"].as_array().unwrap().iter();
    events.filter(|event| event["name"] == name).map(|event| &event["detail"]).collect()
}

#[tokio::test]
async fn a_call_that_an_application_places_is_answered_heard_and_hung_up() {
    let more = json!({
        "outbound": {"user_phone": true, "request_host": "carrier.example",
                     "from_host": "sbc.example"},
        "numbers": {"outbound_called": [{"match": "^\\+1(\\d+)$", "to": "001${1}"}]},
        "headers": {"outbound_pass": ["X-Case"]},
    });
    let (node, mut far, key) = node(json!({"kind": "echo"}), more).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "headers": {"X-Case": "77"}});
    let call = place(&node, &key, wish).await;
    let invite = far.expect("INVITE ").await;
    assert_eq!(invite.start, "INVITE sip:0015550142@carrier.example;user=phone SIP/2.0");
    assert!(invite.header("from").contains("<sip:+15550110@sbc.example;user=phone>"), "{invite:?}");
    let asserted = invite.header("p-asserted-identity");
    assert!(asserted.contains("sip:+15550110@sbc.example"), "{asserted}");
    assert_eq!(invite.header("x-case"), "77");
    far.respond(&invite, "180 Ringing", "", "").await;
    pick_up(&mut far, &invite).await;
    hears((&far, invite.audio_port()), &far, 0x51).await;

    let path = calls(1, &format!("/{call}/hangup"));
    let other = node.post(&path.replace(&call, &rows::uuid(9).to_string()), &key, &json!({})).await;
    assert_eq!((other.status, other.json()["code"].as_str()), (404, Some("not_found")));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&far).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["direction"], &record["caller"]), (&json!("outbound"), &json!(NUMBER)));
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("operator")));
    assert_eq!(record["sip_status"], 200);
    // Where the INVITE went, where a call in has where it came from.
    assert_eq!((&record["source"], &record["transport"]), (&json!(far.local()), &json!("udp")));
    let sent = events_named(&record, "sent");
    let by = rows::uuid(4).to_string();
    let expected =
        json!({"leg": "near", "to": far.local(), "transport": "udp", "trunk": by, "rate": null});
    assert_eq!(sent, [&expected]);
    let steps = steps(&record);
    assert!(steps.contains("g1 of trunk-4, at 0.") && steps.contains("answered"), "{steps}");
    assert_eq!(steps.matches("verdict:").count(), 1, "{steps}");
    let trace = node.read(&calls(1, &format!("/{call}/trace")), &key).await;
    let texts: Vec<_> = trace["messages"].as_array().unwrap().iter().map(|m| &m["text"]).collect();
    let has = |start: &str| texts.iter().any(|text| text.as_str().unwrap().starts_with(start));
    assert!(has("INVITE ") && has("BYE ") && has("SIP/2.0 180"), "{trace}");
}

#[tokio::test]
async fn a_call_that_may_not_be_placed_is_refused_with_its_cause_and_a_record() {
    let more = json!({"limits": {"channels_out": 1}});
    let (node, mut far, operator) = node(json!({"kind": "echo"}), more).await;
    let viewer = key(&node, 1, KeyRole::Viewer).await;
    let refused = async |key: &str, wish: Value| {
        let answer = node.post(&calls(1, ""), key, &wish).await;
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        (answer.status, code)
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let plain = json!({"to": CALLED, "from": NUMBER});
    assert_eq!(refused(&viewer, plain.clone()).await, is(403, "role_too_low"));
    assert_eq!(refused("nothing", plain.clone()).await, is(401, "unauthorized"));
    assert_eq!(node.post(&calls(8, ""), &operator, &plain).await.status, 403);
    let with = |key: &str, value: Value| {
        let mut wish = plain.clone();
        wish[key] = value;
        wish
    };
    for (wish, answer) in [
        (json!({"from": NUMBER}), is(400, "invalid_value")),
        (with("colour", json!("blue")), is(400, "invalid_value")),
        (with("headers", json!({"Via": "x"})), is(400, "invalid_value")),
        (with("trunk", json!("nobody's")), is(400, "invalid_value")),
        (with("to", json!("15550142")), is(400, "not_a_number")),
        (with("to", json!("+4420555")), is(403, "destination_denied")),
        (with("ai_profile_id", json!(rows::uuid(77).to_string())), is(409, "no_agent")),
    ] {
        assert_eq!(refused(&operator, wish.clone()).await, answer, "{wish}");
    }
    let sql = "SELECT count(*) FROM calls WHERE direction = 'outbound' AND sip_status <> 200 \
               AND cause IN ('not_a_number', 'destination_denied', 'no_agent')";
    crate::node::wait_for("the records", async || (node.count(sql).await == 3).then_some(())).await;
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "nothing was sent");

    // One call at a time: a second is not begun, and is on record.
    let first = place(&node, &operator, plain.clone()).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    assert_eq!(refused(&operator, plain.clone()).await, is(429, "trunk_limit"));
    let sql = "SELECT count(*) FROM calls WHERE direction = 'outbound' AND cause = 'trunk_limit' \
               AND sip_status = 503 AND decision::text LIKE '%refused: trunk_limit%'";
    crate::node::wait_for("the record", async || (node.count(sql).await == 1).then_some(())).await;
    let path = calls(1, &format!("/{first}/hangup"));
    assert_eq!(node.post(&path, &operator, &json!({})).await.status, 202);

    let suspended =
        format!("UPDATE tenants SET status = 'suspended' WHERE id = '{}'", rows::uuid(1));
    node.put(&[suspended]).await;
    assert_eq!(refused(&operator, plain.clone()).await, is(403, "tenant_suspended"));
    let active = format!("UPDATE tenants SET status = 'active' WHERE id = '{}'", rows::uuid(1));
    node.put(&[active]).await;

    node.signal("TERM");
    crate::node::wait_for("draining", async || {
        let answer = node.post(&calls(1, ""), &operator, &plain).await;
        (answer.status == 503 && answer.json()["code"] == "draining").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dialog_behind_a_proxy_with_a_private_contact_is_reached_through_the_proxy() {
    let (node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    far.take(&invite);
    let headers = format!(
        "Record-Route: <sip:{};lr;ftag=9>\r\nContact: <sip:gw7@10.0.0.9:5099>\r\n",
        far.local()
    );
    far.respond(&invite, "200 OK", &headers, &far.sdp()).await;
    let route = format!("<sip:{};lr;ftag=9>", far.local());
    let ack = far.expect("ACK ").await;
    assert_eq!(ack.start, "ACK sip:gw7@10.0.0.9:5099 SIP/2.0");
    assert_eq!(ack.header("route"), route);
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let bye = hear_bye(&far).await;
    assert_eq!(
        (bye.start.as_str(), bye.header("route")),
        ("BYE sip:gw7@10.0.0.9:5099 SIP/2.0", &*route)
    );
}

#[tokio::test]
async fn a_call_out_that_is_not_answered_in_time_is_cancelled_and_a_late_answer_hung_up() {
    let more = json!({"calls": {"ring_timeout_s": 1, "setup_timeout_s": 2}});
    let (node, mut far, key) = node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    let cancel = far.expect("CANCEL ").await;
    far.answer(&cancel, "200 OK").await;
    // The answer crossed the CANCEL.
    far.take(&invite);
    far.respond(&invite, "200 OK", "", &far.sdp()).await;
    far.expect("ACK ").await;
    let bye = hear_bye(&far).await;
    // What the carrier is told is what the record says.
    let why = "Q.850;cause=19;text=\"no_answer\"";
    assert_eq!((cancel.header("reason"), bye.header("reason")), (why, why));
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "no_answer", "{}", steps(&record));
    // What was tried is told of a call that nobody answered, too.
    assert!(steps(&record).contains("g1 of trunk-4, at 0."), "{}", steps(&record));
    assert!(steps(&record).contains(": rang too long"), "{}", steps(&record));
    assert!(record["times"]["answered"].is_null());
}

#[tokio::test]
async fn a_call_out_keeps_its_session_timer_and_follows_a_new_offer() {
    let more = json!({"session_timer": {"mode": "offer", "expires_s": 90, "refresher": "local"}});
    let (node, mut far, key) = node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("session-expires").starts_with("90"), "{invite:?}");
    // The carrier wants longer intervals.
    let answer = "Min-SE: 120\r\n";
    carrier::refuse(&far, &invite, "422 Session Interval Too Small", answer).await;
    let again = far.expect("INVITE ").await;
    assert!(again.header("session-expires").starts_with("120"), "{again:?}");
    assert_eq!(
        (again.header("call-id"), again.header("cseq")),
        (invite.header("call-id"), "2 INVITE")
    );
    far.take(&again);
    let timer = "Session-Expires: 120;refresher=uac\r\nRequire: timer\r\n";
    far.respond(&again, "200 OK", timer, &far.sdp()).await;
    far.expect("ACK ").await;
    hears((&far, again.audio_port()), &far, 0x52).await;

    // Hold by the carrier, and back.
    let held = format!("{}a=sendonly\r\n", far.sdp());
    let response = far.ask("INVITE", "", &held).await;
    assert!(response.status() == 200 && response.body.contains("a=recvonly"), "{response:?}");
    far.acknowledge().await;
    let offer = far.sdp();
    assert_eq!(far.ask("INVITE", "", &offer).await.status(), 200);
    far.acknowledge().await;
    hears((&far, again.audio_port()), &far, 0x53).await;
    assert_eq!(far.ask("BYE", "", "").await.status(), 200);
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
    assert_eq!(record["holds"], 1);
}

#[tokio::test]
async fn a_call_out_may_talk_with_a_forwarded_number_once_it_is_answered() {
    let agent = json!({"kind": "forward", "to": "+15550143"});
    let (node, mut far, key) = node(agent, json!({})).await;
    place(&node, &key, json!({"to": CALLED})).await;
    let first = far.expect("INVITE ").await;
    pick_up(&mut far, &first).await;
    let second = far.expect("INVITE ").await;
    assert!(second.start.starts_with("INVITE sip:+15550143@"), "{second:?}");
    let mut other = carrier(&node, "127.0.0.9").await;
    std::mem::swap(&mut far.socket, &mut other.socket);
    pick_up(&mut other, &second).await;
    std::mem::swap(&mut far.socket, &mut other.socket);
    hears((&far, first.audio_port()), &other, 0x54).await;
    hears((&other, second.audio_port()), &far, 0x55).await;
    // Whoever hangs up ends both.
    assert_eq!(far.ask("BYE", "", "").await.status(), 200);
    let bye = hear_bye(&far).await;
    assert_eq!(bye.header("call-id"), second.header("call-id"));
}

#[tokio::test]
async fn a_call_that_comes_back_to_us_has_a_trace_of_its_own_at_each_end() {
    const OTHER: &str = "+15550111";
    let node = Home::new().start().await;
    let own = node.sip();
    node.put(&[
        carrier::trunk(4, &format!("{}/32", own.ip()), &[own], json!({})),
        carrier::tenant(1, 4),
        carrier::tenant(7, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::profile(8, 7, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
        rows::number(9, 7, 8, OTHER),
    ])
    .await;
    let (key, other) =
        (key(&node, 1, KeyRole::Operator).await, carrier::key(&node, 7, KeyRole::Operator).await);
    let call = place(&node, &key, json!({"to": OTHER, "from": NUMBER})).await;
    let sql = format!(
        "SELECT {{}} FROM calls AS called, calls AS caller WHERE caller.id = '{call}' \
         AND called.direction = 'inbound' \
         AND called.answered_at IS NOT NULL AND caller.answered_at IS NOT NULL"
    );
    crate::node::wait_for("both ends are answered", async || {
        (node.count(&sql.replace("{}", "count(*)")).await == 1).then_some(())
    })
    .await;
    let called =
        crate::postgres::text(&node.database(), &sql.replace("{}", "called.id::text")).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    shown(&node, 1, &call, &key).await;
    shown(&node, 7, &called, &other).await;
    for (tenant, call, key, invited) in [(1, &call, &key, "out"), (7, &called, &other, "in")] {
        let trace = node.read(&calls(tenant, &format!("/{call}/trace")), key).await;
        let messages = trace["messages"].as_array().unwrap();
        let ways = |start: &str| -> Vec<&str> {
            let of = messages.iter().filter(|one| one["text"].as_str().unwrap().starts_with(start));
            of.map(|one| one["way"].as_str().unwrap()).collect()
        };
        for (start, way) in [("INVITE ", invited), ("ACK ", invited), ("BYE ", invited)] {
            let ways = ways(start);
            assert!(!ways.is_empty() && ways.iter().all(|own| *own == way), "{start}{trace}");
        }
    }
}
