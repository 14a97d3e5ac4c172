//! `Profiles`: trunk profiles with everything they extend, and trunks made of them.

use crate::config::files::Files;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::config::problem::Severity;
use crate::config::problem::Sources;
use crate::config::schema::Check;
use crate::config::schema::nearest;
use crate::config::secret::RowSecrets;
use crate::config::secret::Secrets;
use crate::config::tree;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Place;
use crate::config::tree::Table;
use crate::config::tree::Value;
use crate::config::tree::View;
use crate::config::trunk;
use crate::config::trunk::TrunkIdentity;
use crate::config::trunk_schema::FILE_KEYS;
use crate::config::trunk_schema::PROFILE;
use crate::routing::trunk::Trunk;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use uuid::Builder;

/// Profiles every installation has; a file of the same id in the profile folder takes their place.
const BUILT_IN: [(&str, &str); 9] = [
    ("_base", include_str!("../../sip-profiles/_base.toml")),
    ("generic", include_str!("../../sip-profiles/generic.toml")),
    ("in-plan", include_str!("../../sip-profiles/in-plan.toml")),
    ("airtel-ims", include_str!("../../sip-profiles/airtel-ims.toml")),
    ("smartflo", include_str!("../../sip-profiles/smartflo.toml")),
    ("tata-ip-auth", include_str!("../../sip-profiles/tata-ip-auth.toml")),
    ("tata-registered", include_str!("../../sip-profiles/tata-registered.toml")),
    ("telnyx", include_str!("../../sip-profiles/telnyx.toml")),
    ("twilio", include_str!("../../sip-profiles/twilio.toml")),
];

/// A trunk of the database: a profile, and what differs from it.
#[derive(Clone, Debug)]
pub struct TrunkRow<'a> {
    /// Its identity.
    pub id: TrunkId,
    /// Its name.
    pub name: &'a str,
    /// The tenant that owns it; `None`: shared.
    pub tenant: Option<TenantId>,
    /// Whether it carries calls.
    pub enabled: bool,
    /// The id of the profile it extends.
    pub profile: &'a str,
    /// The tree of what differs: an object with the keys of a profile, or null.
    pub overrides: &'a serde_json::Value,
    /// What `sealed:NAME` means in it.
    pub sealed: BTreeMap<String, Secret<String>>,
}

/// A profile as the live trunk it would be, for a trial of it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The trunk.
    pub trunk: Trunk,
    /// The id of the profile and of all it extends, the nearest first.
    pub lineage: Vec<String>,
    /// What it asks for and this version cannot do.
    pub not_built: Vec<Problem>,
    tree: Table,
}

impl Trial {
    /// The text at a path of the profile, such as `vars.customer_ip`; `None` where there is none.
    #[must_use]
    pub fn given(&self, path: &str) -> Option<&str> {
        View(&self.tree).given(path)
    }

    /// A yes or no of the profile.
    #[must_use]
    pub fn flag(&self, path: &str) -> bool {
        View(&self.tree).flag(path)
    }
}

/// All trunk profiles of a node. A clone is one reference count.
#[derive(Clone)]
pub struct Profiles(Arc<Set>);

struct Set {
    sources: Sources,
    files: BTreeMap<String, File>,
    defaults: Table,
    around: Around,
}

/// What trunks depend on beside their profiles.
pub(crate) struct Around {
    /// Where the secrets behind references are.
    pub(crate) secrets: Arc<dyn Secrets>,
    /// The country of the node, empty where it does not say; `None`: of no matter.
    pub(crate) region: Option<String>,
    /// The RTP ports of the node, first and last; `None`: of no matter.
    pub(crate) ports: Option<RangeInclusive<u16>>,
}

/// One profile file as it was read.
struct File {
    table: Table,
    source: usize,
    extends: Vec<(String, Place)>,
    built_in: bool,
    /// It is a copy of one that is built in, word for word.
    copied: bool,
}

impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.files.keys()).finish()
    }
}

