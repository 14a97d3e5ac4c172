//! A database whose host vanishes without a word.

use crate::ALL;
use crate::ANSWERED;
use crate::CLOSED_ONCE;
use crate::Client;
use crate::HALF_WRITTEN;
use crate::NORMAL;
use crate::NUMBER_BODY;
use crate::Victim;
use crate::add_endpoint;
use crate::calls;
use crate::demo_path;
use crate::postgres;
use crate::python;
use crate::receiver;
use crate::receiver::Receiver;
use crate::switch::Options;
use crate::switch::Switch;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgSslMode;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tandem::store::database::Database;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;

/// The state of a connection that stands, in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
/// The timer of one that is asked whether its other end is alive.
const KEEPALIVE: &str = "02";
/// When it is due at the latest, in hundredths of a second; without a setting that is two hours.
const ASKED_WITHIN: u64 = 600;

/// The timers of the connections to the far host: their kind, and when they are due.
fn timers() -> Vec<(String, u64)> {
    let there: Ipv4Addr = FarHost::THERE.parse().unwrap();
    let peer = format!("{:08X}:{:04X}", u32::from_ne_bytes(there.octets()), FarHost::PORT);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let timer = |line: &str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().filter(|remote| *remote == peer)?;
        words.next().filter(|state| *state == ESTABLISHED)?;
        let (kind, due) = words.nth(1)?.split_once(':')?;
        Some((kind.to_owned(), u64::from_str_radix(due, 16).ok()?))
    };
    table.lines().filter_map(timer).collect()
}

