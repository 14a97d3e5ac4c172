//! What all resources share: lists, single ones, creation, change, deletion.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::secrets;
use crate::clock;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::change;
use crate::store::resource::change::Draft;
use crate::store::resource::read;
use crate::store::resource::read::Filter;
use crate::types::secret::Secret;
use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::error::Category;
use serde_json::json;
use std::future::Future;
use std::future::ready;
use uuid::Uuid;

/// Rows of one page where the request does not say.
const PAGE: u32 = 50;
/// Up to here every whole number is one of a float, 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A resource of the API.
pub(super) trait Noun: Send + Sync + 'static {
    /// What it is made of.
    const RESOURCE: &'static Resource;
    /// Whether it is shown with how it stands at this moment, which is no change of its row: who has the row has not
    /// seen that.
    const IS_LIVE: bool = false;

    /// Whose rows the caller means.
    fn place(caller: &Caller) -> Place {
        caller.tenant.map_or(Place::Shared, Place::Of)
    }

    /// Whose rows the caller is shown.
    fn seen(caller: &Caller) -> Place {
        Self::place(caller)
    }

    /// Judges a change as a whole, or adds to it what clients do not give.
    fn amend(_context: &Context, _caller: &Caller, _draft: &mut Draft<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// Adds to rows what is not in the database's row.
    fn complete(
        _context: &Context,
        _caller: &Caller,
        rows: Vec<Row>,
    ) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send {
        ready(Ok(rows))
    }
}

pub(super) async fn list<N: Noun>(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let bad = |_| ErrorKind::BadParameter("the parameters are no text in UTF-8").of(id);
    let Query(query) = query.map_err(bad)?;
    let wanted = Wanted::of(N::RESOURCE, query).map_err(refused)?;
    let from = (&context.database, &caller.holder);
    let what = (N::RESOURCE, N::seen(&caller));
    let page = read::list(from, what, wanted.filter, wanted.after, wanted.limit).await;
    let page = page.map_err(refused)?;
    let rows = N::complete(&context, &caller, page.rows).await.map_err(refused)?;
    let rows: Vec<_> = rows.into_iter().map(|row| view(N::RESOURCE, row)).collect();
    let mut members = Members::new();
    members.insert(N::RESOURCE.plural.to_owned(), Value::Array(rows));
    members.insert("next".to_owned(), json!(page.next.map(|next| next.to_string())));
    Ok(Json(Value::Object(members)))
}

pub(super) async fn show<N: Noun>(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let item = caller.item()?;
    show_item::<N>(&context, &caller, item, &headers).await
}

/// The answer with one row, or 304 where the client has all of it.
pub(super) async fn show_item<N: Noun>(
    context: &Context,
    caller: &Caller,
    item: Uuid,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let what = (N::RESOURCE, N::seen(caller));
    let row = read::get(&context.database, &caller.holder, what, item).await.map_err(refused)?;
    let known = tags(headers, &header::IF_NONE_MATCH).filter(|_| !N::IS_LIVE);
    if known.is_some_and(|tags| tags.contains(&row.tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag(&row))]).into_response());
    }
    let rows = N::complete(context, caller, vec![row]).await.map_err(refused)?;
    let row = rows.into_iter().next();
    let row = row.ok_or_else(|| refused(Fault::Missing(N::RESOURCE.name)))?;
    Ok(answer(N::RESOURCE, StatusCode::OK, row))
}

pub(super) async fn create<N: Noun>(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let mut given = members(&headers, body, id)?;
    let new = clock::new_uuid();
    let secrets = take_secrets::<N>(&mut given).map_err(refused)?;
    N::RESOURCE.check(&given, true, caller.is_platform()).map_err(refused)?;
    let what = (N::RESOURCE, N::place(&caller));
    let from = (&context.database, &caller.holder);
    let amend = |draft: &mut Draft<'_>| {
        secrets::seal(&context, &secrets, draft)?;
        N::amend(&context, &caller, draft)
    };
    let row = change::create(from, what, (new, given), amend).await.map_err(refused)?;
    let rows = N::complete(&context, &caller, vec![row]).await.map_err(refused)?;
    let row = rows.into_iter().next();
    let row = row.ok_or_else(|| refused(Fault::Missing(N::RESOURCE.name)))?;
    Ok(answer(N::RESOURCE, StatusCode::CREATED, row))
}

