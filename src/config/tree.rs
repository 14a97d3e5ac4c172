//! The raw tree of a configuration text: values that know which text they came from, and where.

use crate::config::problem::Problem;
use crate::config::problem::Sources;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// A place in one of the texts of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    pub(crate) const fn new(source: usize, span: &Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end }
    }

    /// The place of a text as a whole.
    pub(crate) const fn whole(source: usize) -> Self {
        Self { source, start: 0, end: 0 }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Place,
}

/// A value of TOML, or of JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    Array(Vec<Node>),
    Table(Table),
    /// A kind of value no key takes, with its name.
    Other(&'static str),
}

impl Value {
    /// What it is, for a message.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Flag(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }

    /// Equal apart from places.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.value.same(&b.value))
            }
            (Self::Table(a), Self::Table(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, entry)| {
                        b.get(key).is_some_and(|other| entry.node.value.same(&other.node.value))
                    })
            }
            _ => self == other,
        }
    }
}

/// A key's place and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key_at: Place,
    pub(crate) node: Node,
}

/// A table, by key.
pub(crate) type Table = BTreeMap<String, Entry>;

/// Reads TOML. Syntax errors become problems; what could be read is returned all the same.
pub(crate) fn parse(source: usize, sources: &Sources, problems: &mut Vec<Problem>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(sources.text(source));
    for error in errors {
        let at = error.span().map_or(Place::whole(source), |span| Place::new(source, &span));
        let problem = Problem::error(sources, at, error.message().to_owned());
        problems.push(problem.hiding_secrets());
    }
    from_table(source, table.get_ref())
}

fn from_table(source: usize, table: &DeTable<'_>) -> Table {
    let entries = table.iter().map(|(key, value)| {
        let key_at = Place::new(source, &key.span());
        (key.get_ref().to_string(), Entry { key_at, node: from_value(source, value) })
    });
    entries.collect()
}

fn from_value(source: usize, value: &Spanned<DeValue<'_>>) -> Node {
    let at = Place::new(source, &value.span());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number too large"), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Other("a fraction"), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| from_value(source, item)).collect())
        }
        DeValue::Table(table) => Value::Table(from_table(source, table)),
    };
    Node { value, at }
}

/// Takes JSON, as trunks in PostgreSQL keep it. A null is as if the key were not there.
pub(crate) fn from_json(source: usize, json: &serde_json::Value) -> Option<Node> {
    let at = Place::whole(source);
    let value = match json {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(number)) => Value::Float(number),
            (None, None) => Value::Other("a number too large"),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => {
            Value::Array(items.iter().filter_map(|item| from_json(source, item)).collect())
        }
        serde_json::Value::Object(fields) => {
            let entries = fields.iter().filter_map(|(key, json)| {
                Some((key.clone(), Entry { key_at: at, node: from_json(source, json)? }))
            });
            Value::Table(entries.collect())
        }
    };
    Some(Node { value, at })
}

/// Lays `over` upon `under`: tables merge deeply, everything else is replaced.
pub(crate) fn merge(under: &mut Table, over: &Table) {
    for (key, entry) in over {
        let existing = under.get_mut(key).map(|existing| (&mut existing.node.value, entry));
        if let Some((
            Value::Table(old),
            Entry { node: Node { value: Value::Table(new), .. }, .. },
        )) = existing
        {
            merge(old, new);
        } else {
            under.insert(key.clone(), entry.clone());
        }
    }
}

/// The value at a path of keys with dots between.
pub(crate) fn find<'t>(table: &'t Table, path: &str) -> Option<&'t Node> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let node = &table.get(first)?.node;
    match (rest, &node.value) {
        (None, _) => Some(node),
        (Some(rest), Value::Table(table)) => find(table, rest),
        (Some(_), _) => None,
    }
}

/// Reads values at paths from a tree that was checked before: what is not there, or not of the kind
/// asked for, reads as empty, zero or false.
#[derive(Clone, Copy)]
pub(crate) struct View<'t>(pub(crate) &'t Table);

impl<'t> View<'t> {
    pub(crate) fn node(self, path: &str) -> Option<&'t Node> {
        find(self.0, path)
    }

    pub(crate) fn text(self, path: &str) -> &'t str {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The text, unless it is empty.
    pub(crate) fn given(self, path: &str) -> Option<&'t str> {
        Some(self.text(path)).filter(|text| !text.is_empty())
    }

    pub(crate) fn integer(self, path: &str) -> i64 {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// An integer of any narrower type; the schema has bounded it.
    pub(crate) fn number<T: TryFrom<i64> + Default>(self, path: &str) -> T {
        T::try_from(self.integer(path)).unwrap_or_default()
    }

    pub(crate) fn fraction(self, path: &str) -> f64 {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Float(number)) => *number,
            Some(Value::Integer(number)) => *number as f64,
            _ => 0.0,
        }
    }

    /// The whole numbers of a list, of any narrower type; the schema has bounded them.
    pub(crate) fn numbers<T: TryFrom<i64>>(self, path: &str) -> impl Iterator<Item = T> {
        self.list(path).iter().filter_map(|node| match node.value {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        })
    }

    pub(crate) fn flag(self, path: &str) -> bool {
        matches!(self.node(path).map(|node| &node.value), Some(Value::Flag(true)))
    }

    pub(crate) fn list(self, path: &str) -> &'t [Node] {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Array(items)) => items,
            _ => &[],
        }
    }

    pub(crate) fn texts(self, path: &str) -> impl Iterator<Item = &'t str> {
        self.list(path).iter().filter_map(|node| match &node.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The tables of an array of tables.
    pub(crate) fn tables(self, path: &str) -> impl Iterator<Item = (&'t Node, View<'t>)> {
        self.list(path).iter().filter_map(|node| match &node.value {
            Value::Table(table) => Some((node, View(table))),
            _ => None,
        })
    }
}
