//! The WebSocket client with which agents are dialled: `ws://` and `wss://`, small buffers, no delay.

use crate::net::metered::Metered;
use crate::net::websocket::short::SHORT_BYTES;
use crate::types::agent::ClientIdentity;
use crate::types::agent_trouble::FaultWord;
use crate::types::limit::AGENT_MESSAGE_BYTES_MAX;
use crate::types::reach::Reach;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::ConfigBuilder;
use rustls::RootCertStore;
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use socket2::TcpKeepalive;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

mod framing;
mod handshake;
mod short;

pub use crate::net::websocket::framing::FRAMED_BYTES_MAX;
pub use crate::net::websocket::framing::Kind;

/// An open WebSocket, a stream and sink of messages.
pub type WebSocket = WebSocketStream<Metered<TcpStream>>;

/// The same over TLS, which takes a kilobyte more.
pub type SecureWebSocket = WebSocketStream<Metered<TlsStream<TcpStream>>>;

/// The same of an agent that dialled us.
pub type CameWebSocket = WebSocketStream<Metered<TokioIo<Upgraded>>>;

/// Read buffer of one connection that came, for three frames of 20 ms as JSON. It grows with a longer message. tungstenite
/// fills it with zeros before each read; with its default of 128 KiB a link costs three times the CPU time and ten times
/// the memory.
const READ_BUFFER_BYTES: usize = 1_024;

/// The same of one that we opened, for one such frame: those that come alone are not read by it.
const DIALLED_READ_BUFFER_BYTES: usize = 512;

/// The same over TLS, where messages mostly are longer.
const SECURE_READ_BUFFER_BYTES: usize = 4_096;

/// A WebSocket that we opened.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and most are plain"
)]
pub enum Dialled {
    /// `ws://`
    Plain(WebSocket),
    /// `wss://`
    Secure(Box<SecureWebSocket>),
}

/// Bytes the kernel may hold back unsent, about half a second of caller audio as JSON: behind it, a
/// peer that does not read is noticed and old audio can give way to new.
const UNSENT_BYTES_MAX: u32 = 8_192;

/// How long a peer may acknowledge nothing on a connection that has no pings.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long one of a host's addresses may be silent before the next is tried. The last may be so for as long as the
/// connection may take.
const ADDRESS_MAX: Duration = Duration::from_secs(1);

