//! Metrics: every name in one table, and the recorder that renders them for Prometheus.
//!
//! A label value is a `&'static str`, so a call id, a number or a peer's text can never become one.

use metrics_exporter_prometheus::BuildError;
use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use std::time::Duration;

mod found;

macro_rules! metrics_table {
    ($(#[$doc:meta])* $kind:ident { $($entry:ident, $name:literal, $label:literal, $help:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind {
            $(#[doc = $help] $entry,)+
        }

        impl $kind {
            /// Every metric of this kind.
            pub const ALL: &'static [Self] = &[$(Self::$entry,)+];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$entry => $name,)+ }
            }

            /// What it tells the operator.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$entry => $help,)+ }
            }

            /// The name of its one label; empty when it has none.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$entry => $label,)+ }
            }
        }
    };
}

metrics_table! {
    /// Numbers that only grow.
    Counter {
        SipDatagramsReceived, "sip_datagrams_received_total", "", "Datagrams read from SIP sockets.";
        SipKeepalives, "sip_keepalives_total", "outcome", "Keep-alive datagrams sent to carriers.";
        SipMessagesDropped, "sip_messages_dropped_total", "why", "SIP messages dropped before or in the parser.";
        SipShardFaults, "sip_shard_faults_total", "", "Faults of our own in SIP signalling; each ended the call it was about.";
        SipShardsEnded, "sip_shards_ended_total", "", "Faults of our own in SIP shards, outside any call; each ended the calls of its shard.";
        SipMessagesMalformed, "sip_messages_malformed_total", "what", "SIP messages that could not be read.";
        SipEndpointEvents, "sip_endpoint_events_total", "what", "What the SIP endpoint counted: retransmissions, stray and merged requests.";
        SipRequestsUnknownSource, "sip_requests_unknown_source_total", "", "Messages from sources no trunk trusts.";
        SipScanners, "sip_scanner_messages_total", "signature", "Messages of unknown sources that name a known scanner.";
        SipRequestsShed, "sip_requests_shed_total", "why", "New calls answered 503 without state.";
        SipMessagesUnsent, "sip_messages_unsent_total", "why", "SIP messages that could not be sent.";
        SipFlowsOpened, "sip_flows_opened_total", "transport", "SIP connections opened.";
        SipFlowsClosed, "sip_flows_closed_total", "why", "SIP connections closed.";
        SipConnectsFailed, "sip_connects_failed_total", "why", "SIP connections of ours that could not be opened.";
        SipHandshakesFailed, "sip_handshakes_failed_total", "why", "TLS handshakes of SIP peers that failed.";
        DnsAnswers, "dns_answers_total", "how", "Questions about gateways: known, answered, stale, failed.";
        SipFlowsRefused, "sip_flows_refused_total", "why", "SIP connections closed at once.";
        SipStreamsUnframed, "sip_streams_unframed_total", "transport", "SIP connections closed because their bytes could not be cut into messages.";
        SipReoffersRefused, "sip_reoffers_refused_total", "cause", "New offers within calls that were refused.";
        CallsReceived, "calls_received_total", "", "Calls from known trunks.";
        CallsAnswered, "calls_answered_total", "", "Calls answered.";
        CallsRefused, "calls_refused_total", "cause", "Calls refused.";
        CallsEnded, "calls_ended_total", "cause", "Answered calls that ended.";
        CallFaults, "call_faults_total", "", "Calls ended by an error of our own.";
        AgentsFailed, "agents_failed_total", "cause", "Agents that were not reached or lost.";
        AgentsReplaced, "agents_replaced_total", "", "Agents in whose place that of a fallback profile was called.";
        AgentsInterrupted, "agents_interrupted_total", "cause", "Agents whose connection broke in a call and that were dialled again.";
        AgentsResumed, "agents_resumed_total", "", "Agents that were connected again after their connection broke in a call.";
        AgentsSkipped, "agents_skipped_total", "", "Agents that were not dialled because their circuit is open.";
        AgentCircuitsOpened, "agent_circuits_opened_total", "", "Times the circuit of an agent's endpoint opened because calls to it failed.";
        AudioTroubles, "audio_troubles_total", "what", "Times that nobody was heard on a leg: no_audio_in, no_audio_out, dead_air.";
        AgentUnderruns, "agent_underruns_total", "late", "Gaps inside what an agent said, by who came late: agent, node.";
        Answerers, "answerers_total", "answerer", "Calls out whose answerer was told from a machine: human, machine, fax, silence.";
        BargeIns, "barge_ins_total", "outcome", "Times a caller spoke over its agent: told, interrupted, resumed.";
        AgentFramesDropped, "agent_frames_dropped_total", "", "Frames of caller audio an agent was too slow for.";
        AgentMessagesMalformed, "agent_messages_malformed_total", "what", "Messages of agents that could not be read.";
        MediaPacketsReceived, "media_packets_received_total", "", "RTP packets played.";
        MediaPacketsSent, "media_packets_sent_total", "", "RTP packets sent.";
        MediaPacketsDropped, "media_packets_dropped_total", "why", "RTP packets not played.";
        MediaEventsLost, "media_events_lost_total", "", "Events of media that a call took too late to hear of: keys, turns, troubles.";
        MediaThreadsHung, "media_threads_hung_total", "", "Media threads that did nothing for 5 s: each ended the calls that it had, and another took its place.";
        MediaThreadFaults, "media_thread_faults_total", "", "Faults of our own in media threads, outside any session; each ended the calls of its thread.";
        MediaCommandsDropped, "media_commands_dropped_total", "", "Commands to media threads, as to pause or to close, that were lost as too many waited there.";
        MediaTicksLate, "media_ticks_late_total", "", "Media ticks that began after their phase was over.";
        MediaTicksLeftOut, "media_ticks_left_out_total", "", "Ticks of a media thread for which nothing was sent, as it came more than three too late.";
        RtpPortsExhausted, "rtp_ports_exhausted_total", "", "Calls refused because no RTP port was free.";
        RecordsJournalled, "records_journalled_total", "", "Call records written to the journal.";
        RecordsStored, "records_stored_total", "", "Call records that reached PostgreSQL.";
        RecordsRejected, "records_rejected_total", "", "Call records PostgreSQL refused; kept in journal/rejected.";
        Recordings, "recordings_total", "status", "Recordings that ended: ready, failed, interrupted (by a kill; mended at the next start).";
        RecordingGaps, "recording_gaps_total", "", "Gaps in recordings, because the disk or a media thread came too late.";
        TranscriptTurnsLost, "transcript_turns_lost_total", "", "Turns of transcripts that did not reach PostgreSQL: too many at once, or it was away too long.";
        TracesStored, "sip_traces_stored_total", "", "Calls whose signalling reached PostgreSQL.";
        TracesLost, "sip_traces_lost_total", "", "Calls whose signalling did not reach PostgreSQL: too many at once, or it was away too long.";
        AuditEntriesLost, "audit_entries_lost_total", "", "Entries of the audit log lost: PostgreSQL was away and too many waited, or it refused them.";
        RecordsLost, "records_lost_total", "", "Call records lost because disk and memory were full.";
        RoutingChanges, "routing_changes_total", "", "Changes of the database taken into the routing table.";
        ApiResponsesStalled, "api_responses_stalled_total", "", "HTTP answers cut because their clients did not read them, or too slowly.";
        ApiRequestsSlow, "api_requests_slow_total", "", "HTTP requests refused because their bodies came too slowly.";
        ApiConnectionsRefused, "api_connections_refused_total", "", "HTTP connections closed because too many were open.";
        AnswerWebhooks, "answer_webhooks_total", "outcome", "Calls whose answer webhook was asked: kept, overridden (another profile answers), failed.";
        WebhookDeliveries, "webhook_deliveries_total", "outcome", "Attempts to tell an event to a webhook endpoint: delivered, failed, dead.";
        SpansExported, "spans_exported_total", "", "Spans of calls' traces that the collector took.";
        SpansLost, "spans_lost_total", "why", "Spans that the collector did not get: queue (full), collector (away too long), refused, stop.";
        RetentionDeleted, "retention_deleted_total", "what", "Rows deleted because their time was over: calls, refused (records of no tenant), traces, audit, recordings, transcripts.";
        ApiRequests, "api_requests_total", "status", "HTTP requests answered.";
    }
}

