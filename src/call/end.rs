//! The end of a call: everything that was opened is closed, once.

use crate::call::Call;
use crate::call::State;
use crate::call::event::CallEvent;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use crate::types::peer_reason::PeerReason;
use std::time::Duration;

/// How long media may take to close before the call ends without their figures.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ending {
    cause: HangupCause,
    by: Party,
    duration: Duration,
}

impl Call {
    /// Ends the call: the near leg is refused or hung up.
    pub(super) fn end(
        &mut self,
        now: Moment,
        cause: HangupCause,
        by: Party,
        out: &mut Vec<Output>,
    ) {
        if self.near.is_offered() {
            let status = self.setup.response_map.status(cause);
            let far = self.line(self.partner_side);
            let is_theirs = by == Party::Far && far.and_then(Line::refused_with).is_some();
            self.near.refuse((cause, status), is_theirs, out);
        } else {
            self.explain(LegSide::Near, out);
            self.near.hang_up(cause, out);
        }
        self.wind_up(now, cause, by, out);
    }

    /// Keeps why a peer ends its side until that has ended. What it means comes as the cause of that end.
    pub(super) fn explained(
        &mut self,
        side: LegSide,
        reason: Box<PeerReason>,
        out: &mut Vec<Output>,
    ) {
        if self.line(side).is_none_or(Line::is_gone) {
            return;
        }
        let is_kept = reason.is_q850() || reason.is_answered_elsewhere();
        self.explained = is_kept.then(|| Box::new((side, PeerReason::clone(&reason))));
        out.push(Output::Record(CallEvent::PeerReason { side, reason }));
    }

    /// Has a leg that ends because of another's end say why that one ended.
    pub(super) fn explain(&self, side: LegSide, out: &mut Vec<Output>) {
        if let Some((of, reason)) = self.explained.as_deref()
            && *of != side
            // The other causes are of one network, or of one hop.
            && reason.is_q850()
            && let Some(line) = self.line(side)
        {
            line.ask(LegOutput::Explain(Box::new(reason.clone())), out);
        }
    }

    /// Whether the near leg's peer gives the call up since another has answered it.
    pub(super) fn is_answered_elsewhere(&self) -> bool {
        let told = self.explained.as_deref();
        told.is_some_and(|(side, reason)| *side == LegSide::Near && reason.is_answered_elsewhere())
    }

    /// Closes what is open; the call is over once the media's figures are in.
    pub(super) fn wind_up(
        &mut self,
        now: Moment,
        cause: HangupCause,
        by: Party,
        out: &mut Vec<Output>,
    ) {
        self.end_agent(out);
        let ending = Ending { cause, by, duration: self.talked(now) };
        self.near.close_media(out);
        self.drop_line(LegSide::Far, cause, out);
        self.drop_line(LegSide::Third, cause, out);
        self.drop_supervisors(cause, out);
        self.timers.stop_all();
        self.timers.set(Timer::CloseEnd, now + CLOSE_MAX);
        self.state = State::Ending(ending);
        self.finish_if_closed(ending, out);
    }

    pub(super) fn in_ending(&mut self, ending: Ending, news: News, out: &mut Vec<Output>) {
        match news {
            News::Near(LineNews::Closed) | News::Far(_, LineNews::Closed) => {
                self.finish_if_closed(ending, out);
            }
            News::Due(Timer::CloseEnd) => self.finish(ending, out),
            News::Begun
            | News::Near(_)
            | News::Far(..)
            | News::Agent(_)
            | News::HangUp { .. }
            | News::Transfer(_)
            | News::Confirmed
            | News::Withdrawn
            | News::Due(_) => (),
        }
    }

    fn finish_if_closed(&mut self, ending: Ending, out: &mut Vec<Output>) {
        let is_closed = |side| self.line(side).is_none_or(Line::is_closed);
        if LegSide::ALL.into_iter().all(is_closed) {
            self.finish(ending, out);
        }
    }

    fn finish(&mut self, ending: Ending, out: &mut Vec<Output>) {
        let Ending { cause, by, duration } = ending;
        self.timers.stop_all();
        self.state = State::Over;
        out.push(Output::Record(CallEvent::Ended { cause, by, duration }));
        out.push(Output::Finish);
    }
}
