//! The call record, folded from call events.

use crate::call::event::Arrival;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::event::MediaFigures;
use crate::call::event::Route;
use crate::call::side::LegSide;
use crate::routing::decision::Decision;
use crate::types::answer_hook::AskOutcome;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::codec::Codec;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::limit::CALL_EVENTS_MAX;
use crate::types::moment::Moment;
use crate::types::transport::Transport;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything the switch remembers of one call. Only [`CallRecord::fold`] changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// The call.
    pub id: CallId,
    /// How many events were folded in. A record with a higher revision replaces one with a lower.
    pub rev: u32,
    /// Which way the call was set up.
    pub direction: CallDirection,
    /// The Call-ID of its signalling.
    pub signalling_id: String,
    /// Where it came from; of a call out, where its last INVITE went.
    pub source: Option<SocketAddr>,
    /// How it came, or went.
    pub transport: Option<Transport>,
    /// The caller as claimed; empty when anonymous.
    pub caller: String,
    /// What was dialled, as it came.
    pub dialled_text: String,
    /// Where routing took it.
    pub route: Route,
    /// What headers, or who placed it, gave it to be passed on.
    pub variables: CallVariables,
    /// Every step of the routing decision.
    pub decision: Decision,
    /// When each stage was reached.
    pub stages: Stages,
    /// The codec of the answer.
    pub codec: Option<Codec>,
    /// Times the caller put us on hold.
    pub holds: u32,
    /// Keys the caller pressed; which ones is told by the events.
    pub digits: u32,
    /// Why the agent could not be reached or was lost.
    pub agent_failure: Option<HangupCause>,
    /// The SIP status of a refusal, or 200 once the call was answered; `None` where nothing was sent.
    pub status: Option<u16>,
    /// Why it ended.
    pub cause: Option<HangupCause>,
    /// Who ended it.
    pub ended_by: Option<Party>,
    /// From the answer to the end; zero if never answered.
    pub duration: Duration,
    /// Figures of its media: none before its end, so of their own.
    pub media: Option<Box<MediaFigures>>,
}

/// How far a call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// It arrived or was begun, and nobody rings yet.
    Initiated,
    /// The party called rings.
    Ringing,
    /// It was answered and goes on.
    Answered,
    /// It was answered and is over.
    Ended,
    /// It is over without an answer.
    Failed,
}

impl CallState {
    /// The spelling of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// That of a call which rang, was answered and ended, or did not.
    #[must_use]
    pub const fn of(rang: bool, answered: bool, ended: bool) -> Self {
        match (ended, answered, rang) {
            (true, true, _) => Self::Ended,
            (true, false, _) => Self::Failed,
            (false, true, _) => Self::Answered,
            (false, false, true) => Self::Ringing,
            (false, false, false) => Self::Initiated,
        }
    }
}

/// When a call reached each stage; `None` for stages it never saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// The request came.
    pub arrived: Moment,
    /// Routing decided.
    pub decided: Option<Moment>,
    /// The caller was told that it rings.
    pub ringing: Option<Moment>,
    /// The agent was connected.
    pub agent_ready: Option<Moment>,
    /// The call was answered.
    pub answered: Option<Moment>,
    /// The caller confirmed the answer.
    pub acknowledged: Option<Moment>,
    /// The first packet of the caller's audio came.
    pub first_media: Option<Moment>,
    /// The fallback announcement began.
    pub fallback: Option<Moment>,
    /// The call ended or was refused.
    pub ended: Option<Moment>,
}

impl CallRecord {
    /// An empty record of the call `id` that arrived at `now`.
    #[must_use]
    pub fn open(now: Moment, id: CallId) -> Self {
        Self {
            id,
            rev: 0,
            direction: CallDirection::Inbound,
            signalling_id: String::new(),
            source: None,
            transport: None,
            caller: String::new(),
            dialled_text: String::new(),
            route: Route::default(),
            variables: CallVariables::default(),
            decision: Decision::new(),
            stages: Stages { arrived: now, ..Stages::default() },
            codec: None,
            holds: 0,
            digits: 0,
            agent_failure: None,
            status: None,
            cause: None,
            ended_by: None,
            duration: Duration::ZERO,
            media: None,
        }
    }

