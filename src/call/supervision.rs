//! A supervisor: one more leg, whose peer hears the near leg and whom that talks with, and is heard by one of them,
//! by both, or by nobody. The call goes on as if it were not there, whatever becomes of it.

use crate::call::Call;
use crate::call::State;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::steer::Senseless;
use crate::call::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;

/// How a supervisor takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisionMode {
    /// It hears both sides, and nobody hears it.
    Listen,
    /// The same, but whom the near leg's peer talks with hears it: an agent, or another leg.
    Whisper,
    /// All hear each other.
    Barge,
}

impl SupervisionMode {
    /// The spelling of the API and of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Whisper => "whisper",
            Self::Barge => "barge",
        }
    }
}

/// What changed about a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisionStep {
    /// It answered, and takes part so.
    Begun(SupervisionMode),
    /// It takes part so from now on.
    Changed(SupervisionMode),
    /// It left.
    Ended,
}

impl SupervisionStep {
    pub(super) const fn event_name(self) -> &'static str {
        match self {
            Self::Begun(_) => "supervision_begun",
            Self::Changed(_) => "supervision_changed",
            Self::Ended => "supervision_ended",
        }
    }
}

/// A supervisor that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervise {
    /// How it is reached.
    pub request: DialRequest,
    /// How it takes part.
    pub mode: SupervisionMode,
}

/// How a supervisor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupervisorStanding {
    /// How it takes part, or will.
    pub mode: SupervisionMode,
    /// It answered.
    pub is_present: bool,
}

/// The supervisor of a call.
#[derive(Debug)]
pub(super) struct Supervision {
    pub(super) line: Line,
    mode: SupervisionMode,
    is_present: bool,
}

impl Call {
    /// How the supervisor stands, if there is one.
    pub(super) fn supervisor_standing(&self) -> Option<SupervisorStanding> {
        let supervision = self.supervision.as_ref().filter(|own| !own.line.is_gone())?;
        let Supervision { mode, is_present, .. } = **supervision;
        Some(SupervisorStanding { mode, is_present })
    }

    /// Dials a supervisor.
    pub(super) fn supervise(
        &mut self,
        now: Moment,
        wish: Supervise,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        if self.supervision.is_some() {
            return Err(Senseless::Supervised);
        }
        let Supervise { request, mode } = wish;
        self.timers.set(Timer::SupervisorEnd, now + request.ring_max);
        let mut line = Line::outbound(LegSide::Supervisor, Box::new(request));
        line.reserve(out);
        self.supervision = Some(Box::new(Supervision { line, mode, is_present: false }));
        Ok(())
    }

    /// Lets the supervisor take part otherwise.
    pub(super) fn change_supervision(
        &mut self,
        mode: SupervisionMode,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let own = self.supervision.as_mut().filter(|own| !own.line.is_gone());
        let own = own.ok_or(Senseless::NotSupervised)?;
        own.mode = mode;
        if own.is_present {
            out.push(Output::Supervise(Some(mode)));
            out.push(Output::Record(CallEvent::Supervision(SupervisionStep::Changed(mode))));
        }
        Ok(())
    }

    /// Lets the supervisor go.
    pub(super) fn end_supervision(&mut self, out: &mut Vec<Output>) -> Result<(), Senseless> {
        self.supervisor_standing().ok_or(Senseless::NotSupervised)?;
        self.drop_supervisor(HangupCause::Normal, out);
        Ok(())
    }

    /// Hangs the supervisor up, in whatever stage it is.
    pub(super) fn drop_supervisor(&mut self, cause: HangupCause, out: &mut Vec<Output>) {
        let Some(own) = &mut self.supervision else { return };
        if !own.line.is_gone() {
            if !own.is_present {
                let (side, status) = (LegSide::Supervisor, None);
                out.push(Output::Record(CallEvent::LegFailed { side, cause, status }));
            }
            own.line.hang_up(cause, out);
        }
        self.supervisor_left(out);
        self.let_go(LegSide::Supervisor, out);
    }

    /// Reacts to what happened to the supervisor's leg.
    pub(super) fn supervisor_news(&mut self, now: Moment, news: LineNews, out: &mut Vec<Output>) {
        match news {
            LineNews::Answered => self.supervisor_came(out),
            LineNews::Failed(cause) | LineNews::Broken(cause) => self.drop_supervisor(cause, out),
            LineNews::Ended { .. } | LineNews::Cancelled => self.supervisor_left(out),
            LineNews::Referred(_) => self.decline(LegSide::Supervisor, out),
            LineNews::Closed => {
                if let State::Ending(_) = self.state {
                    self.react(now, News::Far(LegSide::Supervisor, LineNews::Closed), out);
                }
            }
            // Its keys are for nobody.
            LineNews::Keyed(_)
            | LineNews::Offered
            | LineNews::Ready
            | LineNews::Progressed { .. }
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_) => (),
        }
    }

    fn supervisor_came(&mut self, out: &mut Vec<Output>) {
        self.timers.stop(Timer::SupervisorEnd);
        let Some(own) = &mut self.supervision else { return };
        own.is_present = true;
        own.line.start_playout(out);
        out.push(Output::Supervise(Some(own.mode)));
        out.push(Output::Record(CallEvent::Supervision(SupervisionStep::Begun(own.mode))));
    }

    fn supervisor_left(&mut self, out: &mut Vec<Output>) {
        self.timers.stop(Timer::SupervisorEnd);
        let own = self.supervision.as_mut();
        if own.is_some_and(|own| std::mem::take(&mut own.is_present)) {
            out.push(Output::Supervise(None));
            out.push(Output::Record(CallEvent::Supervision(SupervisionStep::Ended)));
        }
    }

    /// There is nothing to hear where the near leg has left.
    pub(super) fn supervise_no_longer(&mut self, out: &mut Vec<Output>) {
        if self.near.is_gone() && self.supervisor_standing().is_some() {
            self.drop_supervisor(HangupCause::Normal, out);
        }
    }
}
