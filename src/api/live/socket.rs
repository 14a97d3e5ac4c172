//! The two ways to follow events: server-sent events and WebSocket, at the same paths.

use crate::api::Context;
use crate::api::auth;
use crate::api::auth::Caller;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::live::NoSeat;
use crate::api::live::session::Follow;
use crate::api::live::session::Frame;
use crate::api::live::session::Right;
use crate::api::live::session::Session;
use crate::store::live_events;
use crate::types::id::CallId;
use crate::types::limit::EVENT_LISTENER_BYTES_MAX;
use axum::Extension;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use jiff::Timestamp;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for a WebSocket to take a message. Over it: it is dropped.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Read buffer of a WebSocket: listeners say next to nothing.
const READ_BUFFER_BYTES: usize = 1_024;
/// Heartbeats a WebSocket may leave unanswered.
const SILENT_MAX: u32 = 3;

type Asked = Result<Query<Vec<(String, String)>>, QueryRejection>;
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

pub(in crate::api) async fn of_tenant(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Asked,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let after = after(&headers, query, &["after"]);
    let after = after.map_err(|what| ErrorKind::BadParameter(what).of(id))?;
    let after = after.map(|text| Uuid::parse_str(&text)).transpose();
    let bad = |_| ErrorKind::BadParameter("`after` is the `id` of an event").of(id);
    let follow = Follow::Tenant(after.map_err(bad)?);
    begin(&context, &caller, ((follow, false), None), (&headers, upgrade)).await
}

pub(in crate::api) async fn of_call(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Asked,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let token = token_in(&query);
    let after = after(&headers, query, &["after", "token"]);
    let after = after.map_err(|what| ErrorKind::BadParameter(what).of(id))?;
    let after = after.map(|text| text.parse::<i64>().map_err(|_| text)).transpose();
    let after =
        after.ok().filter(|after| after.is_none_or(|after| (-1..=0xffff_ffff).contains(&after)));
    let what = "`after` is the `seq` of an event, or -1 for all";
    let after = after.ok_or_else(|| ErrorKind::BadParameter(what).of(id))?;
    let (tenant, call) = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let calls = context.calls.as_ref().ok_or_else(|| ErrorKind::NoCalls.of(id))?;
    let mut is_far = false;
    if !calls.is_running(tenant, call) {
        let recorded = live_events::is_recorded(&context.database, (tenant, call)).await;
        if !recorded.map_err(|error| error::database(&error, id))? {
            return Err(ErrorKind::NotFound("this tenant has no such call").of(id));
        }
        is_far = elsewhere::may_run(&context, id, (tenant, call)).await?;
    }
    let ends = auth::end_of_token(&context, &headers, token.as_deref());
    let follow = (Follow::Call(call, after), is_far);
    begin(&context, &caller, (follow, ends), (&headers, upgrade)).await
}

/// From where the listener goes on. A browser that reconnects by itself says so in a header (`EventSource`),
/// which is newer than the address it was given. `known`: the parameters there are.
fn after(
    headers: &HeaderMap,
    query: Asked,
    known: &[&str],
) -> Result<Option<String>, &'static str> {
    let Query(query) = query.map_err(|_| "the parameters are no text in UTF-8")?;
    let mut after = None;
    for (name, text) in query {
        if !known.contains(&name.as_str()) {
            return Err("there is no such parameter: after; and token, of a call");
        }
        // The gate has read the token.
        if name == "after" {
            after = Some(text);
        }
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    Ok(last.map(str::to_owned).or(after))
}

/// The token of the address, if there is one.
fn token_in(query: &Asked) -> Option<String> {
    let Query(query) = query.as_ref().ok()?;
    query.iter().find(|(name, _)| name == "token").map(|(_, token)| token.clone())
}

