//! What an application asks of a running call: begun in the same step in which it is judged, or refused
//! for what stands against it.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::event::CallEvent;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::record::RecordOrder;
use crate::call::record::Recording;
use crate::call::setup::NextAgent;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::call::supervision::Supervise;
use crate::call::supervision::SupervisionMode;
use crate::call::supervision::SupervisorStanding;
use crate::types::agent::AgentSettings;
use crate::types::cause::HangupCause;
use crate::types::id::AiProfileId;
use crate::types::moment::Moment;
use std::collections::VecDeque;

/// What an application asks of a running call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The near leg's peer is put on hold.
    Hold,
    /// It is taken back.
    Resume,
    /// It hears this instead of whom it talks with.
    Play(Play),
    /// That ends at once.
    StopPlaying,
    /// A leg's peer is sent these keys.
    SendKeys {
        /// Of which leg: [`LegSide::Far`] means whichever leg the near one talks with, or the agent in its place.
        side: LegSide,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        keys: String,
    },
    /// This side is not heard by the other any more.
    Mute(MutedSide),
    /// It is heard again.
    Unmute(MutedSide),
    /// Another agent takes the place of the present one, which is told politely.
    Attach(Box<Attach>),
    /// What becomes of its recording.
    Record(RecordOrder),
    /// A supervisor is dialled.
    Supervise(Box<Supervise>),
    /// One takes part otherwise; `None`: the only one there is.
    ChangeSupervision(Option<Seat>, SupervisionMode),
    /// One is hung up; `None`: the only one there is.
    EndSupervision(Option<Seat>),
}

/// What is played to the near leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    /// Tells it from what was played before.
    pub clip: u32,
    /// What it is called.
    pub name: String,
    /// It is heard together with whom the near leg talks with, not instead.
    pub beside: bool,
}

/// The agent that takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Its profile.
    pub profile: AiProfileId,
    /// How it is reached.
    pub agent: AgentSettings,
    /// Whom the near leg then talks with.
    pub partner: Partner,
    /// Who takes over from it, in turn.
    pub fallbacks: VecDeque<NextAgent>,
    /// It takes the near leg's peer back from another leg it talks with or waits for, which is hung up.
    pub takes_back: bool,
}

/// Who is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutedSide {
    /// The near leg's peer: whom it talks with hears silence.
    Caller,
    /// Whom it talks with: the near leg's peer hears silence.
    Agent,
}

impl MutedSide {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Agent => "agent",
        }
    }
}

/// Why an order makes no sense at this moment. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Senseless {
    /// It is over.
    #[error("the call is over")]
    Over,
    /// It was answered, and is to end only before.
    #[error("the call was answered")]
    Answered,
    /// It was not answered yet.
    #[error("the call is not answered yet")]
    NotAnswered,
    /// The near leg left; the agent is with somebody else.
    #[error("the leg this is about has left the call")]
    LegGone,
    /// It is on hold already.
    #[error("the call is on hold already")]
    OnHold,
    /// It is not on hold.
    #[error("the call is not on hold")]
    NotOnHold,
    /// This side is muted already.
    #[error("that side is muted already")]
    Muted,
    /// This side is not muted.
    #[error("that side is not muted")]
    NotMuted,
    /// Nothing is played.
    #[error("nothing is played")]
    NothingPlays,
    /// The peer agreed to no way of keys.
    #[error("the peer of that leg takes no keys")]
    NoKeys,
    /// The near leg talks with another leg, or a transfer is under way.
    #[error("the call is not with an agent by a link, or a transfer is under way")]
    NotWithAgent,
    /// Another transfer is under way.
    #[error("a transfer of the call is under way")]
    Transferring,
    /// Nobody is consulted.
    #[error("the agent consults nobody")]
    NoConsultation,
    /// There is none, or it cannot be taken back.
    #[error("no transfer that could be taken back is under way")]
    NoTransfer,
    /// It is recorded already.
    #[error("the call is recorded already")]
    Recorded,
    /// It is not recorded.
    #[error("the call is not recorded")]
    NotRecorded,
    /// Its recording is paused already.
    #[error("the call's recording is paused already")]
    RecordPaused,
    /// Its recording is not paused.
    #[error("the call's recording is not paused")]
    RecordNotPaused,
    /// Every seat of its supervisors is taken.
    #[error("the call has as many supervisors as it may have")]
    SupervisorsFull,
    /// It has several, and it is not said which one is meant.
    #[error("the call has several supervisors, and none of them is named")]
    SupervisorUnnamed,
    /// It has none, or not the one that is named.
    #[error("the call has no such supervisor")]
    NotSupervised,
}

