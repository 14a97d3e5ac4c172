//! A PostgreSQL for tests: one private cluster for the process, a fresh migrated database for each
//! test.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use tandem::clock;
use tandem::store::database::Database;
use tandem::store::migrate;
use tandem::store::private_cluster::Durability;
use tandem::store::private_cluster::PrivateCluster;

const TEMPLATE: &str = "tandem_template";

/// A database of its own for one test, with the schema and nothing in it.
pub async fn database() -> Database {
    Database::new(database_options().await)
}

/// How to log in to a fresh database as its owner.
pub async fn database_options() -> PgConnectOptions {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster = cluster();
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect_with(&cluster.options("postgres")).await.unwrap();
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    cluster.options(&name)
}

/// A connection as the owner of the tables, who is the superuser and sees everything.
pub async fn owner(database: &Database) -> PgConnection {
    PgConnection::connect_with(database.owner_options()).await.unwrap()
}

/// Runs SQL of a test as the owner.
pub async fn execute(database: &Database, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = owner(database).await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(|_| ())
}

/// The one number that a query of a test answers.
pub async fn count(database: &Database, sql: &str) -> i64 {
    let mut connection = owner(database).await;
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
}

/// The one text that a query of a test answers; empty for NULL.
pub async fn text(database: &Database, sql: &str) -> String {
    let mut connection = owner(database).await;
    let text: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    text.unwrap_or_default()
}

/// The process's cluster, with the template database.
pub fn cluster() -> &'static PrivateCluster {
    static CLUSTER: OnceLock<(PrivateCluster, Scratch)> = OnceLock::new();
    let (cluster, _) = CLUSTER.get_or_init(|| {
        let scratch = Scratch::new();
        let cluster = PrivateCluster::start(scratch.path(), Durability::Fast).unwrap();
        // A runtime cannot be started within that of a test.
        std::thread::scope(|scope| {
            scope.spawn(|| make_template(&cluster)).join().unwrap();
        });
        (cluster, scratch)
    });
    cluster
}

fn make_template(cluster: &PrivateCluster) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection =
            PgConnection::connect_with(&cluster.options("postgres")).await.unwrap();
        let create = format!("CREATE DATABASE {TEMPLATE}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        let database = Database::new(cluster.options(TEMPLATE));
        migrate::apply(&database).await.unwrap();
        // A template may have no open connection.
        database.close().await;
    });
}

/// A directory for one test. When the test or its whole process ends, however, a cluster in it is
/// stopped and the directory removed.
pub struct Scratch {
    path: PathBuf,
    cleaner: Child,
}

impl Scratch {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tandem-test-{:016x}", clock::random_u64()));
        std::fs::create_dir(&path).unwrap();
        // It wakes up when the other end of its standard input is closed: also by a kill.
        let script = r#"cat >/dev/null
            find "$0" -name postmaster.pid | while read -r file; do
                pid="$(head -n 1 "$file")"
                kill -QUIT "$pid"
                # A test may have frozen it.
                kill -CONT "$pid"
                while kill -0 "$pid"; do sleep 0.05; done
            done
            find "$0" -name postgres.socket | while read -r file; do rm -rf "$(cat "$file")"; done
            rm -rf "$0""#;
        let cleaner = Command::new("sh")
            .args(["-c", script])
            .arg(&path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { path, cleaner }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        self.cleaner.wait().unwrap();
    }
}

/// Everything in a file.
pub fn read_file(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
