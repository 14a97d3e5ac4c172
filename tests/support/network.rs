//! Two endpoints that call each other over a network that loses, doubles and reorders, in virtual
//! time and from one seed.

use super::SDP;
use super::between;
use super::config;
use super::script::outbound;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;
use tandem::sip::endpoint::Endpoint;
use tandem::sip::endpoint::config::EndpointConfig;
use tandem::sip::endpoint::config::Gauges;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogEnd;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Output;
use tandem::sip::endpoint::event::Refusal;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::endpoint::policy::Reliable;
use tandem::types::cause::HangupCause;
use tandem::types::moment::Moment;
use tandem::types::random::Random;
use tandem::types::transport::Transport;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) lost_percent: u64,
    pub(crate) doubled_percent: u64,
    pub(crate) delay_ms_max: u64,
}

pub(crate) const CALM: Weather = Weather { lost_percent: 0, doubled_percent: 0, delay_ms_max: 1 };
pub(crate) const STORM: Weather =
    Weather { lost_percent: 15, doubled_percent: 10, delay_ms_max: 120 };

/// The caller's side or the called one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Caller,
    Called,
}

/// What the two users do in one call; times in ms after the event that begins them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) ring_ms: Option<u64>,
    /// After the INVITE came.
    pub(crate) answer_ms: u64,
    pub(crate) refuses: bool,
    /// After the INVITE was sent.
    pub(crate) caller_hangs_up_ms: Option<u64>,
    /// After the ACK came.
    pub(crate) called_hangs_up_ms: Option<u64>,
    pub(crate) reinvite_ms: Option<u64>,
}

impl Plan {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut some = |percent: u64, ms: u64| {
            let at = random.below(ms);
            (random.below(100) < percent).then_some(at)
        };
        Self {
            ring_ms: some(70, 300),
            answer_ms: some(100, 4_000).unwrap_or(0),
            refuses: some(20, 1).is_some(),
            caller_hangs_up_ms: some(60, 9_000),
            called_hangs_up_ms: Some(some(60, 6_000).unwrap_or(20_000)),
            reinvite_ms: some(30, 5_000),
        }
    }
}

/// What one side heard of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) invited: u32,
    pub(crate) answered: u32,
    pub(crate) acknowledged: u32,
    pub(crate) ends: Vec<String>,
    pub(crate) refused_by_us: bool,
    pub(crate) after_end: u32,
}

enum Act {
    Deliver(Side, Flow, Bytes),
    Invite(usize),
    Command(Side, Command),
}

/// The two endpoints and all that is on its way.
pub(crate) struct Lab {
    pub(crate) caller: Endpoint,
    pub(crate) called: Endpoint,
    pub(crate) now: Moment,
    pub(crate) counted: HashMap<Counter, u32>,
    pub(crate) stories: HashMap<(Side, DialogId), Story>,
    transport: Transport,
    weather: Weather,
    policy: DialogPolicy,
    random: Random,
    agenda: BTreeMap<(Moment, u64), Act>,
    sequence: u64,
    plans: Vec<Plan>,
    /// Which call a dialog of the called side is, by Call-ID.
    calls: HashMap<(Side, DialogId), usize>,
    by_name: HashMap<Vec<u8>, usize>,
    /// Last arrival each way: a stream keeps order.
    arrivals: [Moment; 2],
}

const CALLER: &str = "192.0.2.2:5060";
const CALLED: &str = "192.0.2.1:5060";

impl Lab {
    pub(crate) fn new(seed: u64, transport: Transport, weather: Weather) -> Self {
        Self::with_policy(seed, transport, weather, DialogPolicy::default())
    }

