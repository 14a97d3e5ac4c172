//! How long packets wait in a jitter buffer: as long as nearly all need, shorter again only slowly.
#![warn(clippy::indexing_slicing)]

use crate::rtp::delay::DELAY_MS_MAX;
use crate::rtp::delay::DelayEstimate;
use crate::rtp::jitter::JitterBuffer;
use crate::types::moment::Moment;

/// Shortest wait that is aimed at, in ms: what the beat of a busy machine may take.
const DELAY_MS_MIN: u16 = 20;

/// A frame, in µs.
const FRAME_US: i64 = 20_000;
/// More than this must be too much before a frame is left out, so that it is not soon put in again.
const MARGIN_US: i64 = 2_000;
/// So much must be too much before sound is cut: less is borne.
const CUT_US: i64 = 2 * FRAME_US + MARGIN_US;
/// Less than this is not too little: a bin of the estimate.
const SHORT_US: i64 = 5_000;
/// Ticks over which the shortest wait is observed.
const WINDOW_TICKS: u32 = 25;
/// Ticks between two frames that are left out of silence.
const QUIET_TICKS: u32 = 5;
/// Ticks for which silence is waited for, before a frame is cut out of sound.
const PATIENCE_TICKS: u32 = 50;
/// Ticks between two such cuts.
const CUT_TICKS: u32 = 15;
/// A wait that is so much longer than needed follows a stall, and is cut at once.
const STALL_US: i64 = 100_000;
/// Microseconds of a sample.
const SAMPLE_US: i64 = 125;
/// A longer wait is told as this, in µs.
const WAITED_US_MAX: i64 = 500_000;
/// Parts of a ms in which the mean wait is kept, and of so many ticks the last one counts as one part.
const WAITED_PARTS: i64 = 128;
const WAITED_TICKS: u16 = 64;

/// What becomes of the delay in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// A frame is cut out of what sounds.
    Cut,
    /// All that waits longer than needed is dropped.
    Resync,
}

/// Watches how long packets wait, and says when that is to change.
#[derive(Clone, Debug)]
pub(super) struct Size {
    estimate: DelayEstimate,
    start_ms: u16,
    /// How long packets wait on the mean of the last second or so; 0: nothing is known yet.
    waited: u16,
    /// The shortest wait in this window, and the least audio that was there, in µs.
    least: (i64, i64),
    window: u32,
    /// So much waits longer than needed, in µs, and for so many ticks something did.
    surplus: i64,
    surplus_ticks: u32,
    /// Ticks since the delay was changed.
    settled: u32,
    /// How far into a frame packets begin, at most, in µs: in this window and the one before.
    begins: [i64; 2],
}

const NOTHING_SEEN: (i64, i64) = (i64::MAX, i64::MAX);

impl Size {
    pub(super) fn new(start_ms: u16) -> Self {
        Self {
            estimate: DelayEstimate::default(),
            start_ms: start_ms.min(DELAY_MS_MAX),
            waited: 0,
            least: NOTHING_SEEN,
            window: 0,
            surplus: 0,
            surplus_ticks: 0,
            settled: 0,
            begins: [0; 2],
        }
    }

    /// Another stream begins, or the clock of this one jumped.
    pub(super) fn begin(&mut self) {
        self.estimate.begin();
        self.waited = 0;
        self.forget();
        self.begins = [0; 2];
    }

    /// The packet with `timestamp` came behind a silence of which nobody knows what it was.
    pub(super) fn doubt(&mut self, arrival: Moment, timestamp: u32) {
        self.estimate.doubt(arrival, timestamp);
        self.forget();
        self.begins = [0; 2];
    }

    /// The network stopped. Returns by how many whole frames what is played at `clock` would wait longer than needed, in
    /// units of 8 kHz.
    pub(super) fn resume(&mut self, now: Moment, clock: u32) -> u32 {
        if !self.estimate.resume(now) {
            return 0;
        }
        let wait = self.wait_us(now, clock).unwrap_or(0);
        u32::try_from((wait - self.target_us()) / FRAME_US * FRAME_US / SAMPLE_US).unwrap_or(0)
    }

    pub(super) fn observe(&mut self, arrival: Moment, timestamp: u32) {
        self.estimate.observe(arrival, timestamp);
    }

    /// A packet begins so many samples into a frame.
    pub(super) fn begins_at(&mut self, sample: usize) {
        self.begins[0] = self.begins[0].max(sample as i64 * SAMPLE_US);
    }

