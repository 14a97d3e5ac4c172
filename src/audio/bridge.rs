//! The bridge between two media sessions: what each hears of its peer goes to the other, frame by frame.
//!
//! Each way is a ring with one producer and one consumer, so that the sessions may run on different media
//! threads. Both tick every 20 ms by the same clock: a frame put in is taken out in the other's next tick,
//! and one may wait longer when a thread came late. Neither end allocates or frees.

use crate::audio::frame::Encoded;
use crate::audio::frame::SILENCE;
use crate::audio::passed::Passed;
use crate::audio::ringback::RingbackForm;
use crate::audio::sound::Sound;
use crate::types::limit::BRIDGE_FRAMES_MAX;
use crate::types::limit::BRIDGE_WAITING_MAX;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// 20 ms of one side of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it goes through a ring, and nothing may allocate for it"
)]
pub enum BridgeItem {
    /// Audio as it came, so that legs of the same codec pass it on untouched.
    Audio(Sound),
    /// Audio of a codec that only passes, for a leg of the same.
    Passed(Passed),
    /// A key is down, or was released.
    Key(BridgeKey),
}

/// A key press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeKey {
    /// Counts the presses of its session; wraps.
    pub press: u32,
    /// The key.
    pub digit: char,
    /// How long it is down so far, in samples.
    pub samples: u32,
    /// It was released.
    pub released: bool,
}

