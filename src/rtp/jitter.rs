//! The jitter buffer: takes packets as they come, gives exactly 20 ms of payload each tick.
//!
//! How long packets wait follows the network (`size.rs`): the wait grows at once, in silence or where a packet is
//! missing anyway, and shrinks slowly, in silence if there is any. Who plays the frames knows which are silent:
//! it asks [`JitterBuffer::wants_less`] and [`JitterBuffer::wants_more`].
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use crate::rtp::burst::BurstMeter;
use crate::rtp::burst::Spread;
use crate::rtp::delay::DELAY_MS_MAX;
use crate::rtp::jitter::lateness::Lateness;
use crate::rtp::jitter::size::Change;
use crate::rtp::jitter::size::Size;
use crate::rtp::jitter::slots::Slot;
use crate::rtp::jitter::taking::silence_of;
use crate::rtp::jitter::timeline::Timeline;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::rtp::sequence::Arrival;
use crate::rtp::sequence::StreamGate;
use crate::types::codec::Codec;
use crate::types::limit::JITTER_SLOTS;
use crate::types::limit::RTP_PACKED_BYTES_MAX;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;
use crate::types::moment::Moment;

mod ahead;
mod keeping;
mod lateness;
mod luggage;
mod packed;
mod parts;
mod size;
mod slots;
mod statistics;
mod taking;
mod timeline;

pub use crate::rtp::jitter::luggage::Luggage;
pub use crate::rtp::jitter::packed::Desk;
pub use crate::rtp::jitter::packed::JitterRoom;
pub use crate::rtp::jitter::packed::Step;
pub use crate::rtp::jitter::packed::units_of;
pub use crate::rtp::jitter::parts::Origin;
pub use crate::rtp::jitter::parts::Part;
pub use crate::rtp::jitter::parts::Parts;
pub use crate::rtp::jitter::statistics::JitterStatistics;

/// Payload bytes of one tick: 20 ms of a codec with a byte for each unit of a clock of 8 kHz, as G.711 and G.722
/// have it.
pub const FRAME_BYTES: usize = 160;

const SAMPLES_PER_MS: u32 = 8;
const FRAME_SAMPLES: u32 = 160;
/// Silence on the wire after which a sender whose clock stood still is primed anew.
const PAUSE: Duration = Duration::from_millis(200);
/// Ticks without a packet after which the stream is taken to have ended.
const ENDED_TICKS: u32 = 50;
// Slots are found by the low bits of sequence numbers.
const _: () = assert!(JITTER_SLOTS.is_power_of_two());

/// How a jitter buffer works.
#[derive(Clone, Copy, Debug)]
pub struct JitterConfig {
    /// How long a packet waits until the network is known, in ms; cut to 200.
    pub depth_ms: u16,
    /// The codec of the first packets, whose silence fills the rest of a frame in which a pause begins or ends.
    pub codec: Codec,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Samples, one byte each.
    Audio,
    /// Comfort noise: the peer pauses until it sends audio again.
    Noise,
    /// A telephone event, or something unknown: it takes a sequence number but no place in the audio.
    Other,
}

