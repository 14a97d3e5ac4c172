//! The spans of one call, folded from the reports of its record.

use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::side::LegSide;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::telemetry::span::Attribute;
use crate::telemetry::span::Span;
use crate::telemetry::span::SpanKind;
use crate::types::cause::Blame;
use crate::types::cause::HangupCause;
use crate::types::limit::SPAN_EVENTS_MAX;
use crate::types::limit::SPAN_PARTS_MAX;
use crate::types::moment::Moment;
use crate::types::trace_context::Sampling;
use crate::types::trace_context::SpanPart;
use crate::types::trace_context::TraceContext;

/// What happened to a call so far, as far as its trace tells of it.
#[derive(Debug, Default)]
pub(super) struct CallSpans {
    /// Connections of agents, and attempts to call somebody.
    parts: Vec<Part>,
    events: Vec<(&'static str, Moment)>,
    agents: u16,
    dials: u16,
    /// Since when the present agent is connected to; `None`: it is there, or failed.
    connecting: Option<Moment>,
}

#[derive(Debug)]
struct Part {
    part: SpanPart,
    side: Option<LegSide>,
    start: Moment,
    end: Option<Moment>,
    attributes: Vec<Attribute>,
    failure: Option<HangupCause>,
}

impl CallSpans {
    /// Takes in what a report has. Its record may be older than what follows.
    pub(super) fn take_in(&mut self, report: &CallReport) {
        for timed in &report.events {
            self.note(timed);
        }
    }

    fn note(&mut self, timed: &TimedEvent) {
        let at = timed.at;
        match &timed.event {
            CallEvent::Decided { .. } => self.connecting = Some(at),
            CallEvent::AgentReady => {
                self.agent_came(at, None);
                self.event("agent_ready", at);
            }
            CallEvent::AgentFailed(cause, _) => self.agent_failed(*cause, at),
            // What comes before the answer of whom was asked is no time of the agent's.
            CallEvent::AgentAttached(_)
            | CallEvent::AgentReplaced(_)
            | CallEvent::AnswerAsked(..) => {
                self.connecting = Some(at);
                self.event(timed.event.name(), at);
            }
            CallEvent::Sent { side, to, transport, .. } => {
                self.dial_over(*side, at, None);
                self.begin_dial(*side, at, way(*side, to.to_string(), transport.as_str()));
            }
            CallEvent::Answered(_) => self.leg_answered(LegSide::Near, at),
            CallEvent::LegAnswered { side, .. } => self.leg_answered(*side, at),
            CallEvent::LegFailed { side, cause, .. } => self.leg_failed(*side, *cause, at),
            CallEvent::Ringing
            | CallEvent::Talk(..)
            | CallEvent::AudioTrouble(..)
            | CallEvent::Progressed { .. }
            | CallEvent::FirstMedia
            | CallEvent::Held
            | CallEvent::Resumed
            | CallEvent::HoldBegun
            | CallEvent::HoldEnded
            | CallEvent::FallbackStarted
            | CallEvent::Bridged(_)
            | CallEvent::TransferBegun(_)
            | CallEvent::TransferFailed(_)
            | CallEvent::TransferWithdrawn
            | CallEvent::TransferCompleted
            | CallEvent::Replaced(_)
            | CallEvent::Supervision(..)
            | CallEvent::Recording(..)
            | CallEvent::AgentAsked { .. }
            | CallEvent::AgentInterrupted(..)
            | CallEvent::AgentLink(_)
            | CallEvent::AgentResumed
            | CallEvent::ScriptNoted { .. }
            | CallEvent::LegEnded { .. } => self.event(timed.event.name(), at),
            // What is told by the record, or is too much of a call to be told of each.
            CallEvent::Arrived(_)
            | CallEvent::Refused { .. }
            | CallEvent::Ignored(_)
            | CallEvent::Acknowledged
            | CallEvent::Muted(_)
            | CallEvent::Unmuted(_)
            | CallEvent::PlayBegun(_)
            | CallEvent::PlayEnded { .. }
            | CallEvent::KeysSent { .. }
            | CallEvent::AgentAwaited(_)
            | CallEvent::TranscriptAdded { .. }
            | CallEvent::VariablesSet(_)
            | CallEvent::Digit(_)
            | CallEvent::Dialled(_)
            | CallEvent::Attempted(_)
            | CallEvent::TransferRefused(_)
            | CallEvent::ReofferRefused { .. }
            | CallEvent::PeerReason { .. }
            | CallEvent::LegMedia(..)
            | CallEvent::Media(_)
            | CallEvent::Ended { .. } => {}
        }
    }

