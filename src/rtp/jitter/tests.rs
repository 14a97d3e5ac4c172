//! A jitter buffer in virtual time, to the sample.

use super::alone::Alone;
use super::*;
use crate::types::codec::PayloadType;
use crate::types::random::Random;

const TICK: Duration = Duration::from_millis(20);

/// A sender whose sample number n (from its start) is the byte n mod 251, so that each byte which
/// comes out tells where it came from.
struct Peer {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    samples: usize,
}

struct Wire {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    content: Content,
    payload: Vec<u8>,
}

impl Peer {
    fn new() -> Self {
        Self { ssrc: 1, sequence: 65_530, timestamp: u32::MAX - 700, samples: FRAME_BYTES }
    }

    fn with_ptime(ms: usize) -> Self {
        Self { samples: ms * 8, ..Self::new() }
    }

    fn audio(&mut self) -> Wire {
        let start = self.timestamp.wrapping_sub(u32::MAX - 700);
        let payload = (0..self.samples as u32).map(|at| sample(start.wrapping_add(at))).collect();
        let wire = self.wire(Content::Audio, payload);
        self.timestamp = self.timestamp.wrapping_add(self.samples as u32);
        wire
    }

    fn event(&mut self) -> Wire {
        self.wire(Content::Other, vec![1, 10, 0, 160])
    }

    fn wire(&mut self, content: Content, payload: Vec<u8>) -> Wire {
        let (ssrc, sequence, timestamp) = (self.ssrc, self.sequence, self.timestamp);
        self.sequence = self.sequence.wrapping_add(1);
        Wire { ssrc, sequence, timestamp, content, payload }
    }
}

fn sample(position: u32) -> u8 {
    (position % 251) as u8
}

fn push(buffer: &mut Alone, now: Moment, wire: &Wire) {
    let packet = RtpPacket {
        marker: false,
        payload_type: PayloadType::new(0).unwrap(),
        sequence: wire.sequence,
        timestamp: wire.timestamp,
        ssrc: wire.ssrc,
        payload: &wire.payload,
    };
    buffer.push(now, &packet, wire.content);
}

fn buffer(depth_ms: u16) -> Alone {
    Alone::new(JitterConfig { depth_ms, codec: Codec::Pcmu })
}

/// One letter for each of `ticks` ticks from `now` on: Audio, part of it, Missing, Quiet or Empty.
fn pop(buffer: &mut Alone, now: Moment, ticks: u32) -> String {
    (0..ticks)
        .map(|tick| match buffer.pop(now + TICK * tick) {
            Frame::Audio(audio) => {
                assert_eq!(audio.len(), FRAME_BYTES);
                'A'
            }
            Frame::Mixed(..) => 'P',
            Frame::Missing => 'M',
            Frame::Quiet => 'Q',
            Frame::Empty => 'E',
        })
        .collect()
}

fn out_samples(statistics: &JitterStatistics) -> u64 {
    statistics.played_samples + statistics.missing_samples + statistics.quiet_samples
}

#[test]
fn it_is_small_enough_for_a_call() {
    assert!(size_of::<JitterBuffer>() <= 1_400, "{}", size_of::<JitterBuffer>());
}

#[test]
fn audio_comes_out_after_the_depth_and_in_order() {
    for depth in [0, 20, 40, 60, 200] {
        let mut buffer = buffer(depth);
        let mut peer = Peer::new();
        assert_eq!(buffer.pop(Moment::START), Frame::Empty);
        let mut position = 0;
        // Later it is cut to what this network needs.
        for tick in 0..49_u64 {
            let now = Moment::START + TICK * tick as u32;
            push(&mut buffer, now, &peer.audio());
            match buffer.pop(now) {
                Frame::Audio(audio) => {
                    assert!(tick >= u64::from(depth / 20), "depth {depth}, tick {tick}");
                    for byte in audio {
                        assert_eq!(*byte, sample(position), "depth {depth}, tick {tick}");
                        position += 1;
                    }
                }
                other => {
                    assert_eq!(other, Frame::Quiet);
                    assert!(tick < u64::from(depth / 20), "depth {depth}, tick {tick}");
                }
            }
        }
        assert_eq!(buffer.statistics().lost, 0);
        assert_eq!(buffer.statistics().dropped_samples, 0);
    }
}

