//! Supervisors: legs beside those that talk, up to as many as there are seats. The peer of each hears the near leg
//! and whom that talks with, and is heard by one of them, by both, or by nobody. They come and go one by one, and the
//! call goes on as if they were not there, whatever becomes of them.

use crate::call::Call;
use crate::call::State;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::side::Seat;
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
    /// All hear each other, and others that supervise hear it too.
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
    /// It takes part so from now on, or will once it answers.
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
    /// Which one it is.
    pub seat: Seat,
    /// How it takes part, or will.
    pub mode: SupervisionMode,
    /// It answered.
    pub is_present: bool,
}

/// A supervisor of a call.
#[derive(Debug)]
struct Supervision {
    line: Line,
    mode: SupervisionMode,
    is_present: bool,
}

/// The supervisors of a call, each in its seat; most calls have none, and no room for them.
#[derive(Debug, Default)]
pub(super) struct Supervisors(Option<Box<[Option<Box<Supervision>>; Seat::ALL.len()]>>);

impl Supervisors {
    /// The line of the one in a seat.
    pub(super) fn line(&self, seat: Seat) -> Option<&Line> {
        self.own(seat).map(|own| &own.line)
    }

    /// The same, to be changed.
    pub(super) fn line_mut(&mut self, seat: Seat) -> Option<&mut Line> {
        self.own_mut(seat).map(|own| &mut own.line)
    }

    /// True where no seat is taken, not even by one whose media are yet to be closed.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How those stand that are there or called.
    pub(super) fn standing(&self) -> Vec<SupervisorStanding> {
        Seat::ALL.into_iter().filter_map(|seat| self.stands(seat)).collect()
    }

    /// Frees the seat of one that is over.
    pub(super) fn forget(&mut self, seat: Seat) {
        let Some(seats) = &mut self.0 else { return };
        if let Some(place) = seats.get_mut(seat.index()) {
            *place = None;
        }
        if seats.iter().all(Option::is_none) {
            self.0 = None;
        }
    }

    fn own(&self, seat: Seat) -> Option<&Supervision> {
        self.0.as_ref()?.get(seat.index())?.as_deref()
    }

    fn own_mut(&mut self, seat: Seat) -> Option<&mut Supervision> {
        self.0.as_mut()?.get_mut(seat.index())?.as_deref_mut()
    }

    fn stands(&self, seat: Seat) -> Option<SupervisorStanding> {
        let own = self.own(seat).filter(|own| !own.line.is_gone())?;
        Some(SupervisorStanding { seat, mode: own.mode, is_present: own.is_present })
    }

    fn free_seat(&self) -> Option<Seat> {
        Seat::ALL.into_iter().find(|seat| self.own(*seat).is_none())
    }

    fn take_seat(&mut self, seat: Seat, own: Supervision) {
        let seats = self.0.get_or_insert_default();
        if let Some(place) = seats.get_mut(seat.index()) {
            *place = Some(Box::new(own));
        }
    }

    /// Who is meant by this name; by none the only one there is.
    fn meant(&self, named: Option<Seat>) -> Result<Seat, Senseless> {
        let standing = self.standing();
        match (named, standing.as_slice()) {
            (Some(seat), all) => {
                let is_there = all.iter().any(|own| own.seat == seat);
                is_there.then_some(seat).ok_or(Senseless::NotSupervised)
            }
            (None, []) => Err(Senseless::NotSupervised),
            (None, [only]) => Ok(only.seat),
            (None, [_, _, ..]) => Err(Senseless::SupervisorUnnamed),
        }
    }
}

impl Call {
    /// The seat of a supervisor who would be called now.
    ///
    /// # Errors
    /// What stands against calling one.
    pub fn check_supervise(&self) -> Result<Seat, Senseless> {
        self.check_answered()?;
        self.supervisors.free_seat().ok_or(Senseless::SupervisorsFull)
    }

