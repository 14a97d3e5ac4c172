//! What a call is told (past tense) and what it asks for (imperative).

use crate::call::asking::Asked;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::LegTerms;
use crate::call::event::CallEvent;
use crate::call::event::MediaFigures;
use crate::call::leg::Place;
use crate::call::record::RecordOrder;
use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::call::supervision::SupervisionMode;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;
use crate::sdp::SrtpTerms;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::AiProfileId;
use crate::types::peer_reason::PeerReason;
use bytes::Bytes;
use std::time::Duration;

/// Something that happened to the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// An outbound call begins.
    Begun,
    /// Of a leg's signalling.
    Leg(LegSide, LegInput),
    /// Of the signalling of a leg that another dialog may have taken over: what is of one before the
    /// present changes nothing.
    LegOf {
        /// Which leg.
        side: LegSide,
        /// Which of its dialogs, counted from 0; after that what `LegOutput::AnswerReplacement` says.
        turn: u8,
        /// What happened.
        input: LegInput,
    },
    /// Of a leg's media.
    Media(LegSide, MediaInput),
    /// Of the agent, or the announcement in its place.
    Agent(AgentInput),
    /// The tenant's application said who answers, or will not.
    Asked(Box<Asked>),
    /// The switch or an operator ends the call.
    HangupRequested {
        /// Why.
        cause: HangupCause,
        /// Who asked.
        by: Party,
    },
    /// The agent or an application wants the near leg to talk with somebody else.
    TransferRequested(TransferRequest),
    /// The agent has spoken with the target of an attended transfer: bridge them.
    TransferConfirmed,
    /// The transfer under way shall be given up, and the near leg come back.
    TransferWithdrawn,
    /// An application puts a leg on hold.
    HoldRequested(LegSide),
    /// An application takes a leg back from hold.
    ResumeRequested(LegSide),
    /// The moment of [`crate::call::Call::deadline`] has come.
    DeadlineReached,
}

/// A leg that takes another one's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// What it offers; `None`: we make the offer.
    pub offer: Option<Bytes>,
    /// Where our media are from then on; `None`: where they were.
    pub place: Option<Place>,
    /// What is allowed of SRTP by the way it came, in our answers and in our offers, with keys of its own: the leg
    /// before knows those that were, and this one nothing of the streams under them. `None`: what was.
    pub srtp: Option<(SrtpTerms, SrtpTerms)>,
}

/// Something that happened to a leg's signalling.
///
/// A leg that was dialled ends with exactly one of `DialFailed` and `Ended`. After
/// [`LegOutput::HangUp`], [`LegOutput::Refuse`] or an end, whatever still comes of the leg changes
/// nothing, but that an answer is hung up.
#[derive(Clone, Debug, PartialEq)]
pub enum LegInput {
    /// The peer wants a call; without a body we make the offer.
    Offered(Option<Bytes>),
    /// The peer acknowledged our answer, with a body when the offer was ours.
    Acknowledged(Option<Bytes>),
    /// The peer gave up before we answered; nothing is left to be said to it.
    Cancelled,
    /// The next attempt goes another way and needs an offer made for that. Answered by
    /// `LegOutput::Offer`. A place is given where our media has another address on that way.
    OfferWanted {
        /// The terms from now on; `None`: those there are.
        terms: Option<Box<LegTerms>>,
        /// Where our media is from now on, if elsewhere.
        place: Option<Place>,
    },
    /// The party we dialled makes progress, by a provisional response above 100.
    Progressed {
        /// 101 to 199.
        status: u16,
        /// Early session description.
        body: Option<Bytes>,
    },
    /// The party we dialled answered; to be acknowledged. Where it described itself before, that comes with
    /// its answer.
    Answered(Option<Bytes>),
    /// The party we dialled cannot be had, after all attempts; nothing is left to be said to it.
    DialFailed {
        /// Why.
        cause: HangupCause,
        /// The final status, if one came.
        status: Option<u16>,
    },
    /// The peer offers anew within the call; without a body we make the offer.
    Reoffered(Option<Bytes>),
    /// The peer accepted our new offer.
    ReofferAnswered(Option<Bytes>),
    /// Our new offer was refused; what was agreed stays in force.
    ReofferRefused {
        /// 300 to 699; 408 for a time-out. 491 too where it could not be made, since another one is under way.
        status: u16,
        /// It waited long enough since: what is still wanted can be offered at once.
        has_waited: bool,
    },
    /// The peer answered a repetition of our last description, which the signalling made by itself.
    Refreshed(Bytes),
    /// The peer told by signalling that a key was pressed.
    Digit(char),
    /// The peer tells how far it got with connecting the call with somebody else.
    ReferProgressed {
        /// 100 to 699: what the other party answered. 202: the request itself was accepted.
        status: u16,
    },
    /// The peer does not connect the call with somebody else.
    ReferFailed {
        /// 300 to 699; 408 for a time-out.
        status: u16,
    },
    /// The peer wants the other side of the call connected with somebody else: of the near leg's peer
    /// that is the agent, of another's the near leg.
    Referred(Box<DialRequest>),
    /// Another leg of the same peer takes this one over. To be answered by `AnswerReplacement` or
    /// `RefuseReplacement`.
    Replaced(Box<Successor>),
    /// Who was to take the leg over gave up while our answer was under way to it: all is as before.
    ReplacementLost,
    /// Why the peer ends its side, in its own words; `Ended` or `Cancelled` follows.
    Explained(Box<PeerReason>),
    /// The peer's side ended; nothing is left to be said to it.
    Ended {
        /// Why.
        cause: HangupCause,
        /// Who ended it.
        by: Party,
    },
}

