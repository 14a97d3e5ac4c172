//! Calls on the bench: the switch calls somebody by the trunk, and the carrier calls the switch.

use crate::call::Call;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::input::Input as CallInput;
use crate::call::input::LegInput;
use crate::call::setup::CallSetup;
use crate::call::setup::Opening;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::call::transfer::TransferRequest;
use crate::certify::bench::Bench;
use crate::certify::bench::Queue;
use crate::certify::live::Live;
use crate::engine::dialog_policy;
use crate::engine::dialog_policy::dialog_policy;
use crate::engine::inbound_digest;
use crate::engine::leg_terms;
use crate::engine::passing::CameBy;
use crate::routing::decision::Decision;
use crate::routing::identify::Attempt;
use crate::routing::inbound;
use crate::routing::inbound::InboundRoute;
use crate::routing::inbound::Verdict;
use crate::routing::outbound::DiversionReason;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::OutboundRefusal;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound::Surroundings;
use crate::routing::outbound::plan;
use crate::routing::outbound_attempt::OutboundAttempt;
use crate::routing::trail::TrailKey;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::Trunk;
use crate::simulator::speak::CallIn;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::event::Invitation;
use crate::sip::endpoint::event::Refusal;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::barge_in::BargeIn;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::fault_policy::FaultPolicy;
use crate::types::name::ListenerName;
use crate::types::number::E164;
use crate::types::transport::Transport;
use jiff::Timestamp;
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A working day, 11:30 in India: within every profile's calling hours.
const WALL_S: i64 = 1_795_241_400;

/// A wish to call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallOut {
    /// Another caller than our number.
    pub(super) from: Option<&'static str>,
    /// The caller is withheld.
    pub(super) withheld: bool,
    /// Somebody else than who is called else.
    pub(super) to: Option<&'static str>,
}

