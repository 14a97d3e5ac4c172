//! The sampled log of sources that no trunk lists, each with the trunk it most likely belongs to.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::routing::hint::Hint;
use crate::routing::hint::likely_trunk;
use crate::routing::table::RoutingTable;
use crate::store::refused_sources;
use crate::store::refused_sources::RefusedSource;
use crate::store::resource::read::PAGE_MAX;
use crate::types::number::E164;
use axum::Extension;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::net::IpAddr;
use std::net::SocketAddr;
use uuid::Uuid;

/// Records of one page where the request does not say.
const PAGE: u32 = 50;
const PARAMETERS: &str =
    "the parameters are limit (1 to 200) and cursor (`next` of an earlier page)";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct PageView {
    refused_sources: Vec<RefusedView>,
    /// The cursor of the next page; null at the end.
    next: Option<String>,
}

/// An INVITE of a source that no trunk lists: one a source a minute is recorded.
#[derive(Debug, Serialize)]
struct RefusedView {
    id: String,
    at: Timestamp,
    /// The address and port it came from.
    source: Option<String>,
    transport: Option<String>,
    caller: String,
    dialled: String,
    /// Whether it was told 403; else nothing was answered.
    answered: bool,
    decision: Value,
    /// Null: nothing speaks for any trunk.
    hint: Option<HintView>,
}

#[derive(Debug, Serialize)]
struct HintView {
    trunk_id: String,
    trunk: String,
    tenant_id: Option<String>,
    reason: &'static str,
    /// What to do, for people.
    advice: String,
}

pub(super) async fn list(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<PageView>, ApiError> {
    let id = &caller.request_id;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(query) = query.map_err(|_| bad(PARAMETERS))?;
    let limit = query.limit.as_deref().map_or(Ok(PAGE), str::parse::<u32>);
    let limit = limit.ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    let limit = limit.ok_or_else(|| bad("`limit` is a number from 1 to 200"))?;
    let cursor = query.cursor.as_deref().map(Uuid::parse_str).transpose();
    let cursor = cursor.map_err(|_| bad("`cursor` is the `next` of an earlier page"))?;
    let rows = refused_sources::list(&context.database, cursor, limit).await;
    let (rows, next) = rows.map_err(|failed| error::database(&failed, id))?;
    let table = context.trunks.table();
    let refused_sources = rows.into_iter().map(|row| RefusedView::of(row, &table)).collect();
    Ok(Json(PageView { refused_sources, next: next.map(|next| next.to_string()) }))
}

impl RefusedView {
    fn of(row: RefusedSource, table: &RoutingTable) -> Self {
        let source = row.source.as_deref().and_then(|text| text.parse::<SocketAddr>().ok());
        let address = source.map(|source| source.ip().to_canonical());
        let hint = address.and_then(|address| {
            let hint = likely_trunk(table, address, number_in(table, &row.dialled))?;
            Some(HintView::of(&hint, address))
        });
        Self {
            id: row.id.to_string(),
            at: row.at.0,
            source: row.source,
            transport: row.transport,
            caller: row.caller,
            dialled: row.dialled,
            answered: row.sip_status.is_some(),
            decision: row.decision,
            hint,
        }
    }
}

/// The number that was dialled, as far as it can be told without the rules of a trunk.
fn number_in(table: &RoutingTable, dialled: &str) -> Option<E164> {
    let plain = dialled.parse().ok();
    let forms = plain.into_iter().chain(format!("+{dialled}").parse().ok());
    let mut known = forms.filter(|number| table.number(*number).is_some());
    known.next()
}

impl HintView {
    fn of(hint: &Hint, address: IpAddr) -> Self {
        let size = if address.is_ipv4() { 32 } else { 128 };
        let name = &hint.trunk.name;
        let advice = format!(
            "{}: if the carrier confirms the address, add {address}/{size} to inbound.source_cidrs of trunk \
             {name}",
            hint.why
        );
        Self {
            trunk_id: hint.trunk.id.to_string(),
            trunk: name.clone(),
            tenant_id: hint.trunk.tenant.map(|tenant| tenant.to_string()),
            reason: hint.why.as_str(),
            advice,
        }
    }
}
