//! Agents that speak in bursts of any size: what the caller hears of them, sample by sample.
//!
//! `TANDEM_BURSTY_CALLS` says how many calls there are at once, where that is not to be 12.

use crate::bot::Bot;
use crate::bot::Stream;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::phone::Phone;
use crate::rows;
use crate::rtp::audio;
use serde_json::json;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tandem::types::random::Random;
use tokio::task::JoinSet;
use tokio::time::timeout;

const NUMBER: &str = "+15550124";
/// Calls at once, unless the variable says another number.
const CALLS: usize = 12;
/// What an agent says, in bytes of µ-law: 5 s.
const SAID: usize = 40_000;
/// It ends in silence: what is cut off loud falls away.
const END: usize = 400;
/// How far ahead of the call an agent is: 2 s.
const LEAD: usize = 16_000;
/// Longest pause of an agent between two bursts, in frames of 20 ms.
const PAUSE_FRAMES_MAX: u64 = 50;
/// Largest message, in bytes.
const MESSAGE_MAX: u64 = 8_000;

/// What the agent of this number says: no byte of it is as quiet as what is heard when nobody speaks, but for
/// its end.
fn words(number: u64) -> Vec<u8> {
    let mut random = Random::from_seed(number + 1);
    let loud = |random: &mut Random| (random.below(80) + 128 * random.below(2)) as u8;
    let mut said: Vec<u8> = (0..SAID).map(|_| loud(&mut random)).collect();
    said.resize(SAID + END, 0xff);
    said
}

/// Says its words in bursts of odd sizes with odd pauses, as far ahead as it was at first, and hangs up.
async fn speak(mut stream: Stream, number: u64) {
    let said = words(number);
    let mut random = Random::from_seed(number + 1_000);
    let mut at = 0;
    let mut due = LEAD;
    while at < said.len() {
        while at < due.min(said.len()) {
            let size = 1 + random.below(MESSAGE_MAX) as usize;
            let end = (at + size).min(due).min(said.len());
            stream.say_bytes(&said[at..end]).await;
            at = end;
        }
        let frames = 1 + random.below(PAUSE_FRAMES_MAX) as usize;
        assert!(stream.hears_on(frames).await, "closed");
        due += frames * 160;
    }
    stream.mark("end").await;
    stream.until_marks(1).await;
    stream.close(1_000).await;
}

/// Reads a caller's packets as they come, in a thread of its own: what waits for a busy test in the socket is lost
/// once that is full, which is no fault of the switch.
struct Ear {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(u16, Vec<u8>)>>,
}

impl Ear {
    fn of(phone: &Phone) -> Self {
        let socket: UdpSocket = socket2::SockRef::from(&phone.media).try_clone().unwrap().into();
        // Nobody else reads from it.
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (mut packets, mut buffer) = (Vec::new(), [0; 2_048]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        let packet = &buffer[..length];
                        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                        packets.push((sequence, audio(packet).to_vec()));
                    }
                    // All that was sent before the end is there by then.
                    Err(_) if over.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        Self { is_over, thread }
    }

    fn packets(self) -> Vec<(u16, Vec<u8>)> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Calls, and hears everything up to the end, in the order in which it was sent.
async fn listen(switch: SocketAddr) -> Vec<u8> {
    let mut phone = Phone::new("127.0.0.1".parse().unwrap(), switch, NUMBER).await;
    phone.call("").await;
    let ear = Ear::of(&phone);
    let heard = timeout(PATIENCE, phone.hear()).await.expect("the agent hangs up");
    assert!(heard.start.starts_with("BYE "), "{heard:?}");
    phone.answer(&heard, "200 OK").await;
    let mut packets = ear.packets();
    let first = packets.first().expect("media").0;
    packets.sort_by_key(|(sequence, _)| sequence.wrapping_sub(first).wrapping_add(1_000));
    for pair in packets.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "a packet was lost on its way");
    }
    packets.into_iter().flat_map(|(_, payload)| payload).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_say_in_bursts_is_heard_to_the_sample() {
    let calls = std::env::var("TANDEM_BURSTY_CALLS");
    let calls = calls.map_or(CALLS, |text| text.parse().expect("a number of calls"));
    let bot = Bot::bind().await;
    let node = Home::with("127.0.0.1:0", u16::try_from(2 * calls + 80).unwrap(), "").start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "twilio", "url": bot.url()})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let (mut agents, mut callers) = (JoinSet::new(), JoinSet::new());
    for number in 0..calls as u64 {
        callers.spawn(listen(node.sip()));
        agents.spawn(speak(bot.accept().await, number));
    }
    let mut heard_all = Vec::new();
    while let Some(heard) = timeout(PATIENCE, callers.join_next()).await.expect("calls end") {
        heard_all.push(heard.unwrap());
    }
    while let Some(done) = agents.join_next().await {
        done.unwrap();
    }
    // Which caller had which agent is known by what it said first.
    for number in 0..calls as u64 {
        let said = words(number);
        let begins = |heard: &Vec<u8>| heard.windows(160).position(|part| part == &said[..160]);
        let (heard, at) = heard_all
            .iter()
            .find_map(|heard| Some((heard, begins(heard)?)))
            .unwrap_or_else(|| panic!("nobody heard agent {number}"));
        let whole = &heard[at..(at + said.len()).min(heard.len())];
        let same = whole.iter().zip(&said).take_while(|(heard, said)| heard == said).count();
        assert_eq!(
            same,
            said.len(),
            "agent {number}: its sample {same} is missing, or one too many"
        );
        let loud = |bytes: &[u8]| bytes.iter().filter(|byte| **byte % 128 < 80).count();
        assert_eq!(loud(&heard[..at]) + loud(&heard[at + said.len()..]), 0, "agent {number}");
    }
    assert_eq!(node.metric("agent_underruns_total{late=\"agent\"}").await, 0);
}
