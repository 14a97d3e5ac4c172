//! `tandem print-config`: the configuration in force.

use crate::cli::configuration;
use crate::cli::configuration::ConfigArgs;
use crate::cli::failure::Failure;
use crate::cli::output;

/// Prints the checked configuration as TOML that can be read again.
///
/// # Errors
///
/// Every problem of the configuration.
pub(crate) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = configuration::load(args.config.clone())?;
    output::line(config.print().trim_end());
    Ok(())
}
