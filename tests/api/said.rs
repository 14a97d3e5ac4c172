//! Recordings and transcripts as resources: who sees them, what they may be, and when they go.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::postgres;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tandem::clock;
use tandem::store::privacy;
use tandem::types::limit::CALL_VARIABLES_MAX;

const A: usize = 0;
const B: usize = 1;
const PERSON: &str = "+15550177";

/// A recording of a call that began so many days ago.
async fn recording(
    bench: &Bench,
    tenant: usize,
    (call, days): (&str, u32),
    status: &str,
) -> String {
    let id = clock::new_uuid();
    let sql = format!(
        "INSERT INTO recordings (id, tenant_id, call_id, folder, status, sample_rate, is_encrypted, \
                                 started_at, data_bytes, sha256, markers) \
         SELECT CASE WHEN {days} = 0 THEN '{id}' \
                     ELSE tandem_id_floor(now() - interval '{days} days') END, \
                '{}', '{call}', '{id}', '{status}', 8000, false, now(), 640, '{}', \
                '[{{\"at_ms\": 20, \"what\": \"paused\"}}]' RETURNING id::text",
        bench.tenants[tenant],
        "0".repeat(64)
    );
    postgres::text(&bench.database, &sql).await
}

fn turn(seq: u32, text: &str) -> Value {
    json!({"seq": seq, "speaker": "caller", "text": text, "at_ms": 20})
}