metrics_table! {
    /// Numbers that go up and down.
    Gauge {
        CallsOpen, "calls_open", "", "Calls in progress.";
        SipFlowsOpen, "sip_flows_open", "", "Open SIP connections.";
        SipTransactions, "sip_transactions", "", "SIP transactions in memory.";
        SipDialogs, "sip_dialogs", "", "SIP dialogs in memory.";
        SipShardQueue, "sip_shard_queue_messages", "", "SIP messages waiting for the busiest shard.";
        SipShardsDown, "sip_shards_down", "", "SIP shards that met faults again and again, and take no calls before a restart.";
        SipShardsHung, "sip_shards_hung", "", "SIP shards that have done nothing for 2 s: nobody serves their calls, and new ones for them get 503.";
        Gateways, "gateways", "state", "Gateways of trunks that call out: ready, trial, cooling, throttled, down, disabled.";
        TrunksDeclining, "trunks_declining", "", "Trunks whose carrier declined the last 5 calls or more (603), over a minute at least, before anybody was rung: perhaps an account that is suspended, or out of funds, or numbers that are blocked.";
        TrunksRegistering, "trunk_registrations", "state", "Trunks that register with their carrier: registering, registered, failed.";
        MediaSessions, "media_sessions", "", "Media sessions in progress.";
        MediaThreadsStalled, "media_threads_stalled", "", "Media threads that have done nothing for 200 ms: their calls are silent.";
        MediaThreadsDown, "media_threads_down", "", "Media threads that met faults again and again, or hang, and take no calls before a restart.";
        MediaRefuses, "media_refuses", "", "1 while new calls get 503 because media threads come late, have too much to do or are down.";
        RoutingNumbers, "routing_numbers", "", "Numbers in the routing table.";
        EventSockets, "event_sockets", "", "Listeners that follow events of calls.";
        WebhookBacklog, "webhook_calls_waiting", "", "Calls with events that wait for a webhook endpoint, a call once for each.";
        AgentsConnected, "agents_connected", "", "Agents that are connected, by WebSocket or AudioSocket.";
        AgentCircuits, "agent_circuits", "state", "Endpoints of agents whose circuit is not closed: open, half_open.";
        JournalWaiting, "journal_waiting_bytes", "", "Bytes of the journal that are not in PostgreSQL yet.";
        JournalQueue, "journal_queue_reports", "", "Reports of calls that wait in memory for the journal's file.";
        DatabaseConnections, "database_connections", "state", "Connections to PostgreSQL: busy, idle.";
        DatabaseUp, "database_up", "", "1 when PostgreSQL answers.";
        Draining, "draining", "", "1 while no new call is taken.";
    }
}

