//! Requests that name themselves, so that one sent twice is carried out once.

use crate::store::database::Database;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use aws_lc_rs::digest;
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// A request of a tenant.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose it is.
    pub tenant: TenantId,
    /// How it names itself.
    pub key: String,
    asked: Vec<u8>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nobody is at it: whoever asked is now, and places this call.
    Ours(CallId),
    /// Somebody is at it.
    Busy,
    /// Its call was placed, and whoever did it left no answer.
    Placed(CallId),
    /// It was answered so.
    Answered(u16, Value),
    /// Another node began it and has not said whether it placed this call; its record will tell.
    Elsewhere,
    /// Another request came by that name.
    Other,
}

#[derive(FromRow)]
struct Row {
    is_same: bool,
    call_id: Uuid,
    status: Option<i16>,
    answer: Option<Value>,
    is_placed: bool,
    is_elsewhere: bool,
}

impl Request {
    /// That of `tenant` which names itself `key` and asks for what `asked` says.
    #[must_use]
    pub fn new(tenant: TenantId, key: &str, asked: &str) -> Self {
        let asked = digest::digest(&digest::SHA256, asked.as_bytes()).as_ref().to_vec();
        Self { tenant, key: key.to_owned(), asked }
    }

    /// Begins it at `node`, to place the call `new`, unless somebody did. What was begun at that node and left behind goes
    /// on with the call it was begun with: whether that was placed only the node knows. Names are forgotten after a day.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing is begun.
    pub async fn begin(
        &self,
        database: &Database,
        node: NodeId,
        new: CallId,
    ) -> sqlx::Result<Known> {
        let mut transaction = database.begin(self.tenant).await?;
        let tenant = self.tenant.uuid();
        sqlx::query(PRUNE).bind(tenant).execute(&mut *transaction).await?;
        let ours: Option<Uuid> = sqlx::query_scalar(BEGIN)
            .bind(tenant)
            .bind(&self.key)
            .bind(&self.asked)
            .bind(new.uuid())
            .bind(node.uuid())
            .fetch_optional(&mut *transaction)
            .await?;
        let known = match ours {
            Some(call) => Some(Known::Ours(CallId::from_uuid(call))),
            None => {
                let row: Option<Row> = sqlx::query_as(SELECT)
                    .bind(tenant)
                    .bind(&self.key)
                    .bind(&self.asked)
                    .bind(node.uuid())
                    .fetch_optional(&mut *transaction)
                    .await?;
                row.map(Row::known)
            }
        };
        transaction.commit().await?;
        // It was given up between the two statements.
        Ok(known.unwrap_or(Known::Busy))
    }

    /// Keeps how it was answered.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn answered(
        &self,
        database: &Database,
        status: u16,
        answer: &Value,
    ) -> sqlx::Result<()> {
        let mut transaction = database.begin(self.tenant).await?;
        sqlx::query(ANSWER)
            .bind(self.tenant.uuid())
            .bind(&self.key)
            .bind(i16::try_from(status).unwrap_or(i16::MAX))
            .bind(answer)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Forgets it: it did nothing and may be tried again.
    ///
    /// # Errors
    ///
    /// When the database fails; then it may be tried again a little later.
    pub async fn forget(&self, database: &Database) -> sqlx::Result<()> {
        let mut transaction = database.begin(self.tenant).await?;
        sqlx::query(FORGET)
            .bind(self.tenant.uuid())
            .bind(&self.key)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}

impl Row {
    fn known(self) -> Known {
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        match (self.is_same, status.zip(self.answer)) {
            (false, _) => Known::Other,
            (true, Some((status, answer))) => Known::Answered(status, answer),
            (true, None) if self.is_placed => Known::Placed(CallId::from_uuid(self.call_id)),
            (true, None) if self.is_elsewhere => Known::Elsewhere,
            (true, None) => Known::Busy,
        }
    }
}

pub(crate) const PRUNE: &str =
    "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND created_at < now() - interval '1 day'";

/// One that was begun by this node and left behind without a call goes on, with the same call: whatever became of
/// the first try, there is one record of it.
pub(crate) const BEGIN: &str = "INSERT INTO idempotency_keys AS k \
         (tenant_id, key, asked, call_id, node_id, busy_until) \
     VALUES ($1, $2, $3, $4, $5, now() + interval '30 seconds') \
     ON CONFLICT (tenant_id, key) DO UPDATE SET busy_until = excluded.busy_until \
     WHERE k.status IS NULL AND k.busy_until < now() AND k.asked = excluded.asked \
           AND k.node_id = excluded.node_id \
           AND NOT EXISTS (SELECT FROM calls c WHERE c.id = k.call_id) \
     RETURNING call_id";

pub(crate) const SELECT: &str = "SELECT k.asked = $3 AS is_same, k.call_id, k.status, k.answer, \
            EXISTS (SELECT FROM calls c WHERE c.id = k.call_id) AS is_placed, \
            k.busy_until < now() AND k.node_id IS DISTINCT FROM $4 AS is_elsewhere \
     FROM idempotency_keys k WHERE k.tenant_id = $1 AND k.key = $2";

pub(crate) const ANSWER: &str =
    "UPDATE idempotency_keys SET status = $3, answer = $4 WHERE tenant_id = $1 AND key = $2";

pub(crate) const FORGET: &str =
    "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND status IS NULL";
