//! `Realtime`: a conversation with a Realtime server.

use crate::agent::dialect::Act;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::dialect::When;
use crate::agent::dialect::Wish;
use crate::agent::dialect::played;
use crate::agent::realtime::decode;
use crate::agent::realtime::decode::Outcome;
use crate::agent::realtime::decode::ServerEvent;
use crate::agent::realtime::encode;
use crate::agent::realtime::encode::END_CALL;
use crate::agent::realtime::encode::SEND_DTMF;
use crate::agent::realtime::encode::TRANSFER_CALL;
use crate::agent::realtime::items::Items;
use crate::agent::session::Said;
use crate::agent::story::Past;
use crate::agent::twilio::decode::decode_payload;
use crate::audio::transcode::FromAgent;
use crate::audio::transcode::ToAgent;
use crate::types::agent::RealtimeAgent;
use crate::types::agent_trouble::FaultWord;
use crate::types::cause::HangupCause;
use crate::types::limit::AGENT_SAID_BYTES_MAX;
use crate::types::limit::AGENT_WISHES_MAX;
use bytes::BytesMut;
use serde_json::Value;
use serde_json::json;
use std::collections::VecDeque;

/// What a server is told whose words were the last before the connection broke: the caller may wait for more.
const RECALL: &str =
    "The line was interrupted for a moment, and your last words may not have been heard.";

/// What a model is told that wanted the end of the call.
const SPOKEN_OVER: &str = "the caller spoke";
/// The same, because the caller is not there.
const NOT_HEARD: &str = "the caller is on hold";

/// What a server says that is asked for an answer while it makes one: it tells of the end of that one later.
const ALREADY_ANSWERS: &str = "conversation_already_has_active_response";

/// What an answer's failure is called for which a server has no word.
const UNEXPLAINED: &str = "response_failed";

/// Answers in a row that a server may fail to make: the first is asked for once more.
const FAILURES_MAX: u8 = 2;

/// Function calls that are known again when told a second time.
const CALLS_KNOWN_MAX: usize = 32;

/// One session.
#[derive(Debug)]
pub struct Realtime {
    agent: Box<RealtimeAgent>,
    /// The switch drops what is said when the caller speaks over it.
    is_cut: bool,
    /// It lets it wait first, and tells whether that was speech.
    pauses: bool,
    state: State,
    /// An answer is being made.
    answering: bool,
    /// It was asked to be no more.
    cancelled: bool,
    /// Why nothing more of it is heard.
    cut_for: Option<&'static str>,
    /// Audio of it came.
    sounds: bool,
    /// It was told something that wants an answer while another was made: one is asked for once that is over.
    owes_answer: bool,
    /// Answers in a row that failed.
    failures: u8,
    /// What the session begins with.
    opening: Opening,
    items: Items,
    calls: Calls,
    to: ToAgent,
    from: FromAgent,
    /// Where audio is decoded, turned and written; used again.
    payload: BytesMut,
    audio: BytesMut,
    message: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server has not said that the session is there.
    New,
    /// It was given our settings.
    Updating,
    Running,
}

/// What a session begins with.
#[derive(Debug)]
enum Opening {
    /// A greeting, if the profile wants one.
    Greeting,
    /// What was said before, in the words of the server.
    Past(Vec<bytes::Bytes>),
}

/// The functions that were called.
#[derive(Debug, Default)]
struct Calls {
    /// Those whose name came before their arguments.
    named: VecDeque<(String, String)>,
    /// Those that were heard of whole.
    done: VecDeque<String>,
    /// What is asked for once the answer they are part of is whole.
    waiting: VecDeque<(String, Wish)>,
    /// Those that wait for what became of their wish, in order.
    asked: VecDeque<Asked>,
    /// Those that wait for the end of the call.
    ending: VecDeque<String>,
}

/// A call whose wish is on its way.
#[derive(Debug)]
struct Asked {
    call: String,
    /// Once it is done the model has the word.
    goes_on: bool,
}

impl Realtime {
    /// A session with `agent`; `is_cut`: the switch itself drops what is said when the caller speaks over it.
    #[must_use]
    pub fn new(agent: &RealtimeAgent, is_cut: bool) -> Self {
        Self {
            agent: Box::new(agent.clone()),
            is_cut,
            pauses: false,
            state: State::New,
            answering: false,
            cancelled: false,
            cut_for: None,
            sounds: false,
            owes_answer: false,
            failures: 0,
            opening: Opening::Greeting,
            items: Items::default(),
            calls: Calls::default(),
            to: ToAgent::new(agent.audio),
            from: FromAgent::new(agent.audio),
            payload: BytesMut::new(),
            audio: BytesMut::new(),
            message: BytesMut::new(),
        }
    }

