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
use hyper::Method;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::CONNECTION;
use hyper::header::CONTENT_TYPE;
use hyper::header::HOST;
use hyper::header::LOCATION;
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

/// Asks URLs of tenants. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    reach: Reach,
    roots: TrustRoots,
}

/// A request.
#[derive(Clone, Debug)]
pub struct HttpRequest<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// A body and its type, which is posted; without one the URL is only asked for.
    pub body: Option<(&'static str, Bytes)>,
    /// More header fields.
    pub headers: &'a [(&'static str, String)],
    /// The longest body of an answer that is read, in bytes.
    pub answer_bytes_max: usize,
    /// How long it may take, all together.
    pub limit: Duration,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// What it says its body is.
    pub content_type: Option<String>,
    /// Where it leads instead.
    pub location: Option<String>,
    /// The body; empty where it was too long or did not come whole.
    pub body: Bytes,
    /// It was too long or did not come whole.
    pub is_cut: bool,
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
        let (body, answer_bytes_max) = (Some(body), WEBHOOK_ANSWER_BYTES_MAX);
        self.send(HttpRequest { url, body, headers, answer_bytes_max, limit }).await
    }

    /// Sends a request and reads the answer; redirects are answers like others.
    ///
    /// # Errors
    /// [`HttpFault`] says how far it got.
    pub async fn send(&self, request: HttpRequest<'_>) -> Result<HttpAnswer, HttpFault> {
        let limit = request.limit;
        let asked = self.ask(request);
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(HttpFault::Late(limit)))
    }

    async fn ask(&self, wanted: HttpRequest<'_>) -> Result<HttpAnswer, HttpFault> {
        let to = self.reach.destination(wanted.url).map_err(HttpFault::Url)?;
        let (method, form, body) = match wanted.body {
            Some((form, body)) => (Method::POST, Some(form), body),
            None => (Method::GET, None, Bytes::new()),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(&to.path)
            .header(HOST, &to.authority)
            .header(USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, form);
        }
        for (name, value) in wanted.headers {
            request = request.header(*name, value);
        }
        let unusable = |_| HttpFault::Url("the URL or a header is not usable");
        let request = request.body(Full::new(body)).map_err(unusable)?;
        let stream = self.connect(&to).await?;
        let most = wanted.answer_bytes_max;
        if !to.is_secure {
            return converse(stream, request, most).await;
        }
        let name = ServerName::try_from(to.host.clone());
        let name = name.map_err(|_| HttpFault::Url("the URL names no usable host"))?;
        let config = self.roots.config().map_err(HttpFault::Roots)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        converse(stream.map_err(HttpFault::Tls)?, request, most).await
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
    most: usize,
) -> Result<HttpAnswer, HttpFault> {
    let mut http = http1::Builder::new();
    http.max_buf_size(64 * 1024).max_headers(64);
    let (mut sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(HttpFault::Http)?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let field = |name| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let (content_type, location) = (field(CONTENT_TYPE), field(LOCATION));
        let body = Limited::new(answer.into_body(), most);
        // What matters to most is the status; for them a body that is too long is nobody's loss.
        let body = body.collect().await.map(|body| body.to_bytes());
        let is_cut = body.is_err();
        let body = body.unwrap_or_default();
        Ok(HttpAnswer { status, content_type, location, body, is_cut })
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
        assert_eq!((answer.status, answer.body.len(), answer.is_cut), (200, 0, true));
        let redirect =
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (url, _asked) = serve(redirect.to_vec()).await;
        let answer = post(&url, PATIENCE).await.unwrap();
        let location = answer.location.as_deref();
        assert_eq!((answer.status, location), (302, Some("http://127.0.0.1:1/")));
    }

    #[tokio::test]
    async fn a_url_is_asked_for_without_a_body() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 4\r\n\r\n<a/>";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let request = HttpRequest {
            url: &url,
            body: None,
            headers: &[],
            answer_bytes_max: 4,
            limit: PATIENCE,
        };
        let answer = client().send(request).await.unwrap();
        assert_eq!((&answer.body[..], answer.is_cut), (&b"<a/>"[..], false));
        assert_eq!(answer.content_type.as_deref(), Some("text/xml"));
        let asked = task.await.unwrap();
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(!asked.to_ascii_lowercase().contains("content-type"), "{asked}");
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
    async fn an_answer_that_goes_on_in_crumbs_is_late_as_a_whole() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let crumbs = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Nobody expects an answer before there is a question.
            stream.read_u8().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n";
            stream.write_all(head).await.unwrap();
            // Each comes long before the limit.
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let limit = Duration::from_millis(200);
        let late = tokio::time::timeout(PATIENCE, post(&url, limit)).await.unwrap();
        assert!(matches!(late, Err(HttpFault::Late(of)) if of == limit), "{late:?}");
        // The connection went with whoever waited.
        tokio::time::timeout(PATIENCE, crumbs).await.unwrap().unwrap();
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
