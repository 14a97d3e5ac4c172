//! SRTP and SRTCP (RFC 3711, RFC 7714) over `rtc-srtp`: what we send is protected, what comes is
//! authenticated, decrypted and checked for replay.
//!
//! Around the crate's contexts stand the rules it leaves to its user: no state for a stream that never
//! authenticated, the rollover counter kept when a key is changed (RFC 3711 §3.3.1), packets that were
//! on their way under the key before, identifiers of keys in packets, and the lifetime of a key.
#![warn(clippy::indexing_slicing)]

mod contexts;

use crate::rtp::srtp::contexts::advance;
use crate::rtp::srtp::contexts::new_context;
use crate::rtp::srtp::contexts::new_probe;
use crate::rtp::srtp::contexts::resume;
use crate::types::limit::SRTP_RETIRED_MAX;
use crate::types::limit::SRTP_STRANGERS_MAX;
use crate::types::limit::SRTP_STREAMS_MAX;
use crate::types::moment::Moment;
use crate::types::srtp::Mki;
use crate::types::srtp::SRTP_PACKETS_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;
use bytes::BytesMut;
use rtc_shared::error::Error as CrateError;
use rtc_srtp::context::Context;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Packets behind the newest that are still taken: 2.5 seconds of 20 ms packets.
const REPLAY_WINDOW: usize = 128;

/// How long packets are taken that were protected with the key before.
const OVERLAP: Duration = Duration::from_secs(2);

/// SRTCP packets a master key may protect (RFC 3711 §9.2).
const SRTCP_PACKETS_MAX: u64 = 1 << 31;

/// The flag of encryption with the index of an SRTCP packet (RFC 3711 §3.4).
const SRTCP_INDEX_BYTES: usize = 4;

/// The least header of RTP, and of RTCP with its sender's SSRC.
const RTP_HEADER_BYTES: usize = 12;
const RTCP_HEADER_BYTES: usize = 8;

/// Why a packet was not protected or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or no packet at all.
    #[error("not an SRTP packet")]
    Malformed,
    /// The key is another, or the packet was changed on its way, or names another key.
    #[error("SRTP authentication failed")]
    Refused,
    /// It came before, or is older than the replay window.
    #[error("SRTP packet was replayed")]
    Replayed,
    /// The key has protected as many packets as it may.
    #[error("SRTP key is used up")]
    Expired,
    /// The cryptographic library failed.
    #[error("SRTP context cannot be made")]
    Unusable,
}

/// Which of the two protocols of a media stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// RTP.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// How the packets of a media stream are protected.
#[derive(Debug, Default)]
pub enum Protection {
    /// Not at all.
    #[default]
    Plain,
    /// By SRTP.
    Srtp(Box<Srtp>),
    /// They should be, and cannot: nothing goes out or comes in.
    Broken,
}

impl Protection {
    /// Puts the keys of a new description in force, ours and the peer's; `None`: plain RTP. Returns
    /// whether our stream must get another SSRC, which a new key of ours asks for: no peer has to guess
    /// then what became of its rollover counter.
    pub fn update(&mut self, now: Moment, keys: Option<(&SrtpKey, &SrtpKey)>) -> bool {
        let Some((ours, theirs)) = keys else {
            *self = Self::Plain;
            return false;
        };
        let updated = match self {
            Self::Srtp(srtp) => srtp.update(now, ours, theirs),
            Self::Plain | Self::Broken => Srtp::new(ours, theirs).map(|srtp| {
                *self = Self::Srtp(Box::new(srtp));
                false
            }),
        };
        updated.unwrap_or_else(|_| {
            *self = Self::Broken;
            false
        })
    }

