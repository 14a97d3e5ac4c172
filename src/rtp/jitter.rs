//! The jitter buffer: takes packets as they come, gives exactly 20 ms of payload each tick.
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use crate::rtp::packet::RtpPacket;
use crate::rtp::sequence::Arrival;
use crate::rtp::sequence::StreamGate;
use crate::types::codec::Codec;
use crate::types::limit::JITTER_PIECES;
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

/// A jitter buffer of fixed depth. About 4 KB, inline; nothing allocates after `new`.
///
/// Packets are played in the order of their sequence numbers, each at its timestamp. When the buffer
/// runs dry the clock goes on, so that lost packets cost no delay; delayed ones are played when they
/// come, and the delay this adds is taken back a frame at a time.
#[derive(Clone, Debug)]
pub struct JitterBuffer {
    gate: StreamGate,
    slots: [Slot; JITTER_SLOTS],
    pieces: Pieces,
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
    /// Where its payload lies, as far as its length goes.
    pieces: [u8; SLOT_PIECES],
}

impl Slot {
    const FREE: Self = Self {
        used: false,
        content: Content::Other,
        sequence: 0,
        timestamp: 0,
        length: 0,
        pieces: [0; SLOT_PIECES],
    };

    /// How many pieces its payload takes.
    fn pieces_used(&self) -> usize {
        usize::from(self.length).div_ceil(PIECE_BYTES)
    }
}

/// Bytes of a piece: 10 ms.
const PIECE_BYTES: usize = 80;
/// Pieces of the longest payload.
const SLOT_PIECES: usize = RTP_PAYLOAD_BYTES_MAX.div_ceil(PIECE_BYTES);

/// The payloads of all slots, in pieces: slots that were each as long as the longest payload would
/// mostly be empty.
#[derive(Clone, Debug)]
struct Pieces {
    bytes: [[u8; PIECE_BYTES]; JITTER_PIECES],
    /// Bit n: piece n is taken.
    taken: u64,
}

const _: () = assert!(JITTER_PIECES <= 64, "a piece has its bit");

impl Pieces {
    const FREE: Self = Self { bytes: [[0; PIECE_BYTES]; JITTER_PIECES], taken: 0 };

    fn has_room_for(&self, length: usize) -> bool {
        let taken = self.taken.count_ones() as usize;
        length.div_ceil(PIECE_BYTES) <= JITTER_PIECES.saturating_sub(taken)
    }

    /// Keeps `payload`, for which there is room, and says where.
    fn keep(&mut self, payload: &[u8]) -> [u8; SLOT_PIECES] {
        let mut places = [0; SLOT_PIECES];
        for (place, part) in places.iter_mut().zip(payload.chunks(PIECE_BYTES)) {
            let free = self.taken.trailing_ones();
            let Some(piece) = self.bytes.get_mut(free as usize) else { break };
            for (kept, byte) in piece.iter_mut().zip(part) {
                *kept = *byte;
            }
            self.taken |= 1 << free;
            *place = free as u8;
        }
        places
    }

    fn free(&mut self, places: &[u8]) {
        for place in places {
            self.taken &= !1_u64.checked_shl(u32::from(*place)).unwrap_or(0);
        }
    }