pub(super) async fn update<N: Noun>(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let item = caller.item()?;
    update_item::<N>(&context, &caller, item, (&headers, body)).await
}

/// Changes one row as the body says.
pub(super) async fn update_item<N: Noun>(
    context: &Context,
    caller: &Caller,
    item: Uuid,
    (headers, body): (&HeaderMap, Result<Bytes, BytesRejection>),
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let mut given = members(headers, body, id)?;
    let secrets = take_secrets::<N>(&mut given).map_err(refused)?;
    N::RESOURCE.check(&given, false, caller.is_platform()).map_err(refused)?;
    let what = (N::RESOURCE, N::place(caller));
    let from = (&context.database, &caller.holder);
    let expected = tags(headers, &header::IF_MATCH);
    let amend = |draft: &mut Draft<'_>| {
        secrets::seal(context, &secrets, draft)?;
        N::amend(context, caller, draft)
    };
    let row = change::update(from, what, (item, given), expected.as_deref(), amend).await;
    let rows = N::complete(context, caller, vec![row.map_err(refused)?]).await.map_err(refused)?;
    let row = rows.into_iter().next();
    let row = row.ok_or_else(|| refused(Fault::Missing(N::RESOURCE.name)))?;
    Ok(answer(N::RESOURCE, StatusCode::OK, row))
}

pub(super) async fn delete<N: Noun>(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let item = caller.item()?;
    delete_item::<N>(&context, &caller, item, &headers).await
}

/// Deletes one row.
pub(super) async fn delete_item<N: Noun>(
    context: &Context,
    caller: &Caller,
    item: Uuid,
    headers: &HeaderMap,
) -> Result<StatusCode, ApiError> {
    let what = (N::RESOURCE, N::place(caller));
    let from = (&context.database, &caller.holder);
    let expected = tags(headers, &header::IF_MATCH);
    let deleted = change::delete(from, what, item, expected.as_deref()).await;
    deleted.map_err(|fault| error::fault(fault, &caller.request_id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a list is asked for.
struct Wanted {
    filter: Filter,
    after: Option<Uuid>,
    limit: u32,
}

impl Wanted {
    fn of(resource: &'static Resource, query: Vec<(String, String)>) -> Result<Self, Fault> {
        let mut wanted = Self { filter: Filter::default(), after: None, limit: PAGE };
        for (name, text) in query {
            let field = resource.field(&name).filter(|field| field.is_filter);
            match (name.as_str(), field) {
                ("limit", _) => {
                    let limit =
                        text.parse().ok().filter(|limit| (1..=read::PAGE_MAX).contains(limit));
                    let why = format!("it is a number from 1 to {}", read::PAGE_MAX);
                    wanted.limit = limit.ok_or_else(|| Fault::invalid("limit", why))?;
                }
                ("cursor", _) => {
                    let after = Uuid::parse_str(&text).map_err(|_| {
                        Fault::invalid("cursor", "it is the `next` of an earlier page")
                    })?;
                    wanted.after = Some(after);
                }
                ("number", _) if resource.table == "phone_numbers" => {
                    let number = text.parse().map_err(|_| {
                        Fault::invalid("number", "it is a number in the international form")
                    })?;
                    wanted.filter.holds = Some(number);
                }
                (_, Some(field)) => wanted.filter.equal(field, &text)?,
                (_, None) => {
                    let why = format!("lists of {} have no such parameter", resource.plural);
                    return Err(Fault::invalid(name, why));
                }
            }
        }
        Ok(wanted)
    }
}

/// The members of a body that is a JSON object.
pub(super) fn members(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    id: &RequestId,
) -> Result<Members, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge.of(id),
        _ => ErrorKind::BadBody("the body did not come whole").of(id),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !["application/json", "application/merge-patch+json"].contains(&kind) {
        return Err(ErrorKind::NotJson("the body is of type application/json").of(id));
    }
    let members = serde_json::from_slice(&body);
    let mut members: Members =
        members.map_err(|fault| ErrorKind::BadBody("").about(None, no_object(&fault), id))?;
    write_whole_numbers(&mut members);
    Ok(members)
}

/// Why a body is no JSON object: where it goes wrong, and nothing of what is there, which may be a secret.
fn no_object(fault: &serde_json::Error) -> String {
    match fault.classify() {
        Category::Data => "the body is no JSON object, but another value".to_owned(),
        Category::Syntax | Category::Eof | Category::Io => {
            let (line, column) = (fault.line(), fault.column());
            format!("the body is no JSON: see line {line}, column {column}")
        }
    }
}

/// Writes 20.0 as 20: in JSON Schema, and in languages with one kind of numbers, they are the same. What is
/// deeper is left as it came: it may be no number of ours.
pub(super) fn write_whole_numbers(members: &mut Members) {
    for value in members.values_mut() {
        let whole = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0);
        if let Some(whole) = whole.filter(|number| number.abs() < WHOLE_MAX) {
            *value = Value::from(whole as i64);
        }
    }
}

/// Takes the secrets out of what was given: they are no field, since they are never shown.
fn take_secrets<N: Noun>(given: &mut Members) -> Result<Members, Fault> {
    if !N::RESOURCE.has_secrets {
        return Ok(Members::new());
    }
    secrets::take(given)
}

/// A row as clients see it.
pub(super) fn view(resource: &Resource, row: Row) -> Value {
    let mut members = row.members;
    if resource.has_secrets {
        let names: Vec<_> = row.sealed.keys().cloned().collect();
        members.insert("secrets".to_owned(), json!(names));
    }
    members.insert("etag".to_owned(), Value::String(format!("\"{}\"", row.tag)));
    Value::Object(members)
}

pub(super) fn answer(resource: &Resource, status: StatusCode, row: Row) -> Response {
    let tag = etag(&row);
    (status, [(header::ETAG, tag)], Json(view(resource, row))).into_response()
}

/// The answer with a row that was made and its secret, which nobody is shown again under any name.
pub(super) fn answer_once(
    resource: &Resource,
    row: Row,
    (name, secret): (&str, &Secret<String>),
) -> Response {
    let tag = etag(&row);
    let mut view = view(resource, row);
    if let Some(members) = view.as_object_mut() {
        // Here and nowhere else.
        members.insert(name.to_owned(), Value::from(secret.expose().clone()));
    }
    let unstored = HeaderValue::from_static("no-store");
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, unstored)];
    (StatusCode::CREATED, headers, Json(view)).into_response()
}

