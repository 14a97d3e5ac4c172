//! What applications ask of running calls, in virtual time.

use super::legs::dial;
use super::legs::hangs_up;
use super::legs::path;
use super::legs::sdp;
use super::random::request;
use super::supervision::supervise;
use super::*;
use crate::call::event::RecordingStep;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::record::RecordOrder;
use crate::call::record::Recording;
use crate::call::side::Seat;
use crate::call::steer::Attach;
use crate::call::steer::MutedSide;
use crate::call::steer::Order;
use crate::call::steer::Phase;
use crate::call::steer::Play;
use crate::call::steer::Senseless;
use crate::call::supervision::SupervisionMode;
use crate::call::transfer::TransferRequest;
use crate::types::id::AiProfileId;
use crate::types::id::RecordingId;
use uuid::Uuid;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;

impl Bench {
    /// Gives an order and returns what it led to.
    fn order(&mut self, order: Order) -> Result<Vec<Output>, Senseless> {
        let done = self.call.order(self.now, order, &mut self.out);
        let out = std::mem::take(&mut self.out);
        if done.is_err() {
            assert_eq!(out, [], "what is refused changes nothing");
        }
        done.map(|()| out)
    }

    fn talking() -> Self {
        let mut bench = Self::new(|_| ());
        bench.talk();
        bench
    }
}

fn play(clip: u32) -> Order {
    Order::Play(Play { clip, name: format!("{clip}.wav"), beside: false })
}

fn play_beside(clip: u32) -> Order {
    Order::Play(Play { clip, name: format!("{clip}.wav"), beside: true })
}

fn keys(side: LegSide, keys: &str) -> Order {
    Order::SendKeys { side, keys: keys.to_owned() }
}

pub(super) fn profile() -> AiProfileId {
    AiProfileId::from_uuid(Uuid::from_u128(9))
}

pub(super) fn attach() -> Order {
    attaching(false)
}

fn attaching(takes_back: bool) -> Order {
    attaching_to(Partner::Agent, takes_back)
}

fn attaching_to(partner: Partner, takes_back: bool) -> Order {
    let (agent, fallbacks) = (plain().agent, VecDeque::new());
    Order::Attach(Box::new(Attach { profile: profile(), agent, partner, fallbacks, takes_back }))
}

/// One of each.
pub(super) fn all() -> Vec<Order> {
    vec![
        Order::Hold,
        Order::Resume,
        attaching(true),
        play(1),
        play_beside(2),
        Order::StopPlaying,
        keys(NEAR, "12#"),
        keys(FAR, "4"),
        Order::Mute(MutedSide::Caller),
        Order::Mute(MutedSide::Agent),
        Order::Unmute(MutedSide::Caller),
        Order::Unmute(MutedSide::Agent),
        attach(),
        attaching_to(Partner::Forward(Box::new(request())), false),
        attaching_to(Partner::AgentLeg(Box::new(request())), true),
        supervise(SupervisionMode::Listen),
        supervise(SupervisionMode::Whisper),
        Order::ChangeSupervision(None, SupervisionMode::Barge),
        Order::ChangeSupervision(Some(Seat::Second), SupervisionMode::Barge),
        Order::EndSupervision(None),
        Order::EndSupervision(Some(Seat::First)),
    ]
}

#[test]
fn a_hold_is_offered_to_the_peer_and_told_and_makes_sense_once() {
    let mut bench = Bench::talking();
    assert_eq!(bench.order(Order::Resume), Err(Senseless::NotOnHold));
    let out = bench.order(Order::Hold).expect("it makes sense");
    let Some(Output::Leg(NEAR, LegOutput::Reoffer(offer))) = out.first() else { panic!("{out:?}") };
    assert!(String::from_utf8_lossy(offer).contains("a=sendonly"));
    assert!(out.contains(&Output::Record(CallEvent::HoldBegun)));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Hold)));
    assert!(bench.call.standing().on_hold);
    assert_eq!(bench.order(Order::Hold), Err(Senseless::OnHold));
    bench.leg(NEAR, LegInput::ReofferAnswered(sdp()));
    let out = bench.order(Order::Resume).expect("it makes sense");
    assert!(matches!(out.first(), Some(Output::Leg(NEAR, LegOutput::Reoffer(_)))), "{out:?}");
    assert!(out.contains(&Output::Record(CallEvent::HoldEnded)));
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
}

