//! A change in the database is in force at once, whatever happens to the connection.

use crate::postgres;
use crate::rows;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tandem::clock;
use tandem::routing::table::RoutingTable;
use tandem::store::changes;
use tandem::store::changes::FollowStatus;
use tandem::store::database::Database;
use tandem::store::snapshot;
use tandem::store::snapshot::Composer;
use tandem::store::table_file;
use tandem::store::table_file::TableFileError;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A routing table that follows a database, as a node's does.
struct Node {
    table: Arc<ArcSwap<RoutingTable>>,
    changed: mpsc::Receiver<()>,
    composer: watch::Sender<Composer>,
    stop: watch::Sender<bool>,
    status: Arc<FollowStatus>,
    task: JoinHandle<()>,
}

/// Longer than anything takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(20);

impl Node {
    async fn start(database: &Database, file: Option<std::path::PathBuf>) -> Self {
        let composer = rows::composer();
        let snapshot = snapshot::load_all_tenants(database, &composer).await.unwrap();
        let table = RoutingTable::new(snapshot.contents);
        Self::from(database, table, snapshot.seq, file).await
    }

    async fn from(
        database: &Database,
        table: RoutingTable,
        seq: Option<i64>,
        file: Option<std::path::PathBuf>,
    ) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(table));
        let (told, changed) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let (composer, composed) = watch::channel(rows::composer());
        let written = Arc::clone(&table);
        let follower = changes::follow(database.clone(), composed, file, seq, move |batch| {
            let mut next = RoutingTable::clone(&written.load());
            for change in batch {
                next.apply(change).unwrap();
            }
            written.store(Arc::new(next));
            told.try_send(()).ok();
        });
        let status = follower.status();
        let task = tokio::spawn(follower.run(stopped));
        let mut node = Self { table, changed, composer, stop, status, task };
        node.in_step().await;
        node
    }

    async fn in_step(&mut self) {
        self.until(|node| node.status.is_in_step()).await;
    }

    /// Waits until `holds`; looks after each change, and now and then.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let deadline = clock::now() + LIMIT;
        while !holds(self) {
            assert!(clock::now() < deadline, "never came to hold");
            drop(tokio::time::timeout(Duration::from_millis(5), self.changed.recv()).await);
        }
    }

    fn knows(&self, number: &str) -> bool {
        self.table.load().number(number.parse().unwrap()).is_some()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn each_change_of_a_row_is_told_and_no_look_is_waited_for() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let mut node = Node::start(&database, None).await;
    let mut connection = postgres::owner(&database).await;
    let begun = clock::now();
    for (sql, known) in [
        (rows::insert_number(tenant, "+15550100", "+15550100"), "+15550100"),
        (
            "UPDATE phone_numbers SET first_number = '+15550101', last_number = '+15550102'".into(),
            "+15550102",
        ),
        (rows::insert_number(tenant, "+15550100", "+15550100"), "+15550100"),
        (rows::insert_number(tenant, "+15550103", "+15550103"), "+15550103"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        node.until(|node| node.knows(known)).await;
    }
    for number in 110..130 {
        let sql =
            rows::insert_number(tenant, &format!("+15550{number}"), &format!("+15550{number}"));
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        node.until(|node| node.knows(&format!("+15550{number}"))).await;
    }
    // A node that was told nothing would find each at its next look, every 5 s: after two minutes. How soon a change is
    // in force in fact is measured: see the benches.
    assert!(clock::now().since(begun) < Duration::from_secs(60));
    sqlx::raw_sql("DELETE FROM phone_numbers").execute(&mut connection).await.unwrap();
    node.until(|node| node.table.load().is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn changes_are_in_force_in_the_order_of_their_commits() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    rows::number(&database, tenant, "+15550100").await;
    let mut node = Node::start(&database, None).await;
    let seen = Arc::clone(&node.table);
    let numbers = move || -> Vec<u32> {
        let table = seen.load();
        let is_known = |n: &u32| table.number(format!("+15550{n}").parse().unwrap()).is_some();
        (100..=200).filter(is_known).collect()
    };
    let writing = tokio::spawn({
        let mut connection = postgres::owner(&database).await;
        async move {
            for n in 101..=200 {
                let sql = format!(
                    "UPDATE phone_numbers SET first_number = '+15550{n}', last_number = '+15550{n}'"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            }
        }
    });
    // Whatever is seen in between: one number, and none that was there before.
    let mut last = 100;
    while last < 200 {
        tokio::time::timeout(LIMIT, node.changed.recv()).await.unwrap();
        let known = numbers();
        assert_eq!(known.len(), 1, "{known:?}");
        let newest = known[0];
        assert!(newest >= last, "{newest} after {last}");
        last = newest;
    }
    writing.await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn each_kind_of_row_is_followed() {
    let database = postgres::database().await;
    let mut node = Node::start(&database, None).await;
    let tenant = rows::tenant(&database, "a").await;
    node.until(|node| node.table.load().tenant(tenant).is_some()).await;
    let profile = rows::ai_profile(&database, tenant, r#"{"kind": "echo"}"#).await;
    let profile = tandem::types::id::AiProfileId::from_uuid(profile);
    node.until(|node| node.table.load().ai_profile(profile).is_some()).await;
    postgres::execute(&database, "UPDATE ai_profiles SET is_default = true").await.unwrap();
    node.until(|node| node.table.load().tenant(tenant).unwrap().default_profile == Some(profile))
        .await;
    let trunk = tandem::types::id::TrunkId::from_uuid(rows::trunk(&database, None, "t").await);
    node.until(|node| node.table.load().trunk(trunk).is_some()).await;
    // A row that cannot be used leaves the old one in force, and the next change is followed.
    let bad = r#"UPDATE ai_profiles SET agent = '{"kind": "robot"}'"#;
    postgres::execute(&database, bad).await.unwrap();
    node.until(|node| node.status.faults() == 1).await;
    assert!(node.table.load().ai_profile(profile).is_some());
    postgres::execute(&database, "DELETE FROM tenants; DELETE FROM trunks").await.unwrap();
    node.until(|node| {
        let table = node.table.load();
        table.tenant(tenant).is_none()
            && table.ai_profile(profile).is_none()
            && table.trunk(trunk).is_none()
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn the_ways_out_of_numbers_and_tenants_are_followed() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    rows::number(&database, tenant, "+15550100").await;
    let [first, second] =
        [rows::trunk(&database, None, "t").await, rows::trunk(&database, None, "u").await];
    let mut node = Node::start(&database, None).await;
    let profile = clock::new_uuid();
    let sql = format!(
        "INSERT INTO routing_profiles (id, name, plan, country, outbound_trunk_id, inbound_trunk_id) \
         VALUES ('{profile}', 'growth-us', 'growth', 'US', '{first}', '{second}'); \
         UPDATE phone_numbers SET routing_profile_id = '{profile}', outbound_trunk_id = '{second}'; \
         UPDATE tenants SET outbound_trunk_id = '{first}', allow_destinations = '{{+1,+91}}', \
         calls_out_max = 3, daily_minutes = 60, daily_spend_micros = 5000000"
    );
    postgres::execute(&database, &sql).await.unwrap();
    let trunk_id = |id| Some(tandem::types::id::TrunkId::from_uuid(id));
    node.until(|node| {
        let table = node.table.load();
        let number = table.number("+15550100".parse().unwrap()).unwrap();
        let outbound = &table.tenant(tenant).unwrap().outbound;
        let profile = table.routing_profile(number);
        number.outbound_trunk == trunk_id(second)
            && outbound.trunk == trunk_id(first)
            && outbound.destinations.as_ref().is_some_and(|list| list.len() == 2)
            && (outbound.calls_max, outbound.daily_minutes) == (3, 60)
            && outbound.daily_spend.0 == 5_000_000
            && profile.is_some_and(|followed| {
                (followed.profile.outbound_trunk, followed.profile.inbound_trunk)
                    == (trunk_id(first), trunk_id(second))
            })
    })
    .await;
    // Where calls come in by, too: the profile names the only trunk.
    let table = node.table.load_full();
    let number = table.number("+15550100".parse().unwrap()).unwrap();
    let belongs = |id| table.belongs(number, table.trunk(trunk_id(id).unwrap()).unwrap());
    assert_eq!((belongs(first), belongs(second)), (false, true));
    postgres::execute(&database, "DELETE FROM routing_profiles; DELETE FROM trunks").await.unwrap();
    node.until(|node| {
        let table = node.table.load();
        let number = table.number("+15550100".parse().unwrap()).unwrap();
        number.outbound_trunk.is_none()
            && number.routing_profile.is_none()
            && table.tenant(tenant).unwrap().outbound.trunk.is_none()
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_bulk_import_is_one_resync() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let mut node = Node::start(&database, None).await;
    let import = format!(
        "INSERT INTO phone_numbers (id, tenant_id, first_number, last_number) \
         SELECT gen_random_uuid(), '{tenant}', '+1' || n, '+1' || n \
         FROM generate_series(5550000, 5551500) AS n"
    );
    postgres::execute(&database, &import).await.unwrap();
    node.until(|node| node.table.load().len() == 1501).await;
    let resyncs = "SELECT count(*) FROM routing_changes WHERE kind = 'resync'";
    assert_eq!(postgres::count(&database, resyncs).await, 1);
    postgres::execute(&database, "TRUNCATE phone_numbers CASCADE").await.unwrap();
    node.until(|node| node.table.load().is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn changes_missed_while_the_connection_was_lost_are_caught_up() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let mut node = Node::start(&database, None).await;
    // Within one transaction, so that nothing is notified before every connection is gone.
    for number in ["+15550100", "+15550101", "+15550102"] {
        let sql = format!(
            "BEGIN; SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid(); {}; COMMIT",
            rows::insert_number(tenant, number, number)
        );
        postgres::execute(&database, &sql).await.unwrap();
        node.until(|node| node.knows(number)).await;
        node.in_step().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_missed_pruned_changes_reads_everything() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let composer = rows::composer();
    let snapshot = snapshot::load_all_tenants(&database, &composer).await.unwrap();
    for number in ["+15550100", "+15550101", "+15550102"] {
        rows::number(&database, tenant, number).await;
    }
    let prune = "DELETE FROM routing_changes WHERE seq < (SELECT max(seq) FROM routing_changes)";
    postgres::execute(&database, prune).await.unwrap();
    let table = RoutingTable::new(snapshot.contents);
    let mut node = Node::from(&database, table, snapshot.seq, None).await;
    node.until(|node| node.table.load().len() == 3).await;
    // And one whose database was put back to an earlier state.
    let back = "DELETE FROM phone_numbers; DELETE FROM routing_changes";
    node.stop().await;
    postgres::execute(&database, back).await.unwrap();
    let mut node = Node::from(&database, RoutingTable::default(), Some(1000), None).await;
    node.until(|node| node.table.load().tenant(tenant).is_some()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_reloaded_configuration_composes_the_table_anew() {
    let database = postgres::database().await;
    let mut node = Node::start(&database, None).await;
    let before = node.status.changes();
    let mut composer = rows::composer();
    let id = tandem::types::id::TrunkId::from_uuid(clock::new_uuid());
    composer.file_trunks = vec![tandem::routing::table::Trunk::new(id, "file", Vec::new())];
    node.composer.send_replace(composer);
    // Once from what was read last, without waiting for the database, and once as everything is read anew.
    node.until(|node| node.status.changes() == before + 2).await;
    assert!(node.table.load().trunk(id).is_some());
    node.stop().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_used_is_named_and_left_out() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    rows::ai_profile(&database, tenant, r#"{"kind": "robot"}"#).await;
    let trunk = rows::trunk(&database, None, "odd").await;
    let odd = r#"UPDATE trunks SET overrides = '{"inbound": {"colour": 1}}'"#;
    postgres::execute(&database, odd).await.unwrap();
    let snapshot = snapshot::load_all_tenants(&database, &rows::composer()).await.unwrap();
    assert_eq!(snapshot.contents.tenants.len(), 1);
    assert_eq!((snapshot.contents.ai_profiles.len(), snapshot.contents.trunks.len()), (0, 0));
    let faults: Vec<String> = snapshot.faults.iter().map(ToString::to_string).collect();
    assert!(faults[0].starts_with("ai_profiles ") && faults[0].contains("robot"), "{faults:?}");
    let place = format!("trunks {trunk} (odd): ");
    assert!(faults[1].starts_with(&place) && faults[1].contains("colour"), "{faults:?}");
}

#[tokio::test]
async fn the_table_survives_in_its_file() {
    let database = postgres::database().await;
    let directory = postgres::Scratch::new();
    let path = directory.path().join(table_file::NAME);
    let composer = rows::composer();
    let missing = table_file::read(&path, &composer).unwrap_err();
    assert!(matches!(missing, TableFileError::Missing(_)), "{missing}");

    let mut node = Node::start(&database, Some(path.clone())).await;
    let seeds = postgres::Scratch::new();
    tandem::store::demo::seed(&database, seeds.path()).await.unwrap();
    node.until(|node| node.table.load().len() == 11).await;
    // Stopping writes what changed since the last time.
    node.stop().await;
    let snapshot = table_file::read(&path, &composer).unwrap();
    assert_eq!((snapshot.seq, snapshot.faults.len()), (None, 0));
    assert_eq!(snapshot.contents.numbers.len(), 11);
    assert_eq!(snapshot.contents.trunks.len(), 2);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A node that starts from the file reads everything as soon as the database answers.
    let tenant = rows::tenant(&database, "late").await;
    let table = RoutingTable::new(snapshot.contents);
    let node = Node::from(&database, table, snapshot.seq, None).await;
    assert!(node.table.load().tenant(tenant).is_some());
    node.stop().await;
}

#[tokio::test]
async fn a_broken_table_file_is_not_read() {
    let database = postgres::database().await;
    let directory = postgres::Scratch::new();
    let path = directory.path().join(table_file::NAME);
    rows::tenant(&database, "a").await;
    table_file::write(&path, &database).await.unwrap();
    let text = String::from_utf8(postgres::read_file(&path)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let broken = [
        (lines[..2].join("\n"), "line 2: the end is missing"),
        ([lines[0], lines[2]].join("\n"), "line 2: rows are missing"),
        (lines[1..].join("\n"), "line 1: the head is missing"),
        (text.replace("\"version\":1", "\"version\":2"), "line 1: another version"),
        (format!("{text}{}", lines[1]), "line 4: more after the end"),
        (text.replace("\"a\"", "\"a"), "line 2: "),
        (String::new(), "line 0: the end is missing"),
    ];
    for (text, why) in broken {
        std::fs::write(&path, &text).unwrap();
        let error = table_file::read(&path, &rows::composer()).unwrap_err().to_string();
        assert!(error.contains(why), "{error} instead of {why}");
    }
}