    /// A packet of ours as it goes out.
    ///
    /// # Errors
    /// When it must not go out.
    pub fn send<'a>(&mut self, layer: Layer, packet: &'a [u8]) -> Result<Cow<'a, [u8]>, SrtpError> {
        let protected = match (self, layer) {
            (Self::Plain, Layer::Rtp | Layer::Rtcp) => return Ok(Cow::Borrowed(packet)),
            (Self::Broken, Layer::Rtp | Layer::Rtcp) => return Err(SrtpError::Unusable),
            (Self::Srtp(srtp), Layer::Rtp) => srtp.send.rtp(packet)?,
            (Self::Srtp(srtp), Layer::Rtcp) => srtp.send.rtcp(packet)?,
        };
        Ok(Cow::Owned(protected.into()))
    }

    /// A packet of the peer's that arrived at `now`, in the clear.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn receive<'a>(
        &mut self,
        now: Moment,
        layer: Layer,
        packet: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, SrtpError> {
        let plain = match (self, layer) {
            (Self::Plain, Layer::Rtp | Layer::Rtcp) => return Ok(Cow::Borrowed(packet)),
            (Self::Broken, Layer::Rtp | Layer::Rtcp) => return Err(SrtpError::Unusable),
            (Self::Srtp(srtp), Layer::Rtp) => srtp.receive.rtp(now, packet)?,
            (Self::Srtp(srtp), Layer::Rtcp) => srtp.receive.rtcp(now, packet)?,
        };
        Ok(Cow::Owned(plain.into()))
    }

    /// The suite; `None` while nothing is protected.
    #[must_use]
    pub const fn suite(&self) -> Option<SrtpSuite> {
        match self {
            Self::Plain | Self::Broken => None,
            Self::Srtp(srtp) => Some(srtp.send.key.suite()),
        }
    }
}

/// Both ways of a media stream.
#[derive(Debug)]
pub struct Srtp {
    send: SrtpSender,
    receive: SrtpReceiver,
}

impl Srtp {
    /// Protects with `ours` and believes what is protected with `theirs`.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn new(ours: &SrtpKey, theirs: &SrtpKey) -> Result<Self, SrtpError> {
        Ok(Self { send: SrtpSender::new(ours)?, receive: SrtpReceiver::new(theirs)? })
    }

    /// Puts the keys of a new description in force. A key that stays the same changes nothing: rollover
    /// counter, replay window and index go on. Returns whether ours is another one.
    ///
    /// # Errors
    /// `Unusable`; what was in force stays.
    pub fn update(
        &mut self,
        now: Moment,
        ours: &SrtpKey,
        theirs: &SrtpKey,
    ) -> Result<bool, SrtpError> {
        self.receive.update(now, theirs)?;
        if self.send.key == *ours {
            return Ok(false);
        }
        self.send = SrtpSender::new(ours)?;
        Ok(true)
    }
}

/// Protects what is sent with one key.
pub struct SrtpSender {
    key: SrtpKey,
    context: Context,
    packets: u64,
    reports: u64,
}

impl SrtpSender {
    /// Protects with `key`.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn new(key: &SrtpKey) -> Result<Self, SrtpError> {
        Ok(Self { key: key.clone(), context: new_context(key)?, packets: 0, reports: 0 })
    }

    /// The SRTP packet of an RTP packet.
    ///
    /// # Errors
    /// `Expired` once the key may protect no more, `Malformed`.
    pub fn rtp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        if self.packets >= self.key.lifetime.unwrap_or(SRTP_PACKETS_MAX) {
            return Err(SrtpError::Expired);
        }
        let protected = self.context.encrypt_rtp(packet).map_err(why)?;
        self.packets += 1;
        let suffix = self.key.suite().rtp_tag_after_mki();
        Ok(with_mki(protected, self.key.mki, suffix))
    }

    /// The SRTCP packet of a compound RTCP packet.
    ///
    /// # Errors
    /// `Expired` once the key may protect no more, `Malformed`.
    pub fn rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        // One less than there are: the crate's first index is 1, and 0 must not follow the last.
        if self.reports + 1 >= SRTCP_PACKETS_MAX {
            return Err(SrtpError::Expired);
        }
        let protected = self.context.encrypt_rtcp(packet).map_err(why)?;
        self.reports += 1;
        let suffix = self.key.suite().rtcp_tag_after_mki();
        Ok(with_mki(protected, self.key.mki, suffix))
    }
}

/// Believes what was protected with the peer's key, and for a short time what was with the one before.
#[derive(Debug)]
pub struct SrtpReceiver {
    current: KeyContext,
    before: Option<(Box<KeyContext>, Moment)>,
}

