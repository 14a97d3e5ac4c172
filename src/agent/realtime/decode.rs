//! What a Realtime server sends: read leniently, in the present names and those of the beta.

use crate::agent::dialect::Garbled;
use crate::types::agent_trouble::FaultWord;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// One event of a server.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent<'a> {
    /// The session is there, with the server's settings.
    SessionCreated,
    /// It has ours.
    SessionUpdated,
    /// An answer begins.
    ResponseCreated,
    /// It is over; why, where it failed.
    ResponseDone(Outcome, Option<FaultWord>),
    /// Audio, still in base64.
    Audio {
        /// Of which item.
        item: Cow<'a, str>,
        /// Of which of its parts.
        content_index: u32,
        /// The audio.
        delta: Cow<'a, str>,
    },
    /// The caller began to speak.
    SpeechStarted,
    /// The model calls a function; in one of two events, or in both.
    FunctionCall {
        /// Which call of it.
        call: String,
        /// Its name, where the event has it.
        name: Option<String>,
        /// Its arguments, JSON, where they are complete.
        arguments: Option<String>,
    },
    /// What the agent said in one item.
    AgentSaid(String),
    /// What the caller said.
    CallerSaid(String),
    /// The server is not content, which this word stands for. Mostly harmless.
    Error(FaultWord),
    /// Something that changes nothing here.
    Other,
    /// Something that no server says.
    Unknown,
}

/// What the protocol's events begin with.
const FAMILIES: &[&str] = &[
    "session.",
    "transcription_session.",
    "conversation.",
    "input_audio_buffer.",
    "output_audio_buffer.",
    "response.",
    "rate_limits.",
    "mcp_",
];

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Whole, or as much of it as there was to be.
    Made,
    /// The caller spoke over it, or we ended it.
    Cancelled,
    /// The server could not make it: a quota, a rate, a fault of its own.
    Failed,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Option<Cow<'a, str>>,
    content_index: Option<u32>,
    #[serde(borrow)]
    delta: Option<Borrowed<'a>>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    transcript: Option<String>,
    item: Option<Item>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    // Rare, and of any shape.
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    status_details: Option<Value>,
}

/// What an error is called: by its code, or else by its type.
fn word_of(error: Option<&Value>) -> Option<FaultWord> {
    let text = |key: &str| error?.get(key)?.as_str();
    text("code").and_then(FaultWord::of).or_else(|| text("type").and_then(FaultWord::of))
}

impl Response<'_> {
    fn outcome(&self) -> Outcome {
        match self.status.as_deref() {
            Some("failed") => Outcome::Failed,
            Some("cancelled") => Outcome::Cancelled,
            _ => Outcome::Made,
        }
    }

    fn fault(&self) -> Option<FaultWord> {
        word_of(self.status_details.as_ref()?.get("error"))
    }
}

/// A string that is not copied unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

/// Reads one event.
///
/// # Errors
/// [`Garbled`] says what is wrong with it.
pub fn decode(text: &[u8]) -> Result<ServerEvent<'_>, Garbled> {
    let wire: Wire<'_> = serde_json::from_slice(text).map_err(|_| Garbled::NotAMessage)?;
    Ok(match &*wire.kind {
        "session.created" => ServerEvent::SessionCreated,
        "session.updated" => ServerEvent::SessionUpdated,
        "response.created" => ServerEvent::ResponseCreated,
        "response.done" => {
            let response = wire.response.as_ref();
            let outcome = response.map_or(Outcome::Made, Response::outcome);
            ServerEvent::ResponseDone(outcome, response.and_then(Response::fault))
        }
        "response.output_audio.delta" | "response.audio.delta" => ServerEvent::Audio {
            item: wire.item_id.unwrap_or_default(),
            content_index: wire.content_index.unwrap_or(0),
            delta: wire.delta.ok_or(Garbled::NoPayload)?.0,
        },
        "input_audio_buffer.speech_started" => ServerEvent::SpeechStarted,
        "response.output_item.added" | "response.output_item.done" => function_call(wire),
        "response.function_call_arguments.done" => ServerEvent::FunctionCall {
            call: wire.call_id.ok_or(Garbled::NotAMessage)?,
            name: wire.name,
            arguments: wire.arguments,
        },
        "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
            wire.transcript.map_or(ServerEvent::Other, ServerEvent::AgentSaid)
        }
        "conversation.item.input_audio_transcription.completed" => {
            wire.transcript.map_or(ServerEvent::Other, ServerEvent::CallerSaid)
        }
        "error" => word_of(wire.error.as_ref())
            .or_else(|| FaultWord::of("error"))
            .map_or(ServerEvent::Other, ServerEvent::Error),
        known if FAMILIES.iter().any(|family| known.starts_with(family)) => ServerEvent::Other,
        _ => ServerEvent::Unknown,
    })
}

