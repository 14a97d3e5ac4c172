//! A number's personal data: exported and erased.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::wish::Sent;
use crate::store::privacy;
use crate::store::privacy::ExportRow;
use crate::store::privacy::Exported;
use crate::store::resource::Fault;
use crate::types::number::E164;
use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::io;
use tokio::sync::mpsc;

/// Rows that wait for a client to take them, and bytes that are sent at once.
const ROWS_WAITING: usize = 64;
const PIECE_BYTES: usize = 16 * 1024;
/// Digits of a number, with its country code: fewer stand in too much that is no number.
const DIGITS_MIN: usize = 7;

/// Tables that are told of without a row as well.
const ALWAYS: [&str; 6] =
    ["calls", "call_events", "sip_messages", "recordings", "transcripts", "audit_log"];

/// Whose data is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumberWish {
    /// In the international form, of 7 digits at least.
    number: String,
}

/// What was erased.
#[derive(Serialize)]
pub(super) struct ErasedView {
    /// Rows that were changed or deleted.
    rows: i64,
}

pub(super) async fn export(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let number = number(&caller, sent)?;
    let whose = (caller.holder.clone(), caller.tenant()?);
    let busy = "as many numbers are exported as may be at once; try again later";
    let turn = context.turns.export().ok_or_else(|| ErrorKind::NodeBusy(busy).of(id))?;
    let (rows_in, mut rows) = mpsc::channel(ROWS_WAITING);
    let exporting = privacy::export(context.database.clone(), whose, number, rows_in);
    tokio::spawn(async move {
        exporting.await;
        // With the connection to the database, whenever the client reads the rest.
        drop(turn);
    });
    // With the first row it is known that there is an answer.
    let first = rows.recv().await.transpose().map_err(|failed| error::database(&failed, id))?;
    let pieces = stream::unfold(Some((ExportText::default(), first, rows)), async |going| {
        let (mut text, mut next, mut rows) = going?;
        let mut piece = String::new();
        loop {
            let told = match next.take() {
                Some(first) => Some(Ok(first)),
                None => rows.recv().await,
            };
            match told {
                Some(Ok(Exported::Row(row))) => text.row(&row, &mut piece),
                Some(Ok(Exported::End)) => {
                    text.end(&mut piece);
                    return Some((Ok(Bytes::from(piece)), None));
                }
                // What is not whole shows it: the answer breaks off.
                failed @ (Some(Err(_)) | None) => return Some((Err(broken_off(failed)), None)),
            }
            if piece.len() >= PIECE_BYTES {
                return Some((Ok(Bytes::from(piece)), Some((text, None, rows))));
            }
        }
    });
    let kind = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    Ok((kind, Body::from_stream(pieces)).into_response())
}

/// Why an answer ends before its end: the database failed, or the client took nothing for too long.
fn broken_off(failed: Option<sqlx::Result<Exported>>) -> io::Error {
    let why = failed.and_then(Result::err).map_or("nobody takes it".to_owned(), |e| e.to_string());
    tracing::warn!(why, "an export breaks off");
    io::Error::other("the export is not whole")
}

/// The export as it is written: `{"found": {TABLE: [ROW, ...], ...}}`, row by row.
#[derive(Default)]
struct ExportText {
    /// The tables with rows, the present one last.
    tables: Vec<String>,
}

impl ExportText {
    fn row(&mut self, row: &ExportRow, to: &mut String) {
        if self.tables.last() == Some(&row.of_table) {
            to.push(',');
        } else {
            self.table(&row.of_table, to);
        }
        to.push_str(&row.shown.to_string());
    }

    fn table(&mut self, name: &str, to: &mut String) {
        to.push_str(if self.tables.is_empty() { "{\"found\":{" } else { "]," });
        to.push_str(&Value::from(name).to_string());
        to.push_str(":[");
        self.tables.push(name.to_owned());
    }

    fn end(mut self, to: &mut String) {
        for name in ALWAYS {
            if !self.tables.iter().any(|table| table == name) {
                self.table(name, to);
            }
        }
        to.push_str("]}}");
    }
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
    let number = sent.wish::<NumberWish>(id)?.number.parse();
    let number = number.ok().filter(|number: &E164| number.digits() >= DIGITS_MIN);
    let why = "it is a number in the international form, of 7 digits at least";
    number.ok_or_else(|| error::fault(Fault::invalid("number", why), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_export_is_written_as_one_object_of_all_its_tables() {
        let written = |rows: &[(&str, Value)]| -> Value {
            let (mut text, mut to) = (ExportText::default(), String::new());
            for (table, shown) in rows {
                let row = ExportRow { of_table: (*table).to_owned(), shown: shown.clone() };
                text.row(&row, &mut to);
            }
            text.end(&mut to);
            serde_json::from_str(&to).unwrap()
        };
        let none = written(&[]);
        assert_eq!(none["found"].as_object().map(serde_json::Map::len), Some(ALWAYS.len()));
        let rows = [("calls", json!({"a": 1})), ("calls", json!({"a": 2})), ("x", json!({}))];
        let found = &written(&rows)["found"];
        assert_eq!(found["calls"], json!([{"a": 1}, {"a": 2}]));
        assert_eq!((&found["x"], &found["transcripts"]), (&json!([{}]), &json!([])));
    }
}
