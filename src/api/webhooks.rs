//! Webhook endpoints: made with a secret, checked, replayed.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::api::wish::Sent;
use crate::clock;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::store::resource::change;
use crate::store::resource::change::Draft;
use crate::store::resource::field::check_time;
use crate::store::resource::read::PAGE_MAX;
use crate::store::webhooks;
use crate::store::webhooks::SIGNING;
use crate::store::webhooks::WEBHOOKS;
use crate::store::webhooks::deliveries;
use crate::store::webhooks::deliveries::Delivery;
use crate::store::webhooks::deliveries::Replay;
use crate::store::webhooks::deliveries::Wanted;
use crate::types::secret::Secret;
use axum::Extension;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

/// Begins each secret, so that leaked ones are found by a search.
const PREFIX: &str = "whsec_";
const RANDOM_BYTES: usize = 32;
/// Deliveries of one page where the request does not say.
const PAGE: i64 = 50;
/// Events that one request names.
const EVENTS_MAX: usize = 1_000;

/// How far an event can be told.
pub(super) const DELIVERY_STATES: [&str; 3] = ["pending", "delivered", "dead"];

pub(super) struct Webhooks;

impl Noun for Webhooks {
    const RESOURCE: &'static Resource = &WEBHOOKS;

    /// What the URL's text tells; its addresses are judged whenever it is connected to.
    fn amend(context: &Context, _caller: &Caller, draft: &mut Draft<'_>) -> Result<(), Fault> {
        let Some(url) = draft.given.get("url").and_then(Value::as_str) else { return Ok(()) };
        context.reach.destination(url).map_err(|why| Fault::invalid("url", why))?;
        Ok(())
    }
}

/// A new secret.
fn mint() -> Secret<String> {
    let mut bytes = [0; RANDOM_BYTES];
    clock::fill_random(&mut bytes);
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

pub(super) async fn create(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let given = sent.members(id)?;
    WEBHOOKS.check(&given, true, caller.is_platform()).map_err(refused)?;
    let secret = mint();
    let sealer = context.composer.borrow().sealer.clone();
    let amend = |draft: &mut Draft<'_>| {
        Webhooks::amend(&context, &caller, draft)?;
        let sealed = webhooks::seal(&sealer, draft.id, (SIGNING, &secret))?;
        let sealed = Members::from_iter([(SIGNING.to_owned(), Value::String(sealed))]);
        draft.given.insert("sealed".to_owned(), Value::Object(sealed));
        Ok(())
    };
    let from = (&context.database, &caller.holder);
    let what = (&WEBHOOKS, Webhooks::place(&caller));
    let row = change::create(from, what, (clock::new_uuid(), given), amend).await;
    Ok(resource::answer_once(&WEBHOOKS, row.map_err(refused)?, ("secret", &secret)))
}

pub(super) async fn rotate(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let of = (caller.tenant()?, caller.item()?);
    let expected = resource::tags(&headers, &header::IF_MATCH);
    let secret = mint();
    let sealer = context.composer.borrow().sealer.clone();
    let from = (&context.database, &caller.holder);
    let rotated = webhooks::rotate(from, of, expected.as_deref(), (&sealer, &secret)).await;
    rotated.map_err(|fault| error::fault(fault, &caller.request_id))?;
    let unstored = [(header::CACHE_CONTROL, "no-store")];
    Ok((unstored, Json(json!({"secret": secret.expose()}))).into_response())
}

/// A delivery, as clients see it.
#[derive(Serialize)]
struct DeliveryView {
    event_id: Uuid,
    call_id: Uuid,
    seq: i32,
    #[serde(rename = "type")]
    kind: String,
    at: Timestamp,
    state: String,
    attempts: i32,
    last_status: Option<i16>,
    last_error: Option<String>,
    last_attempt_at: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            event_id: delivery.event,
            call_id: delivery.call,
            seq: delivery.seq,
            kind: delivery.kind,
            at: delivery.at,
            state: delivery.state,
            attempts: delivery.attempts,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            last_attempt_at: delivery.last_attempt,
            next_attempt_at: delivery.next_attempt,
        }
    }
}

pub(super) async fn deliveries(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let id = &caller.request_id;
    let bad = |_| ErrorKind::BadParameter("the parameters are no text in UTF-8").of(id);
    let Query(query) = query.map_err(bad)?;
    let mut wanted = read_wanted(query).map_err(|what| ErrorKind::BadParameter(what).of(id))?;
    let limit = wanted.limit;
    // One more than asked for tells whether there is a next page.
    wanted.limit = limit.saturating_add(1);
    let from = (&context.database, &caller.holder);
    let of = (caller.tenant()?, caller.item()?);
    let found = deliveries::list(from, of, &wanted).await;
    let mut found = found.map_err(|fault| error::fault(fault, id))?;
    let most = usize::try_from(limit).unwrap_or_default();
    let is_full = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| is_full).map(|last| last.event);
    let views: Vec<_> = found.into_iter().map(DeliveryView::from).collect();
    Ok(Json(json!({"deliveries": views, "next": next})))
}

fn read_wanted(query: Vec<(String, String)>) -> Result<Wanted, &'static str> {
    let mut wanted = Wanted { limit: PAGE, ..Wanted::default() };
    for (name, text) in query {
        let uuid = || Uuid::parse_str(&text);
        match name.as_str() {
            "limit" => {
                let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                wanted.limit = limit.ok_or("`limit` is a number from 1 to 200")?.into();
            }
            "cursor" => {
                wanted.after = Some(uuid().map_err(|_| "`cursor` is the `next` of a page")?);
            }
            "call_id" => {
                wanted.call = Some(uuid().map_err(|_| "`call_id` is the id of a call")?);
            }
            "state" if DELIVERY_STATES.contains(&text.as_str()) => wanted.state = Some(text),
            "state" => return Err("`state` is pending, delivered or dead"),
            _ => return Err("there is no such parameter: limit, cursor, call_id, state"),
        }
    }
    Ok(wanted)
}

/// What shall be told again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayWish {
    events: Option<Vec<Uuid>>,
    state: Option<String>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

pub(super) async fn replay(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let wish: ReplayWish = sent.wish(id)?;
    let said_nothing = "say which: events, state, from or until";
    if let (None, None, None, None) = (&wish.events, &wish.state, wish.from, wish.until) {
        return Err(refused(Fault::invalid("events", said_nothing)));
    }
    if wish.events.as_ref().is_some_and(|events| events.len() > EVENTS_MAX) {
        let why = format!("at most {EVENTS_MAX} at once");
        return Err(refused(Fault::invalid("events", why)));
    }
    if wish.state.as_deref().is_some_and(|state| !["delivered", "dead"].contains(&state)) {
        return Err(refused(Fault::invalid("state", "it is delivered or dead")));
    }
    check_time("from", wish.from).map_err(refused)?;
    check_time("until", wish.until).map_err(refused)?;
    let wish =
        Replay { events: wish.events, state: wish.state, from: wish.from, until: wish.until };
    let from = (&context.database, &caller.holder);
    let of = (caller.tenant()?, caller.item()?);
    let replayed = deliveries::replay(from, of, &wish).await.map_err(refused)?;
    Ok((StatusCode::ACCEPTED, Json(json!({"replayed": replayed}))).into_response())
}
