//! What a jitter buffer is lent of the room for payloads, and gives back.

use super::alone::Alone;
use super::slots::shares_of;
use super::*;
use crate::rtp::payloads::rooms_of;
use crate::types::codec::PayloadType;
use crate::types::limit::JITTER_PACKED_SHARES;
use crate::types::random::Random;

const TICK: Duration = Duration::from_millis(20);

fn alone(codec: Codec) -> Alone {
    let mut alone = Alone::new(JitterConfig { depth_ms: 40, codec });
    if codec.is_packed() {
        assert!(alone.equip(JitterRoom::default()).is_none());
    }
    alone
}

fn packet(number: u32, samples: u32, payload: &[u8]) -> RtpPacket<'_> {
    RtpPacket {
        marker: false,
        payload_type: PayloadType::new(0).unwrap(),
        sequence: number as u16,
        timestamp: number.wrapping_mul(samples),
        ssrc: 1,
        payload,
    }
}

fn push(alone: &mut Alone, number: u32, payload: &[u8]) {
    alone.push(Moment::START, &packet(number, 160, payload), Content::Audio);
}

#[test]
fn what_is_reserved_for_a_buffer_is_as_much_as_it_can_take() {
    for length in 1..=RTP_PACKED_BYTES_MAX {
        let further = rooms_of(length) - 1;
        assert!(2 * further < shares_of(length), "{length} bytes");
    }
    // The worst that there is: all slots, all shares, and of those as many rooms as can be.
    let mut alone = alone(Codec::L16);
    for number in 0..JITTER_SLOTS as u32 {
        let length = if number % 2 == 0 { 240 } else { 400 };
        push(&mut alone, number, &vec![number as u8; length]);
    }
    assert_eq!((usize::from(alone.shares), alone.payloads.lent()), (JITTER_PACKED_SHARES, 80));
    assert_eq!(alone.statistics().discarded, 0);
    alone.check_rooms();
}