/// An answer with an `ETag`, where there is one.
pub(super) fn tagged(status: StatusCode, tag: Option<&str>, body: impl IntoResponse) -> Response {
    let mut response = (status, body).into_response();
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn etag(row: &Row) -> HeaderValue {
    // A tag is a number.
    HeaderValue::from_str(&format!("\"{}\"", row.tag)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The tags of a conditional request; `None`: there is no condition, or any tag fulfils it. A weak tag
/// (RFC 9110 §13.1.1) fulfils none.
pub(super) fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut all = headers.get_all(name).iter().peekable();
    all.peek()?;
    let text = all.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if text.trim() == "*" {
        return None;
    }
    let strong = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
    Some(text.split(',').filter_map(strong).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags_of(text: &str) -> Option<Vec<String>> {
        let value = HeaderValue::from_str(text).unwrap();
        tags(&HeaderMap::from_iter([(header::IF_MATCH, value)]), &header::IF_MATCH)
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_fraction() {
        let mut members = Members::from_iter(
            [("a", json!(20.0)), ("b", json!(0.5)), ("c", json!(1e300))]
                .map(|(name, value)| (name.to_owned(), value)),
        );
        write_whole_numbers(&mut members);
        assert_eq!(Value::Object(members), json!({"a": 20, "b": 0.5, "c": 1e300}));
    }

    #[test]
    fn a_condition_is_a_list_of_strong_tags() {
        assert_eq!(tags(&HeaderMap::new(), &header::IF_MATCH), None);
        assert_eq!(tags_of("*"), None);
        assert_eq!(tags_of("\"7\""), Some(vec!["7".to_owned()]));
        assert_eq!(tags_of("\"7\", \"8\""), Some(vec!["7".to_owned(), "8".to_owned()]));
        assert_eq!(tags_of("W/\"7\""), Some(Vec::new()));
        assert_eq!(tags_of("7"), Some(Vec::new()));
    }
}
