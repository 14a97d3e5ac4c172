//! Whole calls of the test caller in virtual time, against an endpoint that is called.

use crate::caller::call::CallSetup;
use crate::caller::call::Caller;
use crate::caller::call::Input;
use crate::caller::call::Output;
use crate::caller::call::State;
use crate::caller::call::local_media;
use crate::caller::headers::HeaderFaults;
use crate::caller::headers::HeaderRule;
use crate::caller::line::Line;
use crate::caller::summary::CallProblem;
use crate::caller::summary::CallSummary;
use crate::caller::summary::EndedBy;
use crate::caller::voice::Voice;
use crate::rtp::dtmf;
use crate::rtp::dtmf::DtmfEvent;
use crate::rtp::packet::RtpPacket;
use crate::sdp;
use crate::sdp::AnswerOrder;
use crate::sdp::Capabilities;
use crate::sdp::SrtpTerms;
use crate::sip::digest::Algorithm;
use crate::sip::digest::client;
use crate::sip::digest::server::Account;
use crate::sip::digest::server::Presented;
use crate::sip::digest::server::Server;
use crate::sip::digest::server::Verdict;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::config::EndpointConfig;
use crate::sip::endpoint::config::ListenerAddress;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::event::Input as SipInput;
use crate::sip::endpoint::event::Invitation;
use crate::sip::endpoint::event::Output as SipOutput;
use crate::sip::endpoint::event::Refusal;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::types::cause::HangupCause;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

const LATENCY: Duration = Duration::from_millis(5);
const CALLER: &str = "192.0.2.1:5060";
const CALLEE: &str = "192.0.2.2:5060";
const CALLEE_MEDIA: &str = "192.0.2.2:30000";

/// What the called side does.
#[derive(Clone)]
struct Script {
    /// 180 at once.
    rings: bool,
    /// 183 with a description at once, and media.
    early_media: bool,
    /// Time to the answer; `None`: never.
    answers_after: Option<Duration>,
    refuses: Option<HangupCause>,
    password: Option<&'static str>,
    capabilities: Capabilities,
    /// The packet time the answer asks for.
    ptime_ms: u8,
    /// The answer has a description.
    describes: bool,
    /// RTP goes back where it came from.
    echoes: bool,
    /// What becomes of a packet that goes back, by its number from 1.
    alters: fn(usize, &mut [u8]),
    hangs_up_after: Option<Duration>,
    reinvites_after: Option<Duration>,
    /// The re-INVITE asks for an offer instead of making one.
    asks_for_offer: bool,
    /// SIP messages to the called side that are lost, by their number from 0.
    loses: fn(usize, &[u8]) -> bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            rings: true,
            early_media: false,
            answers_after: Some(Duration::from_millis(100)),
            refuses: None,
            password: None,
            capabilities: capabilities(),
            ptime_ms: 20,
            describes: true,
            echoes: true,
            alters: |_, _| (),
            hangs_up_after: None,
            reinvites_after: None,
            asks_for_offer: false,
            loses: |_, _| false,
        }
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        order: AnswerOrder::Local,
        dtmf: PayloadType::new(96),
        dtmf_flash: false,
        ptime: Ptime::MS_20,
        ptime_max: Ptime::MS_20,
        rtcp_mux: false,
        asks_metrics: false,
        single_codec: false,
        annex_b: false,
        srtp: SrtpTerms::default(),
    }
}

