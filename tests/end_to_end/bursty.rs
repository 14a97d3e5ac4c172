//! Agents that speak in bursts of any size: what the caller hears of them, sample by sample.
//!
//! On a busy machine an agent of this test, or the node, comes late. So nothing may be missing or too many but noise in
//! gaps that the node tells of, each of the length that it tells and blamed on whom it was due to. `tests/bursty.rs`
//! has the same without sockets, in virtual time, where there is no gap at all.
//!
//! `TANDEM_BURSTY_CALLS` says how many calls there are at once, where that is not to be 100.

use crate::bot::Bot;
use crate::bot::Stream;
use crate::carrier::hear_bye;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::phone::Phone;
use crate::postgres;
use crate::rows;
use crate::rtp::audio;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tandem::clock;
use tandem::types::moment::Moment;
use tandem::types::random::Random;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

const NUMBER: &str = "+15550124";
/// Calls at once, unless the variable says another number.
const CALLS: usize = 100;
/// What an agent says, in bytes of µ-law: 5 s.
const SAID: usize = 40_000;
/// How far ahead of the call an agent is: 2 s.
const LEAD: usize = 16_000;
/// Longest pause of an agent between two bursts, in frames of 20 ms.
const PAUSE_FRAMES_MAX: u64 = 50;
/// Largest message, in bytes.
const MESSAGE_MAX: u64 = 8_000;
/// 20 ms.
const FRAME: usize = 160;
const SAMPLES_PER_MS: usize = 8;
/// As much of what is played last falls away in a gap, in samples: 5 ms.
const FALLING: usize = 40;
/// A gap of so many ms may be an end of what was said, which the node tells nobody of.
const PAUSE_MS: usize = 400;
/// From an agent's socket to the caller, on a machine with nothing to spare.
const WAY_MAX: Duration = Duration::from_millis(250);
/// Between two calls of a telephone that was told to call later.
const CALLS_AGAIN: Duration = Duration::from_millis(250);

/// What the agent of this number says: no byte of it is as quiet as what is heard when nobody speaks.
fn words(number: u64) -> Vec<u8> {
    let mut random = Random::from_seed(number + 1);
    let loud = |random: &mut Random| (random.below(80) + 128 * random.below(2)) as u8;
    (0..SAID).map(|_| loud(&mut random)).collect()
}

/// When an agent had handed over so many bytes.
type Sent = Vec<(Moment, usize)>;

/// Says its words in bursts of odd sizes with odd pauses, as far ahead as it was at first, and hangs up.
async fn speak(mut stream: Stream, number: u64) -> Sent {
    let said = words(number);
    let mut random = Random::from_seed(number + 1_000);
    let mut sent = Vec::new();
    let mut at = 0;
    let mut due = LEAD;
    while at < said.len() {
        let mut burst = Vec::new();
        while at < due.min(said.len()) {
            // By its first frame it is known whom a caller hears.
            let least = if at == 0 { FRAME } else { 1 };
            let size = least + random.below(MESSAGE_MAX) as usize;
            let end = (at + size).min(due).min(said.len());
            burst.push(&said[at..end]);
            at = end;
        }
        // At once: how long a busy test takes between two messages is not what is tried.
        stream.say_at_once(&burst).await;
        sent.push((clock::now(), at));
        let frames = 1 + random.below(PAUSE_FRAMES_MAX) as usize;
        assert!(stream.hears_on(frames).await, "closed");
        due += frames * FRAME;
    }
    stream.mark("end").await;
    stream.until_marks(1).await;
    stream.close(1_000).await;
    // Who goes with frames unread resets the connection, by which its last word may be lost.
    stream.until_closed().await;
    sent
}

/// A packet that a caller heard.
struct Packet {
    at: Moment,
    sequence: u16,
    timestamp: u32,
    audio: Vec<u8>,
}

impl Packet {
    fn read(at: Moment, bytes: &[u8]) -> Self {
        Self {
            at,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            audio: audio(bytes).to_vec(),
        }
    }
}