#[test]
fn every_packet_time_gives_20_ms_a_tick() {
    for ptime in [10, 20, 30, 40, 60] {
        let mut buffer = buffer(40);
        let mut peer = Peer::with_ptime(ptime);
        let mut sent_ms = 0;
        let mut position = 0;
        for tick in 0..300 {
            let now = Moment::START + TICK * tick;
            while sent_ms <= tick as usize * 20 {
                push(&mut buffer, now, &peer.audio());
                sent_ms += ptime;
            }
            if let Frame::Audio(audio) = buffer.pop(now) {
                for byte in audio {
                    assert_eq!(*byte, sample(position), "ptime {ptime}, tick {tick}");
                    position += 1;
                }
            }
        }
        let statistics = buffer.statistics();
        assert!(position >= 295 * 160, "ptime {ptime}: {statistics:?}");
        assert_eq!(statistics.missing_samples, 0, "ptime {ptime}");
        assert_eq!(statistics.dropped_samples, 0, "ptime {ptime}");
        assert_eq!(out_samples(&statistics), 300 * 160);
    }
}

#[test]
fn a_lost_packet_is_missing_for_its_20_ms_and_costs_no_delay() {
    let mut buffer = buffer(40);
    let mut peer = Peer::new();
    let mut played = String::new();
    for tick in 0..12 {
        let wire = peer.audio();
        if tick != 4 && tick != 7 {
            push(&mut buffer, Moment::START + TICK * tick, &wire);
        }
        played += &pop(&mut buffer, Moment::START + TICK * tick, 1);
    }
    assert_eq!(played, "QQAAAAMAAMAA");
    assert_eq!(buffer.statistics().lost, 2);
}

#[test]
fn reordered_and_doubled_packets_are_put_right() {
    let mut buffer = buffer(60);
    let mut peer = Peer::new();
    let wires: Vec<Wire> = (0..6).map(|_| peer.audio()).collect();
    for index in [1, 0, 2, 2, 5, 4, 3, 5] {
        push(&mut buffer, Moment::START, &wires[index]);
    }
    // The first to come was the second of the stream: its delay is that of the one before it.
    assert_eq!(pop(&mut buffer, Moment::START, 9), "QQAAAAAAM");
    let statistics = buffer.statistics();
    assert_eq!((statistics.duplicate, statistics.lost, statistics.late), (2, 0, 0));
}

#[test]
fn a_late_packet_is_late_once_and_then_a_duplicate() {
    let mut buffer = buffer(0);
    let mut peer = Peer::new();
    let late = peer.audio();
    let first = peer.audio();
    let lost = peer.audio();
    push(&mut buffer, Moment::START, &first);
    assert_eq!(pop(&mut buffer, Moment::START, 1), "A");
    push(&mut buffer, Moment::START, &peer.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 2), "MA");
    assert_eq!(buffer.statistics().lost, 1);
    push(&mut buffer, Moment::START, &lost);
    push(&mut buffer, Moment::START, &lost);
    push(&mut buffer, Moment::START, &first);
    push(&mut buffer, Moment::START, &late);
    let statistics = buffer.statistics();
    assert_eq!((statistics.lost, statistics.late, statistics.duplicate), (0, 2, 2));
}

#[test]
fn a_burst_after_a_stall_is_played_and_its_delay_taken_back() {
    let mut buffer = buffer(40);
    let mut peer = Peer::new();
    let mut held = Vec::new();
    let mut played = String::new();
    for tick in 0..400 {
        let now = Moment::START + TICK * tick;
        let wire = peer.audio();
        if (50..54).contains(&tick) {
            held.push(wire);
        } else {
            for wire in held.drain(..) {
                push(&mut buffer, now, &wire);
            }
            push(&mut buffer, now, &wire);
        }
        played += &pop(&mut buffer, Moment::START + TICK * tick, 1);
    }
    assert_eq!(played.get(48..60), Some("AAAAMMAAAAAA"));
    let statistics = buffer.statistics();
    assert_eq!(statistics.lost, 0, "{statistics:?}");
    // Two frames of delay were added, of which one is over the depth and a frame.
    assert!((160..=320).contains(&statistics.dropped_samples), "{statistics:?}");
    assert!(buffer.level_ms() <= 60, "{}", buffer.level_ms());
}

