//! TLS for SIP: whom we believe, what we show, and why a handshake failed.

pub(crate) mod client;
pub mod server;
#[cfg(test)]
mod tests;

use crate::net::end::ConnectFailure;
use crate::types::tls::CertificateNames;
use crate::types::tls::TlsCredentials;
use crate::types::tls::TlsVersion;
use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::sync::Arc;

/// TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The private key is no PEM.
    #[error("the private key cannot be read")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit together, or cannot be used.
    #[error("certificate and key cannot be used")]
    Credentials(#[source] rustls::Error),
    /// A trusted certificate cannot be used.
    #[error("a trusted certificate cannot be used")]
    Authority(#[source] rustls::Error),
    /// Nobody is trusted.
    #[error("no trusted certificates; on Debian: apt-get install ca-certificates")]
    NoAuthorities,
    /// Peers' certificates cannot be checked with the authorities given.
    #[error("the authorities of peers cannot be used")]
    Clients(#[source] rustls::server::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

static V1_2_AND_LATER: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];
static V1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V1_2 => &V1_2_AND_LATER,
        TlsVersion::V1_3 => &V1_3,
    }
}

type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn certified(credentials: &TlsCredentials) -> Result<Certified, TlsError> {
    let chain = credentials.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::from_pem_slice(credentials.key.expose().as_bytes());
    Ok((chain, key.map_err(TlsError::Key)?))
}

fn authorities(ders: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for der in ders {
        roots.add(CertificateDer::from(der.clone())).map_err(TlsError::Authority)?;
    }
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

/// The domains a certificate proves; none where it cannot be read.
fn names_of(certificate: &CertificateDer<'_>) -> CertificateNames {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(certificate) => {
            CertificateNames::of(certificate.valid_uri_names(), certificate.valid_dns_names())
        }
        Err(_) => CertificateNames::default(),
    }
}

/// Why TLS failed, by what the library says.
pub(crate) fn failure(error: &io::Error) -> ConnectFailure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => failure_of(error),
        None => match error.kind() {
            io::ErrorKind::TimedOut => ConnectFailure::HandshakeTimedOut,
            _ => ConnectFailure::HandshakeCut,
        },
    }
}

fn failure_of(error: &rustls::Error) -> ConnectFailure {
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectFailure::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ConnectFailure::Expired,
            CertificateError::UnknownIssuer => ConnectFailure::UnknownAuthority,
            _ => ConnectFailure::BadCertificate,
        },
        rustls::Error::NoCertificatesPresented => ConnectFailure::NoCertificate,
        rustls::Error::AlertReceived(alert) => failure_of_alert(*alert),
        rustls::Error::PeerIncompatible(_) => ConnectFailure::NoCommonTls,
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. } => ConnectFailure::NotTls,
        _ => ConnectFailure::HandshakeCut,
    }
}

const fn failure_of_alert(alert: AlertDescription) -> ConnectFailure {
    match alert {
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => ConnectFailure::NoCommonTls,
        AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => ConnectFailure::CertificateRefused,
        _ => ConnectFailure::HandshakeCut,
    }
}

/// True when a connection was broken by a peer that does not take our certificate: with TLS 1.3 it
/// says so only after the handshake.
pub(crate) fn refuses_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.is_some_and(|error| failure_of(error) == ConnectFailure::CertificateRefused)
}
