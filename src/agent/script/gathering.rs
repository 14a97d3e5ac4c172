//! Keys that are asked for: heard meanwhile are prompts, until the first key.

use crate::agent::script::answers::Answers;
use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Flow;
use crate::agent::script::saying::Said;
use crate::agent::script::saying::Saying;
use crate::agent::script::step::Gather;
use crate::agent::script::step::Prompt;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::Output;
use crate::types::limit::GATHERED_KEYS_MAX;
use crate::types::moment::Moment;
use std::collections::VecDeque;

/// Keys that are asked for.
#[derive(Debug)]
pub(super) struct Gathering {
    gather: Gather,
    prompts: VecDeque<Prompt>,
    digits: String,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Saying(Saying),
    Pausing(Moment),
    /// Nothing is heard any more.
    Waiting(Moment),
}

impl Gathering {
    pub(super) fn begin(
        now: Moment,
        desk: &mut Desk,
        mut gather: Gather,
        out: &mut Vec<Output>,
    ) -> Self {
        let prompts = std::mem::take(&mut gather.prompts).into();
        let phase = Phase::Waiting(now + gather.timeout);
        let mut gathering = Self { gather, prompts, digits: String::new(), phase };
        gathering.prompt(now, desk, out);
        gathering
    }

    pub(super) fn handle(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Flow {
        if let Input::Digit(digit) = input {
            return self.pressed(now, desk, *digit, out);
        }
        match &mut self.phase {
            Phase::Saying(saying) => {
                if saying.handle(now, desk, input, out) != Said::Busy {
                    self.prompt(now, desk, out);
                }
            }
            Phase::Pausing(until) if now >= *until => self.prompt(now, desk, out),
            Phase::Waiting(until) if now >= *until => {
                desk.something_happened();
                return self.done(None);
            }
            Phase::Pausing(_) | Phase::Waiting(_) => (),
        }
        Flow::Stay
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Saying(saying) => saying.deadline(),
            Phase::Pausing(until) | Phase::Waiting(until) => Some(*until),
        }
    }

    /// The next prompt, or the wait for keys.
    fn prompt(&mut self, now: Moment, desk: &mut Desk, out: &mut Vec<Output>) {
        self.phase = match self.prompts.pop_front() {
            Some(Prompt::Play(playing)) => {
                let saying = Saying::begin(now, desk, &playing, out);
                if let Some(Prompt::Play(next)) = self.prompts.front() {
                    desk.look_ahead(Some(next), out);
                }
                Phase::Saying(saying)
            }
            Some(Prompt::Pause(length)) => Phase::Pausing(now + length),
            None => Phase::Waiting(now + self.gather.timeout),
        };
    }

    fn pressed(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        digit: char,
        out: &mut Vec<Output>,
    ) -> Flow {
        if matches!(self.phase, Phase::Saying(_)) {
            out.push(Output::Clear);
        }
        self.prompts.clear();
        // A sound that is still on its way is not heard.
        desk.new_job();
        desk.something_happened();
        self.phase = Phase::Waiting(now + self.gather.timeout);
        if self.gather.finish_key == Some(digit) {
            return self.done(Some(digit));
        }
        self.digits.push(digit);
        let enough = self.gather.digits_max.unwrap_or(GATHERED_KEYS_MAX).min(GATHERED_KEYS_MAX);
        if self.digits.len() >= enough as usize { self.done(None) } else { Flow::Stay }
    }

    fn done(&mut self, finished_on: Option<char>) -> Flow {
        if self.digits.is_empty() && !self.gather.even_empty {
            return Flow::Advance;
        }
        let digits = Some(std::mem::take(&mut self.digits));
        let answers = Answers { digits, finished_on, ..Answers::default() };
        Flow::Ask(self.gather.next.clone(), answers)
    }
}
