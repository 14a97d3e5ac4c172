//! The call: its legs, its agent, and the order of events between them. Never says SIP.

pub mod asking;
mod bridge;
mod consult;
pub mod dial;
mod end;
pub mod event;
mod fallback;
pub mod forking;
mod handover;
pub mod input;
mod keys;
pub mod leg;
mod line;
mod news;
mod opening;
mod passing;
pub mod record;
mod refer;
pub mod setup;
pub mod side;
pub mod steer;
pub mod supervision;
mod talk;
mod timer;
pub mod transfer;

use crate::call::bridge::Joining;
use crate::call::consult::Consulting;
use crate::call::dial::DialRequest;
use crate::call::end::Ending;
use crate::call::event::CallEvent;
use crate::call::handover::Handed;
use crate::call::handover::Handing;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::MediaInput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::refer::Referring;
use crate::call::setup::CallSetup;
use crate::call::setup::KeptSetup;
use crate::call::setup::Opening;
use crate::call::side::LegSide;
use crate::call::steer::Steered;
use crate::call::supervision::Supervisors;
use crate::call::timer::Timer;
use crate::call::timer::Timers;
use crate::types::cause::HangupCause;
use crate::types::fault_policy::ComfortAudio;
use crate::types::moment::Moment;
use crate::types::peer_reason::PeerReason;
use std::time::Duration;

/// One call: a near leg, and an agent or another leg it talks with.
///
/// Each input passes three stages. The line or agent it is of takes its part: offers are answered,
/// media opened and closed. What is left is news, to which the call's state reacts. Last, who hears
/// whom follows from the state.
#[derive(Debug)]
pub struct Call {
    setup: KeptSetup,
    state: State,
    near: Line,
    far: Option<Box<Line>>,
    third: Option<Box<Line>>,
    supervisors: Supervisors,
    /// The line on which the partner was dialled last.
    partner_side: LegSide,
    timers: Timers,
    agent: AgentState,
    answered_at: Option<Moment>,
    /// The path last asked for.
    path: AudioPath,
    /// Dialled by us when the carrier does not transfer.
    otherwise: Option<Box<DialRequest>>,
    steered: Steered,
    /// Why the peer of this leg ends its side: what the others are told who end by that.
    explained: Option<Box<(LegSide, PeerReason)>>,
}

/// Where the call stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing happened yet.
    Idle,
    /// A carrier calls; it was not answered yet.
    Opening,
    /// We call; it was not answered yet.
    Calling,
    /// We called, it was answered, and an application is asked who speaks.
    Asking,
    /// The near leg is with its agent, or waits for it.
    Talking,
    /// The near leg hears the fallback announcement; the cause is the one the call will end with.
    Announcing(HangupCause),
    /// The near leg waits for another leg to be dialled.
    Joining(Joining),
    /// The near leg is with this one; true: it is the call's agent.
    Bridged(LegSide, bool),
    /// The near leg's carrier was asked to transfer it.
    Referring(Referring),
    /// The agent dials or speaks with the target of its transfer; the near leg waits.
    Consulting(Consulting),
    /// Somebody is dialled who takes the near leg's place, as its peer wants.
    Handing(Handing),
    /// Somebody else is in the near leg's place, which is over.
    Handed(Handed),
    /// Waiting for the media to close.
    Ending(Ending),
    /// Over.
    Over,
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    Absent,
    Connecting,
    Ready,
    /// The fallback announcement is in its place.
    Announcing,
    Gone,
}

impl Call {
    /// A call to which nothing has happened yet.
    #[must_use]
    pub fn new(setup: CallSetup) -> Self {
        let (opening, setup) = setup.begun();
        let near = match opening {
            Opening::Inbound(terms) => Line::inbound(LegSide::Near, &terms),
            Opening::Outbound(request) => Line::outbound(LegSide::Near, request),
        };
        let mut call = Self {
            setup,
            state: State::Idle,
            near,
            far: None,
            third: None,
            supervisors: Supervisors::default(),
            partner_side: LegSide::Far,
            timers: Timers::default(),
            agent: AgentState::Absent,
            answered_at: None,
            path: AudioPath::Agent(LegSide::Near),
            otherwise: None,
            steered: Steered::default(),
            explained: None,
        };
        call.expect_passing();
        call
    }

