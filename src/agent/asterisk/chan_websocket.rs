//! `ChanWebsocket`: binary messages of audio and text messages of control, as Asterisk's chan_websocket
//! has them.

use crate::agent::asterisk::control;
use crate::agent::asterisk::control::Command;
use crate::agent::asterisk::control::Members;
use crate::agent::dialect::Act;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::dialect::When;
use crate::agent::dialect::Wish;
use crate::agent::dialect::played;
use crate::agent::session::AgentCall;
use crate::agent::story::Past;
use crate::agent::twilio::dialect::parameters;
use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::audio::transcode::FromAgent;
use crate::audio::transcode::ToAgent;
use crate::types::agent::AgentAudio;
use crate::types::agent::ChanWebsocketAgent;
use crate::types::agent::ControlForm;
use bytes::BytesMut;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Levels of the queue at which the agent is told to pause and to go on, and at which it is full, in
/// frames. The queue takes more than Asterisk's: what is over it is not dropped, only read later.
const XOFF_FRAMES: u32 = 900;
const XON_FRAMES: u32 = 800;
const FULL_FRAMES: u32 = 1_000;
const FRAME_MS: u32 = 20;

/// Before the id of what waits for its turn in the queue: a mark, or the end of buffered audio.
const MARK: char = 'm';
const BUFFER: char = 'b';

/// One connection.
#[derive(Debug)]
pub struct ChanWebsocket {
    form: ControlForm,
    audio: AgentAudio,
    /// What names the connection, and the channel.
    connection: String,
    channel: String,
    variables: Vec<(String, String)>,
    to: ToAgent,
    from: FromAgent,
    level_ms: u32,
    told_to_stop: bool,
    buffering: bool,
    paused: bool,
    report_drained: bool,
    hears: bool,
    speaks: bool,
    /// Where audio is turned and written; used again.
    buffer: BytesMut,
}

impl ChanWebsocket {
    /// A connection with `agent` for `call`.
    #[must_use]
    pub fn new(agent: &ChanWebsocketAgent, call: &AgentCall) -> Self {
        Self {
            form: agent.control,
            audio: agent.audio,
            connection: call.call_id.uuid().simple().to_string(),
            channel: call.call_id.to_string(),
            variables: parameters(&agent.parameters, call),
            to: ToAgent::new(agent.audio),
            from: FromAgent::new(agent.audio),
            level_ms: 0,
            told_to_stop: false,
            buffering: false,
            paused: false,
            report_drained: false,
            hears: true,
            speaks: true,
            buffer: BytesMut::new(),
        }
    }

    fn event(&self, event: &str, members: Members<'_>) -> Act {
        Act::Send(Message::Text(control::write(self.form, event, members).into()))
    }

    /// An event that is its name and no more; as an object it names the channel too.
    fn bare_event(&self, event: &str) -> Act {
        match self.form {
            ControlForm::Json => self.event(event, &[("channel_id", json!(self.channel))]),
            ControlForm::Plain => self.event(event, &[]),
        }
    }

    fn obey(&mut self, command: Command, acts: &mut Vec<Act>) {
        match command {
            // The profile says when the call is answered.
            Command::Answer => (),
            Command::HangUp => acts.push(Act::Ask(Wish::HangUp, When::Now)),
            Command::StartBuffering => self.buffering = true,
            Command::StopBuffering(id) => {
                self.buffering = false;
                acts.push(Act::Mark(format!("{BUFFER}{id}")));
            }
            Command::Mark(id) => acts.push(Act::Mark(format!("{MARK}{id}"))),
            Command::Flush => self.flush(acts),
            Command::GetStatus => acts.push(self.status()),
            Command::ReportDrained => {
                self.report_drained = true;
                self.report(acts);
            }
            Command::Pause => self.pause(true, acts),
            Command::Continue => self.pause(false, acts),
            Command::Direction { from_agent, to_agent } => {
                // Who only listens is not heard with what it had queued, either.
                if self.speaks && !from_agent {
                    self.flush(acts);
                }
                self.speaks = from_agent;
                self.hears = to_agent;
            }
            Command::Unknown(word) => {
                let text = format!("unknown command {word}");
                let members = [("channel_id", json!(self.channel)), ("error_text", json!(text))];
                acts.push(self.event("ERROR", &members));
                acts.push(Act::Unknown);
            }
        }
    }

