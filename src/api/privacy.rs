//! A number's personal data: exported and erased.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::wish::Sent;
use crate::store::privacy;
use crate::store::resource::Fault;
use crate::types::number::E164;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// Whose data is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumberWish {
    /// In the international form.
    number: String,
}

/// What was erased.
#[derive(Serialize)]
pub(super) struct ErasedView {
    /// Rows that were changed or deleted.
    rows: i64,
}

/// What there is.
#[derive(Serialize)]
pub(super) struct ExportView {
    /// Rows by table.
    found: Value,
}

pub(super) async fn export(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Json<ExportView>, ApiError> {
    let number = number(&caller, sent)?;
    let whose = (&caller.holder, caller.tenant()?);
    let found = privacy::export(&context.database, whose, number).await;
    let found = found.map_err(|fault| error::fault(fault, &caller.request_id))?;
    Ok(Json(ExportView { found }))
}

pub(super) async fn erase(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Json<ErasedView>, ApiError> {
    let number = number(&caller, sent)?;
    let whose = (&caller.holder, caller.tenant()?);
    let rows = privacy::erase(&context.database, whose, number).await;
    let (rows, calls) = rows.map_err(|fault| error::fault(fault, &caller.request_id))?;
    // Other nodes hear of it from the database.
    calls.iter().for_each(|call| context.traces.forget(*call));
    context.events.forget(&calls);
    Ok(Json(ErasedView { rows }))
}

fn number(caller: &Caller, sent: Sent) -> Result<E164, ApiError> {
    let id = &caller.request_id;
    let why = "it is a number in the international form";
    let number = sent.wish::<NumberWish>(id)?.number.parse();
    number.map_err(|_| error::fault(Fault::invalid("number", why), id))
}
