//! The routing table for commands: from the database, else from the file it was last copied to.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Config;
use crate::config::node::Database as Choice;
use crate::routing::table::RoutingTable;
use crate::store::database::Database;
use crate::store::private_cluster::PrivateCluster;
use crate::store::seal::Sealer;
use crate::store::snapshot;
use crate::store::snapshot::Composer;
use crate::store::snapshot::Snapshot;
use crate::store::table_file;
use crate::store::table_file::TableFileError;
use std::time::Duration;

/// How long the database may take to answer before the file is read instead.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The routing table, and where it is from.
pub(crate) struct Loaded {
    pub(crate) table: RoutingTable,
    pub(crate) origin: String,
}

/// Reads the routing table of the node of `config`. Starts nothing: a private database is asked while
/// a node runs it.
///
/// # Errors
///
/// When the database's address or the file cannot be read.
pub(crate) async fn load(config: &Config) -> Result<Loaded, Failure> {
    let composer = Composer {
        profiles: config.profiles().clone(),
        secrets: configuration::secrets(),
        // Its keys were checked with the configuration.
        sealer: Sealer::new(&config.node().seal_keys).unwrap_or_default(),
        file_trunks: config.trunks().to_vec(),
    };
    let database =
        match &config.node().database {
            None => None,
            Some(Choice::Private) => PrivateCluster::running(&config.node().data_dir),
            Some(Choice::Url(url)) => Some(Database::at(url.expose()).map_err(|error| {
                Failure::configuration("`database` cannot be used").because(error)
            })?),
        };
    if let Some(database) = database {
        let loading = snapshot::load_all_tenants(&database, &composer);
        match tokio::time::timeout(ANSWER_LIMIT, loading).await {
            Ok(Ok(snapshot)) => return Ok(loaded(snapshot, "the database".to_owned())),
            Ok(Err(error)) => output::note(&format!("the database cannot be read: {error}")),
            Err(_) => output::note("the database does not answer"),
        }
    }
    from_file(config, &composer)
}

/// Where the table came from when there were only profiles, with the reason.
fn profiles_alone(config: &Config) -> &'static str {
    match config.node().database {
        None => "the profiles alone; no database is configured",
        Some(_) => "the profiles alone; no database answers and there is no copy of it",
    }
}

fn from_file(config: &Config, composer: &Composer) -> Result<Loaded, Failure> {
    let path = config.node().data_dir.join(table_file::NAME);
    match table_file::read(&path, composer) {
        Ok(snapshot) => Ok(loaded(snapshot, path.display().to_string())),
        Err(TableFileError::Missing(_)) => {
            Ok(loaded(Snapshot::of_files(composer), profiles_alone(config).to_owned()))
        }
        Err(error) => Err(Failure::failed("the routing table cannot be read").because(error)),
    }
}

fn loaded(snapshot: Snapshot, origin: String) -> Loaded {
    for fault in &snapshot.faults {
        output::note(&format!("left out: {fault}"));
    }
    Loaded { table: RoutingTable::new(snapshot.contents), origin }
}
