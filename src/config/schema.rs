//! Schemas: which keys there are, what they take, and which of it this version can do.

use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Place;
use crate::config::tree::Table;
use crate::config::tree::Value;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::RulePart;
use crate::routing::numbers::RuleText;

/// A key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) built: Built,
}

/// What a key takes.
pub(crate) enum Kind {
    Text,
    /// Text of a form of its own.
    Parsed(fn(&str) -> Result<(), String>),
    /// The same, holding a secret or pointing to one: never shown.
    Secret(fn(&str) -> Result<(), String>),
    Integer(i64, i64),
    /// One of these numbers.
    Numbers(&'static [i64]),
    Fraction(f64, f64),
    Flag,
    Choice(&'static [&'static str]),
    Texts,
    ParsedList(fn(&str) -> Result<(), String>),
    Choices(&'static [&'static str]),
    Integers(i64, i64),
    /// Two numbers, the first not above the second; or none.
    Range(i64, i64),
    /// A word of the list, or whole numbers.
    WordOrIntegers(&'static [&'static str]),
    Rules,
    /// Any keys, each with text.
    Map,
    /// Keys of a form, each with text of another.
    MapOf(fn(&str) -> Result<(), String>, fn(&str) -> Result<(), String>),
    Table(&'static [Key]),
    Tables(&'static [Key]),
}

/// Which values this version can do. The default of a key always can be done.
#[derive(Clone, Copy)]
pub(crate) enum Built {
    /// Every value.
    Yes,
    /// These words only.
    #[cfg_attr(not(test), expect(dead_code, reason = "every value of today's keys is built"))]
    Only(&'static [&'static str]),
}

/// Where a check stands: what it reports to, and the path so far.
pub(crate) struct Check<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) problems: &'a mut Vec<Problem>,
    /// Values with `{vars.` in them are judged only after they were filled in.
    pub(crate) skip_templates: bool,
}