#[tokio::test]
async fn recordings_are_listed_by_call_and_shown_to_their_tenant_alone() {
    let bench = Bench::new().await;
    let (call, other) = (bench.call(bench.tenants[0], PERSON).await, clock::new_uuid().to_string());
    let id = recording(&bench, 0, (&call, 0), "ready").await;
    let open = recording(&bench, 0, (&other, 0), "recording").await;
    let list = bench.read(&bench.path(0, "recordings"), A).await;
    assert_eq!(list["recordings"].as_array().unwrap().len(), 2, "{list}");
    let path = bench.path(0, &format!("recordings?call_id={call}&status=ready"));
    let list = bench.read(&path, A).await;
    assert_eq!(list["recordings"][0]["id"], id, "{list}");
    let first = bench.read(&bench.path(0, "recordings?limit=1"), A).await;
    let next = first["next"].as_str().unwrap();
    let second = bench.read(&bench.path(0, &format!("recordings?limit=1&cursor={next}")), A).await;
    assert_ne!(first["recordings"][0]["id"], second["recordings"][0]["id"]);
    let item = format!("recordings/{id}");
    let shown = bench.read(&bench.path(0, &item), A).await;
    assert_eq!(shown["markers"][0]["what"], "paused", "{shown}");
    assert!(shown.get("folder").is_none(), "{shown}");
    for path in [item.clone(), format!("{item}/audio")] {
        check_error(
            &bench.get(&bench.path(1, &path), Some(&bench.keys[B])).await,
            404,
            "not_found",
        );
    }
    // Its file is in a folder that is not of this process.
    let audio = bench.get(&bench.path(0, &format!("{item}/audio")), Some(&bench.keys[A])).await;
    check_error(&audio, 503, "recording_away");
    check_error(
        &bench.send(("DELETE", &bench.path(1, &item)), B, &Value::Null).await,
        404,
        "not_found",
    );
    let still = bench.path(0, &format!("recordings/{open}"));
    check_error(&bench.send(("DELETE", &still), A, &Value::Null).await, 409, "conflict");
    let gone = bench.send(("DELETE", &bench.path(0, &item)), A, &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    let removals = format!("SELECT count(*) FROM recording_removals WHERE id = '{id}'");
    assert_eq!(postgres::count(&bench.database, &removals).await, 1, "its node is told");
    let log = format!(
        "SELECT count(*) FROM audit_log WHERE action = 'delete' AND subject = 'recording' \
         AND subject_id = '{id}' AND tenant_id IS NOT NULL"
    );
    assert_eq!(postgres::count(&bench.database, &log).await, 1);
}

#[tokio::test]
async fn turns_are_stored_once_and_one_that_is_not_final_gives_way() {
    let bench = Bench::new().await;
    let call = bench.call(bench.tenants[0], PERSON).await;
    let path = bench.path(0, &format!("calls/{call}/transcript"));
    let add = async |turns: Value| {
        let answer = bench.send(("POST", &path), A, &json!({ "turns": turns })).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["stored"].as_u64().unwrap()
    };
    let guess = json!({"seq": 1, "speaker": "agent", "text": "Go", "final": false});
    assert_eq!(add(json!([turn(0, "Hello?"), guess])).await, 2);
    assert_eq!(add(json!([turn(0, "Something else"), guess])).await, 1, "one was final");
    let said = json!({"seq": 1, "speaker": "agent", "text": "Good day."});
    assert_eq!(add(json!([said])).await, 1);
    assert_eq!(add(json!([said])).await, 0);
    // Each that was stored stands in the audit log, without what was said.
    let log = bench.read(&bench.path(0, "audit-log?subject=transcript&action=add"), A).await;
    let details: Vec<_> =
        log["entries"].as_array().unwrap().iter().map(|entry| &entry["detail"]).collect();
    let detail = |turns: u64, first: u64| json!({"turns": turns, "first": first, "last": 1});
    assert_eq!(details, [&detail(1, 1), &detail(1, 0), &detail(2, 0)], "{log}");
    assert!(log["entries"][0]["api_key_id"].is_string() && log["entries"][0]["subject_id"] == call);
    let shown = bench.read(&path, A).await;
    let texts: Vec<_> = shown["turns"].as_array().unwrap().iter().map(|t| &t["text"]).collect();
    assert_eq!(texts, ["Hello?", "Good day."], "{shown}");
    assert_eq!(
        (&shown["turns"][0]["at_ms"], &shown["turns"][1]["final"]),
        (&json!(20), &json!(true))
    );
    let page = bench.read(&format!("{path}?limit=1"), A).await;
    assert_eq!((&page["turns"][0]["seq"], &page["next"]), (&json!(0), &json!("1")), "{page}");
    let rest = bench.read(&format!("{path}?limit=1&cursor=1"), A).await;
    assert_eq!((&rest["turns"][0]["seq"], &rest["next"]), (&json!(1), &Value::Null), "{rest}");
    for path in [&path, &bench.path(0, "transcripts")] {
        for bad in ["limit=x", "limit=0", "limit=201", "cursor=x"] {
            let answer = bench.get(&format!("{path}?{bad}"), Some(&bench.keys[A])).await;
            let field = bad.split('=').next().unwrap();
            check_field(&answer, 400, "bad_parameter", field);
        }
    }
    let list = bench.read(&bench.path(0, "transcripts"), A).await;
    assert_eq!(
        (&list["transcripts"][0]["call_id"], &list["transcripts"][0]["turns"]),
        (&json!(call), &json!(2))
    );
    let turns = json!({"turns": [turn(0, "x"), turn(0, "y")]});
    check_field(&bench.send(("POST", &path), A, &turns).await, 400, "invalid_value", "turns.1.seq");
    // Of others, or of no call, there is nothing to add to.
    let turns = json!({"turns": [turn(0, "x")]});
    let foreign = bench.path(1, &format!("calls/{call}/transcript"));
    check_error(&bench.send(("POST", &foreign), B, &turns).await, 404, "not_found");
    check_error(&bench.get(&foreign, Some(&bench.keys[B])).await, 404, "not_found");
    let none = bench.read(&bench.path(1, "transcripts"), B).await;
    assert_eq!(none["transcripts"], json!([]));
    assert_eq!(bench.send(("DELETE", &path), A, &Value::Null).await.status, 204);
    check_error(&bench.send(("DELETE", &path), A, &Value::Null).await, 404, "not_found");
    let log = "SELECT string_agg(detail ->> 'turns', ',') FROM audit_log \
               WHERE action = 'delete' AND subject = 'transcript' AND tenant_id IS NOT NULL";
    assert_eq!(postgres::text(&bench.database, log).await, "2");
}

#[tokio::test]
async fn what_was_heard_and_said_is_exported_erased_and_goes_after_its_time() {
    let bench = Bench::new().await;
    let call = bench.call(bench.tenants[0], PERSON).await;
    let aside = bench.call(bench.tenants[0], "+15550188").await;
    let sql = "UPDATE calls SET ended_at = now() - interval '1 hour'";
    postgres::execute(&bench.database, sql).await.unwrap();
    let kept = recording(&bench, 0, (&aside, 0), "ready").await;
    recording(&bench, 0, (&call, 0), "ready").await;
    for (of, text) in [(&call, "my name is Ann"), (&aside, "call +15550177 please")] {
        let path = bench.path(0, &format!("calls/{of}/transcript"));
        let turns = json!({"turns": [turn(0, text)]});
        assert_eq!(bench.send(("POST", &path), A, &turns).await.status, 200);
    }
    let wish = json!({"number": PERSON});
    let found = bench.send(("POST", &bench.path(0, "privacy/export")), A, &wish).await.json();
    assert_eq!(found["found"]["recordings"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["found"]["transcripts"].as_array().unwrap().len(), 2, "{found}");
    let erased = bench.send(("POST", &bench.path(0, "privacy/erase")), A, &wish).await;
    assert_eq!(erased.status, 200, "{}", erased.body);
    let left = bench.read(&bench.path(0, "recordings"), A).await;
    assert_eq!(left["recordings"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["recordings"][0]["id"], kept);
    let said = "SELECT string_agg(text, '|') FROM transcripts";
    assert_eq!(postgres::text(&bench.database, said).await, "call +99999999 please");

    // Of one tenant both have a time.
    let sql = format!(
        "UPDATE tenants SET keep_recordings_days = 7, keep_transcripts_days = 7 WHERE id = '{}'; \
         UPDATE transcripts SET created_at = now() - interval '8 days'",
        bench.tenants[0]
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    recording(&bench, 0, (&aside, 8), "ready").await;
    recording(&bench, 0, (&aside, 9), "recording").await;
    recording(&bench, 1, (&aside, 30), "ready").await;
    let done = privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
    let deleted = |what: &str| done.iter().find(|kind| kind.what == what).unwrap().deleted;
    assert_eq!((deleted("recordings"), deleted("transcripts")), (1, 1), "{done:?}");
    let count = "SELECT count(*) FROM recordings";
    assert_eq!(postgres::count(&bench.database, count).await, 3);
    assert_eq!(
        postgres::count(&bench.database, "SELECT count(*) FROM recording_removals").await,
        2
    );
}

#[tokio::test]
async fn what_two_say_of_a_call_or_delete_at_once_does_not_undo_each_other() {
    let bench = Bench::new().await;
    let call = bench.call(bench.tenants[0], PERSON).await;
    let path = bench.path(0, &format!("calls/{call}"));
    let read = bench.get(&path, Some(&bench.keys[A])).await;
    let tag = read.json()["etag"].as_str().unwrap().to_owned();
    assert_eq!(read.header("etag"), Some(tag.as_str()));
    let sold =
        bench.send_if(("PATCH", &path), A, &json!({"disposition": "sold"}), Some(&tag)).await;
    assert_eq!(sold.status, 200, "{}", sold.body);
    let (next, said) = (sold.header("etag").unwrap().to_owned(), json!({"disposition": "lost"}));
    assert_ne!(next, tag);
    check_error(
        &bench.send_if(("PATCH", &path), A, &said, Some(&tag)).await,
        412,
        "changed_meanwhile",
    );
    assert_eq!(bench.read(&path, A).await["disposition"], "sold");
    // To say the same again is no change.
    for again in [json!({"disposition": "sold"}), json!({})] {
        let answer = bench.send(("PATCH", &path), A, &again).await;
        assert_eq!((answer.status, answer.header("etag")), (200, Some(next.as_str())));
    }
    let noted = "SELECT count(*) FROM audit_log WHERE subject = 'call' AND action = 'update'";
    assert_eq!(postgres::count(&bench.database, noted).await, 1);
    // That its record goes on is no change of what was said of it.
    let sql = format!("UPDATE calls SET rev = rev + 1, duration_ms = 7 WHERE id = '{call}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    let answer =
        bench.send_if(("PATCH", &path), A, &json!({"variables": {"a": "1"}}), Some(&next)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_ne!(answer.header("etag"), Some(next.as_str()));
    // The same of its transcript.
    let path = format!("{path}/transcript");
    let none = bench.get(&path, Some(&bench.keys[A])).await;
    assert_eq!((&none.json()["etag"], none.header("etag")), (&Value::Null, None));
    let add = async |seq| {
        let answer = bench.send(("POST", &path), A, &json!({"turns": [turn(seq, "x")]})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    add(0).await;
    let read = bench.get(&path, Some(&bench.keys[A])).await;
    let tag = read.header("etag").unwrap().to_owned();
    add(1).await;
    let stale = bench.send_if(("DELETE", &path), A, &Value::Null, Some(&tag)).await;
    check_error(&stale, 412, "changed_meanwhile");
    let read = bench.get(&path, Some(&bench.keys[A])).await;
    assert_eq!(read.json()["turns"].as_array().map(Vec::len), Some(2), "{}", read.body);
    let tag = read.header("etag").unwrap().to_owned();
    let gone = bench.send_if(("DELETE", &path), A, &Value::Null, Some(&tag)).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    let gone = bench.send_if(("DELETE", &path), A, &Value::Null, Some(&tag)).await;
    check_error(&gone, 404, "not_found");
}

#[tokio::test]
async fn what_was_heard_and_said_goes_with_the_record_of_its_call_at_the_latest() {
    let bench = Bench::new().await;
    let (a, b) = (bench.tenants[0], bench.tenants[1]);
    // A call of so many days ago: its record, a recording and a turn, of which none has a time of its own.
    let call = async |tenant: usize, days: u32, has_record: bool| {
        let floor = format!("tandem_id_floor(now() - interval '{days} days')");
        let id = postgres::text(&bench.database, &format!("SELECT {floor}::text")).await;
        if has_record {
            let sql = format!(
                "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, \
                                    arrived_at, ended_at, cause) \
                 VALUES ('{id}', 1, '{}', 'inbound', 'x', '{PERSON}', 'x', '[]', now(), now(), 'normal')",
                bench.tenants[tenant]
            );
            postgres::execute(&bench.database, &sql).await.unwrap();
        }
        recording(&bench, tenant, (&id, 0), "ready").await;
        let sql = format!(
            "INSERT INTO transcripts (tenant_id, call_id, seq, speaker, text, at) \
             VALUES ('{}', '{id}', 0, 'caller', 'I am Ann', now())",
            bench.tenants[tenant]
        );
        postgres::execute(&bench.database, &sql).await.unwrap();
        id
    };
    let old = call(0, 31, true).await;
    let young = call(0, 29, true).await;
    // Of this one the record went long ago.
    let orphan = call(0, 60, false).await;
    // One that still runs is not over its time, however long it lasts.
    let running = call(0, 40, true).await;
    let sql = format!("UPDATE calls SET ended_at = NULL, cause = NULL WHERE id = '{running}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    let of_other = call(1, 400, true).await;
    let keep = json!({"keep_calls_days": 30});
    let kept = bench.send(("PATCH", &format!("/api/v1/tenants/{a}")), 2, &keep).await;
    assert_eq!(kept.status, 200, "{}", kept.body);
    // The record goes last, so that nothing is left of which nobody knows whose it is.
    let first = privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
    let deleted = |what: &str| first.iter().find(|kind| kind.what == what).unwrap().deleted;
    let all = (deleted("recordings"), deleted("transcripts"), deleted("calls"));
    assert_eq!(all, (2, 2, 0), "{first:?}");
    privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
    let mut left = [young, running, of_other];
    left.sort();
    for table in ["calls", "recordings", "transcripts"] {
        let column = if table == "calls" { "id" } else { "call_id" };
        let sql = format!("SELECT string_agg({column}::text, ' ' ORDER BY {column}) FROM {table}");
        assert_eq!(postgres::text(&bench.database, &sql).await, left.join(" "), "{table}");
    }
    // Their files go too, and nothing of the person is found by an erasure that comes later.
    let removals = format!("SELECT count(*) FROM recording_removals WHERE owner = '{a}'");
    assert_eq!(postgres::count(&bench.database, &removals).await, 2, "{old} {orphan} {b}");
}

#[tokio::test]
async fn a_call_has_no_more_variables_than_it_may_however_many_times_some_are_added() {
    let bench = Bench::new().await;
    let call = bench.call(bench.tenants[0], PERSON).await;
    let path = bench.path(0, &format!("calls/{call}"));
    let put = async |variables: Value| {
        bench.send(("PATCH", &path), A, &json!({ "variables": variables })).await
    };
    let many: Map<String, Value> =
        (0..CALL_VARIABLES_MAX).map(|n| (format!("v{n}"), json!("x"))).collect();
    assert_eq!(put(Value::Object(many)).await.status, 200);
    check_field(&put(json!({"more": "x"})).await, 400, "invalid_value", "variables");
    let kept = bench.read(&path, A).await["variables"].as_object().unwrap().clone();
    assert!(kept.len() == CALL_VARIABLES_MAX && !kept.contains_key("more"), "{kept:?}");
    // One that is there may be another, and one that takes the place of another may be new.
    assert_eq!(put(json!({"v0": "y"})).await.status, 200);
    assert_eq!(put(json!({"v1": null, "more": "x"})).await.status, 200);
    let kept = bench.read(&path, A).await["variables"].as_object().unwrap().clone();
    assert_eq!(
        (kept.len(), &kept["v0"], &kept["more"]),
        (CALL_VARIABLES_MAX, &json!("y"), &json!("x"))
    );
}
