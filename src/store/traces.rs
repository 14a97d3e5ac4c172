//! The signalling of calls that ended: kept for a time, read when memory has forgotten it.

use crate::store::database::Database;
use crate::store::json_text::JsonText;
use crate::store::time::Time;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use sqlx::FromRow;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// Rows that one statement deletes: a long one would hold up others.
const DELETE_ROWS: i64 = 5_000;
/// Bytes of a message's row beside the message, at most: a guess at the room that a statement needs.
const ROW_BYTES: usize = 320;

/// A message of a call, as it was on the wire, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// When it passed.
    pub at: Timestamp,
    /// `in`: to us; `out`: from us.
    pub way: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// Our address.
    pub local: String,
    /// The peer's address.
    pub remote: String,
    /// The message.
    pub bytes: Vec<u8>,
}

/// The signalling of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTrace {
    /// Its messages in the order of time.
    pub messages: Vec<StoredMessage>,
    /// Messages that were not kept.
    pub left_out: u32,
}

/// Those of `calls` whose records are in the database, with whether they reached a tenant: others have no
/// signalling that anybody may read.
///
/// # Errors
///
/// When the database fails.
pub async fn recorded_all_tenants(
    database: &Database,
    calls: &[CallId],
) -> sqlx::Result<Vec<(CallId, bool)>> {
    let ids: Vec<Uuid> = calls.iter().map(|call| call.uuid()).collect();
    let found: Vec<(Uuid, bool)> =
        sqlx::query_as(RECORDED).bind(ids).fetch_all(database.node()).await?;
    Ok(found.into_iter().map(|(id, has_tenant)| (CallId::from_uuid(id), has_tenant)).collect())
}

/// Stores the signalling of calls whose records are there; what is stored already stays. Nothing is stored of a call
/// whose data were erased: its row is held, so that it is not erased meanwhile.
///
/// # Errors
///
/// When the database fails; nothing is stored then.
pub async fn put_all_tenants(
    database: &Database,
    traces: &[(CallId, StoredTrace)],
) -> sqlx::Result<()> {
    let calls: Vec<Uuid> = traces.iter().map(|(call, _)| call.uuid()).collect();
    let text = String::from_utf8(written(traces));
    let text = text.map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(INSERT).bind(text).bind(calls).execute(database.node()).await?;
    Ok(())
}

/// The messages as the statement reads them.
///
/// By hand and not by serde: what is written is mostly base64, in which nothing is to be escaped.
fn written(traces: &[(CallId, StoredTrace)]) -> Vec<u8> {
    let messages = || traces.iter().flat_map(|(_, trace)| &trace.messages);
    let bytes: usize = messages().map(|message| message.bytes.len() / 3 * 4 + ROW_BYTES).sum();
    let mut text = JsonText::with_capacity(bytes);
    text.open('[');
    for (call, trace) in traces {
        for (seq, message) in (0_u64..).zip(&trace.messages) {
            text.open('{');
            text.key("call_id").uuid(call.uuid());
            text.key("seq").number(seq);
            text.key("at").time(message.at);
            text.key("way").text(&message.way);
            text.key("transport").text(&message.transport);
            text.key("local").text(&message.local);
            text.key("remote").text(&message.remote);
            text.key("message").base64(&message.bytes);
            text.key("left_out").number(if seq == 0 { u64::from(trace.left_out) } else { 0 });
            text.close('}');
        }
    }
    text.close(']');
    text.into_bytes()
}

/// The signalling of a call of `tenant`; without messages when none is stored.
///
/// # Errors
///
/// When the database fails.
pub async fn get(database: &Database, tenant: TenantId, call: CallId) -> sqlx::Result<StoredTrace> {
    let mut transaction = database.begin(tenant).await?;
    let rows: Vec<(StoredMessage, i32)> = sqlx::query(SELECT)
        .bind(call.uuid())
        .bind(tenant.uuid())
        .try_map(|row: PgRow| Ok((StoredMessage::from_row(&row)?, row.try_get("left_out")?)))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let left_out = rows.iter().map(|(_, left_out)| u32::try_from(*left_out).unwrap_or(0)).sum();
    Ok(StoredTrace { messages: rows.into_iter().map(|(message, _)| message).collect(), left_out })
}

