//! One call's task: turns `call::Call`, and carries out what it asks of signalling, media and agent.

use crate::agent::builtin::announce::Announcement;
use crate::audio::link::AgentEnd;
use crate::audio::link::link;
use crate::call::Call;
use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::call::input::LegOutput;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::leg::Place;
use crate::call::setup::CallSetup;
use crate::call::side::LegSide;
use crate::cdr::CallLog;
use crate::clock;
use crate::engine::agent_task;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::AgentSetup;
use crate::engine::call_metrics;
use crate::engine::media_events::MediaEvents;
use crate::engine::media_thread::MediaEvent;
use crate::engine::media_thread::MediaId;
use crate::engine::media_thread::MediaSetup;
use crate::engine::media_thread::RtpPorts;
use crate::engine::registry::PermitGuard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::engine::switch::SwitchListener;
use crate::engine::switch::Written;
use crate::media::setup::JITTER_DEPTH_MS;
use crate::routing::inbound::InboundRoute;
use crate::routing::trunk::RtcpMode;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Refusal;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::CallId;
use crate::types::moment::Moment;
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument;

/// Events of an agent that wait for its call.
const AGENT_EVENTS_MAX: usize = 16;

/// What a call begins with.
pub(super) struct CallSeed {
    pub(super) dialog: DialogId,
    pub(super) listener: SwitchListener,
    pub(super) permit: PermitGuard,
    pub(super) log: CallLog,
    pub(super) arrived: Moment,
    pub(super) source: IpAddr,
    pub(super) setup: CallSetup,
    pub(super) route: InboundRoute,
}

/// Starts the task of a call. Its record is reported as opened before anything is said to the caller.
pub(super) fn start(
    switch: &Arc<Switch>,
    shard: ShardHandle,
    mut seed: CallSeed,
    (inputs, queue): (mpsc::Sender<Input>, mpsc::Receiver<Input>),
) {
    let id = seed.log.record().id;
    let written = switch.ledger.report(seed.log.report());
    switch.registry.enter(clock::now(), id, seed.source, &inputs);
    drop(inputs);
    let span = tracing::info_span!("call", %id, trunk = %seed.route.trunk.name);
    let dialog = seed.dialog;
    let mut task = Task::new(Arc::clone(switch), shard, seed, queue);
    let guarded = async move {
        if AssertUnwindSafe(task.run(written)).catch_unwind().await.is_err() {
            task.close_after_fault();
            let hangup = Command::Hangup { dialog, cause: HangupCause::SwitchFault };
            task.shard.command(hangup).await;
        }
        let switch = Arc::clone(&task.switch);
        // Its permit goes back before it is said to be gone.
        drop(task);
        switch.registry.leave(clock::now(), id);
    };
    tokio::spawn(guarded.instrument(span));
}

struct Task {
    switch: Arc<Switch>,
    shard: ShardHandle,
    dialog: DialogId,
    listener: SwitchListener,
    route: InboundRoute,
    log: CallLog,
    arrived: Moment,
    call: Call,
    inputs: mpsc::Receiver<Input>,
    /// Inputs the task itself made; they go first.
    own: VecDeque<Input>,
    ports: Option<RtpPorts>,
    media: Option<(MediaId, MediaEvents)>,
    /// The agent's end of the link, until the agent is started.
    agent_end: Option<AgentEnd>,
    agent: Option<Voice>,
    /// Held until the task ends.
    _permit: PermitGuard,
}

/// Who speaks: the agent, or the fallback announcement in its place.
struct Voice {
    handle: AgentHandle,
    events: mpsc::Receiver<AgentEvent>,
    is_fallback: bool,
}

/// What woke the task.
enum Woken {
    Input(Option<Input>),
    Media(Option<MediaEvent>),
    Agent(Option<AgentEvent>),
    Deadline,
}

impl Task {
    fn new(
        switch: Arc<Switch>,
        shard: ShardHandle,
        seed: CallSeed,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        Self {
            switch,
            shard,
            dialog: seed.dialog,
            listener: seed.listener,
            route: seed.route,
            log: seed.log,
            arrived: seed.arrived,
            call: Call::new(seed.setup),
            inputs,
            own: VecDeque::new(),
            ports: None,
            media: None,
            agent_end: None,
            agent: None,
            _permit: seed.permit,
        }
    }

