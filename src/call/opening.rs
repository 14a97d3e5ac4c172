//! A call before its answer: a carrier calls us, or we call.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::bridge::Joining;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::setup::Origin;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::routing::signalling::InboundProgress;
use crate::types::agent::AnswerPolicy;
use crate::types::cause::Blame;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use std::time::Duration;

/// The status by which a caller is told that it rings.
const RINGING: u16 = 180;
/// No longer interesting: an early dialog of a peer's forking ended (RFC 6228).
const EARLY_DIALOG_ENDED: u16 = 199;

impl Call {
    pub(super) fn in_idle(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match (news, self.setup.origin) {
            (News::Near(LineNews::Offered), Origin::Inbound) => {
                self.state = State::Opening;
                self.timers.set(Timer::RingEnd, now + self.setup.ring_max);
                self.near.reserve(out);
            }
            (News::Near(LineNews::Broken(cause)), Origin::Inbound) => {
                self.end(now, cause, Party::Switch, out);
            }
            (News::Begun, Origin::Outbound { ring_max }) => {
                self.state = State::Calling;
                self.timers.set(Timer::RingEnd, now + ring_max);
                self.near.reserve(out);
            }
            (News::HangUp { cause, by }, _) => self.end(now, cause, by, out),
            (
                News::Begun
                | News::Near(_)
                | News::Far(..)
                | News::Agent(_)
                | News::Transfer(_)
                | News::Confirmed
                | News::Withdrawn
                | News::Due(_),
                _,
            ) => (),
        }
    }

