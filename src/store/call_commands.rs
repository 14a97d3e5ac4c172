//! Commands to calls on their way to the node where the call runs, and their answers on the way back.

use crate::clock;
use crate::store::api_keys;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::database::Database;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use sqlx::FromRow;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The channel on which nodes hear that something is asked of a call: tenant and call.
pub(crate) const CHANNEL: &str = "tandem_call_commands";

/// What is asked of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCommand {
    /// Whose call it is.
    pub tenant: TenantId,
    /// Which.
    pub call: CallId,
    /// The path of the request.
    pub path: String,
    /// The `Content-Type` of its body.
    pub kind: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whose key opened it.
    pub holder: KeyHolder,
    /// The request's identity, the same in the logs of both nodes.
    pub request_id: String,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAnswer {
    /// The status.
    pub status: u16,
    /// The body: JSON.
    pub body: Vec<u8>,
}

/// How far a command got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nobody took it.
    Waiting,
    /// A node is at it.
    Taken,
    /// It was answered so.
    Answered(CommandAnswer),
    /// The database lost it, as a crash of it does: whether it is done is not known.
    Lost,
}

/// Whether a call of `tenant` runs as far as the database knows, and other nodes than `node` were there lately: then
/// one of them may have it.
///
/// # Errors
///
/// When the database fails.
pub async fn may_run_elsewhere(
    database: &Database,
    node: NodeId,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<bool> {
    sqlx::query_scalar(ELSEWHERE)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(node.uuid())
        .fetch_one(database.node())
        .await
}

/// Asks the other nodes.
///
/// # Errors
///
/// When the database fails.
pub async fn ask(database: &Database, command: &CallCommand) -> sqlx::Result<Uuid> {
    let id = clock::new_uuid();
    let mut transaction = database.node().begin().await?;
    sqlx::query(ASK)
        .bind(id)
        .bind(command.tenant.uuid())
        .bind(command.call.uuid())
        .bind(&command.path)
        .bind(&command.kind)
        .bind(&command.body)
        .bind(command.holder.id.uuid())
        .bind(command.holder.scope == KeyScope::AllTenants)
        .bind(command.holder.role.as_str())
        .bind(&command.request_id)
        .execute(&mut *transaction)
        .await?;
    let told = format!("{} {}", command.tenant, command.call);
    sqlx::query(TELL).bind(told).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(id)
}

/// Takes away what nobody took away for a minute, such as that of a client that went: there are keys and numbers in it.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn forget_old(database: &Database) -> sqlx::Result<()> {
    sqlx::query(FORGET_OLD).execute(database.node()).await.map(|_| ())
}

/// How far a command got.
///
/// # Errors
///
/// When the database fails.
pub async fn progress(database: &Database, id: Uuid) -> sqlx::Result<Progress> {
    let found: Option<(bool, Option<i16>, Option<Vec<u8>>)> =
        sqlx::query_as(PROGRESS).bind(id).fetch_optional(database.node()).await?;
    Ok(match found {
        Some((_, Some(status), Some(body))) => {
            let status = u16::try_from(status).unwrap_or(500);
            Progress::Answered(CommandAnswer { status, body })
        }
        Some((true, ..)) => Progress::Taken,
        Some((false, ..)) => Progress::Waiting,
        None => Progress::Lost,
    })
}

/// Takes a command back that nobody took; false when somebody did: then it is or was done.
///
/// # Errors
///
/// When the database fails.
pub async fn take_back(database: &Database, id: Uuid) -> sqlx::Result<bool> {
    let gone = sqlx::query(TAKE_BACK).bind(id).execute(database.node()).await?;
    Ok(gone.rows_affected() > 0)
}

/// Takes a command away that was answered or given up.
///
/// # Errors
///
/// When the database fails; it goes after a minute.
pub async fn forget(database: &Database, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(FORGET).bind(id).execute(database.node()).await.map(|_| ())
}

/// Takes what is asked of a call that runs at `node`: whoever takes a command does it, and nobody else.
///
/// # Errors
///
/// When the database fails.
pub async fn take(
    database: &Database,
    node: NodeId,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<Vec<(Uuid, CallCommand)>> {
    let taken: Vec<Taken> = sqlx::query_as(TAKE)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(node.uuid())
        .fetch_all(database.node())
        .await?;
    Ok(taken.into_iter().filter_map(|taken| Some((taken.0, taken.1?))).collect())
}

/// Answers a command.
///
/// # Errors
///
/// When the database fails.
pub async fn answer(database: &Database, id: Uuid, answer: &CommandAnswer) -> sqlx::Result<()> {
    sqlx::query(ANSWER)
        .bind(id)
        .bind(i16::try_from(answer.status).unwrap_or(500))
        .bind(&answer.body)
        .execute(database.node())
        .await
        .map(|_| ())
}

struct Taken(Uuid, Option<CallCommand>);

impl FromRow<'_, PgRow> for Taken {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (tenant, is_platform): (Uuid, bool) =
            (row.try_get("tenant_id")?, row.try_get("is_platform")?);
        let role: String = row.try_get("role")?;
        let holder =
            api_keys::holder(row.try_get("key_id")?, (!is_platform).then_some(tenant), &role);
        let id = row.try_get("id")?;
        let Some(holder) = holder else { return Ok(Self(id, None)) };
        let command = CallCommand {
            tenant: TenantId::from_uuid(tenant),
            call: CallId::from_uuid(row.try_get("call_id")?),
            path: row.try_get("path")?,
            kind: row.try_get("kind")?,
            body: row.try_get("body")?,
            holder,
            request_id: row.try_get("request_id")?,
        };
        Ok(Self(id, Some(command)))
    }
}

/// Nodes say every hour that they are there.
pub(crate) const ELSEWHERE: &str = "SELECT EXISTS (SELECT FROM calls \
         WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL) \
     AND EXISTS (SELECT FROM nodes WHERE id <> $3 AND seen_at > now() - interval '2 hours')";

pub(crate) const ASK: &str = "INSERT INTO call_commands \
         (id, tenant_id, call_id, path, kind, body, key_id, is_platform, role, request_id) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(crate) const FORGET_OLD: &str =
    "DELETE FROM call_commands WHERE asked_at < now() - interval '1 minute'";

pub(crate) const TELL: &str = "SELECT pg_notify('tandem_call_commands', $1)";

pub(crate) const PROGRESS: &str =
    "SELECT taken_by IS NOT NULL, status, answer FROM call_commands WHERE id = $1";

pub(crate) const TAKE_BACK: &str = "DELETE FROM call_commands WHERE id = $1 AND taken_by IS NULL";

pub(crate) const FORGET: &str = "DELETE FROM call_commands WHERE id = $1";

/// One that is old was given up.
pub(crate) const TAKE: &str = "UPDATE call_commands SET taken_by = $3 \
     WHERE tenant_id = $1 AND call_id = $2 AND taken_by IS NULL \
       AND asked_at > now() - interval '10 seconds' \
     RETURNING id, tenant_id, call_id, path, kind, body, key_id, is_platform, role, request_id";

pub(crate) const ANSWER: &str = "UPDATE call_commands SET status = $2, answer = $3 WHERE id = $1";
