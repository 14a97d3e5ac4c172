//! Calls that are asked for, and what is asked of running ones: placed, hung up, transferred.

use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::event::Arrival;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::event::Route;
use crate::call::input::Input;
use crate::call::setup::CallSetup;
use crate::call::setup::Opening;
use crate::call::transfer::TransferRequest;
use crate::cdr::CallLog;
use crate::clock;
use crate::engine::awaited::AwaitedAgents;
use crate::engine::call_metrics;
use crate::engine::call_task;
use crate::engine::call_task::CallRoute;
use crate::engine::call_task::CallSeed;
use crate::engine::call_task::NearSeed;
use crate::engine::call_task::PeerHost;
use crate::engine::errand::Ask;
use crate::engine::errand::Snapshot;
use crate::engine::leg_terms;
use crate::engine::live::LiveEvent;
use crate::engine::mailbox;
use crate::engine::partner;
use crate::engine::registry::CampaignGuard;
use crate::engine::registry::Unheard;
use crate::engine::switch::Switch;
use crate::engine::way;
use crate::routing::contents::is_recorded;
use crate::routing::decision::Decision;
use crate::routing::numbers::dial_text;
use crate::routing::outbound::DiversionReason;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound::Try;
use crate::routing::signalling::ReferOut;
use crate::routing::table::AiProfile;
use crate::routing::table::RoutingTable;
use crate::routing::trail::Trail;
use crate::routing::trunk::Trunk;
use crate::sip::locate::Locator;
use crate::types::agent::AgentSettings;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::header::CallVariables;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::AiProfileId;
use crate::types::id::CallId;
use crate::types::id::CampaignId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::CALL_QUEUE_MAX;
use crate::types::moment::Moment;
use crate::types::name::ListenerName;
use crate::types::number::DialString;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use crate::types::random::Random;
use crate::types::transport::Transport;
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

/// A call that is asked for.
#[derive(Clone, Debug)]
pub struct Origination {
    /// Whose call it is.
    pub tenant: TenantId,
    /// The number to call.
    pub to: DialString,
    /// The number to show; `None`: by the trunk's caller-ID policy.
    pub from: Option<E164>,
    /// The campaign it is for; `None`: that of the number to show, if it has one.
    pub campaign: Option<CampaignId>,
    /// The trunk to call by; `None`: by the tenant's order of trunks.
    pub trunk: Option<TrunkId>,
    /// Who speaks; `None`: the profile of the caller's number, else the tenant's default.
    pub ai_profile: Option<AiProfileId>,
    /// The caller wants to be withheld from the called party, as far as the trunk lets callers be.
    pub anonymous: bool,
    /// Headers for the carrier; those are sent that its trunk passes on.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// How the agent is reached, instead of what the profile says.
    pub agent: Option<AgentSettings>,
    /// What agents are told, and templates of headers are filled with.
    pub variables: Option<CallVariables>,
    /// It is ended so long after its answer, or earlier where its trunk says so.
    pub duration_max: Option<Duration>,
    /// It is given up so long after it was begun where nobody answers, or earlier where its trunk says so.
    pub ring_max: Option<Duration>,
    /// Whether it is recorded; `None`: as number, profile and tenant say.
    pub record: Option<bool>,
    /// Whether a person or a machine answered is to be found out.
    pub machine_detection: bool,
    /// Its identity; `None`: a new one.
    pub id: Option<CallId>,
}

impl Origination {
    /// A call of `tenant` to `to`, with nothing else asked for.
    #[must_use]
    pub const fn new(tenant: TenantId, to: DialString) -> Self {
        Self {
            tenant,
            to,
            from: None,
            campaign: None,
            trunk: None,
            ai_profile: None,
            anonymous: false,
            headers: Vec::new(),
            agent: None,
            variables: None,
            duration_max: None,
            ring_max: None,
            record: None,
            machine_detection: false,
            id: None,
        }
    }
}