/// Why a WebSocket could not be opened. No text holds the URL, which may carry secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or a header value cannot be used.
    #[error("the agent's URL or a header is not usable")]
    Request(#[source] Box<tungstenite::Error>),
    /// The URL names no host, or neither `ws` nor `wss`.
    #[error("the agent's URL has no host, or is neither ws:// nor wss://")]
    Url,
    /// The address is not one that agents may have here.
    #[error("the agent's address is not allowed on this node (agents.allow_networks)")]
    Forbidden,
    /// No TCP connection.
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    /// TLS or the upgrade failed.
    #[error("the WebSocket handshake failed")]
    Handshake(#[source] Box<tungstenite::Error>),
    /// No trusted certificate could be read.
    #[error("cannot prepare TLS")]
    Tls(#[source] TlsError),
}

impl ConnectError {
    /// A word for records: the status of the answer where there was one.
    #[must_use]
    pub fn word(&self) -> Option<FaultWord> {
        let word = match self {
            Self::Request(_) | Self::Url => "bad_url",
            Self::Forbidden => "forbidden",
            Self::Tcp(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "connection_refused",
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no_route",
                _ => "not_connected",
            },
            Self::Handshake(error) => match error.as_ref() {
                tungstenite::Error::Http(answer) => {
                    return FaultWord::of(&format!("http_{}", answer.status().as_u16()));
                }
                tungstenite::Error::Tls(_) => "tls",
                // What rustls has against a certificate comes as an error of reading.
                tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                    "tls"
                }
                _ => "no_handshake",
            },
            Self::Tls(_) => "tls_setup",
        };
        FaultWord::of(word)
    }
}

/// Why `wss://` cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates cannot be read.
    #[error("cannot read the file of trusted certificates")]
    File(#[source] Arc<rustls::pki_types::pem::Error>),
    /// A certificate cannot be used.
    #[error("a trusted certificate is not usable")]
    Certificate(#[source] rustls::Error),
    /// The certificate we should show, or its key, cannot be used.
    #[error("the client certificate or its key is not usable")]
    Identity,
    /// The machine trusts nobody.
    #[error("no trusted certificates found; on Debian: apt-get install ca-certificates")]
    NoRoots,
}

/// Whom to trust on `wss://`. Cheap to clone; the machine's certificates are read on first use.
#[derive(Clone, Debug, Default)]
pub struct TrustRoots {
    extra: Arc<[CertificateDer<'static>]>,
    /// Which addresses agents may have; `None`: any.
    reach: Option<Arc<Reach>>,
    config: Arc<OnceLock<Result<Arc<ClientConfig>, TlsError>>>,
}

impl TrustRoots {
    /// The certificates that the machine trusts.
    #[must_use]
    pub fn native() -> Self {
        Self::default()
    }

    /// The certificates that the machine trusts and those of `file`, in PEM.
    ///
    /// # Errors
    /// [`TlsError::File`] when `file` cannot be read or has a damaged section;
    /// [`TlsError::NoRoots`] when it has no certificate.
    pub fn with_file(file: &Path) -> Result<Self, TlsError> {
        let broken = |error| TlsError::File(Arc::new(error));
        let sections = CertificateDer::pem_file_iter(file).map_err(broken)?;
        let extra = sections.collect::<Result<Vec<_>, _>>().map_err(broken)?;
        if extra.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(Self { extra: extra.into(), ..Self::default() })
    }

    /// The same for connections to agents, which may only have the addresses that `reach` permits.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach: Some(Arc::new(reach)), ..self }
    }

    /// Whether a SIP address that a tenant names may be called at `address`: on the internet, or in a network
    /// that is listed.
    #[must_use]
    pub fn permits_call(&self, address: IpAddr) -> bool {
        self.reach.as_ref().is_none_or(|reach| reach.permits(address))
    }

    /// Whether `address` is in a network that is listed, so that SIP addresses of tenants lead there whoever else is
    /// there.
    #[must_use]
    pub fn lists_call(&self, address: IpAddr) -> bool {
        self.reach.as_ref().is_none_or(|reach| reach.lists(address))
    }

    /// Connects to the first address that may be reached and answers. The address that was judged is the one
    /// that is connected to: a name that resolves otherwise a moment later gains nothing.
    async fn connect(&self, to: (&str, u16), is_secure: bool) -> Result<TcpStream, ConnectError> {
        let addresses = lookup_host(to).await.map_err(ConnectError::Tcp)?;
        let permits = |address: &SocketAddr| {
            let reach = self.reach.as_ref();
            reach.is_none_or(|reach| reach.permits_agent(address.ip(), is_secure))
        };
        let permitted: Vec<_> = addresses.filter(permits).collect();
        let stream = first_that_answers(&permitted, ADDRESS_MAX, TcpStream::connect).await?;
        prepare(&stream).map_err(ConnectError::Tcp)?;
        Ok(stream)
    }

    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.config.get_or_init(|| self.build()).clone()
    }

    /// The same, with a certificate to show to servers that ask for one.
    fn config_as(&self, identity: &ClientIdentity) -> Result<Arc<ClientConfig>, TlsError> {
        let (certificates, key) = (identity.certificates.expose(), identity.key.expose());
        let chain = CertificateDer::pem_slice_iter(certificates.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|_| TlsError::Identity)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Identity)?;
        let config = self.builder()?.with_client_auth_cert(chain, key);
        Ok(Arc::new(config.map_err(|_| TlsError::Identity)?))
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(Arc::new(self.builder()?.with_no_client_auth()))
    }

    fn builder(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
        let mut roots = RootCertStore::empty();
        // A damaged certificate among the machine's own is no reason to reach no agent at all.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in self.extra.iter() {
            roots.add(certificate.clone()).map_err(TlsError::Certificate)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?;
        Ok(builder.with_root_certificates(roots))
    }
}

