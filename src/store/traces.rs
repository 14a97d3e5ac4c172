//! The signalling of calls that ended: kept for a time, read when memory has forgotten it.

use crate::store::database::Database;
use crate::store::time::Time;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::Arguments;
use sqlx::FromRow;
use sqlx::Row;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgBindIterExt;
use sqlx::postgres::PgRow;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Rows that one statement deletes: a long one would hold up others.
const DELETE_ROWS: i64 = 5_000;
/// What [`INSERT`] is given.
const COLUMNS: usize = 10;
/// Bytes of a message's row beside the message, at most: a guess at the room that a statement needs.
const ROW_BYTES: usize = 192;

/// A message of a call, as it was on the wire, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// When it passed.
    pub at: Timestamp,
    /// `in`: to us; `out`: from us.
    pub way: Cow<'static, str>,
    /// `udp`, `tcp` or `tls`.
    pub transport: Cow<'static, str>,
    /// Our address: as a rule that of the message before, too.
    pub local: Arc<str>,
    /// The peer's address.
    pub remote: Arc<str>,
    /// The message.
    pub bytes: Bytes,
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
    let columns = columns(traces).map_err(sqlx::Error::Encode)?;
    sqlx::query_with(INSERT, columns).execute(database.node()).await?;
    Ok(())
}

/// The messages as the statement reads them: each column an array of its own, and the calls. The bytes of a message go
/// as they are; in JSON they would have to be base64.
fn columns(traces: &[(CallId, StoredTrace)]) -> Result<PgArguments, BoxDynError> {
    let messages = || traces.iter().flat_map(|(_, trace)| &trace.messages);
    let places = || {
        traces.iter().flat_map(|(call, trace)| {
            (0_i32..).zip(&trace.messages).map(move |(seq, _)| (call.uuid(), seq, trace.left_out))
        })
    };
    let bytes: usize = messages().map(|message| message.bytes.len() + ROW_BYTES).sum();
    let mut columns = PgArguments::default();
    columns.reserve(COLUMNS, bytes);
    columns.add(places().map(|(call, ..)| call).bind_iter())?;
    columns.add(places().map(|(_, seq, _)| seq).bind_iter())?;
    columns.add(messages().map(|message| message.at.as_microsecond()).bind_iter())?;
    columns.add(messages().map(|message| &*message.way).bind_iter())?;
    columns.add(messages().map(|message| &*message.transport).bind_iter())?;
    columns.add(messages().map(|message| &*message.local).bind_iter())?;
    columns.add(messages().map(|message| &*message.remote).bind_iter())?;
    columns.add(messages().map(|message| &*message.bytes).bind_iter())?;
    columns.add(places().map(|(_, seq, count)| left_out(seq, count)).bind_iter())?;
    columns.add(traces.iter().map(|(call, _)| call.uuid()).bind_iter())?;
    Ok(columns)
}

/// What a row says of the messages of its call that were not kept: the first says it for all.
fn left_out(seq: i32, count: u32) -> i32 {
    if seq == 0 { i32::try_from(count).unwrap_or(i32::MAX) } else { 0 }
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
     SELECT c.id, v.seq, c.tenant_id, timestamptz 'epoch' + v.at_us * interval '1 microsecond', \
            v.way, v.transport, v.local, v.remote, v.message, v.left_out \
     FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::text[], \
              $7::text[], $8::bytea[], $9::integer[]) \
         AS v(call_id, seq, at_us, way, transport, local, remote, message, left_out) \
     JOIN (SELECT id, tenant_id FROM calls WHERE id = ANY($10) AND tenant_id IS NOT NULL \
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
            way: row.try_get::<String, _>("way")?.into(),
            transport: row.try_get::<String, _>("transport")?.into(),
            local: row.try_get::<String, _>("local")?.into(),
            remote: row.try_get::<String, _>("remote")?.into(),
            bytes: row.try_get::<Vec<u8>, _>("message")?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_that_a_row_is_given_is_enough() {
        let address = "[2001:db8:1111:2222:3333:4444:5555:6666%4294967295]:65535";
        let message = StoredMessage {
            at: Timestamp::UNIX_EPOCH,
            way: "out".into(),
            transport: "udp".into(),
            local: address.into(),
            remote: address.into(),
            bytes: Bytes::new(),
        };
        let lengths = [&*message.way, &*message.transport, &*message.local, &*message.remote];
        let texts: usize = lengths.map(str::len).iter().sum();
        let fixed = size_of::<Uuid>() + size_of::<i64>() + 2 * size_of::<i32>();
        // Each value has its length before it.
        let row = texts + fixed + (COLUMNS - 1) * size_of::<i32>();
        assert!(row <= ROW_BYTES, "{row}");
        let traces = [(
            CallId::from_uuid(Uuid::nil()),
            StoredTrace { messages: vec![message], left_out: 1 },
        )];
        assert_eq!(columns(&traces).expect("they can be written").len(), COLUMNS);
    }

    #[test]
    fn the_first_row_of_a_call_says_what_was_left_out() {
        assert_eq!([0, 1, 2].map(|seq| left_out(seq, 3)), [3, 0, 0]);
        assert_eq!(left_out(0, u32::MAX), i32::MAX);
    }
}
