//! The jitter buffer: takes packets as they come, gives exactly 20 ms of payload each tick.
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use crate::rtp::packet::RtpPacket;
use crate::rtp::sequence::Arrival;
use crate::rtp::sequence::StreamGate;
use crate::types::codec::Codec;
use crate::types::limit::JITTER_SLOTS;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;
use crate::types::moment::Moment;

/// Payload bytes of one tick: 20 ms of G.711, one byte a sample.
pub const FRAME_BYTES: usize = 160;

/// Largest depth, in ms.
pub const DEPTH_MS_MAX: u16 = 200;

const SAMPLES_PER_MS: u32 = 8;
const FRAME_SAMPLES: u32 = 160;
/// A packet further in the future than this follows no silence but a jump of the sender's clock.
const GAP_SAMPLES_MAX: i32 = 8_000;
/// Silence on the wire after which a sender whose clock stood still is primed anew.
const PAUSE: Duration = Duration::from_millis(200);
/// Ticks over which the lowest level is observed before one frame too many is dropped.
const LEVEL_WINDOW_TICKS: u32 = 25;
/// At this many depths of audio a burst is cut to the depth at once.
const BURST_DEPTHS: u32 = 4;
/// Ticks without a packet after which the stream is taken to have ended.
const ENDED_TICKS: u32 = 50;

/// How a jitter buffer works.
#[derive(Clone, Copy, Debug)]
pub struct JitterConfig {
    /// Delay between the arrival of a packet and its playing, in ms; cut to 200.
    pub depth_ms: u16,
    /// The codec, whose silence fills the rest of a frame in which a pause begins or ends.
    pub codec: Codec,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Samples, one byte each.
    Audio,
    /// A telephone event or comfort noise: it takes a sequence number but no place in the audio.
    Other,
}

/// 20 ms of what the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// [`FRAME_BYTES`] of payload.
    Audio(&'a [u8]),
    /// Audio was expected and is not here: conceal it.
    Missing,
    /// The peer pauses (comfort noise, a DTMF event, silence suppression, or the delay at the start
    /// of a talk-spurt): play comfort noise, conceal nothing.
    Quiet,
    /// There is no stream: none began, or nothing came for a second.
    Empty,
}

/// Counters of a jitter buffer, over all streams it has followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStatistics {
    /// Packets taken.
    pub received: u64,
    /// Packets whose turn passed and which never came.
    pub lost: u64,
    /// Packets that came after their turn had passed.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets thrown away: too many, too large, not believed, or of a stream that was left.
    pub discarded: u64,
    /// Times a stream began anew: another SSRC or a big jump.
    pub restarts: u64,
    /// Ticks in which the buffer had nothing although audio was expected.
    pub underruns: u64,
    /// Samples given out as audio.
    pub played_samples: u64,
    /// Samples given out as missing.
    pub missing_samples: u64,
    /// Samples given out as pause, or while there was no stream.
    pub quiet_samples: u64,
    /// Samples dropped to bring the delay back to the depth.
    pub dropped_samples: u64,
}

/// A jitter buffer of fixed depth. About 8 KB, inline; nothing allocates after `new`.
///
/// Packets are played in the order of their sequence numbers, each at its timestamp. When the buffer
/// runs dry the clock goes on, so that lost packets cost no delay; delayed ones are played when they
/// come, and the delay this adds is taken back a frame at a time.
#[derive(Clone, Debug)]
pub struct JitterBuffer {
    gate: StreamGate,
    slots: [Slot; JITTER_SLOTS],
    depth_samples: u32,
    silence: u8,
    /// The timestamp of the next sample to give out.
    clock: u32,
    /// The sequence number that is due, or is being played.
    due: u64,
    /// Bytes of the packet `due` that were given out.
    read: usize,
    /// Bit n: the packet `due - 1 - n` was played.
    played: u64,
    /// A stream has begun.
    begun: bool,
    /// Nothing of the stream was played, so that its start may still move to an earlier packet.
    unplayed: bool,
    /// The last thing played was no audio: a gap after it is a pause, not a loss.
    paused: bool,
    last_arrival: Moment,
    /// Bytes of audio in the slots.
    buffered: u32,
    level_min: u32,
    level_ticks: u32,
    idle_ticks: u32,
    frame: [u8; FRAME_BYTES],
    statistics: JitterStatistics,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    used: bool,
    content: Content,
    sequence: u64,
    timestamp: u32,
    length: u16,
    payload: [u8; RTP_PAYLOAD_BYTES_MAX],
}

