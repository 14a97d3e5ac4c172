//! Configuration: text to checked configuration, or every problem with its place.
//!
//! `tandem.toml` and the trunk profiles are read into trees whose every value knows its file and
//! place. Profiles are merged on these trees, checked against their schema, and only then made into
//! the types the rest of the program uses; so a problem names the file the value came from, and all
//! problems are found at once.

mod agents;
mod certificate;
pub mod environment;
pub mod files;
pub mod http;
mod listener;
pub mod node;
pub mod otlp;
mod print;
pub mod problem;
pub mod profile;
pub mod recordings;
mod schema;
pub mod secret;
pub mod tls;
mod tree;
mod trunk;
mod trunk_outbound;
mod trunk_path;
mod trunk_registration;
mod trunk_schema;
mod trunk_text;
pub mod webhooks;

use crate::config::files::Files;
use crate::config::node::NodeConfig;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::config::problem::Severity;
use crate::config::problem::Sources;
use crate::config::profile::Around;
use crate::config::profile::Profiles;
use crate::config::schema::Check;
use crate::config::secret::Secrets;
use crate::config::tree::Table;
use crate::config::tree::View;
use crate::routing::trunk::Trunk;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What a configuration is read from.
pub struct Inputs<'a> {
    /// `tandem.toml`; `None`: defaults and variables alone.
    pub config: Option<PathBuf>,
    /// The environment. Only `TANDEM_*` counts; secrets are asked of `secrets`.
    pub env: Vec<(String, String)>,
    /// Where files are read.
    pub files: &'a dyn Files,
    /// Where secrets are.
    pub secrets: Arc<dyn Secrets>,
}

/// A checked configuration. Only [`load`] makes one.
#[derive(Clone, Debug)]
pub struct Config {
    node: NodeConfig,
    profiles: Profiles,
    trunks: Vec<Trunk>,
    warnings: Vec<Problem>,
    tree: Table,
}

impl Config {
    /// The node.
    #[must_use]
    pub const fn node(&self) -> &NodeConfig {
        &self.node
    }

    /// The trunk profiles, for trunks of the database.
    #[must_use]
    pub const fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The trunks that are files: each enabled profile that is no template.
    #[must_use]
    pub fn trunks(&self) -> &[Trunk] {
        &self.trunks
    }

    /// What should be looked at, though it stops nothing.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Where the secrets of this configuration are.
    #[must_use]
    pub fn secrets(&self) -> Arc<dyn Secrets> {
        self.profiles.secrets()
    }

    /// What keeps the node from running although the configuration is right: no database, no
    /// listener.
    ///
    /// # Errors
    ///
    /// Everything that is missing.
    pub fn check_can_run(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        if self.node.database.is_none() {
            let message = "no database is configured: set `database = \"private\"`, or a postgres:// \
                           URL, or TANDEM_DATABASE";
            problems.push(Problem::of_file("configuration", message));
        }
        if self.node.listeners.is_empty() {
            let message = "no listener is configured: add [[listener]] with `name` and `bind`, or \
                           set TANDEM_LISTENER_PUBLIC_BIND";
            problems.push(Problem::of_file("configuration", message));
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems::new(problems)) }
    }

    /// The effective configuration as TOML, without secrets: the node, and each trunk that is a file
    /// under `[profile.ID]`.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = print::print(&self.tree);
        for trunk in &self.trunks {
            let Some(tree) = self.profiles.effective(&trunk.name) else { continue };
            let inner = toml::Table::from_iter([(trunk.name.clone(), print::table(&tree).into())]);
            let outer = toml::Table::from_iter([("profile".to_owned(), inner.into())]);
            text.push('\n');
            text.push_str(&toml::to_string(&outer).unwrap_or_default());
        }
        text
    }
}

/// Reads and checks a whole configuration.
///
/// # Errors
///
/// Every problem of every file, when any of them stops the program.
pub fn load(inputs: &Inputs<'_>) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let mut sources = Sources::default();
    let (tree, dir) = node_tree(inputs, &mut sources, &mut problems);
    let secrets = Arc::clone(&inputs.secrets);
    let node = node::build(&tree, &sources, &*secrets, &mut problems);
    // Without a node, profiles alone are checked, wherever they will be used.
    let region = inputs.config.is_some().then(|| View(&tree).text("region").to_owned());
    let ports = inputs.config.is_some().then(|| node.media.ports.clone());
    let around = Around { secrets, region, ports };
    let profiles = Profiles::read(sources, inputs.files, dir.as_deref(), around, &mut problems);
    let trunks = profiles.trunks(&mut problems);
    if inputs.config.is_some() || !node.listeners.is_empty() {
        let place = |trunk: &Trunk| profiles.problem_at(&trunk.name, "network.listener");
        node::check_listeners_of(&trunks, &node, place, &mut problems);
    }
    let problems = Problems::new(problems);
    if problems.is_fatal() {
        return Err(problems);
    }
    let is_warning = |problem: &&Problem| problem.severity == Severity::Warning;
    let warnings = problems.list().iter().filter(is_warning).cloned().collect();
    Ok(Config { node, profiles, trunks, warnings, tree })
}

/// The effective tree of `tandem.toml`, and the folder of the profiles where there is one.
fn node_tree(
    inputs: &Inputs<'_>,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> (Table, Option<PathBuf>) {
    let defaults = sources.add("built-in defaults", node::DEFAULTS);
    let mut tree = tree::parse(defaults, sources, problems);
    let mut file = None;
    if let Some(path) = &inputs.config {
        let name = path.display().to_string();
        match inputs.files.read(path) {
            Ok(text) => {
                let source = sources.add(name, text);
                file = Some(source);
                let own = tree::parse(source, sources, problems);
                tree::merge(&mut tree, &own);
            }
            Err(error) => problems.push(Problem::of_file(name, error.to_string())),
        }
    }
    environment::apply(&inputs.env, &mut tree, sources, problems);
    let mut check = Check { sources, problems, skip_templates: false };
    check.table("", &tree, node::NODE);
    let dir = profile_dir(&tree, (defaults, file), inputs, (&*sources, problems));
    (tree, dir)
}

/// A path in the file is relative to the file's folder, a path in a variable to where we are. The
/// default folder need not be there; one that the file names and that cannot be read is told with its place.
fn profile_dir(
    tree: &Table,
    (defaults, file): (usize, Option<usize>),
    inputs: &Inputs<'_>,
    (sources, problems): (&Sources, &mut Vec<Problem>),
) -> Option<PathBuf> {
    let node = View(tree).node("profiles.dir")?;
    let dir = Path::new(View(tree).text("profiles.dir"));
    let home = inputs.config.as_deref().and_then(Path::parent);
    let dir = match home {
        Some(home) if Some(node.at.source) == file || node.at.source == defaults => home.join(dir),
        _ => dir.to_owned(),
    };
    match inputs.files.list(&dir) {
        Err(_) if node.at.source == defaults => None,
        Err(error) if Some(node.at.source) == file => {
            let message = format!("`profiles.dir`: {}: {error}", dir.display());
            problems.push(Problem::error(sources, node.at, message));
            None
        }
        Ok(_) | Err(_) => Some(dir),
    }
}
