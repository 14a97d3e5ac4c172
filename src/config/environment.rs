//! `TANDEM_*`: an environment variable for every key of `tandem.toml`.
//!
//! The name is the path of the key in capitals: `http.bind` is `TANDEM_HTTP_BIND`. A list has commas
//! between its items, a range of ports is `16384-32767`. The listener `public` has
//! `TANDEM_LISTENER_PUBLIC_BIND` and its like; a listener that is not in the file is added.

use crate::config::listener::LISTENER;
use crate::config::node::NODE;
use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::schema::nearest;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Place;
use crate::config::tree::Table;
use crate::config::tree::Value;

const PREFIX: &str = "TANDEM_";
const LISTENER_PREFIX: &str = "TANDEM_LISTENER_";
/// Variables of the command line and the clients, which are no keys.
const OTHERS: [&str; 6] = [
    "TANDEM_CONFIG",
    "TANDEM_API",
    "TANDEM_API_KEY",
    "TANDEM_API_KEY_FILE",
    "TANDEM_API_CA_FILE",
    "TANDEM_TENANT",
];

/// Lays the variables over the tree of `tandem.toml`.
pub(crate) fn apply(
    env: &[(String, String)],
    tree: &mut Table,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) {
    let keys = leaves();
    for (name, text) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        if let Some((path, kind)) = keys.iter().find(|(path, _)| variable(path) == *name) {
            let source = sources.add(name.clone(), text.clone());
            set(tree, path, node(source, text, kind));
        } else if let Some((listener, key)) = listener_key(name) {
            let source = sources.add(name.clone(), text.clone());
            set_listener(tree, listener, key, node(source, text, &key.kind));
        } else if !OTHERS.contains(&name.as_str()) && !is_referred_to(name, sources) {
            // Not an error: Kubernetes sets such variables for a service of this name.
            let names: Vec<String> = keys.iter().map(|(path, _)| variable(path)).collect();
            let hint = nearest(name, names.iter().map(String::as_str))
                .map_or(String::new(), |near| format!("; did you mean {near}?"));
            let message = format!("no key belongs to this variable{hint}");
            let source = sources.add(name.clone(), "");
            problems.push(Problem::warning(sources, Place::whole(source), message));
        }
    }
}

/// Every variable there is, with one example listener, for documentation and its test.
#[must_use]
pub fn variables() -> Vec<String> {
    let mut names: Vec<String> = leaves().iter().map(|(path, _)| variable(path)).collect();
    names.extend(
        LISTENER
            .iter()
            .filter(|key| key.name != "name")
            .map(|key| format!("{LISTENER_PREFIX}PUBLIC_{}", key.name.to_ascii_uppercase())),
    );
    names
}

/// The paths of all keys but those of listeners.
fn leaves() -> Vec<(String, &'static Kind)> {
    let mut found = Vec::new();
    for key in NODE {
        match &key.kind {
            Kind::Table(inner) => {
                found.extend(inner.iter().map(|k| (format!("{}.{}", key.name, k.name), &k.kind)));
            }
            Kind::Tables(_) => {}
            kind => found.push((key.name.to_owned(), kind)),
        }
    }
    found
}

fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// The listener and the key of a variable; the name is still in capitals.
fn listener_key(name: &str) -> Option<(&str, &'static Key)> {
    let rest = name.strip_prefix(LISTENER_PREFIX)?;
    LISTENER.iter().filter(|key| key.name != "name").find_map(|key| {
        let listener = rest.strip_suffix(&format!("_{}", key.name.to_ascii_uppercase()))?;
        (!listener.is_empty()).then_some((listener, key))
    })
}

fn is_referred_to(name: &str, sources: &Sources) -> bool {
    let reference = format!("\"env:{name}\"");
    sources.texts().any(|text| text.contains(&reference))
}

fn set(tree: &mut Table, path: &str, node: Node) {
    let (table, name) = match path.split_once('.') {
        None => (tree, path),
        Some((section, name)) => {
            let empty = Node { value: Value::Table(Table::new()), at: node.at };
            let entry = Entry { key_at: node.at, node: empty };
            let section = tree.entry(section.to_owned()).or_insert(entry);
            match &mut section.node.value {
                Value::Table(table) => (table, name),
                // The file has something else there, which is a problem of its own.
                _ => return,
            }
        }
    };
    table.insert(name.to_owned(), Entry { key_at: node.at, node });
}

fn set_listener(tree: &mut Table, listener: &str, key: &Key, node: Node) {
    let at = node.at;
    let list = tree
        .entry("listener".to_owned())
        .or_insert(Entry { key_at: at, node: Node { value: Value::Array(Vec::new()), at } });
    let Value::Array(items) = &mut list.node.value else { return };
    let is_wanted = |item: &Node| match &item.value {
        Value::Table(table) => match table.get("name").map(|entry| &entry.node.value) {
            Some(Value::Text(name)) => name.replace('-', "_").eq_ignore_ascii_case(listener),
            _ => false,
        },
        _ => false,
    };
    let index = items.iter().position(is_wanted).unwrap_or_else(|| {
        let name = Value::Text(listener.to_ascii_lowercase().replace('_', "-"));
        let name = Entry { key_at: at, node: Node { value: name, at } };
        let table = Table::from([("name".to_owned(), name)]);
        items.push(Node { value: Value::Table(table), at });
        items.len() - 1
    });
    if let Some(Node { value: Value::Table(table), .. }) = items.get_mut(index) {
        table.insert(key.name.to_owned(), Entry { key_at: at, node });
    }
}

/// The text as a value of the key's kind; what it cannot be stays text, which the schema reports.
fn node(source: usize, text: &str, kind: &Kind) -> Node {
    let at = Place { source, start: 0, end: text.len() };
    let integer = |text: &str| {
        text.trim().parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Integer)
    };
    let list = |separator: char, item: &dyn Fn(&str) -> Value| {
        let items = text.split(separator).map(|part| Node { value: item(part.trim()), at });
        Value::Array(items.collect())
    };
    let value = match kind {
        Kind::Integer(..) => integer(text),
        Kind::Flag => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Flag),
        Kind::Range(..) => list('-', &integer),
        Kind::Choices(_) | Kind::ParsedList(_) => list(',', &|item| Value::Text(item.to_owned())),
        _ => Value::Text(text.to_owned()),
    };
    Node { value, at }
}
