//! Call records of a tenant: list and get.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::call_notes::RECORD_PERIOD;
use crate::api::call_notes::RECORD_TRIES;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::views::CallDetailView;
use crate::api::views::CallView;
use crate::clock;
use crate::engine::errand::Snapshot;
use crate::engine::originate::CallControl;
use crate::store::calls;
use crate::store::calls::CallFilter;
use crate::store::calls::PAGE_MAX;
use crate::store::database::within;
use crate::store::resource::Fault;
use crate::store::resource::field::check_time;
use crate::store::running_call;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use axum::Extension;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

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
    /// Those alone that run on this node.
    #[serde(default)]
    live: bool,
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
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad("`limit` is a number from 1 to 200"));
    }
    query.check().map_err(|fault| error::fault(fault, id))?;
    if query.live {
        if query.is_narrowed() {
            return Err(bad("with `live` the only other parameters are limit and cursor"));
        }
        let control = context.calls.as_ref().ok_or_else(|| ErrorKind::NoCalls.of(id))?;
        return Ok(Json(running(control, tenant, after, limit).await));
    }
    let filter = CallFilter {
        caller: query.caller,
        dialled: query.dialled,
        cause: query.cause,
        disposition: query.disposition,
        from: query.from,
        until: query.until,
    };
    let page = calls::list(&context.database, tenant, &filter, after, limit)
        .await
        .map_err(|error| error::database(&error, id))?;
    Ok(Json(CallPageView {
        calls: page.calls.into_iter().map(CallView::of).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

const LIST_PARAMETERS: &str = "the parameters are limit (1 to 200), cursor, caller, dialled, cause, \
                               disposition, from and until (RFC 3339 times), and live (true or false)";

impl ListQuery {
    /// Refuses what no record has, and the database does not take.
    fn check(&self) -> Result<(), Fault> {
        let texts = [
            ("caller", &self.caller),
            ("dialled", &self.dialled),
            ("cause", &self.cause),
            ("disposition", &self.disposition),
        ];
        for (name, text) in texts {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(Fault::invalid(name, "it has a NUL"));
            }
        }
        check_time("from", self.from)?;
        check_time("until", self.until)
    }

    const fn is_narrowed(&self) -> bool {
        self.caller.is_some()
            || self.dialled.is_some()
            || self.cause.is_some()
            || self.disposition.is_some()
            || self.from.is_some()
            || self.until.is_some()
    }
}

/// The calls of a tenant that run here, the newest first, as they themselves know it. The database is not asked.
async fn running(
    control: &CallControl,
    tenant: TenantId,
    after: Option<CallId>,
    limit: u32,
) -> CallPageView {
    let (found, next) = control.running(tenant, after, limit as usize).await;
    let view = |snapshot: &Snapshot| {
        let mut view = CallView::of(running_call::stored(snapshot.record.as_deref()?));
        view.catch_up(snapshot);
        Some(view)
    };
    let calls = found.iter().filter_map(view).collect();
    CallPageView { calls, next: next.map(|next| next.to_string()) }
}

pub(super) async fn show(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    shown(&context, &caller, (caller.tenant()?, CallId::from_uuid(caller.item()?))).await
}

/// The same, as the node shows it where it runs.
pub(super) async fn shown(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
) -> Result<Response, ApiError> {
    if let Some(shown) = elsewhere::shown(context, caller, key).await {
        return Ok(shown);
    }
    detail(context, caller, key).await.map(CallDetailView::answer)
}

/// How long the record of a call that runs here is waited for; what is in memory is shown then.
const RECORD_MAX: Duration = Duration::from_secs(3);

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
        let found = within(RECORD_MAX, calls::get(&context.database, tenant, call)).await;
        let running = live.as_ref().and_then(|live| Some((live.snapshot.record.as_ref()?, live)));
        let found = match (found, running) {
            (Ok(found), _) => found,
            // What the record has not, the call itself knows.
            (Err(_), Some((record, live))) => return Ok(CallDetailView::of_running(record, live)),
            (Err(failed), None) => return Err(error::database(&failed, id)),
        };
        match found {
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