/// Connects to the first of `addresses` that answers, each but the last within `limit`.
async fn first_that_answers<T, F>(
    addresses: &[SocketAddr],
    limit: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = io::Result<T>>,
{
    let (last, others) = addresses.split_last().ok_or(ConnectError::Forbidden)?;
    for address in others {
        if let Ok(Ok(connected)) = timeout(limit, connect(*address)).await {
            return Ok(connected);
        }
    }
    connect(*last).await.map_err(ConnectError::Tcp)
}

/// Opens a WebSocket to `url`, exactly as given, with `headers` added to the request; who is trusted there, and
/// what is shown to it. Takes as long as the network does: the caller sets the limit.
///
/// # Errors
/// [`ConnectError`] says how far it got.
pub async fn connect(
    url: &str,
    headers: &[(&'static str, String)],
    (roots, identity): (&TrustRoots, Option<&ClientIdentity>),
) -> Result<Dialled, ConnectError> {
    let request = request(url, headers)?;
    let secure = match request.uri().scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(ConnectError::Url),
    };
    let tls = secure.then(|| match identity {
        Some(identity) => roots.config_as(identity),
        None => roots.config(),
    });
    let tls = tls.transpose().map_err(ConnectError::Tls)?;
    let host = request.uri().host().ok_or(ConnectError::Url)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = request.uri().port_u16().unwrap_or(if secure { 443 } else { 80 });
    let socket = roots.connect((host, port), secure).await?;
    let failed = |error| ConnectError::Handshake(Box::new(error));
    let Some(tls) = tls else {
        let opened = shake_hands(request, socket, DIALLED_READ_BUFFER_BYTES).await;
        return opened.map(Dialled::Plain).map_err(failed);
    };
    let socket = encrypt(tls, host, socket).await.map_err(failed)?;
    let opened = shake_hands(request, socket, SECURE_READ_BUFFER_BYTES).await;
    opened.map(|socket| Dialled::Secure(Box::new(socket))).map_err(failed)
}

/// TLS with `host` over a connection to it.
async fn encrypt(
    tls: Arc<ClientConfig>,
    host: &str,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, tungstenite::Error> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| tungstenite::error::TlsError::InvalidDnsName)?;
    Ok(TlsConnector::from(tls).connect(name, socket).await?)
}

/// Opens a WebSocket over a connection, with a buffer of its own.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    request: tungstenite::handshake::client::Request,
    socket: S,
    read_buffer_bytes: usize,
) -> Result<WebSocketStream<Metered<S>>, tungstenite::Error> {
    let (config, mut socket) = (config(read_buffer_bytes), Metered::new(socket));
    let beyond = handshake::ask(request, &mut socket).await?;
    socket.begin_with(beyond.len());
    // Given with its room, which the library remembers when it needs another.
    let mut buffer = Vec::with_capacity(read_buffer_bytes.max(beyond.len()));
    buffer.extend_from_slice(&beyond);
    Ok(WebSocketStream::from_partially_read(socket, buffer, Role::Client, Some(config)).await)
}

/// The WebSocket of an agent that dialled us, over a connection whose handshake was answered.
pub async fn came(connection: TokioIo<Upgraded>) -> CameWebSocket {
    let config = config(READ_BUFFER_BYTES);
    WebSocketStream::from_raw_socket(Metered::new(connection), Role::Server, Some(config)).await
}

/// Opens a TCP connection to a host and port. Takes as long as the network does: the caller sets the limit.
///
/// # Errors
/// [`ConnectError`] says how far it got.
pub async fn connect_tcp(address: &str, roots: &TrustRoots) -> Result<TcpStream, ConnectError> {
    let (host, port) = address.rsplit_once(':').ok_or(ConnectError::Url)?;
    let port = port.parse().map_err(|_| ConnectError::Url)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let socket = roots.connect((host, port), false).await?;
    notice_silence(&socket).map_err(ConnectError::Tcp)?;
    Ok(socket)
}

/// Whether there may be something to read from `connection`, all of which was read before: cheaper than to try it, for which
/// a buffer is filled with zeros first.
pub fn poll_readable(connection: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    // What is wrong with a connection is found out by reading from it.
    connection.poll_read_ready(cx).map(|_| ())
}

/// Whether `message`, which was read from `connection`, was alone in that and is short: then the next may be.
pub fn was_alone(connection: &mut Metered<TcpStream>, message: &Message) -> bool {
    let bytes = short::framed_bytes(message.len());
    connection.came_out(bytes) && bytes <= SHORT_BYTES && message.is_text()
}

/// `message` was read from `connection`. Says whether nothing is kept of what was read before it: of a message in parts the
/// library keeps those that came, and what the protocol says for itself may come between them (RFC 6455 §5.4).
pub fn came_out<S>(connection: &mut Metered<S>, message: &Message) -> bool {
    let is_of_protocol = message.is_ping() || message.is_pong() || message.is_close();
    if is_of_protocol {
        connection.passed(short::framed_bytes(message.len()));
    } else {
        connection.came_whole();
    }
    !is_of_protocol
}

/// Reads what has come where no message is begun, and gives it to `hear` if it is one short text and nothing else. If not,
/// this is false, and the WebSocket is to be asked.
pub fn poll_alone(
    connection: &mut Metered<TcpStream>,
    cx: &mut Context<'_>,
    hear: impl FnOnce(&str),
) -> Poll<bool> {
    connection.poll_past::<SHORT_BYTES>(cx, |come| short::text_alone(come).map(hear).is_some())
}

