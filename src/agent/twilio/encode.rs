//! What we send to an agent: each message written by hand into a buffer that is used again.

use crate::agent::twilio::payload::PAYLOAD;
use crate::audio::link::FRAME_BYTES;
use base64::Engine;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use std::io::Write;

/// Duration of one frame of caller audio, in ms.
const FRAME_MS: u64 = 20;
/// Base64 characters of one frame.
const FRAME_BASE64: usize = FRAME_BYTES.div_ceil(3) * 4;
/// Room for the largest message that is sent often: a media message with 20-digit counters.
const MESSAGE_ROOM: usize = 512;

/// Who is talking, as `start` and `stop` tell it.
#[derive(Clone, Debug)]
pub struct StreamNames {
    /// `AC` and 32 hex digits.
    pub account_sid: String,
    /// `CA` and 32 hex digits.
    pub call_sid: String,
    /// `MZ` and 32 hex digits.
    pub stream_sid: String,
}

/// Writes the messages of one stream and counts them.
///
/// The messages are handed out as `Bytes` of one allocation, which is used again as soon as the
/// earlier messages were dropped; media may also be written where they are sent from.
#[derive(Debug)]
pub struct Encoder {
    names: StreamNames,
    /// `","streamSid":"MZ...","media":{"track":"inbound","chunk":"`, the constant middle of media.
    media_middle: String,
    /// Messages sent after `connected`.
    sequence: u64,
    /// Media messages sent.
    chunk: u64,
    /// Caller audio since the stream began, sent or not, in frames.
    frames: u64,
    buffer: BytesMut,
}

impl Encoder {
    /// An encoder at the beginning of a stream.
    #[must_use]
    pub fn new(names: StreamNames) -> Self {
        let media_middle = format!(
            r#"","streamSid":"{}","media":{{"track":"inbound","chunk":""#,
            names.stream_sid
        );
        Self { names, media_middle, sequence: 0, chunk: 0, frames: 0, buffer: BytesMut::new() }
    }

    /// Counts from the beginning again: another connection is another stream.
    pub const fn begin_stream(&mut self) {
        (self.sequence, self.chunk, self.frames) = (0, 0, 0);
    }

