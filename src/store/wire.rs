//! The journal's own form of a call record: JSON whose keys are the columns of `calls`.

use crate::call::event::CallEvent;
use crate::call::event::Charged;
use crate::call::event::MediaFigures;
use crate::call::event::RecordingStep;
use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::call::supervision::SupervisionStep;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::store::json_text::JsonText;
use crate::store::json_text::key;
use crate::store::quality::of_quality;
use crate::types::agent_trouble::FaultWord;
use crate::types::agent_trouble::LinkTroubles;
use crate::types::answer_hook::AskOutcome;
use crate::types::answering_machine::AnswererEvent;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::codec::Codec;
use crate::types::header::CallVariables;
use crate::types::id::RecordingId;
use crate::types::moment::Moment;
use crate::types::peer_reason::PeerReason;
use crate::types::quality::TroubleTold;
use crate::types::quality::Unheard;
use crate::types::talk::Talk;
use crate::types::transport::Transport;
use jiff::Timestamp;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::LazyLock;
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

/// Writes the entry of `report` as all that `text` says.
///
/// By hand and not by serde: each call is written twice, and this costs a third. What a record does not
/// have is left out.
pub(crate) fn encode(report: &CallReport, text: &mut JsonText) {
    let record = &report.record;
    text.clear();
    text.open('{');
    text.key(key!("id")).uuid(record.id.uuid());
    text.key(key!("rev")).number(u64::from(record.rev));
    text.key(key!("closed")).bool(record.is_closed());
    text.key(key!("record")).open('{');
    write_origin(record, text);
    write_stages(record, text);
    write_end(record, text);
    if let Some(media) = &record.media {
        write_media(media, text);
    }
    text.close('}');
    text.key(key!("events")).open('[');
    for event in &report.events {
        write_event(event, text);
    }
    text.close(']');
    text.close('}');
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

/// The call's identity in an encoded entry, without reading the rest; `None` where it does not stand as
/// [`encode`] writes it.
pub(crate) fn id_of(payload: &[u8]) -> Option<&[u8]> {
    const ID_BYTES: usize = 36;
    let (id, rest) = payload.strip_prefix(b"{\"id\":\"")?.split_at_checked(ID_BYTES)?;
    rest.starts_with(b"\"").then_some(id)
}

/// What stands before the events of an encoded entry, and from their key on; `None` where it does not stand as [`encode`]
/// writes it. Within a text quotes are escaped, and the record's own objects hold no such list: the first that reads so
/// is that of the events.
pub(crate) fn parted(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    static EVENTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"},\"events\":["));
    let comma = EVENTS.find(payload)? + 1;
    let (before, events) = (payload.get(..comma)?, payload.get(comma + 1..)?);
    events.ends_with(b"]}").then_some((before, events))
}

/// When the newest event of an entry happened.
pub(crate) fn newest_event(entry: &Entry) -> Option<Timestamp> {
    entry.events.last()?.get("at")?.as_str()?.parse().ok()
}

/// Whose call it is, from where, and how that was found.
fn write_origin(record: &CallRecord, text: &mut JsonText) {
    text.key(key!("id")).uuid(record.id.uuid());
    text.key(key!("rev")).number(u64::from(record.rev));
    let route = &record.route;
    for (key, id) in [
        (key!("tenant_id"), route.tenant.map(|id| id.uuid())),
        (key!("trunk_ref"), route.trunk.map(|id| id.uuid())),
        (key!("number_id"), route.number.map(|id| id.uuid())),
        (key!("ai_profile_id"), route.ai_profile.map(|id| id.uuid())),
    ] {
        if let Some(id) = id {
            text.key(key).uuid(id);
        }
    }
    text.key(key!("direction")).word(record.direction.as_str());
    text.key(key!("signalling_id")).text(&record.signalling_id);
    if let Some(source) = record.source {
        text.key(key!("source")).address(source);
    }
    if let Some(transport) = record.transport {
        text.key(key!("transport")).word(transport.as_str());
    }
    text.key(key!("caller")).text(&record.caller);
    text.key(key!("dialled_text")).text(&record.dialled_text);
    if let Some(dialled) = route.dialled {
        text.key(key!("dialled")).shown(dialled);
    }
    if !record.variables.is_empty() {
        text.key(key!("variables")).value(&variables_of(&record.variables));
    }
    text.key(key!("decision")).open('[');
    for step in record.decision.steps() {
        text.open('{');
        text.key(key!("what")).word(step.what);
        text.key(key!("detail")).text(&step.detail);
        text.close('}');
    }
    text.close(']');
}

