//! Brings a database to the schema of this binary.

use crate::store::database::Database;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::migrate::Migrator;
use std::time::Duration;

static MIGRATOR: Migrator = {
    let mut migrator = sqlx::migrate!("./migrations");
    // Migrations only add, so a binary runs on the schema of a later one.
    migrator.ignore_missing = true;
    migrator
};

/// How long the database may take to answer before it counts as away.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Why a database was not brought to the schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A migration that was applied is not the one of this binary: a configuration fault.
    #[error(
        "migration {0} was applied in another form than this binary knows; the schema is not ours"
    )]
    Altered(i64),
    /// The database is not as new as this binary, and was only looked at.
    #[error("the database lacks migration {0}; run `tandem migrate`")]
    Behind(i64),
    /// The database does not answer.
    #[error("the database does not answer")]
    Away(#[source] sqlx::Error),
    /// A migration failed.
    #[error("migration failed")]
    Failed(#[source] sqlx::migrate::MigrateError),
}

/// Applies what is missing, under a lock, so that several nodes may start at once.
///
/// # Errors
///
/// See [`SchemaError`]; what was applied before the error stays.
pub async fn apply(database: &Database) -> Result<(), SchemaError> {
    let mut connection = connect(database).await?;
    let applied = MIGRATOR.run(&mut connection).await;
    // The work is done or has failed by now; a failing goodbye changes neither.
    drop(connection.close().await);
    applied.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMismatch(version) => SchemaError::Altered(version),
        other => SchemaError::Failed(other),
    })
}

/// Looks whether the schema is that of this binary, or a later one, and changes nothing.
///
/// # Errors
///
/// See [`SchemaError`].
pub async fn check(database: &Database) -> Result<(), SchemaError> {
    let mut connection = connect(database).await?;
    let applied = applied(&mut connection).await;
    drop(connection.close().await);
    let applied = applied.map_err(SchemaError::Away)?;
    for migration in MIGRATOR.iter() {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            None => return Err(SchemaError::Behind(migration.version)),
            Some((version, checksum)) if *checksum != *migration.checksum => {
                return Err(SchemaError::Altered(*version));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

pub(crate) const TABLE_EXISTS: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
pub(crate) const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success";

async fn applied(connection: &mut sqlx::PgConnection) -> sqlx::Result<Vec<(i64, Vec<u8>)>> {
    let exists: bool = sqlx::query_scalar(TABLE_EXISTS).fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).fetch_all(connection).await
}

async fn connect(database: &Database) -> Result<sqlx::PgConnection, SchemaError> {
    let connecting = database.owner_options().connect();
    match tokio::time::timeout(ANSWER_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(SchemaError::Away),
        Err(_) => Err(SchemaError::Away(sqlx::Error::PoolTimedOut)),
    }
}
