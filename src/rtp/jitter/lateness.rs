//! What came and was not heard in its time: the network stopped and let it go at once, or it was cut out of what
//! sounds, to take back the delay that this left.
//!
//! While a buffer is dry nobody knows whether the peer pauses or the network stopped: the next packets tell.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::JitterStatistics;
use crate::rtp::jitter::Origin;
use crate::rtp::jitter::SAMPLES_PER_MS;
use crate::rtp::jitter::signed;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::types::moment::Moment;
use std::time::Duration;

/// After a silence on the wire, packets that follow so much faster than they were said were held back.
const HELD_BACK_UNITS: u32 = 100 * SAMPLES_PER_MS;
/// For so long after it they may.
const DOUBT: Duration = Duration::from_secs(1);

/// How a packet took its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was heard.
    Heard,
    /// Its time had passed, and was made up for.
    Late,
    /// It was cut out.
    Cut,
}

/// What the coming of a packet tells of a silence before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing, or nothing new.
    Nothing,
    /// So much of it was a pause, and no more is to be known.
    Pause(u32),
    /// The network stopped.
    Stall,
}

/// Tells what was heard in its time. All lengths are in units of 8 kHz.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lateness {
    /// Made up for since the buffer ran dry.
    dry: u32,
    /// A silence on the wire, of which it is not known what it was.
    doubt: Option<Doubt>,
    /// Audio whose time has passed, and whose turn is to come.
    owed: u32,
    /// What is taken out now is heard by nobody.
    pub(super) leaves_out: bool,
    /// So much of the packet whose turn it is was left out.
    left_out: u32,
}

/// A silence on the wire after which a stream went on where it was: its peer's clock stood still, or the network.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// The first packet behind it.
    arrival: Moment,
    timestamp: u32,
    /// How far behind its time that was.
    behind: u32,
    /// Made up for.
    dry: u32,
    /// So much was held back by the network, as far as it is known.
    held_back: u32,
    /// Packets of it that were discarded.
    discarded: u32,
    /// It is known that the network stopped.
    is_stall: bool,
}

impl Doubt {
    /// How much of what was made up for was a pause, as far as it is known.
    const fn pause(&self) -> u32 {
        self.dry.saturating_sub(self.held_back)
    }
}

impl Lateness {
    /// So much was made up for that nobody knows yet to be missing.
    pub(super) fn doubtful(&self) -> u32 {
        self.dry + self.doubt.map_or(0, |doubt| doubt.pause())
    }

    pub(super) const fn runs_dry(&mut self, units: u32) {
        self.dry += units;
    }

    /// More packets are lost than a buffer holds: what was made up for was them.
    pub(super) const fn is_explained(&mut self) {
        self.dry = 0;
    }

    /// So much of that nobody heard.
    const fn unheard(&mut self, units: u32) {
        self.dry = self.dry.saturating_sub(units);
    }

    /// A packet goes on after the buffer was dry, so far behind its time and with so much lost before it. Returns how
    /// much of the time was a pause.
    pub(super) fn goes_on(&mut self, behind: u32, lost: u32) -> u32 {
        let dry = std::mem::take(&mut self.dry);
        let late = behind.min(dry);
        self.owed += late;
        dry.saturating_sub(late.saturating_add(lost))
    }

    /// How a packet of so many units took its turn.
    pub(super) const fn turn(&mut self, units: u32) -> Turn {
        let left_out = self.left_out;
        self.left_out = 0;
        // A packet of which less was late waits for what comes to be late of others.
        if units > 0 && self.owed.saturating_mul(2) >= units {
            self.owed = self.owed.saturating_sub(units);
            return Turn::Late;
        }
        if left_out.saturating_mul(2) > units { Turn::Cut } else { Turn::Heard }
    }

    pub(super) const fn takes_out(&mut self, units: u32) {
        if self.leaves_out {
            self.left_out += units;
        }
    }

    /// A packet that waited was discarded: what it was late by is told by that.
    pub(super) const fn discards(&mut self, units: u32) {
        self.left_out = 0;
        if self.owed > 0 {
            self.owed = self.owed.saturating_sub(units);
        } else if let Some(doubt) = &mut self.doubt {
            doubt.discarded = doubt.discarded.saturating_add(units);
        }
    }

    /// The first packet behind a silence came so far behind its time; so much before it is lost. Returns how much of
    /// what was in doubt before was a pause.
    fn doubts(&mut self, (arrival, timestamp): (Moment, u32), behind: u32, lost: u32) -> u32 {
        let dry = std::mem::take(&mut self.dry).saturating_sub(lost);
        let behind = behind.saturating_sub(lost);
        let doubt =
            Doubt { arrival, timestamp, behind, dry, held_back: 0, discarded: 0, is_stall: false };
        self.doubt.replace(doubt).map_or(0, |before| before.pause())
    }

