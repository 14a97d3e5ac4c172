//! Supervisors of calls in virtual time.

use super::legs::dial;
use super::legs::hangs_up;
use super::legs::path;
use super::legs::records;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::side::Seat;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::supervision::Supervise;
use crate::call::supervision::SupervisionMode;
use crate::call::supervision::SupervisionStep;

const NEAR: LegSide = LegSide::Near;
const SUPERVISOR: LegSide = LegSide::Supervisor(Seat::First);
const FIRST: Seat = Seat::First;
const SECOND: Seat = Seat::Second;
const LISTEN: SupervisionMode = SupervisionMode::Listen;
const WHISPER: SupervisionMode = SupervisionMode::Whisper;
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

    /// A supervisor is called and rings.
    fn calling(self, mode: SupervisionMode) -> Self {
        self.calling_in(FIRST, mode)
    }

    fn calling_in(mut self, seat: Seat, mode: SupervisionMode) -> Self {
        let side = LegSide::Supervisor(seat);
        let out = self.ordered(supervise(mode)).expect("it makes sense");
        assert_eq!(out, [Output::Media(side, MediaOutput::Reserve)]);
        let out = self.run_media(side);
        assert!(dial(&out, side).is_some(), "{out:?}");
        self
    }

    fn supervised(self, mode: SupervisionMode) -> Self {
        self.supervised_in(FIRST, mode)
    }

    fn supervised_in(self, seat: Seat, mode: SupervisionMode) -> Self {
        let mut bench = self.calling_in(seat, mode);
        let out = bench.leg(LegSide::Supervisor(seat), LegInput::Answered(sdp()));
        assert!(out.contains(&Output::Supervise(seat, Some(mode))), "{out:?}");
        assert!(records(&out, &CallEvent::Supervision(seat, SupervisionStep::Begun(mode))));
        assert_eq!(path(&out), None, "who hears whom in the call stays as it is");
        bench
    }

    /// Who supervises, so, and whether it answered.
    fn supervisors(&self) -> Vec<(Seat, SupervisionMode, bool)> {
        let standing = self.call.standing().supervisors.into_iter();
        standing.map(|own| (own.seat, own.mode, own.is_present)).collect()
    }

    /// Where one leaves: its media are closed, its seat is free.
    fn closed(&mut self, seat: Seat) {
        self.give(Input::Media(LegSide::Supervisor(seat), MediaInput::Closed(None)));
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
        assert_eq!(bench.supervisors(), [(FIRST, LISTEN, true)]);
        let phase = bench.call.standing().phase;
        let out = bench.leg(SUPERVISOR, ended_by(HangupCause::Normal));
        assert!(out.contains(&Output::Supervise(FIRST, None)) && ended(&out).is_none(), "{out:?}");
        assert!(records(&out, &CallEvent::Supervision(FIRST, SupervisionStep::Ended)));
        assert!(out.contains(&Output::Media(SUPERVISOR, MediaOutput::Close)));
        assert_eq!((path(&out), bench.call.standing().phase), (None, phase));
        bench.closed(FIRST);
        assert_eq!(bench.supervisors(), []);
        assert!(bench.ordered(supervise(BARGE)).is_ok(), "another may come");
    }
}

#[test]
fn its_mode_changes_while_it_rings_and_while_it_is_there() {
    let mut bench = talking().calling(LISTEN);
    let out = bench.ordered(Order::ChangeSupervision(None, BARGE)).expect("it makes sense");
    let told = Output::Record(CallEvent::Supervision(FIRST, SupervisionStep::Changed(BARGE)));
    assert_eq!(out, [told], "it is told, and nobody hears it yet");
    let out = bench.leg(SUPERVISOR, LegInput::Answered(sdp()));
    assert!(out.contains(&Output::Supervise(FIRST, Some(BARGE))), "{out:?}");
    let out = bench.ordered(Order::ChangeSupervision(None, WHISPER)).expect("it makes sense");
    let told = Output::Record(CallEvent::Supervision(FIRST, SupervisionStep::Changed(WHISPER)));
    assert_eq!(out, [Output::Supervise(FIRST, Some(WHISPER)), told]);
    let out = bench.ordered(Order::EndSupervision(None)).expect("it makes sense");
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::Normal));
    assert!(out.contains(&Output::Supervise(FIRST, None)));
    for order in [Order::EndSupervision(None), Order::ChangeSupervision(None, LISTEN)] {
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
    bench.closed(FIRST);
    bench.ordered(supervise(LISTEN)).expect("another may come");
    let refused = MediaInput::Refused(HangupCause::NoPorts);
    let out = bench.give(Input::Media(SUPERVISOR, refused));
    assert!(ended(&out).is_none() && bench.supervisors().is_empty(), "{out:?}");
    let mut bench = bench.calling(LISTEN);
    let deadline = bench.call.deadline().expect("it does not ring for ever");
    assert!(deadline <= bench.now + request().ring_max);
    let out = bench.wait();
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::NoAnswer));
    let (side, cause, status) = (SUPERVISOR, HangupCause::NoAnswer, None);
    assert!(records(&out, &CallEvent::LegFailed { side, cause, status }), "{out:?}");
    bench.closed(FIRST);
    let mut bench = bench.calling(LISTEN);
    let out = bench.ordered(Order::EndSupervision(None)).expect("it makes sense");
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::Normal));
    assert!(!out.contains(&Output::Supervise(FIRST, None)), "it never took part");
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
    assert_eq!(bench.ordered(Order::EndSupervision(None)), Err(Senseless::NotSupervised));
    bench.leg(NEAR, ended_by(HangupCause::Normal));
    assert_eq!(bench.ordered(supervise(LISTEN)), Err(Senseless::Over));
}