#[test]
fn more_than_the_slots_hold_drops_the_oldest() {
    let mut buffer = buffer(40);
    let mut peer = Peer::new();
    for _ in 0..40 {
        push(&mut buffer, Moment::START, &peer.audio());
    }
    // Of packets of 20 ms the shares are fewer.
    assert_eq!(buffer.statistics().discarded, 22);
    assert_eq!(pop(&mut buffer, Moment::START, 4), "AAAM");
    assert!(buffer.statistics().dropped_samples > 0);
}

#[test]
fn long_packets_that_take_all_shares_drop_the_oldest_and_are_played_whole() {
    let mut buffer = buffer(40);
    let mut peer = Peer::with_ptime(60);
    let mut wires: Vec<Wire> = (0..9).map(|_| peer.audio()).collect();
    let early = wires.remove(2);
    for wire in &wires {
        push(&mut buffer, Moment::START, wire);
    }
    let statistics = buffer.statistics();
    assert_eq!((statistics.discarded, buffer.level_ms()), (2, 360));
    // There is no room for one that all the others follow.
    push(&mut buffer, Moment::START, &early);
    let statistics = buffer.statistics();
    assert_eq!((statistics.discarded, statistics.late, buffer.level_ms()), (3, 0, 360));
    let Frame::Audio(audio) = buffer.pop(Moment::START) else { panic!("no audio") };
    let first = audio[0];
    let follows = |at: usize| (usize::from(first) + at) % 251;
    assert!((0..FRAME_BYTES).all(|at| usize::from(audio[at]) == follows(at)), "{audio:?}");
    assert!(buffer.statistics().dropped_samples > 0);
}

#[test]
fn the_clock_drift_of_a_peer_adds_no_delay() {
    // 1 % fast: two seconds of audio too many in 200 s.
    let mut buffer = buffer(40);
    let mut peer = Peer::new();
    let mut sent = 0;
    for tick in 0..10_000_u32 {
        while sent * 198 <= tick * 200 {
            push(&mut buffer, Moment::START + TICK * tick, &peer.audio());
            sent += 1;
        }
        pop(&mut buffer, Moment::START + TICK * tick, 1);
        assert!(buffer.level_ms() <= 120, "tick {tick}: {}", buffer.level_ms());
    }
    let statistics = buffer.statistics();
    assert_eq!(statistics.missing_samples, 0);
    assert!(statistics.dropped_samples > 90 * 160, "{statistics:?}");
}

#[test]
fn a_dtmf_event_is_a_pause_and_no_loss() {
    let mut buffer = buffer(40);
    let mut peer = Peer::new();
    let mut played = String::new();
    for tick in 0..20 {
        let wire = if (6..12).contains(&tick) {
            peer.event()
        } else {
            if tick == 12 {
                peer.timestamp = peer.timestamp.wrapping_add(6 * 160);
            }
            peer.audio()
        };
        push(&mut buffer, Moment::START + TICK * tick, &wire);
        played += &pop(&mut buffer, Moment::START + TICK * tick, 1);
    }
    assert_eq!(played, "QQAAAAAAQQQQQQAAAAAA");
    assert_eq!(buffer.statistics().lost, 0);
    assert_eq!(buffer.statistics().missing_samples, 0);
}

