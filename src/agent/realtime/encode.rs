//! What we send to a Realtime server.

use crate::types::agent::AgentAudio;
use crate::types::agent::RealtimeAgent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use serde_json::Value;
use serde_json::json;

/// Names of the functions we offer.
pub const END_CALL: &str = "end_call";
/// The same.
pub const TRANSFER_CALL: &str = "transfer_call";
/// The same.
pub const SEND_DTMF: &str = "send_dtmf";

/// The settings of a session, in the form of the server's generation.
#[must_use]
pub fn session_update(agent: &RealtimeAgent) -> Bytes {
    let session = if agent.is_beta { beta_session(agent) } else { session(agent) };
    text(&json!({"type": "session.update", "session": session}))
}

fn session(agent: &RealtimeAgent) -> Value {
    let mut input = json!({"format": format(agent.audio), "turn_detection": turn_detection(agent)});
    if let Some(model) = &agent.transcription_model {
        put(&mut input, "transcription", json!({"model": model}));
    }
    let mut output = json!({"format": format(agent.audio)});
    if let Some(voice) = &agent.voice {
        put(&mut output, "voice", json!(voice));
    }
    let mut session = json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": input, "output": output},
        "tools": tools(agent),
        "tool_choice": "auto",
    });
    if !agent.instructions.is_empty() {
        put(&mut session, "instructions", json!(agent.instructions));
    }
    session
}

fn beta_session(agent: &RealtimeAgent) -> Value {
    let format = match agent.audio {
        AgentAudio::Ulaw => "g711_ulaw",
        AgentAudio::Alaw => "g711_alaw",
        AgentAudio::L16 { .. } => "pcm16",
    };
    let mut session = json!({
        "modalities": ["text", "audio"],
        "input_audio_format": format,
        "output_audio_format": format,
        "turn_detection": turn_detection(agent),
        "tools": tools(agent),
        "tool_choice": "auto",
    });
    for (name, value) in [
        ("instructions", (!agent.instructions.is_empty()).then(|| json!(agent.instructions))),
        ("voice", agent.voice.as_ref().map(|voice| json!(voice))),
        (
            "input_audio_transcription",
            agent.transcription_model.as_ref().map(|model| json!({"model": model})),
        ),
    ] {
        if let Some(value) = value {
            put(&mut session, name, value);
        }
    }
    session
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn format(audio: AgentAudio) -> Value {
    match audio {
        AgentAudio::Ulaw => json!({"type": "audio/pcmu"}),
        AgentAudio::Alaw => json!({"type": "audio/pcma"}),
        AgentAudio::L16 { rate } => json!({"type": "audio/pcm", "rate": rate}),
    }
}

pub(super) fn turn_detection(agent: &RealtimeAgent) -> Value {
    agent.turn_detection.clone().unwrap_or_else(|| {
        json!({
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "create_response": true,
            "interrupt_response": true,
        })
    })
}

fn tools(agent: &RealtimeAgent) -> Value {
    let function = |name: &str, description: &str, parameters: Value| json!({"type": "function", "name": name, "description": description, "parameters": parameters});
    let mut target = json!({
        "type": "string",
        "description": "The telephone number in the international form, such as +15550100.",
    });
    if !agent.transfer_to.is_empty() {
        target = json!({"type": "string", "enum": agent.transfer_to});
    }
    let all = [
        function(
            END_CALL,
            "Ends the telephone call once what you said was heard. Say goodbye first.",
            json!({"type": "object", "properties": {}, "required": []}),
        ),
        function(
            TRANSFER_CALL,
            "Connects the caller with somebody else once what you said was heard.",
            json!({"type": "object", "properties": {"to": target}, "required": ["to"]}),
        ),
        function(
            SEND_DTMF,
            "Presses keys on the telephone keypad.",
            json!({
                "type": "object",
                "properties": {"digits": {"type": "string", "description": "0-9, *, # and A-D."}},
                "required": ["digits"],
            }),
        ),
    ];
    let wanted = |tool: &Value| agent.tools.iter().any(|name| tool["name"] == name.as_str());
    all.into_iter().filter(wanted).collect()
}

/// Lets the model answer.
#[must_use]
pub fn response_create() -> Bytes {
    Bytes::from_static(br#"{"type":"response.create"}"#)
}

/// Lets the model stop answering.
#[must_use]
pub fn response_cancel() -> Bytes {
    Bytes::from_static(br#"{"type":"response.cancel"}"#)
}

/// So much of an item was heard.
#[must_use]
pub fn truncate(item: &str, content_index: u32, audio_end_ms: u64) -> Bytes {
    text(&json!({
        "type": "conversation.item.truncate",
        "item_id": item,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }))
}

/// What a function came to.
#[must_use]
pub fn function_output(call: &str, output: &Value) -> Bytes {
    text(&json!({
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": call, "output": output.to_string()},
    }))
}

/// Something the model is told as if the caller had written it.
#[must_use]
pub fn user_text(words: &str) -> Bytes {
    text(&json!({
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": words}],
        },
    }))
}

/// Something the model said before, in another session.
#[must_use]
pub fn agent_text(words: &str, is_beta: bool) -> Bytes {
    let kind = if is_beta { "text" } else { "output_text" };
    text(&json!({
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": kind, "text": words}],
        },
    }))
}

/// Appends the message with `audio`, which is in the agent's format, to `out`.
pub fn append(audio: &[u8], out: &mut BytesMut) {
    let length = base64::encoded_len(audio.len(), true).unwrap_or(0);
    out.reserve(64 + length);
    out.put_slice(br#"{"type":"input_audio_buffer.append","audio":""#);
    let begin = out.len();
    out.resize(begin + length, 0);
    // There is room for exactly the result, so this cannot fail.
    let written = STANDARD.encode_slice(audio, out.get_mut(begin..).unwrap_or_default());
    out.truncate(begin + written.unwrap_or(0));
    out.put_slice(br#""}"#);
}

fn text(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
