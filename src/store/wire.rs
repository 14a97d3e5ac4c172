//! The journal's own form of a call record: JSON whose keys are the columns of `calls`.

use crate::call::event::CallEvent;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use crate::types::srtp::SrtpSuite;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use uuid::Uuid;

/// One entry of the journal. What PostgreSQL reads of it stands in `upload.rs`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) rev: u32,
    /// True when the call is over.
    pub(crate) closed: bool,
    pub(crate) record: Value,
    pub(crate) events: Vec<Value>,
}

/// The entry of `report`, encoded.
pub(crate) fn encode(report: &CallReport) -> Vec<u8> {
    let record = &report.record;
    let form = EntryForm {
        id: record.id.uuid(),
        rev: record.rev,
        closed: record.is_closed(),
        record: record_form(record),
        events: report.events.iter().map(event_form).collect(),
    };
    // Serialising plain values into memory cannot fail.
    serde_json::to_vec(&form).unwrap_or_default()
}

/// The entry that ends the call of `payload`, whose process was killed; `None` when it is over or the
/// payload cannot be read. `alive` is the last sign of life of that process.
pub(crate) fn interrupted(payload: &[u8], alive: Option<Timestamp>) -> Option<Vec<u8>> {
    let mut entry: Entry = serde_json::from_slice(payload).ok().filter(|e: &Entry| !e.closed)?;
    let time = |column: &str| entry.record.get(column)?.as_str()?.parse::<Timestamp>().ok();
    let arrived = time("arrived_at").unwrap_or_else(clock::wall_now);
    let ended = alive.into_iter().chain([arrived]).max().unwrap_or(arrived);
    let duration_ms = time("answered_at")
        .map_or(0, |answered| (ended.as_millisecond() - answered.as_millisecond()).max(0));
    let cause = HangupCause::Interrupted;
    // The event's place is the number of events before it, which is the revision.
    let seq = entry.rev;
    entry.rev = entry.rev.saturating_add(1);
    entry.closed = true;
    let record = entry.record.as_object_mut()?;
    for (column, value) in [
        ("rev", json!(entry.rev)),
        ("ended_at", json!(ended.to_string())),
        ("duration_ms", json!(duration_ms)),
        ("cause", json!(cause.code())),
        ("q850", json!(cause.q850())),
        ("ended_by", json!(Party::Switch.as_str())),
    ] {
        record.insert(column.to_owned(), value);
    }
    let status = record.entry("sip_status").or_insert(Value::Null);
    if status.is_null() {
        *status = json!(cause.sip_status());
    }
    let detail = ended_detail(cause, Party::Switch, duration_ms);
    entry.events =
        vec![json!({"seq": seq, "at": ended.to_string(), "name": "ended", "detail": detail})];
    serde_json::to_vec(&entry).ok()
}

/// When the newest event of an entry happened.
pub(crate) fn newest_event(entry: &Entry) -> Option<Timestamp> {
    entry.events.last()?.get("at")?.as_str()?.parse().ok()
}

#[derive(Serialize)]
struct EntryForm<'a> {
    id: Uuid,
    rev: u32,
    closed: bool,
    record: RecordForm<'a>,
    events: Vec<EventForm<'a>>,
}

/// The columns of `calls`, without those that the database fills in.
#[derive(Serialize)]
struct RecordForm<'a> {
    id: Uuid,
    rev: u32,
    tenant_id: Option<Uuid>,
    trunk_ref: Option<Uuid>,
    number_id: Option<Uuid>,
    ai_profile_id: Option<Uuid>,
    direction: &'static str,
    signalling_id: Cow<'a, str>,
    source: Option<String>,
    transport: Option<&'static str>,
    caller: Cow<'a, str>,
    dialled_text: Cow<'a, str>,
    dialled: Option<String>,
    decision: Vec<StepForm<'a>>,
    arrived_at: Timestamp,
    decided_at: Option<Timestamp>,
    ringing_at: Option<Timestamp>,
    agent_ready_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    acknowledged_at: Option<Timestamp>,
    first_media_at: Option<Timestamp>,
    fallback_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    duration_ms: u64,
    codec: Option<&'static str>,
    holds: u32,
    digits: u32,
    sip_status: Option<u16>,
    cause: Option<&'static str>,
    q850: Option<u8>,
    ended_by: Option<&'static str>,
    agent_failure: Option<&'static str>,
    #[serde(flatten)]
    media: Option<MediaForm>,
}

