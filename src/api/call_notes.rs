//! What applications say of calls, running or over: disposition, outcome, summary, variables.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::calls;
use crate::api::elsewhere;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource;
use crate::clock;
use crate::engine::errand::VariableChange;
use crate::store::call_notes;
use crate::store::call_notes::CallNotes;
use crate::store::call_notes::Noted;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::types::header::CallVariables;
use crate::types::header::FieldValue;
use crate::types::header::VariableName;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::CALL_VARIABLES_MAX;
use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// Longest disposition and outcome, and longest summary, in characters.
const WORD_MAX: usize = 64;
const SUMMARY_MAX: usize = 10_000;

/// How long the record of a call that has just begun is waited for, and how often it is looked for.
pub(super) const RECORD_TRIES: u32 = 40;
pub(super) const RECORD_PERIOD: Duration = Duration::from_millis(50);

pub(super) async fn update(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let (tenant, call) = (caller.tenant()?, CallId::from_uuid(caller.item()?));
    let expected = resource::tags(&headers, &header::IF_MATCH);
    let given = resource::members(&headers, body, id)?;
    let notes = read(given).map_err(|fault| error::fault(fault, id))?;
    put(&context, &caller, (tenant, call), (&notes, expected.as_deref())).await?;
    if !notes.variables.is_empty() {
        tell(&context, (tenant, call), &notes.variables).await;
        elsewhere::change_variables(&context, &caller, (tenant, call), &notes.variables).await?;
    }
    calls::shown(&context, &caller, (tenant, call)).await
}

/// Tells a call that runs here how its variables changed. One that ended meanwhile has nobody to tell.
async fn tell(context: &Context, (tenant, call): (TenantId, CallId), all: &Members) {
    if let Some(control) = &context.calls {
        drop(control.set_variables(tenant, call, change_of(all)).await);
    }
}

/// The same, as another node says that changed the record.
pub(super) async fn hear(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Json(changed): Json<Members>,
) -> Result<Json<Value>, ApiError> {
    check_variables(&changed).map_err(|fault| error::fault(fault, &caller.request_id))?;
    tell(&context, (caller.tenant()?, CallId::from_uuid(caller.item()?)), &changed).await;
    Ok(Json(json!({})))
}

async fn put(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
    (notes, expected): (&CallNotes, Option<&[String]>),
) -> Result<(), ApiError> {
    let id = &caller.request_id;
    let from = (&context.database, &caller.holder);
    for _ in 0..RECORD_TRIES {
        let put = call_notes::put(from, key, notes.clone(), expected).await;
        match put.map_err(|failed| error::database(&failed, id))? {
            Noted::Done => return Ok(()),
            Noted::Stale => return Err(ErrorKind::Stale.of(id)),
            Noted::Full => return Err(error::fault(too_many_variables(), id)),
            Noted::NoCall => {}
        }
        // A call that has just begun is on its way to the database.
        if !calls::is_running(context, key).await {
            return Err(ErrorKind::NotFound("this tenant has no such call").of(id));
        }
        let later = clock::instant(clock::now() + RECORD_PERIOD);
        tokio::time::sleep_until(later.into()).await;
    }
    Err(ErrorKind::CallBusy.of(id))
}

fn read(given: Members) -> Result<CallNotes, Fault> {
    let mut notes = CallNotes::default();
    for (name, value) in given {
        match name.as_str() {
            "disposition" => notes.disposition = Some(text(&name, value, WORD_MAX)?),
            "outcome" => notes.outcome = Some(text(&name, value, WORD_MAX)?),
            "summary" => notes.summary = Some(text(&name, value, SUMMARY_MAX)?),
            "variables" => {
                let Value::Object(all) = value else {
                    return Err(Fault::invalid(name, "it is an object of texts"));
                };
                check_variables(&all)?;
                notes.variables = all;
            }
            _ => return Err(Fault::invalid(name, "a call has no such field that can be changed")),
        }
    }
    Ok(notes)
}

fn text(name: &str, value: Value, most: usize) -> Result<Option<String>, Fault> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err(Fault::invalid(name, "it is a text, or null")),
    };
    let is_long = text.chars().count() > most;
    if is_long || text.trim().is_empty() || text.contains('\0') {
        return Err(Fault::invalid(name, format!("it is a text of 1 to {most} characters")));
    }
    Ok(Some(text))
}

fn too_many_variables() -> Fault {
    Fault::invalid("variables", format!("a call has at most {CALL_VARIABLES_MAX}"))
}

/// Refuses what is no variable; null takes one away.
fn check_variables(all: &Members) -> Result<(), Fault> {
    if all.len() > CALL_VARIABLES_MAX {
        return Err(too_many_variables());
    }
    for (name, value) in all {
        let field = || format!("variables.{name}");
        name.parse::<VariableName>().map_err(|why| Fault::invalid(field(), why.to_string()))?;
        match value {
            Value::Null => (),
            Value::String(text) => {
                let read = text.parse::<FieldValue>();
                read.map_err(|why| Fault::invalid(field(), why.to_string()))?;
            }
            _ => return Err(Fault::invalid(field(), "it is a text, or null")),
        }
    }
    Ok(())
}

/// What was checked, as the running call is told of it.
fn change_of(all: &Members) -> VariableChange {
    let mut change = VariableChange::default();
    for (name, value) in all {
        let Ok(name) = name.parse() else { continue };
        match value.as_str().map(str::parse) {
            Some(Ok(value)) => {
                // No more than were checked.
                let _room = change.set.set(name, value);
            }
            Some(Err(_)) => {}
            None => change.removed.push(name),
        }
    }
    change
}

/// The variables of a call that is asked for.
pub(super) fn variables(all: &Members) -> Result<CallVariables, Fault> {
    check_variables(all)?;
    Ok(change_of(all).set)
}