impl Profiles {
    /// Where their secrets are.
    pub(crate) fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::clone(&self.0.around.secrets)
    }

    /// The profiles that are built into the program.
    #[must_use]
    pub fn built_in(secrets: Arc<dyn Secrets>) -> Self {
        let mut problems = Vec::new();
        // A test keeps the built-in files free of problems.
        let around = Around { secrets, region: None, ports: None };
        Self::of_texts(Sources::default(), Vec::new(), around, &mut problems)
    }

    /// The profiles of a folder and the built-in ones.
    pub(crate) fn read(
        sources: Sources,
        files: &dyn Files,
        dir: Option<&Path>,
        around: Around,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut texts = Vec::new();
        match dir.map(|dir| (dir, files.list(dir))) {
            None => {}
            Some((dir, Err(error))) => {
                problems.push(Problem::of_file(dir.display().to_string(), error.to_string()));
            }
            Some((_, Ok(paths))) => {
                for path in
                    paths.iter().filter(|path| path.extension().is_some_and(|e| e == "toml"))
                {
                    let name = path.display().to_string();
                    match files.read(path) {
                        Ok(text) => texts.push((name, text)),
                        Err(error) => problems.push(Problem::of_file(name, error.to_string())),
                    }
                }
            }
        }
        Self::of_texts(sources, texts, around, problems)
    }

    fn of_texts(
        mut sources: Sources,
        texts: Vec<(String, String)>,
        around: Around,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut files = BTreeMap::new();
        let mut defaults = Table::new();
        for (id, text) in BUILT_IN {
            let source = sources.add(format!("built-in {id}.toml"), text);
            let table = tree::parse(source, &sources, problems);
            if id == "_base" {
                defaults = table.clone();
            }
            files.insert(id.to_owned(), File { built_in: true, ..File::new(table, source) });
        }
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for (name, text) in texts {
            let shipped = BUILT_IN.iter().find(|(_, own)| *own == text).map(|(id, _)| *id);
            let source = sources.add(name, text);
            let table = tree::parse(source, &sources, problems);
            let mut check = Check { sources: &sources, problems, skip_templates: true };
            check.table("", &table, PROFILE);
            let Some(id) = View(&table).given("id").map(str::to_owned) else {
                // An id that is no text was reported with the schema.
                if !table.contains_key("id") {
                    let message = "a profile has an `id`";
                    problems.push(Problem::error(&sources, Place::whole(source), message));
                }
                continue;
            };
            if !table.contains_key("schema_version") {
                let message = "a profile has `schema_version = 1`";
                problems.push(Problem::error(&sources, Place::whole(source), message));
            }
            if let Some(first) = owners.insert(id.clone(), source) {
                let at = View(&table).node("id").map_or(Place::whole(source), |node| node.at);
                let first = sources.name(first);
                let message = format!("`id` {id:?} is taken by {first}");
                problems.push(Problem::error(&sources, at, message));
                continue;
            }
            let copied = shipped == Some(id.as_str());
            files.insert(id, File { copied, ..File::new(table, source) });
        }
        Self(Arc::new(Set { sources, files, defaults, around }))
    }

    /// The ids of all profiles, templates among them.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.files.keys().map(String::as_str)
    }

    /// Whether a profile is there to be extended, and for nothing else.
    #[must_use]
    pub fn is_template(&self, id: &str) -> bool {
        let file = self.0.files.get(id);
        id.starts_with('_') || file.is_some_and(|file| View(&file.table).flag("abstract"))
    }

    /// Whether a profile of this id is there that is not built in, nor a copy of one that is.
    #[must_use]
    pub fn is_own(&self, id: &str) -> bool {
        self.0.files.get(id).is_some_and(|file| !file.built_in && !file.copied)
    }

    /// Makes a trunk of a row of the database.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its overrides or keeps it from being used.
    pub fn compose(&self, row: &TrunkRow<'_>) -> Result<Trunk, Problems> {
        let mut sources = self.0.sources.clone();
        let mut problems = Vec::new();
        let source = sources.add_opaque(format!("trunk {}", row.name));
        let at = Place::whole(source);
        let profile = self.merged(row.profile, &sources, &mut problems);
        let owner = profile.as_ref().and_then(|tree| View(tree).given("tenant"));
        let owner: Option<TenantId> = owner.and_then(|owner| owner.parse().ok());
        // One of another tenant is like one that is not there.
        let is_anothers = row.tenant.is_some() && owner.is_some() && owner != row.tenant;
        let Some(mut tree) = profile.filter(|_| !is_anothers) else {
            let message = match row.tenant {
                // Its own tenant is shown what every installation has, not the carriers of the operator.
                Some(_) => no_profile(row.profile, BUILT_IN.iter().map(|(id, _)| *id)),
                None => no_profile(row.profile, self.ids()),
            };
            problems.push(Problem::error(&sources, at, message));
            return Err(Problems::new(problems));
        };
        match tree::from_json(source, row.overrides).map(|node| node.value) {
            None => {}
            Some(Value::Table(overrides)) => {
                for key in FILE_KEYS.iter().filter(|key| overrides.contains_key(**key)) {
                    let message = format!("`{key}` belongs to the trunk, not to its overrides");
                    problems.push(Problem::error(&sources, at, message));
                }
                let mut check =
                    Check { sources: &sources, problems: &mut problems, skip_templates: true };
                check.table("", &overrides, PROFILE);
                tree::merge(&mut tree, &overrides);
            }
            Some(_) => problems.push(Problem::error(&sources, at, "overrides are an object")),
        }
        let identity = TrunkIdentity {
            id: row.id,
            name: row.name.to_owned(),
            tenant: row.tenant,
            enabled: row.enabled,
            at,
        };
        let around = Around {
            secrets: Arc::new(RowSecrets::new(self.secrets(), row.sealed.clone())),
            region: self.0.around.region.clone(),
            ports: self.0.around.ports.clone(),
        };
        if row.tenant.is_some() && owner != row.tenant {
            let mut paths = Vec::new();
            find_secrets_of_the_node(("", &tree), source, &mut paths);
            if !paths.is_empty() {
                let message = format!(
                    "the profile names secrets of the node ({}): the trunk of a tenant has its own in \
                     its overrides, as \"sealed:NAME\"",
                    paths.join(", ")
                );
                // Whether the node has them is nothing to tell, so they are not looked up.
                return Err(Problems::new(vec![Problem::error(&sources, at, message)]));
            }
        }
        let is_tenants = row.tenant.is_some() && names_peers(&tree, source);
        let mut trunk = self.finish(tree, identity, &sources, (&around, &mut problems));
        trunk.path.is_tenants = is_tenants;
        problems.retain(|problem| problem.severity == Severity::Error);
        let problems = Problems::new(problems);
        if problems.is_fatal() { Err(problems) } else { Ok(trunk) }
    }

    /// Checks every profile and makes trunks of those that are enabled and no templates.
    pub(crate) fn trunks(&self, problems: &mut Vec<Problem>) -> Vec<Trunk> {
        let mut trunks = Vec::new();
        // Those that are built in are disabled and right: tests keep them so.
        for (id, file) in self.0.files.iter().filter(|(_, file)| !file.built_in) {
            let Some(tree) = self.merged(id, &self.0.sources, problems) else { continue };
            if self.is_template(id) {
                continue;
            }
            let view = View(&tree);
            let enabled = view.flag("enabled");
            let at = find_in(&file.table, "enabled", file.source);
            let tenant = view.text("tenant").parse().ok();
            let identity =
                TrunkIdentity { id: trunk_id(id), name: id.clone(), tenant, enabled, at };
            let trunk = self.finish(tree, identity, &self.0.sources, (&self.0.around, problems));
            if enabled {
                trunks.push(trunk);
            }
        }
        trunks
    }

    /// The profiles of a folder, and the built-in ones.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them as a text.
    pub fn of_folder(
        files: &dyn Files,
        dir: &Path,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let around = Around { secrets, region: None, ports: None };
        let profiles = Self::read(Sources::default(), files, Some(dir), around, &mut problems);
        let problems = Problems::new(problems);
        if problems.is_fatal() { Err(problems) } else { Ok(profiles) }
    }

    /// The trunk a profile would be if it were enabled, whether or not it is, and even where it asks for
    /// what this version cannot do.
    ///
    /// # Errors
    ///
    /// Everything else that is wrong with it, or that there is no such profile, or that it is a template.
    pub fn trial(&self, id: &str) -> Result<Trial, Problems> {
        let sources = &self.0.sources;
        let (mut problems, mut not_built) = (Vec::new(), Vec::new());
        let merged = self.merged(id, sources, &mut problems).zip(self.0.files.get(id));
        let Some((mut tree, file)) = merged else {
            let problem = Problem::of_file("trial", no_profile(id, self.ids()));
            return Err(Problems::new(vec![problem]));
        };
        if self.is_template(id) {
            let message = format!("`{id}` is a template: try a profile that extends it");
            return Err(Problems::new(vec![Problem::of_file("trial", message)]));
        }
        fill_in_variables(&mut tree, sources, &mut problems);
        let check = |problems| Check { sources, problems, skip_templates: false };
        check(&mut problems).table("", &tree, PROFILE);
        check(&mut not_built).built("", &tree, &self.0.defaults, PROFILE);
        let at = Place::whole(file.source);
        let name = id.to_owned();
        let identity = TrunkIdentity { id: trunk_id(id), name, tenant: None, enabled: true, at };
        let trunk = trunk::build(&tree, identity, sources, (&self.0.around, &mut problems));
        let problems = Problems::new(problems);
        if problems.is_fatal() {
            return Err(problems);
        }
        let (mut order, mut open) = (Vec::new(), Vec::new());
        self.line_up(id, (&mut order, &mut open), sources, &mut Vec::new());
        let lineage = order.into_iter().rev().map(str::to_owned).collect();
        Ok(Trial { trunk, lineage, not_built, tree })
    }

    /// The effective tree of a profile, for people.
    pub(crate) fn effective(&self, id: &str) -> Option<Table> {
        self.merged(id, &self.0.sources, &mut Vec::new())
    }

    /// A problem, still without its message, at a value of a profile.
    pub(crate) fn problem_at(&self, id: &str, path: &str) -> Problem {
        let sources = &self.0.sources;
        let at = self.0.files.get(id).map(|file| find_in(&file.table, path, file.source));
        at.map_or(Problem::of_file(id, ""), |at| Problem::error(sources, at, ""))
    }

    /// Fills in variables, checks the whole, and makes the trunk.
    fn finish(
        &self,
        mut tree: Table,
        identity: TrunkIdentity,
        sources: &Sources,
        (around, problems): (&Around, &mut Vec<Problem>),
    ) -> Trunk {
        fill_in_variables(&mut tree, sources, problems);
        let mut check = Check { sources, problems, skip_templates: false };
        check.table("", &tree, PROFILE);
        if identity.enabled {
            check.built("", &tree, &self.0.defaults, PROFILE);
        }
        trunk::build(&tree, identity, sources, (around, problems))
    }

    /// A profile laid upon everything it extends, and all of it upon the defaults. Each ancestor is
    /// laid once, the earliest first, so that one named twice does not undo what is above it.
    fn merged(&self, id: &str, sources: &Sources, problems: &mut Vec<Problem>) -> Option<Table> {
        let mut order = Vec::new();
        let mut open = Vec::new();
        self.line_up(id, (&mut order, &mut open), sources, problems);
        let own = self.0.files.get(id)?;
        let mut tree = self.0.defaults.clone();
        for file in order.iter().filter_map(|id| self.0.files.get(*id)) {
            let mut table = file.table.clone();
            for key in ["schema_version", "id", "abstract", "extends"] {
                table.remove(key);
            }
            tree::merge(&mut tree, &table);
        }
        for key in ["schema_version", "id", "abstract", "extends"] {
            tree.remove(key);
            if let Some(entry) = own.table.get(key) {
                tree.insert(key.to_owned(), entry.clone());
            }
        }
        Some(tree)
    }

    fn line_up<'s>(
        &'s self,
        id: &str,
        (order, open): (&mut Vec<&'s str>, &mut Vec<&'s str>),
        sources: &Sources,
        problems: &mut Vec<Problem>,
    ) {
        let Some((id, file)) = self.0.files.get_key_value(id) else { return };
        open.push(id);
        for (parent, at) in &file.extends {
            if open.contains(&parent.as_str()) {
                let circle = open.join(" -> ");
                let message = format!("`extends` goes in a circle: {circle} -> {parent}");
                problems.push(Problem::error(sources, *at, message));
            } else if !self.0.files.contains_key(parent) {
                let message = no_profile(parent, self.ids());
                problems.push(Problem::error(sources, *at, message));
            } else if !order.contains(&parent.as_str()) {
                self.line_up(parent, (order, open), sources, problems);
            }
        }
        open.pop();
        if !order.contains(&id.as_str()) {
            order.push(id);
        }
    }
}

