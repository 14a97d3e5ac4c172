//! Agents that talk with somebody else than their caller for a time.

use crate::barge_in::sample_of_caller;
use crate::bot;
use crate::bot::Bot;
use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::postgres;
use crate::rtp::Stream;
use crate::steering::SOUND;
use crate::steering::agree;
use crate::steering::done;
use crate::steering::hears_only;
use crate::transfers::talking;
use crate::transfers::transfer;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::audio::g711::ulaw_decode;
use tandem::audio::g711::ulaw_encode;
use tokio::time::interval;
use tokio::time::timeout;

/// The type of telephone events in what telephones agree on.
const EVENTS: u8 = 101;
/// What is said before a key is pressed, and behind it.
const LEVELS: [u8; 2] = [0x21, 0x26];

/// A telephone that talks with the agent, and what it says.
struct Talker<'p> {
    phone: &'p Phone,
    switch: SocketAddr,
    stream: Stream,
}

impl<'p> Talker<'p> {
    /// One whose media goes to this port.
    fn new(phone: &'p Phone, port: u16, ssrc: u32) -> Self {
        let switch = SocketAddr::new(phone.switch.ip(), port);
        Self { phone, switch, stream: Stream::new(ssrc, LEVELS[0]) }
    }

    /// Says `level` until the bot hears it.
    async fn is_heard_by(&mut self, bot: &mut bot::Stream, level: u8) {
        self.stream.level = level;
        let is_it = |sample: &i16| sample.abs_diff(ulaw_decode(level)) < 200;
        let heard = async {
            while !bot.heard().last().is_some_and(is_it) {
                bot.hear(1).await;
            }
        };
        tokio::select! {
            () = self.stream.send(&self.phone.media, self.switch, (1_000, 1)) => {
                panic!("{level:#x} is not heard")
            }
            () = heard => (),
        }
    }

    /// Is silent for a second and a half, says "ah" for as long, and so on.
    async fn speaks_now_and_then(&mut self) {
        let mut beat = interval(Duration::from_millis(20));
        for frame in 0..6_000_usize {
            beat.tick().await;
            let mut packet = self.stream.next();
            for (place, n) in packet[12..].iter_mut().zip(frame * 160..) {
                *place = ulaw_encode(sample_of_caller(n, frame % 150 >= 75));
            }
            // A port that nobody has any more makes a send fail.
            drop(self.phone.media.send_to(&packet, self.switch).await);
        }
    }

    /// Speaks until the bot, which says much, is told of it.
    async fn interrupts(&mut self, bot: &mut bot::Stream) {
        let before = bot.interrupted_at_ms.len();
        let talks = async {
            while bot.interrupted_at_ms.len() == before {
                bot.say(1_000).await;
                bot.hear(50).await;
            }
        };
        tokio::select! {
            () = self.speaks_now_and_then() => panic!("it took two minutes"),
            told = timeout(PATIENCE, talks) => assert!(told.is_ok(), "it talks on"),
        }
    }

    /// Presses 5 (RFC 4733), between words that the bot hears.
    async fn presses_beside(&mut self, bot: &mut bot::Stream) {
        self.is_heard_by(bot, LEVELS[0]).await;
        let mut beat = interval(Duration::from_millis(20));
        for (number, end) in [(1_u16, 0_u8), (2, 0), (3, 0), (3, 0x80), (3, 0x80), (3, 0x80)] {
            beat.tick().await;
            let marker: u8 = if number == 1 { 0x80 } else { 0 };
            let mut packet = vec![0x80, marker | EVENTS];
            packet.extend(self.stream.sequence.to_be_bytes());
            packet.extend(self.stream.timestamp.to_be_bytes());
            packet.extend(self.stream.ssrc.to_be_bytes());
            packet.extend([5, 10 | end]);
            packet.extend((160 * number).to_be_bytes());
            self.stream.sequence = self.stream.sequence.wrapping_add(1);
            self.phone.media.send_to(&packet, self.switch).await.unwrap();
        }
        self.stream.timestamp = self.stream.timestamp.wrapping_add(6 * 160);
        self.is_heard_by(bot, LEVELS[1]).await;
    }
}

