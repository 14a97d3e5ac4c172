//! API keys: made, shown once, revoked.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::api::wish::Sent;
use crate::clock;
use crate::store::api_keys;
use crate::store::api_keys::API_KEYS;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyRole;
use crate::store::api_keys::KeyScope;
use crate::store::api_keys::KeyWish;
use crate::store::api_keys::NewKey;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::types::id::ApiKeyId;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Longest time for which a key that was rotated still opens: a week.
const KEEP_S_MAX: u64 = 604_800;

pub(super) struct Keys;

impl Noun for Keys {
    const RESOURCE: &'static Resource = &API_KEYS;

    /// Roles are stored without whose they are, and shown with it.
    async fn complete(
        _context: &Context,
        caller: &Caller,
        mut rows: Vec<Row>,
    ) -> Result<Vec<Row>, Fault> {
        for row in &mut rows {
            let role = row.members.get("role").and_then(Value::as_str);
            let Some(role) = role.and_then(|role| role.parse::<KeyRole>().ok()) else { continue };
            let name = KeyHolder::role_name(scope(caller), role);
            row.members.insert("role".to_owned(), Value::from(name));
        }
        Ok(rows)
    }
}

/// Whose keys the path means.
fn scope(caller: &Caller) -> KeyScope {
    caller.tenant.map_or(KeyScope::AllTenants, KeyScope::Tenant)
}

pub(super) async fn create(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let given = sent.members(id)?;
    API_KEYS.check(&given, true, caller.is_platform()).map_err(refused)?;
    let wish = wish(&caller, &given).map_err(refused)?;
    let made = api_keys::create_by(&context.database, &wish, Some(caller.holder.id)).await;
    show_once(&context, &caller, made.map_err(refused)?).await
}

/// Answers with a new key, which nobody is shown again.
async fn show_once(
    context: &Context,
    caller: &Caller,
    (made, row): (NewKey, Row),
) -> Result<Response, ApiError> {
    let refused = |fault| error::fault(fault, &caller.request_id);
    let rows = Keys::complete(context, caller, vec![row]).await;
    let row = rows.map_err(refused)?.into_iter().next();
    let row = row.ok_or_else(|| refused(Fault::Missing(API_KEYS.name)))?;
    Ok(resource::answer_once(&API_KEYS, row, ("key", &made.key)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationWish {
    /// Seconds for which the old key opens what it did.
    #[serde(default)]
    keep_s: u64,
}

pub(super) async fn rotate(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let wish: RotationWish = sent.wish(id)?;
    if wish.keep_s > KEEP_S_MAX {
        let why = format!("it is a number of seconds from 0 to {KEEP_S_MAX}");
        return Err(refused(Fault::invalid("keep_s", why)));
    }
    let key = ApiKeyId::from_uuid(caller.item()?);
    let keep = Duration::from_secs(wish.keep_s);
    let by = Some(caller.holder.id);
    let expected = resource::tags(&headers, &header::IF_MATCH);
    let (of, how) = ((scope(&caller), key), (keep, expected.as_deref()));
    let made = api_keys::rotate_by(&context.database, of, how, by).await.map_err(refused)?;
    show_once(&context, &caller, made).await
}

fn wish<'a>(caller: &Caller, given: &'a Members) -> Result<KeyWish<'a>, Fault> {
    let text = |name| given.get(name).and_then(Value::as_str);
    let scope = scope(caller);
    let role = scope.role_of(text("role").unwrap_or_default()).ok_or_else(|| {
        let whose = if caller.tenant.is_some() { "a tenant" } else { "the platform" };
        Fault::invalid("role", format!("keys of {whose} have no such role"))
    })?;
    let expires: Option<Timestamp> = text("expires_at").and_then(|time| time.parse().ok());
    if expires.is_some_and(|expires| expires <= clock::wall_now()) {
        return Err(Fault::invalid("expires_at", "it is over"));
    }
    Ok(KeyWish { scope, role, label: text("label").unwrap_or_default(), expires })
}

pub(super) async fn revoke(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let id = &caller.request_id;
    let key = ApiKeyId::from_uuid(caller.item()?);
    let by = Some(caller.holder.id);
    let expected = resource::tags(&headers, &header::IF_MATCH);
    let of = (scope(&caller), key);
    let revoked = api_keys::revoke_by(&context.database, of, expected.as_deref(), by).await;
    revoked.map_err(|fault| error::fault(fault, id))?;
    Ok(StatusCode::NO_CONTENT)
}
