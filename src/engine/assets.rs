//! The sounds that calls may be played by name: files of the node, of each tenant its own and some for all.

use crate::audio::call_tone::CallTone;
use crate::audio::call_tone::NotACallTone;
use crate::audio::g711;
use crate::engine::wav;
pub use crate::types::asset::AssetName;
pub use crate::types::asset::NotAnAssetName;
use crate::types::codec::Law;
use crate::types::id::TenantId;
use crate::types::limit::ASSET_BYTES_MAX;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::SystemTime;

/// What a call may be let hear by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SoundName {
    /// A file of the node.
    Asset(AssetName),
    /// A tone of exchanges.
    Tone(CallTone),
}

/// The text names nothing that can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASoundName {
    /// No file.
    #[error(transparent)]
    Asset(#[from] NotAnAssetName),
    /// No tone.
    #[error(transparent)]
    Tone(#[from] NotACallTone),
}

impl FromStr for SoundName {
    type Err = NotASoundName;

    fn from_str(text: &str) -> Result<Self, NotASoundName> {
        if text.starts_with("tone:") {
            return Ok(Self::Tone(text.parse()?));
        }
        Ok(Self::Asset(text.parse()?))
    }
}

impl fmt::Display for SoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asset(name) => f.write_str(name.as_str()),
            Self::Tone(tone) => tone.fmt(f),
        }
    }
}

/// What a call shall be let hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playing {
    /// What.
    pub sound: SoundName,
    /// So many times; of a tone, so many periods.
    pub rounds: u32,
    /// How loud, in dB against as it is.
    pub gain_db: i8,
    /// Together with whom the caller talks with, not instead.
    pub beside: bool,
}

/// Why a sound is not played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetError {
    /// The node has no such file.
    #[error("this node has no such sound")]
    Missing,
    /// It is longer than may be played.
    #[error("the sound is longer than {ASSET_BYTES_MAX} bytes")]
    TooLong,
    /// It is none.
    #[error("the file is no sound that can be played")]
    Unusable,
}

/// Sounds that calls have in common, kept in mind at most. Over it: all are forgotten, and read again.
const SHARED_MAX: usize = 256;

/// The folder of sounds. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct Assets {
    folder: Arc<Path>,
    shared: Arc<Mutex<HashMap<PathBuf, Shared>>>,
}

/// A sound that some call plays, and of which file it is.
#[derive(Debug)]
struct Shared {
    length: u64,
    changed: Option<SystemTime>,
    audio: Weak<[u8]>,
}

impl Assets {
    /// The sounds in `folder`: those for all, and in a folder named by its identity each tenant's own.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.into(), shared: Arc::default() }
    }

    /// A sound as µ-law at 8 kHz; the tenant's own comes before one for all. Reads files: it blocks.
    ///
    /// # Errors
    /// See [`AssetError`].
    pub fn load(&self, tenant: TenantId, name: &AssetName) -> Result<Box<[u8]>, AssetError> {
        Ok(usable(self.find(tenant, name)?)?.into())
    }

    /// The same for what many calls play at once: as long as one does, others have it from there.
    ///
    /// # Errors
    /// See [`AssetError`].
    pub fn load_shared(&self, tenant: TenantId, name: &AssetName) -> Result<Arc<[u8]>, AssetError> {
        let path = self.find(tenant, name)?;
        let file = fs::metadata(&path).map_err(|_| AssetError::Missing)?;
        let (length, changed) = (file.len(), file.modified().ok());
        let known = |shared: &Shared| {
            let is_same = shared.length == length && shared.changed == changed;
            shared.audio.upgrade().filter(|_| is_same)
        };
        if let Some(audio) = self.lock().get(&path).and_then(known) {
            return Ok(audio);
        }
        let audio: Arc<[u8]> = usable(path.clone())?.into();
        let mut shared = self.lock();
        if shared.len() >= SHARED_MAX {
            shared.clear();
        }
        shared.insert(path, Shared { length, changed, audio: Arc::downgrade(&audio) });
        Ok(audio)
    }

    fn find(&self, tenant: TenantId, name: &AssetName) -> Result<PathBuf, AssetError> {
        let own = self.folder.join(tenant.to_string()).join(name.as_str());
        let mut paths = [own, self.folder.join(name.as_str())].into_iter();
        paths.find(|path| path.is_file()).ok_or(AssetError::Missing)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn usable(path: PathBuf) -> Result<Vec<u8>, AssetError> {
    let audio = read(path)?;
    if audio.is_empty() { Err(AssetError::Unusable) } else { Ok(audio) }
}

fn read(path: PathBuf) -> Result<Vec<u8>, AssetError> {
    let unusable = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "a sound cannot be played");
        AssetError::Unusable
    };
    let length = fs::metadata(&path).map_err(|error| unusable(&error))?.len();
    if length > ASSET_BYTES_MAX {
        return Err(AssetError::TooLong);
    }
    if path.extension().is_some_and(|end| end == "ulaw") {
        return fs::read(&path).map_err(|error| unusable(&error));
    }
    let linear = wav::read(&path).map_err(|error| unusable(&error))?;
    let mut audio = vec![0; linear.len()];
    g711::encode(Law::Mu, &linear, &mut audio);
    Ok(audio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_tenants_own_sound_comes_before_one_for_all_and_is_nobody_elses() {
        let folder = std::env::temp_dir().join(format!("tandem-assets-{}", std::process::id()));
        let [one, other] = [1, 2].map(|n| TenantId::from_uuid(Uuid::from_u128(n)));
        fs::create_dir_all(folder.join(one.to_string())).unwrap();
        fs::write(folder.join("a.ulaw"), [1]).unwrap();
        fs::write(folder.join(one.to_string()).join("a.ulaw"), [2]).unwrap();
        fs::write(folder.join(one.to_string()).join("own.ulaw"), [3]).unwrap();
        fs::write(folder.join("bad.wav"), b"no sound").unwrap();
        fs::write(folder.join("empty.ulaw"), b"").unwrap();
        let assets = Assets::in_folder(&folder);
        let load = |tenant, name: &str| assets.load(tenant, &name.parse().unwrap());
        assert_eq!(load(one, "a.ulaw"), Ok([2].into()));
        assert_eq!(load(other, "a.ulaw"), Ok([1].into()));
        assert_eq!(load(one, "own.ulaw"), Ok([3].into()));
        assert_eq!(load(other, "own.ulaw"), Err(AssetError::Missing));
        assert_eq!(load(one, "bad.wav"), Err(AssetError::Unusable));
        assert_eq!(load(one, "empty.ulaw"), Err(AssetError::Unusable));
        let shared = |name: &str| assets.load_shared(other, &name.parse().unwrap());
        let (first, second) = (shared("a.ulaw").unwrap(), shared("a.ulaw").unwrap());
        assert!(Arc::ptr_eq(&first, &second) && first[..] == [1], "read once");
        fs::write(folder.join("a.ulaw"), [7, 7]).unwrap();
        assert_eq!(shared("a.ulaw").unwrap()[..], [7, 7], "a file that changed is read anew");
        assert_eq!(shared("own.ulaw"), Err(AssetError::Missing));
        fs::remove_dir_all(folder).unwrap();
    }
}
