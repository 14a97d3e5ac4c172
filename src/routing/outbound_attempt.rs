//! `OutboundAttempt`: one call out on its way from gateway to gateway, until somebody answers or all
//! hope is gone.

use crate::routing::contents::Tenant;
use crate::routing::decision::Decision;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health;
use crate::routing::invite_form::Sender;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::Try;
use crate::routing::outbound_trunk::NeverAfter;
use crate::routing::outbound_trunk::RedirectPolicy;
use crate::types::cause::HangupCause;
use crate::types::id::TrunkId;
use crate::types::limit::REDIRECT_CONTACTS_MAX;
use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Which try of a call, from 1. What is reported of another one than the last is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TryId(pub u8);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin.
    Started,
    /// The INVITE left; until then it waits for its turn or for DNS.
    Sent {
        /// Which try.
        id: TryId,
    },
    /// Limits of ours stand against the try.
    NotAdmitted {
        /// Which try.
        id: TryId,
        /// Which limit.
        cause: HangupCause,
    },
    /// A provisional response came, 100 too.
    Progressed {
        /// Which try.
        id: TryId,
        /// 100 to 199.
        status: u16,
        /// It brought a session description.
        early_media: bool,
    },
    /// The final response is a refusal; challenges that could be met never get here.
    Refused {
        /// Which try.
        id: TryId,
        /// What it says.
        refusal: CarrierRefusal,
    },
    /// The transaction timed out.
    TimedOut {
        /// Which try.
        id: TryId,
    },
    /// The next hop has no address, or none that can be reached.
    Unreachable {
        /// Which try.
        id: TryId,
    },
    /// A 2xx came.
    Answered {
        /// Which try.
        id: TryId,
    },
    /// Whoever wanted the call does not want it any more.
    Cancelled,
    /// The deadline is reached.
    DeadlineReached,
}

/// A final response, 300 to 699.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarrierRefusal {
    /// Its status.
    pub status: u16,
    /// Its reason phrase.
    pub phrase: String,
    /// The Q.850 cause of its Reason header.
    pub q850: Option<u8>,
    /// Its Retry-After.
    pub retry_after: Option<Duration>,
    /// User and host of its Contacts, where it is a redirection.
    pub contacts: Vec<(String, String)>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Ask for a permit and send an INVITE.
    Try {
        /// Its number.
        id: TryId,
        /// Where, and how it looks.
        attempt: Box<Try>,
    },
    /// Give a try up: CANCEL as soon as the protocol allows it; an answer that comes all the same is
    /// acknowledged and ended by BYE.
    Abandon {
        /// Which try.
        id: TryId,
    },
    /// Tell the board about a gateway.
    Health {
        /// Which gateway.
        key: GatewayKey,
        /// What.
        input: health::Input,
    },
    /// Tell the board that a carrier wants fewer calls.
    Throttle {
        /// By which trunk.
        trunk: TrunkId,
        /// For how long; `None`: the trunk's cool-down.
        retry_after: Option<Duration>,
    },
    /// The call is answered by this try.
    Connected {
        /// Which try.
        id: TryId,
    },
    /// There is nothing left to try.
    GiveUp {
        /// Why.
        cause: HangupCause,
        /// The last carrier's status, where it gave one.
        status: Option<u16>,
        /// The Q.850 cause: the carrier's own, where it gave one.
        q850: u8,
    },
}

/// How far the running try is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for its turn.
    Waiting,
    /// Nothing was heard yet.
    Silent,
    /// A 100, or another 1xx that is not ringing.
    Proceeding,
    /// 180 to 189.
    Ringing,
}

#[derive(Debug)]
enum State {
    Ready,
    Trying(Running),
    Answered,
    Over,
}

#[derive(Debug)]
struct Running {
    id: TryId,
    attempt: Box<Try>,
    stage: Stage,
    early_media: bool,
    began: Moment,
    /// Until when it may be as it is.
    patience: Option<Moment>,
}

/// One call out.
#[derive(Debug)]
pub struct OutboundAttempt {
    tenant: Arc<Tenant>,
    rest: VecDeque<Try>,
    state: State,
    tries: u8,
    redirects: u8,
    began: Moment,
    /// Until when it has to ring.
    setup_by: Option<Moment>,
    decision: Decision,
}

/// Why a try failed, for the step and for the end.
struct Failure {
    cause: HangupCause,
    status: Option<u16>,
    q850: Option<u8>,
    words: String,
}

