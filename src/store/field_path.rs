//! The place of what does not fit in a JSON object, as refusals name it: `menu.keys.1`.

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Path;
use serde_path_to_error::Segment;

/// Reads a form; what does not fit is named by its path, in words that begin with it.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let why = error.inner().to_string();
        match field(error.path(), &why) {
            whole if whole.is_empty() => why,
            path => format!("`{path}`: {why}"),
        }
    })
}

/// The path of what does not fit, by what serde says of it; empty: it is the whole.
#[must_use]
pub fn field(path: &Path, why: &str) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    let mut names: Vec<String> = path.iter().filter_map(segment).collect();
    // A member that is missing, or nobody knows, is in the words alone.
    let rest = why.strip_prefix("missing field `").or_else(|| why.strip_prefix("unknown field `"));
    if let Some((name, _)) = rest.and_then(|rest| rest.split_once('`'))
        && names.last().is_none_or(|last| last != name)
    {
        names.push(name.to_owned());
    }
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        count: u16,
    }

    #[test]
    fn what_does_not_fit_is_told_behind_its_path() {
        for (value, begins) in [
            (json!({"inner": {"count": 70_000}}), "`inner.count`: "),
            (json!({"inner": {"count": "one"}}), "`inner.count`: "),
            (json!({"inner": {}}), "`inner.count`: "),
            (json!({"inner": {"count": 1, "colour": 2}}), "`inner.colour`: "),
            (json!({"colour": 2}), "`colour`: "),
            (json!({}), "`inner`: "),
            (json!("inner"), "invalid type"),
        ] {
            let why = read::<Outer>(&value).unwrap_err();
            assert!(why.starts_with(begins), "{value}: {why}");
        }
        assert!(read::<Outer>(&json!({"inner": {"count": 1}})).is_ok());
    }
}