async fn begin(
    context: &Context,
    caller: &Caller,
    (follow, ends): ((Follow, bool), Option<Timestamp>),
    (headers, upgrade): (&HeaderMap, Upgrade),
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    if context.calls.is_none() {
        return Err(ErrorKind::NoCalls.of(id));
    }
    let wants_upgrade = headers.contains_key(header::UPGRADE);
    if wants_upgrade && let Err(rejection) = upgrade {
        tracing::debug!(%rejection, "no WebSocket");
        return Err(ErrorKind::BadParameter("this is no WebSocket handshake").of(id));
    }
    let right = Right { keys: Arc::clone(&context.keys), holder: caller.holder.clone(), ends };
    let of = (caller.tenant()?, right);
    let session = Session::begin(&context.events, &context.database, of, follow);
    let session = session.await.map_err(|why| refusal(why).of(id))?;
    match upgrade {
        Ok(upgrade) if wants_upgrade => Ok(upgrade
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(EVENT_LISTENER_BYTES_MAX)
            .max_frame_size(EVENT_LISTENER_BYTES_MAX)
            .on_upgrade(|socket| converse(socket, session))),
        _ => Ok(serve(session)),
    }
}

/// How it is refused that there is no seat.
const fn refusal(why: NoSeat) -> ErrorKind {
    match why {
        NoSeat::Full => ErrorKind::TooManyListeners,
        NoSeat::Ending => ErrorKind::NoCalls,
    }
}

/// Server-sent events (the `text/event-stream` of HTML).
fn serve(session: Session) -> Response {
    let frames = stream::unfold(session, |mut session| async move {
        let frame = session.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(written(&frame))), session))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect answers before they pass them on would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

/// A frame as server-sent events write it. What is told is JSON, which has no line breaks.
fn written(frame: &Frame) -> String {
    match frame {
        Frame::Heartbeat => ": alive\n\n".to_owned(),
        Frame::Event { id, kind, text } => {
            let id = id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
            format!("{id}event: {kind}\ndata: {text}\n\n")
        }
    }
}

/// Tells a WebSocket until either side ends it.
async fn converse(mut socket: WebSocket, mut session: Session) {
    let mut silent = 0;
    loop {
        tokio::select! {
            frame = session.next() => {
                let message = match frame {
                    None => break,
                    Some(Frame::Heartbeat) if silent >= SILENT_MAX => break,
                    Some(Frame::Heartbeat) => {
                        silent += 1;
                        Message::Ping(Bytes::new())
                    }
                    Some(Frame::Event { text, .. }) => Message::text(text),
                };
                match tokio::time::timeout(SEND_MAX, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => silent = 0,
            },
        }
    }
    // 1000: there is nothing more, and the last message said why. Who answers a ping over a connection that is gone
    // loses what it has not read yet, so it is waited for (RFC 6455 §7.1.1).
    let close = CloseFrame { code: 1_000, reason: "".into() };
    let closing = async {
        if socket.send(Message::Close(Some(close))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    drop(tokio::time::timeout(SEND_MAX, closing).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RequestId;

    #[test]
    fn an_event_is_written_with_where_to_go_on_from() {
        let event = |id: Option<&str>| Frame::Event {
            id: id.map(str::to_owned),
            kind: "call.ended".to_owned(),
            text: "{}".to_owned(),
        };
        assert_eq!(written(&event(Some("7"))), "id: 7\nevent: call.ended\ndata: {}\n\n");
        assert_eq!(written(&event(None)), "event: call.ended\ndata: {}\n\n");
        assert_eq!(written(&Frame::Heartbeat), ": alive\n\n");
    }

    #[test]
    fn a_header_of_a_browser_that_comes_back_is_newer_than_its_address() {
        let asked = || Ok(Query(vec![("after".to_owned(), "1".to_owned())]));
        let none = HeaderMap::new();
        assert_eq!(after(&none, asked(), &["after"]), Ok(Some("1".to_owned())));
        assert!(after(&none, asked(), &["token"]).is_err());
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", header::HeaderValue::from_static("5"));
        assert_eq!(after(&headers, asked(), &["after"]), Ok(Some("5".to_owned())));
    }

    #[test]
    fn who_finds_no_seat_is_told_why() {
        for (why, status, code) in
            [(NoSeat::Full, 429, "too_many_listeners"), (NoSeat::Ending, 503, "no_calls")]
        {
            let kind = refusal(why);
            let answer = kind.of(&RequestId::default()).into_response();
            assert_eq!((answer.status().as_u16(), kind.code()), (status, code));
        }
    }
}
