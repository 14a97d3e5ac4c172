//! A recording that is read in another form: Opus in Ogg (RFC 7845), or MP3. Encoded piece by piece while it is fetched.

use crate::recording::audio::AudioFile;
use crate::recording::audio::Unreadable;
use crate::recording::wav;
use crate::types::limit::RECORDINGS_ENCODED_MAX;
use mp3lame_encoder::FlushGap;
use mp3lame_encoder::InterleavedPcm;
use ogg::PacketWriteEndInfo;
use ogg::PacketWriter;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Channels of a recording: whom was heard, and what was sent.
const CHANNELS: usize = 2;
/// Frames of Opus that are encoded at once: a second.
const FRAMES_PER_PIECE: usize = 50;
/// Frames of Opus in a second.
const FRAMES_PER_SECOND: usize = 50;
/// Samples of a channel in a frame of Opus, as Ogg counts them: at 48 kHz.
const FRAME_GRANULES: u64 = 960;
const GRANULES_PER_SECOND: u64 = 48_000;
/// Longest packet of Opus of one frame (RFC 6716 §3.4).
const OPUS_BYTES_MAX: usize = 1_275 * CHANNELS;

/// Forms that a recording is encoded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedForm {
    /// Opus in Ogg, 16 kbit/s a channel at 8 kHz.
    Ogg,
    /// MP3, 24 kbit/s a channel at 8 kHz.
    Mp3,
}

/// Why a recording is not encoded.
#[derive(Debug, thiserror::Error)]
pub enum Unencodable {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// As many are encoded as may be at once.
    #[error("too many recordings are encoded at the moment")]
    TooMany,
    /// The encoder refuses.
    #[error("the encoder failed: {0}")]
    Encoder(String),
}

/// A recording that is being encoded. Blocks while it reads and encodes; holds a second of audio.
pub struct Encoding {
    source: Source,
    encoder: Encoder,
    /// Given back with the encoding.
    _turn: Turn,
}

/// One of the turns to encode.
#[derive(Debug)]
pub(super) struct Turn(Arc<AtomicUsize>);

impl Turn {
    pub(super) fn take(taken: &Arc<AtomicUsize>) -> Result<Self, Unencodable> {
        let turn = Self(Arc::clone(taken));
        let is_free = taken.fetch_add(1, Ordering::AcqRel) < RECORDINGS_ENCODED_MAX;
        is_free.then_some(turn).ok_or(Unencodable::TooMany)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoding").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The samples of a recording, in order.
#[derive(Debug)]
struct Source {
    file: AudioFile,
    place: u64,
    bytes: Vec<u8>,
}

enum Encoder {
    Opus(Box<OpusEncoder>),
    Mp3 { encoder: Box<mp3lame_encoder::Encoder>, stage: Stage },
}

/// How far an MP3 is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was encoded: there is nothing to flush.
    Empty,
    Begun,
    Over,
}

struct OpusEncoder {
    encoder: opus::Encoder,
    pages: PacketWriter<'static, Vec<u8>>,
    serial: u32,
    hz: u32,
    /// What the encoder puts before the first sample, at 48 kHz.
    skipped: u64,
    /// Samples of a channel that were read, at the recording's rate.
    read: u64,
    /// Granules that were encoded.
    encoded: u64,
    /// The next packet, kept until it is known whether it is the last.
    packet: Option<Vec<u8>>,
    is_over: bool,
}

impl Encoding {
    /// Begins to encode `file`. `serial` tells a stream of Ogg from others.
    ///
    /// # Errors
    /// When the encoder cannot do with the recording's rate.
    pub(super) fn new(
        file: AudioFile,
        (form, serial): (EncodedForm, u32),
        turn: Turn,
    ) -> Result<Self, Unencodable> {
        let hz = file.hz();
        let encoder = match form {
            EncodedForm::Ogg => Encoder::Opus(Box::new(OpusEncoder::new(hz, serial)?)),
            EncodedForm::Mp3 => {
                Encoder::Mp3 { encoder: Box::new(mp3_encoder(hz)?), stage: Stage::Empty }
            }
        };
        let source = Source { file, place: wav::HEADER_BYTES as u64, bytes: Vec::new() };
        Ok(Self { source, encoder, _turn: turn })
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the recording cannot be read or encoded any further.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Unencodable> {
        loop {
            let piece = match &mut self.encoder {
                Encoder::Opus(encoder) => encoder.next_piece(&mut self.source)?,
                Encoder::Mp3 { stage: Stage::Over, .. } => None,
                Encoder::Mp3 { encoder, stage } => {
                    Some(mp3_piece(encoder, stage, &mut self.source)?)
                }
            };
            match piece {
                Some(piece) if piece.is_empty() => (),
                Some(_) | None => return Ok(piece),
            }
        }
    }
}

impl Source {
    /// The next samples of both channels, as many as fit; fewer, or none, at the end.
    fn read(&mut self, samples: usize) -> Result<Vec<i16>, Unreadable> {
        self.bytes.resize(samples * CHANNELS * 2, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(self.place, rest)? {
                0 => break,
                count => {
                    filled += count;
                    self.place += count as u64;
                }
            }
        }
        let whole = self.bytes.get(..filled).unwrap_or_default().as_chunks::<2>().0;
        Ok(whole.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
    }
}

fn failed(error: impl std::fmt::Display) -> Unencodable {
    Unencodable::Encoder(error.to_string())
}

impl OpusEncoder {
    fn new(hz: u32, serial: u32) -> Result<Self, Unencodable> {
        let stereo = opus::Channels::Stereo;
        let mut encoder =
            opus::Encoder::new(hz, stereo, opus::Application::Audio).map_err(failed)?;
        let bits = i32::try_from(hz).unwrap_or(8_000).saturating_mul(4);
        encoder.set_bitrate(opus::Bitrate::Bits(bits)).map_err(failed)?;
        let ahead = encoder.get_lookahead().map_err(failed)?;
        let per_sample = GRANULES_PER_SECOND / u64::from(hz.max(1));
        let skipped = u64::try_from(ahead).unwrap_or(0) * per_sample;
        let mut pages = PacketWriter::new(Vec::new());
        let page = PacketWriteEndInfo::EndPage;
        let head = opus_head(hz, u16::try_from(skipped).unwrap_or(u16::MAX));
        pages.write_packet(head, serial, page, 0).map_err(failed)?;
        pages.write_packet(opus_tags(), serial, page, 0).map_err(failed)?;
        let (read, encoded, packet, is_over) = (0, 0, None, false);
        Ok(Self { encoder, pages, serial, hz, skipped, read, encoded, packet, is_over })
    }