/// Deletes signalling from before `time`; how many messages.
///
/// # Errors
///
/// When the database fails; what was deleted by then is gone.
pub async fn forget_all_tenants(database: &Database, time: Timestamp) -> sqlx::Result<u64> {
    let mut deleted = 0;
    loop {
        let done =
            sqlx::query(DELETE).bind(Time(time)).bind(DELETE_ROWS).execute(database.node()).await?;
        deleted += done.rows_affected();
        if done.rows_affected() == 0 {
            return Ok(deleted);
        }
    }
}

pub(crate) const RECORDED: &str = "SELECT id, tenant_id IS NOT NULL FROM calls WHERE id = ANY($1)";

pub(crate) const INSERT: &str = "INSERT INTO sip_messages \
         (call_id, seq, tenant_id, at, way, transport, local, remote, message, left_out) \
     SELECT c.id, v.seq, c.tenant_id, v.at, v.way, v.transport, v.local, v.remote, \
            decode(v.message, 'base64'), v.left_out \
     FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS v(call_id uuid, seq integer, at timestamptz, \
              way text, transport text, local text, remote text, message text, left_out integer) \
     JOIN (SELECT id, tenant_id FROM calls WHERE id = ANY($2) AND tenant_id IS NOT NULL \
               AND decision <> '[{\"what\": \"privacy\", \"detail\": \"erased\"}]' ORDER BY id FOR SHARE) c \
         ON c.id = v.call_id \
     ON CONFLICT (call_id, seq) DO NOTHING";

pub(crate) const SELECT: &str = "SELECT at, way, transport, local, remote, message, left_out FROM sip_messages \
     WHERE call_id = $1 AND tenant_id = $2 ORDER BY seq";

pub(crate) const DELETE: &str = "DELETE FROM sip_messages WHERE ctid = ANY(ARRAY( \
     SELECT ctid FROM sip_messages WHERE at < $1 ORDER BY at LIMIT $2))";

impl FromRow<'_, PgRow> for StoredMessage {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Time(at) = row.try_get("at")?;
        Ok(Self {
            at,
            way: row.try_get("way")?,
            transport: row.try_get("transport")?,
            local: row.try_get("local")?,
            remote: row.try_get("remote")?,
            bytes: row.try_get("message")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    #[test]
    fn messages_are_written_as_the_statement_reads_them() {
        let at: Timestamp = "2026-11-22T23:59:59.000007Z".parse().unwrap();
        let message = |way: &str, bytes: &[u8]| StoredMessage {
            at,
            way: way.to_owned(),
            transport: "udp".to_owned(),
            local: "[::1]:5060".to_owned(),
            remote: "127.0.0.2:5061".to_owned(),
            bytes: bytes.to_vec(),
        };
        let traces = [
            StoredTrace {
                messages: vec![message("in", b"\0\xff\xfe\"\r\n"), message("out", b"")],
                left_out: 3,
            },
            StoredTrace::default(),
            StoredTrace { messages: vec![message("in", b"a")], left_out: 0 },
        ];
        let id = |number: u128| CallId::from_uuid(Uuid::from_u128(number));
        let traces: Vec<_> = (1..).map(id).zip(traces).collect();
        let row = |call: u128, seq: u64, way: &str, message: &str, left_out: u64| {
            json!({
                "call_id": Uuid::from_u128(call).to_string(),
                "seq": seq,
                "at": "2026-11-22T23:59:59.000007Z",
                "way": way,
                "transport": "udp",
                "local": "[::1]:5060",
                "remote": "127.0.0.2:5061",
                "message": message,
                "left_out": left_out,
            })
        };
        let read: Value = serde_json::from_slice(&written(&traces)).expect("JSON");
        let first = row(1, 0, "in", "AP/+Ig0K", 3);
        assert_eq!(read, json!([first, row(1, 1, "out", "", 0), row(3, 0, "in", "YQ==", 0)]));
        assert_eq!(written(&[]), b"[]");
    }
}
