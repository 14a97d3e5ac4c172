//! The signalling of a call's legs: the one that called us, and those we dial.

use crate::agent::breaker;
use crate::call::dial::DialTarget;
use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::side::LegSide;
use crate::call::side::Seat;
use crate::clock;
use crate::engine::agent_health::Watch;
use crate::engine::call_task::Task;
use crate::engine::call_task::Woken;
use crate::engine::call_task::media::Slot;
use crate::engine::call_task::numbers::CalledNumber;
use crate::engine::call_task::supervision;
use crate::engine::call_task::supervision::Seated;
use crate::engine::call_task::supervision::Seats;
use crate::engine::dial;
use crate::engine::dial::CarriedDialog;
use crate::engine::dial::DialHandle;
use crate::engine::dial::DialId;
use crate::engine::dial::DialNews;
use crate::engine::dial::DialRoute;
use crate::engine::dial::DialSeed;
use crate::engine::dial::LegWay;
use crate::engine::dial::OfferedFor;
use crate::engine::dial::PeerRoute;
use crate::engine::dial::Rung;
use crate::engine::dial::Watched;
use crate::engine::mailbox;
use crate::engine::media_thread::MediaId;
use crate::engine::passing;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::way;
use crate::routing::outbound::OutboundPlan;
use crate::routing::template::Values;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Refusal;
use crate::sip::locate::NextHop;
use crate::types::agent::AgentKind;
use crate::types::cause::HangupCause;
use crate::types::number::E164;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Transport;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::time::Duration;

/// News of dialled legs that wait for their call; their tasks wait when it is full.
const NEWS_MAX: usize = 32;
/// How long is waited at most for what a leg tried that is given up: it says so at once, and only a busy machine needs
/// more than a moment.
const TRIES_MAX: Duration = Duration::from_secs(1);
/// The same where several parties were rung, of which none says that it was the last.
const TRIES_OF_SEVERAL_MAX: Duration = Duration::from_millis(100);

/// Call/Transaction Does Not Exist: the leg to be connected with is over.
const UNKNOWN_DIALOG: u16 = 481;

/// The near leg's signalling.
pub(in crate::engine) enum Near {
    /// It called us: a dialog of this shard.
    Invited(ShardHandle, DialogId),
    /// We called it; this keeps the call's queue open.
    Dialled(#[expect(dead_code, reason = "held for being held")] mailbox::Sender<Input>),
}

/// Legs that were dialled.
pub(super) struct Others {
    /// By [`LegSide::index`].
    dials: [Option<DialHandle>; LegSide::ALL.len()],
    /// How many were dialled in each place, one after the other, by the same.
    turns: [u32; LegSide::ALL.len()],
    /// The dialogs of those that are answered, by the same.
    carried: [Option<Box<CarriedDialog>>; LegSide::ALL.len()],
    /// Of the far leg and the third.
    slots: [Slot; 2],
    /// Those of supervisors, of which most calls have none.
    seats: Option<Box<Seats>>,
    /// How the near leg is dialled, until it is.
    plan: Option<Box<OutboundPlan>>,
    news: mailbox::Receiver<(DialId, DialNews)>,
    news_in: mailbox::Sender<(DialId, DialNews)>,
}

impl Others {
    pub(super) fn new(plan: Option<Box<OutboundPlan>>) -> Self {
        let (news_in, news) = mailbox::bounded(NEWS_MAX);
        let (dials, turns, carried, slots) = Default::default();
        Self { dials, turns, carried, slots, seats: None, plan, news, news_in }
    }

    pub(super) fn slot(&mut self, side: LegSide) -> &mut Slot {
        let [far, third] = &mut self.slots;
        match side {
            LegSide::Near | LegSide::Far => far,
            LegSide::Third => third,
            LegSide::Supervisor(seat) => &mut self.seats.get_or_insert_default().of(seat).slot,
        }
    }

    pub(super) fn seat(&mut self, seat: Seat) -> &mut Seated {
        self.seats.get_or_insert_default().of(seat)
    }

    /// The session of a leg, where it has one.
    pub(super) fn media_id(&self, side: LegSide) -> Option<MediaId> {
        let [far, third] = &self.slots;
        match side {
            LegSide::Near => None,
            LegSide::Far => far.id(),
            LegSide::Third => third.id(),
            LegSide::Supervisor(seat) => self.seats.as_ref()?.media_id(seat),
        }
    }