#[test]
fn a_side_is_muted_and_heard_again_without_the_other() {
    let mut bench = Bench::talking();
    let media = |inward, outward| Output::Media(NEAR, MediaOutput::Mute { inward, outward });
    for (order, inward, outward) in [
        (Order::Mute(MutedSide::Caller), true, false),
        (Order::Mute(MutedSide::Agent), true, true),
        (Order::Unmute(MutedSide::Caller), false, true),
        (Order::Unmute(MutedSide::Agent), false, false),
    ] {
        let out = bench.order(order).expect("it makes sense");
        assert_eq!(out.first(), Some(&media(inward, outward)));
        let standing = bench.call.standing();
        assert_eq!((standing.caller_muted, standing.agent_muted), (inward, outward));
    }
    assert_eq!(bench.order(Order::Unmute(MutedSide::Agent)), Err(Senseless::NotMuted));
    assert!(bench.order(Order::Mute(MutedSide::Agent)).is_ok());
    assert_eq!(bench.order(Order::Mute(MutedSide::Agent)), Err(Senseless::Muted));
}

#[test]
fn a_recording_begins_pauses_goes_on_and_ends_each_where_it_makes_sense() {
    let mut bench = Bench::talking();
    let id = |n| RecordingId::from_uuid(Uuid::from_u128(n));
    let record = Order::Record;
    let out =
        |order, event| vec![Output::Record(event), Output::Media(NEAR, MediaOutput::Record(order))];
    for order in [RecordOrder::Stop, RecordOrder::Pause, RecordOrder::Resume] {
        assert_eq!(bench.order(record(order)), Err(Senseless::NotRecorded));
    }
    let start = RecordOrder::Start(id(1));
    let begun = bench.order(record(start));
    assert_eq!(begun, Ok(out(start, CallEvent::Recording(id(1), RecordingStep::Started))));
    let again = record(RecordOrder::Start(id(2)));
    assert_eq!(bench.order(again), Err(Senseless::Recorded));
    assert_eq!(bench.order(record(RecordOrder::Resume)), Err(Senseless::RecordNotPaused));
    let paused = bench.order(record(RecordOrder::Pause));
    assert_eq!(
        paused,
        Ok(out(RecordOrder::Pause, CallEvent::Recording(id(1), RecordingStep::Paused)))
    );
    assert_eq!(bench.call.standing().recording, Recording::Paused(id(1)));
    assert_eq!(bench.order(record(RecordOrder::Pause)), Err(Senseless::RecordPaused));
    let resumed = bench.order(record(RecordOrder::Resume));
    assert_eq!(
        resumed,
        Ok(out(RecordOrder::Resume, CallEvent::Recording(id(1), RecordingStep::Resumed)))
    );
    let stopped = bench.order(record(RecordOrder::Stop));
    assert_eq!(
        stopped,
        Ok(out(RecordOrder::Stop, CallEvent::Recording(id(1), RecordingStep::Stopped)))
    );
    bench.order(record(RecordOrder::Start(id(3)))).expect("it makes sense");
    // What is told of one before does not end it.
    bench.call.recording_over(id(1));
    assert_eq!(bench.call.recording(), Recording::Running(id(3)));
    bench.call.recording_over(id(3));
    assert_eq!(bench.call.recording(), Recording::Off);
}

#[test]
fn what_is_played_ends_by_itself_by_an_order_or_by_the_next() {
    let mut bench = Bench::talking();
    assert_eq!(bench.order(Order::StopPlaying), Err(Senseless::NothingPlays));
    let begun = |n: u32| Output::Record(CallEvent::PlayBegun(format!("{n}.wav")));
    let ended = |whole| Output::Record(CallEvent::PlayEnded { whole });
    let media = |n| Output::Media(NEAR, MediaOutput::Play(n));
    assert_eq!(bench.order(play(1)), Ok(vec![media(1), begun(1)]));
    assert_eq!(bench.order(play(2)), Ok(vec![ended(false), media(2), begun(2)]));
    assert_eq!(bench.give(Input::Media(NEAR, MediaInput::Played(1))), []);
    assert_eq!(bench.call.standing().playing.as_deref(), Some("2.wav"));
    assert_eq!(bench.give(Input::Media(NEAR, MediaInput::Played(2))), [ended(true)]);
    assert_eq!(bench.call.standing().playing, None);
    bench.order(play(3)).expect("it makes sense");
    let stop = Output::Media(NEAR, MediaOutput::StopPlaying);
    assert_eq!(bench.order(Order::StopPlaying), Ok(vec![stop, ended(false)]));
}