/// Waits until the kernel asks each connection to that host, in its silence, whether it is still there, each few
/// seconds: whoever waits for an answer without a time of its own is freed by that alone.
async fn all_are_asked_for_life() {
    let is_asked = |(kind, due): &(String, u64)| kind == KEEPALIVE && *due <= ASKED_WITHIN;
    let asked = async {
        loop {
            let timers = timers();
            if !timers.is_empty() && timers.iter().all(is_asked) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
    assert!(asked.is_ok(), "nobody would notice that it is gone: {:?}", timers());
}

/// A host of its own, in a network namespace, by which a PostgreSQL is reached over TCP.
struct FarHost {
    name: String,
    socket: PathBuf,
    relay: Child,
}

impl FarHost {
    /// Of the networks for trials (RFC 2544).
    const HERE: &str = "198.18.77.1";
    const THERE: &str = "198.18.77.2";
    const PORT: u16 = 15_432;

    async fn of(victim: &Victim) -> Self {
        let options = victim.cluster.options("tandem");
        let file = format!(".s.PGSQL.{}", options.get_port());
        let socket = options.get_socket().unwrap().join(file);
        let name = format!("tandem-{}", std::process::id());
        let relay = boot(&name, &socket).await;
        Self { name, socket, relay }
    }

    fn login(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(Self::THERE)
            .port(Self::PORT)
            .username("tandem")
            .database("tandem")
            .ssl_mode(PgSslMode::Disable)
    }

    /// From one moment to the next no packet comes from there, and nobody is there who could say goodbye.
    async fn vanish(&mut self) {
        ip(&[
            "netns", "exec", &self.name, "tc", "qdisc", "add", "dev", "far", "root", "pfifo",
            "limit", "0",
        ]);
        self.relay.kill().await.unwrap();
        ip(&["link", "delete", &near()]);
        ip(&["netns", "delete", &self.name]);
    }

    /// It is there again, and knows of no connection.
    async fn come_back(&mut self) {
        self.relay = boot(&self.name, &self.socket).await;
    }
}

impl Drop for FarHost {
    fn drop(&mut self) {
        drop(self.relay.start_kill());
        drop(std::process::Command::new("ip").args(["netns", "delete", &self.name]).status());
    }
}

fn ip(words: &[&str]) {
    let done = std::process::Command::new("ip").args(words).status().unwrap();
    assert!(done.success(), "ip {words:?}: needs iproute2 and the right to make networks");
}

/// Our end of the line to the host.
fn near() -> String {
    format!("tdm{}", std::process::id())
}

async fn boot(name: &str, socket: &Path) -> Child {
    let near = near();
    let (here, there) = (format!("{}/30", FarHost::HERE), format!("{}/30", FarHost::THERE));
    ip(&["netns", "add", name]);
    ip(&["link", "add", &near, "type", "veth", "peer", "name", "far", "netns", name]);
    ip(&["address", "add", &here, "dev", &near]);
    ip(&["link", "set", &near, "up"]);
    for words in
        [["address", "add", &there, "dev", "far"].as_slice(), &["link", "set", "far", "up"]]
    {
        ip(&[&["-netns", name], words].concat());
    }
    let mut command = tokio::process::Command::new("ip");
    command.args(["netns", "exec", name, "python3"]).arg(python::script("relay.py"));
    command.args([FarHost::THERE, &FarHost::PORT.to_string()]).arg(socket);
    let mut relay = command.kill_on_drop(true).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(relay.stdout.take().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("ready"));
    relay
}

#[tokio::test]
async fn a_database_whose_host_vanishes_stops_nothing_and_all_goes_on_once_it_is_back() {
    let victim = Victim::alone().await;
    let mut far = FarHost::of(&victim).await;
    let mut switch = Switch::start_on(far.login(), Options::default()).await;
    switch.database = Database::new(victim.cluster.options("tandem"));
    let client = Client::of(&switch).await;
    let receiver = Receiver::start(200).await;
    add_endpoint(&switch, &receiver).await;
    let before = calls(&switch, 10, 60, 40_000).start();
    switch.wait_for_count(ANSWERED, 10).await;
    let listed = client.ask(("GET", &demo_path("calls?live=true")), "").await.json();
    let mute = demo_path(&format!("calls/{}/mute", listed["calls"][0]["id"].as_str().unwrap()));
    // Some wait for an answer at that moment: what they asked is acknowledged, and never answered.
    let mut locker = postgres::owner(&switch.database).await;
    let lock = "BEGIN; LOCK TABLE calls, call_events, webhook_queues, webhook_outbox IN ACCESS EXCLUSIVE MODE";
    while let Err(error) = sqlx::raw_sql(lock).execute(&mut locker).await {
        // Somebody who has one of them waits for another: of such a deadlock this may be the one that is ended.
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("40P01"), "{error}");
        sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    }
    let waits = "SELECT count(DISTINCT application_name) FROM pg_stat_activity \
        WHERE wait_event_type = 'Lock' AND application_name = 'tandem_node'";
    switch.wait_for_count(waits, 1).await;
    all_are_asked_for_life().await;
    far.vanish().await;
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    client.is_put_off(("POST", &demo_path("numbers")), NUMBER_BODY).await;
    switch.wait_for_readiness("database", false).await;
    let muted = client.ask(("POST", &mute), r#"{"party": "caller"}"#).await;
    assert_eq!(muted.status, 200, "{}", muted.body);
    client.is_put_off(("GET", &demo_path("calls")), "").await;
    calls(&switch, 20, 20, 500).succeeds().await;
    assert_eq!(switch.readiness().await["ready"], true);
    far.come_back().await;
    switch.wait_for_readiness("database", true).await;
    let report = before.report().await;
    assert_eq!((report.successful, report.failed), (10, 0), "{}", report.text);
    switch.wait_for_count(NORMAL, 30).await;
    switch.wait_for_count(CLOSED_ONCE, 30).await;
    assert_eq!((switch.count(ALL).await, switch.count(HALF_WRITTEN).await), (30, 0));
    switch.wait_for_count("SELECT count(*) FROM audit_log WHERE action = 'mute'", 1).await;
    let ended = |told: &[receiver::Told]| {
        told.iter().filter(|told| told.body["type"] == "call.ended").count() == 30
    };
    receiver.wait("the end of every call", ended).await;
    let made = client.ask(("POST", &demo_path("numbers")), NUMBER_BODY).await;
    assert_eq!(made.status, 201, "{}", made.body);
}