metrics_table! {
    /// Distributions, in seconds.
    Histogram {
        InviteTrying, "invite_trying_seconds", "", "From the arrival of an INVITE to its 100.";
        Routing, "routing_seconds", "", "Time to decide about an INVITE.";
        CallRinging, "call_ringing_seconds", "direction", "From the INVITE, of a call out from the wish to call, to the first 18x.";
        CallSetup, "call_setup_seconds", "direction", "From the INVITE, of a call out from the wish to call, to the 200.";
        AgentConnect, "agent_connect_seconds", "outcome", "Time until an agent was connected, by WebSocket or AudioSocket, or given up: connected, failed.";
        AgentFirstByte, "agent_first_byte_seconds", "", "From the end of what a caller said to the first audio of the agent's answer.";
        TurnGap, "turn_gap_seconds", "", "From the end of what a caller said to the first audio of the answer on the wire.";
        RecordStored, "record_stored_seconds", "", "From the journal's disk to PostgreSQL, once for each write to the disk.";
        WebhookAnswer, "webhook_answer_seconds", "", "Time of an attempt to tell an event to a webhook endpoint.";
        AnswerWebhook, "answer_webhook_seconds", "", "Time until the answer webhook of an AI profile said who answers, or did not.";
        CallDuration, "call_duration_seconds", "", "From the 200 to the end.";
        ApiLatency, "api_request_seconds", "", "Time to answer an HTTP request.";
    }
}

/// Buckets of every distribution, in seconds: from a media tick to a long call.
const BUCKETS_S: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    7_200.0,
];
/// Buckets of what takes a part of a millisecond, in seconds.
const FINE_BUCKETS_S: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];
/// What has those.
const FINE: &[Histogram] = &[Histogram::InviteTrying, Histogram::Routing];
/// How often [`Metrics::upkeep`] wants to be called.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The value of what has no label.
const UNLABELLED: &str = "";

/// Adds one to a counter with a label, under `value`; without a label `value` is ignored.
pub fn count(counter: Counter, value: &'static str) {
    labelled(counter, value).increment(1);
}