    /// The same where what is said waits while the caller speaks over it, and goes on if that was nothing: the
    /// switch judges, so the server is not to end its answer by itself.
    #[must_use]
    pub fn pausing(mut self) -> Self {
        let mut turns = encode::turn_detection(&self.agent);
        if let Some(turns) = turns.as_object_mut() {
            turns.insert("interrupt_response".to_owned(), json!(false));
        }
        self.agent.turn_detection = Some(turns);
        self.pauses = true;
        self
    }

    fn updated(&mut self, acts: &mut Vec<Act>) {
        if self.state == State::Updating {
            self.state = State::Running;
            let is_wanted = match std::mem::replace(&mut self.opening, Opening::Greeting) {
                Opening::Greeting => self.agent.greets,
                Opening::Past(items) => {
                    acts.extend(items.into_iter().map(send));
                    true
                }
            };
            acts.push(Act::Ready);
            if is_wanted {
                acts.push(send(encode::response_create()));
            }
        }
    }

    fn play(
        &mut self,
        (item, content_index): (&str, u32),
        delta: &str,
        acts: &mut Vec<Act>,
    ) -> Result<(), Garbled> {
        // What was still under way when the caller interrupted, or went on before it began.
        if self.items.is_cut(item) || (self.cancelled && !self.sounds) {
            return Ok(());
        }
        let bytes = decode_payload(delta, &mut self.payload)?;
        self.from.push(&bytes, &mut self.audio);
        let audio = self.audio.split().freeze();
        let units = self.from.units(audio.len());
        self.items.queue(item, content_index, units as u64);
        self.sounds = true;
        if !audio.is_empty() {
            acts.push(played(&self.from, audio));
        }
        Ok(())
    }

    /// The caller speaks: what is said to it is over.
    fn interrupted(&mut self, acts: &mut Vec<Act>) {
        self.stay(SPOKEN_OVER, acts);
        if self.items.is_speaking() {
            self.items.clear();
            self.from.reset();
            acts.push(Act::Clear(Marks::Forgotten));
        }
        // Other servers stop by themselves.
        let stops = |turn: &Value| turn.get("interrupt_response") != Some(&Value::Bool(false));
        if !self.agent.turn_detection.as_ref().is_none_or(stops) {
            self.cancel(acts);
        }
    }

    /// The caller goes on before anything of the answer is heard: it is one to half a sentence, and the switch has
    /// nothing to judge.
    fn forestalled(&mut self, acts: &mut Vec<Act>) {
        if self.answering && !self.sounds {
            self.stay(SPOKEN_OVER, acts);
            self.cancel(acts);
        }
    }

    /// The switch dropped what was queued, for `why`. The server may know nothing of it yet.
    fn cut(&mut self, why: &'static str, acts: &mut Vec<Act>) {
        self.stay(why, acts);
        if self.items.is_speaking() {
            self.items.clear();
            self.from.reset();
            // How much of it was played comes back, exact to the sample.
            acts.push(Act::Clear(Marks::Forgotten));
        }
        self.cancel(acts);
    }

    /// Who speaks over a goodbye, or is on hold, has not heard it: the call goes on, and the model knows `why`.
    fn stay(&mut self, why: &'static str, acts: &mut Vec<Act>) {
        let Calls { waiting, ending, .. } = &mut self.calls;
        waiting.retain(|(call, wish)| {
            let is_end = *wish == Wish::HangUp;
            if is_end {
                ending.push_back(call.clone());
            }
            !is_end
        });
        // What it asks for behind words that were cut is as little heard.
        self.cut_for = self.answering.then_some(why);
        if !ending.is_empty() {
            acts.push(Act::Stay);
        }
        for call in ending.drain(..) {
            acts.push(send(encode::function_output(&call, &json!({"error": why}))));
        }
    }

