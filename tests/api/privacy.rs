//! What is kept of people goes when it is erased, and after its time.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::postgres;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tandem::store::privacy;
use tandem::store::traces;
use tandem::store::traces::StoredMessage;
use tandem::store::traces::StoredTrace;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

const A: usize = 0;
const B: usize = 1;
const PLATFORM: usize = 2;
const PERSON: &str = "+15550177";
const DIGITS: &str = "15550177";

/// Every place of the database where `digits` stand, whatever the table is for.
async fn places(bench: &Bench, digits: &str) -> Vec<String> {
    let columns = "SELECT string_agg(c.table_name || '.' || c.column_name, ' ') \
                   FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
                   WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' \
                     AND c.data_type IN ('text', 'character varying', 'jsonb', 'json', 'bytea', 'ARRAY')";
    let columns = postgres::text(&bench.database, columns).await;
    assert!(
        columns.contains("calls.caller") && columns.contains("sip_messages.message"),
        "{columns}"
    );
    let mut found = Vec::new();
    for place in columns.split_whitespace() {
        let (table, column) = place.split_once('.').unwrap();
        // A column of bytes is printed in hexadecimal.
        let hex: String = digits.bytes().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE {column}::text LIKE '%{digits}%' OR {column}::text LIKE '%{hex}%'"
        );
        if postgres::count(&bench.database, &sql).await > 0 {
            found.push(place.to_owned());
        }
    }
    found
}

/// A call of an hour ago with somebody else.
async fn call_of(bench: &Bench, caller: &str) -> String {
    let id = bench.call(bench.tenants[0], caller).await;
    let sql = format!("UPDATE calls SET ended_at = now() - interval '1 hour' WHERE id = '{id}'");
    postgres::execute(&bench.database, &sql).await.unwrap();
    id
}

