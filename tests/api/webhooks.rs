//! Webhooks: endpoints, what is told to them, in which order, and what becomes of what nobody takes.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::postgres;
use crate::receiver::Receiver;
use crate::receiver::SILENT;
use crate::receiver::Told;
use aws_lc_rs::hmac;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;
use tandem::clock;
use tandem::config::webhooks::WebhookSettings;
use tandem::net::websocket::TrustRoots;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::live_events;
use tandem::store::recordings;
use tandem::store::recordings::RecordingEnd;
use tandem::store::recordings::StoredRecording;
use tandem::store::transcripts;
use tandem::store::transcripts::Turn;
use tandem::store::webhooks::EVENT_TYPES;
use tandem::types::reach::Reach;
use tandem::types::recording::RecordingOf;
use tandem::webhook::Deliverer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const A: usize = 0;
const B: usize = 1;
const PENDING: &str = "SELECT count(*) FROM webhook_outbox WHERE state = 'pending'";
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A deliverer in a hurry. Dropping the second part stops it.
fn deliver(bench: &Bench, attempts_max: u32) -> (JoinHandle<()>, watch::Sender<bool>) {
    let settings = WebhookSettings {
        reach: Reach { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] },
        timeout: Duration::from_millis(1_500),
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        attempts_max,
        ..WebhookSettings::default()
    };
    let (stop, stopping) = watch::channel(false);
    let composer = bench.composing.subscribe();
    let database = bench.database.clone();
    let deliverer =
        Deliverer::new(database, TrustRoots::native(), composer, (settings, None), stopping);
    (tokio::spawn(deliverer.run()), stop)
}