#[test]
fn keys_go_the_way_that_was_agreed_for_them_or_are_refused() {
    let mut bench = Bench::talking();
    let sent = |side, count| Output::Record(CallEvent::KeysSent { side, count });
    let media = |side, key| Output::Media(side, MediaOutput::SendDigit(key));
    let out = bench.order(keys(NEAR, "4#"));
    assert_eq!(out, Ok(vec![media(NEAR, '4'), media(NEAR, '#'), sent(NEAR, 2)]));
    assert_eq!(bench.order(keys(FAR, "4")), Err(Senseless::LegGone));
    let terms = LegTerms { keys: KeyWay::Signalling { duration_ms: 160 }, ..terms() };
    let mut bench = Bench::new(|setup| setup.opening = Opening::Inbound(terms));
    bench.talk();
    let info = Output::Leg(NEAR, LegOutput::SendKey { digit: '9', duration_ms: 160 });
    assert_eq!(bench.order(keys(NEAR, "9")), Ok(vec![info, sent(NEAR, 1)]));
    let mut bench = Bench::new(|_| ());
    let deaf = OFFER.replace(" 101", "").replace("a=rtpmap:101 telephone-event/8000\r\n", "");
    bench.give(Input::Leg(NEAR, LegInput::Offered(Some(deaf.into()))));
    bench.open();
    bench.give(Input::Agent(AgentInput::Ready));
    // Who takes no events hears tones.
    assert_eq!(bench.order(keys(NEAR, "9")), Ok(vec![media(NEAR, '9'), sent(NEAR, 1)]));
    let mut bench = Bench::bridged();
    assert_eq!(bench.order(keys(FAR, "1")), Ok(vec![media(FAR, '1'), sent(FAR, 1)]));
}

#[test]
fn keys_reach_whom_the_agent_talks_with_in_the_callers_place() {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { transfers: true, ..terms() });
    });
    bench.talk();
    let sent = |side| {
        let media = Output::Media(side, MediaOutput::SendDigit('4'));
        Ok(vec![media, Output::Record(CallEvent::KeysSent { side, count: 1 })])
    };
    let attended = TransferRequest::Attended(Box::new(request()));
    bench.give(Input::TransferRequested(attended));
    bench.run_media(FAR);
    assert_eq!(bench.call.side_of_agent(), NEAR, "nobody answered");
    assert_eq!(bench.order(keys(FAR, "4")), Err(Senseless::LegGone));
    bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(bench.call.side_of_agent(), FAR);
    assert_eq!(bench.order(keys(FAR, "4")), sent(FAR));
    assert_eq!(bench.order(keys(NEAR, "4")), sent(NEAR));
    bench.give(Input::TransferWithdrawn);
    assert_eq!(bench.call.side_of_agent(), NEAR);
    assert_eq!(bench.order(keys(FAR, "4")), Err(Senseless::LegGone));
    bench.give(Input::Media(FAR, MediaInput::Closed(None)));

    // The caller lets somebody have its place, and leaves.
    bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    bench.run_media(FAR);
    bench.leg(NEAR, LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller });
    bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(bench.order(keys(FAR, "4")), sent(FAR));
    bench.wait();
    assert_eq!(bench.call.standing().phase, Phase::HandedOver);
    assert_eq!((bench.call.side_of_agent(), bench.order(keys(FAR, "4"))), (FAR, sent(FAR)));
    assert_eq!(bench.order(keys(NEAR, "4")), Err(Senseless::LegGone));
}

