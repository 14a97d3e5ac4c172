//! The journal: nothing lost and nothing twice, whatever is killed.

use crate::postgres;
use crate::postgres::Scratch;
use crate::rows;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tandem::call::event::Arrival;
use tandem::call::event::CallDirection;
use tandem::call::event::CallEvent;
use tandem::call::event::MediaFigures;
use tandem::call::event::Route;
use tandem::cdr::CallLog;
use tandem::clock;
use tandem::routing::decision::Decision;
use tandem::store::calls;
use tandem::store::database::Database;
use tandem::store::journal::Journal;
use tandem::store::journal::JournalError;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;
use tandem::store::upload::Uploader;
use tandem::types::cause::HangupCause;
use tandem::types::cause::Party;
use tandem::types::codec::Codec;
use tandem::types::id::CallId;
use tandem::types::id::NumberId;
use tandem::types::id::TenantId;
use tandem::types::id::TrunkId;
use tandem::types::transport::Transport;
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(20);

/// A call that has arrived and was routed to `tenant`.
pub(crate) fn opened(tenant: Option<TenantId>) -> CallLog {
    let now = clock::now();
    let mut log = CallLog::open(now, clock::new_call_id());
    let arrival = Arrival {
        direction: CallDirection::Inbound,
        signalling_id: "a\0b@host".to_owned(),
        source: Some("127.0.0.1:5061".parse().unwrap()),
        transport: Some(Transport::Udp),
        caller: "+15550001".to_owned(),
        dialled: "15550100".to_owned(),
    };
    log.note(now, CallEvent::Arrived(Box::new(arrival)));
    let mut decision = Decision::new();
    decision.note("trunk", "demo-local");
    // Trunk and number are no rows: a profile file, and a number deleted meanwhile.
    let route = Route {
        tenant,
        trunk: Some(TrunkId::from_uuid(clock::new_uuid())),
        number: Some(NumberId::from_uuid(clock::new_uuid())),
        dialled: "+15550100".parse().ok(),
        ai_profile: None,
    };
    log.note(now, CallEvent::Decided { route: Box::new(route), decision });
    log
}

pub(crate) fn answer(log: &mut CallLog) {
    log.note(clock::now(), CallEvent::Answered(Codec::Pcmu));
}

pub(crate) fn finish(log: &mut CallLog) {
    let figures = MediaFigures { packets_in: 50, jitter_in_ms: 0.5, ..MediaFigures::default() };
    log.note(clock::now(), CallEvent::Media(Box::new(figures)));
    let duration = Duration::from_millis(1234);
    let ended = CallEvent::Ended { cause: HangupCause::Normal, by: Party::Caller, duration };
    log.note(clock::now(), ended);
}

pub(crate) async fn write(journal: &Journal, log: &mut CallLog) -> CallId {
    assert!(journal.write(log.report()).within(LIMIT).await, "not written");
    log.record().id
}

/// Whole calls, opened and closed.
pub(crate) async fn write_calls(journal: &Journal, tenant: TenantId, count: usize) -> Vec<CallId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut log = opened(Some(tenant));
        write(journal, &mut log).await;
        answer(&mut log);
        finish(&mut log);
        ids.push(write(journal, &mut log).await);
    }
    ids
}

/// Carries everything of a journal and closes it.
pub(crate) async fn upload_and_close(journal: &Journal, database: &Database) {
    assert!(journal.close(LIMIT).await);
    let (_stop, stopped) = watch::channel(false);
    let upload = Uploader::new(journal, database.clone(), clock::new_node_id()).run(stopped);
    tokio::time::timeout(LIMIT, upload).await.unwrap();
}

/// What a killed process leaves: the files as they are now.
fn kill(dir: &Path, name: &str) -> PathBuf {
    let copy = dir.with_file_name(name);
    std::fs::create_dir(&copy).unwrap();
    for path in segments(dir) {
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "journal")).collect();
    paths.sort();
    paths
}

/// Calls and events in the database.
async fn stored(database: &Database) -> (i64, i64) {
    (
        postgres::count(database, "SELECT count(*) FROM calls").await,
        postgres::count(database, "SELECT count(*) FROM call_events").await,
    )
}