    /// Dials a supervisor, in the first seat that is free.
    pub(super) fn supervise(
        &mut self,
        now: Moment,
        wish: Supervise,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let seat = self.supervisors.free_seat().ok_or(Senseless::SupervisorsFull)?;
        let Supervise { request, mode } = wish;
        self.timers.set(Timer::SupervisorEnd(seat), now + request.ring_max);
        let mut line = Line::outbound(LegSide::Supervisor(seat), Box::new(request));
        line.reserve(out);
        self.supervisors.take_seat(seat, Supervision { line, mode, is_present: false });
        Ok(())
    }

    /// Lets a supervisor take part otherwise.
    pub(super) fn change_supervision(
        &mut self,
        named: Option<Seat>,
        mode: SupervisionMode,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let seat = self.supervisors.meant(named)?;
        let own = self.supervisors.own_mut(seat).ok_or(Senseless::NotSupervised)?;
        own.mode = mode;
        if own.is_present {
            out.push(Output::Supervise(seat, Some(mode)));
        }
        out.push(Output::Record(CallEvent::Supervision(seat, SupervisionStep::Changed(mode))));
        Ok(())
    }

    /// Lets a supervisor go.
    pub(super) fn end_supervision(
        &mut self,
        named: Option<Seat>,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let seat = self.supervisors.meant(named)?;
        self.drop_supervisor(seat, HangupCause::Normal, out);
        Ok(())
    }

    /// Hangs all supervisors up, in whatever stage each is.
    pub(super) fn drop_supervisors(&mut self, cause: HangupCause, out: &mut Vec<Output>) {
        for seat in Seat::ALL {
            self.drop_supervisor(seat, cause, out);
        }
    }

    /// Hangs a supervisor up, in whatever stage it is.
    pub(super) fn drop_supervisor(
        &mut self,
        seat: Seat,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        let Some(own) = self.supervisors.own_mut(seat) else { return };
        if !own.line.is_gone() {
            if !own.is_present {
                let (side, status) = (LegSide::Supervisor(seat), None);
                out.push(Output::Record(CallEvent::LegFailed { side, cause, status }));
            }
            own.line.hang_up(cause, out);
        }
        self.supervisor_left(seat, out);
        self.let_go(LegSide::Supervisor(seat), out);
    }

    /// Reacts to what happened to a supervisor's leg.
    pub(super) fn supervisor_news(
        &mut self,
        now: Moment,
        seat: Seat,
        news: LineNews,
        out: &mut Vec<Output>,
    ) {
        let side = LegSide::Supervisor(seat);
        match news {
            LineNews::Answered => self.supervisor_came(seat, out),
            LineNews::Failed(cause) | LineNews::Broken(cause) => {
                self.drop_supervisor(seat, cause, out);
            }
            LineNews::Ended { .. } | LineNews::Cancelled => self.supervisor_left(seat, out),
            LineNews::Referred(_) => self.decline(side, out),
            LineNews::Closed => {
                if let State::Ending(_) = self.state {
                    self.react(now, News::Far(side, LineNews::Closed), out);
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

    fn supervisor_came(&mut self, seat: Seat, out: &mut Vec<Output>) {
        self.timers.stop(Timer::SupervisorEnd(seat));
        let Some(own) = self.supervisors.own_mut(seat) else { return };
        own.is_present = true;
        own.line.start_playout(out);
        out.push(Output::Supervise(seat, Some(own.mode)));
        out.push(Output::Record(CallEvent::Supervision(seat, SupervisionStep::Begun(own.mode))));
    }

    fn supervisor_left(&mut self, seat: Seat, out: &mut Vec<Output>) {
        self.timers.stop(Timer::SupervisorEnd(seat));
        let own = self.supervisors.own_mut(seat);
        if own.is_some_and(|own| std::mem::take(&mut own.is_present)) {
            out.push(Output::Supervise(seat, None));
            out.push(Output::Record(CallEvent::Supervision(seat, SupervisionStep::Ended)));
        }
    }

    /// There is nothing to hear where the near leg has left.
    pub(super) fn supervise_no_longer(&mut self, out: &mut Vec<Output>) {
        if !self.near.is_gone() {
            return;
        }
        for own in self.supervisors.standing() {
            self.drop_supervisor(own.seat, HangupCause::Normal, out);
        }
    }
}
