//! No call record is lost and none is there twice, whatever dies: what SIPp counts and what the
//! database counts are the same.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

#[path = "durability/far_host.rs"]
mod far_host;
#[path = "support/follower.rs"]
mod follower;
#[path = "support/http.rs"]
mod http;
#[path = "durability/lost.rs"]
mod lost;
#[path = "durability/nodes.rs"]
mod nodes;
#[path = "durability/placed.rs"]
mod placed;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/python.rs"]
mod python;
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
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tandem::clock;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::api_keys::NewKey;
use tandem::store::demo;
use tandem::store::migrate;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;
use tandem::types::id::ApiKeyId;

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

/// How long PostgreSQL is frozen while calls run.
const FROZEN: Duration = Duration::from_secs(30);
/// How often something is looked at that tells nobody when it changes.
const POLL: Duration = Duration::from_millis(20);

/// Cuts every connection but its own.
const CUT_ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// A PostgreSQL that only one switch uses, so that it may be hurt.
struct Victim {
    cluster: PrivateCluster,
    _scratch: Scratch,
}

/// A PostgreSQL that answers nobody: all its processes are stopped, until this is dropped.
struct Frozen(Vec<String>);

impl Frozen {
    fn signal(&self, signal: &str) {
        for process in &self.0 {
            // One that ended meanwhile needs none.
            drop(std::process::Command::new("kill").args([signal, process]).status());
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// The children of a process, as the kernel knows them.
fn children(parent: &str) -> Vec<String> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The first line of a file of this name somewhere below a folder.
fn first_line(folder: &Path, name: &str) -> Option<String> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return first_line(&path, name);
        }
        let text = std::fs::read_to_string(&path).ok().filter(|_| entry.file_name() == name)?;
        text.lines().next().map(str::to_owned)
    })
}

impl Victim {
    fn freeze(&self) -> Frozen {
        let postmaster = first_line(self._scratch.path(), "postmaster.pid").unwrap();
        // First the one that makes others.
        let mut frozen = Frozen(vec![postmaster.clone()]);
        frozen.signal("-STOP");
        frozen.0.extend(children(&postmaster));
        frozen.signal("-STOP");
        frozen
    }

    async fn start() -> (Self, Switch) {
        let own = Self::alone().await;
        let switch = Switch::start_on(own.cluster.options("tandem"), Options::default()).await;
        (own, switch)
    }

    /// Without a switch.
    async fn alone() -> Self {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let start = move || PrivateCluster::start(&path, Durability::Fast).unwrap();
        let cluster = tokio::task::spawn_blocking(start).await.unwrap();
        let database = cluster.database();
        migrate::apply(&database).await.unwrap();
        database.close().await;
        Self { cluster, _scratch: scratch }
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

/// Waits until something holds of files that the switch writes.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
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

/// Who asks the API of a switch as the platform, and what is asked.
struct Client {
    http: std::net::SocketAddr,
    key: String,
}

impl Client {
    async fn of(switch: &Switch) -> Self {
        let scope = KeyScope::AllTenants;
        let made = api_keys::create(&switch.database, scope, KeyRole::Admin, "", None).await;
        let (http, key) = (switch.http, made.unwrap().key.expose().clone());
        let client = Self { http, key };
        // Known to the switch, also without its database.
        client.ask(("GET", &demo_path("calls?live=true")), "").await;
        client
    }

    async fn ask(&self, what: (&str, &str), body: &str) -> http::Answer {
        self.ask_with(what, &[], body).await
    }

    /// The same by a request that names itself.
    async fn ask_as(&self, what: (&str, &str), name: &str, body: &str) -> http::Answer {
        self.ask_with(what, &[("idempotency-key", name.to_owned())], body).await
    }

    async fn ask_with(
        &self,
        what: (&str, &str),
        more: &[(&str, String)],
        body: &str,
    ) -> http::Answer {
        let bearer = [("authorization", format!("Bearer {}", self.key))];
        let headers = [&bearer[..], more].concat();
        let asked = http::request_with(self.http, what, &headers, body);
        // Whatever the database does.
        tokio::time::timeout(BOUND, asked).await.unwrap()
    }

    /// Refused since the database is away, with advice.
    async fn is_put_off(&self, what: (&str, &str), body: &str) {
        let answer = self.ask(what, body).await;
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status, code.as_str()), (503, Some("database_unavailable")), "{what:?}");
        assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    }
}

