//! The tape: what a media session gives to whoever records it.
//!
//! One ring with one producer and one consumer, and the time the session has reached. The session's end
//! neither blocks, allocates nor frees; what does not fit is left out and told as a gap, so that all after it
//! stays where it belongs. Silence is not put on the tape: where nothing is, nothing was heard.

use crate::types::codec::Law;
use crate::types::limit::TAPE_TICKS_MAX;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Bytes of sound in one item: 20 ms of G.711 or G.722, 5 ms of linear audio at 16 kHz.
pub const TAPE_BYTES: usize = 160;

/// Samples of one channel in a second, as the session has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeRate {
    /// 8 kHz.
    Narrow,
    /// 16 kHz.
    Wide,
}

impl TapeRate {
    /// Samples in a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
        }
    }

    /// Samples for each at 8 kHz.
    #[must_use]
    pub const fn factor(self) -> usize {
        match self {
            Self::Narrow => 1,
            Self::Wide => 2,
        }
    }

    /// Samples in a tick of 20 ms.
    #[must_use]
    pub const fn tick_samples(self) -> u64 {
        self.hz() as u64 / 50
    }

    /// Items that a tape holds. In a tick both sides are three at most at 8 kHz, where what is sent may be linear, and
    /// eight at 16 kHz, where what is heard is too.
    #[must_use]
    pub const fn items_max(self) -> usize {
        match self {
            Self::Narrow => 3 * TAPE_TICKS_MAX,
            Self::Wide => 8 * TAPE_TICKS_MAX,
        }
    }
}

/// Whose sound it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeSide {
    /// The peer's, after the jitter buffer: the left channel.
    Heard,
    /// What was sent to it: the right channel.
    Sent,
}

/// How sound is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeForm {
    /// G.711: at 8 kHz, whatever the tape's rate.
    Law(Law),
    /// G.722, one packet after the other: at 16 kHz, whatever the tape's rate.
    G722,
    /// 16-bit samples at the tape's rate, the lesser byte first.
    Linear,
    /// 16-bit samples at this rate, the greater byte first, as packets of L16 have them.
    L16(TapeRate),
    /// A part of a packet of Opus; the rest follows.
    OpusPart,
    /// The last part of one, or all of it.
    Opus,
}

impl TapeForm {
    /// Samples of a tape that so many bytes are.
    #[must_use]
    pub const fn samples(self, bytes: usize, rate: TapeRate) -> usize {
        match self {
            Self::Law(_) | Self::G722 => bytes * rate.factor(),
            Self::Linear => bytes / 2,
            Self::L16(own) => bytes / 2 * rate.factor() / own.factor(),
            // That stands in the packet, and is told beside it.
            Self::OpusPart | Self::Opus => 0,
        }
    }

    /// Bytes that so many samples of a tape are.
    const fn bytes(self, samples: usize, rate: TapeRate) -> usize {
        match self {
            Self::Law(_) | Self::G722 => samples.div_ceil(rate.factor()),
            Self::Linear => samples.saturating_mul(2),
            Self::L16(own) => samples.saturating_mul(own.factor()).div_ceil(rate.factor()) * 2,
            Self::OpusPart | Self::Opus => 0,
        }
    }
}

/// A piece of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeSound {
    /// Whose it is.
    pub side: TapeSide,
    /// Where its first sample is, in samples since the tape began.
    pub at: u64,
    form: TapeForm,
    length: u8,
    bytes: [u8; TAPE_BYTES],
}

impl TapeSound {
    fn of(side: TapeSide, at: u64, form: TapeForm, piece: &[u8]) -> Self {
        let mut sound = Self { side, at, form, length: 0, bytes: [0; TAPE_BYTES] };
        for (to, byte) in sound.bytes.iter_mut().zip(piece) {
            *to = *byte;
            sound.length += 1;
        }
        sound
    }

    /// How it is written down.
    #[must_use]
    pub const fn form(&self) -> TapeForm {
        self.form
    }

    /// As it was written down.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What stands on a tape. Places are in samples since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeItem {
    /// Sound.
    Sound(TapeSound),
    /// What was here is lost: nobody took the tape's items, or the session's thread came too late.
    Gap {
        /// Where it begins.
        from: u64,
        /// Where it ends.
        until: u64,
    },
    /// From here on nothing is recorded.
    Paused(u64),
    /// From here on it is again.
    Resumed(u64),
}

#[derive(Debug, Default)]
struct Progress {
    /// How far the session got.
    at: AtomicU64,
    /// A gap at the end, which no item tells of.
    gap_from: AtomicU64,
    gap_until: AtomicU64,
    is_over: AtomicBool,
}

