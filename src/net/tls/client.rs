//! TLS as a client: the peer's certificate must prove the trunk's domain (RFC 5922).

use crate::clock;
use crate::net::connect::TlsTo;
use crate::net::end::ConnectFailure;
use crate::net::flow::FlowLimits;
use crate::net::tls;
use crate::net::tls::TlsError;
use crate::types::limit::TLS_CLIENTS_MAX;
use crate::types::tls::CertificateNames;
use crate::types::tls::TlsSettings;
use crate::types::tls::TlsVerify;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Settings of trunks made ready for use, each once.
#[derive(Debug, Default)]
pub(crate) struct TlsClients(Mutex<VecDeque<(Arc<TlsSettings>, Arc<ClientConfig>)>>);

/// A connection over TLS, and what the peer's certificate proved.
pub(crate) type Secured = (TlsStream<TcpStream>, Option<CertificateNames>);

impl TlsClients {
    /// Shakes hands over `stream`.
    pub(crate) async fn handshake(
        &self,
        to: &TlsTo,
        stream: TcpStream,
        limits: &FlowLimits,
    ) -> Result<Secured, ConnectFailure> {
        let deadline = clock::instant(clock::now() + limits.handshake_timeout).into();
        let config = self.config(&to.settings).await.map_err(|error| {
            tracing::warn!(server = to.server_name, %error, "TLS settings cannot be used");
            ConnectFailure::Settings
        })?;
        let name = ServerName::try_from(to.server_name.trim_end_matches('.').to_owned())
            .map_err(|_| ConnectFailure::Settings)?;
        let shaking = TlsConnector::from(config).connect(name, stream);
        let stream = timeout_at(deadline, shaking)
            .await
            .map_err(|_| ConnectFailure::HandshakeTimedOut)?
            .map_err(|error| tls::failure(&error))?;
        let certificate = match to.settings.verify {
            TlsVerify::Authority | TlsVerify::Pinned => stream.get_ref().1.peer_certificates(),
            TlsVerify::Nothing => None,
        };
        let names = certificate.and_then(<[_]>::first).map(tls::names_of);
        Ok((stream, names))
    }

    async fn config(&self, settings: &Arc<TlsSettings>) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(ready) = self.ready(settings) {
            return Ok(ready);
        }
        // Reading the machine's certificates takes a while and the disk.
        let own = Arc::clone(settings);
        let built = tokio::task::spawn_blocking(move || build(&own)).await;
        let config = Arc::new(built.map_err(|_| TlsError::NoAuthorities)??);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TLS_CLIENTS_MAX {
            known.pop_front();
        }
        known.push_back((Arc::clone(settings), Arc::clone(&config)));
        Ok(config)
    }

    fn ready(&self, settings: &Arc<TlsSettings>) -> Option<Arc<ClientConfig>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |own: &Arc<TlsSettings>| Arc::ptr_eq(own, settings) || own == settings;
        known.iter().find(|(own, _)| same(own)).map(|(_, config)| Arc::clone(config))
    }
}

fn build(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let provider = tls::provider();
    let algorithms = provider.signature_verification_algorithms;
    let trust = match settings.verify {
        TlsVerify::Authority if settings.authorities.is_empty() => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
            Trust::Authorities(roots)
        }
        TlsVerify::Authority => Trust::Authorities(tls::authorities(&settings.authorities)?),
        TlsVerify::Pinned => Trust::Pinned(settings.authorities.clone()),
        TlsVerify::Nothing => Trust::Anybody,
    };
    let verifier = Verifier {
        trust,
        algorithms,
        allow_wildcard: settings.allow_wildcard,
        expected_names: settings.expected_names.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls::versions(settings.min_version))
        .map_err(TlsError::Credentials)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match &settings.credentials {
        None => Ok(builder.with_no_client_auth()),
        Some(credentials) => {
            let (chain, key) = tls::certified(credentials)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Credentials)
        }
    }
}

/// Whom a client believes.
#[derive(Debug)]
enum Trust {
    Authorities(RootCertStore),
    Pinned(Vec<Vec<u8>>),
    Anybody,
}

/// Verifies as RFC 5922 §7 wants it: SIP URIs count like DNS names, wildcards only where the trunk
/// says so. The library's own verifier knows neither.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    allow_wildcard: bool,
    expected_names: Vec<String>,
}

impl Verifier {
    fn is_named(&self, end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
        let names = tls::names_of(end_entity);
        let proven = |domain: &str| names.prove(domain, self.allow_wildcard);
        let by_name = match name {
            ServerName::DnsName(domain) => proven(domain.as_ref()),
            address => webpki::EndEntityCert::try_from(end_entity)
                .is_ok_and(|own| own.verify_is_valid_for_subject_name(address).is_ok()),
        };
        by_name || self.expected_names.iter().any(|expected| proven(expected))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Anybody => {}
            Trust::Pinned(pins) => {
                if !pins.iter().any(|pin| pin.as_slice() == end_entity.as_ref()) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
            }
            Trust::Authorities(roots) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    roots,
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
                if !self.is_named(end_entity, server_name) {
                    return Err(CertificateError::NotValidForName.into());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
