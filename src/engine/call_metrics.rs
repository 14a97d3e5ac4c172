//! What the events of calls add to the metrics.

use crate::agent::session::AgentCounters;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::event::MediaFigures;
use crate::call::side::LegSide;
use crate::cdr::CallRecord;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use crate::types::answering_machine::AnswererEvent;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use crate::types::quality::TroubleTold;
use crate::types::talk::Talk;
use std::time::Duration;

/// Counts an event of a call whose record was so before it.
pub(super) fn count(now: Moment, before: &CallRecord, event: &CallEvent) {
    let stages = &before.stages;
    let since_arrival = now.since(stages.arrived);
    match event {
        CallEvent::Arrived(_) => metric::counter(Counter::CallsReceived).increment(1),
        CallEvent::Refused { cause, .. } => count_refused(*cause),
        CallEvent::AnswerAsked(said, _) => metric::count(Counter::AnswerWebhooks, said.as_str()),
        CallEvent::AgentReplaced(_) => count_agents(Counter::AgentsReplaced, None),
        CallEvent::AgentFailed(cause, _) => count_agents(Counter::AgentsFailed, Some(*cause)),
        CallEvent::AgentInterrupted(why, _) => count_agents(Counter::AgentsInterrupted, Some(*why)),
        CallEvent::AgentResumed => count_agents(Counter::AgentsResumed, None),
        CallEvent::Answered(_) => {
            metric::counter(Counter::CallsAnswered).increment(1);
            metric::observe_labelled(Histogram::CallSetup, direction(before), since_arrival);
        }
        CallEvent::Ringing | CallEvent::Progressed { side: LegSide::Near, .. } => {
            time_ringing(before, since_arrival);
        }
        CallEvent::Media(figures) | CallEvent::LegMedia(_, figures) => count_media(figures),
        CallEvent::ReofferRefused { cause, .. } => {
            metric::count(Counter::SipReoffersRefused, cause.code());
        }
        CallEvent::Ended { cause, duration, .. } => {
            count_ended(*cause, stages.answered.map(|_| *duration));
        }
        CallEvent::Talk(_, talk) => count_talk(*talk),
        CallEvent::AudioTrouble(_, told) => count_trouble(*told),
        // Strangers' messages are counted where they are turned away.
        CallEvent::Ignored(_)
        | CallEvent::Decided { .. }
        | CallEvent::AgentReady
        | CallEvent::Acknowledged
        | CallEvent::FirstMedia
        | CallEvent::Held
        | CallEvent::Resumed
        | CallEvent::HoldBegun
        | CallEvent::HoldEnded
        | CallEvent::Muted(_)
        | CallEvent::Unmuted(_)
        | CallEvent::PlayBegun(_)
        | CallEvent::PlayEnded { .. }
        | CallEvent::KeysSent { .. }
        | CallEvent::Recording(..)
        | CallEvent::TranscriptAdded { .. }
        | CallEvent::AgentAsked { .. }
        // Its task counted it.
        | CallEvent::AgentLink(_)
        | CallEvent::ScriptNoted { .. }
        | CallEvent::AgentAwaited(_)
        | CallEvent::AgentAttached(_)
        | CallEvent::VariablesSet(_)
        | CallEvent::Digit(_)
        | CallEvent::FallbackStarted
        | CallEvent::Dialled(_)
        | CallEvent::Sent { .. }
        | CallEvent::Attempted(_)
        | CallEvent::Progressed {
            side: LegSide::Far | LegSide::Third | LegSide::Supervisor(_), ..
        }
        | CallEvent::LegAnswered { .. }
        | CallEvent::LegFailed { .. }
        | CallEvent::LegEnded { .. }
        | CallEvent::Bridged(_)
        | CallEvent::TransferBegun(_)
        | CallEvent::TransferFailed(_)
        | CallEvent::TransferWithdrawn
        | CallEvent::TransferCompleted
        | CallEvent::TransferRefused(_)
        | CallEvent::Supervision(..)
        | CallEvent::PeerReason { .. }
        | CallEvent::Replaced(_) => (),
    }
}

/// The first time that the near leg rings.
fn time_ringing(before: &CallRecord, since_arrival: Duration) {
    if before.stages.ringing.is_none() {
        metric::observe_labelled(Histogram::CallRinging, direction(before), since_arrival);
    }
}

fn count_agents(counter: Counter, cause: Option<HangupCause>) {
    match cause {
        Some(cause) => metric::count(counter, cause.code()),
        None => metric::counter(counter).increment(1),
    }
}

fn count_refused(cause: HangupCause) {
    metric::count(Counter::CallsRefused, cause.code());
    if cause == HangupCause::NoPorts {
        metric::counter(Counter::RtpPortsExhausted).increment(1);
    }
}

/// Counts an end; `lasted` from the answer, if there was one.
fn count_ended(cause: HangupCause, lasted: Option<Duration>) {
    if let Some(duration) = lasted {
        metric::count(Counter::CallsEnded, cause.code());
        metric::observe(Histogram::CallDuration, duration);
    }
    if cause == HangupCause::SwitchFault {
        metric::counter(Counter::CallFaults).increment(1);
    }
}

fn count_trouble(told: TroubleTold) {
    if !told.is_over {
        metric::count(Counter::AudioTroubles, told.what.as_str());
    }
}

