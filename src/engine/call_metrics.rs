//! What the events of calls add to the metrics.

use crate::agent::session::AgentCounters;
use crate::call::event::CallEvent;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;

/// Counts an event of a call that arrived at `arrived`. `answered`: it was answered before.
pub(super) fn count(now: Moment, arrived: Moment, answered: bool, event: &CallEvent) {
    match event {
        CallEvent::Arrived(_) => metric::counter(Counter::CallsReceived).increment(1),
        CallEvent::Refused { cause, .. } => {
            metric::count(Counter::CallsRefused, cause.code());
            if *cause == HangupCause::NoPorts {
                metric::counter(Counter::RtpPortsExhausted).increment(1);
            }
        }
        CallEvent::AgentFailed(cause) => metric::count(Counter::AgentsFailed, cause.code()),
        CallEvent::Answered(_) => {
            metric::counter(Counter::CallsAnswered).increment(1);
            metric::observe(Histogram::CallSetup, now.since(arrived));
        }
        CallEvent::Media(figures) => {
            metric::counter(Counter::MediaPacketsReceived).increment(figures.packets_in);
            metric::counter(Counter::MediaPacketsSent).increment(figures.packets_out);
            for (why, count) in [("late", figures.late_in), ("foreign", figures.foreign)] {
                metric::labelled(Counter::MediaPacketsDropped, why).increment(count);
            }
        }
        CallEvent::Ended { cause, duration, .. } => {
            if answered {
                metric::count(Counter::CallsEnded, cause.code());
                metric::observe(Histogram::CallDuration, *duration);
            }
            if *cause == HangupCause::SwitchFault {
                metric::counter(Counter::CallFaults).increment(1);
            }
        }
        // Strangers' messages are counted where they are turned away.
        CallEvent::Ignored(_)
        | CallEvent::Decided { .. }
        | CallEvent::Ringing
        | CallEvent::AgentReady
        | CallEvent::Acknowledged
        | CallEvent::FirstMedia
        | CallEvent::Held
        | CallEvent::Resumed
        | CallEvent::Digit(_)
        | CallEvent::FallbackStarted
        | CallEvent::Dialled(_)
        | CallEvent::Attempted(_)
        | CallEvent::Progressed { .. }
        | CallEvent::LegAnswered { .. }
        | CallEvent::LegFailed { .. }
        | CallEvent::LegEnded { .. }
        | CallEvent::Bridged(_)
        | CallEvent::TransferBegun(_)
        | CallEvent::TransferFailed(_)
        | CallEvent::TransferCompleted
        | CallEvent::TransferRefused(_)
        | CallEvent::Replaced(_)
        | CallEvent::LegMedia(..) => (),
    }
}

/// Counts what went over an agent's link.
pub(super) fn count_agent(counters: &AgentCounters) {
    metric::counter(Counter::AgentFramesDropped).increment(counters.frames_dropped);
    metric::counter(Counter::AgentMessagesMalformed).increment(u64::from(counters.garbage));
}