    async fn run(&mut self, written: Written) {
        tracing::info!("call begins");
        // Whatever kills this process after the caller heard of the call, its record will exist.
        written.await;
        let mut out = Vec::new();
        while !self.call.is_over() {
            let input = match self.own.pop_front() {
                Some(input) => input,
                None => match self.next().await {
                    Some(input) => input,
                    None => continue,
                },
            };
            self.call.handle(clock::now(), input, &mut out);
            for output in out.drain(..) {
                self.perform(output).await;
            }
        }
        let record = self.log.record();
        let cause = record.cause.map_or("", HangupCause::code);
        tracing::info!(cause, answered = self.call.is_answered(), "call ends");
        // Written in the background: the call is over either way.
        self.switch.ledger.report_later(self.log.report());
    }

    /// A panic ends one call, and its record says so.
    fn close_after_fault(&mut self) {
        tracing::error!("the call's task panicked; the call ends and its record is closed");
        let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
        self.log.note(clock::now(), CallEvent::Ended { cause, by, duration: Duration::ZERO });
        self.switch.ledger.report_later(self.log.report());
    }

    /// Waits for the next thing that concerns the call.
    async fn next(&mut self) -> Option<Input> {
        let deadline = self.call.deadline();
        let woken = tokio::select! {
            biased;
            input = self.inputs.recv() => Woken::Input(input),
            () = sleep_until(deadline) => Woken::Deadline,
            event = heard(self.media.as_mut()) => Woken::Media(event),
            event = said(self.agent.as_mut()) => Woken::Agent(event),
        };
        match woken {
            Woken::Input(Some(input)) => Some(input),
            // The shard and the registry gave the call up.
            Woken::Input(None) => {
                Some(Input::HangupRequested { cause: HangupCause::SwitchFault, by: Party::Switch })
            }
            Woken::Deadline => Some(Input::DeadlineReached),
            Woken::Media(Some(event)) => self.media_event(&event),
            Woken::Media(None) => {
                // The media thread dropped the session: nothing can be heard any more.
                self.media = None;
                let cause = HangupCause::SwitchFault;
                Some(Input::HangupRequested { cause, by: Party::Switch })
            }
            Woken::Agent(event) => self.agent_event(event),
        }
    }

    fn media_event(&self, event: &MediaEvent) -> Option<Input> {
        match event {
            MediaEvent::FirstPacket => Some(Input::Media(LegSide::Near, MediaInput::FirstPacket)),
            MediaEvent::Digit { digit, .. } => {
                Some(Input::Media(LegSide::Near, MediaInput::Digit(*digit)))
            }
            MediaEvent::TimedOut => Some(Input::Media(LegSide::Near, MediaInput::TimedOut)),
            MediaEvent::Failed => {
                Some(Input::HangupRequested { cause: HangupCause::SwitchFault, by: Party::Switch })
            }
        }
    }

