//! SIPp as a caller: runs a scenario of `tests/scenarios` and reads what became of its calls.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem::clock;
use tokio::process::Child;
use tokio::process::Command;

/// Longest run of a scenario.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a scenario is run.
pub struct Sipp {
    command: Command,
    scenario: String,
    /// What is written into the gaps of the scenario.
    words: Vec<(String, String)>,
    folder: PathBuf,
}

/// What became of its calls.
#[derive(Debug)]
pub struct Report {
    pub exit: Option<i32>,
    pub successful: u64,
    pub failed: u64,
    /// What the scenario logged.
    pub logged: String,
    /// What SIPp found wrong, and its last screen.
    pub text: String,
}

impl Sipp {
    /// Runs `scenario` from `local` to `number` at `switch`: one call over UDP, unless told otherwise.
    pub fn new(scenario: &str, local: IpAddr, switch: SocketAddr, number: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let run = format!(
            "tandem-sipp-{:x}-{}",
            clock::random_u64(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(run);
        std::fs::create_dir(&folder).unwrap();
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        // SIPp looks for the audio in its working directory.
        std::fs::copy(scenarios.join("tone.ulaw"), folder.join("tone.ulaw")).unwrap();
        let mut command = Command::new("sipp");
        command
            .args(["-sf", "scenario.xml"])
            .args(["-i", &local.to_string(), "-mi", &local.to_string(), "-s", number])
            .args(["-nostdin", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_logs", "-log_file", "scenario.log"])
            .args(["-recv_timeout", "40000", "-timer_resol", "10"])
            .arg(switch.to_string())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Self { command, scenario: scenario.to_owned(), words: Vec::new(), folder }
    }

    /// Writes `word` where the scenario has `{gap}`: for what SIPp takes from no variable, as the
    /// status of a response.
    pub fn word(mut self, gap: &str, word: &str) -> Self {
        self.words.push((format!("{{{gap}}}"), word.to_owned()));
        self
    }

    /// Over TCP, one connection for all calls.
    pub fn over_tcp(mut self) -> Self {
        self.command.args(["-t", "t1"]);
        self
    }

    /// `calls` in all, `rate` of them a second, each held for `hold_ms` where the scenario pauses
    /// without a figure.
    pub fn calls(mut self, calls: u32, rate: u32, hold_ms: u32) -> Self {
        let figures = [calls, rate, hold_ms].map(|figure| figure.to_string());
        self.command.args(["-m", &figures[0], "-r", &figures[1], "-d", &figures[2]]);
        self
    }

    /// Other arguments of SIPp.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it to its end and fails unless every call went as the scenario says.
    pub async fn succeeds(self) -> Report {
        let scenario = self.scenario.clone();
        let report = self.run().await;
        assert!(
            report.exit == Some(0) && report.failed == 0 && report.successful > 0,
            "scenario {scenario} failed: {:?}\n{}",
            report.exit,
            report.text
        );
        report
    }

    /// Runs it to its end.
    pub async fn run(self) -> Report {
        self.start().report().await
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        let file = scenarios.join(format!("{}.xml", self.scenario));
        let mut text = std::fs::read_to_string(file).unwrap();
        for (gap, word) in &self.words {
            assert!(text.contains(gap), "{} has no {gap}", self.scenario);
            text = text.replace(gap, word);
        }
        std::fs::write(self.folder.join("scenario.xml"), text).unwrap();
        let has_calls = self.command.as_std().get_args().any(|arg| arg == "-m");
        if !has_calls {
            self.command.args(["-m", "1"]);
        }
        let spawned = self.command.spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!("sipp is needed for this test (Debian: sip-tester): {error}")
        });
        Running { child, folder: self.folder }
    }
}

/// A running SIPp. Dropping it kills it.
pub struct Running {
    child: Child,
    folder: PathBuf,
}

impl Running {
    /// Waits for its end.
    pub async fn report(self) -> Report {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await;
        let errors = std::fs::read_to_string(self.folder.join("errors.log")).unwrap_or_default();
        let logged = std::fs::read_to_string(self.folder.join("scenario.log")).unwrap_or_default();
        std::fs::remove_dir_all(&self.folder).unwrap();
        let Ok(output) = ended else { panic!("SIPp did not end\n{errors}") };
        let output = output.unwrap();
        let screen = String::from_utf8_lossy(&output.stdout).into_owned();
        Report {
            exit: output.status.code(),
            successful: cumulative(&screen, "Successful call"),
            failed: cumulative(&screen, "Failed call"),
            logged,
            text: format!("{errors}\n{screen}"),
        }
    }
}

/// The last value of a row of the statistics screen.
fn cumulative(screen: &str, row: &str) -> u64 {
    let line = screen.lines().rev().find(|line| line.trim_start().starts_with(row));
    let value = line.and_then(|line| line.split('|').next_back());
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