enum Packet {
    SipToCallee(Bytes),
    SipToCaller(Bytes),
    RtpToCallee(Vec<u8>),
    RtpToCaller(Vec<u8>),
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn flow(local: &str, remote: &str) -> Flow {
    let (local, remote) = (address(local), address(remote));
    Flow { id: FlowId(1), listener: 0, transport: Transport::Udp, local, remote }
}

fn endpoint(seed: u64, host: &str) -> Endpoint {
    Endpoint::new(EndpointConfig {
        seed,
        product: "test".to_owned(),
        listeners: vec![ListenerAddress { host: host.to_owned(), port: 5060 }],
        timers: Timers::default(),
        policy: DialogPolicy::default(),
        takes_replaces: false,
    })
}

struct World {
    now: Moment,
    wire: VecDeque<(Moment, Packet)>,
    caller: Caller,
    callee: Endpoint,
    digest: Server,
    script: Script,
    dialog: Option<DialogId>,
    offer: Option<Bytes>,
    /// What the called side is yet to do.
    plans: Vec<(Moment, Plan)>,
    sip_messages: usize,
    keys: dtmf::Receiver,
    keys_heard: String,
    events: Vec<String>,
    /// Lengths of the audio packets the caller sent, and their payload type.
    said: Vec<(usize, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Answer,
    HangUp,
    Reinvite,
}

/// How the caller is set up, where it matters.
#[derive(Clone)]
struct Orders {
    duration: Duration,
    answer_limit: Duration,
    digits: &'static str,
    password: Option<&'static str>,
    hang_up_at: Option<Duration>,
    needs_sound: bool,
    is_silent: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(3),
            answer_limit: Duration::from_secs(40),
            digits: "",
            password: None,
            hang_up_at: None,
            needs_sound: false,
            is_silent: false,
        }
    }
}

/// Plays a whole call and returns its summary and the world it left.
fn call(script: Script, orders: Orders) -> (CallSummary, World) {
    let now = Moment::from_millis(1_000);
    let mut out = Vec::new();
    let setup = CallSetup {
        invite: OutboundInvite {
            contact_user: "tester".to_owned(),
            accounts: orders
                .password
                .map(|p| client::Account::new("demo", Secret::new(p.to_owned())))
                .into_iter()
                .collect(),
            ..OutboundInvite::new(
                flow(CALLER, CALLEE),
                "sip:+15550101@192.0.2.2",
                "sip:tester@192.0.2.1",
            )
        },
        media: local_media(address("192.0.2.1:20000"), 20_001, 7),
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        srtp: SrtpTerms::default(),
        duration: orders.duration,
        answer_limit: orders.answer_limit,
        needs_sound: orders.needs_sound,
        has_keys: !orders.digits.is_empty(),
    };
    let voice = if orders.is_silent { Voice::Silent } else { Voice::tone(440) };
    let line = Line::new(3, voice, orders.digits);
    let caller = Caller::dial(now, (endpoint(1, "192.0.2.1"), line), setup, &mut out);
    let mut world = World {
        now,
        wire: VecDeque::new(),
        caller,
        callee: endpoint(2, "192.0.2.2"),
        digest: Server::new([7; 32]),
        script,
        dialog: None,
        offer: None,
        plans: Vec::new(),
        sip_messages: 0,
        keys: dtmf::Receiver::new(8_000),
        keys_heard: String::new(),
        events: Vec::new(),
        said: Vec::new(),
    };
    world.carry(out);
    let stop = orders.hang_up_at.map(|after| now + after);
    world.run(stop);
    (world.caller.summary(), world)
}

impl World {
    fn run(&mut self, mut stop: Option<Moment>) {
        while self.caller.state() != State::Done {
            let wire = self.wire.front().map(|(due, _)| *due);
            let plan = self.plans.iter().map(|(due, _)| *due).min();
            let due = [wire, plan, stop, self.caller.deadline(), self.callee.deadline()];
            let due = due.into_iter().flatten().min().expect("somebody waits for something");
            self.now = self.now.max(due);
            assert!(self.now < Moment::from_millis(300_000), "the call never ends");
            if stop.is_some_and(|at| at <= self.now) {
                stop = None;
                self.caller(Input::HangUp);
            }
            while let Some((_, packet)) = self.wire.pop_front_if(|(due, _)| *due <= self.now) {
                self.deliver(packet);
            }
            if let Some(at) = self.plans.iter().position(|(due, _)| *due <= self.now) {
                let (_, plan) = self.plans.remove(at);
                self.act(plan);
            }
            if self.caller.deadline().is_some_and(|due| due <= self.now) {
                self.caller(Input::DeadlineReached);
            }
            if self.callee.deadline().is_some_and(|due| due <= self.now) {
                self.callee(SipInput::DeadlineReached);
            }
        }
    }