    fn dial(&mut self, side: LegSide) -> &mut Option<DialHandle> {
        of_side(&mut self.dials, side)
    }

    /// What names the next leg that is dialled in this place: the one before has it no longer.
    fn next_turn(&mut self, side: LegSide) -> DialId {
        let turn = of_side(&mut self.turns, side);
        *turn = turn.wrapping_add(1);
        DialId { side, turn: *turn }
    }

    /// Whether a leg still has its place.
    fn has_place(&mut self, DialId { side, turn }: DialId) -> bool {
        *of_side(&mut self.turns, side) == turn
    }
}

const fn of_side<T>(all: &mut [T; LegSide::ALL.len()], side: LegSide) -> &mut T {
    let [near, far, third, first, second, next, last] = all;
    match side {
        LegSide::Near => near,
        LegSide::Far => far,
        LegSide::Third => third,
        LegSide::Supervisor(Seat::First) => first,
        LegSide::Supervisor(Seat::Second) => second,
        LegSide::Supervisor(Seat::Third) => next,
        LegSide::Supervisor(Seat::Fourth) => last,
    }
}

/// What happens next to the legs that were dialled; nothing ever without any.
pub(super) async fn heard(others: Option<&mut Others>) -> Woken {
    let Some(others) = others else { return std::future::pending().await };
    let [far, third] = &mut others.slots;
    tokio::select! {
        biased;
        Some((id, news)) = others.news.recv() => Woken::News(id, news),
        event = far.heard() => Woken::Media(LegSide::Far, event),
        event = third.heard() => Woken::Media(LegSide::Third, event),
        (seat, event) = supervision::heard(others.seats.as_deref_mut()) => {
            Woken::Media(LegSide::Supervisor(seat), event)
        }
    }
}

impl Task {
    pub(super) fn others(&mut self) -> &mut Others {
        self.others.get_or_insert_with(|| Box::new(Others::new(None)))
    }

    pub(super) async fn hang_up_near(&mut self, cause: HangupCause) {
        if let Near::Invited(shard, dialog) = &self.near {
            shard.command(Command::Hangup { dialog: *dialog, cause }).await;
        }
        // Dialled legs end with their handles.
    }

    /// Has a leg signal this. What every call says to its caller goes at once; what has to wait is given back.
    pub(super) fn signal(&mut self, side: LegSide, output: LegOutput) -> Option<BoxFuture<'_, ()>> {
        let is_usual = matches!(
            output,
            LegOutput::Progress { .. }
                | LegOutput::Answer(_)
                | LegOutput::Refuse { .. }
                | LegOutput::HangUp(_)
        );
        if let (true, LegSide::Near, Near::Invited(shard, dialog)) = (is_usual, side, &self.near) {
            let route = &self.route;
            let command = invited_command(*dialog, output, &|to| route.number_uri(to))?;
            let command = shard.command_at_once(command)?;
            let shard = shard.clone();
            return Some(Box::pin(async move { shard.command(command).await }));
        }
        Some(Box::pin(self.signal_in_time(side, output)))
    }

    async fn signal_in_time(&mut self, side: LegSide, output: LegOutput) {
        if let LegOutput::Dial { target, beside, offer, .. } = output {
            let targets = std::iter::once(target).chain(beside).collect();
            return self.dial(side, targets, offer);
        }
        let output = match output {
            // Its carrier may hang the caller up before it takes the other leg.
            LegOutput::ReferToLeg(target) => match Box::pin(self.address_replacing(target)).await {
                Some(address) => {
                    self.kept = self.switch.registry.inputs_of(self.id());
                    LegOutput::Refer(address)
                }
                None => return self.leg(side, LegInput::ReferFailed { status: UNKNOWN_DIALOG }),
            },
            output => output,
        };
        match output {
            LegOutput::AnswerReplacement { body, turn } => {
                return Box::pin(self.replace_near(body, turn)).await;
            }
            LegOutput::RefuseReplacement(cause) => {
                return Box::pin(self.refuse_replacement(cause)).await;
            }
            // The caller may leave its agent with somebody else: its shard holds the queue no longer.
            LegOutput::AcceptRefer if side == LegSide::Near => {
                self.kept = self.switch.registry.inputs_of(self.id());
            }
            LegOutput::NotifyRefer { status: 300.. } if side == LegSide::Near => self.kept = None,
            _ => (),
        }
        if let (LegSide::Near, Near::Invited(shard, dialog)) = (side, &self.near) {
            let route = &self.route;
            let command = invited_command(*dialog, output, &|to| route.number_uri(to));
            if let Some(command) = command {
                shard.command(command).await;
            }
            return;
        }
        let is_over = matches!(output, LegOutput::HangUp(_));
        let Some(others) = &mut self.others else { return };
        let Some(dial) = others.dial(side) else { return };
        let tries_max = if dial.is_single() { TRIES_MAX } else { TRIES_OF_SEVERAL_MAX };
        dial.tell(output).await;
        if is_over {
            // Its news still come; nothing is asked of it any more, and a new leg may take its place.
            *others.dial(side) = None;
            if of_side(&mut others.carried, side).is_none() {
                Box::pin(self.hear_tries(side, tries_max)).await;
            }
        }
    }