    /// A lab whose dialogs behave by `policy` on both sides.
    pub(crate) fn with_policy(
        seed: u64,
        transport: Transport,
        weather: Weather,
        policy: DialogPolicy,
    ) -> Self {
        let mut random = Random::from_seed(seed);
        let mut endpoint = |host: &str| {
            let config = config(random.next_u64(), host);
            Endpoint::new(EndpointConfig { policy, ..config })
        };
        Self {
            caller: endpoint("192.0.2.2"),
            called: endpoint("192.0.2.1"),
            now: Moment::START,
            counted: HashMap::new(),
            stories: HashMap::new(),
            transport,
            weather,
            policy,
            random,
            agenda: BTreeMap::new(),
            sequence: 0,
            plans: Vec::new(),
            calls: HashMap::new(),
            by_name: HashMap::new(),
            arrivals: [Moment::START; 2],
        }
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Plans a call that begins `after_ms` from now.
    pub(crate) fn plan(&mut self, after_ms: u64, plan: Plan) {
        self.plans.push(plan);
        self.schedule(after_ms, Act::Invite(self.plans.len() - 1));
    }

    fn schedule(&mut self, after_ms: u64, act: Act) {
        self.schedule_at(self.now + Duration::from_millis(after_ms), act);
    }

    fn schedule_at(&mut self, at: Moment, act: Act) {
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), act);
    }

    /// Lets everything happen until nothing more can.
    pub(crate) fn run(&mut self) {
        loop {
            let next = self.agenda.first_key_value().map(|(key, _)| key.0);
            let deadlines = [self.caller.deadline(), self.called.deadline()];
            let Some(at) = deadlines.into_iter().chain([next]).flatten().min() else { return };
            self.now = self.now.max(at);
            if deadlines[0].is_some_and(|deadline| deadline <= self.now) {
                self.turn(Side::Caller, Input::DeadlineReached);
            } else if deadlines[1].is_some_and(|deadline| deadline <= self.now) {
                self.turn(Side::Called, Input::DeadlineReached);
            } else if let Some((_, act)) = self.agenda.pop_first() {
                self.act(act);
            }
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Deliver(side, flow, message) => {
                self.turn(side, Input::Received { flow, message });
            }
            Act::Command(side, command) => self.turn(side, Input::Command(command)),
            Act::Invite(index) => {
                let flow = between(self.transport, CALLER, CALLED);
                let name = format!("sip:{index}@192.0.2.1");
                let (uri, to, policy) = (name.clone(), name.clone(), self.policy);
                let invite = OutboundInvite { uri, to, policy, ..outbound(flow) };
                let mut out = Vec::new();
                let dialog = self.caller.invite(self.now, invite, &mut out);
                self.by_name.insert(name.into_bytes(), index);
                self.calls.insert((Side::Caller, dialog), index);
                self.stories.insert((Side::Caller, dialog), Story::default());
                if let Some(ms) = self.plans[index].caller_hangs_up_ms {
                    let cause = HangupCause::Normal;
                    self.schedule(
                        ms,
                        Act::Command(Side::Caller, Command::Hangup { dialog, cause }),
                    );
                }
                self.perform(Side::Caller, out);
            }
        }
    }

    fn turn(&mut self, side: Side, input: Input) {
        let mut out = Vec::new();
        match side {
            Side::Caller => self.caller.handle(self.now, input, &mut out),
            Side::Called => self.called.handle(self.now, input, &mut out),
        }
        self.perform(side, out);
    }

    fn perform(&mut self, side: Side, out: Vec<Output>) {
        let mut searches = Vec::new();
        for output in out {
            match output {
                Output::Transmit { bytes, .. } | Output::Burden(_, bytes) => {
                    self.carry(side, &bytes);
                }
                Output::Locate(search) => searches.push(search.number),
                Output::Event(event) => self.event(side, event),
                Output::Counted(counter) => *self.counted.entry(counter).or_default() += 1,
            }
        }
        for number in searches {
            self.turn(side, Input::Located { number, flow: None });
        }
    }

    fn carry(&mut self, from: Side, bytes: &Bytes) {
        let (to, local, remote) = match from {
            Side::Caller => (Side::Called, CALLED, CALLER),
            Side::Called => (Side::Caller, CALLER, CALLED),
        };
        let flow = between(self.transport, local, remote);
        if self.transport.is_reliable() {
            let delay = Duration::from_millis(1 + self.random.below(self.weather.delay_ms_max));
            let arrival = &mut self.arrivals[usize::from(to == Side::Called)];
            *arrival = (*arrival).max(self.now + delay);
            let at = *arrival;
            return self.schedule_at(at, Act::Deliver(to, flow, bytes.clone()));
        }
        let copies = 1 + u64::from(self.random.below(100) < self.weather.doubled_percent);
        for _ in 0..copies {
            if self.random.below(100) >= self.weather.lost_percent {
                let delay = 1 + self.random.below(self.weather.delay_ms_max);
                self.schedule(delay, Act::Deliver(to, flow, bytes.clone()));
            }
        }
    }

    fn event(&mut self, side: Side, event: Event) {
        if let Event::Invited(invitation) = &event {
            let dialog = invitation.dialog;
            let index = self.by_name[invitation.request.uri.as_bytes().as_ref()];
            self.calls.insert((side, dialog), index);
            self.stories.insert((side, dialog), Story { invited: 1, ..Story::default() });
            return self.invited(dialog, self.plans[index]);
        }
        if let Event::Declined(declined) = &event {
            // A re-INVITE that was under way when the other side ended the call.
            assert_eq!(declined.status, Some(481), "{}", declined.why);
            return;
        }
        let dialog = dialog_of(&event);
        let plan = self.plans[self.calls[&(side, dialog)]];
        let story = self.stories.get_mut(&(side, dialog)).expect("a known dialog");
        story.after_end += u32::from(!story.ends.is_empty());
        let command = |command| Act::Command(side, command);
        let cause = HangupCause::Normal;
        match event {
            Event::Answered { dialog, .. } => {
                story.answered += 1;
                self.schedule(3, command(Command::Acknowledge { dialog, body: None }));
                if let Some(ms) = plan.reinvite_ms {
                    self.schedule(ms, command(Command::Reinvite { dialog, body: SDP.into() }));
                }
            }
            Event::Acknowledged { dialog, .. } => {
                story.acknowledged += 1;
                if let Some(ms) = plan.called_hangs_up_ms {
                    self.schedule(ms, command(Command::Hangup { dialog, cause }));
                }
                if let Some(ms) = plan.reinvite_ms {
                    self.schedule(ms, command(Command::Reinvite { dialog, body: SDP.into() }));
                }
            }
            Event::Reinvited { dialog, .. } => {
                self.schedule(50, command(Command::AnswerReinvite { dialog, body: SDP.into() }));
            }
            Event::Cancelled { .. } => story.ends.push("cancelled".to_owned()),
            Event::Refused { status, .. } => story.ends.push(format!("refused {status}")),
            Event::Ended { how, .. } => story.ends.push(end(&how).to_owned()),
            Event::Progressed { .. }
            | Event::ReinviteAnswered { .. }
            | Event::Refreshed { .. }
            | Event::ReinviteRefused { .. }
            | Event::Digit { .. }
            | Event::EarlyAnswered { .. }
            | Event::InfoAnswered { .. }
            | Event::Referring { .. }
            | Event::Referred { .. }
            | Event::Placed { .. }
            | Event::TooLarge { .. }
            | Event::Declined(_)
            | Event::RequestAnswered { .. }
            | Event::Probed { .. }
            | Event::Invited(_) => {}
        }
    }

    fn invited(&mut self, dialog: DialogId, plan: Plan) {
        let command = |command| Act::Command(Side::Called, command);
        if let Some(ms) = plan.ring_ms {
            // With reliable responses every other call has early media.
            let has_media =
                self.policy.reliable == Reliable::Required && plan.answer_ms.is_multiple_of(2);
            let body = has_media.then(|| SDP.into());
            self.schedule(ms, command(Command::Progress { dialog, status: 180, body }));
        }
        if plan.refuses {
            let cause = HangupCause::Busy;
            let (status, retry_after_s, headers) = (486, None, Vec::new());
            let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
            self.schedule(plan.answer_ms, command(Command::Refuse { dialog, refusal }));
        } else {
            let accept = Command::Accept { dialog, body: SDP.into() };
            self.schedule(plan.answer_ms, command(accept));
        }
    }

    /// The stories of one side.
    pub(crate) fn of(&self, side: Side) -> impl Iterator<Item = &Story> {
        self.stories.iter().filter(move |(key, _)| key.0 == side).map(|(_, story)| story)
    }

    /// How often each call reached the called side.
    pub(crate) fn arrivals_of_each_call(&self) -> HashMap<usize, u32> {
        let mut arrivals = HashMap::new();
        for ((side, _), index) in &self.calls {
            if *side == Side::Called {
                *arrivals.entry(*index).or_default() += 1;
            }
        }
        arrivals
    }

    /// Asserts what must hold for every network once all is quiet.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.caller.gauges(), Gauges::default());
        assert_eq!(self.called.gauges(), Gauges::default());
        let arrivals = self.arrivals_of_each_call();
        assert!(arrivals.values().all(|count| *count == 1), "a call came twice");
        for (key, story) in &self.stories {
            let plan = self.plans[self.calls[key]];
            let may_be_silent = key.0 == Side::Called && plan.refuses;
            let ends = story.ends.len();
            assert!(ends == 1 || (may_be_silent && ends == 0), "{key:?} {story:?} {plan:?}");
            assert_eq!(story.after_end, 0, "{key:?} {story:?}");
            assert!(story.answered <= 1, "{story:?}");
        }
    }
}