/// Far more than any request may take, busy machine or not.
const BOUND: Duration = Duration::from_secs(45);

fn demo_path(rest: &str) -> String {
    format!("/api/v1/tenants/{}/{rest}", demo::TENANT)
}

const NUMBER_BODY: &str = r#"{"first_number": "+15550190"}"#;

/// Rows of a number that was asked for while the database did not answer, and entries of the audit log about it: both
/// are there, or neither is.
const HALF_WRITTEN: &str = "SELECT count(*) FROM phone_numbers n FULL JOIN audit_log a \
    ON a.subject_id = n.id AND a.action = 'create' AND a.subject = 'number' \
    WHERE (n.first_number = '+15550190' AND a.id IS NULL) \
       OR (a.detail -> 'after' ->> 'first_number' = '+15550190' AND n.id IS NULL)";

#[tokio::test]
async fn a_frozen_postgresql_stops_no_call_and_no_request_waits_for_it() {
    let (victim, switch) = Victim::start().await;
    let client = Client::of(&switch).await;
    let before = calls(&switch, 30, 60, 50_000).start();
    switch.wait_for_count(ANSWERED, 30).await;
    let running = client.ask(("GET", &demo_path("calls?live=true")), "").await.json();
    let running: Vec<String> = running["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(running.len(), 30);
    let frozen = victim.freeze();
    let since = clock::now();
    // Nothing has told the switch yet; it notices by itself.
    client.is_put_off(("POST", &demo_path("numbers")), NUMBER_BODY).await;
    let during = calls(&switch, 40, 20, 500).start();
    switch.wait_for_readiness("database", false).await;
    // What is in memory is shown, and calls are steered.
    let listed = client.ask(("GET", &demo_path("calls?live=true")), "").await.json();
    assert!(listed["calls"].as_array().unwrap().len() >= 30, "{listed}");
    let path = demo_path(&format!("calls/{}", running[0]));
    let shown = client.ask(("GET", &path), "").await;
    let body = shown.json();
    assert_eq!((shown.status, body["live"]["state"].as_str()), (200, Some("answered")), "{body}");
    assert_eq!((&body["etag"], body["dialled"].as_str()), (&Value::Null, Some(TONE)), "{body}");
    let mute = ("POST", format!("{path}/mute"));
    let muted = client.ask((mute.0, &mute.1), r#"{"party": "caller"}"#).await;
    assert_eq!((muted.status, &muted.json()["caller_muted"]), (200, &Value::Bool(true)));
    client.is_put_off(("PATCH", &path), r#"{"disposition": "sold"}"#).await;
    client.is_put_off(("GET", &demo_path("numbers")), "").await;
    client.is_put_off(("GET", &demo_path("calls")), "").await;
    let report = during.report().await;
    assert_eq!((report.successful, report.failed), (40, 0), "{}", report.text);
    assert_eq!(switch.readiness().await["ready"], true);
    tokio::time::sleep((FROZEN - clock::now().since(since).min(FROZEN)) + POLL).await;
    drop(frozen);
    switch.wait_for_readiness("database", true).await;
    let report = before.report().await;
    assert_eq!((report.successful, report.failed), (30, 0), "{}", report.text);
    switch.wait_for_count(NORMAL, 70).await;
    switch.wait_for_count(CLOSED_ONCE, 70).await;
    assert_eq!(switch.count(ALL).await, 70);
    assert_eq!(switch.count(HALF_WRITTEN).await, 0);
    let noted = format!(
        "SELECT count(*) FROM audit_log WHERE action = 'mute' AND subject_id = '{}'",
        running[0]
    );
    switch.wait_for_count(&noted, 1).await;
    let made =
        client.ask(("POST", &demo_path("numbers")), r#"{"first_number": "+15550191"}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
}

#[tokio::test]
async fn tables_that_somebody_else_locks_cost_no_record_and_no_request_waits_for_them() {
    let (_victim, switch) = Victim::start().await;
    let client = Client::of(&switch).await;
    let mut locker = postgres::owner(&switch.database).await;
    let lock = "BEGIN; LOCK TABLE calls, call_events, phone_numbers IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut locker).await.unwrap();
    client.is_put_off(("GET", &demo_path("calls")), "").await;
    client.is_put_off(("POST", &demo_path("numbers")), NUMBER_BODY).await;
    // Only those tables are slow: what needs them not is answered.
    let profiles = client.ask(("GET", &demo_path("ai-profiles")), "").await;
    assert_eq!(profiles.status, 200, "{}", profiles.body);
    calls(&switch, 20, 40, 200).succeeds().await;
    switch.wait_for_log("call records wait in the journal").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    switch.wait_for_count(NORMAL, 20).await;
    switch.wait_for_count(CLOSED_ONCE, 20).await;
    assert_eq!((switch.count(ALL).await, switch.count(HALF_WRITTEN).await), (20, 0));
    let numbers = "SELECT count(*) FROM phone_numbers WHERE first_number = '+15550190'";
    assert_eq!(switch.count(numbers).await, 0, "who was told 503 may ask again");
}

/// What PostgreSQL says when its disk is full.
const FULL: &str = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$; \
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON calls EXECUTE FUNCTION full_disk(); \
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON phone_numbers EXECUTE FUNCTION full_disk()";

#[tokio::test]
async fn a_full_database_costs_no_record_and_its_readers_are_answered() {
    let (_victim, switch) = Victim::start().await;
    let client = Client::of(&switch).await;
    postgres::execute(&switch.database, FULL).await.unwrap();
    calls(&switch, 20, 40, 200).succeeds().await;
    switch.wait_for_log("call records wait in the journal").await;
    client.is_put_off(("POST", &demo_path("numbers")), NUMBER_BODY).await;
    assert_eq!(client.ask(("GET", &demo_path("calls")), "").await.status, 200);
    assert_eq!((switch.count(ALL).await, switch.count(HALF_WRITTEN).await), (0, 0));
    let freed = "DROP TRIGGER full_disk ON calls; DROP TRIGGER full_disk ON phone_numbers";
    postgres::execute(&switch.database, freed).await.unwrap();
    switch.wait_for_count(NORMAL, 20).await;
    switch.wait_for_count(CLOSED_ONCE, 20).await;
    assert_eq!((switch.count(ALL).await, switch.total("records_rejected_total").await), (20, 0.0));
}

#[tokio::test]
async fn lost_connections_to_postgresql_cost_no_record() {
    let (_victim, switch) = Victim::start().await;
    // Thirty run at any time.
    let running = calls(&switch, 60, 30, 1_000).start();
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
    let across = calls(&switch, 30, 60, 8_000).start();
    switch.wait_for_count(ANSWERED, 30).await;
    postgres::execute(&switch.database, &set("on")).await.unwrap();
    switch.count(CUT_ALL).await;
    calls(&switch, 20, 40, 100).succeeds().await;
    let report = across.report().await;
    assert_eq!((report.successful, report.failed), (30, 0), "{}", report.text);
    assert_eq!((switch.count(ALL).await, switch.count(NORMAL).await), (30, 0));
    let writable = format!("BEGIN READ WRITE; {}; COMMIT", set("off"));
    postgres::execute(&switch.database, &writable).await.unwrap();
    switch.count(CUT_ALL).await;
    switch.wait_for_count(NORMAL, 50).await;
    switch.wait_for_count(CLOSED_ONCE, 50).await;
    assert_eq!(switch.count(ALL).await, 50);
}

/// Hangs up the first call of a switch that has never seen its database, by a key it knows of its file. Answers the SQL
/// that counts the entries about it, once there is an audit log again.
async fn hang_one_up(switch: &Switch, key: &NewKey) -> String {
    let held = calls(switch, 1, 10, 60_000).start();
    switch.wait_for_answers(1).await;
    let bearer = [("authorization", format!("Bearer {}", key.key.expose()))];
    let live = demo_path("calls?live=true");
    let running = http::request(switch.http, "GET", &live, &bearer).await.json();
    let call = running["calls"][0]["id"].as_str().unwrap_or_else(|| panic!("{running}"));
    let hang_up = demo_path(&format!("calls/{call}/hangup"));
    let done = http::request(switch.http, "POST", &hang_up, &bearer).await;
    assert_eq!(done.status, 202, "{}", done.body);
    switch.wait_for_calls(0).await;
    drop(held);
    format!(
        "SELECT count(*) FROM audit_log WHERE action = 'hangup' AND subject_id = '{call}' \
         AND api_key_id = '{}'",
        key.id
    )
}

#[tokio::test]
async fn a_cold_start_without_postgresql_routes_by_the_file_and_loses_no_record() {
    let (victim, mut switch) = Victim::start().await;
    calls(&switch, 5, 50, 0).succeeds().await;
    switch.wait_for_count(NORMAL, 5).await;
    let all = KeyScope::AllTenants;
    let key = async || {
        api_keys::create(&switch.database, all, KeyRole::Operator, "", None).await.unwrap()
    };
    let (kept, revoked) = (key().await, key().await);
    let file = switch.data_dir().join("api-keys.jsonl");
    let has = |id: ApiKeyId| {
        std::fs::read_to_string(&file).is_ok_and(|keys| keys.contains(&id.to_string()))
    };
    until(|| has(kept.id) && has(revoked.id)).await;
    assert!(api_keys::revoke(&switch.database, all, revoked.id).await.unwrap());
    until(|| !has(revoked.id)).await;
    switch.terminate();
    assert!(switch.ended().await.success());
    victim.cluster.crash().unwrap();
    switch.restart().await;
    assert_eq!(switch.readiness().await["database"], false);
    // Whose key it saw last is known.
    for (key, status) in [(&kept, 200), (&revoked, 503)] {
        let bearer = [("authorization", format!("Bearer {}", key.key.expose()))];
        let answer = http::request(switch.http, "GET", "/api/v1/trunk-states", &bearer).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(switch.total("database_up").await, 0.0);
    let noted = hang_one_up(&switch, &kept).await;
    // Thirty calls through their whole life, and ten that a death cuts short, all unseen by SQL.
    calls(&switch, 30, 60, 300).succeeds().await;
    let cut = calls(&switch, 10, 100, 60_000).start();
    // A call that only began, and was told nothing, may die without a record.
    switch.wait_for_answers(1 + 30 + 10).await;
    switch.kill().await;
    drop(cut);
    switch.restart().await;
    calls(&switch, 5, 50, 0).succeeds().await;
    victim.cluster.restart().unwrap();
    switch.wait_for_count(NORMAL, 40).await;
    switch.wait_for_count(INTERRUPTED, 10).await;
    switch.wait_for_count("SELECT count(*) FROM calls WHERE ended_by = 'operator'", 1).await;
    switch.wait_for_count(CLOSED_ONCE, 51).await;
    assert_eq!(switch.count(ALL).await, 51);
    switch.wait_for_count(&noted, 1).await;
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

/// What of a tenant's calls is in the database more or less than once, each counted by itself so that a failure names
/// its kind: calls that did not end once, or without exactly one recording that is over; recordings of no call, or not
/// over, or without exactly one event that tells so; what is not told.
const AMISS: [&str; 6] = [
    "SELECT count(*) FROM calls c WHERE c.tenant_id IS NOT NULL AND (c.ended_at IS NULL \
        OR (SELECT count(*) FROM recordings r WHERE r.call_id = c.id \
            AND r.status IN ('ready', 'interrupted') AND r.ended_at IS NOT NULL) <> 1)",
    "SELECT count(*) FROM recordings r WHERE NOT EXISTS (SELECT FROM calls c WHERE c.id = r.call_id) \
        OR status NOT IN ('ready', 'interrupted')",
    "SELECT count(*) FROM recordings r WHERE (SELECT count(*) FROM call_events e \
        WHERE e.call_id = r.call_id AND e.detail ->> 'recording_id' = r.id::text \
            AND e.name IN ('recording_ready', 'recording_failed')) <> 1",
    "SELECT count(*) FROM call_news",
    "SELECT count(*) FROM webhook_outbox WHERE state <> 'delivered'",
    "SELECT count(*) FROM webhook_queues",
];

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
    for amiss in AMISS {
        switch.wait_for_count(amiss, 0).await;
    }
    // All of it still holds together.
    for amiss in AMISS {
        assert_eq!(switch.count(amiss).await, 0, "{amiss}");
    }
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

/// Who calls in SIPp's scenarios, without the plus.
const PERSON: &str = "15557701";

/// The files below a folder in which `digits` stand.
fn files_with(folder: &Path, digits: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, digits));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(digits.len()).any(|part| part == digits.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Waits until a node has no signalling of these calls in which the person stands.
async fn forgets_signalling(asked: &Client, calls: &str) {
    for call in calls.split(',') {
        let trace = demo_path(&format!("calls/{call}/trace"));
        let gone = async {
            while asked.ask(("GET", &trace), "").await.body.contains(PERSON) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(BOUND, gone).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_erased_on_one_node_is_gone_from_memory_and_disk_of_every_node() {
    let (victim, first) = Victim::start().await;
    let second = Switch::start_beside(&first, victim.cluster.options("tandem")).await;
    let (client, beside) = (Client::of(&first).await, Client::of(&second).await);
    let journals = || {
        let of = |switch: &Switch| files_with(&switch.data_dir().join("journal"), PERSON);
        (of(&first), of(&second))
    };
    for switch in [&first, &second] {
        Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
    }
    first.wait_for_count(CLOSED_ONCE, 2).await;
    // Their signalling is stored some seconds later.
    first.wait_for_count("SELECT count(DISTINCT call_id) FROM sip_messages", 2).await;
    // One that the database refuses for ever, and one that it does not take now, both of the second node.
    let refuse = format!(
        "ALTER TABLE calls ADD CONSTRAINT whimsical CHECK (dialled IS DISTINCT FROM '{TONE}')"
    );
    postgres::execute(&first.database, &refuse).await.unwrap();
    Sipp::new("bye-at-once", second.caller(4), second.udp, TONE).succeeds().await;
    second.wait_for_metric("records_rejected_total", |rejected| rejected >= 1.0).await;
    let parrot = "+15550103";
    let full = format!(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.dialled = '{parrot}' THEN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END IF; \
             RETURN NEW; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION full_disk()"
    );
    postgres::execute(&first.database, &full).await.unwrap();
    Sipp::new("bye-at-once", second.caller(5), second.udp, parrot).succeeds().await;
    second.wait_for_log("call records wait in the journal").await;
    second.wait_for_metric("journal_waiting_bytes", |bytes| bytes > 0.0).await;
    let (here, there) = journals();
    assert!(!here.is_empty() && there.iter().any(|file| file.contains("rejected")), "{there:?}");
    let calls = first.text("SELECT string_agg(id::text, ',') FROM calls").await;
    for call in calls.split(',') {
        let trace = demo_path(&format!("calls/{call}/trace"));
        let told = [client.ask(("GET", &trace), "").await, beside.ask(("GET", &trace), "").await];
        assert!(told.iter().any(|answer| answer.body.contains(PERSON)), "{call}");
    }
    // A call of a minute ago may be written still.
    let long_ago = "UPDATE calls SET ended_at = ended_at - interval '5 minutes'";
    postgres::execute(&first.database, long_ago).await.unwrap();
    let wish = format!("{{\"number\": \"+{PERSON}\"}}");
    let erased = client.ask(("POST", &demo_path("privacy/erase")), &wish).await;
    assert_eq!(erased.status, 200, "{}", erased.body);
    for asked in [&client, &beside] {
        forgets_signalling(asked, &calls).await;
    }
    // What was on its way comes late, and goes again.
    let freed = "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        NEW.ended_at := NEW.ended_at - interval '5 minutes'; RETURN NEW; END $$";
    postgres::execute(&first.database, freed).await.unwrap();
    let late =
        format!("SELECT count(*) FROM calls WHERE dialled = '{parrot}' AND caller = 'erased'");
    first.wait_for_count(&late, 1).await;
    let empty = async {
        while journals() != (Vec::new(), Vec::new()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(BOUND, empty).await;
    assert!(waited.is_ok(), "left on disk: {:?}\n{}", journals(), second.log());
    // A death brings nothing back.
    let mut second = second;
    second.kill().await;
    second.restart().await;
    second.wait_for_readiness("database", true).await;
    let left = format!(
        "SELECT count(*) FROM calls WHERE caller LIKE '%{PERSON}%' AND tenant_id IS NOT NULL"
    );
    assert_eq!(first.count(&left).await, 0);
    assert_eq!(first.count("SELECT count(*) FROM calls WHERE caller = 'erased'").await, 3);
}

/// Lets the node that logs in as `second` in, or not.
async fn let_in(switch: &Switch, is_let_in: bool) {
    let role = if is_let_in { "LOGIN" } else { "NOLOGIN" };
    let sql = format!(
        "ALTER ROLE second {role}; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'second' AND '{role}' = 'NOLOGIN'"
    );
    postgres::execute(&switch.database, &sql).await.unwrap();
}

#[tokio::test]
async fn a_node_that_was_cut_off_erases_what_it_kept_when_it_is_back_and_after_a_death_too() {
    let (victim, first) = Victim::start().await;
    // Records come as if their calls had ended some time ago: those of this minute are not erased yet.
    let setting = format!(
        "CREATE ROLE second LOGIN SUPERUSER; \
         ALTER TABLE calls ADD CONSTRAINT whimsical CHECK (dialled IS DISTINCT FROM '{TONE}'); \
         CREATE FUNCTION long_ago() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             NEW.ended_at := NEW.ended_at - interval '5 minutes'; RETURN NEW; END $$; \
         CREATE TRIGGER long_ago BEFORE INSERT OR UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION long_ago()"
    );
    postgres::execute(&first.database, &setting).await.unwrap();
    let login = victim.cluster.options("tandem").username("second");
    let mut second = Switch::start_beside(&first, login).await;
    let (client, beside) = (Client::of(&first).await, Client::of(&second).await);
    second.wait_for_readiness("database", true).await;
    first.wait_for_count("SELECT count(*) FROM nodes", 2).await;
    let of_second = |switch: &Switch| files_with(&switch.data_dir().join("journal"), PERSON);
    let call = |switch: &Switch, number: &'static str, last: u8| {
        Sipp::new("bye-at-once", switch.caller(last), switch.udp, number)
    };
    // One that is stored, with its signalling in the node's memory, and one that the database refuses for ever.
    call(&second, ECHO, 3).succeeds().await;
    first.wait_for_count(CLOSED_ONCE, 1).await;
    first.wait_for_count("SELECT count(DISTINCT call_id) FROM sip_messages", 1).await;
    call(&second, TONE, 4).succeeds().await;
    second.wait_for_metric("records_rejected_total", |rejected| rejected >= 1.0).await;
    let stored = first.text("SELECT string_agg(id::text, ',') FROM calls").await;
    for round in 1..=2 {
        let_in(&first, false).await;
        second.wait_for_readiness("database", false).await;
        call(&second, ECHO, 4 + round).succeeds().await;
        second.wait_for_metric("journal_waiting_bytes", |bytes| bytes > 0.0).await;
        let wish = format!("{{\"number\": \"+{PERSON}\"}}");
        let erased = client.ask(("POST", &demo_path("privacy/erase")), &wish).await;
        assert_eq!(erased.status, 200, "{}", erased.body);
        // The first is done; the list has the second's alone, which nobody else can read.
        first.wait_for_count("SELECT count(*) FROM sealed_erasures", 1).await;
        assert_eq!(first.count("SELECT count(*) FROM erasures").await, 0);
        let sealed = format!(
            "SELECT count(*) FROM sealed_erasures e WHERE strpos(e::text, '{PERSON}') > 0 \
             OR strpos(encode(digits, 'escape'), '{PERSON}') > 0"
        );
        assert_eq!(first.count(&sealed).await, 0);
        assert!(!of_second(&second).is_empty(), "round {round}");
        if round == 2 {
            second.kill().await;
            // One that it cannot open is given up, and holds up no other.
            let lost = "INSERT INTO sealed_erasures (id, node_id, tenant_id, digits) \
                SELECT gen_random_uuid(), node_id, tenant_id, digits FROM sealed_erasures";
            postgres::execute(&first.database, lost).await.unwrap();
        }
        let_in(&first, true).await;
        if round == 2 {
            second.restart().await;
        }
        second.wait_for_readiness("database", true).await;
        let came = i64::from(round) + 1;
        let late = "SELECT count(*) FROM calls WHERE caller = 'erased'";
        first.wait_for_count(late, came).await;
        first.wait_for_count("SELECT count(*) FROM sealed_erasures", 0).await;
        assert_eq!(of_second(&second), Vec::<String>::new(), "round {round}\n{}", second.log());
        if round == 1 {
            forgets_signalling(&beside, &stored).await;
        }
        let left = "SELECT count(*) FROM sip_messages WHERE tenant_id IS NOT NULL";
        assert_eq!(first.count(left).await, 0, "round {round}");
    }
}
