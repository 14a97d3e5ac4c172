//! Live events of a running switch: followed, lost and followed on; and the tokens with which browsers do.

use crate::follower::Follower;
use crate::http;
use crate::http::Answer;
use crate::postgres;
use crate::sipp::Sipp;
use crate::switch::Options;
use crate::switch::Switch;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tandem::api::route;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::demo;
use tandem::types::id::CallId;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const ECHO: &str = "+15550101";
const TONE: &str = "+15550102";

async fn key(switch: &Switch, role: KeyRole) -> String {
    let scope = KeyScope::Tenant(demo::TENANT);
    let made = api_keys::create(&switch.database, scope, role, "", None).await.unwrap();
    made.key.expose().clone()
}

fn path(rest: &str) -> String {
    format!("/api/v1/tenants/{}/{rest}", demo::TENANT)
}

async fn call(switch: &Switch) {
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
}

async fn send(switch: &Switch, token: &str, (method, path): (&str, &str), body: Value) -> Answer {
    let bearer = [("authorization", format!("Bearer {token}"))];
    let content = if body.is_null() { String::new() } else { body.to_string() };
    http::request_with(switch.http, (method, path), &bearer, &content).await
}

#[tokio::test]
async fn what_happens_is_told_in_order_and_again_to_who_lost_the_connection() {
    let mut switch = Switch::start_with(Options::default()).await;
    let bearer = format!("Bearer {}", key(&switch, KeyRole::Viewer).await);
    let auth = ("authorization", bearer.as_str());
    let all = path("events");
    let mut first = Follower::open(switch.http, &all, &[auth]).await;
    switch.wait_for_metric("event_sockets", |sockets| sockets >= 1.0).await;
    call(&switch).await;
    first.ended(1).await;
    let told = first.events();
    let seqs: Vec<_> = told.iter().map(|(_, event)| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "{}", first.text);
    assert_eq!(told[0].1["type"], "call.initiated");
    assert!(told.iter().any(|(_, event)| event["type"] == "call.answered"), "{}", first.text);
    assert!(told.iter().all(|(id, event)| event["id"] == id.as_str()));
    // The connection is lost in the middle; what came meanwhile is told when it is back.
    drop(first);
    call(&switch).await;
    let (middle, _) = &told[2];
    let mut second = Follower::open(switch.http, &all, &[auth, ("last-event-id", middle)]).await;
    second.ended(2).await;
    let before: Vec<_> = told.iter().skip(3).map(|(id, _)| id.clone()).collect();
    assert!(second.ids().starts_with(&before), "{}", second.text);
    assert!(!second.text.contains("event: gap"), "{}", second.text);
    // Memory is gone with the process; the records have the same, and it is said that more may be missing.
    switch.wait_for_count("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL", 2).await;
    let stored = "SELECT count(*) FROM call_events WHERE tenant_id IS NOT NULL";
    let stored = usize::try_from(switch.count(stored).await).unwrap();
    switch.kill().await;
    switch.restart().await;
    let from_start = format!("{all}?after={}", told[0].0);
    let mut third = Follower::open(switch.http, &from_start, &[auth]).await;
    third.until("the gap", |text| text.contains("event: gap\n")).await;
    let ids = third.ids();
    assert_eq!(ids.len(), stored - 1, "{}", third.text);
    assert!(second.ids().iter().all(|id| ids.contains(id)), "{}\n{}", second.text, third.text);
    // The identities are those of the schema.
    let made =
        "SELECT string_agg(tandem_event_id(call_id, seq, false, at)::text, ',') FROM call_events";
    let made = postgres::text(&switch.database, made).await;
    assert!(ids.iter().all(|id| made.contains(id)), "{made}");
    // One call that is over is told from its records, and that is all.
    let one = told[0].1["call_id"].as_str().unwrap();
    let of_call = path(&format!("calls/{one}/events"));
    let mut fourth = Follower::open(switch.http, &format!("{of_call}?after=-1"), &[auth]).await;
    fourth.drain().await;
    assert_eq!(fourth.events().len(), told.len(), "{}", fourth.text);
    let mut fifth = Follower::open(switch.http, &of_call, &[auth, ("last-event-id", "2")]).await;
    fifth.drain().await;
    assert_eq!(fifth.ids(), before, "{}", fifth.text);
    for (path, status) in [
        (path("events?after=x"), 400),
        (path("events?colour=1"), 400),
        (format!("{of_call}?after=x"), 400),
        (path(&format!("calls/{}/events", Uuid::nil())), 404),
    ] {
        let answer = http::request(switch.http, "GET", &path, &[(auth.0, bearer.clone())]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}

/// Wishes for a token that cannot be had say which field is wrong.
async fn refuses_bad_wishes(switch: &Switch, key: &str, tokens: &str) {
    for (body, field) in [
        (json!({"ttl_s": 3_601}), "ttl_s"),
        (json!({"may": ["fly"]}), "may"),
        (json!({"may": []}), "may"),
        (json!({"call": "x"}), "call"),
    ] {
        let answer = send(switch, key, ("POST", tokens), body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["field"].as_str().unwrap_or_default(), field, "{}", answer.body);
    }
}

/// A token that was made by `key`.
async fn token_of(switch: &Switch, key: &str, tokens: &str, wish: Value) -> String {
    let answer = send(switch, key, ("POST", tokens), wish).await;
    let kept = answer.header("cache-control");
    assert_eq!((answer.status, kept), (201, Some("no-store")), "{}", answer.body);
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// The types and places of the events that a socket tells until it is closed.
async fn heard(
    socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
) -> Vec<(String, Option<u64>)> {
    let mut told = Vec::new();
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        let Ok(message) = message else { break };
        if let Ok(text) = message.to_text()
            && let Ok(event) = serde_json::from_str::<Value>(text)
        {
            told.push((event["type"].as_str().unwrap().to_owned(), event["seq"].as_u64()));
        }
    }
    told
}

/// A socket that was opened late is told the call, which was on hold, from its birth to its end without a gap.
async fn hears_all(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) {
    let heard = heard(socket).await;
    let seqs: Vec<_> = heard.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).map(Some).collect::<Vec<_>>(), "{heard:?}");
    let kinds: Vec<_> = heard.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.contains(&"call.hold_begun"), "{kinds:?}");
    assert_eq!(kinds.first(), Some(&"call.initiated"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"call.ended"), "{kinds:?}");
}