impl SrtpReceiver {
    /// Believes what was protected with `key`.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn new(key: &SrtpKey) -> Result<Self, SrtpError> {
        Ok(Self { current: KeyContext::new(key, SmallVec::new())?, before: None })
    }

    fn update(&mut self, now: Moment, key: &SrtpKey) -> Result<(), SrtpError> {
        if self.current.key == *key {
            return Ok(());
        }
        let next = KeyContext::new(key, self.current.streams.clone())?;
        let before = std::mem::replace(&mut self.current, next);
        self.before = Some((Box::new(before), now + OVERLAP));
        Ok(())
    }

    /// The RTP packet of an SRTP packet that arrived at `now`.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn rtp(&mut self, now: Moment, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        let head = RtpHead::read(packet).ok_or(SrtpError::Malformed)?;
        match self.current.rtp(head, packet) {
            Err(SrtpError::Refused) => (),
            judged => return judged,
        }
        if let Some(before) = self.overlapping(now)
            && let Ok(plain) = before.rtp(head, packet)
        {
            return Ok(plain);
        }
        self.current.rtp_with_kept_counter(head, packet)
    }

    /// The RTCP packet of an SRTCP packet that arrived at `now`.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn rtcp(&mut self, now: Moment, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        match self.current.rtcp(packet) {
            Err(SrtpError::Refused) => (),
            judged => return judged,
        }
        match self.overlapping(now) {
            Some(before) => before.rtcp(packet),
            None => Err(SrtpError::Refused),
        }
    }

    /// What is left of the key before.
    fn overlapping(&mut self, now: Moment) -> Option<&mut KeyContext> {
        self.before.take_if(|(_, until)| *until <= now);
        self.before.as_mut().map(|(before, _)| &mut **before)
    }
}

/// What an SRTP packet says in the clear.
#[derive(Clone, Copy)]
struct RtpHead {
    sequence: u16,
    ssrc: u32,
}

impl RtpHead {
    fn read(packet: &[u8]) -> Option<Self> {
        let [_, _, s0, s1, _, _, _, _, c0, c1, c2, c3] = *packet.first_chunk()?;
        let (sequence, ssrc) = (u16::from_be_bytes([s0, s1]), u32::from_be_bytes([c0, c1, c2, c3]));
        Some(Self { sequence, ssrc })
    }
}

/// A stream that authenticated, and the highest index of its packets (RFC 3711 §3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    ssrc: u32,
    index: u64,
}

impl Stream {
    /// Whether a packet comes after all that were heard.
    const fn precedes(&self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.index as u16);
        ahead != 0 && ahead < 1 << 15
    }

    /// Notes a packet that authenticated.
    fn heard(&mut self, sequence: u16) {
        let ahead = sequence.wrapping_sub(self.index as u16);
        if ahead < 1 << 15 {
            self.index += u64::from(ahead);
        }
    }
}

/// What is known under one key of the peer.
struct KeyContext {
    key: SrtpKey,
    /// Knows the streams below and no others: the crate makes state for each SSRC it is asked about,
    /// and keeps it for ever.
    context: Context,
    /// The one heard last stands last.
    streams: SmallVec<[Stream; 2]>,
    /// The streams that gave way to newer ones.
    retired: Vec<Stream>,
    /// Knows the reports, where the context above was made anew.
    of_reports: Option<Box<Context>>,
    reporters: SmallVec<[u32; 2]>,
    /// Tries packets of streams not yet known.
    strangers: Option<(Box<Context>, usize)>,
    /// The streams under the key before, whose counters may go on under this one.
    kept: SmallVec<[Stream; 2]>,
    packets: u64,
}

impl KeyContext {
    fn new(key: &SrtpKey, kept: SmallVec<[Stream; 2]>) -> Result<Self, SrtpError> {
        Ok(Self {
            key: key.clone(),
            context: new_context(key)?,
            streams: SmallVec::new(),
            retired: Vec::new(),
            of_reports: None,
            reporters: SmallVec::new(),
            strangers: None,
            kept,
            packets: 0,
        })
    }

