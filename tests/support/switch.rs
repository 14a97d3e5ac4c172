//! The built binary as a running switch: on an address of its own, with a database of its own.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

use crate::http;
use crate::postgres;
use crate::postgres::Scratch;
use serde_json::Value;
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use std::fs::File;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem::store::database::Database;
use tandem::store::demo;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

/// Longest wait for anything of a switch; a test that takes it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at that tells nobody when it changes.
const POLL: Duration = Duration::from_millis(20);

/// Under which secrets of rows are sealed.
const SEAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What a switch is started with beside what every test wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Answers sources no trunk knows with 403.
    pub refuses_strangers: bool,
    /// Most calls at once; 0: no limit.
    pub calls_max: u32,
    /// Most new calls a second; 0: no limit.
    pub cps_max: u32,
    /// More of its configuration.
    pub more: &'static str,
}

/// A running switch. Dropping it kills it.
pub struct Switch {
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    /// Holds the demo's tenants, trunks and numbers, and a trunk `test`: see [`Switch::caller`].
    pub database: Database,
    network: [u8; 3],
    options: Options,
    child: Child,
    _watchdog: std::process::Child,
    scratch: Scratch,
}

impl Switch {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        Self::start_on(postgres::database_options().await, options).await
    }

    /// Starts on an empty database with the schema.
    pub async fn start_on(login: PgConnectOptions, options: Options) -> Self {
        let database = Database::new(login.clone());
        let scratch = Scratch::new();
        demo::seed(&database, scratch.path()).await.unwrap();
        let network = lease_network();
        add_trunks(&database, network, &scratch.path().join(demo::PASSWORD_FILE)).await;
        Self::start_in((scratch, network), (login, database), options).await
    }

    /// Starts another one on the database of `first`, with a data directory and addresses of its own. Callers of the
    /// first are callers of this one, too.
    pub async fn start_beside(first: &Self, login: PgConnectOptions) -> Self {
        let (scratch, database) = (Scratch::new(), Database::new(login.clone()));
        let mut own =
            Self::start_in((scratch, lease_network()), (login, database), first.options).await;
        own.network = first.network;
        own
    }

    async fn start_in(
        (scratch, network): (Scratch, [u8; 3]),
        (login, database): (PgConnectOptions, Database),
        options: Options,
    ) -> Self {
        let bind = SocketAddr::from((Ipv4Addr::new(network[0], network[1], network[2], 1), 0));
        let key = scratch.path().join("seal.key");
        std::fs::write(&key, SEAL_KEY).unwrap();
        let config = format!(
            "database = '{}'\ndata_dir = '{}'\n\
             [[listener]]\nname = 'test'\nbind = '{bind}'\ntransports = ['udp', 'tcp']\n\
             unknown_source = '{}'\n\
             [http]\nbind = '127.0.0.1:0'\n[media]\nthreads = 1\nrealtime = false\n\
             [limits]\ncalls = {}\ncps = {}\n\
             [secrets]\nkey_ref = 'file:{}'\n\
             [agents]\nallow_networks = ['127.0.0.0/8']\n\
             [webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
             retry_first_ms = 50\nretry_max_ms = 500\ntimeout_ms = 2000\n{}",
            login.to_url_lossy(),
            scratch.path().join("data").display(),
            if options.refuses_strangers { "refuse" } else { "drop" },
            options.calls_max,
            options.cps_max,
            key.display(),
            options.more,
        );
        std::fs::write(scratch.path().join("tandem.toml"), config).unwrap();
        let (child, watchdog, ready) = launch(&scratch).await;
        let mut switch = Self {
            udp: bind,
            tcp: bind,
            http: bind,
            database,
            network,
            options,
            child,
            _watchdog: watchdog,
            scratch,
        };
        switch.take_addresses(&ready);
        switch
    }

    fn take_addresses(&mut self, ready: &Value) {
        let sip = |transport: &str| {
            let all = ready["sip"].as_array().unwrap();
            let found = all.iter().find(|one| one["transport"] == transport).unwrap();
            found["address"].as_str().unwrap().parse().unwrap()
        };
        (self.udp, self.tcp) = (sip("udp"), sip("tcp"));
        self.http = ready["http"].as_str().unwrap().parse().unwrap();
    }

    /// An address by its last number. The trunk `test` trusts those below 64; `challenged` those below
    /// 128, with user `demo` and password `demo`; `other` those below 192. The rest are nobody's.
    pub fn caller(&self, last: u8) -> IpAddr {
        IpAddr::from([self.network[0], self.network[1], self.network[2], last])
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> Value {
        http::request(self.http, "GET", "/readyz", &[]).await.json()
    }

    /// Waits until the switch has `calls` in progress or more; for 0, until it has none. Where calls
    /// come fast, no look at them may see just that many.
    pub async fn wait_for_calls(&self, calls: u64) {
        let reached = async {
            loop {
                let running = self.readiness().await["calls"].as_u64().unwrap();
                if running == calls || (calls > 0 && running > calls) {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("{calls} calls in progress"), reached).await;
    }

    /// Waits until it says `value` of one of its states.
    pub async fn wait_for_readiness(&self, state: &str, value: bool) {
        let reached = async {
            while self.readiness().await[state] != value {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("{state}: {value}"), reached).await;
    }

    /// Waits until it has answered `calls` since its start: their records are in the journal then.
    pub async fn wait_for_answers(&self, calls: u32) {
        let answered = async {
            while self.metric("calls_answered_total").await < f64::from(calls) {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("{calls} calls answered"), answered).await;
    }

    /// Changes the database, in one transaction, and waits until that is in force.
    pub async fn change(&self, sql: &str) {
        let before = self.metric("routing_changes_total").await;
        postgres::execute(&self.database, sql).await.unwrap();
        let taken = async {
            while self.metric("routing_changes_total").await == before {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("in force: {sql}"), taken).await;
    }

    /// The value of a metric; `name` includes its label.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = http::request(self.http, "GET", "/metrics", &[]).await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().parse().unwrap()
    }

    /// All a metric says, over its labels; zero before it was first moved.
    pub async fn total(&self, name: &str) -> f64 {
        let text = http::request(self.http, "GET", "/metrics", &[]).await.body;
        let figures = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labelled = rest.strip_prefix('{').and_then(|labels| labels.split_once("} "));
            labelled.map_or_else(|| rest.strip_prefix(' '), |(_, value)| Some(value))
        });
        figures.map(|figure| figure.trim().parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric says what `fits`: gauges are read once a second.
    pub async fn wait_for_metric(&self, name: &str, fits: impl Fn(f64) -> bool) {
        let reached = async {
            while !fits(self.total(name).await) {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(name, reached).await;
    }

    /// The number that `sql` counts.
    pub async fn count(&self, sql: &str) -> i64 {
        postgres::count(&self.database, sql).await
    }

    /// The text that `sql` answers, for the message of a check that failed.
    pub async fn text(&self, sql: &str) -> String {
        postgres::text(&self.database, sql).await
    }

    /// Waits until `sql` counts `expected`: records reach the database a moment after the call.
    pub async fn wait_for_count(&self, sql: &str, expected: i64) {
        let reached = async {
            while self.count(sql).await != expected {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("{expected} from {sql}"), reached).await;
    }

    async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            // The reason last: of a long output its end is what is read.
            Err(_) => panic!("{}\nnever reached: {what}", self.log()),
        }
    }

    /// What the switch has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(&self.scratch)).unwrap_or_default()
    }

    /// Waits until it has logged `text`.
    pub async fn wait_for_log(&self, text: &str) {
        let logged = async {
            while !self.log().contains(text) {
                tokio::time::sleep(POLL).await;
            }
        };
        self.within(&format!("a log line with {text}"), logged).await;
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Where it keeps what outlives it.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Asks it to stop, as an operator does.
    pub fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it as a power loss does, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }

    /// Starts it again, after [`Switch::kill`] or its end, with the same data on the same ports.
    pub async fn restart(&mut self) {
        let file = self.scratch.path().join("tandem.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let any_port = format!("'{}:0'", self.udp.ip());
        std::fs::write(&file, config.replace(&any_port, &format!("'{}'", self.udp))).unwrap();
        let (child, watchdog, ready) = launch(&self.scratch).await;
        (self.child, self._watchdog) = (child, watchdog);
        self.take_addresses(&ready);
    }
}

/// A loopback network for one switch, so that ports never collide.
fn lease_network() -> [u8; 3] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, _, process] = std::process::id().to_be_bytes();
    // 127.0 is left to everybody else.
    [127, process.max(1), NEXT.fetch_add(1, Ordering::Relaxed)]
}

async fn add_trunks(database: &Database, [a, b, c]: [u8; 3], password: &Path) {
    let digest = json!({
        "mode": "required", "username": demo::DIGEST_USER, "realm": "tandem",
        "password_ref": format!("file:{}", password.display()),
        // SIPp knows no other, and reads the first challenge only.
        "algorithms": ["MD5"],
    });
    for (name, first, digest) in
        [("test", 0, None), ("challenged", 64, Some(digest)), ("other", 128, None)]
    {
        let mut inbound = json!({"source_cidrs": [format!("{a}.{b}.{c}.{first}/26")]});
        if let Some(digest) = digest {
            inbound["digest"] = digest;
        }
        let sql = format!(
            "INSERT INTO trunks (id, name, profile, overrides) VALUES ('{}', '{name}', 'generic', '{}')",
            tandem::clock::new_uuid(),
            json!({"inbound": inbound})
        );
        postgres::execute(database, &sql).await.unwrap();
    }
}

fn log_path(scratch: &Scratch) -> PathBuf {
    scratch.path().join("switch.log")
}

/// Starts the binary and waits for its readiness line. It has as few descriptors as a login shell may
/// give it, and the signal is off that comes with a file's size limit and never with a full disk.
async fn launch(scratch: &Scratch) -> (Child, std::process::Child, Value) {
    let log = File::options().create(true).append(true).open(log_path(scratch)).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -n 256; exec \"$0\" \"$@\""])
        .args([env!("CARGO_BIN_EXE_tandem"), "run", "--config"])
        .arg(scratch.path().join("tandem.toml"))
        .env_clear()
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let watchdog = watch_over(child.id().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let Ok(Ok(Some(line))) = line else {
        let log = std::fs::read_to_string(log_path(scratch)).unwrap_or_default();
        panic!("the switch did not become ready: {line:?}\n{log}");
    };
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["ready"], true, "{line}");
    (child, watchdog, ready)
}

/// Ends the switch when this process ends, however: then its end of the pipe closes.
fn watch_over(id: u32) -> std::process::Child {
    std::process::Command::new("sh")
        .args(["-c", "cat >/dev/null; kill -9 \"$0\" 2>/dev/null"])
        .arg(id.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}