/// Something that happened to a leg's media.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaInput {
    /// Ports were reserved.
    Reserved(Place),
    /// The media session runs on the reserved ports.
    Opened,
    /// No ports could be had, or no media thread takes another session.
    Refused(HangupCause),
    /// The first packet of the peer's audio came.
    FirstPacket,
    /// No media came for as long as the trunk allows.
    TimedOut,
    /// The media session is lost by a fault of ours.
    Failed,
    /// The peer presses a key, heard in the media; `Digit` follows once it is up.
    Pressed,
    /// The peer pressed a key, heard in the media; whom the audio reaches heard it as well.
    Digit(char),
    /// The clip of this number was played to its end.
    Played(u32),
    /// The media is closed; these are its figures, if it was ever open.
    Closed(Option<Box<MediaFigures>>),
}

/// Something that happened to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentInput {
    /// It is connected and may speak.
    Ready,
    /// It could not be reached.
    Failed(HangupCause),
    /// It was lost after it had been ready.
    Lost(HangupCause),
    /// Its connection broke, and is made anew.
    Interrupted(HangupCause),
    /// All that it had said before was played, and it is not back yet.
    Missed,
    /// It is back.
    Resumed,
    /// It ended the call; what it had said has been played.
    HungUp,
    /// The fallback announcement has been played.
    FallbackPlayed,
}

/// Something that must be done for the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// By a leg's signalling.
    Leg(LegSide, LegOutput),
    /// By a leg's media.
    Media(LegSide, MediaOutput),
    /// By the agent.
    Agent(AgentOutput),
    /// From now on audio goes this way, and no other. Before the first of these it goes between the near
    /// leg and the agent.
    Connect(AudioPath),
    /// From now on the supervisor in this seat takes part so; `None`: not any more.
    Supervise(Seat, Option<SupervisionMode>),
    /// Ask the tenant's application who answers; answered by [`Input::Asked`].
    AskWhoAnswers,
    /// Write this into the record.
    Record(CallEvent),
    /// The call is over; nothing follows.
    Finish,
}