async fn endpoint(bench: &Bench, url: &str, events: &[&str]) -> (String, String) {
    let body = json!({"url": url, "events": events});
    let made = bench.make(&bench.path(A, "webhooks"), A, body).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

/// A call of the first tenant that was answered; its events come with [`event`].
async fn call(bench: &Bench) -> String {
    let id = clock::new_call_id().to_string();
    let tenant = bench.tenants[A];
    let sql = format!(
        "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, dialled, \
                            decision, arrived_at, ringing_at, answered_at, ended_at, cause, sip_status) \
         VALUES ('{id}', 9, '{tenant}', 'inbound', 'x@y', '+15557701', '15550100', '+15550100', '[]', \
                 '2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z', '2026-01-01T00:00:02Z', \
                 '2026-01-01T00:00:09Z', 'normal', 200)"
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    id
}

async fn events(bench: &Bench, calls: &[String], seqs: std::ops::Range<usize>) {
    const NAMES: [&str; 6] = ["arrived", "decided", "ringing", "answered", "digit", "ended"];
    let tenant = bench.tenants[A];
    let values = calls.iter().flat_map(|call| {
        seqs.clone().map(move |seq| {
            let (name, at) = (NAMES[seq], seq.saturating_sub(1));
            format!("('{call}', {seq}, '{tenant}', '2026-01-01T00:00:0{at}Z', '{name}')")
        })
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let sql =
        format!("INSERT INTO call_events (call_id, seq, tenant_id, at, name) VALUES {values}");
    postgres::execute(&bench.database, &sql).await.unwrap();
}

/// What a call of six events is told as.
const TOLD: [&str; 6] = [
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.dtmf",
    "call.ended",
    "call.record_written",
];

/// What was taken of each call, in the order in which it was taken first.
fn by_call(taken: &[Told]) -> HashMap<String, Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut calls: HashMap<String, Vec<String>> = HashMap::new();
    for told in taken {
        let text = |name: &str| told.body[name].as_str().unwrap().to_owned();
        if seen.insert(text("id")) {
            calls.entry(text("call_id")).or_default().push(text("type"));
        }
    }
    calls
}

fn check_signature(told: &Told, secret: &str) {
    let header = &told.headers["tandem-signature"];
    let (time, rest) = header.split_once(",v1=").unwrap();
    let signed = format!("{}.{}", time.strip_prefix("t=").unwrap(), told.text);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = hex(hmac::sign(&key, signed.as_bytes()).as_ref());
    assert!(rest.split(",v1=").any(|one| one == expected), "{header}");
    assert_eq!(told.headers["tandem-event-id"], told.body["id"]);
}

async fn wait_for(bench: &Bench, sql: &str, expected: i64) {
    let reached = async {
        while postgres::count(&bench.database, sql).await != expected {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "never {expected}: {sql}");
}

#[tokio::test]
async fn an_endpoint_has_a_secret_that_is_shown_once_and_a_url_outside() {
    let bench = Bench::new().await;
    let path = bench.path(A, "webhooks");
    let body = json!({"url": "https://hooks.example/x", "description": "mine"});
    let answer = bench.send(("POST", &path), A, &body).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")));
    let made = answer.json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() > 40, "{made}");
    assert_eq!((&made["events"], &made["is_active"]), (&json!(["*"]), &json!(true)));
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let log = bench.path(A, "audit-log");
    for path in [&path, &item, &log] {
        let shown = bench.read(path, A).await.to_string();
        assert!(shown.contains("hooks.example") && !shown.contains(secret), "{shown}");
        assert!(!shown.contains("sealed"), "{shown}");
    }
    for url in [
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "ftp://x.example/",
        "https://user:pw@x.example/",
        "x",
        "https://2130706433/",
    ] {
        check_field(
            &bench.send(("POST", &path), A, &json!({"url": url})).await,
            400,
            "invalid_value",
            "url",
        );
        let change = bench.send(("PATCH", &item), A, &json!({"url": url})).await;
        check_field(&change, 400, "invalid_value", "url");
    }
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": "https://x.example/", "events": ["Call Ended"]}), "events"),
        (json!({"url": "https://x.example/", "events": ["call.endet"]}), "events"),
        (json!({"url": "https://x.example/", "events": []}), "events"),
        (json!({"url": "https://x.example/", "secrets": {"signing": "mine"}}), "secrets"),
        (json!({"url": "https://x.example/", "sealed": {}}), "sealed"),
    ] {
        check_field(&bench.send(("POST", &path), A, &body).await, 400, "invalid_value", field);
    }
    let rotate = format!("{item}/rotate-secret");
    let before = bench.read(&item, A).await;
    let tag = before["etag"].as_str();
    let rotated = bench.send_if(("POST", &rotate), A, &Value::Null, tag).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    assert_ne!(rotated.json()["secret"], secret);
    let stale = bench.send_if(("POST", &rotate), A, &Value::Null, tag).await;
    check_error(&stale, 412, "changed_meanwhile");
    let operator = bench.key(KeyScope::Tenant(bench.tenants[A]), KeyRole::Operator).await;
    let bearer = [("authorization", format!("Bearer {operator}"))];
    let body = json!({"url": "https://x.example/"}).to_string();
    let answer = crate::http::request_with(bench.address, ("POST", &path), &bearer, &body).await;
    check_error(&answer, 403, "role_too_low");
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_endpoints_and_those_of_others_are_not_there() {
    let bench = Bench::new().await;
    let path = bench.path(A, "webhooks");
    let body = json!({"url": "https://hooks.example/x"});
    let mut last = String::new();
    for _ in 0..32 {
        last = bench.make(&path, A, body.clone()).await["id"].as_str().unwrap().to_owned();
    }
    check_error(&bench.send(("POST", &path), A, &body).await, 400, "invalid_value");
    bench.make(&bench.path(B, "webhooks"), B, body).await;
    for (method, rest, body) in [
        ("POST", "replay", json!({"state": "dead"})),
        ("POST", "rotate-secret", Value::Null),
        ("GET", "deliveries", Value::Null),
    ] {
        let path = bench.path(B, &format!("webhooks/{last}/{rest}"));
        check_error(&bench.send((method, &path), B, &body).await, 404, "not_found");
    }
}

#[tokio::test]
async fn what_a_dead_endpoint_missed_is_told_in_order_and_nobody_else_waits_for_it() {
    let bench = Bench::new().await;
    let (dead, well) = (Receiver::start(SILENT).await, Receiver::start(200).await);
    let (dead_id, dead_secret) = endpoint(&bench, &dead.url(), &["*"]).await;
    let (_, well_secret) = endpoint(&bench, &well.url(), &["*"]).await;
    let some = Receiver::start(200).await;
    endpoint(&bench, &some.url(), &["call.ended"]).await;
    let (_task, _stop) = deliver(&bench, 1_000);
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(call(&bench).await);
    }
    events(&bench, &calls, 0..3).await;
    // Some fail before the rest happens, which then has to wait behind them.
    dead.wait("the dead one", |told| !told.is_empty()).await;
    let failed = "SELECT count(*) FROM webhook_outbox WHERE last_error LIKE 'no answer%' LIMIT 1";
    wait_for(&bench, &format!("SELECT least(({failed}), 1)"), 1).await;
    events(&bench, &calls, 3..6).await;
    let all = calls.len() * TOLD.len();
    well.wait("all to the well one", |told| told.len() >= all).await;
    assert_eq!(dead.taken().len(), 0);
    wait_for(&bench, PENDING, all as i64).await;
    dead.answer(200);
    dead.wait("all to the revived one", |told| {
        told.iter().filter(|told| told.status == 200).count() >= all
    })
    .await;
    wait_for(&bench, PENDING, 0).await;
    wait_for(&bench, "SELECT count(*) FROM webhook_queues", 0).await;
    for (receiver, secret) in [(&dead, &dead_secret), (&well, &well_secret)] {
        let taken = receiver.taken();
        let told = by_call(&taken);
        assert_eq!(told.len(), calls.len());
        assert!(told.values().all(|types| types == &TOLD), "{told:?}");
        taken.iter().for_each(|told| check_signature(told, secret));
    }
    let told = by_call(&some.taken());
    assert!(told.len() == calls.len() && told.values().all(|types| types == &["call.ended"]));
    let body = &well.taken()[0].body;
    assert_eq!(body["call"]["caller"], "+15557701");
    assert_eq!(body["tenant_id"], bench.tenants[A].to_string());
    let path = bench.path(A, &format!("webhooks/{dead_id}/deliveries?state=delivered&limit=3"));
    let page = bench.read(&path, A).await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 3);
    assert_eq!(page["deliveries"][0]["last_status"], 200);
    let next = bench.read(&format!("{path}&cursor={}", page["next"].as_str().unwrap()), A).await;
    assert_ne!(next["deliveries"][0]["event_id"], page["deliveries"][2]["event_id"]);
}

#[tokio::test]
async fn what_nobody_takes_is_a_dead_letter_and_is_told_again_when_asked_for() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(500).await;
    let (id, _) = endpoint(&bench, &receiver.url(), &["*"]).await;
    let (_task, _stop) = deliver(&bench, 2);
    let calls = [call(&bench).await];
    events(&bench, &calls, 0..6).await;
    let dead = "SELECT count(*) FROM webhook_outbox WHERE state = 'dead' AND attempts = 2";
    wait_for(&bench, dead, TOLD.len() as i64).await;
    let path = bench.path(A, &format!("webhooks/{id}"));
    let page = bench.read(&format!("{path}/deliveries?state=dead&call_id={}", calls[0]), A).await;
    let letter = &page["deliveries"][0];
    assert_eq!((&letter["last_status"], &letter["attempts"]), (&json!(500), &json!(2)));
    assert_eq!(letter["last_error"], "it answered 500");
    receiver.answer(200);
    let replay = format!("{path}/replay");
    for bad in
        [json!({}), json!({"state": "pending"}), json!({"colour": 1}), json!({"events": ["x"]})]
    {
        check_error(&bench.send(("POST", &replay), A, &bad).await, 400, "invalid_value");
    }
    let answer = bench.send(("POST", &replay), A, &json!({"state": "dead"})).await;
    assert_eq!((answer.status, &answer.json()["replayed"]), (202, &json!(6)));
    receiver.wait("all again", |told| told.iter().filter(|t| t.status == 200).count() >= 6).await;
    assert_eq!(by_call(&receiver.taken())[&calls[0]], TOLD);
    wait_for(&bench, PENDING, 0).await;
    // One that was told is told once more by its id, and keeps it.
    let event = letter["event_id"].as_str().unwrap();
    let answer = bench.send(("POST", &replay), A, &json!({"events": [event]})).await;
    assert_eq!(answer.json()["replayed"], 1, "{}", answer.body);
    receiver
        .wait("one again", |told| told.iter().filter(|t| t.body["id"] == event).count() >= 4)
        .await;
    wait_for(&bench, PENDING, 0).await;
}

