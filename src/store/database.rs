//! `Database`: the pools, one for each role.

use crate::store::silent_peer;
use crate::types::id::TenantId;
use sqlx::Connection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::Transaction;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use std::io;
use std::time::Duration;

/// Connections of the switch itself. Few: it reads on changes and writes in batches.
const NODE_CONNECTIONS_MAX: u32 = 6;
/// Connections of the API. Over it: a request waits, then is answered 503.
const API_CONNECTIONS_MAX: u32 = 8;
/// How long a request waits for a connection, its set-up included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that was used may take to show that it still answers; else it is cut. A server that hangs
/// would keep all of them.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the server works for the switch and for the API on one statement, waits for a lock of somebody else, and
/// for the next word of a transaction. A server that hangs obeys none of them: see [`within`].
const NODE_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "120s"),
];
const API_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "8s"),
    ("lock_timeout", "4s"),
    ("idle_in_transaction_session_timeout", "20s"),
];

/// A PostgreSQL database, reached under the two roles that own nothing in it.
///
/// Cheap to clone. Nothing connects before the first query, and a lost connection is replaced by the
/// next: the switch starts and lives on without its database.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    node: PgPool,
    api: PgPool,
}

/// A database address cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a PostgreSQL address (postgres://user:password@host:port/name)")]
pub struct NotADatabaseAddress;

impl Database {
    /// The database at `options`, which log in as the owner of the tables.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self {
            node: pool(&options, "tandem_node", NODE_CONNECTIONS_MAX, NODE_LIMITS),
            api: pool(&options, "tandem_api", API_CONNECTIONS_MAX, API_LIMITS),
            options,
        }
    }

    /// The database at a `postgres://` address.
    ///
    /// # Errors
    ///
    /// When the address cannot be read; the error does not repeat it, for it may hold a password.
    pub fn at(address: &str) -> Result<Self, NotADatabaseAddress> {
        address.parse().map(Self::new).map_err(|_| NotADatabaseAddress)
    }

    /// How to log in as the owner, for migrations.
    #[must_use]
    pub fn owner_options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The switch's own connections: they see all tenants.
    pub(crate) fn node(&self) -> &PgPool {
        &self.node
    }

    /// Begins a transaction that sees `tenant` alone.
    pub(crate) async fn begin(
        &self,
        tenant: TenantId,
    ) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.api.begin().await?;
        // Local to the transaction: a pooled connection never carries a tenant to the next request.
        sqlx::query(SET_TENANT).bind(tenant.uuid().to_string()).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Begins a transaction of the API for a key of the platform: it sees all tenants. It takes a
    /// connection of the API, so that many requests never keep the switch from its own.
    pub(crate) async fn begin_all_tenants(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.api.begin().await?;
        sqlx::query(TAKE_NODE_ROLE).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// The same for work that takes minutes, such as looking for a number in all there is.
    pub(crate) async fn begin_long(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.begin_all_tenants().await?;
        sqlx::query(TAKE_TIME).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// True when the database answers within `limit`; one that was never migrated does not.
    pub async fn answers(&self, limit: Duration) -> bool {
        let query = sqlx::query("SELECT 1").execute(&self.node);
        matches!(tokio::time::timeout(limit, query).await, Ok(Ok(_)))
    }

    /// Connections that are busy, and that are idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let pools = [&self.node, &self.api];
        let open: usize = pools.iter().map(|pool| pool.size() as usize).sum();
        let idle: usize = pools.iter().map(|pool| pool.num_idle()).sum();
        (open.saturating_sub(idle), idle)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.api.close().await;
        self.node.close().await;
    }
}

/// Whether the database refuses what was sent for itself (22: data exception, 23: integrity constraint violation).
/// All else, a database that shuts down, is full or takes no writes too, is not its doing, and passes.
#[must_use]
pub fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// What comes of `work` within `limit`; else the error of a connection that is gone. A server that hangs says nothing
/// and keeps to no limit of its own.
///
/// # Errors
///
/// Those of `work`, and the time that is over. What was asked may have been done all the same.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let over = |_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(limit, work).await.unwrap_or_else(over)
}

/// Local to the transaction, too.
pub(crate) const TAKE_TIME: &str = "SELECT set_config('statement_timeout', '240s', true)";

/// Local to the transaction, too.
const TAKE_NODE_ROLE: &str = "SET LOCAL ROLE tandem_node";

pub(crate) const SET_TENANT: &str = "SELECT set_config('tandem.tenant_id', $1, true)";

/// Sees to it that a new connection is cut when its host vanishes. One that is not is as good as others else.
async fn bound_silence(port: Option<u16>) -> sqlx::Result<()> {
    let Some(port) = port else { return Ok(()) };
    let bounded = tokio::task::spawn_blocking(move || silent_peer::bound(port)).await;
    if let Ok(Err(error)) = bounded {
        tracing::debug!(%error, "connections to the database have no bound on silence");
    }
    Ok(())
}

fn pool(
    options: &PgConnectOptions,
    role: &'static str,
    connections_max: u32,
    limits: [(&'static str, &'static str); 3],
) -> PgPool {
    // Over a unix socket there is no host that could vanish.
    let port = options.get_socket().is_none().then(|| options.get_port());
    let login = options.clone().application_name(role).options([("role", role)]).options(limits);
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(600))
        .after_connect(move |_, _| Box::pin(bound_silence(port)))
        .after_release(|connection, _| {
            Box::pin(async move {
                within(RELEASE_TIMEOUT, connection.ping()).await?;
                // A connection lives for hours, and would keep the room of the largest batch it ever carried. Behind the ping:
                // sqlx takes a write buffer that nothing was written to before it shrank for a broken one.
                connection.shrink_buffers();
                Ok(true)
            })
        })
        .connect_lazy_with(login)
}