/// What a session that waits for somebody to talk with plays to its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Comfort noise.
    #[default]
    Noise,
    /// The tone of a telephone that rings at the other end.
    Ringback(&'static RingbackForm),
    /// The same until the agent may be heard: what that says already waits.
    Connecting(&'static RingbackForm),
    /// The same after a moment of comfort noise, in which many an agent connects.
    Starting(&'static RingbackForm),
    /// Comfort noise until the agent may be heard: what that says already waits.
    Quiet,
}

/// Where music is put once it was read: µ-law at 8 kHz, of which many may have the same.
pub type MusicPlace = Arc<OnceLock<Arc<[u8]>>>;

/// Music that goes on for ever, for those who wait.
#[derive(Debug)]
struct Music {
    place: MusicPlace,
    at: usize,
}

impl Music {
    /// The next 20 ms; `None` before there is any.
    fn frame(&mut self) -> Option<Encoded> {
        let audio = self.place.get()?;
        let mut frame = SILENCE;
        for place in &mut frame {
            let Some(byte) = audio.get(self.at).or_else(|| audio.first()) else { break };
            *place = *byte;
            self.at = if self.at < audio.len() { self.at + 1 } else { 1 };
        }
        Some(frame)
    }
}

/// One session's end of a bridge.
#[derive(Debug)]
pub struct BridgeEnd {
    out: Option<Producer<BridgeItem>>,
    into: Option<Consumer<BridgeItem>>,
    waiting: Waiting,
    music: Option<Music>,
    /// What passed in the tick that was heard last.
    passed: Option<Passed>,
    /// Whether who hears what goes out, and this end itself, make use of 16 kHz.
    out_is_wide: Arc<AtomicBool>,
    into_is_wide: Arc<AtomicBool>,
}

impl BridgeEnd {
    /// A bridge by which both hear each other.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (speaker, mut one) = Self::one_way();
        let (two, listener) = Self::one_way();
        one.out = two.out;
        one.out_is_wide = two.out_is_wide;
        (one, Self { out: speaker.out, out_is_wide: speaker.out_is_wide, ..listener })
    }

    /// A bridge by which the second hears the first, and the first nobody.
    #[must_use]
    pub fn one_way() -> (Self, Self) {
        let (out, into) = RingBuffer::new(BRIDGE_FRAMES_MAX);
        let speaker = Self { out: Some(out), ..Self::nowhere(Waiting::Noise) };
        let mut listener = Self { into: Some(into), ..Self::nowhere(Waiting::Noise) };
        listener.into_is_wide = Arc::clone(&speaker.out_is_wide);
        (speaker, listener)
    }

    /// A bridge to nobody: its session plays `waiting`.
    #[must_use]
    pub fn nowhere(waiting: Waiting) -> Self {
        let (out_is_wide, into_is_wide) = (Arc::default(), Arc::default());
        let (out, into, music, passed) = (None, None, None, None);
        Self { out, into, waiting, music, passed, out_is_wide, into_is_wide }
    }

    /// The same, and it plays what is in `place` again and again instead, from the moment it is there.
    #[must_use]
    pub fn to_music(place: MusicPlace) -> Self {
        Self { music: Some(Music { place, at: 0 }), ..Self::nowhere(Waiting::Noise) }
    }

    /// The next 20 ms of its music.
    pub fn music(&mut self) -> Option<Encoded> {
        self.music.as_mut().and_then(Music::frame)
    }

    /// What is played while there is nothing to hear.
    #[must_use]
    pub const fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// Says whether this end makes use of 16 kHz.
    pub fn hears_wide(&self, wide: bool) {
        self.into_is_wide.store(wide, Ordering::Relaxed);
    }

    /// Whether who hears this end makes use of 16 kHz.
    #[must_use]
    pub fn is_heard_wide(&self) -> bool {
        self.out_is_wide.load(Ordering::Relaxed)
    }

    /// Passes on 20 ms; false when the other side takes nothing and they were dropped. With nobody to
    /// hear them they are dropped too, which is as it should be.
    pub fn say(&mut self, item: BridgeItem) -> bool {
        self.out.as_mut().is_none_or(|out| out.push(item).is_ok())
    }

    /// The next 20 ms of the other side; `None` when there is nothing. News of keys go to `pressed`; an
    /// item that only tells of a release takes no time, and what waits too long is dropped.
    pub fn hear(&mut self, mut pressed: impl FnMut(BridgeKey)) -> Option<Sound> {
        self.passed = None;
        let into = self.into.as_mut()?;
        loop {
            let late = into.slots() > BRIDGE_WAITING_MAX;
            match into.pop().ok()? {
                BridgeItem::Audio(sound) if !late => return Some(sound),
                BridgeItem::Passed(passed) if !late => {
                    self.passed = Some(passed);
                    return None;
                }
                BridgeItem::Audio(_) | BridgeItem::Passed(_) => (),
                BridgeItem::Key(key) => {
                    pressed(key);
                    if !key.released && !late {
                        return None;
                    }
                }
            }
        }
    }
}

impl BridgeEnd {
    /// What of the 20 ms heard last is of a codec that only passes.
    pub const fn take_passed(&mut self) -> Option<Passed> {
        self.passed.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::types::codec::Law;

    fn audio(level: u8) -> BridgeItem {
        BridgeItem::Audio(Sound::Law(Law::A, [level; FRAME_SAMPLES]))
    }

    fn key(samples: u32, released: bool) -> BridgeKey {
        BridgeKey { press: 1, digit: '5', samples, released }
    }

    fn heard(end: &mut BridgeEnd) -> Option<u8> {
        end.hear(|_| ()).map(|sound| {
            let Sound::Law(Law::A, frame) = sound else { panic!("{sound:?}") };
            frame[0]
        })
    }

    #[test]
    fn each_hears_the_other_in_order() {
        let (mut one, mut two) = BridgeEnd::pair();
        for level in 0..50 {
            assert!(one.say(audio(level)) && two.say(audio(100 + level)));
            assert_eq!((heard(&mut two), heard(&mut one)), (Some(level), Some(100 + level)));
            assert_eq!((heard(&mut two), heard(&mut one)), (None, None));
        }
    }

    #[test]
    fn music_goes_on_for_ever_without_a_gap() {
        let place = MusicPlace::default();
        let mut end = BridgeEnd::to_music(Arc::clone(&place));
        assert_eq!(end.music(), None, "it is still read");
        place.set((0..250).map(|n| n as u8).collect()).expect("once");
        let heard: Vec<u8> = (0..10).filter_map(|_| end.music()).flatten().collect();
        let expected: Vec<u8> = (0..250).map(|n| n as u8).cycle().take(1_600).collect();
        assert_eq!(heard, expected);
        assert_eq!(BridgeEnd::nowhere(Waiting::Noise).music(), None);
        assert_eq!(
            BridgeEnd::to_music(Arc::new(OnceLock::from(Arc::from([])))).music(),
            Some(SILENCE)
        );
    }

    #[test]
    fn each_knows_whether_the_other_makes_use_of_16_khz() {
        let (one, two) = BridgeEnd::pair();
        two.hears_wide(true);
        assert_eq!((one.is_heard_wide(), two.is_heard_wide()), (true, false));
        one.hears_wide(true);
        two.hears_wide(false);
        assert_eq!((one.is_heard_wide(), two.is_heard_wide()), (false, true));
        let (speaker, listener) = BridgeEnd::one_way();
        listener.hears_wide(true);
        assert_eq!((speaker.is_heard_wide(), listener.is_heard_wide()), (true, false));
    }

    #[test]
    fn what_waits_longer_than_a_tick_is_dropped() {
        let (mut speaker, mut listener) = BridgeEnd::one_way();
        for level in 0..5 {
            assert!(speaker.say(audio(level)));
        }
        assert_eq!(heard(&mut listener), Some(3), "and one more may wait");
        assert!(speaker.say(audio(5)));
        assert_eq!([heard(&mut listener), heard(&mut listener)], [Some(4), Some(5)]);
        for _ in 0..BRIDGE_FRAMES_MAX {
            assert!(speaker.say(audio(0)));
        }
        assert!(!speaker.say(audio(0)), "a listener that stands still fills nothing else");
        assert!(listener.say(audio(0)), "to nobody");
        assert_eq!(heard(&mut speaker), None);
    }

    #[test]
    fn a_release_takes_no_time_and_is_never_dropped() {
        let (mut speaker, mut listener) = BridgeEnd::one_way();
        let mut keys = Vec::new();
        speaker.say(BridgeItem::Key(key(160, false)));
        assert_eq!(listener.hear(|key| keys.push(key)), None);
        speaker.say(BridgeItem::Key(key(240, true)));
        speaker.say(audio(9));
        assert!(listener.hear(|key| keys.push(key)).is_some());
        for samples in [160, 320] {
            speaker.say(BridgeItem::Key(key(samples, false)));
        }
        speaker.say(BridgeItem::Key(key(400, true)));
        speaker.say(audio(1));
        speaker.say(audio(2));
        assert!(listener.hear(|key| keys.push(key)).is_some());
        let told: Vec<_> = keys.iter().map(|key| (key.samples, key.released)).collect();
        assert_eq!(told, [(160, false), (240, true), (160, false), (320, false), (400, true)]);
    }
}