    /// True once the call ended or was refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stages.ended.is_some()
    }

    /// How far the call got.
    #[must_use]
    pub const fn state(&self) -> CallState {
        let stages = &self.stages;
        CallState::of(stages.ringing.is_some(), stages.answered.is_some(), stages.ended.is_some())
    }

    /// Folds in what happened at `at`. The first of each stage counts, and the first end: a late
    /// second reason changes nothing but the revision.
    pub fn fold(&mut self, at: Moment, event: &CallEvent) {
        self.rev = self.rev.saturating_add(1);
        match event {
            CallEvent::Arrived(arrival) => self.arrive(at, arrival),
            CallEvent::Decided { route, decision } => self.decide(at, route, decision),
            CallEvent::Refused { cause, status } => self.refuse(at, *cause, Some(*status)),
            CallEvent::Ignored(cause) => self.refuse(at, *cause, None),
            CallEvent::Ringing | CallEvent::Progressed { side: LegSide::Near, .. } => {
                first(&mut self.stages.ringing, at);
            }
            CallEvent::AgentReady => first(&mut self.stages.agent_ready, at),
            CallEvent::AgentFailed(cause, _) => first(&mut self.agent_failure, *cause),
            CallEvent::Answered(codec) => self.answer(at, *codec),
            CallEvent::Acknowledged => first(&mut self.stages.acknowledged, at),
            CallEvent::FirstMedia => first(&mut self.stages.first_media, at),
            CallEvent::Held => self.holds = self.holds.saturating_add(1),
            CallEvent::AgentAttached(profile)
            | CallEvent::AgentReplaced(profile)
            | CallEvent::AnswerAsked(AskOutcome::Overridden(profile), _) => {
                self.route.ai_profile = Some(*profile);
            }
            CallEvent::VariablesSet(variables) => self.variables.clone_from(variables),
            CallEvent::Digit(_) => self.digits = self.digits.saturating_add(1),
            CallEvent::FallbackStarted => first(&mut self.stages.fallback, at),
            CallEvent::Sent { side: LegSide::Near, to, transport, .. } => {
                (self.source, self.transport) = (Some(*to), Some(*transport));
            }
            CallEvent::Attempted(attempts) => self.attempted(attempts),
            // A first failure of the near leg that was dialled gives the status of the call.
            CallEvent::LegFailed { side: LegSide::Near, status, .. } => {
                self.status = self.status.or(*status);
            }
            // Told by the events themselves.
            CallEvent::Dialled(_)
            | CallEvent::Resumed
            | CallEvent::HoldBegun
            | CallEvent::HoldEnded
            | CallEvent::Muted(_)
            | CallEvent::Unmuted(_)
            | CallEvent::PlayBegun(_)
            | CallEvent::PlayEnded { .. }
            | CallEvent::Recording(..)
            | CallEvent::AgentAsked { .. }
            | CallEvent::AgentInterrupted(..)
            | CallEvent::AgentLink(_)
            | CallEvent::AgentResumed
            | CallEvent::ScriptNoted { .. }
            | CallEvent::AgentAwaited(_)
            | CallEvent::TranscriptAdded { .. }
            | CallEvent::AnswerAsked(AskOutcome::Kept | AskOutcome::Failed(_), _)
            | CallEvent::Talk(..)
            | CallEvent::AudioTrouble(..)
            | CallEvent::KeysSent { .. }
            | CallEvent::Sent { .. }
            | CallEvent::Progressed { .. }
            | CallEvent::LegAnswered { .. }
            | CallEvent::LegFailed { .. }
            | CallEvent::LegEnded { .. }
            | CallEvent::Bridged(_)
            | CallEvent::TransferBegun(_)
            | CallEvent::TransferFailed(_)
            | CallEvent::TransferWithdrawn
            | CallEvent::TransferCompleted
            | CallEvent::TransferRefused(_)
            | CallEvent::ReofferRefused { .. }
            | CallEvent::Replaced(_)
            | CallEvent::PeerReason { .. }
            | CallEvent::Supervision(..)
            | CallEvent::LegMedia(..) => {}
            CallEvent::Media(figures) => self.media = Some(figures.clone()),
            CallEvent::Ended { cause, by, duration } => self.end(at, (*cause, *by), *duration),
        }
    }

    fn answer(&mut self, at: Moment, codec: Codec) {
        first(&mut self.stages.answered, at);
        self.codec = Some(codec);
        self.status.get_or_insert(200);
    }

    fn attempted(&mut self, attempts: &Decision) {
        for step in attempts.steps() {
            self.decision.note(step.what, step.detail.clone());
        }
    }

    fn arrive(&mut self, at: Moment, arrival: &Arrival) {
        self.stages.arrived = at;
        self.direction = arrival.direction;
        self.signalling_id.clone_from(&arrival.signalling_id);
        self.source = arrival.source;
        self.transport = arrival.transport;
        self.caller.clone_from(&arrival.caller);
        self.dialled_text.clone_from(&arrival.dialled);
    }

    fn decide(&mut self, at: Moment, route: &Route, decision: &Decision) {
        self.stages.decided.get_or_insert(at);
        self.route.clone_from(route);
        self.decision.clone_from(decision);
    }

    fn refuse(&mut self, at: Moment, cause: HangupCause, status: Option<u16>) {
        if self.is_closed() {
            return;
        }
        self.stages.ended = Some(at);
        self.cause = Some(cause);
        self.status = status;
        self.ended_by = Some(Party::Switch);
    }

    fn end(&mut self, at: Moment, (cause, by): (HangupCause, Party), duration: Duration) {
        if self.is_closed() {
            // A refusal closed it: who wanted that is told behind it.
            if self.cause == Some(cause) {
                self.ended_by = Some(by);
            }
            return;
        }
        self.stages.ended = Some(at);
        self.cause = Some(cause);
        self.ended_by = Some(by);
        self.duration = duration;
        if (cause, by) == (HangupCause::CallerCancelled, Party::Caller) {
            // An answer of ours that the cancellation overtook never reached the caller. That another leg was
            // cancelled takes no answer back.
            self.stages.answered = None;
            self.status = Some(cause.sip_status());
        }
        // A call that ended before its answer leaves the status its caller saw.
        self.status = self.status.or_else(|| self.unanswered(cause));
    }

    /// The status of a call that nobody answered: an INVITE that was taken back ends with 487 (RFC 3261 §9.2), and one
    /// that never came or went has none.
    fn unanswered(&self, cause: HangupCause) -> Option<u16> {
        match cause.sip_status() {
            refusal @ 300.. => Some(refusal),
            _ => self.source.map(|_| HangupCause::CallerCancelled.sip_status()),
        }
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// A thing that happened, with its place in the call.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedEvent {
    /// Its place in the call, from 0 and without gaps as far as events are kept.
    pub seq: u32,
    /// When it happened.
    pub at: Moment,
    /// What happened.
    pub event: CallEvent,
}