    /// The first message; it has no number.
    pub fn connected(&mut self) -> Bytes {
        self.begin();
        self.put(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        self.take()
    }

    /// The second message: who calls whom, and the profile's parameters.
    pub fn start(&mut self, parameters: &[(String, String)]) -> Bytes {
        self.begin_event("start");
        self.put(r#"","start":{"accountSid":""#);
        self.put_name(|names| &names.account_sid);
        self.put(r#"","streamSid":""#);
        self.put_name(|names| &names.stream_sid);
        self.put(r#"","callSid":""#);
        self.put_name(|names| &names.call_sid);
        self.put(r#"","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","#);
        self.put(r#""sampleRate":8000,"channels":1},"customParameters":{"#);
        for (index, (name, value)) in parameters.iter().enumerate() {
            if index > 0 {
                self.put(",");
            }
            self.put_json(name);
            self.put(":");
            self.put_json(value);
        }
        self.put("}}}");
        self.take()
    }

    /// 20 ms of the caller, µ-law at 8 kHz.
    pub fn media(&mut self, frame: &[u8; FRAME_BYTES]) -> Bytes {
        self.begin();
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write_media(frame, &mut buffer);
        self.buffer = buffer;
        self.take()
    }

    /// The same, appended to `text`.
    pub fn write_media(&mut self, frame: &[u8; FRAME_BYTES], text: &mut impl BufMut) {
        self.sequence += 1;
        self.chunk += 1;
        self.frames += 1;
        text.put_slice(br#"{"event":"media","sequenceNumber":""#);
        put_number(text, self.sequence);
        text.put_slice(self.media_middle.as_bytes());
        put_number(text, self.chunk);
        text.put_slice(br#"","timestamp":""#);
        put_number(text, self.frames * FRAME_MS);
        text.put_slice(br#"","payload":""#);
        let mut base64 = [0; FRAME_BASE64];
        // The buffer has exactly the size of the result, so this cannot fail.
        let written = PAYLOAD.encode_slice(frame, &mut base64).unwrap_or(0);
        text.put_slice(base64.get(..written).unwrap_or(&[]));
        text.put_slice(br#""}}"#);
    }

    /// Accounts for frames that will never be sent, so that timestamps stay true.
    pub const fn skip_frames(&mut self, frames: u64) {
        self.frames += frames;
    }

    /// A key the caller pressed.
    pub fn dtmf(&mut self, digit: char) -> Bytes {
        self.begin_event("dtmf");
        self.put(r#"","dtmf":{"track":"inbound_track","digit":"#);
        self.put_json(digit.encode_utf8(&mut [0; 4]));
        self.put("}}");
        self.take()
    }

    /// The echo of a mark: everything before it was played, or cleared.
    pub fn mark(&mut self, name: &str) -> Bytes {
        self.begin_event("mark");
        self.put(r#"","mark":{"name":"#);
        self.put_json(name);
        self.put("}}");
        self.take()
    }

    /// The caller speaks over the agent, of whose utterance it heard so many ms. Twilio has no such event: it is
    /// sent only where the profile asks for it.
    pub fn barge_in(&mut self, heard_ms: u64) -> Bytes {
        self.begin_event("bargeIn");
        self.put(r#"","bargeIn":{"heardMs":""#);
        self.put_number(heard_ms);
        self.put(r#""}}"#);
        self.take()
    }

    /// The last message.
    pub fn stop(&mut self) -> Bytes {
        self.begin_event("stop");
        self.put(r#"","stop":{"accountSid":""#);
        self.put_name(|names| &names.account_sid);
        self.put(r#"","callSid":""#);
        self.put_name(|names| &names.call_sid);
        self.put(r#""}}"#);
        self.take()
    }

    fn begin(&mut self) {
        // Takes back the allocation once no earlier message is held; allocates otherwise.
        self.buffer.reserve(MESSAGE_ROOM);
    }

    /// Up to and including the stream's name; the caller continues with `","...`.
    fn begin_event(&mut self, event: &str) {
        self.begin();
        self.sequence += 1;
        self.put(r#"{"event":""#);
        self.put(event);
        self.put(r#"","sequenceNumber":""#);
        self.put_number(self.sequence);
        self.put(r#"","streamSid":""#);
        self.put_name(|names| &names.stream_sid);
    }

    fn put(&mut self, text: &str) {
        self.buffer.put_slice(text.as_bytes());
    }

    fn put_name(&mut self, name: impl Fn(&StreamNames) -> &String) {
        self.buffer.put_slice(name(&self.names).as_bytes());
    }

    fn put_number(&mut self, number: u64) {
        put_number(&mut self.buffer, number);
    }

    /// A JSON string with its quotes; whatever a peer put into `text` stays inside them.
    fn put_json(&mut self, text: &str) {
        let mut writer = (&mut self.buffer).writer();
        // Writing into memory cannot fail; an empty string keeps the message well-formed anyway.
        if serde_json::to_writer(&mut writer, text).is_err() {
            writer.write_all(b"\"\"").unwrap_or_default();
        }
    }

    fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}

/// Decimal digits.
fn put_number(text: &mut impl BufMut, number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut rest = number;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        // The remainder is below ten.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    text.put_slice(digits.get(DIGITS_MAX - used..).unwrap_or(&[]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> Encoder {
        Encoder::new(StreamNames {
            account_sid: "AC1".to_owned(),
            call_sid: "CA2".to_owned(),
            stream_sid: "MZ3".to_owned(),
        })
    }

    fn check(message: &Bytes, expected: &str) {
        assert_eq!(std::str::from_utf8(message), Ok(expected));
    }

    #[test]
    fn each_message_has_exactly_the_shape_of_twilio() {
        let mut encoder = encoder();
        check(&encoder.connected(), r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        check(
            &encoder.start(&[
                ("from_number".to_owned(), "+15550100".to_owned()),
                ("k\"".to_owned(), "v\\\n".to_owned()),
            ]),
            concat!(
                r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ3","start":{"#,
                r#""accountSid":"AC1","streamSid":"MZ3","callSid":"CA2","tracks":["inbound"],"#,
                r#""mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"#,
                r#""customParameters":{"from_number":"+15550100","k\"":"v\\\n"}}}"#,
            ),
        );
        let payload = format!("{}/w==", "/".repeat(212));
        check(
            &encoder.media(&[0xff; 160]),
            &format!(
                "{}{payload}{}",
                concat!(
                    r#"{"event":"media","sequenceNumber":"2","streamSid":"MZ3","media":{"#,
                    r#""track":"inbound","chunk":"1","timestamp":"20","payload":""#,
                ),
                r#""}}"#
            ),
        );
        check(
            &encoder.dtmf('#'),
            concat!(
                r#"{"event":"dtmf","sequenceNumber":"3","streamSid":"MZ3","#,
                r##""dtmf":{"track":"inbound_track","digit":"#"}}"##,
            ),
        );
        check(
            &encoder.mark("my \"label\""),
            concat!(
                r#"{"event":"mark","sequenceNumber":"4","streamSid":"MZ3","#,
                r#""mark":{"name":"my \"label\""}}"#,
            ),
        );
        check(
            &encoder.stop(),
            concat!(
                r#"{"event":"stop","sequenceNumber":"5","streamSid":"MZ3","#,
                r#""stop":{"accountSid":"AC1","callSid":"CA2"}}"#,
            ),
        );
    }

    #[test]
    fn a_dropped_frame_moves_the_timestamp_but_not_the_chunk() {
        let mut encoder = encoder();
        encoder.skip_frames(2);
        let message = encoder.media(&[0; 160]);
        let text = std::str::from_utf8(&message).unwrap();
        assert!(text.contains(r#""chunk":"1","timestamp":"60""#), "{text}");
    }

    #[test]
    fn the_buffer_is_used_again_once_messages_are_dropped() {
        let mut encoder = encoder();
        let mut places = std::collections::HashSet::new();
        for _ in 0..50 {
            places.insert(encoder.media(&[0; 160]).as_ptr());
        }
        // The allocation may hold more than one message before it is taken back.
        assert!(places.len() <= 4, "{} places", places.len());
    }
}
