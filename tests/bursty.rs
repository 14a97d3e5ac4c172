//! A hundred agents that speak in bursts, each heard to the sample: from the messages of their connections to the packets
//! of their callers. In virtual time, so that no machine is too slow for it; `tests/end_to_end/bursty.rs` has the same
//! with sockets.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::agent::session::AgentCall;
use tandem::agent::session::Input;
use tandem::agent::session::Output;
use tandem::agent::stream::AgentStream;
use tandem::agent::twilio::dialect::Twilio;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::LinkEvent;
use tandem::audio::link::link;
use tandem::media::event::MediaEvent;
use tandem::media::output::Port;
use tandem::media::output::TickOutput;
use tandem::media::session::MediaSession;
use tandem::media::setup::MediaSetup;
use tandem::rtp::packet::RtpPacket;
use tandem::sdp::Direction;
use tandem::sdp::MediaPlan;
use tandem::types::agent::Access;
use tandem::types::agent::TwilioAgent;
use tandem::types::codec::Codec;
use tandem::types::codec::OpusTerms;
use tandem::types::codec::Ptime;
use tandem::types::header::CallVariables;
use tandem::types::id::CallId;
use tandem::types::id::TenantId;
use tandem::types::moment::Moment;
use tandem::types::random::Random;
use tandem::types::secret::Secret;
use tandem::types::talk::Talk;
use uuid::Uuid;

const CALLS: u64 = 100;
const TICK: Duration = Duration::from_millis(20);
const TICK_MS: u32 = 20;
/// 20 ms.
const FRAME: usize = 160;
/// What an agent says, in frames: 5 s.
const SAID: usize = 250;
/// What it has to say at first, in frames, so that it is played at once.
const PREROLL: usize = 3;
/// The longest time between two bursts, in ticks.
const PAUSE_MAX: u64 = 50;
/// By so much a burst is late at most, where agents come late, in ticks.
const LATE_MAX: u64 = 12;
/// The largest message, in bytes.
const MESSAGE_MAX: u64 = 8_000;
/// As much of what is played last falls away in a gap, in samples.
const FALLING: usize = 40;
/// Whoever is not through by then never will be.
const TICKS_MAX: u32 = 2_000;

/// What the link gets, in order.
enum Queued {
    Audio(Bytes),
    Mark(u64),
}

/// A call: its agent behind the stream, and its caller behind the session.
struct Call {
    stream: AgentStream,
    end: AgentEnd,
    queued: VecDeque<Queued>,
    session: MediaSession,
    random: Random,
    is_late: bool,
    said: Vec<u8>,
    /// So much of it the agent has handed over.
    given: usize,
    /// The tick of its next burst.
    next: u32,
    heard: Vec<u8>,
    /// Gaps that were told: when what was said went on, and how long each was, in ms.
    told: Vec<(u32, u32)>,
    marks: usize,
    marks_back: usize,
}

impl Call {
    fn new(number: u64, is_late: bool) -> Self {
        let (media, end) = link();
        let setup = MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan()), number) };
        let mut random = Random::from_seed(number + 1);
        // No byte is as quiet as what is heard when nobody speaks.
        let said = (0..SAID * FRAME).map(|_| (random.below(80) + 128 * random.below(2)) as u8);
        Self {
            stream: stream(),
            end,
            queued: VecDeque::new(),
            session: MediaSession::new(Moment::START, setup, media),
            said: said.collect(),
            random,
            is_late,
            given: 0,
            next: number as u32 % 7,
            heard: Vec::new(),
            told: Vec::new(),
            marks: 0,
            marks_back: 0,
        }
    }

    /// Of its words so many samples were played.
    fn played(&self) -> usize {
        self.session.statistics().played_ms as usize * FRAME / TICK_MS as usize
    }

    fn is_over(&self) -> bool {
        self.played() == self.said.len()
    }

    /// Says what lasts until its next burst, and no sample more, in messages of odd sizes with a mark behind them.
    fn speak(&mut self, now: Moment, tick: u32) {
        if tick != self.next || self.given == self.said.len() {
            return;
        }
        let least = if self.given == 0 { PREROLL as u64 } else { 1 };
        let pause = least + self.random.below(PAUSE_MAX);
        let until = (self.played() + pause as usize * FRAME).min(self.said.len());
        let mut texts = Vec::new();
        while self.given < until {
            let end = until.min(self.given + 1 + self.random.below(MESSAGE_MAX) as usize);
            let payload = STANDARD.encode(&self.said[self.given..end]);
            texts.push(json!({"event": "media", "media": {"payload": payload}}));
            self.given = end;
        }
        texts.push(json!({"event": "mark", "mark": {"name": self.given.to_string()}}));
        self.marks += 1;
        for text in texts {
            let mut out = Vec::new();
            self.stream.handle(now, Input::Text(text.to_string().as_bytes()), &mut out);
            self.perform(out);
        }
        let comes_late = self.is_late && self.random.below(3) == 0;
        let late = if comes_late { 1 + self.random.below(LATE_MAX) } else { 0 };
        self.next = tick + (pause + late) as u32;
    }

    /// Does what the task of an agent does.
    fn perform(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Play(audio) => self.queued.push_back(Queued::Audio(audio)),
                Output::Mark(id) => self.queued.push_back(Queued::Mark(id)),
                Output::Send(text) => self.take(&text),
                other => panic!("{other:?}"),
            }
        }
        while let Some(first) = self.queued.front_mut() {
            match first {
                Queued::Audio(audio) => {
                    let taken = self.end.push_audio(audio);
                    audio.advance(taken);
                    if !audio.is_empty() {
                        break;
                    }
                }
                Queued::Mark(id) => {
                    if !self.end.push_mark(*id) {
                        break;
                    }
                }
            }
            self.queued.pop_front();
        }
    }

    /// A message for the agent: a mark is back when what was before it was played, and with it.
    fn take(&mut self, text: &[u8]) {
        let message: Value = serde_json::from_slice(text).unwrap();
        if message["event"] == "mark" {
            let before: usize = message["mark"]["name"].as_str().unwrap().parse().unwrap();
            let since = self.played().checked_sub(before);
            assert!(since.is_some_and(|since| since < FRAME), "{before}: {since:?}");
            self.marks_back += 1;
        }
    }

    fn tick(&mut self, now: Moment, out: &mut TickOutput) {
        self.session.tick(now, out);
        for (_, _, bytes) in out.transmits().filter(|(port, ..)| *port == Port::Rtp) {
            self.heard.extend_from_slice(RtpPacket::parse(bytes).unwrap().payload);
        }
        for event in out.events() {
            if let MediaEvent::Talk(Talk::Underrun { at_ms, ms, node_late }) = event {
                assert!(!node_late, "nobody else came late");
                self.told.push((*at_ms, *ms));
            }
        }
        out.clear();
        while let Some(event) = self.end.next() {
            let mut acts = Vec::new();
            match event {
                LinkEvent::Audio(frame) => self.stream.handle(now, Input::Audio(&frame), &mut acts),
                LinkEvent::Mark { id, .. } => {
                    self.stream.handle(now, Input::MarkPlayed(id), &mut acts);
                }
                LinkEvent::Underrun { .. } => (),
                other => panic!("{other:?}"),
            }
            self.perform(acts);
        }
    }

    /// What was heard without the frames in which the agent was not, and its gaps as they are to be told.
    fn words_and_gaps(&self) -> (Vec<u8>, Vec<(u32, u32)>) {
        let (mut words, mut gaps, mut gap) = (Vec::new(), Vec::new(), 0);
        for (at_ms, frame) in (TICK_MS..).step_by(TICK_MS as usize).zip(self.heard.chunks(FRAME)) {
            if frame.iter().skip(FALLING).all(|byte| (byte & 0x7f) >= 0x7c) {
                gap += TICK_MS;
                continue;
            }
            if gap > 0 && !words.is_empty() {
                gaps.push((at_ms, gap));
            }
            gap = 0;
            words.extend_from_slice(frame);
        }
        (words, gaps)
    }
}

