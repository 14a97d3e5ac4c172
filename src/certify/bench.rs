//! The switch under test and its carrier, joined in virtual time: messages take none, timers all theirs.

use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input as CallInput;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::input::Output as CallOutput;
use crate::call::leg::Place;
use crate::call::side::LegSide;
use crate::certify::fault::Fault;
use crate::certify::fault::Way;
use crate::certify::live::Live;
use crate::certify::registering::REGISTER;
use crate::certify::registering::Registering;
use crate::certify::subject::OUR_PORT;
use crate::certify::subject::Subject;
use crate::engine::call_task::PeerHost;
use crate::engine::call_task::invited_command;
use crate::engine::dial;
use crate::routing::admission::Admission;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::outbound_attempt::Input as AttemptInput;
use crate::routing::outbound_attempt::Output as AttemptOutput;
use crate::routing::table::RoutingTable;
use crate::routing::usage::Usage;
use crate::simulator::carrier::Carrier;
use crate::sip::digest::server::Server;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::config::EndpointConfig;
use crate::sip::endpoint::config::ListenerAddress;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::event::Output;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::register::Input as RegisterInput;
use crate::types::moment::Moment;
use crate::types::random::Random;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// More turns than this and something goes in a circle.
const TURNS_MAX: usize = 200_000;
/// Long enough for an exchange of messages, and shorter than any timer that matters.
pub(super) const MOMENT: Duration = Duration::from_secs(1);
/// The port of our media.
const MEDIA_PORT: u16 = 20_000;

/// What is fed to the endpoint, in order.
pub(super) type Queue = VecDeque<Input>;

/// The switch under test and its carrier.
pub(super) struct Bench<'s> {
    pub(super) now: Moment,
    pub(super) subject: &'s Subject,
    pub(super) fault: Option<&'static Fault>,
    pub(super) carrier: Carrier,
    pub(super) table: RoutingTable,
    pub(super) board: GatewayBoard,
    pub(super) admission: Admission,
    pub(super) usage: Usage,
    pub(super) random: Random,
    /// Challenges callers whose trunk wants credentials.
    pub(super) digest: RefCell<Server>,
    pub(super) endpoint: Endpoint,
    /// The last call.
    pub(super) live: Option<Live>,
    /// Refusals of calls that came in: status and cause.
    pub(super) refused: Vec<u16>,
    /// An INVITE was met with silence.
    pub(super) was_silent: bool,
    /// The trunk was let rest.
    pub(super) throttled: bool,
    /// The process was told to end.
    pub(super) is_draining: bool,
    /// The agent is not there yet.
    pub(super) agent_waits: bool,
    /// The trunk's registration, once it has begun.
    pub(super) registering: Option<Registering>,
    turns: usize,
}

impl<'s> Bench<'s> {
    pub(super) fn new(subject: &'s Subject, fault: Option<&'static Fault>) -> Self {
        let table = RoutingTable::new(subject.contents());
        let mut board = GatewayBoard::new(Random::from_seed(1));
        board.follow(Moment::START, &table, &mut Vec::new());
        // A trunk that registers is tried as a registered one, until it registers by itself.
        board.set_registered(subject.trunk.id, true);
        let host = subject.subscription.address.to_string();
        let endpoint = Endpoint::new(EndpointConfig {
            seed: 3,
            product: "Tandem".to_owned(),
            listeners: vec![ListenerAddress { host, port: OUR_PORT }],
            timers: Timers::default(),
            policy: DialogPolicy::default(),
            takes_replaces: true,
        });
        Self {
            now: Moment::from_millis(1_000),
            subject,
            fault,
            carrier: Carrier::new(subject.model, subject.subscription.clone()),
            table,
            board,
            admission: Admission::default(),
            usage: Usage::default(),
            random: Random::from_seed(2),
            // Nonces of a bench need no secret.
            digest: RefCell::new(Server::new([9; 32])),
            endpoint,
            live: None,
            refused: Vec::new(),
            was_silent: false,
            throttled: false,
            is_draining: false,
            agent_waits: false,
            registering: None,
            turns: 0,
        }
    }