impl Bench<'_> {
    /// Plans a call to somebody.
    pub(super) fn plan(&mut self, call: CallOut) -> Result<OutboundPlan, Box<OutboundRefusal>> {
        let to = call.to.unwrap_or(self.subject.model.numbers.person).parse();
        let refused = |cause| {
            Box::new(OutboundRefusal {
                cause,
                tenant: None,
                trunk: None,
                dialled: None,
                decision: Decision::new(),
            })
        };
        let to = to.map_err(|_| refused(HangupCause::NotANumber))?;
        let mut request = OutboundRequest::new(self.subject.tenant(), to);
        request.from = call.from.and_then(|from| from.parse().ok()).or(Some(self.subject.own));
        request.anonymous = call.withheld;
        request.trunk = Some(self.subject.trunk.id);
        let wall = Timestamp::from_second(WALL_S).unwrap_or_default();
        let mut around = Surroundings {
            board: &mut self.board,
            admission: &self.admission,
            usage: &mut self.usage,
            wall,
            random: &mut self.random,
        };
        plan(self.now, &self.table, &mut around, request)
    }

    /// Calls somebody.
    ///
    /// # Errors
    ///
    /// Why no call is planned, in words.
    pub(super) fn dial(&mut self, call: CallOut) -> Result<(), String> {
        let plan = self.plan(call).map_err(|refusal| {
            format!("the call is not placed: {} ({})", refusal.cause.text(), refusal.cause)
        })?;
        let to: E164 = plan.dialled;
        let trunk = Arc::clone(&self.subject.trunk);
        let gateway = trunk.outbound.as_ref().and_then(|outbound| outbound.gateways.first());
        let transport = gateway.and_then(|g| g.next_hop().transport).unwrap_or(Transport::Udp);
        let request = DialRequest {
            target: DialTarget::Number {
                to,
                from: None,
                trunk: Some(trunk.id),
                reason: DiversionReason::Unconditional,
                joined: Joined::Agent,
            },
            beside: Vec::new(),
            terms: leg_terms::outbound(&trunk, transport),
            ring_max: Duration::from_secs(600),
        };
        let opening = Opening::Outbound(Box::new(request));
        let mut live = Live::new(Call::new(setup(&trunk, opening)));
        live.attempt = Some(OutboundAttempt::new(plan));
        self.live = Some(live);
        let mut queue = Queue::new();
        self.tell(CallInput::Begun, &mut queue);
        self.run(queue);
        Ok(())
    }

    fn run(&mut self, queue: Queue) {
        for input in queue {
            self.turn(input);
        }
    }

    /// We hang up.
    pub(super) fn hang_up(&mut self) {
        let by = Party::Operator;
        let cause = HangupCause::Normal;
        self.ask(CallInput::HangupRequested { cause, by });
    }

    /// An application asks something of the call.
    pub(super) fn ask(&mut self, input: CallInput) {
        let mut queue = Queue::new();
        self.tell(input, &mut queue);
        self.run(queue);
    }

    /// The carrier is asked to connect the call with somebody else whom we may call by it, as the API asks for that.
    ///
    /// # Errors
    ///
    /// Why it is not asked, in words.
    pub(super) fn ask_transfer(&mut self) -> Result<(), String> {
        let to = Some(self.subject.model.numbers.foreign);
        let plan = self.plan(CallOut { to, ..CallOut::default() }).map_err(|refusal| {
            let cause = refusal.cause;
            format!("the carrier is not asked to transfer: {} ({cause})", cause.text())
        })?;
        let target = Box::new(DialTarget::Number {
            to: plan.dialled,
            from: None,
            trunk: None,
            reason: DiversionReason::Deflection,
            joined: Joined::Agent,
        });
        let request = TransferRequest::Refer { target, otherwise: None };
        self.ask(CallInput::TransferRequested(request));
        Ok(())
    }

    /// The carrier calls our number.
    pub(super) fn call_in(&mut self, offers: bool, more: &[&str]) {
        let own = self.subject.own;
        self.call_in_to(own.as_str(), (offers, more));
    }

    /// The carrier calls a number.
    pub(super) fn call_in_to(&mut self, called: &str, (offers, more): (bool, &[&str])) {
        let headers: Vec<(String, String)> = self
            .subject
            .trunk
            .required_headers
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().clone()))
            .collect();
        self.call_in_from(self.subject.calls_from(), called, (offers, &headers, more));
    }

    /// A call comes from an address.
    pub(super) fn call_in_from(
        &mut self,
        edge: SocketAddr,
        called: &str,
        (offers, headers, more): (bool, &[(String, String)], &[&str]),
    ) {
        let call = CallIn {
            edge,
            called,
            caller: Some(self.subject.model.numbers.person),
            offers,
            headers,
            more,
        };
        self.carrier.call(self.now, &call);
    }

    /// An INVITE came: as the engine's `invitation` does, without records.
    pub(super) fn invited(&mut self, invitation: Invitation, queue: &mut Queue) {
        let dialog = invitation.dialog;
        let mut refuse = |status, cause: HangupCause| {
            let retry_after_s = cause.retry_after_s();
            let headers = Vec::new();
            let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
            queue.push_back(Input::Command(Command::Refuse { dialog, refusal }));
        };
        match self.decide(&invitation) {
            Verdict::Unknown => {
                self.was_silent = true;
                refuse(403, HangupCause::UnknownSource);
            }
            Verdict::Challenge(trunk) => match &trunk.digest {
                Some(account) => {
                    let from = (self.now, invitation.flow.remote.ip());
                    let asked = (account, false);
                    let refusal = inbound_digest::challenge(self.digest.get_mut(), from, asked);
                    queue.push_back(Input::Command(Command::Refuse { dialog, refusal }));
                }
                None => refuse(500, HangupCause::SwitchFault),
            },
            Verdict::Refuse(rejection) => refuse(rejection.status, rejection.cause),
            Verdict::Route(route) => {
                let policy = dialog_policy(&route.trunk, route.trunk.takes_refer);
                if let Some(refusal) = policy.refusal(&invitation.request.headers) {
                    queue.push_back(Input::Command(Command::Refuse { dialog, refusal }));
                    return;
                }
                if self.is_draining {
                    let cause = HangupCause::Draining;
                    return refuse(route.trunk.response_map.status(cause), cause);
                }
                queue.push_back(Input::Command(Command::Adopt { dialog, policy }));
                let accounts = dialog_policy::accounts(&route.trunk);
                queue.push_back(Input::Command(Command::Trust(dialog, accounts)));
                if let Some(advertised) = route.trunk.path.advertised.clone() {
                    queue.push_back(Input::Command(Command::Advertise { dialog, advertised }));
                }
                self.admit(&route, invitation, queue);
            }
        }
    }

    fn admit(&mut self, route: &InboundRoute, invitation: Invitation, queue: &mut Queue) {
        let terms = leg_terms::inbound(&route.trunk, invitation.flow.transport);
        let mut live = Live::new(Call::new(setup(&route.trunk, Opening::Inbound(terms))));
        live.dialog = Some(invitation.dialog);
        live.caller = Some(route.caller.shown().to_owned());
        self.live = Some(live);
        let body = invitation.body.map(|body| body.bytes);
        self.tell(CallInput::Leg(LegSide::Near, LegInput::Offered(body)), queue);
    }

    fn decide(&self, invitation: &Invitation) -> Verdict {
        let request = invitation.request.as_ref();
        let header = |name: &str, nth: usize| request.headers.named(name).nth(nth);
        let first = |name: HeaderName| -> Option<Uri> {
            let address = request.headers.addresses(name).next()?.ok()?;
            Some(address.uri().clone())
        };
        let came = CameBy::of(&request.headers);
        let (diverted, history) = (came.diverted(), came.history());
        let trail_key = TrailKey::default();
        let called_party = first(HeaderName::PCalledPartyId);
        let listener = self.subject.trunk.listener.clone();
        let Some(listener) = listener.or_else(|| "public".parse::<ListenerName>().ok()) else {
            return Verdict::Unknown;
        };
        let (from, stale) = ((self.now, invitation.flow.remote.ip()), Cell::new(false));
        let proof = |account: &DigestAccount| {
            let mut server = self.digest.borrow_mut();
            inbound_digest::proof(&mut server, from, request, (account, &stale))
        };
        let is_secure = invitation.flow.transport == Transport::Tls;
        let attempt = Attempt {
            listener: &listener,
            source: invitation.flow.remote.ip(),
            transport: invitation.flow.transport,
            certificate: is_secure.then_some(&self.subject.certificate),
            own_host: "",
            // The carrier writes whatever it knows us by: that is between it and the operator.
            request_host: &[],
            request_user: request.uri.user().unwrap_or_default(),
            to_user: request.headers.to().uri().user().unwrap_or_default(),
            diversion_user: diverted.first().map_or(&[], |by| by.user),
            called_party_user: called_party.as_ref().and_then(Uri::user).unwrap_or_default(),
            caller_user: request.headers.from().uri().user().unwrap_or_default(),
            diverted: &diverted,
            history: &history,
            trail_key: &trail_key,
            header: &header,
            proof: &proof,
        };
        inbound::route(&self.table, &attempt, &mut Decision::new())
    }
}

fn setup(trunk: &Trunk, opening: Opening) -> CallSetup {
    CallSetup {
        opening,
        partner: Partner::Agent,
        agent: AgentSettings {
            kind: AgentKind::Echo,
            answer: AnswerPolicy::WhenReady,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        },
        fallbacks: VecDeque::new(),
        asks: None,
        ring_max: trunk.ring_timeout,
        duration_max: trunk.max_duration,
        answer_delay: trunk.answer_delay,
        progress: trunk.inbound_progress,
        response_map: trunk.response_map,
    }
}