impl Failure {
    fn new(cause: HangupCause, words: impl Into<String>) -> Self {
        Self { cause, status: None, q850: None, words: words.into() }
    }
}

/// What comes after a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next gateway.
    Gateway,
    /// The next gateway of another trunk.
    Trunk,
    /// Nothing.
    Nothing,
}

impl OutboundAttempt {
    /// A call that follows a plan.
    #[must_use]
    pub fn new(plan: OutboundPlan) -> Self {
        Self {
            tenant: plan.tenant,
            rest: plan.tries.into(),
            state: State::Ready,
            tries: 0,
            redirects: 0,
            began: Moment::START,
            setup_by: None,
            decision: plan.decision,
        }
    }

    /// Every step so far, of the plan and of the tries.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The try that runs.
    #[must_use]
    pub fn current(&self) -> Option<(TryId, &Try)> {
        match &self.state {
            State::Trying(running) => Some((running.id, &running.attempt)),
            State::Ready | State::Answered | State::Over => None,
        }
    }

    /// The next moment at which this wants `Input::DeadlineReached`.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Trying(Running { stage: Stage::Ringing, patience, .. }) => *patience,
            State::Trying(running) => [running.patience, self.setup_by].into_iter().flatten().min(),
            State::Ready | State::Answered | State::Over => None,
        }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Ready => self.ready(now, &input, out),
            State::Trying(running) => self.trying(now, running, input, out),
            State::Answered => self.state = State::Answered,
            State::Over => {}
        }
    }

    fn ready(&mut self, now: Moment, input: &Input, out: &mut Vec<Output>) {
        match input {
            Input::Started => {
                self.began = now;
                let setup = self.rest.front().map(|first| first.outbound().patience.setup);
                let setup = setup.filter(|setup| !setup.is_zero());
                self.setup_by = setup.map(|setup| now + setup);
                let none = Failure::new(HangupCause::NoGateway, "nothing to try");
                self.next(now, none, out);
            }
            Input::Cancelled => self.give_up(Failure::new(HangupCause::CallerCancelled, ""), out),
            Input::Sent { .. }
            | Input::NotAdmitted { .. }
            | Input::Progressed { .. }
            | Input::Refused { .. }
            | Input::TimedOut { .. }
            | Input::Unreachable { .. }
            | Input::Answered { .. }
            | Input::DeadlineReached => self.state = State::Ready,
        }
    }

    fn trying(&mut self, now: Moment, mut run: Running, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Sent { id } if id == run.id => {
                let no_reply = run.attempt.outbound().patience.no_reply;
                if run.stage == Stage::Waiting {
                    run.stage = Stage::Silent;
                    run.patience = (!no_reply.is_zero()).then_some(now + no_reply);
                    out.push(run.health(health::Input::CallSent));
                }
                self.state = State::Trying(run);
            }
            Input::Progressed { id, status, early_media } if id == run.id => {
                run.progressed(now, status, early_media, out);
                self.state = State::Trying(run);
            }
            Input::NotAdmitted { id, cause } if id == run.id => {
                let failure = Failure::new(cause, format!("not sent: {cause}"));
                self.fail(now, &run, (failure, Next::Gateway), out);
            }
            Input::Refused { id, refusal } if id == run.id => {
                self.refused(now, &run, &refusal, out)
            }
            Input::TimedOut { id } if id == run.id => self.timed_out(now, &run, "timed out", out),
            Input::Unreachable { id } if id == run.id => {
                out.push(run.health(health::Input::CallFailed { retry_after: None }));
                let may = run.attempt.outbound().failover.on_transport_error && run.may_move_on();
                let failure = Failure::new(HangupCause::CarrierTimeout, "cannot be reached");
                let next = if may { Next::Gateway } else { Next::Nothing };
                self.fail(now, &run, (failure, next), out);
            }
            Input::Answered { id } if id == run.id => {
                out.push(run.health(health::Input::CallServed));
                out.push(Output::Connected { id });
                self.note(now, &run, "answered");
                self.state = State::Answered;
            }
            Input::Cancelled => {
                out.push(Output::Abandon { id: run.id });
                let failure = Failure::new(HangupCause::CallerCancelled, "cancelled");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Input::DeadlineReached => self.deadline_reached(now, run, out),
            Input::Started
            | Input::Sent { .. }
            | Input::Progressed { .. }
            | Input::NotAdmitted { .. }
            | Input::Refused { .. }
            | Input::TimedOut { .. }
            | Input::Unreachable { .. }
            | Input::Answered { .. } => self.state = State::Trying(run),
        }
    }

    fn deadline_reached(&mut self, now: Moment, run: Running, out: &mut Vec<Output>) {
        let patience_over = run.patience.is_some_and(|until| until <= now);
        let setup_over = self.setup_by.is_some_and(|until| until <= now);
        match run.stage {
            Stage::Ringing if patience_over => {
                out.push(Output::Abandon { id: run.id });
                let failure = Failure::new(HangupCause::NoAnswer, "rang too long");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Stage::Waiting | Stage::Silent | Stage::Proceeding if setup_over => {
                out.push(Output::Abandon { id: run.id });
                let failure = Failure::new(HangupCause::CarrierTimeout, "all took too long");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Stage::Silent if patience_over => {
                out.push(Output::Abandon { id: run.id });
                self.timed_out(now, &run, "no reply", out);
            }
            Stage::Waiting | Stage::Silent | Stage::Proceeding | Stage::Ringing => {
                self.state = State::Trying(run);
            }
        }
    }

    fn timed_out(&mut self, now: Moment, run: &Running, words: &str, out: &mut Vec<Output>) {
        out.push(run.health(health::Input::CallFailed { retry_after: None }));
        let may = run.attempt.outbound().failover.on_timeout && run.may_move_on();
        let failure = Failure::new(HangupCause::CarrierTimeout, words);
        self.fail(now, run, (failure, if may { Next::Gateway } else { Next::Nothing }), out);
    }

    fn refused(
        &mut self,
        now: Moment,
        run: &Running,
        refusal: &CarrierRefusal,
        out: &mut Vec<Output>,
    ) {
        let policy = &run.attempt.outbound().failover;
        let status = refusal.status;
        let failure = Failure {
            cause: HangupCause::of_refusal(status, refusal.q850),
            status: Some(status),
            q850: refusal.q850,
            words: format!("{status} {}", refusal.phrase),
        };
        let retry_after = refusal.retry_after.filter(|_| policy.honour_retry_after);
        if (300..400).contains(&status) {
            out.push(run.health(health::Input::CallServed));
            return self.redirected(now, run, refusal, (failure, out));
        }
        if policy.throttle.iter().any(|pattern| pattern.0.is_match(&refusal.phrase)) {
            out.push(Output::Throttle { trunk: run.attempt.trunk.id, retry_after });
            let failure = Failure { cause: HangupCause::CarrierThrottled, ..failure };
            let next = if run.may_move_on() { Next::Trunk } else { Next::Nothing };
            return self.fail(now, run, (failure, next), out);
        }
        out.push(run.health(match (status, retry_after) {
            (503, Some(_)) => health::Input::Throttled { retry_after },
            (503, None) => health::Input::CallFailed { retry_after: None },
            _ => health::Input::CallServed,
        }));
        let may = policy.on_codes.contains(&status) && run.may_move_on();
        self.fail(now, run, (failure, if may { Next::Gateway } else { Next::Nothing }), out);
    }

    /// Follows a redirection as far as the trunk allows it, else ends.
    fn redirected(
        &mut self,
        now: Moment,
        run: &Running,
        refusal: &CarrierRefusal,
        (failure, out): (Failure, &mut Vec<Output>),
    ) {
        let redirect = run.attempt.outbound().redirect;
        let followed = if redirect.policy == RedirectPolicy::Reject {
            Err("redirections are not followed")
        } else if self.redirects >= redirect.max {
            Err("redirected too often")
        } else {
            self.follow(run, redirect.policy, &refusal.contacts)
        };
        match followed {
            Ok(next) => {
                self.redirects += 1;
                self.note(now, run, &format!("{}, sent on to {}", failure.words, next.dialled));
                self.rest.push_front(next);
                self.next(now, failure, out);
            }
            Err(why) => {
                let words = format!("{}: {why}", failure.words);
                self.fail(now, run, (Failure { words, ..failure }, Next::Nothing), out);
            }
        }
    }

    /// The first Contact that may be called.
    fn follow(
        &self,
        run: &Running,
        policy: RedirectPolicy,
        contacts: &[(String, String)],
    ) -> Result<Try, &'static str> {
        let outbound = run.attempt.outbound();
        let mut why = "it names no number";
        for (user, host) in contacts.iter().take(REDIRECT_CONTACTS_MAX) {
            let Some(text) = dial_text(user.as_bytes()) else { continue };
            let (Rewritten::Number(number), _) = run.attempt.trunk.called.rewrite(&text) else {
                continue;
            };
            let tenant = self.tenant.outbound.destinations.as_ref();
            let allowed = outbound.destinations.judge(number).is_allowed()
                && outbound.must_match.0.is_match(number.as_str())
                && tenant.is_none_or(|list| list.iter().any(|prefix| prefix.covers(number)));
            if !allowed {
                why = "the number may not be called";
                continue;
            }
            let named = || outbound.gateways.iter().find(|g| g.uri.host.eq_ignore_ascii_case(host));
            let gateway = match policy {
                RedirectPolicy::Reject => None,
                RedirectPolicy::SameGateway => Some(&run.attempt.gateway),
                RedirectPolicy::OwnGateways => named(),
            };
            let Some(gateway) = gateway else {
                why = "the host is no gateway of the trunk";
                continue;
            };
            let old = &run.attempt.sender;
            let sender = Arc::new(Sender {
                trunk: Arc::clone(&old.trunk),
                outbound: Arc::clone(&old.outbound),
                request: Arc::clone(&old.request),
                caller: old.caller,
                withheld: old.withheld,
                redirected_from: Some(run.attempt.dialled),
            });
            if let Some(next) = sender.attempt(gateway, number) {
                return Ok(next);
            }
        }
        Err(why)
    }

    fn fail(
        &mut self,
        now: Moment,
        run: &Running,
        (failure, next): (Failure, Next),
        out: &mut Vec<Output>,
    ) {
        self.note(now, run, &failure.words);
        match next {
            Next::Gateway => self.next(now, failure, out),
            Next::Trunk => {
                let trunk = run.attempt.trunk.id;
                self.rest.retain(|next| next.trunk.id != trunk);
                self.next(now, failure, out);
            }
            Next::Nothing => self.give_up(failure, out),
        }
    }

    /// Begins the next try, or ends with what stopped the last.
    fn next(&mut self, now: Moment, last: Failure, out: &mut Vec<Output>) {
        let late = self.setup_by.is_some_and(|until| until <= now);
        let Some(attempt) = self.rest.pop_front().filter(|_| !late) else {
            return self.give_up(last, out);
        };
        self.tries = self.tries.saturating_add(1);
        let id = TryId(self.tries);
        let attempt = Box::new(attempt);
        out.push(Output::Try { id, attempt: attempt.clone() });
        self.state = State::Trying(Running {
            id,
            attempt,
            stage: Stage::Waiting,
            early_media: false,
            began: now,
            patience: None,
        });
    }

    fn give_up(&mut self, failure: Failure, out: &mut Vec<Output>) {
        self.state = State::Over;
        let q850 = failure.q850.unwrap_or_else(|| failure.cause.q850());
        out.push(Output::GiveUp { cause: failure.cause, status: failure.status, q850 });
    }

    fn note(&mut self, now: Moment, run: &Running, words: &str) {
        let (at, lasted) = (run.began.since(self.began), now.since(run.began));
        let (gateway, trunk) = (&run.attempt.gateway.name, &run.attempt.trunk.name);
        let TryId(number) = run.id;
        self.decision.note(
            "try",
            format!(
                "{number}: {gateway} of {trunk}, at {}.{:03} s for {}.{:03} s: {words}",
                at.as_secs(),
                at.subsec_millis(),
                lasted.as_secs(),
                lasted.subsec_millis(),
            ),
        );
    }
}

impl Running {
    fn health(&self, input: health::Input) -> Output {
        Output::Health { key: self.attempt.key(), input }
    }

    fn progressed(&mut self, now: Moment, status: u16, early_media: bool, out: &mut Vec<Output>) {
        if matches!(self.stage, Stage::Waiting | Stage::Silent) {
            (self.stage, self.patience) = (Stage::Proceeding, None);
            out.push(self.health(health::Input::CallServed));
        }
        self.early_media |= early_media && status > 100;
        if (180..190).contains(&status) && self.stage != Stage::Ringing {
            self.stage = Stage::Ringing;
            self.patience = Some(now + self.attempt.trunk.ring_timeout);
        }
    }

    /// Whether another gateway may still be tried after what was heard here.
    fn may_move_on(&self) -> bool {
        match self.attempt.outbound().failover.never_after {
            NeverAfter::Trying => matches!(self.stage, Stage::Waiting | Stage::Silent),
            NeverAfter::Ringing => self.stage != Stage::Ringing && !self.early_media,
            NeverAfter::EarlyMedia => !self.early_media,
        }
    }
}