    /// The process is told to end.
    pub(super) fn stop(&mut self) {
        self.is_draining = true;
        self.endpoint.set_draining(true);
    }

    /// The flow between us and an address of the carrier.
    pub(super) fn flow(&self, transport: Transport, remote: SocketAddr) -> Flow {
        let local = SocketAddr::new(self.subject.subscription.address, OUR_PORT);
        Flow { id: FlowId(1), listener: 0, transport, local, remote }
    }

    pub(super) fn flow_to(&self, gateway: &Gateway) -> Flow {
        let transport = gateway.next_hop().transport.unwrap_or(Transport::Udp);
        self.flow(transport, self.subject.edge_of(gateway))
    }

    /// Goes on for a time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.turns < TURNS_MAX {
            self.turns += 1;
            let next = [
                self.carrier.deadline(),
                self.endpoint.deadline(),
                self.live.as_ref().and_then(Live::deadline),
                self.registering.as_ref().and_then(Registering::deadline),
            ];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    /// Does what is due.
    fn step(&mut self) {
        let now = self.now;
        let is_due = |deadline: Option<Moment>| deadline.is_some_and(|at| at <= now);
        for sending in self.carrier.take_due(now) {
            self.deliver(sending.from, &sending.bytes);
        }
        if is_due(self.endpoint.deadline()) {
            self.turn(Input::DeadlineReached);
        }
        if is_due(self.registering.as_ref().and_then(Registering::deadline)) {
            self.tell_registration(&RegisterInput::DeadlineReached);
        }
        let mut queue = Queue::new();
        if is_due(self.live.as_ref().and_then(|live| live.call.deadline())) {
            self.tell(CallInput::DeadlineReached, &mut queue);
        }
        if is_due(self.live.as_ref().and_then(Live::attempt_deadline)) {
            self.attempt(AttemptInput::DeadlineReached, &mut queue);
        }
        self.drain(queue);
    }

    /// A message of the carrier's reaches us, unless the fault is that we do not hear it.
    pub(super) fn deliver(&mut self, from: SocketAddr, bytes: &Bytes) {
        let Some(message) = spoil(self.fault, Way::In, (bytes, self.subject)) else { return };
        let flow = self.flow(self.subject.transport_of(from), from);
        self.turn(Input::Received { flow, message });
    }

    pub(super) fn command(&mut self, command: Command) {
        self.turn(Input::Command(command));
    }

    pub(super) fn turn(&mut self, input: Input) {
        self.drain(Queue::from([input]));
    }