fn write_stages(record: &CallRecord, text: &mut JsonText) {
    let stages = &record.stages;
    text.key(key!("arrived_at")).time(clock::wall(stages.arrived));
    for (key, stage) in [
        (key!("decided_at"), stages.decided),
        (key!("ringing_at"), stages.ringing),
        (key!("agent_ready_at"), stages.agent_ready),
        (key!("answered_at"), stages.answered),
        (key!("acknowledged_at"), stages.acknowledged),
        (key!("first_media_at"), stages.first_media),
        (key!("fallback_at"), stages.fallback),
        (key!("ended_at"), stages.ended),
    ] {
        if let Some(at) = stage {
            text.key(key).time(clock::wall(at));
        }
    }
}

fn write_end(record: &CallRecord, text: &mut JsonText) {
    let duration_ms = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX);
    text.key(key!("duration_ms")).number(duration_ms);
    text.key(key!("holds")).number(u64::from(record.holds));
    text.key(key!("digits")).number(u64::from(record.digits));
    if let Some(status) = record.status {
        text.key(key!("sip_status")).number(u64::from(status));
    }
    if let Some(cause) = record.cause {
        text.key(key!("q850")).number(u64::from(cause.q850()));
    }
    for (key, value) in [
        (key!("codec"), record.codec.map(|codec| codec.name())),
        (key!("cause"), record.cause.map(HangupCause::code)),
        (key!("ended_by"), record.ended_by.map(Party::as_str)),
        (key!("agent_failure"), record.agent_failure.map(HangupCause::code)),
    ] {
        if let Some(value) = value {
            text.key(key).word(value);
        }
    }
}

fn write_media(media: &MediaFigures, text: &mut JsonText) {
    for (key, count) in [
        (key!("packets_in"), Some(media.packets_in)),
        (key!("packets_out"), Some(media.packets_out)),
        (key!("octets_in"), Some(media.octets_in)),
        (key!("octets_out"), Some(media.octets_out)),
        (key!("lost_in"), Some(media.lost_in)),
        (key!("late_in"), Some(media.late_in)),
        (key!("lost_out"), media.lost_out),
        (key!("foreign_packets"), Some(media.foreign)),
        (key!("underruns"), Some(u64::from(media.underruns))),
        (key!("srtp_refused"), Some(media.srtp_refused.saturating_add(media.srtp_replayed))),
    ] {
        if let Some(count) = count {
            text.key(key).number(count);
        }
    }
    for (key, figure) in [
        (key!("jitter_in_ms"), Some(media.jitter_in_ms)),
        (key!("jitter_out_ms"), media.jitter_out_ms),
        (key!("round_trip_ms"), media.round_trip_ms),
        (key!("mos_in"), media.mos_in),
        (key!("mos_out"), media.mos_out),
    ] {
        if let Some(figure) = figure {
            text.key(key).value(&json!(figure));
        }
    }
    if let Some(suite) = media.srtp {
        text.key(key!("srtp_suite")).word(suite.as_str());
    }
    // Of a call without audio there is nothing to say.
    if media.packets_in > 0 || media.quality.unheard != Unheard::default() {
        text.key(key!("media_quality")).value(&of_quality(&media.quality));
    }
}

fn write_event(timed: &TimedEvent, text: &mut JsonText) {
    text.open('{');
    text.key(key!("seq")).number(u64::from(timed.seq));
    text.key(key!("at")).time(clock::wall(timed.at));
    text.key(key!("name")).word(timed.event.name());
    text.key(key!("detail"));
    write_detail(&timed.event, text);
    text.close('}');
}

