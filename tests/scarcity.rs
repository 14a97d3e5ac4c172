//! What the system runs out of, the built program lives through: disk, file descriptors, processor time; and a rush of calls.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

#[path = "support/http.rs"]
mod http;
#[path = "support/phone.rs"]
mod phone;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/rtp.rs"]
mod rtp;
#[path = "support/sipp.rs"]
mod sipp;
#[path = "support/switch.rs"]
mod switch;

use crate::phone::Heard;
use crate::phone::Phone;
use crate::rtp::Stream;
use crate::sipp::Sipp;
use crate::switch::Switch;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tandem::clock;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::timeout;

const ECHO: &str = "+15550101";

const ALL: &str = "SELECT count(*) FROM calls";
const NORMAL: &str = "SELECT count(*) FROM calls WHERE cause = 'normal' AND ended_at IS NOT NULL";

/// Connections that wait for a descriptor: more than there are, fewer than an address may have.
const CONNECTIONS: usize = 40;
/// Descriptors left when they come.
const LEFT: usize = 4;

/// Sets a limit of the running switch, as `prlimit` writes it. Only the soft one, so that it can be
/// lifted again: this needs no privilege.
fn limit(switch: &Switch, limit: &str) {
    let process = switch.process().to_string();
    let set = std::process::Command::new("prlimit").args(["--pid", &process, limit]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit is needed (Debian: util-linux)");
}

/// The soft and the hard limit of the running switch's open files.
fn open_files_limits(switch: &Switch) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", switch.process())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace();
    (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
}

/// The limit below which the switch has `left` descriptors free.
fn descriptor_limit(switch: &Switch, left: usize) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", switch.process())).unwrap();
    let names = open.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let open: HashSet<u64> = names.map(|name| name.parse().unwrap()).collect();
    (0..).filter(|number| !open.contains(number)).nth(left).unwrap()
}

/// True when the switch answers OPTIONS on a connection of its own.
async fn answers_over_tcp(switch: &Switch) -> bool {
    let phone = Phone::new(switch.caller(3), switch.tcp, ECHO).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(switch.caller(3), 0)).unwrap();
    let mut stream = socket.connect(switch.tcp).await.unwrap();
    let options =
        phone.request_as("OPTIONS", "z9hG4bKtcp", "", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    stream.write_all(options.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = timeout(phone::PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    Heard::read(&String::from_utf8_lossy(answer.get(..length).unwrap())).status() == 200
}

#[tokio::test]
async fn a_full_disk_costs_no_call_and_no_record() {
    let switch = Switch::start().await;
    let calls = |calls| {
        Sipp::new("surviving-calls", switch.caller(2), switch.udp, ECHO).calls(calls, 20, 100)
    };
    calls(5).succeeds().await;
    switch.wait_for_count(NORMAL, 5).await;
    // From here on no file of the switch can grow, its log included.
    limit(&switch, "--fsize=1:");
    calls(20).succeeds().await;
    switch.wait_for_readiness("journal", false).await;
    assert_eq!(switch.readiness().await["ready"], true, "{}", switch.log());
    calls(5).succeeds().await;
    assert_eq!(switch.count(ALL).await, 5, "what is not in the journal is not in the database");
    limit(&switch, "--fsize=unlimited:");
    switch.wait_for_readiness("journal", true).await;
    switch.wait_for_count(NORMAL, 30).await;
    assert_eq!(switch.count(ALL).await, 30);
    assert!(switch.metric("records_lost_total").await == 0.0, "{}", switch.log());
    assert!(switch.metric("call_faults_total").await == 0.0, "{}", switch.log());
}

#[tokio::test]
async fn without_descriptors_calls_go_on_and_connections_wait_until_there_are_some() {
    let switch = Switch::start().await;
    let (soft, hard) = open_files_limits(&switch);
    assert_eq!(soft, hard, "the switch takes as many descriptors as it may");
    let mut talking = Phone::new(switch.caller(2), switch.udp, ECHO).await;
    let answer = talking.call("").await;
    let media = SocketAddr::new(switch.udp.ip(), answer.audio_port());

    limit(&switch, &format!("--nofile={}:", descriptor_limit(&switch, LEFT)));
    let scarce_since = clock::now();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(&switch).await);
    }
    switch.wait_for_log("SIP connections cannot be accepted").await;
    // The call that is there goes on; one that comes is told to try elsewhere, and not left alone.
    Stream::new(7, 0x55).send(&talking.media, media, (10, 1)).await;
    talking.hear_media(10).await;
    let mut refused = Phone::new(switch.caller(2), switch.udp, ECHO).await;
    let offer = refused.sdp();
    let refusal = refused.ask("INVITE", "", &offer).await;
    assert_eq!(refusal.status(), 503, "{refusal:?}");
    assert!(refusal.header("reason").contains("no_ports"), "{refusal:?}");
    talking.hang_up().await;

    drop(connections);
    assert!(answers_over_tcp(&switch).await);
    Phone::new(switch.caller(2), switch.udp, ECHO).await.call("").await;
    // At least 50 ms lie between two attempts that fail.
    let most = 1.0 + clock::now().since(scarce_since).as_secs_f64() / 0.05;
    let failures = switch.metric("sip_flows_refused_total{why=\"accept_failed\"}").await;
    assert!((1.0..=most).contains(&failures), "{failures}, at most {most}");
}

/// An open connection that has not said anything.
async fn connect(switch: &Switch) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(switch.caller(4), 0)).unwrap();
    timeout(Duration::from_secs(10), socket.connect(switch.tcp)).await.unwrap().unwrap()
}