impl File {
    fn new(table: Table, source: usize) -> Self {
        let extends = View(&table)
            .list("extends")
            .iter()
            .filter_map(|node| match &node.value {
                Value::Text(text) => Some((text.clone(), node.at)),
                _ => None,
            })
            .collect();
        Self { table, source, extends, built_in: false, copied: false }
    }
}

fn no_profile<'i>(id: &str, others: impl Iterator<Item = &'i str>) -> String {
    let hint = nearest(id, others);
    let hint = hint.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("there is no profile `{id}`{hint}")
}

fn find_in(table: &Table, path: &str, source: usize) -> Place {
    tree::find(table, path).map_or(Place::whole(source), |node| node.at)
}

/// Whether the text `own` has a part in where requests of the trunk go, be it by variables.
fn names_peers(tree: &Table, own: usize) -> bool {
    let peers = ["outbound.gateway", "registration.registrar", "registration.proxy"];
    let variables = match tree.get("vars").map(|entry| &entry.node.value) {
        Some(Value::Table(variables)) => {
            variables.values().any(|entry| entry.node.at.source == own)
        }
        _ => false,
    };
    variables || peers.iter().any(|path| find_in(tree, path, usize::MAX).source == own)
}

/// The paths of secrets that a trunk does not have in itself, the text `own`, but from its profile: it would tell
/// them to whatever peer its owner names.
fn find_secrets_of_the_node((path, table): (&str, &Table), own: usize, paths: &mut Vec<String>) {
    for (key, Entry { node, .. }) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match &node.value {
            Value::Text(text) => {
                let is_the_nodes = !text.is_empty() && !text.starts_with("sealed:");
                if key.ends_with("_ref") && is_the_nodes && node.at.source != own {
                    paths.push(format!("`{path}`"));
                }
            }
            Value::Table(table) => find_secrets_of_the_node((&path, table), own, paths),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Table(table) = &item.value {
                        find_secrets_of_the_node((&format!("{path}[{index}]"), table), own, paths);
                    }
                }
            }
            Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Other(_) => {}
        }
    }
}