    fn agent_failed(&mut self, cause: HangupCause, at: Moment) {
        if self.connecting.is_some() {
            self.agent_came(at, Some(cause));
        } else {
            self.event("agent_lost", at);
        }
    }

    fn leg_answered(&mut self, side: LegSide, at: Moment) {
        self.dial_over(side, at, None);
    }

    fn leg_failed(&mut self, side: LegSide, cause: HangupCause, at: Moment) {
        if !self.dial_over(side, at, Some(cause)) {
            // Nothing was sent: no route, no trunk, no address.
            self.begin_dial(side, at, vec![("tandem.leg", side.as_str().to_owned())]);
            self.dial_over(side, at, Some(cause));
        }
    }

    fn event(&mut self, name: &'static str, at: Moment) {
        if self.events.len() < SPAN_EVENTS_MAX {
            self.events.push((name, at));
        }
    }

    fn agent_came(&mut self, at: Moment, failure: Option<HangupCause>) {
        let Some(start) = self.connecting.take() else { return };
        let part = SpanPart::Agent(self.agents);
        self.agents = self.agents.saturating_add(1);
        self.push(Part { part, side: None, start, end: Some(at), attributes: Vec::new(), failure });
    }

    fn begin_dial(&mut self, side: LegSide, start: Moment, attributes: Vec<Attribute>) {
        let part = SpanPart::Dial(self.dials);
        self.dials = self.dials.saturating_add(1);
        self.push(Part { part, side: Some(side), start, end: None, attributes, failure: None });
    }

    /// The attempt that a leg is at is over; false where there is none.
    fn dial_over(&mut self, side: LegSide, at: Moment, failure: Option<HangupCause>) -> bool {
        let mut parts = self.parts.iter_mut().rev();
        let open = parts.find(|part| part.side == Some(side) && part.end.is_none());
        let Some(part) = open else { return false };
        part.end = Some(at);
        part.failure = failure;
        true
    }

    fn push(&mut self, part: Part) {
        if self.parts.len() < SPAN_PARTS_MAX {
            self.parts.push(part);
        }
    }