    /// A packet came behind a silence.
    fn comes(&mut self, arrival: Moment, timestamp: u32, units: u32) -> Told {
        let Some(doubt) = &mut self.doubt else { return Told::Nothing };
        let since = arrival.since(doubt.arrival);
        if since >= DOUBT {
            let pause = doubt.pause();
            self.doubt = None;
            return Told::Pause(pause);
        }
        let passed = since.as_micros() as u32 / 1_000 * SAMPLES_PER_MS;
        let said = u32::try_from(signed(timestamp, doubt.timestamp)).unwrap_or(0);
        let faster = said.saturating_sub(passed);
        if faster < HELD_BACK_UNITS || faster.saturating_mul(2) < doubt.behind {
            return Told::Nothing;
        }
        let told_before = std::mem::replace(&mut doubt.is_stall, true);
        let held_back = (faster + units).min(doubt.behind).max(doubt.held_back);
        self.owed += held_back - doubt.held_back;
        doubt.held_back = held_back;
        let told = doubt.discarded.min(self.owed);
        self.owed -= told;
        doubt.discarded -= told;
        if told_before { Told::Nothing } else { Told::Stall }
    }
}

impl JitterBuffer {
    /// A sender whose timestamp stood still over a pause would be played without any delay, and each
    /// later bit of jitter would be heard. `units`: how long the packet is that has this number.
    pub(super) fn prime_again(
        &mut self,
        arrival: Moment,
        number: u64,
        packet: &RtpPacket<'_>,
        units: u32,
    ) {
        let behind = signed(self.clock, packet.timestamp);
        if self.head().is_none() && behind >= 0 {
            if self.paused {
                self.size.begin();
            } else {
                self.size.doubt(arrival, packet.timestamp);
            }
            self.clock = packet.timestamp.wrapping_sub(self.size.first_samples());
            if !self.paused {
                let lost = lost_units(number.saturating_sub(self.due), units);
                let first = (arrival, packet.timestamp);
                let pause = self.lateness.doubts(first, behind.cast_unsigned(), lost);
                self.was_pause(pause);
            }
            self.paused = true;
        }
    }

    /// Notes that a packet came, for what its coming tells of those before it.
    pub(super) fn note_coming(&mut self, arrival: Moment, packet: &RtpPacket<'_>, units: u32) {
        match self.lateness.comes(arrival, packet.timestamp, units) {
            Told::Nothing => (),
            Told::Pause(pause) => self.was_pause(pause),
            Told::Stall => self.catch_up(arrival),
        }
    }

    /// Packets were held back by the network: they wait no longer than others do.
    fn catch_up(&mut self, arrival: Moment) {
        let longer = self.size.resume(arrival, self.clock);
        let waiting = self.head().map_or(0, |index| self.gap_before(index).0);
        self.clock = self.clock.wrapping_add(longer.min(waiting as u32));
    }

    /// A packet of `units` begins, `timestamp` if it is audio, behind so many that are lost.
    pub(super) fn begins(&mut self, timestamp: Option<u32>, lost: u64, units: usize) {
        let behind = timestamp.map_or(0, |timestamp| signed(self.clock, timestamp));
        let behind = u32::try_from(behind).unwrap_or(0);
        let pause = self.lateness.goes_on(behind, lost_units(lost, units as u32));
        self.was_pause(pause);
    }

    /// What came before is of a stream that is followed no longer.
    pub(super) fn forget_lateness(&mut self) {
        let pause = self.lateness.doubtful();
        self.was_pause(pause);
        self.lateness = Lateness::default();
    }

    /// The counters. What nobody knows yet to be missing counts as a pause.
    #[must_use]
    pub fn statistics(&self) -> JitterStatistics {
        let doubtful = u64::from(self.lateness.doubtful()).min(self.statistics.missing_samples);
        JitterStatistics {
            missing_samples: self.statistics.missing_samples - doubtful,
            quiet_samples: self.statistics.quiet_samples + doubtful,
            ..self.statistics
        }
    }

    /// Whether audio was left out before the frame just given.
    #[must_use]
    pub const fn was_cut(&self) -> bool {
        self.cut
    }

    /// What was taken for missing was a pause.
    fn was_pause(&mut self, units: u32) {
        let units = u64::from(units).min(self.statistics.missing_samples);
        self.statistics.missing_samples -= units;
        self.statistics.quiet_samples += units;
    }

    /// A packet of so many units took its turn.
    pub(super) fn count_turn(&mut self, units: usize) {
        match self.lateness.turn(units as u32) {
            Turn::Heard => return self.meter.played(),
            Turn::Late => self.statistics.late += 1,
            Turn::Cut => self.statistics.discarded += 1,
        }
        self.meter.missing(1);
    }

    /// The same as `next_frame` for a tick that nobody hears, and that comes late.
    pub fn pass(&mut self, payloads: &mut Payloads) {
        self.lateness.leaves_out = true;
        self.next_frame(payloads);
        self.lateness.leaves_out = false;
        let missing = self.parts.of(Origin::Missing) as u32;
        self.lateness.unheard(missing);
        self.was_pause(missing);
        self.forget_desk();
    }
}

/// How long so many lost packets were before one of `units`. What is no audio says nothing of that.
fn lost_units(packets: u64, units: u32) -> u32 {
    let units = if units == 0 { u32::MAX } else { units };
    u32::try_from(packets).unwrap_or(u32::MAX).saturating_mul(units)
}