/// An item is added with its name, and done with its arguments too.
fn function_call(wire: Wire<'_>) -> ServerEvent<'_> {
    let is_done = wire.kind.ends_with(".done");
    match wire.item {
        Some(Item { kind: Some(kind), call_id: Some(call), name, arguments })
            if kind == "function_call" =>
        {
            let arguments = arguments.filter(|_| is_done);
            ServerEvent::FunctionCall { call, name, arguments }
        }
        _ => ServerEvent::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: ServerEvent<'_>) {
        assert_eq!(decode(text.as_bytes()), Ok(expected), "{text}");
    }

    fn audio() -> ServerEvent<'static> {
        let (item, delta) = (Cow::Borrowed("i"), Cow::Borrowed("AAAA"));
        ServerEvent::Audio { item, content_index: 0, delta }
    }

    #[test]
    fn both_generations_of_names_are_read() {
        for name in ["response.output_audio.delta", "response.audio.delta"] {
            check(
                &format!(
                    r#"{{"type":"{name}","event_id":"e","response_id":"r","item_id":"i","output_index":0,"content_index":0,"delta":"AAAA"}}"#
                ),
                audio(),
            );
        }
        for name in ["response.output_audio_transcript.done", "response.audio_transcript.done"] {
            check(
                &format!(r#"{{"type":"{name}","transcript":"Hello."}}"#),
                ServerEvent::AgentSaid("Hello.".to_owned()),
            );
        }
        check(
            r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","transcript":"Hi"}"#,
            ServerEvent::CallerSaid("Hi".to_owned()),
        );
        check(r#"{"type":"session.created","session":{"x":[1]}}"#, ServerEvent::SessionCreated);
        check(r#"{"type":"rate_limits.updated","rate_limits":[]}"#, ServerEvent::Other);
    }

    #[test]
    fn a_function_call_is_read_from_either_event() {
        let call = |name: Option<&str>, arguments: Option<&str>| ServerEvent::FunctionCall {
            call: "c".to_owned(),
            name: name.map(str::to_owned),
            arguments: arguments.map(str::to_owned),
        };
        check(
            r#"{"type":"response.function_call_arguments.done","call_id":"c","arguments":"{}"}"#,
            call(None, Some("{}")),
        );
        check(
            r#"{"type":"response.output_item.added","item":{"type":"function_call","call_id":"c","name":"n","arguments":""}}"#,
            call(Some("n"), None),
        );
        check(
            r#"{"type":"response.output_item.done","item":{"type":"function_call","call_id":"c","name":"n","arguments":"{}"}}"#,
            call(Some("n"), Some("{}")),
        );
        check(
            r#"{"type":"response.output_item.added","item":{"type":"message","id":"m"}}"#,
            ServerEvent::Other,
        );
    }

    #[test]
    fn an_answer_ends_as_its_status_says() {
        let done = |response: &str| format!(r#"{{"type":"response.done"{response}}}"#);
        for (response, outcome, why) in [
            (r#","response":{"status":"completed","output":[{"a":1}]}"#, Outcome::Made, None),
            (r#","response":{"status":"incomplete"}"#, Outcome::Made, None),
            (r#","response":{"status":null,"status_details":null}"#, Outcome::Made, None),
            ("", Outcome::Made, None),
            (r#","response":{"status":"cancelled","status_details":7}"#, Outcome::Cancelled, None),
            (
                r#","response":{"status":"failed","status_details":{"type":"failed","error":{"code":"insufficient_quota"}}}"#,
                Outcome::Failed,
                Some("insufficient_quota"),
            ),
        ] {
            let why = why.and_then(FaultWord::of);
            check(&done(response), ServerEvent::ResponseDone(outcome, why));
        }
    }

    #[test]
    fn an_error_is_called_by_its_code_or_its_type_and_is_never_garbage() {
        for (error, word) in [
            (r#"{"type":"invalid_request_error","code":"invalid_api_key"}"#, "invalid_api_key"),
            (r#"{"type":"server_error","code":null,"message":"key sk-1"}"#, "server_error"),
            (r#"{"type":7,"code":[]}"#, "error"),
            ("null", "error"),
            (r#""no""#, "error"),
        ] {
            let word = FaultWord::of(word).expect("a word");
            check(&format!(r#"{{"type":"error","error":{error}}}"#), ServerEvent::Error(word));
        }
        check(r#"{"type":"dance"}"#, ServerEvent::Unknown);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        for text in ["", "{", "[]", "{}", r#"{"type":1}"#, r#"{"type":"x","delta":7}"#] {
            assert_eq!(decode(text.as_bytes()), Err(Garbled::NotAMessage), "{text}");
        }
        assert_eq!(decode(br#"{"type":"response.audio.delta"}"#), Err(Garbled::NoPayload));
        assert_eq!(decode(b"\xff"), Err(Garbled::NotAMessage));
    }
}
