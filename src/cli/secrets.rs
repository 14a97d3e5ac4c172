//! `tandem secrets`: what is sealed in the database, after a change of keys.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Config;
use crate::config::node::Database as Choice;
use crate::store::database::Database;
use crate::store::private_cluster::PrivateCluster;
use crate::store::reseal;
use crate::store::reseal::ResealError;
use crate::store::seal::Sealer;
use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;

/// What to do with sealed secrets.
#[derive(Args, Clone, Debug)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Seal everything again under `secrets.key_ref` that `secrets.old_key_ref` sealed; run it again if it
    /// is cut off
    Reseal(ResealArgs),
}

#[derive(Args, Clone, Debug)]
struct ResealArgs {
    /// Only say what would be sealed again: exit code 1 where anything would
    #[arg(long)]
    check: bool,
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what is asked of sealed secrets.
///
/// # Errors
///
/// When there is no key or no database, or something is left under another key.
pub(crate) async fn run(args: SecretsArgs) -> Result<(), Failure> {
    let Command::Reseal(args) = args.command;
    let config = configuration::load(args.config)?;
    let keys = &config.node().seal_keys;
    if keys.is_empty() {
        return Err(Failure::configuration("no key is configured: set `secrets.key_ref`"));
    }
    let sealer = Sealer::new(keys).map_err(|error| {
        Failure::configuration("`secrets.key_ref` cannot be used").because(error)
    })?;
    let database = database(&config)?;
    let mut left = 0;
    for table in reseal::TABLES {
        let done = reseal::table_all_tenants(&database, &sealer, (table, args.check)).await;
        let done = done.map_err(refused)?;
        let verb = if args.check { "to seal again" } else { "sealed again" };
        output::line(&format!(
            "{table}: {} {verb}, {} under the new key before",
            done.renewed, done.current
        ));
        for (row, name) in &done.lost {
            output::error(&format!("{table} {row}: no configured key opens secret `{name}`"));
        }
        if done.missed > 0 {
            output::error(&format!(
                "{table}: {} were changed meanwhile: run it again",
                done.missed
            ));
        }
        left += done.lost.len() + done.missed + if args.check { done.renewed } else { 0 };
    }
    database.close().await;
    match left {
        0 => Ok(()),
        left => Err(Failure::failed(format!("{left} secrets are not under the new key"))),
    }
}

fn refused(error: ResealError) -> Failure {
    match error {
        ResealError::NoKey(error) => Failure::configuration("nothing is sealed").because(error),
        ResealError::Database(_) => Failure::failed("not all is sealed again").because(error),
    }
}

/// The database of the configuration; a private one while its node runs.
fn database(config: &Config) -> Result<Database, Failure> {
    match &config.node().database {
        Some(Choice::Url(url)) => Database::at(url.expose())
            .map_err(|error| Failure::configuration("`database` cannot be used").because(error)),
        Some(Choice::Private) => {
            PrivateCluster::running(&config.node().data_dir).ok_or_else(|| {
                Failure::failed("the private database does not run; it does while the switch runs")
            })
        }
        None => Err(Failure::configuration(configuration::NO_DATABASE)),
    }
}
