//! Attacks and bad networks against the built program: calls in progress and calls to come go on.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

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
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rtp::FRAME;
use crate::rtp::Stream;
use crate::rtp::audio;
use crate::sipp::Sipp;
use crate::switch::Options;
use crate::switch::Switch;
use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tandem::routing::source_rate::CHALLENGED_ADDRESS_RATE;
use tandem::types::limit::SHED_RECORDS_PER_SECOND_MAX;
use tandem::types::limit::SIP_FLOWS_PER_ADDRESS_MAX;
use tandem::types::random::Random;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const ECHO: &str = "+15550101";
const TONE: &str = "+15550102";

const ALL: &str = "SELECT count(*) FROM calls";
const NORMAL: &str = "SELECT count(*) FROM calls WHERE cause = 'normal' AND ended_at IS NOT NULL";

async fn phone(switch: &Switch, number: &str) -> Phone {
    Phone::new(switch.caller(2), switch.udp, number).await
}

/// Where the switch takes the RTP of a call that it answered so.
fn media(switch: &Switch, answer: &Heard) -> SocketAddr {
    SocketAddr::new(switch.udp.ip(), answer.audio_port())
}

/// The RFC 4475 messages, valid and not, and whatever else is no SIP.
fn nasty() -> Vec<Vec<u8>> {
    let mut set = vec![
        Vec::new(),
        vec![0; 500],
        vec![b'A'; 65_000],
        b"\r\n\r\n".to_vec(),
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl".to_vec(),
        b"INVITE".to_vec(),
        b"INVITE sip:x SIP/2.0\r\n\r\n".to_vec(),
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
    ];
    let torture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    for kind in ["valid", "invalid", "tolerated"] {
        let files = fs::read_dir(torture.join(kind)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        set.extend(files.iter().map(|file| fs::read(file).unwrap()));
    }
    assert!(set.len() > 50, "the torture messages are gone");
    set
}

/// `message` with up to eight places changed.
fn mutated(message: &[u8], random: &mut Random) -> Vec<u8> {
    const BITS: [&[u8]; 12] =
        [b"\r\n", b"<", b">", b"\"", b";", b",", b"\0", b"[::", b"%", b":", b"\xff", b"="];
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(8) {
        let at = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
        let bit = BITS[usize::try_from(random.below(BITS.len() as u64)).unwrap()];
        match random.below(4) {
            0 | 1 if at < bytes.len() => bytes[at] = random.next_u64().to_le_bytes()[0],
            2 => drop(bytes.drain(at..(at + 1 + bit.len() * 4).min(bytes.len()).max(at))),
            _ => drop(bytes.splice(at..at, bit.iter().copied())),
        }
    }
    bytes
}

#[tokio::test]
async fn hostile_datagrams_stop_neither_a_call_nor_the_next_one() {
    let switch = Switch::start().await;
    let mut talking = phone(&switch, TONE).await;
    talking.call("").await;
    let mut attacker = phone(&switch, ECHO).await;
    for (number, message) in nasty().into_iter().enumerate() {
        attacker.send(&message[..message.len().min(65_000)]).await;
        assert!(attacker.is_served().await, "OPTIONS after message {number}");
    }
    let mut random = Random::from_seed(2_026);
    let sdp = attacker.sdp();
    for round in 0..3_000 {
        let mut other = attacker.request(["INVITE", "OPTIONS", "BYE"][round % 3], "", &sdp);
        if round % 5 == 0 {
            other = talking.request_as("INVITE", "z9hG4bKstolen", "", &sdp);
        }
        attacker.send(mutated(other.as_bytes(), &mut random)).await;
        if round % 100 == 0 {
            assert!(talking.is_served().await, "OPTIONS after mutation {round}");
        }
    }
    talking.drain_media_now().await;
    talking.hear_media(10).await;
    Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
    check_log_is_discreet(&switch);
    // Of those that come too fast some are lost before they are read; each OPTIONS above was.
    let received = switch.metric("sip_datagrams_received_total").await;
    assert!(received >= 80.0, "{received}");
    for name in ["sip_messages_malformed_total", "sip_endpoint_events_total"] {
        assert!(switch.total(name).await > 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_http_request_does_not_hold_up_a_stop() {
    let mut switch = Switch::start().await;
    let mut half = TcpStream::connect(switch.http).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    // It was accepted when one that came later is answered.
    switch.readiness().await;
    assert!(switch.metric("api_requests_total{status=\"2xx\"}").await > 0.0);
    assert!(switch.metric("api_request_seconds_count").await > 0.0);
    switch.terminate();
    assert!(switch.ended().await.success());
    let log = switch.log();
    assert!(log.contains("HTTP requests under way are cut"), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_new_offer_that_cannot_be_read_is_refused_and_counted_and_the_call_goes_on() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, TONE).await;
    phone.call("").await;
    for (bad, status) in [("v=0\r\nm=audio", 488), ("v=0 no lines", 488)] {
        let refusal = phone.ask("INVITE", "", bad).await;
        assert_eq!(refusal.status(), status, "{bad}: {refusal:?}");
        phone.acknowledge().await;
    }
    assert_eq!(switch.total("sip_reoffers_refused_total").await, 2.0);
    phone.drain_media_now().await;
    phone.hear_media(10).await;
    phone.hang_up().await;
    let told = "SELECT count(*) FROM call_events WHERE name = 'reoffer_refused' \
                AND detail ->> 'leg' = 'near' AND detail ? 'cause'";
    switch.wait_for_count(told, 2).await;
    switch.wait_for_count(NORMAL, 1).await;
}

/// Neither numbers nor passwords are in the log, and no line of it is the peer's.
fn check_log_is_discreet(switch: &Switch) {
    let log = switch.log();
    for secret in ["15557702", "15557701", "15550101", "15550102", "z9hG4bK", "nonce="] {
        assert!(!log.contains(secret), "the log tells {secret}");
    }
    assert!(!log.to_lowercase().contains("panic"), "{log}");
    let odd = |letter: char| letter.is_control() && letter != '\n';
    assert!(!log.contains(odd), "control characters in the log");
    for level in ["WARN", "ERROR"] {
        let lines = log.lines().filter(|line| line.contains(level)).count();
        assert!(lines < 20, "{lines} lines of {level}: the peer writes our log\n{log}");
    }
}

/// What a peer must not be able to write into our log, and what it may be known by there.
const CANARIES: [&str; 9] = [
    "c4naryresponse",
    "c4narycnonce",
    "c4narytoken",
    "c4narycookie",
    "c4narypassword",
    "c4narykeyc4narykeyc4narykey",
    "15557702",
    "15557799",
    "15550101",
];

/// Headers and a description full of what is nobody's business, and of what would break a line.
fn indiscreet(phone: &Phone) -> (String, String) {
    let headers = "Authorization: Digest username=\"demo\", realm=\"tandem\", nonce=\"c4narynonce\", \
         uri=\"sip:x\", response=\"c4naryresponse\", cnonce=\"c4narycnonce\", nc=00000001, qop=auth\r\n\
         Proxy-Authorization: Bearer c4narytoken\r\nX-Api-Key: c4narytoken\r\n\
         Cookie: session=c4narycookie\r\nDiversion: <sip:+15557799:c4narypassword@h>;reason=busy\r\n\
         P-Asserted-Identity: \"\x1b[31m+15557799\x07\" <tel:+15557799>\r\n\
         Subject: \x1b]0;c4narytoken\x07\u{9b}31m\u{2028}\r\n";
    let sdp = phone.sdp()
        + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c4narykeyc4narykeyc4narykeyc4naryke\r\n";
    (headers.to_owned(), sdp)
}

#[tokio::test]
async fn nothing_that_a_peer_keeps_secret_and_no_control_character_reaches_the_log() {
    for more in ["[log]\nlevel = 'debug'\nformat = 'text'\n", "[log]\nformat = 'json'\n"] {
        let switch = Switch::start_with(Options { more, ..Options::default() }).await;
        let known = phone(&switch, ECHO).await;
        let mut random = Random::from_seed(23);
        // A carrier, one that has to say its password, and a stranger.
        for last in [2, 70, 200] {
            let mut peer = Phone::new(switch.caller(last), switch.udp, ECHO).await;
            let (headers, sdp) = indiscreet(&peer);
            for round in 0..600 {
                let method = ["INVITE", "INVITE", "OPTIONS", "REFER", "BYE", "REGISTER"][round % 6];
                peer.call_id = format!("{last}-{}@c4narytoken", round / 6);
                let request = peer.request(method, &headers, &sdp);
                peer.send(mutated(request.as_bytes(), &mut random)).await;
                if round % 6 == 0 {
                    peer.send(request).await;
                }
                if round % 50 == 0 {
                    assert!(known.is_served().await, "OPTIONS after message {round} of {last}");
                }
            }
            let mut stream = Connection::open(switch.caller(last.min(4)), switch.tcp).await;
            let request = peer.request("INVITE", &headers, &sdp).replace("UDP", "TCP");
            let bytes = mutated(request.as_bytes(), &mut random);
            drop(stream.stream.write_all(&bytes).await);
        }
        assert!(known.is_served().await);
        Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).succeeds().await;
        let log = switch.log();
        assert!(log.contains("INFO"), "the log is kept: {log}");
        for canary in CANARIES {
            let told = log.lines().find(|line| line.contains(canary));
            assert!(told.is_none(), "the log tells {canary}: {told:?}");
        }
        let odd = |letter: char| letter.is_control() && letter != '\n';
        assert_eq!(log.lines().find(|line| line.contains(odd)), None, "control characters");
        assert!(!log.to_lowercase().contains("panic"), "{log}");
    }
}

#[tokio::test]
async fn a_flood_keeps_memory_bounded() {
    // What is kept for explaining calls has a bound of its own.
    let more = "[trace]\nmegabytes = 0\n";
    let switch = Switch::start_with(Options { more, ..Options::default() }).await;
    calls_of_all_kinds(&switch).await;
    let few = "UPDATE trunks SET overrides = overrides || '{\"limits\": {\"channels_in\": 20}}' \
               WHERE name = 'other'";
    switch.change(few).await;
    let before = resident_kib(&switch).await;
    let mut flooding = Phone::new(switch.caller(130), switch.udp, ECHO).await;
    let mut good = phone(&switch, TONE).await;
    let offer = flooding.sdp();
    for round in 0..5_000 {
        flooding.call_id = format!("flood-{round}");
        let invite = flooding.request("INVITE", "", &offer);
        flooding.send(invite).await;
        // No faster than they are read, so that each costs what it can.
        if round % 50 == 0 {
            assert!(good.is_served().await, "OPTIONS after INVITE {round}");
        }
        if round == 2_500 {
            good.call("").await;
        }
    }
    assert!(switch.total("sip_transactions").await <= 6_000.0);
    assert!(switch.total("calls_open").await <= 21.0, "more calls than the trunk may have");
    good.drain_media_now().await;
    good.hear_media(10).await;
    good.hang_up().await;
    // Nobody is there: the answers are repeated for 32 s, and then everything is forgotten.
    let forgotten = async {
        while switch.total("sip_dialogs").await > 0.0
            || switch.total("sip_transactions").await > 0.0
        {
            while let Some(heard) = flooding.hear_within(Duration::from_millis(50)).await {
                if heard.start.starts_with("BYE ") {
                    flooding.answer(&heard, "200 OK").await;
                }
            }
        }
    };
    timeout(PATIENCE * 12, forgotten).await.expect("dialogs and transactions are forgotten");
    // As many as had room at first; on a slow machine more had room once those were gone.
    let unacknowledged = "SELECT least(count(*), 20) FROM calls \
                          WHERE cause = 'ack_timeout' AND ended_at IS NOT NULL";
    switch.wait_for_count(unacknowledged, 20).await;
    let returned = async {
        while resident_kib(&switch).await > before + 24 * 1_024 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let returned = timeout(PATIENCE * 6, returned).await.is_ok();
    assert!(returned, "{before} KiB before, {} KiB after", resident_kib(&switch).await);
    assert_eq!(switch.total("call_faults_total").await, 0.0, "{}", switch.log());
}

/// Resident memory of the switch in KiB.
async fn resident_kib(switch: &Switch) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", switch.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn a_flood_of_strangers_and_garbage_costs_no_memory_and_no_call() {
    let switch = Switch::start().await;
    calls_of_all_kinds(&switch).await;
    let before = resident_kib(&switch).await;
    let mut stranger = Phone::new(switch.caller(200), switch.udp, ECHO).await;
    let known = phone(&switch, ECHO).await;
    let offer = stranger.sdp();
    let calls = Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO).calls(20, 20, 0);
    let calls = calls.start();
    let garbage = vec![0xa5; 1_200];
    for round in 0..20_000 {
        known.send(&garbage).await;
        if round % 4 == 0 {
            let invite = stranger.request("INVITE", "", &offer);
            stranger.send(invite).await;
        }
        if round % 200 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let report = calls.report().await;
    assert_eq!((report.successful, report.failed), (20, 0), "{}", report.text);
    assert!(stranger.hear_within(Duration::ZERO).await.is_none(), "a stranger was answered");
    let after = resident_kib(&switch).await;
    assert!(after < before + 16 * 1_024, "{before} KiB before, {after} KiB after");
    switch.wait_for_count(NORMAL, 22).await;
    let others = "SELECT coalesce(string_agg(calls::text, E'\\n'), '') FROM calls \
                  WHERE cause NOT IN ('normal', 'unknown_source')";
    assert_eq!(switch.text(others).await, "");
    stranger
        .send(stranger.request_as("OPTIONS", "z9hG4bK1", "User-Agent: friendly-scanner\r\n", ""))
        .await;
    switch.wait_for_metric("sip_scanner_messages_total", |scanners| scanners == 1.0).await;
    // Of the stranger's 5000 attempts a few are recorded, so that an operator sees them.
    let strangers = "SELECT count(*) FROM calls WHERE cause = 'unknown_source'";
    assert!(switch.count(strangers).await < 200, "the stranger fills our database");
}

/// Forged INVITEs of the flood.
const FORGED: usize = 1_000;

#[tokio::test]
async fn a_flood_in_the_name_of_a_peer_that_must_authenticate_is_not_amplified() {
    let switch = Switch::start().await;
    // The peer itself, at the address that is forged: it calls all the while.
    let calls = Sipp::new("digest", switch.caller(70), switch.udp, ECHO)
        .args(&["-au", "demo", "-ap", "demo"])
        .calls(20, 20, 0)
        .start();
    let mut forger = Phone::new(switch.caller(70), switch.udp, ECHO).await;
    let other = phone(&switch, ECHO).await;
    let start = tandem::clock::now();
    let (mut answered, mut longer) = (HashMap::<String, u32>::new(), 0_u32);
    let mut hear = |heard: Heard, length: usize| {
        assert_eq!(heard.status(), 401, "{heard:?}");
        *answered.entry(heard.header("call-id").to_owned()).or_default() += 1;
        let lines = heard.headers.iter().map(|(name, value)| name.len() + value.len() + 4);
        let answer = heard.start.len() + 4 + lines.sum::<usize>();
        longer += u32::from(answer > length);
    };
    let mut length = 0;
    for round in 0..FORGED {
        // Shorter than any challenge: nothing is offered.
        forger.call_id = format!("forged-{round:04}");
        let invite = forger.request("INVITE", "", "");
        length = invite.len();
        forger.send(invite).await;
        // No faster than they are read, so that none is lost on the way.
        if round % 50 == 0 {
            assert!(other.is_served().await, "OPTIONS after INVITE {round}");
        }
        while let Some(heard) = forger.hear_within(Duration::ZERO).await {
            hear(heard, length);
        }
    }
    let counted = async |what: &str| {
        switch.total(&format!("sip_endpoint_events_total{{what=\"{what}\"}}")).await
    };
    let report = calls.report().await;
    assert_eq!((report.successful, report.failed), (20, 0), "{}", report.text);
    let settled = async {
        while counted("refused_once").await + counted("refusal_withheld").await < 1_020.0 {}
    };
    timeout(PATIENCE, settled).await.expect("each INVITE is settled");
    while let Some(heard) = forger.hear_within(SILENCE).await {
        hear(heard, length);
    }
    assert!(answered.values().all(|times| *times == 1), "no answer is repeated: {answered:?}");
    assert!(longer > 0 && !answered.is_empty(), "{longer} of {}", answered.len());
    // A bucket for each of two shards at most, and what flowed into it meanwhile.
    let seconds = u32::try_from(tandem::clock::now().since(start).as_secs()).unwrap() + 1;
    let shards = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let rate = CHALLENGED_ADDRESS_RATE;
    let most = shards * (rate.burst + rate.per_s * seconds);
    assert!(longer <= most, "{longer} answers are longer than what came, {most} may be");
    assert!(counted("refusal_withheld").await > 0.0 || most >= 1_000, "{longer} of {most}");
    // Nothing is kept but the dialogs of the peer's calls, whose transactions end by themselves.
    assert_eq!(counted("stray_ack").await, 0.0);
    let transactions = switch.total("sip_transactions").await;
    assert!(transactions <= 4.0 * 20.0, "{transactions} transactions");
    // Who never came back is told of by some records, and those say of how many more.
    let unanswered = "SELECT count(*) FROM calls WHERE cause = 'credentials_required'";
    let told = "SELECT count(*) FROM calls WHERE decision @? '$[*] ? (@.what == \"left_out\")'";
    let recorded = async {
        while switch.count(told).await == 0 {
            // The last of them sums up what came before, and time brings it.
            tokio::time::sleep(Duration::from_secs(1)).await;
            forger.call_id = format!("forged-{:04}", forger.cseq + 1_000);
            let invite = forger.request("INVITE", "", "");
            forger.send(invite).await;
        }
    };
    timeout(PATIENCE * 9, recorded).await.expect("some records");
    let records = switch.count(unanswered).await;
    let seconds = u32::try_from(tandem::clock::now().since(start).as_secs()).unwrap() + 1;
    let most = i64::from(shards * SHED_RECORDS_PER_SECOND_MAX * seconds);
    assert!(records <= most, "{records} records of {FORGED}, {most} may be");
    switch.wait_for_count(NORMAL, 20).await;
}

#[tokio::test]
async fn a_flood_of_requests_that_begin_no_call_in_such_a_name_is_not_amplified_either() {
    let switch = Switch::start().await;
    let mut forger = Phone::new(switch.caller(70), switch.udp, ECHO).await;
    let other = phone(&switch, ECHO).await;
    let start = tandem::clock::now();
    let (mut asked, mut answers) = (0, Vec::new());
    for round in 0..FORGED {
        forger.call_id = format!("forged-{round:04}");
        let method = if round % 2 == 0 { "OPTIONS" } else { "FROB" };
        let request = forger.request(method, "", "");
        asked = request.len().max(asked);
        forger.send(request).await;
        // No faster than they are read, so that none is lost on the way.
        if round % 50 == 0 {
            assert!(other.is_served().await, "OPTIONS after {method} {round}");
        }
        while let Some(heard) = forger.hear_within(Duration::ZERO).await {
            answers.push(heard);
        }
    }
    while let Some(heard) = forger.hear_within(SILENCE).await {
        answers.push(heard);
    }
    let is_longer = |heard: &&Heard| {
        assert!(matches!(heard.status(), 200 | 405), "{heard:?}");
        let lines = heard.headers.iter().map(|(name, value)| name.len() + value.len() + 4);
        heard.start.len() + 4 + lines.sum::<usize>() > asked
    };
    let longer = answers.iter().filter(is_longer).count();
    // The bucket of the node, and what flowed into it meanwhile.
    let seconds = u32::try_from(tandem::clock::now().since(start).as_secs()).unwrap() + 1;
    let rate = CHALLENGED_ADDRESS_RATE;
    let most = usize::try_from(rate.burst + rate.per_s * seconds).unwrap();
    assert!((1..=most).contains(&longer), "{longer} of {} answers, {most} may be", answers.len());
    let withheld = switch.total("sip_endpoint_events_total{what=\"refusal_withheld\"}").await;
    assert!(withheld > 0.0 || most >= FORGED, "{longer} of {most}");
}

/// Warms up what is made once.
async fn calls_of_all_kinds(switch: &Switch) {
    for number in [ECHO, TONE] {
        Sipp::new("bye-at-once", switch.caller(3), switch.udp, number).succeeds().await;
    }
}

#[tokio::test]
async fn a_second_source_can_neither_hear_nor_speak_into_a_call() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, ECHO).await;
    let answer = phone.call("").await;
    let port = media(&switch, &answer);
    // Loud and quiet in mu-law: what the echo brings back tells who was heard.
    let (mut own, mut theirs) = (Stream::new(1, 0x20), Stream::new(2, 0x60));
    own.send(&phone.media, port, (25, 1)).await;
    let thief = UdpSocket::bind((switch.caller(9), 0)).await.unwrap();
    let honest = own.send(&phone.media, port, (100, 1));
    let injected = theirs.send(&thief, port, (1_000, 10));
    tokio::join!(honest, injected);
    let mut buffer = [0; 2_048];
    let stolen = timeout(Duration::from_millis(100), thief.recv_from(&mut buffer)).await;
    assert!(stolen.is_err(), "media went to a stranger");
    let mut heard = HashMap::new();
    while let Ok(Ok((length, from))) =
        timeout(Duration::ZERO, phone.media.recv_from(&mut buffer)).await
    {
        assert_eq!(from, port, "media from elsewhere");
        for level in audio(&buffer[..length]) {
            *heard.entry(*level).or_insert(0) += 1;
        }
    }
    assert!(heard.get(&0x20).copied().unwrap_or(0) > 40 * FRAME, "the caller was not heard");
    assert!(heard.get(&0x60).copied().unwrap_or(0) < FRAME, "a stranger was heard");
    phone.hang_up().await;
    let counted = "SELECT count(*) FROM calls WHERE foreign_packets > 900 AND packets_in > 110";
    switch.wait_for_count(counted, 1).await;
}

#[tokio::test]
async fn noise_on_the_media_ports_does_not_end_a_call() {
    let switch = Switch::start().await;
    let mut phone = phone(&switch, TONE).await;
    let answer = phone.call("").await;
    let port = media(&switch, &answer);
    let control = SocketAddr::new(port.ip(), port.port() + 1);
    let mut random = Random::from_seed(7);
    let mut stream = Stream::new(1, 0x20);
    stream.send(&phone.media, port, (5, 1)).await;
    for _ in 0..20 {
        let mut strange = stream.next();
        // A payload type that nobody offered.
        strange[1] = 33;
        phone.media.send_to(&strange, port).await.unwrap();
    }
    for first in 0..=255 {
        let mut noise = vec![0; usize::try_from(random.below(300)).unwrap() + 1];
        random.fill(&mut noise);
        noise[0] = first;
        let packet = mutated(&stream.next(), &mut random);
        for bytes in [noise, packet, Vec::new(), vec![first; 1_500]] {
            drop(phone.media.send_to(&bytes, port).await);
            drop(phone.media.send_to(&bytes, control).await);
        }
    }
    phone.drain_media_now().await;
    phone.hear_media(20).await;
    phone.hang_up().await;
    switch.wait_for_count(NORMAL, 1).await;
    // Some are lost on their way: so many at once are more than a socket holds.
    for (why, least) in [("malformed", 100.0), ("unexpected", 5.0)] {
        let dropped = format!("media_packets_dropped_total{{why=\"{why}\"}}");
        let dropped = switch.metric(&dropped).await;
        assert!(dropped >= least, "{why}: {dropped}");
    }
}

async fn options_over_udp_in_time(phone: &Phone) {
    let served = timeout(Duration::from_secs(3), phone.is_served()).await;
    assert_eq!(served, Ok(true), "UDP waits for a TCP peer");
}

#[tokio::test]
async fn a_tcp_peer_that_stops_reading_does_not_delay_udp() {
    let switch = Switch::start().await;
    let phone = phone(&switch, "ping").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_304).unwrap();
    socket.bind(SocketAddr::new(switch.caller(4), 0)).unwrap();
    let mut stalled = socket.connect(switch.tcp).await.unwrap();
    let mut asking = Phone::new(switch.caller(4), switch.udp, "ping").await;
    let mut stalling = tokio::spawn(async move {
        loop {
            let batch = |_| asking.request("OPTIONS", "", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
            let batch: String = (0..20).map(batch).collect();
            // It fails when the switch has closed the connection.
            if stalled.write_all(batch.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let closed = loop {
        options_over_udp_in_time(&phone).await;
        if let Ok(closed) = timeout(Duration::from_millis(100), &mut stalling).await {
            break closed;
        }
    };
    closed.unwrap();
    assert!(switch.total("sip_flows_closed_total").await >= 1.0);
    assert!(switch.total("sip_messages_unsent_total").await >= 1.0);
    let mut well = Connection::open(switch.caller(4), switch.tcp).await;
    assert_eq!(well.ask().await.status(), 200);
}

#[tokio::test]
async fn a_thousand_idle_connections_are_bounded_by_address_and_delay_nobody() {
    let switch = Switch::start().await;
    let mut talking = phone(&switch, ECHO).await;
    let answer = talking.call("").await;
    let mut first = Connection::open(switch.caller(4), switch.tcp).await;
    let mut held = Vec::new();
    for count in 1..1_000 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(switch.caller(4), 0)).unwrap();
        let mut idle = socket.connect(switch.tcp).await.unwrap();
        if count < SIP_FLOWS_PER_ADDRESS_MAX {
            held.push(idle);
        } else {
            let end = timeout(PATIENCE, idle.read_u8()).await.expect("one too many is closed");
            assert!(end.is_err(), "one too many is spoken to");
        }
    }
    assert!(switch.total("sip_flows_refused_total").await >= 744.0);
    // Other addresses, other transports and the running call have all they need.
    let mut well = Connection::open(switch.caller(5), switch.tcp).await;
    assert_eq!(well.ask().await.status(), 200);
    options_over_udp_in_time(&talking).await;
    Stream::new(7, 0x55).send(&talking.media, media(&switch, &answer), (10, 1)).await;
    talking.hear_media(10).await;
    talking.hang_up().await;
    assert_eq!(first.ask().await.status(), 200, "who was there first still is");
}

/// A TCP connection that speaks SIP.
struct Connection {
    stream: TcpStream,
    phone: Phone,
    unread: Vec<u8>,
}

impl Connection {
    async fn open(local: IpAddr, switch: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(local, 0)).unwrap();
        let stream = socket.connect(switch).await.unwrap();
        Self { stream, phone: Phone::new(local, switch, "ping").await, unread: Vec::new() }
    }

    fn options(&mut self) -> String {
        self.phone.request("OPTIONS", "", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    }

    async fn ask(&mut self) -> Heard {
        let request = self.options();
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.hear().await.expect("closed")
    }

    /// The next message; `None` when the connection was closed.
    async fn hear(&mut self) -> Option<Heard> {
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            // No answer in these tests has a body.
            if let Some((head, _)) = text.split_once("\r\n\r\n")
                && !head.is_empty()
            {
                self.unread.drain(..head.len() + 4);
                return Some(Heard::read(&format!("{head}\r\n\r\n")));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
            match read.expect("neither an answer nor the end") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_stream_is_cut_into_messages_however_its_bytes_arrive() {
    let switch = Switch::start().await;
    let mut stream = Connection::open(switch.caller(4), switch.tcp).await;
    let (first, second) = (stream.options(), stream.options());
    for byte in first.as_bytes() {
        stream.stream.write_all(&[*byte]).await.unwrap();
        stream.stream.flush().await.unwrap();
    }
    assert_eq!(stream.hear().await.unwrap().header("cseq"), "1 OPTIONS");
    let (third, fourth) = (stream.options(), stream.options());
    let joined = format!("\r\n\r\n{second}\r\n{third}{fourth}");
    stream.stream.write_all(joined.as_bytes()).await.unwrap();
    let mut pong = [0; 2];
    stream.stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n", "a ping is answered");
    for number in 2..=4 {
        let heard = stream.hear().await.unwrap();
        assert_eq!(heard.header("cseq"), format!("{number} OPTIONS"));
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_cut_is_closed_and_the_others_go_on() {
    let switch = Switch::start().await;
    let mut well = Connection::open(switch.caller(5), switch.tcp).await;
    for (what, from, to) in [
        ("no length", "Content-Length: 0\r\n", ""),
        ("a negative length", "Content-Length: 0", "Content-Length: -1"),
        ("a huge length", "Content-Length: 0", "Content-Length: 99999999999"),
        ("no end", "Contact:", &format!("X: {}\r\nContact:", "a".repeat(200_000))),
    ] {
        let mut bad = Connection::open(switch.caller(4), switch.tcp).await;
        let request = bad.options().replace(from, to);
        drop(bad.stream.write_all(request.as_bytes()).await);
        let mut answers = 0;
        while let Some(answer) = bad.hear().await {
            assert!(answer.status() >= 400, "{what}: {answer:?}");
            answers += 1;
        }
        assert!(answers <= 1, "{what}: {answers} answers");
        assert_eq!(well.ask().await.status(), 200, "after {what}");
    }
    let mut random = Random::from_seed(11);
    for _ in 0..50 {
        let mut bad = Connection::open(switch.caller(4), switch.tcp).await;
        let request = bad.options();
        let bytes = mutated(request.as_bytes(), &mut random);
        drop(bad.stream.write_all(&bytes).await);
    }
    assert_eq!(well.ask().await.status(), 200);
    assert!(switch.metric("sip_streams_unframed_total{transport=\"tcp\"}").await >= 4.0);
    assert_eq!(switch.metric("sip_flows_opened_total{transport=\"tcp\"}").await, 55.0);
    switch.wait_for_metric("sip_flows_open", |open| open >= 1.0).await;
}

/// Loses, doubles and delays datagrams between `caller` and the switch by a seeded chance.
async fn bad_network(local: IpAddr, switch: SocketAddr) -> SocketAddr {
    let outer = Arc::new(UdpSocket::bind((local, 0)).await.unwrap());
    let inner = Arc::new(UdpSocket::bind((local, 0)).await.unwrap());
    let address = outer.local_addr().unwrap();
    tokio::spawn(async move {
        let mut random = Random::from_seed(42);
        let (mut there, mut back) = (vec![0; 65_535], vec![0; 65_535]);
        let mut caller = None;
        loop {
            let (bytes, socket, to) = tokio::select! {
                Ok((length, from)) = outer.recv_from(&mut there) => {
                    caller = Some(from);
                    (there[..length].to_vec(), Arc::clone(&inner), switch)
                }
                Ok((length, _)) = inner.recv_from(&mut back) => {
                    let Some(caller) = caller else { continue };
                    (back[..length].to_vec(), Arc::clone(&outer), caller)
                }
            };
            // 12 of 100 are lost, 10 doubled, all up to 40 ms late: later ones overtake earlier ones.
            let copies = match random.below(100) {
                0..12 => 0,
                12..22 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let late = Duration::from_millis(random.below(40));
                let (bytes, socket) = (bytes.clone(), Arc::clone(&socket));
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    drop(socket.send_to(&bytes, to).await);
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn a_lossy_network_costs_no_call_and_doubles_none() {
    let switch = Switch::start().await;
    let network = bad_network(switch.caller(6), switch.udp).await;
    // SIPp gives a call up when a late response comes where it expects none, unless told otherwise.
    let calls = Sipp::new("load-signalling", switch.caller(7), network, TONE)
        .calls(60, 20, 800)
        .args(&["-default_behaviors", "all,-abortunexp"]);
    let report = calls.succeeds().await;
    assert_eq!(report.successful, 60, "{}", report.text);
    // For SIPp a call that is refused is done, too.
    assert!(!report.logged.contains("refused"), "503: {}", report.logged);
    switch.wait_for_calls(0).await;
    switch.wait_for_count("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL", 60).await;
    // Which call SIPp takes for done and the switch does not.
    let odd = "SELECT coalesce(string_agg(cause || ' of ' || signalling_id, ', '), '') FROM calls \
               WHERE cause <> 'normal'";
    assert_eq!(switch.text(odd).await, "");
    switch.wait_for_count(NORMAL, 60).await;
    assert_eq!(switch.count(ALL).await, 60);
}