    /// An answer is over.
    fn done(&mut self, outcome: Outcome, acts: &mut Vec<Act>) {
        (self.answering, self.cut_for) = (false, None);
        if self.sounds && outcome == Outcome::Made {
            acts.push(Act::Over);
        }
        self.ask(acts);
        match outcome {
            Outcome::Made => self.failures = 0,
            // The server answers by itself once the caller has spoken.
            Outcome::Cancelled => (self.failures, self.owes_answer) = (0, false),
            Outcome::Failed => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    return acts.push(Act::Fail);
                }
                self.owes_answer = true;
            }
        }
        if std::mem::take(&mut self.owes_answer) {
            acts.push(send(encode::response_create()));
        }
    }

    /// Lets the model answer: at once, or after the answer that is being made, for there cannot be two.
    fn answer(&mut self, acts: &mut Vec<Act>) {
        if self.answering {
            self.owes_answer = true;
        } else {
            acts.push(send(encode::response_create()));
        }
    }

    /// Ends the answer that is being made, if one is, once.
    fn cancel(&mut self, acts: &mut Vec<Act>) {
        if self.answering && !self.cancelled {
            self.cancelled = true;
            acts.push(send(encode::response_cancel()));
        }
    }

    /// What the server is given of the call so far.
    fn recall(&self, past: Past<'_>) -> Vec<bytes::Bytes> {
        let turn = |said: &Said| match said.by_agent {
            true => encode::agent_text(&said.text, self.agent.is_beta),
            false => encode::user_text(&said.text),
        };
        let mut items: Vec<_> = past.story.turns().map(turn).collect();
        if past.story.turns().last().is_some_and(|last| last.by_agent) {
            items.push(encode::user_text(RECALL));
        }
        items
    }

    fn called(
        &mut self,
        call: String,
        (name, arguments): (Option<String>, Option<String>),
        acts: &mut Vec<Act>,
    ) {
        if self.calls.done.contains(&call) {
            return;
        }
        let known = || {
            let named = self.calls.named.iter().find(|(id, _)| *id == call);
            named.map(|(_, name)| name.clone())
        };
        let name = name.or_else(known);
        match (name, arguments) {
            (Some(name), Some(arguments)) => {
                keep(&mut self.calls.done, call.clone());
                match (self.wish(&name, &arguments), self.cut_for) {
                    (Ok(Wish::HangUp), Some(why)) => {
                        acts.push(send(encode::function_output(&call, &json!({"error": why}))));
                    }
                    (Ok(wish), _) if self.calls.waiting.len() < AGENT_WISHES_MAX => {
                        self.calls.waiting.push_back((call, wish));
                        if !self.answering {
                            self.ask(acts);
                        }
                    }
                    (Ok(_), _) => self.refuse(&call, "too much was asked for at once", acts),
                    (Err(why), _) => self.refuse(&call, why, acts),
                }
            }
            (Some(name), None) => keep(&mut self.calls.named, (call, name)),
            (None, _) => (),
        }
    }

    fn wish(&self, name: &str, arguments: &str) -> Result<Wish, &'static str> {
        if !self.agent.tools.iter().any(|tool| tool == name) {
            return Err("there is no such function");
        }
        let arguments: Value =
            serde_json::from_str(arguments).map_err(|_| "the arguments are no JSON")?;
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).map(str::to_owned);
        match name {
            END_CALL => Ok(Wish::HangUp),
            TRANSFER_CALL => {
                let to = text("to").ok_or("`to` is missing")?;
                let allowed = &self.agent.transfer_to;
                // Whoever talks the model into anything is not to be put through to anybody.
                let may =
                    if allowed.is_empty() { !to.contains(':') } else { allowed.contains(&to) };
                if may {
                    Ok(Wish::Transfer(to))
                } else {
                    Err("the caller may not be connected there")
                }
            }
            SEND_DTMF => text("digits").map(Wish::Digits).ok_or("`digits` is missing"),
            _ => Err("there is no such function"),
        }
    }

    /// The answer is whole: what its function calls ask for happens once it was heard.
    fn ask(&mut self, acts: &mut Vec<Act>) {
        while let Some((call, wish)) = self.calls.waiting.pop_front() {
            match &wish {
                Wish::HangUp => self.calls.ending.push_back(call),
                // Who is connected with somebody else is not spoken to.
                Wish::Transfer(_) => self.calls.asked.push_back(Asked { call, goes_on: false }),
                Wish::Digits(_) => self.calls.asked.push_back(Asked { call, goes_on: true }),
            }
            acts.push(Act::Ask(wish, When::Played));
        }
    }

    fn refuse(&mut self, call: &str, why: &str, acts: &mut Vec<Act>) {
        acts.push(send(encode::function_output(call, &json!({"error": why}))));
        self.answer(acts);
    }

    fn answered(&mut self, answer: Result<(), &str>, acts: &mut Vec<Act>) {
        let Some(Asked { call, goes_on }) = self.calls.asked.pop_front() else { return };
        match answer {
            Ok(()) => {
                let done = json!({"status": "done"});
                acts.push(send(encode::function_output(&call, &done)));
                if goes_on {
                    self.answer(acts);
                }
            }
            Err(why) => self.refuse(&call, why, acts),
        }
    }

    fn append(
        &mut self,
        push: impl FnOnce(&mut ToAgent, &mut BytesMut),
        wide: bool,
        acts: &mut Vec<Act>,
    ) {
        self.from.to_wide(wide);
        self.audio.clear();
        push(&mut self.to, &mut self.audio);
        encode::append(&self.audio, &mut self.message);
        self.audio.clear();
        acts.push(send(self.message.split().freeze()));
    }

    fn say(&mut self, words: &str, acts: &mut Vec<Act>) {
        acts.push(send(encode::user_text(words)));
        self.answer(acts);
    }
}

