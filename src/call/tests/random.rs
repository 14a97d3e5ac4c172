//! Whatever a call is told in whatever order: what it opened is closed once, and then it is over.

use super::*;
use crate::call::asking::Answerer;
use crate::call::asking::Asked as WhoSpeaks;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::input::AudioPath;
use crate::call::input::Successor;
use crate::call::setup::NextAgent;
use crate::call::side::Seat;
use crate::call::steer::Order;
use crate::call::transfer::TransferRequest;
use crate::routing::outbound::DiversionReason;
use crate::types::answer_hook::AskFault;
use crate::types::header::CallVariables;
use crate::types::id::TrunkId;
use proptest::prelude::*;

/// Something that happens around a call.
#[derive(Clone, Debug)]
enum Step {
    /// It is told this.
    Give(Input),
    /// What it last asked of media is done.
    Obey,
    /// What it last asked of media cannot be done.
    Fail,
    /// Its next moment comes.
    Wait,
    /// An application asks this of it.
    Order(Order),
}

/// How a leg stands, seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Seen {
    #[default]
    Unused,
    Offered,
    Dialled,
    Up,
    Gone,
}

/// How media stand, seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Asked {
    #[default]
    Nothing,
    Reserve,
    Reserved,
    Open,
    Opened,
    Close,
}

/// A world around a call that objects to whatever makes no sense.
#[derive(Default)]
pub(super) struct World {
    inbound: bool,
    pub(super) legs: [Seen; LegSide::ALL.len()],
    pub(super) media: [Asked; LegSide::ALL.len()],
    supervised: [bool; Seat::ALL.len()],
    agent: bool,
    announcing: bool,
    /// The place of the leg that an agent was heard by last.
    heard_by: usize,
    ended: u32,
    finished: bool,
}

impl Asked {
    /// Media are yet to say what came of it.
    pub(super) const fn is_under_way(self) -> bool {
        matches!(self, Self::Reserve | Self::Open | Self::Close)
    }
}

impl World {
    pub(super) fn around(setup: &CallSetup) -> Self {
        Self { inbound: matches!(setup.opening, Opening::Inbound(_)), ..Self::default() }
    }

    fn see_input(&mut self, input: &Input) {
        let Input::Leg(side, input) = input else { return };
        let leg = &mut self.legs[side.index()];
        *leg = match (&input, *leg) {
            (LegInput::Offered(_), Seen::Unused) if *side == LegSide::Near && self.inbound => {
                Seen::Offered
            }
            (LegInput::Ended { .. }, Seen::Offered | Seen::Dialled | Seen::Up)
            | (LegInput::Cancelled, Seen::Offered | Seen::Up)
            | (LegInput::DialFailed { .. }, Seen::Dialled | Seen::Up) => Seen::Gone,
            _ => *leg,
        };
    }

    fn see(&mut self, given: Option<&Input>, output: &Output) {
        assert!(!self.finished, "{output:?} after the end");
        match output {
            Output::Leg(side, output) => self.see_leg(given, *side, output),
            Output::Media(side, output) => self.see_media(*side, output),
            Output::Agent(AgentOutput::Start) => {
                assert!(!self.agent && !self.announcing);
                self.agent = true;
            }
            Output::Agent(AgentOutput::Attach) => {
                assert!(!self.agent && !self.announcing, "an agent beside another");
                assert!(self.has_somebody());
                self.agent = true;
            }
            Output::Agent(AgentOutput::StartFallback) => {
                assert!(!self.agent && !self.announcing, "an announcement beside the agent");
                assert!(self.has_somebody());
                self.announcing = true;
            }
            Output::Agent(AgentOutput::TakeProfile(_)) => {
                assert!(!self.agent && !self.announcing, "who takes over comes after the end");
            }
            Output::Agent(AgentOutput::End) => {
                assert!(self.agent || self.announcing);
                (self.agent, self.announcing) = (false, false);
            }
            Output::Agent(_) => assert!(self.agent),
            Output::Connect(AudioPath::Agent(side)) => self.heard_by = side.index(),
            Output::Connect(_) => (),
            Output::Supervise(seat, mode) => {
                let own = self.media[LegSide::Supervisor(*seat).index()];
                let runs = self.media[0] == Asked::Opened && own == Asked::Opened;
                assert!(runs || mode.is_none(), "somebody without media takes part");
                let supervised = &mut self.supervised[seat.index()];
                assert!(*supervised || mode.is_some(), "who leaves was there");
                *supervised = mode.is_some();
            }
            Output::AskWhoAnswers => assert!(!self.agent && !self.announcing),
            Output::Record(event) => {
                self.ended += u32::from(matches!(event, CallEvent::Ended { .. }));
            }
            Output::Finish => {
                self.finished = true;
                assert!(!self.agent && !self.announcing && !self.supervised.contains(&true));
                let over = |leg: &Seen| matches!(leg, Seen::Unused | Seen::Gone);
                assert!(self.legs.iter().all(over), "{:?}", self.legs);
                assert_eq!(self.ended, 1);
            }
        }
    }

