//! Streams in virtual time.

mod endurance;
mod faults;

use super::*;
use crate::agent::dialect::AUDIO_ROOM_BYTES;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::When;
use crate::agent::session::AgentCall;
use crate::agent::story::Past;
use crate::agent::twilio::dialect::Twilio;
use crate::audio::link::FRAME_BYTES;
use crate::types::agent::Access;
use crate::types::agent::TwilioAgent;
use crate::types::agent_trouble::Garbage;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_GARBAGE_MAX;
use crate::types::limit::AGENT_MARK_BYTES_MAX;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::limit::AGENT_OUTBOX_EVENTS_MAX;
use crate::types::limit::AGENT_OUTBOX_FRAMES_MAX;
use crate::types::limit::AGENT_WISHES_MAX;
use crate::types::secret::Secret;
use crate::types::trace_context::TraceContext;
use bytes::Bytes;
use uuid::Uuid;

/// A stream in virtual time, with what it asked for since the last look.
struct Lab {
    stream: AgentStream,
    now: Moment,
    out: Vec<Output>,
}

impl Lab {
    fn new() -> Self {
        let agent = TwilioAgent {
            url: "ws://agent/".to_owned(),
            auth_token: Secret::default(),
            parameters: vec![("to_number".to_owned(), "mine".to_owned())],
            access: Access::default(),
            connect_timeout: Duration::from_secs(3),
        };
        let mut variables = CallVariables::default();
        for (name, value) in [("carrier_call", "CA9"), ("from_number", "forged")] {
            variables.set(name.parse().unwrap(), value.parse().unwrap());
        }
        let call = AgentCall {
            call_id: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            caller: "+15550111".to_owned(),
            dialled: "+15550100".parse().unwrap(),
            variables,
            trace: Some(TraceContext { trace: 10, span: 11, is_sampled: true }),
            before: None,
        };
        let dialect: Box<dyn Dialect> = Box::new(Twilio::new(&agent, &call));
        let stream = AgentStream::new((dialect, agent.connect_timeout));
        Self { stream, now: Moment::from_millis(1_000), out: Vec::new() }
    }

    fn open() -> Self {
        let mut lab = Self::new();
        lab.put(Input::Started);
        lab.put(Input::Connected);
        lab.put(Input::CallAnswered);
        lab.out.clear();
        lab
    }

    fn put(&mut self, input: Input<'_>) {
        self.stream.handle(self.now, input, &mut self.out);
    }

    fn text(&mut self, text: &str) {
        self.put(Input::Text(text.as_bytes()));
    }

