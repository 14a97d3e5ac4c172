//! An INVITE becomes a call, a refusal or a challenge: routing, admission, the record's first lines.

use crate::call::event::Arrival;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::event::Route;
use crate::call::input::Input as CallInput;
use crate::call::input::LegInput;
use crate::call::setup::CallSetup;
use crate::call::setup::Opening;
use crate::call::side::LegSide;
use crate::cdr::CallLog;
use crate::clock;
use crate::engine::call_metrics;
use crate::engine::call_task;
use crate::engine::call_task::CallRoute;
use crate::engine::call_task::CallSeed;
use crate::engine::call_task::Near;
use crate::engine::call_task::NearSeed;
use crate::engine::call_task::PeerHost;
use crate::engine::dialog_policy::dialog_policy;
use crate::engine::inbound_digest;
use crate::engine::inbound_digest::UNAUTHORIZED;
use crate::engine::leg_terms;
use crate::engine::mailbox;
use crate::engine::partner;
use crate::engine::passing;
use crate::engine::passing::CameBy;
use crate::engine::registry::PermitGuard;
use crate::engine::replacement::Replacement;
use crate::engine::replacement::Replacer;
use crate::engine::sip_shard::CallLeg;
use crate::engine::sip_shard::Shard;
use crate::engine::switch::Switch;
use crate::engine::switch::SwitchListener;
use crate::engine::trace::End;
use crate::engine::way;
use crate::routing::contents::is_recorded;
use crate::routing::decision::Decision;
use crate::routing::identify::Attempt;
use crate::routing::inbound;
use crate::routing::inbound::InboundRoute;
use crate::routing::inbound::Rejection;
use crate::routing::inbound::Verdict;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Invitation;
use crate::sip::endpoint::event::Refusal;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::MAX_FORWARDS;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::message::Request;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::telemetry::metric;
use crate::telemetry::metric::Histogram;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::CallId;
use crate::types::id::TrunkId;
use crate::types::limit::CALL_QUEUE_MAX;
use crate::types::moment::Moment;
use crate::types::transport::Transport;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The longest that an INVITE may have waited for its shard: whoever sent it is elsewhere by then, or gone, and its agent would
/// talk to nobody. Callers who hear nothing go to the next target after some seconds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(4);

/// Decides about a new INVITE, which waited so long for its shard, and does what was decided.
pub(super) fn receive(shard: &mut Shard, invitation: Invitation, waited: Duration) {
    if waited > WAIT_MAX {
        return turn_away_late(shard, &invitation, waited);
    }
    let now = clock::now();
    let Some(listener) = shard.switch.listeners.get(usize::from(invitation.flow.listener)).cloned()
    else {
        return refuse(shard, invitation.dialog, HangupCause::SwitchFault, 500);
    };
    let mut decision = Decision::new();
    let challenged = shard.challenges.take(invitation.request.headers.call_id());
    if let Some(challenged) = &challenged {
        let before = now.since(challenged.begun.now).as_millis();
        decision.note("challenge", format!("{UNAUTHORIZED} was sent {before} ms before"));
    }
    let stale = Cell::new(false);
    let verdict = decide(shard, &invitation, &listener, &stale, &mut decision);
    metric::observe(Histogram::Routing, clock::now().since(now));
    let mut begun = Begun::new(now, decision);
    if challenged.is_some() {
        challenge_answered(shard, &invitation, &verdict);
    }
    match verdict {
        Verdict::Challenge(trunk) => {
            challenge(shard, &invitation, &trunk, stale.get());
            // One that was challenged before is still the attempt that it was, and a late copy begins none.
            let call_id = invitation.request.headers.call_id();
            if challenged.is_none() && !shard.challenges.is_settled(call_id) {
                begun.link(shard, &invitation);
            }
            let first = || Challenged::new(begun, &invitation, &trunk);
            await_credentials(shard, &invitation, challenged.unwrap_or_else(first));
        }
        Verdict::Refuse(rejection) if rejection.cause == HangupCause::BadCredentials => {
            if leaves_record(shard, &mut begun, &invitation) {
                record(shard, begun, &invitation, &rejection);
            }
            let refusal = refusal(rejection.cause, rejection.status);
            refuse_unproven(shard, &invitation, refusal);
        }
        Verdict::Unknown => refuse_unknown(shard, begun, &invitation),
        Verdict::Refuse(rejection) => {
            begun.link(shard, &invitation);
            reject(shard, begun, &invitation, &rejection);
        }
        Verdict::Route(route) => {
            begun.link(shard, &invitation);
            let policy = dialog_policy(&route.trunk, route.trunk.takes_refer);
            if let Some(refusal) = policy.refusal(&invitation.request.headers) {
                return refuse_terms(shard, begun, &invitation, (*route, refusal));
            }
            if invitation.replaces.is_some() {
                return replace(shard, begun, invitation, (policy, *route));
            }
            match shard.switch.registry.admit(now, &route.tenant, &route.trunk) {
                Ok(permit) => {
                    adopt(shard, &invitation, policy, &route.trunk);
                    admit(shard, begun, invitation, (listener, permit, route));
                }
                Err(cause) => {
                    begun.decision.note("admission", format!("refused: {cause}"));
                    let status = route.trunk.response_map.status(cause);
                    reject(shard, begun, &invitation, &rejection(*route, (cause, status)));
                }
            }
        }
    }
}

