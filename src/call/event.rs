//! What happens to a call, in order. The call record is folded from these, and nothing else.

use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::call::steer::MutedSide;
use crate::call::supervision::SupervisionStep;
use crate::call::transfer::TransferMode;
use crate::routing::decision::Decision;
use crate::routing::destination::Prefix;
use crate::types::agent_trouble::FaultWord;
use crate::types::agent_trouble::LinkTroubles;
use crate::types::answer_hook::AskOutcome;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::codec::Codec;
use crate::types::header::CallVariables;
use crate::types::id::AiProfileId;
use crate::types::id::NumberId;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::number::E164;
use crate::types::peer_reason::PeerReason;
use crate::types::quality::Quality;
use crate::types::quality::TroubleTold;
use crate::types::srtp::SrtpSuite;
use crate::types::talk::Talk;
use crate::types::transport::Transport;
use std::net::SocketAddr;
use std::time::Duration;

/// Which way a call was set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// From a carrier to us.
    Inbound,
    /// From us to a carrier.
    Outbound,
}

impl CallDirection {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The birth of a call: who calls, from where, and what was dialled.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Which way it was set up.
    pub direction: CallDirection,
    /// The Call-ID of its signalling, as text for operators.
    pub signalling_id: String,
    /// Where it came from; `None` of a call of ours.
    pub source: Option<SocketAddr>,
    /// How it came; `None` of a call of ours.
    pub transport: Option<Transport>,
    /// The caller as claimed; empty when anonymous.
    pub caller: String,
    /// What was dialled, as it came.
    pub dialled: String,
}

/// Where routing took a call; each part is known only as far as routing got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The trunk it came by.
    pub trunk: Option<TrunkId>,
    /// The tenant it belongs to.
    pub tenant: Option<TenantId>,
    /// The row of the number dialled.
    pub number: Option<NumberId>,
    /// The dialled number in the international form.
    pub dialled: Option<E164>,
    /// The profile of the agent.
    pub ai_profile: Option<AiProfileId>,
}

/// Figures of a call's media, taken when it ended. "In" is from the caller to us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaFigures {
    /// RTP packets received and accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Payload octets received.
    pub octets_in: u64,
    /// Payload octets sent.
    pub octets_out: u64,
    /// Packets lost on the way in.
    pub lost_in: u64,
    /// Packets that came too late to be played.
    pub late_in: u64,
    /// Packets the far end reports as lost, if it reports.
    pub lost_out: Option<u64>,
    /// Interarrival jitter on the way in (RFC 3550 §6.4.1), in ms.
    pub jitter_in_ms: f64,
    /// Jitter the far end reports, in ms.
    pub jitter_out_ms: Option<f64>,
    /// Round trip by RTCP, in ms.
    pub round_trip_ms: Option<f64>,
    /// Estimated listening quality on the way in (ITU-T G.107), 1 to 4.5; `None` without media.
    pub mos_in: Option<f64>,
    /// Estimated listening quality on the way out.
    pub mos_out: Option<f64>,
    /// Packets from addresses other than the caller's, dropped.
    pub foreign: u64,
    /// Times the agent's audio ran dry within an utterance.
    pub underruns: u32,
    /// How media was encrypted at the end; `None`: it was not.
    pub srtp: Option<SrtpSuite>,
    /// Encrypted packets that did not authenticate, dropped.
    pub srtp_refused: u64,
    /// Encrypted packets that came twice or far too late, dropped.
    pub srtp_replayed: u64,
    /// Datagrams that are neither RTP nor RTCP, dropped.
    pub malformed: u64,
    /// RTP of a payload type that was not negotiated, dropped.
    pub unexpected: u64,
    /// How good it was, each way.
    pub quality: Quality,
}

