//! What an agent sends: read leniently and without copying; its audio decoded into a buffer that is
//! used again.

use crate::agent::twilio::payload::PAYLOAD;
use base64::Engine;
use bytes::Bytes;
use bytes::BytesMut;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::borrow::Cow;
use std::fmt;

/// Decoded payloads above this get an allocation of their own, so that one of them does not make
/// the link heavy for the rest of the call.
const REUSED_BYTES_MAX: usize = 32 * 1024;

/// One message of an agent. A stream's name in it is not read: some agents send none or a wrong one,
/// and there is only one stream on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum AgentMessage<'a> {
    /// Audio to queue, still in base64.
    Media(Cow<'a, str>),
    /// To be echoed once everything before it was played; empty if the agent gave no name.
    Mark(Cow<'a, str>),
    /// Drop everything queued.
    Clear,
    /// An event that is not of this dialect's agent side. Ignored and counted.
    Unknown,
}

/// The agent erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not a JSON object with an `event`.
    #[error("not a message of Media Streams")]
    NotAMessage,
    /// A media message without a payload.
    #[error("a media message without a payload")]
    NoPayload,
    /// A payload that is not base64.
    #[error("a payload that is not base64")]
    NotBase64,
}

/// Reads one message.
///
/// # Errors
/// [`ProtocolError`] says what is wrong with it.
pub fn decode(text: &[u8]) -> Result<AgentMessage<'_>, ProtocolError> {
    match usual_media(text) {
        Some(payload) => Ok(AgentMessage::Media(Cow::Borrowed(payload))),
        None => decode_any(text),
    }
}

/// The payload of a media message that is written as nearly all are: a name, perhaps the stream's, and the payload. It
/// says what [`decode_any`] does, in a fraction of its time.
pub(super) fn usual_media(text: &[u8]) -> Option<&str> {
    let text = after(after(text, b"{")?, b"\"event\":")?;
    let mut text = after(after(text, b"\"media\"")?, b",")?;
    if let Some(name) = after(text, b"\"streamSid\":") {
        let name = name.strip_prefix(b"\"")?;
        let length = name.iter().position(|byte| *byte == b'"')?;
        let (name, rest) = name.split_at(length);
        plain(name)?;
        text = after(after(rest, b"\"")?, b",")?;
    }
    let text = after(after(text, b"\"media\":")?, b"{")?;
    let payload = after(text, b"\"payload\":")?.strip_prefix(b"\"")?;
    plain(payload.strip_suffix(b"\"}}")?)
}

/// What comes after `word`, and after the space that many put there.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let rest = text.strip_prefix(word)?;
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

/// The same, if it is ASCII that stands in a JSON string as it is.
fn plain(text: &[u8]) -> Option<&str> {
    let is_other = |byte: u8| byte == b'"' || byte == b'\\' || !(0x20..0x80).contains(&byte);
    // All of it, as that goes many bytes at a time.
    let others = text.iter().fold(false, |others, byte| others | is_other(*byte));
    if others { None } else { str::from_utf8(text).ok() }
}

/// Reads any message.
fn decode_any(text: &[u8]) -> Result<AgentMessage<'_>, ProtocolError> {
    let wire: Wire<'_> = serde_json::from_slice(text).map_err(|_| ProtocolError::NotAMessage)?;
    match wire.event.0.as_deref().ok_or(ProtocolError::NotAMessage)? {
        "media" => {
            let payload = wire.media.and_then(|media| media.payload.0);
            payload.map(AgentMessage::Media).ok_or(ProtocolError::NoPayload)
        }
        "mark" => {
            let name = wire.mark.and_then(|mark| mark.name.0);
            Ok(AgentMessage::Mark(name.unwrap_or(Cow::Borrowed(""))))
        }
        "clear" => Ok(AgentMessage::Clear),
        _ => Ok(AgentMessage::Unknown),
    }
}

/// Decodes the payload of a media message: raw µ-law of any length. `buffer` is used again as soon
/// as the bytes handed out before were dropped.
///
/// # Errors
/// [`ProtocolError::NotBase64`].
pub fn decode_payload(payload: &str, buffer: &mut BytesMut) -> Result<Bytes, ProtocolError> {
    let estimate = base64::decoded_len_estimate(payload.len());
    if estimate > REUSED_BYTES_MAX {
        let bytes = PAYLOAD.decode(payload).map_err(|_| ProtocolError::NotBase64)?;
        return Ok(Bytes::from(bytes));
    }
    buffer.clear();
    buffer.resize(estimate, 0);
    let decoded = PAYLOAD.decode_slice(payload, buffer).map_err(|_| ProtocolError::NotBase64)?;
    buffer.truncate(decoded);
    Ok(buffer.split().freeze())
}

/// The same of one that fits into `room`, decoded there; `None`: it does not, or is not base64.
pub(super) fn decode_short<'a>(payload: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = PAYLOAD.decode_slice(payload, room).ok()?;
    room.get(..length)
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    media: Option<MediaBody<'a>>,
    #[serde(borrow)]
    mark: Option<MarkBody<'a>>,
}

