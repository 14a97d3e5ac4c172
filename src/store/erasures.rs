//! What nodes have still to erase: for each node the numbers whose personal data were erased in the database while it
//! may have kept something of them itself. In the database, so that one that was cut off learns it when it is back.

use crate::store::database::Database;
use crate::store::node_key;
use crate::store::node_key::NodeKey;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use sqlx::FromRow;
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
    key: NodeKey,
    is_new: bool,
    told: mpsc::Sender<Erasure>,
    under_way: HashSet<Uuid>,
}

impl Erasing {
    /// For a node with its key; `is_new`: there was none before this start.
    pub(crate) fn new(
        (node, is_new): (NodeId, bool),
        key: NodeKey,
        told: mpsc::Sender<Erasure>,
    ) -> Self {
        Self { node, key, is_new, told, under_way: HashSet::new() }
    }

    /// Tells the database that this node is there.
    pub(crate) async fn register(&mut self, database: &Database) -> sqlx::Result<()> {
        let was_known = register(database, self.node, &self.key).await?;
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
        let left = of(database, self.node, &self.key).await?;
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
pub(crate) async fn register(
    database: &Database,
    node: NodeId,
    key: &NodeKey,
) -> sqlx::Result<bool> {
    let known: Option<bool> = sqlx::query_scalar(REGISTER)
        .bind(node.uuid())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(key.public())
        .fetch_optional(database.node())
        .await?;
    Ok(known.unwrap_or_default())
}

/// Forgets nodes that stayed away for 30 days, and with them what they had to erase.
pub(crate) async fn forget_lost_nodes(database: &Database) -> sqlx::Result<()> {
    sqlx::query(FORGET_NODES).execute(database.node()).await.map(|_| ())
}

/// Notes within the transaction of an erasure what every known node has to erase, sealed with its key where it has one.
pub(crate) async fn note(
    connection: &mut PgConnection,
    (id, tenant, digits): (Uuid, TenantId, &str),
    calls: &[Uuid],
) -> sqlx::Result<()> {
    let nodes: Vec<(Uuid, Option<Vec<u8>>)> =
        sqlx::query_as(NODES).fetch_all(&mut *connection).await?;
    for (node, key) in nodes {
        let sealed = key.and_then(|key| node_key::seal(&key, id, digits));
        let note = match &sealed {
            Some(sealed) => sqlx::query(NOTE_SEALED).bind(sealed),
            None => sqlx::query(NOTE).bind(digits),
        };
        note.bind(id).bind(node).bind(tenant.uuid()).bind(calls).execute(&mut *connection).await?;
    }
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

/// What a node has to erase, the oldest first. What nobody can open any more is given up.
pub(crate) async fn of(
    database: &Database,
    node: NodeId,
    key: &NodeKey,
) -> sqlx::Result<Vec<Erasure>> {
    let rows: Vec<Noted> =
        sqlx::query_as(OF_NODE).bind(node.uuid()).bind(AT_ONCE).fetch_all(database.node()).await?;
    let mut erasures = Vec::new();
    for row in rows {
        let id = row.id;
        match row.opened(node, key) {
            Some(erasure) => erasures.push(erasure),
            None => {
                tracing::error!(
                    "a number to erase was sealed with a key that this node has lost: it may come back with its \
                     records, and is to be erased again"
                );
                forget(database, node, id).await?;
            }
        }
    }
    Ok(erasures)
}

/// What a node has to erase, as the database has it.
#[derive(FromRow)]
struct Noted {
    id: Uuid,
    tenant_id: Uuid,
    digits: Option<String>,
    sealed: Option<Vec<u8>>,
    calls: Vec<Uuid>,
}

impl Noted {
    fn opened(self, node: NodeId, key: &NodeKey) -> Option<Erasure> {
        let digits = match (self.digits, self.sealed) {
            (Some(digits), _) => digits,
            (None, Some(sealed)) => key.open(self.id, &sealed)?.expose().clone(),
            (None, None) => return None,
        };
        let calls = self.calls.into_iter().map(CallId::from_uuid).collect();
        Some(Erasure {
            id: self.id,
            node,
            tenant: TenantId::from_uuid(self.tenant_id),
            digits,
            calls,
        })
    }
}

/// A node has done it.
pub(crate) async fn done(database: &Database, erasure: &Erasure) -> sqlx::Result<()> {
    forget(database, erasure.node, erasure.id).await
}

async fn forget(database: &Database, node: NodeId, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(DONE).bind(node.uuid()).bind(id).execute(database.node()).await.map(|_| ())
}

/// The channel on which nodes hear that there is something to erase.
pub(crate) const CHANNEL: &str = "tandem_erased_number";

/// That there is something, not what.
pub(crate) const TELL_NODES: &str = "SELECT pg_notify('tandem_erased_number', '')";

/// `xmax` is 0 in a row that is new.
pub(crate) const REGISTER: &str = "INSERT INTO nodes AS n (id, name, version, public_key, seen_at, public_key_at) \
     VALUES ($1, '', $2, $3, now(), now()) \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version, seen_at = now(), \
         public_key = excluded.public_key, public_key_at = now() \
     RETURNING n.xmax <> 0";

/// Only once the calls are closed that they left open.
pub(crate) const FORGET_NODES: &str = "DELETE FROM nodes WHERE seen_at < now() - interval '30 days' \
     AND calls_closed_at > seen_at";

/// A key that was told at another time than the node was seen is that of an older start: what runs now may not know it.
pub(crate) const NODES: &str = "SELECT id, CASE WHEN public_key_at = seen_at THEN public_key END \
     FROM nodes WHERE seen_at > now() - interval '30 days'";

pub(crate) const NOTE: &str = "INSERT INTO erasures (digits, id, node_id, tenant_id, calls) \
     SELECT $1, $2, n.id, $4, $5 FROM nodes n WHERE n.id = $3";

pub(crate) const NOTE_SEALED: &str = "INSERT INTO sealed_erasures (digits, id, node_id, tenant_id, calls) \
     SELECT $1, $2, n.id, $4, $5 FROM nodes n WHERE n.id = $3";

pub(crate) const NOTE_LATE: &str = "WITH sealed AS \
         (UPDATE sealed_erasures SET calls = calls || $2 WHERE id = $1) \
     UPDATE erasures SET calls = calls || $2 WHERE id = $1";

pub(crate) const OF_NODE: &str = "SELECT id, tenant_id, digits, NULL::bytea AS sealed, calls, at \
         FROM erasures WHERE node_id = $1 \
     UNION ALL SELECT id, tenant_id, NULL, digits, calls, at FROM sealed_erasures WHERE node_id = $1 \
     ORDER BY at, id LIMIT $2";

pub(crate) const DONE: &str = "WITH sealed AS (DELETE FROM sealed_erasures WHERE node_id = $1 AND id = $2) \
     DELETE FROM erasures WHERE node_id = $1 AND id = $2";