    fn send(&mut self, packet: Packet) {
        self.wire.push_back((self.now + LATENCY, packet));
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::SipToCallee(message) => {
                let number = self.sip_messages;
                self.sip_messages += 1;
                if !(self.script.loses)(number, &message) {
                    self.callee(SipInput::Received { flow: flow(CALLEE, CALLER), message });
                }
            }
            Packet::SipToCaller(message) => {
                self.caller(Input::Sip { flow: flow(CALLER, CALLEE), message });
            }
            Packet::RtpToCallee(bytes) => self.hear(&bytes),
            Packet::RtpToCaller(bytes) => {
                self.caller(Input::Media { from: address(CALLEE_MEDIA), datagram: bytes.into() });
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Ok(packet) = RtpPacket::parse(bytes) else { return };
        if packet.payload_type.get() >= 96 {
            let keys = &mut self.keys_heard;
            self.keys.receive(self.now, &packet, |event| {
                if let DtmfEvent::Ended { digit, .. } = event {
                    keys.push(digit);
                }
            });
        } else {
            self.said.push((packet.payload.len(), packet.payload_type.get()));
            if self.script.echoes {
                let mut echo = bytes.to_vec();
                (self.script.alters)(self.said.len(), &mut echo);
                self.send(Packet::RtpToCaller(echo));
            }
        }
    }

    fn caller(&mut self, input: Input) {
        let mut out = Vec::new();
        self.caller.handle(self.now, input, &mut out);
        self.carry(out);
    }

    fn carry(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Sip { bytes, .. } => self.send(Packet::SipToCallee(bytes)),
                Output::Rtp { bytes, .. } => self.send(Packet::RtpToCallee(bytes)),
                Output::Rtcp { .. } | Output::Heard(_) => {}
            }
        }
    }

    fn callee(&mut self, input: SipInput) {
        let mut out = Vec::new();
        self.callee.handle(self.now, input, &mut out);
        for output in out {
            match output {
                SipOutput::Transmit { bytes, .. } if self.script.asks_for_offer => {
                    self.send(Packet::SipToCaller(without_offer(bytes)));
                }
                SipOutput::Transmit { bytes, .. } => self.send(Packet::SipToCaller(bytes)),
                SipOutput::Event(event) => self.on(event),
                SipOutput::Burden(..) | SipOutput::Locate(_) | SipOutput::Counted(_) => {}
            }
        }
    }

    fn on(&mut self, event: Event) {
        let text = format!("{event:?}");
        self.events.push(text.chars().take_while(|c| c.is_alphanumeric()).collect());
        match event {
            Event::Invited(invitation) => self.invited(&invitation),
            Event::Acknowledged { dialog, body } => {
                if let Some(after) = self.script.reinvites_after.take() {
                    self.plans.push((self.now + after, Plan::Reinvite));
                }
                if let Some(after) = self.script.hangs_up_after.take() {
                    self.plans.push((self.now + after, Plan::HangUp));
                }
                assert!(body.is_none(), "{dialog:?} was offered nothing in a 200");
            }
            _ => {}
        }
    }

    fn invited(&mut self, invitation: &Invitation) {
        let dialog = invitation.dialog;
        if !self.is_trusted(invitation) {
            let source = address(CALLER).ip();
            let values = self.digest.challenges(self.now, source, "tandem", &[Algorithm::Sha256]);
            let headers = values.into_iter().map(|value| ("WWW-Authenticate".into(), value));
            let (status, cause) = (401, HangupCause::BadCredentials);
            let headers = headers.collect();
            let retry_after_s = None;
            let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
            return self.callee(SipInput::Command(Command::Refuse { dialog, refusal }));
        }
        self.dialog = Some(dialog);
        self.offer = invitation.body.as_ref().map(|body| body.bytes.clone());
        if let Some(cause) = self.script.refuses {
            let (status, headers) = (cause.sip_status(), Vec::new());
            let retry_after_s = None;
            let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
            return self.callee(SipInput::Command(Command::Refuse { dialog, refusal }));
        }
        if self.script.early_media {
            let body = Some(self.answer());
            self.callee(SipInput::Command(Command::Progress { dialog, status: 183, body }));
            for n in 0..20 {
                let due = self.now + LATENCY + Duration::from_millis(20 * n);
                let packet = RtpPacket {
                    marker: n == 0,
                    payload_type: PayloadType::new(0).unwrap(),
                    sequence: n as u16,
                    timestamp: n as u32 * 160,
                    ssrc: 9,
                    payload: &[0x10; 160],
                };
                let mut bytes = [0; 200];
                let length = packet.write(&mut bytes).unwrap();
                self.wire.push_back((due, Packet::RtpToCaller(bytes[..length].to_vec())));
            }
        } else if self.script.rings {
            self.callee(SipInput::Command(Command::Progress { dialog, status: 180, body: None }));
        }
        if let Some(after) = self.script.answers_after {
            self.plans.push((self.now + after, Plan::Answer));
        }
    }

    fn is_trusted(&mut self, invitation: &Invitation) -> bool {
        let Some(password) = self.script.password else { return true };
        let Some(value) = invitation.request.headers.first(HeaderName::Authorization) else {
            return false;
        };
        let password = Secret::new(password.to_owned());
        let account = Account {
            username: "demo",
            password: &password,
            realm: "tandem",
            algorithms: &[Algorithm::Sha256],
        };
        let presented = Presented { method: &Method::Invite, value };
        let source = address(CALLER).ip();
        self.digest.verify(self.now, source, &presented, Some(&account)) == Verdict::Ok
    }

    fn answer(&self) -> Bytes {
        let offer = sdp::parse(self.offer.as_ref().unwrap()).unwrap();
        let media = local_media(address(CALLEE_MEDIA), 30_001, 8);
        let text = sdp::answer(&offer, &self.script.capabilities, &media).unwrap().0;
        let text = String::from_utf8(text).unwrap();
        // The endpoint would follow our wish; other switches have their own.
        text.replace("a=ptime:20", &format!("a=ptime:{}", self.script.ptime_ms)).into()
    }

    fn act(&mut self, plan: Plan) {
        let dialog = self.dialog.unwrap();
        let command = match plan {
            Plan::Answer if self.script.describes => {
                Command::Accept { dialog, body: self.answer() }
            }
            Plan::Answer => Command::Accept { dialog, body: Bytes::new() },
            Plan::HangUp => Command::Hangup { dialog, cause: HangupCause::MaxDuration },
            Plan::Reinvite => {
                let mut media = local_media(address(CALLEE_MEDIA), 30_001, 8);
                media.version = 2;
                let body = sdp::offer(&self.script.capabilities, &media).into();
                Command::Reinvite { dialog, body }
            }
        };
        self.callee(SipInput::Command(command));
    }

    fn saw(&self, event: &str) -> bool {
        self.events.iter().any(|seen| seen == event)
    }
}