/// Turns away what is too late, with a record of it, whoever it is of: routing it is what there is no time for.
fn turn_away_late(shard: &mut Shard, invitation: &Invitation, waited: Duration) {
    let (now, call_id) = (clock::now(), invitation.request.headers.call_id());
    // Who was challenged came back all the same.
    if shard.challenges.take(call_id).is_some()
        && let Some(oldest) = shard.challenges.settle(now, call_id)
    {
        oldest.give_up(shard);
    }
    let mut begun = Begun::new(now, Decision::new());
    begun.decision.note("queue", format!("it waited {} ms for its SIP shard", waited.as_millis()));
    let (cause, is_unproven) = (HangupCause::Overload, shard.is_unproven(&invitation.flow));
    let status = cause.sip_status();
    let is_recorded = if is_unproven {
        leaves_record(shard, &mut begun, invitation)
    } else {
        begun.link(shard, invitation);
        true
    };
    if is_recorded {
        begun.note_arrival(invitation, &claimed_caller(&invitation.request));
        begun.note_route(Route::default());
        begun.close(&shard.switch, (cause, status));
    }
    if is_unproven {
        refuse_unproven(shard, invitation, refusal(cause, status));
    } else {
        refuse(shard, invitation.dialog, cause, status);
    }
}

/// The source address is a trunk's, but the request lacks what would make it that trunk's.
fn refuse_unknown(shard: &mut Shard, mut begun: Begun, invitation: &Invitation) {
    let cause = HangupCause::UnknownSource;
    let status = cause.sip_status();
    if leaves_record(shard, &mut begun, invitation) {
        begun.note_arrival(invitation, &claimed_caller(&invitation.request));
        begun.note_route(Route::default());
        begun.close(&shard.switch, (cause, status));
    }
    refuse_unproven(shard, invitation, refusal(cause, status));
}

/// Puts the trunk's terms in force for a dialog.
fn adopt(shard: &mut Shard, invitation: &Invitation, policy: DialogPolicy, trunk: &Arc<Trunk>) {
    let (dialog, flow) = (invitation.dialog, invitation.flow);
    shard.reach_by(dialog, trunk);
    if flow.transport.is_reliable() {
        shard.reach_back(dialog, way::back(&shard.switch.flows, trunk, flow));
    }
    shard.pending.push_back(Command::Adopt { dialog, policy });
    shard.trust(dialog, trunk);
    if let Some(advertised) = trunk.path.advertised.clone() {
        shard.pending.push_back(Command::Advertise { dialog, advertised });
    }
}