/// With whom a running call shall be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferTarget {
    /// A number, by the tenant's trunks.
    Number(E164),
    /// A SIP peer by its address.
    Peer(PeerUri),
}

/// What is asked of the transfer of a running call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferOrder {
    /// Dial the target and bridge it with the near leg.
    Bridge(TransferTarget),
    /// Let the carrier of the near leg connect it with this number.
    Refer(E164),
    /// Dial the target; the agent speaks with it first.
    Attended(TransferTarget),
    /// The agent has spoken with the target: bridge.
    Confirm,
    /// Give the transfer under way up.
    Withdraw,
}

/// How long the target of a transfer is rung.
const TRANSFER_RING_MAX: Duration = Duration::from_secs(45);

/// Places calls, and tells running ones what is asked of them.
#[derive(Clone)]
pub struct CallControl {
    pub(super) switch: Arc<Switch>,
}

impl fmt::Debug for CallControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallControl").finish_non_exhaustive()
    }
}

impl CallControl {
    /// That of a node.
    #[must_use]
    pub const fn new(switch: Arc<Switch>) -> Self {
        Self { switch }
    }

    /// The names of the node's listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerName> {
        self.switch.listeners.iter().map(|listener| &listener.name)
    }

    /// The trunk `text` names, by id or name, as far as the tenant may use it.
    #[must_use]
    pub fn trunk(&self, tenant: TenantId, text: &str) -> Option<TrunkId> {
        self.switch.table.load().trunk_named(tenant, text).map(|trunk| trunk.id)
    }

    /// Places a call; whether it is answered is told by its record. Needs a tokio runtime.
    ///
    /// # Errors
    /// Why it is not placed. That leaves a record too.
    pub fn place(&self, wish: Origination) -> Result<CallId, HangupCause> {
        let now = clock::now();
        let id = wish.id.unwrap_or_else(clock::new_call_id);
        let mut begun = Begun { now, log: CallLog::open(now, id), switch: &self.switch };
        let table = self.switch.table.load();
        let mut request = OutboundRequest::new(wish.tenant, wish.to.clone());
        request.from = wish.from;
        request.trunk = wish.trunk;
        request.campaign = wish.campaign;
        request.is_placed = true;
        request.anonymous = wish.anonymous;
        request.headers.clone_from(&wish.headers);
        request.variables = wish.variables.clone().unwrap_or_default();
        request.call_id = id.to_string();
        let mut route = Route {
            trunk: wish.trunk.filter(|trunk| table.trunk(*trunk).is_some()),
            tenant: table.tenant(wish.tenant).map(|tenant| tenant.id),
            ..Route::default()
        };
        if self.switch.registry.is_draining() {
            begun.arrive(&wish, None);
            return Err(begun.refuse(route, (HangupCause::Draining, Decision::new())));
        }
        let planned = self.switch.registry.plan_out(now, &table, request);
        let shown = planned.as_ref().ok().and_then(|plan| plan.tries.first()).map(Try::caller);
        begun.arrive(&wish, shown);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => {
                route.trunk = refusal.trunk.map(|trunk| trunk.id).or(route.trunk);
                route.dialled = refusal.dialled;
                return Err(begun.refuse(route, (refusal.cause, refusal.decision)));
            }
        };
        let Some(first) = plan.tries.first() else {
            return Err(begun.refuse(route, (HangupCause::NoTrunk, plan.decision)));
        };
        let (trunk, caller) = (Arc::clone(&first.trunk), first.caller());
        route.trunk = Some(trunk.id);
        route.number = plan.number.as_ref().map(|number| number.id);
        route.dialled = Some(plan.dialled);
        let Some(profile) = profile(&table, &plan, &wish) else {
            let mut decision = plan.decision;
            decision.note("ai_profile", "the tenant has no such profile");
            return Err(begun.refuse(route, (HangupCause::NoAgent, decision)));
        };
        route.ai_profile = Some(profile.id).filter(|id| !id.uuid().is_nil());
        // Each try is admitted in its turn; a call of which none would be is not begun.
        if let Err(cause) = self.switch.registry.check_out(now, &plan) {
            let mut decision = plan.decision;
            decision.note("admission", format!("refused: {cause}"));
            return Err(begun.refuse(route, (cause, decision)));
        }
        let entered = self.enter_campaign(&plan);
        let campaign = match entered {
            Ok(campaign) => campaign,
            Err(cause) => {
                let mut decision = plan.decision;
                decision.note("campaign", "has as many calls as it may");
                return Err(begun.refuse(route, (cause, decision)));
            }
        };
        let log = begun.decide(route, std::mem::take(&mut plan.decision));
        let plan = Box::new(plan);
        self.start((log, campaign), (plan, trunk, profile, caller), wish);
        Ok(id)
    }

    fn enter_campaign(&self, plan: &OutboundPlan) -> Result<Option<CampaignGuard>, HangupCause> {
        let enter = |campaign| self.switch.registry.enter_campaign(campaign);
        plan.campaign.as_deref().map(enter).transpose()
    }

    fn start(
        &self,
        (log, campaign): (CallLog, Option<CampaignGuard>),
        (plan, trunk, profile, caller): (Box<OutboundPlan>, Arc<Trunk>, Arc<AiProfile>, E164),
        wish: Origination,
    ) {
        let hop = plan.tries.first().and_then(|first| first.gateway.next_hop().transport);
        let transport = hop.unwrap_or(Transport::Udp);
        let index = usize::from(self.switch.listener_for(Some(&trunk), transport, None));
        // A node has at least one listener, and the index is of one.
        let Some(listener) = self.switch.listeners.get(index).cloned() else { return };
        let gateway = plan.tries.first().map(|first| Arc::clone(&first.gateway));
        let mut setup = call_setup(&plan, &trunk, &profile, wish.ring_max);
        // Who says how the agent is reached has said who speaks.
        setup.asks = setup.asks.filter(|_| wish.agent.is_none());
        setup.duration_max = shorter(setup.duration_max, wish.duration_max);
        let settings = is_recorded(&plan.tenant, plan.number.as_deref(), &profile);
        let route = CallRoute {
            record: wish.record.unwrap_or(settings),
            screened: wish.machine_detection,
            tenant: Arc::clone(&plan.tenant),
            profile,
            trunk,
            caller: caller.to_string(),
            dialled: plan.dialled,
            variables: wish.variables.unwrap_or_default(),
            withheld: wish.anonymous,
            passing: None,
            trail: Trail::default(),
            hops_left: plan.tries.first().map_or(0, |first| first.invite.max_forwards),
            peer_host: gateway.map_or(PeerHost::Unknown, PeerHost::Gateway),
        };
        let near = NearSeed::Dialled(plan);
        let seed = CallSeed { near, listener, log, setup, route, campaign };
        call_task::start(&self.switch, seed, mailbox::bounded(CALL_QUEUE_MAX));
    }

    /// What happens to calls from now on, of all tenants: whoever passes it on leaves out what is another's.
    #[must_use]
    pub fn live(&self) -> broadcast::Receiver<Arc<LiveEvent>> {
        self.switch.live.subscribe()
    }

    /// True while a call of `tenant` runs here.
    #[must_use]
    pub fn is_running(&self, tenant: TenantId, call: CallId) -> bool {
        self.switch.registry.is_running(tenant, call)
    }

    /// The calls that wait for an agent to dial us.
    #[must_use]
    pub fn awaited_agents(&self) -> AwaitedAgents {
        self.switch.registry.awaited_agents()
    }

    /// Hangs a call of `tenant` up; how it stands then.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, or does not take anything more at this moment.
    pub async fn hang_up(&self, tenant: TenantId, call: CallId) -> Result<Snapshot, Unheard> {
        self.ask(tenant, call, Ask::HangUp).await
    }

    /// Hangs a call of `tenant` up that nobody has answered yet; how it stands then.
    ///
    /// # Errors
    /// [`Unheard`]: it was answered, does not run here, or does not take anything more at this moment.
    pub async fn cancel(&self, tenant: TenantId, call: CallId) -> Result<Snapshot, Unheard> {
        self.ask(tenant, call, Ask::Cancel).await
    }

    /// Whether a SIP address can be called from here, as far as it tells itself: a name is looked up when it is called.
    #[must_use]
    pub fn can_call(&self, uri: &PeerUri) -> bool {
        let uri = uri.as_str();
        let begun = way::peer_search(uri)
            .and_then(|(hop, rules)| Locator::new(hop, rules, Random::from_seed(0)));
        // A connection leaves from any address, a datagram from that of a listener.
        let leaves = |at: IpAddr| {
            self.switch.listeners.iter().any(|own| {
                own.transports.contains(&Transport::Udp) && own.bind.is_ipv4() == at.is_ipv4()
            })
        };
        let by_datagram = way::transport_of(uri) == Transport::Udp;
        begun.is_ok() && (!by_datagram || way::address_of(uri).is_none_or(leaves))
    }

    /// Transfers a call of `tenant`; how it stands then. How the transfer goes is told by its record.
    ///
    /// # Errors
    /// [`Unheard`]: it does not run here, does not take anything more at this moment, its carrier may not
    /// be asked for this, it makes no sense as the call stands, or the target may not be called.
    pub async fn transfer(
        &self,
        tenant: TenantId,
        call: CallId,
        order: TransferOrder,
    ) -> Result<Snapshot, Unheard> {
        let input = match order {
            TransferOrder::Bridge(target) => {
                Input::TransferRequested(TransferRequest::Bridge(dial_request(target)))
            }
            TransferOrder::Attended(target) => {
                Input::TransferRequested(TransferRequest::Attended(dial_request(target)))
            }
            TransferOrder::Refer(to) => {
                self.check_refer(tenant, call, to)?;
                let target = Box::new(partner::transferred_to(to, TRANSFER_RING_MAX).target);
                Input::TransferRequested(TransferRequest::Refer { target, otherwise: None })
            }
            TransferOrder::Confirm => Input::TransferConfirmed,
            TransferOrder::Withdraw => Input::TransferWithdrawn,
        };
        self.ask(tenant, call, Ask::Transfer(Box::new(input))).await
    }

    /// The number that `text` is for a running call of `tenant`: in the international form, or in the national form of the
    /// country of the routing profile that the tenant's number in the call follows.
    pub async fn read_number(&self, tenant: TenantId, call: CallId, text: &str) -> Option<E164> {
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        let text = dial_text(text.as_bytes())?;
        let record = self.look(tenant, call).await.ok()?.snapshot.record?;
        let own = match record.direction {
            CallDirection::Inbound => record.route.dialled,
            CallDirection::Outbound => record.caller.parse().ok(),
        };
        let table = self.switch.table.load();
        let row = table.number(own?).filter(|row| row.tenant == tenant)?;
        table.routing_profile(row)?.profile.country?.read(&text)
    }

    /// What a carrier calls for us is judged like what we call by it.
    fn check_refer(&self, tenant: TenantId, call: CallId, to: E164) -> Result<(), Unheard> {
        let registry = &self.switch.registry;
        let trunk = registry.trunk_of(tenant, call).ok_or(Unheard::NoSuchCall)?;
        if trunk.refer_out == ReferOut::None {
            return Err(Unheard::NoRefer);
        }
        let refused = Unheard::Refused;
        let number = to.as_str().parse().map_err(|_| refused(HangupCause::NotANumber))?;
        let mut request = OutboundRequest::new(tenant, number);
        request.trunk = Some(trunk.id);
        let planned = registry.plan_out(clock::now(), &self.switch.table.load(), request);
        planned.map(|_| ()).map_err(|refusal| refused(refusal.cause))
    }
}