/// A request without its body; a response as it is.
fn without_offer(message: Bytes) -> Bytes {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    if !head.starts_with("INVITE") || body.is_empty() {
        return message;
    }
    let is_of_body = |line: &&str| !line.starts_with("Content-");
    let lines: Vec<&str> = head.split("\r\n").filter(is_of_body).collect();
    format!("{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n")).into()
}

#[test]
fn a_call_that_is_echoed_hears_its_own_tone() {
    let (summary, world) = call(Script::default(), Orders::default());
    assert_eq!(summary.problem, None);
    assert_eq!(summary.status, Some(200));
    let setup = summary.setup;
    assert_eq!(setup.trying, Some(2 * LATENCY));
    assert_eq!(setup.ringing, Some(2 * LATENCY));
    assert_eq!(setup.answered, Some(2 * LATENCY + Duration::from_millis(100)));
    assert!(setup.audio > setup.answered, "{setup:?}");
    assert_eq!(summary.talked, Duration::from_secs(3));
    assert_eq!(summary.ended_by, Some(EndedBy::Us));
    assert_eq!((summary.media.sent, summary.media.lost), (150, 0));
    assert!((148..=150).contains(&summary.media.received), "{:?}", summary.media);
    assert!(summary.media.mos.unwrap() > 4.3, "{:?}", summary.media);
    assert_eq!(summary.media.headers, HeaderFaults::default());
    assert!(summary.heard.is_tone(440), "{:?}", summary.heard);
    assert!(!summary.call_id.is_empty());
    assert!(world.saw("Ended"), "{:?}", world.events);
}

