//! The figures of one media session.

use crate::types::quality::Quality;
use crate::types::srtp::SrtpSuite;

/// The figures of one media session since it was opened. "In" is from the peer to us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaStatistics {
    /// RTP packets received and believed.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// RTP payload octets received and believed.
    pub octets_in: u64,
    /// RTP payload octets sent.
    pub octets_out: u64,
    /// Packets lost on the way in.
    pub lost_in: u64,
    /// Packets that came too late to be heard in their time: what was made up for them was heard instead.
    pub late_in: u64,
    /// Packets that came twice.
    pub duplicate_in: u64,
    /// Packets the jitter buffer threw away, or cut out of what sounds to take back delay.
    pub discarded_in: u64,
    /// 20 ms frames that were expected and had to be concealed: `concealed_ms` of the quality in frames.
    pub concealed: u64,
    /// Packets the peer reports as lost.
    pub lost_out: Option<u64>,
    /// Interarrival jitter on the way in (RFC 3550 §6.4.1), in ms.
    pub jitter_in_ms: f32,
    /// Jitter the peer reports, in ms.
    pub jitter_out_ms: Option<f32>,
    /// Round trip by RTCP, in ms.
    pub round_trip_ms: Option<f32>,
    /// Listening quality on the way in (ITU-T G.107), 1 to 4.5; `None` before any audio.
    pub mos_in: Option<f32>,
    /// Listening quality on the way out by the peer's reports; `None` before the first.
    pub mos_out: Option<f32>,
    /// Packets from a source that was not believed.
    pub foreign: u64,
    /// Times another source took over after signalling or silence.
    pub relatched: u32,
    /// How media is encrypted; `None`: it is not.
    pub srtp: Option<SrtpSuite>,
    /// Encrypted packets that did not authenticate: another key, or changed on their way.
    pub srtp_refused: u64,
    /// Encrypted packets that came twice, or were older than the replay window.
    pub srtp_replayed: u64,
    /// Datagrams that are neither RTP nor RTCP, or malformed.
    pub malformed: u64,
    /// RTP of a payload type that was not negotiated.
    pub unexpected: u64,
    /// Keys received.
    pub digits: u32,
    /// Times the agent's audio ran dry within an utterance.
    pub underruns: u32,
    /// Frames of caller audio the agent did not take in time.
    pub frames_dropped: u64,
    /// Milliseconds of agent audio played.
    pub played_ms: u64,
    /// Ticks left out because the media thread came too late.
    pub ticks_skipped: u64,
    /// Audio waiting in the jitter buffer, in ms.
    pub jitter_level_ms: u32,
    /// Audio of the agent waiting to be played, in ms.
    pub playout_ms: u32,
    /// How good the audio is, each way.
    pub quality: Quality,
    /// RTCP packets received and believed.
    pub reports_in: u32,
    /// Milliseconds from the opening to the first believed packet.
    pub first_packet_ms: Option<u64>,
}