impl Senseless {
    /// Every reason there is.
    pub const ALL: [Self; 21] = [
        Self::Over,
        Self::Answered,
        Self::NotAnswered,
        Self::LegGone,
        Self::OnHold,
        Self::NotOnHold,
        Self::Muted,
        Self::NotMuted,
        Self::NothingPlays,
        Self::NoKeys,
        Self::NotWithAgent,
        Self::Transferring,
        Self::NoConsultation,
        Self::NoTransfer,
        Self::Recorded,
        Self::NotRecorded,
        Self::RecordPaused,
        Self::RecordNotPaused,
        Self::SupervisorsFull,
        Self::SupervisorUnnamed,
        Self::NotSupervised,
    ];

    /// For programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Over => "call_over",
            Self::Answered => "call_answered",
            Self::NotAnswered => "not_answered",
            Self::LegGone => "leg_gone",
            Self::OnHold => "already_on_hold",
            Self::NotOnHold => "not_on_hold",
            Self::Muted => "already_muted",
            Self::NotMuted => "not_muted",
            Self::NothingPlays => "nothing_plays",
            Self::NoKeys => "no_keys",
            Self::NotWithAgent => "not_with_agent",
            Self::Transferring => "transfer_under_way",
            Self::NoConsultation => "no_consultation",
            Self::NoTransfer => "no_transfer",
            Self::Recorded => "already_recording",
            Self::NotRecorded => "not_recording",
            Self::RecordPaused => "recording_paused",
            Self::RecordNotPaused => "recording_not_paused",
            Self::SupervisorsFull => "too_many_supervisors",
            Self::SupervisorUnnamed => "supervisor_not_named",
            Self::NotSupervised => "not_supervised",
        }
    }

    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Over => "the call is over",
            Self::Answered => "the call was answered",
            Self::NotAnswered => "the call is not answered yet",
            Self::LegGone => "the leg this is about is not in the call, or not any more",
            Self::OnHold => "the call is on hold already",
            Self::NotOnHold => "the call is not on hold",
            Self::Muted => "that side is muted already",
            Self::NotMuted => "that side is not muted",
            Self::NothingPlays => "nothing is played",
            Self::NoKeys => "the peer of that leg takes no keys",
            Self::NotWithAgent => {
                "the caller talks with another leg than an agent's link, hears the announcement in its place, or is \
                 being transferred"
            }
            Self::Transferring => "a transfer of the call is under way",
            Self::NoConsultation => "the agent consults nobody that it could be through with",
            Self::NoTransfer => "no transfer that could be taken back is under way",
            Self::Recorded => "the call is recorded already",
            Self::NotRecorded => "the call is not recorded",
            Self::RecordPaused => "the call's recording is paused already",
            Self::RecordNotPaused => "the call's recording is not paused",
            Self::SupervisorsFull => {
                "the call has as many supervisors as it may have, present or called: let one go first"
            }
            Self::SupervisorUnnamed => {
                "the call has several supervisors: name one by its `leg`, as `supervisors` of the call has it"
            }
            Self::NotSupervised => "the call has no such supervisor, and none is called",
        }
    }
}

/// What applications changed about a call.
#[derive(Debug, Default)]
pub(super) struct Steered {
    caller_muted: bool,
    agent_muted: bool,
    /// What is played to the near leg.
    play: Option<Play>,
    /// The agent takes another's place, and is not there yet.
    pub(super) attaching: bool,
    /// Its connection broke, and nothing of it is left to be heard.
    pub(super) missing: bool,
    /// Why the last transfer failed that it may take for one under way.
    pub(super) failed_for: Option<HangupCause>,
    pub(super) recording: Recording,
}

impl Steered {
    /// Whether something is played to the near leg.
    pub(super) const fn plays(&self) -> bool {
        self.play.is_some()
    }
}