    /// The spans of the call whose record is closed.
    pub(super) fn finish(self, record: &CallRecord, sampling: Sampling) -> Vec<Span> {
        let stages = &record.stages;
        let ended = stages.ended.unwrap_or(stages.arrived);
        let mut spans = Vec::with_capacity(self.parts.len() + 5);
        let mut root = span(record, SpanPart::Call, sampling, (stages.arrived, ended));
        root.parent = None;
        root.kind = match record.direction {
            CallDirection::Inbound => SpanKind::Server,
            CallDirection::Outbound => SpanKind::Client,
        };
        root.attributes = of_call(record);
        root.failure = failure(record.cause);
        root.events = self.events.iter().map(|(name, at)| (*name, nanos(*at))).collect();
        spans.push(root);
        if let Some(decided) = stages.decided {
            let mut route = span(record, SpanPart::Route, sampling, (stages.arrived, decided));
            let steps = record.decision.steps().len().to_string();
            route.attributes.push(("tandem.decision.steps", steps));
            spans.push(route);
        }
        for part in self.parts {
            let times = (part.start, part.end.unwrap_or(ended));
            let mut one = span(record, part.part, sampling, times);
            one.kind = SpanKind::Client;
            one.attributes = part.attributes;
            one.failure = part.failure.map(HangupCause::code);
            spans.push(one);
        }
        let mut left = ended;
        if let Some(answered) = stages.answered {
            // The end was decided so long after the answer; what follows is closing.
            left = (answered + record.duration).min(ended);
            if let Some(acknowledged) = stages.acknowledged {
                spans.push(span(record, SpanPart::Answer, sampling, (answered, acknowledged)));
            }
            spans.push(span(record, SpanPart::Talk, sampling, (answered, left)));
        }
        let mut over = span(record, SpanPart::HangUp, sampling, (left, ended));
        over.attributes = of_end(record);
        spans.push(over);
        spans
    }
}

fn span(
    record: &CallRecord,
    part: SpanPart,
    sampling: Sampling,
    (start, end): (Moment, Moment),
) -> Span {
    let context = TraceContext::of(record.id, part, sampling);
    let name = match part {
        SpanPart::Call => "call",
        SpanPart::Route => "route",
        SpanPart::Answer => "answer",
        SpanPart::Talk => "talk",
        SpanPart::HangUp => "hangup",
        SpanPart::Agent(_) => "agent.connect",
        SpanPart::Dial(_) => "dial",
    };
    Span {
        trace: context.trace,
        id: context.span,
        parent: Some(TraceContext::of(record.id, SpanPart::Call, sampling).span),
        name,
        kind: SpanKind::Internal,
        start: nanos(start),
        end: nanos(end.max(start)),
        attributes: Vec::new(),
        events: Vec::new(),
        failure: None,
    }
}

/// By which way a leg is dialled.
fn way(side: LegSide, to: String, transport: &str) -> Vec<Attribute> {
    vec![
        ("tandem.leg", side.as_str().to_owned()),
        ("network.peer.address", to),
        ("network.transport", transport.to_owned()),
    ]
}

/// Identities and words of closed lists, never a number somebody dialled.
fn of_call(record: &CallRecord) -> Vec<Attribute> {
    let direction = match record.direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
    };
    let mut all = vec![
        ("tandem.call.id", record.id.to_string()),
        ("tandem.call.direction", direction.to_owned()),
    ];
    let route = &record.route;
    let optional = [
        ("tandem.tenant.id", route.tenant.map(|id| id.to_string())),
        ("tandem.trunk.id", route.trunk.map(|id| id.to_string())),
        ("tandem.number.id", route.number.map(|id| id.to_string())),
        ("tandem.ai_profile.id", route.ai_profile.map(|id| id.to_string())),
        ("tandem.codec", record.codec.map(|codec| codec.name().to_owned())),
        ("tandem.agent.failure", record.agent_failure.map(|cause| cause.code().to_owned())),
    ];
    all.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
    all.extend(of_end(record));
    all
}