    /// Who comes in an agent's place is heard: by the near leg, or by who was handed over once that is gone.
    fn has_somebody(&self) -> bool {
        let side = if self.legs[0] == Seen::Gone { self.heard_by } else { 0 };
        self.media[side] == Asked::Opened
    }

    fn see_leg(&mut self, given: Option<&Input>, side: LegSide, output: &LegOutput) {
        let leg = &mut self.legs[side.index()];
        let crossed = matches!(given, Some(Input::Leg(_, LegInput::Answered(_))));
        *leg = match (output, *leg) {
            (LegOutput::Dial { .. }, Seen::Unused | Seen::Gone) => Seen::Dialled,
            (
                LegOutput::Offer(_)
                | LegOutput::NotOffered(_)
                | LegOutput::AnswerReoffer(_)
                | LegOutput::RefuseReoffer(_),
                Seen::Dialled,
            ) => Seen::Dialled,
            (LegOutput::Acknowledge(_), Seen::Dialled)
            | (LegOutput::Answer(_), Seen::Offered)
            | (
                LegOutput::AnswerReoffer(_)
                | LegOutput::RefuseReoffer(_)
                | LegOutput::Reoffer(_)
                | LegOutput::Refer(_)
                | LegOutput::ReferToLeg(_)
                | LegOutput::AcceptRefer
                | LegOutput::RefuseRefer { .. }
                | LegOutput::NotifyRefer { .. }
                | LegOutput::Explain(_)
                | LegOutput::AnswerReplacement { .. }
                | LegOutput::RefuseReplacement(_),
                Seen::Up,
            ) => Seen::Up,
            (
                LegOutput::Progress { .. }
                | LegOutput::AnswerReoffer(_)
                | LegOutput::RefuseReoffer(_)
                | LegOutput::RefuseRefer { .. }
                | LegOutput::RefuseReplacement(_),
                Seen::Offered,
            ) => Seen::Offered,
            // Whoever comes in place of a leg that is not there is told so.
            (LegOutput::RefuseReplacement(_), seen) => seen,
            (LegOutput::Refuse { .. }, Seen::Offered)
            | (LegOutput::HangUp(_), Seen::Dialled | Seen::Up) => Seen::Gone,
            (LegOutput::HangUp(_), Seen::Unused | Seen::Gone) if crossed => Seen::Gone,
            (output, seen) => panic!("{output:?} to a leg that is {seen:?}"),
        };
        let runs = self.media[side.index()] == Asked::Opened;
        let needs = matches!(output, LegOutput::Dial { .. } | LegOutput::Answer(_));
        assert!(runs || !needs, "{output:?} without media");
    }