#[tokio::test]
async fn who_follows_events_hears_no_more_once_the_key_or_the_token_has_ended() {
    let switch = Switch::start_with(Options::default()).await;
    let scope = KeyScope::Tenant(demo::TENANT);
    let make = async || {
        api_keys::create(&switch.database, scope, KeyRole::Operator, "", None).await.unwrap()
    };
    let (revoked, other) = (make().await, make().await);
    let bearer = |key: &str| format!("Bearer {key}");
    let (auth, other) = (bearer(revoked.key.expose()), bearer(other.key.expose()));
    let held = Sipp::new("surviving-calls", switch.caller(2), switch.udp, TONE);
    let _held = held.calls(1, 100, 120_000).start();
    switch.wait_for_count("SELECT count(*) FROM calls WHERE answered_at IS NOT NULL", 1).await;
    let call = switch.text("SELECT id::text FROM calls").await;
    let tokens = path(&format!("calls/{call}/tokens"));
    let (events, of_call) = (path("events"), path(&format!("calls/{call}/events")));
    let operator = key(&switch, KeyRole::Operator).await;
    let short = token_of(&switch, &operator, &tokens, json!({"ttl_s": 3})).await;
    let of_key = token_of(&switch, revoked.key.expose(), &tokens, json!({"ttl_s": 3_600})).await;
    let headers = |auth: &str| [("authorization", auth.to_owned())];
    let open = async |path: &str, auth: &str| {
        let headers = headers(auth);
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        Follower::open(switch.http, path, &headers).await
    };
    let mut stays = open(&events, &other).await;
    let mut ending = vec![
        open(&events, &auth).await,
        open(&of_call, &auth).await,
        open(&format!("{of_call}?token={short}"), "").await,
        open(&of_call, &bearer(&of_key)).await,
    ];
    let mut request = format!("ws://{}{events}", switch.http).into_client_request().unwrap();
    request.headers_mut().insert("authorization", auth.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert!(api_keys::revoke(&switch.database, scope, revoked.id).await.unwrap());
    for follower in &mut ending {
        follower.drain().await;
        let (_, last) = follower.events().pop().unwrap();
        assert_eq!(last, json!({"type": "dropped", "reason": "key_ended"}), "{}", follower.text);
    }
    assert_eq!(heard(&mut socket).await.pop(), Some(("dropped".to_owned(), None)));
    // Who holds another key goes on.
    self::call(&switch).await;
    stays.ended(1).await;
    assert!(!stays.text.contains("dropped"), "{}", stays.text);
}

/// A token falls with its key, and so does what was renewed with it; that of another stays.
async fn falls_with_its_key(switch: &Switch, (call, tokens): (&str, &str), other: &str) {
    let scope = KeyScope::Tenant(demo::TENANT);
    let key = api_keys::create(&switch.database, scope, KeyRole::Operator, "", None).await.unwrap();
    let wish = json!({"may": ["watch", "steer"]});
    let first = token_of(switch, key.key.expose(), tokens, wish.clone()).await;
    let again = token_of(switch, &first, tokens, wish).await;
    for token in [&first, &again] {
        assert_eq!(send(switch, token, ("GET", call), Value::Null).await.status, 200);
    }
    assert!(api_keys::revoke(&switch.database, scope, key.id).await.unwrap());
    for (token, status) in [(first.as_str(), 401), (&again, 401), (other, 200)] {
        assert_eq!(send(switch, token, ("GET", call), Value::Null).await.status, status);
        let renewal = send(switch, token, ("POST", tokens), json!({})).await;
        assert_eq!(renewal.status == 201, status == 200, "{}", renewal.body);
    }
}

/// What a token that may steer opens of its own call: the rest of the path behind the call.
const OPENED: [(&str, &str); 18] = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/transcript"),
    ("POST", "/tokens"),
    ("POST", "/dtmf"),
    ("POST", "/hangup"),
    ("POST", "/hold"),
    ("POST", "/mute"),
    ("POST", "/play"),
    ("POST", "/play/stop"),
    ("POST", "/record/pause"),
    ("POST", "/record/resume"),
    ("POST", "/record/start"),
    ("POST", "/record/stop"),
    ("POST", "/resume"),
    ("POST", "/transcript"),
    ("POST", "/transfer"),
    ("POST", "/unmute"),
];