impl Check<'_> {
    fn error(&mut self, at: Place, message: String) {
        self.problems.push(Problem::error(self.sources, at, message));
    }

    /// Checks every key of `table` against `keys`.
    pub(crate) fn table(&mut self, path: &str, table: &Table, keys: &'static [Key]) {
        for (name, entry) in table {
            let full = join(path, name);
            match keys.iter().find(|key| key.name == name) {
                Some(key) => self.value(&full, &entry.node, &key.kind),
                None => self.unknown(&full, name, entry, keys),
            }
        }
    }

    fn unknown(&mut self, full: &str, name: &str, entry: &Entry, keys: &[Key]) {
        let hint = match nearest(name, keys.iter().map(|key| key.name)) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        let message = format!("there is no key `{full}`{hint}");
        // Who writes `password` where `password_ref` belongs writes the password behind it.
        let problem = Problem::error(self.sources, entry.key_at, message).hiding_secrets();
        self.problems.push(problem);
    }

    fn wrong(&mut self, path: &str, node: &Node, kind: &Kind) {
        let got = match (&node.value, kind) {
            (_, Kind::Secret(_)) => node.value.kind().to_owned(),
            (Value::Text(text), Kind::Choice(_) | Kind::Choices(_) | Kind::WordOrIntegers(_)) => {
                format!("{text:?}")
            }
            (Value::Integer(n), Kind::Integer(..) | Kind::Numbers(_) | Kind::Integers(..)) => {
                n.to_string()
            }
            (value, _) => value.kind().to_owned(),
        };
        self.error(node.at, format!("`{path}` is {}, not {got}", kind.expected()));
    }

    fn parsed(&mut self, path: &str, node: &Node, parse: fn(&str) -> Result<(), String>) {
        let Value::Text(text) = &node.value else {
            return self.error(node.at, format!("`{path}` is text, not {}", node.value.kind()));
        };
        if self.skip_templates && text.contains("{vars.") {
            return;
        }
        if let Err(message) = parse(text) {
            self.error(node.at, format!("`{path}`: {message}"));
        }
    }

    fn value(&mut self, path: &str, node: &Node, kind: &Kind) {
        match (kind, &node.value) {
            (Kind::Text, Value::Text(_)) | (Kind::Flag, Value::Flag(_)) => {}
            (Kind::Parsed(parse), _) => self.parsed(path, node, *parse),
            (Kind::Secret(parse), _) => {
                let before = self.problems.len();
                self.parsed(path, node, *parse);
                for problem in self.problems.iter_mut().skip(before) {
                    *problem = problem.clone().hiding_value();
                }
            }
            (Kind::Integer(min, max), Value::Integer(n)) if (min..=max).contains(&n) => {}
            (Kind::Numbers(list), Value::Integer(n)) if list.contains(n) => {}
            (Kind::Fraction(min, max), Value::Float(n)) if (min..=max).contains(&n) => {}
            (Kind::Fraction(min, max), Value::Integer(n))
                if (*min..=*max).contains(&(*n as f64)) => {}
            (Kind::Choice(words), Value::Text(text)) if words.contains(&text.as_str()) => {}
            (Kind::WordOrIntegers(words), Value::Text(text)) if words.contains(&text.as_str()) => {}
            (Kind::Range(min, max), Value::Array(items)) => {
                self.range(path, node, items, *min..=*max)
            }
            (Kind::Rules, Value::Array(items)) => self.rules(path, items),
            (Kind::Map, Value::Table(table)) => {
                for (name, entry) in table {
                    self.value(&join(path, name), &entry.node, &Kind::Text);
                }
            }
            (Kind::MapOf(name_form, form), Value::Table(table)) => {
                for (name, entry) in table {
                    if let Err(message) = name_form(name) {
                        self.error(entry.key_at, format!("`{path}`: {message}"));
                    }
                    self.value(&join(path, name), &entry.node, &Kind::Parsed(*form));
                }
            }
            (Kind::Table(keys), Value::Table(table)) => self.table(path, table, keys),
            (_, Value::Array(items)) => self.list(path, node, items, kind),
            _ => self.wrong(path, node, kind),
        }
    }

    /// Each item of a list by the kind of its items.
    fn list(&mut self, path: &str, node: &Node, items: &[Node], kind: &Kind) {
        let item_kind = match kind {
            Kind::Texts => Kind::Text,
            Kind::ParsedList(parse) => Kind::Parsed(*parse),
            Kind::Choices(words) => Kind::Choice(words),
            Kind::Integers(min, max) => Kind::Integer(*min, *max),
            Kind::WordOrIntegers(_) => Kind::Integer(100, 699),
            Kind::Tables(keys) => Kind::Table(keys),
            _ => return self.wrong(path, node, kind),
        };
        for (index, item) in items.iter().enumerate() {
            self.value(&format!("{path}[{index}]"), item, &item_kind);
        }
    }

    fn range(
        &mut self,
        path: &str,
        node: &Node,
        items: &[Node],
        bounds: std::ops::RangeInclusive<i64>,
    ) {
        let numbers: Option<Vec<i64>> = items
            .iter()
            .map(|item| match item.value {
                Value::Integer(n) if bounds.contains(&n) => Some(n),
                _ => None,
            })
            .collect();
        let good = match numbers.as_deref() {
            Some([]) => true,
            Some([first, last]) => first <= last,
            _ => false,
        };
        if !good {
            let (min, max) = (bounds.start(), bounds.end());
            let message = format!("`{path}` is two numbers from {min} to {max}, the lower first");
            self.error(node.at, message);
        }
    }

    /// Rewrite rules: `{ match = '^..$', to = "..." }`, each compiled.
    fn rules(&mut self, path: &str, items: &[Node]) {
        const RULE: &[Key] = &[
            Key { name: "match", kind: Kind::Text, built: Built::Yes },
            Key { name: "to", kind: Kind::Text, built: Built::Yes },
        ];
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.value(&path, item, &Kind::Table(RULE));
            let Value::Table(rule) = &item.value else { continue };
            let (Some(pattern), Some(to)) = (rule.get("match"), rule.get("to")) else {
                self.error(item.at, format!("`{path}` is a table with `match` and `to`"));
                continue;
            };
            let (Value::Text(pattern_text), Value::Text(to_text)) =
                (&pattern.node.value, &to.node.value)
            else {
                continue;
            };
            let text = RuleText { pattern: pattern_text.clone(), to: to_text.clone() };
            // Any area code: whether one is there is asked of whole trunks only.
            for error in NumberRules::compile(&[text], "0").err().into_iter().flatten() {
                let at = match error.part {
                    RulePart::Pattern => pattern.node.at,
                    RulePart::To => to.node.at,
                };
                self.error(at, format!("`{path}`: {}", error.message));
            }
        }
    }

    /// Reports every value of an effective tree that this version cannot do. `defaults` is the tree
    /// of the defaults.
    pub(crate) fn built(
        &mut self,
        path: &str,
        table: &Table,
        defaults: &Table,
        keys: &'static [Key],
    ) {
        for key in keys {
            let Some(entry) = table.get(key.name) else { continue };
            let full = join(path, key.name);
            let default = defaults.get(key.name).map(|entry| &entry.node.value);
            if default.is_some_and(|default| default.same(&entry.node.value)) {
                continue;
            }
            if let (Kind::Table(keys), Value::Table(inner)) = (&key.kind, &entry.node.value) {
                let none = Table::new();
                let inner_defaults = match default {
                    Some(Value::Table(defaults)) => defaults,
                    _ => &none,
                };
                if matches!(key.built, Built::Yes) {
                    self.built(&full, inner, inner_defaults, keys);
                    continue;
                }
            }
            if !can_do(&entry.node.value, key.built) {
                let value = shown(&entry.node.value);
                let message = format!("`{full}` = {value} is not supported in this version");
                self.error(entry.node.at, message);
            }
        }
    }
}