#[test]
fn another_agent_comes_while_the_caller_hears_comfort_audio() {
    let mut bench = Bench::talking();
    let out = bench.order(attach()).expect("it makes sense");
    assert_eq!(
        out,
        [
            Output::Agent(AgentOutput::End),
            Output::Agent(AgentOutput::Attach),
            Output::Record(CallEvent::AgentAttached(profile())),
            Output::Connect(AudioPath::Waiting(Comfort::Connecting)),
        ]
    );
    assert_eq!(bench.call.standing().agent, "connecting");
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    // One that does not come is announced like the first.
    bench.order(attach()).expect("it makes sense");
    let out = bench.give(Input::Agent(AgentInput::Failed(HangupCause::AgentUnreachable)));
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    // And the announcement gives way to another.
    let out = bench.order(attach()).expect("it makes sense");
    assert_eq!(out.first(), Some(&Output::Agent(AgentOutput::End)));
    bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!(bench.call.standing().phase, Phase::WithAgent);
    let mut bench = Bench::bridged();
    assert_eq!(bench.order(attach()), Err(Senseless::NotWithAgent));
}

#[test]
fn another_agent_may_be_one_that_is_reached_by_telephone() {
    for partner in [Partner::Forward, Partner::AgentLeg] {
        let order = || attaching_to(partner(Box::new(request())), false);
        let mut bench = Bench::talking();
        let out = bench.order(order()).expect("it makes sense");
        assert!(out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
        assert!(!out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
        assert!(out.contains(&Output::Record(CallEvent::AgentAttached(profile()))), "{out:?}");
        assert!(dial(&bench.run_media(FAR), FAR).is_some());
        let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
        assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Ringback)));
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
        // Another takes its place only where that is taken back.
        assert_eq!(bench.order(order()), Err(Senseless::NotWithAgent));
        let ended = LegInput::Ended { cause: HangupCause::Normal, by: Party::Far };
        bench.leg(FAR, ended);
        assert_eq!(bench.close_all().0, HangupCause::Normal);
        // What goes wrong with it is an agent's failure.
        let mut bench = Bench::talking();
        bench.order(order()).expect("it makes sense");
        bench.run_media(FAR);
        let (cause, status) = (HangupCause::Busy, Some(486));
        let out = bench.leg(FAR, LegInput::DialFailed { cause, status });
        assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    }
}

#[test]
fn an_agent_by_telephone_for_whose_leg_there_is_no_room_is_one_that_failed() {
    let mut bench = Bench::bridged();
    let bridge = TransferRequest::Bridge(Box::new(request()));
    bench.give(Input::TransferRequested(bridge));
    bench.run_media(LegSide::Third);
    // Both other legs are hung up, and their media are not closed yet.
    let order = attaching_to(Partner::AgentLeg(Box::new(request())), true);
    let out = bench.order(order).expect("it makes sense");
    let failed = CallEvent::AgentFailed(HangupCause::Overload, None);
    assert!(out.contains(&Output::Record(failed)), "{out:?}");
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
}