#[derive(Serialize)]
struct MediaForm {
    packets_in: u64,
    packets_out: u64,
    octets_in: u64,
    octets_out: u64,
    lost_in: u64,
    late_in: u64,
    lost_out: Option<u64>,
    jitter_in_ms: f64,
    jitter_out_ms: Option<f64>,
    round_trip_ms: Option<f64>,
    mos_in: Option<f64>,
    mos_out: Option<f64>,
    foreign_packets: u64,
    underruns: u32,
    srtp_suite: Option<&'static str>,
    srtp_refused: u64,
}

#[derive(Serialize)]
struct StepForm<'a> {
    what: &'static str,
    detail: Cow<'a, str>,
}

#[derive(Serialize)]
struct EventForm<'a> {
    seq: u32,
    at: Timestamp,
    name: &'a str,
    detail: Value,
}

fn record_form(record: &CallRecord) -> RecordForm<'_> {
    let stages = &record.stages;
    let at = |stage: Option<Moment>| stage.map(wall);
    RecordForm {
        id: record.id.uuid(),
        rev: record.rev,
        tenant_id: record.route.tenant.map(|id| id.uuid()),
        trunk_ref: record.route.trunk.map(|id| id.uuid()),
        number_id: record.route.number.map(|id| id.uuid()),
        ai_profile_id: record.route.ai_profile.map(|id| id.uuid()),
        direction: record.direction.as_str(),
        signalling_id: clean(&record.signalling_id),
        source: record.source.map(|source| source.to_string()),
        transport: record.transport.map(|transport| transport.as_str()),
        caller: clean(&record.caller),
        dialled_text: clean(&record.dialled_text),
        dialled: record.route.dialled.map(|number| number.to_string()),
        decision: record
            .decision
            .steps()
            .iter()
            .map(|step| StepForm { what: step.what, detail: clean(&step.detail) })
            .collect(),
        arrived_at: wall(stages.arrived),
        decided_at: at(stages.decided),
        ringing_at: at(stages.ringing),
        agent_ready_at: at(stages.agent_ready),
        answered_at: at(stages.answered),
        acknowledged_at: at(stages.acknowledged),
        first_media_at: at(stages.first_media),
        fallback_at: at(stages.fallback),
        ended_at: at(stages.ended),
        duration_ms: u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
        codec: record.codec.map(|codec| codec.name()),
        holds: record.holds,
        digits: record.digits,
        sip_status: record.status,
        cause: record.cause.map(HangupCause::code),
        q850: record.cause.map(HangupCause::q850),
        ended_by: record.ended_by.map(Party::as_str),
        agent_failure: record.agent_failure.map(HangupCause::code),
        media: record.media.map(|media| MediaForm {
            packets_in: media.packets_in,
            packets_out: media.packets_out,
            octets_in: media.octets_in,
            octets_out: media.octets_out,
            lost_in: media.lost_in,
            late_in: media.late_in,
            lost_out: media.lost_out,
            jitter_in_ms: media.jitter_in_ms,
            jitter_out_ms: media.jitter_out_ms,
            round_trip_ms: media.round_trip_ms,
            mos_in: media.mos_in,
            mos_out: media.mos_out,
            foreign_packets: media.foreign,
            underruns: media.underruns,
            srtp_suite: media.srtp.map(SrtpSuite::as_str),
            srtp_refused: media.srtp_refused.saturating_add(media.srtp_replayed),
        }),
    }
}

