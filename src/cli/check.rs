//! `tandem check`: the configuration and every profile, with all problems at once.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Config;
use crate::config::node::Database;
use crate::config::node::NodeConfig;
use clap::Args;
use std::path::Path;
use std::path::PathBuf;

/// What to check.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    /// A configuration file, or a folder of trunk profiles; a profile stands for its folder
    #[arg(value_name = "PATH", conflicts_with = "config")]
    path: Option<PathBuf>,
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Checks the configuration, opens nothing, and prints what it found.
///
/// # Errors
///
/// Every problem, with its file, line and column.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let path = args.path.clone().or_else(|| args.config.clone());
    let (file, folder) = match path {
        Some(path) if path.is_dir() => (None, Some(path)),
        Some(path) if is_profile(&path) => (None, Some(folder_of(&path))),
        path => (configuration::file(path), None),
    };
    let more = folder
        .iter()
        .filter_map(|folder| Some(("TANDEM_PROFILES_DIR".to_owned(), folder.to_str()?.to_owned())));
    let config = configuration::read(file.clone(), more.collect());
    let config = config.map_err(|problems| configuration::refuse(&problems))?;
    for warning in config.warnings() {
        output::note(&warning.to_string());
    }
    output::line(&summary(&config, file.as_deref(), folder.as_deref()));
    Ok(())
}

/// Whether a file is a trunk profile: they say the version of their schema.
fn is_profile(path: &Path) -> bool {
    let says_version = |text: String| text.lines().any(|line| line.starts_with("schema_version"));
    std::fs::read_to_string(path).is_ok_and(says_version)
}

/// The folder a file is in: a profile is checked with those it may extend.
fn folder_of(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// What was checked, in a few lines.
fn summary(config: &Config, file: Option<&Path>, folder: Option<&Path>) -> String {
    let mut lines = Vec::new();
    if folder.is_none() {
        let what = file.map_or("no file; defaults and variables".to_owned(), |file| {
            file.display().to_string()
        });
        lines.push(format!("configuration  {what}"));
        lines.extend(node_lines(config.node()));
    }
    let profiles = config.profiles().ids().count();
    lines.push(format!("profiles       {profiles}, {} of them live trunks", config.trunks().len()));
    for trunk in config.trunks() {
        lines.push(format!("trunk          {}", trunk.name));
    }
    let mut found = "no problem found";
    if let (None, Err(missing)) = (folder, config.check_can_run()) {
        for problem in missing.list() {
            lines.push(format!("not runnable   {}", problem.message));
        }
        found = "no other problem found";
    }
    let warnings = match config.warnings().len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    lines.push(format!("{found}{warnings}"));
    lines.join("\n")
}

fn node_lines(node: &NodeConfig) -> Vec<String> {
    let database = match &node.database {
        None => "none",
        Some(Database::Private) => "private",
        Some(Database::Url(_)) => "by address",
    };
    let listeners = node.listeners.iter().map(|listener| {
        let transports: Vec<&str> =
            listener.transports.iter().map(|transport| transport.as_str()).collect();
        let bind = listener.bind;
        format!("listener       {} {bind} {}", listener.name, transports.join(" "))
    });
    std::iter::once(format!("database       {database}")).chain(listeners).collect()
}