/// The identity of a trunk that is a file: the same on every node and at every start.
fn trunk_id(id: &str) -> TrunkId {
    let hash = id.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    TrunkId::from_uuid(Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid())
}

/// Puts the values of `[vars]` where `{vars.name}` stands.
fn fill_in_variables(tree: &mut Table, sources: &Sources, problems: &mut Vec<Problem>) {
    let vars = match tree.get("vars").map(|entry| &entry.node.value) {
        Some(Value::Table(vars)) => vars.clone(),
        _ => Table::new(),
    };
    for (_, entry) in tree.iter_mut().filter(|(key, _)| *key != "vars") {
        fill_in(&mut entry.node, &vars, sources, problems);
    }
}

fn fill_in(node: &mut Node, vars: &Table, sources: &Sources, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Text(text) => match filled(text, vars) {
            Ok(None) => {}
            Ok(Some(new)) => *text = new,
            Err(name) => {
                let hint = nearest(&name, vars.keys().map(String::as_str))
                    .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let message = format!("there is no `{name}` in `[vars]`{hint}");
                problems.push(Problem::error(sources, node.at, message));
            }
        },
        Value::Array(items) => {
            for item in items {
                fill_in(item, vars, sources, problems);
            }
        }
        Value::Table(table) => {
            for entry in table.values_mut() {
                fill_in(&mut entry.node, vars, sources, problems);
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Other(_) => {}
    }
}

/// The text with its variables filled in; `None` where it has none; the name of a variable that is
/// not there.
fn filled(text: &str, vars: &Table) -> Result<Option<String>, String> {
    let Some((head, mut rest)) = text.split_once("{vars.") else { return Ok(None) };
    let mut out = head.to_owned();
    loop {
        let (name, tail) = rest.split_once('}').unwrap_or((rest, ""));
        match vars.get(name).map(|entry| &entry.node.value) {
            Some(Value::Text(value)) => out.push_str(value),
            _ => return Err(name.to_owned()),
        }
        let Some((text, next)) = tail.split_once("{vars.") else {
            out.push_str(tail);
            return Ok(Some(out));
        };
        out.push_str(text);
        rest = next;
    }
}
