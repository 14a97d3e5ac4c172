//! `Sealer`: secrets of rows as they are stored: AES-256-GCM under a key that is not in the database.

use crate::clock;
use crate::types::secret::Secret;
use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroize;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a key's name: enough to tell keys apart, and nothing of the key.
const KEY_NAME_BYTES: usize = 6;
/// The form of what is stored; another form gets another number.
const FORM: &str = "1";

/// What the derived keys sign.
const MAC_PURPOSE: &[u8] = b"tandem: what the API signs";

/// Seals secrets, and opens them while calls are routed. A clone is one reference count.
#[derive(Clone, Default)]
pub struct Sealer(Arc<[SealKey]>);

struct SealKey {
    name: String,
    key: LessSafeKey,
    /// Derived from the same secret, for what is signed and not sealed.
    mac: hmac::Key,
}

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no key: 32 random bytes in base64 (openssl rand -base64 32)")]
pub struct NotAKey;

/// There is no key to seal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has no key to seal secrets with (`secrets.key_ref`)")]
pub struct NoKey;

impl Sealer {
    /// A sealer with the keys of these texts: the first seals, all open.
    ///
    /// # Errors
    ///
    /// When one of them is no key.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a Secret<String>>) -> Result<Self, NotAKey> {
        let keys: Result<Vec<_>, _> =
            texts.into_iter().map(|text| SealKey::of(text.expose())).collect();
        Ok(Self(keys?.into()))
    }

    /// Seals a secret of a row.
    ///
    /// # Errors
    ///
    /// When there is no key.
    pub fn seal(&self, row: Uuid, name: &str, secret: &Secret<String>) -> Result<String, NoKey> {
        let key = self.0.first().ok_or(NoKey)?;
        let mut nonce = [0; NONCE_LEN];
        clock::fill_random(&mut nonce);
        let mut bytes = secret.expose().clone().into_bytes();
        let sealed = key.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            bound_to(row, name),
            &mut bytes,
        );
        sealed.map_err(|_| NoKey)?;
        let body = [nonce.as_slice(), &bytes].concat();
        Ok(format!("{FORM}.{}.{}", key.name, URL_SAFE_NO_PAD.encode(body)))
    }

    /// Whether the key that seals has sealed this.
    pub(crate) fn is_newest(&self, sealed: &str) -> bool {
        let name = sealed.split('.').nth(1);
        self.0.first().is_some_and(|key| name == Some(key.name.as_str()))
    }

    /// Opens what was sealed for the same row and name; `None` where it was not, or the key is gone.
    #[must_use]
    pub fn open(&self, row: Uuid, name: &str, sealed: &str) -> Option<Secret<String>> {
        let mut parts = sealed.splitn(3, '.');
        let (form, key_name, body) = (parts.next()?, parts.next()?, parts.next()?);
        let key = self.0.iter().find(|key| form == FORM && key.name == key_name)?;
        let body = URL_SAFE_NO_PAD.decode(body).ok()?;
        let (nonce, body) = body.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let opened = key.key.open_in_place(nonce, bound_to(row, name), &mut body).ok()?;
        let text = String::from_utf8(opened.to_vec()).ok();
        body.zeroize();
        text.map(Secret::new)
    }

    /// The keys that sign, the newest first; none where there is no key to seal with.
    pub fn signing_keys(&self) -> impl Iterator<Item = &hmac::Key> {
        self.0.iter().map(|key| &key.mac)
    }

    /// Every secret of a row that can be opened, by its name.
    pub(crate) fn open_all(&self, row: Uuid, sealed: &Value) -> BTreeMap<String, Secret<String>> {
        let none = Map::new();
        let sealed = sealed.as_object().unwrap_or(&none);
        let open = |(name, value): (&String, &Value)| {
            Some((name.clone(), self.open(row, name, value.as_str()?)?))
        };
        sealed.iter().filter_map(open).collect()
    }
}

/// A sealed secret opens in its own row and under its own name alone.
fn bound_to(row: Uuid, name: &str) -> Aad<Vec<u8>> {
    Aad::from([row.as_bytes().as_slice(), name.as_bytes()].concat())
}

impl SealKey {
    fn of(text: &str) -> Result<Self, NotAKey> {
        let mut bytes = STANDARD.decode(text.trim()).map_err(|_| NotAKey)?;
        if bytes.len() != KEY_BYTES {
            return Err(NotAKey);
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| NotAKey);
        let hash = digest::digest(&digest::SHA256, &bytes);
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), MAC_PURPOSE);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        bytes.zeroize();
        let name = hash.as_ref().get(..KEY_NAME_BYTES).unwrap_or_default();
        Ok(Self { name: URL_SAFE_NO_PAD.encode(name), key: LessSafeKey::new(key?), mac })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret<String> {
        Secret::new(STANDARD.encode([byte; KEY_BYTES]))
    }

    fn opened(sealer: &Sealer, row: Uuid, name: &str, sealed: &str) -> Option<String> {
        sealer.open(row, name, sealed).map(|secret| secret.expose().clone())
    }

    #[test]
    fn a_secret_opens_in_its_own_row_under_its_own_name_with_its_own_key() {
        let sealer = Sealer::new([&key(1)]).unwrap();
        let (row, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = sealer.seal(row, "password", &Secret::new("hunter2".to_owned())).unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_eq!(opened(&sealer, row, "password", &sealed).as_deref(), Some("hunter2"));
        assert_eq!(opened(&sealer, other, "password", &sealed), None);
        assert_eq!(opened(&sealer, row, "token", &sealed), None);
        let stranger = Sealer::new([&key(2)]).unwrap();
        assert_eq!(opened(&stranger, row, "password", &sealed), None);
        for broken in ["", "1", "1.a.b", "2.a.b", &sealed.replacen('1', "2", 1)] {
            assert_eq!(opened(&sealer, row, "password", broken), None, "{broken}");
        }
    }

    #[test]
    fn after_a_change_of_keys_the_old_one_opens_and_the_new_one_seals() {
        let row = Uuid::from_u128(1);
        let secret = Secret::new("hunter2".to_owned());
        let old = Sealer::new([&key(1)]).unwrap().seal(row, "a", &secret).unwrap();
        let both = Sealer::new([&key(2), &key(1)]).unwrap();
        assert_eq!(opened(&both, row, "a", &old).as_deref(), Some("hunter2"));
        let new = both.seal(row, "a", &secret).unwrap();
        let later = Sealer::new([&key(2)]).unwrap();
        assert_eq!(opened(&later, row, "a", &new).as_deref(), Some("hunter2"));
        assert_eq!(opened(&later, row, "a", &old), None);
    }

    #[test]
    fn two_seals_of_one_secret_differ_and_without_a_key_there_is_none() {
        let sealer = Sealer::new([&key(1)]).unwrap();
        let secret = Secret::new("x".to_owned());
        let seal = || sealer.seal(Uuid::nil(), "a", &secret).unwrap();
        assert_ne!(seal(), seal());
        assert_eq!(Sealer::default().seal(Uuid::nil(), "a", &secret), Err(NoKey));
        for text in ["", "hunter2", "AAAA"] {
            assert_eq!(Sealer::new([&Secret::new(text.to_owned())]).err(), Some(NotAKey));
        }
    }
}
