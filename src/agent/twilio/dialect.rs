//! `Twilio`: the dialect of Twilio Media Streams.

use crate::agent::dialect::Act;
use crate::agent::dialect::AudioRoom;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::session::AgentCall;
use crate::agent::story::Past;
use crate::agent::twilio::decode;
use crate::agent::twilio::decode::AgentMessage;
use crate::agent::twilio::decode::ProtocolError;
use crate::agent::twilio::encode::Encoder;
use crate::agent::twilio::encode::StreamNames;
use crate::audio::link::FRAME_BYTES;
use crate::audio::sound::Sound;
use crate::types::agent::TwilioAgent;
use crate::types::codec::Law;
use bytes::BytesMut;

/// One media stream.
#[derive(Debug)]
pub struct Twilio {
    parameters: Vec<(String, String)>,
    encoder: Encoder,
    /// Where the agent's audio is decoded.
    audio: BytesMut,
}

impl Twilio {
    /// A stream with `agent` for `call`.
    #[must_use]
    pub fn new(agent: &TwilioAgent, call: &AgentCall) -> Self {
        let names = StreamNames {
            account_sid: call.tenant.account_sid(),
            call_sid: call.call_id.call_sid(),
            stream_sid: call.call_id.stream_sid(),
        };
        Self {
            parameters: parameters(&agent.parameters, call),
            encoder: Encoder::new(names),
            audio: BytesMut::new(),
        }
    }
}

impl Dialect for Twilio {
    fn open(&mut self, past: Option<Past<'_>>, acts: &mut Vec<Act>) {
        self.encoder.begin_stream();
        acts.push(Act::Send(Message::Text(self.encoder.connected())));
        let mut parameters = self.parameters.clone();
        parameters.extend(past.iter().flat_map(Past::parameters));
        acts.push(Act::Send(Message::Text(self.encoder.start(&parameters))));
        acts.push(Act::Ready);
    }

    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        acts.push(match decode::decode(text)? {
            AgentMessage::Media(payload) => {
                let audio = decode::decode_payload(&payload, &mut self.audio)?;
                if audio.is_empty() {
                    return Ok(());
                }
                Act::Play(audio)
            }
            AgentMessage::Mark(name) => Act::Mark(name.into_owned()),
            AgentMessage::Clear => Act::Clear(Marks::Echoed),
            AgentMessage::Unknown => Act::Unknown,
        });
        Ok(())
    }

    fn audio_in<'a>(&self, text: &[u8], room: &'a mut AudioRoom) -> Option<&'a [u8]> {
        let audio = decode::decode_short(decode::usual_media(text)?, room)?;
        (!audio.is_empty()).then_some(audio)
    }

    fn write_frame(&mut self, frame: &[u8; FRAME_BYTES], text: &mut Vec<u8>) -> bool {
        self.encoder.write_media(frame, text);
        true
    }

    fn binary(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
        Err(Garbled::Bytes)
    }

    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
        let text = match news {
            News::Audio(frame) => self.encoder.media(frame),
            // Its links are never made for it.
            News::WideAudio(wide) => self.encoder.media(&Sound::Wide(*wide).as_law(Law::Mu)),
            News::SkippedFrames(frames) => return self.encoder.skip_frames(frames),
            News::Digit(digit) => self.encoder.dtmf(digit),
            News::Mark(name) => self.encoder.mark(name),
            News::BargeIn(heard_ms) => self.encoder.barge_in(heard_ms),
            News::Ended => self.encoder.stop(),
            // The dialect has no word for these.
            News::Cleared(_)
            | News::Unheard(_)
            | News::Relinked
            | News::Level(_)
            | News::Answer(_)
            | News::TransferFailed(_) => return,
        };
        acts.push(Act::Send(Message::Text(text)));
    }
}

impl From<ProtocolError> for Garbled {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::NotAMessage => Self::NotAMessage,
            ProtocolError::NoPayload => Self::NoPayload,
            ProtocolError::NotBase64 => Self::NotBase64,
        }
    }
}

/// The profile's parameters, and what the profile does not say itself: who calls whom, for which many
/// agents look, and the variables of the call. A variable never stands for one of those two.
pub(crate) fn parameters(given: &[(String, String)], call: &AgentCall) -> Vec<(String, String)> {
    let trace = call.trace.map(|trace| trace.to_string());
    let standard = [
        ("from_number", Some(call.caller.as_str())),
        ("to_number", Some(call.dialled.as_str())),
        // For bots behind something that takes the header away.
        ("traceparent", trace.as_deref()),
    ];
    let variables = call
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !standard.iter().any(|(own, _)| own == name));
    let missing = standard
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain(variables)
        .filter(|(name, _)| !given.iter().any(|(given, _)| given == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    missing.chain(given.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dialect::AUDIO_ROOM_BYTES;
    use crate::agent::dialect::testing::call;
    use crate::types::agent::Access;
    use crate::types::secret::Secret;
    use bytes::Bytes;
    use std::time::Duration;

    fn twilio() -> Twilio {
        let agent = TwilioAgent {
            url: "ws://127.0.0.1/".to_owned(),
            auth_token: Secret::default(),
            parameters: Vec::new(),
            access: Access::default(),
            connect_timeout: Duration::from_secs(3),
        };
        Twilio::new(&agent, &call())
    }

    #[test]
    fn the_shorter_ways_say_what_the_others_say() {
        let (mut short, mut long, mut acts) = (twilio(), twilio(), Vec::new());
        for value in 0..3 {
            let frame = [value; FRAME_BYTES];
            long.tell(News::Audio(&frame), &mut acts);
            let mut text = b"before".to_vec();
            assert!(short.write_frame(&frame, &mut text));
            let message = Message::Text(Bytes::from(text).slice(6..));
            assert_eq!(std::mem::take(&mut acts), [Act::Send(message)]);
        }
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"AAEC"}}"#;
        assert_eq!(long.text(media.as_bytes(), &mut acts), Ok(()));
        let mut room = [0; AUDIO_ROOM_BYTES];
        let audio = short.audio_in(media.as_bytes(), &mut room).expect("it is audio");
        assert_eq!(std::mem::take(&mut acts), [Act::Play(Bytes::copy_from_slice(audio))]);
        let long_payload = "A".repeat(AUDIO_ROOM_BYTES * 4 / 3 + 4);
        let too_long = media.replace("AAEC", &long_payload);
        for other in [
            r#"{"event":"media","media":{"payload":""}}"#,
            r#"{"event":"media","media":{"payload":"A"}}"#,
            r#"{"event":"clear"}"#,
            &too_long,
            "x",
        ] {
            assert_eq!(short.audio_in(other.as_bytes(), &mut room), None, "{other}");
        }
    }
}
