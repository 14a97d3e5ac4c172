//! No call lost and none recorded twice, whatever happens to the switch or to PostgreSQL.
//!
//! What SIPp counts and what SQL counts must be equal in the end.

#[path = "support/http.rs"]
mod http;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/sipp.rs"]
mod sipp;
#[path = "support/switch.rs"]
mod switch;

use crate::postgres::Scratch;
use crate::sipp::Sipp;
use crate::switch::Options;
use crate::switch::Switch;
use std::time::Duration;
use tandem::store::database::Database;
use tandem::store::migrate;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;

const ECHO: &str = "+15550101";
const ALL: &str = "SELECT count(*) FROM calls";
const ENDED: &str = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL AND cause = 'normal'";
const INTERRUPTED: &str =
    "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL AND cause = 'interrupted'";
/// Events that are missing or double: each call has them numbered from 0 without a gap.
const GAPS: &str = "SELECT count(*) FROM (SELECT count(*) AS n, max(seq) AS last FROM call_events \
                    GROUP BY call_id) AS e WHERE n <> last + 1";

/// A switch with a PostgreSQL of its own, which the test may stop.
struct Bench {
    switch: Switch,
    cluster: PrivateCluster,
    _scratch: Scratch,
}

impl Bench {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let cluster = PrivateCluster::start(scratch.path(), Durability::Fast).unwrap();
        let login = cluster.database().owner_options().clone();
        let database = Database::new(login.clone());
        migrate::apply(&database).await.unwrap();
        database.close().await;
        let switch = Switch::start_on(login, Options::default()).await;
        Self { switch, cluster, _scratch: scratch }
    }

    fn calls(&self, last: u8, calls: u32, hold_ms: u32) -> Sipp {
        let local = self.switch.caller(last);
        Sipp::new("load-calls", local, self.switch.udp, ECHO).calls(calls, 10, hold_ms)
    }

    async fn check_no_event_is_missing(&self) {
        assert_eq!(self.switch.count(GAPS).await, 0, "events are numbered without a gap");
    }
}

#[tokio::test]
async fn thirty_calls_cut_by_a_kill_are_recorded_once_each() {
    let mut bench = Bench::new().await;
    // Ten are over, thirty are in progress.
    bench.calls(2, 10, 200).succeeds().await;
    let running = bench.calls(3, 30, 60_000).start();
    bench.switch.wait_for_calls(30).await;
    bench.switch.wait_for_count(ALL, 40).await;
    bench.switch.kill().await;
    drop(running);
    bench.switch.restart().await;
    bench.switch.wait_for_count(INTERRUPTED, 30).await;
    bench.switch.wait_for_count(ENDED, 10).await;
    assert_eq!(bench.switch.count(ALL).await, 40);
    // A second restart finds nothing to close.
    bench.switch.kill().await;
    bench.switch.restart().await;
    bench.calls(4, 1, 100).succeeds().await;
    bench.switch.wait_for_count(ENDED, 11).await;
    assert_eq!(bench.switch.count(ALL).await, 41);
    bench.check_no_event_is_missing().await;
}

#[tokio::test]
async fn calls_do_not_notice_that_the_database_is_away() {
    let bench = Bench::new().await;
    let running = bench.calls(2, 10, 8_000).start();
    bench.switch.wait_for_calls(10).await;
    bench.cluster.crash().unwrap();
    // New calls are routed from memory while the others go on, and end.
    bench.calls(3, 20, 500).succeeds().await;
    bench.switch.wait_for_readiness("database", false).await;
    let report = running.report().await;
    assert_eq!((report.successful, report.failed), (10, 0), "{}", report.text);
    bench.cluster.restart().unwrap();
    bench.switch.wait_for_count(ENDED, 30).await;
    assert_eq!(bench.switch.count(ALL).await, 30);
    bench.check_no_event_is_missing().await;
    bench.switch.wait_for_readiness("database", true).await;
    // Changes are followed again.
    bench
        .switch
        .change("UPDATE phone_numbers SET is_active = false WHERE first_number = '+15550101'")
        .await;
    let local = bench.switch.caller(4);
    Sipp::new("inactive-number", local, bench.switch.udp, ECHO).succeeds().await;
}

#[tokio::test]
async fn a_cold_start_without_the_database_takes_calls_from_the_tables_file() {
    let mut bench = Bench::new().await;
    bench.calls(2, 1, 100).succeeds().await;
    bench.switch.wait_for_count(ENDED, 1).await;
    bench.switch.terminate();
    assert!(bench.switch.ended().await.success());
    bench.cluster.crash().unwrap();
    bench.switch.restart().await;
    bench.calls(3, 5, 200).succeeds().await;
    // A kill while the records are in the journal only.
    tokio::time::sleep(JOURNAL_SYNC).await;
    bench.switch.kill().await;
    bench.switch.restart().await;
    bench.calls(4, 5, 200).succeeds().await;
    bench.cluster.restart().unwrap();
    bench.switch.wait_for_count(ENDED, 11).await;
    assert_eq!(bench.switch.count(ALL).await, 11);
    bench.check_no_event_is_missing().await;
}

/// The promise under test: a record is on disk after 50 ms. With room for a busy machine.
const JOURNAL_SYNC: Duration = Duration::from_millis(500);
