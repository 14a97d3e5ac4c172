//! A switch under test: the built program with a folder, a private PostgreSQL and ports of its own.

use crate::http;
use crate::http::Answer;
use crate::postgres;
use crate::postgres::Scratch;
use crate::rows;
use serde_json::Value;
use sqlx::Connection;
use sqlx::PgConnection;
use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem::clock;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::database::Database;
use tandem::store::private_cluster::PrivateCluster;
use tandem::types::id::TenantId;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::sleep;
use tokio::time::timeout;

/// A check that takes longer has failed. The first start makes a database cluster.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// Where the RTP ranges of these checks are: below the ports that systems give out by themselves.
const RTP_FIRST: u16 = 10_000;
const RTP_PORTS: u16 = 100;
const RTP_RANGES: u16 = 90;

/// Waits until `found` answers something; `what` says what was waited for.
pub(crate) async fn wait_for<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(clock::now() < deadline, "waited in vain: {what}");
        sleep(POLL).await;
    }
}

/// What a program said that ended by itself.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder with a configuration; gone with the check, and a PostgreSQL in it too.
pub(crate) struct Home {
    rtp_first: u16,
    scratch: Scratch,
    variables: Vec<(String, PathBuf)>,
}

impl Home {
    /// A node with one listener, `public`, on a free port of 127.0.0.1.
    pub(crate) fn new() -> Self {
        Self::with("127.0.0.1:0", RTP_PORTS, "")
    }

    /// The same at another address, with so many RTP ports, and with `more` in its configuration.
    pub(crate) fn with(bind: &str, rtp_ports: u16, more: &str) -> Self {
        let (rtp_first, scratch) = (lease_rtp_ports(), Scratch::new());
        let home = Self { rtp_first, scratch, variables: Vec::new() };
        let listener = format!("[[listener]]\nname = \"public\"\nbind = \"{bind}\"\n{more}");
        home.write(
            "tandem.toml",
            &home.configuration("database = \"private\"", rtp_ports, &listener),
        );
        home
    }

    /// A configuration; `database` is the line for it.
    pub(crate) fn configuration(&self, database: &str, rtp_ports: u16, more: &str) -> String {
        let (first, last) = (self.rtp_first, self.rtp_first + rtp_ports - 1);
        format!(
            "{database}\ndata_dir = \"{}\"\nhttp = {{ bind = \"127.0.0.1:0\" }}\n\
             media = {{ ports = [{first}, {last}], threads = 1, realtime = false }}\n\
             agents = {{ allow_networks = [\"127.0.0.0/8\", \"::1\"] }}\n\
             sip = {{ shards = 2 }}\nlog = {{ level = \"info\", format = \"json\" }}\n{more}",
            self.data_dir().display()
        )
    }

    /// The usual RTP ports.
    pub(crate) fn rtp_ports(&self) -> RangeInclusive<u16> {
        self.rtp_first..=self.rtp_first + RTP_PORTS - 1
    }

    /// Writes a file of the folder, from which the program runs.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.scratch.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Lets a variable of the program's environment name a file of the folder.
    pub(crate) fn point(&mut self, variable: &str, file: &str) {
        self.variables.push((variable.to_owned(), self.scratch.path().join(file)));
    }

    /// Sets a variable of the program's environment.
    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.variables.push((variable.to_owned(), value.into()));
    }

    /// The folder the program runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("tandem.log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.arg("run").current_dir(self.scratch.path()).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"));
        command.envs(self.variables.iter().map(|(name, path)| (name, path)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs the program, which is to end by itself.
    pub(crate) async fn fail(&self) -> Said {
        let output = self.command().stderr(Stdio::piped()).output();
        said(timeout(PATIENCE, output).await.expect("the program ends").unwrap())
    }

    /// Starts the program and waits until it is ready.
    pub(crate) async fn start(self) -> Node {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut node = Node { child: None, http: nowhere, ready: Value::Null, home: self };
        node.launch().await;
        node
    }

    /// The database of a node that does not run. PostgreSQL is started for it and must be stopped.
    pub(crate) fn cluster(&self) -> PrivateCluster {
        let durability = tandem::store::private_cluster::Durability::Fast;
        PrivateCluster::start(&self.data_dir(), durability).unwrap()
    }
}

/// A running switch. Dropping it kills it.
pub(crate) struct Node {
    child: Option<Child>,
    http: SocketAddr,
    ready: Value,
    pub(crate) home: Home,
}

/// A call record as PostgreSQL has it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Record {
    pub(crate) cause: String,
    pub(crate) ended_by: String,
    pub(crate) agent_failure: Option<String>,
    pub(crate) has_fallback: bool,
    pub(crate) is_answered: bool,
    pub(crate) codec: Option<String>,
    pub(crate) digits: i32,
    pub(crate) packets_in: Option<i64>,
    pub(crate) packets_out: Option<i64>,
}

