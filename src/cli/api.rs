//! The HTTP API as commands ask it: where it is, which key opens it, and whose fault a failure is.

use crate::cli::certificates;
use crate::cli::columns;
use crate::cli::failure::Failure;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::convert::Infallible;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the whole answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The content type of what is asked.
const JSON: &str = "application/json";
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The codes of a 403 that is about the key; any other says that a rule forbids what was asked.
const KEYS_FAULTS: [&str; 3] = ["forbidden", "role_too_low", "platforms_only"];

/// Where the API is and what opens it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API")]
pub(crate) struct ApiArgs {
    /// Where the API is: http://HOST[:PORT] or https://HOST[:PORT]
    #[arg(long, value_name = "URL", global = true, env = "TANDEM_API",
          default_value = "http://127.0.0.1:8080", value_parser = base)]
    api: Base,
    /// The API key: env:NAME, file:PATH, or the key itself, which lists of processes then show
    #[arg(long, value_name = "KEY", global = true, env = "TANDEM_API_KEY", hide_env_values = true,
          value_parser = secret)]
    api_key: Option<Secret<String>>,
    /// A file that holds the API key and nothing else
    #[arg(long, value_name = "FILE", global = true, env = "TANDEM_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Authorities of the API's certificate, in PEM; without it those of the system
    #[arg(long, value_name = "FILE", global = true, env = "TANDEM_API_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// The tenant whose things are meant, by id
    #[arg(long, value_name = "ID", global = true, env = "TANDEM_TENANT")]
    pub(crate) tenant: Option<TenantId>,
    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The address of the API, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Base {
    /// As it is shown: scheme, host and port, and the path before `/api`.
    url: String,
    is_secure: bool,
    host: String,
    port: u16,
    authority: String,
    /// Before `/api/v1`, without a slash at its end.
    path: String,
}

/// Asks the API. Each request has a connection of its own; redirects are not followed, since they
/// would carry the key elsewhere.
pub(crate) struct Client {
    base: Base,
    key: HeaderValue,
    tls: Option<TlsConnector>,
    tenant: Option<TenantId>,
}

/// What the API answered.
pub(crate) struct Answer {
    url: String,
    bytes: Bytes,
}

/// An error of the API.
#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
    request_id: String,
}

