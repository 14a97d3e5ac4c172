//! `tandem migrate`: brings the database to the schema of this program.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::node::Database as Choice;
use crate::store::database::Database;
use crate::store::migrate;
use crate::store::migrate::SchemaError;
use crate::store::private_cluster::ClusterError;
use crate::store::private_cluster::Durability;
use crate::store::private_cluster::PrivateCluster;
use clap::Args;
use std::path::Path;
use std::path::PathBuf;

/// What to migrate.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateArgs {
    /// Only say whether the schema is up to date: exit code 1 when it is not
    #[arg(long)]
    check: bool,
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Applies the migrations the database lacks. They only add, so a node of the version before goes on
/// running.
///
/// # Errors
///
/// When no database is configured, it does not answer, or its schema is not ours.
pub(crate) async fn run(args: MigrateArgs) -> Result<(), Failure> {
    let config = configuration::load(args.config)?;
    match &config.node().database {
        None => Err(Failure::configuration(
            "no database is configured: set `database`, or TANDEM_DATABASE",
        )),
        Some(Choice::Url(url)) => {
            let database = Database::at(url.expose()).map_err(|error| {
                Failure::configuration("`database` cannot be used").because(error)
            })?;
            work(&database, args.check).await
        }
        Some(Choice::Private) => private(&config.node().data_dir, args.check).await,
    }
}

/// A private cluster is asked while a node runs it, else started and stopped again.
async fn private(data_dir: &Path, check: bool) -> Result<(), Failure> {
    if let Some(database) = PrivateCluster::running(data_dir) {
        return work(&database, check).await;
    }
    // Who only looks makes no database to look at.
    if check && !PrivateCluster::is_made(data_dir) {
        let nothing =
            format!("the schema is not up to date: {} holds no database", data_dir.display());
        return Err(Failure::failed(nothing));
    }
    let dir = data_dir.to_owned();
    let starting = move || PrivateCluster::start(&dir, Durability::Safe);
    let cluster = blocking(starting).await?.map_err(refused)?;
    let worked = work(&cluster.database(), check).await;
    let stopped = blocking(move || cluster.stop()).await?.map_err(refused);
    worked.and(stopped)
}

async fn work(database: &Database, check: bool) -> Result<(), Failure> {
    let done = if check { migrate::check(database).await } else { migrate::apply(database).await };
    database.close().await;
    match done {
        Ok(()) => {
            output::line("the schema is up to date");
            Ok(())
        }
        Err(error @ SchemaError::Altered(_)) => {
            Err(Failure::configuration("the database is not migrated").because(error))
        }
        Err(error) if check => Err(Failure::failed("the schema is not up to date").because(error)),
        Err(error) => Err(Failure::failed("the database is not migrated").because(error)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Failure::failed("the private database").because(error))
}

fn refused(error: ClusterError) -> Failure {
    let what = "the private database cannot be used";
    if error.is_configuration() {
        Failure::configuration(what).because(error)
    } else {
        Failure::failed(what).because(error)
    }
}