    /// Applies `input` and appends what must be done to `out`. Total: an input that makes no sense
    /// in the present state changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Begun => self.react(now, News::Begun, out),
            Input::Leg(side, input) => self.signalled(now, side, input, out),
            Input::LegOf { side, turn, input } => {
                if self.line(side).is_none_or(|line| line.turn() == turn) {
                    self.signalled(now, side, input, out);
                }
            }
            Input::Media(side, input) => self.heard(now, side, input, out),
            Input::Agent(input) => self.agent_said(now, input, out),
            Input::HangupRequested { cause, by } => {
                self.react(now, News::HangUp { cause, by }, out);
            }
            Input::Asked(asked) => self.answerer_told(now, *asked, out),
            Input::TransferRequested(request) => self.react(now, News::Transfer(request), out),
            Input::TransferConfirmed => self.react(now, News::Confirmed, out),
            Input::TransferWithdrawn => self.react(now, News::Withdrawn, out),
            Input::HoldRequested(side) => self.hold(side, true, out),
            Input::ResumeRequested(side) => self.hold(side, false, out),
            Input::DeadlineReached => {
                while let Some(timer) = self.timers.take_due(now) {
                    match timer {
                        Timer::SupervisorEnd(seat) => {
                            self.drop_supervisor(seat, HangupCause::NoAnswer, out);
                        }
                        timer => self.react(now, News::Due(timer), out),
                    }
                }
                for side in LegSide::ALL {
                    if let Some(line) = self.line_mut(side) {
                        line.reoffer_due(now, out);
                    }
                    self.keys_due(now, side, out);
                }
            }
        }
        self.match_codecs(out);
        self.end_if_apart(now, out);
        self.start_announcement(out);
        self.supervise_no_longer(out);
        self.connect(out);
    }

    /// The next moment at which the call wants [`Input::DeadlineReached`].
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let of_lines = LegSide::ALL.into_iter().filter_map(|side| {
            let line = self.line(side)?;
            line.reoffers_at().into_iter().chain(line.keys_due_at()).min()
        });
        self.timers.next().into_iter().chain(of_lines).min()
    }

    /// True once nothing follows any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// True from the near leg's answer on.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    fn react(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match self.state {
            State::Idle => self.in_idle(now, news, out),
            State::Opening => self.in_opening(now, news, out),
            State::Calling => self.in_calling(now, news, out),
            State::Asking => self.in_asking(now, news, out),
            State::Talking => self.in_talking(now, news, out),
            State::Announcing(cause) => self.in_announcing(now, cause, news, out),
            State::Joining(joining) => self.in_joining(now, joining, news, out),
            State::Bridged(far, is_agent) => self.in_bridged(now, (far, is_agent), news, out),
            State::Referring(referring) => self.in_referring(now, referring, news, out),
            State::Consulting(consulting) => self.in_consulting(now, consulting, news, out),
            State::Handing(handing) => self.in_handing(now, handing, news, out),
            State::Handed(handed) => self.in_handed(now, handed, news, out),
            State::Ending(ending) => self.in_ending(ending, news, out),
            State::Over => (),
        }
    }

    fn signalled(&mut self, now: Moment, side: LegSide, input: LegInput, out: &mut Vec<Output>) {
        if let LegInput::Explained(reason) = input {
            return self.explained(side, reason, out);
        }
        let is_end = matches!(input, LegInput::Ended { .. } | LegInput::Cancelled);
        self.line_signalled(now, side, input, out);
        if is_end && self.explained.as_ref().is_some_and(|told| told.0 == side) {
            self.explained = None;
        }
    }

    fn line_signalled(
        &mut self,
        now: Moment,
        side: LegSide,
        input: LegInput,
        out: &mut Vec<Output>,
    ) {
        let Some(line) = self.line_mut(side) else {
            // A leg nobody knows any more was answered: nobody may be left alone on it.
            if matches!(input, LegInput::Answered(_)) {
                out.push(Output::Leg(side, LegOutput::HangUp(HangupCause::Normal)));
            }
            return;
        };
        let news = line.signalled(now, input, out);
        self.line_news(now, side, news, out);
    }

    fn heard(&mut self, now: Moment, side: LegSide, input: MediaInput, out: &mut Vec<Output>) {
        if let MediaInput::Played(clip) = input {
            return self.played(clip, out);
        }
        if let MediaInput::Digit(digit) = input
            && let Some(other) = self.bridged_with(side).and_then(|other| self.line(other))
        {
            other.relay_key(digit, out);
        }
        let Some(line) = self.line_mut(side) else { return };
        let news = line.heard(input, out);
        self.line_news(now, side, news, out);
    }

    /// Has the keys take effect that this leg's signalling told, and its media did not in time.
    fn keys_due(&mut self, now: Moment, side: LegSide, out: &mut Vec<Output>) {
        while let Some(news) = self.line_mut(side).and_then(|line| line.key_due(now, out)) {
            self.line_news(now, side, Some(news), out);
        }
    }

    /// Lets go of a far line that is over, and passes on what its line could not settle.
    fn line_news(
        &mut self,
        now: Moment,
        side: LegSide,
        news: Option<LineNews>,
        out: &mut Vec<Output>,
    ) {
        let news = match side {
            LegSide::Near => news.map(News::Near),
            LegSide::Far | LegSide::Third => {
                self.let_go(side, out);
                news.map(|news| News::Far(side, news))
            }
            LegSide::Supervisor(seat) => {
                if let Some(news) = news {
                    self.supervisor_news(now, seat, news, out);
                }
                self.let_go(side, out);
                None
            }
        };
        if let Some(news) = news {
            self.react(now, news, out);
        }
    }

    /// Closes the media of a line that is over, and forgets the line once they are closed.
    fn let_go(&mut self, side: LegSide, out: &mut Vec<Output>) {
        let Some(line) = self.line_mut(side) else { return };
        if line.is_gone() {
            line.close_media(out);
            if line.is_closed() {
                match side {
                    LegSide::Near => (),
                    LegSide::Far => self.far = None,
                    LegSide::Third => self.third = None,
                    LegSide::Supervisor(seat) => self.supervisors.forget(seat),
                }
            }
        }
    }

    fn agent_said(&mut self, now: Moment, input: AgentInput, out: &mut Vec<Output>) {
        let alive = matches!(self.agent, AgentState::Connecting | AgentState::Ready);
        let news = match input {
            AgentInput::Ready if self.agent == AgentState::Connecting => {
                self.agent = AgentState::Ready;
                self.steered.attaching = false;
                out.push(Output::Record(CallEvent::AgentReady));
                AgentNews::Ready
            }
            AgentInput::Failed(cause) | AgentInput::Lost(cause) if alive => {
                out.push(Output::Record(CallEvent::AgentFailed(cause, None)));
                self.end_agent(out);
                AgentNews::Lost(cause)
            }
            AgentInput::HungUp if alive => {
                self.end_agent(out);
                AgentNews::HungUp
            }
            AgentInput::Interrupted(cause) if alive => {
                return out.push(Output::Record(CallEvent::AgentInterrupted(cause, None)));
            }
            AgentInput::Missed if alive => return self.steered.missing = true,
            AgentInput::Resumed if alive => {
                self.steered.missing = false;
                return out.push(Output::Record(CallEvent::AgentResumed));
            }
            AgentInput::FallbackPlayed if self.agent == AgentState::Announcing => AgentNews::Played,
            AgentInput::Ready
            | AgentInput::Failed(_)
            | AgentInput::Lost(_)
            | AgentInput::Interrupted(_)
            | AgentInput::Missed
            | AgentInput::Resumed
            | AgentInput::HungUp
            | AgentInput::FallbackPlayed => return,
        };
        self.react(now, News::Agent(news), out);
    }

    /// Ends the agent, or the announcement in its place.
    fn end_agent(&mut self, out: &mut Vec<Output>) {
        match self.agent {
            AgentState::Absent | AgentState::Gone => (),
            AgentState::Connecting | AgentState::Ready | AgentState::Announcing => {
                out.push(Output::Agent(AgentOutput::End));
            }
        }
        self.agent = AgentState::Gone;
        self.steered.attaching = false;
        self.steered.missing = false;
    }

    /// Tells an agent that is connected.
    fn tell_agent(&self, output: AgentOutput, out: &mut Vec<Output>) {
        if self.agent == AgentState::Ready {
            out.push(Output::Agent(output));
        }
    }

    fn hold(&mut self, side: LegSide, holding: bool, out: &mut Vec<Output>) {
        if let Some(line) = self.line_mut(side) {
            line.hold(holding, out);
        }
    }

    fn line(&self, side: LegSide) -> Option<&Line> {
        match side {
            LegSide::Near => Some(&self.near),
            LegSide::Far => self.far.as_deref(),
            LegSide::Third => self.third.as_deref(),
            LegSide::Supervisor(seat) => self.supervisors.line(seat),
        }
    }

    fn line_mut(&mut self, side: LegSide) -> Option<&mut Line> {
        match side {
            LegSide::Near => Some(&mut self.near),
            LegSide::Far => self.far.as_deref_mut(),
            LegSide::Third => self.third.as_deref_mut(),
            LegSide::Supervisor(seat) => self.supervisors.line_mut(seat),
        }
    }

    /// Lets be heard what a line held back.
    fn start_playout(&mut self, side: LegSide, out: &mut Vec<Output>) {
        if let Some(line) = self.line_mut(side) {
            line.start_playout(out);
        }
    }

    /// Refuses the wish of a line's peer for somebody else.
    fn decline(&self, side: LegSide, out: &mut Vec<Output>) {
        if let Some(line) = self.line(side) {
            line.decline(out);
        }
    }

    /// Hangs up a far line, in whatever stage it is.
    fn drop_line(&mut self, side: LegSide, cause: HangupCause, out: &mut Vec<Output>) {
        self.explain(side, out);
        if let Some(line) = self.line_mut(side) {
            line.hang_up(cause, out);
        }
        self.let_go(side, out);
    }

    /// Asks for the path of the present state where it is another than before.
    fn connect(&mut self, out: &mut Vec<Output>) {
        let path = self.wanted_path();
        if path != self.path {
            self.path = path;
            out.push(Output::Connect(path));
        }
    }

    fn wanted_path(&self) -> AudioPath {
        let agent = AudioPath::Agent(LegSide::Near);
        let path = match self.state {
            State::Opening if self.near.hears_early() => self.before_answer(self.partner_side),
            State::Idle | State::Opening | State::Ending(_) | State::Over => self.path,
            State::Calling => AudioPath::Apart,
            State::Asking => AudioPath::Waiting(Comfort::Connecting),
            State::Talking if self.agent == AgentState::Connecting || self.steered.missing => {
                AudioPath::Waiting(self.comfort())
            }
            State::Talking | State::Announcing(_) => agent,
            State::Referring(referring) => {
                match referring.back {
                    Some((far, _)) => AudioPath::Bridge(far),
                    // The carrier has taken it over: no agent speaks into that.
                    None if referring.target.is_some() => AudioPath::Waiting(Comfort::Hold),
                    None => agent,
                }
            }
            State::Bridged(far, _) => AudioPath::Bridge(far),
            State::Joining(joining) if joining.answered => AudioPath::Bridge(joining.target),
            State::Joining(joining) => self.before_answer(joining.target),
            State::Consulting(consulting) if consulting.answered => {
                AudioPath::Agent(consulting.target)
            }
            State::Consulting(_) => AudioPath::Waiting(Comfort::Hold),
            State::Handing(Handing { target, with: None, answered: true })
            | State::Handed(Handed { target, with: None, .. }) => AudioPath::Agent(target),
            State::Handing(Handing { with: None, .. }) => agent,
            State::Handing(Handing { with: Some((far, _)), answered: false, .. }) => {
                AudioPath::Bridge(far)
            }
            State::Handing(Handing { with: Some(_), .. }) | State::Handed(_) => AudioPath::Others,
        };
        self.unless_holding(path)
    }

    /// What the near leg hears as long as its agent is not there.
    fn comfort(&self) -> Comfort {
        let is_first = !self.steered.attaching && !self.steered.missing;
        match self.setup.agent.comfort {
            ComfortAudio::Noise => Comfort::Quiet,
            ComfortAudio::Ringback if is_first => Comfort::Starting,
            ComfortAudio::Ringback => Comfort::Connecting,
        }
    }

    /// What the near leg hears of whom it is to talk with, as long as that does not answer.
    fn before_answer(&self, target: LegSide) -> AudioPath {
        match self.line(target) {
            Some(line) if line.is_audible() => AudioPath::Early(target),
            Some(line) if line.rings() => AudioPath::Waiting(Comfort::Ringback),
            Some(_) => AudioPath::Waiting(Comfort::Silence),
            // Its agent connects.
            None => AudioPath::Waiting(Comfort::Connecting),
        }
    }

    /// Who is on hold hears that, and nobody else.
    fn unless_holding(&self, path: AudioPath) -> AudioPath {
        let holds = |side| self.line(side).is_some_and(Line::is_holding);
        let held = match path {
            AudioPath::Agent(side) => holds(side),
            AudioPath::Bridge(far) | AudioPath::Early(far) => holds(LegSide::Near) || holds(far),
            AudioPath::Others => holds(LegSide::Far) || holds(LegSide::Third),
            // One that has no agent at the moment is on hold all the same.
            AudioPath::Waiting(Comfort::Connecting | Comfort::Starting | Comfort::Quiet) => {
                holds(LegSide::Near)
            }
            AudioPath::Waiting(Comfort::Silence | Comfort::Ringback | Comfort::Hold)
            | AudioPath::Apart => false,
        };
        if held { AudioPath::Waiting(Comfort::Hold) } else { path }
    }

    fn talked(&self, now: Moment) -> Duration {
        self.answered_at.map_or(Duration::ZERO, |answered| now.since(answered))
    }

    /// Passes a key that the media did not carry to whom `from` is connected with.
    fn pass_key(&self, from: LegSide, digit: char, out: &mut Vec<Output>) {
        if self.path == AudioPath::Agent(from) {
            self.tell_agent(AgentOutput::TellDigit(digit), out);
        } else if let Some(line) = self.bridged_with(from).and_then(|to| self.line(to)) {
            line.send_key(digit, out);
        }
    }

    /// The leg with which this one talks.
    fn bridged_with(&self, side: LegSide) -> Option<LegSide> {
        match self.path {
            AudioPath::Bridge(far) if side == LegSide::Near => Some(far),
            AudioPath::Bridge(far) if side == far => Some(LegSide::Near),
            AudioPath::Others => match side {
                LegSide::Near | LegSide::Supervisor(_) => None,
                LegSide::Far => Some(LegSide::Third),
                LegSide::Third => Some(LegSide::Far),
            },
            AudioPath::Agent(_)
            | AudioPath::Bridge(_)
            | AudioPath::Early(_)
            | AudioPath::Waiting(_)
            | AudioPath::Apart => None,
        }
    }
}

#[cfg(test)]
mod tests;