    /// Hears of a leg that is given up before its answer what was tried for it: its task says so at once, and after the
    /// end of the call nobody would hear it.
    async fn hear_tries(&mut self, given_up: LegSide, most: Duration) {
        let latest = clock::instant(clock::now() + most);
        while let Some(others) = &mut self.others {
            let heard = tokio::time::timeout_at(latest.into(), others.news.recv()).await;
            let Ok(Some((id, news))) = heard else { return };
            let is_last = id.side == given_up && others.has_place(id) && is_settled(&news);
            if let Some(input) = self.dial_news(id, news) {
                self.own.push_back(input);
            }
            if is_last {
                return;
            }
        }
    }

    /// The address by which whoever calls it takes our place with the party of a leg (RFC 5589 §7).
    async fn address_replacing(&mut self, side: LegSide) -> Option<DialTarget> {
        let carried = of_side(&mut self.others.as_mut()?.carried, side).clone()?;
        let peer = carried.shard.find(carried.dialog).await?;
        // Header fields of its own would make of ours something else.
        let uri = format!("{peer}{}", carried.name.to_replaces().to_uri_header());
        let uri = uri.parse().ok().filter(|_| !peer.contains('?'))?;
        let (headers, pass) = (Vec::new(), Vec::new());
        let (credentials, srtp, transfers) = (None, SrtpPolicy::Off, false);
        Some(DialTarget::Uri { uri, credentials, headers, pass, srtp, transfers })
    }

    fn dial(&mut self, side: LegSide, targets: Vec<DialTarget>, offer: Option<Bytes>) {
        let id = self.others().next_turn(side);
        let mut routes = Vec::new();
        let mut failure = HangupCause::SwitchFault;
        let watched = self.watched(&targets);
        for target in targets {
            match self.route_to(side, target) {
                Ok(route) => routes.push(route),
                Err(cause) => failure = cause,
            }
        }
        let Some(first) = routes.first() else {
            let (cause, status) = (failure, None);
            return self.leg(side, LegInput::DialFailed { cause, status });
        };
        // Where nothing is offered yet, the way of the first try says what may be.
        let offered_for = match offer {
            Some(_) => self.offered_for(side, first),
            None => OfferedFor::default(),
        };
        let (call, tenant) = (self.id(), self.route.tenant.id);
        let others = self.others.get_or_insert_with(|| Box::new(Others::new(None)));
        let news = others.news_in.clone();
        *of_side(&mut others.carried, side) = None;
        let seed = DialSeed { call, tenant, id, routes, offered_for, offer, watched, news };
        *others.dial(side) = Some(dial::start(&self.switch, seed));
    }

    /// A leg that goes to the agent of the call counts at the circuit of that.
    fn watched(&self, targets: &[DialTarget]) -> Watched {
        let kind = &self.route.profile.agent.kind;
        let ([DialTarget::Uri { uri, .. }], AgentKind::Sip(agent)) = (targets, kind) else {
            return Watched::default();
        };
        let endpoint = breaker::endpoint_of(kind).filter(|_| agent.uri == *uri);
        let health = self.switch.registry.agent_health();
        let watch = |endpoint| Watched::by(Watch::new(health, self.route.tenant.id, endpoint));
        endpoint.map(watch).unwrap_or_default()
    }

