//! Web servers that lead calls: they are asked for scripts and sounds, and told how calls fare.

use crate::agent::script::address;
use crate::agent::script::answers::Form;
use crate::agent::script::answers::NO_CONNECTION;
use crate::agent::script::answers::ScriptError;
use crate::agent::script::step::Method;
use crate::agent::script::vocabulary::Script;
use crate::agent::twilio::SIGNATURE_HEADER;
use crate::agent::twiml;
use crate::net::http_client::HttpAnswer;
use crate::net::http_client::HttpClient;
use crate::net::http_client::HttpFault;
use crate::net::http_client::HttpRequest;
use crate::types::limit::SCRIPT_REDIRECTS_MAX;
use crate::types::limit::TWIML_BYTES_MAX;
use crate::types::secret::Secret;
use crate::types::trace_context::TraceContext;
use bytes::Bytes;
use std::time::Duration;

/// Twilio's numbers for what goes wrong with a document.
const NOT_RETRIEVED: u32 = 11_200;
const REDIRECTS: u32 = 11_215;
const TOO_LONG: u32 = 11_750;
const NO_DOCUMENT: u32 = 12_100;
const WRONG_TYPE: u32 = 12_300;
/// Names the trace that a request belongs to (W3C Trace Context §3.2).
const TRACE_HEADER: &str = "traceparent";
/// The type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// How we ask web servers.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Web {
    pub(in crate::engine) http: HttpClient,
    /// What requests are signed with; empty: they are not.
    pub(in crate::engine) auth_token: Secret<String>,
    /// How long an answer may take.
    pub(in crate::engine) timeout: Duration,
    /// The call's trace, where it is in one.
    pub(in crate::engine) trace: Option<TraceContext>,
}

impl Web {
    /// Asks for a script.
    pub(in crate::engine) async fn script(
        &self,
        (url, method): (String, Method),
        form: Form,
    ) -> Result<Script, ScriptError> {
        let (url, answer) = self.follow((url, method), form, TWIML_BYTES_MAX).await?;
        let wrong = |code, why| ScriptError { code, why, url: url.clone(), is_skipped: false };
        let kind = answer.content_type.as_deref().unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_xml =
            kind.is_empty() || kind.contains("xml") || kind == "text/html" || kind == "text/plain";
        if !is_xml {
            let shown: String = kind.chars().filter(char::is_ascii_graphic).take(64).collect();
            return Err(wrong(WRONG_TYPE, format!("the answer is of type {shown}, and no XML")));
        }
        match twiml::parse(&answer.body) {
            Ok(document) => {
                let remarks = document.remarks.iter().map(ToString::to_string).collect();
                Ok(Script { steps: document.steps, remarks, address: url })
            }
            Err(error) => Err(wrong(NO_DOCUMENT, error.to_string())),
        }
    }

    /// Asks for a sound.
    pub(in crate::engine) async fn sound(
        &self,
        url: String,
        most: usize,
    ) -> Result<HttpAnswer, String> {
        let asked = self.follow((url, Method::Get), Form::new(), most).await;
        asked.map(|(_, answer)| answer).map_err(|error| error.why)
    }

    /// Tells a web server something; what it answers matters to nobody. False where it was not told.
    pub(in crate::engine) async fn tell(
        &self,
        (url, method): (String, Method),
        form: &Form,
    ) -> bool {
        let told = self.send((&url, method), form, TWIML_BYTES_MAX).await;
        match told {
            Ok(answer) => (200..300).contains(&answer.status),
            Err(error) => {
                tracing::debug!(%error, "a status callback was not told");
                false
            }
        }
    }

    /// Asks until something else than a redirection is answered; gives the last address, too.
    async fn follow(
        &self,
        (mut url, mut method): (String, Method),
        mut form: Form,
        most: usize,
    ) -> Result<(String, HttpAnswer), ScriptError> {
        for _ in 0..=SCRIPT_REDIRECTS_MAX {
            let answer = self.send((&url, method), &form, most).await;
            let wrong = |code, why| ScriptError { code, why, url: url.clone(), is_skipped: false };
            let answer = answer.map_err(|fault| {
                let code = match fault {
                    HttpFault::Late(_) | HttpFault::Http(_) => NOT_RETRIEVED,
                    HttpFault::Url(_)
                    | HttpFault::Name(_)
                    | HttpFault::Unreachable
                    | HttpFault::Connect(_)
                    | HttpFault::Tls(_)
                    | HttpFault::Roots(_) => NO_CONNECTION,
                };
                wrong(code, fault.to_string())
            })?;
            match answer.status {
                200..=299 if answer.is_cut => {
                    return Err(wrong(TOO_LONG, format!("the answer is longer than {most} bytes")));
                }
                200..=299 => return Ok((url, answer)),
                status @ (301 | 302 | 303 | 307 | 308) => {
                    let location = answer.location.ok_or_else(|| {
                        wrong(NOT_RETRIEVED, format!("{status} was answered, and no Location"))
                    })?;
                    url = address::resolve(&url, &location);
                    // As browsers do, and with them everybody who writes such servers.
                    if !matches!(status, 307 | 308) {
                        (method, form) = (Method::Get, Form::new());
                    }
                }
                status => return Err(wrong(NOT_RETRIEVED, format!("{status} was answered"))),
            }
        }
        let why = format!("more than {SCRIPT_REDIRECTS_MAX} redirections");
        Err(ScriptError { code: REDIRECTS, why, url, is_skipped: false })
    }

    async fn send(
        &self,
        (url, method): (&str, Method),
        form: &Form,
        most: usize,
    ) -> Result<HttpAnswer, HttpFault> {
        let encoded = || {
            let pairs = form.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        };
        let (whole, body) = match method {
            Method::Post => (url.to_owned(), Some((FORM, Bytes::from(encoded())))),
            Method::Get if form.is_empty() => (url.to_owned(), None),
            Method::Get => {
                let joint = if url.contains('?') { '&' } else { '?' };
                (format!("{url}{joint}{}", encoded()), None)
            }
        };
        let signed: &[_] = if body.is_some() { form } else { &[] };
        let signature = twiml::signature(&self.auth_token, &whole, signed);
        let mut headers: Vec<_> =
            signature.map(|value| (SIGNATURE_HEADER, value)).into_iter().collect();
        headers.extend(self.trace.map(|trace| (TRACE_HEADER, trace.to_string())));
        let request = HttpRequest {
            url: &whole,
            body,
            headers: &headers,
            answer_bytes_max: most,
            limit: self.timeout,
        };
        self.http.send(request).await
    }
}