fn of_end(record: &CallRecord) -> Vec<Attribute> {
    let all = [
        ("sip.status", record.status.map(|status| status.to_string())),
        ("tandem.cause", record.cause.map(|cause| cause.code().to_owned())),
        ("tandem.ended_by", record.ended_by.map(|party| party.as_str().to_owned())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// What callers do is no failure of ours.
fn failure(cause: Option<HangupCause>) -> Option<&'static str> {
    let cause = cause?;
    match cause.blame() {
        Blame::Nobody | Blame::Caller | Blame::Callee => None,
        Blame::Configuration | Blame::Agent | Blame::Switch => Some(cause.code()),
    }
}

fn nanos(at: Moment) -> u64 {
    u64::try_from(clock::wall(at).as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdr::CallLog;
    use crate::routing::decision::Decision;
    use crate::types::cause::Party;
    use crate::types::codec::Codec;
    use crate::types::id::CallId;
    use crate::types::transport::Transport;
    use std::time::Duration;
    use uuid::Uuid;

    /// The spans of a call to which one of these happens every 10 ms, told in three reports.
    fn spans_of(events: Vec<CallEvent>) -> Vec<Span> {
        let id = CallId::from_uuid(Uuid::from_u128(0x7000_8000_0000_0000_0007));
        let mut log = CallLog::open(Moment::START, id);
        let mut spans = CallSpans::default();
        for (step, event) in events.into_iter().enumerate() {
            log.note(Moment::from_millis(step as u64 * 10), event);
            if step % 3 == 0 {
                spans.take_in(&log.report());
            }
        }
        spans.take_in(&log.report());
        spans.finish(log.record(), Sampling::of_percent(100))
    }

    fn decided() -> CallEvent {
        CallEvent::Decided { route: Box::default(), decision: Decision::new() }
    }

    fn ended(cause: HangupCause, duration_ms: u64) -> CallEvent {
        let duration = Duration::from_millis(duration_ms);
        CallEvent::Ended { cause, by: Party::Caller, duration }
    }

    /// Name, beginning and end in ms since the call's beginning, and failure.
    fn told(spans: &[Span]) -> Vec<(&'static str, u64, u64, Option<&'static str>)> {
        let begin = spans[0].start;
        let ms = |at: u64| (at - begin) / 1_000_000;
        spans.iter().map(|span| (span.name, ms(span.start), ms(span.end), span.failure)).collect()
    }

    #[test]
    fn a_call_is_one_trace_of_its_stages() {
        let spans = spans_of(vec![
            decided(),
            CallEvent::Ringing,
            CallEvent::AgentReady,
            CallEvent::Answered(Codec::Pcmu),
            CallEvent::Acknowledged,
            CallEvent::Digit('5'),
            ended(HangupCause::Normal, 20),
        ]);
        let expected = [
            ("call", 0, 60, None),
            ("route", 0, 0, None),
            ("agent.connect", 0, 20, None),
            ("answer", 30, 40, None),
            ("talk", 30, 50, None),
            ("hangup", 50, 60, None),
        ];
        assert_eq!(told(&spans), expected);
        assert!(spans.iter().all(|span| span.trace == spans[0].trace));
        assert_eq!(spans[0].parent, None);
        assert!(spans.iter().skip(1).all(|span| span.parent == Some(spans[0].id)));
        let names: Vec<_> = spans[0].events.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["ringing", "agent_ready"]);
    }

    #[test]
    fn each_attempt_to_call_somebody_is_a_span_with_its_failure() {
        let sent = |port| CallEvent::Sent {
            side: LegSide::Near,
            to: ([192, 0, 2, 1], port).into(),
            transport: Transport::Udp,
            charged: None,
        };
        let failed =
            CallEvent::LegFailed { side: LegSide::Far, cause: HangupCause::NoTrunk, status: None };
        let spans = spans_of(vec![
            decided(),
            sent(1),
            sent(2),
            CallEvent::Answered(Codec::Pcmu),
            failed,
            CallEvent::AgentFailed(HangupCause::AgentUnreachable, None),
            ended(HangupCause::AgentUnreachable, 30),
        ]);
        let expected = [
            ("call", 0, 60, Some("agent_unreachable")),
            ("route", 0, 0, None),
            ("dial", 10, 20, None),
            ("dial", 20, 30, None),
            ("dial", 40, 40, Some("no_trunk")),
            ("agent.connect", 0, 50, Some("agent_unreachable")),
            ("talk", 30, 60, None),
            ("hangup", 60, 60, None),
        ];
        assert_eq!(told(&spans), expected);
        let peer = spans[3].attributes.iter().find(|(key, _)| *key == "network.peer.address");
        assert_eq!(peer.map(|(_, value)| value.as_str()), Some("192.0.2.1:2"));
    }

    #[test]
    fn nothing_a_party_does_makes_a_trace_without_end() {
        let mut events = vec![decided()];
        events.extend((0..10_000).map(|_| CallEvent::Held));
        events.push(ended(HangupCause::Normal, 0));
        let spans = spans_of(events);
        assert_eq!(spans[0].events.len(), SPAN_EVENTS_MAX);
    }
}
