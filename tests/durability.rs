//! No call record is lost and none is there twice, whatever dies: what SIPp counts and what the
//! database counts are the same.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

#[path = "support/http.rs"]
mod http;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/sipp.rs"]
mod sipp;
#[path = "support/switch.rs"]
mod switch;

use crate::postgres::Scratch;
use crate::receiver::Receiver;
use crate::receiver::SILENT;
use crate::sipp::Report;
use crate::sipp::Sipp;
use crate::switch::Options;
use crate::switch::Switch;
use std::collections::HashSet;
use std::time::Duration;
use tandem::clock;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::demo;
use tandem::store::migrate;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;

const ECHO: &str = "+15550101";
const TONE: &str = "+15550102";

const ALL: &str = "SELECT count(*) FROM calls";
const OPEN: &str = "SELECT count(*) FROM calls WHERE ended_at IS NULL";
const INTERRUPTED: &str = "SELECT count(*) FROM calls WHERE cause = 'interrupted'";
const ANSWERED: &str =
    "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL AND ended_at IS NULL";
const NORMAL: &str = "SELECT count(*) FROM calls WHERE cause = 'normal' AND ended_by = 'caller'";
/// Records whose events say once, and once only, that the call ended, and have no gap.
const CLOSED_ONCE: &str = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL \
    AND (SELECT count(*) FILTER (WHERE name = 'ended') = 1 AND max(seq) + 1 = count(*) \
         FROM call_events WHERE call_id = calls.id)";

/// How long PostgreSQL is away while calls come.
const OUTAGE: Duration = Duration::from_secs(60);

/// Cuts every connection but its own.
const CUT_ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// A PostgreSQL that only one switch uses, so that it may be hurt.
struct Victim {
    cluster: PrivateCluster,
    _scratch: Scratch,
}

impl Victim {
    async fn start() -> (Self, Switch) {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let start = move || PrivateCluster::start(&path, Durability::Fast).unwrap();
        let cluster = tokio::task::spawn_blocking(start).await.unwrap();
        let database = cluster.database();
        migrate::apply(&database).await.unwrap();
        database.close().await;
        let switch = Switch::start_on(cluster.options("tandem"), Options::default()).await;
        (Self { cluster, _scratch: scratch }, switch)
    }
}

/// `calls` at `switch`, each of `hold_ms`.
fn calls(switch: &Switch, calls: u32, rate: u32, hold_ms: u32) -> Sipp {
    Sipp::new("surviving-calls", switch.caller(2), switch.udp, TONE).calls(calls, rate, hold_ms)
}

/// The Call-IDs that a scenario logged behind `word`.
fn logged<'a>(report: &'a Report, word: &str) -> Vec<&'a str> {
    report.logged.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
}

/// Calls of SIPp that have at least one record.
async fn recorded(switch: &Switch, call_ids: &[&str]) -> i64 {
    let list: Vec<String> = call_ids.iter().map(|id| format!("'{id}'")).collect();
    let list = list.join(", ");
    let sql =
        format!("SELECT count(DISTINCT signalling_id) FROM calls WHERE signalling_id IN ({list})");
    switch.count(&sql).await
}

#[tokio::test]
async fn calls_of_a_killed_switch_are_closed_once_as_interrupted() {
    let mut switch = Switch::start().await;
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).calls(5, 50, 0).succeeds().await;
    let running = calls(&switch, 30, 100, 6_000).start();
    // Answered, not only begun: a call in the middle of its set-up dies with the switch.
    switch.wait_for_count(ANSWERED, 30).await;
    switch.kill().await;
    switch.restart().await;
    let report = running.report().await;
    assert_eq!((report.successful, report.failed), (30, 0), "{}", report.text);
    assert_eq!(logged(&report, "unknown").len(), 30, "old dialogs get 481");
    switch.wait_for_count(INTERRUPTED, 30).await;
    switch.wait_for_count(CLOSED_ONCE, 35).await;
    // A second death finds nothing left to close.
    switch.kill().await;
    switch.restart().await;
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
    switch.wait_for_count(CLOSED_ONCE, 36).await;
    assert_eq!((switch.count(ALL).await, switch.count(INTERRUPTED).await), (36, 30));
}