/// Hands an INVITE that takes the place of a leg to the call of that (RFC 3891 §3).
fn replace(
    shard: &mut Shard,
    mut begun: Begun,
    invitation: Invitation,
    (policy, route): (DialogPolicy, InboundRoute),
) {
    let dialog = invitation.dialog;
    let Some(replaces) = &invitation.replaces else { return };
    begun.note_arrival(&invitation, route.caller.shown());
    begun.decision.note("replaces", "it wants the place of a leg of a running call");
    begun.note_route(route_of(&route));
    let replacer = Replacer { replaces, tenant: route.tenant.id, trunk: route.trunk.id };
    let replacement =
        Replacement { shard: shard.handle.clone(), dialog, flow: invitation.flow, begun };
    let offer = invitation.body.as_ref().map(|body| body.bytes.clone());
    match shard.switch.registry.replace(replacer, replacement, offer) {
        Ok(call) => {
            adopt(shard, &invitation, policy, &route.trunk);
            let secrets = Arc::clone(shard.switch.table.load().secret_headers());
            let called = (call, End::Called);
            shard.trace.link(called, invitation.request.headers.call_id(), &secrets);
        }
        Err((cause, replacement)) => {
            close(shard, replacement.begun, dialog, (cause, cause.sip_status()));
        }
    }
}

/// Refuses an INVITE whose session timer or reliable responses the trunk does not take.
fn refuse_terms(
    shard: &mut Shard,
    mut begun: Begun,
    invitation: &Invitation,
    (route, refusal): (InboundRoute, Refusal),
) {
    begun.decision.note("signalling", format!("refused: {}", refusal.status));
    let rejection = rejection(route, (refusal.cause, refusal.status));
    record(shard, begun, invitation, &rejection);
    shard.pending.push_back(Command::Refuse { dialog: invitation.dialog, refusal });
}

fn rejection(route: InboundRoute, (cause, status): (HangupCause, u16)) -> Rejection {
    Rejection {
        cause,
        status,
        trunk: route.trunk,
        tenant: Some(route.tenant),
        number: Some(route.number),
        dialled: Some(route.dialled),
        caller: route.caller,
    }
}

/// Starts the call of an admitted INVITE.
fn admit(
    shard: &mut Shard,
    mut begun: Begun,
    invitation: Invitation,
    (listener, permit, route): (Arc<SwitchListener>, PermitGuard, Box<InboundRoute>),
) {
    begun.note_arrival(&invitation, route.caller.shown());
    begun.note_route(route_of(&route));
    let (inputs, queue) = mailbox::bounded(CALL_QUEUE_MAX);
    let dialog = invitation.dialog;
    let near = Near::Invited(shard.handle.clone(), dialog);
    let setup = call_setup(&route, invitation.flow.transport);
    let seed = CallSeed {
        near: NearSeed::Invited(near, permit, invitation.flow.remote.ip()),
        listener,
        log: begun.log,
        setup,
        route: call_route(&invitation, *route),
        campaign: None,
    };
    let body = invitation.body.map(|body| body.bytes);
    // The queue is new and empty: this cannot fail.
    let offered = CallInput::Leg(LegSide::Near, LegInput::Offered(body));
    drop(inputs.try_send(offered));
    let trunk = Arc::clone(&seed.route.trunk);
    let leg = CallLeg { call: inputs.clone(), side: LegSide::Near, turn: 0, trunk };
    shard.calls.insert(dialog, leg);
    let call = seed.log.record().id;
    call_task::start(&shard.switch, seed, (inputs, queue));
    if let Some(name) = shard.name_of(dialog) {
        shard.switch.registry.name_dialog(call, name);
    }
}

fn call_route(invitation: &Invitation, route: InboundRoute) -> CallRoute {
    let hops = invitation.request.headers.max_forwards().unwrap_or(MAX_FORWARDS);
    let peer_host = PeerHost::of_caller(&route.trunk, invitation.flow.remote);
    let record = is_recorded(&route.tenant, Some(&route.number), &route.profile);
    CallRoute {
        record,
        screened: false,
        caller: route.caller.shown().to_owned(),
        variables: route.variables,
        withheld: route.caller.withheld,
        passing: passing::of_invite(&invitation.request.headers, &route.trunk),
        tenant: route.tenant,
        profile: route.profile,
        trunk: route.trunk,
        dialled: route.dialled,
        trail: route.trail,
        // RFC 3261 §16.6: each hop takes one, and a call that goes on is one more hop.
        hops_left: hops.saturating_sub(1),
        peer_host,
    }
}