    fn agent_event(&mut self, event: Option<AgentEvent>) -> Option<Input> {
        let is_fallback = self.agent.as_ref().is_some_and(|voice| voice.is_fallback);
        let Some(event) = event else {
            // Its task ended without a word.
            self.agent = None;
            return Some(if is_fallback {
                Input::Agent(AgentInput::FallbackPlayed)
            } else {
                Input::Agent(AgentInput::Lost(HangupCause::AgentLost))
            });
        };
        match (event, is_fallback) {
            (AgentEvent::Ready, false) => Some(Input::Agent(AgentInput::Ready)),
            (AgentEvent::Failed(cause), false) => Some(Input::Agent(AgentInput::Failed(cause))),
            (AgentEvent::Lost(cause), false) => Some(Input::Agent(AgentInput::Lost(cause))),
            (AgentEvent::HangupRequested, false) => Some(Input::Agent(AgentInput::HungUp)),
            (AgentEvent::Notes(counters), _) => {
                tracing::debug!(?counters, "agent's link ended");
                call_metrics::count_agent(&counters);
                None
            }
            (AgentEvent::Ready, true) => None,
            (AgentEvent::Failed(_) | AgentEvent::Lost(_) | AgentEvent::HangupRequested, true) => {
                Some(Input::Agent(AgentInput::FallbackPlayed))
            }
        }
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Leg(LegSide::Near, output) => self.signal(output).await,
            Output::Media(LegSide::Near, output) => self.run_media(output).await,
            Output::Agent(output) => self.run_agent(output),
            Output::Record(event) => self.note(event),
            // This node has no legs but the near one, and no path but between it and its agent.
            Output::Leg(LegSide::Far | LegSide::Third, _)
            | Output::Media(LegSide::Far | LegSide::Third, _)
            | Output::Connect(_)
            | Output::Finish => (),
        }
    }

    async fn signal(&mut self, output: LegOutput) {
        let dialog = self.dialog;
        let command = match output {
            LegOutput::Progress { status, body } => Command::Progress { dialog, status, body },
            LegOutput::Answer(body) => Command::Accept { dialog, body },
            LegOutput::Refuse { cause, status } => {
                let retry_after_s = cause.retry_after_s();
                let refusal = Refusal { status, cause, retry_after_s, headers: Vec::new() };
                Command::Refuse { dialog, refusal }
            }
            LegOutput::AnswerReoffer(body) => Command::AnswerReinvite { dialog, body },
            LegOutput::RefuseReoffer(cause) => {
                Command::RefuseReinvite { dialog, status: cause.sip_status(), cause }
            }
            LegOutput::Reoffer(body) => Command::Reinvite { dialog, body },
            LegOutput::Acknowledge(body) => Command::Acknowledge { dialog, body },
            LegOutput::HangUp(cause) => Command::Hangup { dialog, cause },
            // Nothing gives this node's calls an occasion for these.
            LegOutput::Dial { .. }
            | LegOutput::Offer(_)
            | LegOutput::Refer(_)
            | LegOutput::AcceptRefer
            | LegOutput::RefuseRefer { .. }
            | LegOutput::NotifyRefer { .. }
            | LegOutput::AnswerReplacement(_)
            | LegOutput::RefuseReplacement(_) => return,
        };
        self.shard.command(command).await;
    }

    async fn run_media(&mut self, output: MediaOutput) {
        match output {
            MediaOutput::Reserve => self.reserve_media(),
            MediaOutput::Open => self.open_media(),
            MediaOutput::Update(plan) => {
                if let Some((media, _)) = &self.media {
                    self.switch.media.update(*media, plan);
                }
            }
            MediaOutput::StartPlayout => {
                if let Some((media, _)) = &self.media {
                    self.switch.media.start_playout(*media);
                }
            }
            MediaOutput::Close => self.close_media().await,
            // Keys are sent where a call has two legs.
            MediaOutput::SendDigit(_) => (),
        }
    }

    fn run_agent(&mut self, output: AgentOutput) {
        match output {
            AgentOutput::Start => self.start_agent(false),
            AgentOutput::TellAnswered => {
                if let Some(voice) = &self.agent {
                    voice.handle.call_answered();
                }
            }
            AgentOutput::TellDigit(digit) => {
                if let Some(voice) = &self.agent {
                    voice.handle.digit(digit);
                }
            }
            AgentOutput::End => {
                if let Some(voice) = self.agent.take() {
                    voice.handle.end();
                    count_notes(voice.events);
                }
            }
            AgentOutput::StartFallback => self.start_fallback(),
            // No dialect has a word for it.
            AgentOutput::TellTransfer(_) => (),
        }
    }

    /// An answered call is reported, so that the record of an interrupted one has its answer.
    fn note(&mut self, event: CallEvent) {
        let now = clock::now();
        call_metrics::count(now, self.arrived, self.call.is_answered(), &event);
        let answered = matches!(event, CallEvent::Answered(_));
        self.log.note(now, event);
        if answered {
            self.switch.ledger.report_later(self.log.report());
        }
    }

    fn reserve_media(&mut self) {
        let input = match self.switch.media.reserve(self.listener.bind) {
            Ok(ports) => {
                let place = Place {
                    address: self.rtp_address(),
                    rtp_port: ports.rtp_port,
                    rtcp_port: ports.rtcp_port,
                };
                self.ports = Some(ports);
                MediaInput::Reserved(place)
            }
            Err(_) => MediaInput::Refused(HangupCause::NoPorts),
        };
        self.own.push_back(Input::Media(LegSide::Near, input));
    }

    fn rtp_address(&self) -> IpAddr {
        self.route.trunk.media.advertise_rtp.unwrap_or(self.listener.rtp_address)
    }

    fn open_media(&mut self) {
        let Some(ports) = self.ports.take() else { return };
        let (media_end, agent_end) = link();
        let setup = MediaSetup {
            plan: None,
            seed: clock::random_u64(),
            inactivity: self.route.trunk.media.inactivity,
            allowed: self.route.trunk.media.remote_cidrs.clone(),
            rtcp: self.route.trunk.media.rtcp != RtcpMode::Off,
            jitter_depth_ms: JITTER_DEPTH_MS,
            playout_held: true,
        };
        match self.switch.media.open(ports, setup, media_end) {
            Ok(media) => {
                self.media = Some(media);
                self.agent_end = Some(agent_end);
                self.own.push_back(Input::Media(LegSide::Near, MediaInput::Opened));
            }
            Err(_) => {
                let refused = MediaInput::Refused(HangupCause::Overload);
                self.own.push_back(Input::Media(LegSide::Near, refused));
            }
        }
    }

    async fn close_media(&mut self) {
        self.ports = None;
        let figures = match self.media.take() {
            Some((media, events)) => {
                drop(events);
                Some(Box::new(self.switch.media.close(media).await.figures()))
            }
            None => None,
        };
        self.own.push_back(Input::Media(LegSide::Near, MediaInput::Closed(figures)));
    }

    fn start_agent(&mut self, is_fallback: bool) {
        let Some(end) = self.agent_end.take() else { return };
        let (events_in, events) = mpsc::channel(AGENT_EVENTS_MAX);
        let call = AgentCall {
            call_id: self.id(),
            tenant: self.route.tenant.id,
            caller: self.route.caller.shown().to_owned(),
            dialled: self.route.dialled,
        };
        let handle = if is_fallback {
            agent_task::start_announcement(Announcement::Fallback, end, events_in)
        } else {
            let settings = self.route.profile.agent.clone();
            let roots = self.switch.roots.clone();
            agent_task::start(AgentSetup { settings, call, end, roots }, events_in)
        };
        if let Some(before) = self.agent.replace(Voice { handle, events, is_fallback }) {
            count_notes(before.events);
        }
    }

    /// The announcement gets a link of its own: what the agent still had queued is not played.
    fn start_fallback(&mut self) {
        let Some((media, _)) = &self.media else { return };
        let (media_end, agent_end) = link();
        self.switch.media.attach(*media, media_end);
        self.agent_end = Some(agent_end);
        self.start_agent(true);
    }

    fn id(&self) -> CallId {
        self.log.record().id
    }
}

/// Counts what went over the link of an agent whom the call is through with: its task tells that last,
/// and the call does not wait for it.
fn count_notes(mut events: mpsc::Receiver<AgentEvent>) {
    let counting = async move {
        while let Some(event) = events.recv().await {
            if let AgentEvent::Notes(counters) = event {
                tracing::debug!(?counters, "agent's link ended");
                call_metrics::count_agent(&counters);
            }
        }
    };
    tokio::spawn(counting.in_current_span());
}

/// Waits for `moment`, or for ever.
async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

/// The next event of the media session, or nothing ever without one.
async fn heard(media: Option<&mut (MediaId, MediaEvents)>) -> Option<MediaEvent> {
    match media {
        Some((_, events)) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// The next event of who speaks, or nothing ever without one.
async fn said(voice: Option<&mut Voice>) -> Option<AgentEvent> {
    match voice {
        Some(voice) => voice.events.recv().await,
        None => std::future::pending().await,
    }
}
