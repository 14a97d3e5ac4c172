//! `NodeKey`: what the database keeps for one node alone is sealed so that nobody else reads it (HPKE, RFC 9180).

use crate::types::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::EncapsulatedSecret;
use rustls::crypto::hpke::Hpke;
use rustls::crypto::hpke::HpkePrivateKey;
use rustls::crypto::hpke::HpkePublicKey;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The file in the data directory: two lines in base64, what is told and what is kept.
const NAME: &str = "node-key";
/// The same while it is written.
const DRAFT: &str = "node-key.new";
/// Bytes of either key, and of what a seal begins with (RFC 9180 §7.1: DHKEM(X25519, HKDF-SHA256)).
const KEY_BYTES: usize = 32;
/// What such seals are for.
const PURPOSE: &[u8] = b"tandem: what a node has to erase";

/// The key of a node: the same after each start, as long as its data directory is.
pub struct NodeKey {
    private: HpkePrivateKey,
    public: Vec<u8>,
}

impl NodeKey {
    /// The key of the node with this data directory; a new one where there is none. Blocks.
    ///
    /// # Errors
    ///
    /// When the system refuses to read or to write the file: one that cannot be read now opens what waits for this node,
    /// and a new one would not.
    pub fn of(data_dir: &Path) -> io::Result<Self> {
        let file = data_dir.join(NAME);
        let known = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            known => Some(Zeroizing::new(known?)),
        };
        if let Some(key) = known.and_then(|text| Self::read(str::from_utf8(&text).ok()?)) {
            return Ok(key);
        }
        let (public, private) =
            DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair().map_err(io::Error::other)?;
        let kept = Zeroizing::new(STANDARD.encode(private.secret_bytes()));
        let text = Zeroizing::new(format!("{}\n{}\n", STANDARD.encode(&public.0), *kept));
        let draft = data_dir.join(DRAFT);
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(draft, file)?;
        // The rename itself is in the directory.
        File::open(data_dir)?.sync_all()?;
        Ok(Self { private, public: public.0 })
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(|line| STANDARD.decode(line).ok());
        let (public, private) = (lines.next()??, lines.next()??);
        let is_whole = public.len() == KEY_BYTES && private.len() == KEY_BYTES;
        is_whole.then(|| Self { private: private.into(), public })
    }

    /// What others seal with.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens what was sealed for this node and the same row; `None` where it was not.
    pub(crate) fn open(&self, row: Uuid, sealed: &[u8]) -> Option<Secret<String>> {
        let (enclosed, sealed) = sealed.split_at_checked(KEY_BYTES)?;
        let enclosed = EncapsulatedSecret(enclosed.to_vec());
        let opened = DH_KEM_X25519_HKDF_SHA256_AES_256
            .open(&enclosed, PURPOSE, row.as_bytes(), sealed, &self.private)
            .ok()?;
        String::from_utf8(opened).ok().map(Secret::new)
    }
}

/// Seals a text of a row for the node with this public key; `None` where that is none.
pub(crate) fn seal(public: &[u8], row: Uuid, text: &str) -> Option<Vec<u8>> {
    let public = HpkePublicKey(public.to_vec());
    let (enclosed, sealed) = DH_KEM_X25519_HKDF_SHA256_AES_256
        .seal(PURPOSE, row.as_bytes(), text.as_bytes(), &public)
        .ok()?;
    Some([enclosed.0, sealed].concat())
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_sealed_for_a_node_opens_there_alone_and_after_its_next_start() {
        let dir = std::env::temp_dir().join(format!("tandem-key-{:016x}", clock::random_u64()));
        assert!(NodeKey::of(&dir).is_err(), "there is no such folder");
        fs::create_dir(&dir).unwrap();
        let (key, row) = (NodeKey::of(&dir).unwrap(), clock::new_uuid());
        let mode = fs::metadata(dir.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed = seal(key.public(), row, "15550177").unwrap();
        assert!(!sealed.windows(8).any(|part| part == b"15550177"));
        // The same number is not known by its seal.
        assert_ne!(seal(key.public(), row, "15550177"), Some(sealed.clone()));
        let started = NodeKey::of(&dir).unwrap();
        assert_eq!(started.public(), key.public());
        let opened = started.open(row, &sealed).unwrap();
        assert_eq!(opened.expose(), "15550177");
        assert!(started.open(clock::new_uuid(), &sealed).is_none(), "of another row");
        assert!(started.open(row, b"short").is_none());
        fs::write(dir.join(NAME), "nonsense").unwrap();
        let other = NodeKey::of(&dir).unwrap();
        assert!(other.open(row, &sealed).is_none(), "for another node");
        assert_eq!(seal(b"no key", row, "15550177"), None);
        fs::write(dir.join(NAME), [0xff]).unwrap();
        assert!(NodeKey::of(&dir).is_ok(), "what is no text is no key");
        // One that cannot be read may be one: it stays.
        fs::remove_file(dir.join(NAME)).unwrap();
        fs::create_dir(dir.join(NAME)).unwrap();
        let error = NodeKey::of(&dir).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert!(!dir.join(DRAFT).exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