#[test]
fn keys_are_pressed_after_the_answer_and_before_the_hang_up() {
    let orders = Orders {
        digits: "123456789*0#",
        duration: Duration::from_millis(500),
        ..Orders::default()
    };
    let (summary, world) = call(Script::default(), orders);
    assert_eq!(world.keys_heard, "123456789*0#");
    assert_eq!(summary.problem, None);
    assert!(summary.talked > Duration::from_secs(2), "{:?}", summary.talked);
}

#[test]
fn keys_that_nobody_takes_are_a_problem_and_do_not_hold_the_call() {
    let capabilities = Capabilities { dtmf: None, ..capabilities() };
    let script = Script { capabilities, ..Script::default() };
    let (summary, _) = call(script, Orders { digits: "1", ..Orders::default() });
    assert_eq!(summary.problem, Some(CallProblem::NoKeys));
    assert_eq!(summary.talked, Duration::from_secs(3));
}

#[test]
fn a_refusal_is_told_with_status_and_reason() {
    let script = Script { refuses: Some(HangupCause::UnknownNumber), ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    let Some(CallProblem::Refused { status, phrase, reason }) = summary.problem else {
        panic!("{:?}", summary.problem)
    };
    assert_eq!((status, phrase.as_str()), (404, "Not Found"));
    assert!(reason.is_some_and(|reason| reason.contains("unknown_number")));
    assert_eq!((summary.status, summary.ended_by), (Some(404), None));
    assert_eq!(summary.talked, Duration::ZERO);
    assert_eq!(summary.setup.trying, Some(2 * LATENCY));
    assert_eq!(summary.setup.ringing, None, "nobody was rung");
}

#[test]
fn silence_on_the_wire_is_no_response() {
    let script = Script { loses: |_, _| true, ..Script::default() };
    let (summary, _) = call(script.clone(), Orders::default());
    assert_eq!(summary.problem, Some(CallProblem::NoResponse));
    assert!(summary.retransmissions >= 6, "{}", summary.retransmissions);
    let orders = Orders { answer_limit: Duration::from_secs(2), ..Orders::default() };
    let (summary, world) = call(script, orders);
    assert_eq!(summary.problem, Some(CallProblem::NoResponse));
    assert_eq!(world.now, Moment::from_millis(3_000));
}

#[test]
fn a_call_that_only_rings_is_cancelled() {
    let script = Script { answers_after: None, ..Script::default() };
    let orders = Orders { answer_limit: Duration::from_secs(6), ..Orders::default() };
    let (summary, world) = call(script, orders);
    assert_eq!(summary.problem, Some(CallProblem::NoAnswer));
    assert!(world.saw("Cancelled"), "{:?}", world.events);
    assert!(summary.setup.ringing.is_some() && summary.setup.answered.is_none());
}

#[test]
fn one_challenge_is_answered_and_a_wrong_password_is_refused() {
    let script = Script { password: Some("demo"), ..Script::default() };
    let right = Orders { password: Some("demo"), ..Orders::default() };
    assert_eq!(call(script.clone(), right).0.problem, None);
    for password in [None, Some("wrong")] {
        let orders = Orders { password, ..Orders::default() };
        let (summary, _) = call(script.clone(), orders);
        let problem = summary.problem;
        assert!(matches!(problem, Some(CallProblem::Refused { status: 401, .. })), "{problem:?}");
    }
}

#[test]
fn the_far_end_may_hang_up() {
    let script = Script { hangs_up_after: Some(Duration::from_secs(1)), ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    assert_eq!(summary.problem, None);
    assert_eq!(summary.ended_by, Some(EndedBy::FarEnd));
    assert!(summary.bye_reason.is_some_and(|reason| reason.contains("max_duration")));
    let talked = summary.talked;
    assert!(
        talked >= Duration::from_secs(1) && talked < Duration::from_millis(1_100),
        "{talked:?}"
    );
}

#[test]
fn a_new_offer_within_the_call_is_answered_and_audio_goes_on() {
    let reinvites_after = Some(Duration::from_secs(1));
    let (summary, world) = call(Script { reinvites_after, ..Script::default() }, Orders::default());
    assert_eq!((summary.problem, summary.reinvites), (None, 1));
    assert!(world.saw("ReinviteAnswered"), "{:?}", world.events);
    assert_eq!((summary.media.sent, summary.media.lost), (150, 0));
    assert_eq!(summary.media.headers, HeaderFaults::default());
}

#[test]
fn a_request_for_an_offer_within_the_call_is_met_and_audio_goes_on() {
    let reinvites_after = Some(Duration::from_secs(1));
    let script = Script { reinvites_after, asks_for_offer: true, ..Script::default() };
    let (summary, world) = call(script, Orders::default());
    assert_eq!((summary.problem, summary.reinvites), (None, 1));
    assert!(world.saw("ReinviteAnswered"), "{:?}", world.events);
    assert_eq!((summary.media.sent, summary.media.lost), (150, 0));
    assert_eq!(summary.media.headers, HeaderFaults::default());
}

#[test]
fn an_answer_without_media_is_a_problem() {
    let script = Script { echoes: false, ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    assert_eq!(summary.problem, Some(CallProblem::NoAudio));
    assert_eq!((summary.status, summary.media.mos), (Some(200), None));
}

#[test]
fn an_answer_without_a_description_is_hung_up_at_once() {
    let script = Script { describes: false, ..Script::default() };
    let (summary, world) = call(script, Orders::default());
    assert_eq!(summary.problem, Some(CallProblem::NoDescription));
    assert_eq!(summary.talked, Duration::ZERO);
    assert!(world.saw("Acknowledged") && world.saw("Ended"), "{:?}", world.events);
}

#[test]
fn a_hang_up_that_is_not_answered_is_a_problem() {
    let script = Script { loses: |_, message| message.starts_with(b"BYE"), ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    assert_eq!(summary.problem, Some(CallProblem::HangupUnanswered));
    assert_eq!(summary.ended_by, Some(EndedBy::Us));
    assert_eq!(summary.talked, Duration::from_secs(3));
}

#[test]
fn early_media_is_heard_before_the_answer() {
    let answers_after = Some(Duration::from_secs(1));
    let script = Script { early_media: true, answers_after, ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    assert_eq!(summary.problem, None);
    assert!(summary.setup.audio < summary.setup.answered, "{:?}", summary.setup);
    assert!((150..=151).contains(&summary.media.sent), "{:?}", summary.media);
}

#[test]
fn the_user_may_end_the_call_at_any_time() {
    let before = Orders { hang_up_at: Some(Duration::from_millis(50)), ..Orders::default() };
    let (summary, world) = call(Script::default(), before);
    assert_eq!(summary.problem, Some(CallProblem::GivenUp));
    assert!(world.saw("Cancelled"), "{:?}", world.events);
    let after = Orders { hang_up_at: Some(Duration::from_millis(1_110)), ..Orders::default() };
    let (summary, _) = call(Script::default(), after);
    assert_eq!(summary.problem, None);
    assert_eq!(summary.talked, Duration::from_secs(1));
}

#[test]
fn other_codecs_and_packet_times_are_followed() {
    let ptime_max = Ptime::from_ms(60).unwrap();
    let capabilities = Capabilities { codecs: vec![Codec::Pcma], ptime_max, ..capabilities() };
    let script = Script { capabilities, ptime_ms: 30, ..Script::default() };
    let (summary, world) = call(script, Orders::default());
    assert_eq!((summary.problem, summary.media.codec), (None, Some(Codec::Pcma)));
    assert!(summary.heard.is_tone(440), "{:?}", summary.heard);
    assert!(world.said.iter().all(|packet| *packet == (240, 8)), "{:?}", world.said);
    assert_eq!(summary.media.headers, HeaderFaults::default());
}

#[test]
fn a_header_that_is_not_as_it_should_be_is_told_and_which_rule_it_breaks() {
    type Spoil = fn(usize, &mut [u8]);
    let cases: [(HeaderRule, Spoil); 6] = [
        (HeaderRule::PayloadType, |number, packet| {
            if number == 50 {
                packet[1] = 33;
            }
        }),
        (HeaderRule::Sequence, |number, packet| {
            if number == 50 {
                let before = u16::from_be_bytes([packet[2], packet[3]]).wrapping_sub(1);
                packet[2..4].copy_from_slice(&before.to_be_bytes());
            }
        }),
        (HeaderRule::Timestamp, |number, packet| {
            if number == 50 {
                packet[7] ^= 1;
            }
        }),
        (HeaderRule::Ssrc, |number, packet| {
            if number == 50 {
                packet[8] ^= 1;
            }
        }),
        (HeaderRule::Marker, |number, packet| {
            if number == 50 {
                packet[1] |= 0x80;
            }
        }),
        (HeaderRule::Marker, |number, packet| {
            if number == 1 {
                packet[1] &= 0x7f;
            }
        }),
    ];
    for (rule, alters) in cases {
        let (summary, _) = call(Script { alters, ..Script::default() }, Orders::default());
        let faults = summary.media.headers;
        assert_eq!(faults.first.map(|fault| fault.rule), Some(rule), "{faults:?}");
        assert!((1..=2).contains(&faults.total()), "{faults:?}");
        assert_eq!(summary.problem, None);
    }
}

#[test]
fn media_from_anywhere_else_is_not_judged() {
    let mut headers = Vec::new();
    for from in [CALLEE_MEDIA, "192.0.2.3:30000"] {
        let (before, mut world) =
            call(Script { echoes: false, ..Script::default() }, Orders::default());
        for sequence in [5, 5, 5] {
            let packet = RtpPacket {
                marker: true,
                payload_type: PayloadType::new(0).unwrap(),
                sequence,
                timestamp: 0,
                ssrc: 9,
                payload: &[0x10; 160],
            };
            let mut bytes = [0; 200];
            let length = packet.write(&mut bytes).unwrap();
            let datagram = Bytes::copy_from_slice(&bytes[..length]);
            world.caller(Input::Media { from: address(from), datagram });
        }
        let media = world.caller.summary().media;
        headers.push((media.headers.sequence, media.judged - before.media.judged));
    }
    assert_eq!(headers, [(2, 3), (0, 0)]);
}

#[test]
fn lost_requests_are_sent_again() {
    let script = Script { loses: |number, _| number == 0, ..Script::default() };
    let (summary, _) = call(script, Orders::default());
    assert_eq!((summary.problem, summary.retransmissions), (None, 1));
}

#[test]
fn silence_is_a_problem_only_where_sound_is_asked_for() {
    for (is_silent, needs_sound, problem) in
        [(true, false, None), (true, true, Some(CallProblem::OnlySilence)), (false, true, None)]
    {
        let (summary, _) =
            call(Script::default(), Orders { is_silent, needs_sound, ..Orders::default() });
        assert_eq!(summary.problem, problem, "{is_silent} {needs_sound}");
        assert_eq!(summary.heard.sound.is_zero(), is_silent);
    }
}
