//! Asks a webhook of the tenant who answers a call: one question, bounded in time, and nothing that goes wrong with it
//! keeps the call from being answered.

use crate::clock;
use crate::net::http_client::HttpClient;
use crate::net::http_client::HttpFault;
use crate::net::signature;
use crate::telemetry::metric;
use crate::telemetry::metric::Histogram;
use crate::types::answer_hook::AnswerHook;
use crate::types::answer_hook::AskFault;
use crate::types::header::CallVariables;
use crate::types::id::AiProfileId;
use crate::types::trace_context::TraceContext;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::slice;

/// Resolves to what the webhook said; dropping it ends the connection.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Answer, AskFault>> + Send>>;

/// What the webhook said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whose agent answers; `None`: that of the number's profile.
    pub(super) profile: Option<AiProfileId>,
    /// Variables of the call, beside those it has.
    pub(super) variables: CallVariables,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerForm {
    ai_profile_id: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// Asks; `question` is what is posted, `trace` the call's trace where it is in one.
pub(super) fn ask(
    client: HttpClient,
    hook: &AnswerHook,
    question: &Value,
    trace: Option<TraceContext>,
) -> Asking {
    let (url, timeout) = (hook.url.clone(), hook.timeout);
    let body = Bytes::from(question.to_string());
    let mut headers = Vec::new();
    if !hook.secret.expose().is_empty() {
        let secrets = slice::from_ref(&hook.secret);
        headers.push((signature::HEADER, signature::sign(clock::wall_now(), &body, secrets)));
    }
    headers.extend(trace.map(|trace| ("traceparent", trace.to_string())));
    Box::pin(async move {
        let begun = clock::now();
        let answer = client.post(&url, &headers, body, timeout).await;
        metric::observe(Histogram::AnswerWebhook, clock::now().since(begun));
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => read(&answer.body),
            Ok(_) => Err(AskFault::Refused),
            Err(HttpFault::Late(_)) => Err(AskFault::Late),
            Err(error) => {
                tracing::debug!(%error, "the answer webhook is not reached");
                Err(AskFault::Unreachable)
            }
        }
    })
}

fn read(body: &[u8]) -> Result<Answer, AskFault> {
    if body.trim_ascii().is_empty() {
        return Ok(Answer::default());
    }
    let form: AnswerForm = serde_json::from_slice(body).map_err(|_| AskFault::BadAnswer)?;
    let profile = form.ai_profile_id.map(|id| id.parse()).transpose();
    let mut answer =
        Answer { profile: profile.map_err(|_| AskFault::BadAnswer)?, ..Answer::default() };
    for (name, value) in form.variables {
        let (name, value) = (name.parse().ok(), value.parse().ok());
        let (name, value) = name.zip(value).ok_or(AskFault::BadAnswer)?;
        if !answer.variables.set(name, value) {
            return Err(AskFault::BadAnswer);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::websocket::TrustRoots;
    use crate::types::reach::Reach;
    use crate::types::secret::Secret;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[test]
    fn an_answer_says_who_answers_or_nothing_and_nothing_else() {
        let id = "01980000-0000-7000-8000-000000000001";
        let said = format!("{{\"ai_profile_id\": \"{id}\", \"variables\": {{\"vip\": \"yes\"}}}}");
        let answer = read(said.as_bytes()).unwrap();
        assert_eq!(answer.profile, id.parse().ok());
        assert_eq!(answer.variables.iter().count(), 1);
        for nothing in ["", " \n", "{}", "{\"ai_profile_id\": null}"] {
            assert_eq!(read(nothing.as_bytes()), Ok(Answer::default()), "{nothing}");
        }
        for bad in [
            "[]",
            "ok",
            "{\"ai_profile_id\": 7}",
            "{\"ai_profile_id\": \"front desk\"}",
            "{\"profile\": \"x\"}",
            "{\"variables\": {\"vip\": 1}}",
            "{\"variables\": {\"a\": \"line\\r\\nline\"}}",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(AskFault::BadAnswer), "{bad}");
        }
    }

    /// A web server that begins every answer and ends none.
    async fn endless() -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    // Nobody expects an answer before there is a question.
                    stream.read_u8().await.unwrap();
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n";
                    stream.write_all(head).await.unwrap();
                    while stream.write_all(b" ").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_webhook_has_the_time_of_its_own_profile_for_the_whole_of_its_answer() {
        let url = endless().await;
        let reach = Reach { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };
        let client = HttpClient::new(reach, TrustRoots::native());
        let asked = |timeout: Duration| {
            let hook = AnswerHook { url: url.clone(), secret: Secret::default(), timeout };
            ask(client.clone(), &hook, &serde_json::json!({}), None)
        };
        let (short, long) = (asked(Duration::from_millis(200)), asked(Duration::from_secs(600)));
        let first = tokio::select! {
            biased;
            answer = short => answer,
            answer = long => panic!("it had more time: {answer:?}"),
        };
        assert_eq!(first, Err(AskFault::Late));
    }
}