impl Slot {
    const FREE: Self = Self {
        used: false,
        content: Content::Other,
        sequence: 0,
        timestamp: 0,
        length: 0,
        payload: [0; RTP_PAYLOAD_BYTES_MAX],
    };
}

/// How the samples of one frame came about.
#[derive(Clone, Copy, Default)]
struct Mixture {
    audio: u32,
    missing: u32,
    quiet: u32,
}

impl JitterBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        Self {
            gate: StreamGate::new(),
            slots: [Slot::FREE; JITTER_SLOTS],
            depth_samples: u32::from(config.depth_ms.min(DEPTH_MS_MAX)) * SAMPLES_PER_MS,
            silence: silence_of(config.codec),
            clock: 0,
            due: 0,
            read: 0,
            played: 0,
            begun: false,
            unplayed: true,
            paused: true,
            last_arrival: Moment::START,
            buffered: 0,
            level_min: u32::MAX,
            level_ticks: 0,
            idle_ticks: 0,
            frame: [silence_of(config.codec); FRAME_BYTES],
            statistics: JitterStatistics::default(),
        }
    }

    /// Changes the codec whose silence fills frames; call it when the media plan changes.
    pub fn set_codec(&mut self, codec: Codec) {
        self.silence = silence_of(codec);
    }

    /// The counters.
    #[must_use]
    pub fn statistics(&self) -> JitterStatistics {
        self.statistics
    }

    /// Audio waiting to be played, in ms.
    #[must_use]
    pub fn level_ms(&self) -> u32 {
        self.buffered / SAMPLES_PER_MS
    }

    /// Forgets the stream; the next packet begins one. For a new media plan or source.
    pub fn reset(&mut self) {
        self.clear();
        self.gate = StreamGate::new();
        self.begun = false;
    }

    /// Takes a packet that arrived at `arrival`. The payload is copied.
    pub fn push(&mut self, arrival: Moment, packet: &RtpPacket<'_>, content: Content) {
        self.statistics.received += 1;
        if packet.payload.len() > RTP_PAYLOAD_BYTES_MAX {
            self.statistics.discarded += 1;
            return;
        }
        match self.gate.accept(packet.ssrc, packet.sequence) {
            Arrival::Suspect => self.statistics.discarded += 1,
            Arrival::Begins(sequence) => {
                self.begin(sequence, packet.timestamp);
                self.store(sequence, packet, content);
                self.last_arrival = arrival;
            }
            Arrival::Follows(sequence) => {
                if arrival.since(self.last_arrival) >= PAUSE {
                    self.prime_again(packet.timestamp);
                }
                self.place(sequence, packet, content);
                self.last_arrival = arrival;
            }
        }
    }

    /// Gives the next 20 ms. To be called once a tick, after the packets of the tick were pushed.
    pub fn pop(&mut self) -> Frame<'_> {
        if !self.begun {
            self.statistics.quiet_samples += u64::from(FRAME_SAMPLES);
            return Frame::Empty;
        }
        self.shrink();
        let mixture = self.take_frame();
        self.statistics.played_samples += u64::from(mixture.audio);
        self.statistics.missing_samples += u64::from(mixture.missing);
        self.statistics.quiet_samples += u64::from(mixture.quiet);
        if mixture.audio > 0 {
            self.idle_ticks = 0;
            return Frame::Audio(&self.frame);
        }
        self.idle_ticks = self.idle_ticks.saturating_add(1);
        if self.idle_ticks > ENDED_TICKS {
            Frame::Empty
        } else if mixture.missing > 0 {
            Frame::Missing
        } else {
            Frame::Quiet
        }
    }

    fn begin(&mut self, sequence: u64, timestamp: u32) {
        if self.begun {
            self.statistics.restarts += 1;
        }
        self.clear();
        self.begun = true;
        self.unplayed = true;
        self.due = sequence;
        self.clock = timestamp.wrapping_sub(self.depth_samples);
    }

    /// A sender whose timestamp stood still over a pause would be played without any delay, and each
    /// later bit of jitter would be heard.
    fn prime_again(&mut self, timestamp: u32) {
        if self.head().is_none() && signed(timestamp, self.clock) <= 0 {
            self.clock = timestamp.wrapping_sub(self.depth_samples);
            self.paused = true;
        }
    }

    /// Puts a packet of the stream where it belongs, or counts why not.
    fn place(&mut self, sequence: u64, packet: &RtpPacket<'_>, content: Content) {
        if sequence < self.due {
            let highest = self.gate.highest().unwrap_or(sequence);
            let fits = highest - sequence < JITTER_SLOTS as u64;
            if self.unplayed && fits && signed(packet.timestamp, self.clock) >= 0 {
                self.due = sequence;
            } else {
                self.count_late(sequence);
                return;
            }
        }
        while sequence - self.due >= JITTER_SLOTS as u64 {
            self.discard_due(sequence);
        }
        self.store(sequence, packet, content);
    }

    fn count_late(&mut self, sequence: u64) {
        let age = self.due - 1 - sequence;
        let bit = shifted(1, age);
        if self.played & bit != 0 || self.unplayed {
            self.statistics.duplicate += 1;
            return;
        }
        self.played |= bit;
        self.statistics.late += 1;
        self.statistics.lost = self.statistics.lost.saturating_sub(1);
    }

    fn store(&mut self, sequence: u64, packet: &RtpPacket<'_>, content: Content) {
        let Some(slot) = self.slots.get_mut(sequence as usize % JITTER_SLOTS) else { return };
        if slot.used {
            self.statistics.duplicate += 1;
            return;
        }
        let content = if packet.payload.is_empty() { Content::Other } else { content };
        let length = match content {
            Content::Audio => packet.payload.len(),
            Content::Other => 0,
        };
        slot.used = true;
        slot.content = content;
        slot.sequence = sequence;
        slot.timestamp = packet.timestamp;
        slot.length = length as u16;
        for (kept, byte) in slot.payload.iter_mut().zip(packet.payload).take(length) {
            *kept = *byte;
        }
        self.buffered += length as u32;
    }

    /// Throws away the oldest packet to make room for `wanted`.
    fn discard_due(&mut self, wanted: u64) {
        let Some(index) = self.head() else {
            let skipped = wanted - self.due;
            self.statistics.lost += skipped;
            self.played = shifted(self.played, skipped);
            self.due = wanted;
            self.read = 0;
            return;
        };
        let skipped = self.slots.get(index).map_or(0, |slot| slot.sequence - self.due);
        self.statistics.lost += skipped;
        self.statistics.discarded += 1;
        self.due += skipped;
        self.played = shifted(self.played, skipped);
        self.finish(index);
    }

    /// Frees the slot of the packet `due` and goes on to the next.
    fn finish(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            let rest = usize::from(slot.length).saturating_sub(self.read);
            self.buffered = self.buffered.saturating_sub(rest as u32);
            slot.used = false;
        }
        self.due += 1;
        self.read = 0;
        self.played = self.played << 1 | 1;
    }

    fn clear(&mut self) {
        for slot in &mut self.slots {
            self.statistics.discarded += u64::from(slot.used);
            slot.used = false;
        }
        self.read = 0;
        self.played = 0;
        self.buffered = 0;
        self.paused = true;
        self.idle_ticks = 0;
        self.level_min = u32::MAX;
        self.level_ticks = 0;
    }

    /// The first packet that is here, at or after the one that is due.
    fn head(&self) -> Option<usize> {
        (0..JITTER_SLOTS as u64)
            .map(|ahead| (self.due.wrapping_add(ahead)) as usize % JITTER_SLOTS)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.used))
    }

    /// Brings the delay back to the depth after a burst or by the drift of the sender's clock.
    fn shrink(&mut self) {
        let aim = self.depth_samples + FRAME_SAMPLES;
        if self.buffered > self.depth_samples.max(2 * FRAME_SAMPLES) * BURST_DEPTHS {
            while self.buffered > aim {
                let mixture = self.take_frame();
                self.statistics.dropped_samples += u64::from(mixture.audio);
            }
        }
        self.level_min = self.level_min.min(self.buffered);
        self.level_ticks += 1;
        if self.level_ticks >= LEVEL_WINDOW_TICKS {
            if self.level_min >= aim + FRAME_SAMPLES {
                let mixture = self.take_frame();
                self.statistics.dropped_samples += u64::from(mixture.audio);
            }
            self.level_min = u32::MAX;
            self.level_ticks = 0;
        }
    }

    /// Moves the clock on by one frame and gathers its samples.
    ///
    /// Where samples are missing the bytes of the frame before stay, which repeats the last 20 ms.
    fn take_frame(&mut self) -> Mixture {
        let mut mixture = Mixture::default();
        let mut at = 0;
        while at < FRAME_BYTES {
            let wanted = FRAME_BYTES - at;
            let Some(index) = self.head() else {
                if self.paused {
                    self.fill_silence(at, wanted);
                    mixture.quiet += wanted as u32;
                } else {
                    mixture.missing += wanted as u32;
                    self.statistics.underruns += 1;
                }
                self.clock = self.clock.wrapping_add(wanted as u32);
                break;
            };
            let (waiting, hole) = self.gap_before(index);
            if waiting > 0 {
                let count = wanted.min(waiting);
                if hole && !self.paused {
                    mixture.missing += count as u32;
                } else {
                    self.fill_silence(at, count);
                    mixture.quiet += count as u32;
                }
                self.clock = self.clock.wrapping_add(count as u32);
                at += count;
                continue;
            }
            let count = self.play(index, at);
            mixture.audio += count as u32;
            at += count;
        }
        mixture
    }

    /// Samples until the packet in the slot is to be played, and whether packets before it are missing.
    fn gap_before(&self, index: usize) -> (usize, bool) {
        let Some(slot) = self.slots.get(index) else { return (0, false) };
        let hole = slot.sequence != self.due;
        let read = if hole { 0 } else { self.read };
        let gap = signed(slot.timestamp.wrapping_add(read as u32), self.clock);
        if gap > GAP_SAMPLES_MAX {
            return (0, hole);
        }
        (usize::try_from(gap).unwrap_or(0), hole)
    }

    /// Copies what fits of the packet in the slot to the frame at `at`; returns how many samples.
    fn play(&mut self, index: usize, at: usize) -> usize {
        let Some(slot) = self.slots.get(index) else { return 0 };
        let skipped = slot.sequence - self.due;
        if skipped > 0 {
            self.statistics.lost += skipped;
            self.played = shifted(self.played, skipped);
            self.due = slot.sequence;
            self.read = 0;
        }
        self.unplayed = false;
        let length = usize::from(slot.length);
        if slot.content == Content::Other {
            self.paused = true;
            self.finish(index);
            return 0;
        }
        let source = slot.payload.get(self.read..length).unwrap_or_default();
        let target = self.frame.get_mut(at..).unwrap_or_default();
        let count = source.len().min(target.len());
        for (sample, byte) in target.iter_mut().zip(source) {
            *sample = *byte;
        }
        self.paused = false;
        self.read += count;
        self.clock = slot.timestamp.wrapping_add(self.read as u32);
        self.buffered = self.buffered.saturating_sub(count as u32);
        if self.read >= length {
            self.finish(index);
        }
        count
    }

    fn fill_silence(&mut self, at: usize, count: usize) {
        for sample in self.frame.iter_mut().skip(at).take(count) {
            *sample = self.silence;
        }
    }
}

/// The byte of a zero sample.
const fn silence_of(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0xff,
        Codec::Pcma => 0xd5,
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