#[tokio::test]
async fn a_call_cut_by_a_kill_lasted_until_the_last_sign_of_life() {
    let mut switch = Switch::start().await;
    let cut = calls(&switch, 3, 100, 60_000).start();
    let talking = "SELECT count(*) FROM calls WHERE ended_at IS NULL \
                   AND answered_at < clock_timestamp() - interval '6 s'";
    switch.wait_for_count(talking, 3).await;
    switch.kill().await;
    drop(cut);
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let killed_ms = switch.count(now).await;
    switch.restart().await;
    switch.wait_for_count(INTERRUPTED, 3).await;
    // A sign of life comes every two seconds; a busy machine may be late with the last.
    let honest = format!(
        "SELECT count(*) FROM calls WHERE sip_status = 200 AND duration_ms >= 3000 \
         AND extract(epoch FROM ended_at) * 1000 <= {killed_ms} \
         AND abs(extract(epoch FROM ended_at - answered_at) * 1000 - duration_ms) <= 1"
    );
    assert_eq!(switch.count(&honest).await, 3);
}

#[tokio::test]
async fn every_answered_call_has_its_record_though_the_switch_died_while_calls_came() {
    let mut switch = Switch::start().await;
    let running = calls(&switch, 120, 60, 300).start();
    switch.wait_for_calls(5).await;
    switch.kill().await;
    switch.restart().await;
    let report = running.report().await;
    let answered = logged(&report, "answered");
    assert!(answered.len() > 60, "calls before and after the death: {}", report.text);
    assert!(!logged(&report, "unknown").is_empty(), "some calls were cut: {}", report.text);
    let expected = i64::try_from(answered.len()).unwrap();
    switch.wait_for_count(OPEN, 0).await;
    assert_eq!(recorded(&switch, &answered).await, expected);
    // A call whose INVITE was answered by both lives has two records; no other has.
    let doubled = "SELECT count(*) FROM (SELECT signalling_id FROM calls GROUP BY signalling_id \
                   HAVING count(*) FILTER (WHERE cause <> 'interrupted') > 1) AS doubled";
    assert_eq!(switch.count(doubled).await, 0);
    let all = switch.count(ALL).await;
    switch.wait_for_count(CLOSED_ONCE, all).await;
}

#[tokio::test]
async fn calls_go_on_while_postgresql_is_down_for_a_minute_and_their_records_arrive_once() {
    let (victim, switch) = Victim::start().await;
    let before = calls(&switch, 30, 60, 5_000).start();
    switch.wait_for_calls(30).await;
    victim.cluster.crash().unwrap();
    let down_since = clock::now();
    switch.wait_for_readiness("database", false).await;
    // The table in memory goes on routing, and refusing. The last of the calls ends after the minute.
    let rate = 5;
    let count = OUTAGE.as_secs() as u32 * rate;
    let during = calls(&switch, count, rate, 2_000).start();
    Sipp::new("unknown-number", switch.caller(3), switch.udp, "+15559999").succeeds().await;
    assert_eq!(switch.readiness().await["ready"], true);
    let report = before.report().await;
    assert_eq!((report.successful, report.failed), (30, 0), "{}", report.text);
    let report = during.report().await;
    assert_eq!((report.successful, report.failed), (u64::from(count), 0), "{}", report.text);
    // Calls that begin without the database and end with it.
    let across = calls(&switch, 30, 60, 5_000).start();
    switch.wait_for_calls(30).await;
    assert!(clock::now().since(down_since) >= OUTAGE);
    assert_eq!(switch.readiness().await["database"], false);
    victim.cluster.restart().unwrap();
    switch.wait_for_readiness("database", true).await;
    let report = across.report().await;
    assert_eq!((report.successful, report.failed), (30, 0), "{}", report.text);
    let answered = i64::from(30 + count + 30);
    switch.wait_for_count(NORMAL, answered).await;
    switch.wait_for_count(CLOSED_ONCE, answered + 1).await;
    assert_eq!(switch.count(ALL).await, answered + 1);
    // What changes after the return is in force again.
    switch.change(&format!("DELETE FROM phone_numbers WHERE first_number = '{TONE}'")).await;
    Sipp::new("unknown-number", switch.caller(3), switch.udp, TONE).succeeds().await;
}

