//! One call's task: turns `call::Call`, and carries out what it asks of signalling, media and agent.

mod asking;
mod departed;
mod errands;
mod legs;
mod media;
mod numbers;
mod on_hold;
mod recordings;
mod replacement;
mod script;
mod status;
mod supervision;
#[cfg(test)]
mod tests;
mod voice;

pub(crate) use legs::invited_command;
pub(crate) use media::media_rules;

use crate::agent::story::Story;
use crate::call::Call;
use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::Output;
use crate::call::setup::CallSetup;
use crate::call::side::LegSide;
use crate::cdr::CallLog;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::engine::agent_task::AgentEvent;
use crate::engine::answer_hook::Answer;
use crate::engine::answer_hook::Asking;
use crate::engine::call_metrics;
use crate::engine::call_task::departed::Aside;
pub(super) use crate::engine::call_task::legs::Near;
use crate::engine::call_task::legs::Others;
use crate::engine::call_task::media::Slot;
use crate::engine::call_task::recordings::Recordings;
use crate::engine::call_task::script::ScriptState;
use crate::engine::call_task::status::StatusCallback;
use crate::engine::call_task::voice::Voice;
use crate::engine::call_task::voice::VoiceEvent;
use crate::engine::dial::DialId;
use crate::engine::dial::DialNews;
use crate::engine::errand::Errand;
use crate::engine::mailbox;
use crate::engine::media_thread::MediaEvent;
use crate::engine::partner;
use crate::engine::registry::CampaignGuard;
use crate::engine::registry::PermitGuard;
use crate::engine::switch::Switch;
use crate::engine::switch::SwitchListener;
use crate::engine::switch::Written;
use crate::engine::trace;
use crate::media::session::Clip;
use crate::recording::recorder::Outcome;
use crate::routing::gateway::Gateway;
use crate::routing::invite_form::called_uri;
use crate::routing::outbound::OutboundPlan;
use crate::routing::passing::Passing;
use crate::routing::table::AiProfile;
use crate::routing::table::Tenant;
use crate::routing::trail::Trail;
use crate::routing::trunk::Trunk;
use crate::types::answer_hook::AskFault;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::RecordingId;
use crate::types::limit::CALL_ERRANDS_MAX;
use crate::types::moment::Moment;
use crate::types::number::E164;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// How long what happened waits for more, before it is reported together.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// Outputs for which a thread keeps room: hardly a call has more at once.
const SPARE_OUTPUTS_MAX: usize = 16;

thread_local! {
    /// Room for outputs, which a call needs while it acts alone: each with its own would ask for it anew.
    static SPARE_OUTPUTS: Cell<Vec<Output>> = const { Cell::new(Vec::new()) };
}

/// Keeps the room of outputs that were carried out for the next call on this thread.
fn give_outputs_back(out: Vec<Output>) {
    if out.is_empty() && out.capacity() <= SPARE_OUTPUTS_MAX {
        SPARE_OUTPUTS.set(out);
    }
}

/// What records have in the place of a key that is private.
const HIDDEN_KEY: char = '?';

/// What a call begins with.
pub(super) struct CallSeed {
    pub(super) near: NearSeed,
    pub(super) listener: Arc<SwitchListener>,
    pub(super) log: CallLog,
    pub(super) setup: CallSetup,
    pub(super) route: CallRoute,
    /// Its place among the calls of a campaign.
    pub(super) campaign: Option<CampaignGuard>,
}

/// Where the near leg comes from.
pub(super) enum NearSeed {
    /// It called us.
    Invited(Near, PermitGuard, IpAddr),
    /// We call it.
    Dialled(Box<OutboundPlan>),
}

/// Whose call it is and who takes part in it.
pub(super) struct CallRoute {
    pub(super) tenant: Arc<Tenant>,
    pub(super) profile: Arc<AiProfile>,
    /// The trunk of the near leg.
    pub(super) trunk: Arc<Trunk>,
    /// Who calls, as shown to agents.
    pub(super) caller: String,
    /// The number called.
    pub(super) dialled: E164,
    /// What the headers of the near leg set.
    pub(super) variables: CallVariables,
    /// The caller does not want to be shown to others.
    pub(super) withheld: bool,
    /// What came with the near leg's INVITE and may go on with the call.
    pub(super) passing: Option<Box<Passing>>,
    /// The numbers of ours that it came through; none of a call of ours.
    pub(super) trail: Trail,
    /// Max-Forwards that is left for a leg this call goes on to.
    pub(super) hops_left: u8,
    /// Where the near leg's peer has its numbers.
    pub(super) peer_host: PeerHost,
    /// It is recorded from its answer on.
    pub(super) record: bool,
    /// Who answers it is to be told from a machine.
    pub(super) screened: bool,
}

