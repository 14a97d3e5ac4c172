//! A number's personal data: exported and erased.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::store::privacy;
use crate::types::number::E164;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
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

type Wish = Result<Json<NumberWish>, JsonRejection>;

pub(super) async fn export(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    wish: Wish,
) -> Result<Json<ExportView>, ApiError> {
    let number = number(&caller, wish)?;
    let whose = (&caller.holder, caller.tenant()?);
    let found = privacy::export(&context.database, whose, number).await;
    let found = found.map_err(|fault| error::fault(fault, &caller.request_id))?;
    Ok(Json(ExportView { found }))
}

pub(super) async fn erase(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    wish: Wish,
) -> Result<Json<ErasedView>, ApiError> {
    let number = number(&caller, wish)?;
    let whose = (&caller.holder, caller.tenant()?);
    let rows = privacy::erase(&context.database, whose, number).await;
    let rows = rows.map_err(|fault| error::fault(fault, &caller.request_id))?;
    Ok(Json(ErasedView { rows }))
}

fn number(caller: &Caller, wish: Wish) -> Result<E164, ApiError> {
    let bad =
        ErrorKind::BadParameter("the body is a JSON object with number, in the international form");
    let number = wish.ok().and_then(|Json(wish)| wish.number.parse().ok());
    number.ok_or_else(|| bad.of(&caller.request_id))
}
