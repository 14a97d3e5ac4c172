//! Commands to calls on their way to the node where the call runs, and their answers on the way back.

use crate::clock;
use crate::store::api_keys;
use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::database::Database;
use crate::store::seal::Sealer;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::FromRow;
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
    /// The `Authorization` it came with, where more is done with that than to open it.
    pub credentials: Option<Secret<String>>,
    /// Whose key opened it.
    pub holder: KeyHolder,
    /// The request's identity, the same in the logs of both nodes.
    pub request_id: String,
}

/// A command that this node has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenCommand {
    /// Which.
    pub id: Uuid,
    /// Whether it came sealed: then its answer goes so.
    pub is_sealed: bool,
    /// The request's identity.
    pub request_id: String,
    /// What is asked; `None`: this node has no key that opens it.
    pub command: Option<CallCommand>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAnswer {
    /// The status.
    pub status: u16,
    /// In how many seconds it may be tried again (`Retry-After`).
    pub retry_after_s: Option<u16>,
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
    /// The database lost it, as a crash of it does, or its answer cannot be opened: whether it is done is not known.
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

/// Whether other nodes than `node` were there lately.
///
/// # Errors
///
/// When the database fails.
pub async fn has_others(database: &Database, node: NodeId) -> sqlx::Result<bool> {
    sqlx::query_scalar(OTHERS).bind(node.uuid()).fetch_one(database.node()).await
}

/// Asks the other nodes, with a seal where `sealer` has a key. Without one the credentials stay here.
///
/// # Errors
///
/// When the database fails.
pub async fn ask(
    database: &Database,
    sealer: &Sealer,
    command: &CallCommand,
) -> sqlx::Result<Uuid> {
    let id = clock::new_uuid();
    let sealed = seal(sealer, (id, BODY), &command.body);
    let credentials = command.credentials.as_ref();
    let credentials = credentials.and_then(|text| sealer.seal(id, CREDENTIALS, text).ok());
    let mut transaction = database.node().begin().await?;
    sqlx::query(ASK)
        .bind(id)
        .bind(command.tenant.uuid())
        .bind(command.call.uuid())
        .bind(&command.path)
        .bind(&command.kind)
        .bind(sealed.as_ref().unwrap_or(&command.body))
        .bind(command.holder.id.uuid())
        .bind(command.holder.scope == KeyScope::AllTenants)
        .bind(command.holder.role.as_str())
        .bind(&command.request_id)
        .bind(sealed.is_some())
        .bind(credentials)
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
pub async fn progress(database: &Database, sealer: &Sealer, id: Uuid) -> sqlx::Result<Progress> {
    let found: Option<Standing> =
        sqlx::query_as(PROGRESS).bind(id).fetch_optional(database.node()).await?;
    Ok(match found {
        Some(Standing {
            status: Some(status),
            answer: Some(body),
            is_sealed,
            retry_after_s,
            ..
        }) => {
            let status = u16::try_from(status).unwrap_or(500);
            let retry_after_s = retry_after_s.and_then(|seconds| u16::try_from(seconds).ok());
            let body = if is_sealed { open(sealer, (id, ANSWERED), &body) } else { Some(body) };
            let told = |body| Progress::Answered(CommandAnswer { status, retry_after_s, body });
            body.map_or(Progress::Lost, told)
        }
        Some(Standing { is_taken: true, .. }) => Progress::Taken,
        Some(_) => Progress::Waiting,
        None => Progress::Lost,
    })
}

/// How far a command got, as the database has it.
#[derive(FromRow)]
struct Standing {
    is_taken: bool,
    status: Option<i16>,
    answer: Option<Vec<u8>>,
    is_sealed: bool,
    retry_after_s: Option<i32>,
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
    sealer: &Sealer,
    node: NodeId,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<Vec<TakenCommand>> {
    let rows: Vec<Row> = sqlx::query_as(TAKE)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(node.uuid())
        .fetch_all(database.node())
        .await?;
    Ok(rows.into_iter().map(|row| row.opened(sealer)).collect())
}

/// Answers a command.
///
/// # Errors
///
/// When the database fails.
pub async fn answer(
    database: &Database,
    sealer: &Sealer,
    (id, is_sealed): (Uuid, bool),
    answer: &CommandAnswer,
) -> sqlx::Result<()> {
    let sealed = seal(sealer, (id, ANSWERED), &answer.body).filter(|_| is_sealed);
    sqlx::query(ANSWER)
        .bind(id)
        .bind(i16::try_from(answer.status).unwrap_or(500))
        .bind(sealed.as_ref().unwrap_or(&answer.body))
        .bind(sealed.is_some())
        .bind(answer.retry_after_s.map(i32::from))
        .execute(database.node())
        .await
        .map(|_| ())
}

/// What the sealed parts of a command are sealed as.
const BODY: &str = "body";
const ANSWERED: &str = "answer";
const CREDENTIALS: &str = "credentials";

/// Sealed bytes; `None` where there is no key.
fn seal(sealer: &Sealer, (id, name): (Uuid, &str), bytes: &[u8]) -> Option<Vec<u8>> {
    let text = Secret::new(STANDARD.encode(bytes));
    sealer.seal(id, name, &text).ok().map(String::into_bytes)
}

fn open(sealer: &Sealer, (id, name): (Uuid, &str), sealed: &[u8]) -> Option<Vec<u8>> {
    let text = sealer.open(id, name, std::str::from_utf8(sealed).ok()?)?;
    STANDARD.decode(text.expose()).ok()
}

/// A command as the database has it.
#[derive(FromRow)]
struct Row {
    id: Uuid,
    tenant_id: Uuid,
    call_id: Uuid,
    path: String,
    kind: Option<String>,
    body: Vec<u8>,
    key_id: Uuid,
    is_platform: bool,
    role: String,
    request_id: String,
    is_sealed: bool,
    sealed_credentials: Option<String>,
}

impl Row {
    fn opened(self, sealer: &Sealer) -> TakenCommand {
        let (id, is_sealed, request_id) = (self.id, self.is_sealed, self.request_id.clone());
        TakenCommand { id, is_sealed, request_id, command: self.command(sealer) }
    }

    fn command(self, sealer: &Sealer) -> Option<CallCommand> {
        let scope = (!self.is_platform).then_some(self.tenant_id);
        let holder = api_keys::holder(self.key_id, scope, &self.role)?;
        let body = match self.is_sealed {
            true => open(sealer, (self.id, BODY), &self.body)?,
            false => self.body,
        };
        let credentials = match self.sealed_credentials {
            Some(sealed) => Some(sealer.open(self.id, CREDENTIALS, &sealed)?),
            None => None,
        };
        Some(CallCommand {
            tenant: TenantId::from_uuid(self.tenant_id),
            call: CallId::from_uuid(self.call_id),
            path: self.path,
            kind: self.kind,
            body,
            credentials,
            holder,
            request_id: self.request_id,
        })
    }
}

/// Nodes say every hour that they are there. The call of one that is not seen is called over only when it is closed, see
/// `lost_calls`.
pub(crate) const ELSEWHERE: &str = "SELECT EXISTS (SELECT FROM calls c \
     JOIN nodes n ON n.id = coalesce(c.node_id, n.id) \
     WHERE c.tenant_id = $1 AND c.id = $2 AND c.ended_at IS NULL \
       AND n.id <> $3 AND n.seen_at > now() - \
           CASE WHEN c.node_id IS NULL THEN interval '2 hours' ELSE interval '1 day' END)";

pub(crate) const OTHERS: &str =
    "SELECT EXISTS (SELECT FROM nodes WHERE id <> $1 AND seen_at > now() - interval '2 hours')";

pub(crate) const ASK: &str = "INSERT INTO call_commands \
         (id, tenant_id, call_id, path, kind, body, key_id, is_platform, role, request_id, is_sealed, sealed_credentials) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

pub(crate) const FORGET_OLD: &str =
    "DELETE FROM call_commands WHERE asked_at < now() - interval '1 minute'";

pub(crate) const TELL: &str = "SELECT pg_notify('tandem_call_commands', $1)";

pub(crate) const PROGRESS: &str = "SELECT taken_by IS NOT NULL AS is_taken, status, answer, is_sealed, retry_after_s \
     FROM call_commands WHERE id = $1";

pub(crate) const TAKE_BACK: &str = "DELETE FROM call_commands WHERE id = $1 AND taken_by IS NULL";

pub(crate) const FORGET: &str = "DELETE FROM call_commands WHERE id = $1";

/// One that is old was given up.
pub(crate) const TAKE: &str = "UPDATE call_commands SET taken_by = $3 \
     WHERE tenant_id = $1 AND call_id = $2 AND taken_by IS NULL \
       AND asked_at > now() - interval '10 seconds' \
     RETURNING id, tenant_id, call_id, path, kind, body, key_id, is_platform, role, request_id, is_sealed, \
         sealed_credentials";

/// From then on the seal is that of the answer.
pub(crate) const ANSWER: &str = "UPDATE call_commands SET status = $2, answer = $3, is_sealed = $4, retry_after_s = $5 WHERE id = $1";