    /// Nothing is told of the marks that go with the audio; the end of the queue is, if that was asked for.
    fn flush(&mut self, acts: &mut Vec<Act>) {
        self.from.reset();
        self.buffering = false;
        acts.push(Act::Clear(Marks::Forgotten));
    }

    fn pause(&mut self, paused: bool, acts: &mut Vec<Act>) {
        self.paused = paused;
        acts.push(Act::Hold(paused));
    }

    fn status(&self) -> Act {
        let frames = self.level_ms.div_ceil(FRAME_MS);
        self.event(
            "STATUS",
            &[
                ("channel_id", json!(self.channel)),
                ("queue_length", json!(frames)),
                ("xon_level", json!(XON_FRAMES)),
                ("xoff_level", json!(XOFF_FRAMES)),
                ("queue_full", json!(frames >= FULL_FRAMES)),
                ("bulk_media", json!(self.buffering)),
                ("media_paused", json!(self.paused)),
            ],
        )
    }

    fn report(&mut self, acts: &mut Vec<Act>) {
        if self.report_drained && self.level_ms == 0 {
            self.report_drained = false;
            acts.push(self.bare_event("QUEUE_DRAINED"));
        }
    }

    fn level(&mut self, ms: u32, acts: &mut Vec<Act>) {
        self.level_ms = ms;
        let (xoff, xon) = (XOFF_FRAMES * FRAME_MS, XON_FRAMES * FRAME_MS);
        if !self.told_to_stop && ms >= xoff {
            self.told_to_stop = true;
            acts.push(self.bare_event("MEDIA_XOFF"));
        } else if self.told_to_stop && ms <= xon {
            self.told_to_stop = false;
            acts.push(self.bare_event("MEDIA_XON"));
        }
        self.report(acts);
    }

    fn mark(&self, name: &str, acts: &mut Vec<Act>) {
        let Some((id, event)) = name
            .strip_prefix(MARK)
            .map(|id| (id, "MEDIA_MARK_PROCESSED"))
            .or_else(|| Some((name.strip_prefix(BUFFER)?, "MEDIA_BUFFERING_COMPLETED")))
        else {
            return;
        };
        let id_given = ("correlation_id", json!(id));
        acts.push(match self.form {
            // Without an id it is there and empty.
            ControlForm::Json => {
                self.event(event, &[("channel_id", json!(self.channel)), id_given])
            }
            ControlForm::Plain if id.is_empty() => self.event(event, &[]),
            ControlForm::Plain => self.event(event, &[id_given]),
        });
    }
}

impl Dialect for ChanWebsocket {
    fn open(&mut self, past: Option<Past<'_>>, acts: &mut Vec<Act>) {
        self.from.reset();
        // What the connection before wanted is not wanted by this one.
        (self.buffering, self.paused, self.report_drained) = (false, false, false);
        (self.hears, self.speaks, self.told_to_stop) = (true, true, false);
        let told = past.iter().flat_map(Past::parameters);
        let variables: Map<String, Value> = (self.variables.iter().cloned())
            .chain(told)
            .map(|(name, value)| (name, json!(value)))
            .collect();
        acts.push(self.event(
            "MEDIA_START",
            &[
                ("connection_id", json!(self.connection)),
                ("channel", json!(format!("WebSocket/{}", self.connection))),
                ("channel_id", json!(self.channel)),
                ("format", json!(self.audio.asterisk_name())),
                ("optimal_frame_size", json!(self.audio.frame_bytes())),
                ("ptime", json!(FRAME_MS)),
                ("channel_variables", Value::Object(variables)),
            ],
        ));
        acts.push(Act::Ready);
    }

    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        self.obey(control::read(text)?, acts);
        Ok(())
    }

    fn binary(&mut self, bytes: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        if self.speaks {
            self.from.push(bytes, &mut self.buffer);
            if !self.buffer.is_empty() {
                acts.push(played(&self.from, self.buffer.split().freeze()));
            }
        }
        Ok(())
    }

    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
        match news {
            News::Audio(frame) if self.hears => acts.push(self.media(frame)),
            News::WideAudio(wide) if self.hears => acts.push(self.media_wide(wide)),
            News::Digit(digit) => {
                let names =
                    [("digit", json!(digit.to_string())), ("channel_id", json!(self.channel))];
                acts.push(self.event("DTMF_END", &names));
            }
            News::Mark(name) => self.mark(name, acts),
            News::Level(ms) => self.level(ms, acts),
            // The connection is closed, which says it.
            News::Ended
            | News::Audio(_)
            | News::WideAudio(_)
            | News::SkippedFrames(_)
            | News::Cleared(_)
            | News::Relinked
            | News::BargeIn(_)
            | News::Unheard(_)
            | News::Answer(_)
            | News::TransferFailed(_) => (),
        }
    }

    fn wants_level(&self) -> bool {
        true
    }
}

