//! Who answers a call in, asked of its tenant's application before anybody does.

use crate::call::Call;
use crate::call::State;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::setup::NextAgent;
use crate::call::timer::Timer;
use crate::types::answer_hook::AskFault;
use crate::types::answer_hook::AskOutcome;
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

    /// The application answered, or will not. What comes when nobody waits for it changes nothing.
    pub(super) fn answerer_told(&mut self, now: Moment, asked: Asked, out: &mut Vec<Output>) {
        if self.state != State::Opening || !self.timers.is_set(Timer::AskEnd) {
            return;
        }
        self.timers.stop(Timer::AskEnd);
        let outcome = match asked.answerer {
            Answerer::Kept => AskOutcome::Kept,
            Answerer::Failed(why) => AskOutcome::Failed(why),
            Answerer::Other(other, fallbacks) => {
                out.push(Output::Agent(AgentOutput::TakeProfile(other.profile)));
                self.setup.agent = other.agent;
                self.setup.partner = other.partner;
                self.setup.fallbacks = fallbacks;
                AskOutcome::Overridden(other.profile)
            }
        };
        let variables = Box::new(asked.variables);
        out.push(Output::Record(CallEvent::AnswerAsked(outcome, variables)));
        self.start_partner(now, out);
    }

    /// Nobody says what came of asking.
    pub(super) fn ask_too_late(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (outcome, variables) = (AskOutcome::Failed(AskFault::Late), Box::default());
        out.push(Output::Record(CallEvent::AnswerAsked(outcome, variables)));
        self.start_partner(now, out);
    }
}
