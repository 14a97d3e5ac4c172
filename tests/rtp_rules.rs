//! Half an hour of media in virtual time, and every packet held against the rules that hold for the telephones of all tests:
//! what those rules say is what sessions do, through holds, keys, other codecs and late ticks.

#![allow(dead_code, unreachable_pub, reason = "the telephones use the rest")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]
#![allow(clippy::indexing_slicing, reason = "a failed check may panic")]

#[path = "support/agreed.rs"]
mod agreed;
#[path = "support/stream_rules.rs"]
mod stream_rules;

use crate::agreed::Side;
use crate::stream_rules::Streams;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tandem::audio::bridge::BridgeEnd;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::link;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::Bridged;
use tandem::media::session::MediaSession;
use tandem::media::session::Received;
use tandem::media::setup::MediaSetup;
use tandem::rtp::packet::RtpPacket;
use tandem::rtp::srtp::SrtpReceiver;
use tandem::sdp::Direction;
use tandem::sdp::MediaCrypto;
use tandem::sdp::MediaPlan;
use tandem::types::codec::Codec;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::PayloadType;
use tandem::types::codec::Ptime;
use tandem::types::moment::Moment;
use tandem::types::random::Random;
use tandem::types::srtp::SRTP_KEY_BYTES_MAX;
use tandem::types::srtp::SrtpKey;
use tandem::types::srtp::SrtpSuite;

const PEER: &str = "192.0.2.1:4000";
const SWITCH: &str = "198.51.100.7:16400";
const TICK: Duration = Duration::from_millis(20);
/// How long a key of ours lasts.
const KEY: Duration = Duration::from_millis(120);
/// Ticks of a hold. A shorter one than the ends of a key last is not heard as one.
const HOLD_TICKS: u32 = 4;
const TICKS: u32 = 6_000;

fn plan(codec: Codec, ptime: Ptime, direction: Direction) -> MediaPlan {
    let remote: SocketAddr = PEER.parse().unwrap();
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        receive_also: None,
        dtmf_send: PayloadType::new(event_type(codec.clock_rate())),
        dtmf_receive: PayloadType::new(event_type(codec.clock_rate())),
        dtmf_clock: codec.clock_rate(),
        opus: OpusTerms::default(),
        annex_b: true,
        ptime: codec.fitting(ptime),
        remote: Some(remote),
        remote_rtcp: Some(SocketAddr::new(remote.ip(), 4_001)),
        rtcp_mux: false,
        metrics_asked: false,
        direction,
        crypto: None,
    }
}

/// One number means the same as long as a session lasts (RFC 3264 §8.3.2).
fn event_type(clock: u32) -> u8 {
    100 + u8::try_from(clock / 8_000).unwrap()
}

/// The same with a peer that has events of 8 kHz alone, whatever its codec.
fn with_plain_events(plan: MediaPlan) -> MediaPlan {
    let number = PayloadType::new(event_type(8_000));
    MediaPlan { dtmf_send: number, dtmf_receive: number, dtmf_clock: 8_000, ..plan }
}

/// The same with keys, of which ours is another one in each generation.
fn encrypted(plan: MediaPlan, generation: u8) -> MediaPlan {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let key = |seed| SrtpKey::generate(suite, &[seed; SRTP_KEY_BYTES_MAX]);
    let keys = MediaCrypto { send: key(generation), receive: key(0) };
    MediaPlan { crypto: Some(Arc::new(keys)), ..plan }
}

/// One leg, and what its peer holds of it.
struct Leg {
    session: MediaSession,
    agent: AgentEnd,
    out: TickOutput,
    streams: Streams,
    /// The keys that are agreed, and what its peer decrypts with.
    crypto: Option<Arc<MediaCrypto>>,
    opens: Option<SrtpReceiver>,
    now: Moment,
    packets: u32,
    /// The clock of what it sends.
    clock: u32,
    /// Its keys are all its own, and of the length that rules say.
    keys_are_own: bool,
    key: Option<Key>,
    keys: u32,
    /// What its peer sends.
    sequence: u16,
    timestamp: u32,
}

/// The last key of ours: its stream, its time stamp, and when it began.
#[derive(Clone, Copy)]
struct Key {
    ssrc: u32,
    timestamp: u32,
    began: Moment,
}

impl Leg {
    fn new(seed: u64) -> Self {
        let (end, agent) = link();
        let now = Moment::from_millis(1_000);
        let setup = MediaSetup { playout_held: false, ..MediaSetup::new(None, seed) };
        Self {
            session: MediaSession::new(now, setup, end),
            agent,
            out: TickOutput::new(),
            streams: Streams::default(),
            crypto: None,
            opens: None,
            now,
            packets: 0,
            clock: 8_000,
            keys_are_own: true,
            key: None,
            keys: 0,
            sequence: 0,
            timestamp: 0,
        }
    }

