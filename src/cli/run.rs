//! `tandem run`: the switch.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use clap::Args;
use std::path::PathBuf;

/// How the switch runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Runs the switch until it is told to stop.
///
/// # Errors
///
/// When the configuration is wrong, or the switch cannot start.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let config = configuration::load(args.config)?;
    config.check_can_run().map_err(|problems| configuration::refuse(&problems))?;
    Err(Failure::failed("the switch is not wired yet"))
}