/// Whatever route there is, a token that may steer opens nothing of another call, and of its own what is listed.
async fn opens_no_other_route(switch: &Switch, token: &str, (own, other): (&str, &str)) {
    let mut closed = 0;
    for (method, path, _) in route::table() {
        let is_twilios = path.starts_with("/2010-04-01/");
        let of_call = path.strip_prefix("/api/v1/tenants/{tenant_id}/calls/{id}");
        let is_opened = of_call.is_some_and(|rest| OPENED.contains(&(method, rest)));
        closed += usize::from(!is_opened);
        let path = path.replace("{tenant_id}", &demo::TENANT.to_string());
        let path = path.replace("{account_sid}", &demo::TENANT.account_sid());
        for call in [own, other].into_iter().filter(|call| !is_opened || *call == other) {
            let sid = call.parse::<CallId>().unwrap().call_sid();
            let path = path.replace("{id}", call).replace("{call_sid}", &sid);
            let answer = send(switch, token, (method, &path), Value::Null).await;
            let status = if is_twilios { 401 } else { 403 };
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        }
    }
    assert_eq!(route::table().count() - closed, OPENED.len());
}

#[tokio::test]
async fn a_token_opens_its_running_call_and_nothing_else() {
    let switch = Switch::start_with(Options::default()).await;
    let (viewer, operator) =
        (key(&switch, KeyRole::Viewer).await, key(&switch, KeyRole::Operator).await);
    let held =
        Sipp::new("surviving-calls", switch.caller(2), switch.udp, TONE).calls(2, 100, 120_000);
    let _held = held.start();
    let open = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND ended_at IS NULL";
    switch.wait_for_count(open, 2).await;
    let ids = switch.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM calls").await;
    let (own, other) = ids.split_once(',').unwrap();
    let tokens = path(&format!("calls/{own}/tokens"));
    refuses_bad_wishes(&switch, &operator, &tokens).await;
    let steer = json!({"may": ["watch", "steer"], "ttl_s": 3_600});
    let refused = send(&switch, &viewer, ("POST", &tokens), steer.clone()).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let none = path(&format!("calls/{}/tokens", Uuid::nil()));
    assert_eq!(send(&switch, &operator, ("POST", &none), json!({})).await.status, 404);
    let make = async |key: &str, wish| token_of(&switch, key, &tokens, wish).await;
    let watch = make(&viewer, json!({})).await;
    let steers = make(&operator, steer.clone()).await;
    // It renews itself, and never to more than it is.
    let renewed = make(&watch, json!({})).await;
    assert_eq!(send(&switch, &watch, ("POST", &tokens), steer).await.status, 403);

    let call = path(&format!("calls/{own}"));
    assert_eq!(send(&switch, &renewed, ("GET", &call), Value::Null).await.status, 200);
    falls_with_its_key(&switch, (&call, &tokens), &renewed).await;
    opens_no_other_route(&switch, &steers, (own, other)).await;
    let hang_up = format!("{call}/hangup");
    for (method, path, token) in [
        ("GET", path(&format!("calls/{other}")), &steers),
        ("POST", path(&format!("calls/{other}/hangup")), &steers),
        ("GET", path(&format!("calls/{other}/events")), &steers),
        ("GET", path("calls"), &steers),
        ("GET", path("events"), &steers),
        ("POST", path("webhooks"), &steers),
        ("GET", format!("{call}/trace"), &steers),
        (
            "GET",
            call.replace(&demo::TENANT.to_string(), &demo::SUSPENDED_TENANT.to_string()),
            &steers,
        ),
        ("POST", hang_up.clone(), &watch),
    ] {
        let answer = send(&switch, token, (method, &path), Value::Null).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
    // Only what browsers follow takes one in the address, and never a key.
    let in_address = |path: &str, token: &str| format!("{path}?token={token}");
    for path in [in_address(&call, &watch), in_address(&format!("{call}/events"), &viewer)] {
        assert_eq!(http::request(switch.http, "GET", &path, &[]).await.status, 401, "{path}");
    }
    // Who comes late is told all of it at once, what no record has yet too.
    let held = send(&switch, &steers, ("POST", &format!("{call}/hold")), Value::Null).await;
    assert_eq!(held.status, 200, "{}", held.body);
    let events = in_address(&format!("{call}/events"), &watch);
    let url = format!("ws://{}{events}&after=-1", switch.http);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut follower = Follower::open(switch.http, &events, &[]).await;
    let answer = send(&switch, &steers, ("POST", &hang_up), Value::Null).await;
    assert!([200, 202].contains(&answer.status), "{}", answer.body);
    follower.ended(1).await;
    follower.drain().await;
    hears_all(&mut socket).await;
    switch.wait_for_calls(1).await;
    let gone = async {
        while send(&switch, &steers, ("GET", &call), Value::Null).await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(!switch.log().contains("tct_"), "a token is in the log");
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket of who has a key.
async fn socket(switch: &Switch, key: &str, path: &str) -> Socket {
    let url = format!("ws://{}{path}", switch.http);
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {key}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// What a socket tells until `enough` came.
async fn told_until(socket: &mut Socket, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut told = Vec::new();
    while !enough(&told) {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await;
        let message =
            message.unwrap_or_else(|_| panic!("no more came: {told:?}")).unwrap().unwrap();
        if let Ok(event) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default()) {
            told.push(event);
        }
    }
    told
}

fn ends(many: usize) -> impl Fn(&[Value]) -> bool {
    move |told| told.iter().filter(|event| event["type"] == "call.ended").count() >= many
}

fn ids(told: &[Value]) -> Vec<String> {
    told.iter().filter_map(|event| Some(event["id"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn a_socket_that_was_lost_goes_on_behind_the_last_event_that_was_heard() {
    let switch = Switch::start_with(Options::default()).await;
    let viewer = key(&switch, KeyRole::Viewer).await;
    let mut first = socket(&switch, &viewer, &path("events")).await;
    switch.wait_for_metric("event_sockets", |sockets| sockets >= 1.0).await;
    call(&switch).await;
    let told = told_until(&mut first, ends(1)).await;
    assert_eq!(told[0]["type"], "call.initiated", "{told:?}");
    let known = ids(&told);
    // It is cut, not closed; what comes meanwhile is told to who comes back.
    drop(first);
    call(&switch).await;
    let again = path(&format!("events?after={}", known[2]));
    let mut second = socket(&switch, &viewer, &again).await;
    let rest = told_until(&mut second, ends(2)).await;
    assert!(ids(&rest).starts_with(&known[3..]), "{known:?}\n{rest:?}");
    assert!(rest.iter().all(|event| event["type"] != "gap"), "{rest:?}");
    let calls: std::collections::BTreeSet<_> =
        rest.iter().filter_map(|event| event["call_id"].as_str()).collect();
    assert_eq!(calls.len(), 2, "{rest:?}");
    // The same of one call, while it goes on: by the place in it.
    let held =
        Sipp::new("surviving-calls", switch.caller(2), switch.udp, TONE).calls(1, 100, 120_000);
    let _held = held.start();
    let open = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND ended_at IS NULL";
    switch.wait_for_count(open, 1).await;
    let own = switch.text("SELECT id::text FROM calls WHERE ended_at IS NULL").await;
    let operator = key(&switch, KeyRole::Operator).await;
    let steer = async |name: &str| {
        let item = path(&format!("calls/{own}/{name}"));
        let answer = send(&switch, &operator, ("POST", &item), Value::Null).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.body);
    };
    let events = path(&format!("calls/{own}/events?after=-1"));
    let mut third = socket(&switch, &viewer, &events).await;
    let begun = told_until(&mut third, |told| told.len() >= 3).await;
    let last = begun.last().unwrap()["seq"].as_u64().unwrap();
    drop(third);
    steer("hold").await;
    let events = path(&format!("calls/{own}/events?after={last}"));
    let mut fourth = socket(&switch, &viewer, &events).await;
    steer("hangup").await;
    let rest = told_until(&mut fourth, ends(1)).await;
    let seqs: Vec<_> = rest.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (last + 1..=last + seqs.len() as u64).collect::<Vec<_>>(), "{rest:?}");
    assert!(rest.iter().any(|event| event["type"] == "call.hold_begun"), "{rest:?}");
}
