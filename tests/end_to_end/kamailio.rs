//! Kamailio as a peer: its process, its configuration and what it logs.

use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::postgres::Scratch;
use std::fs;
use std::fs::File;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::timeout;

/// An address of this machine that no other test program has.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = ((std::process::id() % 65_536) as u16).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 100 + NEXT.fetch_add(1, Ordering::Relaxed), high, low))
}

/// A running Kamailio. Dropping it ends it.
pub(crate) struct Kamailio {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    configuration: String,
    folder: Scratch,
}

impl Kamailio {
    /// Starts it at an address of its own, which takes the place of `ADDRESS` in the configuration; its
    /// IP address alone takes that of `HOST`.
    pub(crate) async fn start(configuration: &str) -> Self {
        let address = SocketAddr::new(own_address(), 5060);
        let configuration = configuration
            .replace("ADDRESS", &address.to_string())
            .replace("HOST", &address.ip().to_string());
        let mut kamailio = Self { child: None, address, configuration, folder: Scratch::new() };
        kamailio.launch().await;
        kamailio
    }

    /// Starts it again after it ended.
    pub(crate) async fn launch(&mut self) {
        let folder = self.folder.path();
        fs::write(folder.join("kamailio.cfg"), &self.configuration).unwrap();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new("kamailio");
        command.args(["-DD", "-E", "-m", "32", "-M", "4", "-f", "kamailio.cfg"]);
        command.arg("-w").arg(folder).arg("-Y").arg(folder).current_dir(folder);
        // Debian has it in /usr/sbin.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin")).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let spawned = command.spawn();
        let child =
            spawned.unwrap_or_else(|error| panic!("kamailio is needed for this test: {error}"));
        self.child = Some(child);
        let address = self.address;
        wait_for("kamailio", async || TcpStream::connect(address).await.ok()).await;
    }

    /// Ends it and its children.
    pub(crate) async fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        terminate(&child);
        timeout(PATIENCE, child.wait()).await.expect("kamailio ends").unwrap();
    }

    /// All it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What it wrote of requests that began with `word`, without that.
    pub(crate) fn noted(&self, word: &str) -> Vec<String> {
        let log = self.log();
        let after = |line: &str| Some(line.split_once(word)?.1.trim().to_owned());
        log.lines().filter_map(after).collect()
    }
}

impl Drop for Kamailio {
    #[expect(clippy::print_stderr, reason = "a failed check shows what the proxy said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Kamailio logged:\n{}", self.log());
        }
        self.child.iter().for_each(terminate);
    }
}

/// Ends the group of processes: its main process alone would leave its children.
fn terminate(child: &Child) {
    if let Some(process) = child.id() {
        let command = format!("kill -KILL -{process}");
        std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
    }
}
