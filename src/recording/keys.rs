//! The keys under which the keys of recordings are sealed.

use crate::types::secret::Secret;
use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::UnboundKey;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroize;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// Bytes by which keys are told apart, and nothing of the key.
pub(super) const NAME_BYTES: usize = 8;

/// The keys of the node: the first seals, all open. Without any, recordings are not encrypted.
#[derive(Clone, Default)]
pub struct RecordingKeys(Arc<[RecordingKey]>);

pub(super) struct RecordingKey {
    pub(super) name: [u8; NAME_BYTES],
    pub(super) key: LessSafeKey,
}

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no key: 32 random bytes in base64 (openssl rand -base64 32)")]
pub struct NotAKey;

impl fmt::Debug for RecordingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingKeys").field("count", &self.0.len()).finish()
    }
}

impl RecordingKeys {
    /// The keys of these texts.
    ///
    /// # Errors
    /// When one of them is no key.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a Secret<String>>) -> Result<Self, NotAKey> {
        let keys: Result<Vec<_>, _> =
            texts.into_iter().map(|text| RecordingKey::of(text.expose())).collect();
        Ok(Self(keys?.into()))
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that seals.
    pub(super) fn sealing(&self) -> Option<&RecordingKey> {
        self.0.first()
    }

    pub(super) fn named(&self, name: &[u8]) -> Option<&RecordingKey> {
        self.0.iter().find(|key| key.name == name)
    }
}

impl RecordingKey {
    fn of(text: &str) -> Result<Self, NotAKey> {
        let mut bytes = STANDARD.decode(text.trim()).map_err(|_| NotAKey)?;
        let key = (bytes.len() == KEY_BYTES)
            .then(|| UnboundKey::new(&AES_256_GCM, &bytes).ok())
            .flatten()
            .ok_or(NotAKey);
        let hash = digest::digest(&digest::SHA256, &bytes);
        bytes.zeroize();
        let mut name = [0; NAME_BYTES];
        for (to, byte) in name.iter_mut().zip(hash.as_ref()) {
            *to = *byte;
        }
        Ok(Self { name, key: LessSafeKey::new(key?) })
    }
}