#[tokio::test]
async fn a_call_arrives_in_the_database_as_it_was_told() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let journal = Journal::open(&scratch.path().join("journal")).unwrap();
    let ids = write_calls(&journal, tenant, 1).await;
    upload_and_close(&journal, &database).await;
    let (call, events) = calls::get(&database, tenant, ids[0]).await.unwrap().unwrap();
    assert_eq!(call.rev, 5);
    assert_eq!(call.signalling_id, "a\u{fffd}b@host");
    assert_eq!((call.caller.as_str(), call.dialled.as_deref()), ("+15550001", Some("+15550100")));
    assert_eq!(call.decision[0]["detail"], "demo-local");
    assert_eq!((call.sip_status, call.cause.as_deref()), (Some(200), Some("normal")));
    assert_eq!((call.q850, call.ended_by.as_deref()), (Some(16), Some("caller")));
    assert_eq!((call.duration_ms, call.codec.as_deref()), (1234, Some("PCMU")));
    assert!(call.times.answered.unwrap() >= call.times.arrived);
    assert!(call.times.ended.is_some() && call.times.ringing.is_none());
    let media = call.media.unwrap();
    assert_eq!((media.packets_in, media.jitter_in_ms, media.mos_in), (50, Some(0.5), None));
    assert!(call.route.trunk.is_some(), "the trunk as routed is kept");
    assert_eq!(call.route.number, None, "a number that is gone is not referred to");
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["arrived", "decided", "answered", "media", "ended"]);
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(events[4].detail["cause"], "normal");
}

#[tokio::test]
async fn what_is_carried_twice_is_stored_once() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 20).await;
    // Killed after the upload committed and before the segment was deleted, twice.
    let copies = [kill(&dir, "one"), kill(&dir, "two")];
    upload_and_close(&journal, &database).await;
    assert_eq!(stored(&database).await, (20, 100));
    let before: String = fingerprint(&database).await;
    for copy in copies {
        let journal = Journal::open(&copy).unwrap();
        upload_and_close(&journal, &database).await;
        assert_eq!(stored(&database).await, (20, 100));
    }
    assert_eq!(fingerprint(&database).await, before);
}

async fn fingerprint(database: &Database) -> String {
    let mut connection = postgres::owner(database).await;
    let sql = "SELECT md5(string_agg(c::text, ';' ORDER BY id)) FROM calls c";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn an_older_entry_never_replaces_a_newer() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let old_dir = scratch.path().join("old");
    let old = Journal::open(&old_dir).unwrap();
    let mut log = opened(Some(tenant));
    let id = write(&old, &mut log).await;
    let new = Journal::open(&scratch.path().join("new")).unwrap();
    finish(&mut log);
    write(&new, &mut log).await;
    upload_and_close(&new, &database).await;
    upload_and_close(&old, &database).await;
    let (call, events) = calls::get(&database, tenant, id).await.unwrap().unwrap();
    assert_eq!((call.rev, call.cause.as_deref()), (4, Some("normal")));
    assert_eq!(events.len(), 4);
}

#[tokio::test]
async fn calls_cut_by_a_kill_are_ended_once_as_interrupted() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 3).await;
    let mut ringing = opened(Some(tenant));
    let ringing_id = write(&journal, &mut ringing).await;
    let mut talking = opened(Some(tenant));
    write(&journal, &mut talking).await;
    answer(&mut talking);
    let talking_id = write(&journal, &mut talking).await;
    let killed = kill(&dir, "killed");
    for _ in 0..2 {
        // The second start finds the first one's closings, or makes the same again.
        let restarted = Journal::open(&killed).unwrap();
        upload_and_close(&restarted, &database).await;
        assert_eq!(stored(&database).await.0, 5);
        for (id, status, seq) in [(ringing_id, 500, 2), (talking_id, 200, 3)] {
            let (call, events) = calls::get(&database, tenant, id).await.unwrap().unwrap();
            assert_eq!(call.cause.as_deref(), Some("interrupted"));
            assert_eq!((call.sip_status, call.rev), (Some(status), seq + 1));
            assert_eq!(call.ended_by.as_deref(), Some("switch"));
            assert!(call.times.ended.unwrap() >= call.times.arrived);
            let last = events.last().unwrap();
            assert_eq!((last.name.as_str(), last.seq), ("ended", seq));
        }
    }
    let ended = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL AND cause = 'interrupted'";
    assert_eq!(postgres::count(&database, ended).await, 2);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_restart_changes_nothing() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write(&journal, &mut opened(Some(tenant))).await;
    let first = kill(&dir, "first");
    let _restarted = Journal::open(&first).unwrap();
    let second = kill(&first, "second");
    let restarted = Journal::open(&second).unwrap();
    upload_and_close(&restarted, &database).await;
    assert_eq!(stored(&database).await, (1, 3));
}