/// Where a peer has its numbers. Hardly a call asks, so their addresses are written only then.
#[derive(Clone, Debug)]
pub(crate) enum PeerHost {
    /// At a gateway of its trunk, as calls by that have them.
    Gateway(Arc<Gateway>),
    /// At the address it calls from.
    At(SocketAddr),
    /// Nobody knows.
    Unknown,
}

impl PeerHost {
    /// That of who calls by a trunk from `remote`: its gateway, else the address it calls from.
    pub(crate) fn of_caller(trunk: &Trunk, remote: SocketAddr) -> Self {
        let gateway = trunk.outbound.as_ref().and_then(|outbound| outbound.gateways.first());
        gateway.map_or(Self::At(remote), |gateway| Self::Gateway(Arc::clone(gateway)))
    }

    /// The address of a number at the peer of a leg by `trunk`, for a REFER to that.
    pub(crate) fn number_uri(&self, trunk: &Trunk, to: E164) -> String {
        let number = to.as_str();
        match self {
            Self::Gateway(gateway) => called_uri(trunk, gateway, to)
                .unwrap_or_else(|| format!("sip:{number}@{}", gateway.uri.host)),
            Self::At(address) => format!("sip:{number}@{address}"),
            Self::Unknown => format!("tel:{number}"),
        }
    }
}

impl CallRoute {
    /// The address of a number at the near leg's peer, for a REFER to that.
    fn number_uri(&self, to: E164) -> String {
        self.peer_host.number_uri(&self.trunk, to)
    }
}

/// Starts the task of a call. Its record is reported as opened before anything is said to the near leg.
pub(super) fn start(
    switch: &Arc<Switch>,
    mut seed: CallSeed,
    (inputs, queue): (mailbox::Sender<Input>, mailbox::Receiver<Input>),
) {
    let id = seed.log.record().id;
    if !seed.route.variables.is_empty() {
        let variables = Box::new(seed.route.variables.clone());
        seed.log.note(clock::now(), CallEvent::VariablesSet(variables));
    }
    let next_profiles = partner::fallbacks(&switch.table.load(), &seed.route.profile);
    seed.setup.fallbacks = partner::next_agents(&next_profiles);
    let report = seed.log.report();
    switch.live.tell_report(&report);
    let written = switch.ledger.report(report);
    let source = match &seed.near {
        NearSeed::Invited(_, _, source) => Some(*source),
        NearSeed::Dialled(_) => None,
    };
    let whose = (id, seed.route.tenant.id, &seed.route.trunk);
    switch.registry.enter(clock::now(), whose, source, &inputs);
    trace::begin_call(switch.shards.get(), id);
    let (errands_in, errands) = mailbox::bounded(CALL_ERRANDS_MAX);
    switch.registry.take_errands(id, errands_in);
    let span = tracing::info_span!("call", %id, trunk = %seed.route.trunk.name);
    let mut task = Task::new(Arc::clone(switch), seed, (inputs, queue, errands));
    task.next_profiles = next_profiles.into();
    task.status = task.status_callback();
    let guarded = async move {
        if AssertUnwindSafe(task.run(written)).catch_unwind().await.is_err() {
            task.close_after_fault();
            // Of its own, as below: a call that talks need not hold the room for what hardly one comes to.
            Box::pin(task.hang_up_near(HangupCause::SwitchFault)).await;
        }
        let switch = Arc::clone(&task.switch);
        // Its permit goes back before it is said to be gone.
        drop(task);
        trace::end_call(switch.shards.get(), id);
        if let Some(replacement) = switch.registry.leave(clock::now(), id) {
            Box::pin(replacement.refuse(&switch, HangupCause::UnknownDialog)).await;
        }
    };
    // By pointer: it is some kilobytes long, which each step of its birth would copy, and its end once more.
    tokio::spawn(Box::pin(guarded.instrument(span)));
}

/// Where a call hears from everybody, and of everything.
type Queues = (mailbox::Sender<Input>, mailbox::Receiver<Input>, mailbox::Receiver<Box<Errand>>);