/// A call whose record has begun.
#[derive(Debug)]
pub(super) struct Begun {
    now: Moment,
    log: CallLog,
    decision: Decision,
}

impl Begun {
    fn new(now: Moment, decision: Decision) -> Self {
        Self { now, log: CallLog::open(now, clock::new_call_id()), decision }
    }

    /// Has the signalling told with this record. Of an INVITE that leaves none it stays with whom it belongs to.
    fn link(&self, shard: &Shard, invitation: &Invitation) {
        let secrets = Arc::clone(shard.switch.table.load().secret_headers());
        let called = (self.log.record().id, End::Called);
        shard.trace.link(called, invitation.request.headers.call_id(), &secrets);
    }

    fn note_arrival(&mut self, invitation: &Invitation, caller: &str) {
        let arrival = arrival(&invitation.request, invitation.flow, caller);
        self.note(CallEvent::Arrived(Box::new(arrival)));
    }

    fn note_route(&mut self, route: Route) {
        let mut decision = std::mem::take(&mut self.decision);
        decision.settle();
        self.note(CallEvent::Decided { route: Box::new(route), decision });
    }

    /// Tells of attempts before this one that left no record.
    fn note_left_out(&mut self, left_out: u64) {
        if left_out > 0 {
            let said = format!("{left_out} more since the last such record");
            self.decision.note("left_out", said);
        }
    }

    fn note(&mut self, event: CallEvent) {
        call_metrics::count(self.now, self.log.record(), &event);
        self.log.note(self.now, event);
    }

    /// Ends the record of a refused call.
    pub(super) fn close(mut self, switch: &Switch, (cause, status): (HangupCause, u16)) {
        self.note(CallEvent::Refused { cause, status });
        self.note(CallEvent::Ended { cause, by: Party::Switch, duration: Duration::ZERO });
        let call: CallId = self.log.record().id;
        tracing::info!(%call, %cause, status, "call refused");
        // Written in the background: a refusal does not wait for the disk.
        let report = self.log.report();
        switch.live.tell_report(&report);
        switch.ledger.report_later(report);
    }
}

/// What a record keeps of an INVITE and its way here.
pub(super) fn arrival(request: &Request, flow: Flow, caller: &str) -> Arrival {
    let dialled = request.uri.user_decoded().unwrap_or_default();
    Arrival {
        direction: CallDirection::Inbound,
        signalling_id: String::from_utf8_lossy(request.headers.call_id()).into_owned(),
        source: Some(flow.remote),
        transport: Some(flow.transport),
        caller: caller.to_owned(),
        dialled: String::from_utf8_lossy(&dialled).into_owned(),
    }
}

/// The caller as From gives it, before any trunk's rules.
pub(super) fn claimed_caller(request: &Request) -> String {
    let caller = request.headers.from().uri().user_decoded().unwrap_or_default();
    String::from_utf8_lossy(&caller).into_owned()
}

/// An INVITE that was answered with a challenge. Its record is that of the INVITE that follows with
/// credentials; only if none comes does it get one of its own.
#[derive(Debug)]
pub(super) struct Challenged {
    begun: Begun,
    arrival: Arrival,
    trunk: TrunkId,
}

impl Challenged {
    fn new(begun: Begun, invitation: &Invitation, trunk: &Trunk) -> Self {
        let caller = claimed_caller(&invitation.request);
        let arrival = arrival(&invitation.request, invitation.flow, &caller);
        Self { begun, arrival, trunk: trunk.id }
    }