    fn mark(&mut self, name: &str) {
        self.text(&format!(r#"{{"event":"mark","mark":{{"name":"{name}"}}}}"#));
    }

    /// Goes to the deadline and says so; returns how long that took.
    fn wait(&mut self) -> Duration {
        let deadline = self.stream.deadline().expect("a deadline");
        let waited = deadline.since(self.now);
        self.now = deadline;
        self.put(Input::DeadlineReached);
        waited
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The messages sent since the last look, and nothing else.
    fn sent(&mut self) -> Vec<serde_json::Value> {
        let sent = self.take().into_iter().filter_map(|output| match output {
            Output::Send(text) => Some(serde_json::from_slice(&text).unwrap()),
            _ => None,
        });
        sent.collect()
    }

    fn echoed(&mut self) -> Vec<String> {
        let sent = self.sent();
        let marks = sent.iter().filter(|message| message["event"] == "mark");
        marks.map(|message| message["mark"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_frame_is_told_in_fewer_steps_only_where_it_would_be_told_at_once() {
    let mut lab = Lab::new();
    let write = |lab: &mut Lab| {
        let mut text = Vec::new();
        let is_told = lab.stream.write_frame(&[1; FRAME_BYTES], &mut text);
        assert_eq!(is_told, !text.is_empty());
        is_told.then(|| serde_json::from_slice::<serde_json::Value>(&text).unwrap())
    };
    for input in [Input::Started, Input::Connected] {
        assert_eq!(write(&mut lab), None, "nobody is there");
        lab.put(input);
    }
    lab.out.clear();
    lab.put(Input::Audio(&[1; FRAME_BYTES]));
    let sent = lab.sent();
    let [first] = &sent[..] else { panic!("{sent:?}") };
    let second = write(&mut lab).expect("it is there");
    assert_eq!(first["media"]["timestamp"], "20");
    assert_eq!(second["media"]["timestamp"], "40");
    assert_eq!(second["media"]["payload"], first["media"]["payload"]);
    assert_eq!(lab.stream.counters().frames_sent, 2);
    lab.put(Input::SendBlocked);
    assert_eq!(write(&mut lab), None, "what waits comes first");
    lab.put(Input::SendReady);
    assert!(write(&mut lab).is_some());
    lab.put(Input::PeerClosed(PeerClose::Dropped));
    assert_eq!(write(&mut lab), None, "nobody is there any more");
    assert_eq!(lab.stream.counters().frames_sent, 3);
}

#[test]
fn audio_is_read_in_fewer_steps_only_where_it_would_be_played_at_once() {
    let media = r#"{"event":"media","media":{"payload":"AAEC"}}"#;
    let mut lab = Lab::new();
    let read = |lab: &mut Lab, text: &str| {
        let mut room = [0; AUDIO_ROOM_BYTES];
        lab.stream.read_audio(text.as_bytes(), &mut room).map(<[u8]>::to_vec)
    };
    for input in [Input::Started, Input::Connected] {
        assert_eq!(read(&mut lab, media), None, "nobody is there");
        lab.put(input);
    }
    lab.out.clear();
    lab.text(media);
    assert_eq!(lab.take(), [Output::Play(Bytes::from_static(&[0, 1, 2]))]);
    let before = lab.stream.counters();
    assert_eq!(read(&mut lab, media), Some(vec![0, 1, 2]));
    assert_eq!(lab.take(), [], "it was given");
    let after = lab.stream.counters();
    assert_eq!((before.messages, before.audio_bytes), (1, 3));
    assert_eq!((after.messages, after.audio_bytes), (2, 6));
    assert!(lab.stream.spoke);
    assert_eq!(read(&mut lab, r#"{"event":"clear"}"#), None);
    assert_eq!(lab.stream.counters().messages, 2, "it is read another way");
    lab.put(Input::PeerClosed(PeerClose::Dropped));
    assert_eq!(read(&mut lab, media), None, "nobody is there any more");
}

#[test]
fn connected_and_start_come_before_anything_else() {
    let mut lab = Lab::new();
    lab.put(Input::Started);
    assert_eq!(lab.take(), [Output::Connect]);
    lab.put(Input::Audio(&[1; FRAME_BYTES]));
    lab.put(Input::Digit('1'));
    assert_eq!(lab.take(), [], "nothing is sent before the stream is open");
    lab.put(Input::Connected);
    assert_eq!(lab.out.last(), Some(&Output::Ready));
    let sent = lab.sent();
    assert_eq!(sent[0]["event"], "connected");
    assert_eq!(sent[1]["event"], "start");
    let start = &sent[1]["start"];
    assert_eq!(start["callSid"], "CA00000000000000000000000000000001");
    assert_eq!(start["accountSid"], "AC00000000000000000000000000000002");
    assert_eq!(start["streamSid"], sent[1]["streamSid"]);
    assert_eq!(start["customParameters"]["from_number"], "+15550111");
    assert_eq!(start["customParameters"]["to_number"], "mine", "the profile has the last word");
    let trace = "00-0000000000000000000000000000000a-000000000000000b-01";
    assert_eq!(start["customParameters"]["traceparent"], trace);
    assert_eq!(start["customParameters"]["carrier_call"], "CA9", "a variable of the call");
    assert_eq!(sent.len(), 2);
}

#[test]
fn an_agent_that_hangs_or_refuses_is_dialled_twice_and_given_up() {
    let mut lab = Lab::new();
    lab.put(Input::Started);
    lab.take();
    assert_eq!(lab.wait(), Duration::from_secs(3));
    assert_eq!(lab.take(), [Output::Close]);
    assert_eq!(lab.wait(), RETRY_PAUSE);
    assert_eq!(lab.take(), [Output::Connect]);
    lab.put(Input::ConnectFailed);
    assert_eq!(lab.take(), [Output::Close, Output::Failed(HangupCause::AgentUnreachable)]);
    assert_eq!(lab.stream.deadline(), None);
    lab.put(Input::Connected);
    assert_eq!(lab.take(), [], "a dial that was given up changes nothing");
    assert_eq!(lab.stream.counters().connects, 2);
}

#[test]
fn a_deadline_told_too_early_changes_nothing() {
    let mut lab = Lab::new();
    lab.put(Input::Started);
    lab.take();
    lab.put(Input::DeadlineReached);
    assert_eq!(lab.take(), []);
}

#[test]
fn marks_are_echoed_in_order_once_played() {
    let mut lab = Lab::open();
    lab.mark("a");
    lab.text(r#"{"event":"media","media":{"payload":"/w=="}}"#);
    lab.mark("a");
    lab.text(r#"{"event":"mark"}"#);
    let played = [Output::Mark(1), Output::Play(vec![0xff].into()), Output::Mark(2)];
    assert_eq!(lab.take(), [&played[..], &[Output::Mark(3)]].concat());
    lab.put(Input::MarkPlayed(1));
    assert_eq!(lab.echoed(), ["a"]);
    lab.put(Input::MarkPlayed(3));
    assert_eq!(lab.echoed(), ["a", ""], "a mark before a played one was played too");
    lab.put(Input::MarkPlayed(3));
    assert_eq!(lab.echoed(), [""; 0]);
}

#[test]
fn a_clear_echoes_every_pending_mark_at_once_and_only_once() {
    let mut lab = Lab::open();
    for name in ["a", "b", "c"] {
        lab.mark(name);
    }
    lab.take();
    lab.text(r#"{"event":"clear"}"#);
    assert_eq!(lab.out.first(), Some(&Output::Clear));
    assert_eq!(lab.echoed(), ["a", "b", "c"]);
    lab.mark("d");
    lab.put(Input::Cleared(0));
    lab.put(Input::MarkPlayed(3));
    assert_eq!(lab.echoed(), [""; 0], "the media's answer repeats nothing");
    lab.put(Input::MarkPlayed(4));
    assert_eq!(lab.echoed(), ["d"]);
}

#[test]
fn too_many_marks_echo_the_oldest_and_long_names_are_cut() {
    let mut lab = Lab::open();
    lab.mark(&"é".repeat(AGENT_MARK_BYTES_MAX));
    for _ in 0..AGENT_MARKS_MAX {
        lab.mark("x");
    }
    assert_eq!(lab.echoed(), ["é".repeat(AGENT_MARK_BYTES_MAX / 2)]);
    assert_eq!(lab.stream.marks.len(), AGENT_MARKS_MAX);
}

#[test]
fn a_stalled_agent_costs_the_oldest_audio_only() {
    let mut lab = Lab::open();
    lab.put(Input::SendBlocked);
    lab.put(Input::Digit('7'));
    for _ in 0..AGENT_OUTBOX_FRAMES_MAX + 10 {
        lab.put(Input::Audio(&[1; FRAME_BYTES]));
    }
    assert_eq!(lab.take(), []);
    lab.put(Input::SendReady);
    let sent = lab.sent();
    assert_eq!(sent[0]["dtmf"]["digit"], "7");
    assert_eq!(sent[1]["media"]["timestamp"], "220", "ten frames are missing before it");
    assert_eq!(sent[1]["media"]["chunk"], "1");
    assert_eq!(sent.len(), AGENT_OUTBOX_FRAMES_MAX + 1);
    assert_eq!(lab.stream.counters().frames_dropped, 10);
    lab.put(Input::Audio(&[1; FRAME_BYTES]));
    assert_eq!(lab.sent().len(), 1, "the stream goes on");
}

#[test]
fn garbage_is_borne_to_a_limit_and_unknown_events_without_one() {
    let mut lab = Lab::open();
    for _ in 0..1_000 {
        lab.text(r#"{"event":"dance"}"#);
    }
    for n in 1..AGENT_GARBAGE_MAX {
        if n % 2 == 0 { lab.put(Input::Binary(&[0])) } else { lab.text("{") }
    }
    assert_eq!(lab.take(), []);
    lab.text(r#"{"event":"media","media":{"payload":"?"}}"#);
    assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentGarbage), Output::Close]);
    let counters = lab.stream.counters();
    let garbage = Garbage { json: 50, payload: 0, base64: 1, binary: 49 };
    assert_eq!((counters.garbage, counters.unknown), (garbage, 1_000));
    assert_eq!(garbage.total(), AGENT_GARBAGE_MAX);
}

#[test]
fn an_agent_that_answers_no_ping_is_lost() {
    let mut lab = Lab::open();
    assert_eq!(lab.wait(), PING_INTERVAL);
    assert_eq!(lab.take(), [Output::Ping]);
    lab.put(Input::Pong);
    assert_eq!(lab.wait(), PING_INTERVAL);
    assert_eq!(lab.take(), [Output::Ping]);
    assert_eq!(lab.wait(), PONG_TIMEOUT);
    assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentLost), Output::Close]);
}

#[test]
fn pongs_are_not_missed_while_nothing_is_read() {
    let mut lab = Lab::open();
    lab.wait();
    lab.put(Input::PlayoutFull);
    for _ in 0..5 {
        assert!(lab.wait() >= PONG_TIMEOUT);
    }
    assert!(lab.take().iter().all(|output| *output == Output::Ping));
    lab.put(Input::PlayoutRoom);
    lab.wait();
    assert_eq!(lab.wait(), PONG_TIMEOUT);
    assert_eq!(lab.take().last(), Some(&Output::Close), "it must answer once it is read");
}

#[test]
fn a_polite_close_lets_the_last_words_be_played() {
    for code in [None, Some(1000)] {
        let mut lab = Lab::open();
        lab.put(Input::PeerClosed(PeerClose::Frame(code)));
        lab.put(Input::PeerClosed(PeerClose::Dropped));
        assert_eq!(lab.take(), [Output::Finish], "the end of the socket is no news");
        lab.put(Input::Audio(&[0; FRAME_BYTES]));
        assert_eq!(lab.take(), []);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::HangupRequested]);
    }
}

#[test]
fn any_other_end_is_a_loss() {
    let ends = [
        (PeerClose::Dropped, HangupCause::AgentLost),
        (PeerClose::Frame(Some(1001)), HangupCause::AgentLost),
        (PeerClose::Frame(Some(1011)), HangupCause::AgentLost),
        (PeerClose::Violated, HangupCause::AgentGarbage),
    ];
    for (close, cause) in ends {
        let mut lab = Lab::open();
        lab.put(Input::PeerClosed(close));
        assert_eq!(lab.take(), [Output::Lost(cause), Output::Close]);
    }
}

#[test]
fn last_words_before_the_answer_wait_for_it() {
    let mut lab = Lab::new();
    lab.put(Input::Started);
    lab.put(Input::Connected);
    lab.put(Input::PeerClosed(PeerClose::Frame(None)));
    assert_eq!(lab.stream.deadline(), None);
    lab.put(Input::CallAnswered);
    lab.take();
    assert_eq!(lab.wait(), DRAIN_MAX);
    assert_eq!(lab.take(), [Output::HangupRequested]);
}

#[test]
fn the_end_of_the_call_stops_the_stream_in_every_state() {
    let mut lab = Lab::open();
    lab.put(Input::CallEnded);
    assert_eq!(lab.out.last(), Some(&Output::Close));
    let sent = lab.sent();
    assert_eq!((sent.len(), &sent[0]["event"]), (1, &"stop".into()));
    lab.put(Input::CallEnded);
    assert_eq!(lab.take(), [], "once");

    let mut idle = Lab::new();
    idle.put(Input::CallEnded);
    idle.put(Input::Started);
    assert_eq!(idle.take(), []);

    let mut connecting = Lab::new();
    connecting.put(Input::Started);
    connecting.put(Input::CallEnded);
    assert_eq!(connecting.take(), [Output::Connect, Output::Close]);
    assert_eq!(connecting.stream.deadline(), None);
}

/// A dialect of single words.
#[derive(Debug)]
struct Words;

impl Dialect for Words {
    fn open(&mut self, _: Option<Past<'_>>, _: &mut Vec<Act>) {}

    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        acts.push(match text {
            b"here" => Act::Ready,
            b"sorry" => Act::Fail,
            b"bye" => Act::Ask(Wish::HangUp, When::Played),
            b"bye now" => Act::Ask(Wish::HangUp, When::Now),
            b"to sales" => Act::Ask(Wish::Transfer("sales".to_owned()), When::Played),
            b"keys" => Act::Ask(Wish::Digits("12#".to_owned()), When::Played),
            b"stop" => Act::Clear(Marks::Forgotten),
            b"not yet" => Act::Stay,
            b"hold" => Act::Hold(true),
            b"go on" => Act::Hold(false),
            b"mark" => Act::Mark("m".to_owned()),
            _ => return Err(Garbled::NotAMessage),
        });
        Ok(())
    }

    fn binary(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
        Err(Garbled::Bytes)
    }

    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
        acts.push(Act::Send(Message::Text(format!("{news:?}").into())));
    }
}

impl Lab {
    fn of_words() -> Self {
        let dialect: Box<dyn Dialect> = Box::new(Words);
        let stream = AgentStream::new((dialect, Duration::from_secs(3)));
        let mut lab = Self { stream, now: Moment::from_millis(1_000), out: Vec::new() };
        lab.put(Input::Started);
        lab.put(Input::Connected);
        lab
    }

    fn of_words_open() -> Self {
        let mut lab = Self::of_words();
        lab.text("here");
        lab.put(Input::CallAnswered);
        lab.take();
        lab
    }
}

#[test]
fn an_agent_is_there_once_it_says_so_and_dialled_again_when_it_does_not() {
    let mut lab = Lab::of_words();
    assert_eq!(lab.take(), [Output::Connect], "connected is not ready");
    lab.put(Input::Audio(&[1; FRAME_BYTES]));
    assert_eq!(lab.take(), [], "it does not listen yet");
    assert_eq!(lab.wait(), Duration::from_secs(3));
    assert_eq!(lab.take(), [Output::Close]);
    lab.wait();
    lab.put(Input::Connected);
    lab.text("here");
    assert_eq!(lab.take(), [Output::Connect, Output::Ready]);
    lab.text("sorry");
    assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentLost), Output::Close]);

    let mut refused = Lab::of_words();
    refused.text("sorry");
    refused.text("here");
    assert_eq!(refused.take(), [Output::Connect, Output::Close], "a refusal is a dial that failed");
}

#[test]
fn what_an_agent_wants_happens_once_its_words_were_played() {
    let mut lab = Lab::of_words_open();
    lab.text("keys");
    lab.text("to sales");
    lab.text("bye");
    assert_eq!(lab.take(), [Output::Finish, Output::Finish, Output::Finish]);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::DigitsRequested("12#".to_owned())]);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::HangupRequested]);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [], "it asked for no more");
    lab.text("bye now");
    assert_eq!(lab.take(), [Output::HangupRequested]);
}