    fn agree(&mut self, plan: &MediaPlan) {
        let (kind, codec) = (plan.send_payload_type.get(), plan.codec);
        let (name, clock) = (codec.encoding_name(), codec.clock_rate());
        let (events, of_events) = (event_type(plan.dtmf_clock), plan.dtmf_clock);
        let key = plan.crypto.as_ref().map_or_else(String::new, |keys| {
            let key = keys.send.expose_key();
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key:02x?}\r\n")
        });
        for (side, port, key) in
            [(Side::Telephone, 4_000, ""), (Side::Switch, 16_400, key.as_str())]
        {
            let message = format!(
                "INVITE sip:x SIP/2.0\r\nCall-ID: one\r\n\r\nv=0\r\n\
                 m=audio {port} RTP/AVP {kind} {events}\r\na=rtpmap:{kind} {name}/{clock}\r\n\
                 a=rtpmap:{events} telephone-event/{of_events}\r\n{key}"
            );
            self.streams.signalled(side, &message);
        }
        self.session.finish_key(plan, &mut self.out);
        self.check(None);
        self.session.update(self.now, plan, &mut self.out);
        if self.crypto != plan.crypto {
            self.crypto.clone_from(&plan.crypto);
            self.opens = plan.crypto.as_ref().map(|keys| SrtpReceiver::new(&keys.send).unwrap());
            self.streams.come_decrypted();
        }
        self.clock = clock;
    }

    fn tick(&mut self) {
        while self.agent.next().is_some() {}
        self.session.tick(self.now, &mut self.out);
        self.check(Some(self.now));
        self.now += TICK;
    }

    /// Holds what went out to the rules; what a tick sent, to its time as well.
    fn check(&mut self, tick: Option<Moment>) {
        let sent: Vec<_> = self.out.transmits().map(|(port, _, it)| (port, it.to_vec())).collect();
        self.out.clear();
        for (_, bytes) in sent.iter().filter(|(port, _)| *port == Port::Rtp) {
            self.packets += 1;
            let bytes = match &mut self.opens {
                Some(receiver) => receiver.rtp(self.now, bytes).expect("authentic RTP").to_vec(),
                None => bytes.clone(),
            };
            let verdict = self.streams.check(SWITCH.parse().unwrap(), &bytes, 0);
            verdict.unwrap_or_else(|wrong| panic!("{wrong}"));
            let packet = RtpPacket::parse(&bytes).unwrap();
            let is_key = (101..=106).contains(&packet.payload_type.get());
            if let Some(now) = tick.filter(|_| is_key && self.keys_are_own) {
                self.check_key(now, &packet);
            }
        }
    }

    /// A key of ours begins when it does, and lasts as long as that is ago, up to its end.
    fn check_key(&mut self, now: Moment, packet: &RtpPacket<'_>) {
        let per_ms = self.clock / 1_000;
        let units = |time: Duration| u32::try_from(time.as_millis()).unwrap() * per_ms;
        let RtpPacket { ssrc, timestamp, .. } = *packet;
        if packet.marker {
            if let Some(before) = self.key.filter(|before| before.ssrc == ssrc) {
                let since = units(now.since(before.began));
                assert_eq!(timestamp.wrapping_sub(before.timestamp), since, "it began at {now:?}");
            }
            self.key = Some(Key { ssrc, timestamp, began: now });
            self.keys += 1;
        }
        let key = self.key.expect("it has begun");
        let lasts = units((now.since(key.began) + TICK).min(KEY));
        let [_, flags, high, low] = *packet.payload else { panic!("{packet:?}") };
        let said = (u32::from(u16::from_be_bytes([high, low])), flags & 0x80 != 0);
        assert_eq!(said, (lasts, lasts == units(KEY)), "it began {:?}", now.since(key.began));
    }

    /// The media thread comes too late for so many ticks.
    fn late(&mut self, ticks: u32) {
        self.session.skip(u64::from(ticks));
        self.now += TICK * ticks;
    }

    /// Its peer sends a packet.
    fn hears(&mut self, kind: u8, marker: bool, payload: &[u8]) {
        let packet = RtpPacket {
            marker,
            payload_type: PayloadType::new(kind).unwrap(),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 7,
            payload,
        };
        let mut bytes = [0; 400];
        let length = packet.write(&mut bytes).unwrap();
        self.sequence = self.sequence.wrapping_add(1);
        let received =
            Received { port: Port::Rtp, source: PEER.parse().unwrap(), bytes: &bytes[..length] };
        self.session.receive(self.now, &received, &mut self.out);
    }
}

fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[usize::try_from(random.below(all.len() as u64)).unwrap()]
}

#[test]
fn holds_keys_codecs_and_late_ticks_of_a_session_keep_to_the_rules() {
    (1..=8).for_each(|seed| hold_to_the_rules(seed, false));
}

#[test]
fn an_encrypted_session_keeps_to_the_rules_through_other_keys_too() {
    (11..=14).for_each(|seed| hold_to_the_rules(seed, true));
}