#[test]
fn silence_suppression_costs_no_delay_and_a_stopped_clock_is_primed_anew() {
    for clock_stops in [false, true] {
        let mut buffer = buffer(40);
        let mut peer = Peer::new();
        let mut played = String::new();
        for tick in 0..50 {
            if (10..30).contains(&tick) {
                if !clock_stops {
                    peer.timestamp = peer.timestamp.wrapping_add(160);
                }
            } else {
                push(&mut buffer, Moment::START + TICK * tick, &peer.audio());
            }
            played += &pop(&mut buffer, Moment::START + TICK * tick, 1);
        }
        let (before, after) = played.split_at(12);
        let (pause, after) = after.split_at(20);
        assert_eq!(before, "QQAAAAAAAAAA", "clock stops: {clock_stops}");
        assert!(!pause.contains('A'), "clock stops: {clock_stops}");
        assert_eq!(after, "A".repeat(18), "clock stops: {clock_stops}");
        assert_eq!(buffer.statistics().lost, 0);
    }
}

#[test]
fn another_stream_is_followed_from_its_second_packet() {
    let mut buffer = buffer(0);
    let mut peer = Peer::new();
    let mut other = Peer { ssrc: 2, sequence: 7, timestamp: 99, samples: FRAME_BYTES };
    push(&mut buffer, Moment::START, &peer.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 1), "A");
    push(&mut buffer, Moment::START, &other.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 1), "M");
    push(&mut buffer, Moment::START, &other.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 1), "A");
    push(&mut buffer, Moment::START, &peer.audio());
    push(&mut buffer, Moment::START, &other.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 1), "A");
    assert_eq!(buffer.statistics().restarts, 1);
    assert_eq!(buffer.statistics().discarded, 2);
}

#[test]
fn a_peer_that_kept_its_ssrc_though_another_was_expected_is_not_left_for_a_stray_packet() {
    let mut buffer = buffer(0);
    let mut peer = Peer::new();
    let mut other = Peer { ssrc: 2, sequence: 7, timestamp: 99, samples: FRAME_BYTES };
    for tick in 0..600 {
        if tick == 1 {
            buffer.expect_another();
        }
        let now = Moment::START + TICK * tick;
        push(&mut buffer, now, &peer.audio());
        pop(&mut buffer, now, 1);
    }
    assert_eq!(buffer.statistics().discarded, 0);
    let now = Moment::START + TICK * 600;
    push(&mut buffer, now, &other.audio());
    push(&mut buffer, now, &peer.audio());
    assert_eq!((buffer.statistics().discarded, buffer.statistics().restarts), (1, 0));
}

#[test]
fn of_two_streams_that_come_side_by_side_one_is_followed_until_it_ends() {
    let mut buffer = buffer(0);
    let mut peer = Peer::new();
    let mut other = Peer { ssrc: 2, sequence: 7, timestamp: 99, samples: FRAME_BYTES };
    for tick in 0..40 {
        let now = Moment::START + TICK * tick;
        push(&mut buffer, now, &peer.audio());
        push(&mut buffer, now, &other.audio());
        assert_eq!(pop(&mut buffer, now, 1), "A", "tick {tick}");
    }
    assert_eq!((buffer.statistics().discarded, buffer.statistics().restarts), (40, 0));
    let mut played = String::new();
    for tick in 40..60 {
        let now = Moment::START + TICK * tick;
        push(&mut buffer, now, &other.audio());
        played += &pop(&mut buffer, now, 1);
    }
    // It waits first as long as this network needs.
    assert!(played.ends_with(&"A".repeat(12)), "{played}");
    assert_eq!((buffer.statistics().discarded, buffer.statistics().restarts), (40, 1));
}

#[test]
fn a_jump_of_number_or_clock_restarts_the_stream() {
    let mut buffer = buffer(20);
    let mut peer = Peer::new();
    let mut played = String::new();
    for tick in 0..30 {
        if tick == 10 {
            peer.sequence = peer.sequence.wrapping_add(20_000);
            peer.timestamp = peer.timestamp.wrapping_sub(1_000_000);
        }
        if tick == 20 {
            peer.timestamp = peer.timestamp.wrapping_add(3_000_000);
        }
        push(&mut buffer, Moment::START + TICK * tick, &peer.audio());
        played += &pop(&mut buffer, Moment::START + TICK * tick, 1);
    }
    // The first packet after the jump is not believed; the second begins a stream, with its delay. A
    // mere jump of the clock is played through.
    assert_eq!(played, "QAAAAAAAAAAQAAAAAAAAAAAAAAAAAA");
    assert_eq!(buffer.statistics().restarts, 1);
}