/// A stream of Media Streams whose agent is there.
fn stream() -> AgentStream {
    let connect_timeout = Duration::from_secs(5);
    let agent = TwilioAgent {
        url: "ws://bot.example/".to_owned(),
        auth_token: Secret::default(),
        parameters: Vec::new(),
        access: Access::default(),
        connect_timeout,
    };
    let call = AgentCall {
        call_id: CallId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        caller: "+15550111".to_owned(),
        dialled: "+15550100".parse().unwrap(),
        variables: CallVariables::default(),
        trace: None,
        before: None,
    };
    let mut stream = AgentStream::new((Box::new(Twilio::new(&agent, &call)), connect_timeout));
    let mut out = Vec::new();
    for input in [Input::Started, Input::Connected, Input::CallAnswered] {
        stream.handle(Moment::START, input, &mut out);
    }
    assert!(out.contains(&Output::Ready), "{out:?}");
    stream
}

fn plan() -> MediaPlan {
    MediaPlan {
        codec: Codec::Pcmu,
        send_payload_type: Codec::Pcmu.payload_type(),
        receive_payload_type: Codec::Pcmu.payload_type(),
        receive_also: None,
        dtmf_send: None,
        dtmf_receive: None,
        dtmf_clock: 8_000,
        opus: OpusTerms::default(),
        annex_b: false,
        ptime: Ptime::MS_20,
        remote: Some(SocketAddr::from(([192, 0, 2, 1], 4_000))),
        remote_rtcp: None,
        rtcp_mux: false,
        metrics_asked: false,
        direction: Direction::SendReceive,
        crypto: None,
    }
}

/// A hundred calls on one clock, until all was said.
fn calls(are_late: bool) -> Vec<Call> {
    let mut calls: Vec<Call> = (0..CALLS).map(|number| Call::new(number, are_late)).collect();
    let mut out = TickOutput::for_sessions(CALLS as usize, 2);
    for tick in 0..TICKS_MAX {
        let now = Moment::START + TICK * (tick + 1);
        for call in &mut calls {
            call.speak(now, tick);
            call.tick(now, &mut out);
        }
        if calls.iter().all(Call::is_over) {
            break;
        }
    }
    calls
}

#[test]
fn what_a_hundred_agents_say_just_in_time_is_on_the_wire_to_the_sample() {
    for (number, call) in calls(false).iter().enumerate() {
        let (words, gaps) = call.words_and_gaps();
        assert!(words == call.said, "agent {number}: a sample is missing, or one too many");
        assert_eq!((gaps, &call.told), (Vec::new(), &Vec::new()), "agent {number}");
        assert_eq!(call.marks_back, call.marks, "agent {number}");
    }
}

#[test]
fn where_agents_come_late_every_sample_is_there_and_each_gap_is_told_as_it_was() {
    let calls = calls(true);
    for (number, call) in calls.iter().enumerate() {
        let (words, gaps) = call.words_and_gaps();
        assert!(words == call.said, "agent {number}: a sample is missing, or one too many");
        assert_eq!(gaps, call.told, "agent {number}");
        assert_eq!(call.marks_back, call.marks, "agent {number}");
    }
    let told: usize = calls.iter().map(|call| call.told.len()).sum();
    assert!(told as u64 > CALLS, "{told} gaps: hardly anybody was late");
}