fn count_talk(talk: Talk) {
    match talk {
        Talk::Turn(turn) => {
            let since =
                |ms: u32| Duration::from_millis(u64::from(ms.saturating_sub(turn.stopped_ms)));
            metric::observe(Histogram::AgentFirstByte, since(turn.first_byte_ms));
            metric::observe(Histogram::TurnGap, since(turn.spoken_ms));
        }
        Talk::BargeIn { outcome, .. } => metric::count(Counter::BargeIns, outcome.as_str()),
        Talk::Unheard { .. } => (),
        Talk::Underrun { node_late, .. } => {
            metric::count(Counter::AgentUnderruns, if node_late { "node" } else { "agent" });
        }
        Talk::Answerer(AnswererEvent::Seems { answerer, is_final: true, .. }) => {
            metric::count(Counter::Answerers, answerer.as_str());
        }
        Talk::Answerer(
            AnswererEvent::Seems { is_final: false, .. }
            | AnswererEvent::Beep { .. }
            | AnswererEvent::GreetingOver { .. },
        ) => (),
    }
}

const fn direction(record: &CallRecord) -> &'static str {
    match record.direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
    }
}

/// Counts what one leg's media carried and dropped.
fn count_media(figures: &MediaFigures) {
    metric::counter(Counter::MediaPacketsReceived).increment(figures.packets_in);
    metric::counter(Counter::MediaPacketsSent).increment(figures.packets_out);
    for (why, count) in [
        ("late", figures.late_in),
        ("foreign", figures.foreign),
        ("malformed", figures.malformed),
        ("unexpected", figures.unexpected),
        ("srtp_refused", figures.srtp_refused),
        ("srtp_replayed", figures.srtp_replayed),
    ] {
        // Finding a counter costs more than counting, and most calls have nothing here.
        if count > 0 {
            metric::labelled(Counter::MediaPacketsDropped, why).increment(count);
        }
    }
}

/// Counts what went over an agent's link.
pub(super) fn count_agent(counters: &AgentCounters) {
    if counters.frames_dropped > 0 {
        metric::counter(Counter::AgentFramesDropped).increment(counters.frames_dropped);
    }
    for (what, count) in counters.garbage.by_word() {
        if count > 0 {
            metric::labelled(Counter::AgentMessagesMalformed, what).increment(u64::from(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::agent_trouble::Garbage;
    use crate::types::codec::Codec;
    use crate::types::id::CallId;
    use crate::types::quality::AudioTrouble;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use uuid::Uuid;

    fn record() -> CallRecord {
        CallRecord::open(Moment::START, CallId::from_uuid(Uuid::from_u128(7)))
    }

    #[test]
    fn each_stage_is_entered_once_by_the_direction_of_the_call() {
        let mut record = record();
        let text = counted(|| {
            for event in [CallEvent::Ringing, CallEvent::Ringing, CallEvent::Answered(Codec::Pcmu)]
            {
                count(Moment::from_millis(7), &record, &event);
                record.fold(Moment::from_millis(7), &event);
            }
        });
        for expected in [
            "call_ringing_seconds_count{direction=\"inbound\"} 1",
            "call_setup_seconds_count{direction=\"inbound\"} 1",
        ] {
            assert!(text.contains(expected), "no {expected} in {text}");
        }
    }

    fn counted(count: impl FnOnce()) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, count);
        recorder.handle().render()
    }

    #[test]
    fn what_an_agent_sent_amiss_is_counted_by_what_was_amiss() {
        let garbage = Garbage { json: 1, payload: 2, base64: 3, binary: 4 };
        let counters = AgentCounters { frames_dropped: 5, garbage, ..AgentCounters::default() };
        let text = counted(|| count_agent(&counters));
        for expected in [
            "agent_frames_dropped_total 5",
            "agent_messages_malformed_total{what=\"json\"} 1",
            "agent_messages_malformed_total{what=\"payload\"} 2",
            "agent_messages_malformed_total{what=\"base64\"} 3",
            "agent_messages_malformed_total{what=\"binary\"} 4",
        ] {
            assert!(text.contains(expected), "no {expected} in {text}");
        }
    }

    #[test]
    fn troubles_with_the_audio_are_counted_once_each() {
        let text = counted(|| {
            for is_over in [false, true] {
                let told = TroubleTold { what: AudioTrouble::DeadAir, for_ms: 20_000, is_over };
                let event = CallEvent::AudioTrouble(LegSide::Near, told);
                count(Moment::START, &record(), &event);
            }
        });
        assert!(text.contains("audio_troubles_total{what=\"dead_air\"} 1"), "{text}");
    }

    #[test]
    fn what_media_dropped_is_counted_by_its_kind_for_every_leg() {
        let figures = MediaFigures {
            packets_in: 10,
            packets_out: 20,
            late_in: 1,
            foreign: 2,
            malformed: 3,
            unexpected: 4,
            srtp_refused: 5,
            srtp_replayed: 6,
            ..MediaFigures::default()
        };
        let text = counted(|| {
            for event in [
                CallEvent::Media(Box::new(figures)),
                CallEvent::LegMedia(LegSide::Far, Box::new(figures)),
            ] {
                count(Moment::START, &record(), &event);
            }
        });
        for expected in [
            "media_packets_received_total 20",
            "media_packets_sent_total 40",
            "media_packets_dropped_total{why=\"late\"} 2",
            "media_packets_dropped_total{why=\"foreign\"} 4",
            "media_packets_dropped_total{why=\"malformed\"} 6",
            "media_packets_dropped_total{why=\"unexpected\"} 8",
            "media_packets_dropped_total{why=\"srtp_refused\"} 10",
            "media_packets_dropped_total{why=\"srtp_replayed\"} 12",
        ] {
            assert!(text.contains(expected), "no {expected} in {text}");
        }
    }
}