    fn rtp(&mut self, head: RtpHead, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        if self.packets >= self.key.lifetime.unwrap_or(SRTP_PACKETS_MAX) {
            return Err(SrtpError::Expired);
        }
        let suite = self.key.suite();
        let packet = without_mki(packet, self.key.mki, suite.rtp_tag_after_mki())?;
        if packet.len() < RTP_HEADER_BYTES + suite.rtp_overhead() {
            return Err(SrtpError::Malformed);
        }
        let of_it = |stream: &Stream| stream.ssrc == head.ssrc;
        let place = self.streams.iter().position(of_it);
        if let Some(newer) = place.and_then(|at| self.streams.get_mut(at..))
            && let Some(stream) = newer.first_mut()
        {
            let plain = self.context.decrypt_rtp(&packet).map_err(why)?;
            stream.heard(head.sequence);
            newer.rotate_left(1);
            self.packets += 1;
            return Ok(plain);
        }
        if let Some(stream) = self.retired.iter().copied().find(of_it) {
            return self.rtp_of_retired(stream, head, &packet);
        }
        self.try_stranger(|context| context.decrypt_rtp(&packet))?;
        self.make_room()?;
        self.streams.push(Stream { ssrc: head.ssrc, index: u64::from(head.sequence) });
        self.packets += 1;
        self.context.decrypt_rtp(&packet).map_err(why)
    }

    /// Has the half of the streams that was heard least lately give way where there are as many as may be:
    /// a peer that begins anew with each announcement is heard all the same. The crate forgets no stream,
    /// so the others get a context anew.
    fn make_room(&mut self) -> Result<(), SrtpError> {
        if self.streams.len() < SRTP_STREAMS_MAX {
            return Ok(());
        }
        let leaving = SRTP_STREAMS_MAX / 2;
        if self.retired.len() + leaving > SRTP_RETIRED_MAX {
            return Err(SrtpError::Refused);
        }
        let mut context = new_context(&self.key)?;
        for stream in self.streams.iter().skip(leaving) {
            resume(&self.key, &mut context, *stream)?;
        }
        let before = std::mem::replace(&mut self.context, context);
        self.of_reports.get_or_insert_with(|| Box::new(before));
        self.retired.extend(self.streams.drain(..leaving));
        Ok(())
    }

    /// A stream that gave way is there again. What came of it before is not taken once more.
    fn rtp_of_retired(
        &mut self,
        stream: Stream,
        head: RtpHead,
        packet: &[u8],
    ) -> Result<BytesMut, SrtpError> {
        if !stream.precedes(head.sequence) {
            return Err(SrtpError::Replayed);
        }
        let mut next = stream;
        next.heard(head.sequence);
        let mut probe = new_probe(&self.key)?;
        advance(&self.key, &mut probe, next)?;
        probe.decrypt_rtp(packet).map_err(why)?;
        self.make_room()?;
        resume(&self.key, &mut self.context, Stream { index: next.index - 1, ..next })?;
        self.retired.retain(|retired| retired.ssrc != next.ssrc);
        self.streams.push(next);
        self.packets += 1;
        self.context.decrypt_rtp(packet).map_err(why)
    }

    /// Peers differ in what a new key does to the rollover counter of a stream that goes on: most begin
    /// at zero, RFC 3711 §3.3.1 keeps it. What did not authenticate by the one is tried by the other.
    fn rtp_with_kept_counter(
        &mut self,
        head: RtpHead,
        packet: &[u8],
    ) -> Result<BytesMut, SrtpError> {
        let known = self.streams.iter().chain(&self.retired).any(|it| it.ssrc == head.ssrc);
        let kept = self.kept.iter().find(|stream| stream.ssrc == head.ssrc).copied();
        let Some(mut stream) = kept.filter(|_| !known) else { return Err(SrtpError::Refused) };
        stream.heard(head.sequence);
        if stream.index >> 16 == 0 || self.streams.len() >= SRTP_STREAMS_MAX {
            return Err(SrtpError::Refused);
        }
        let suite = self.key.suite();
        let packet = without_mki(packet, self.key.mki, suite.rtp_tag_after_mki())?;
        let mut probe = new_probe(&self.key)?;
        advance(&self.key, &mut probe, stream)?;
        probe.decrypt_rtp(&packet).map_err(why)?;
        advance(&self.key, &mut self.context, stream)?;
        self.streams.push(stream);
        self.packets += 1;
        self.context.decrypt_rtp(&packet).map_err(why)
    }