#[tokio::test]
async fn an_inactive_endpoint_is_told_nothing_until_it_is_active_again() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(200).await;
    let (id, _) = endpoint(&bench, &receiver.url(), &["*"]).await;
    let calls = [call(&bench).await];
    events(&bench, &calls, 0..3).await;
    let path = bench.path(A, &format!("webhooks/{id}"));
    assert_eq!(bench.send(("PATCH", &path), A, &json!({"is_active": false})).await.status, 200);
    let (_task, _stop) = deliver(&bench, 9);
    let other = Receiver::start(200).await;
    endpoint(&bench, &other.url(), &["*"]).await;
    events(&bench, &calls, 3..6).await;
    other.wait("what is told elsewhere", |told| told.len() >= 4).await;
    assert!(receiver.told().is_empty());
    assert_eq!(bench.send(("PATCH", &path), A, &json!({"is_active": true})).await.status, 200);
    receiver.wait("what waited", |told| told.len() >= 2).await;
    wait_for(&bench, PENDING, 0).await;
    assert_eq!(by_call(&receiver.taken())[&calls[0]], TOLD[..2]);
}

#[tokio::test]
async fn every_type_that_is_offered_is_told_of_some_event_and_the_inside_of_the_switch_is_known() {
    let bench = Bench::new().await;
    let body = json!({"url": "https://hooks.example/x", "events": EVENT_TYPES});
    bench.make(&bench.path(A, "webhooks"), A, body).await;
    let told = async |name: &str, is_answered: bool| {
        let sql =
            format!("SELECT coalesce(tandem_webhook_type('{name}', true, {is_answered}), '')");
        postgres::text(&bench.database, &sql).await
    };
    for kind in EVENT_TYPES {
        let name = match kind.strip_prefix("call.").unwrap() {
            "initiated" => "arrived",
            "failed" => "ended",
            "dtmf" => "digit",
            "transfer_started" => "transfer_begun",
            "transferred" => "transfer_completed",
            // Beside the end.
            "record_written" => continue,
            name => name,
        };
        let sql = "SELECT tandem_webhook_type('progressed', false, true)";
        match name {
            "progressed" => assert_eq!(postgres::text(&bench.database, sql).await, *kind),
            _ => assert_eq!(told(name, *kind != "call.failed").await, *kind),
        }
    }
    let is_inside = "SELECT string_agg(t, ',') FROM unnest(string_to_array('{}', ',')) t \
                     WHERE tandem_webhook_is_inside(t)";
    let inside = is_inside.replace("{}", &EVENT_TYPES.join(","));
    let inside = postgres::text(&bench.database, &inside).await;
    assert_eq!(inside.split(',').collect::<Vec<_>>(), INSIDE);
}

