//! The signalling of a call's legs: the one that called us, and those we dial.

use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::side::LegSide;
use crate::clock;
use crate::engine::call_task::Task;
use crate::engine::call_task::Woken;
use crate::engine::call_task::media::Slot;
use crate::engine::dial;
use crate::engine::dial::CarriedDialog;
use crate::engine::dial::DialHandle;
use crate::engine::dial::DialNews;
use crate::engine::dial::DialRoute;
use crate::engine::dial::DialSeed;
use crate::engine::dial::PeerRoute;
use crate::engine::leg_terms;
use crate::engine::passing;
use crate::engine::replacement::Replacement;
use crate::engine::sip_shard::CallLeg;
use crate::engine::sip_shard::ShardHandle;
use crate::routing::outbound::DiversionReason;
use crate::routing::outbound::Forwarding;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::OutboundRequest;
use crate::routing::template::Values;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Refusal;
use crate::sip::locate::NextHop;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// News of dialled legs that wait for their call; their tasks wait when it is full.
const NEWS_MAX: usize = 32;

/// Call/Transaction Does Not Exist: the leg to be connected with is over.
const UNKNOWN_DIALOG: u16 = 481;

/// The near leg's signalling.
pub(in crate::engine) enum Near {
    /// It called us: a dialog of this shard.
    Invited(ShardHandle, DialogId),
    /// We called it; this keeps the call's queue open.
    Dialled(#[expect(dead_code, reason = "held for being held")] mpsc::Sender<Input>),
}

/// Legs that were dialled.
pub(super) struct Others {
    /// By [`LegSide::index`].
    dials: [Option<DialHandle>; 3],
    /// The dialogs of those that are answered, by the same.
    carried: [Option<Box<CarriedDialog>>; 3],
    /// Of the far leg and the third.
    slots: [Slot; 2],
    /// How the near leg is dialled, until it is.
    plan: Option<Box<OutboundPlan>>,
    news: mpsc::Receiver<(LegSide, DialNews)>,
    news_in: mpsc::Sender<(LegSide, DialNews)>,
}

impl Others {
    pub(super) fn new(plan: Option<Box<OutboundPlan>>) -> Self {
        let (news_in, news) = mpsc::channel(NEWS_MAX);
        let carried = [None, None, None];
        let slots = Default::default();
        Self { dials: [None, None, None], carried, slots, plan, news, news_in }
    }

    pub(super) const fn slot(&mut self, side: LegSide) -> &mut Slot {
        let [far, third] = &mut self.slots;
        match side {
            LegSide::Near | LegSide::Far => far,
            LegSide::Third => third,
        }
    }

