//! The signalling of a call: as messages, as a ladder of text, as a capture file.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::clock;
use crate::engine::trace;
use crate::engine::trace::Trace;
use crate::engine::trace::TracedMessage;
use crate::engine::trace::Way;
use crate::store::calls;
use crate::store::traces;
use crate::store::traces::StoredMessage;
use crate::store::traces::StoredTrace;
use crate::types::id::CallId;
use crate::types::moment::Moment;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Serialize)]
pub(super) struct TraceView {
    messages: Vec<MessageView>,
    /// Messages between the first and the newest that were not kept.
    left_out: u32,
}

#[derive(Serialize)]
struct MessageView {
    at: Timestamp,
    /// `in`: to us; `out`: from us.
    way: &'static str,
    transport: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    /// The message; secrets are `*`, bytes that are no UTF-8 are U+FFFD.
    text: String,
}

pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<TraceView>, ApiError> {
    let Found { trace, start } = find(&context, &caller).await?;
    let messages = trace.messages.iter().map(|message| MessageView {
        at: start + message.at.since(Moment::START),
        way: message.way.as_str(),
        transport: message.transport.as_str(),
        local: message.local,
        remote: message.remote,
        text: String::from_utf8_lossy(&message.bytes).into_owned(),
    });
    Ok(Json(TraceView { messages: messages.collect(), left_out: trace.left_out }))
}

pub(super) async fn ladder(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<String, ApiError> {
    let found = find(&context, &caller).await?;
    Ok(trace::ladder(&found.trace))
}

pub(super) async fn pcap(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let call = CallId::from_uuid(caller.item()?);
    let found = find(&context, &caller).await?;
    let file = trace::pcap(&found.trace, found.start);
    let name = format!("attachment; filename=\"{call}.pcap\"");
    let kind = "application/vnd.tcpdump.pcap".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], file).into_response())
}

/// Why there may be none of a call whose record is there.
const NOT_KEPT: &str = "the signalling of this call is not kept any more, or never was: its time is over, its trunk \
     keeps it in memory alone, or too many calls ended at once (sip_traces_lost_total counts those)";

/// The signalling of a call, whose moments count from `start`.
struct Found {
    trace: Trace,
    start: Timestamp,
}

impl Found {
    /// What was stored, perhaps by an earlier run of the node: its moments count from its own beginning.
    fn stored(stored: StoredTrace) -> Option<Self> {
        let start = stored.messages.first()?.at;
        let read = |message: StoredMessage| {
            let after = Duration::try_from(message.at.duration_since(start)).unwrap_or_default();
            Some(TracedMessage {
                at: Moment::START + after,
                way: if message.way == Way::In.as_str() { Way::In } else { Way::Out },
                transport: message.transport.parse().ok()?,
                local: message.local.parse().ok()?,
                remote: message.remote.parse().ok()?,
                bytes: message.bytes,
            })
        };
        let messages = stored.messages.into_iter().filter_map(read).collect();
        Some(Self { trace: Trace { messages, left_out: stored.left_out }, start })
    }
}

/// The trace of a call that is the tenant's own: signalling has numbers and addresses of people.
async fn find(context: &Context, caller: &Caller) -> Result<Found, ApiError> {
    let id = &caller.request_id;
    let tenant = caller.tenant()?;
    let missing = || ErrorKind::NotFound("this tenant has no such call").of(id);
    let call = CallId::from_uuid(caller.item()?);
    let found = calls::get(&context.database, tenant, call)
        .await
        .map_err(|error| error::database(&error, id))?;
    found.ok_or_else(missing)?;
    let trace = context.traces.of_call(call);
    if !trace.messages.is_empty() {
        return Ok(Found { trace, start: clock::wall(Moment::START) });
    }
    let stored = traces::get(&context.database, tenant, call).await;
    let stored = stored.map_err(|error| error::database(&error, id))?;
    let gone = ErrorKind::NotFound(NOT_KEPT);
    Found::stored(stored).ok_or_else(|| gone.of(id))
}