    fn see_media(&mut self, side: LegSide, output: &MediaOutput) {
        let media = &mut self.media[side.index()];
        *media = match (output, *media) {
            (MediaOutput::Reserve, Asked::Nothing) => Asked::Reserve,
            (MediaOutput::Open, Asked::Reserved) => Asked::Open,
            (
                MediaOutput::Update(_)
                | MediaOutput::Expect(_)
                | MediaOutput::StartPlayout
                | MediaOutput::SendDigit(_)
                | MediaOutput::Play(_)
                | MediaOutput::StopPlaying
                | MediaOutput::Record(_)
                | MediaOutput::Mute { .. },
                Asked::Opened,
            ) => Asked::Opened,
            (
                MediaOutput::Close,
                Asked::Reserve | Asked::Reserved | Asked::Open | Asked::Opened,
            ) => Asked::Close,
            (output, asked) => panic!("{output:?} of media that are at {asked:?}"),
        };
    }

    /// What media say to what was asked of them.
    pub(super) fn media_say(&mut self, obey: bool) -> Option<Input> {
        let side = LegSide::ALL.into_iter().rev().find(|side| {
            matches!(self.media[side.index()], Asked::Reserve | Asked::Open | Asked::Close)
        })?;
        let media = &mut self.media[side.index()];
        let (then, input) = match (*media, obey) {
            (Asked::Close, _) => {
                (Asked::Nothing, MediaInput::Closed(Some(Box::<MediaFigures>::default())))
            }
            (_, false) => (Asked::Nothing, MediaInput::Refused(HangupCause::NoPorts)),
            (Asked::Reserve, true) => (Asked::Reserved, MediaInput::Reserved(place())),
            (_, true) => (Asked::Opened, MediaInput::Opened),
        };
        *media = then;
        Some(Input::Media(side, input))
    }
}

fn sdp() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        1 => Just(None),
        4 => Just(Some(Bytes::from_static(OFFER.as_bytes()))),
        1 => Just(Some(format!("{OFFER}a=sendonly\r\n").into())),
        1 => Just(Some(Bytes::from_static(b"garbage"))),
    ]
}

fn cause() -> impl Strategy<Value = HangupCause> {
    prop::sample::select(vec![HangupCause::Normal, HangupCause::Busy, HangupCause::PeerTimeout])
}

fn party() -> impl Strategy<Value = Party> {
    prop::sample::select(vec![Party::Caller, Party::Far, Party::Switch])
}

pub(super) fn request() -> DialRequest {
    let to = "+15550123".parse().expect("a number");
    let reason = DiversionReason::Deflection;
    let target = DialTarget::Number {
        to,
        from: None,
        trunk: None,
        reason,
        joined: crate::call::dial::Joined::Leg(LegSide::Near),
    };
    let joined_by = Some(TrunkId::from_uuid(uuid::Uuid::from_u128(1)));
    let terms = LegTerms { transfers: true, joined_by, ..terms() };
    let ring_max = Duration::from_secs(20);
    DialRequest { target, beside: Vec::new(), terms, ring_max }
}