#[tokio::test]
async fn a_torn_tail_costs_only_what_was_never_acknowledged() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 2).await;
    let whole = postgres::read_file(&segments(&dir)[0]).len();
    write_calls(&journal, tenant, 1).await;
    let all = postgres::read_file(&segments(&dir)[0]).len();
    for (index, cut) in [whole + 1, whole + 7, whole + 40, all - 1].into_iter().enumerate() {
        let copy = kill(&dir, &format!("cut-{index}"));
        let file = std::fs::OpenOptions::new().write(true).open(&segments(&copy)[0]).unwrap();
        file.set_len(cut as u64).unwrap();
        let restarted = Journal::open(&copy).unwrap();
        upload_and_close(&restarted, &database).await;
        assert_eq!(restarted.health().rejected(), 0);
    }
    // The third call was cut before its end in every copy; its beginning was there in one.
    let normal = "SELECT count(*) FROM calls WHERE cause = 'normal'";
    assert_eq!(postgres::count(&database, normal).await, 2);
    assert_eq!(stored(&database).await.0, 3);
}

#[tokio::test]
async fn a_rotten_segment_is_put_aside_and_the_others_are_carried() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 2).await;
    let copy = kill(&dir, "rotten");
    let path = segments(&copy).remove(0);
    let mut bytes = postgres::read_file(&path);
    let third = bytes.len() * 5 / 8;
    bytes[third] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let restarted = Journal::open(&copy).unwrap();
    write_calls(&restarted, tenant, 1).await;
    upload_and_close(&restarted, &database).await;
    let normal = "SELECT count(*) FROM calls WHERE cause = 'normal'";
    assert_eq!(postgres::count(&database, normal).await, 2);
    let aside: Vec<_> = std::fs::read_dir(copy.join("rejected")).unwrap().collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(segments(&copy), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_record_the_database_refuses_is_put_aside_and_the_others_stored() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 5).await;
    // Of a tenant that is not there.
    let mut stray = opened(Some(TenantId::from_uuid(clock::new_uuid())));
    finish(&mut stray);
    let id = write(&journal, &mut stray).await;
    write_calls(&journal, tenant, 5).await;
    let mut nobody = opened(None);
    finish(&mut nobody);
    write(&journal, &mut nobody).await;
    upload_and_close(&journal, &database).await;
    assert_eq!(stored(&database).await.0, 11);
    assert_eq!(journal.health().rejected(), 1);
    let aside = dir.join("rejected").join(format!("{id}-4.json"));
    let record: serde_json::Value = serde_json::from_slice(&postgres::read_file(&aside)).unwrap();
    assert_eq!(record["record"]["id"], id.to_string());
    let why = postgres::read_file(&aside.with_extension("why"));
    assert!(String::from_utf8(why).unwrap().contains("calls_tenant_id_fkey"));
}

#[tokio::test]
async fn an_entry_that_is_no_text_is_put_aside_and_the_others_stored() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    write_calls(&journal, tenant, 2).await;
    let copy = kill(&dir, "copy");
    let segment = segments(&copy).remove(0);
    let body = b"E{\"id\":\"\xff\"}";
    let mut bytes = postgres::read_file(&segment);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    std::fs::write(&segment, &bytes).unwrap();
    let restarted = Journal::open(&copy).unwrap();
    write_calls(&restarted, tenant, 1).await;
    upload_and_close(&restarted, &database).await;
    assert_eq!(stored(&database).await.0, 3);
    assert_eq!(restarted.health().rejected(), 1);
}

