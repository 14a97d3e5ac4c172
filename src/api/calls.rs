//! Call records of a tenant: list and get.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::call_notes::RECORD_PERIOD;
use crate::api::call_notes::RECORD_TRIES;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::views::CallDetailView;
use crate::api::views::CallView;
use crate::clock;
use crate::store::calls;
use crate::store::calls::CallFilter;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use axum::Extension;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// Calls of one page where the request does not say.
const PAGE: u32 = 50;

/// What a list may be narrowed by.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Calls of one page, 1 to 200.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// The caller, as claimed.
    caller: Option<String>,
    /// The dialled number, in the international form.
    dialled: Option<String>,
    /// Why it ended.
    cause: Option<String>,
    /// How it was filed.
    disposition: Option<String>,
    /// Arrived at or after, RFC 3339.
    from: Option<Timestamp>,
    /// Arrived before, RFC 3339.
    until: Option<Timestamp>,
}

#[derive(Serialize)]
pub(super) struct CallPageView {
    calls: Vec<CallView>,
    /// The cursor of the next page; null at the end.
    next: Option<String>,
}

pub(super) async fn list(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<CallPageView>, ApiError> {
    let id = &caller.request_id;
    let tenant = caller.tenant()?;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(query) = query.map_err(|_| bad(LIST_PARAMETERS))?;
    let after = query.cursor.as_deref().map(str::parse::<CallId>).transpose();
    let after = after.map_err(|_| bad("`cursor` is the `next` of an earlier page"))?;
    let filter = CallFilter {
        caller: query.caller,
        dialled: query.dialled,
        cause: query.cause,
        disposition: query.disposition,
        from: query.from,
        until: query.until,
    };
    let limit = query.limit.unwrap_or(PAGE);
    let page = calls::list(&context.database, tenant, &filter, after, limit)
        .await
        .map_err(|error| error::database(&error, id))?;
    Ok(Json(CallPageView {
        calls: page.calls.into_iter().map(CallView::of).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

const LIST_PARAMETERS: &str = "the parameters are limit (1 to 200), cursor, caller, dialled, cause, \
                               disposition, from and until (RFC 3339 times)";

pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<CallDetailView>, ApiError> {
    let key = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    detail(&context, &caller, key).await.map(Json)
}

/// A call as its record has it, and as it stands where it runs.
pub(super) async fn detail(
    context: &Context,
    caller: &Caller,
    (tenant, call): (TenantId, CallId),
) -> Result<CallDetailView, ApiError> {
    let id = &caller.request_id;
    for _ in 0..RECORD_TRIES {
        // Before the record: what the call has reported by then is in neither otherwise.
        let live = match &context.calls {
            Some(control) => control.look(tenant, call).await.ok(),
            None => None,
        };
        let found = calls::get(&context.database, tenant, call).await;
        match found.map_err(|error| error::database(&error, id))? {
            Some((stored, events)) => {
                let live = live.filter(|_| stored.times.ended.is_none());
                return Ok(CallDetailView::of(stored, events, live.as_ref()));
            }
            None if live.is_none() => break,
            None => {
                // A call that has just begun is on its way to the database.
                let later = clock::instant(clock::now() + RECORD_PERIOD);
                tokio::time::sleep_until(later.into()).await;
            }
        }
    }
    Err(ErrorKind::NotFound("this tenant has no such call").of(id))
}

/// True while a call of the tenant runs here.
pub(super) async fn is_running(context: &Context, (tenant, call): (TenantId, CallId)) -> bool {
    match &context.calls {
        Some(control) => control.look(tenant, call).await.is_ok(),
        None => false,
    }
}
