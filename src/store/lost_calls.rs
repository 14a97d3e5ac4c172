//! Calls of nodes that do not come back: their journal would have ended them, and is gone. Others close their records.

use crate::store::database::Database;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;

/// Records closed at once: short transactions, between which others write.
const BATCH: i64 = 500;

/// Closes the records of calls whose node was not seen for a day, as interrupted at the last thing that was heard of them;
/// how many, of one batch. Their revision stays, so that the node's own record takes the place of this if it comes
/// after all. It is the database's clock that counts, since those of nodes may differ.
///
/// # Errors
///
/// When the database fails.
pub async fn close_all_tenants(database: &Database) -> sqlx::Result<u64> {
    let mut transaction = database.node().begin().await?;
    let is_lost: bool = sqlx::query_scalar(LOST).fetch_one(&mut *transaction).await?;
    if !is_lost {
        return Ok(0);
    }
    let cause = HangupCause::Interrupted;
    let closed = sqlx::query(CLOSE)
        .bind(BATCH)
        .bind(cause.code())
        .bind(i16::from(cause.q850()))
        .bind(i16::try_from(cause.sip_status()).ok())
        .bind(Party::Switch.as_str())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if closed == 0 {
        sqlx::query(CLOSED).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(closed)
}

/// Whether a node is lost whose calls were not closed since: so they are looked for once, for that reads every open record.
/// And once more when those are closed that name no node.
pub(crate) const LOST: &str = "SELECT EXISTS (SELECT FROM nodes \
     WHERE seen_at < now() - interval '1 day' \
       AND (calls_closed_at IS NULL OR calls_closed_at < seen_at \
            OR (seen_at < now() - interval '9 days' AND calls_closed_at < seen_at + interval '9 days')))";

/// A record that names no node is closed a day after the longest call that there can be. What this inserts is told to
/// webhooks, as every event is.
pub(crate) const CLOSE: &str = "WITH lost AS ( \
         SELECT c.id, greatest(c.arrived_at, \
                (SELECT max(e.at) FROM call_events e WHERE e.call_id = c.id)) AS at \
         FROM calls c \
         WHERE c.ended_at IS NULL AND CASE \
             WHEN c.node_id IS NULL THEN c.arrived_at < now() - interval '8 days' \
             ELSE NOT EXISTS (SELECT FROM nodes n WHERE n.id = c.node_id \
                              AND n.seen_at > now() - interval '1 day') END \
         LIMIT $1 FOR UPDATE OF c SKIP LOCKED \
     ), closed AS ( \
         UPDATE calls c SET ended_at = l.at, cause = $2, q850 = $3, ended_by = $5, \
             sip_status = coalesce(c.sip_status, $4), \
             duration_ms = coalesce( \
                 greatest((extract(epoch FROM l.at - c.answered_at) * 1000)::bigint, 0), 0) \
         FROM lost l WHERE c.id = l.id AND c.ended_at IS NULL \
         RETURNING c.id, c.rev, c.tenant_id, c.ended_at, c.duration_ms \
     ) \
     INSERT INTO call_events (call_id, seq, tenant_id, at, name, detail) \
     SELECT id, rev, tenant_id, ended_at, 'ended', \
            jsonb_build_object('by', $5::text, 'cause', $2::text, 'duration_ms', duration_ms) \
     FROM closed ON CONFLICT (call_id, seq) DO NOTHING";

/// Every call of the nodes that are lost is closed.
pub(crate) const CLOSED: &str =
    "UPDATE nodes SET calls_closed_at = now() WHERE seen_at < now() - interval '1 day'";