/// The session's end of a tape.
#[derive(Debug)]
pub struct TapeIn {
    ring: Producer<TapeItem>,
    progress: Arc<Progress>,
    rate: TapeRate,
    at: u64,
    paused: bool,
    /// Where it went on after its last pause: what is before that is not recorded, however late it comes.
    resumed_at: u64,
    /// Whether the reader knows it.
    told_paused: bool,
    missed: Option<(u64, u64)>,
}

/// The recorder's end of a tape.
#[derive(Debug)]
pub struct TapeOut {
    ring: Consumer<TapeItem>,
    progress: Arc<Progress>,
    rate: TapeRate,
}

/// Ends a tape whose session's thread may never do so.
#[derive(Debug)]
pub struct TapeStop(Arc<Progress>);

impl TapeStop {
    /// Nothing of what may still be put on the tape is wanted: the reader finds it over.
    pub fn stop(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// A tape at its beginning.
#[must_use]
pub fn tape(rate: TapeRate) -> (TapeIn, TapeOut) {
    let (producer, consumer) = RingBuffer::new(rate.items_max());
    let progress = Arc::new(Progress::default());
    let into = TapeIn {
        ring: producer,
        progress: Arc::clone(&progress),
        rate,
        at: 0,
        paused: false,
        resumed_at: 0,
        told_paused: false,
        missed: None,
    };
    (into, TapeOut { ring: consumer, progress, rate })
}

impl TapeIn {
    /// What ends it from elsewhere.
    #[must_use]
    pub fn stopped_by(&self) -> TapeStop {
        TapeStop(Arc::clone(&self.progress))
    }

    /// Puts sound on the tape whose first sample is so many samples after this tick's, or before it. What would
    /// be before the tape's beginning, or within a pause, is left out.
    pub fn sound(&mut self, side: TapeSide, after: i64, form: TapeForm, bytes: &[u8]) {
        if self.paused {
            return;
        }
        let begins = self.at.cast_signed().saturating_add(after);
        let from = self.recorded_from(form);
        let early = from.cast_signed().saturating_sub(begins);
        let early = usize::try_from(early).unwrap_or(0);
        let bytes = bytes.get(form.bytes(early, self.rate)..).unwrap_or_default();
        let mut at = from.max(u64::try_from(begins).unwrap_or(0));
        for piece in bytes.chunks(TAPE_BYTES) {
            let sound = TapeSound::of(side, at, form, piece);
            let samples = form.samples(piece.len(), self.rate) as u64;
            self.push(TapeItem::Sound(sound), (at, at + samples));
            at += samples;
        }
    }

    /// Puts a packet of Opus on the tape, of so many samples of it. One that begins before the tape does, or within a pause,
    /// is left out: what follows is decoded without it.
    pub fn opus(&mut self, side: TapeSide, after: i64, samples: u64, bytes: &[u8]) {
        let from = self.recorded_from(TapeForm::Opus);
        let at = self.at.checked_add_signed(after).filter(|at| !self.paused && *at >= from);
        let Some(at) = at else { return };
        let mut pieces = bytes.chunks(TAPE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let form = if pieces.peek().is_some() { TapeForm::OpusPart } else { TapeForm::Opus };
            let sound = TapeItem::Sound(TapeSound::of(side, at, form, piece));
            self.push(sound, (at, at + samples));
        }
    }

    /// The first sample of sound in this form that may be recorded: filters and codecs give back what they were given a
    /// little later, so that what they say first after a pause is of the pause.
    const fn recorded_from(&self, form: TapeForm) -> u64 {
        if self.resumed_at == 0 {
            return 0;
        }
        let delay_ms = match form {
            TapeForm::Law(_) | TapeForm::Linear => 0,
            TapeForm::L16(_) | TapeForm::G722 => 2,
            // Its predictor rings on.
            TapeForm::OpusPart | TapeForm::Opus => 30,
        };
        self.resumed_at + self.rate.hz() as u64 * delay_ms / 1_000
    }

    /// Samples in a second.
    #[must_use]
    pub const fn rate(&self) -> TapeRate {
        self.rate
    }

    /// True when the reader took all there was.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.ring.slots() == self.rate.items_max()
    }

    /// Nothing is put on the tape from this tick on, or it is again.
    pub const fn pause(&mut self, paused: bool) {
        if self.paused && !paused {
            self.resumed_at = self.at;
        }
        self.paused = paused;
    }

    /// A tick is over.
    pub fn pass(&mut self) {
        self.tell_pause();
        self.tell_missed();
        self.at += self.rate.tick_samples();
        self.progress.at.store(self.at, Ordering::Release);
    }

    /// So many ticks were left out.
    pub fn skip(&mut self, ticks: u64) {
        self.tell_pause();
        let until = self.at.saturating_add(ticks.saturating_mul(self.rate.tick_samples()));
        if !self.paused {
            self.miss((self.at, until));
        }
        self.tell_missed();
        self.at = until;
        self.progress.at.store(self.at, Ordering::Release);
    }

    /// Nothing follows: the reader finds the tape over, even if it takes a while until this end is freed.
    pub fn finish(&mut self) {
        if let Some((from, until)) = self.missed.take() {
            self.progress.gap_from.store(from, Ordering::Relaxed);
            self.progress.gap_until.store(until, Ordering::Relaxed);
        }
        self.progress.is_over.store(true, Ordering::Release);
    }

    /// Tells of a pause before anything after it; one that finds no room is told a tick later.
    fn tell_pause(&mut self) {
        if self.paused != self.told_paused {
            let item =
                if self.paused { TapeItem::Paused(self.at) } else { TapeItem::Resumed(self.at) };
            if self.ring.push(item).is_ok() {
                self.told_paused = self.paused;
            }
        }
    }

    fn push(&mut self, item: TapeItem, place: (u64, u64)) {
        self.tell_pause();
        self.tell_missed();
        if self.missed.is_some() || self.ring.push(item).is_err() {
            self.miss(place);
        }
    }

    fn miss(&mut self, (from, until): (u64, u64)) {
        self.missed = Some(match self.missed {
            Some((first, last)) => (first.min(from), last.max(until)),
            None => (from, until),
        });
    }

    fn tell_missed(&mut self) {
        if let Some((from, until)) = self.missed
            && self.ring.push(TapeItem::Gap { from, until }).is_ok()
        {
            self.missed = None;
        }
    }
}

impl Drop for TapeIn {
    fn drop(&mut self) {
        self.finish();
    }
}

impl TapeOut {
    /// Samples in a second.
    #[must_use]
    pub const fn rate(&self) -> TapeRate {
        self.rate
    }