    fn next_piece(&mut self, source: &mut Source) -> Result<Option<Vec<u8>>, Unencodable> {
        if self.is_over {
            return Ok(None);
        }
        let frame = self.hz as usize / FRAMES_PER_SECOND;
        let samples = source.read(frame * FRAMES_PER_PIECE)?;
        self.read += (samples.len() / CHANNELS) as u64;
        let all = samples.len() == frame * FRAMES_PER_PIECE * CHANNELS;
        for part in samples.chunks(frame * CHANNELS) {
            self.encode(part, frame)?;
        }
        if !all {
            self.finish(frame)?;
        }
        Ok(Some(std::mem::take(self.pages.inner_mut())))
    }

    /// Encodes a frame, filled up with silence.
    fn encode(&mut self, samples: &[i16], frame: usize) -> Result<(), Unencodable> {
        let mut whole = samples.to_vec();
        whole.resize(frame * CHANNELS, 0);
        let mut packet = vec![0; OPUS_BYTES_MAX];
        let length = self.encoder.encode(&whole, &mut packet).map_err(failed)?;
        packet.truncate(length);
        if let Some(before) = self.packet.replace(packet) {
            let info = PacketWriteEndInfo::NormalPacket;
            self.pages.write_packet(before, self.serial, info, self.encoded).map_err(failed)?;
        }
        self.encoded += FRAME_GRANULES;
        Ok(())
    }

    /// What the encoder holds back comes out behind silence; the last page says where the sound ends.
    fn finish(&mut self, frame: usize) -> Result<(), Unencodable> {
        let end = self.skipped + self.read * (GRANULES_PER_SECOND / u64::from(self.hz.max(1)));
        while self.encoded < end || self.packet.is_none() {
            self.encode(&[], frame)?;
        }
        self.is_over = true;
        let Some(last) = self.packet.take() else { return Ok(()) };
        let info = PacketWriteEndInfo::EndStream;
        self.pages.write_packet(last, self.serial, info, end).map_err(failed)
    }
}

/// RFC 7845 §5.1.
fn opus_head(hz: u32, skipped: u16) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(CHANNELS as u8);
    head.extend(skipped.to_le_bytes());
    head.extend(hz.to_le_bytes());
    // No gain, and the one mapping of one or two channels.
    head.extend([0; 3]);
    head
}

/// RFC 7845 §5.2: who wrote it, and no comments. It tells nothing of the call.
fn opus_tags() -> Vec<u8> {
    let vendor = b"Tandem";
    let mut tags = b"OpusTags".to_vec();
    tags.extend((vendor.len() as u32).to_le_bytes());
    tags.extend(vendor);
    tags.extend(0_u32.to_le_bytes());
    tags
}

fn mp3_encoder(hz: u32) -> Result<mp3lame_encoder::Encoder, Unencodable> {
    let mut builder = mp3lame_encoder::Builder::new().ok_or_else(|| failed("no memory"))?;
    builder.set_num_channels(CHANNELS as u8).map_err(failed)?;
    builder.set_sample_rate(hz).map_err(failed)?;
    let rate = if hz > 8_000 {
        mp3lame_encoder::Bitrate::Kbps64
    } else {
        mp3lame_encoder::Bitrate::Kbps48
    };
    builder.set_brate(rate).map_err(failed)?;
    // Whom one hears and what it is told are nothing alike.
    builder.set_mode(mp3lame_encoder::Mode::Stereo).map_err(failed)?;
    builder.set_quality(mp3lame_encoder::Quality::Good).map_err(failed)?;
    // It would have to be written over once the length is known.
    builder.set_to_write_vbr_tag(false).map_err(failed)?;
    builder.build().map_err(failed)
}

fn mp3_piece(
    encoder: &mut mp3lame_encoder::Encoder,
    stage: &mut Stage,
    source: &mut Source,
) -> Result<Vec<u8>, Unencodable> {
    let wanted = source.file.hz() as usize;
    let samples = source.read(wanted)?;
    let room = mp3lame_encoder::max_required_buffer_size(wanted).max(16 * 1024);
    let mut piece = Vec::with_capacity(room);
    if !samples.is_empty() {
        encoder.encode_to_vec(InterleavedPcm(&samples), &mut piece).map_err(failed)?;
        *stage = Stage::Begun;
    }
    if samples.len() < wanted * CHANNELS && std::mem::replace(stage, Stage::Over) == Stage::Begun {
        piece.reserve(room);
        encoder.flush_to_vec::<FlushGap>(&mut piece).map_err(failed)?;
    }
    Ok(piece)
}