pub(super) fn dial_request(target: TransferTarget) -> Box<DialRequest> {
    Box::new(match target {
        TransferTarget::Number(to) => partner::transferred_to(to, TRANSFER_RING_MAX),
        TransferTarget::Peer(uri) => partner::to_peer(uri, TRANSFER_RING_MAX),
    })
}

/// The profile that speaks: the one asked for, that of the caller's number, or the tenant's default. A
/// tenant has no profile of another. Settings that are asked for hold instead of its own; a tenant without
/// profiles may be called for with them alone.
fn profile(
    table: &RoutingTable,
    plan: &OutboundPlan,
    wish: &Origination,
) -> Option<Arc<AiProfile>> {
    let tenant = plan.tenant.id;
    let of_number = || plan.number.as_ref().and_then(|number| number.ai_profile);
    let of_campaign = || plan.campaign.as_ref().and_then(|campaign| campaign.ai_profile);
    let wished = wish.ai_profile.or_else(of_campaign).or_else(of_number);
    let id = wished.or(plan.tenant.default_profile);
    let own = id.and_then(|id| table.ai_profile(id)).filter(|profile| profile.tenant == tenant);
    let Some(agent) = &wish.agent else { return own.cloned() };
    let agent = agent.clone();
    match own {
        Some(own) => Some(Arc::new(AiProfile { agent, ..AiProfile::clone(own) })),
        None if wish.ai_profile.is_some() => None,
        None => {
            let (id, name) = (AiProfileId::from_uuid(Uuid::nil()), String::new());
            let fallback = Vec::new();
            Some(Arc::new(AiProfile { id, tenant, name, agent, fallback, record: None, ask: None }))
        }
    }
}