/// One thing that happened to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEvent {
    /// It arrived, or was begun by us.
    Arrived(Box<Arrival>),
    /// Routing decided; the decision carries each step.
    Decided {
        /// Where it leads.
        route: Box<Route>,
        /// Every step on the way.
        decision: Decision,
    },
    /// It was refused.
    Refused {
        /// Why.
        cause: HangupCause,
        /// The SIP status sent.
        status: u16,
    },
    /// It came from a source no trunk lists, and nothing was answered.
    Ignored(HangupCause),
    /// The caller was told that it rings.
    Ringing,
    /// The agent is connected.
    AgentReady,
    /// The agent could not be reached or was lost; what follows is the fallback. With a word that says more,
    /// where there is one.
    AgentFailed(HangupCause, Option<FaultWord>),
    /// The agent's connection broke, and is made anew.
    AgentInterrupted(HangupCause, Option<FaultWord>),
    /// It is back.
    AgentResumed,
    /// The call was answered.
    Answered(Codec),
    /// The caller confirmed the answer.
    Acknowledged,
    /// The first packet of the caller's audio came.
    FirstMedia,
    /// The caller put us on hold.
    Held,
    /// The caller took us back from hold.
    Resumed,
    /// An application put the near leg's peer on hold.
    HoldBegun,
    /// It took it back.
    HoldEnded,
    /// An application muted a side.
    Muted(MutedSide),
    /// It let it be heard again.
    Unmuted(MutedSide),
    /// An application lets the near leg's peer hear this.
    PlayBegun(String),
    /// That is over.
    PlayEnded {
        /// It was played to its end.
        whole: bool,
    },
    /// An application sent keys.
    KeysSent {
        /// To the peer of which leg.
        side: LegSide,
        /// How many. Which is not kept: PINs are sent so.
        count: u32,
    },
    /// The agent is to dial us, naming this id, good once.
    AgentAwaited(String),
    /// The agent asked for something, which is under way, or was refused.
    AgentAsked {
        /// For what.
        wish: AgentWish,
        /// A word that says why not.
        refused: Option<&'static str>,
    },
    /// The link with an agent is over, and not all of it went as it should.
    AgentLink(Box<LinkTroubles>),
    /// The script that leads the call got somewhere, or not.
    ScriptNoted {
        /// A word for it.
        what: &'static str,
        /// More of it, for people.
        detail: String,
    },
    /// An application put the agent of this profile in place of the one before.
    AgentAttached(AiProfileId),
    /// The agent of this profile takes over from one that was not reached or is lost.
    AgentReplaced(AiProfileId),
    /// The tenant's application was asked who answers, and set these variables.
    AnswerAsked(AskOutcome, Box<CallVariables>),
    /// A recording of the near leg got so far.
    Recording(RecordingId, RecordingStep),
    /// Turns of what was said came, those of these numbers.
    TranscriptAdded {
        /// The least.
        first: u32,
        /// The greatest.
        last: u32,
    },
    /// Something happened between the peer of a leg, whose clock it has, and the agent.
    Talk(LegSide, Talk),
    /// Somebody is not heard on a leg, or is again.
    AudioTrouble(LegSide, TroubleTold),
    /// The call has these variables.
    VariablesSet(Box<CallVariables>),
    /// The caller pressed a key.
    Digit(char),
    /// The fallback announcement began.
    FallbackStarted,
    /// A leg was dialled.
    Dialled(LegSide),
    /// An INVITE of ours left for an address.
    Sent {
        /// Of which leg.
        side: LegSide,
        /// Where it went.
        to: SocketAddr,
        /// How.
        transport: Transport,
        /// What it is charged to should it be answered; `None`: a peer, by no trunk.
        charged: Option<Box<Charged>>,
    },
    /// Who dials a leg decided about its attempts; each is a step, added to the call's decision.
    Attempted(Decision),
    /// The party of a dialled leg made progress.
    Progressed {
        /// Which leg.
        side: LegSide,
        /// The provisional status, 101 to 199.
        status: u16,
        /// With audio of its own: early media.
        audible: bool,
    },
    /// A dialled leg other than the near one answered.
    LegAnswered {
        /// Which leg.
        side: LegSide,
        /// In which codec; `None` until a delayed offer is answered.
        codec: Option<Codec>,
        /// What it is charged to, of several that were rung too; `None`: a peer, by no trunk.
        charged: Option<Box<Charged>>,
    },
    /// A dialled leg failed before it answered.
    LegFailed {
        /// Which leg.
        side: LegSide,
        /// Why.
        cause: HangupCause,
        /// The final status, if one came.
        status: Option<u16>,
    },
    /// A leg other than the near one ended.
    LegEnded {
        /// Which leg.
        side: LegSide,
        /// Why.
        cause: HangupCause,
        /// Who ended it.
        by: Party,
    },
    /// The near leg and this one hear each other.
    Bridged(LegSide),
    /// A transfer began.
    TransferBegun(TransferMode),
    /// The transfer failed; the near leg was not lost by that.
    TransferFailed(HangupCause),
    /// Whoever wanted the transfer wants it no more; the near leg was not lost by that.
    TransferWithdrawn,
    /// The transfer succeeded.
    TransferCompleted,
    /// The peer of a leg wanted the call connected with somebody else, and was refused.
    TransferRefused(LegSide),
    /// A new offer of a leg's peer within the call was refused, or one of ours by that, for good; the call
    /// goes on as it was.
    ReofferRefused {
        /// The leg.
        side: LegSide,
        /// Why.
        cause: HangupCause,
    },
    /// Another leg of the same peer took this one over.
    Replaced(LegSide),
    /// The peer of a leg gave a reason with its BYE or CANCEL (RFC 3326).
    PeerReason {
        /// The leg.
        side: LegSide,
        /// What it said.
        reason: Box<PeerReason>,
    },
    /// Something changed about one of its supervisors.
    Supervision(Seat, SupervisionStep),
    /// The media of a leg other than the near one ended with these figures.
    LegMedia(LegSide, Box<MediaFigures>),
    /// The media ended with these figures.
    Media(Box<MediaFigures>),
    /// The call ended.
    Ended {
        /// Why.
        cause: HangupCause,
        /// Who ended it.
        by: Party,
        /// How long it lasted from the answer; zero if never answered.
        duration: Duration,
    },
}