    /// True when nothing follows but what is on the tape already. To be asked before [`Self::reached`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.is_over.load(Ordering::Acquire)
    }

    /// How far the session got. All it put on the tape before that is there already, but for sound of up to a
    /// packet's time before it.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.progress.at.load(Ordering::Acquire)
    }

    /// The next item.
    pub fn next_item(&mut self) -> Option<TapeItem> {
        self.ring.pop().ok()
    }

    /// The gap at the end of a tape that is over.
    #[must_use]
    pub fn last_gap(&self) -> Option<(u64, u64)> {
        let until = self.progress.gap_until.load(Ordering::Relaxed);
        (until > 0).then(|| (self.progress.gap_from.load(Ordering::Relaxed), until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: TapeForm = TapeForm::Law(Law::Mu);
    const ITEMS: usize = TapeRate::Narrow.items_max();

    fn items(out: &mut TapeOut) -> Vec<TapeItem> {
        std::iter::from_fn(|| out.next_item()).collect()
    }

    fn places(out: &mut TapeOut) -> Vec<(TapeSide, u64, usize)> {
        let place = |item| match item {
            TapeItem::Sound(sound) => (sound.side, sound.at, sound.bytes().len()),
            other => panic!("{other:?}"),
        };
        items(out).into_iter().map(place).collect()
    }

    #[test]
    fn a_tape_whose_thread_hangs_is_over_where_that_got_to() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        let stop = into.stopped_by();
        into.sound(TapeSide::Sent, 0, LAW, &[1; 160]);
        into.pass();
        assert!(!out.is_over());
        stop.stop();
        assert!(out.is_over());
        assert_eq!((out.reached(), items(&mut out).is_empty()), (160, false));
        assert_eq!(out.last_gap(), None);
        // It goes on after all, and nobody reads.
        drop(out);
        into.sound(TapeSide::Sent, 0, LAW, &[1; 160]);
        into.pass();
    }

    #[test]
    fn sound_stands_where_it_belongs() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        into.sound(TapeSide::Sent, -40, LAW, &[1; 240]);
        into.pass();
        into.sound(TapeSide::Heard, 0, LAW, &[2; 160]);
        into.sound(TapeSide::Sent, -80, LAW, &[3; 240]);
        into.sound(TapeSide::Sent, 80, LAW, &[4; 80]);
        into.pass();
        let expected = [
            (TapeSide::Sent, 0, 160),
            (TapeSide::Sent, 160, 40),
            (TapeSide::Heard, 160, 160),
            (TapeSide::Sent, 80, 160),
            (TapeSide::Sent, 240, 80),
            (TapeSide::Sent, 240, 80),
        ];
        assert_eq!(places(&mut out), expected);
        assert_eq!(out.reached(), 320);
    }

    #[test]
    fn linear_sound_is_told_in_pieces_that_fit() {
        let (mut into, mut out) = tape(TapeRate::Wide);
        let bytes: Vec<u8> = (0..320_i16).flat_map(i16::to_le_bytes).collect();
        into.pass();
        into.sound(TapeSide::Heard, 0, TapeForm::Linear, &bytes);
        let mut samples = Vec::new();
        for (index, item) in items(&mut out).into_iter().enumerate() {
            let TapeItem::Sound(sound) = item else { panic!("sound") };
            assert_eq!(sound.at, 320 + 80 * index as u64);
            samples
                .extend(sound.bytes().as_chunks::<2>().0.iter().map(|it| i16::from_le_bytes(*it)));
        }
        assert_eq!(samples, (0..320).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_on_the_tape_while_it_is_paused() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        into.pause(true);
        for _ in 0..3 {
            into.sound(TapeSide::Heard, 0, LAW, &[1; 160]);
            into.pass();
        }
        into.pause(false);
        into.sound(TapeSide::Heard, 0, LAW, &[1; 160]);
        let items = items(&mut out);
        assert_eq!(items[..2], [TapeItem::Paused(0), TapeItem::Resumed(480)]);
        assert!(matches!(items[2..], [TapeItem::Sound(TapeSound { at: 480, .. })]));
        assert_eq!(out.reached(), 480);
    }

    #[test]
    fn a_tape_holds_two_and_a_half_seconds_in_whatever_form_they_are() {
        for (rate, heard, sent) in [
            (TapeRate::Narrow, (LAW, 160), (TapeForm::L16(TapeRate::Narrow), 320)),
            (TapeRate::Wide, (TapeForm::Linear, 640), (TapeForm::L16(TapeRate::Wide), 640)),
        ] {
            let (mut into, mut out) = tape(rate);
            for _ in 0..125 {
                into.sound(TapeSide::Heard, 0, heard.0, &vec![1; heard.1]);
                into.sound(TapeSide::Sent, 0, sent.0, &vec![1; sent.1]);
                into.pass();
            }
            assert_eq!(places(&mut out).len(), 125 * rate.items_max() / TAPE_TICKS_MAX, "no gap");
            assert_eq!(out.reached(), 125 * rate.tick_samples());
        }
    }

    #[test]
    fn a_packet_that_began_in_a_pause_is_recorded_from_its_end_on() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        into.pause(true);
        (0..10).for_each(|_| into.pass());
        into.pause(false);
        // 60 ms, of which the last 20 are of this tick.
        into.sound(TapeSide::Sent, -320, LAW, &[[1; 160], [2; 160], [3; 160]].concat());
        into.opus(TapeSide::Sent, -160, 320, &[4; 100]);
        into.opus(TapeSide::Sent, 0, 160, &[5; 100]);
        into.pass();
        into.pass();
        into.opus(TapeSide::Sent, 0, 160, &[6; 100]);
        let sounds: Vec<_> = items(&mut out)
            .into_iter()
            .filter_map(|item| match item {
                TapeItem::Sound(sound) => Some((sound.at, sound.bytes().to_vec())),
                _ => None,
            })
            .collect();
        assert_eq!(sounds, [(1_600, vec![3; 160]), (1_920, vec![6; 100])]);
    }

    #[test]
    fn what_finds_no_room_is_a_gap_and_what_follows_stays_in_place() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        let ticks = ITEMS as u64 + 10;
        for _ in 0..ticks {
            into.sound(TapeSide::Heard, 0, LAW, &[1; 160]);
            into.pass();
        }
        let full = 160 * ITEMS as u64;
        assert_eq!(places(&mut out).len(), ITEMS);
        into.sound(TapeSide::Heard, 0, LAW, &[2; 160]);
        into.pass();
        let items = items(&mut out);
        assert_eq!(items[0], TapeItem::Gap { from: full, until: full + 1_600 });
        assert!(
            matches!(items[1..], [TapeItem::Sound(TapeSound { at, .. })] if at == full + 1_600)
        );
        into.skip(4);
        let gap = TapeItem::Gap { from: full + 1_760, until: full + 2_400 };
        assert_eq!(super::tests::items(&mut out), [gap]);
    }

    #[test]
    fn a_gap_at_the_end_is_told_by_the_end() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        for _ in 0..ITEMS + 1 {
            into.sound(TapeSide::Sent, 0, LAW, &[1; 160]);
            into.pass();
        }
        assert!(!out.is_over());
        assert_eq!(out.last_gap(), None);
        drop(into);
        assert!(out.is_over());
        assert_eq!(items(&mut out).len(), ITEMS);
        let full = 160 * ITEMS as u64;
        assert_eq!(out.last_gap(), Some((full, full + 160)));
    }
}