/// A call of an hour ago with the person, in every place that a call has.
async fn call(bench: &Bench, tenant: usize) -> String {
    let id = bench.call(bench.tenants[tenant], PERSON).await;
    let sql = format!(
        "UPDATE calls SET arrived_at = now() - interval '1 hour', ended_at = now() - interval '1 hour', \
             decision = '[{{\"what\": \"caller\", \"detail\": \"{PERSON}\"}}]' WHERE id = '{id}'; \
         UPDATE call_events SET detail = '{{\"caller\": \"00{DIGITS}\"}}' WHERE call_id = '{id}'; \
         INSERT INTO sip_messages (call_id, seq, tenant_id, at, way, transport, local, remote, message) \
         SELECT id, 0, tenant_id, now(), 'in', 'udp', 'x', 'y', 'From: <sip:{PERSON}@x>' FROM calls WHERE id = '{id}'; \
         INSERT INTO audit_log (id, tenant_id, actor, action, subject, detail) \
         SELECT gen_random_uuid(), tenant_id, 'api', 'update', 'call', '{{\"to\": \"{PERSON}\"}}' \
         FROM calls WHERE id = '{id}'"
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    id
}

#[tokio::test]
async fn a_person_is_exported_and_then_found_in_no_column_of_any_table() {
    let bench = Bench::new().await;
    let id = call(&bench, 0).await;
    let other = bench.call(bench.tenants[0], "+155501771").await;
    let wish = json!({"number": PERSON});
    let path = bench.path(0, "privacy/export");
    let answer = bench.send(("POST", &path), A, &wish).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = answer.json()["found"].clone();
    assert_eq!(found["calls"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["calls"][0]["id"], id, "{found}");
    assert_eq!(found["call_events"].as_array().unwrap().len(), 2, "{found}");
    assert!(found["sip_messages"][0]["message"].as_str().unwrap().contains(PERSON), "{found}");
    assert_eq!(found["audit_log"].as_array().unwrap().len(), 1, "{found}");
    assert!(places(&bench, DIGITS).await.len() >= 5);

    let path = bench.path(0, "privacy/erase");
    let answer = bench.send(("POST", &path), A, &wish).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.json()["rows"].as_i64().unwrap() >= 4, "{}", answer.body);
    // What is left is the number of somebody else, of which theirs is the beginning.
    assert_eq!(places(&bench, DIGITS).await, ["calls.caller"]);
    assert_eq!(
        bench.read(&bench.path(0, &format!("calls/{other}")), A).await["caller"],
        "+155501771"
    );
    let record = bench.read(&bench.path(0, &format!("calls/{id}")), A).await;
    assert_eq!(
        (&record["caller"], &record["cause"]),
        (&json!("erased"), &json!("normal")),
        "{record}"
    );
    let log = bench.read(&bench.path(0, "audit-log"), A).await;
    assert!(log.to_string().contains("personal data"), "{log}");
}

#[tokio::test]
async fn a_number_within_a_longer_one_is_somebody_elses() {
    let bench = Bench::new().await;
    call(&bench, 0).await;
    let mut others = Vec::new();
    for number in ["+155501771", "+4915550177"] {
        let id = call_of(&bench, number).await;
        let digits = number.trim_start_matches('+');
        let sql = format!(
            "UPDATE call_events SET detail = '{{\"caller\": \"00{digits}\"}}' WHERE call_id = '{id}'; \
             INSERT INTO sip_messages (call_id, seq, tenant_id, at, way, transport, local, remote, message) \
             SELECT id, 0, tenant_id, now(), 'in', 'udp', 'x', 'y', 'From: <sip:{number}@x>' FROM calls WHERE id = '{id}'"
        );
        postgres::execute(&bench.database, &sql).await.unwrap();
        let path = bench.path(0, &format!("calls/{id}"));
        let turn =
            json!({"turns": [{"seq": 0, "speaker": "caller", "text": format!("call {number}")}]});
        let answer = bench.send(("POST", &format!("{path}/transcript")), A, &turn).await;
        assert_eq!(answer.json()["stored"], 1, "{}", answer.body);
        let answer = bench.send(("PATCH", &path), A, &json!({"summary": "Bob"})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        others.push((id, number));
    }
    // One of them talks at this moment, which is no reason not to erase the person.
    bench.call(bench.tenants[0], "+155501772").await;
    let told = async || {
        let calls: Vec<_> = others.iter().map(|(id, _)| format!("'{id}'")).collect();
        let sql = format!(
            "SELECT string_agg(it::text, ' ' ORDER BY it::text) FROM ( \
             SELECT to_jsonb(c) FROM calls c WHERE id IN ({0}) \
             UNION ALL SELECT to_jsonb(e) FROM call_events e WHERE call_id IN ({0}) \
             UNION ALL SELECT to_jsonb(m) FROM sip_messages m WHERE call_id IN ({0}) \
             UNION ALL SELECT to_jsonb(t) FROM transcripts t WHERE call_id IN ({0})) AS all_of_them (it)",
            calls.join(",")
        );
        postgres::text(&bench.database, &sql).await
    };
    let before = told().await;
    assert_eq!(before.matches("\\x").count(), 2, "{before}");
    assert_eq!(before.matches("\"text\": \"call ").count(), 2, "{before}");
    let wish = json!({"number": PERSON});
    let exported = bench.send(("POST", &bench.path(0, "privacy/export")), A, &wish).await;
    assert_eq!(exported.status, 200, "{}", exported.body);
    assert!(exported.body.contains(PERSON), "{}", exported.body);
    for (id, number) in &others {
        assert!(
            !exported.body.contains(number) && !exported.body.contains(id),
            "{}",
            exported.body
        );
    }
    let erased = bench.send(("POST", &bench.path(0, "privacy/erase")), A, &wish).await;
    assert_eq!(erased.status, 200, "{}", erased.body);
    assert_eq!(told().await, before);
}

#[tokio::test]
async fn what_a_node_has_to_erase_is_sealed_for_it_unless_its_version_could_not_read_that() {
    let bench = Bench::new().await;
    call(&bench, 0).await;
    // One of this version, one of an older one, and one that went back to an older one.
    let key = "decode('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f', 'hex')";
    let nodes = format!(
        "INSERT INTO nodes (id, name, public_key, seen_at, public_key_at) VALUES \
             ('00000000-0000-0000-0000-000000000001', '', {key}, now(), now()), \
             ('00000000-0000-0000-0000-000000000002', '', NULL, now(), NULL), \
             ('00000000-0000-0000-0000-000000000003', '', {key}, now(), now() - interval '1 second')"
    );
    postgres::execute(&bench.database, &nodes).await.unwrap();
    let wish = json!({"number": PERSON});
    let answer = bench.send(("POST", &bench.path(0, "privacy/erase")), A, &wish).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let of = async |table: &str| {
        let nodes = "SELECT string_agg(right(node_id::text, 1), ' ' ORDER BY node_id)";
        postgres::text(&bench.database, &format!("{nodes} FROM {table}")).await
    };
    assert_eq!((of("sealed_erasures").await, of("erasures").await), ("1".into(), "2 3".into()));
    assert_eq!(places(&bench, DIGITS).await, ["erasures.digits"]);
}

#[tokio::test]
async fn what_applications_said_of_a_person_is_exported_and_goes_out_of_the_log_as_well() {
    let bench = Bench::new().await;
    let (id, other) = (call(&bench, 0).await, call_of(&bench, "+15550188").await);
    for of in [&id, &other] {
        let said = json!({
            "summary": "Ann wants her money back", "outcome": "angry", "disposition": "callback",
            "variables": {"name": "Ann"},
        });
        for said in [said, json!({"summary": "Ann was calmed", "disposition": null})] {
            let path = bench.path(0, &format!("calls/{of}"));
            let answer = bench.send(("PATCH", &path), A, &said).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }
    let wish = json!({"number": PERSON});
    let answer = bench.send(("POST", &bench.path(0, "privacy/export")), A, &wish).await;
    let log = answer.json()["found"]["audit_log"].clone();
    assert_eq!(log.as_array().map(Vec::len), Some(3), "{log}");
    assert!(log.to_string().contains("Ann wants her money back"), "{log}");
    assert!(!log.to_string().contains(&other), "{log}");
    let erased = bench.send(("POST", &bench.path(0, "privacy/erase")), A, &wish).await;
    assert_eq!(erased.status, 200, "{}", erased.body);
    let record = bench.read(&bench.path(0, &format!("calls/{id}")), A).await;
    for word in ["summary", "outcome", "disposition"] {
        assert!(record[word].is_null(), "{word}: {record}");
    }
    let entries = async |of: &str| {
        let path = format!("audit-log?subject_id={of}&action=update");
        let log = bench.read(&bench.path(0, &path), A).await;
        let entries = log["entries"].as_array().unwrap().clone();
        entries.into_iter().filter(|entry| entry["detail"]["after"].is_object()).collect::<Vec<_>>()
    };
    // The entries stay, and tell what was changed: the newest first.
    let log = entries(&id).await;
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(!format!("{log:?}").contains("Ann") && !format!("{log:?}").contains("angry"));
    let all = |word: &str| json!({"summary": word, "outcome": word, "disposition": word, "variables": word});
    assert_eq!(log[0]["detail"]["before"], all("erased"));
    let mut after = all("erased");
    after["disposition"] = Value::Null;
    assert_eq!(log[0]["detail"]["after"], after);
    let mut before = all("erased");
    for word in ["summary", "outcome", "disposition"] {
        before[word] = Value::Null;
    }
    before["variables"] = json!({});
    assert_eq!(log[1]["detail"]["before"], before);
    assert_eq!(log[1]["detail"]["after"], all("erased"));
    assert!(format!("{:?}", entries(&other).await).contains("Ann wants her money back"));
    // Nothing of the call is written down that comes later: turns that waited, signalling that was not stored.
    let turn = json!({"turns": [{"seq": 0, "speaker": "caller", "text": "I am Ann"}]});
    for (of, stored) in [(&id, 0), (&other, 1)] {
        let path = bench.path(0, &format!("calls/{of}/transcript"));
        let answer = bench.send(("POST", &path), A, &turn).await;
        assert_eq!(answer.json()["stored"], stored, "{}", answer.body);
    }
    postgres::execute(&bench.database, "DELETE FROM sip_messages").await.unwrap();
    let message = StoredMessage {
        at: jiff::Timestamp::UNIX_EPOCH,
        way: "in".into(),
        transport: "udp".into(),
        local: "x".into(),
        remote: "y".into(),
        bytes: b"From: Ann".to_vec().into(),
    };
    let trace = StoredTrace { messages: vec![message], left_out: 0 };
    let late = [&id, &other].map(|of| (of.parse().unwrap(), trace.clone()));
    traces::put_all_tenants(&bench.database, &late).await.unwrap();
    let stored =
        postgres::text(&bench.database, "SELECT string_agg(call_id::text, ' ') FROM sip_messages");
    assert_eq!(stored.await, other);
}

#[tokio::test]
async fn requests_that_name_themselves_by_numbers_do_not_hinder_an_erasure() {
    let bench = Bench::new().await;
    let sql = format!(
        "INSERT INTO idempotency_keys (tenant_id, key, asked, call_id, busy_until) \
         SELECT '{}', key, sha256(''), gen_random_uuid(), now() FROM unnest(ARRAY['lead-15550177', 'lead-15550178']) key",
        bench.tenants[0]
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    for number in ["+15550177", "+15550178"] {
        let wish = json!({"number": number});
        let erased = bench.send(("POST", &bench.path(0, "privacy/erase")), A, &wish).await;
        assert_eq!((erased.status, &erased.json()["rows"]), (200, &json!(1)), "{}", erased.body);
    }
}

#[tokio::test]
async fn an_export_leaves_nothing_out_however_much_there_is() {
    let bench = Bench::new().await;
    let id = call(&bench, 0).await;
    let sql = format!(
        "INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail) \
         SELECT '{id}', 2 + n, '{}', now(), 'digit', jsonb_build_object('n', n) \
         FROM generate_series(1, 12000) n",
        bench.tenants[0]
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    let wish = json!({"number": PERSON});
    let answer = bench.send(("POST", &bench.path(0, "privacy/export")), A, &wish).await;
    let found = answer.json()["found"].clone();
    assert_eq!(found["call_events"].as_array().map(Vec::len), Some(12_002));
    assert_eq!((&found["recordings"], &found["calls"][0]["id"]), (&json!([]), &json!(id)));
    let log = bench.read(&bench.path(0, "audit-log?action=export"), A).await;
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(1), "{log}");
}

/// A client whose export has begun, and who reads nothing of it.
async fn deaf(bench: &Bench, path: &str, wish: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(bench.address).await.unwrap();
    let ask = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{wish}",
        bench.keys[A],
        wish.len()
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    assert!(stream.peek(&mut [0]).await.unwrap() > 0);
    stream
}

#[tokio::test]
async fn exports_that_nobody_reads_hold_up_no_other_request_and_break_off() {
    let bench = Bench::new().await;
    let id = call(&bench, 0).await;
    // More than the buffers between here and there hold.
    let sql = format!(
        "INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail) \
         SELECT '{id}', 2 + n, '{}', now(), 'digit', jsonb_build_object('said', repeat('x', 4000)) \
         FROM generate_series(1, 6000) n",
        bench.tenants[0]
    );
    postgres::execute(&bench.database, &sql).await.unwrap();
    let (path, wish) = (bench.path(0, "privacy/export"), json!({"number": PERSON}));
    let mut deaf = [
        deaf(&bench, &path, &wish.to_string()).await,
        deaf(&bench, &path, &wish.to_string()).await,
    ];
    let ask = async || bench.send(("POST", &path), A, &wish).await;
    let refused = ask().await;
    check_error(&refused, 503, "node_busy");
    assert_eq!(refused.header("retry-after"), Some("5"));
    for _ in 0..20 {
        assert_eq!(bench.get(&bench.path(0, "calls"), Some(&bench.keys[A])).await.status, 200);
    }
    // Nobody reads for longer than is waited for, and there is room again.
    let whole = wait_for(async || Some(ask().await).filter(|answer| answer.status == 200)).await;
    assert_eq!(whole.json()["found"]["call_events"].as_array().map(Vec::len), Some(6_002));
    for stream in &mut deaf {
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.len());
        assert!(!answer.ends_with(b"0\r\n\r\n"), "what is not whole looks so: {}", answer.len());
    }
}

/// Waits for an answer of a kind.
async fn wait_for<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waiting).await.unwrap()
}

#[tokio::test]
async fn nothing_is_erased_of_others_nor_while_it_is_still_written() {
    let bench = Bench::new().await;
    call(&bench, 0).await;
    let wish = json!({"number": PERSON});
    let erase = async |tenant: usize, key: usize, wish: &Value| {
        bench.send(("POST", &bench.path(tenant, "privacy/erase")), key, wish).await
    };
    let answer = erase(1, B, &wish).await;
    assert_eq!(answer.json()["rows"], 0, "{}", answer.body);
    assert!(places(&bench, DIGITS).await.len() >= 5, "the first tenant's stay");
    // The bench's call ends at this moment.
    bench.call(bench.tenants[0], PERSON).await;
    check_field(&erase(0, A, &wish).await, 409, "conflict", "number");
    let number = json!({"first_number": "+15550190"});
    bench.make(&bench.path(0, "numbers"), PLATFORM, number).await;
    let own = erase(0, A, &json!({"number": "+15550190"})).await;
    check_field(&own, 409, "conflict", "number");
    assert!(own.body.contains("numbers"), "{}", own.body);
    let short = json!({"number": "+550177"});
    for bad in [json!({}), json!({"number": "5550177"}), short, json!({"number": PERSON, "x": 1})] {
        check_error(&erase(0, A, &bad).await, 400, "invalid_value");
    }
}

#[tokio::test]
async fn what_is_over_its_time_is_deleted_and_the_rest_stays() {
    let bench = Bench::new().await;
    let (a, b) = (bench.tenants[0], bench.tenants[1]);
    let insert = |tenant: String, days: u32| {
        format!(
            "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, \
                                arrived_at, ended_at, cause) \
             SELECT tandem_id_floor(at), 1, {tenant}, 'inbound', 'x', 'x', 'x', '[]', at, at, 'normal' \
             FROM (SELECT now() - interval '{days} days' AS at) t"
        )
    };
    for (tenant, days) in [
        (format!("'{a}'"), 8),
        (format!("'{a}'"), 6),
        (format!("'{b}'"), 100),
        ("NULL".to_owned(), 31),
        ("NULL".to_owned(), 29),
    ] {
        postgres::execute(&bench.database, &insert(tenant, days)).await.unwrap();
    }
    let log = format!(
        "INSERT INTO audit_log (id, tenant_id, at, actor, action, subject) \
         VALUES (gen_random_uuid(), '{a}', now() - interval '8 days', 'x', 'x', 'x'), \
                (gen_random_uuid(), '{b}', now() - interval '8 days', 'x', 'x', 'x')"
    );
    postgres::execute(&bench.database, &log).await.unwrap();
    let path = format!("/api/v1/tenants/{a}");
    let keep = json!({"keep_calls_days": 7, "keep_audit_days": 7});
    assert_eq!(bench.send(("PATCH", &path), PLATFORM, &keep).await.status, 200);
    let done = privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
    let told: Vec<_> = done.iter().map(|kind| (kind.what.as_str(), kind.deleted)).collect();
    let of_calls = [("calls", 1), ("refused", 1), ("traces", 0), ("audit", 1)];
    assert_eq!(told, [&of_calls[..], &[("recordings", 0), ("transcripts", 0)]].concat());
    assert_eq!(postgres::count(&bench.database, "SELECT count(*) FROM calls").await, 3);
    let again = privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
    assert!(again.iter().all(|kind| kind.deleted == 0), "{again:?}");
}

#[tokio::test]
async fn signalling_goes_after_a_time_of_its_own_and_its_calls_stay() {
    let bench = Bench::new().await;
    let mut calls = Vec::new();
    for (tenant, age) in [(0, "8 days"), (0, "6 days"), (1, "100 days")] {
        let id = bench.call(bench.tenants[tenant], PERSON).await;
        let sql = format!(
            "INSERT INTO sip_messages (call_id, seq, tenant_id, at, way, transport, local, remote, message) \
             SELECT id, n, tenant_id, now() - interval '{age}', 'in', 'udp', 'x', 'y', 'INVITE' \
             FROM calls, generate_series(0, 1) n WHERE id = '{id}'"
        );
        postgres::execute(&bench.database, &sql).await.unwrap();
        calls.push(id);
    }
    let keep = async |days: u32| {
        let path = format!("/api/v1/tenants/{}", bench.tenants[0]);
        let kept = bench.send(("PATCH", &path), PLATFORM, &json!({"keep_traces_days": days})).await;
        assert_eq!(kept.status, 200, "{}", kept.body);
        let done = privacy::forget_all_tenants(&bench.database, 30).await.unwrap();
        done.iter().find(|kind| kind.what == "traces").map(|kind| kind.deleted)
    };
    assert_eq!(keep(0).await, Some(0), "0 is for ever");
    assert_eq!(keep(7).await, Some(2));
    let left = "SELECT string_agg(DISTINCT call_id::text, ' ') FROM sip_messages WHERE call_id IN \
                (SELECT id FROM calls)";
    let left = postgres::text(&bench.database, left).await;
    assert!(
        !left.contains(&calls[0]) && left.contains(&calls[1]) && left.contains(&calls[2]),
        "{left}"
    );
    assert_eq!(postgres::count(&bench.database, "SELECT count(*) FROM calls").await, 3);
    // The API shows what is left of it.
    for (call, status) in [(&calls[0], 404), (&calls[1], 200)] {
        let path = bench.path(0, &format!("calls/{call}/trace"));
        let trace = bench.get(&path, Some(&bench.keys[A])).await;
        assert_eq!(trace.status, status, "{}", trace.body);
    }
}
