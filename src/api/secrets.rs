//! Secrets of rows: they are given, sealed, and never shown again; and what a tenant may not refer to.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::store::api_keys::KeyRole;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::change::Draft;
use crate::types::secret::Secret;
use serde_json::Value;
use std::collections::BTreeSet;

/// Secrets of one row.
const SECRETS_MAX: usize = 32;
/// Characters of one secret: a private key of 4096 bits has 3300.
const SECRET_MAX: usize = 8_192;
/// Characters of its name.
const NAME_MAX: usize = 64;

/// Takes `secrets` out of what was given: an object of names, each with the secret or null, which takes it
/// away.
pub(super) fn take(given: &mut Members) -> Result<Members, Fault> {
    let secrets = match given.remove("secrets") {
        None => return Ok(Members::new()),
        Some(Value::Object(secrets)) => secrets,
        Some(_) => return Err(Fault::invalid("secrets", "it is an object of names with secrets")),
    };
    for (name, value) in &secrets {
        let is_name = (1..=NAME_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !is_name {
            let why = format!("a name has 1 to {NAME_MAX} letters, digits, `_`, `.` and `-`");
            return Err(Fault::invalid("secrets", why));
        }
        let is_good = match value {
            Value::Null => true,
            Value::String(text) => (1..=SECRET_MAX).contains(&text.len()) && !text.contains('\0'),
            _ => false,
        };
        if !is_good {
            let why = format!("a secret is a text of 1 to {SECRET_MAX} bytes, or null");
            return Err(Fault::invalid(format!("secrets.{name}"), why));
        }
    }
    Ok(secrets)
}

/// Seals what was taken into the row.
pub(super) fn seal(
    context: &Context,
    secrets: &Members,
    draft: &mut Draft<'_>,
) -> Result<(), Fault> {
    if secrets.is_empty() {
        return Ok(());
    }
    let sealer = context.composer.borrow().sealer.clone();
    let mut sealed = draft.before.map(|row| row.sealed.clone()).unwrap_or_default();
    for (name, value) in secrets {
        let Some(text) = value.as_str() else {
            sealed.remove(name);
            continue;
        };
        let secret = Secret::new(text.to_owned());
        let text = sealer
            .seal(draft.id, name, &secret)
            .map_err(|why| Fault::Conflict { field: Some("secrets"), why: why.to_string() })?;
        sealed.insert(name.clone(), Value::String(text));
    }
    if sealed.len() > SECRETS_MAX {
        return Err(Fault::invalid("secrets", format!("a row has at most {SECRETS_MAX}")));
    }
    draft.given.insert("sealed".to_owned(), Value::Object(sealed));
    Ok(())
}

/// What is sealed in the row as the draft will leave it.
pub(super) fn sealed(draft: &Draft<'_>) -> Value {
    let before = || draft.before.map(|row| Value::Object(row.sealed.clone()));
    draft.given.get("sealed").cloned().or_else(before).unwrap_or_default()
}

/// Refuses to have a secret of the row told at another place than it was told at, to whoever is no admin: an operator
/// would read by that what only an admin gave. A secret that comes with the change is the operator's own.
///
/// # Errors
///
/// That it has to be given anew.
pub(super) fn check_places(
    caller: &Caller,
    draft: &Draft<'_>,
    name: &'static str,
) -> Result<(), Fault> {
    let Some(before) = draft.before.filter(|_| caller.holder.role < KeyRole::Admin) else {
        return Ok(());
    };
    let none = Value::Null;
    let (mut told, mut tells) = (Told::default(), Told::default());
    told.read("", before.members.get(name).unwrap_or(&none));
    tells.read("", &draft.after(name));
    let sealed = draft.given.get("sealed").and_then(Value::as_object);
    let is_old = |secret: &&String| {
        sealed.is_none_or(|sealed| sealed.get(*secret) == before.sealed.get(*secret))
    };
    let mut old = tells.secrets.iter().filter(is_old).peekable();
    let is_moved = !tells.places.is_subset(&told.places);
    if old.peek().is_some() && (is_moved || old.any(|secret| !told.secrets.contains(secret))) {
        let why = format!(
            "`{name}` would tell a secret where an admin did not have it told: give the secret anew, or use the key of \
             an admin"
        );
        return Err(Fault::invalid("secrets", why));
    }
    Ok(())
}

/// Which secrets of its row a value tells, and where.
#[derive(Default)]
struct Told {
    secrets: BTreeSet<String>,
    places: BTreeSet<String>,
}

impl Told {
    fn read(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| self.read(key, value)),
            Value::Array(list) => list.iter().for_each(|value| self.read(key, value)),
            Value::String(text) => {
                if let Some(secret) = text.strip_prefix("sealed:").filter(|_| key.ends_with("_ref"))
                {
                    self.secrets.insert(secret.to_owned());
                } else if key.ends_with("url") || key == "address" || key == "uri" {
                    self.places.insert(place_of(text).to_owned());
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whom an address names: of a URL the part before its path.
fn place_of(text: &str) -> &str {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    text.get(..scheme.len() + "://".len() + host).unwrap_or(text)
}

/// Refuses references to what is not the tenant's: variables and files of the node would be sent to
/// whatever peer the tenant names.
///
/// # Errors
///
/// The path of the first one.
pub(super) fn check_references(path: &str, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            let text = value.as_str().unwrap_or_default();
            if name.ends_with("_file") && !text.is_empty() {
                return Err(Fault::invalid(path, "a file of the node is the platform's to name"));
            }
            // Nothing is put together from variables, either.
            let is_sealed = text.strip_prefix("sealed:").is_some_and(|name| !name.contains('{'));
            if name.ends_with("_ref") && !text.is_empty() && !is_sealed {
                return Err(Fault::invalid(path, "a secret of a tenant is `sealed:NAME`"));
            }
            check_references(&path, value)
        }),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| check_references(&format!("{path}[{index}]"), value)),
        Value::String(text) if text.starts_with("env:") || text.starts_with("file:") => {
            Err(Fault::invalid(path, "variables and files of the node are the platform's to name"))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tenant_refers_to_its_own_secrets_alone() {
        let check = |value| check_references("overrides", &value).map_err(|why| why.to_string());
        assert_eq!(check(json!({"a": {"password_ref": "sealed:x", "n": [1, "b"]}})), Ok(()));
        assert_eq!(check(json!({"a": {"password_ref": ""}, "ca_file": ""})), Ok(()));
        for (value, path) in [
            (json!({"a": {"password_ref": "env:X"}}), "`overrides.a.password_ref`"),
            (json!({"a": [{"value_ref": "file:/x"}]}), "`overrides.a[0].value_ref`"),
            (json!({"password_ref": "{vars.a}v:X"}), "`overrides.password_ref`"),
            (json!({"password_ref": "sealed:{vars.a}"}), "`overrides.password_ref`"),
            (json!({"vars": {"a": "env:X"}}), "`overrides.vars.a`"),
            (json!({"tls": {"ca_file": "/etc/passwd"}}), "`overrides.tls.ca_file`"),
        ] {
            let why = check(value.clone()).unwrap_err();
            assert!(why.starts_with(path), "{value}: {why}");
        }
    }

    #[test]
    fn secrets_are_named_texts() {
        let taken = |value| take(&mut Members::from_iter([("secrets".to_owned(), value)]));
        assert_eq!(taken(json!({"a": "x", "b": null})).unwrap().len(), 2);
        for bad in [json!([]), json!({"": "x"}), json!({"a b": "x"}), json!({"a": 1})] {
            assert!(taken(bad.clone()).is_err(), "{bad}");
        }
    }
}