    fn rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        let suite = self.key.suite();
        let packet = without_mki(packet, self.key.mki, suite.rtcp_tag_after_mki())?;
        if packet.len() < RTCP_HEADER_BYTES + suite.rtcp_overhead() {
            return Err(SrtpError::Malformed);
        }
        let ssrc = packet.get(4..8).and_then(|bytes| bytes.first_chunk::<4>().copied());
        let ssrc = ssrc.map(u32::from_be_bytes).ok_or(SrtpError::Malformed)?;
        // The crate takes a packet that says it is not encrypted without looking at its tag. We agree to
        // no UNENCRYPTED_SRTCP, so there is none.
        let index_at = packet.len() - suite.rtcp_tag_after_mki() - SRTCP_INDEX_BYTES;
        if packet.get(index_at).is_none_or(|byte| byte & 0x80 == 0) {
            return Err(SrtpError::Refused);
        }
        if self.reporters.contains(&ssrc) {
            let context = self.of_reports.as_deref_mut().unwrap_or(&mut self.context);
            return context.decrypt_rtcp(&packet).map_err(why);
        }
        if self.reporters.len() >= SRTP_STREAMS_MAX {
            return Err(SrtpError::Refused);
        }
        self.try_stranger(|context| context.decrypt_rtcp(&packet))?;
        self.reporters.push(ssrc);
        let context = self.of_reports.as_deref_mut().unwrap_or(&mut self.context);
        context.decrypt_rtcp(&packet).map_err(why)
    }

    /// Tries a packet of an unknown stream where it leaves no trace but a bounded one.
    fn try_stranger(
        &mut self,
        what: impl FnOnce(&mut Context) -> Result<BytesMut, CrateError>,
    ) -> Result<(), SrtpError> {
        let (mut context, tried) = match self.strangers.take() {
            Some(strangers) => strangers,
            None => (Box::new(new_probe(&self.key)?), 0),
        };
        let judged = what(&mut context).map_err(why);
        if tried + 1 < SRTP_STRANGERS_MAX {
            self.strangers = Some((context, tried + 1));
        }
        judged.map(drop)
    }
}

impl fmt::Debug for SrtpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpSender").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KeyContext");
        shown.field("key", &self.key).field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl SrtpSuite {
    /// Bytes of the tag that stand behind the identifier of the key in RTP: with AES-GCM the tag belongs
    /// to the ciphertext, and the identifier comes last (RFC 7714 §8.3).
    const fn rtp_tag_after_mki(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
            Self::AeadAes128Gcm => 0,
        }
    }

    /// The same for RTCP, whose tag is always long.
    const fn rtcp_tag_after_mki(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 10,
            Self::AeadAes128Gcm => 0,
        }
    }
}

/// Puts the identifier of the key before the last `suffix` bytes.
fn with_mki(packet: BytesMut, mki: Option<Mki>, suffix: usize) -> BytesMut {
    let Some(mki) = mki else { return packet };
    let (body, tag) = packet.split_at(packet.len().saturating_sub(suffix));
    let mut marked = BytesMut::with_capacity(packet.len() + usize::from(mki.length));
    marked.extend_from_slice(body);
    marked.extend(mki.bytes());
    marked.extend_from_slice(tag);
    marked
}

/// Takes the identifier of the key out from before the last `suffix` bytes; a packet that names another
/// key is refused.
fn without_mki(packet: &[u8], mki: Option<Mki>, suffix: usize) -> Result<Cow<'_, [u8]>, SrtpError> {
    let Some(mki) = mki else { return Ok(Cow::Borrowed(packet)) };
    let end = packet.len().checked_sub(suffix).ok_or(SrtpError::Malformed)?;
    let start = end.checked_sub(usize::from(mki.length)).ok_or(SrtpError::Malformed)?;
    let parts = (packet.get(..start), packet.get(start..end), packet.get(end..));
    let (Some(body), Some(named), Some(tag)) = parts else { return Err(SrtpError::Malformed) };
    if !named.iter().copied().eq(mki.bytes()) {
        return Err(SrtpError::Refused);
    }
    Ok(if tag.is_empty() { Cow::Borrowed(body) } else { Cow::Owned([body, tag].concat()) })
}

fn why(error: CrateError) -> SrtpError {
    match error {
        CrateError::SrtpSsrcDuplicated(..) | CrateError::SrtcpSsrcDuplicated(..) => {
            SrtpError::Replayed
        }
        CrateError::ErrExceededMaxPackets => SrtpError::Expired,
        CrateError::ErrTooShortRtp | CrateError::ErrTooShortRtcp => SrtpError::Malformed,
        _ => SrtpError::Refused,
    }
}

#[cfg(test)]
mod tests;