/// What is told to those alone who name it.
const INSIDE: [&str; 17] = [
    "call.decided",
    "call.refused",
    "call.ignored",
    "call.acknowledged",
    "call.first_media",
    "call.dialled",
    "call.sent",
    "call.attempted",
    "call.progressed",
    "call.reoffer_refused",
    "call.replaced",
    "call.peer_reason",
    "call.turn",
    "call.barge_in",
    "call.underrun",
    "call.leg_media",
    "call.media",
];

#[tokio::test]
async fn the_inside_of_the_switch_is_told_to_those_who_name_it_beside_what_they_name() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(200).await;
    endpoint(&bench, &receiver.url(), &["call.decided", "call.ended"]).await;
    let (_task, _stop) = deliver(&bench, 9);
    let calls = [call(&bench).await];
    events(&bench, &calls, 0..6).await;
    receiver.wait("both", |told| told.len() >= 2).await;
    wait_for(&bench, PENDING, 0).await;
    assert_eq!(by_call(&receiver.taken())[&calls[0]], ["call.decided", "call.ended"]);
}

#[tokio::test]
async fn the_end_of_a_recording_and_turns_that_no_call_told_of_are_told_once_behind_its_end() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(200).await;
    endpoint(&bench, &receiver.url(), &["*"]).await;
    let (_task, _stop) = deliver(&bench, 9);
    let (told, untold, open) = (call(&bench).await, call(&bench).await, call(&bench).await);
    let sql = format!("UPDATE calls SET ended_at = NULL, cause = NULL WHERE id = '{open}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    let mut recorded = HashMap::new();
    for call in [&told, &untold, &open] {
        recorded.insert(call.clone(), record(&bench, call).await);
    }
    // One told of its recording itself, and of one of two additions of the same turn.
    let sql = format!(
        "INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail) VALUES \
             ('{told}', 3, '{tenant}', now(), 'recording_failed', '{{\"recording_id\": \"{}\"}}'), \
             ('{told}', 4, '{tenant}', now(), 'transcript_added', '{{\"first\": 7, \"last\": 7}}')",
        recorded[&told],
        tenant = bench.tenants[A],
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    for is_final in [false, true] {
        let turn = Turn {
            seq: 7,
            speaker: "agent".to_owned(),
            text: "Good day.".to_owned(),
            at: clock::wall_now(),
            at_ms: None,
            is_final,
        };
        let key = (bench.tenants[A], told.parse().unwrap());
        assert_eq!(transcripts::put((&bench.database, None), key, &[turn]).await.unwrap(), 1);
    }
    let tell = async || live_events::tell_news_all_tenants(&bench.database, 9).await.unwrap();
    let mut kinds: Vec<_> = tell().await.into_iter().map(|(_, event)| event.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["call.recording_ready", "call.transcript_added"]);
    assert!(tell().await.is_empty(), "once");
    let waiting = format!("SELECT count(*) FROM call_news WHERE call_id = '{open}'");
    assert_eq!(postgres::count(&bench.database, &waiting).await, 1);
    let sql = format!("UPDATE calls SET ended_at = now(), cause = 'normal' WHERE id = '{open}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    assert_eq!(tell().await.len(), 1);
    receiver.wait("all of it", |told| told.len() >= 5).await;
    wait_for(&bench, PENDING, 0).await;
    let taken = by_call(&receiver.taken());
    assert_eq!(taken[&untold], ["call.recording_ready"]);
    assert_eq!(taken[&open], ["call.recording_ready"]);
    let both = ["call.recording_failed", "call.transcript_added", "call.transcript_added"];
    assert_eq!(taken[&told], both);
    let id = recorded[&untold].as_str();
    let data = json!({"recording_id": id, "duration_ms": 20});
    assert!(receiver.taken().iter().any(|told| told.body["data"] == data));
}

/// A recording of a call of the first tenant that is over.
async fn record(bench: &Bench, call: &str) -> String {
    let id = clock::new_recording_id();
    let of = RecordingOf { id, call: call.parse().unwrap(), tenant: bench.tenants[A] };
    let begun = StoredRecording {
        of,
        folder: clock::new_uuid(),
        sample_rate: 8_000,
        is_encrypted: false,
        started_at: clock::wall_now(),
        end: None,
    };
    let end = RecordingEnd {
        status: "ready",
        why: None,
        ended_at: clock::wall_now(),
        duration_ms: 20,
        data_bytes: 640,
        sha256: "0".repeat(64),
        lost_ms: 0,
        markers: json!([]),
    };
    let ended = StoredRecording { end: Some(end), ..begun.clone() };
    // What is stored again, after a kill, tells nothing new.
    for recording in [&begun, &ended, &ended] {
        recordings::put_all_tenants(&bench.database, recording).await.unwrap();
    }
    id.to_string()
}

#[tokio::test]
async fn what_is_said_of_a_call_that_is_over_is_told_once_and_behind_its_end() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(200).await;
    endpoint(&bench, &receiver.url(), &["call.transcript_added", "call.record_written"]).await;
    let (_task, _stop) = deliver(&bench, 9);
    let calls = [call(&bench).await];
    events(&bench, &calls, 0..6).await;
    let path = bench.path(A, &format!("calls/{}/transcript", calls[0]));
    let turn = |seq: u32| json!({"seq": seq, "speaker": "caller", "text": "Hello?"});
    let turns = json!({"turns": [turn(4), turn(2)]});
    for stored in [2, 0] {
        let answer = bench.send(("POST", &path), A, &turns).await;
        assert_eq!((answer.status, &answer.json()["stored"]), (200, &json!(stored)));
    }
    let answer = bench.send(("POST", &path), A, &json!({"turns": [turn(9)]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    receiver.wait("what was said", |told| told.len() >= 3).await;
    wait_for(&bench, PENDING, 0).await;
    let said = ["call.record_written", "call.transcript_added", "call.transcript_added"];
    let taken = receiver.taken();
    assert_eq!(by_call(&taken)[&calls[0]], said);
    assert_eq!(taken[1].body["data"], json!({"first": 2, "last": 4}));
    let shown = bench.read(&bench.path(A, &format!("calls/{}", calls[0])), A).await;
    assert_eq!(shown["events"].as_array().unwrap().len(), 8, "{shown}");
    // While its switch may have more to tell, nobody else tells, and nothing is stored.
    let open = call(&bench).await;
    let sql = format!("UPDATE calls SET ended_at = NULL, cause = NULL WHERE id = '{open}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    let path = bench.path(A, &format!("calls/{open}/transcript"));
    let answer = bench.send(("POST", &path), A, &turns).await;
    check_error(&answer, 503, "call_busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(bench.read(&path, A).await["turns"], json!([]));
}

#[tokio::test]
async fn two_that_deliver_share_the_work_and_keep_the_order_of_each_call() {
    let bench = Bench::new().await;
    let receiver = Receiver::start(200).await;
    endpoint(&bench, &receiver.url(), &["*"]).await;
    let (_one, _stop_one) = deliver(&bench, 9);
    let (_two, _stop_two) = deliver(&bench, 9);
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(call(&bench).await);
    }
    // What comes while both are at it is taken by either.
    for seqs in [0..2, 2..4, 4..6] {
        events(&bench, &calls, seqs).await;
    }
    let all = calls.len() * TOLD.len();
    receiver.wait("all of them", |told| told.len() >= all).await;
    wait_for(&bench, PENDING, 0).await;
    wait_for(&bench, "SELECT count(*) FROM webhook_queues", 0).await;
    let told = by_call(&receiver.taken());
    assert_eq!(told.len(), calls.len());
    assert!(told.values().all(|types| types == &TOLD), "{told:?}");
}