impl Dialect for Realtime {
    fn open(&mut self, past: Option<Past<'_>>, _: &mut Vec<Act>) {
        self.state = State::New;
        self.answering = false;
        self.cancelled = false;
        self.sounds = false;
        self.owes_answer = false;
        self.failures = 0;
        self.opening = match past {
            Some(past) if !past.story.is_empty() => Opening::Past(self.recall(past)),
            Some(_) | None => Opening::Greeting,
        };
        self.items.disown();
        self.calls = Calls::default();
        self.from.reset();
    }

    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        match decode::decode(text)? {
            ServerEvent::SessionCreated if self.state == State::New => {
                self.state = State::Updating;
                acts.push(send(encode::session_update(&self.agent)));
            }
            ServerEvent::SessionUpdated => self.updated(acts),
            ServerEvent::ResponseCreated => {
                (self.answering, self.cancelled, self.sounds) = (true, false, false);
                self.cut_for = None;
            }
            ServerEvent::ResponseDone(..) if self.state != State::Running => {
                acts.push(Act::Unknown);
            }
            ServerEvent::ResponseDone(outcome, why) => {
                if outcome == Outcome::Failed {
                    acts.extend(why.or_else(|| FaultWord::of(UNEXPLAINED)).map(Act::Complain));
                }
                self.done(outcome, acts);
            }
            // Before that its audio is in a format nobody agreed on.
            ServerEvent::Audio { .. } if self.state != State::Running => acts.push(Act::Unknown),
            ServerEvent::Audio { item, content_index, delta } => {
                self.play((&item, content_index), &delta, acts)?;
            }
            // Whether it speaks over what is heard is found out elsewhere.
            ServerEvent::SpeechStarted if self.pauses => self.forestalled(acts),
            ServerEvent::SpeechStarted => self.interrupted(acts),
            ServerEvent::FunctionCall { call, name, arguments } => {
                self.called(call, (name, arguments), acts);
            }
            ServerEvent::AgentSaid(text) => note(true, text, acts),
            ServerEvent::CallerSaid(text) => note(false, text, acts),
            // It makes one already: by itself, or we asked before it told us. That one knows nothing of what was told since.
            ServerEvent::Error(word)
                if self.state == State::Running && word.as_str() == ALREADY_ANSWERS =>
            {
                self.owes_answer = true;
            }
            // Before the session is as we want it nobody can be spoken with.
            ServerEvent::Error(word) => {
                acts.push(Act::Complain(word));
                if self.state != State::Running {
                    acts.push(Act::Fail);
                }
            }
            // Much is told that is of no use here.
            ServerEvent::Other => (),
            ServerEvent::SessionCreated | ServerEvent::Unknown => acts.push(Act::Unknown),
        }
        Ok(())
    }

    fn binary(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
        Err(Garbled::Bytes)
    }

    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
        match news {
            News::Audio(frame) => self.append(|to, audio| to.push(frame, audio), false, acts),
            News::WideAudio(wide) => self.append(|to, audio| to.push_wide(wide, audio), true, acts),
            News::Digit(digit) => {
                self.say(&format!("The caller pressed {digit} on the telephone keypad."), acts);
            }
            News::Cleared(played) => {
                for cut in self.items.cleared(played) {
                    let text = encode::truncate(&cut.item, cut.content_index, cut.audio_end_ms);
                    acts.push(send(text));
                }
            }
            News::Answer(answer) => self.answered(answer, acts),
            News::TransferFailed(HangupCause::Normal) => {
                self.say("The transfer was withdrawn, and the caller hears you again.", acts);
            }
            News::TransferFailed(cause) => {
                let why = cause.text();
                self.say(
                    &format!("The caller could not be connected ({why}), and hears you again."),
                    acts,
                );
            }
            News::BargeIn(_) if self.is_cut => self.cut(SPOKEN_OVER, acts),
            // It is dropped, whoever is to be interrupted by whom.
            News::Unheard(_) => self.cut(NOT_HEARD, acts),
            News::Relinked => self.items.forget(),
            News::SkippedFrames(_)
            | News::Mark(_)
            | News::Level(_)
            | News::BargeIn(_)
            | News::Ended => (),
        }
    }

    /// A server whose session ends has not said that the call is over.
    fn leaves_by_closing(&self) -> bool {
        false
    }
}

