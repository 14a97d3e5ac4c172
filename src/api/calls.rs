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
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

/// Calls of one page where the request does not say.
const PAGE: u32 = 50;

/// What a list may be narrowed by.
#[derive(Debug, Default)]
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
    /// Those alone that run.
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
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<CallPageView>, ApiError> {
    let id = &caller.request_id;
    let tenant = caller.tenant()?;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(given) = query.map_err(|_| bad("the parameters are no text in UTF-8"))?;
    let query = ListQuery::read(given).map_err(bad)?;
    let after = query.cursor.as_deref().map(str::parse::<CallId>).transpose();
    let after = after.map_err(|_| bad("`cursor` is the `next` of an earlier page"))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad(LIMIT));
    }
    query.check().map_err(|fault| error::fault(fault, id))?;
    if query.live {
        if query.is_narrowed() {
            return Err(bad("with `live` the only other parameters are limit and cursor"));
        }
        let control = context.calls.as_ref().ok_or_else(|| ErrorKind::NoCalls.of(id))?;
        return Ok(Json(running(&context, control, tenant, (after, limit)).await));
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

const LIMIT: &str = "`limit` is a number from 1 to 200";
const FROM: &str =
    "`from` is a time of RFC 3339, such as 2026-01-31T09:00:00Z (a + in it is written %2B)";
const UNTIL: &str =
    "`until` is a time of RFC 3339, such as 2026-01-31T09:00:00Z (a + in it is written %2B)";
const CALLER: &str = "`caller` begins with a space: in an address a + is written %2B";
const DIALLED: &str = "`dialled` begins with a space: in an address a + is written %2B";
const LIST_PARAMETERS: &str = "the parameters are limit (1 to 200), cursor, caller, dialled, cause, \
                               disposition, from and until (RFC 3339 times), and live (true or false)";

/// Whether it is a number whose + became a space.
fn is_unescaped(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next() == Some(' ') && letters.next().is_some_and(|letter| letter.is_ascii_digit())
}

impl ListQuery {
    /// Reads what is given.
    ///
    /// # Errors
    ///
    /// What is wrong with a parameter, beginning with its name.
    fn read(given: Vec<(String, String)>) -> Result<Self, &'static str> {
        let mut query = Self::default();
        let mut names = HashSet::new();
        for (name, text) in given {
            if !names.insert(name.clone()) {
                return Err("a parameter is given once");
            }
            match name.as_str() {
                "limit" => query.limit = Some(text.parse().map_err(|_| LIMIT)?),
                "cursor" => query.cursor = Some(text),
                // No call would be found.
                "caller" if is_unescaped(&text) => return Err(CALLER),
                "dialled" if is_unescaped(&text) => return Err(DIALLED),
                "caller" => query.caller = Some(text),
                "dialled" => query.dialled = Some(text),
                "cause" => query.cause = Some(text),
                "disposition" => query.disposition = Some(text),
                "from" => query.from = Some(text.parse().map_err(|_| FROM)?),
                "until" => query.until = Some(text.parse().map_err(|_| UNTIL)?),
                "live" => query.live = text.parse().map_err(|_| "`live` is true or false")?,
                _ => return Err(LIST_PARAMETERS),
            }
        }
        Ok(query)
    }

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

/// How long the database may take to say what runs elsewhere.
const ELSEWHERE_MAX: Duration = Duration::from_secs(1);

/// The calls of a tenant that run, the newest first: those of this node as they themselves know it, those of others as
/// they are stored. Where the database does not say, those of this node alone.
async fn running(
    context: &Context,
    control: &CallControl,
    tenant: TenantId,
    (after, limit): (Option<CallId>, u32),
) -> CallPageView {
    let whose = (&context.database, context.placing.node());
    let asked = calls::running_elsewhere(whose, tenant, (after, limit.saturating_add(1)));
    let (elsewhere, (here, next_here)) =
        tokio::join!(within(ELSEWHERE_MAX, asked), control.running(tenant, after, limit as usize),);
    let elsewhere = elsewhere.unwrap_or_else(|error| {
        tracing::debug!(%error, "which calls run at other nodes is not known");
        Vec::new()
    });
    let is_full = elsewhere.len() > limit as usize;
    let next_elsewhere = elsewhere.last().map(|call| call.id).filter(|_| is_full);
    let view = |snapshot: &Snapshot| {
        let record = snapshot.record.as_deref()?;
        let mut view = CallView::of(running_call::stored(record));
        view.catch_up(snapshot);
        Some((record.id, view))
    };
    let mut all: Vec<_> = here.iter().filter_map(view).collect();
    // A record of before may not say whose it is.
    let elsewhere = elsewhere.into_iter().filter(|call| !control.is_running(tenant, call.id));
    all.extend(elsewhere.map(|call| (call.id, CallView::of(call))));
    let (calls, next) = merged(all, next_here.max(next_elsewhere), limit as usize);
    CallPageView { calls, next: next.map(|next| next.to_string()) }
}

/// A page of what two sources told, the newest first, and where the next one begins. All is known down to the call
/// `known_to`, itself with it; `None`: all there is.
fn merged<T>(
    mut all: Vec<(CallId, T)>,
    known_to: Option<CallId>,
    limit: usize,
) -> (Vec<T>, Option<CallId>) {
    all.retain(|(id, _)| known_to.is_none_or(|to| *id >= to));
    all.sort_unstable_by_key(|(id, _)| Reverse(*id));
    let mut next = known_to;
    if all.len() > limit {
        all.truncate(limit);
        next = all.last().map(|(id, _)| *id);
    }
    (all.into_iter().map(|(_, one)| one).collect(), next)
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

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(number: u32) -> CallId {
        CallId::from_uuid(Uuid::from_u128(number.into()))
    }

    /// The pages of what two sources have that each tell `limit` at most, as [`running`] asks them.
    fn pages(sources: [&[u32]; 2], limit: usize) -> Vec<Vec<u32>> {
        let mut pages = Vec::new();
        let mut after: Option<CallId> = None;
        loop {
            let mut all = Vec::new();
            let mut known_to: Option<CallId> = None;
            for source in sources {
                let behind = |number: &u32| after.is_none_or(|after| id(*number) < after);
                let rest: Vec<u32> = source.iter().copied().filter(behind).collect();
                let told = rest.get(..limit).unwrap_or(&rest);
                let is_more = rest.len() > limit;
                known_to = known_to.max(told.last().map(|last| id(*last)).filter(|_| is_more));
                all.extend(told.iter().map(|number| (id(*number), *number)));
            }
            let (page, next) = merged(all, known_to, limit);
            assert!(page.len() <= limit && pages.len() < 20, "{page:?}");
            pages.push(page);
            after = next;
            if next.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_of_two_sources_have_each_call_once_and_in_order() {
        let here: &[u32] = &[9, 8, 4, 1];
        let elsewhere: &[u32] = &[7, 6, 5, 3, 2];
        let none: &[u32] = &[];
        for sources in [[here, elsewhere], [elsewhere, here], [here, none], [none, elsewhere]] {
            let mut expected = sources.concat();
            expected.sort_unstable_by_key(|number| Reverse(*number));
            for limit in 1..12 {
                assert_eq!(pages(sources, limit).concat(), expected, "{sources:?} by {limit}");
            }
        }
        assert_eq!(pages([here, elsewhere], 3)[0], [9, 8, 7]);
        assert_eq!(pages([none, none], 1), vec![Vec::<u32>::new()]);
        // Here 9 and 8 were found, and more are behind; 8 ended meanwhile. What is between is for the next page.
        let all = vec![(id(3), 3), (id(9), 9)];
        assert_eq!(merged(all, Some(id(8)), 2), (vec![9], Some(id(8))));
    }
}