struct Task {
    switch: Arc<Switch>,
    near: Near,
    listener: Arc<SwitchListener>,
    route: CallRoute,
    log: CallLog,
    call: Call,
    inputs: mailbox::Receiver<Input>,
    /// What applications ask.
    errands: mailbox::Receiver<Box<Errand>>,
    /// What is about to be played.
    clip: Option<Box<Clip>>,
    /// Inputs the task itself made; they go first.
    own: VecDeque<Input>,
    media: Slot,
    recordings: Recordings,
    voice: Option<Voice>,
    script_state: ScriptState,
    /// Who is told how the call gets on.
    status: Option<Box<StatusCallback>>,
    /// The question who answers, until it is answered.
    asking: Option<Asking>,
    /// Whose agents take over in turn.
    next_profiles: Box<[Arc<AiProfile>]>,
    /// Legs that were dialled, and what belongs to them; most calls have none.
    others: Option<Box<Others>>,
    /// Keeps the queue open where the call may outlive its caller's leg.
    kept: Option<mailbox::Sender<Input>>,
    /// Turns that its agents told so far.
    said: u32,
    /// When what happened since the last report is reported.
    report_at: Option<Moment>,
    aside: Option<Box<Aside>>,
    /// The last of it, for an agent that takes over.
    story: Story,
    /// Held until the task ends.
    _permit: Option<PermitGuard>,
    _campaign: Option<CampaignGuard>,
}

/// What woke the task.
enum Woken {
    Input(Option<Input>),
    Media(LegSide, Option<MediaEvent>),
    Voice(VoiceEvent),
    Errand(Box<Errand>),
    News(DialId, DialNews),
    Recorded(RecordingId, Outcome),
    Answered(Result<Answer, AskFault>),
    Deadline,
}

impl Task {
    fn new(switch: Arc<Switch>, seed: CallSeed, (inputs_in, inputs, errands): Queues) -> Self {
        let mut own = VecDeque::new();
        let (near, permit, others) = match seed.near {
            // The shard holds the queue open: when it gives the call up, the queue ends.
            NearSeed::Invited(near, permit, _) => (near, Some(permit), None),
            NearSeed::Dialled(plan) => {
                own.push_back(Input::Begun);
                (Near::Dialled(inputs_in), None, Some(Box::new(Others::new(Some(plan)))))
            }
        };
        Self {
            switch,
            near,
            listener: seed.listener,
            route: seed.route,
            log: seed.log,
            call: Call::new(seed.setup),
            inputs,
            errands,
            clip: None,
            own,
            media: Slot::default(),
            recordings: Recordings::default(),
            voice: None,
            script_state: ScriptState::default(),
            status: None,
            asking: None,
            next_profiles: Box::default(),
            others,
            kept: None,
            said: 0,
            report_at: None,
            aside: None,
            story: Story::default(),
            _permit: permit,
            _campaign: seed.campaign,
        }
    }

    async fn run(&mut self, written: Written) {
        tracing::info!("call begins");
        // Whatever kills this process after the caller heard of the call, its record will exist.
        written.await;
        while !self.call.is_over() {
            let input = match self.own.pop_front() {
                Some(input) => input,
                None => match self.next().await {
                    Some(input) => input,
                    None => continue,
                },
            };
            self.keep_no_longer(&input);
            let mut out = SPARE_OUTPUTS.take();
            self.call.handle(clock::now(), input, &mut out);
            for output in out.drain(..) {
                if let Some(lasting) = self.perform(output) {
                    lasting.await;
                }
            }
            give_outputs_back(out);
            self.record_from_answer().await;
        }
        let record = self.log.record();
        let cause = record.cause.map_or("", HangupCause::code);
        tracing::info!(cause, answered = self.call.is_answered(), "call ends");
        // Written in the background: the call is over either way.
        self.switch.ledger.report_later(self.log.report());
    }

    /// A panic ends one call, and its record says so; one that had ended before is only written.
    fn close_after_fault(&mut self) {
        tracing::error!("the call's task panicked; the call ends and its record is closed");
        if !self.log.record().is_closed() {
            let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
            // What the record says is believed, not the call, in which the panic may have been.
            let answered = self.log.record().stages.answered;
            let duration = answered.map_or(Duration::ZERO, |at| clock::now().since(at));
            self.note(CallEvent::Ended { cause, by, duration });
        }
        self.switch.ledger.report_later(self.log.report());
    }

