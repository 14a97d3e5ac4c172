//! Drives the dialect with arbitrary bytes: the body of the fuzz target of agent JSON.

use crate::agent::session::AgentCall;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::agent::stream::AgentStream;
use crate::agent::twilio::dialect::Twilio;
use crate::audio::link::FRAME_BYTES;
use crate::types::agent::Access;
use crate::types::agent::TwilioAgent;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use std::time::Duration;
use uuid::Uuid;

/// Feeds `data` to an open stream. Each line is a message of the agent, but a line of one byte is
/// another input. Panics when the stream breaks one of its promises.
pub fn exercise(data: &[u8]) {
    let Some(mut stream) = open_stream() else { return };
    let mut now = Moment::START;
    let mut out = Vec::new();
    let mut witness = Witness::default();
    for line in data.split(|byte| *byte == b'\n') {
        now += Duration::from_millis(20);
        let audio_max = line.len();
        if let Some(input) = input(line) {
            stream.handle(now, input, &mut out);
        }
        if stream.deadline().is_some_and(|deadline| now >= deadline) {
            stream.handle(now, Input::DeadlineReached, &mut out);
        }
        witness.check(&mut out, audio_max);
    }
    stream.handle(now, Input::CallEnded, &mut out);
    witness.check(&mut out, 0);
    assert_eq!(stream.deadline(), None, "a stream that is over waits for something");
}

fn open_stream() -> Option<AgentStream> {
    let agent = TwilioAgent {
        url: "ws://agent/".to_owned(),
        auth_token: Secret::default(),
        parameters: Vec::new(),
        access: Access::default(),
        connect_timeout: Duration::from_secs(3),
    };
    let call = AgentCall {
        call_id: CallId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        caller: String::new(),
        dialled: "+15550100".parse().ok()?,
        variables: CallVariables::default(),
        trace: None,
        before: None,
    };
    let mut stream =
        AgentStream::new((Box::new(Twilio::new(&agent, &call)), agent.connect_timeout));
    stream.handle(Moment::START, Input::Started, &mut Vec::new());
    stream.handle(Moment::START, Input::Connected, &mut Vec::new());
    Some(stream)
}

fn input(line: &[u8]) -> Option<Input<'_>> {
    let [byte] = line else { return (!line.is_empty()).then_some(Input::Text(line)) };
    Some(match byte {
        b'a' => Input::Audio(&[0xff; FRAME_BYTES]),
        b'b' => Input::SendBlocked,
        b'r' => Input::SendReady,
        b'f' => Input::PlayoutFull,
        b'v' => Input::PlayoutRoom,
        b'p' => Input::Pong,
        b'x' => Input::Binary(line),
        b'c' => Input::PeerClosed(PeerClose::Frame(None)),
        b'd' => Input::Drained,
        b'0'..=b'9' => Input::Digit(char::from(*byte)),
        other => Input::MarkPlayed(u64::from(*other)),
    })
}

/// What holds for every output, whatever came in.
#[derive(Default)]
struct Witness {
    sequence: u64,
    over: bool,
}

impl Witness {
    fn check(&mut self, out: &mut Vec<Output>, audio_max: usize) {
        assert!(out.len() <= 4 * AGENT_MARKS_MAX + 8, "one input caused {} outputs", out.len());
        for output in out.drain(..) {
            assert!(!self.over || output == Output::Close, "{output:?} after the end");
            match output {
                Output::Send(text) => self.check_message(&text),
                Output::Play(audio) | Output::PlayWide(audio) => {
                    assert!(!audio.is_empty() && audio.len() <= audio_max, "audio from nowhere");
                }
                Output::Lost(_) | Output::Failed(_) | Output::HangupRequested => self.over = true,
                Output::Connect
                | Output::Reconnect
                | Output::Interrupted(_)
                | Output::Missed
                | Output::Resumed
                | Output::Ping
                | Output::Mark(_)
                | Output::Finish
                | Output::Clear
                | Output::Close
                | Output::Ready => {}
                Output::SendBinary(_)
                | Output::Hold(_)
                | Output::TransferRequested(_)
                | Output::DigitsRequested(_)
                | Output::Said(_) => panic!("{output:?} in a dialect that has no such thing"),
            }
        }
    }

    fn check_message(&mut self, text: &[u8]) {
        let message = serde_json::from_slice::<serde_json::Value>(text);
        let number = message.as_ref().ok().and_then(|message| message.get("sequenceNumber"));
        let number = number.and_then(|number| number.as_str()?.parse::<u64>().ok());
        assert!(number > Some(self.sequence), "a broken message: {message:?}");
        self.sequence = number.unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    const WORDS: &[&str] = &[
        "{",
        "}",
        "\"event\":",
        "\"media\"",
        "\"mark\"",
        "\"clear\"",
        ",",
        ":",
        "\"payload\":",
        "\"name\":",
        "\"/w==\"",
        "\"\\u0000\"",
        "null",
        "1e9",
        "[",
        "]",
        "\n",
        "\na\n",
        "\nb\n",
        "\nr\n",
        "{\"event\":\"clear\"}",
        "{\"event\":\"mark\",\"mark\":{\"name\":\"\\\"\\n\"}}",
        "{\"event\":\"media\",\"media\":{\"payload\":\"AAAA\"}}",
        "\n\u{1}\n",
        "\nf\n",
        "\nv\n",
    ];

    #[test]
    fn no_sequence_of_words_breaks_a_promise() {
        for seed in 0..300 {
            let mut random = Random::from_seed(seed);
            let mut data = String::new();
            for _ in 0..random.below(400) {
                data.push_str(WORDS[random.below(WORDS.len() as u64) as usize]);
            }
            exercise(data.as_bytes());
        }
    }

    #[test]
    fn no_bytes_break_a_promise() {
        let mut random = Random::from_seed(9);
        for len in 0..300 {
            let mut data = vec![0; len];
            random.fill(&mut data);
            exercise(&data);
        }
    }
}
