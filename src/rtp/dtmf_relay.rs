//! Telephone events passed on from one leg to another (RFC 4733), as long as they were pressed.
#![warn(clippy::indexing_slicing)]

use crate::rtp::dtmf::EventPacket;
use crate::rtp::dtmf::event_of;
use crate::rtp::dtmf_telling::Telling;
use crate::types::limit::RELAYED_KEYS_MAX;

/// Ticks without news after which a key is taken for released: its leg is gone.
const NEWS_TICKS_MAX: u32 = 10;

/// Units of a tick of 20 ms at 8 kHz.
const TICK_UNITS: u32 = 160;

/// How long a key is down, in units of 8 kHz, that gives way to others which wait for its end: 5 s, the longest of ours.
const GIVES_WAY_UNITS: u32 = 40_000;

/// Ticks without a tone between two of those a peer hears in place of events (ITU-T Q.24: 40 ms).
const TONE_GAP_TICKS: u32 = 2;
/// The shortest of them: 40 ms.
const TONE_TICKS_MIN: u32 = 2;

/// A key press on another leg, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Counts the presses of that leg; wraps.
    pub press: u32,
    /// The key.
    pub digit: char,
    /// How long it is down so far, in units of 8 kHz.
    pub units: u32,
    /// It was released; `units` is how long it was down.
    pub released: bool,
}

/// Keys that wait, in the order in which they were pressed.
#[derive(Clone, Copy, Debug)]
pub struct KeyQueue {
    keys: [KeyState; RELAYED_KEYS_MAX],
    count: usize,
}

impl Default for KeyQueue {
    fn default() -> Self {
        let none = KeyState { press: 0, digit: ' ', units: 0, released: false };
        Self { keys: [none; RELAYED_KEYS_MAX], count: 0 }
    }
}

impl KeyQueue {
    /// Takes news of a key: of one that waits, or of another, before which all that wait were released. False when
    /// there is no room for that.
    pub fn take(&mut self, key: KeyState) -> bool {
        let waiting = self.keys.get_mut(..self.count).unwrap_or_default();
        if let Some(known) = waiting.iter_mut().find(|known| known.press == key.press) {
            known.hear(key);
            return true;
        }
        waiting.iter_mut().for_each(|before| before.released = true);
        let Some(place) = self.keys.get_mut(self.count) else { return false };
        *place = key;
        self.count += 1;
        true
    }

