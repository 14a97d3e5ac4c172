//! `[recordings]` of `tandem.toml`: where recordings are, and the keys they are encrypted under.

use crate::config::node::key;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::config::tree::View;
use crate::types::secret::Secret;
use std::path::Path;
use std::path::PathBuf;

/// `[recordings]`.
pub(crate) const RECORDINGS: &[Key] = &[
    key("dir", Kind::Parsed(any_text)),
    key("key_ref", Kind::Secret(secret::check_own)),
    key("old_key_ref", Kind::Secret(secret::check_own)),
];

/// Where recordings are, and the keys they are encrypted under.
#[derive(Clone, Debug)]
pub struct RecordingSettings {
    /// The folder.
    pub dir: PathBuf,
    /// The first seals, all open; without any, recordings are not encrypted.
    pub keys: Vec<Secret<String>>,
}

pub(crate) fn read(
    view: View<'_>,
    data_dir: &Path,
    keys: Vec<Secret<String>>,
) -> RecordingSettings {
    let dir = match view.text("recordings.dir") {
        "" => data_dir.join("recordings"),
        own => PathBuf::from(own),
    };
    RecordingSettings { dir, keys }
}

fn any_text(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it has a NUL".to_owned()) } else { Ok(()) }
}
