//! Certificates that a command is given by a file.

use crate::cli::failure::Failure;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io;
use std::path::Path;

/// Reads the certificates of the file that `flag` names, in PEM.
///
/// # Errors
///
/// When the file cannot be read or holds none.
pub(crate) fn read(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let broken = || Failure::configuration(format!("{flag}: {}", path.display()));
    let text = fs::read(path).map_err(|error| broken().because(error))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| broken().because(error))?;
    if found.is_empty() {
        return Err(broken().because(io::Error::other("there is no certificate in it")));
    }
    Ok(found)
}