    /// Leaves the record of an attempt whose caller did not come back, if it is not one of a flood.
    pub(super) fn give_up(mut self, shard: &mut Shard) {
        let Some(left_out) = shard.unanswered.take(clock::now()) else { return };
        self.begun.decision.note("challenge", "nobody came back with credentials");
        self.begun.note_left_out(left_out);
        self.begun.note(CallEvent::Arrived(Box::new(self.arrival)));
        self.begun.note_route(Route { trunk: Some(self.trunk), ..Route::default() });
        self.begun.close(&shard.switch, (HangupCause::CredentialsRequired, UNAUTHORIZED));
    }
}

/// Keeps a challenged attempt for the INVITE that is to follow. Repeated challenges lengthen nothing.
fn await_credentials(shard: &mut Shard, invitation: &Invitation, challenged: Challenged) {
    let call_id = invitation.request.headers.call_id();
    let (since, is_settled) = (challenged.begun.now, shard.challenges.is_settled(call_id));
    let oldest = match (shard.switch.registry.is_draining(), is_settled) {
        (false, _) => shard.challenges.keep(since, call_id, challenged),
        (true, true) => None,
        // Nobody is waited for any more; a copy of this INVITE is not another attempt all the same.
        (true, false) => {
            challenged.give_up(shard);
            shard.challenges.settle(clock::now(), call_id)
        }
    };
    if let Some(oldest) = oldest {
        oldest.give_up(shard);
    }
}

/// A caller came back. Who was asked with a nonce for its address and has the answer hears us there: the challenge
/// was no burden to anybody.
fn challenge_answered(shard: &mut Shard, invitation: &Invitation, verdict: &Verdict) {
    let has_proven = match verdict {
        Verdict::Challenge(_) => return,
        Verdict::Unknown => false,
        Verdict::Refuse(rejection) => {
            rejection.trunk.digest.is_some() && rejection.cause != HangupCause::BadCredentials
        }
        Verdict::Route(route) => route.trunk.digest.is_some(),
    };
    if has_proven && !invitation.flow.transport.is_reliable() {
        shard.switch.registry.challenge_answered(invitation.flow.remote.ip());
    }
    let call_id = invitation.request.headers.call_id();
    if let Some(oldest) = shard.challenges.settle(clock::now(), call_id) {
        oldest.give_up(shard);
    }
}

/// Runs routing over the request, checking credentials where a trunk wants them.
fn decide(
    shard: &mut Shard,
    invitation: &Invitation,
    listener: &SwitchListener,
    stale: &Cell<bool>,
    decision: &mut Decision,
) -> Verdict {
    let request = invitation.request.as_ref();
    let source = invitation.flow.remote.ip();
    let now = clock::now();
    let digest = RefCell::new(&mut shard.digest);
    let proof = |account: &DigestAccount| {
        let known = (account, stale);
        inbound_digest::proof(&mut digest.borrow_mut(), (now, source), request, known)
    };
    let header = |name: &str, nth: usize| request.headers.named(name).nth(nth);
    let came = CameBy::of(&request.headers);
    let (diverted, history) = (came.diverted(), came.history());
    let called_party = first_uri(request, HeaderName::PCalledPartyId);
    let certificate = shard.switch.flows.peer_names(invitation.flow.id);
    let attempt = Attempt {
        listener: &listener.name,
        source,
        transport: invitation.flow.transport,
        certificate: certificate.as_deref(),
        own_host: &listener.sip_host,
        request_host: request.uri.host().unwrap_or_default(),
        request_user: request.uri.user().unwrap_or_default(),
        to_user: request.headers.to().uri().user().unwrap_or_default(),
        diversion_user: diverted.first().map_or(&[], |by| by.user),
        called_party_user: called_party.as_ref().and_then(Uri::user).unwrap_or_default(),
        caller_user: request.headers.from().uri().user().unwrap_or_default(),
        diverted: &diverted,
        history: &history,
        trail_key: shard.switch.registry.trail_key(),
        header: &header,
        proof: &proof,
    };
    let table = shard.switch.table.load();
    inbound::route(&table, &attempt, decision)
}

fn first_uri(request: &Request, name: HeaderName) -> Option<Uri> {
    let address = request.headers.addresses(name).next()?.ok()?;
    Some(address.uri().clone())
}