impl ApiArgs {
    /// Makes the client that these arguments describe. Asks nothing yet.
    ///
    /// # Errors
    ///
    /// When there is no key, or a file cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let tls = self.api.is_secure.then(|| connector(self.ca_file.as_deref())).transpose()?;
        Ok(Client { base: self.api.clone(), key: self.key()?, tls, tenant: self.tenant })
    }

    /// The key as it stands in a request. What a flag says outranks what a file says.
    fn key(&self) -> Result<HeaderValue, Failure> {
        let from_file = |path: &PathBuf| read(path, "--api-key-file").map(Some);
        let given = self.api_key.clone().filter(|key| !key.expose().is_empty());
        let key = match (given, &self.api_key_file) {
            (Some(key), _) => Some(resolved(key)?),
            (None, Some(path)) if !path.as_os_str().is_empty() => from_file(path)?,
            (None, _) => None,
        };
        let Some(key) = key else {
            return Err(Failure::configuration(
                "no API key: set TANDEM_API_KEY, or give --api-key or --api-key-file",
            ));
        };
        let value = HeaderValue::from_str(&format!("Bearer {}", key.expose().trim()));
        let mut value = value.map_err(|_| {
            Failure::configuration("the API key has characters that no key has; it is not sent")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The key itself, or what the variable or the file holds that it names.
fn resolved(key: Secret<String>) -> Result<Secret<String>, Failure> {
    if let Some(name) = key.expose().strip_prefix("env:") {
        let value = env::var(name).map(Secret::new);
        return value.map_err(|error| {
            Failure::configuration(format!("--api-key env:{name}")).because(error)
        });
    }
    match key.expose().strip_prefix("file:") {
        Some(path) => read(Path::new(path), "--api-key"),
        None => Ok(key),
    }
}

fn read(path: &Path, flag: &str) -> Result<Secret<String>, Failure> {
    fs::read_to_string(path).map(Secret::new).map_err(|error| {
        Failure::configuration(format!("{flag}: {} cannot be read", path.display())).because(error)
    })
}

fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn base(text: &str) -> Result<Base, String> {
    let wrong = || "write http://HOST:PORT or https://HOST:PORT".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) | None => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err("a key goes into --api-key, not into the URL".to_owned());
    }
    if uri.query().is_some() {
        return Err("the URL ends before the `?`".to_owned());
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    Ok(Base {
        url: text.trim_end_matches('/').to_owned(),
        is_secure,
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
        authority: authority.as_str().to_owned(),
        path,
    })
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    match ca_file.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            for certificate in certificates::read(path, "--ca-file")? {
                let added = roots.add(certificate);
                added.map_err(|error| Failure::configuration("--ca-file").because(error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let why = "the system has no certificates of authorities; give --ca-file";
                return Err(Failure::configuration(why));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::failed("TLS cannot be spoken").because(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Client {
    /// The path of a tenant's things; `rest` follows it.
    ///
    /// # Errors
    ///
    /// When no tenant was given.
    pub(crate) fn of_tenant(&self, rest: &str) -> Result<String, Failure> {
        let tenant = self.tenant.ok_or_else(|| {
            Failure::configuration("whose? give --tenant ID, or set TANDEM_TENANT")
        })?;
        Ok(format!("/api/v1/tenants/{tenant}/{rest}"))
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, (JSON, Bytes::new())).await
    }

    /// Asks for what `path` does.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn post(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, (JSON, Bytes::new())).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn make(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, (JSON, Bytes::from(body.to_string()))).await
    }

    /// Sends a table in CSV to `path`.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn send_table(&self, path: &str, table: Bytes) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, ("text/csv", table)).await
    }

    /// Changes what is at `path` by `body`.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn change(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.ask(Method::PATCH, path, (JSON, Bytes::from(body.to_string()))).await
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    ///
    /// When the API is not reached or refuses.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::DELETE, path, (JSON, Bytes::new())).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        (kind, body): (&'static str, Bytes),
    ) -> Result<Answer, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base.path))
            .header(header::HOST, &self.base.authority)
            .header(header::AUTHORIZATION, self.key.clone())
            .header(header::USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|error| Failure::configuration("this cannot be asked").because(error))?;
        let connecting =
            timeout(CONNECT_LIMIT, TcpStream::connect((self.base.host.as_str(), self.base.port)));
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let stream = connecting.await.unwrap_or_else(|_| Err(late()));
        let stream = stream.map_err(|error| self.unreached(error))?;
        let answer = match &self.tls {
            None => timeout(ANSWER_LIMIT, self.converse(stream, request)).await,
            Some(tls) => {
                let name = ServerName::try_from(self.base.host.clone())
                    .map_err(|error| Failure::configuration("--api").because(error))?;
                let shaken = timeout(CONNECT_LIMIT, tls.connect(name, stream)).await;
                let shaken = shaken.unwrap_or_else(|_| Err(late()));
                let stream = shaken.map_err(|error| self.not_proven(error))?;
                timeout(ANSWER_LIMIT, self.converse(stream, request)).await
            }
        };
        answer.unwrap_or_else(|_| {
            let (url, limit) = (&self.base.url, ANSWER_LIMIT.as_secs());
            Err(Failure::failed(format!("the API at {url} did not answer within {limit} s")))
        })
    }

    /// Sends the request over `stream` and reads the answer to its end.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_http(error))?;
        // It ends with the sender; what fails there, the request says too.
        tokio::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(|error| self.not_http(error))?;
        let (head, body) = response.into_parts();
        let bytes = self.body(body).await?;
        if head.status.is_success() {
            return Ok(Answer { url: self.base.url.clone(), bytes });
        }
        Err(self.refused(&head, &bytes))
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Failure> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(Failure::failed(format!(
                "the answer of the API at {} was cut off: {error}",
                self.base.url
            ))),
        }
    }

    fn unreached(&self, error: io::Error) -> Failure {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nothing listens there: is the switch running, and is that its `http.bind`? "
            }
            io::ErrorKind::TimedOut => "no answer: a firewall, or the wrong address? ",
            _ => "",
        };
        let url = &self.base.url;
        Failure::failed(format!(
            "the API at {url} is not reached; {hint}--api or TANDEM_API says where it is"
        ))
        .because(error)
    }

    fn not_proven(&self, error: io::Error) -> Failure {
        let url = &self.base.url;
        Failure::failed(format!(
            "no TLS with {url}; --ca-file names the authority of a certificate that the system does not know"
        ))
        .because(error)
    }

    fn not_http(&self, error: hyper::Error) -> Failure {
        let url = &self.base.url;
        let hint = if self.base.is_secure { "" } else { "; does it speak https?" };
        Failure::failed(format!("what listens at {url} does not answer HTTP{hint}")).because(error)
    }

    /// Says whose fault it is that the API did not do it.
    fn refused(&self, head: &Parts, body: &[u8]) -> Failure {
        let status = head.status;
        let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
            let url = &self.base.url;
            return Failure::failed(format!(
                "what answers at {url} is no API of Tandem ({status})"
            ));
        };
        let message = columns::plain(&problem.message);
        let retry = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry = retry
            .map_or(String::new(), |after| format!("; again after {} s", columns::plain(after)));
        let (said, is_ours) = match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                (format!("the request is wrong: {message}"), true)
            }
            StatusCode::UNAUTHORIZED => {
                ("the API does not know this key: mistyped, revoked or expired".to_owned(), true)
            }
            StatusCode::FORBIDDEN if KEYS_FAULTS.contains(&problem.code.as_str()) => {
                (format!("the key may not do that: {message}"), true)
            }
            StatusCode::FORBIDDEN => (format!("the rules forbid it: {message}"), false),
            StatusCode::NOT_FOUND => (format!("not found: {message}"), false),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                (format!("it does not fit the state of things: {message}"), false)
            }
            StatusCode::TOO_MANY_REQUESTS => (format!("too much at once: {message}{retry}"), false),
            StatusCode::SERVICE_UNAVAILABLE => {
                (format!("the switch cannot do it now: {message}{retry}"), false)
            }
            _ if status.is_server_error() => (format!("the switch failed: {message}"), false),
            _ => (format!("the API refuses: {message}"), false),
        };
        let (code, id) = (columns::plain(&problem.code), columns::plain(&problem.request_id));
        let said = format!("{said} ({} {code}, request {id})", status.as_u16());
        if is_ours { Failure::configuration(said) } else { Failure::failed(said) }
    }
}

