//! What nodes have still to erase: for each node the numbers whose personal data were erased in the database while it
//! may have kept something of them itself. In the database, so that one that was cut off learns it when it is back.

use crate::store::database::Database;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use sqlx::PgConnection;
use std::collections::HashSet;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Erasures that a node is at, at once; the others wait in the database.
const AT_ONCE: i64 = 64;

/// A number whose personal data a tenant had erased, and which a node has to erase as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Which one; the same for all nodes.
    pub id: Uuid,
    /// The node.
    pub node: NodeId,
    /// Whose data it was.
    pub tenant: TenantId,
    /// The number, without `+`.
    pub digits: String,
    /// The calls in which it had a part.
    pub calls: Vec<CallId>,
}

/// What a node has to erase, and which of it was told already to whoever does it.
#[derive(Debug)]
pub(crate) struct Erasing {
    node: NodeId,
    is_new: bool,
    told: mpsc::Sender<Erasure>,
    under_way: HashSet<Uuid>,
}

impl Erasing {
    /// For a node; `is_new`: there was none before this start.
    pub(crate) fn new((node, is_new): (NodeId, bool), told: mpsc::Sender<Erasure>) -> Self {
        Self { node, is_new, told, under_way: HashSet::new() }
    }

    /// Tells the database that this node is there.
    pub(crate) async fn register(&mut self, database: &Database) -> sqlx::Result<()> {
        let was_known = register(database, self.node).await?;
        if !was_known && !std::mem::replace(&mut self.is_new, false) {
            tracing::warn!(
                "this node was away for 30 days, or its database is another: numbers that were erased meanwhile may \
                 come back with its records, and are to be erased again"
            );
        }
        Ok(())
    }

    /// Tells what is to be erased and was not told yet; the calls of each, which memory has to forget.
    pub(crate) async fn tell(&mut self, database: &Database) -> sqlx::Result<Vec<Vec<CallId>>> {
        let left = of(database, self.node).await?;
        self.under_way.retain(|id| left.iter().any(|erasure| erasure.id == *id));
        let mut forgotten = Vec::new();
        for erasure in left {
            if self.under_way.contains(&erasure.id) {
                continue;
            }
            let (id, calls) = (erasure.id, erasure.calls.clone());
            // One that finds no room is told at the next look.
            if self.told.try_send(erasure).is_err() {
                break;
            }
            self.under_way.insert(id);
            if !calls.is_empty() {
                forgotten.push(calls);
            }
        }
        Ok(forgotten)
    }
}

/// Makes a node known, or tells that it is still there; false when nobody knew it: it may have missed erasures.
pub(crate) async fn register(database: &Database, node: NodeId) -> sqlx::Result<bool> {
    let known: Option<bool> = sqlx::query_scalar(REGISTER)
        .bind(node.uuid())
        .bind(env!("CARGO_PKG_VERSION"))
        .fetch_optional(database.node())
        .await?;
    Ok(known.unwrap_or_default())
}

/// Forgets nodes that stayed away for 30 days, and with them what they had to erase.
pub(crate) async fn forget_lost_nodes(database: &Database) -> sqlx::Result<()> {
    sqlx::query(FORGET_NODES).execute(database.node()).await.map(|_| ())
}

/// Notes within the transaction of an erasure what every known node has to erase.
pub(crate) async fn note(
    connection: &mut PgConnection,
    (id, tenant, digits): (Uuid, TenantId, &str),
    calls: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query(NOTE)
        .bind(id)
        .bind(tenant.uuid())
        .bind(digits)
        .bind(calls)
        .execute(&mut *connection)
        .await?;
    sqlx::query(TELL_NODES).execute(connection).await?;
    Ok(())
}

/// Notes calls that came late, for the nodes that have not yet erased theirs.
pub(crate) async fn note_late(
    connection: &mut PgConnection,
    erasure: Uuid,
    calls: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query(NOTE_LATE).bind(erasure).bind(calls).execute(connection).await.map(|_| ())
}

/// What a node has to erase, the oldest first.
pub(crate) async fn of(database: &Database, node: NodeId) -> sqlx::Result<Vec<Erasure>> {
    let rows: Vec<(Uuid, Uuid, String, Vec<Uuid>)> =
        sqlx::query_as(OF_NODE).bind(node.uuid()).bind(AT_ONCE).fetch_all(database.node()).await?;
    let erasure = |(id, tenant, digits, calls): (Uuid, Uuid, String, Vec<Uuid>)| Erasure {
        id,
        node,
        tenant: TenantId::from_uuid(tenant),
        digits,
        calls: calls.into_iter().map(CallId::from_uuid).collect(),
    };
    Ok(rows.into_iter().map(erasure).collect())
}

/// A node has done it.
pub(crate) async fn done(database: &Database, erasure: &Erasure) -> sqlx::Result<()> {
    let (node, id) = (erasure.node.uuid(), erasure.id);
    sqlx::query(DONE).bind(node).bind(id).execute(database.node()).await.map(|_| ())
}

/// The channel on which nodes hear that there is something to erase.
pub(crate) const CHANNEL: &str = "tandem_erased_number";

/// That there is something, not what.
pub(crate) const TELL_NODES: &str = "SELECT pg_notify('tandem_erased_number', '')";

/// `xmax` is 0 in a row that is new.
pub(crate) const REGISTER: &str = "INSERT INTO nodes AS n (id, name, version) VALUES ($1, '', $2) \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version, seen_at = now() \
     RETURNING n.xmax <> 0";

/// Only once the calls are closed that they left open.
pub(crate) const FORGET_NODES: &str = "DELETE FROM nodes WHERE seen_at < now() - interval '30 days' \
     AND calls_closed_at > seen_at";

pub(crate) const NOTE: &str = "INSERT INTO erasures (id, node_id, tenant_id, digits, calls) \
     SELECT $1, n.id, $2, $3, $4 FROM nodes n WHERE n.seen_at > now() - interval '30 days'";

pub(crate) const NOTE_LATE: &str = "UPDATE erasures SET calls = calls || $2 WHERE id = $1";

pub(crate) const OF_NODE: &str = "SELECT id, tenant_id, digits, calls FROM erasures \
     WHERE node_id = $1 ORDER BY at, id LIMIT $2";

pub(crate) const DONE: &str = "DELETE FROM erasures WHERE node_id = $1 AND id = $2";
