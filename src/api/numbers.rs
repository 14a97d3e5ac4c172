//! Numbers and ranges, one by one and many at once.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::Caller;
use crate::api::csv;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource::Noun;
use crate::clock;
use crate::store::numbers;
use crate::store::numbers::NUMBERS;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::change;
use crate::store::resource::change::Draft;
use crate::store::resource::field::Kind;
use crate::types::limit::IMPORT_ROWS_MAX;
use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use serde::Serialize;
use serde_json::Value;

pub(super) struct Numbers;

impl Noun for Numbers {
    const RESOURCE: &'static Resource = &NUMBERS;

    fn amend(_context: &Context, _caller: &Caller, draft: &mut Draft<'_>) -> Result<(), Fault> {
        if draft.before.is_none() && draft.after("last_number").is_null() {
            let first = draft.after("first_number");
            draft.given.insert("last_number".to_owned(), first);
        }
        judge_assignment(draft)?;
        judge_service(draft)
    }
}

/// What a number may be assigned to.
const ASSIGNMENTS: [&str; 5] =
    ["trunk_id", "outbound_trunk_id", "routing_profile_id", "ai_profile_id", "campaign_id"];

/// Whether a number is assigned follows from what it is assigned to: the schema keeps it so.
fn judge_assignment(draft: &Draft<'_>) -> Result<(), Fault> {
    let is_assigned = ASSIGNMENTS.iter().any(|name| !draft.after(name).is_null());
    let given = draft.given.get("assignment_status").and_then(Value::as_str);
    let why = match (given, is_assigned) {
        (Some("assigned"), false) => "it is assigned to nothing: it is available",
        (Some("available"), true) => "it is assigned: take away what it is assigned to",
        _ => return Ok(()),
    };
    Err(Fault::Conflict { field: Some("assignment_status"), why: why.to_owned() })
}

/// A number that may not be used is not active.
fn judge_service(draft: &mut Draft<'_>) -> Result<(), Fault> {
    let text = |name: &str| draft.after(name).as_str().unwrap_or_default().to_owned();
    let Some(bar) = numbers::bar(&text("assignment_status"), &text("compliance_state")) else {
        return Ok(());
    };
    if draft.given.get("is_active") == Some(&Value::Bool(true)) {
        let why = format!("the number cannot be activated: {bar}");
        return Err(Fault::Conflict { field: Some("is_active"), why });
    }
    if draft.after("is_active") != Value::Bool(false) {
        draft.given.insert("is_active".to_owned(), Value::Bool(false));
    }
    Ok(())
}

/// What became of an import.
#[derive(Serialize)]
pub(super) struct ImportView {
    created: usize,
    failed: usize,
    rows: Vec<ImportedView>,
}

/// What became of one row.
#[derive(Serialize)]
struct ImportedView {
    /// The line it begins on, from 1; the heading is the first.
    line: usize,
    first_number: String,
    /// Null where it failed.
    id: Option<String>,
    error: Option<ImportErrorView>,
}

#[derive(Serialize)]
struct ImportErrorView {
    code: &'static str,
    message: String,
    field: Option<String>,
}