#[test]
fn a_clear_leaves_nothing_to_wait_for() {
    let mut lab = Lab::of_words_open();
    lab.text("mark");
    lab.text("to sales");
    lab.take();
    lab.text("stop");
    assert_eq!(lab.take(), [Output::Clear, Output::TransferRequested("sales".to_owned())]);
    lab.put(Input::MarkPlayed(1));
    assert_eq!(lab.take(), [], "a forgotten mark is not told");
}

#[test]
fn an_agent_that_stays_after_all_is_not_hung_up() {
    let mut lab = Lab::of_words_open();
    lab.text("bye");
    lab.text("not yet");
    lab.text("stop");
    assert_eq!(lab.take(), [Output::Finish, Output::Clear]);
    // And without a clear: what stands for the end of the call in the queue ends nothing else.
    lab.text("bye");
    lab.text("not yet");
    lab.text("to sales");
    lab.take();
    lab.put(Input::Drained);
    assert_eq!(lab.take(), []);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
    assert!(lab.stream.wishes_due.is_none());
}

#[test]
fn a_wish_whose_words_are_never_said_to_be_played_is_granted_in_the_end() {
    let mut lab = Lab::of_words_open();
    lab.text("bye");
    lab.take();
    let mut waited = Duration::ZERO;
    while !lab.take().contains(&Output::HangupRequested) {
        lab.put(Input::Pong);
        waited += lab.wait();
        assert!(waited <= DRAIN_MAX, "it waits for ever");
    }
    assert_eq!(waited, DRAIN_MAX);
}

