//! Supervisors of calls in virtual time.

use super::legs::dial;
use super::legs::hangs_up;
use super::legs::path;
use super::legs::records;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::supervision::Supervise;
use crate::call::supervision::SupervisionMode;
use crate::call::supervision::SupervisionStep;
use crate::call::supervision::SupervisorStanding;

const NEAR: LegSide = LegSide::Near;
const SUPERVISOR: LegSide = LegSide::Supervisor;
const LISTEN: SupervisionMode = SupervisionMode::Listen;
const BARGE: SupervisionMode = SupervisionMode::Barge;

pub(super) fn supervise(mode: SupervisionMode) -> Order {
    Order::Supervise(Box::new(Supervise { request: request(), mode }))
}

impl Bench {
    fn ordered(&mut self, order: Order) -> Result<Vec<Output>, Senseless> {
        let done = self.call.order(self.now, order, &mut self.out);
        let out = std::mem::take(&mut self.out);
        done.map(|()| out)
    }

    /// The supervisor is called and rings.
    fn calling(mut self, mode: SupervisionMode) -> Self {
        let out = self.ordered(supervise(mode)).expect("it makes sense");
        assert_eq!(out, [Output::Media(SUPERVISOR, MediaOutput::Reserve)]);
        let out = self.run_media(SUPERVISOR);
        assert!(dial(&out, SUPERVISOR).is_some(), "{out:?}");
        self
    }

    fn supervised(self, mode: SupervisionMode) -> Self {
        let mut bench = self.calling(mode);
        let out = bench.leg(SUPERVISOR, LegInput::Answered(sdp()));
        assert!(out.contains(&Output::Supervise(Some(mode))), "{out:?}");
        assert!(records(&out, &CallEvent::Supervision(SupervisionStep::Begun(mode))));
        assert_eq!(path(&out), None, "who hears whom in the call stays as it is");
        bench
    }

    fn supervisor(&self) -> Option<SupervisorStanding> {
        self.call.standing().supervisor
    }
}

fn talking() -> Bench {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench
}

fn ended_by(cause: HangupCause) -> LegInput {
    LegInput::Ended { cause, by: Party::Far }
}

#[test]
fn a_supervisor_takes_part_once_it_answers_and_leaves_without_a_trace() {
    for begin in [talking, Bench::bridged] {
        let mut bench = begin().supervised(LISTEN);
        let standing = SupervisorStanding { mode: LISTEN, is_present: true };
        assert_eq!(bench.supervisor(), Some(standing));
        assert_eq!(bench.ordered(supervise(BARGE)), Err(Senseless::Supervised));
        let phase = bench.call.standing().phase;
        let out = bench.leg(SUPERVISOR, ended_by(HangupCause::Normal));
        assert!(out.contains(&Output::Supervise(None)) && ended(&out).is_none(), "{out:?}");
        assert!(records(&out, &CallEvent::Supervision(SupervisionStep::Ended)));
        assert!(out.contains(&Output::Media(SUPERVISOR, MediaOutput::Close)));
        assert_eq!((path(&out), bench.call.standing().phase), (None, phase));
        bench.give(Input::Media(SUPERVISOR, MediaInput::Closed(None)));
        assert_eq!(bench.supervisor(), None);
        assert!(bench.ordered(supervise(BARGE)).is_ok(), "another may come");
    }
}

#[test]
fn its_mode_changes_while_it_rings_and_while_it_is_there() {
    let mut bench = talking().calling(LISTEN);
    let out = bench.ordered(Order::ChangeSupervision(BARGE)).expect("it makes sense");
    assert_eq!(out, [], "nobody hears it yet");
    let out = bench.leg(SUPERVISOR, LegInput::Answered(sdp()));
    assert!(out.contains(&Output::Supervise(Some(BARGE))), "{out:?}");
    let whisper = SupervisionMode::Whisper;
    let out = bench.ordered(Order::ChangeSupervision(whisper)).expect("it makes sense");
    let told = Output::Record(CallEvent::Supervision(SupervisionStep::Changed(whisper)));
    assert_eq!(out, [Output::Supervise(Some(whisper)), told]);
    let out = bench.ordered(Order::EndSupervision).expect("it makes sense");
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::Normal));
    assert!(out.contains(&Output::Supervise(None)));
    for order in [Order::EndSupervision, Order::ChangeSupervision(LISTEN)] {
        assert_eq!(bench.ordered(order), Err(Senseless::NotSupervised));
    }
}

