//! The signalling of a call: as messages, as a ladder of text, as a capture file.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::clock;
use crate::engine::trace;
use crate::engine::trace::Trace;
use crate::store::calls;
use crate::types::id::CallId;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use std::net::SocketAddr;

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
    let trace = find(&context, &caller).await?;
    let messages = trace.messages.iter().map(|message| MessageView {
        at: clock::wall(message.at),
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
    let trace = find(&context, &caller).await?;
    Ok(trace::ladder(&trace))
}

pub(super) async fn pcap(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let call = CallId::from_uuid(caller.item()?);
    let trace = find(&context, &caller).await?;
    let file = trace::pcap(&trace);
    let name = format!("attachment; filename=\"{call}.pcap\"");
    let kind = "application/vnd.tcpdump.pcap".to_owned();
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], file).into_response())
}

/// The trace of a call that is the tenant's own: signalling has numbers and addresses of people.
async fn find(context: &Context, caller: &Caller) -> Result<Trace, ApiError> {
    let id = &caller.request_id;
    let tenant = caller.tenant()?;
    let missing = || ErrorKind::NotFound("this tenant has no such call").of(id);
    let call = CallId::from_uuid(caller.item()?);
    let found = calls::get(&context.database, tenant, call)
        .await
        .map_err(|error| error::database(&error, id))?;
    found.ok_or_else(missing)?;
    let trace = context.traces.of_call(call);
    if trace.messages.is_empty() {
        let gone = "the signalling of this call is not kept any more, or passed another node";
        return Err(ErrorKind::NotFound(gone).of(id));
    }
    Ok(trace)
}
