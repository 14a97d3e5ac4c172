//! TLS as a server: a certificate that can be replaced while connections go on.

use crate::net::end::ConnectFailure;
use crate::net::tls;
use crate::net::tls::TlsError;
use crate::types::tls::CertificateNames;
use crate::types::tls::ClientCertificates;
use crate::types::tls::TlsServerSettings;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest wait for a refused peer to hear why and close, and what is read of it meanwhile.
const PARTING_MAX: Duration = Duration::from_secs(1);
const PARTING_BYTES_MAX: u64 = 65_536;

/// What a listener shows to peers. Clones share it.
#[derive(Clone, Debug)]
pub struct TlsServer(Arc<ArcSwap<ServerConfig>>);

/// A connection over TLS, and what the peer's certificate proved, where it showed one.
pub(crate) type Secured = (TlsStream<TcpStream>, Option<CertificateNames>);

impl TlsServer {
    /// Makes `settings` ready for use.
    ///
    /// # Errors
    /// [`TlsError`] when certificate, key or authorities cannot be used.
    pub fn new(settings: &TlsServerSettings) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(build(settings)?))))
    }

    /// Brings `settings` into force for new connections; those that are open go on.
    ///
    /// # Errors
    /// [`TlsError`]: the old ones stay in force.
    pub fn replace(&self, settings: &TlsServerSettings) -> Result<(), TlsError> {
        self.0.store(Arc::new(build(settings)?));
        Ok(())
    }

    /// What is shown now.
    #[must_use]
    pub fn shown(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Changes with each replacement.
    #[cfg(test)]
    pub(crate) fn version(&self) -> usize {
        Arc::as_ptr(&self.0.load_full()).addr()
    }

    /// Shakes hands over `stream`, for `wait` at most.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        wait: Duration,
    ) -> Result<Secured, ConnectFailure> {
        let acceptor = TlsAcceptor::from(self.0.load_full());
        let shaken = timeout(wait, acceptor.accept(stream).into_fallible()).await;
        let stream = match shaken.map_err(|_| ConnectFailure::HandshakeTimedOut)? {
            Ok(stream) => stream,
            Err((error, stream)) => {
                part(stream).await;
                return Err(tls::failure(&error));
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = shown.map(tls::names_of);
        Ok((stream, names))
    }
}

/// Closes after a failed handshake so that the alert arrives: data of the peer that nobody read would
/// turn the close into a reset.
async fn part(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = stream.take(PARTING_BYTES_MAX);
    let mut nowhere = tokio::io::sink();
    let read = tokio::io::copy(&mut rest, &mut nowhere);
    // The connection is over, whatever comes of it.
    drop(timeout(PARTING_MAX, read).await);
}

fn build(settings: &TlsServerSettings) -> Result<ServerConfig, TlsError> {
    let provider = tls::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(tls::versions(settings.min_version))
        .map_err(TlsError::Credentials)?;
    let verifier = |authorities: &[Vec<u8>]| {
        let roots = Arc::new(tls::authorities(authorities)?);
        Ok(WebPkiClientVerifier::builder_with_provider(roots, provider))
    };
    let builder = match &settings.clients {
        ClientCertificates::Ignored => builder.with_no_client_auth(),
        ClientCertificates::Requested(authorities) => {
            let verifier = verifier(authorities)?.allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(TlsError::Clients)?)
        }
        ClientCertificates::Required(authorities) => {
            let verifier = verifier(authorities)?.build().map_err(TlsError::Clients)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = tls::certified(&settings.credentials)?;
    builder.with_single_cert(chain, key).map_err(TlsError::Credentials)
}