#[test]
fn its_keys_reach_nobody_and_its_wish_for_somebody_else_is_refused() {
    let mut bench = Bench::bridged().supervised(BARGE);
    let out = bench.give(Input::Media(SUPERVISOR, MediaInput::Digit('5')));
    assert_eq!(out, []);
    assert_eq!(bench.keyed(SUPERVISOR, '5'), []);
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
    assert!(out.contains(&Output::Supervise(FIRST, None)));
}

#[test]
fn several_supervise_each_in_its_own_way_and_come_and_go_one_by_one() {
    let mut bench = talking().supervised(LISTEN).supervised_in(SECOND, BARGE);
    assert_eq!(bench.supervisors(), [(FIRST, LISTEN, true), (SECOND, BARGE, true)]);
    // Who is meant has to be said.
    for order in [Order::ChangeSupervision(None, WHISPER), Order::EndSupervision(None)] {
        assert_eq!(bench.ordered(order), Err(Senseless::SupervisorUnnamed));
    }
    let order = Order::ChangeSupervision(Some(FIRST), WHISPER);
    let out = bench.ordered(order).expect("it makes sense");
    let told = Output::Record(CallEvent::Supervision(FIRST, SupervisionStep::Changed(WHISPER)));
    assert_eq!(out, [Output::Supervise(FIRST, Some(WHISPER)), told]);
    assert_eq!(bench.supervisors(), [(FIRST, WHISPER, true), (SECOND, BARGE, true)]);

    // The first hangs up: the second stays as it is, and is the only one.
    let out = bench.leg(SUPERVISOR, ended_by(HangupCause::Normal));
    assert!(out.contains(&Output::Supervise(FIRST, None)) && ended(&out).is_none(), "{out:?}");
    assert_eq!(hangs_up(&out, LegSide::Supervisor(SECOND)), None);
    assert_eq!(bench.supervisors(), [(SECOND, BARGE, true)]);
    let gone = Order::EndSupervision(Some(FIRST));
    assert_eq!(bench.ordered(gone), Err(Senseless::NotSupervised));
    let order = Order::ChangeSupervision(None, LISTEN);
    let out = bench.ordered(order).expect("no name is needed");
    assert!(out.contains(&Output::Supervise(SECOND, Some(LISTEN))), "{out:?}");

    // Its seat is taken until its media are closed, and free from then on.
    let mut bench = bench.supervised_in(Seat::Third, LISTEN);
    bench.closed(FIRST);
    let mut bench = bench.supervised_in(FIRST, BARGE);
    let out = bench.ordered(Order::EndSupervision(Some(SECOND))).expect("it makes sense");
    assert_eq!(hangs_up(&out, LegSide::Supervisor(SECOND)), Some(HangupCause::Normal));
    assert!(records(&out, &CallEvent::Supervision(SECOND, SupervisionStep::Ended)));
    assert_eq!(bench.supervisors(), [(FIRST, BARGE, true), (Seat::Third, LISTEN, true)]);
    assert!(!bench.call.is_over());
}

#[test]
fn as_many_come_as_there_are_seats_and_all_go_with_the_caller() {
    let mut bench = Bench::bridged();
    for seat in Seat::ALL {
        bench = bench.supervised_in(seat, BARGE);
    }
    assert_eq!(bench.ordered(supervise(LISTEN)), Err(Senseless::SupervisorsFull));
    let out = bench.leg(NEAR, ended_by(HangupCause::Normal));
    for seat in Seat::ALL {
        assert!(hangs_up(&out, LegSide::Supervisor(seat)).is_some(), "{seat:?}: {out:?}");
        assert!(out.contains(&Output::Supervise(seat, None)), "{seat:?}: {out:?}");
    }
    assert!(!bench.call.is_over(), "their figures are waited for");
    assert_eq!(bench.close_all().0, HangupCause::Normal);
}

#[test]
fn each_rings_for_its_own_time() {
    let mut bench = talking().calling(LISTEN);
    let first = bench.call.deadline().expect("it does not ring for ever");
    bench.now += Duration::from_secs(5);
    let mut bench = bench.calling_in(SECOND, WHISPER);
    assert_eq!(bench.call.deadline(), Some(first));
    let out = bench.wait();
    assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::NoAnswer));
    assert_eq!(hangs_up(&out, LegSide::Supervisor(SECOND)), None, "it rings on");
    let out = bench.leg(LegSide::Supervisor(SECOND), LegInput::Answered(sdp()));
    assert!(out.contains(&Output::Supervise(SECOND, Some(WHISPER))), "{out:?}");
    assert_eq!(bench.supervisors(), [(SECOND, WHISPER, true)]);
}

#[test]
fn a_fault_of_its_media_ends_it_and_nobody_else() {
    type Begin = fn(Bench, SupervisionMode) -> Bench;
    let stages: [(Begin, bool); 2] = [(Bench::calling, false), (Bench::supervised, true)];
    for (stage, is_there) in stages {
        let mut bench = stage(Bench::bridged(), BARGE);
        let out = bench.give(Input::Media(SUPERVISOR, MediaInput::Failed));
        assert_eq!(hangs_up(&out, SUPERVISOR), Some(HangupCause::SwitchFault));
        assert_eq!(out.contains(&Output::Supervise(FIRST, None)), is_there);
        assert!(out.contains(&Output::Media(SUPERVISOR, MediaOutput::Close)), "{out:?}");
        assert!(ended(&out).is_none() && bench.supervisors().is_empty(), "{out:?}");
        bench.closed(FIRST);
        bench.supervised(LISTEN);
    }
}