fn leg_input() -> impl Strategy<Value = LegInput> {
    prop_oneof![
        3 => sdp().prop_map(LegInput::Offered),
        3 => sdp().prop_map(LegInput::Acknowledged),
        1 => Just(LegInput::Cancelled),
        1 => Just(LegInput::OfferWanted { terms: Some(Box::new(terms())), place: None }),
        3 => ((180_u16..184), sdp()).prop_map(|(status, body)| LegInput::Progressed { status, body }),
        8 => sdp().prop_map(LegInput::Answered),
        1 => cause().prop_map(|cause| LegInput::DialFailed { cause, status: Some(486) }),
        2 => sdp().prop_map(LegInput::Reoffered),
        2 => sdp().prop_map(LegInput::ReofferAnswered),
        2 => (prop::sample::select(vec![408_u16, 488, 491, 503]), any::<bool>())
            .prop_map(|(status, has_waited)| LegInput::ReofferRefused { status, has_waited }),
        1 => Just(LegInput::Refreshed(Bytes::from_static(OFFER.as_bytes()))),
        1 => Just(LegInput::Digit('5')),
        3 => prop::sample::select(vec![100_u16, 180, 200, 202, 486, 999])
            .prop_map(|status| LegInput::ReferProgressed { status }),
        1 => Just(LegInput::ReferFailed { status: 603 }),
        2 => Just(LegInput::Referred(Box::new(request()))),
        1 => sdp().prop_map(|offer| {
            LegInput::Replaced(Box::new(Successor { offer, place: None, srtp: None }))
        }),
        1 => Just(LegInput::ReplacementLost),
        1 => Just(LegInput::Explained(super::legs::reason(41))),
        2 => (cause(), party()).prop_map(|(cause, by)| LegInput::Ended { cause, by }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let seats = [Seat::First, Seat::Second].map(LegSide::Supervisor);
    let sides = [&[LegSide::Near, LegSide::Far, LegSide::Third][..], &seats].concat();
    let side = prop::sample::select(sides);
    let media = prop::sample::select(vec![
        MediaInput::FirstPacket,
        MediaInput::TimedOut,
        MediaInput::Pressed,
        MediaInput::Digit('1'),
        MediaInput::Played(1),
    ]);
    let agent = prop::sample::select(vec![
        AgentInput::Ready,
        AgentInput::Ready,
        AgentInput::Failed(HangupCause::AgentUnreachable),
        AgentInput::Lost(HangupCause::AgentLost),
        AgentInput::Interrupted(HangupCause::AgentLost),
        AgentInput::Missed,
        AgentInput::Resumed,
        AgentInput::HungUp,
        AgentInput::FallbackPlayed,
    ]);
    let (target, otherwise) = (request().target, Some(Box::new(request())));
    let transfer = prop::sample::select(vec![
        TransferRequest::Refer { target: Box::new(target.clone()), otherwise: None },
        TransferRequest::Refer { target: Box::new(target), otherwise },
        TransferRequest::Bridge(Box::new(request())),
        TransferRequest::Attended(Box::new(request())),
        TransferRequest::Dial(Box::new(request())),
    ]);
    prop_oneof![
        20 => (side.clone(), leg_input()).prop_map(|(side, input)| Input::Leg(side, input)),
        4 => (side.clone(), media).prop_map(|(side, input)| Input::Media(side, input)),
        5 => agent.prop_map(Input::Agent),
        6 => transfer.prop_map(Input::TransferRequested),
        2 => Just(Input::TransferConfirmed),
        1 => Just(Input::TransferWithdrawn),
        1 => side.clone().prop_map(Input::HoldRequested),
        1 => side.prop_map(Input::ResumeRequested),
        1 => Just(Input::Begun),
        3 => asked().prop_map(|asked| Input::Asked(Box::new(asked))),
        1 => cause().prop_map(|cause| Input::HangupRequested { cause, by: Party::Operator }),
    ]
}

/// What an application may say of who speaks.
fn asked() -> impl Strategy<Value = WhoSpeaks> {
    let other = |partner| {
        let next = NextAgent { profile: super::steering::profile(), agent: plain().agent, partner };
        Answerer::Other(Box::new(next), VecDeque::new())
    };
    let answerer = prop::sample::select(vec![
        Answerer::Kept,
        other(Partner::Agent),
        other(Partner::AgentLeg(Box::new(request()))),
        other(Partner::Forward(Box::new(request()))),
        Answerer::Failed(AskFault::Late),
    ]);
    answerer.prop_map(|answerer| WhoSpeaks { answerer, variables: CallVariables::default() })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => input().prop_map(Step::Give),
        3 => prop::sample::select(steering::all()).prop_map(Step::Order),
        8 => Just(Step::Obey),
        1 => Just(Step::Fail),
        1 => Just(Step::Wait),
    ]
}

/// Most calls begin well; what follows is anybody's guess.
fn beginning() -> impl Strategy<Value = Vec<Step>> {
    let offer = Some(Bytes::from_static(OFFER.as_bytes()));
    let near = |input| Step::Give(Input::Leg(LegSide::Near, input));
    let agent = Step::Give(Input::Agent(AgentInput::Ready));
    let transfer = || {
        let request = TransferRequest::Bridge(Box::new(request()));
        [Step::Give(Input::TransferRequested(request)), Step::Obey, Step::Obey]
    };
    let talk = [near(LegInput::Offered(offer.clone())), Step::Obey, Step::Obey, agent.clone()];
    let joined = Step::Give(Input::Leg(LegSide::Far, LegInput::Answered(offer.clone())));
    let bridged = [&talk[..], &transfer(), &[joined, Step::Wait]].concat();
    let attended = TransferRequest::Attended(Box::new(request()));
    let consulted = Step::Give(Input::Leg(LegSide::Far, LegInput::Answered(offer.clone())));
    let attended = [Step::Give(Input::TransferRequested(attended)), Step::Obey, Step::Obey];
    let confirmed = [consulted, Step::Give(Input::TransferConfirmed)];
    let attended = [&talk[..], &attended, &confirmed].concat();
    let dial = TransferRequest::Dial(Box::new(request()));
    let dialled = Step::Give(Input::Leg(LegSide::Far, LegInput::Answered(offer.clone())));
    let dialling = [Step::Give(Input::TransferRequested(dial)), Step::Obey, Step::Obey, dialled];
    let dialled = [&talk[..], &dialling].concat();
    let referred = near(LegInput::Referred(Box::new(request())));
    let taken = Step::Give(Input::Leg(LegSide::Third, LegInput::Answered(offer.clone())));
    let handing = [&talk[..], &[referred.clone(), Step::Obey, Step::Obey]].concat();
    prop::sample::select(vec![
        talk.to_vec(),
        handing,
        [&bridged[..], &[referred, Step::Obey, Step::Obey, taken]].concat(),
        attended,
        dialled,
        [&bridged[..], &transfer()].concat(),
        bridged,
        vec![],
        vec![near(LegInput::Offered(None)), Step::Obey, Step::Obey],
        vec![
            Step::Give(Input::Begun),
            Step::Obey,
            Step::Obey,
            near(LegInput::Answered(offer)),
            agent,
        ],
    ])
}

fn setup() -> impl Strategy<Value = CallSetup> {
    let opening = prop::sample::select(vec![
        Opening::Inbound(terms()),
        Opening::Inbound(LegTerms { hold: Direction::Inactive, ..terms() }),
        Opening::Inbound(LegTerms {
            transfers: true,
            joined_by: request().terms.joined_by,
            ..terms()
        }),
        Opening::Outbound(Box::new(request())),
        Opening::Outbound(Box::new(DialRequest {
            terms: LegTerms { delayed_offer: true, ..terms() },
            ..request()
        })),
    ]);
    let partner = prop::sample::select(vec![
        Partner::Agent,
        Partner::Agent,
        Partner::AgentLeg(Box::new(request())),
        Partner::Forward(Box::new(request())),
    ]);
    let answer = prop::sample::select(vec![
        AnswerPolicy::WhenReady,
        AnswerPolicy::Immediate,
        AnswerPolicy::After(Duration::from_secs(3)),
    ]);
    let next = prop::sample::select(vec![
        Partner::Agent,
        Partner::AgentLeg(Box::new(request())),
        Partner::Forward(Box::new(request())),
    ]);
    let next = next.prop_map(|partner| NextAgent {
        profile: super::steering::profile(),
        agent: plain().agent,
        partner,
    });
    let fallbacks = prop::collection::vec(next, 0..4);
    let asks = prop::sample::select(vec![None, None, Some(Duration::from_secs(2))]);
    let all = (opening, partner, answer, fallbacks, asks);
    all.prop_map(|(opening, partner, answer, fallbacks, asks)| {
        let mut setup = plain();
        setup.asks = asks;
        setup.fallbacks = fallbacks.into();
        setup.opening = opening;
        setup.partner = partner;
        setup.agent.answer = answer;
        setup
    })
}

/// Gives one input and looks at what comes of it.
pub(super) fn give(call: &mut Call, world: &mut World, now: Moment, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    world.see_input(&input);
    call.handle(now, input.clone(), &mut out);
    for output in &out {
        world.see(Some(&input), output);
    }
    assert_eq!(call.is_over(), world.finished);
    out
}

/// Gives an order, which is done as a whole or not at all.
fn order(call: &mut Call, world: &mut World, now: Moment, order: Order) {
    let mut out = Vec::new();
    let before = call.standing();
    if call.order(now, order, &mut out).is_err() {
        assert_eq!((out.as_slice(), call.standing()), (&[][..], before));
    }
    for output in &out {
        world.see(None, output);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_a_call_opened_is_closed_once_whatever_happens(
        setup in setup(),
        beginning in beginning(),
        steps in prop::collection::vec(step(), 0..50),
    ) {
        let mut world = World::around(&setup);
        let (mut call, mut now) = (Call::new(setup), Moment::START);
        for step in beginning.into_iter().chain(steps) {
            let input = match step {
                Step::Give(input) => Some(input),
                Step::Obey => world.media_say(true),
                Step::Fail => world.media_say(false),
                Step::Wait => call.deadline().map(|at| {
                    now = now.max(at);
                    Input::DeadlineReached
                }),
                Step::Order(asked) => {
                    order(&mut call, &mut world, now, asked);
                    None
                }
            };
            if let Some(input) = input {
                give(&mut call, &mut world, now, input.clone());
                if input == Input::DeadlineReached {
                    prop_assert!(call.deadline().is_none_or(|at| at > now), "it would spin");
                }
            }
            now += Duration::from_millis(7);
        }
        let cause = HangupCause::Draining;
        give(&mut call, &mut world, now, Input::HangupRequested { cause, by: Party::Switch });
        while let Some(input) = world.media_say(true) {
            give(&mut call, &mut world, now, input);
        }
        prop_assert!(call.is_over(), "{:?}", call);
        prop_assert_eq!(call.deadline(), None);
        prop_assert!(world.media.iter().all(|media| *media == Asked::Nothing));
    }

    #[test]
    fn a_call_left_alone_ends_by_itself(
        setup in setup(),
        beginning in beginning(),
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let mut world = World::around(&setup);
        let (mut call, mut now) = (Call::new(setup), Moment::START);
        for step in beginning.into_iter().chain(steps) {
            let input = match step {
                Step::Give(input) => Some(input),
                Step::Obey => world.media_say(true),
                Step::Fail => world.media_say(false),
                Step::Wait => None,
                Step::Order(asked) => {
                    order(&mut call, &mut world, now, asked);
                    None
                }
            };
            if let Some(input) = input {
                give(&mut call, &mut world, now, input);
            }
        }
        let begun = call.deadline().is_some();
        for _ in 0..20 {
            while let Some(input) = world.media_say(true) {
                give(&mut call, &mut world, now, input);
            }
            let Some(at) = call.deadline() else { break };
            now = now.max(at);
            give(&mut call, &mut world, now, Input::DeadlineReached);
        }
        prop_assert!(call.is_over() || !begun, "{:?}", call);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn orders_that_race_with_the_callers_end_are_done_before_it_or_refused(
        beginning in beginning(),
        orders in prop::collection::vec(prop::sample::select(steering::all()), 1..8),
        place in 0_usize..8,
    ) {
        let mut setup = plain();
        setup.opening = Opening::Inbound(LegTerms { transfers: true, ..terms() });
        let mut world = World::around(&setup);
        let (mut call, now) = (Call::new(setup), Moment::START);
        for step in beginning {
            let input = match step {
                Step::Give(input) => Some(input),
                Step::Obey => world.media_say(true),
                Step::Fail | Step::Wait | Step::Order(_) => None,
            };
            input.into_iter().for_each(|input| drop(give(&mut call, &mut world, now, input)));
        }
        for (index, asked) in orders.into_iter().enumerate() {
            if index == place {
                let ended = LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller };
                give(&mut call, &mut world, now, Input::Leg(LegSide::Near, ended));
            }
            let was_over = call.is_over();
            order(&mut call, &mut world, now, asked);
            prop_assert!(!was_over || world.finished);
        }
        let cause = HangupCause::Draining;
        give(&mut call, &mut world, now, Input::HangupRequested { cause, by: Party::Switch });
        while let Some(input) = world.media_say(true) {
            give(&mut call, &mut world, now, input);
        }
        prop_assert!(call.is_over(), "{:?}", call);
    }
}
