//! What clients see of stored things. Domain types stay free of the wire.

use crate::api::live_view::LiveView;
use crate::api::resource;
use crate::cdr::CallRecord;
use crate::cdr::CallState;
use crate::engine::errand::LiveCall;
use crate::store::call_notes;
use crate::store::calls::StoredCall;
use crate::store::calls::StoredEvent;
use crate::store::calls::StoredMedia;
use crate::store::running_call;
use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// A call.
#[derive(Debug, Serialize)]
pub(super) struct CallView {
    id: String,
    tenant_id: Option<String>,
    trunk_id: Option<String>,
    number_id: Option<String>,
    ai_profile_id: Option<String>,
    pub(super) direction: String,
    sip_call_id: String,
    source: Option<String>,
    transport: Option<String>,
    pub(super) caller: String,
    pub(super) dialled: Option<String>,
    pub(super) dialled_as: String,
    pub(super) status: &'static str,
    sip_status: Option<i16>,
    pub(super) cause: Option<String>,
    q850: Option<i16>,
    ended_by: Option<String>,
    agent_failure: Option<String>,
    codec: Option<String>,
    pub(super) duration_ms: i64,
    holds: i32,
    digits: i32,
    pub(super) times: TimesView,
    media: Option<MediaView>,
    variables: Value,
    disposition: Option<String>,
    outcome: Option<String>,
    summary: Option<String>,
}

/// When a call reached each stage.
#[derive(Debug, Serialize)]
pub(super) struct TimesView {
    pub(super) arrived: Timestamp,
    pub(super) decided: Option<Timestamp>,
    pub(super) ringing: Option<Timestamp>,
    pub(super) agent_ready: Option<Timestamp>,
    pub(super) answered: Option<Timestamp>,
    pub(super) acknowledged: Option<Timestamp>,
    pub(super) first_media: Option<Timestamp>,
    pub(super) fallback: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
}

/// Figures of a call's media; "in" is from the caller to us.
#[derive(Debug, Serialize)]
struct MediaView {
    packets_in: i64,
    packets_out: i64,
    octets_in: i64,
    octets_out: i64,
    lost_in: i64,
    late_in: i64,
    lost_out: Option<i64>,
    jitter_in_ms: Option<f64>,
    jitter_out_ms: Option<f64>,
    round_trip_ms: Option<f64>,
    mos_in: Option<f64>,
    mos_out: Option<f64>,
    foreign_packets: i64,
    agent_underruns: i32,
    /// Null: media was not encrypted.
    srtp_suite: Option<String>,
    srtp_packets_refused: i64,
    /// Null: of calls of before, and without media.
    quality: Option<Value>,
}

/// A call with how it was decided and what happened to it.
#[derive(Debug, Serialize)]
pub(super) struct CallDetailView {
    #[serde(flatten)]
    pub(super) call: CallView,
    decision: Value,
    events: Vec<EventView>,
    /// The keys its caller pressed.
    dtmf: Vec<KeyView>,
    /// How it stands while it runs.
    live: Option<LiveView>,
    /// The tag of what applications said of it; null: the database is away, and what they said with it.
    etag: Option<String>,
}

/// A key that was pressed.
#[derive(Debug, Serialize)]
struct KeyView {
    at: Timestamp,
    digit: Value,
}

#[derive(Debug, Serialize)]
pub(super) struct EventView {
    pub(super) seq: i32,
    pub(super) at: Timestamp,
    pub(super) name: String,
    pub(super) detail: Value,
}

impl CallView {
    pub(super) fn of(call: StoredCall) -> Self {
        let times = &call.times;
        let (rang, ended) = (times.ringing.is_some(), times.ended.is_some());
        let status = CallState::of(rang, times.answered.is_some(), ended).as_str();
        Self {
            id: call.id.to_string(),
            tenant_id: call.route.tenant.map(|id| id.to_string()),
            trunk_id: call.route.trunk.map(|id| id.to_string()),
            number_id: call.route.number.map(|id| id.to_string()),
            ai_profile_id: call.route.ai_profile.map(|id| id.to_string()),
            direction: call.direction,
            sip_call_id: call.signalling_id,
            source: call.source,
            transport: call.transport,
            caller: call.caller,
            dialled: call.dialled,
            dialled_as: call.dialled_text,
            status,
            sip_status: call.sip_status,
            cause: call.cause,
            q850: call.q850,
            ended_by: call.ended_by,
            agent_failure: call.agent_failure,
            codec: call.codec,
            duration_ms: call.duration_ms,
            holds: call.holds,
            digits: call.digits,
            times: TimesView {
                arrived: call.times.arrived,
                decided: call.times.decided,
                ringing: call.times.ringing,
                agent_ready: call.times.agent_ready,
                answered: call.times.answered,
                acknowledged: call.times.acknowledged,
                first_media: call.times.first_media,
                fallback: call.times.fallback,
                ended: call.times.ended,
            },
            media: call.media.map(MediaView::of),
            variables: call.variables,
            disposition: call.disposition,
            outcome: call.outcome,
            summary: call.summary,
        }
    }
}

impl MediaView {
    fn of(media: StoredMedia) -> Self {
        Self {
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
            agent_underruns: media.underruns,
            srtp_suite: media.srtp_suite,
            srtp_packets_refused: media.srtp_refused,
            quality: media.quality,
        }
    }
}

impl CallDetailView {
    pub(super) fn of(
        mut stored: StoredCall,
        events: Vec<StoredEvent>,
        live: Option<&LiveCall>,
    ) -> Self {
        let decision = std::mem::take(&mut stored.decision);
        let mut events: Vec<_> = events
            .into_iter()
            .map(|event| EventView {
                seq: event.seq,
                at: event.at,
                name: event.name,
                detail: event.detail,
            })
            .collect();
        let said = [&stored.disposition, &stored.outcome, &stored.summary];
        let tag = call_notes::tag(said.map(|text| text.as_deref()), &stored.variables);
        let etag = format!("\"{tag}\"");
        let id = stored.id;
        let mut call = CallView::of(stored);
        if let Some(live) = live {
            let newest = events.last().map(|event| event.seq);
            let later = live.snapshot.events.iter().map(EventView::of_live);
            events.extend(later.filter(|event| newest.is_none_or(|newest| event.seq > newest)));
            call.catch_up(&live.snapshot);
        }
        let pressed = |event: &EventView| {
            let digit = event.detail.get("digit").filter(|_| event.name == "digit")?;
            Some(KeyView { at: event.at, digit: digit.clone() })
        };
        let dtmf = events.iter().filter_map(pressed).collect();
        let live = live.map(|live| LiveView::of(id, live));
        Self { call, decision, events, dtmf, live, etag: Some(etag) }
    }

    /// A call that runs, as it is known in memory: the database is away.
    pub(super) fn of_running(record: &CallRecord, live: &LiveCall) -> Self {
        let view = Self::of(running_call::stored(record), Vec::new(), Some(live));
        Self { etag: None, ..view }
    }

    /// The answer that shows it.
    pub(super) fn answer(self) -> Response {
        let tag = self.etag.clone();
        resource::tagged(StatusCode::OK, tag.as_deref(), Json(self))
    }
}