/// How a call stands, for those who steer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is about.
    pub phase: Phase,
    /// We hold the near leg's peer.
    pub on_hold: bool,
    /// It holds us.
    pub held_by_caller: bool,
    /// It is not heard.
    pub caller_muted: bool,
    /// It does not hear whom it talks with.
    pub agent_muted: bool,
    /// What it hears instead.
    pub playing: Option<String>,
    /// How its recording is.
    pub recording: Recording,
    /// Its supervisors, and those that are called, by their seats.
    pub supervisors: Vec<SupervisorStanding>,
    /// How its agent is: `none`, `connecting`, `ready`, `announcement` or `gone`.
    pub agent: &'static str,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being set up.
    Opening,
    /// The near leg is with its agent.
    WithAgent,
    /// It hears the fallback announcement.
    Announcement,
    /// A transfer is under way.
    Transferring,
    /// It is with another leg.
    Bridged,
    /// It left, and the agent is with another leg.
    HandedOver,
    /// It ends.
    Ending,
}

impl Phase {
    /// The spelling of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::WithAgent => "with_agent",
            Self::Announcement => "announcement",
            Self::Transferring => "transferring",
            Self::Bridged => "bridged",
            Self::HandedOver => "handed_over",
            Self::Ending => "ending",
        }
    }
}

impl Call {
    /// Does what an application asks for, or nothing.
    ///
    /// # Errors
    /// Why it makes no sense at this moment.
    pub fn order(
        &mut self,
        now: Moment,
        order: Order,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        if !self.is_for_another(&order) {
            self.check_answered()?;
        }
        match order {
            Order::Hold => self.order_hold(true, out)?,
            Order::Resume => self.resume(out)?,
            Order::Play(play) => self.play(play, out)?,
            Order::StopPlaying => self.stop_playing(out)?,
            Order::SendKeys { side, keys } => self.send_keys(side, &keys, out)?,
            Order::Mute(side) => self.mute(side, true, out)?,
            Order::Unmute(side) => self.mute(side, false, out)?,
            Order::Attach(attach) => self.attach(now, *attach, out)?,
            Order::Record(order) => self.order_record(order, out)?,
            Order::Supervise(wish) => self.supervise(now, *wish, out)?,
            Order::ChangeSupervision(named, mode) => self.change_supervision(named, mode, out)?,
            Order::EndSupervision(named) => self.end_supervision(named, out)?,
        }
        self.match_codecs(out);
        self.connect(out);
        Ok(())
    }