/// What the journal stores: the record as it now stands, and the events since the last report.
#[derive(Clone, Debug, PartialEq)]
pub struct CallReport {
    /// The record.
    pub record: CallRecord,
    /// Events that no earlier report of this call held.
    pub events: Vec<TimedEvent>,
}

impl CallReport {
    /// Takes in an earlier report of the same call that nobody has seen yet.
    pub fn take_in(&mut self, earlier: Self) {
        self.events.splice(..0, earlier.events);
    }
}

/// One call's record and its events.
///
/// The owner of a call notes each event, reports once before any response above 100 (so that a
/// killed process leaves a trace), now and then while it runs, and once when the call is closed.
#[derive(Clone, Debug)]
pub struct CallLog {
    record: CallRecord,
    /// Those that are kept, in order; reported ones without what the record has of them too.
    events: Vec<TimedEvent>,
    /// So many of them were reported.
    reported: usize,
}

impl CallLog {
    /// The log of the call `id` that arrived at `now`.
    #[must_use]
    pub fn open(now: Moment, id: CallId) -> Self {
        Self { record: CallRecord::open(now, id), events: Vec::new(), reported: 0 }
    }

    /// The record as it stands.
    #[must_use]
    pub fn record(&self) -> &CallRecord {
        &self.record
    }

    /// What happened up to now, in order. Of what was reported, arrival, routing and variables are told by
    /// the record alone.
    #[must_use]
    pub fn events(&self) -> &[TimedEvent] {
        &self.events
    }

    /// True where something happened that no report had.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.reported < self.events.len()
    }

    /// Folds `event` into the record and keeps it for the next report; past [`CALL_EVENTS_MAX`] only
    /// its end is kept. Gives its place in the call.
    pub fn note(&mut self, at: Moment, event: CallEvent) -> u32 {
        let seq = self.record.rev;
        self.record.fold(at, &event);
        let last = matches!(
            event,
            CallEvent::Ended { .. } | CallEvent::Refused { .. } | CallEvent::Ignored(_)
        );
        if self.events.len() < CALL_EVENTS_MAX || last {
            self.events.push(TimedEvent { seq, at, event });
        }
        seq
    }

    /// The report for the journal; the events in it will not be in the next one.
    pub fn report(&mut self) -> CallReport {
        let events = self.events.split_off(self.reported);
        // Of a call that is over the records tell.
        if !self.record.is_closed() {
            self.events.extend(events.iter().map(TimedEvent::without_content));
        }
        self.reported = self.events.len();
        CallReport { record: self.record.clone(), events }
    }
}