#[test]
fn a_stream_that_ended_is_empty_after_a_second() {
    let mut buffer = buffer(0);
    push(&mut buffer, Moment::START, &Peer::new().audio());
    assert_eq!(pop(&mut buffer, Moment::START, 53), format!("A{}EE", "M".repeat(50)));
    buffer.reset();
    assert_eq!(pop(&mut buffer, Moment::START, 1), "E");
}

#[test]
fn a_payload_that_is_too_long_is_dropped_and_an_empty_one_is_a_pause() {
    let mut buffer = buffer(0);
    let mut peer = Peer::with_ptime(70);
    push(&mut buffer, Moment::START, &peer.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 1), "E");
    assert_eq!(buffer.statistics().discarded, 1);
    let mut empty = Peer::with_ptime(0);
    push(&mut buffer, Moment::START, &empty.audio());
    assert_eq!(pop(&mut buffer, Moment::START, 2), "QQ");
}

#[test]
fn a_frame_in_which_a_pause_begins_is_filled_with_silence() {
    let mut buffer = buffer(0);
    let mut peer = Peer::with_ptime(10);
    push(&mut buffer, Moment::START, &peer.audio());
    push(&mut buffer, Moment::START, &peer.event());
    let Frame::Mixed(audio, parts) = buffer.pop(Moment::START) else { panic!("no audio") };
    let half = |origin| Part { origin, samples: 80 };
    assert_eq!(parts.all(), [half(Origin::Audio), half(Origin::Quiet)]);
    assert!(audio[..80].iter().enumerate().all(|(at, byte)| *byte == sample(at as u32)));
    assert!(audio[80..].iter().all(|byte| *byte == 0xff));
}

#[test]
fn over_any_network_what_comes_out_is_the_time_that_passed_and_in_order() {
    for seed in 0..300 {
        let mut random = Random::from_seed(seed);
        let ptime = [10, 20, 30, 40, 60][random.below(5) as usize];
        let mut buffer = buffer([0, 20, 40, 80][random.below(4) as usize]);
        let mut peer = Peer::with_ptime(ptime);
        let (loss, double, wobble) = (random.below(20), random.below(10), 1 + random.below(90));
        let mut flying: Vec<(u64, Wire)> = Vec::new();
        let (mut sent_ms, mut last, mut lost) = (0, None::<u64>, 0_u64);
        for tick in 0..1000_u64 {
            while sent_ms <= tick * 20 {
                let wire = peer.audio();
                if random.below(100) < loss {
                    lost += 1;
                } else {
                    for _ in 0..=u64::from(random.below(100) < double) {
                        let payload = wire.payload.clone();
                        let again = Wire { payload, ..wire };
                        flying.push((sent_ms + random.below(wobble), again));
                    }
                }
                sent_ms += ptime as u64;
            }
            let (here, later) = flying.into_iter().partition(|(at, _)| *at <= tick * 20);
            flying = later;
            for (_, wire) in here {
                push(&mut buffer, Moment::from_millis(tick * 20), &wire);
            }
            buffer.pop(Moment::from_millis(tick * 20));
            // Order: the playing sequence number never goes back.
            if !buffer.unplayed {
                assert!(last.is_none_or(|last| buffer.due >= last), "seed {seed}");
                last = Some(buffer.due);
            }
            assert_eq!(out_samples(&buffer.statistics()), (tick + 1) * 160, "seed {seed}");
        }
        let statistics = buffer.statistics();
        assert!(statistics.lost <= lost + statistics.discarded + 4, "{seed}: {statistics:?}");
        assert!(statistics.lost + 6 >= lost, "{seed}: {lost} lost, {statistics:?}");
        let bytes: u32 =
            buffer.slots.iter().filter(|slot| slot.used).map(|slot| u32::from(slot.length)).sum();
        assert_eq!(bytes, buffer.buffered + buffer.read as u32, "seed {seed}");
        buffer.check_rooms();
    }
}