/// The handle of a counter without a label, for hot paths.
pub fn counter(counter: Counter) -> metrics::Counter {
    found::counter(counter, UNLABELLED, || metrics::counter!(counter.name()))
}

/// The handle of a counter with a label, under `value`, for hot paths.
pub fn labelled(counter: Counter, value: &'static str) -> metrics::Counter {
    match counter.label() {
        "" => self::counter(counter),
        label => {
            found::counter(counter, value, || metrics::counter!(counter.name(), label => value))
        }
    }
}

/// Sets a gauge.
pub fn set(gauge: Gauge, value: f64) {
    metrics::gauge!(gauge.name()).set(value);
}

/// Sets a gauge with a label, under `value`.
pub fn set_labelled(gauge: Gauge, value: &'static str, figure: f64) {
    match gauge.label() {
        "" => metrics::gauge!(gauge.name()).set(figure),
        label => metrics::gauge!(gauge.name(), label => value).set(figure),
    }
}

/// The handle of a gauge without a label, for what is counted up and down.
pub fn gauge(gauge: Gauge) -> metrics::Gauge {
    metrics::gauge!(gauge.name())
}

/// Enters a duration into a distribution with a label, under `value`.
pub fn observe_labelled(histogram: Histogram, value: &'static str, duration: Duration) {
    let labelled = || metrics::histogram!(histogram.name(), histogram.label() => value);
    found::histogram(histogram, value, labelled).record(duration.as_secs_f64());
}

/// Enters a duration into a distribution.
pub fn observe(histogram: Histogram, duration: Duration) {
    let plain = || metrics::histogram!(histogram.name());
    found::histogram(histogram, UNLABELLED, plain).record(duration.as_secs_f64());
}

/// A recorder that knows the buckets of every distribution.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new().set_buckets(BUCKETS_S)?;
    for histogram in FINE {
        let of = Matcher::Full(histogram.name().to_owned());
        builder = builder.set_buckets_for_metric(of, FINE_BUCKETS_S)?;
    }
    Ok(builder)
}

/// The recorder's reading side; cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of this process and describes every metric.
    ///
    /// # Errors
    /// When a recorder is installed already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = builder()?.install_recorder()?;
        found::keep();
        for counter in Counter::ALL {
            metrics::describe_counter!(counter.name(), counter.help());
            if counter.label().is_empty() {
                metrics::counter!(counter.name()).absolute(0);
            }
        }
        for gauge in Gauge::ALL {
            metrics::describe_gauge!(gauge.name(), gauge.help());
        }
        for histogram in Histogram::ALL {
            metrics::describe_histogram!(
                histogram.name(),
                metrics::Unit::Seconds,
                histogram.help()
            );
        }
        Ok(Self(handle))
    }

    /// Everything in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what distributions have taken in, which bounds their memory.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_metric_has_a_name_of_its_own_in_the_house_form() {
        let mut seen = HashSet::new();
        let counters = Counter::ALL.iter().map(|metric| metric.name());
        for name in counters.clone() {
            assert!(name.ends_with("_total"), "{name}");
        }
        let gauges = Gauge::ALL.iter().map(|metric| metric.name());
        let histograms = Histogram::ALL.iter().map(|metric| metric.name());
        for name in counters.chain(gauges).chain(histograms) {
            assert!(seen.insert(name), "{name} twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }

    #[test]
    fn a_distribution_has_its_own_buckets_and_a_closed_list_of_labels() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            observe(Histogram::Routing, Duration::from_micros(7));
            observe_labelled(Histogram::CallSetup, "inbound", Duration::from_millis(7));
        });
        let text = handle.render();
        for line in [
            "routing_seconds_bucket{le=\"0.000005\"} 0",
            "routing_seconds_bucket{le=\"0.00001\"} 1",
            "call_setup_seconds_bucket{direction=\"inbound\",le=\"0.005\"} 0",
            "call_setup_seconds_bucket{direction=\"inbound\",le=\"0.01\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }

    #[test]
    fn what_was_counted_is_rendered_with_its_label() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            count(Counter::CallsRefused, "unknown_number");
            count(Counter::CallsRefused, "unknown_number");
            set(Gauge::CallsOpen, 3.0);
        });
        let text = handle.render();
        assert!(text.contains("calls_refused_total{cause=\"unknown_number\"} 2"), "{text}");
        assert!(text.contains("calls_open 3"), "{text}");
    }
}
