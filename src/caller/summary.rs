//! `CallSummary`: how a call went, and what was wrong with it.

use crate::caller::ear::Heard;
use crate::caller::headers::HeaderFaults;
use crate::caller::line::JITTER_MS;
use crate::caller::line::LineCounts;
use crate::rtp::quality::Conditions;
use crate::rtp::quality::Impairment;
use crate::rtp::quality::loss_percent;
use crate::rtp::quality::mos;
use crate::sdp::NegotiationError;
use crate::types::codec::Codec;
use crate::types::moment::Moment;
use crate::types::srtp::SrtpSuite;
use std::time::Duration;

/// Delay of a packet's own length, in ms, part of the way from mouth to ear.
const PACKET_MS: f32 = 20.0;

/// How a call went.
#[derive(Clone, Debug, PartialEq)]
pub struct CallSummary {
    /// What was wrong; `None`: nothing.
    pub problem: Option<CallProblem>,
    /// The Call-ID, by which the other side's records name the call.
    pub call_id: String,
    /// The final status of the INVITE; `None`: there was none.
    pub status: Option<u16>,
    /// How long the set-up took.
    pub setup: SetupTimes,
    /// From the answer to the end; zero for a call that was not answered.
    pub talked: Duration,
    /// Who ended the call; `None`: it was not answered.
    pub ended_by: Option<EndedBy>,
    /// Value of the `Reason` header of the other side's BYE.
    pub bye_reason: Option<String>,
    /// SIP messages of ours that had to be sent again.
    pub retransmissions: u32,
    /// Offers of the other side within the call, by re-INVITE or UPDATE.
    pub reinvites: u32,
    /// Audio and its quality.
    pub media: MediaSummary,
    /// What was heard.
    pub heard: Heard,
    /// Digits the other side pressed, as telephone events or by INFO.
    pub digits_heard: String,
}

/// How long the set-up took, each from the first INVITE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupTimes {
    /// To the first 100.
    pub trying: Option<Duration>,
    /// To the first response between 101 and 199.
    pub ringing: Option<Duration>,
    /// To the 200.
    pub answered: Option<Duration>,
    /// To the first packet of audio.
    pub audio: Option<Duration>,
}

/// Who ended a call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// This caller.
    Us,
    /// The other side, by BYE.
    FarEnd,
    /// Nobody: the call broke.
    Fault,
}

impl EndedBy {
    /// The spelling of print-outs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::FarEnd => "far end",
            Self::Fault => "fault",
        }
    }
}

/// Audio of a call and its quality.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaSummary {
    /// The codec; `None`: none was agreed on.
    pub codec: Option<Codec>,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// Packets that should have come, by their sequence numbers.
    pub expected: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be heard.
    pub late: u64,
    /// Datagrams that did not belong to the session.
    pub foreign: u64,
    /// Packets of the other side whose RTP headers are not as they should be.
    pub headers: HeaderFaults,
    /// Packets whose RTP headers were looked at: those from where the other side has its media.
    pub judged: u64,
    /// How it was encrypted; `None`: it was not.
    pub srtp: Option<SrtpSuite>,
    /// Encrypted packets that did not authenticate or came twice.
    pub refused: u64,
    /// Share of packets not heard, in percent.
    pub loss_percent: f32,
    /// Interarrival jitter at the end, in ms (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// The largest it ever was, in ms.
    pub jitter_max_ms: f32,
    /// The round trip by RTCP; `None`: the other side sent no report.
    pub round_trip: Option<Duration>,
    /// What the other side says it misses of our packets; `None`: it sent no report.
    pub far_lost: Option<u32>,
    /// Mean opinion score of what was heard, 1 to 4.5 (ITU-T G.107); `None`: nothing was received.
    pub mos: Option<f32>,
}

impl MediaSummary {
    pub(super) fn new(codec: Option<Codec>, counts: &LineCounts) -> Self {
        let lost = u64::try_from(counts.received.lost).unwrap_or(0);
        let late = counts.jitter.late;
        let expected = counts.received.expected;
        let loss_percent = loss_percent(expected, lost, late);
        let reported = counts.feedback.reports > 0;
        let one_way = counts.feedback.round_trip.unwrap_or_default().as_secs_f32() * 500.0;
        let conditions = Conditions {
            impairment: Impairment::G711_CONCEALED,
            loss_percent,
            burst_ratio: 1.0,
            delay_ms: one_way + f32::from(JITTER_MS) + PACKET_MS,
        };
        let far_lost = u32::try_from(counts.feedback.cumulative_lost).unwrap_or(0);
        Self {
            codec,
            sent: counts.sent,
            received: counts.received.packets,
            expected,
            lost,
            late,
            foreign: counts.foreign,
            headers: counts.headers,
            judged: counts.judged,
            srtp: counts.srtp,
            refused: counts.refused,
            loss_percent,
            jitter_ms: counts.received.jitter_us as f32 / 1_000.0,
            jitter_max_ms: counts.received.jitter_max_us as f32 / 1_000.0,
            round_trip: counts.feedback.round_trip,
            far_lost: reported.then_some(far_lost),
            mos: (counts.received.packets > 0).then(|| mos(&conditions)),
        }
    }
}

/// What was wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallProblem {
    /// The other side refused.
    #[error("refused with {status} {phrase}{}", .reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Refused {
        /// The final status.
        status: u16,
        /// Its reason phrase.
        phrase: String,
        /// Value of its `Reason` header.
        reason: Option<String>,
    },
    /// Nothing came back at all.
    #[error("no response from the target")]
    NoResponse,
    /// Nobody answered in time.
    #[error("no answer in time")]
    NoAnswer,
    /// The caller was told to stop before the answer.
    #[error("given up before the answer")]
    GivenUp,
    /// The answer holds no session description, or one that cannot be read.
    #[error("the answer has no usable session description")]
    NoDescription,
    /// The answer leads to no media.
    #[error("the answer leads to no media: {0:?}")]
    NoMedia(NegotiationError),
    /// Answered, and no packet of audio came.
    #[error("no audio was received")]
    NoAudio,
    /// Nothing but silence was heard, and sound was asked for.
    #[error("only silence was received")]
    OnlySilence,
    /// The other side takes no telephone events, so the digits were not sent.
    #[error("the other side takes no telephone events; the digits were not sent")]
    NoKeys,
    /// The BYE was not answered.
    #[error("the hang-up was not answered")]
    HangupUnanswered,
    /// The other side no longer answers within the call.
    #[error("the other side was lost during the call")]
    PeerLost,
    /// The connection was lost.
    #[error("the connection was lost")]
    ConnectionLost,
}

/// The moments of a set-up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Milestones {
    pub(super) dialled: Option<Moment>,
    pub(super) trying: Option<Moment>,
    pub(super) ringing: Option<Moment>,
    pub(super) answered: Option<Moment>,
    pub(super) ended: Option<Moment>,
}

impl Milestones {
    pub(super) fn setup(&self, first_packet: Option<Moment>) -> SetupTimes {
        let since = |moment: Option<Moment>| Some(moment?.since(self.dialled?));
        SetupTimes {
            trying: since(self.trying),
            ringing: since(self.ringing),
            answered: since(self.answered),
            audio: since(first_packet),
        }
    }

    pub(super) fn talked(&self) -> Duration {
        match (self.answered, self.ended) {
            (Some(answered), Some(ended)) => ended.since(answered),
            (Some(_) | None, Some(_) | None) => Duration::ZERO,
        }
    }
}
