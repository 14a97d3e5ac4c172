//! Whose key goes out: one of ours, or one that is passed on. Who is in the middle of one goes on, and the other waits
//! until its end was told: a stream has one event at a time (RFC 4733 §2.5.1.4).

use crate::rtp::dtmf::EventPacket;
use crate::rtp::dtmf::Relay;
use crate::rtp::dtmf::Sender;

/// The packet that takes the place of this tick's audio, whose time stamp would be `timestamp`; `None` if audio goes
/// out. Of those that wait, ours go first.
pub fn next_packet(
    ours: &mut Sender,
    relay: Option<&mut Relay>,
    timestamp: u32,
) -> Option<EventPacket> {
    match in_turn(ours, relay) {
        Some(relay) => relay.tick(timestamp),
        None => ours.tick(timestamp),
    }
}

/// The key whose tone is heard in this tick, for a peer that takes no events.
pub fn next_tone(ours: &mut Sender, relay: Option<&mut Relay>) -> Option<char> {
    match in_turn(ours, relay) {
        Some(relay) => relay.tone(),
        None => ours.tone(),
    }
}

/// Ends the key that goes out where it is, because its stream does. Returns the packet that says so, and how often it is
/// still to be sent; `None`: nothing need be said. Keys that wait go out by the next stream.
pub fn break_off(ours: &mut Sender, relay: Option<&mut Relay>) -> Option<(EventPacket, u8)> {
    let own = ours.abandon();
    let passed = relay.and_then(Relay::abandon);
    own.or(passed)?.break_off()
}

/// Has `ours` tell the end of the key that is passed on, because nothing more is known of it.
pub fn take_over(ours: &mut Sender, relay: &mut Relay) {
    if let Some(telling) = relay.abandon() {
        ours.end(telling);
    }
}

