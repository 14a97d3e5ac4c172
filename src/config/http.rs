//! `[http]` of `tandem.toml`: where the API is heard, over what, from which pages, and how often.

use crate::config::listener;
use crate::config::node::ListenerTls;
use crate::config::node::key;
use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tls;
use crate::config::tls::AskClients;
use crate::config::tls::TlsPart;
use crate::config::tls::TlsSource;
use crate::config::tree::View;
use crate::types::tls::TlsVersion;
use std::net::SocketAddr;

/// `[http]`.
pub(crate) const HTTP: &[Key] = &[
    key("bind", Kind::Parsed(listener::check_socket)),
    key("tls_cert_file", Kind::Text),
    key("tls_key_ref", Kind::Secret(secret::check_own)),
    key("cors_origins", Kind::ParsedList(check_origin)),
    key("public_url", Kind::Parsed(check_public_url)),
    key("requests_per_s", Kind::Integer(0, 1_000_000)),
];

/// Where and how HTTP is served.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where it is heard.
    pub bind: SocketAddr,
    /// What is shown over TLS; `None`: plain HTTP.
    pub tls: Option<ListenerTls>,
    /// The origins whose pages may ask.
    pub cors_origins: Vec<String>,
    /// Where it is reached from outside, without a slash at its end; empty: nobody said.
    pub public_url: String,
    /// Requests a second of one API key; 0: no limit.
    pub requests_per_s: u32,
}

pub(crate) fn read(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> HttpSettings {
    let bind = view.text("http.bind").parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    if let Some(node) = view.node("http.bind").filter(|_| !bind.ip().is_loopback()) {
        let message = "`http.bind` is not on loopback: metrics and health are open to the network";
        problems.push(Problem::warning(sources, node.at, message));
    }
    HttpSettings {
        bind,
        tls: read_tls(view, sources, secrets, problems),
        cors_origins: view.texts("http.cors_origins").map(str::to_owned).collect(),
        public_url: view.text("http.public_url").trim_end_matches('/').to_owned(),
        requests_per_s: view.number("http.requests_per_s"),
    }
}

fn read_tls(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> Option<ListenerTls> {
    let (certificate, key) = (view.given("http.tls_cert_file"), view.given("http.tls_key_ref"));
    let mut problem = |path: &str, message: String, is_error: bool| {
        let Some(node) = view.node(path) else { return };
        problems.push(match is_error {
            true => Problem::error(sources, node.at, message),
            false => Problem::warning(sources, node.at, message),
        });
    };
    let (certificate, key) = match (certificate, key) {
        (None, None) => return None,
        // A reference of the wrong form was reported with the schema.
        (Some(certificate), Some(key)) if secret::check_own(key).is_ok() => (certificate, key),
        (Some(_), Some(_)) => return None,
        (given, _) => {
            let path = if given.is_some() { "http.tls_cert_file" } else { "http.tls_key_ref" };
            let message = "`http.tls_cert_file` and `http.tls_key_ref` go together";
            problem(path, message.to_owned(), true);
            return None;
        }
    };
    let source = TlsSource {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        min_version: TlsVersion::V1_2,
        clients: AskClients::Ignore,
        client_authorities: String::new(),
    };
    match source.read(secrets) {
        Ok(settings) => {
            if let Some(advice) = secret::advice(secrets, &source.key) {
                problem("http.tls_key_ref", format!("`http.tls_key_ref`: {advice}"), false);
            }
            if let Some(advice) = tls::advice(&settings.credentials) {
                problem("http.tls_cert_file", format!("`http.tls_cert_file`: {advice}"), false);
            }
            Some(ListenerTls { source, settings })
        }
        Err(fault) => {
            let path = match fault.part {
                TlsPart::Key => "http.tls_key_ref",
                TlsPart::Certificate | TlsPart::Authorities => "http.tls_cert_file",
            };
            problem(path, format!("`{path}`: {}", fault.message), true);
            None
        }
    }
}

/// An address that paths can be put behind.
fn check_public_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]/_~".contains(&byte);
    let is_good =
        rest.is_some_and(|rest| !rest.starts_with(['/', ':']) && rest.bytes().all(is_part));
    if text.is_empty() || (is_good && rest != Some("")) {
        return Ok(());
    }
    Err(format!("{text:?} is no address: write https://tandem.example, with a path or without"))
}

/// An origin as browsers name it: scheme, host and port alone (RFC 6454 §6.1).
fn check_origin(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    if host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_host)) {
        return Ok(());
    }
    Err(format!("{text:?} is no origin: write https://app.example, without a path"))
}