    fn drain(&mut self, mut queue: Queue) {
        while let Some(input) = queue.pop_front() {
            let mut out = Vec::new();
            self.endpoint.handle(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Transmit { flow, bytes } => self.transmit(&flow, &bytes),
                    // There is one carrier, and no DNS.
                    Output::Locate(search) => {
                        queue.push_back(Input::Located { number: search.number, flow: None });
                    }
                    Output::Event(event) => self.event(event, &mut queue),
                    Output::Counted(_) | Output::Burden(..) => (),
                }
            }
        }
    }

    /// A message of ours goes out. What is sent elsewhere than to the carrier is lost.
    pub(super) fn transmit(&mut self, flow: &Flow, bytes: &Bytes) {
        let Some(bytes) = spoil(self.fault, Way::Out, (bytes, self.subject)) else { return };
        if self.subject.is_edge(flow.remote) {
            self.carrier.receive(self.now, (flow.remote, flow.local), &bytes);
        }
    }

    fn event(&mut self, event: Event, queue: &mut Queue) {
        if let Event::Invited(invitation) = event {
            return self.invited(*invitation, queue);
        }
        if let Event::RequestAnswered { token, answer } = event {
            return if token == REGISTER {
                self.registration_answered(*answer)
            };
        }
        let Some(live) = &mut self.live else { return };
        if let Event::Placed { dialog, .. } = event {
            live.dialog = Some(dialog);
            return;
        }
        if event.dialog().is_none() || event.dialog() != live.dialog {
            return;
        }
        if matches!(event, Event::Referred { .. }) {
            // As the engine does for every call: a carrier's transfer is refused.
            let side = LegOutput::RefuseRefer { status: 603 };
            return self.leg(side, queue);
        }
        if live.is_dialling() {
            self.dialling(event, queue);
        } else if let Some(input) = dial::input_of(event, None) {
            let input = match self.fault {
                Some(fault) => fault.told(input),
                None => input,
            };
            self.tell(CallInput::Leg(LegSide::Near, input), queue);
        }
    }

    /// What an event means to a call of ours that is not answered yet.
    fn dialling(&mut self, event: Event, queue: &mut Queue) {
        let Some(id) = self.live.as_ref().and_then(|live| live.trying) else { return };
        let input = match event {
            Event::Progressed { status, body, .. } => {
                let early_media = body.is_some();
                if status > 100 {
                    let body = body.map(|body| body.bytes);
                    let progress = LegInput::Progressed { status, body };
                    self.tell(CallInput::Leg(LegSide::Near, progress), queue);
                }
                AttemptInput::Progressed { id, status, early_media }
            }
            Event::Answered { body, .. } => {
                if let Some(live) = &mut self.live {
                    live.answer = body.map(|body| body.bytes);
                }
                AttemptInput::Answered { id }
            }
            Event::Refused { status, reason, note, response, .. } => match response {
                None if status == 408 => AttemptInput::TimedOut { id },
                None => AttemptInput::Unreachable { id },
                Some(_) => {
                    let phrase = String::from_utf8_lossy(&reason).into_owned();
                    AttemptInput::Refused { id, refusal: dial::refusal(status, phrase, &note) }
                }
            },
            Event::Ended { .. } | Event::TooLarge { .. } => AttemptInput::Unreachable { id },
            _ => return,
        };
        self.attempt(input, queue);
    }

    /// Tells the choice of gateways something, and does what it says.
    pub(super) fn attempt(&mut self, input: AttemptInput, queue: &mut Queue) {
        let now = self.now;
        let Some(attempt) = self.live.as_mut().and_then(|live| live.attempt.as_mut()) else {
            return;
        };
        let mut out = Vec::new();
        attempt.handle(now, input, &mut out);
        for output in out {
            match output {
                AttemptOutput::Try { id, attempt } => {
                    let flow = self.flow_to(&attempt.gateway);
                    let mut invite = dial::by_gateway(&attempt, flow);
                    let Some(live) = &mut self.live else { return };
                    invite.body.clone_from(&live.offer);
                    live.trying = Some(id);
                    live.dialog = None;
                    live.gateways.push(attempt.gateway.name.to_string());
                    let invite = Box::new(invite);
                    queue.push_back(Input::Command(Command::Invite { token: Token(1), invite }));
                    self.attempt(AttemptInput::Sent { id }, queue);
                }
                AttemptOutput::Abandon { cause, .. } => {
                    let dialog = self.live.as_ref().and_then(|live| live.dialog);
                    if let Some(dialog) = dialog {
                        queue.push_back(Input::Command(Command::Hangup { dialog, cause }));
                    }
                }
                AttemptOutput::Health { key, input, .. } => {
                    self.board.handle(now, &key, input, &mut Vec::new());
                }
                AttemptOutput::Throttle { trunk, retry_after } => {
                    self.throttled = true;
                    self.board.throttle(now, trunk, retry_after, &mut Vec::new());
                }
                AttemptOutput::Connected { .. } => {
                    let Some(live) = &mut self.live else { return };
                    live.trying = None;
                    let answered = LegInput::Answered(live.answer.take());
                    self.tell(CallInput::Leg(LegSide::Near, answered), queue);
                }
                AttemptOutput::GiveUp { cause, status, .. } => {
                    let Some(live) = &mut self.live else { return };
                    live.trying = None;
                    let failed = LegInput::DialFailed { cause, status };
                    self.tell(CallInput::Leg(LegSide::Near, failed), queue);
                }
            }
        }
    }

    /// Tells the call something, and does what it says.
    pub(super) fn tell(&mut self, input: CallInput, queue: &mut Queue) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(live) = &mut self.live else { return };
            let mut out = Vec::new();
            live.call.handle(self.now, input, &mut out);
            for output in out {
                match output {
                    CallOutput::Media(side, output) => {
                        let media = self.media(&output);
                        inputs.extend(media.map(|media| CallInput::Media(side, media)));
                    }
                    CallOutput::Agent(AgentOutput::Start) if !self.agent_waits => {
                        inputs.push_back(CallInput::Agent(AgentInput::Ready));
                    }
                    CallOutput::Leg(LegSide::Near, output) => self.leg(output, queue),
                    CallOutput::Record(event) => live_note(self.live.as_mut(), &event),
                    CallOutput::Leg(..)
                    | CallOutput::Agent(_)
                    | CallOutput::Connect(_)
                    | CallOutput::Supervise(..)
                    | CallOutput::AskWhoAnswers
                    | CallOutput::Finish => (),
                }
            }
        }
    }

    fn media(&mut self, output: &MediaOutput) -> Option<MediaInput> {
        let live = self.live.as_mut()?;
        match output {
            MediaOutput::Reserve => {
                let address = self.subject.subscription.address;
                let (rtp_port, rtcp_port) = (MEDIA_PORT, MEDIA_PORT + 1);
                Some(MediaInput::Reserved(Place { address, rtp_port, rtcp_port }))
            }
            MediaOutput::Open => Some(MediaInput::Opened),
            MediaOutput::Update(plan) => {
                live.plans.push(plan.clone());
                None
            }
            MediaOutput::StartPlayout => {
                live.speaks = true;
                None
            }
            MediaOutput::Expect(_)
            | MediaOutput::SendDigit(_)
            | MediaOutput::Play(_)
            | MediaOutput::StopPlaying
            | MediaOutput::Record(_)
            | MediaOutput::Mute { .. } => None,
            MediaOutput::Close => Some(MediaInput::Closed(Some(Box::default()))),
        }
    }

    fn leg(&mut self, output: LegOutput, queue: &mut Queue) {
        let Some(live) = &mut self.live else { return };
        if let LegOutput::Dial { offer, .. } = output {
            live.offer = offer;
            return self.attempt(AttemptInput::Started, queue);
        }
        if live.is_dialling() {
            match output {
                LegOutput::HangUp(_) => self.attempt(AttemptInput::Cancelled, queue),
                LegOutput::Offer(offer) => live.offer = offer,
                _ => (),
            }
            return;
        }
        if let LegOutput::Refuse { status, .. } = output {
            self.refused.push(status);
        }
        let Some(dialog) = live.dialog else { return };
        let trunk = &self.subject.trunk;
        // Whom we called has its numbers at the same gateway.
        let peer = PeerHost::of_caller(trunk, self.subject.calls_from());
        let command = invited_command(dialog, output, &|to| peer.number_uri(trunk, to));
        queue.extend(command.map(Input::Command));
    }
}

fn live_note(live: Option<&mut Live>, event: &CallEvent) {
    let Some(live) = live else { return };
    match event {
        CallEvent::Ended { cause, .. } => live.ended = Some(*cause),
        CallEvent::TransferCompleted => live.transferred = Some(Ok(())),
        CallEvent::TransferFailed(cause) => live.transferred = Some(Err(*cause)),
        _ => (),
    }
}

/// A message as the fault leaves it; `None`: lost.
fn spoil(fault: Option<&Fault>, way: Way, (bytes, subject): (&Bytes, &Subject)) -> Option<Bytes> {
    let Some(fault) = fault else { return Some(bytes.clone()) };
    let text = String::from_utf8_lossy(bytes).into_owned();
    fault.spoil(way, text, subject).map(Bytes::from)
}