fn end(how: &DialogEnd) -> &'static str {
    match how {
        DialogEnd::Bye { .. } => "bye",
        DialogEnd::AckTimeout => "ack timeout",
        DialogEnd::SessionExpired => "session expired",
        DialogEnd::PeerTimeout => "peer timeout",
        DialogEnd::FlowLost => "flow lost",
        DialogEnd::ByeAnswered => "bye answered",
    }
}

fn dialog_of(event: &Event) -> DialogId {
    match event {
        Event::Invited(invitation) => invitation.dialog,
        Event::Cancelled { dialog, .. }
        | Event::Acknowledged { dialog, .. }
        | Event::Reinvited { dialog, .. }
        | Event::Digit { dialog, .. }
        | Event::Progressed { dialog, .. }
        | Event::Answered { dialog, .. }
        | Event::Refused { dialog, .. }
        | Event::ReinviteAnswered { dialog, .. }
        | Event::Refreshed { dialog, .. }
        | Event::ReinviteRefused { dialog, .. }
        | Event::Placed { dialog, .. }
        | Event::TooLarge { dialog, .. }
        | Event::EarlyAnswered { dialog, .. }
        | Event::InfoAnswered { dialog, .. }
        | Event::Referring { dialog, .. }
        | Event::Referred { dialog, .. }
        | Event::Ended { dialog, .. } => *dialog,
        Event::Declined(_) | Event::RequestAnswered { .. } | Event::Probed { .. } => {
            panic!("of no dialog: {event:?}")
        }
    }
}
