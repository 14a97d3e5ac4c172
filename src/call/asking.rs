//! Who speaks in a call, asked of its tenant's application: before a call in is answered, once one out is.

use crate::call::Call;
use crate::call::State;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::news::News;
use crate::call::setup::AgentTerms;
use crate::call::setup::NextAgent;
use crate::call::timer::Timer;
use crate::types::answer_hook::AskFault;
use crate::types::answer_hook::AskOutcome;
use crate::types::cause::HangupCause;
use crate::types::header::CallVariables;
use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Who answers.
    pub answerer: Answerer,
    /// What it set.
    pub variables: CallVariables,
}

/// What the application said of who answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answerer {
    /// Nothing that changes the call.
    Kept,
    /// That another profile's agent answers, and who takes over from that.
    Other(Box<NextAgent>, VecDeque<NextAgent>),
    /// Nothing that can be used.
    Failed(AskFault),
}

/// Whoever asks keeps to the limit and says so; this long after it he is not waited for.
const GRACE: Duration = Duration::from_millis(500);

impl Call {
    /// Asks who answers where the profile wants that; else it goes on at once. Meanwhile the caller hears nothing
    /// yet, may hang up, and is given up when it rang for too long.
    pub(super) fn ask_or_start(&mut self, now: Moment, out: &mut Vec<Output>) {
        match self.setup.asks.take() {
            Some(limit) => {
                self.timers.set(Timer::AskEnd, now + limit + GRACE);
                out.push(Output::AskWhoAnswers);
            }
            None => self.start_partner(now, out),
        }
    }

    /// Asks who speaks with a called party that just answered. Meanwhile it hears comfort audio: nobody is connected
    /// for nothing.
    pub(super) fn ask_once_answered(
        &mut self,
        now: Moment,
        limit: Duration,
        out: &mut Vec<Output>,
    ) {
        self.near.start_playout(out);
        self.begin_talk(now);
        self.state = State::Asking;
        self.timers.set(Timer::AskEnd, now + limit + GRACE);
        out.push(Output::AskWhoAnswers);
    }

    pub(super) fn in_asking(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match news {
            News::Near(news) => self.near_answered(now, news, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            // There is nobody yet from whom it could be taken.
            News::Transfer(_) => self.cannot_transfer(HangupCause::Policy, out),
            News::Due(Timer::AskEnd) => self.ask_too_late(now, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun | News::Far(..) | News::Agent(_) | News::Confirmed | News::Withdrawn => (),
        }
    }

    /// It is known who speaks.
    fn go_on(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.state != State::Asking {
            return self.start_partner(now, out);
        }
        self.state = State::Talking;
        if !self.reach_partner(now, out) {
            self.announce(now, HangupCause::Overload, out);
        }
    }

    /// The application answered, or will not. What comes when nobody waits for it changes nothing.
    pub(super) fn answerer_told(&mut self, now: Moment, asked: Asked, out: &mut Vec<Output>) {
        let waits = matches!(self.state, State::Opening | State::Asking);
        if !waits || !self.timers.is_set(Timer::AskEnd) {
            return;
        }
        self.timers.stop(Timer::AskEnd);
        let outcome = match asked.answerer {
            Answerer::Kept => AskOutcome::Kept,
            Answerer::Failed(why) => AskOutcome::Failed(why),
            Answerer::Other(other, fallbacks) => {
                out.push(Output::Agent(AgentOutput::TakeProfile(other.profile)));
                self.setup.agent = AgentTerms::of(&other.agent);
                self.setup.partner = other.partner;
                self.setup.fallbacks = fallbacks;
                AskOutcome::Overridden(other.profile)
            }
        };
        let variables = Box::new(asked.variables);
        out.push(Output::Record(CallEvent::AnswerAsked(outcome, variables)));
        self.go_on(now, out);
    }

    /// Nobody says what came of asking.
    pub(super) fn ask_too_late(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (outcome, variables) = (AskOutcome::Failed(AskFault::Late), Box::default());
        out.push(Output::Record(CallEvent::AnswerAsked(outcome, variables)));
        self.go_on(now, out);
    }
}