fn send(text: bytes::Bytes) -> Act {
    Act::Send(Message::Text(text))
}

fn note(by_agent: bool, mut text: String, acts: &mut Vec<Act>) {
    text.truncate(text.floor_char_boundary(AGENT_SAID_BYTES_MAX));
    if !text.trim().is_empty() {
        acts.push(Act::Note(Said { by_agent, text }));
    }
}

fn keep<T>(known: &mut VecDeque<T>, new: T) {
    if known.len() >= CALLS_KNOWN_MAX {
        known.pop_front();
    }
    known.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dialect::testing::torment;
    use crate::types::agent::Access;
    use crate::types::agent::AgentAudio;
    use crate::types::secret::Secret;
    use std::time::Duration;

    fn agent() -> RealtimeAgent {
        RealtimeAgent {
            url: "wss://x/".to_owned(),
            access: Access::default(),
            api_key: Secret::default(),
            is_bearer: true,
            is_beta: false,
            audio: AgentAudio::L16 { rate: 24_000 },
            instructions: String::new(),
            voice: None,
            greets: true,
            transcription_model: None,
            turn_detection: Some(json!({"type": "server_vad", "interrupt_response": false})),
            tools: vec![END_CALL.to_owned(), SEND_DTMF.to_owned()],
            transfer_to: Vec::new(),
            connect_timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn no_events_break_a_session() {
        const WORDS: &[&str] = &[
            "{",
            "}",
            "\"type\":",
            "\"session.updated\"",
            ",",
            "\"delta\":\"AAAA\"",
            "null",
            "[",
            "{\"type\":\"session.created\"}",
            "{\"type\":\"session.updated\"}",
            "{\"type\":\"response.created\"}",
            "{\"type\":\"response.done\"}",
            "{\"type\":\"response.done\",\"response\":{\"status\":\"cancelled\"}}",
            "{\"type\":\"error\"}",
            "{\"type\":\"error\",\"error\":{\"code\":\"conversation_already_has_active_response\"}}",
            "{\"type\":\"input_audio_buffer.speech_started\"}",
            "{\"type\":\"response.audio.delta\",\"item_id\":\"a\",\"delta\":\"AAAAAAAAAAAA\"}",
            "{\"type\":\"response.audio.delta\",\"item_id\":\"b\",\"delta\":\"?\"}",
            "{\"type\":\"response.audio_transcript.done\",\"transcript\":\"x\"}",
            "{\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"send_dtmf\",\"arguments\":\"{}\"}}",
            "{\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"call_id\":\"2\",\"name\":\"end_call\",\"arguments\":\"{}\"}}",
        ];
        torment(|| Box::new(Realtime::new(&agent(), true)), WORDS);
    }

    #[test]
    fn an_answer_is_cancelled_where_the_server_does_not_do_it_by_itself() {
        let mut realtime = Realtime::new(&agent(), true);
        let mut acts = Vec::new();
        for event in ["session.created", "session.updated", "response.created"] {
            realtime.text(format!("{{\"type\":\"{event}\"}}").as_bytes(), &mut acts).unwrap();
        }
        acts.clear();
        realtime.text(br#"{"type":"input_audio_buffer.speech_started"}"#, &mut acts).unwrap();
        assert_eq!(acts, [send(encode::response_cancel())], "nothing was queued");
    }

    fn running(is_cut: bool) -> Realtime {
        let mut realtime = Realtime::new(&agent(), is_cut);
        begun(&mut realtime);
        realtime
    }

    /// The session is there, and its first answer is being made.
    fn begun(realtime: &mut Realtime) {
        for event in ["session.created", "session.updated", "response.created"] {
            given(realtime, &format!("{{\"type\":\"{event}\"}}"));
        }
    }

    fn given(realtime: &mut Realtime, event: &str) -> Vec<Act> {
        let mut acts = Vec::new();
        realtime.text(event.as_bytes(), &mut acts).unwrap();
        acts
    }

    fn told(realtime: &mut Realtime, news: News<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        realtime.tell(news, &mut acts);
        acts
    }

    /// So many ms of an item.
    fn says(realtime: &mut Realtime, item: &str, ms: usize) {
        let delta =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![0; ms * 48]);
        let event = json!({"type": "response.output_audio.delta", "item_id": item, "delta": delta});
        given(realtime, &event.to_string());
    }

    #[test]
    fn an_interruption_by_the_switch_cancels_the_answer_and_truncates_it_where_it_was_heard() {
        let mut realtime = running(true);
        says(&mut realtime, "a", 500);
        let acts = told(&mut realtime, News::BargeIn(120));
        assert_eq!(acts, [Act::Clear(Marks::Forgotten), send(encode::response_cancel())]);
        assert_eq!(told(&mut realtime, News::Cleared(960)), [send(encode::truncate("a", 0, 120))]);
        // The server heard it too, a moment later.
        assert_eq!(given(&mut realtime, r#"{"type":"input_audio_buffer.speech_started"}"#), []);
        says(&mut realtime, "a", 100);
        assert!(!realtime.items.is_speaking(), "what comes late of it is dropped");

        let mut notified = running(false);
        says(&mut notified, "a", 500);
        assert_eq!(told(&mut notified, News::BargeIn(120)), [], "the switch plays on");
    }

    #[test]
    fn what_nobody_heard_is_cut_whoever_judges_interruptions() {
        for is_cut in [true, false] {
            let mut realtime = running(is_cut);
            says(&mut realtime, "a", 500);
            let acts = told(&mut realtime, News::Unheard(120));
            assert_eq!(acts, [Act::Clear(Marks::Forgotten), send(encode::response_cancel())]);
            let acts = told(&mut realtime, News::Cleared(960));
            assert_eq!(acts, [send(encode::truncate("a", 0, 120))]);
            given(&mut realtime, CANCELLED);
            // Of a goodbye nothing is heard: the call goes on.
            given(&mut realtime, CREATED);
            says(&mut realtime, "b", 500);
            calls(&mut realtime, "c", END_CALL, &json!({}));
            let acts = told(&mut realtime, News::Unheard(0));
            let stays = [Act::Stay, output("c", &json!({"error": NOT_HEARD}))];
            assert_eq!(acts[..2], stays);
            let acts = told(&mut realtime, News::Cleared(0));
            assert_eq!(acts, [send(encode::truncate("b", 0, 0))]);
            // Nor where it asks for the end behind that.
            let acts = calls(&mut realtime, "d", END_CALL, &json!({}));
            assert_eq!(acts, [output("d", &json!({"error": NOT_HEARD}))]);
            let acts = given(&mut realtime, DONE);
            assert!(!acts.iter().any(|act| matches!(act, Act::Ask(..))), "{acts:?}");
        }
    }

    #[test]
    fn a_caller_who_is_taken_for_speaking_pauses_an_answer_and_ends_it_once_the_switch_is_sure() {
        let mut agent = agent();
        for given in [None, Some(json!({"type": "semantic_vad"})), Some(Value::Null)] {
            agent.turn_detection = given.clone();
            let mut realtime = Realtime::new(&agent, true).pausing();
            let acts = super::tests::given(&mut realtime, r#"{"type":"session.created"}"#);
            let [Act::Send(Message::Text(update))] = &acts[..] else { panic!("{acts:?}") };
            let update: Value = serde_json::from_slice(update).unwrap();
            let turns = &update["session"]["audio"]["input"]["turn_detection"];
            match given {
                Some(Value::Null) => assert!(turns.is_null(), "{update}"),
                Some(_) | None => assert_eq!(turns["interrupt_response"], false, "{update}"),
            }
        }
        let mut realtime = Realtime::new(&agent, true).pausing();
        begun(&mut realtime);
        says(&mut realtime, "a", 500);
        // What was no speech: what is queued stays, and goes on.
        assert_eq!(given(&mut realtime, SPEECH), []);
        assert!(realtime.items.is_speaking());
        let acts = told(&mut realtime, News::BargeIn(120));
        assert_eq!(acts, [Act::Clear(Marks::Forgotten), send(encode::response_cancel())]);
    }

    #[test]
    fn an_answer_of_which_nothing_is_heard_yet_ends_where_the_caller_goes_on() {
        let mut realtime = Realtime::new(&agent(), true).pausing();
        begun(&mut realtime);
        assert_eq!(given(&mut realtime, SPEECH), [send(encode::response_cancel())]);
        says(&mut realtime, "a", 100);
        assert!(!realtime.items.is_speaking(), "what comes late of it is dropped");
        given(&mut realtime, CANCELLED);
        given(&mut realtime, CREATED);
        says(&mut realtime, "b", 500);
        assert!(realtime.items.is_speaking());
        assert_eq!(given(&mut realtime, SPEECH), [], "the switch judges");
        assert_eq!(given(&mut realtime, DONE), [Act::Over], "no gap follows it");
        // Another, while the one before may still be heard: that goes on.
        given(&mut realtime, CREATED);
        calls(&mut realtime, "c", END_CALL, &json!({}));
        let stays = [Act::Stay, output("c", &json!({"error": SPOKEN_OVER}))];
        let acts = given(&mut realtime, SPEECH);
        assert_eq!((&acts[..2], &acts[2..]), (&stays[..], &[send(encode::response_cancel())][..]));
        assert!(realtime.items.is_speaking());
    }

    const CREATED: &str = r#"{"type":"response.created"}"#;
    const DONE: &str = r#"{"type":"response.done","response":{"status":"completed"}}"#;
    const FAILED: &str = r#"{"type":"response.done","response":{"status":"failed"}}"#;
    const CANCELLED: &str = r#"{"type":"response.done","response":{"status":"cancelled"}}"#;
    const ALREADY: &str = r#"{"type":"error","error":{"type":"invalid_request_error","code":"conversation_already_has_active_response"}}"#;
    const SPEECH: &str = r#"{"type":"input_audio_buffer.speech_started"}"#;

    fn calls(realtime: &mut Realtime, id: &str, name: &str, arguments: &Value) -> Vec<Act> {
        let item = json!({"type": "function_call", "call_id": id, "name": name,
            "arguments": arguments.to_string()});
        given(realtime, &json!({"type": "response.output_item.done", "item": item}).to_string())
    }

    fn output(call: &str, output: &Value) -> Act {
        send(encode::function_output(call, output))
    }

    #[test]
    fn what_is_told_while_an_answer_is_made_is_answered_once_after_it() {
        let mut realtime = running(true);
        let why = json!({"error": "there is no such function"});
        assert_eq!(calls(&mut realtime, "a", "dance", &json!({})), [output("a", &why)]);
        assert_eq!(calls(&mut realtime, "b", "sing", &json!({})), [output("b", &why)]);
        let told_key = told(&mut realtime, News::Digit('5'));
        assert_eq!(told_key.len(), 1, "one answer is being made: {told_key:?}");
        assert_eq!(given(&mut realtime, DONE), [send(encode::response_create())], "one for all");
        given(&mut realtime, CREATED);
        assert_eq!(given(&mut realtime, DONE), [], "nothing is owed any more");
        assert_eq!(
            told(&mut realtime, News::Digit('5')).last(),
            Some(&send(encode::response_create()))
        );
        // Whoever speaks over an answer is answered by the server itself.
        given(&mut realtime, CREATED);
        calls(&mut realtime, "c", "dance", &json!({}));
        assert_eq!(given(&mut realtime, CANCELLED), []);
        given(&mut realtime, CREATED);
        assert_eq!(given(&mut realtime, DONE), []);
    }

    #[test]
    fn what_is_told_before_the_server_says_that_it_answers_is_answered_too() {
        let mut realtime = running(true);
        assert_eq!(given(&mut realtime, DONE), []);
        for key in ['1', '2', '3'] {
            let told_key = told(&mut realtime, News::Digit(key));
            assert_eq!(told_key.last(), Some(&send(encode::response_create())), "{key}");
        }
        assert_eq!(given(&mut realtime, CREATED), []);
        // As many as it was asked for too many.
        assert_eq!(given(&mut realtime, ALREADY), [], "it is no fault");
        assert_eq!(given(&mut realtime, ALREADY), []);
        assert_eq!(given(&mut realtime, DONE), [send(encode::response_create())], "one for all");
        given(&mut realtime, CREATED);
        assert_eq!(given(&mut realtime, DONE), [], "nothing is owed any more");
        // What it is told before it says that one is being made.
        told(&mut realtime, News::Digit('4'));
        assert_eq!(given(&mut realtime, ALREADY), []);
        given(&mut realtime, CREATED);
        assert_eq!(given(&mut realtime, DONE), [send(encode::response_create())]);
        // Before the session is as we want it that is an error like any other.
        let mut new = Realtime::new(&agent(), true);
        assert_eq!(given(&mut new, ALREADY).last(), Some(&Act::Fail));
    }

    #[test]
    fn keys_that_were_sent_give_the_model_the_word() {
        let mut realtime = running(true);
        calls(&mut realtime, "a", SEND_DTMF, &json!({"digits": "1"}));
        let wish = Act::Ask(Wish::Digits("1".to_owned()), When::Played);
        assert_eq!(given(&mut realtime, DONE), [wish]);
        let done = [output("a", &json!({"status": "done"})), send(encode::response_create())];
        assert_eq!(told(&mut realtime, News::Answer(Ok(()))), done);
    }

    #[test]
    fn an_answer_that_fails_is_asked_for_once_more_and_the_second_in_a_row_is_the_end() {
        let sorry = || Act::Complain(FaultWord::of(UNEXPLAINED).expect("a word"));
        let mut realtime = running(true);
        for _ in 0..3 {
            assert_eq!(given(&mut realtime, FAILED), [sorry(), send(encode::response_create())]);
            given(&mut realtime, CREATED);
            assert_eq!(given(&mut realtime, DONE), [], "one that is made forgives");
        }
        assert_eq!(given(&mut realtime, FAILED), [sorry(), send(encode::response_create())]);
        given(&mut realtime, CREATED);
        assert_eq!(given(&mut realtime, FAILED), [sorry(), Act::Fail]);
        realtime.open(None, &mut Vec::new());
        assert_eq!(given(&mut realtime, FAILED), [Act::Unknown], "there is no session yet");
        begun(&mut realtime);
        assert_eq!(given(&mut realtime, FAILED).len(), 2, "another session begins anew");
    }

    #[test]
    fn a_caller_who_speaks_over_the_goodbye_keeps_the_call() {
        // Before the answer is whole, and after it.
        for is_whole in [false, true] {
            let mut realtime = running(true);
            says(&mut realtime, "bye", 500);
            calls(&mut realtime, "a", END_CALL, &json!({}));
            calls(&mut realtime, "b", SEND_DTMF, &json!({"digits": "1"}));
            if is_whole {
                assert_eq!(given(&mut realtime, DONE).len(), 3);
            }
            let acts = given(&mut realtime, SPEECH);
            let stays = [Act::Stay, output("a", &json!({"error": SPOKEN_OVER}))];
            assert_eq!(acts[..2], stays, "{is_whole}");
            assert_eq!(acts[2], Act::Clear(Marks::Forgotten));
            let keys = Act::Ask(Wish::Digits("1".to_owned()), When::Played);
            let rest = if is_whole { vec![] } else { vec![keys] };
            assert_eq!(given(&mut realtime, CANCELLED), rest, "{is_whole}");
            assert!(!told(&mut realtime, News::BargeIn(9)).contains(&Act::Stay), "once");
        }
    }

    #[test]
    fn a_new_session_truncates_its_own_items_in_the_queue_of_the_one_before() {
        let mut realtime = running(true);
        says(&mut realtime, "old", 10_000);
        realtime.open(None, &mut Vec::new());
        begun(&mut realtime);
        says(&mut realtime, "new", 5_000);
        told(&mut realtime, News::BargeIn(1_000));
        let cut = send(encode::truncate("new", 0, 1_000));
        assert_eq!(told(&mut realtime, News::Cleared(11_000 * 8)), [cut]);
    }

    #[test]
    fn another_link_begins_to_count_anew() {
        let mut realtime = running(true);
        says(&mut realtime, "a", 500);
        assert_eq!(told(&mut realtime, News::Relinked), []);
        says(&mut realtime, "b", 500);
        told(&mut realtime, News::BargeIn(100));
        assert_eq!(told(&mut realtime, News::Cleared(800)), [send(encode::truncate("b", 0, 100))]);
    }

    #[test]
    fn a_server_that_is_back_is_given_what_was_said_and_goes_on() {
        let mut story = crate::agent::story::Story::default();
        for (by_agent, text) in [(false, "Hi"), (true, "Hello.")] {
            story.add(Said { by_agent, text: text.to_owned() });
        }
        let how = crate::agent::story::Continuation::Reconnected;
        let mut realtime = running(true);
        let mut acts = Vec::new();
        realtime.open(Some(Past { how, story: &story }), &mut acts);
        given(&mut realtime, r#"{"type":"session.created"}"#);
        let acts = given(&mut realtime, r#"{"type":"session.updated"}"#);
        let expected = [
            send(encode::user_text("Hi")),
            send(encode::agent_text("Hello.", false)),
            send(encode::user_text(RECALL)),
            Act::Ready,
            send(encode::response_create()),
        ];
        assert_eq!(acts, expected);
    }
}