/// What an answered leg out is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The trunk it goes by.
    pub trunk: TrunkId,
    /// The prefix of the trunk's rate for its number; `None`: it has none.
    pub rate: Option<Prefix>,
}

/// What an agent may ask for beside the end of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentWish {
    /// That the caller be connected with somebody else.
    Transfer,
    /// That keys be sent to the caller's side.
    Keys,
}

impl AgentWish {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Keys => "keys",
        }
    }
}

/// How far a recording got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingStep {
    /// It began.
    Started,
    /// It has silence from here on.
    Paused,
    /// It has sound again.
    Resumed,
    /// It is to be closed.
    Stopped,
    /// It is whole, and may be fetched.
    Ready {
        /// How long it is.
        duration_ms: u64,
    },
    /// It ended by a fault; what was written by then is kept. The call goes on.
    Failed {
        /// A word that says why.
        why: String,
    },
}

impl RecordingStep {
    const fn event_name(&self) -> &'static str {
        match self {
            Self::Started => "recording_started",
            Self::Paused => "recording_paused",
            Self::Resumed => "recording_resumed",
            Self::Stopped => "recording_stopped",
            Self::Ready { .. } => "recording_ready",
            Self::Failed { .. } => "recording_failed",
        }
    }
}

impl CallEvent {
    /// The spelling of records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Arrived(_) => "arrived",
            Self::Decided { .. } => "decided",
            Self::Refused { .. } => "refused",
            Self::Ignored(_) => "ignored",
            Self::Ringing => "ringing",
            Self::AgentReady => "agent_ready",
            Self::AgentFailed(..) => "agent_failed",
            Self::AgentInterrupted(..) => "agent_interrupted",
            Self::AgentResumed => "agent_resumed",
            Self::Answered(_) => "answered",
            Self::Acknowledged => "acknowledged",
            Self::FirstMedia => "first_media",
            Self::Held => "held",
            Self::Resumed => "resumed",
            Self::HoldBegun => "hold_begun",
            Self::HoldEnded => "hold_ended",
            Self::Muted(_) => "muted",
            Self::Unmuted(_) => "unmuted",
            Self::PlayBegun(_) => "play_begun",
            Self::PlayEnded { .. } => "play_ended",
            Self::KeysSent { .. } => "keys_sent",
            Self::AgentAwaited(_) => "agent_awaited",
            Self::AgentAsked { .. } => "agent_asked",
            Self::AgentLink(_) => "agent_link",
            Self::ScriptNoted { .. } => "script_noted",
            Self::AgentAttached(_) => "agent_attached",
            Self::AgentReplaced(_) => "agent_replaced",
            Self::AnswerAsked(..) => "answer_asked",
            Self::Recording(_, step) => step.event_name(),
            Self::TranscriptAdded { .. } => "transcript_added",
            Self::Talk(_, talk) => talk.name(),
            Self::AudioTrouble(..) => "audio_trouble",
            Self::VariablesSet(_) => "variables_set",
            Self::Digit(_) => "digit",
            Self::FallbackStarted => "fallback_started",
            Self::Dialled(_) => "dialled",
            Self::Sent { .. } => "sent",
            Self::Attempted(_) => "attempted",
            Self::Progressed { .. } => "progressed",
            Self::LegAnswered { .. } => "leg_answered",
            Self::LegFailed { .. } => "leg_failed",
            Self::LegEnded { .. } => "leg_ended",
            Self::Bridged(_) => "bridged",
            Self::TransferBegun(_) => "transfer_begun",
            Self::TransferFailed(_) => "transfer_failed",
            Self::TransferWithdrawn => "transfer_withdrawn",
            Self::TransferCompleted => "transfer_completed",
            Self::TransferRefused(_) => "transfer_refused",
            Self::ReofferRefused { .. } => "reoffer_refused",
            Self::Replaced(_) => "replaced",
            Self::PeerReason { .. } => "peer_reason",
            Self::Supervision(_, step) => step.event_name(),
            Self::LegMedia(..) => "leg_media",
            Self::Media(_) => "media",
            Self::Ended { .. } => "ended",
        }
    }

    /// True for what only the inside of the switch is about: routing, signalling, packets, and single turns of
    /// the talk. Whoever wants to hear of everything is not told of it, but whoever names it is.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        match self {
            Self::Decided { .. }
            | Self::Refused { .. }
            | Self::Ignored(_)
            | Self::Acknowledged
            | Self::FirstMedia
            | Self::Dialled(_)
            | Self::Sent { .. }
            | Self::Attempted(_)
            | Self::Progressed {
                side: LegSide::Far | LegSide::Third | LegSide::Supervisor(_),
                ..
            }
            | Self::ReofferRefused { .. }
            | Self::Replaced(_)
            | Self::PeerReason { .. }
            | Self::Talk(
                _,
                Talk::Turn(_) | Talk::BargeIn { .. } | Talk::Unheard { .. } | Talk::Underrun { .. },
            )
            | Self::LegMedia(..)
            | Self::Media(_) => true,
            // The first of these is what makes the call ring.
            Self::Progressed { side: LegSide::Near, .. }
            | Self::Talk(_, Talk::Answerer(_))
            | Self::AudioTrouble(..)
            | Self::Arrived(_)
            | Self::Ringing
            | Self::AgentReady
            | Self::AgentFailed(..)
            | Self::AgentInterrupted(..)
            | Self::AgentLink(_)
            | Self::AgentResumed
            | Self::Answered(_)
            | Self::Held
            | Self::Resumed
            | Self::HoldBegun
            | Self::HoldEnded
            | Self::Muted(_)
            | Self::Unmuted(_)
            | Self::PlayBegun(_)
            | Self::PlayEnded { .. }
            | Self::KeysSent { .. }
            | Self::AgentAwaited(_)
            | Self::AgentAsked { .. }
            | Self::ScriptNoted { .. }
            | Self::AgentAttached(_)
            | Self::AgentReplaced(_)
            | Self::AnswerAsked(..)
            | Self::Recording(..)
            | Self::TranscriptAdded { .. }
            | Self::VariablesSet(_)
            | Self::Digit(_)
            | Self::FallbackStarted
            | Self::LegAnswered { .. }
            | Self::LegFailed { .. }
            | Self::LegEnded { .. }
            | Self::Bridged(_)
            | Self::TransferBegun(_)
            | Self::TransferFailed(_)
            | Self::TransferWithdrawn
            | Self::TransferCompleted
            | Self::TransferRefused(_)
            | Self::Supervision(..)
            | Self::Ended { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::answering_machine::AnswererEvent;

    #[test]
    fn what_a_call_out_hears_is_told_at_once_and_the_turns_of_a_talk_are_not() {
        let is_inside = |talk| CallEvent::Talk(LegSide::Near, talk).is_inside();
        assert!(!is_inside(Talk::Answerer(AnswererEvent::GreetingOver { at_ms: 9, beeped: true })));
        assert!(is_inside(Talk::Underrun { at_ms: 40, ms: 20, node_late: false }));
    }
}
