//! The door for agents that dial us, as Asterisk has it: a WebSocket at `/media/{connection_id}`.

use crate::agent::asterisk::SUBPROTOCOL;
use crate::api::Context;
use crate::api::RequestId;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use hyper_util::rt::TokioIo;

/// Where agents come in.
pub(super) const PATH: &str = "/media/{id}";

const NO_UPGRADE: ErrorKind =
    ErrorKind::BadParameter("this is a WebSocket, of version 13, with the subprotocol media");

/// The id is the right to the call: it was told to the tenant alone, and is good once.
pub(super) async fn enter(
    State(context): State<Context>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let calls = context.calls.as_ref().ok_or_else(|| ErrorKind::NoCalls.of(&request_id))?;
    let accept = accept_key(request.headers()).ok_or_else(|| NO_UPGRADE.of(&request_id))?;
    let unknown = || ErrorKind::NotFound("no call waits for this agent").of(&request_id);
    let place = calls.awaited_agents().take(&id).ok_or_else(unknown)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => place.fill(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "an agent's connection came to nothing"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// The answer to a handshake that is in order (RFC 6455 §4.2.1).
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, word: &str| {
        let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let is_ours = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
        && has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_ours)?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept).ok()
}