#[tokio::test]
async fn an_agent_is_interrupted_by_whom_it_consults_and_by_its_caller_when_it_is_back() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url(), "barge_in": "flush"});
    let (node, mut target, key) = call_out::node(agent, json!({})).await;
    let ((mut phone, port, call), mut stream) = tokio::join!(talking(&node), bot.accept());
    Talker::new(&phone, port, 11).interrupts(&mut stream).await;
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
    let far_port = answer(&mut target).await.audio_port();
    Talker::new(&target, far_port, 12).interrupts(&mut stream).await;
    transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
    hear_bye(&target).await;
    Talker::new(&phone, port, 13).interrupts(&mut stream).await;
    phone.hang_up().await;
    node.record(&phone.call_id).await;
    assert!(node.metric("barge_ins_total{outcome=\"interrupted\"}").await >= 3);
    let legs = "SELECT string_agg(detail->>'leg', ' ' ORDER BY seq) FROM call_events \
                WHERE name = 'barge_in'";
    let legs = postgres::text(&node.database(), legs).await;
    let mut legs: Vec<_> = legs.split(' ').collect();
    legs.dedup();
    assert_eq!(legs, ["near", "far", "near"], "each with a clock of its own");
}

#[tokio::test]
async fn keys_that_are_not_for_an_agent_are_kept_from_it_with_whomever_it_talks() {
    for (private, expected) in [(false, "555"), (true, "")] {
        let bot = Bot::bind().await;
        let agent = json!({"kind": "twilio", "url": bot.url()});
        let more = json!({"dtmf": {"private": private}});
        let (node, mut target, key) = call_out::node(agent, more).await;
        let ((mut phone, port, call), mut stream) = tokio::join!(talking(&node), bot.accept());
        Talker::new(&phone, port, 11).presses_beside(&mut stream).await;
        transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
        let far_port = answer(&mut target).await.audio_port();
        Talker::new(&target, far_port, 12).presses_beside(&mut stream).await;
        // It comes back by a word of the agent's, or because whom it talks with leaves.
        if private {
            assert_eq!(target.ask("BYE", "", "").await.status(), 200);
        } else {
            transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
            hear_bye(&target).await;
        }
        Talker::new(&phone, port, 13).presses_beside(&mut stream).await;
        stream.hear(10).await;
        assert_eq!(stream.keys, expected, "{private}");
        phone.hang_up().await;
    }
}

#[tokio::test]
async fn an_agent_is_back_with_a_caller_on_hold_when_its_consultation_ends_and_may_hang_up() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url()});
    let (node, mut target, key) = call_out::node(agent, json!({})).await;
    let ((phone, _, call), mut stream) = tokio::join!(talking(&node), bot.accept());
    // Its first words would wait for its caller.
    stream.say(200).await;
    stream.mark("heard").await;
    stream.until_marks(1).await;
    done(&node, &key, (&call, "hold"), json!({})).await;
    agree(&phone, "a=sendonly", "a=recvonly").await;
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
    answer(&mut target).await;
    transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
    hear_bye(&target).await;
    // Its clock goes on, and what it says is over as what it says to anybody on hold.
    stream.hear(100).await;
    stream.say(200).await;
    stream.mark("said").await;
    stream.until_marks(2).await;
    stream.hear(50).await;
    stream.close(1_000).await;
    hear_bye(&phone).await;
    assert_eq!(node.record(&phone.call_id).await.ended_by, "agent");
}

#[tokio::test]
async fn a_caller_hears_music_as_long_as_its_agent_talks_with_somebody_else() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url(), "hold_music": "moments.ulaw"});
    let (node, mut target, key) = call_out::node(agent, json!({})).await;
    let folder = node.home.data_dir().join("assets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("moments.ulaw"), vec![SOUND; 8_000]).unwrap();
    let ((mut phone, port, call), mut stream) = tokio::join!(talking(&node), bot.accept());
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
    let far_port = answer(&mut target).await.audio_port();
    Talker::new(&target, far_port, 12).is_heard_by(&mut stream, LEVELS[0]).await;
    phone.drain_media_now().await;
    hears_only(&phone, SOUND, 120).await;
    transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
    hear_bye(&target).await;
    Talker::new(&phone, port, 13).is_heard_by(&mut stream, LEVELS[1]).await;
    phone.hang_up().await;
}
