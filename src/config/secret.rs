//! Secrets by reference: `env:NAME`, `file:PATH`, `sealed:NAME`.

use crate::config::files::Disk;
use crate::config::files::Files;
use crate::types::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Largest file with a secret, in bytes. Over it: a problem.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

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

    /// The content of a file that is no secret: certificates.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, for the operator.
    fn public_file(&self, path: &str) -> Result<String, String> {
        self.file(path)
    }

    /// What the operator should know of the file at `path`, where anything.
    fn file_advice(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }

    /// A secret sealed in the database; `None` where there is none of the name, or no key.
    fn sealed(&self, name: &str) -> Option<Secret<String>>;
}

/// The secrets of one row of the database: what is sealed in the row, all else as elsewhere.
pub struct RowSecrets {
    elsewhere: Arc<dyn Secrets>,
    sealed: BTreeMap<String, Secret<String>>,
}

impl RowSecrets {
    /// What is sealed in a row, opened, beside secrets of elsewhere.
    #[must_use]
    pub const fn new(
        elsewhere: Arc<dyn Secrets>,
        sealed: BTreeMap<String, Secret<String>>,
    ) -> Self {
        Self { elsewhere, sealed }
    }
}

impl Secrets for RowSecrets {
    fn env(&self, name: &str) -> Option<String> {
        self.elsewhere.env(name)
    }

    fn file(&self, path: &str) -> Result<String, String> {
        self.elsewhere.file(path)
    }

    fn public_file(&self, path: &str) -> Result<String, String> {
        self.elsewhere.public_file(path)
    }

    fn file_advice(&self, path: &str) -> Option<String> {
        self.elsewhere.file_advice(path)
    }

    fn sealed(&self, name: &str) -> Option<Secret<String>> {
        self.sealed.get(name).cloned()
    }
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

/// The same of a secret of the node itself, which nobody sealed: what is sealed is in the database.
pub(crate) fn check_own(text: &str) -> Result<(), String> {
    let is_sealed = matches!(parse(text), Some(Reference::Sealed(_)));
    if !is_sealed && check(text).is_ok() {
        return Ok(());
    }
    Err("a secret of the node is given by reference: \"env:NAME\" or \"file:PATH\"".to_owned())
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

/// What the operator should know of a reference that was resolved.
pub(crate) fn advice(secrets: &dyn Secrets, text: &str) -> Option<String> {
    match parse(text)? {
        Reference::File(path) => {
            secrets.file_advice(path).map(|advice| format!("file:{path}: {advice}"))
        }
        Reference::Env(_) | Reference::Sealed(_) => None,
    }
}

/// Opens a secret that is sealed in the database, by its name.
pub type Opener = Box<dyn Fn(&str) -> Option<Secret<String>> + Send + Sync>;

/// Secrets of this machine: an environment as it was at start, the disk, and, where there is a
/// database, what is sealed in it.
pub struct LocalSecrets {
    env: BTreeMap<String, String>,
    opener: Option<Opener>,
}

impl LocalSecrets {
    /// Secrets of `env` and the disk; `opener` opens what is sealed.
    #[must_use]
    pub fn new(env: impl IntoIterator<Item = (String, String)>, opener: Option<Opener>) -> Self {
        Self { env: env.into_iter().collect(), opener }
    }
}

impl Secrets for LocalSecrets {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        if metadata.len() > SECRET_BYTES_MAX {
            return Err(format!("larger than {SECRET_BYTES_MAX} bytes"));
        }
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn public_file(&self, path: &str) -> Result<String, String> {
        // The certificates a machine trusts are more than a secret can be.
        Disk.read(Path::new(path)).map_err(|error| error.to_string())
    }

    fn file_advice(&self, path: &str) -> Option<String> {
        // Not refused: mounted secrets of containers are often readable by everybody inside.
        let mode = fs::metadata(path).ok()?.permissions().mode();
        (mode & 0o007 != 0).then(|| "everybody may read this file: run chmod 600 on it".to_owned())
    }

    fn sealed(&self, name: &str) -> Option<Secret<String>> {
        self.opener.as_ref().and_then(|open| open(name))
    }
}

impl fmt::Debug for LocalSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalSecrets(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_one_of_three_forms() {
        for good in ["", "env:CARRIER_PASSWORD", "file:/run/secrets/x", "sealed:twilio-1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["hunter2", "env:", "env:A B", "file:", "sealed:", "sealed:a b", "vault:x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for (own, is_good) in [("", true), ("env:A", true), ("file:/x", true), ("sealed:a", false)]
        {
            assert_eq!(check_own(own).is_ok(), is_good, "{own}");
        }
        assert!(check_own("hunter2").is_err_and(|why| !why.contains("sealed")));
    }

    #[test]
    fn secrets_are_found_where_their_reference_points() {
        let open: Opener = Box::new(|name| (name == "a").then(|| Secret::new("opened".into())));
        let secrets = LocalSecrets::new([("A".to_owned(), "from env".to_owned())], Some(open));
        let found = |reference| resolve(&secrets, reference).map(|secret| secret.expose().clone());
        assert_eq!(found("env:A"), Ok("from env".into()));
        assert_eq!(found("sealed:a"), Ok("opened".into()));
        assert_eq!(found("env:B"), Err("env:B: the variable is not set".into()));
        let missing = "sealed:b: there is no sealed secret of this name, or no key to open it";
        assert_eq!(found("sealed:b"), Err(missing.into()));
    }

    #[test]
    fn a_secret_file_loses_its_last_newline_and_is_not_for_everybody() {
        let path = std::env::temp_dir().join(format!("tandem-secret-{}", std::process::id()));
        fs::write(&path, "hunter2\n").unwrap();
        let secrets = LocalSecrets::new([], None);
        let reference = format!("file:{}", path.display());
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let open = advice(&secrets, &reference);
        mode(0o600);
        let closed = advice(&secrets, &reference);
        let found = resolve(&secrets, &reference).map(|secret| secret.expose().clone());
        fs::remove_file(&path).unwrap();
        assert!(open.is_some_and(|advice| advice.contains("chmod 600")));
        assert_eq!((closed, found), (None, Ok("hunter2".into())));
        assert!(resolve(&secrets, &reference).is_err());
    }
}