    /// The wait that is aimed at, in ms.
    pub(super) fn target_ms(&self) -> u16 {
        let needed = self.estimate.needed_ms();
        needed.map_or(self.start_ms, |needed| needed.clamp(DELAY_MS_MIN, DELAY_MS_MAX))
    }

    /// How long packets wait from their arrival until they are needed, the time until the next tick with it, in ms. As long as
    /// nothing is known: what is aimed at.
    pub(super) fn waited_ms(&self) -> u16 {
        if self.waited == 0 { self.target_ms() } else { self.waited / WAITED_PARTS as u16 }
    }

    fn note_wait(&mut self, wait_us: i64) {
        let wait = wait_us.clamp(0, WAITED_US_MAX) * WAITED_PARTS / 1_000;
        let wait = u16::try_from(wait).unwrap_or(u16::MAX).max(1);
        self.waited = match self.waited {
            0 => wait,
            mean => mean - mean / WAITED_TICKS + wait / WAITED_TICKS,
        };
    }

    /// What is aimed at for a stream that begins, in whole frames, so that its packets begin where frames do.
    pub(super) fn first_samples(&self) -> u32 {
        u32::from(self.target_ms()).div_ceil(20) * 160
    }

    fn target_us(&self) -> i64 {
        i64::from(self.target_ms()) * 1_000
    }

    /// How long the quickest packets wait until they are needed, in µs.
    fn wait_us(&self, now: Moment, clock: u32) -> Option<i64> {
        let [now_at, before_at] = self.begins;
        Some(self.estimate.wait_us(now, clock)? - now_at.max(before_at))
    }

    /// Too many packets would come too late, were the next frame given out now.
    pub(super) fn is_short(&self, now: Moment, clock: u32) -> bool {
        self.wait_us(now, clock).is_some_and(|wait| wait + SHORT_US < self.target_us())
    }

    /// A silent frame may be left out.
    pub(super) const fn wants_less(&self) -> bool {
        self.surplus >= FRAME_US + MARGIN_US && self.settled >= QUIET_TICKS
    }

    /// Looks at a tick in which the frame at `clock` is given out, with so many samples in the buffer.
    pub(super) fn review(&mut self, now: Moment, clock: u32, buffered: u32) -> Change {
        let there = i64::from(buffered) * SAMPLE_US;
        // While nothing is known of the way, what is there says it.
        let wait = self.wait_us(now, clock).unwrap_or(there - FRAME_US);
        self.note_wait(wait);
        let target = self.target_us();
        if wait.min(there - FRAME_US) > target + STALL_US {
            self.forget();
            return Change::Resync;
        }
        self.settled = self.settled.saturating_add(1);
        self.least = (self.least.0.min(wait), self.least.1.min(there));
        self.window += 1;
        if self.window >= WINDOW_TICKS {
            let (wait, there) = self.least;
            // Of the two frames one is played now.
            let enough = there >= 2 * FRAME_US;
            self.surplus = if enough { wait - target } else { 0 };
            (self.least, self.window) = (NOTHING_SEEN, 0);
            self.begins = [0, self.begins[0]];
        }
        if self.surplus < FRAME_US + MARGIN_US {
            self.surplus_ticks = 0;
            return Change::None;
        }
        self.surplus_ticks = self.surplus_ticks.saturating_add(1);
        let much = self.surplus >= CUT_US;
        let cut = much && self.surplus_ticks > PATIENCE_TICKS && self.settled >= CUT_TICKS;
        if !cut {
            return Change::None;
        }
        self.shortened();
        Change::Cut
    }

    /// A frame was left out.
    pub(super) const fn shortened(&mut self) {
        self.surplus -= FRAME_US;
        self.settled = 0;
        (self.least, self.window) = (NOTHING_SEEN, 0);
    }

    /// A frame was put in.
    pub(super) const fn lengthened(&mut self) {
        self.forget();
    }

    /// What was observed holds no longer.
    const fn forget(&mut self) {
        (self.least, self.window) = (NOTHING_SEEN, 0);
        self.surplus = 0;
        self.surplus_ticks = 0;
        self.settled = 0;
    }
}

impl JitterBuffer {
    /// Frames are given out earlier or later than every 20 ms, once: what was seen of how long packets wait holds no
    /// longer. Of the network nothing changes.
    pub const fn beat_moved(&mut self) {
        self.size.forget();
    }
}