/// The processor is taken from a switch for 300 ms, and given to it for 30, again and again until this is dropped.
struct Starving {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Starving {
    fn begin(switch: &Switch) -> Self {
        let (process, over) = (switch.process().to_string(), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                signal(&process, "STOP");
                std::thread::sleep(Duration::from_millis(300));
                signal(&process, "CONT");
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The last it does is to let the switch go on.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn signal(process: &str, signal: &str) {
    let sent = std::process::Command::new("kill").args(["-s", signal, process]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

/// Calls once; hangs up where that was answered. Returns the final response.
async fn try_call(switch: &Switch) -> Heard {
    let mut phone = Phone::new(switch.caller(3), switch.udp, ECHO).await;
    let offer = phone.sdp();
    let response = phone.ask("INVITE", "", &offer).await;
    if response.status() == 200 {
        phone.confirm(&response);
        phone.acknowledge().await;
        phone.hang_up().await;
    }
    response
}

/// What came of a call's RTP since the last time.
async fn take_packets(phone: &Phone, packets: &mut Vec<[u8; 12]>) {
    let mut buffer = [0; 2_048];
    while let Ok(got) = timeout(Duration::ZERO, phone.media.recv_from(&mut buffer)).await {
        got.unwrap();
        packets.push(*buffer.first_chunk().unwrap());
    }
}

#[tokio::test]
async fn a_starved_switch_keeps_its_calls_and_refuses_others_until_it_is_fed() {
    let switch = Switch::start().await;
    let mut talking = Phone::new(switch.caller(2), switch.udp, ECHO).await;
    talking.call("").await;
    talking.hear_media(10).await;
    let starving = Starving::begin(&switch);
    let mut packets = Vec::new();
    let refusal = async {
        loop {
            let response = try_call(&switch).await;
            take_packets(&talking, &mut packets).await;
            if response.status() != 200 {
                return response;
            }
        }
    };
    let refusal = timeout(phone::PATIENCE, refusal).await.expect("it took all calls");
    assert_eq!(refusal.status(), 503, "{refusal:?}");
    assert!(refusal.header("reason").contains("overload"), "{refusal:?}");
    assert!(!refusal.header("retry-after").is_empty(), "{refusal:?}");
    switch.wait_for_log("new calls get 503").await;
    take_packets(&talking, &mut packets).await;
    drop(starving);

    // It takes calls again, and the one that was there has lost nothing but the time.
    let taken = async {
        while try_call(&switch).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(phone::PATIENCE, taken).await.expect("it takes calls again");
    switch.wait_for_metric("media_ticks_left_out_total", |left_out| left_out >= 15.0).await;
    talking.hear_media(10).await;
    talking.hang_up().await;
    let field =
        |packet: &[u8; 12], at: usize| u32::from_be_bytes(*packet[at..].first_chunk().unwrap());
    let mut left_out = 0;
    for pair in packets.windows(2) {
        let [before, after] = [&pair[0], &pair[1]];
        assert_eq!(field(after, 8), field(before, 8), "one stream");
        let number = |packet: &[u8; 12]| u16::from_be_bytes([packet[2], packet[3]]);
        assert_eq!(number(after), number(before).wrapping_add(1), "no packet twice, none between");
        let over = field(after, 4).wrapping_sub(field(before, 4));
        let marker = after[1] & 0x80 != 0;
        assert_eq!((over % 160, marker), (0, over > 160), "its time is that of the call");
        left_out += over / 160 - 1;
    }
    assert!(left_out >= 15, "{left_out} of {}", packets.len());
    assert!(switch.metric("call_faults_total").await == 0.0, "{}", switch.log());
}

/// Calls of the rush, how many of them come in a second, and how many there are at once: a slow machine takes its time.
const RUSH: (u32, u32, &str) = (2_500, 500, "60");

#[tokio::test]
async fn a_rush_of_short_calls_ends_no_thread_and_no_call() {
    let (calls, a_second, at_once) = RUSH;
    let switch = Switch::start().await;
    let beside = Sipp::new("load-calls", switch.caller(2), switch.udp, ECHO).calls(1, 1, 15_000);
    let beside = beside.start();
    switch.wait_for_answers(1).await;
    // Each lasts for a tick or two. What a busy machine refuses is done for SIPp, too; any other status is not.
    let short = Sipp::new("load-signalling", switch.caller(3), switch.udp, ECHO)
        .calls(calls, a_second, 20)
        .args(&["-l", at_once, "-default_behaviors", "all,-abortunexp"]);
    let report = short.succeeds().await;
    assert_eq!(report.successful, u64::from(calls), "{}", report.text);
    let report = beside.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
    let ended = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL";
    switch.wait_for_count(ended, i64::from(calls) + 1).await;
    let odd = "SELECT coalesce(string_agg(DISTINCT cause, ', '), '') FROM calls \
               WHERE cause NOT IN ('normal', 'overload')";
    assert_eq!(switch.text(odd).await, "", "{}", switch.log());
    for name in ["call_faults_total", "media_thread_faults_total", "sip_shards_ended_total"] {
        assert_eq!(switch.total(name).await, 0.0, "{name}: {}", switch.log());
    }
    for name in ["media_threads_stalled", "media_threads_down", "media_refuses", "media_sessions"] {
        switch.wait_for_metric(name, |value| value == 0.0).await;
    }
    // The thread lives: who calls now is heard, as the one beside the rush was to its end.
    Sipp::new("basic", switch.caller(4), switch.udp, ECHO).succeeds().await;
    let both_ways = format!("{NORMAL} AND packets_in > 80 AND packets_out > 80");
    switch.wait_for_count(&both_ways, 2).await;
}