#[tokio::test]
async fn records_wait_while_postgresql_is_down_or_read_only() {
    let scratch = Scratch::new();
    let cluster = PrivateCluster::start(scratch.path(), Durability::Fast).unwrap();
    let database = cluster.database();
    tandem::store::migrate::apply(&database).await.unwrap();
    let tenant = rows::tenant(&database, "a").await;
    let journal = Journal::open(&scratch.path().join("journal")).unwrap();
    let (stop, stopped) = watch::channel(false);
    let uploader =
        tokio::spawn(Uploader::new(&journal, database.clone(), clock::new_node_id()).run(stopped));
    write_calls(&journal, tenant, 3).await;
    until(|| journal.health().uploaded() == 6).await;

    cluster.crash().unwrap();
    write_calls(&journal, tenant, 4).await;
    until(|| journal.health().database_away()).await;
    cluster.restart().unwrap();
    until(|| journal.health().uploaded() == 14 && !journal.health().database_away()).await;
    assert_eq!(stored(&database).await, (7, 35));

    let read_only = |on| format!("ALTER DATABASE tandem SET default_transaction_read_only = {on}");
    postgres::execute(&database, &read_only("on")).await.unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    postgres::execute(&database, cut).await.unwrap();
    write_calls(&journal, tenant, 2).await;
    until(|| journal.health().database_away()).await;
    let writable = format!("SET transaction_read_only = off; {}", read_only("off"));
    postgres::execute(&database, &writable).await.unwrap();
    postgres::execute(&database, cut).await.unwrap();
    until(|| journal.health().uploaded() == 18).await;
    assert_eq!(stored(&database).await, (9, 45));
    assert_eq!((journal.health().rejected(), journal.health().lost()), (0, 0));
    stop.send_replace(true);
    uploader.await.unwrap();
    database.close().await;
    cluster.stop().unwrap();
}

pub(crate) async fn until(holds: impl Fn() -> bool) {
    let deadline = clock::now() + LIMIT;
    while !holds() {
        assert!(clock::now() < deadline, "never came to hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn segments_are_renewed_deleted_and_open_calls_carried_along() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    let mut long = opened(Some(tenant));
    let long_id = write(&journal, &mut long).await;
    // Fills more than one segment.
    let mut wide = opened(Some(tenant));
    let bulk: String = "x".repeat(1_000_000);
    for _ in 0..10 {
        let mut log = opened(Some(tenant));
        let arrival = Arrival {
            direction: CallDirection::Inbound,
            signalling_id: bulk.clone(),
            source: Some("127.0.0.1:1".parse().unwrap()),
            transport: Some(Transport::Tcp),
            caller: String::new(),
            dialled: String::new(),
        };
        log.note(clock::now(), CallEvent::Arrived(Box::new(arrival)));
        finish(&mut log);
        write(&journal, &mut log).await;
    }
    write(&journal, &mut wide).await;
    until(|| segments(&dir).len() == 2).await;
    let (stop, stopped) = watch::channel(false);
    let uploader =
        tokio::spawn(Uploader::new(&journal, database.clone(), clock::new_node_id()).run(stopped));
    until(|| segments(&dir).len() == 1).await;
    stop.send_replace(true);
    uploader.await.unwrap();
    // The segment in which the long call began is gone; a kill now still finds the call.
    let restarted = Journal::open(&kill(&dir, "killed")).unwrap();
    upload_and_close(&restarted, &database).await;
    let (call, _) = calls::get(&database, tenant, long_id).await.unwrap().unwrap();
    assert_eq!(call.cause.as_deref(), Some("interrupted"));
    assert_eq!(stored(&database).await.0, 12);
}

#[tokio::test]
async fn a_clean_close_leaves_nothing_to_carry_again() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let dir = scratch.path().join("journal");
    let journal = Journal::open(&dir).unwrap();
    assert!(matches!(Journal::open(&dir), Err(JournalError::InUse(_))));
    write_calls(&journal, tenant, 2).await;
    upload_and_close(&journal, &database).await;
    assert_eq!(segments(&dir), Vec::<PathBuf>::new());
    // What an operator deleted stays deleted.
    postgres::execute(&database, "DELETE FROM calls").await.unwrap();
    let again = Journal::open(&dir).unwrap();
    upload_and_close(&again, &database).await;
    assert_eq!(stored(&database).await, (0, 0));
}