/// What a trunk allows, or less where less is wished for.
fn shorter(allowed: Duration, wished: Option<Duration>) -> Duration {
    wished.map_or(allowed, |wished| wished.min(allowed))
}

/// How long all tries of a plan may take together until one is answered.
fn dial_max(plan: &OutboundPlan, trunk: &Trunk, wished: Option<Duration>) -> Duration {
    let ring = trunk.ring_timeout;
    let first = plan.tries.first();
    let allowed = first.map_or(ring, |first| first.outbound().patience.until_answer(ring));
    shorter(allowed, wished)
}

fn call_setup(
    plan: &OutboundPlan,
    trunk: &Trunk,
    profile: &AiProfile,
    wished: Option<Duration>,
) -> CallSetup {
    let first = plan.tries.first();
    let transport = first.and_then(|first| first.gateway.next_hop().transport);
    let setup_max = first.map_or(Duration::ZERO, |first| first.outbound().patience.setup);
    let ring_max = shorter(setup_max + trunk.ring_timeout, wished);
    let request = DialRequest {
        // Nobody dialled anything before.
        target: DialTarget::Number {
            to: plan.dialled,
            from: None,
            trunk: None,
            reason: DiversionReason::Unconditional,
            joined: Joined::Agent,
        },
        beside: Vec::new(),
        terms: leg_terms::outbound(trunk, transport.unwrap_or(Transport::Udp)),
        ring_max: dial_max(plan, trunk, wished),
    };
    CallSetup {
        opening: Opening::Outbound(Box::new(request)),
        partner: partner::of_agent(&profile.agent),
        agent: profile.agent.clone(),
        fallbacks: VecDeque::new(),
        asks: profile.ask.as_ref().map(|hook| hook.timeout),
        ring_max,
        duration_max: trunk.max_duration,
        answer_delay: trunk.answer_delay,
        progress: trunk.inbound_progress,
        response_map: trunk.response_map,
    }
}