    /// What the first offer of a leg was made for, before anybody knew its way.
    fn offered_for(&self, side: LegSide, route: &DialRoute) -> OfferedFor {
        let own = &self.listener;
        let listener = self.switch.listeners.iter().position(|other| other.name == own.name);
        let listener = listener.and_then(|index| u16::try_from(index).ok());
        let terms = match (side, route) {
            (LegSide::Near, DialRoute::Planned(plan)) => {
                let hop = plan.tries.first().and_then(|first| first.gateway.next_hop().transport);
                Some((self.route.trunk.id, hop.unwrap_or(Transport::Udp)))
            }
            (LegSide::Near | LegSide::Far | LegSide::Third | LegSide::Supervisor(_), _) => None,
        };
        let place = listener.map(|listener| (listener, own.rtp_address.is_ipv6()));
        OfferedFor { terms, place }
    }

    pub(super) fn route_to(
        &mut self,
        side: LegSide,
        target: DialTarget,
    ) -> Result<DialRoute, HangupCause> {
        let planned = self.others().plan.take().filter(|_| side == LegSide::Near);
        if let Some(plan) = planned {
            return Ok(DialRoute::Planned(plan));
        }
        match target {
            DialTarget::Number { to, from, trunk, reason, joined } => {
                let number = CalledNumber { to, from, trunk, reason, joined };
                let request = self.request_to(side, number)?;
                let table = self.switch.table.load();
                match self.switch.registry.plan_out(clock::now(), &table, request) {
                    Ok(plan) => Ok(DialRoute::Planned(Box::new(plan))),
                    Err(refusal) => {
                        let cause = refusal.cause;
                        self.note(CallEvent::Attempted(refusal.decision));
                        Err(cause)
                    }
                }
            }
            DialTarget::Uri { uri, credentials, headers, pass, srtp, transfers } => {
                let from_host = self.host_for(uri.as_str());
                let own_host = match from_host {
                    IpAddr::V4(host) => host.to_string(),
                    IpAddr::V6(host) => format!("[{host}]"),
                };
                let from_user = from_user(&self.route.caller);
                let host = NextHop::parse(uri.as_str()).map(|hop| hop.host).unwrap_or_default();
                let call = self.id().to_string();
                let trace = self.trace_context().map(|trace| trace.to_string());
                let callers = Values {
                    caller: &from_user,
                    called: self.route.dialled.as_str(),
                    gateway_host: &host,
                    from_host: &own_host,
                    area_code: &self.route.trunk.jurisdiction.area_code,
                    call_id: &call,
                    variables: &self.route.variables,
                    trace: trace.as_deref(),
                };
                let passing = self.route.passing.as_deref();
                let headers =
                    passing::to_peer(&callers, (&headers, &pass), (passing, &self.route.trail));
                let hops = self.route.hops_left;
                Ok(DialRoute::Peer(Box::new(PeerRoute {
                    uri,
                    credentials,
                    headers,
                    from_user,
                    from_host,
                    hops,
                    srtp,
                    transfers,
                })))
            }
        }
    }

    /// The address under which a peer at this address is called.
    fn host_for(&self, uri: &str) -> IpAddr {
        let (transport, at) = (way::transport_of(uri), way::address_of(uri));
        let listener = self.switch.listener(self.switch.listener_for(None, transport, at));
        listener.map_or(self.listener.rtp_address, |listener| listener.rtp_address)
    }

    /// A caller that is not transferred is as before: when its shard gives the call up, that ends.
    pub(super) fn keep_no_longer(&mut self, input: &Input) {
        let is_refused = matches!(
            input,
            Input::Leg(LegSide::Near, input) | Input::LegOf { side: LegSide::Near, input, .. }
                if matches!(
                    input,
                    LegInput::ReferFailed { .. } | LegInput::ReferProgressed { status: 300.. }
                )
        );
        if is_refused {
            self.kept = None;
        }
    }

