//! The HTTP client for URLs of tenants: one request, one answer, bounded in time and size, and never into the
//! node's own network.

use crate::net::websocket::TlsError;
use crate::net::websocket::TrustRoots;
use crate::types::limit::WEBHOOK_ANSWER_BYTES_MAX;
use crate::types::reach::Destination;
use crate::types::reach::Reach;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::CONNECTION;
use hyper::header::CONTENT_TYPE;
use hyper::header::HOST;
use hyper::header::USER_AGENT;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Posts JSON to URLs of tenants. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    reach: Reach,
    roots: TrustRoots,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The body; empty where it was too long or did not come whole.
    pub body: Bytes,
}

/// Why there is no answer. No text holds the URL, which may carry secrets.
#[derive(Debug, thiserror::Error)]
pub enum HttpFault {
    /// The URL is not asked for.
    #[error("{0}")]
    Url(&'static str),
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Name(#[source] io::Error),
    /// The name has only addresses that are not reached.
    #[error("the name leads into a network that is not reached (webhooks.allow_networks)")]
    Unreachable,
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The server's certificate or TLS is no good.
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
    /// No trusted certificate could be read.
    #[error("cannot prepare TLS")]
    Roots(#[source] TlsError),
    /// The server hung up or does not speak HTTP.
    #[error("the server gave no answer")]
    Http(#[source] hyper::Error),
    /// It took too long.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
}

impl HttpClient {
    /// A client that reaches what `reach` permits, and trusts `roots`.
    #[must_use]
    pub const fn new(reach: Reach, roots: TrustRoots) -> Self {
        Self { reach, roots }
    }

    /// Posts `body`, which is JSON, and reads the answer; redirects are answers like others. All together
    /// within `limit`.
    ///
    /// # Errors
    /// [`HttpFault`] says how far it got.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<HttpAnswer, HttpFault> {
        self.post_as(url, ("application/json", body), headers, limit).await
    }

    /// The same with a body of another type.
    ///
    /// # Errors
    /// [`HttpFault`] says how far it got.
    pub async fn post_as(
        &self,
        url: &str,
        body: (&'static str, Bytes),
        headers: &[(&'static str, String)],
        limit: Duration,
    ) -> Result<HttpAnswer, HttpFault> {
        let asked = self.ask(url, headers, body);
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(HttpFault::Late(limit)))
    }

    async fn ask(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        (form, body): (&'static str, Bytes),
    ) -> Result<HttpAnswer, HttpFault> {
        let to = self.reach.destination(url).map_err(HttpFault::Url)?;
        let mut request = Request::post(&to.path)
            .header(HOST, &to.authority)
            .header(USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, form)
            .header(CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let unusable = |_| HttpFault::Url("the URL or a header is not usable");
        let request = request.body(Full::new(body)).map_err(unusable)?;
        let stream = self.connect(&to).await?;
        if !to.is_secure {
            return converse(stream, request).await;
        }
        let name = ServerName::try_from(to.host.clone());
        let name = name.map_err(|_| HttpFault::Url("the URL names no usable host"))?;
        let config = self.roots.config().map_err(HttpFault::Roots)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        converse(stream.map_err(HttpFault::Tls)?, request).await
    }

    /// Connects to the first address that may be reached and answers. The address that was judged is the one
    /// that is connected to: a name that resolves otherwise a moment later gains nothing.
    async fn connect(&self, to: &Destination) -> Result<TcpStream, HttpFault> {
        let found = tokio::net::lookup_host((to.host.as_str(), to.port)).await;
        let mut last = None;
        for address in found.map_err(HttpFault::Name)? {
            if !self.reach.permits(address.ip()) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(HttpFault::Connect)?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or(HttpFault::Unreachable, HttpFault::Connect))
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<HttpAnswer, HttpFault> {
    let mut http = http1::Builder::new();
    http.max_buf_size(64 * 1024).max_headers(64);
    let (mut sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(HttpFault::Http)?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), WEBHOOK_ANSWER_BYTES_MAX);
        // What matters is the status; a body that is too long is nobody's loss.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(HttpAnswer { status, body })
    };
    // Turned here and not by a task of its own: whoever stops waiting drops the connection with it.
    let (mut asked, mut connection) = (pin!(asked), pin!(connection));
    let answer = tokio::select! {
        answer = asked.as_mut() => answer,
        _ = connection.as_mut() => asked.await,
    };
    answer.map_err(HttpFault::Http)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn client() -> HttpClient {
        let reach = Reach { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };
        HttpClient::new(reach, TrustRoots::native())
    }

    /// Answers one request with `answer`, and tells what was asked.
    async fn serve(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"{}") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            drop(stream.write_all(&answer).await);
            String::from_utf8(asked).unwrap()
        });
        (url, task)
    }

    async fn post(url: &str, limit: Duration) -> Result<HttpAnswer, HttpFault> {
        let headers = [("tandem-event", "call.ended".to_owned())];
        client().post(url, &headers, Bytes::from_static(b"{}"), limit).await
    }

    #[tokio::test]
    async fn a_post_is_answered() {
        let (url, asked) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
        let answer = post(&url, PATIENCE).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{asked}");
        for header in ["host: 127.0.0.1", "tandem-event: call.ended", "content-length: 2"] {
            assert!(asked.contains(header), "{asked}");
        }
    }

    #[tokio::test]
    async fn an_endless_answer_costs_no_more_than_the_bound_and_a_redirect_leads_nowhere() {
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        endless.resize(WEBHOOK_ANSWER_BYTES_MAX * 4, b'x');
        let (url, _asked) = serve(endless).await;
        let answer = post(&url, PATIENCE).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        let redirect =
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (url, _asked) = serve(redirect.to_vec()).await;
        assert_eq!(post(&url, PATIENCE).await.unwrap().status, 302);
    }

    #[tokio::test]
    async fn no_answer_is_said_to_be_one() {
        let (url, _asked) = serve(Vec::new()).await;
        assert!(matches!(post(&url, PATIENCE).await, Err(HttpFault::Http(_))));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = post(&format!("http://{address}/"), Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(HttpFault::Late(_))), "{silent:?}");
        drop(listener);
        let gone = post(&format!("http://{address}/"), PATIENCE).await;
        assert!(matches!(gone, Err(HttpFault::Connect(_))), "{gone:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_followed() {
        let reach = Reach { http: true, networks: Vec::new() };
        let client = HttpClient::new(reach, TrustRoots::native());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let answer = client.post(&url, &[], Bytes::new(), PATIENCE).await;
        assert!(matches!(answer, Err(HttpFault::Unreachable)), "{answer:?}");
    }
}