#[derive(Deserialize)]
struct MediaBody<'a> {
    #[serde(borrow, default)]
    payload: Text<'a>,
}

#[derive(Deserialize)]
struct MarkBody<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

/// A JSON string, borrowed unless it has escapes (some encoders write `\/` in base64); `None` for a
/// value of any other type.
#[derive(Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<AgentMessage<'_>, ProtocolError>) {
        assert_eq!(decode(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn the_messages_of_an_agent_are_read_with_and_without_their_optional_parts() {
        let media = || Ok(AgentMessage::Media(Cow::Borrowed("/v8=")));
        check(r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/v8="}}"#, media());
        check(r#"{"media":{"track":1,"payload":"\/v8="},"event":"media"}"#, media());
        check(r#"{"event":"media","streamSid":7,"media":{"payload":"/v8="},"x":[{}]}"#, media());
        let mark = |name| Ok(AgentMessage::Mark(Cow::Borrowed(name)));
        check(r#"{"event":"mark","streamSid":"wrong","mark":{"name":"a"}}"#, mark("a"));
        check(r#"{"event":"mark","mark":{}}"#, mark(""));
        check(r#"{"event":"mark","mark":{"name":[1,{"a":2}]}}"#, mark(""));
        check(r#"{"event":"mark"}"#, mark(""));
        check(r#"{"event":"mark","mark":null}"#, mark(""));
        check(r#"{"event":"clear"}"#, Ok(AgentMessage::Clear));
        check(r#"{"event":"dance","media":{}}"#, Ok(AgentMessage::Unknown));
    }

    #[test]
    fn the_usual_way_to_write_a_media_message_is_read_as_any_other() {
        let usual = [
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/v8="}}"#,
            r#"{"event": "media", "streamSid": "MZ1", "media": {"payload": "/v8="}}"#,
            r#"{"event":"media","media":{"payload":""}}"#,
        ];
        let same = |text: &[u8]| {
            let read = decode(text);
            assert_eq!(read, decode_any(text), "{}", text.escape_ascii());
            usual_media(text).is_some()
        };
        for text in usual {
            assert!(same(text.as_bytes()), "{text}");
            for place in 0..text.len() {
                let (before, after) = text.as_bytes().split_at(place);
                same(before);
                same(&after[1..]);
                for other in 0..=u8::MAX {
                    same(&[before, &[other], &after[1..]].concat());
                    same(&[before, &[other], after].concat());
                }
                for more in [r#"\/"#, r#"","x":""#, r#"","x":{"y":""#, "é", "\n"] {
                    same(&[before, more.as_bytes(), after].concat());
                }
            }
        }
    }

    #[test]
    fn a_plain_payload_is_borrowed() {
        let text = br#"{"event":"media","media":{"payload":"AAAA"}}"#;
        assert!(matches!(decode(text), Ok(AgentMessage::Media(Cow::Borrowed(_)))));
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        for text in ["", "x", "[]", "{}", "null", "\u{0}", r#"{"event":1}"#, r#"{"event":"media""#]
        {
            check(text, Err(ProtocolError::NotAMessage));
        }
        check(r#"{"event":"media"}"#, Err(ProtocolError::NoPayload));
        check(r#"{"event":"media","media":{"payload":5}}"#, Err(ProtocolError::NoPayload));
        assert_eq!(decode(b"{\"event\":\"\xff\"}"), Err(ProtocolError::NotAMessage));
        let deep = "[".repeat(100_000);
        check(&format!(r#"{{"event":"clear","x":{deep}"#), Err(ProtocolError::NotAMessage));
    }

    #[test]
    fn payloads_of_any_length_are_decoded_padded_or_not() {
        let mut buffer = BytesMut::new();
        let mut payload = |text: &str| decode_payload(text, &mut buffer).map(|b| b.to_vec());
        assert_eq!(payload(""), Ok(vec![]));
        assert_eq!(payload("/w=="), Ok(vec![0xff]));
        assert_eq!(payload("/w"), Ok(vec![0xff]));
        assert_eq!(payload("/x=="), Ok(vec![0xff]), "stray bits");
        assert_eq!(payload("AAEC"), Ok(vec![0, 1, 2]));
        assert_eq!(payload("A"), Err(ProtocolError::NotBase64));
        assert_eq!(payload("A A="), Err(ProtocolError::NotBase64));
        assert_eq!(payload(&"AAAA".repeat(100_000)).map(|b| b.len()), Ok(300_000));
    }

    #[test]
    fn the_payload_buffer_is_used_again_and_stays_small() {
        let mut buffer = BytesMut::new();
        let frame = "/".repeat(216);
        let mut places = std::collections::HashSet::new();
        for _ in 0..50 {
            places.insert(decode_payload(&frame, &mut buffer).unwrap().as_ptr());
            decode_payload(&"AAAA".repeat(50_000), &mut buffer).unwrap();
        }
        assert!(places.len() <= 4, "{} places", places.len());
        assert!(buffer.capacity() <= REUSED_BYTES_MAX);
    }
}