pub(super) async fn import(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ImportView>, ApiError> {
    let id = &caller.request_id;
    let table = read_table(&headers, body, id)?;
    let is_platform = caller.is_platform();
    let mut views = Vec::with_capacity(table.rows.len());
    let mut sound = Vec::new();
    for (line, cells) in table.rows {
        let given = match row(&table.heading, cells) {
            Ok(given) => given,
            Err(fault) => {
                views.push(ImportedView::new(line, &Members::new()).failed(&fault));
                continue;
            }
        };
        let view = ImportedView::new(line, &given);
        match NUMBERS.check(&given, true, is_platform) {
            Ok(()) => {
                sound.push((views.len(), given));
                views.push(view);
            }
            // With the number as it came, so that people find the row.
            Err(fault) => views.push(view.failed(&fault)),
        }
    }
    let (places, many): (Vec<_>, Vec<_>) =
        sound.into_iter().map(|(place, given)| (place, (clock::new_uuid(), given))).unzip();
    let from = (&context.database, &caller.holder);
    let what = (&NUMBERS, Numbers::place(&caller));
    let amend = |draft: &mut Draft<'_>| Numbers::amend(&context, &caller, draft);
    let made = change::create_many(from, what, many, amend).await;
    let made = made.map_err(|fault| error::fault(fault, id))?;
    for (place, made) in places.into_iter().zip(made) {
        if let Some(view) = views.get_mut(place) {
            view.became(made);
        }
    }
    let created = views.iter().filter(|view| view.id.is_some()).count();
    Ok(Json(ImportView { created, failed: views.len() - created, rows: views }))
}

fn read_table(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    id: &RequestId,
) -> Result<csv::Table, ApiError> {
    let bad = |what| ErrorKind::BadBody(what).of(id);
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge.of(id),
        _ => bad("the body did not come whole"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.and_then(|kind| kind.split(';').next()).map(str::trim) != Some("text/csv") {
        return Err(ErrorKind::NotJson("the body is of type text/csv").of(id));
    }
    let text = std::str::from_utf8(&body).map_err(|_| bad("it is no UTF-8"))?;
    let table = csv::read(text, IMPORT_ROWS_MAX);
    let table = table.map_err(|why| ErrorKind::BadBody("").about(None, why, id))?;
    if table.rows.is_empty() {
        return Err(bad("the table has a heading and no rows"));
    }
    Ok(table)
}

/// A row as it would have been given in JSON. An empty cell is one that was left out.
fn row(heading: &[String], cells: Vec<String>) -> Result<Members, Fault> {
    if cells.len() != heading.len() {
        let (cells, names) = (cells.len(), heading.len());
        return Err(Fault::invalid("", format!("the row has {cells} cells, the heading {names}")));
    }
    let mut given = Members::new();
    for (name, cell) in heading.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        // `number` is the natural heading of a list without ranges.
        let name = if name == "number" { "first_number" } else { name.as_str() };
        let is_flag = NUMBERS.field(name).is_some_and(|field| matches!(field.kind, Kind::Flag));
        let value = match cell.as_str() {
            "true" | "1" | "yes" if is_flag => Value::Bool(true),
            "false" | "0" | "no" if is_flag => Value::Bool(false),
            _ => Value::String(cell),
        };
        given.insert(name.to_owned(), value);
    }
    Ok(given)
}

impl ImportedView {
    fn new(line: usize, given: &Members) -> Self {
        let first = given.get("first_number").and_then(Value::as_str).unwrap_or_default();
        Self { line, first_number: first.to_owned(), id: None, error: None }
    }

    fn failed(mut self, fault: &Fault) -> Self {
        let (code, field) = match fault {
            Fault::Conflict { field, .. } => ("conflict", field.map(str::to_owned)),
            Fault::Forbidden(field) => ("platforms_only", Some(field.clone())),
            Fault::Invalid { field, .. } if field.is_empty() => ("invalid_value", None),
            Fault::Invalid { field, .. } => ("invalid_value", Some(field.clone())),
            Fault::Missing(_) | Fault::Stale | Fault::Database(_) => ("not_made", None),
        };
        let message = match fault {
            // Of the row as a whole.
            Fault::Invalid { field, why } if field.is_empty() => why.clone(),
            _ => fault.to_string(),
        };
        self.error = Some(ImportErrorView { code, message, field });
        self
    }

    fn became(&mut self, made: Result<Row, Fault>) {
        match made {
            Ok(row) => self.id = Some(row.id.to_string()),
            Err(fault) => {
                let view = Self { error: None, ..std::mem::take(self) };
                *self = view.failed(&fault);
            }
        }
    }
}

impl Default for ImportedView {
    fn default() -> Self {
        Self::new(0, &Members::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_what_its_cells_would_be_in_json() {
        let heading = ["number", "label", "is_active"].map(str::to_owned);
        let cells = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let given = row(&heading, cells(["+15550100", "", "no"])).unwrap();
        assert_eq!(Value::Object(given), json!({"first_number": "+15550100", "is_active": false}));
        assert!(row(&heading, vec!["+15550100".to_owned()]).is_err());
    }

    fn amended(before: Option<Value>, given: Value) -> Result<Value, String> {
        let members = |value: Value| match value {
            Value::Object(members) => members,
            other => panic!("{other}"),
        };
        let id = uuid::Uuid::from_u128(1);
        let row = |members| Row { id, tag: String::new(), members, sealed: Members::new() };
        let before = before.map(|before| row(members(before)));
        let mut given = members(given);
        let mut draft = Draft { id, before: before.as_ref(), given: &mut given };
        judge_assignment(&draft)
            .and_then(|()| judge_service(&mut draft))
            .map_err(|fault| fault.to_string())?;
        Ok(Value::Object(given))
    }

    #[test]
    fn a_number_that_may_not_be_used_is_taken_out_of_service_and_not_put_back() {
        for (name, value) in [
            ("compliance_state", "pending"),
            ("compliance_state", "rejected"),
            ("assignment_status", "reserved"),
            ("assignment_status", "released"),
        ] {
            let off = json!({name: value, "is_active": false});
            assert_eq!(amended(None, json!({name: value})), Ok(off.clone()), "{value}");
            let used = json!({"is_active": true});
            assert_eq!(amended(Some(used), json!({name: value})), Ok(off.clone()), "{value}");
            let refused = amended(Some(off.clone()), json!({"is_active": true})).unwrap_err();
            assert!(refused.contains("cannot be activated"), "{refused}");
            assert_eq!(amended(Some(off), json!({"label": "x"})), Ok(json!({"label": "x"})));
        }
        let lifted = json!({"compliance_state": "approved", "is_active": true});
        let before = json!({"compliance_state": "pending", "is_active": false});
        assert_eq!(amended(Some(before), lifted.clone()), Ok(lifted));
    }

    #[test]
    fn whether_a_number_is_assigned_is_not_said_against_what_it_is_assigned_to() {
        let said = |status: &str| json!({"assignment_status": status});
        let assigned = || Some(json!({"campaign_id": uuid::Uuid::nil().to_string()}));
        assert!(amended(None, said("assigned")).is_err());
        assert!(amended(None, said("available")).is_ok());
        assert!(amended(assigned(), said("available")).is_err());
        assert!(amended(assigned(), said("assigned")).is_ok());
    }
}