/// Reads a caller's packets as they come, in a thread of its own: what waits for a busy test in the socket is lost
/// once that is full, which is no fault of the switch.
struct Ear {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

impl Ear {
    fn of(phone: &Phone) -> Self {
        // Nobody else reads from it.
        let socket = phone.media.for_thread();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (mut packets, mut buffer) = (Vec::new(), [0; 2_048]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => packets.push(Packet::read(clock::now(), &buffer[..length])),
                    // All that was sent before the end is there by then.
                    Err(_) if over.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        Self { is_over, thread }
    }

    fn packets(self) -> Vec<Packet> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What a caller heard of its call.
struct Listened {
    call: String,
    packets: Vec<Packet>,
}

/// Calls until it is let in: a node whose media thread comes late takes no new call for the moment.
async fn call_in(switch: SocketAddr) -> Phone {
    loop {
        let mut phone = Phone::new("127.0.0.1".parse().unwrap(), switch, NUMBER).await;
        let (branch, offer) = (format!("z9hG4bK{:x}", clock::random_u64()), phone.sdp());
        phone.cseq += 1;
        phone.send(phone.request_as("INVITE", &branch, "", &offer)).await;
        let answer = phone.outcome("INVITE").await;
        if answer.status() == 200 {
            phone.confirm(&answer);
            phone.acknowledge().await;
            return phone;
        }
        assert_eq!(answer.status(), 503, "{answer:?}");
        phone.send(phone.ack_of_refusal(&answer, &branch)).await;
        sleep(CALLS_AGAIN).await;
    }
}

/// Calls, and hears everything up to the end, in the order in which it was sent.
async fn listen(switch: SocketAddr) -> Listened {
    let phone = call_in(switch).await;
    let ear = Ear::of(&phone);
    // Whoever is busy reads an acknowledgement late, and says the answer again before its end.
    timeout(PATIENCE, hear_bye(&phone)).await.expect("the agent hangs up");
    let mut packets = ear.packets();
    let first = packets.first().expect("media").sequence;
    packets.sort_by_key(|packet| packet.sequence.wrapping_sub(first).wrapping_add(1_000));
    for pair in packets.windows(2) {
        let next = pair[0].sequence.wrapping_add(1);
        assert_eq!(pair[1].sequence, next, "a packet was lost on its way");
        assert_eq!(pair[1].audio.len(), FRAME);
    }
    Listened { call: phone.call_id, packets }
}

/// A place where a caller heard nothing of what its agent still had to say.
#[derive(Debug)]
struct Gap {
    /// So much of the words was heard before it.
    after: usize,
    /// When it began, by the beat of the packets.
    at: Moment,
    /// Its length, in samples.
    samples: usize,
}

impl Gap {
    const fn ms(&self) -> usize {
        self.samples / SAMPLES_PER_MS
    }
}

/// Samples that were left out before a packet: no packet has their time. `next` is the time of the next one.
fn left_out(next: &mut Option<u32>, packet: &Packet) -> usize {
    let due = next.replace(packet.timestamp.wrapping_add(FRAME as u32));
    due.map_or(0, |due| packet.timestamp.wrapping_sub(due) as usize)
}

const fn is_noise(byte: u8) -> bool {
    (byte & 0x7f) >= 0x7c
}

fn same(heard: &[u8], said: &[u8]) -> usize {
    heard.iter().zip(said).take_while(|(heard, said)| heard == said).count()
}

/// Whether this is what follows what was played last: it falls away, and then there is noise.
fn is_gap(heard: &[u8]) -> bool {
    heard.iter().skip(FALLING).all(|byte| is_noise(*byte))
}

/// The gaps in which a caller heard `said`, every sample of it and nothing else; what is amiss where it did not.
fn gaps_in(packets: &[Packet], said: &[u8]) -> Result<Vec<Gap>, String> {
    let first = packets.first().ok_or("nothing was heard")?;
    let media_ns = |packet: &Packet| {
        u64::from(packet.timestamp.wrapping_sub(first.timestamp)) * 1_000_000_000 / 8_000
    };
    // The packet that was the least late tells when all the others were due.
    let began = packets.iter().map(|packet| packet.at.as_nanos().saturating_sub(media_ns(packet)));
    let began = began.min().unwrap_or_default();
    let due = |packet: &Packet| Moment::from_nanos(began + media_ns(packet));
    let starts = packets.iter().position(|packet| packet.audio == said[..FRAME]);
    let (before, heard) = packets.split_at(starts.ok_or("its first frame was not heard")?);
    if !before.iter().all(|packet| packet.audio.iter().all(|byte| is_noise(*byte))) {
        return Err("something was heard before its first frame".to_owned());
    }
    let (mut at, mut gaps, mut heard) = (0, Vec::<Gap>::new(), heard.iter().peekable());
    let mut next_time = None;
    while let Some(packet) = heard.next() {
        let count = same(&packet.audio, &said[at..]);
        let mut samples = left_out(&mut next_time, packet);
        if samples > 0 && count > 0 {
            // The node came too late to say anything.
            gaps.push(Gap { after: at, at: due(packet), samples });
            samples = 0;
        }
        if at + count == said.len() {
            let rest = packet.audio[count..].iter().chain(heard.flat_map(|next| &next.audio));
            let rest: Vec<u8> = rest.copied().collect();
            return is_gap(&rest)
                .then_some(gaps)
                .ok_or_else(|| format!("after it was heard: {rest:02x?}"));
        }
        if count == FRAME {
            at += FRAME;
            continue;
        }
        while let Some(next) = heard.next_if(|next| next.audio.iter().all(|byte| is_noise(*byte))) {
            samples += left_out(&mut next_time, next) + next.audio.len();
        }
        let next =
            heard.peek().ok_or_else(|| format!("all from sample {} on is missing", at + count))?;
        samples += left_out(&mut next_time, next);
        next_time = Some(next.timestamp);
        // What falls away may be what would have come, by chance: then it went on with less.
        let goes_on = |played: &usize| {
            let rest = &said[at + played..];
            let count = same(&next.audio, rest);
            count == FRAME || count == rest.len() || (count > 0 && is_gap(&next.audio[count..]))
        };
        let played = (count.saturating_sub(FALLING)..=count).rev().find(goes_on);
        let played =
            played.ok_or_else(|| format!("sample {} is missing, or one too many", at + count))?;
        if !is_gap(&packet.audio[played..]) {
            return Err(format!("sample {} was followed by no gap", at + played));
        }
        at += played;
        gaps.push(Gap { after: at, at: due(packet), samples: samples + FRAME - played });
    }
    Err(format!("all from sample {at} on is missing"))
}

/// Holds the gaps of a call against those that the node told of: in ms, and who came late.
fn check_told(number: u64, gaps: &[Gap], told: &str, sent: &[(Moment, usize)]) {
    let mut told = told.split_whitespace().map(|gap| gap.split_once(':').expect("ms and who"));
    let mut next = told.next();
    for gap in gaps {
        let by_then = sent.iter().rev().find(|(at, _)| gap.at >= *at + WAY_MAX);
        let agent_was_late = by_then.is_none_or(|(_, bytes)| *bytes <= gap.after);
        match next {
            Some((ms, late)) if ms == gap.ms().to_string() => {
                assert!(agent_was_late || late == "node", "agent {number} is blamed for {gap:?}");
                next = told.next();
            }
            _ => assert!(gap.ms() >= PAUSE_MS, "agent {number}: {gap:?} is not told, but {next:?}"),
        }
    }
    assert_eq!(next, None, "agent {number}: no such gap in {gaps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_say_in_bursts_is_heard_to_the_sample() {
    let calls = std::env::var("TANDEM_BURSTY_CALLS");
    let calls = calls.map_or(CALLS, |text| text.parse().expect("a number of calls"));
    let bot = Bot::bind().await;
    // A busy test may be late to take a connection.
    let agent = json!({"kind": "twilio", "url": bot.url(), "connect_timeout_ms": 20_000});
    let node = Home::with("127.0.0.1:0", u16::try_from(2 * calls + 80).unwrap(), "").start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let (mut agents, mut callers) = (JoinSet::new(), JoinSet::new());
    for number in 0..calls as u64 {
        callers.spawn(listen(node.sip()));
        let stream = bot.accept().await;
        agents.spawn(async move { (number, speak(stream, number).await) });
    }
    let mut heard_all = Vec::new();
    while let Some(heard) = timeout(PATIENCE, callers.join_next()).await.expect("calls end") {
        heard_all.push(heard.unwrap());
    }
    while let Some(done) = agents.join_next().await {
        let (number, sent) = done.unwrap();
        let said = words(number);
        // Which caller had which agent is known by what it said first.
        let begins = |packet: &Packet| packet.audio == said[..FRAME];
        let heard = heard_all.iter().find(|heard| heard.packets.iter().any(begins));
        let heard = heard.unwrap_or_else(|| panic!("nobody heard agent {number}"));
        let gaps = gaps_in(&heard.packets, &said);
        let gaps = gaps.unwrap_or_else(|amiss| panic!("agent {number}: {amiss}"));
        node.record(&heard.call).await;
        let told = format!(
            "SELECT string_agg(concat_ws(':', e.detail->>'ms', e.detail->>'late'), ' ' ORDER BY e.seq) \
             FROM call_events e JOIN calls c ON c.id = e.call_id \
             WHERE c.signalling_id = '{}' AND e.name = 'underrun'",
            heard.call
        );
        check_told(number, &gaps, &postgres::text(&node.database(), &told).await, &sent);
    }
}