/// What [`detail_of`] gives. That of the events of every call is written as it is, for a tree of values costs
/// more than all the rest of an event.
fn write_detail(event: &CallEvent, text: &mut JsonText) {
    match event {
        CallEvent::Answered(codec) => {
            text.open('{');
            text.key(key!("codec")).word(codec.name());
            text.close('}');
        }
        CallEvent::Ended { cause, by, duration } => {
            let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            text.open('{');
            text.key(key!("by")).word(by.as_str());
            text.key(key!("cause")).word(cause.code());
            text.key(key!("duration_ms")).number(duration_ms);
            text.close('}');
        }
        event => match detail_of(event) {
            Some(detail) => text.value(&detail),
            None => {
                text.open('{');
                text.close('}');
            }
        },
    }
}

fn sent_detail(
    (side, to, transport): (LegSide, SocketAddr, Transport),
    charged: Option<&Charged>,
) -> Value {
    let mut detail = json!({
        "leg": side.as_str(), "to": to.to_string(), "transport": transport.as_str(),
    });
    note_charged(&mut detail, charged);
    detail
}

fn note_charged(detail: &mut Value, charged: Option<&Charged>) {
    if let Some(charged) = charged {
        detail["trunk"] = json!(charged.trunk.to_string());
        detail["rate"] = json!(charged.rate.as_ref().map(|prefix| prefix.as_str()));
    }
}

fn supervision_detail(seat: Seat, step: SupervisionStep) -> Value {
    match step {
        SupervisionStep::Begun(mode) | SupervisionStep::Changed(mode) => {
            json!({"leg": seat.leg_name(), "mode": mode.as_str()})
        }
        SupervisionStep::Ended => json!({"leg": seat.leg_name()}),
    }
}

fn peer_reason_detail(side: LegSide, reason: &PeerReason) -> Value {
    json!({
        "leg": side.as_str(),
        "protocol": reason.protocol(),
        "cause": reason.cause(),
        "text": reason.text(),
    })
}

fn trouble_detail(side: LegSide, told: TroubleTold) -> Value {
    json!({
        "leg": side.as_str(),
        "what": told.what.as_str(),
        "for_ms": told.for_ms,
        "over": told.is_over,
    })
}

fn leg_answered_detail(side: LegSide, codec: Option<Codec>, charged: Option<&Charged>) -> Value {
    let codec = codec.map(|codec| codec.name());
    let mut detail = json!({"leg": side.as_str(), "codec": codec, "trunk": null});
    note_charged(&mut detail, charged);
    detail
}