const RECORD: &str = "SELECT cause, ended_by, agent_failure, fallback_at IS NOT NULL AS has_fallback, \
     answered_at IS NOT NULL AS is_answered, codec, digits, packets_in, packets_out \
     FROM calls WHERE signalling_id = $1 AND ended_at IS NOT NULL";

impl Node {
    /// Starts the program again after it ended.
    pub(crate) async fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.log_file()).unwrap();
        let mut child = self.home.command().stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                match serde_json::from_str::<Value>(&line) {
                    Ok(value) if value["ready"] == true => return Some(value),
                    Ok(_) | Err(_) => {}
                }
            }
            None
        };
        self.child = Some(child);
        self.ready = timeout(PATIENCE, ready).await.expect("it gets ready").expect("it lives");
        self.http = self.ready["http"].as_str().unwrap().parse().unwrap();
    }

    /// The address of the listener `public`, over UDP.
    pub(crate) fn sip(&self) -> SocketAddr {
        self.listener("public", "udp")
    }

    /// The address of the API.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where its sounds are.
    pub(crate) fn assets(&self) -> PathBuf {
        self.home.data_dir().join("assets")
    }

    pub(crate) fn listener(&self, name: &str, transport: &str) -> SocketAddr {
        let all = self.ready["sip"].as_array().unwrap();
        let one = all.iter().find(|one| one["listener"] == name && one["transport"] == transport);
        one.unwrap()["address"].as_str().unwrap().parse().unwrap()
    }

    /// Runs a command that asks the API of this node, with a key and the tenant `1` of the rows.
    pub(crate) async fn ask(&self, key: &str, args: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args(args).current_dir(self.home.folder()).env_clear().kill_on_drop(true);
        command.env("TANDEM_API", format!("http://{}", self.http)).env("TANDEM_API_KEY", key);
        command.env("TANDEM_TENANT", rows::uuid(1).to_string());
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).output());
        said(output.await.expect("the command ends").unwrap())
    }

    /// What an API key may read.
    pub(crate) async fn read(&self, path: &str, key: &str) -> Value {
        let headers = [("authorization", format!("Bearer {key}"))];
        let answer = http::request(self.http, "GET", path, &headers).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        http::request(self.http, "GET", path, &[]).await
    }

    /// Sends a JSON body with an API key.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        let headers = [("authorization", format!("Bearer {key}"))];
        http::request_with(self.http, ("POST", path), &headers, &body.to_string()).await
    }

    /// A key that reads what is every tenant's.
    pub(crate) async fn operator_key(&self) -> String {
        let scope = KeyScope::AllTenants;
        let made = api_keys::create(&self.database(), scope, KeyRole::Viewer, "", None).await;
        made.unwrap().key.expose().clone()
    }

    /// The state of the only trunk of `tenant`, as an operator sees it.
    pub(crate) async fn trunk(&self, tenant: TenantId) -> Value {
        let key = ("x-api-key", self.operator_key().await);
        let path = format!("/api/v1/tenants/{tenant}/trunks");
        let answer = http::request(self.http, "GET", &path, &[key]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["trunks"][0].clone()
    }

    /// The value of a metric; its labels stand behind its name as they are printed. Zero before it
    /// was first counted.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    pub(crate) fn database(&self) -> Database {
        PrivateCluster::running(&self.home.data_dir()).expect("PostgreSQL runs")
    }

    /// Runs statements, each of which changes one row that routing reads, as one transaction, and
    /// waits until they are in force.
    pub(crate) async fn put(&self, statements: &[String]) {
        let name = "routing_changes_total";
        let due = self.metric(name).await + statements.len() as u64;
        postgres::execute(&self.database(), &statements.join(";")).await.unwrap();
        wait_for("the rows are in force", async || (self.metric(name).await >= due).then_some(()))
            .await;
    }

    /// The one number that a query answers.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        postgres::count(&self.database(), sql).await
    }

    /// The closed record of a call.
    pub(crate) async fn record(&self, signalling_id: &str) -> Record {
        record(&self.database(), signalling_id).await
    }

    /// All it has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.home.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.as_ref().and_then(Child::id).expect("it runs");
        let command = format!("kill -{name} {process}");
        let status = std::process::Command::new("sh").args(["-c", &command]).status();
        assert!(status.unwrap().success(), "{command}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap()
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "a failed check shows what the switch said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the switch logged:\n{}", self.log());
        }
    }
}

/// The closed record of a call in `database`.
pub(crate) async fn record(database: &Database, signalling_id: &str) -> Record {
    let mut connection = PgConnection::connect_with(database.owner_options()).await.unwrap();
    wait_for("the record is stored", async || {
        let query = sqlx::query_as(RECORD).bind(signalling_id);
        query.fetch_optional(&mut connection).await.unwrap()
    })
    .await
}

/// A range of RTP ports for one node. Ranges of other test programs may be the same: the switch
/// passes over ports that are taken.
fn lease_rtp_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(RTP_RANGES)).unwrap();
    RTP_FIRST + (process + NEXT.fetch_add(1, Ordering::Relaxed)) % RTP_RANGES * RTP_PORTS
}