    /// The payload of `slot` from `from` up to the end of its piece.
    fn part(&self, slot: &Slot, from: usize) -> &[u8] {
        let place = slot.pieces.get(from / PIECE_BYTES);
        let piece = place.and_then(|place| self.bytes.get(usize::from(*place)));
        let (begin, left) = (from % PIECE_BYTES, usize::from(slot.length).saturating_sub(from));
        let end = (begin + left).min(PIECE_BYTES);
        piece.and_then(|piece| piece.get(begin..end)).unwrap_or_default()
    }
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
            pieces: Pieces::FREE,
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
        // Long packets that wait for their turn may have taken all pieces before all slots.
        while !self.pieces.has_room_for(packet.payload.len()) && self.head_is_before(sequence) {
            self.discard_due(sequence);
        }
        self.store(sequence, packet, content);
    }

    fn head_is_before(&self, sequence: u64) -> bool {
        let head = self.head().and_then(|index| self.slots.get(index));
        head.is_some_and(|slot| slot.sequence < sequence)
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
        if !self.pieces.has_room_for(length) {
            self.statistics.discarded += 1;
            return;
        }
        slot.used = true;
        slot.content = content;
        slot.sequence = sequence;
        slot.timestamp = packet.timestamp;
        slot.length = length as u16;
        slot.pieces = self.pieces.keep(packet.payload.get(..length).unwrap_or_default());
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
            self.pieces.free(slot.pieces.get(..slot.pieces_used()).unwrap_or_default());
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
        self.pieces.taken = 0;
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
                self.skip_gap();
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

    /// Moves the clock on to the next packet, so that what is dropped is audio and not a pause.
    fn skip_gap(&mut self) {
        if let Some(index) = self.head() {
            let (waiting, _) = self.gap_before(index);
            self.clock = self.clock.wrapping_add(waiting as u32);
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
        // What lies in another piece comes with the next turn.
        let source = self.pieces.part(slot, self.read);
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

#[cfg(test)]
mod tests {
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
            let payload =
                (0..self.samples as u32).map(|at| sample(start.wrapping_add(at))).collect();
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

    fn push(buffer: &mut JitterBuffer, now: Moment, wire: &Wire) {
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

    fn buffer(depth_ms: u16) -> JitterBuffer {
        JitterBuffer::new(JitterConfig { depth_ms, codec: Codec::Pcmu })
    }

    /// One letter for each of `ticks` ticks: Audio, Missing, Quiet or Empty.
    fn pop(buffer: &mut JitterBuffer, ticks: usize) -> String {
        (0..ticks)
            .map(|_| match buffer.pop() {
                Frame::Audio(audio) => {
                    assert_eq!(audio.len(), FRAME_BYTES);
                    'A'
                }
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
        assert!(size_of::<JitterBuffer>() < 4_500, "{}", size_of::<JitterBuffer>());
    }

    #[test]
    fn audio_comes_out_after_the_depth_and_in_order() {
        for depth in [0, 20, 40, 60, 200] {
            let mut buffer = buffer(depth);
            let mut peer = Peer::new();
            assert_eq!(buffer.pop(), Frame::Empty);
            let mut position = 0;
            for tick in 0..200_u64 {
                let now = Moment::START + TICK * tick as u32;
                push(&mut buffer, now, &peer.audio());
                match buffer.pop() {
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
                if let Frame::Audio(audio) = buffer.pop() {
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
            played += &pop(&mut buffer, 1);
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
        assert_eq!(pop(&mut buffer, 9), "QQAAAAAAM");
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
        assert_eq!(pop(&mut buffer, 1), "A");
        push(&mut buffer, Moment::START, &peer.audio());
        assert_eq!(pop(&mut buffer, 2), "MA");
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
            played += &pop(&mut buffer, 1);
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
        assert_eq!(buffer.statistics().discarded, 24);
        assert_eq!(pop(&mut buffer, 4), "AAAM");
        assert!(buffer.statistics().dropped_samples > 0);
    }

    #[test]
    fn long_packets_that_take_all_pieces_drop_the_oldest_and_are_played_whole() {
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
        let Frame::Audio(audio) = buffer.pop() else { panic!("no audio") };
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
            pop(&mut buffer, 1);
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
            played += &pop(&mut buffer, 1);
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
                played += &pop(&mut buffer, 1);
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
        assert_eq!(pop(&mut buffer, 1), "A");
        push(&mut buffer, Moment::START, &other.audio());
        assert_eq!(pop(&mut buffer, 1), "M");
        push(&mut buffer, Moment::START, &other.audio());
        assert_eq!(pop(&mut buffer, 1), "A");
        push(&mut buffer, Moment::START, &peer.audio());
        push(&mut buffer, Moment::START, &other.audio());
        assert_eq!(pop(&mut buffer, 1), "A");
        assert_eq!(buffer.statistics().restarts, 1);
        assert_eq!(buffer.statistics().discarded, 2);
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
            played += &pop(&mut buffer, 1);
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
        assert_eq!(pop(&mut buffer, 53), format!("A{}EE", "M".repeat(50)));
        buffer.reset();
        assert_eq!(pop(&mut buffer, 1), "E");
    }

    #[test]
    fn a_payload_that_is_too_long_is_dropped_and_an_empty_one_is_a_pause() {
        let mut buffer = buffer(0);
        let mut peer = Peer::with_ptime(70);
        push(&mut buffer, Moment::START, &peer.audio());
        assert_eq!(pop(&mut buffer, 1), "E");
        assert_eq!(buffer.statistics().discarded, 1);
        let mut empty = Peer::with_ptime(0);
        push(&mut buffer, Moment::START, &empty.audio());
        assert_eq!(pop(&mut buffer, 2), "QQ");
    }

    #[test]
    fn a_frame_in_which_a_pause_begins_is_filled_with_silence() {
        let mut buffer = buffer(0);
        let mut peer = Peer::with_ptime(10);
        push(&mut buffer, Moment::START, &peer.audio());
        push(&mut buffer, Moment::START, &peer.event());
        let Frame::Audio(audio) = buffer.pop() else { panic!("no audio") };
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
                buffer.pop();
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
            let bytes: u32 = buffer
                .slots
                .iter()
                .filter(|slot| slot.used)
                .map(|slot| u32::from(slot.length))
                .sum();
            assert_eq!(bytes, buffer.buffered + buffer.read as u32, "seed {seed}");
            let used = buffer.slots.iter().filter(|slot| slot.used);
            let places = used.flat_map(|slot| &slot.pieces[..slot.pieces_used()]);
            let taken = places.fold(0, |taken, place| taken | 1_u64 << place);
            assert_eq!(taken, buffer.pieces.taken, "seed {seed}");
        }
    }
}
