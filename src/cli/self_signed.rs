//! `SelfSigned`: a certificate of this machine by nobody's authority, for the demonstration.

use crate::cli::failure::Failure;
use std::fs;
use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// The files, in the folder of the demonstration.
const CERTIFICATE: &str = "demo-tls.pem";
const KEY: &str = "demo-tls.key";

/// Files with a certificate that proves an address of this machine, and with its key.
pub(crate) struct SelfSigned {
    /// The certificate, in PEM: its own authority.
    pub(crate) certificate: PathBuf,
    /// Its private key, in PEM.
    pub(crate) key: PathBuf,
    /// The certificate, in DER.
    pub(crate) der: Vec<u8>,
}

impl SelfSigned {
    /// Makes a new certificate for `address` and `localhost` in `folder`.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub(crate) fn make(folder: &Path, address: IpAddr) -> Result<Self, Failure> {
        let failed = || Failure::failed("cannot make a certificate for TLS");
        let names = [address.to_string(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names);
        let made = made.map_err(|error| failed().because(error))?;
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        make_folder(folder)
            .and_then(|()| write(&certificate, &made.cert.pem(), 0o644))
            .and_then(|()| write(&key, &made.signing_key.serialize_pem(), 0o600))
            .map_err(|error| failed().because(error))?;
        Ok(Self { certificate, key, der: made.cert.der().to_vec() })
    }
}

/// Makes the folder of the demonstration as the database makes it, which shares it.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    folder.parent().map_or(Ok(()), fs::create_dir_all)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file of the demonstration, in the place of the one before.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    // Else a power cut may leave an empty file where it is put into place, and nothing would start with that.
    file.sync_all()
}