    /// Of a leg whose place another has, only what was tried for it still counts: it ends by itself, and its end is
    /// not the other's.
    pub(super) fn dial_news(&mut self, id: DialId, news: DialNews) -> Option<Input> {
        let DialId { side, .. } = id;
        let has_place = self.others().has_place(id);
        match news {
            DialNews::Carried(_) | DialNews::Leg(_) | DialNews::OfferWanted(_) if !has_place => {
                None
            }
            DialNews::Carried(dialog) => {
                *of_side(&mut self.others().carried, side) = Some(dialog);
                None
            }
            DialNews::Leg(input) => Some(Input::Leg(side, input)),
            DialNews::Sent { to, transport, charged } => {
                let charged = charged.map(Box::new);
                self.note(CallEvent::Sent { side, to, transport, charged });
                None
            }
            DialNews::Attempted(decision) => {
                self.note(CallEvent::Attempted(decision));
                None
            }
            DialNews::OfferWanted(way) => self.offer_wanted(side, way),
        }
    }

    /// Whose answer a leg took is known here: of several that were rung, each was sent an INVITE.
    pub(super) fn with_charge(&mut self, event: CallEvent) -> CallEvent {
        let CallEvent::LegAnswered { side, codec, .. } = event else { return event };
        let carried = of_side(&mut self.others().carried, side).as_ref();
        let charged = carried.and_then(|carried| carried.charged.clone()).map(Box::new);
        CallEvent::LegAnswered { side, codec, charged }
    }

    /// The next attempt goes by a way that the offer was not made for.
    fn offer_wanted(&mut self, side: LegSide, mut way: LegWay) -> Option<Input> {
        let (terms, rung) = (way.terms.take(), way.rung);
        let moved_to = way.trunk.clone().filter(|_| side == LegSide::Near);
        match self.go_by(side, way) {
            Ok(place) => {
                if let Some(trunk) = moved_to {
                    self.switch.registry.moved_to(self.id(), &trunk);
                }
                Some(Input::Leg(side, LegInput::OfferWanted { terms, place }))
            }
            // There may be a place for the media of the next try, or of another party. One that answered already
            // goes nowhere else, and one that listens no more is over.
            Err(cause) if rung != Rung::First && self.not_offered(side, cause) => None,
            Err(cause) => {
                // Its task hangs up what it began.
                *self.others().dial(side) = None;
                Some(Input::Leg(side, LegInput::DialFailed { cause, status: None }))
            }
        }
    }

    fn not_offered(&mut self, side: LegSide, cause: HangupCause) -> bool {
        let dial = self.others().dial(side).as_ref();
        dial.is_some_and(|dial| dial.tell_now(LegOutput::NotOffered(cause)))
    }
}

/// Whether a leg that is dialled was answered, or will not be.
const fn is_settled(news: &DialNews) -> bool {
    matches!(
        news,
        DialNews::Leg(LegInput::Answered(_) | LegInput::DialFailed { .. } | LegInput::Ended { .. })
    )
}

/// The user part under which a caller is shown to a peer of its own.
fn from_user(caller: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let user: String = caller.chars().filter(|c| is_plain(*c)).collect();
    if user.is_empty() { "anonymous".to_owned() } else { user }
}

/// What the dialog of a caller must do. `number_uri` gives the address of a telephone number at the caller's peer.
pub(crate) fn invited_command(
    dialog: DialogId,
    output: LegOutput,
    number_uri: &dyn Fn(E164) -> String,
) -> Option<Command> {
    match output {
        LegOutput::Progress { status, body } => Some(Command::Progress { dialog, status, body }),
        LegOutput::Answer(body) => Some(Command::Accept { dialog, body }),
        LegOutput::Refuse { cause, status, is_theirs } => {
            let (retry_after_s, headers) = (cause.retry_after_s(), Vec::new());
            let refusal =
                Refusal { status, cause, retry_after_s, headers, is_passed_on: is_theirs };
            Some(Command::Refuse { dialog, refusal })
        }
        LegOutput::Acknowledge(_)
        | LegOutput::AnswerReoffer(_)
        | LegOutput::RefuseReoffer(_)
        | LegOutput::Reoffer(_)
        | LegOutput::SendKey { .. }
        | LegOutput::Refer(_)
        | LegOutput::ReferToLeg(_)
        | LegOutput::AcceptRefer
        | LegOutput::RefuseRefer { .. }
        | LegOutput::NotifyRefer { .. }
        | LegOutput::Explain(_)
        | LegOutput::HangUp(_)
        | LegOutput::Dial { .. }
        | LegOutput::Offer(_)
        | LegOutput::NotOffered(_)
        | LegOutput::AnswerReplacement { .. }
        | LegOutput::RefuseReplacement(_) => dial::command_of(dialog, output, number_uri),
    }
}