#[tokio::test]
async fn lost_connections_to_postgresql_cost_no_record() {
    let (_victim, switch) = Victim::start().await;
    let running = calls(&switch, 60, 30, 400).start();
    let mut report = std::pin::pin!(running.report());
    let report = loop {
        switch.count(CUT_ALL).await;
        match tokio::time::timeout(Duration::from_millis(50), &mut report).await {
            Ok(report) => break report,
            Err(_) => continue,
        }
    };
    assert_eq!((report.successful, report.failed), (60, 0), "{}", report.text);
    switch.wait_for_count(NORMAL, 60).await;
    switch.wait_for_count(CLOSED_ONCE, 60).await;
    assert_eq!(switch.count(ALL).await, 60);
}

#[tokio::test]
async fn a_database_that_takes_no_writes_costs_no_record() {
    let (_victim, switch) = Victim::start().await;
    let set = |value| format!("ALTER DATABASE tandem SET default_transaction_read_only = {value}");
    postgres::execute(&switch.database, &set("on")).await.unwrap();
    switch.count(CUT_ALL).await;
    calls(&switch, 20, 40, 100).succeeds().await;
    assert_eq!(switch.count(ALL).await, 0);
    let writable = format!("BEGIN READ WRITE; {}; COMMIT", set("off"));
    postgres::execute(&switch.database, &writable).await.unwrap();
    switch.count(CUT_ALL).await;
    switch.wait_for_count(NORMAL, 20).await;
    switch.wait_for_count(CLOSED_ONCE, 20).await;
}

#[tokio::test]
async fn a_cold_start_without_postgresql_routes_by_the_file_and_loses_no_record() {
    let (victim, mut switch) = Victim::start().await;
    calls(&switch, 5, 50, 0).succeeds().await;
    switch.wait_for_count(NORMAL, 5).await;
    switch.terminate();
    assert!(switch.ended().await.success());
    victim.cluster.crash().unwrap();
    switch.restart().await;
    assert_eq!(switch.readiness().await["database"], false);
    assert_eq!(switch.total("database_up").await, 0.0);
    // Thirty calls through their whole life, and ten that a death cuts short, all unseen by SQL.
    calls(&switch, 30, 60, 300).succeeds().await;
    let cut = calls(&switch, 10, 100, 60_000).start();
    // A call that only began, and was told nothing, may die without a record.
    switch.wait_for_answers(30 + 10).await;
    switch.kill().await;
    drop(cut);
    switch.restart().await;
    calls(&switch, 5, 50, 0).succeeds().await;
    victim.cluster.restart().unwrap();
    switch.wait_for_count(NORMAL, 40).await;
    switch.wait_for_count(INTERRUPTED, 10).await;
    switch.wait_for_count(CLOSED_ONCE, 50).await;
    assert_eq!(switch.count(ALL).await, 50);
    switch.wait_for_metric("database_up", |up| up == 1.0).await;
}

#[tokio::test]
async fn a_record_that_the_database_refuses_is_kept_aside_and_holds_up_no_other() {
    let switch = Switch::start().await;
    let refuse = format!(
        "ALTER TABLE calls ADD CONSTRAINT whimsical CHECK (dialled IS DISTINCT FROM '{ECHO}')"
    );
    postgres::execute(&switch.database, &refuse).await.unwrap();
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, TONE).succeeds().await;
    switch.wait_for_count(NORMAL, 1).await;
    switch.wait_for_metric("records_rejected_total", |rejected| rejected >= 1.0).await;
    assert_eq!(switch.count(ALL).await, 1);
}