    pub(super) fn in_opening(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match news {
            News::Near(news) => self.near_in_opening(now, news, out),
            News::Far(side, LineNews::Progressed { status, audible })
                if side == self.partner_side =>
            {
                if status != EARLY_DIALOG_ENDED {
                    let described = audible || self.makes_early_media();
                    self.match_codecs(out);
                    self.near.progress(status, described, out);
                }
            }
            News::Far(side, LineNews::Answered) if side == self.partner_side => {
                self.answer(now, out);
            }
            News::Far(side, LineNews::Failed(cause)) if side == self.partner_side => {
                self.partner_failed(now, cause, out);
            }
            News::Agent(AgentNews::Ready) => {
                if self.may_answer() {
                    self.answer(now, out);
                }
            }
            News::Agent(AgentNews::Lost(cause)) => self.next_or_announce(now, cause, out),
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Rejected, Party::Agent, out);
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::RingEnd) => {
                self.end(now, HangupCause::NoAnswer, Party::Switch, out);
            }
            News::Due(Timer::AnswerMin) => {
                if self.may_answer() {
                    self.answer(now, out);
                }
            }
            News::Due(Timer::AskEnd) => self.ask_too_late(now, out),
            News::Due(Timer::TargetEnd) => {
                self.drop_line(self.partner_side, HangupCause::NoAnswer, out);
                self.partner_failed(now, HangupCause::NoAnswer, out);
            }
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Played)
            | News::Transfer(_)
            | News::Confirmed
            | News::Withdrawn
            | News::Due(_) => (),
        }
    }

    fn near_in_opening(&mut self, now: Moment, news: LineNews, out: &mut Vec<Output>) {
        match news {
            LineNews::Ready => self.ask_or_start(now, out),
            LineNews::Broken(cause) => self.end(now, cause, Party::Switch, out),
            LineNews::Cancelled => {
                if self.is_answered_elsewhere() {
                    // Whoever is rung has missed no call.
                    self.drop_line(self.partner_side, HangupCause::AnsweredElsewhere, out);
                }
                let (cause, by) = (HangupCause::CallerCancelled, Party::Caller);
                self.wind_up(now, cause, by, out);
            }
            LineNews::Ended { cause, by } => self.wind_up(now, cause, by, out),
            LineNews::Offered
            | LineNews::Progressed { .. }
            | LineNews::Answered
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Failed(_)
            | LineNews::Keyed(_)
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Referred(_)
            | LineNews::Closed => (),
        }
    }

    /// The caller's media runs: time for whom it talks with.
    pub(super) fn start_partner(&mut self, now: Moment, out: &mut Vec<Output>) {
        let ring_min = self.ring_min();
        self.timers.set(Timer::AnswerMin, (!ring_min.is_zero()).then(|| now + ring_min));
        let rings_at_once = match self.setup.partner.clone() {
            Partner::Agent => {
                self.start_agent(out);
                self.setup.progress != InboundProgress::Nothing
            }
            // Whether it rings is known when the other end says so.
            Partner::AgentLeg(request) | Partner::Forward(request) => {
                if let Some(side) = self.dial(now, request, out) {
                    self.partner_side = side;
                    self.pass_to(side);
                }
                false
            }
        };
        if self.may_answer() {
            self.answer(now, out);
        } else if rings_at_once {
            self.near.progress(RINGING, self.makes_early_media(), out);
        }
    }

    pub(super) fn start_agent(&mut self, out: &mut Vec<Output>) {
        self.agent = AgentState::Connecting;
        out.push(Output::Agent(AgentOutput::Start));
    }

    /// Dials on a free line; `None` when both are taken, which the next moment may change.
    pub(super) fn dial(
        &mut self,
        now: Moment,
        request: Box<DialRequest>,
        out: &mut Vec<Output>,
    ) -> Option<LegSide> {
        let end = now + request.ring_max;
        let (slot, side) = match (&mut self.far, &mut self.third) {
            (slot @ None, _) => (slot, LegSide::Far),
            (Some(_), slot @ None) => (slot, LegSide::Third),
            (Some(_), Some(_)) => return None,
        };
        slot.insert(Box::new(Line::outbound(side, request))).reserve(out);
        self.timers.set(Timer::TargetEnd, end);
        Some(side)
    }

    /// True where the caller hears from us how far its call got.
    fn makes_early_media(&self) -> bool {
        self.setup.progress == InboundProgress::EarlyMedia
    }

    /// True when the partner's state and the profile's policy allow the answer.
    fn may_answer(&self) -> bool {
        let ready = match self.setup.agent.answer {
            AnswerPolicy::Immediate => true,
            AnswerPolicy::WhenReady | AnswerPolicy::After(_) => self.agent == AgentState::Ready,
        };
        ready && !self.timers.is_set(Timer::AnswerMin)
    }

    /// How long it rings at least.
    fn ring_min(&self) -> Duration {
        match self.setup.agent.answer {
            AnswerPolicy::Immediate | AnswerPolicy::WhenReady => self.setup.answer_delay,
            AnswerPolicy::After(after) => after.max(self.setup.answer_delay),
        }
    }

    fn answer(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.match_codecs(out);
        match self.near.answer(out) {
            Ok(()) => self.answered(now, out),
            Err(cause) => self.end(now, cause, Party::Switch, out),
        }
    }

    /// The next agent takes over while it rings; after the last one the caller shall hear why: the call is
    /// answered for the announcement.
    fn next_or_announce(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) {
        if !self.take_next(now, cause, out) {
            self.answer_to_announce(now, cause, out);
        } else if self.may_answer() {
            self.answer(now, out);
        }
    }

    fn answer_to_announce(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) {
        self.match_codecs(out);
        match self.near.answer(out) {
            Ok(()) => {
                self.answered(now, out);
                self.announce(now, cause, out);
            }
            Err(cause) => self.end(now, cause, Party::Switch, out),
        }
    }

    /// The other leg cannot be had.
    fn partner_failed(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) {
        match self.setup.partner {
            Partner::AgentLeg(_) => {
                out.push(Output::Record(CallEvent::AgentFailed(cause, None)));
                self.next_or_announce(now, cause, out);
            }
            Partner::Agent | Partner::Forward(_) => {
                if !self.take_next(now, cause, out) {
                    self.end(now, cause, ended_by(cause, Party::Far), out);
                } else if self.may_answer() {
                    self.answer(now, out);
                }
            }
        }
    }

    /// The talk begins, with whomever.
    pub(super) fn begin_talk(&mut self, now: Moment) {
        self.answered_at = Some(now);
        self.timers.stop(Timer::RingEnd);
        self.timers.stop(Timer::AnswerMin);
        self.timers.set(Timer::HangUp, self.setup.agent.hangup_after.map(|after| now + after));
        self.timers.set(Timer::DurationEnd, now + self.setup.duration_max);
        self.timers.set(Timer::Reoffer, self.setup.agent.reinvite_after.map(|after| now + after));
        self.state = State::Talking;
    }

    /// Who was called comes to whom it shall talk with, who is not rung before it is there.
    fn called_party_answered(&mut self, now: Moment, out: &mut Vec<Output>) {
        match self.setup.partner.clone() {
            Partner::Agent => (),
            Partner::AgentLeg(request) | Partner::Forward(request) => {
                if let Some(side) = self.dial(now, request, out) {
                    self.partner_side = side;
                }
            }
        }
        self.near.start_playout(out);
        self.answered(now, out);
    }

    /// The near leg is answered: it comes to whom it shall talk with.
    fn answered(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.begin_talk(now);
        let is_agent = match self.setup.partner {
            Partner::Agent => return self.tell_agent(AgentOutput::TellAnswered, out),
            Partner::AgentLeg(_) => true,
            Partner::Forward(_) => false,
        };
        let side = self.partner_side;
        match self.line(side) {
            Some(line) if line.is_answered() => self.bridge(side, is_agent, out),
            Some(line) if !line.is_gone() => self.state = State::Joining(Joining::partner(side)),
            // It failed, and what follows is the announcement.
            Some(_) | None => (),
        }
    }

    pub(super) fn in_calling(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match news {
            News::Near(news) => self.near_in_calling(now, news, out),
            // Nobody is called for an agent that is not there.
            News::Agent(AgentNews::Lost(cause)) => {
                if !self.take_next(now, cause, out) {
                    self.end(now, cause, Party::Switch, out);
                }
            }
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Normal, Party::Agent, out);
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::RingEnd) => {
                self.end(now, HangupCause::NoAnswer, Party::Switch, out);
            }
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Ready | AgentNews::Played)
            | News::Transfer(_)
            | News::Confirmed
            | News::Withdrawn
            | News::Due(_) => (),
        }
    }

    fn near_in_calling(&mut self, now: Moment, news: LineNews, out: &mut Vec<Output>) {
        match news {
            // The agent connects while it rings, so that it can speak at once; unless it is yet to be asked
            // which one speaks.
            LineNews::Ready => {
                if self.setup.partner == Partner::Agent && self.setup.asks.is_none() {
                    self.start_agent(out);
                }
            }
            LineNews::Answered => match self.setup.asks.take() {
                Some(limit) => self.ask_once_answered(now, limit, out),
                None => self.called_party_answered(now, out),
            },
            LineNews::Failed(cause) => {
                self.wind_up(now, cause, ended_by(cause, Party::Caller), out);
            }
            LineNews::Broken(cause) => self.end(now, cause, Party::Switch, out),
            LineNews::Offered
            | LineNews::Progressed { .. }
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Cancelled
            | LineNews::Ended { .. }
            | LineNews::Keyed(_)
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Referred(_)
            | LineNews::Closed => (),
        }
    }
}

/// Whose doing the failure of a leg is: its party's, or ours.
fn ended_by(cause: HangupCause, party: Party) -> Party {
    match cause.blame() {
        Blame::Nobody | Blame::Caller | Blame::Callee => party,
        Blame::Configuration | Blame::Agent | Blame::Switch => Party::Switch,
    }
}