/// 20 ms of what the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// [`FRAME_BYTES`] of payload.
    Audio(&'a [u8]),
    /// As many, of which only some parts are payload.
    Mixed(&'a [u8], Parts),
    /// Audio was expected and is not here: conceal it.
    Missing,
    /// The peer pauses (comfort noise, a DTMF event, silence suppression, or the delay at the start
    /// of a talk-spurt): play comfort noise, conceal nothing.
    Quiet,
    /// There is no stream: none began, or nothing came for a second.
    Empty,
}

/// A jitter buffer. About 1.4 KB, inline, and what waits is in [`Payloads`], which are the same each time unless it was
/// [given back](Self::let_go) or [taken along](Self::pack). Nothing allocates after `new`.
///
/// Packets are played in the order of their sequence numbers, each at its timestamp. When the buffer
/// runs dry the clock goes on, so that lost packets cost no delay; delayed ones are played when they
/// come, and the delay this adds is taken back a frame at a time unless more packets need it.
#[derive(Debug)]
pub struct JitterBuffer {
    gate: StreamGate,
    slots: [Slot; JITTER_SLOTS],
    /// Shares that their payloads take.
    shares: u16,
    /// Where packets lie that are to be decoded one by one.
    desk: Option<Box<Desk>>,
    timeline: Timeline,
    /// What is added to the sequence numbers of a stream that goes on with the one before.
    shift: i32,
    size: Size,
    /// The codec of packets that come.
    codec: Codec,
    /// The codec of the frame just given.
    given: Codec,
    /// The timestamp of the next sample to give out.
    clock: u32,
    /// The sequence number that is due, or is being played.
    due: u64,
    /// Units of the packet `due` that were given out.
    read: usize,
    /// Bit n: the packet `due - 1 - n` was played.
    played: u64,
    /// A stream has begun.
    begun: bool,
    /// Nothing of the stream was played, so that its start may still move to an earlier packet.
    unplayed: bool,
    /// The last thing played was no audio: a gap after it is a pause, not a loss.
    paused: bool,
    /// The peer said that it pauses: the stream goes on, whatever time it takes.
    pause_told: bool,
    last_arrival: Moment,
    /// Units of audio in the slots.
    buffered: u32,
    idle_ticks: u32,
    /// The present frame does not follow on the one before: audio was left out between them.
    cut: bool,
    frame: [u8; FRAME_BYTES],
    parts: Parts,
    statistics: JitterStatistics,
    lateness: Lateness,
    meter: BurstMeter,
}

impl JitterBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        Self {
            gate: StreamGate::new(),
            slots: [Slot::FREE; JITTER_SLOTS],
            shares: 0,
            desk: None,
            timeline: Timeline::START,
            shift: 0,
            size: Size::new(config.depth_ms),
            codec: config.codec,
            given: config.codec,
            clock: 0,
            due: 0,
            read: 0,
            played: 0,
            begun: false,
            unplayed: true,
            paused: true,
            pause_told: false,
            last_arrival: Moment::START,
            buffered: 0,
            idle_ticks: 0,
            cut: false,
            frame: [silence_of(config.codec); FRAME_BYTES],
            parts: Parts::NONE,
            statistics: JitterStatistics::default(),
            lateness: Lateness::default(),
            meter: BurstMeter::default(),
        }
    }

    /// Packets pushed from now on are of `codec`. What waits stays what it is, so that nothing is heard of the change.
    pub const fn expect(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// The peer may go on in a stream with another SSRC: signalling said that its clock changes (RFC 7160 §4.1). What
    /// waits of this one is played first.
    pub const fn expect_another(&mut self) {
        self.gate.expect_another();
    }

    /// The codec of the audio in the frame just given.
    #[must_use]
    pub const fn codec_given(&self) -> Codec {
        self.given
    }

    /// How the packets are spread that were not played.
    #[must_use]
    pub fn spread(&self) -> Spread {
        self.meter.spread()
    }

    /// The longest that packets may come to wait, in ms.
    #[must_use]
    pub const fn longest_ms(&self) -> u16 {
        DELAY_MS_MAX
    }

    /// Audio waiting to be played, in ms.
    #[must_use]
    pub fn level_ms(&self) -> u32 {
        self.buffered / SAMPLES_PER_MS
    }

    /// How long packets are to wait, in ms.
    #[must_use]
    pub fn target_ms(&self) -> u16 {
        self.size.target_ms()
    }

    /// How long they do wait, from their arrival until they are played, in ms.
    #[must_use]
    pub fn waited_ms(&self) -> u16 {
        self.size.waited_ms()
    }

    /// Forgets the stream; the next packet begins one. For a new media plan or source.
    pub fn reset(&mut self, payloads: &mut Payloads) {
        self.clear(payloads);
        self.gate = StreamGate::new();
        self.begun = false;
    }

    /// Takes a packet that arrived at `arrival`. The payload is copied to `payloads`.
    pub fn push(
        &mut self,
        arrival: Moment,
        packet: &RtpPacket<'_>,
        content: Content,
        payloads: &mut Payloads,
    ) {
        self.statistics.received += 1;
        let Some(units) = self.units(packet, content) else {
            self.statistics.discarded += 1;
            return;
        };
        let expected = self.gate.expects_another();
        match self.gate.accept(packet.ssrc, packet.sequence) {
            Arrival::Suspect => self.statistics.discarded += 1,
            Arrival::Begins(sequence) if expected && self.goes_on(arrival) => {
                let joined = self.behind_all();
                self.shift = joined.wrapping_sub(sequence) as i32;
                let factor = self.codec.clock_factor();
                let timestamp = self.timeline.join(factor, joined, packet.timestamp, units);
                self.size.begin();
                self.place(joined, &RtpPacket { timestamp, ..*packet }, content, payloads);
                self.last_arrival = arrival;
            }
            Arrival::Begins(sequence) => {
                self.shift = 0;
                self.timeline.begin(self.codec.clock_factor(), sequence, packet.timestamp);
                let packet = &self.placed(sequence, packet, units);
                self.begin(sequence, packet.timestamp, payloads);
                self.size.observe(arrival, packet.timestamp);
                self.store(sequence, packet, content, payloads);
                self.last_arrival = arrival;
            }
            Arrival::Follows(sequence) => {
                let sequence = sequence.wrapping_add_signed(self.shift.into());
                let packet = &self.placed(sequence, packet, units);
                if arrival.since(self.last_arrival) >= PAUSE {
                    self.prime_again(arrival, sequence, packet, units);
                } else if content == Content::Audio {
                    self.note_coming(arrival, packet, units);
                    self.size.observe(arrival, packet.timestamp);
                }
                self.place(sequence, packet, content, payloads);
                self.last_arrival = arrival;
            }
        }
    }

    /// Whether a stream that was expected goes on with the one before.
    fn goes_on(&self, arrival: Moment) -> bool {
        self.begun && arrival.since(self.last_arrival) < PAUSE
    }

    /// The number behind that of the last packet that waits.
    fn behind_all(&self) -> u64 {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.used);
        slots.map(|(index, _)| self.sequence_at(index) + 1).max().unwrap_or(self.due)
    }

    /// How long the audio of a packet is, in units of 8 kHz; `None`: it is not to be kept.
    fn units(&self, packet: &RtpPacket<'_>, content: Content) -> Option<u32> {
        let is_packed = self.codec.is_packed();
        let longest = if is_packed { RTP_PACKED_BYTES_MAX } else { RTP_PAYLOAD_BYTES_MAX };
        if packet.payload.len() > longest {
            return None;
        }
        match content {
            Content::Noise | Content::Other => Some(0),
            Content::Audio if packet.payload.is_empty() => Some(0),
            Content::Audio if is_packed && self.desk.is_none() => None,
            Content::Audio => units_of(self.codec, packet.payload),
        }
    }

    /// The packet with its time stamp in units of 8 kHz. What is no audio goes by the clock of what is.
    fn placed<'a>(&mut self, sequence: u64, packet: &RtpPacket<'a>, units: u32) -> RtpPacket<'a> {
        let factor = if units == 0 { self.timeline.factor() } else { self.codec.clock_factor() };
        let timestamp = self.timeline.place(factor, sequence, packet.timestamp, units);
        RtpPacket { timestamp, ..*packet }
    }

    /// Gives the next 20 ms. To be called once a tick, after the packets of the tick were pushed.
    pub fn pop(&mut self, now: Moment, payloads: &mut Payloads) -> Frame<'_> {
        self.cut = false;
        self.clear_desk();
        if self.begun {
            match self.size.review(now, self.playing(), self.buffered) {
                Change::None => (),
                Change::Cut => self.leave_out(payloads),
                Change::Resync => self.resync(payloads),
            }
        }
        if self.holds_back(now) {
            return self.stretched(payloads);
        }
        self.next_frame(payloads)
    }

    /// More waits than needed: if the frame just given is silent, [`Self::instead`] may be called.
    #[must_use]
    pub const fn wants_less(&self) -> bool {
        self.begun && self.size.wants_less()
    }

    /// The next 20 ms in the place of those just given, which are left out.
    pub fn instead(&mut self, payloads: &mut Payloads) -> Frame<'_> {
        self.statistics.played_samples -= self.parts.of(Origin::Audio);
        self.statistics.missing_samples -= self.parts.of(Origin::Missing);
        self.statistics.quiet_samples -= self.parts.of(Origin::Quiet);
        self.statistics.dropped_samples += u64::from(FRAME_SAMPLES);
        self.size.shortened();
        self.cut = true;
        self.clear_desk();
        self.next_frame(payloads)
    }

    /// Less waits than needed: if what was heard last is silent, [`Self::stretch`] may be called in place of
    /// [`Self::pop`].
    #[must_use]
    pub fn wants_more(&self, now: Moment) -> bool {
        self.begun && !self.has_ended() && self.size.is_short(now, self.playing())
    }

    /// Lets 20 ms go by in which nothing is given out.
    pub fn stretch(&mut self) {
        self.statistics.quiet_samples += u64::from(FRAME_SAMPLES);
        self.statistics.stretched_samples += u64::from(FRAME_SAMPLES);
        self.size.lengthened();
    }

    /// Where packets are missing and more delay is needed, they are waited for.
    fn holds_back(&self, now: Moment) -> bool {
        let Some(index) = self.head().filter(|_| self.begun && !self.paused) else { return false };
        let (waiting, hole) = self.gap_before(index);
        hole && waiting > 0 && self.size.is_short(now, self.playing())
    }

    fn stretched(&mut self, payloads: &Payloads) -> Frame<'_> {
        self.statistics.missing_samples += u64::from(FRAME_SAMPLES);
        self.statistics.stretched_samples += u64::from(FRAME_SAMPLES);
        self.size.lengthened();
        self.note_wait(Origin::Missing, FRAME_BYTES, None, payloads);
        Frame::Missing
    }

    fn next_frame(&mut self, payloads: &mut Payloads) -> Frame<'_> {
        if !self.begun {
            self.parts = Parts::NONE;
            self.parts.add(Origin::Quiet, FRAME_BYTES);
            self.statistics.quiet_samples += u64::from(FRAME_SAMPLES);
            return Frame::Empty;
        }
        self.take_frame(payloads);
        let audio = self.parts.of(Origin::Audio);
        let missing = self.parts.of(Origin::Missing);
        self.statistics.played_samples += audio;
        self.statistics.missing_samples += missing;
        self.statistics.quiet_samples += self.parts.of(Origin::Quiet);
        if audio == u64::from(FRAME_SAMPLES) {
            self.idle_ticks = 0;
            return Frame::Audio(&self.frame);
        }
        if audio > 0 {
            self.idle_ticks = 0;
            return Frame::Mixed(&self.frame, self.parts);
        }
        self.idle_ticks = self.idle_ticks.saturating_add(1);
        if self.has_ended() {
            Frame::Empty
        } else if missing > 0 {
            Frame::Missing
        } else {
            Frame::Quiet
        }
    }

    /// Nothing came for so long that it is no pause, and the peer said nothing of one.
    const fn has_ended(&self) -> bool {
        self.idle_ticks > ENDED_TICKS && !self.pause_told
    }

    /// The time stamp that is given out next: of a packet that came after its time, its own.
    fn playing(&self) -> u32 {
        let Some(index) = self.head() else { return self.clock };
        let Some(slot) = self.slots.get(index) else { return self.clock };
        let read = if self.sequence_at(index) == self.due { self.read } else { 0 };
        let next = slot.timestamp.wrapping_add(read as u32);
        if signed(next, self.clock) < 0 { next } else { self.clock }
    }

    fn begin(&mut self, sequence: u64, timestamp: u32, payloads: &mut Payloads) {
        if self.begun {
            self.statistics.restarts += 1;
        }
        self.clear(payloads);
        self.begun = true;
        self.unplayed = true;
        self.due = sequence;
        self.size.begin();
        self.clock = timestamp.wrapping_sub(self.size.first_samples());
    }

    /// The sequence number of the packet in a slot: none waits that is not one of the next from the one that is due on.
    const fn sequence_at(&self, index: usize) -> u64 {
        self.due.wrapping_add((index as u64).wrapping_sub(self.due) % JITTER_SLOTS as u64)
    }

    /// The first packet that is here, at or after the one that is due.
    fn head(&self) -> Option<usize> {
        (0..JITTER_SLOTS as u64)
            .map(|ahead| (self.due.wrapping_add(ahead)) as usize % JITTER_SLOTS)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.used))
    }

    /// Drops what waits longer than needed.
    fn resync(&mut self, payloads: &mut Payloads) {
        let aim = u32::from(self.size.target_ms()) * SAMPLES_PER_MS + FRAME_SAMPLES;
        while self.buffered > aim {
            self.skip_gap();
            self.leave_out(payloads);
        }
    }

    fn leave_out(&mut self, payloads: &mut Payloads) {
        self.set_drops(true);
        self.lateness.leaves_out = true;
        self.take_frame(payloads);
        self.lateness.leaves_out = false;
        self.set_drops(false);
        self.statistics.dropped_samples += self.parts.of(Origin::Audio);
        self.cut = true;
    }

    /// Moves the clock on to the next packet, so that what is dropped is audio and not a pause.
    fn skip_gap(&mut self) {
        if let Some(index) = self.head() {
            let (waiting, _) = self.gap_before(index);
            self.clock = self.clock.wrapping_add(waiting as u32);
        }
    }
}

/// `bits << by`, also where all of them fall out.
fn shifted(bits: u64, by: u64) -> u64 {
    u32::try_from(by).ok().and_then(|by| bits.checked_shl(by)).unwrap_or(0)
}

/// How far `timestamp` is after `reference`, over the wrap.
const fn signed(timestamp: u32, reference: u32) -> i32 {
    timestamp.wrapping_sub(reference).cast_signed()
}

#[cfg(test)]
mod alone;
#[cfg(test)]
mod lateness_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod rooms_tests;
#[cfg(test)]
mod tests;