/// Has `fill` append a message to what is in a buffer and sends it as one frame past the library, which must hold nothing
/// that is to be written. Says whether the network took all of it; what it did not goes before all that is written later.
/// `None` where `fill` has no message.
pub fn write_past<S: AsyncWrite + Unpin>(
    connection: &mut Metered<S>,
    message: (Kind, Role),
    fill: impl FnOnce(&mut Vec<u8>) -> bool,
) -> Option<bool> {
    framing::framed(message, fill, |frame| connection.write_past(frame))
}

fn request(
    url: &str,
    headers: &[(&'static str, String)],
) -> Result<tungstenite::handshake::client::Request, ConnectError> {
    let unusable = |error| ConnectError::Request(Box::new(error));
    let mut request = url.into_client_request().map_err(unusable)?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| unusable(error.into()))?;
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(())
}

/// A connection without pings is found dead by what it does not acknowledge.
fn notice_silence(socket: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE_MAX))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}

fn config(read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .write_buffer_size(0)
        .max_message_size(Some(AGENT_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(AGENT_MESSAGE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_without_pings_that_hears_nothing_is_given_up_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stream = connect_tcp(&address, &TrustRoots::native()).await.expect("it listens");
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().expect("known"), "an agent that is gone while nothing is said");
        assert_eq!(socket.tcp_keepalive_time().expect("known"), SILENCE_MAX);
        let unanswered = socket.tcp_user_timeout().expect("known");
        assert_eq!(unanswered, Some(SILENCE_MAX), "and while something is");
        assert!(stream.nodelay().expect("known"), "what is said leaves at once");
    }

    #[test]
    fn a_dial_that_failed_has_a_word() {
        use tokio_tungstenite::tungstenite::http::Response;
        let word = |error: ConnectError| error.word().expect("a word").as_str().to_owned();
        let answer = Response::builder().status(403).body(None).expect("an answer");
        let refused = tungstenite::Error::Http(Box::new(answer));
        assert_eq!(word(ConnectError::Handshake(Box::new(refused))), "http_403");
        let tcp = |kind: io::ErrorKind| word(ConnectError::Tcp(kind.into()));
        assert_eq!(tcp(io::ErrorKind::ConnectionRefused), "connection_refused");
        assert_eq!(tcp(io::ErrorKind::NetworkUnreachable), "no_route");
        assert_eq!(tcp(io::ErrorKind::Other), "not_connected");
        let io = |kind: io::ErrorKind| Box::new(tungstenite::Error::Io(kind.into()));
        assert_eq!(word(ConnectError::Handshake(io(io::ErrorKind::InvalidData))), "tls");
        assert_eq!(word(ConnectError::Handshake(io(io::ErrorKind::UnexpectedEof))), "no_handshake");
        assert_eq!(word(ConnectError::Url), "bad_url");
    }

    #[tokio::test]
    async fn an_address_that_answers_nothing_does_not_keep_the_next_from_being_tried() {
        let addresses: Vec<SocketAddr> =
            ["[2001:db8::1]:80", "192.0.2.1:80"].map(|text| text.parse().unwrap()).to_vec();
        let connect = |lives: fn(SocketAddr) -> bool| {
            first_that_answers(&addresses, Duration::from_millis(1), move |address| async move {
                if lives(address) { Ok(address) } else { std::future::pending().await }
            })
        };
        // Far longer than that takes, and far shorter than the system waits.
        let next = timeout(Duration::from_secs(30), connect(|address| address.is_ipv4()));
        assert_eq!(next.await.expect("it is not waited for").unwrap(), addresses[1]);
        assert_eq!(connect(|address| address.is_ipv6()).await.unwrap(), addresses[0]);
        // The last has the time of the whole connection, which the caller sets.
        let patience = Duration::from_millis(50);
        assert!(timeout(patience, connect(|_| false)).await.is_err());
        let nobody = first_that_answers(&[], ADDRESS_MAX, |address| async move { Ok(address) });
        assert!(matches!(nobody.await, Err(ConnectError::Forbidden)));
        let refused = first_that_answers(&addresses, ADDRESS_MAX, |_| async {
            Err::<(), _>(io::ErrorKind::ConnectionRefused.into())
        });
        assert!(matches!(refused.await, Err(ConnectError::Tcp(_))));
    }
}