impl ChanWebsocket {
    fn media(&mut self, frame: &[u8; FRAME_BYTES]) -> Act {
        self.from.to_wide(false);
        self.buffer.reserve(self.to.frame_bytes());
        self.to.push(frame, &mut self.buffer);
        Act::Send(Message::Binary(self.buffer.split().freeze()))
    }

    fn media_wide(&mut self, wide: &WidePcm) -> Act {
        self.from.to_wide(true);
        self.buffer.reserve(self.to.frame_bytes());
        self.to.push_wide(wide, &mut self.buffer);
        Act::Send(Message::Binary(self.buffer.split().freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dialect::testing::call;
    use crate::agent::dialect::testing::torment;
    use crate::types::agent::Access;

    fn channel(audio: AgentAudio, control: ControlForm) -> ChanWebsocket {
        let agent = ChanWebsocketAgent {
            url: Some("ws://agent/".to_owned()),
            access: Access::default(),
            audio,
            control,
            parameters: vec![("mood".to_owned(), "good".to_owned())],
            connect_timeout: std::time::Duration::from_secs(2),
        };
        ChanWebsocket::new(&agent, &call())
    }

    fn text(acts: &[Act]) -> Vec<Value> {
        let texts = acts.iter().filter_map(|act| match act {
            Act::Send(Message::Text(text)) => Some(serde_json::from_slice(text).unwrap()),
            _ => None,
        });
        texts.collect()
    }

    fn words(acts: &[Act]) -> Vec<String> {
        let texts = acts.iter().filter_map(|act| match act {
            Act::Send(Message::Text(text)) => Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => None,
        });
        texts.collect()
    }

    fn command(channel: &mut ChanWebsocket, text: &str) -> Vec<Act> {
        let mut acts = Vec::new();
        channel.text(text.as_bytes(), &mut acts).unwrap();
        acts
    }

    fn tell(channel: &mut ChanWebsocket, news: News<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        channel.tell(news, &mut acts);
        acts
    }

    #[test]
    fn the_channel_is_introduced_in_its_format() {
        for (audio, format, bytes) in [
            (AgentAudio::Ulaw, "ulaw", 160),
            (AgentAudio::Alaw, "alaw", 160),
            (AgentAudio::L16 { rate: 8_000 }, "slin", 320),
            (AgentAudio::L16 { rate: 16_000 }, "slin16", 640),
            (AgentAudio::L16 { rate: 24_000 }, "slin24", 960),
        ] {
            let mut channel = channel(audio, ControlForm::Json);
            let mut acts = Vec::new();
            channel.open(None, &mut acts);
            let start = &text(&acts)[0];
            assert_eq!(start["event"], "MEDIA_START");
            assert_eq!(
                (&start["format"], &start["optimal_frame_size"]),
                (&json!(format), &json!(bytes))
            );
            assert_eq!(start["channel_variables"]["mood"], "good");
            assert_eq!(start["channel_variables"]["from_number"], "+15550111");
            assert_eq!(acts.last(), Some(&Act::Ready));
            let sent = tell(&mut channel, News::Audio(&[0xff; FRAME_BYTES]));
            let [Act::Send(Message::Binary(media))] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!(media.len(), bytes);
        }
    }

    #[test]
    fn another_connection_is_told_to_stop_anew_and_a_flush_does_not_forget_who_waits_for_its_end() {
        let names = |acts: &[Act]| -> Vec<Value> {
            text(acts).into_iter().map(|event| event["event"].clone()).collect()
        };
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        let much = XOFF_FRAMES * FRAME_MS;
        assert_eq!(names(&tell(&mut channel, News::Level(much))), ["MEDIA_XOFF"]);
        let mut acts = Vec::new();
        channel.open(None, &mut acts);
        assert_eq!(names(&tell(&mut channel, News::Level(much))), ["MEDIA_XOFF"]);
        command(&mut channel, r#"{"command":"REPORT_QUEUE_DRAINED"}"#);
        command(&mut channel, r#"{"command":"FLUSH_MEDIA"}"#);
        assert_eq!(names(&tell(&mut channel, News::Level(0))), ["MEDIA_XON", "QUEUE_DRAINED"]);
    }

    #[test]
    fn marks_and_buffers_are_told_when_played_and_never_after_a_flush() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        let mark = command(&mut channel, r#"{"command":"MARK_MEDIA","correlation_id":"x"}"#);
        assert_eq!(mark, [Act::Mark("mx".to_owned())]);
        let told = text(&tell(&mut channel, News::Mark("mx")));
        assert_eq!(told[0]["event"], "MEDIA_MARK_PROCESSED");
        assert_eq!(told[0]["correlation_id"], "x");
        command(&mut channel, r#"{"command":"START_MEDIA_BUFFERING"}"#);
        let stop =
            command(&mut channel, r#"{"command":"STOP_MEDIA_BUFFERING","correlation_id":"y"}"#);
        assert_eq!(stop, [Act::Mark("by".to_owned())]);
        assert_eq!(
            text(&tell(&mut channel, News::Mark("by")))[0]["event"],
            "MEDIA_BUFFERING_COMPLETED"
        );
        let flush = command(&mut channel, r#"{"command":"FLUSH_MEDIA"}"#);
        assert_eq!(flush, [Act::Clear(Marks::Forgotten)]);
    }

    #[test]
    fn a_mark_without_an_id_has_an_empty_one() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        for (word, event) in [
            ("MARK_MEDIA", "MEDIA_MARK_PROCESSED"),
            ("STOP_MEDIA_BUFFERING", "MEDIA_BUFFERING_COMPLETED"),
        ] {
            let acts = command(&mut channel, &json!({"command": word}).to_string());
            let [Act::Mark(name)] = &acts[..] else { panic!("{acts:?}") };
            let told = text(&tell(&mut channel, News::Mark(name)));
            let id = call().call_id.to_string();
            let expected = json!({"event": event, "channel_id": id, "correlation_id": ""});
            assert_eq!(told, [expected]);
        }
    }

    #[test]
    fn in_words_an_event_is_what_asterisk_writes_and_no_more() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Plain);
        let id = call().call_id.to_string();
        let full = News::Level(XOFF_FRAMES * FRAME_MS);
        assert_eq!(words(&tell(&mut channel, full)), ["MEDIA_XOFF"]);
        assert_eq!(command(&mut channel, "REPORT_QUEUE_DRAINED"), []);
        let empty = tell(&mut channel, News::Level(0));
        assert_eq!(words(&empty), ["MEDIA_XON", "QUEUE_DRAINED"]);
        assert_eq!(words(&tell(&mut channel, News::Mark("m"))), ["MEDIA_MARK_PROCESSED"]);
        let done = tell(&mut channel, News::Mark("ba file.ulaw"));
        assert_eq!(words(&done), ["MEDIA_BUFFERING_COMPLETED a file.ulaw"]);
        let key = tell(&mut channel, News::Digit('5'));
        assert_eq!(words(&key), [format!("DTMF_END digit:5 channel_id:{id}")]);
        let error = command(&mut channel, "DANCE");
        let expected = format!("ERROR channel_id:{id} error_text:unknown command DANCE");
        assert_eq!(words(&error), [expected]);
    }

    #[test]
    fn the_agent_is_told_to_stop_and_to_go_on_once_each() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        let mut told = Vec::new();
        for ms in [17_980, 18_000, 30_000, 17_000, 16_000, 15_980] {
            told.extend(text(&tell(&mut channel, News::Level(ms))));
        }
        let events: Vec<&Value> = told.iter().map(|event| &event["event"]).collect();
        assert_eq!(events, ["MEDIA_XOFF", "MEDIA_XON"]);
    }

    #[test]
    fn status_and_the_end_of_the_queue_are_reported() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        tell(&mut channel, News::Level(100));
        command(&mut channel, "PAUSE_MEDIA");
        let status = &text(&command(&mut channel, r#"{"command":"GET_STATUS"}"#))[0];
        assert_eq!((&status["queue_length"], &status["media_paused"]), (&json!(5), &json!(true)));
        assert_eq!(command(&mut channel, "CONTINUE_MEDIA"), [Act::Hold(false)]);
        assert_eq!(command(&mut channel, "REPORT_QUEUE_DRAINED"), []);
        assert_eq!(text(&tell(&mut channel, News::Level(0)))[0]["event"], "QUEUE_DRAINED");
        assert_eq!(tell(&mut channel, News::Level(0)), [], "once");
        let at_once = text(&command(&mut channel, "REPORT_QUEUE_DRAINED"));
        assert_eq!(at_once[0]["event"], "QUEUE_DRAINED", "it is empty already");
    }

    #[test]
    fn a_direction_stops_what_flows_the_other_way() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        // As the agent sees it: it hears, and is not heard any more.
        let acts = command(&mut channel, "SET_MEDIA_DIRECTION in");
        assert_eq!(acts, [Act::Clear(Marks::Forgotten)]);
        assert_eq!(command(&mut channel, "SET_MEDIA_DIRECTION in"), [], "nothing is queued");
        let mut acts = Vec::new();
        channel.binary(&[1; 5], &mut acts).unwrap();
        assert_eq!(acts, []);
        assert_eq!(tell(&mut channel, News::Audio(&[1; FRAME_BYTES])).len(), 1);
        assert_eq!(command(&mut channel, "SET_MEDIA_DIRECTION out"), []);
        assert_eq!(tell(&mut channel, News::Audio(&[1; FRAME_BYTES])), []);
        channel.binary(&[1; 5], &mut acts).unwrap();
        assert_eq!(acts, [Act::Play(vec![1; 5].into())]);
        assert_eq!(command(&mut channel, "SET_MEDIA_DIRECTION both"), []);
        assert_eq!(tell(&mut channel, News::Audio(&[1; FRAME_BYTES])).len(), 1);
    }

    #[test]
    fn the_end_and_the_unknown() {
        let mut channel = channel(AgentAudio::Ulaw, ControlForm::Json);
        assert_eq!(command(&mut channel, "HANGUP"), [Act::Ask(Wish::HangUp, When::Now)]);
        assert_eq!(command(&mut channel, "ANSWER"), []);
        let acts = command(&mut channel, "DANCE");
        let error = &text(&acts)[0];
        assert_eq!(
            (&error["event"], &error["error_text"]),
            (&json!("ERROR"), &json!("unknown command DANCE"))
        );
        assert_eq!(error["channel_id"], call().call_id.to_string());
        assert_eq!(acts.last(), Some(&Act::Unknown));
        assert_eq!(channel.text(b"{", &mut Vec::new()), Err(Garbled::NotAMessage));
    }

    #[test]
    fn no_messages_break_a_channel() {
        const WORDS: &[&str] = &[
            "{",
            "}",
            "\"command\":",
            "\"MARK_MEDIA\"",
            "\"FLUSH_MEDIA\"",
            ",",
            "\"correlation_id\":",
            "\"x\"",
            "null",
            "HANGUP",
            "MARK_MEDIA",
            " id",
            "GET_STATUS",
            "REPORT_QUEUE_DRAINED",
            "PAUSE_MEDIA",
            "SET_MEDIA_DIRECTION",
            " out",
            "{\"command\":\"STOP_MEDIA_BUFFERING\"}",
            "{\"command\":\"MARK_MEDIA\",\"correlation_id\":\"a\"}",
            "\u{0}",
            "é",
        ];
        for control in [ControlForm::Json, ControlForm::Plain] {
            torment(|| Box::new(channel(AgentAudio::L16 { rate: 16_000 }, control)), WORDS);
        }
    }
}