    /// The first of them, which waits no longer.
    pub fn pop(&mut self) -> Option<KeyState> {
        let first = self.first()?;
        self.keys.rotate_left(1);
        self.count -= 1;
        Some(first)
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> Option<KeyState> {
        self.keys.get(..self.count)?.first().copied()
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl KeyState {
    fn hear(&mut self, news: Self) {
        if !self.released {
            self.units = self.units.max(news.units);
            self.released = news.released;
        }
    }
}

/// Sends the keys of another leg, one packet a tick, in place of audio. The event that goes out lasts as
/// long as the one that came in, to the unit.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    current: Option<Sending>,
    /// Keys pressed before the end of this one was said.
    waiting: KeyQueue,
    /// The last press that is over: late news of it begin nothing.
    over: Option<u32>,
    /// Units of the clock that goes out in one of 8 kHz; 0: one.
    factor: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    key: KeyState,
    telling: Telling,
    /// Ticks of its tone, and of the gap after it, where that is what its peer hears.
    sounded: u32,
    paused: u32,
    /// Ticks since there was news of the key.
    silent_ticks: u32,
}

impl Relay {
    /// What goes out has a clock of so many times 8 kHz.
    pub const fn set_clock(&mut self, factor: u32) {
        self.factor = factor;
    }

    /// Takes news of a key; false when too many wait. What is no key changes nothing.
    pub fn press(&mut self, key: KeyState) -> bool {
        if event_of(key.digit).is_none() || self.over == Some(key.press) {
            return true;
        }
        match &mut self.current {
            Some(sending) if sending.key.press == key.press => {
                sending.heard(key);
                return true;
            }
            // A press that follows before the end of this one came: that is its end.
            Some(sending) => sending.key.released = true,
            None => (),
        }
        self.waiting.take(key)
    }

    /// Whether a key is being sent, or waits.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// Whether a key is being sent whose end was not told yet.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.current
            .is_some_and(|sending| !self.is_over(&sending) && sending.paused < TONE_GAP_TICKS)
    }

    /// Others wait for the end of the key that is being sent: one that is held down for ever ends here, and the rest of
    /// it is not told.
    pub(super) const fn give_way(&mut self) {
        if let Some(sending) = &mut self.current {
            sending.key.released |= sending.key.units >= GIVES_WAY_UNITS;
        }
    }

    /// Says no more of the key that is under way, and gives back what was told of it. Others wait as they did.
    pub(super) fn abandon(&mut self) -> Option<Telling> {
        let sending = self.current?;
        let is_over = self.is_over(&sending);
        self.over = Some(sending.key.press);
        self.current = None;
        // By tones nothing is told.
        Some(sending.telling).filter(|telling| telling.is_begun() && !is_over)
    }

    /// Forgets all keys, for nobody is to hear them. What is still told of the last begins nothing.
    pub fn forget(&mut self) {
        let under_way = self.current.take().map(|sending| sending.key.press);
        let last = std::iter::from_fn(|| self.waiting.pop()).last();
        self.over = last.map(|key| key.press).or(under_way).or(self.over);
    }

    /// The key whose tone is heard in this tick, for a peer that hears tones alone. Each lasts as long as it was
    /// pressed.
    pub fn tone(&mut self) -> Option<char> {
        if self.current.is_none_or(|sending| sending.paused >= TONE_GAP_TICKS) {
            self.go_on(0);
        }
        self.current.as_mut()?.tone()
    }

    /// The packet that takes the place of this tick's audio, whose time stamp would be `timestamp`;
    /// `None` if audio goes out.
    pub fn tick(&mut self, timestamp: u32) -> Option<EventPacket> {
        if self.current.is_none_or(|sending| self.is_over(&sending)) {
            self.go_on(timestamp);
        }
        let factor = self.factor.max(1);
        Some(self.current.as_mut()?.packet(factor))
    }

    const fn is_over(&self, sending: &Sending) -> bool {
        // The repetitions of an end give way to the next key, but not all that is said of one.
        let gives_way = sending.telling.may_give_way() && !self.waiting.is_empty();
        sending.telling.is_told() || gives_way
    }

    /// Begins the next key, if there is one.
    fn go_on(&mut self, timestamp: u32) {
        self.over = self.current.map(|sending| sending.key.press).or(self.over);
        let tick = TICK_UNITS * self.factor.max(1);
        self.current = self.waiting.pop().and_then(|key| Sending::new(key, timestamp, tick));
    }
}

impl Sending {
    fn new(key: KeyState, timestamp: u32, tick: u32) -> Option<Self> {
        let tick = u16::try_from(tick).unwrap_or(u16::MAX);
        let telling = Telling::new(event_of(key.digit)?, timestamp, tick);
        Some(Self { key, telling, sounded: 0, paused: 0, silent_ticks: 0 })
    }

    fn heard(&mut self, key: KeyState) {
        self.silent_ticks = 0;
        self.key.hear(key);
    }

    fn pass(&mut self) {
        self.silent_ticks += 1;
        self.key.released |= self.silent_ticks > NEWS_TICKS_MAX;
    }

    /// The key while its tone is heard, and nothing for the gap after it.
    fn tone(&mut self) -> Option<char> {
        self.pass();
        let lasts = self.key.units.div_ceil(TICK_UNITS).max(TONE_TICKS_MIN);
        if self.key.released && self.sounded >= lasts {
            self.paused += 1;
            return None;
        }
        self.sounded += 1;
        Some(self.key.digit)
    }