#[test]
fn a_supervisor_that_cannot_be_had_harms_nobody() {
    // Busy, no media, not answering, and taken back while it rings.
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let mut bench = talking().calling(LISTEN);
    let out = bench.leg(SUPERVISOR, busy);
    assert!(out.contains(&Output::Media(SUPERVISOR, MediaOutput::Close)), "{out:?}");
    bench.give(Input::Media(SUPERVISOR, MediaInput::Closed(None)));
    bench.ordered(supervise(LISTEN)).expect("another may come");
    let refused = MediaInput::Refused(HangupCause::NoPorts);
    let out = bench.give(Input::Media(SUPERVISOR, refused));
    assert!(ended(&out).is_none() && bench.supervisor().is_none(), "{out:?}");
    let mut bench = bench.calling(LISTEN);
    let deadline = bench.call.deadline().expect("it does not ring for ever");
    assert!(deadline <= bench.now + request().ring_max);
    let out = bench.wait();
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::NoAnswer));
    let (side, cause, status) = (SUPERVISOR, HangupCause::NoAnswer, None);
    assert!(records(&out, &CallEvent::LegFailed { side, cause, status }), "{out:?}");
    bench.give(Input::Media(SUPERVISOR, MediaInput::Closed(None)));
    let mut bench = bench.calling(LISTEN);
    let out = bench.ordered(Order::EndSupervision).expect("it makes sense");
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::Normal));
    assert!(!out.contains(&Output::Supervise(None)), "it never took part");
    // An answer that crosses the hang-up is hung up.
    let out = bench.leg(SUPERVISOR, LegInput::Answered(sdp()));
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::Normal));
    assert!(!bench.call.is_over());
}

#[test]
fn it_goes_with_the_call() {
    for stage in [Bench::calling, Bench::supervised] {
        let mut bench = stage(talking(), LISTEN);
        let out = bench.leg(NEAR, ended_by(HangupCause::Normal));
        assert!(hangs_up(&out, SUPERVISOR).is_some(), "{out:?}");
        assert!(!bench.call.is_over(), "its figures are waited for");
        assert_eq!(bench.close_all().0, HangupCause::Normal);
    }
}

#[test]
fn nobody_is_called_to_a_call_that_has_no_caller() {
    let mut bench = Bench::new(|_| ());
    assert_eq!(bench.ordered(supervise(LISTEN)), Err(Senseless::NotAnswered));
    bench.talk();
    assert_eq!(bench.ordered(Order::EndSupervision), Err(Senseless::NotSupervised));
    bench.leg(NEAR, ended_by(HangupCause::Normal));
    assert_eq!(bench.ordered(supervise(LISTEN)), Err(Senseless::Over));
}

#[test]
fn its_keys_reach_nobody_and_its_wish_for_somebody_else_is_refused() {
    let mut bench = Bench::bridged().supervised(BARGE);
    let out = bench.give(Input::Media(SUPERVISOR, MediaInput::Digit('5')));
    assert_eq!(out, []);
    assert_eq!(bench.leg(SUPERVISOR, LegInput::Digit('5')), []);
    let out = bench.leg(SUPERVISOR, LegInput::Referred(Box::new(request())));
    assert!(
        out.contains(&Output::Leg(SUPERVISOR, LegOutput::RefuseRefer { status: 603 })),
        "{out:?}"
    );
}

#[test]
fn a_caller_that_puts_somebody_else_in_its_place_leaves_its_supervisor_behind() {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { transfers: true, ..terms() });
    });
    bench.talk();
    let mut bench = bench.supervised(LISTEN);
    let out = bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    assert_eq!(hangs_up(&out, SUPERVISOR), None);
    let out = bench.leg(NEAR, ended_by(HangupCause::Normal));
    assert!(hangs_up(&out, SUPERVISOR).is_some() && !bench.call.is_over(), "{out:?}");
    assert!(out.contains(&Output::Supervise(None)));
}