/// A webhook endpoint of the demo's tenant that is told everything.
async fn add_endpoint(switch: &Switch, receiver: &Receiver) {
    let scope = KeyScope::Tenant(demo::TENANT);
    let made = api_keys::create(&switch.database, scope, KeyRole::Admin, "", None).await.unwrap();
    let bearer = [("authorization", format!("Bearer {}", made.key.expose()))];
    let path = format!("/api/v1/tenants/{}/webhooks", demo::TENANT);
    let body = format!("{{\"url\": \"{}\"}}", receiver.url());
    let answer = http::request_with(switch.http, ("POST", &path), &bearer, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
}

#[tokio::test]
async fn no_event_of_a_call_is_lost_on_its_way_to_a_webhook_whatever_dies() {
    let (victim, mut switch) = Victim::start().await;
    let receiver = Receiver::start(SILENT).await;
    add_endpoint(&switch, &receiver).await;
    calls(&switch, 20, 40, 100).succeeds().await;
    // Killed while nobody answers it, while all is told, and while its database is gone.
    receiver.wait("the first ones", |told| !told.is_empty()).await;
    switch.wait_for_metric("webhook_calls_waiting", |calls| calls >= 1.0).await;
    switch.kill().await;
    receiver.answer(200);
    switch.restart().await;
    let taken = |least| {
        move |told: &[receiver::Told]| {
            told.iter().filter(|told| told.status == 200).count() >= least
        }
    };
    receiver.wait("some", taken(5)).await;
    switch.kill().await;
    switch.restart().await;
    receiver.wait("more", taken(30)).await;
    victim.cluster.crash().unwrap();
    switch.wait_for_readiness("database", false).await;
    calls(&switch, 10, 40, 100).succeeds().await;
    victim.cluster.restart().unwrap();
    switch.wait_for_count(CLOSED_ONCE, 30).await;
    let all = "SELECT count(*) FROM webhook_outbox";
    let waiting = "SELECT count(*) FROM webhook_outbox WHERE state <> 'delivered'";
    let whole =
        "SELECT count(DISTINCT call_id) FROM webhook_outbox WHERE type = 'call.record_written'";
    switch.wait_for_count(whole, 30).await;
    switch.wait_for_count(waiting, 0).await;
    switch.wait_for_metric("webhook_deliveries_total", |attempts| attempts >= 1.0).await;
    switch.wait_for_metric("webhook_answer_seconds_count", |attempts| attempts >= 1.0).await;
    // What the database has, the receiver took: each, and those of a call in order.
    let mut seen = HashSet::new();
    let mut told: Vec<(String, String)> = Vec::new();
    for one in receiver.taken() {
        let text = |name: &str| one.body[name].as_str().unwrap().to_owned();
        if seen.insert(text("id")) {
            told.push((text("call_id"), text("id")));
        }
    }
    assert_eq!(i64::try_from(told.len()).unwrap(), switch.count(all).await);
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    let told = told.into_iter().map(|(_, event)| event).collect::<Vec<_>>().join(",");
    let order = "SELECT string_agg(event_id::text, ',' ORDER BY call_id, seq, is_record) \
                 FROM webhook_outbox";
    assert_eq!(told, switch.text(order).await);
}

/// What of a tenant's calls is in the database more or less than once: calls that did not end once, events and
/// recordings of no call, calls without exactly one recording that is over and exactly one event that tells so.
const AMISS: &str = "SELECT \
    (SELECT count(*) FROM calls c WHERE c.tenant_id IS NOT NULL AND (c.ended_at IS NULL \
        OR (SELECT count(*) FROM recordings r WHERE r.call_id = c.id \
            AND r.status IN ('ready', 'interrupted') AND r.ended_at IS NOT NULL) <> 1)) \
    + (SELECT count(*) FROM recordings r WHERE NOT EXISTS (SELECT FROM calls c WHERE c.id = r.call_id)) \
    + (SELECT count(*) FROM recordings WHERE status NOT IN ('ready', 'interrupted')) \
    + (SELECT count(*) FROM recordings r WHERE (SELECT count(*) FROM call_events e \
        WHERE e.call_id = r.call_id AND e.detail ->> 'recording_id' = r.id::text \
            AND e.name IN ('recording_ready', 'recording_failed')) <> 1) \
    + (SELECT count(*) FROM call_news) \
    + (SELECT count(*) FROM webhook_outbox WHERE state <> 'delivered') \
    + (SELECT count(*) FROM webhook_queues)";

/// Recordings that were begun and are not over.
const RECORDING: &str = "SELECT count(*) FROM recordings WHERE status = 'recording'";

#[tokio::test]
async fn calls_events_webhooks_and_recordings_are_there_once_after_an_outage_a_kill_and_a_stop() {
    let (victim, mut switch) = Victim::start().await;
    let receiver = Receiver::start(200).await;
    add_endpoint(&switch, &receiver).await;
    switch
        .change(&format!("UPDATE tenants SET record = 'all' WHERE id = '{}'", demo::TENANT))
        .await;
    // Recorded while the database takes nothing, and while it is gone.
    let set = |value| format!("ALTER DATABASE tandem SET default_transaction_read_only = {value}");
    postgres::execute(&switch.database, &set("on")).await.unwrap();
    switch.count(CUT_ALL).await;
    calls(&switch, 10, 20, 500).succeeds().await;
    let writable = format!("BEGIN READ WRITE; {}; COMMIT", set("off"));
    postgres::execute(&switch.database, &writable).await.unwrap();
    switch.count(CUT_ALL).await;
    switch.wait_for_count(CLOSED_ONCE, 10).await;
    victim.cluster.crash().unwrap();
    switch.wait_for_readiness("database", false).await;
    calls(&switch, 10, 20, 500).succeeds().await;
    victim.cluster.restart().unwrap();
    switch.wait_for_count(CLOSED_ONCE, 20).await;
    // Killed in the midst of it.
    switch.wait_for_count(RECORDING, 0).await;
    let cut = calls(&switch, 10, 20, 60_000).start();
    switch.wait_for_count(RECORDING, 10).await;
    switch.kill().await;
    drop(cut);
    switch.restart().await;
    switch.wait_for_count(CLOSED_ONCE, 30).await;
    switch.wait_for_count(RECORDING, 0).await;
    // Told to stop, it lets calls end, and what is left to tell is told after the next start.
    let last = calls(&switch, 10, 20, 15_000).start();
    switch.wait_for_count(ANSWERED, 10).await;
    receiver.answer(SILENT);
    switch.terminate();
    let report = last.report().await;
    assert_eq!((report.successful, report.failed), (10, 0), "{}", report.text);
    assert!(switch.ended().await.success());
    receiver.answer(200);
    switch.restart().await;
    switch.wait_for_count(CLOSED_ONCE, 40).await;
    switch.wait_for_count(AMISS, 0).await;
    assert_eq!(switch.count(ALL).await, 40);
    assert_eq!((switch.count(NORMAL).await, switch.count(INTERRUPTED).await), (30, 10));
    let interrupted = "SELECT count(*) FROM recordings WHERE status = 'interrupted'";
    assert_eq!(switch.count(interrupted).await, 10);
    let taken: HashSet<String> =
        receiver.taken().iter().map(|told| told.body["id"].as_str().unwrap().to_owned()).collect();
    let told = switch.text("SELECT string_agg(event_id::text, ',') FROM webhook_outbox").await;
    let told: HashSet<String> = told.split(',').map(str::to_owned).collect();
    assert_eq!(taken, told);
    for (kind, calls) in [("record_written", 40), ("recording_failed", 10), ("recording_ready", 30)]
    {
        let told = format!("SELECT count(*) FROM webhook_outbox WHERE type = 'call.{kind}'");
        assert_eq!(switch.count(&told).await, calls, "{kind}");
    }
}
