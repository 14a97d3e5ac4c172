//! The effective configuration as TOML, for people.

use crate::config::problem::without_password;
use crate::config::tree::Table;
use crate::config::tree::Value;

/// A tree as TOML. References to secrets are shown, they are none themselves; a password within a
/// URL is not.
pub(crate) fn print(tree: &Table) -> String {
    let value = toml::Value::Table(table(tree));
    // Every value came from TOML or JSON, so each can be written.
    toml::to_string(&value).unwrap_or_default()
}

pub(crate) fn table(tree: &Table) -> toml::Table {
    let entries =
        tree.iter().filter_map(|(key, entry)| Some((key.clone(), value(&entry.node.value)?)));
    entries.collect()
}

fn value(from: &Value) -> Option<toml::Value> {
    Some(match from {
        Value::Text(text) => toml::Value::String(without_password(text)),
        Value::Integer(number) => toml::Value::Integer(*number),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Flag(flag) => toml::Value::Boolean(*flag),
        Value::Array(items) => {
            toml::Value::Array(items.iter().filter_map(|item| value(&item.value)).collect())
        }
        Value::Table(inner) => toml::Value::Table(table(inner)),
        Value::Other(_) => return None,
    })
}