fn hold_to_the_rules(seed: u64, encrypts: bool) {
    let codecs = [
        Codec::Pcmu,
        Codec::Pcma,
        Codec::G722,
        Codec::L16,
        Codec::L16Wide,
        Codec::Opus,
        Codec::Pcmu,
    ];
    let (mut leg, mut random) = (Leg::new(seed), Random::from_seed(seed));
    let mut generation = 1;
    let mut now = plan(Codec::Pcmu, Ptime::MS_20, Direction::SendReceive);
    if encrypts {
        now = encrypted(now, generation);
    }
    leg.agree(&now);
    let mut held = 0_u32;
    for _ in 0..TICKS {
        if random.below(30) == 0 {
            leg.agent.push_audio(&vec![0x25; 160 * usize::try_from(random.below(40)).unwrap()]);
        }
        if random.below(100) == 0 {
            let ptime = one_of(&mut random, &[10, 20, 30, 40, 60]);
            let codec = one_of(&mut random, &codecs);
            now = plan(codec, Ptime::from_ms(ptime).unwrap(), now.direction);
            if random.below(3) == 0 {
                now = with_plain_events(now);
            }
            if encrypts {
                generation += u8::from(random.below(3) == 0);
                now = encrypted(now, generation);
            }
            leg.agree(&now);
        }
        held = held.saturating_sub(1);
        if held == 0 && random.below(150) == 0 {
            let ways = [Direction::SendReceive, Direction::SendReceive, Direction::Inactive];
            now.direction = one_of(&mut random, &ways);
            if !now.direction.sends() {
                held = HOLD_TICKS;
            }
            leg.agree(&now);
        }
        if random.below(60) == 0 {
            for _ in 0..=random.below(3) {
                leg.session.send_digit(one_of(&mut random, &['1', '#', 'A']));
            }
        }
        if random.below(100) == 0 {
            leg.late(1 + u32::try_from(random.below(30)).unwrap());
        }
        leg.tick();
    }
    assert!(leg.packets > TICKS / 4, "{}", leg.packets);
    assert!(leg.keys > TICKS / 100, "{}", leg.keys);
    assert!(!encrypts || generation > 5, "{generation}");
}

#[test]
fn keys_and_frames_that_pass_from_one_leg_to_another_keep_to_the_rules() {
    for (seed, codec) in [(1, Codec::Pcmu), (2, Codec::Pcmu), (3, Codec::G729), (4, Codec::G729)] {
        let mut random = Random::from_seed(seed);
        let (mut near, mut far) = (Leg::new(seed), Leg::new(seed + 100));
        far.keys_are_own = false;
        let ptime = Ptime::from_ms(one_of(&mut random, &[10, 20, 30, 40])).unwrap();
        near.agree(&plan(codec, Ptime::MS_20, Direction::SendReceive));
        far.agree(&plan(codec, ptime, Direction::SendReceive));
        let (one, two) = BridgeEnd::pair();
        drop(near.session.bridge(Bridged::new(one)));
        drop(far.session.bridge(Bridged::new(two)));
        let frame = if codec == Codec::G729 { vec![7; 20] } else { vec![0x25; 160] };
        // Ticks of the key that is pressed, for how long it is down, and packets of its end that are still to come.
        let (mut key, mut down, mut ends, mut silent) = (0_u16, 0_u16, 0, 0);
        let event = |down: u16, end: u8| {
            // Some are shorter than a tick.
            let [high, low] = down.saturating_sub(120).to_be_bytes();
            [5, end | 10, high, low]
        };
        for _ in 0..TICKS {
            if random.below(200) == 0 {
                silent = random.below(60);
            }
            if random.below(100) == 0 {
                far.session.send_digit('9');
            }
            if random.below(300) == 0 {
                // The other side becomes another one, whatever key is down.
                let (one, two) = BridgeEnd::pair();
                drop(near.session.bridge(Bridged::new(one)));
                drop(far.session.bridge(Bridged::new(two)));
            }
            if key == 0 && random.below(60) == 0 {
                (key, ends) = (1 + u16::try_from(random.below(30)).unwrap(), 3);
                down = 160;
                near.hears(101, true, &event(down, 0));
            } else if key > 1 {
                key -= 1;
                down += 160;
                near.hears(101, false, &event(down, 0));
            } else if ends > 0 {
                ends -= 1;
                near.hears(101, false, &event(down + 60, 0x80));
                if ends == 0 {
                    (key, near.timestamp) = (0, near.timestamp.wrapping_add(160 * 40));
                }
            } else {
                near.timestamp = near.timestamp.wrapping_add(160);
                silent = silent.saturating_sub(1);
                // One that is lost has a number, one that was never said has none.
                match random.below(20) {
                    0 => near.sequence = near.sequence.wrapping_add(1),
                    _ if silent > 0 => {}
                    _ => near.hears(codec.payload_type().get(), false, &frame),
                }
            }
            near.tick();
            far.tick();
            if random.below(400) == 0 {
                far.late(6);
                near.now += TICK * 6;
            }
        }
        assert!(far.packets > TICKS / 4, "{codec}: {}", far.packets);
    }
}
