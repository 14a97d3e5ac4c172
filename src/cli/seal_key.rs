//! `seal_key`: the key under which the demonstration seals secrets, so that webhooks can be tried in it.

use crate::cli::failure::Failure;
use crate::cli::self_signed::make_folder;
use crate::cli::self_signed::write;
use crate::clock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The file, in the folder of the demonstration.
const NAME: &str = "demo-seal.key";
/// The same while it is written.
const DRAFT: &str = "demo-seal.key.new";
/// Bytes of the key (AES-256).
const KEY_BYTES: usize = 32;

/// The file with the key; a new one where there is none, since another key opens nothing of what was sealed.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn of(folder: &Path) -> Result<PathBuf, Failure> {
    made(folder).map_err(|error| Failure::failed("cannot make a key for secrets").because(error))
}

fn made(folder: &Path) -> io::Result<PathBuf> {
    let file = folder.join(NAME);
    if file.try_exists()? {
        return Ok(file);
    }
    make_folder(folder)?;
    let mut random = Zeroizing::new([0_u8; KEY_BYTES]);
    clock::fill_random(random.as_mut_slice());
    let text = Zeroizing::new(STANDARD.encode(random.as_slice()));
    let draft = folder.join(DRAFT);
    write(&draft, &text, 0o600)?;
    fs::rename(draft, &file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let base = std::env::temp_dir().join(format!("tandem-seal-{:016x}", clock::random_u64()));
        let folder = base.join("demo");
        let file = made(&folder).unwrap();
        let key = fs::read_to_string(&file).unwrap();
        assert_eq!(STANDARD.decode(&key).unwrap().len(), KEY_BYTES);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(made(&folder).unwrap(), file);
        assert_eq!(fs::read_to_string(&file).unwrap(), key, "what was sealed stays readable");
        fs::remove_dir_all(base).unwrap();
    }
}