#[test]
fn an_agent_that_asked_for_the_end_is_not_missed_when_it_drops_the_connection() {
    let mut lab = Lab::of_words_open();
    lab.text("bye");
    lab.put(Input::PeerClosed(PeerClose::Dropped));
    assert_eq!(lab.take(), [Output::Finish, Output::Finish]);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::HangupRequested]);
}

#[test]
fn a_transfer_wanted_before_the_agent_left_is_made() {
    let mut lab = Lab::of_words_open();
    lab.text("to sales");
    lab.put(Input::PeerClosed(PeerClose::Frame(None)));
    lab.take();
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
    lab.put(Input::TransferFailed(HangupCause::NoAnswer));
    assert_eq!(lab.take(), [Output::HangupRequested], "nobody is left to talk with");
}

#[test]
fn a_transfer_wanted_by_an_agent_that_left_is_made_though_its_words_go_nowhere() {
    let mut lab = Lab::of_words_open();
    lab.text("to sales");
    lab.put(Input::PeerClosed(PeerClose::Frame(None)));
    lab.take();
    lab.put(Input::Relinked);
    let transfer = Output::TransferRequested("sales".to_owned());
    assert_eq!(lab.take(), [transfer, Output::HangupRequested]);
}

#[test]
fn an_agent_that_stopped_reading_before_it_was_there_is_not_written_to() {
    let mut lab = Lab::of_words();
    lab.put(Input::SendBlocked);
    lab.text("here");
    lab.take();
    for _ in 0..AGENT_OUTBOX_FRAMES_MAX + 1 {
        lab.put(Input::Audio(&[1; FRAME_BYTES]));
    }
    assert_eq!(lab.take(), []);
    lab.put(Input::SendReady);
    // In place of the first, which was dropped, the number of those.
    assert_eq!(lab.take().len(), AGENT_OUTBOX_FRAMES_MAX + 1);
}

#[test]
fn wishes_are_bounded() {
    let mut lab = Lab::of_words_open();
    for _ in 0..1_000 {
        lab.text("keys");
    }
    assert_eq!(lab.take().len(), AGENT_WISHES_MAX);
}

#[test]
fn the_agent_is_told_what_became_of_its_wish() {
    let mut lab = Lab::of_words_open();
    lab.put(Input::Answered(Err("no_keys")));
    lab.put(Input::TransferFailed(HangupCause::Busy));
    lab.put(Input::Cleared(77));
    let said: Vec<String> = lab.take().into_iter().map(|out| format!("{out:?}")).collect();
    for (said, word) in said.iter().zip(["no_keys", "Busy", "77"]) {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(said.len(), 3);
}