impl Answer {
    /// As it came.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Read as JSON.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let url = &self.url;
            Failure::failed(format!("what answers at {url} is no API of this version of Tandem"))
                .because(error)
        })
    }
}

/// A query of those parameters that have a value, with its `?`; empty without any.
pub(crate) fn query(parameters: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            // RFC 3986 §2.3.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::net::SocketAddr;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        api: ApiArgs,
    }

    const KEY: &str = "tdm_c2VjcmV0";
    const TENANT: &str = "01900000-0000-7000-8000-000000000001";

    fn parse(args: &[&str]) -> Result<ApiArgs, String> {
        let line = [&["tandem"], args].concat();
        Line::try_parse_from(line).map(|line| line.api).map_err(|error| error.to_string())
    }

    /// Answers one request with `answer`; what was asked comes back.
    async fn answering(
        answer: String,
        tls: Option<TlsAcceptor>,
    ) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async move {
            let (stream, _) = listener.accept().await.unwrap();
            match tls {
                None => answered(stream, &answer).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => answered(stream, &answer).await,
                    Err(error) => error.to_string(),
                },
            }
        };
        (address, tokio::spawn(answering))
    }

    async fn answered(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.unwrap_or(0) > 0 {}
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.shutdown().await);
        String::from_utf8_lossy(&asked).into_owned()
    }

    fn response(status: &str, more: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
    }

    async fn ask(address: SocketAddr, scheme: &str, more: &[&str]) -> Result<Answer, Failure> {
        let url = format!("{scheme}://{address}/base/");
        let args = [&["--api", &url, "--api-key", KEY, "--tenant", TENANT], more].concat();
        let client = parse(&args).unwrap().client()?;
        client.get(&client.of_tenant("calls")?).await
    }

    fn exits_with(failure: &Failure, code: u8) -> bool {
        failure.exit_code() == std::process::ExitCode::from(code)
    }

    #[test]
    fn the_address_of_the_api_is_checked_before_anything_is_asked() {
        for (text, host, port, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, ""),
            ("https://api.example/", "api.example", 443, ""),
            ("http://[::1]/switch/", "::1", 80, "/switch"),
        ] {
            let base = base(text).unwrap();
            assert_eq!((base.host.as_str(), base.port, base.path.as_str()), (host, port, path));
        }
        for text in
            ["", "127.0.0.1:8080", "ftp://host", "http://", "http://u:p@host", "http://h/?a"]
        {
            assert!(base(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_query_has_what_was_given_and_nothing_that_would_end_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(query(&[("a", None)]), "");
        let text = query(&[("limit", some("5")), ("b", None), ("caller", some("+1 5&x=ä"))]);
        assert_eq!(text, "?limit=5&caller=%2B1%205%26x%3D%C3%A4");
    }

    #[test]
    fn a_key_comes_from_the_flag_or_a_file_and_is_never_shown() {
        let file = env::temp_dir().join(format!("tandem-key-{}", std::process::id()));
        fs::write(&file, format!("{KEY}\n")).unwrap();
        let path = file.to_str().unwrap();
        let reference = format!("file:{path}");
        for args in [
            &["--api-key", KEY][..],
            &["--api-key", &reference],
            &["--api-key-file", path],
            &["--api-key", KEY, "--api-key-file", "/nowhere"],
        ] {
            let args = parse(args).unwrap();
            assert_eq!(args.key().unwrap(), format!("Bearer {KEY}"), "{args:?}");
            assert!(!format!("{args:?} {:?}", args.key()).contains(KEY));
        }
        fs::remove_file(&file).unwrap();
        for args in [
            &[][..],
            &["--api-key", ""],
            &["--api-key", "env:TANDEM_NO_SUCH_VARIABLE"],
            &["--api-key-file", path],
            &["--api-key", "two\nlines"],
        ] {
            let failure = parse(args).unwrap().key().unwrap_err();
            assert!(exits_with(&failure, 2), "{args:?}: {}", failure.chain());
        }
    }

    #[tokio::test]
    async fn each_refusal_says_whose_fault_it_is() {
        for (status, words, code) in [
            ("400 Bad Request", "the request is wrong: too odd", 2),
            ("401 Unauthorized", "does not know this key", 2),
            ("403 Forbidden", "the rules forbid it: too odd", 1),
            ("404 Not Found", "not found: too odd", 1),
            ("409 Conflict", "does not fit the state of things: too odd", 1),
            ("429 Too Many Requests", "too much at once: too odd; again after 5 s", 1),
            ("503 Service Unavailable", "cannot do it now: too odd; again after 5 s", 1),
            ("500 Internal Server Error", "the switch failed: too odd", 1),
        ] {
            let body = r#"{"code": "odd", "message": "too odd", "request_id": "r1"}"#;
            let (address, _) = answering(response(status, "retry-after: 5\r\n", body), None).await;
            let failure = ask(address, "http", &[]).await.err().unwrap();
            let said = failure.chain();
            assert!(said.contains(words) && said.contains(" odd, request r1)"), "{said}");
            assert!(exits_with(&failure, code) && !said.contains(KEY), "{said}");
        }
    }

    #[tokio::test]
    async fn a_403_is_the_keys_fault_where_it_says_so() {
        for code in KEYS_FAULTS {
            let body = format!(r#"{{"code": "{code}", "message": "no", "request_id": "r1"}}"#);
            let (address, _) = answering(response("403 Forbidden", "", &body), None).await;
            let failure = ask(address, "http", &[]).await.err().unwrap();
            assert!(failure.chain().contains("the key may not do that: no"), "{code}");
            assert!(exits_with(&failure, 2), "{code}");
        }
    }

    #[tokio::test]
    async fn what_is_no_api_is_told_from_one() {
        for (answer, words) in [
            ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "does not answer HTTP"),
            (response("200 OK", "", "<html>"), "no API of this version of Tandem"),
            (response("404 Not Found", "", "<html>"), "is no API of Tandem (404 Not Found)"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned(), "was cut off"),
        ] {
            let (address, _) = answering(answer, None).await;
            let read = ask(address, "http", &[]).await.and_then(|answer| answer.read::<Problem>());
            let failure = read.err().unwrap();
            assert!(failure.chain().contains(words), "{}", failure.chain());
            assert!(exits_with(&failure, 1));
        }
        // Bound, so that nobody else takes it, and deaf.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let failure = ask(deaf.local_addr().unwrap(), "http", &[]).await.err().unwrap();
        assert!(failure.chain().contains("nothing listens there"), "{}", failure.chain());
    }

    #[tokio::test]
    async fn a_request_carries_the_key_and_the_path_of_the_tenant() {
        let (address, asked) = answering(response("200 OK", "", "{}"), None).await;
        assert_eq!(ask(address, "http", &[]).await.unwrap().text(), "{}");
        let asked = asked.await.unwrap();
        let start = format!("GET /base/api/v1/tenants/{TENANT}/calls HTTP/1.1\r\n");
        assert!(asked.starts_with(&start), "{asked}");
        assert!(asked.contains(&format!("authorization: Bearer {KEY}\r\n")), "{asked}");
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn tls_is_spoken_with_whom_the_authorities_prove() {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let file = env::temp_dir().join(format!("tandem-ca-{}.pem", std::process::id()));
        fs::write(&file, made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let answer = response("200 OK", "", "{}");
        let (address, asked) = answering(answer.clone(), Some(tls.clone())).await;
        let known = ["--ca-file", file.to_str().unwrap()];
        assert_eq!(ask(address, "https", &known).await.unwrap().text(), "{}");
        assert!(asked.await.unwrap().contains(KEY));

        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(&file, other.cert.pem()).unwrap();
        let (address, asked) = answering(answer, Some(tls)).await;
        let failure = ask(address, "https", &known).await.err().unwrap();
        assert!(failure.chain().contains("--ca-file names the authority"), "{}", failure.chain());
        assert!(!asked.await.unwrap().contains(KEY), "a stranger is not told the key");

        fs::write(&file, "no certificate").unwrap();
        let failure = ask(address, "https", &known).await.err().unwrap();
        assert!(exits_with(&failure, 2), "{}", failure.chain());
        fs::remove_file(&file).unwrap();
    }
}