/// What a leg's signalling must do.
#[derive(Clone, Debug, PartialEq)]
pub enum LegOutput {
    /// Tell the caller how far its call got: that it rings, or with a body what it shall hear meanwhile.
    Progress {
        /// 101 to 199.
        status: u16,
        /// Early session description.
        body: Option<Bytes>,
    },
    /// Answer the caller with this session description.
    Answer(Bytes),
    /// Refuse the caller.
    Refuse {
        /// Why.
        cause: HangupCause,
        /// The status to refuse with.
        status: u16,
        /// Somebody else refuses, whom the caller was to be connected with.
        is_theirs: bool,
    },
    /// Dial. Which trunk and gateway, and which after that, is decided by who does it.
    Dial {
        /// To whom.
        target: DialTarget,
        /// Who is rung beside that one, each by an offer that is asked for.
        beside: Vec<DialTarget>,
        /// Our offer; `None`: the peer makes it.
        offer: Option<Bytes>,
        /// When all attempts together are given up by the call; a hint, `HangUp` will come.
        ring_max: Duration,
    },
    /// The offer of the next attempt; `None`: the peer makes it.
    Offer(Option<Bytes>),
    /// There is nothing to offer by the way that was asked for, told by who keeps the media.
    NotOffered(HangupCause),
    /// Acknowledge the answer, with ours where the offer was the peer's.
    Acknowledge(Option<Bytes>),
    /// Answer the peer's new offer.
    AnswerReoffer(Bytes),
    /// Refuse the peer's new offer; the call goes on as it was.
    RefuseReoffer(HangupCause),
    /// Offer anew.
    Reoffer(Bytes),
    /// Tell the peer of a key.
    SendKey {
        /// The key.
        digit: char,
        /// How long it is said to be pressed, in ms.
        duration_ms: u32,
    },
    /// Ask the peer to connect the call with somebody else.
    Refer(DialTarget),
    /// Ask the peer to connect the call with the party of this other leg, in our place on both.
    ReferToLeg(LegSide),
    /// The peer's wish for somebody else is granted, and will be reported on.
    AcceptRefer,
    /// The peer's wish for somebody else is refused.
    RefuseRefer {
        /// 300 to 699.
        status: u16,
    },
    /// Tell the peer how far its wish for somebody else got; a status from 200 on is the last word.
    NotifyRefer {
        /// 100 to 699.
        status: u16,
    },
    /// Answer the leg that takes this one over, hang up the one before, and go on with the new one.
    AnswerReplacement {
        /// Our description.
        body: Bytes,
        /// What tells what happens to it from what happens to those before.
        turn: u8,
    },
    /// Refuse the leg that would take this one over.
    RefuseReplacement(HangupCause),
    /// Give this for the reason of the `HangUp` that follows, in place of its cause: what the peer of the other leg
    /// said.
    Explain(Box<PeerReason>),
    /// End the leg in whatever way its state asks for. An answer that crosses this is hung up.
    HangUp(HangupCause),
}

/// What a leg's media must do.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaOutput {
    /// Reserve ports; answered by `Reserved` or `Refused`.
    Reserve,
    /// Open the media session on the reserved ports; it sends nothing before a plan comes. Answered by
    /// `Opened` or `Refused`.
    Open,
    /// Run the media by this plan from now on.
    Update(MediaPlan),
    /// Let be heard what the peer sends by an offer of ours whose answer is not here yet. The next plan ends that;
    /// `None`: nothing came of the offer.
    Expect(Option<Offered>),
    /// Let be heard what was held back so far.
    StartPlayout,
    /// Send the key to the peer in the way agreed for keys.
    SendDigit(char),
    /// Let the peer hear the clip of this number, which whoever carries this out was given, instead of whom
    /// it talks with.
    Play(u32),
    /// Let it hear whom it talks with again.
    StopPlaying,
    /// Let silence be heard in place of the peer (inward), or by it (outward).
    Mute {
        /// The peer is not heard.
        inward: bool,
        /// It hears nobody.
        outward: bool,
    },
    /// Let this become of the recording.
    Record(RecordOrder),
    /// Close the media session, give back the ports; answered by `Closed`.
    Close,
}

/// What the agent must do or be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentOutput {
    /// Connect it.
    Start,
    /// Connect the one that was given, in place of one that was ended.
    Attach,
    /// From now on the agent is that of this profile, one of the call's fallbacks.
    TakeProfile(AiProfileId),
    /// Tell it that the call was answered.
    TellAnswered,
    /// Tell it of a key that the media did not carry.
    TellDigit(char),
    /// Tell it of a transfer.
    TellTransfer(TransferNews),
    /// End its part.
    End,
    /// Replace it by the fallback announcement, heard by whom it talked with.
    StartFallback,
}

/// Who hears whom. Legs and agent that a path does not name hear comfort noise, and are not heard; what
/// an agent still had queued when it left the path is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioPath {
    /// This leg and the agent hear each other.
    Agent(LegSide),
    /// The near leg and this one hear each other.
    Bridge(LegSide),
    /// The far leg and the third hear each other.
    Others,
    /// The near leg hears this one, which hears nothing: early media.
    Early(LegSide),
    /// The near leg waits and hears this.
    Waiting(Comfort),
    /// Nobody hears anybody: a call of ours that is not answered yet, and whose early media is nobody's.
    Apart,
}

/// What a leg hears that waits. Where no such sound is built, comfort noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comfort {
    /// Whom it is to talk with is dialled, and does not ring yet.
    Silence,
    /// Whom it is to talk with rings.
    Ringback,
    /// The same for an agent that connects: what that says already is kept for the answer.
    Connecting,
    /// The same for the first agent of a call that was answered before it: one that is there in a moment is not
    /// heard to ring.
    Starting,
    /// The same, with noise alone.
    Quiet,
    /// It is on hold.
    Hold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_is_told_stays_small() {
        // Each call has room for a block of 32 of these from its first message on.
        assert!(size_of::<Input>() <= 48, "{} bytes", size_of::<Input>());
    }
}
