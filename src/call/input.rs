//! What a call is told (past tense) and what it asks for (imperative).

use crate::call::event::CallEvent;
use crate::call::event::MediaFigures;
use crate::call::leg::Place;
use crate::sdp::MediaPlan;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use bytes::Bytes;

/// Something that happened to the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The caller wants a call; without a body we make the offer.
    Offered(Option<Bytes>),
    /// Ports for the media were reserved.
    MediaReserved(Place),
    /// The media session runs on the reserved ports.
    MediaOpened,
    /// No ports could be had, or no media thread takes another session.
    MediaRefused(HangupCause),
    /// The agent is connected and may speak.
    AgentReady,
    /// The agent could not be reached.
    AgentFailed(HangupCause),
    /// The agent was lost after it had been ready.
    AgentLost(HangupCause),
    /// The agent ended the call; what it had said has been played.
    AgentHungUp,
    /// The fallback announcement has been played.
    FallbackPlayed,
    /// The caller acknowledged our answer, with a body when the offer was ours.
    Acknowledged(Option<Bytes>),
    /// The caller offers anew within the call; without a body we make the offer.
    Reoffered(Option<Bytes>),
    /// The caller accepted our new offer.
    ReofferAnswered(Option<Bytes>),
    /// The caller refused our new offer; what was agreed stays in force.
    ReofferRefused,
    /// The caller gave up before we answered; nothing is left to be said to it.
    LegCancelled,
    /// The caller's side ended; nothing is left to be said to it.
    LegEnded {
        /// Why.
        cause: HangupCause,
        /// Who ended it.
        by: Party,
    },
    /// The first packet of the caller's audio came.
    FirstMedia,
    /// No media came for as long as the trunk allows.
    MediaTimedOut,
    /// The caller pressed a key, heard in the media; the agent heard it there as well.
    Digit(char),
    /// The caller's side told by signalling that a key was pressed.
    DigitSignalled(char),
    /// The media is closed; these are its figures.
    MediaClosed(Box<MediaFigures>),
    /// The switch or an operator ends the call.
    HangupRequested {
        /// Why.
        cause: HangupCause,
        /// Who asked.
        by: Party,
    },
    /// The moment of [`crate::call::Call::deadline`] has come.
    DeadlineReached,
}

/// Something that must be done for the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Reserve ports; answered by `MediaReserved` or `MediaRefused`.
    ReserveMedia,
    /// Open the media session on the reserved ports; it sends nothing before a plan comes. Answered by
    /// `MediaOpened` or `MediaRefused`.
    OpenMedia,
    /// Run the media by this plan from now on.
    UpdateMedia(MediaPlan),
    /// Let the agent's audio be heard.
    StartPlayout,
    /// Close the media session; answered by `MediaClosed`.
    CloseMedia,
    /// Connect the agent.
    StartAgent,
    /// Tell the agent that the call was answered.
    TellAgentAnswered,
    /// Tell the agent of a key that the media did not carry.
    TellAgentDigit(char),
    /// End the agent's part.
    EndAgent,
    /// Replace the agent by the fallback announcement.
    StartFallback,
    /// Tell the caller that it rings.
    Ring,
    /// Answer the caller with this session description.
    Answer(Bytes),
    /// Refuse the caller.
    Refuse {
        /// Why.
        cause: HangupCause,
        /// The status to refuse with.
        status: u16,
    },
    /// Answer the caller's new offer.
    AnswerReoffer(Bytes),
    /// Refuse the caller's new offer; the call goes on as it was.
    RefuseReoffer(HangupCause),
    /// Offer anew.
    Reoffer(Bytes),
    /// End the caller's leg.
    HangUp(HangupCause),
    /// Write this into the record.
    Record(CallEvent),
    /// The call is over; nothing follows.
    Finish,
}