    /// How the call stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            phase: self.phase(),
            on_hold: self.near.is_holding(),
            held_by_caller: self.near.is_held(),
            caller_muted: self.steered.caller_muted,
            agent_muted: self.steered.agent_muted,
            playing: self.steered.play.as_ref().map(|play| play.name.clone()),
            recording: self.recording(),
            supervisors: self.supervisors.standing(),
            agent: match self.agent {
                AgentState::Absent => "none",
                AgentState::Connecting => "connecting",
                AgentState::Ready => "ready",
                AgentState::Announcing => "announcement",
                AgentState::Gone => "gone",
            },
        }
    }

    const fn phase(&self) -> Phase {
        match self.state {
            State::Idle | State::Opening | State::Calling | State::Asking => Phase::Opening,
            State::Talking => Phase::WithAgent,
            State::Announcing(_) => Phase::Announcement,
            State::Joining(_) if self.answered_at.is_none() => Phase::Opening,
            State::Joining(_) | State::Referring(_) | State::Consulting(_) | State::Handing(_) => {
                Phase::Transferring
            }
            State::Bridged(..) => Phase::Bridged,
            State::Handed(_) => Phase::HandedOver,
            State::Ending(_) | State::Over => Phase::Ending,
        }
    }

    pub(super) fn check_answered(&self) -> Result<(), Senseless> {
        match self.phase() {
            Phase::Ending => Err(Senseless::Over),
            Phase::HandedOver => Err(Senseless::LegGone),
            Phase::Opening
            | Phase::WithAgent
            | Phase::Announcement
            | Phase::Transferring
            | Phase::Bridged => {
                if self.near.is_answered() {
                    Ok(())
                } else if self.near.is_gone() {
                    Err(Senseless::LegGone)
                } else {
                    Err(Senseless::NotAnswered)
                }
            }
        }
    }

    /// Takes the near leg's peer back from hold, where it is: it gets whom a transfer is to, and who put it on hold may
    /// be gone by then.
    pub(super) fn hold_no_longer(&mut self, out: &mut Vec<Output>) {
        // Refused where there is nothing to undo.
        self.resume(out).ok();
    }

    fn resume(&mut self, out: &mut Vec<Output>) -> Result<(), Senseless> {
        self.order_hold(false, out)
    }

    /// Whoever takes an agent's place is heard: that the other was not was about that one. Hold stays, as it is about the
    /// caller.
    pub(super) fn unmute_next(&mut self, out: &mut Vec<Output>) {
        // Refused where there is nothing to undo.
        self.unmute_agent(out).ok();
    }

    fn unmute_agent(&mut self, out: &mut Vec<Output>) -> Result<(), Senseless> {
        self.mute(MutedSide::Agent, false, out)
    }

    fn order_hold(&mut self, holding: bool, out: &mut Vec<Output>) -> Result<(), Senseless> {
        if self.near.is_holding() == holding {
            return Err(if holding { Senseless::OnHold } else { Senseless::NotOnHold });
        }
        if holding && matches!(self.state, State::Announcing(_)) {
            // The call ends with what it would not hear.
            return Err(Senseless::NotWithAgent);
        }
        self.near.hold(holding, out);
        let event = if holding { CallEvent::HoldBegun } else { CallEvent::HoldEnded };
        out.push(Output::Record(event));
        Ok(())
    }

    /// Has the near leg hear the announcement that the call ends with, whatever an application did to it before: it is
    /// taken back from hold, what is played to it stops, and who speaks is muted no more.
    pub(super) fn make_audible(&mut self, out: &mut Vec<Output>) {
        for undo in [Self::resume, Self::stop_playing, Self::unmute_agent] {
            // Refused where there is nothing to undo.
            undo(self, out).ok();
        }
    }

    /// What was played before gives way.
    fn play(&mut self, play: Play, out: &mut Vec<Output>) -> Result<(), Senseless> {
        if !play.beside && matches!(self.state, State::Announcing(_)) {
            // The announcement would wait until it is over, and the call ends without it by then.
            return Err(Senseless::NotWithAgent);
        }
        if self.steered.play.is_some() {
            out.push(Output::Record(CallEvent::PlayEnded { whole: false }));
        }
        out.push(Output::Media(LegSide::Near, MediaOutput::Play(play.clip)));
        out.push(Output::Record(CallEvent::PlayBegun(play.name.clone())));
        self.steered.play = Some(play);
        Ok(())
    }

    fn stop_playing(&mut self, out: &mut Vec<Output>) -> Result<(), Senseless> {
        self.steered.play.take().ok_or(Senseless::NothingPlays)?;
        out.push(Output::Media(LegSide::Near, MediaOutput::StopPlaying));
        out.push(Output::Record(CallEvent::PlayEnded { whole: false }));
        Ok(())
    }

    /// A clip was played to its end. One that gave way to another says so too late to matter.
    pub(super) fn played(&mut self, clip: u32, out: &mut Vec<Output>) {
        if self.steered.play.take_if(|play| play.clip == clip).is_some() {
            out.push(Output::Record(CallEvent::PlayEnded { whole: true }));
        }
    }

    fn mute(
        &mut self,
        side: MutedSide,
        muted: bool,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        if muted && side == MutedSide::Agent && matches!(self.state, State::Announcing(_)) {
            return Err(Senseless::NotWithAgent);
        }
        let steered = &mut self.steered;
        let now = match side {
            MutedSide::Caller => &mut steered.caller_muted,
            MutedSide::Agent => &mut steered.agent_muted,
        };
        if *now == muted {
            return Err(if muted { Senseless::Muted } else { Senseless::NotMuted });
        }
        *now = muted;
        let output =
            MediaOutput::Mute { inward: steered.caller_muted, outward: steered.agent_muted };
        out.push(Output::Media(LegSide::Near, output));
        let event = if muted { CallEvent::Muted(side) } else { CallEvent::Unmuted(side) };
        out.push(Output::Record(event));
        Ok(())
    }
}
