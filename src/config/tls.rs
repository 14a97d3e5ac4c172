//! Certificates and keys of listeners and trunks: read, and checked as far as one can before a peer
//! does.

use crate::clock;
use crate::config::certificate;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::types::secret::Secret;
use crate::types::tls::ClientCertificates;
use crate::types::tls::TlsCredentials;
use crate::types::tls::TlsServerSettings;
use crate::types::tls::TlsVersion;
use jiff::SignedDuration;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

/// From so long before a certificate ends it is warned of.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Where a fault is: which key of the configuration it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// The file with the certificate.
    Certificate,
    /// The private key.
    Key,
    /// The file with the authorities.
    Authorities,
}

/// A fault of certificate, key or authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TlsFault {
    /// What it is a fault of.
    pub part: TlsPart,
    /// In words; never the key.
    pub message: String,
}

impl TlsFault {
    fn new(part: TlsPart, message: impl Into<String>) -> Self {
        Self { part, message: message.into() }
    }
}

/// Where a listener's certificate comes from, so that it can be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSource {
    /// The file with the certificate and its chain, in PEM.
    pub certificate: String,
    /// The reference to the private key.
    pub key: String,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// What is asked of peers.
    pub clients: AskClients,
    /// The file with the authorities of peers, in PEM; empty where they are not asked.
    pub client_authorities: String,
}

/// Whether peers that connect are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskClients {
    /// No.
    Ignore,
    /// Yes, and those without one are served too.
    Request,
    /// Yes, and only those with one are served.
    Require,
}

impl TlsSource {
    /// Reads certificate, key and authorities.
    ///
    /// # Errors
    /// The first fault.
    pub fn read(&self, secrets: &dyn Secrets) -> Result<TlsServerSettings, TlsFault> {
        let credentials = credentials(secrets, &self.certificate, &self.key)?;
        let authorities = || authorities(secrets, &self.client_authorities);
        let clients = match self.clients {
            AskClients::Ignore => ClientCertificates::Ignored,
            AskClients::Request => ClientCertificates::Requested(authorities()?),
            AskClients::Require => ClientCertificates::Required(authorities()?),
        };
        Ok(TlsServerSettings { min_version: self.min_version, credentials, clients })
    }

    /// The files it is read from; a change of one is a reason to read it again.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let key = self.key.strip_prefix("file:").unwrap_or_default();
        [self.certificate.as_str(), key, self.client_authorities.as_str()]
            .into_iter()
            .filter(|path| !path.is_empty())
    }
}

/// Reads certificates in PEM.
fn certificates(
    secrets: &dyn Secrets,
    path: &str,
    part: TlsPart,
) -> Result<Vec<Vec<u8>>, TlsFault> {
    let text =
        secrets.public_file(path).map_err(|why| TlsFault::new(part, format!("{path}: {why}")))?;
    let sections = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found: Vec<Vec<u8>> = sections
        .map_err(|why| TlsFault::new(part, format!("{path}: {why}")))?
        .into_iter()
        .map(|der| der.as_ref().to_vec())
        .collect();
    if found.is_empty() {
        return Err(TlsFault::new(part, format!("{path} holds no certificate in PEM")));
    }
    Ok(found)
}

/// Reads the certificates of authorities.
///
/// # Errors
/// When the file cannot be read, or holds none that can be used.
pub(crate) fn authorities(secrets: &dyn Secrets, path: &str) -> Result<Vec<Vec<u8>>, TlsFault> {
    let found = certificates(secrets, path, TlsPart::Authorities)?;
    let mut roots = RootCertStore::empty();
    for der in &found {
        roots.add(CertificateDer::from(der.clone())).map_err(|why| {
            let message = format!("{path} holds a certificate that cannot be trusted: {why}");
            TlsFault::new(TlsPart::Authorities, message)
        })?;
    }
    Ok(found)
}

/// Reads the certificates of peers that are known one by one.
pub(crate) fn pins(secrets: &dyn Secrets, path: &str) -> Result<Vec<Vec<u8>>, TlsFault> {
    certificates(secrets, path, TlsPart::Authorities)
}

/// Whether a certificate chain and its private key, both in PEM, can be shown to a server.
///
/// # Errors
/// What stands against it.
pub(crate) fn check_identity(certificates: &str, key: &str) -> Result<(), String> {
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes());
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    if chain.is_empty() {
        return Err("there is no certificate in PEM".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|_| "there is no private key in PEM")?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("the private key is not that of the certificate".to_owned())
        }
        Err(why) => Err(format!("the private key cannot be used: {why}")),
    }
}

/// Reads a certificate chain and its private key.
///
/// # Errors
/// When one cannot be read, they do not belong together, or the certificate is not valid today.
pub(crate) fn credentials(
    secrets: &dyn Secrets,
    path: &str,
    key_reference: &str,
) -> Result<TlsCredentials, TlsFault> {
    let of_key = |message: String| TlsFault::new(TlsPart::Key, message);
    let chain = certificates(secrets, path, TlsPart::Certificate)?;
    let key = secret::resolve(secrets, key_reference).map_err(of_key)?;
    let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| of_key(format!("{key_reference} holds no private key in PEM")))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let ders = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    match CertifiedKey::from_der(ders, der, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("the private key is not that of the certificate in {path}");
            return Err(of_key(message));
        }
        Err(why) => return Err(of_key(format!("the private key cannot be used: {why}"))),
    }
    let own = chain.first().map(Vec::as_slice).unwrap_or_default();
    let now = clock::wall_now();
    match certificate::validity(own) {
        Some((first, _)) if now < first => {
            let message = format!("the certificate in {path} is not valid before {first}");
            Err(TlsFault::new(TlsPart::Certificate, message))
        }
        Some((_, last)) if now > last => {
            let message = format!("the certificate in {path} has expired on {last}");
            Err(TlsFault::new(TlsPart::Certificate, message))
        }
        Some(_) => Ok(TlsCredentials { chain, key: Secret::new(key.expose().clone()) }),
        None => {
            let message = format!("{path} does not begin with a certificate");
            Err(TlsFault::new(TlsPart::Certificate, message))
        }
    }
}

/// What should be known of a certificate that is valid: that it ends soon.
pub(crate) fn advice(credentials: &TlsCredentials) -> Option<String> {
    let (_, last) = certificate::validity(credentials.chain.first()?)?;
    let ends_soon = last.duration_since(clock::wall_now()) < EXPIRY_NOTICE;
    ends_soon.then(|| format!("the certificate expires on {last}"))
}