/// What an event says beside its name, as stored events and those told live have it.
#[must_use]
pub fn detail_of(event: &CallEvent) -> Option<Value> {
    Some(match event {
        CallEvent::Refused { cause, status } => json!({"cause": cause.code(), "status": status}),
        CallEvent::Ignored(cause) => json!({"cause": cause.code()}),
        CallEvent::Answered(codec) => json!({"codec": codec.name()}),
        CallEvent::Ended { cause, by, duration } => {
            ended_detail(*cause, *by, i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
        }
        CallEvent::Dialled(side)
        | CallEvent::Bridged(side)
        | CallEvent::Replaced(side)
        | CallEvent::TransferRefused(side) => json!({"leg": side.as_str()}),
        CallEvent::Sent { side, to, transport, charged } => {
            sent_detail((*side, *to, *transport), charged.as_deref())
        }
        CallEvent::ReofferRefused { side, cause } => {
            json!({"leg": side.as_str(), "cause": cause.code()})
        }
        CallEvent::PeerReason { side, reason } => peer_reason_detail(*side, reason),
        CallEvent::Progressed { side, status, audible } => {
            json!({"leg": side.as_str(), "status": status, "audible": audible})
        }
        CallEvent::LegAnswered { side, codec, charged } => {
            leg_answered_detail(*side, *codec, charged.as_deref())
        }
        CallEvent::LegFailed { side, cause, status } => {
            json!({"leg": side.as_str(), "cause": cause.code(), "status": status})
        }
        CallEvent::LegEnded { side, cause, by } => {
            json!({"leg": side.as_str(), "cause": cause.code(), "by": by.as_str()})
        }
        CallEvent::TransferBegun(mode) => json!({"mode": mode.as_str()}),
        CallEvent::TransferFailed(cause) => json!({"cause": cause.code()}),
        CallEvent::Supervision(seat, step) => supervision_detail(*seat, *step),
        CallEvent::LegMedia(side, figures) => leg_media_detail(*side, figures),
        CallEvent::Digit(digit) => json!({"digit": digit}),
        CallEvent::Muted(side) | CallEvent::Unmuted(side) => json!({"party": side.as_str()}),
        CallEvent::PlayBegun(name) => json!({"asset": name}),
        CallEvent::PlayEnded { whole } => json!({"whole": whole}),
        CallEvent::KeysSent { side, count } => json!({"leg": side.as_str(), "count": count}),
        CallEvent::AgentAwaited(_)
        | CallEvent::AgentAsked { .. }
        | CallEvent::AgentFailed(..)
        | CallEvent::AgentInterrupted(..)
        | CallEvent::AgentLink(_)
        | CallEvent::AgentAttached(_)
        | CallEvent::AgentReplaced(_) => agent_detail(event),
        CallEvent::ScriptNoted { what, detail } => json!({"what": what, "detail": detail}),
        CallEvent::AnswerAsked(outcome, variables) => asked_detail(*outcome, variables),
        CallEvent::Recording(id, step) => recording_detail(*id, step),
        CallEvent::TranscriptAdded { first, last } => json!({"first": first, "last": last}),
        CallEvent::Talk(side, talk) => talk_detail(*side, *talk),
        CallEvent::AudioTrouble(side, told) => trouble_detail(*side, *told),
        // What these carry is in the record.
        CallEvent::Arrived(_)
        | CallEvent::Decided { .. }
        | CallEvent::Ringing
        | CallEvent::AgentReady
        | CallEvent::AgentResumed
        | CallEvent::Acknowledged
        | CallEvent::FirstMedia
        | CallEvent::Held
        | CallEvent::Resumed
        | CallEvent::HoldBegun
        | CallEvent::HoldEnded
        | CallEvent::VariablesSet(_)
        | CallEvent::FallbackStarted
        | CallEvent::Attempted(_)
        | CallEvent::TransferCompleted
        | CallEvent::TransferWithdrawn
        | CallEvent::Media(_) => return None,
    })
}

/// The variables go from here into the record's, and are not kept with the event.
fn asked_detail(outcome: AskOutcome, variables: &CallVariables) -> Value {
    let said = outcome.as_str();
    let mut detail = match outcome {
        AskOutcome::Kept => json!({"outcome": said}),
        AskOutcome::Overridden(id) => json!({"outcome": said, "ai_profile_id": id.to_string()}),
        AskOutcome::Failed(why) => json!({"outcome": said, "why": why.as_str()}),
    };
    if let Some(detail) = detail.as_object_mut().filter(|_| !variables.is_empty()) {
        detail.insert("variables".to_owned(), variables_of(variables));
    }
    detail
}

pub(super) fn variables_of(variables: &CallVariables) -> Value {
    let all = variables.iter().map(|(name, value)| (name.to_string(), json!(value.as_str())));
    Value::Object(all.collect())
}

fn leg_media_detail(side: LegSide, figures: &MediaFigures) -> Value {
    json!({
        "leg": side.as_str(),
        "packets_in": figures.packets_in,
        "packets_out": figures.packets_out,
        "lost_in": figures.lost_in,
        "mos_in": figures.mos_in,
        "mos_out": figures.mos_out,
        "quality": of_quality(&figures.quality),
    })
}

fn talk_detail(side: LegSide, talk: Talk) -> Value {
    let leg = side.as_str();
    match talk {
        Talk::Turn(turn) => json!({
            "leg": leg,
            "stopped_ms": turn.stopped_ms,
            "first_byte_ms": turn.first_byte_ms,
            "spoken_ms": turn.spoken_ms,
        }),
        Talk::BargeIn { at_ms, heard_ms, outcome } => json!({
            "leg": leg,
            "at_ms": at_ms,
            "heard_ms": heard_ms,
            "outcome": outcome.as_str(),
        }),
        Talk::Unheard { at_ms, heard_ms } => json!({
            "leg": leg,
            "at_ms": at_ms,
            "heard_ms": heard_ms,
        }),
        Talk::Underrun { at_ms, ms, node_late } => json!({
            "leg": leg,
            "at_ms": at_ms,
            "ms": ms,
            "late": if node_late { "node" } else { "agent" },
        }),
        Talk::Answerer(event) => answerer_detail(event),
    }
}

fn answerer_detail(event: AnswererEvent) -> Value {
    match event {
        AnswererEvent::Seems { at_ms, answerer, percent, is_final } => json!({
            "at_ms": at_ms,
            "answerer": answerer.as_str(),
            "percent": percent,
            "final": is_final,
        }),
        AnswererEvent::Beep { at_ms, hz } => json!({"at_ms": at_ms, "hz": hz}),
        AnswererEvent::GreetingOver { at_ms, beeped } => json!({"at_ms": at_ms, "beeped": beeped}),
    }
}

fn agent_detail(event: &CallEvent) -> Value {
    match event {
        CallEvent::AgentAwaited(connection) => {
            json!({"connection_id": connection, "path": format!("/media/{connection}")})
        }
        CallEvent::AgentAsked { wish, refused } => {
            json!({"wish": wish.as_str(), "refused": refused})
        }
        CallEvent::AgentFailed(cause, why) | CallEvent::AgentInterrupted(cause, why) => {
            json!({"cause": cause.code(), "why": why.as_ref().map(FaultWord::as_str)})
        }
        CallEvent::AgentLink(troubles) => link_detail(troubles),
        CallEvent::AgentAttached(profile) | CallEvent::AgentReplaced(profile) => {
            json!({"ai_profile_id": profile.to_string()})
        }
        _ => Value::Null,
    }
}

fn link_detail(troubles: &LinkTroubles) -> Value {
    let malformed = troubles.garbage.by_word().map(|(what, count)| (what.to_owned(), json!(count)));
    json!({
        "frames_dropped": troubles.frames_dropped,
        "events_dropped": troubles.events_dropped,
        "malformed": Value::Object(malformed.into_iter().collect()),
        "unknown": troubles.unknown,
        "errors": troubles.errors,
        "last_error": troubles.last_error.as_ref().map(FaultWord::as_str),
    })
}

fn recording_detail(id: RecordingId, step: &RecordingStep) -> Value {
    let id = id.to_string();
    match step {
        RecordingStep::Started
        | RecordingStep::Paused
        | RecordingStep::Resumed
        | RecordingStep::Stopped => json!({"recording_id": id}),
        RecordingStep::Ready { duration_ms } => {
            json!({"recording_id": id, "duration_ms": duration_ms})
        }
        RecordingStep::Failed { why } => json!({"recording_id": id, "why": why}),
    }
}

fn ended_detail(cause: HangupCause, by: Party, duration_ms: i64) -> Value {
    json!({"cause": cause.code(), "by": by.as_str(), "duration_ms": duration_ms})
}

/// In the microseconds that PostgreSQL keeps.
pub(crate) fn wall(moment: Moment) -> Timestamp {
    let time = clock::wall(moment);
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdr::CallLog;
    use crate::types::id::CallId;
    use crate::types::talk::BargeInOutcome;
    use crate::types::talk::Turn;
    use std::time::Duration;

    fn open() -> CallLog {
        let mut log = CallLog::open(Moment::START, CallId::from_uuid(Uuid::from_u128(5)));
        log.note(Moment::from_millis(1), CallEvent::Ringing);
        log
    }

    fn encoded(report: &CallReport) -> Vec<u8> {
        let mut text = JsonText::default();
        encode(report, &mut text);
        text.as_bytes().to_vec()
    }

    #[test]
    fn a_killed_call_ends_at_the_last_sign_of_life() {
        let mut log = open();
        log.note(Moment::from_millis(2000), CallEvent::Answered(Codec::Pcmu));
        let alive = wall(Moment::from_millis(7000));
        let closed = interrupted(&encoded(&log.report()), Some(alive)).unwrap();
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
    fn an_entry_tells_whose_it_is_without_being_read() {
        let mut log = open();
        let id = log.record().id.uuid().to_string();
        assert_eq!(id_of(&encoded(&log.report())), Some(id.as_bytes()));
        assert_eq!(id_of(b"{\"id\":\"5\"}"), None);
    }

    #[test]
    fn an_entry_is_parted_at_its_events_whatever_its_texts_say() {
        let mut report = open().report();
        report.record.caller = "},\"events\":[1]}".to_owned();
        report.record.decision.note("dialled", r#"\},\"events\":["#);
        let written = encoded(&report);
        let ended = interrupted(&written, None).unwrap();
        let whole = |bytes: &[u8]| serde_json::from_slice::<Entry>(bytes).unwrap();
        for (entry, count) in [(&written, report.events.len()), (&ended, 1)] {
            let (before, events) = parted(entry).unwrap();
            let of_record = whole(&[before, b",\"events\":[]}"].concat());
            assert_eq!(of_record.record, whole(entry).record);
            let of_events: Value = serde_json::from_slice(&[&b"{"[..], events].concat()).unwrap();
            assert_eq!(of_events, json!({ "events": whole(entry).events }));
            assert_eq!(whole(entry).events.len(), count);
        }
        for other in [&b"{}"[..], b"{\"record\":{},\"events\":[", b"garbage", b""] {
            assert_eq!(parted(other), None);
        }
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
        assert_eq!(interrupted(&encoded(&log.report()), None), None);
        assert_eq!(interrupted(b"garbage", None), None);
    }

    #[test]
    fn what_is_written_of_an_event_is_what_is_told_of_it() {
        let duration = Duration::from_millis(5_017);
        let (cause, by) = (HangupCause::Normal, Party::Caller);
        for event in [
            CallEvent::Answered(Codec::Pcma),
            CallEvent::Ended { cause, by, duration },
            CallEvent::Refused { cause: HangupCause::NoPorts, status: 503 },
            CallEvent::Ringing,
        ] {
            let mut text = JsonText::default();
            write_detail(&event, &mut text);
            let written: Value = serde_json::from_slice(text.as_bytes()).unwrap();
            assert_eq!(written, detail_of(&event).unwrap_or(json!({})), "{event:?}");
        }
    }

    #[test]
    fn what_happens_in_a_talk_says_on_which_leg_for_each_has_a_clock_of_its_own() {
        for (side, leg) in [(LegSide::Near, "near"), (LegSide::Far, "far")] {
            for talk in [
                Talk::Turn(Turn { stopped_ms: 1, first_byte_ms: 2, spoken_ms: 3 }),
                Talk::BargeIn { at_ms: 1, heard_ms: 2, outcome: BargeInOutcome::Told },
                Talk::Unheard { at_ms: 1, heard_ms: 2 },
                Talk::Underrun { at_ms: 1, ms: 2, node_late: false },
            ] {
                let told = detail_of(&CallEvent::Talk(side, talk)).unwrap();
                assert_eq!(told["leg"], leg, "{talk:?}");
            }
        }
    }

    #[test]
    fn a_nul_of_a_peer_costs_no_record() {
        let mut report = open().report();
        report.record.caller = "a\0b".to_owned();
        report.record.decision.note("dialled", "`1\0`");
        let entry: Entry = serde_json::from_slice(&encoded(&report)).unwrap();
        assert_eq!(entry.record["caller"], "a\u{fffd}b");
        assert_eq!(entry.record["decision"][0]["detail"], "`1\u{fffd}`");
    }
}