/// What passes keys on, if it is its turn.
fn in_turn<'a>(ours: &Sender, relay: Option<&'a mut Relay>) -> Option<&'a mut Relay> {
    let relay = relay?;
    if ours.is_busy() {
        relay.give_way();
    }
    (relay.is_sending() || (relay.is_busy() && !ours.is_busy())).then_some(relay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::dtmf::DtmfEvent;
    use crate::rtp::dtmf::KeyState;
    use crate::rtp::dtmf::Receiver;
    use crate::rtp::packet::RtpPacket;
    use crate::types::codec::PayloadType;
    use crate::types::moment::Moment;
    use std::time::Duration;

    fn key(press: u32, digit: char, units: u32, released: bool) -> KeyState {
        KeyState { press, digit, units, released }
    }

    /// What a peer hears in 20 ms after 20 ms, and whether each event was ended before the next began.
    struct Peer {
        receiver: Receiver,
        heard: Vec<DtmfEvent>,
        open: Option<(u32, u16)>,
        now: Moment,
        timestamp: u32,
    }

    impl Peer {
        fn new() -> Self {
            let (receiver, now) = (Receiver::new(8_000), Moment::START);
            Self { receiver, heard: Vec::new(), open: None, now, timestamp: 5_000 }
        }

        fn hear(&mut self, packet: EventPacket) {
            let [_, flags, high, low] = packet.payload;
            let duration = u16::from_be_bytes([high, low]);
            match self.open {
                Some((began, shown)) => {
                    assert_eq!((packet.timestamp, packet.marker), (began, false), "cut off");
                    assert!(duration >= shown);
                }
                // The repetitions of an end.
                None if !packet.marker => assert_ne!(flags & 0x80, 0),
                None => assert_eq!(packet.timestamp, self.timestamp),
            }
            let is_open = flags & 0x80 == 0;
            self.open = is_open.then_some((packet.timestamp, duration));
            let packet = RtpPacket {
                marker: packet.marker,
                payload_type: PayloadType::new(101).unwrap(),
                sequence: 0,
                timestamp: packet.timestamp,
                ssrc: 1,
                payload: &packet.payload,
            };
            self.receiver.receive(self.now, &packet, |event| self.heard.push(event));
        }

        fn tick(&mut self, ours: &mut Sender, relay: &mut Relay) {
            if let Some(packet) = next_packet(ours, Some(relay), self.timestamp) {
                self.hear(packet);
            } else {
                assert_eq!(self.open, None, "audio within an event");
            }
            self.timestamp += 160;
            self.now += Duration::from_millis(20);
        }

        fn keys(&self) -> Vec<(char, u32)> {
            let ended = self.heard.iter().filter_map(|event| match event {
                DtmfEvent::Ended { digit, units, .. } => Some((*digit, *units)),
                DtmfEvent::Started(_) => None,
            });
            ended.collect()
        }
    }

    #[test]
    fn a_key_that_goes_out_is_ended_before_another_begins() {
        for at in 0..12 {
            for pressed in 0..12 {
                let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
                let mut peer = Peer::new();
                for tick in 0..60_u32 {
                    if tick == at {
                        assert!(ours.push('9') && ours.push('8'));
                    }
                    if let Some(down) = (tick + 1).checked_sub(pressed).filter(|down| *down < 7) {
                        assert!(relay.press(key(1, '5', down * 160, down == 6)));
                    }
                    peer.tick(&mut ours, &mut relay);
                }
                let mut keys = peer.keys();
                let at_ours: Vec<_> = keys.iter().filter(|(digit, _)| *digit != '5').collect();
                assert_eq!(at_ours, [&('9', 800), &('8', 800)], "{at} {pressed}");
                keys.retain(|(digit, _)| *digit == '5');
                assert_eq!(keys, [('5', 960)], "{at} {pressed}");
                assert!(!ours.is_busy() && !relay.is_sending());
            }
        }
    }

    #[test]
    fn keys_that_wait_for_ours_are_passed_on_as_long_as_they_were_pressed() {
        let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
        let mut peer = Peer::new();
        "123456".chars().for_each(|digit| assert!(ours.push(digit)));
        for press in 1..=4 {
            relay.press(key(press, 'A', 100 * press, true));
        }
        (0..120).for_each(|_| peer.tick(&mut ours, &mut relay));
        let keys = peer.keys();
        assert_eq!(keys[..6].iter().map(|(digit, _)| digit).collect::<String>(), "123456");
        assert_eq!(keys[6..], [('A', 100), ('A', 200), ('A', 300), ('A', 400)]);
    }

    #[test]
    fn a_key_that_is_held_down_for_ever_gives_way_after_five_seconds() {
        let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
        let mut peer = Peer::new();
        for tick in 1..=400 {
            relay.press(key(1, '5', tick * 160, false));
            if tick == 10 {
                assert!(ours.push('9'));
            }
            peer.tick(&mut ours, &mut relay);
        }
        assert_eq!(peer.keys(), [('5', 40_000), ('9', 800)]);
        // Where nobody waits it lasts as long as it likes.
        let (mut ours, mut relay, mut peer) =
            (Sender::new(8_000, 100, 80), Relay::default(), Peer::new());
        for tick in 1..=400 {
            relay.press(key(1, '5', tick * 160, tick == 400));
            peer.tick(&mut ours, &mut relay);
        }
        assert_eq!(peer.keys(), [('5', 64_000)]);
    }

    #[test]
    fn tones_of_one_are_not_cut_off_by_the_other_either() {
        for at in 0..12 {
            let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
            let mut tones = Vec::new();
            for tick in 0..50_u32 {
                if tick == at {
                    assert!(ours.push('9'));
                }
                if (3..9).contains(&tick) {
                    relay.press(key(1, '5', (tick - 2) * 160, tick == 8));
                }
                tones.push(next_tone(&mut ours, Some(&mut relay)));
            }
            let runs: Vec<_> = tones.chunk_by(|one, two| one == two).collect();
            let mut keys: Vec<_> =
                runs.iter().filter_map(|run| Some((run[0]?, run.len()))).collect();
            keys.sort_unstable();
            assert_eq!(keys, [('5', 6), ('9', 5)], "{at}");
        }
    }

    #[test]
    fn the_key_of_a_stream_that_ends_is_ended_by_it_and_those_that_wait_are_not_lost() {
        for (passed, sent) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
            let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
            let mut peer = Peer::new();
            if passed {
                relay.press(key(1, '5', sent * 160, false));
                relay.set_clock(1);
            } else {
                assert!(ours.push('5'));
            }
            (0..sent).for_each(|_| peer.tick(&mut ours, &mut relay));
            assert!(ours.push('9'));
            let (packet, times) = break_off(&mut ours, Some(&mut relay)).unwrap();
            assert_eq!(times, 3);
            peer.hear(packet);
            assert_eq!(peer.keys(), [('5', (sent * 160).max(320))], "{passed} {sent}");
            assert!(break_off(&mut ours, Some(&mut relay)).is_none(), "nothing goes out now");
            if passed {
                relay.press(key(1, '5', 1_600, true));
            }
            (0..40).for_each(|_| peer.tick(&mut ours, &mut relay));
            assert_eq!(peer.keys()[1..], [('9', 800)], "late news of it begin nothing");
        }
    }

    #[test]
    fn the_key_of_a_bridge_that_is_gone_is_ended() {
        let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
        let mut peer = Peer::new();
        relay.press(key(1, '5', 160, false));
        (0..3).for_each(|_| peer.tick(&mut ours, &mut relay));
        assert!(ours.push('9'));
        take_over(&mut ours, &mut relay);
        take_over(&mut ours, &mut relay);
        let mut gone = Relay::default();
        (0..40).for_each(|_| peer.tick(&mut ours, &mut gone));
        assert_eq!(peer.keys(), [('5', 320), ('9', 800)]);
        // One that gave way to ours when its end was told once does not come back.
        let (mut ours, mut relay) = (Sender::new(8_000, 100, 80), Relay::default());
        let mut peer = Peer::new();
        for tick in 1..=4 {
            relay.press(key(1, '5', tick * 160, tick == 4));
            peer.tick(&mut ours, &mut relay);
        }
        assert!(ours.push('9'));
        relay.press(key(2, '6', 160, false));
        (0..2).for_each(|_| peer.tick(&mut ours, &mut relay));
        take_over(&mut ours, &mut relay);
        (0..40).for_each(|_| peer.tick(&mut ours, &mut gone));
        assert_eq!(peer.keys(), [('5', 640), ('9', 800)]);
    }
}