/// A call whose record has begun.
struct Begun<'a> {
    now: Moment,
    log: CallLog,
    switch: &'a Switch,
}

impl Begun<'_> {
    fn note(&mut self, event: CallEvent) {
        call_metrics::count(self.now, self.log.record(), &event);
        self.log.note(self.now, event);
    }

    /// `shown`: the caller ID, where one was chosen.
    fn arrive(&mut self, wish: &Origination, shown: Option<E164>) {
        let signalling_id = self.log.record().id.to_string();
        self.note(CallEvent::Arrived(Box::new(Arrival {
            direction: CallDirection::Outbound,
            signalling_id,
            source: None,
            transport: None,
            caller: shown.or(wish.from).map(|from| from.to_string()).unwrap_or_default(),
            dialled: wish.to.as_str().to_owned(),
        })));
    }

    /// Records the plan; what its tries come to is recorded when they are over.
    fn decide(mut self, route: Route, mut decision: Decision) -> CallLog {
        decision.settle();
        self.note(CallEvent::Decided { route: Box::new(route), decision });
        self.log
    }

    fn refuse(mut self, route: Route, (cause, decision): (HangupCause, Decision)) -> HangupCause {
        self.note(CallEvent::Decided { route: Box::new(route), decision });
        self.note(CallEvent::Refused { cause, status: cause.sip_status() });
        self.note(CallEvent::Ended { cause, by: Party::Switch, duration: Duration::ZERO });
        tracing::info!(call = %self.log.record().id, %cause, "call out refused");
        let report = self.log.report();
        self.switch.live.tell_report(&report);
        self.switch.ledger.report_later(report);
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::switch;
    use crate::engine::switch::SwitchListener;
    use crate::routing::outbound::tests::Lab;
    use crate::routing::outbound::tests::request;
    use crate::routing::outbound::tests::trunk;

    #[test]
    fn an_address_that_no_request_leaves_for_cannot_be_called() {
        let mut switch = switch::tests::idle(Arc::new(switch::tests::Nobody), 21_424..=21_427);
        let bind = IpAddr::from([192, 0, 2, 1]);
        switch.listeners = vec![Arc::new(SwitchListener {
            name: "public".parse().expect("a name"),
            sip_host: bind.to_string(),
            bind,
            rtp_address: bind,
            transports: vec![Transport::Udp],
        })];
        let control = CallControl::new(Arc::new(switch));
        for (uri, expected) in [
            ("sip:desk@pbx.example", true),
            ("sip:desk@192.0.2.7:5080", true),
            ("sip:192.0.2.7;transport=tcp", true),
            ("sips:desk@192.0.2.7", true),
            // A connection has an address of its own, a datagram that of the listener.
            ("sip:desk@[2001:db8::7];transport=tcp", true),
            ("sip:desk@[2001:db8::7]", false),
            ("sip:desk@192.0.2.7;transport=ws", false),
            ("sips:desk@192.0.2.7;transport=udp", false),
            ("sip:desk@192.0.2.7:0", false),
            ("sip:desk@pbx..example", false),
            ("sip:", false),
        ] {
            let uri: PeerUri = uri.parse().expect("an address");
            assert_eq!(control.can_call(&uri), expected, "{}", uri.as_str());
        }
    }

    #[test]
    fn a_set_up_without_a_limit_leaves_the_ringing_its_time() {
        let lasts = |setup_s, wished| {
            let setup = Duration::from_secs(setup_s);
            let own = trunk(1, |outbound| outbound.patience.setup = setup);
            let plan = Lab::new(vec![own.clone()]).plan(request("+15551234567"));
            let plan = plan.unwrap_or_else(|refusal| panic!("{}", refusal.decision));
            dial_max(&plan, &own, wished)
        };
        let seconds = Duration::from_secs;
        assert_eq!(lasts(60, None), seconds(60 + 45));
        assert!(lasts(0, None) > seconds(3_600));
        for setup_s in [0, 60] {
            assert_eq!(lasts(setup_s, Some(seconds(30))), seconds(30));
        }
    }
}
