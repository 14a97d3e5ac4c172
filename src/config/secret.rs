//! Secrets by reference: `env:NAME`, `file:PATH`, `sealed:NAME`.

use crate::types::secret::Secret;
use std::fmt;

/// Where the secrets behind references are.
pub trait Secrets: Send + Sync {
    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// The content of a file.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, for the operator.
    fn file(&self, path: &str) -> Result<String, String>;

    /// A secret sealed in the database; `None` where there is none of the name, or no key.
    fn sealed(&self, name: &str) -> Option<Secret<String>>;
}

/// A reference to a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reference<'a> {
    Env(&'a str),
    File(&'a str),
    Sealed(&'a str),
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Sealed(name) => write!(f, "sealed:{name}"),
        }
    }
}

fn parse(text: &str) -> Option<Reference<'_>> {
    let (kind, name) = text.split_once(':')?;
    let is_variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match kind {
        "env" if !name.is_empty() && name.chars().all(is_variable) => Some(Reference::Env(name)),
        "file" if !name.is_empty() => Some(Reference::File(name)),
        "sealed" if !name.is_empty() && name.chars().all(is_name) => Some(Reference::Sealed(name)),
        _ => None,
    }
}

/// The form of a reference; empty is none at all.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || parse(text).is_some() {
        return Ok(());
    }
    Err("a secret is given by reference: \"env:NAME\", \"file:PATH\" or \"sealed:NAME\"".to_owned())
}

/// The secret behind a reference that was checked. The one newline an editor puts at the end of a
/// file is not part of it.
///
/// # Errors
///
/// Why there is none; the message never holds the secret.
pub(crate) fn resolve(secrets: &dyn Secrets, text: &str) -> Result<Secret<String>, String> {
    let Some(reference) = parse(text) else { return Err("no reference to a secret".to_owned()) };
    let value = match reference {
        Reference::Env(name) => secrets.env(name).ok_or("the variable is not set".to_owned()),
        Reference::File(path) => secrets.file(path).map(|text| {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }),
        Reference::Sealed(name) => secrets
            .sealed(name)
            .map(|secret| secret.expose().clone())
            .ok_or("there is no sealed secret of this name, or no key to open it".to_owned()),
    };
    match value {
        Ok(value) if value.is_empty() => Err(format!("{reference}: the secret is empty")),
        Ok(value) => Ok(Secret::new(value)),
        Err(why) => Err(format!("{reference}: {why}")),
    }
}