fn event_form(timed: &TimedEvent) -> EventForm<'_> {
    let detail = match &timed.event {
        CallEvent::Refused { cause, status } => json!({"cause": cause.code(), "status": status}),
        CallEvent::Ignored(cause) | CallEvent::AgentFailed(cause) => json!({"cause": cause.code()}),
        CallEvent::Answered(codec) => json!({"codec": codec.name()}),
        CallEvent::Ended { cause, by, duration } => {
            ended_detail(*cause, *by, i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
        }
        CallEvent::Dialled(side) | CallEvent::Bridged(side) | CallEvent::Replaced(side) => {
            json!({"leg": side.as_str()})
        }
        CallEvent::TransferRefused(side) => json!({"leg": side.as_str()}),
        CallEvent::ReofferRefused { side, cause } => {
            json!({"leg": side.as_str(), "cause": cause.code()})
        }
        CallEvent::Progressed { side, status, audible } => {
            json!({"leg": side.as_str(), "status": status, "audible": audible})
        }
        CallEvent::LegAnswered { side, codec } => {
            json!({"leg": side.as_str(), "codec": codec.map(|codec| codec.name())})
        }
        CallEvent::LegFailed { side, cause, status } => {
            json!({"leg": side.as_str(), "cause": cause.code(), "status": status})
        }
        CallEvent::LegEnded { side, cause, by } => {
            json!({"leg": side.as_str(), "cause": cause.code(), "by": by.as_str()})
        }
        CallEvent::TransferBegun(mode) => json!({"mode": mode.as_str()}),
        CallEvent::TransferFailed(cause) => json!({"cause": cause.code()}),
        CallEvent::LegMedia(side, figures) => json!({
            "leg": side.as_str(),
            "packets_in": figures.packets_in,
            "packets_out": figures.packets_out,
            "lost_in": figures.lost_in,
            "mos_in": figures.mos_in,
            "mos_out": figures.mos_out,
        }),
        // What these carry is in the record. A digit's key is kept nowhere: see `CallRecord::digits`.
        CallEvent::Arrived(_)
        | CallEvent::Decided { .. }
        | CallEvent::Ringing
        | CallEvent::AgentReady
        | CallEvent::Acknowledged
        | CallEvent::FirstMedia
        | CallEvent::Held
        | CallEvent::Resumed
        | CallEvent::Digit(_)
        | CallEvent::FallbackStarted
        | CallEvent::Attempted(_)
        | CallEvent::TransferCompleted
        | CallEvent::Media(_) => json!({}),
    };
    EventForm { seq: timed.seq, at: wall(timed.at), name: timed.event.name(), detail }
}

fn ended_detail(cause: HangupCause, by: Party, duration_ms: i64) -> Value {
    json!({"cause": cause.code(), "by": by.as_str(), "duration_ms": duration_ms})
}

/// In the microseconds that PostgreSQL keeps.
fn wall(moment: Moment) -> Timestamp {
    let time = clock::wall(moment);
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// PostgreSQL takes no NUL in a text; a peer that sends one must not cost us the record.
fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdr::CallLog;
    use crate::types::codec::Codec;
    use crate::types::id::CallId;
    use std::time::Duration;

    fn open() -> CallLog {
        let mut log = CallLog::open(Moment::START, CallId::from_uuid(Uuid::from_u128(5)));
        log.note(Moment::from_millis(1), CallEvent::Ringing);
        log
    }

    #[test]
    fn a_killed_call_ends_at_the_last_sign_of_life() {
        let mut log = open();
        log.note(Moment::from_millis(2000), CallEvent::Answered(Codec::Pcmu));
        let alive = wall(Moment::from_millis(7000));
        let closed = interrupted(&encode(&log.report()), Some(alive)).unwrap();
        let entry: Entry = serde_json::from_slice(&closed).unwrap();
        assert_eq!((entry.rev, entry.closed), (3, true));
        assert_eq!(entry.record["rev"], 3);
        assert_eq!(entry.record["cause"], "interrupted");
        assert_eq!(entry.record["ended_at"], alive.to_string());
        assert_eq!(entry.record["duration_ms"], 5000);
        assert_eq!(entry.record["sip_status"], 200);
        assert_eq!(entry.events[0]["seq"], 2);
        assert_eq!(newest_event(&entry), Some(alive));
    }

    #[test]
    fn a_call_that_ended_is_not_interrupted() {
        let mut log = open();
        log.note(
            Moment::from_millis(3),
            CallEvent::Ended {
                cause: HangupCause::Normal,
                by: Party::Caller,
                duration: Duration::ZERO,
            },
        );
        assert_eq!(interrupted(&encode(&log.report()), None), None);
        assert_eq!(interrupted(b"garbage", None), None);
    }

    #[test]
    fn a_nul_of_a_peer_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert_eq!(clean("ab"), "ab");
    }
}