fn challenge(shard: &mut Shard, invitation: &Invitation, trunk: &Trunk, stale: bool) {
    let Some(account) = &trunk.digest else {
        return refuse(shard, invitation.dialog, HangupCause::SwitchFault, 500);
    };
    let from = (clock::now(), invitation.flow.remote.ip());
    let refusal = inbound_digest::challenge(&mut shard.digest, from, (account, stale));
    refuse_unproven(shard, invitation, refusal);
}

/// Refuses, once, who may have forged the address that the refusal goes to: repeating it would burden
/// somebody else, and so would much more than came (RFC 3261 §26.3.2.4).
fn refuse_unproven(shard: &mut Shard, invitation: &Invitation, refusal: Refusal) {
    let Flow { remote, transport, .. } = invitation.flow;
    let registry = &shard.switch.registry;
    let is_free = transport.is_reliable() || registry.may_challenge(clock::now(), remote.ip());
    let came = invitation.request.headers.table().raw().len();
    let bytes_max = (!is_free).then_some(came);
    let dialog = invitation.dialog;
    shard.pending.push_back(Command::RefuseOnce { dialog, refusal, bytes_max });
}

/// Whether an INVITE that proved nothing leaves a record. Its copies find no transaction, so they leave none here;
/// and a flood leaves some.
fn leaves_record(shard: &mut Shard, begun: &mut Begun, invitation: &Invitation) -> bool {
    let message = invitation.request.headers.table().raw();
    let Some(left_out) = shard.wrong.take(clock::now(), message) else { return false };
    begun.note_left_out(left_out);
    begun.link(shard, invitation);
    true
}

/// Refuses and leaves the record of it.
fn reject(shard: &mut Shard, begun: Begun, invitation: &Invitation, rejection: &Rejection) {
    record(shard, begun, invitation, rejection);
    refuse(shard, invitation.dialog, rejection.cause, rejection.status);
}

/// Leaves the record of a refusal.
fn record(shard: &Shard, mut begun: Begun, invitation: &Invitation, rejection: &Rejection) {
    begun.note_arrival(invitation, rejection.caller.shown());
    begun.note_route(Route {
        trunk: Some(rejection.trunk.id),
        tenant: rejection.tenant.as_ref().map(|tenant| tenant.id),
        number: rejection.number.as_ref().map(|number| number.id),
        dialled: rejection.dialled,
        ai_profile: None,
    });
    begun.close(&shard.switch, (rejection.cause, rejection.status));
}

/// Ends the record of a refused call and refuses it.
fn close(shard: &mut Shard, begun: Begun, dialog: DialogId, (cause, status): (HangupCause, u16)) {
    begun.close(&shard.switch, (cause, status));
    refuse(shard, dialog, cause, status);
}

fn refuse(shard: &mut Shard, dialog: DialogId, cause: HangupCause, status: u16) {
    shard.pending.push_back(Command::Refuse { dialog, refusal: refusal(cause, status) });
}

const fn refusal(cause: HangupCause, status: u16) -> Refusal {
    let retry_after_s = cause.retry_after_s();
    Refusal { status, cause, retry_after_s, headers: Vec::new(), is_passed_on: false }
}

fn route_of(route: &InboundRoute) -> Route {
    Route {
        trunk: Some(route.trunk.id),
        tenant: Some(route.tenant.id),
        number: Some(route.number.id),
        dialled: Some(route.dialled),
        ai_profile: Some(route.profile.id),
    }
}

fn call_setup(route: &InboundRoute, transport: Transport) -> CallSetup {
    let trunk = &route.trunk;
    CallSetup {
        opening: Opening::Inbound(leg_terms::inbound(trunk, transport)),
        partner: partner::of_agent(&route.profile.agent),
        agent: route.profile.agent.clone(),
        fallbacks: VecDeque::new(),
        asks: route.profile.ask.as_ref().map(|hook| hook.timeout),
        ring_max: trunk.ring_timeout,
        duration_max: trunk.max_duration,
        answer_delay: trunk.answer_delay,
        progress: trunk.inbound_progress,
        response_map: trunk.response_map,
    }
}