#[test]
fn a_script_takes_the_caller_back_from_whoever_has_it_or_is_rung_for_it() {
    let taken_back = |bench: &mut Bench, rings: bool| {
        let out = bench.order(attaching(true)).expect("it makes sense");
        assert!(out.contains(&Output::Leg(FAR, LegOutput::HangUp(HangupCause::Normal))), "{out:?}");
        assert!(out.contains(&Output::Media(FAR, MediaOutput::Close)), "{out:?}");
        assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
        assert_eq!(out.contains(&Output::Record(CallEvent::TransferWithdrawn)), rings, "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Connecting)));
        bench.give(Input::Media(FAR, MediaInput::Closed(None)));
        let out = bench.give(Input::Agent(AgentInput::Ready));
        assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
        // The end of the other leg is not that of the call.
        let (cause, by) = (HangupCause::Normal, Party::Far);
        bench.leg(FAR, LegInput::Ended { cause, by });
        assert_eq!(bench.call.standing().phase, Phase::WithAgent);
    };
    taken_back(&mut Bench::bridged(), false);
    let mut bench = Bench::talking();
    let bridge = TransferRequest::Bridge(Box::new(request()));
    bench.give(Input::TransferRequested(bridge));
    bench.run_media(FAR);
    assert_eq!(bench.call.standing().phase, Phase::Transferring);
    taken_back(&mut bench, true);
    // A carrier that was asked to take the caller over is not interrupted.
    let mut bench = Bench::talking();
    let target = Box::new(request().target);
    bench.give(Input::TransferRequested(TransferRequest::Refer { target, otherwise: None }));
    assert_eq!(bench.order(attaching(true)), Err(Senseless::NotWithAgent));
}

#[test]
fn a_call_takes_no_order_before_its_answer_or_after_its_end() {
    let mut bench = Bench::new(|_| ());
    let refused = |bench: &mut Bench, why| {
        for order in all() {
            assert_eq!(bench.order(order.clone()), Err(why), "{order:?}");
        }
    };
    refused(&mut bench, Senseless::NotAnswered);
    bench.ring();
    refused(&mut bench, Senseless::NotAnswered);
    bench.give(Input::Agent(AgentInput::Ready));
    bench.leg(NEAR, LegInput::Acknowledged(None));
    assert!(bench.order(Order::Hold).is_ok());
    bench.leg(NEAR, LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller });
    refused(&mut bench, Senseless::Over);
    bench.close();
    refused(&mut bench, Senseless::Over);
}

#[test]
fn the_announcement_of_a_lost_agent_is_heard_whatever_was_done_to_its_caller() {
    let mut bench = Bench::talking();
    for order in [Order::Hold, Order::Mute(MutedSide::Agent), play(1)] {
        bench.order(order).expect("it makes sense");
    }
    let held = format!("{OFFER}a=recvonly\r\n");
    bench.leg(NEAR, LegInput::ReofferAnswered(Some(held.into())));
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)), "it is heard at once");
    for undone in [
        Output::Record(CallEvent::HoldEnded),
        Output::Record(CallEvent::PlayEnded { whole: false }),
        Output::Media(NEAR, MediaOutput::StopPlaying),
        Output::Record(CallEvent::Unmuted(MutedSide::Agent)),
        Output::Media(NEAR, MediaOutput::Mute { inward: false, outward: false }),
    ] {
        assert!(out.contains(&undone), "{undone:?} of {out:?}");
    }
    let taken_back =
        out.iter().any(|output| matches!(output, Output::Leg(NEAR, LegOutput::Reoffer(_))));
    assert!(taken_back, "{out:?}");
    // Nobody takes it away again; the call would end with what was not heard.
    for order in [Order::Hold, Order::Mute(MutedSide::Agent), play(2)] {
        assert_eq!(bench.order(order), Err(Senseless::NotWithAgent));
    }
    assert!(bench.order(play_beside(3)).is_ok(), "it is heard all the same");
}

#[test]
fn the_announcement_waits_for_the_end_of_a_hold_in_which_nothing_is_sent() {
    let is_started = |out: &[Output]| {
        let noted = out.contains(&Output::Record(CallEvent::FallbackStarted));
        assert_eq!(out.contains(&Output::Agent(AgentOutput::StartFallback)), noted, "{out:?}");
        noted
    };
    let lost = || {
        let terms = LegTerms { hold: Direction::Inactive, ..terms() };
        let mut bench = Bench::new(|setup| setup.opening = Opening::Inbound(terms));
        bench.talk();
        bench.order(Order::Hold).expect("it makes sense");
        let held = format!("{OFFER}a=inactive\r\n");
        bench.leg(NEAR, LegInput::ReofferAnswered(Some(held.into())));
        let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
        assert!(!is_started(&out), "{out:?}");
        bench
    };
    let mut bench = lost();
    let refused = LegInput::ReofferRefused { status: 491, has_waited: false };
    assert!(!is_started(&bench.leg(NEAR, refused)));
    assert!(!is_started(&bench.wait()));
    assert_eq!(bench.call.standing().phase, Phase::Announcement);
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
    assert!(is_started(&out), "{out:?}");
    bench.give(Input::Agent(AgentInput::FallbackPlayed));
    assert_eq!(bench.close_all().0, HangupCause::AgentLost);
    // A peer that never says a word does not keep the call.
    let mut bench = lost();
    let out = bench.wait();
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::AgentLost));
    assert!(!is_started(&out));
    bench.close_all();
    // Another agent may come meanwhile.
    let mut bench = lost();
    let out = bench.order(attach()).expect("it makes sense");
    assert_eq!(out.first(), Some(&Output::Agent(AgentOutput::Attach)));
    assert!(!is_started(&bench.leg(NEAR, LegInput::ReofferAnswered(sdp()))));
}