    fn dial(&mut self, side: LegSide) -> &mut Option<DialHandle> {
        of_side(&mut self.dials, side)
    }
}

const fn of_side<T>([near, far, third]: &mut [T; 3], side: LegSide) -> &mut T {
    match side {
        LegSide::Near => near,
        LegSide::Far => far,
        LegSide::Third => third,
    }
}

/// What happens next to the legs that were dialled; nothing ever without any.
pub(super) async fn heard(others: Option<&mut Others>) -> Woken {
    let Some(others) = others else { return std::future::pending().await };
    let [far, third] = &mut others.slots;
    tokio::select! {
        biased;
        Some((side, news)) = others.news.recv() => Woken::News(side, news),
        event = far.heard() => Woken::Media(LegSide::Far, event),
        event = third.heard() => Woken::Media(LegSide::Third, event),
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

    pub(super) async fn signal(&mut self, side: LegSide, output: LegOutput) {
        if let LegOutput::Dial { target, offer, .. } = output {
            return self.dial(side, target, offer);
        }
        let output = match output {
            // Its carrier may hang the caller up before it takes the other leg.
            LegOutput::ReferToLeg(target) => match self.address_replacing(target).await {
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
                return self.replace_near(body, turn).await;
            }
            LegOutput::RefuseReplacement(cause) => return self.refuse_replacement(cause).await,
            // The caller may leave its agent with somebody else: its shard holds the queue no longer.
            LegOutput::AcceptRefer if side == LegSide::Near => {
                self.kept = self.switch.registry.inputs_of(self.id());
            }
            LegOutput::NotifyRefer { status: 300.. } if side == LegSide::Near => self.kept = None,
            _ => (),
        }
        if let (LegSide::Near, Near::Invited(shard, dialog)) = (side, &self.near) {
            let host = &self.route.peer_host;
            if let Some(command) = invited_command(*dialog, output, host) {
                shard.command(command).await;
            }
            return;
        }
        let is_over = matches!(output, LegOutput::HangUp(_));
        let Some(others) = &mut self.others else { return };
        let Some(dial) = others.dial(side) else { return };
        dial.tell(output).await;
        if is_over {
            // Its news still come; nothing is asked of it any more, and a new leg may take its place.
            *others.dial(side) = None;
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
        Some(DialTarget::Uri { uri, credentials: None, headers, pass })
    }

    /// Answers the leg that takes the near one's place, and hangs that up.
    async fn replace_near(&mut self, body: Bytes, turn: u8) {
        let registry = &self.switch.registry;
        let Some((replacement, inputs)) = registry.take_replacement(self.id()) else { return };
        let Replacement { shard, dialog, .. } = *replacement;
        let trunk = Arc::clone(&self.route.trunk);
        let leg = CallLeg { call: inputs, side: LegSide::Near, turn, trunk };
        let Some(name) = shard.take_over(dialog, leg, body).await else {
            // Its peer gave up at this very moment: the leg before is still there.
            return self.leg(LegSide::Near, LegInput::ReplacementLost);
        };
        registry.name_dialog(self.id(), name);
        self.note(CallEvent::Replaced(LegSide::Near));
        let before = std::mem::replace(&mut self.near, Near::Invited(shard, dialog));
        if let Near::Invited(shard, dialog) = before {
            shard.let_go(dialog, HangupCause::Transferred).await;
        }
    }

    async fn refuse_replacement(&mut self, cause: HangupCause) {
        let taken = self.switch.registry.take_replacement(self.id());
        if let Some((replacement, _)) = taken {
            replacement.refuse(&self.switch, cause).await;
        }
    }

    fn dial(&mut self, side: LegSide, target: DialTarget, offer: Option<Bytes>) {
        let route = match self.route_to(side, target) {
            Ok(route) => route,
            Err(cause) => return self.leg(side, LegInput::DialFailed { cause, status: None }),
        };
        let call = self.id();
        let offered_for = match side {
            LegSide::Near => Some(self.route.trunk.id),
            LegSide::Far | LegSide::Third => None,
        };
        let others = self.others.get_or_insert_with(|| Box::new(Others::new(None)));
        let news = others.news_in.clone();
        *of_side(&mut others.carried, side) = None;
        let seed = DialSeed { call, side, route, offered_for, offer, news };
        *others.dial(side) = Some(dial::start(&self.switch, seed));
    }

    fn route_to(&mut self, side: LegSide, target: DialTarget) -> Result<DialRoute, HangupCause> {
        let planned = self.others().plan.take().filter(|_| side == LegSide::Near);
        if let Some(plan) = planned {
            return Ok(DialRoute::Planned(plan));
        }
        match target {
            DialTarget::Number { to, from, trunk, reason, joined } => {
                let to = to.as_str().parse().map_err(|_| HangupCause::NotANumber)?;
                let mut request = OutboundRequest::new(self.route.tenant.id, to);
                request.from = from;
                request.trunk = trunk;
                self.pass_on(&mut request, reason);
                request.joined_to = self.trunk_of(joined);
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
            DialTarget::Uri { uri, credentials, headers, pass } => {
                let from_host = self.listener.rtp_address;
                let own_host = match from_host {
                    IpAddr::V4(host) => host.to_string(),
                    IpAddr::V6(host) => format!("[{host}]"),
                };
                let from_user = from_user(&self.route.caller);
                let host = NextHop::parse(uri.as_str()).map(|hop| hop.host).unwrap_or_default();
                let call = self.id().to_string();
                let callers = Values {
                    caller: &from_user,
                    called: self.route.dialled.as_str(),
                    gateway_host: &host,
                    from_host: &own_host,
                    area_code: &self.route.trunk.jurisdiction.area_code,
                    call_id: &call,
                    variables: &self.route.variables,
                };
                let passing = self.route.passing.as_deref();
                let headers = passing::to_peer(&callers, (&headers, &pass), passing);
                let hops = self.route.hops_left;
                let route = PeerRoute { uri, credentials, headers, from_user, from_host, hops };
                Ok(DialRoute::Peer(Box::new(route)))
            }
        }
    }

    /// What a leg that this call goes on to by a trunk has of the near leg.
    fn pass_on(&self, request: &mut OutboundRequest, reason: DiversionReason) {
        request.call_id = self.id().to_string();
        request.hops_left = Some(self.route.hops_left);
        request.variables = self.route.variables.clone();
        if matches!(self.near, Near::Dialled(_)) {
            return;
        }
        let passing = self.route.passing.as_deref();
        request.anonymous = self.route.withheld;
        request.headers = passing.map(|passing| passing.headers().to_vec()).unwrap_or_default();
        request.forwarding = Some(Forwarding {
            caller: self.route.caller.parse().ok(),
            dialled: self.route.dialled,
            reason,
            diversion: passing.and_then(|passing| passing.diversion.clone()),
            history: passing.and_then(|passing| passing.history.clone()),
        });
    }

    /// The trunk by which the media come of whom a new leg is to talk with; `None`: of nobody's telephone.
    fn trunk_of(&mut self, joined: Joined) -> Option<Arc<Trunk>> {
        match joined {
            Joined::Agent => None,
            Joined::Leg(LegSide::Near) => {
                let of_media = self.media.trunk.as_ref();
                let moved = of_media.filter(|_| matches!(self.near, Near::Dialled(_)));
                Some(Arc::clone(moved.unwrap_or(&self.route.trunk)))
            }
            Joined::Leg(side @ (LegSide::Far | LegSide::Third)) => {
                self.others.as_mut()?.slot(side).trunk.clone()
            }
        }
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

    pub(super) fn dial_news(&mut self, side: LegSide, news: DialNews) -> Option<Input> {
        match news {
            DialNews::Carried(dialog) => {
                *of_side(&mut self.others().carried, side) = Some(dialog);
                None
            }
            DialNews::Leg(input) => Some(Input::Leg(side, input)),
            DialNews::Sent { to, transport } => {
                self.note(CallEvent::Sent { side, to, transport });
                None
            }
            DialNews::Attempted(decision) => {
                self.note(CallEvent::Attempted(decision));
                None
            }
            DialNews::OfferWanted { trunk, transport } => {
                let terms = Box::new(leg_terms::outbound(&trunk, transport));
                if side == LegSide::Near {
                    self.switch.registry.moved_to(self.id(), &trunk);
                }
                match self.go_by(side, trunk) {
                    Ok(place) => Some(Input::Leg(side, LegInput::OfferWanted { terms, place })),
                    Err(cause) => {
                        // Its task hangs up what it began.
                        *self.others().dial(side) = None;
                        Some(Input::Leg(side, LegInput::DialFailed { cause, status: None }))
                    }
                }
            }
        }
    }
}

/// The user part under which a caller is shown to a peer of its own.
fn from_user(caller: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let user: String = caller.chars().filter(|c| is_plain(*c)).collect();
    if user.is_empty() { "anonymous".to_owned() } else { user }
}

/// What the dialog of a caller must do.
pub(crate) fn invited_command(dialog: DialogId, output: LegOutput, host: &str) -> Option<Command> {
    match output {
        LegOutput::Progress { status, body } => Some(Command::Progress { dialog, status, body }),
        LegOutput::Answer(body) => Some(Command::Accept { dialog, body }),
        LegOutput::Refuse { cause, status } => {
            let retry_after_s = cause.retry_after_s();
            let refusal = Refusal { status, cause, retry_after_s, headers: Vec::new() };
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
        | LegOutput::HangUp(_)
        | LegOutput::Dial { .. }
        | LegOutput::Offer(_)
        | LegOutput::AnswerReplacement { .. }
        | LegOutput::RefuseReplacement(_) => dial::command_of(dialog, output, host),
    }
}