    /// Waits for the next thing that concerns the call.
    async fn next(&mut self) -> Option<Input> {
        let deadline = self.call.deadline().into_iter().chain(self.report_at).min();
        let woken = tokio::select! {
            biased;
            input = self.inputs.recv() => Woken::Input(input),
            () = sleep_until(deadline) => Woken::Deadline,
            event = self.media.heard() => Woken::Media(LegSide::Near, event),
            event = voice::said(self.voice.as_mut(), &mut self.aside) => Woken::Voice(event),
            woken = legs::heard(self.others.as_deref_mut()) => woken,
            Some(errand) = self.errands.recv() => Woken::Errand(errand),
            (id, outcome) = self.recordings.ended() => Woken::Recorded(id, outcome),
            answer = asking::answered(&mut self.asking) => Woken::Answered(answer),
        };
        match woken {
            Woken::Input(Some(Input::Leg(LegSide::Near, LegInput::Replaced(by)))) => {
                Box::pin(self.placed(by)).await
            }
            Woken::Input(Some(input)) => Some(input),
            // The shard and the registry gave the call up.
            Woken::Input(None) => {
                Some(Input::HangupRequested { cause: HangupCause::SwitchFault, by: Party::Switch })
            }
            Woken::Deadline => self.due(),
            Woken::Media(side, event) => self.media_event(side, event),
            // Of its own, as what else is rare: who waits need not hold the room for it.
            Woken::Voice(VoiceEvent::Agent(Some(AgentEvent::DigitsRequested(digits)))) => {
                if !self.is_announcing() {
                    Box::pin(self.send_keys_for_agent(&digits)).await;
                }
                None
            }
            Woken::Voice(VoiceEvent::Agent(event)) => self.agent_event(event),
            Woken::Voice(VoiceEvent::Script(event)) => Box::pin(self.script_news(event)).await,
            Woken::Voice(VoiceEvent::Departed(counters)) => {
                self.note_link(&counters);
                None
            }
            Woken::News(id, news) => self.dial_news(id, news),
            Woken::Answered(answer) => Some(self.who_answers(answer)),
            Woken::Recorded(id, outcome) => {
                self.recorded(id, outcome);
                None
            }
            Woken::Errand(errand) => {
                Box::pin(self.run_errand(*errand)).await;
                None
            }
        }
    }

    /// Carries out what the call asks. What lasts is given back, of its own: a call that talks, and signals nothing,
    /// need not hold the room for it.
    fn perform(&mut self, output: Output) -> Option<BoxFuture<'_, ()>> {
        match output {
            Output::Leg(side, output) => return self.signal(side, output),
            Output::Media(side, output) => return self.run_media(side, output),
            Output::Agent(output) => self.run_agent(output),
            Output::Connect(path) => {
                self.connect(path);
                self.play_on_hold(path);
            }
            Output::Supervise(seat, mode) => self.supervise(seat, mode),
            Output::AskWhoAnswers => self.ask_who_answers(),
            Output::Record(event) => {
                if matches!(event, CallEvent::Ended { .. }) && self.aside.is_some() {
                    return Some(Box::pin(self.record_end(event)));
                }
                let event = self.with_charge(event);
                let event = self.with_fault(event);
                self.note(event);
            }
            Output::Finish => (),
        }
        None
    }

    /// An answered call is reported, so that the record of an interrupted one has its answer; what applications
    /// want to hear of, a moment later, so that they hear of it while the call goes on, and a kill costs no more.
    fn note(&mut self, mut event: CallEvent) {
        let now = clock::now();
        if let CallEvent::Digit(digit) = &mut event
            && self.keys_are_private()
        {
            *digit = HIDDEN_KEY;
        }
        call_metrics::count(now, self.log.record(), &event);
        let (answered, is_inside) = (matches!(event, CallEvent::Answered(_)), event.is_inside());
        if let Some(status) = &mut self.status {
            status.noted(&event);
        }
        let heard = self.switch.live.is_heard().then(|| event.clone());
        let seq = self.log.note(now, event);
        if let Some(event) = heard {
            self.switch.live.tell(self.log.record(), TimedEvent { seq, at: now, event });
        }
        if answered {
            self.screen();
            self.report();
        } else if !is_inside && self.report_at.is_none() {
            self.report_at = Some(now + REPORT_AFTER);
        }
    }

    fn report(&mut self) {
        self.report_at = None;
        self.switch.ledger.report_later(self.log.report());
    }

    /// Something is due: a report, or what the call waits for.
    fn due(&mut self) -> Option<Input> {
        if self.report_at.is_some_and(|at| at <= clock::now()) {
            // Past what is kept of a call there is nothing new to be told.
            if self.log.has_news() {
                self.report();
            }
            self.report_at = None;
            return None;
        }
        Some(Input::DeadlineReached)
    }

    fn leg(&mut self, side: LegSide, input: LegInput) {
        self.own.push_back(Input::Leg(side, input));
    }

    fn id(&self) -> CallId {
        self.log.record().id
    }
}

/// Waits for `moment`, or for ever.
async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}