#[test]
fn a_caller_on_hold_whose_agent_is_lost_waits_there_for_the_next() {
    let mut bench = Bench::new(|setup| setup.fallbacks = [super::fallback::by_link(2)].into());
    bench.talk();
    bench.order(Order::Hold).expect("it makes sense");
    let held = format!("{OFFER}a=recvonly\r\n");
    bench.leg(NEAR, LegInput::ReofferAnswered(Some(held.into())));
    // It hears no ringing, but goes on hearing what those on hold hear.
    bench.give(Input::Agent(AgentInput::Interrupted(HangupCause::AgentLost)));
    assert_eq!(bench.give(Input::Agent(AgentInput::Missed)), []);
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
    assert!(!out.contains(&Output::Record(CallEvent::HoldEnded)), "{out:?}");
    assert_eq!(path(&out), None);
    assert_eq!(path(&bench.give(Input::Agent(AgentInput::Ready))), None);
    assert!(bench.call.standing().on_hold);
    let out = bench.order(Order::Resume).expect("it makes sense");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
}

#[test]
fn who_takes_a_muted_agents_place_is_heard() {
    let unmuted = Output::Record(CallEvent::Unmuted(MutedSide::Agent));
    for attaches in [false, true] {
        let mut bench = Bench::new(|setup| setup.fallbacks = [super::fallback::by_link(2)].into());
        bench.talk();
        for side in [MutedSide::Agent, MutedSide::Caller] {
            bench.order(Order::Mute(side)).expect("it makes sense");
        }
        let out = if attaches {
            bench.order(attach()).expect("it makes sense")
        } else {
            bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)))
        };
        assert!(out.contains(&unmuted), "{out:?}");
        let mute = MediaOutput::Mute { inward: true, outward: false };
        assert!(out.contains(&Output::Media(NEAR, mute)), "the caller stays muted: {out:?}");
        let standing = bench.call.standing();
        assert!(!standing.agent_muted && standing.caller_muted, "{standing:?}");
    }
}

#[test]
fn a_caller_on_hold_is_taken_back_for_whom_it_is_transferred_to_and_for_nobody_else() {
    let is_resumed = |out: &[Output]| {
        let offers = |output: &Output| matches!(output, Output::Leg(NEAR, LegOutput::Reoffer(_)));
        out.iter().any(offers) && out.contains(&Output::Record(CallEvent::HoldEnded))
    };
    let asked_on_hold = |wish: TransferRequest| {
        let mut bench = Bench::talking();
        bench.order(Order::Hold).expect("it makes sense");
        let held = format!("{OFFER}a=recvonly\r\n");
        bench.leg(NEAR, LegInput::ReofferAnswered(Some(held.into())));
        bench.give(Input::TransferRequested(wish));
        bench.run_media(FAR);
        assert!(bench.call.standing().on_hold);
        bench
    };
    let request = || Box::new(request());
    for wish in [TransferRequest::Bridge(request()), TransferRequest::Dial(request())] {
        let mut bench = asked_on_hold(wish);
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert!(is_resumed(&out), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
        assert!(!bench.call.standing().on_hold);
    }
    for leaves in [Input::Agent(AgentInput::HungUp), Input::TransferConfirmed] {
        let mut bench = asked_on_hold(TransferRequest::Attended(request()));
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert!(!is_resumed(&out) && bench.call.standing().on_hold, "{out:?}");
        let out = bench.give(leaves);
        assert!(is_resumed(&out), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    }
    let mut bench = asked_on_hold(TransferRequest::Bridge(request()));
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let out = bench.leg(FAR, busy);
    assert!(!is_resumed(&out) && bench.call.standing().on_hold, "{out:?}");
    assert_eq!(bench.call.path, AudioPath::Waiting(Comfort::Hold));
}