impl TimedEvent {
    /// The event without what only records need of it.
    fn without_content(&self) -> Self {
        let event = match &self.event {
            CallEvent::Arrived(arrival) => CallEvent::Arrived(Box::new(Arrival {
                direction: arrival.direction,
                signalling_id: String::new(),
                source: arrival.source,
                transport: arrival.transport,
                caller: String::new(),
                dialled: String::new(),
            })),
            CallEvent::Decided { route, .. } => {
                CallEvent::Decided { route: route.clone(), decision: Decision::new() }
            }
            CallEvent::Attempted(_) => CallEvent::Attempted(Decision::new()),
            CallEvent::VariablesSet(_) => CallEvent::VariablesSet(Box::default()),
            event => event.clone(),
        };
        Self { seq: self.seq, at: self.at, event }
    }
}

impl Stages {
    /// How far a call of these stages had got at a moment.
    #[must_use]
    pub fn state_at(&self, at: Moment) -> CallState {
        let reached = |stage: Option<Moment>| stage.is_some_and(|reached| reached <= at);
        CallState::of(reached(self.ringing), reached(self.answered), reached(self.ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id() -> CallId {
        CallId::from_uuid(Uuid::from_u128(7))
    }

    fn arrival() -> CallEvent {
        CallEvent::Arrived(Box::new(Arrival {
            direction: CallDirection::Inbound,
            signalling_id: "abc@host".to_owned(),
            source: Some("127.0.0.1:5062".parse().unwrap()),
            transport: Some(Transport::Udp),
            caller: "+15550001".to_owned(),
            dialled: "+15550100".to_owned(),
        }))
    }

    fn fold_all(events: Vec<CallEvent>) -> CallRecord {
        let mut record = CallRecord::open(Moment::START, id());
        for (step, event) in events.into_iter().enumerate() {
            record.fold(Moment::from_millis(step as u64 * 10), &event);
        }
        record
    }

    fn ended(cause: HangupCause, by: Party, seconds: u64) -> CallEvent {
        CallEvent::Ended { cause, by, duration: Duration::from_secs(seconds) }
    }

    #[test]
    fn an_answered_call_keeps_the_moment_of_each_stage() {
        let record = fold_all(vec![
            arrival(),
            CallEvent::Decided { route: Box::default(), decision: Decision::new() },
            CallEvent::Ringing,
            CallEvent::AgentReady,
            CallEvent::Answered(Codec::Pcmu),
            CallEvent::Acknowledged,
            CallEvent::FirstMedia,
            ended(HangupCause::Normal, Party::Caller, 9),
        ]);
        assert_eq!(record.rev, 8);
        assert_eq!(record.stages.ringing, Some(Moment::from_millis(20)));
        assert_eq!(record.stages.answered, Some(Moment::from_millis(40)));
        assert_eq!(record.stages.first_media, Some(Moment::from_millis(60)));
        assert_eq!(record.stages.ended, Some(Moment::from_millis(70)));
        assert_eq!(record.status, Some(200));
        assert_eq!(record.ended_by, Some(Party::Caller));
        assert_eq!(record.duration, Duration::from_secs(9));
        assert_eq!(record.caller, "+15550001");
        assert!(record.is_closed());
    }

    #[test]
    fn a_refused_call_is_closed_with_the_status_sent_rather_than_that_of_its_cause() {
        let refused = CallEvent::Refused { cause: HangupCause::UnknownNumber, status: 410 };
        let record = fold_all(vec![arrival(), refused]);
        assert_eq!(record.status, Some(410));
        assert_eq!(record.cause, Some(HangupCause::UnknownNumber));
        assert_eq!(record.ended_by, Some(Party::Switch));
        assert!(record.stages.answered.is_none());
    }

    #[test]
    fn a_call_nobody_answered_anything_to_has_no_status() {
        let cause = HangupCause::UnknownSource;
        let record =
            fold_all(vec![arrival(), CallEvent::Ignored(cause), ended(cause, Party::Switch, 0)]);
        assert_eq!((record.cause, record.status), (Some(cause), None));
        assert!(record.is_closed());
    }

    #[test]
    fn a_call_cancelled_before_its_answer_arrived_was_not_answered() {
        let record = fold_all(vec![
            arrival(),
            CallEvent::Answered(Codec::Pcmu),
            ended(HangupCause::CallerCancelled, Party::Caller, 0),
        ]);
        assert_eq!((record.stages.answered, record.status), (None, Some(487)));
    }

    #[test]
    fn what_became_of_another_leg_takes_no_answer_back() {
        let causes = [HangupCause::CallerCancelled, HangupCause::of_refusal(487, None)];
        for cause in causes {
            for by in [Party::Far, Party::Agent, Party::Switch, Party::Operator] {
                let record = fold_all(vec![
                    arrival(),
                    CallEvent::Answered(Codec::Pcmu),
                    ended(cause, by, 3),
                ]);
                let answered = (record.stages.answered, record.status);
                assert_eq!(answered, (Some(Moment::from_millis(10)), Some(200)), "{cause} {by:?}");
            }
        }
    }

    #[test]
    fn a_call_that_nobody_answered_was_no_success_and_says_who_gave_it_up() {
        let (cause, by) = (HangupCause::Normal, Party::Operator);
        let taken_back = fold_all(vec![arrival(), CallEvent::Ringing, ended(cause, by, 0)]);
        assert_eq!((taken_back.cause, taken_back.status), (Some(cause), Some(487)));
        let mut never_sent = CallRecord::open(Moment::START, id());
        never_sent.fold(Moment::START, &ended(cause, by, 0));
        assert_eq!((never_sent.status, never_sent.ended_by), (None, Some(by)));
        let declined = CallEvent::Refused { cause, status: 603 };
        let declined = fold_all(vec![arrival(), declined, ended(cause, by, 0)]);
        assert_eq!((declined.status, declined.ended_by), (Some(603), Some(by)));
    }

    #[test]
    fn the_first_end_counts() {
        let record = fold_all(vec![
            arrival(),
            ended(HangupCause::CallerCancelled, Party::Caller, 0),
            ended(HangupCause::SwitchFault, Party::Switch, 3),
        ]);
        assert_eq!(record.cause, Some(HangupCause::CallerCancelled));
        assert_eq!(record.status, Some(487));
        assert_eq!(record.duration, Duration::ZERO);
        assert_eq!(record.rev, 3);
    }

    #[test]
    fn media_after_the_end_still_enters_the_record() {
        let figures = MediaFigures { packets_in: 5, ..MediaFigures::default() };
        let record = fold_all(vec![
            arrival(),
            ended(HangupCause::Normal, Party::Agent, 1),
            CallEvent::Media(Box::new(figures)),
        ]);
        assert_eq!(record.media.map(|media| media.packets_in), Some(5));
    }

    #[test]
    fn an_agent_lost_then_a_fallback_is_told_apart_from_the_end() {
        let record = fold_all(vec![
            arrival(),
            CallEvent::Answered(Codec::Pcma),
            CallEvent::AgentFailed(HangupCause::AgentLost, None),
            CallEvent::FallbackStarted,
            ended(HangupCause::AgentLost, Party::Switch, 2),
        ]);
        assert_eq!(record.agent_failure, Some(HangupCause::AgentLost));
        assert_eq!(record.stages.fallback, Some(Moment::from_millis(30)));
        assert_eq!(record.codec, Some(Codec::Pcma));
        assert_eq!(record.status, Some(200));
    }

    #[test]
    fn digits_and_holds_are_counted() {
        let record = fold_all(vec![
            arrival(),
            CallEvent::Digit('1'),
            CallEvent::Held,
            CallEvent::Resumed,
            CallEvent::Digit('#'),
        ]);
        assert_eq!((record.digits, record.holds), (2, 1));
    }

    #[test]
    fn each_event_is_reported_once_and_numbered_through() {
        let mut log = CallLog::open(Moment::START, id());
        log.note(Moment::START, arrival());
        let opened = log.report();
        log.note(Moment::from_millis(1), CallEvent::Ringing);
        log.note(Moment::from_millis(2), ended(HangupCause::Normal, Party::Caller, 0));
        let closed = log.report();
        let numbers = |report: &CallReport| report.events.iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!(numbers(&opened), [0]);
        assert_eq!(numbers(&closed), [1, 2]);
        assert!(closed.record.rev > opened.record.rev);
    }

    #[test]
    fn an_event_stays_small_since_calls_keep_theirs() {
        assert!(size_of::<TimedEvent>() <= 72, "{}", size_of::<TimedEvent>());
    }

    #[test]
    fn a_flood_of_events_is_bounded_and_the_end_still_kept() {
        let mut log = CallLog::open(Moment::START, id());
        for _ in 0..CALL_EVENTS_MAX * 2 {
            log.note(Moment::START, CallEvent::Digit('5'));
        }
        log.note(Moment::START, ended(HangupCause::Normal, Party::Caller, 0));
        let report = log.report();
        assert_eq!(report.events.len(), CALL_EVENTS_MAX + 1);
        assert_eq!(report.record.digits as usize, CALL_EVENTS_MAX * 2);
        assert_eq!(report.events.last().map(|e| e.event.name()), Some("ended"));
    }
}