fn can_do(value: &Value, built: Built) -> bool {
    match (built, value) {
        (Built::Yes, _) => true,
        (Built::Only(words), Value::Text(text)) => words.contains(&text.as_str()),
        (Built::Only(_), Value::Array(items)) => {
            items.iter().all(|item| can_do(&item.value, built))
        }
        (Built::Only(_), _) => false,
    }
}

impl Kind {
    /// What it takes, for a message.
    fn expected(&self) -> String {
        match self {
            Self::Text | Self::Parsed(_) | Self::Secret(_) => "text".to_owned(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Numbers(list) => one_of(list.iter().map(ToString::to_string)),
            Self::Fraction(min, max) => format!("a number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => one_of(words.iter().map(|word| format!("{word:?}"))),
            Self::Texts | Self::ParsedList(_) => "a list of texts".to_owned(),
            Self::Choices(words) => {
                let words = words.iter().map(|word| format!("{word:?}"));
                format!("a list of {}", one_of(words))
            }
            Self::Integers(min, max) => format!("a list of whole numbers from {min} to {max}"),
            Self::Range(min, max) => format!("two whole numbers from {min} to {max}"),
            Self::WordOrIntegers(words) => {
                let words = words.iter().map(|word| format!("{word:?}"));
                format!("{}, or a list of status codes", words.collect::<Vec<_>>().join(", "))
            }
            Self::Rules => "a list of rules { match = '^...$', to = \"...\" }".to_owned(),
            Self::Map | Self::MapOf(..) | Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "a list of tables".to_owned(),
        }
    }
}

fn one_of(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// A value for a message, short.
fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Array(items) if items.len() <= 4 => {
            let items: Vec<String> = items.iter().map(|item| shown(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Array(_) => "[...]".to_owned(),
        Value::Table(_) | Value::Other(_) => "{ ... }".to_owned(),
    }
}

/// A path and a key of it.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The name most like `text`, if any is like it.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.map(|name| (distance(text, name), name)).min()?;
    (near.0 <= 1 + text.chars().count() / 4).then_some(near.1)
}

/// How many insertions, removals and replacements make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *slot;
            left = replaced.min(left + 1).min(*slot + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::parse;

    #[test]
    fn what_is_not_built_is_refused_where_it_is_said_and_no_default_is() {
        const KEYS: &[Key] = &[
            Key { name: "old", kind: Kind::Text, built: Built::Yes },
            Key { name: "new", kind: Kind::Texts, built: Built::Only(&["done"]) },
        ];
        let mut sources = Sources::default();
        let refused = |sources: &mut Sources, text: &str| {
            let source = sources.add("x.toml", text);
            let mut problems = Vec::new();
            let tree = parse(source, sources, &mut problems);
            let mut check = Check { sources, problems: &mut problems, skip_templates: false };
            check.built("", &tree, &tree_of_defaults(), KEYS);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in ["old = \"any\"", "new = \"done\"", "new = [\"done\"]", "new = \"planned\""] {
            assert_eq!(refused(&mut sources, good), [""; 0], "{good}");
        }
        for bad in ["\nnew = \"later\"", "\nnew = [\"done\", \"later\"]"] {
            let problems = refused(&mut sources, bad).join("\n");
            assert!(problems.contains("is not supported in this version"), "{problems}");
            assert!(problems.contains("x.toml:2:7"), "{problems}");
        }
    }

    /// A default that is not built either.
    fn tree_of_defaults() -> Table {
        let mut sources = Sources::default();
        let source = sources.add("defaults", "new = \"planned\"");
        parse(source, &sources, &mut Vec::new())
    }

    #[test]
    fn the_nearest_name_is_one_like_it() {
        let names = || ["ptime_ms", "max_ptime_ms", "rtcp"].into_iter();
        assert_eq!(nearest("ptime", names()), None);
        assert_eq!(nearest("ptime_mss", names()), Some("ptime_ms"));
        assert_eq!(nearest("rctp", names()), Some("rtcp"));
        assert_eq!(nearest("whatever", names()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