#[test]
fn over_any_network_what_is_lent_is_what_waits_and_all_goes_back() {
    let codecs = [Codec::Pcmu, Codec::L16, Codec::L16Wide, Codec::G729];
    for seed in 0..200 {
        let mut random = Random::from_seed(seed);
        let codec = codecs[random.below(4) as usize];
        let mut alone = alone(codec);
        let mut number = 0;
        for tick in 0..300 {
            let now = Moment::START + TICK * tick;
            for _ in 0..random.below(4) {
                // Lost ones, late ones, doubled ones, and those of which there is no more in the end.
                number += random.below(3) as u32;
                let of = number.saturating_sub(random.below(8) as u32);
                let length = match codec {
                    Codec::G729 => 10 * (1 + random.below(12)),
                    Codec::Pcmu | Codec::Pcma | Codec::G722 => random.below(500),
                    Codec::Opus | Codec::L16 | Codec::L16Wide => 4 * (1 + random.below(330)),
                };
                let payload = vec![of as u8; length as usize];
                let content = match random.below(12) {
                    0 => Content::Noise,
                    1 => Content::Other,
                    _ => Content::Audio,
                };
                alone.push(now, &packet(of, 160, &payload), content);
                alone.check_rooms();
            }
            match random.below(40) {
                0 => alone.reset(),
                1 => alone.buffer.pass(&mut alone.payloads),
                2 => number += 40_000,
                _ => {
                    alone.pop(now);
                    if alone.wants_less() {
                        alone.instead();
                    }
                }
            }
            alone.check_rooms();
        }
        alone.buffer.let_go(&mut alone.payloads);
        alone.check_rooms();
        assert_eq!((alone.payloads.lent(), alone.shares, alone.buffered), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn what_is_given_back_in_the_end_changes_no_figure_and_nothing_of_it_is_played() {
    let mut alone = alone(Codec::Pcmu);
    (0..5).for_each(|number| push(&mut alone, number, &[9; 160]));
    let before = alone.statistics();
    assert_eq!(alone.payloads.lent(), 5);
    alone.buffer.let_go(&mut alone.payloads);
    assert_eq!((alone.payloads.lent(), alone.statistics()), (0, before));
    for tick in 0..100 {
        assert!(!matches!(alone.pop(Moment::START + TICK * tick), Frame::Audio(_)));
    }
}

#[test]
fn a_packet_for_which_there_is_no_room_is_lost_like_one_that_never_came_and_counted() {
    let mut alone = alone(Codec::Pcmu);
    alone.payloads = Payloads::with_room_for(0);
    push(&mut alone, 0, &[9; 160]);
    assert_eq!((alone.statistics().received, alone.statistics().discarded), (1, 1));
    alone.payloads = Payloads::with_room_for(1);
    (1..4).for_each(|number| push(&mut alone, number, &[9; 160]));
    let played: Vec<_> = (0..6)
        .map(|tick| matches!(alone.pop(Moment::START + TICK * tick), Frame::Audio(_)))
        .collect();
    assert_eq!(played, [false, false, false, true, true, true]);
    let statistics = alone.statistics();
    assert_eq!((statistics.lost, statistics.discarded), (1, 1), "{statistics:?}");
    alone.check_rooms();
}

#[test]
fn what_waits_goes_along_to_other_payloads_and_is_played_there_as_it_would_have_been_here() {
    for codec in [Codec::Pcmu, Codec::L16] {
        let factor = if codec == Codec::L16 { 2 } else { 1 };
        let run = |moves: bool| {
            let (mut alone, mut luggage) = (alone(codec), Luggage::default());
            let base = luggage.bytes.as_ptr();
            let mut heard = Vec::new();
            for tick in 0..60 {
                let now = Moment::START + TICK * tick;
                // Packets of 30 ms, which end within frames; a key among them has no payload.
                if tick % 3 != 2 {
                    let number = tick - tick / 3;
                    let payload = vec![number as u8; 240 * factor];
                    let content = if number == 9 { Content::Other } else { Content::Audio };
                    alone.push(now, &packet(number, 240, &payload), content);
                }
                heard.push(match alone.pop(now) {
                    Frame::Audio(audio) | Frame::Mixed(audio, _) => audio.to_vec(),
                    Frame::Missing | Frame::Quiet | Frame::Empty => Vec::new(),
                });
                let steps = alone.desk().map(|desk| desk.steps().to_vec());
                heard.push(format!("{steps:?}").into_bytes());
                if moves && tick % 7 == 3 {
                    let mut there = Payloads::with_room_for(1);
                    alone.buffer.pack(&mut alone.payloads, &mut luggage);
                    assert_eq!(alone.payloads.lent(), 0);
                    alone.buffer.unpack(&mut there, &luggage);
                    alone.payloads = there;
                    alone.check_rooms();
                    assert_eq!(luggage.bytes.as_ptr(), base, "nothing was allocated");
                }
            }
            (heard, alone.statistics())
        };
        assert_eq!(run(true), run(false), "{codec}");
    }
}

#[test]
fn what_finds_no_room_at_its_end_is_lost_like_what_never_came() {
    let (mut alone, mut luggage) = (alone(Codec::Pcmu), Luggage::default());
    (0..4).for_each(|number| push(&mut alone, number, &[9; 240]));
    // Part of the first one is played.
    while !matches!(alone.pop(Moment::START), Frame::Audio(_)) {}
    assert!(alone.read > 0);
    alone.buffer.pack(&mut alone.payloads, &mut luggage);
    alone.payloads = Payloads::with_room_for(0);
    let before = alone.statistics().discarded;
    alone.buffer.unpack(&mut alone.payloads, &luggage);
    assert_eq!((alone.shares, alone.buffered, alone.read), (0, 0, 0));
    assert!(alone.statistics().discarded > before);
    for tick in 0..20 {
        assert!(!matches!(alone.pop(Moment::START + TICK * tick), Frame::Audio(_)));
    }
}