    fn packet(&mut self, factor: u32) -> EventPacket {
        self.pass();
        self.telling.packet(self.key.units.saturating_mul(factor), self.key.released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::dtmf::DtmfEvent;
    use crate::rtp::dtmf::Receiver;
    use crate::rtp::dtmf_telling::END_PACKETS;
    use crate::rtp::dtmf_telling::VOLUME;
    use crate::rtp::packet::RtpPacket;
    use crate::types::codec::PayloadType;
    use crate::types::moment::Moment;
    use std::time::Duration;

    fn key(press: u32, digit: char, units: u32, released: bool) -> KeyState {
        KeyState { press, digit, units, released }
    }

    /// What a peer hears of the packets of so many ticks, with what is told before each of them.
    fn heard(relay: &mut Relay, ticks: usize, news: &[(usize, KeyState)]) -> Vec<DtmfEvent> {
        let mut receiver = Receiver::new(8_000);
        let mut events = Vec::new();
        for tick in 0..ticks {
            for (_, key) in news.iter().filter(|(at, _)| *at == tick) {
                relay.press(*key);
            }
            let now = Moment::START + Duration::from_millis(20 * tick as u64);
            if let Some(packet) = relay.tick(tick as u32 * 160) {
                let packet = RtpPacket {
                    marker: packet.marker,
                    payload_type: PayloadType::new(101).unwrap(),
                    sequence: tick as u16,
                    timestamp: packet.timestamp,
                    ssrc: 1,
                    payload: &packet.payload,
                };
                receiver.receive(now, &packet, |event| events.push(event));
            }
            receiver.expire(now, |event| events.push(event));
        }
        events
    }

    fn ended(digit: char, units: u32) -> DtmfEvent {
        DtmfEvent::Ended { digit, duration_ms: units / 8, units }
    }

    #[test]
    fn a_key_lasts_as_long_as_it_was_pressed_to_the_unit() {
        for units in [1, 320, 804, 1_600, 0xffff] {
            let mut news: Vec<_> = (0..units / 160)
                .map(|tick| (tick as usize, key(1, '5', (tick + 1) * 160, false)))
                .collect();
            let last = news.len();
            news.push((last, key(1, '5', units, true)));
            let events = heard(&mut Relay::default(), last + 20, &news);
            assert_eq!(events, [DtmfEvent::Started('5'), ended('5', units)], "{units}");
        }
    }

    #[test]
    fn a_short_key_is_never_said_to_have_lasted_longer_than_in_the_end() {
        for (factor, news) in [(1, [40, 80, 100]), (6, [40, 80, 100]), (1, [0, 0, 30])] {
            let mut relay = Relay::default();
            relay.set_clock(factor);
            let mut told = Vec::new();
            for (tick, units) in (0..).zip(news) {
                relay.press(key(1, '5', units, tick == 2));
                told.extend(relay.tick(tick * 160));
            }
            told.extend((3..9).map_while(|tick| relay.tick(tick * 160)));
            let durations =
                told.iter().map(|it| u16::from_be_bytes([it.payload[2], it.payload[3]]));
            let durations: Vec<_> = durations.map(u32::from).collect();
            assert!(durations.is_sorted(), "{durations:?}");
            assert_eq!(durations[2..], [news[2] * factor; 3]);
        }
    }

    #[test]
    fn an_end_is_said_three_times_and_then_audio_goes_on() {
        let mut relay = Relay::default();
        relay.press(key(1, '#', 800, true));
        let packets: Vec<_> = (0..6).map_while(|tick| relay.tick(tick * 160)).collect();
        assert_eq!(packets.len(), 3);
        assert_eq!(
            packets.iter().map(|packet| packet.marker).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert!(packets.iter().all(|packet| packet.payload == [11, 0x80 | VOLUME, 3, 0x20]));
        assert!(packets.iter().all(|packet| packet.timestamp == 0));
        assert!(!relay.is_busy());
    }

    #[test]
    fn a_long_press_goes_on_in_segments() {
        let mut news: Vec<_> =
            (0..1_000).map(|tick| (tick, key(1, 'A', tick as u32 * 160, false))).collect();
        news.push((1_000, key(1, 'A', 160_003, true)));
        let events = heard(&mut Relay::default(), 1_020, &news);
        assert_eq!(events, [DtmfEvent::Started('A'), ended('A', 160_003)]);
    }

    #[test]
    fn keys_that_follow_each_other_are_told_apart() {
        let news = [
            (0, key(1, '1', 160, false)),
            (2, key(1, '1', 480, true)),
            // The same key again, before the repetitions of its end are through.
            (3, key(2, '1', 160, false)),
            (5, key(2, '1', 500, true)),
            // Another one whose predecessor's end was lost.
            (9, key(3, '2', 160, false)),
            (11, key(4, '3', 160, false)),
            (12, key(4, '3', 240, true)),
        ];
        let events = heard(&mut Relay::default(), 40, &news);
        let expected = [
            DtmfEvent::Started('1'),
            ended('1', 480),
            DtmfEvent::Started('1'),
            ended('1', 500),
            DtmfEvent::Started('2'),
            ended('2', 160),
            DtmfEvent::Started('3'),
            ended('3', 240),
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn the_repeated_end_of_a_long_key_gives_way_to_the_next() {
        let mut relay = Relay::default();
        relay.press(key(1, '1', 160, false));
        (0..5).for_each(|tick| assert!(relay.tick(tick * 160).is_some()));
        relay.press(key(1, '1', 960, true));
        relay.press(key(2, '2', 160, false));
        let events: Vec<_> = (5..8).filter_map(|tick| relay.tick(tick * 160)).collect();
        let told: Vec<_> = events.iter().map(|packet| (packet.payload[0], packet.marker)).collect();
        assert_eq!(told, [(1, false), (2, true), (2, false)], "its end is said once");
    }

    #[test]
    fn a_key_whose_leg_is_gone_is_released() {
        let events = heard(&mut Relay::default(), 40, &[(0, key(1, '9', 320, false))]);
        assert_eq!(events, [DtmfEvent::Started('9'), ended('9', 320)]);
        let late = [(0, key(1, '9', 320, false)), (30, key(1, '9', 480, true))];
        let events = heard(&mut Relay::default(), 40, &late);
        assert_eq!(events, [DtmfEvent::Started('9'), ended('9', 320)]);
        let mut relay = Relay::default();
        relay.press(key(1, 'x', 320, false));
        assert!(!relay.is_busy());
    }

    #[test]
    fn for_a_peer_without_events_there_is_the_tone_alone() {
        let mut relay = Relay::default();
        relay.press(key(1, '7', 320, false));
        assert_eq!(relay.tone(), Some('7'));
        relay.press(key(1, '7', 480, true));
        let tones: Vec<_> = (0..7).map(|_| relay.tone()).collect();
        assert_eq!(
            tones,
            [Some('7'), Some('7'), None, None, None, None, None],
            "as long as it was"
        );
        assert!(!relay.is_busy());
    }

    #[test]
    fn keys_that_come_all_at_once_are_all_sent_one_after_the_other() {
        let keys: Vec<_> = "159#0*7A842".chars().collect();
        let news = (1..).zip(&keys).map(|(press, digit)| (0, key(press, *digit, 640, true)));
        let news: Vec<_> = news.collect();
        let expected =
            keys.iter().flat_map(|digit| [DtmfEvent::Started(*digit), ended(*digit, 640)]);
        let expected: Vec<_> = expected.collect();
        assert_eq!(heard(&mut Relay::default(), 60, &news), expected);
        // One packet of each key may be lost.
        let mut relay = Relay::default();
        news.iter().for_each(|(_, key)| assert!(relay.press(*key)));
        let packets: Vec<_> = (0..60).map_while(|tick| relay.tick(tick * 160)).collect();
        assert_eq!(packets.len(), keys.len() * END_PACKETS as usize);
        // And by tones, of 80 ms with gaps between them.
        let mut relay = Relay::default();
        news.iter().for_each(|(_, key)| assert!(relay.press(*key)));
        let tones: Vec<_> = (0..100).map(|_| relay.tone()).collect();
        let sounding: Vec<_> = tones.chunk_by(|one, two| one == two).collect();
        let lengths: Vec<_> = sounding.iter().map(|run| (run[0], run.len())).collect();
        for (at, digit) in keys.iter().enumerate() {
            assert_eq!(lengths[2 * at], (Some(*digit), 4), "{lengths:?}");
            assert!(lengths[2 * at + 1].0.is_none() && lengths[2 * at + 1].1 >= 2, "{lengths:?}");
        }
    }

    #[test]
    fn the_release_of_a_key_that_waits_is_its_own() {
        let news = [
            (0, key(1, '1', 160, false)),
            (0, key(2, '2', 160, false)),
            (0, key(2, '2', 800, true)),
            (1, key(3, '3', 320, true)),
            (1, key(3, '3', 320, true)),
        ];
        let expected = [
            DtmfEvent::Started('1'),
            ended('1', 160),
            DtmfEvent::Started('2'),
            ended('2', 800),
            DtmfEvent::Started('3'),
            ended('3', 320),
        ];
        assert_eq!(heard(&mut Relay::default(), 40, &news), expected);
        // One that waits and whose release was lost went up when the next was pressed: it holds nobody up.
        let mut relay = Relay::default();
        for news in [key(1, '1', 160, true), key(2, '2', 480, false), key(3, '3', 320, true)] {
            assert!(relay.press(news));
        }
        let packets = (0..60).map_while(|tick| relay.tick(tick * 160)).count();
        assert_eq!(packets, 3 * END_PACKETS as usize);
        let mut relay = Relay::default();
        let taken = (0..100).filter(|press| relay.press(key(*press, '4', 160, true))).count();
        assert_eq!(taken, RELAYED_KEYS_MAX);
        assert!(relay.press(key(3, '4', 320, true)), "news of one that waits");
    }
}
