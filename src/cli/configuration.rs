//! Finding and reading the configuration a command works with.

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config;
use crate::config::Config;
use crate::config::Inputs;
use crate::config::files::Disk;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::config::problem::Severity;
use crate::config::secret::LocalSecrets;
use crate::config::secret::Secrets;
use clap::Args;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// The file that is read when none is named and it is there.
const FILE: &str = "tandem.toml";
/// The variable that names the file.
const VARIABLE: &str = "TANDEM_CONFIG";

/// What commands say that need the database, where the configuration has none.
pub(crate) const NO_DATABASE: &str = "no database is configured: name the configuration by --config or \
     TANDEM_CONFIG, or set TANDEM_DATABASE, and with \"private\" TANDEM_DATA_DIR";

/// Which configuration.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The configuration file: the one named, else that of the variable, else `tandem.toml` here.
pub(crate) fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    let variable = || env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let here = || Some(PathBuf::from(FILE)).filter(|path| path.is_file());
    named.or_else(variable).or_else(here)
}

/// Reads and checks the configuration; says on standard error what should be looked at.
///
/// # Errors
///
/// Every problem, as one failure.
pub(crate) fn load(named: Option<PathBuf>) -> Result<Config, Failure> {
    let config = read(file(named), Vec::new()).map_err(|problems| refuse(&problems))?;
    for warning in config.warnings() {
        output::note(&warning.to_string());
    }
    Ok(config)
}

/// Reads and checks the configuration of `file`; `more` stands before the environment.
///
/// # Errors
///
/// Every problem.
pub(crate) fn read(file: Option<PathBuf>, more: Vec<(String, String)>) -> Result<Config, Problems> {
    let mut env = environment();
    env.extend(more);
    config::load(&Inputs { config: file, env, files: &Disk, secrets: secrets() })
}

/// The secrets of this machine.
pub(crate) fn secrets() -> Arc<dyn Secrets> {
    Arc::new(LocalSecrets::new(environment(), None))
}

/// The environment. A variable that is not UTF-8 is no key and no secret of ours.
fn environment() -> Vec<(String, String)> {
    let pair = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os().filter_map(pair).collect()
}

/// The problems as a failure that prints them all.
pub(crate) fn refuse(problems: &Problems) -> Failure {
    let is_error = |problem: &&Problem| problem.severity == Severity::Error;
    let errors = problems.list().iter().filter(is_error).count();
    let plural = if errors == 1 { "" } else { "s" };
    Failure::configuration(format!("{errors} problem{plural} in the configuration\n{problems}"))
}
