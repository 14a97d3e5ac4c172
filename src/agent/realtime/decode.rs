//! What a Realtime server sends: read leniently, in the present names and those of the beta.

use crate::agent::dialect::Garbled;
use serde::Deserialize;
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
    /// It is over.
    ResponseDone(Outcome),
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
    /// The server is not content. Mostly harmless.
    Error,
    /// Something that changes nothing here.
    Other,
}

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
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

impl Response<'_> {
    fn outcome(&self) -> Outcome {
        match self.status.as_deref() {
            Some("failed") => Outcome::Failed,
            Some("cancelled") => Outcome::Cancelled,
            _ => Outcome::Made,
        }
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
            let outcome = wire.response.as_ref().map(Response::outcome);
            ServerEvent::ResponseDone(outcome.unwrap_or(Outcome::Made))
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
        "error" => ServerEvent::Error,
        _ => ServerEvent::Other,
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
        for (response, outcome) in [
            (r#","response":{"status":"completed","output":[{"a":1}]}"#, Outcome::Made),
            (r#","response":{"status":"incomplete"}"#, Outcome::Made),
            (r#","response":{"status":null}"#, Outcome::Made),
            ("", Outcome::Made),
            (r#","response":{"status":"cancelled"}"#, Outcome::Cancelled),
            (
                r#","response":{"status":"failed","status_details":{"type":"failed","error":{"code":"insufficient_quota"}}}"#,
                Outcome::Failed,
            ),
        ] {
            check(&done(response), ServerEvent::ResponseDone(outcome));
        }
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
