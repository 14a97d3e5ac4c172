//! `OutboundAttempt`: one call out on its way from gateway to gateway, until somebody answers or all
//! hope is gone.

mod failure;
mod running;

use crate::routing::contents::Tenant;
use crate::routing::decision::Decision;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health;
use crate::routing::health::Availability;
use crate::routing::invite_form::Sender;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::Try;
use crate::routing::outbound_attempt::failure::Failure;
use crate::routing::outbound_attempt::failure::Next;
use crate::routing::outbound_attempt::running::Running;
use crate::routing::outbound_attempt::running::Stage;
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
    /// Something becomes of one of the addresses of the next hop.
    AtAddress {
        /// Which try.
        id: TryId,
        /// What.
        news: AddressNews,
    },
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
    /// This switch does not go on with the try, which says nothing of where it went.
    CutOff {
        /// Which try.
        id: TryId,
        /// Why: a fault of ours, or no room.
        cause: HangupCause,
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

/// What becomes of one address of a next hop that may have several (RFC 3263 §4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressNews {
    /// It rests, and is left out.
    LeftOut(GatewayAddress, Availability),
    /// It is sent the INVITE: what comes speaks for this one.
    Taken(GatewayAddress),
    /// Nothing came of it, and another is asked instead.
    Failed,
    /// It refused the call, and another is asked instead: see
    /// [`OutboundAttempt::takes_another_address`].
    Refused(CarrierRefusal),
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
        /// Why, for who is given up.
        cause: HangupCause,
    },
    /// Tell the board about a gateway.
    Health {
        /// Which gateway.
        key: GatewayKey,
        /// At which of its addresses, where it has several.
        address: Option<GatewayAddress>,
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

#[derive(Debug)]
enum State {
    Ready,
    Trying(Running),
    Answered,
    Over,
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

    /// Whether another address of the same next hop is asked after this refusal (RFC 3263 §4.3): where
    /// another gateway would be. A carrier that wants fewer calls wants them at none.
    #[must_use]
    pub fn takes_another_address(&self, refusal: &CarrierRefusal) -> bool {
        let State::Trying(run) = &self.state else { return false };
        let is_throttling = run.attempt.outbound().failover.is_throttling(&refusal.phrase);
        !is_throttling && refusal.status >= 400 && run.moves_on_after(refusal.status)
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
            Input::AtAddress { .. }
            | Input::Sent { .. }
            | Input::NotAdmitted { .. }
            | Input::Progressed { .. }
            | Input::Refused { .. }
            | Input::TimedOut { .. }
            | Input::Unreachable { .. }
            | Input::CutOff { .. }
            | Input::Answered { .. }
            | Input::DeadlineReached => self.state = State::Ready,
        }
    }

    fn trying(&mut self, now: Moment, mut run: Running, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Sent { id } if id == run.id => {
                run.sent(now, out);
                self.state = State::Trying(run);
            }
            Input::AtAddress { id, news } if id == run.id => self.at_address(now, run, news, out),
            Input::Progressed { id, status, early_media } if id == run.id => {
                run.progressed(now, status, early_media, out);
                self.state = State::Trying(run);
            }
            Input::NotAdmitted { id, cause } if id == run.id => {
                let words = format!("not sent: {cause}");
                let failure = match &run.refused {
                    // Another of its addresses was to be asked, and cannot be: what the first said stands. The
                    // board has heard of that.
                    Some(refusal) => Failure::of(refusal, words),
                    None => Failure::new(cause, words),
                };
                // Of a number that a redirection named: another gateway would be asked for the first one.
                let is_final =
                    matches!(cause, HangupCause::BudgetSpent | HangupCause::DestinationLimit);
                self.fail(now, &run, (failure, Next::gateway_if(!is_final)), out);
            }
            Input::Refused { id, refusal } if id == run.id => {
                self.refused(now, &run, &refusal, out)
            }
            Input::TimedOut { id } if id == run.id => self.timed_out(now, &run, "timed out", out),
            Input::Unreachable { id } if id == run.id => {
                out.push(run.health(health::Input::CallFailed { retry_after: None }));
                let may = run.attempt.outbound().failover.on_transport_error && run.may_move_on();
                let failure = Failure::new(HangupCause::CarrierTimeout, "cannot be reached");
                self.fail(now, &run, (failure, Next::gateway_if(may)), out);
            }
            Input::CutOff { id, cause } if id == run.id => {
                out.extend(run.left());
                let may = run.attempt.outbound().failover.on_transport_error && run.may_move_on();
                let failure = Failure::new(cause, format!("cut off by this switch: {cause}"));
                self.fail(now, &run, (failure, Next::gateway_if(may)), out);
            }
            Input::Answered { id } if id == run.id => {
                out.push(run.health(health::Input::CallServed));
                out.push(Output::Connected { id });
                self.note(now, &run, "answered");
                self.state = State::Answered;
            }
            Input::Cancelled => {
                let cause = HangupCause::CallerCancelled;
                out.push(Output::Abandon { id: run.id, cause });
                out.extend(run.left());
                let failure = Failure::new(cause, "cancelled");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Input::DeadlineReached => self.deadline_reached(now, run, out),
            Input::Started
            | Input::AtAddress { .. }
            | Input::Sent { .. }
            | Input::Progressed { .. }
            | Input::NotAdmitted { .. }
            | Input::Refused { .. }
            | Input::TimedOut { .. }
            | Input::Unreachable { .. }
            | Input::CutOff { .. }
            | Input::Answered { .. } => self.state = State::Trying(run),
        }
    }

    fn at_address(
        &mut self,
        now: Moment,
        mut run: Running,
        news: AddressNews,
        out: &mut Vec<Output>,
    ) {
        let (input, words) = match news {
            AddressNews::LeftOut(address, state) => {
                self.note(now, &run, &format!("{address} is {state}"));
                return self.state = State::Trying(run);
            }
            AddressNews::Taken(address) => {
                run.address = Some(address);
                out.push(run.health(health::Input::CallSent));
                return self.state = State::Trying(run);
            }
            AddressNews::Failed => {
                (health::Input::CallFailed { retry_after: None }, "no reply".to_owned())
            }
            AddressNews::Refused(refusal) => {
                let words = format!("{} {}", refusal.status, refusal.phrase);
                let said = run.said_by(&refusal);
                run.refused = Some(refusal);
                (said, words)
            }
        };
        out.push(run.health(input));
        let at = run.address.map_or_else(String::new, |address| format!(" of {address}"));
        self.note(now, &run, &format!("{words}{at}, another address"));
        // What was said there is said; the next begins anew.
        let (stage, early_media, patience) = (Stage::Waiting, false, None);
        self.state = State::Trying(Running { stage, early_media, patience, ..run });
    }

    fn deadline_reached(&mut self, now: Moment, run: Running, out: &mut Vec<Output>) {
        let patience_over = run.patience.is_some_and(|until| until <= now);
        let setup_over = self.setup_by.is_some_and(|until| until <= now);
        match run.stage {
            Stage::Ringing if patience_over => {
                let cause = HangupCause::NoAnswer;
                out.push(Output::Abandon { id: run.id, cause });
                let failure = Failure::new(cause, "rang too long");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Stage::Waiting | Stage::Silent | Stage::Proceeding if setup_over => {
                let cause = HangupCause::CarrierTimeout;
                out.push(Output::Abandon { id: run.id, cause });
                let failure = Failure::new(cause, "all took too long");
                self.fail(now, &run, (failure, Next::Nothing), out);
            }
            Stage::Silent if patience_over => {
                out.push(Output::Abandon { id: run.id, cause: HangupCause::CarrierTimeout });
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
        self.fail(now, run, (failure, Next::gateway_if(may)), out);
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
        let failure = Failure::of(refusal, format!("{status} {}", refusal.phrase));
        if (300..400).contains(&status) {
            out.push(run.health(health::Input::CallServed));
            return self.redirected(now, run, refusal, (failure, out));
        }
        if policy.is_throttling(&refusal.phrase) {
            let retry_after = refusal.retry_after.filter(|_| policy.honour_retry_after);
            out.push(Output::Throttle { trunk: run.attempt.trunk.id, retry_after });
            let failure = Failure { cause: HangupCause::CarrierThrottled, ..failure };
            let next = if run.may_move_on() { Next::Trunk } else { Next::Nothing };
            return self.fail(now, run, (failure, next), out);
        }
        out.push(run.health(run.said_by(refusal)));
        self.fail(now, run, (failure, Next::gateway_if(run.moves_on_after(status))), out);
    }

    /// Follows a redirection as far as the trunk allows it, else ends. It binds no gateway but its own.
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
                && outbound.may_dial(number)
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
                tenant: Arc::clone(&old.tenant),
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
            address: None,
            refused: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::destination::Micros;
    use crate::routing::destination::Rate;
    use crate::routing::outbound::judge_redirected;
    use crate::routing::outbound::tests::Lab;
    use crate::routing::outbound::tests::prefixes;
    use crate::routing::outbound::tests::request;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::outbound_trunk::NeverAfter;
    use crate::routing::outbound_trunk::OutboundTrunk;
    use crate::routing::outbound_trunk::Pattern;
    use crate::routing::outbound_trunk::Redirect;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    const ONE: TryId = TryId(1);
    const TWO: TryId = TryId(2);

    struct Call {
        attempt: OutboundAttempt,
        out: Vec<Output>,
        now: Moment,
    }

    impl Call {
        /// A call by two trunks, with gateways `a` and `b` each; the second is the tenant's.
        fn by_two(change: impl Fn(&mut OutboundTrunk)) -> Self {
            let mut lab = Lab::new(vec![trunk(1, &change), trunk(2, &change)]);
            let mut row = crate::routing::outbound::tests::number(1, 1, "+15550100");
            row.outbound_trunk = Some(crate::routing::outbound::tests::trunk_id(2));
            lab.table.apply(crate::routing::contents::Change::Number(row)).unwrap();
            Self::of(lab.plan(request("+15551234567")).unwrap())
        }

        fn by_one(change: impl FnOnce(&mut OutboundTrunk)) -> Self {
            Self::of(Lab::new(vec![trunk(1, change)]).plan(request("+15551234567")).unwrap())
        }

        fn of(plan: OutboundPlan) -> Self {
            let attempt = OutboundAttempt::new(plan);
            let mut call = Self { attempt, out: Vec::new(), now: Moment::from_millis(1_000) };
            call.tell(Input::Started);
            call
        }

        fn tell(&mut self, input: Input) {
            self.attempt.handle(self.now, input, &mut self.out);
        }

        fn sent(&mut self, id: TryId) {
            self.tell(Input::Sent { id });
        }

        fn progress(&mut self, id: TryId, status: u16, early_media: bool) {
            self.tell(Input::Progressed { id, status, early_media });
        }

        fn refuse(&mut self, id: TryId, status: u16) {
            self.refuse_with(id, CarrierRefusal { status, ..CarrierRefusal::default() });
        }

        fn refuse_with(&mut self, id: TryId, refusal: CarrierRefusal) {
            self.tell(Input::Refused { id, refusal });
        }

        fn wait(&mut self) -> u64 {
            let at = self.attempt.deadline().expect("a deadline");
            let waited = at.since(self.now).as_millis();
            self.now = at;
            self.tell(Input::DeadlineReached);
            u64::try_from(waited).unwrap()
        }

        /// What was asked for since, in short words; what the board is told left out.
        fn take(&mut self) -> Vec<String> {
            let words = |output: &Output| match output {
                Output::Try { id, attempt } => {
                    Some(format!("try {} {}/{}", id.0, attempt.trunk.name, attempt.gateway.name))
                }
                Output::Abandon { id, cause } => Some(format!("abandon {} {cause}", id.0)),
                Output::Health { .. } | Output::Throttle { .. } => None,
                Output::Connected { id } => Some(format!("connected {}", id.0)),
                Output::GiveUp { cause, status, q850 } => {
                    Some(format!("give up {cause} {} {q850}", status.unwrap_or(0)))
                }
            };
            self.out.drain(..).collect::<Vec<_>>().iter().filter_map(words).collect()
        }

        fn health(&mut self) -> Vec<health::Input> {
            let inputs = self.out.iter().filter_map(|output| match output {
                Output::Health { input, .. } => Some(*input),
                _ => None,
            });
            inputs.collect()
        }
    }

    #[test]
    fn the_next_gateway_is_tried_after_exactly_the_statuses_of_the_list() {
        for status in 300..700 {
            let mut call = Call::by_one(|outbound| outbound.failover.on_codes = vec![408, 502]);
            assert_eq!(call.take(), ["try 1 trunk-1/a"]);
            call.sent(ONE);
            call.refuse(ONE, status);
            let moved = call.take() == ["try 2 trunk-1/b"];
            assert_eq!(moved, [408, 502].contains(&status), "{status}");
        }
    }

    #[test]
    fn another_address_is_asked_where_another_gateway_would_be() {
        let refusal = |status, phrase: &str| {
            let phrase = phrase.to_owned();
            CarrierRefusal { status, phrase, ..CarrierRefusal::default() }
        };
        let mut call = Call::by_one(|outbound| {
            outbound.failover.throttle = vec![Pattern::parse("CPS").unwrap()];
            outbound.failover.on_codes = vec![302, 503];
        });
        assert!(call.attempt.takes_another_address(&refusal(503, "Busy")));
        for (status, phrase) in [(500, "x"), (486, "x"), (302, "x"), (503, "CPS limit")] {
            assert!(!call.attempt.takes_another_address(&refusal(status, phrase)), "{status}");
        }
        // The second address has the gateway's patience of its own.
        call.sent(ONE);
        call.progress(ONE, 100, false);
        let news = AddressNews::Refused(refusal(503, "Busy"));
        call.tell(Input::AtAddress { id: ONE, news });
        assert!(call.attempt.decision().to_string().contains("503 Busy, another address"));
        call.take();
        call.sent(ONE);
        assert_eq!(call.wait(), 4_000);
        assert_eq!(call.take(), ["abandon 1 carrier_timeout", "try 2 trunk-1/b"]);
        call.sent(TWO);
        call.progress(TWO, 180, false);
        assert!(!call.attempt.takes_another_address(&refusal(503, "Busy")), "it rang");
    }

    #[test]
    fn what_comes_of_an_address_is_told_of_that_address() {
        let address = |last| {
            let address = std::net::SocketAddr::from(([192, 0, 2, last], 5_060));
            GatewayAddress { address, transport: crate::types::transport::Transport::Udp }
        };
        let at = |news| Input::AtAddress { id: ONE, news };
        let mut call = Call::by_one(|_| {});
        call.tell(at(AddressNews::LeftOut(address(1), Availability::Throttled(call.now))));
        call.tell(at(AddressNews::Taken(address(2))));
        call.tell(at(AddressNews::Failed));
        call.tell(at(AddressNews::Taken(address(3))));
        let retry_after = Some(Duration::from_secs(7));
        let refusal = CarrierRefusal { status: 503, retry_after, ..CarrierRefusal::default() };
        call.tell(at(AddressNews::Refused(refusal)));
        call.tell(at(AddressNews::Taken(address(4))));
        call.sent(ONE);
        call.progress(ONE, 100, false);
        let told: Vec<_> = call
            .out
            .iter()
            .filter_map(|output| match output {
                Output::Health { address, input, .. } => Some((address.unwrap(), *input)),
                _ => None,
            })
            .collect();
        assert_eq!(
            told,
            [
                (address(2), health::Input::CallSent),
                (address(2), health::Input::CallFailed { retry_after: None }),
                (address(3), health::Input::CallSent),
                (address(3), health::Input::Throttled { retry_after }),
                (address(4), health::Input::CallSent),
                (address(4), health::Input::CallServed),
            ]
        );
        let text = call.attempt.decision().to_string();
        for step in [
            "192.0.2.1:5060 over udp is throttled",
            "no reply of 192.0.2.2:5060 over udp, another address",
        ] {
            assert!(text.contains(step), "{step} in {text}");
        }
    }

    #[test]
    fn what_an_address_refused_with_stands_where_no_other_address_may_be_asked() {
        let address = |last| {
            let address = std::net::SocketAddr::from(([192, 0, 2, last], 5_060));
            GatewayAddress { address, transport: crate::types::transport::Transport::Udp }
        };
        let mut call = Call::by_one(|_| {});
        call.tell(Input::NotAdmitted { id: ONE, cause: HangupCause::NoGateway });
        call.take();
        let at = |news| Input::AtAddress { id: TWO, news };
        call.tell(at(AddressNews::Taken(address(1))));
        let refusal = CarrierRefusal { status: 503, q850: Some(34), ..CarrierRefusal::default() };
        call.tell(at(AddressNews::Refused(refusal)));
        call.tell(at(AddressNews::LeftOut(address(2), Availability::Cooling(call.now))));
        call.tell(Input::NotAdmitted { id: TWO, cause: HangupCause::NoGateway });
        let failed = health::Input::CallFailed { retry_after: None };
        assert_eq!(call.health(), [health::Input::CallSent, failed], "it is told once");
        assert_eq!(call.take(), ["give up carrier_refused 503 34"]);
        let text = call.attempt.decision().to_string();
        assert!(text.contains("not sent: no_gateway"), "{text}");
        // Where nobody refused, the limit is all that there is.
        let mut call = Call::by_one(|_| {});
        for id in [ONE, TWO] {
            call.take();
            call.tell(Input::NotAdmitted { id, cause: HangupCause::NoGateway });
        }
        assert!(call.take().iter().any(|said| said.starts_with("give up no_gateway 0 ")));
    }

    #[test]
    fn all_gateways_of_all_trunks_are_tried_in_order_and_the_last_refusal_is_told() {
        let mut call = Call::by_two(|_| {});
        let mut seen = Vec::new();
        for n in 1..=4 {
            seen.append(&mut call.take());
            call.sent(TryId(n));
            call.progress(TryId(n), 100, false);
            let refusal =
                CarrierRefusal { status: 500, q850: Some(38), ..CarrierRefusal::default() };
            call.refuse_with(TryId(n), refusal);
        }
        assert_eq!(
            seen,
            ["try 1 trunk-2/a", "try 2 trunk-2/b", "try 3 trunk-1/a", "try 4 trunk-1/b"]
        );
        assert_eq!(call.take(), ["give up carrier_refused 500 38"]);
        assert_eq!(call.attempt.deadline(), None);
        let text = call.attempt.decision().to_string();
        assert!(text.contains("4: b of trunk-1, at 0.000 s for 0.000 s: 500"), "{text}");
    }

    #[test]
    fn no_gateway_is_tried_after_the_telephone_rang() {
        for (never_after, status, media, moves) in [
            (NeverAfter::Trying, 100, false, false),
            (NeverAfter::Ringing, 100, false, true),
            (NeverAfter::Ringing, 180, false, false),
            (NeverAfter::Ringing, 183, true, false),
            (NeverAfter::Ringing, 199, false, true),
            (NeverAfter::EarlyMedia, 180, false, true),
            (NeverAfter::EarlyMedia, 183, true, false),
        ] {
            let mut call = Call::by_one(|outbound| outbound.failover.never_after = never_after);
            call.sent(ONE);
            call.progress(ONE, status, media);
            call.take();
            call.refuse(ONE, 503);
            let moved = call.take() == ["try 2 trunk-1/b"];
            assert_eq!(moved, moves, "{never_after:?} after {status}");
        }
    }

    #[test]
    fn a_gateway_that_says_nothing_is_given_up_after_four_seconds() {
        let mut call = Call::by_one(|_| {});
        call.now += Duration::from_secs(1);
        call.sent(ONE);
        call.take();
        assert_eq!(call.wait(), 4_000);
        assert!(call.health().contains(&health::Input::CallFailed { retry_after: None }));
        assert_eq!(call.take(), ["abandon 1 carrier_timeout", "try 2 trunk-1/b"]);
        // What the first says now is of no matter.
        for late in [
            Input::Answered { id: ONE },
            Input::Progressed { id: ONE, status: 180, early_media: false },
            Input::TimedOut { id: ONE },
        ] {
            call.tell(late);
        }
        assert!(call.take().is_empty());
        call.sent(TWO);
        assert_eq!(call.wait(), 4_000);
        assert_eq!(call.take(), ["abandon 2 carrier_timeout", "give up carrier_timeout 0 102"]);
    }

    #[test]
    fn an_invite_that_is_sent_again_another_way_may_be_unanswered_for_as_long_again() {
        let mut call = Call::by_one(|_| {});
        call.sent(ONE);
        call.now += Duration::from_secs(2);
        call.sent(ONE);
        assert_eq!(call.wait(), 4_000);
        assert_eq!(call.take().last().map(String::as_str), Some("try 2 trunk-1/b"));
        // Once something was heard it is not silent any more.
        call.sent(TWO);
        call.progress(TWO, 100, false);
        call.sent(TWO);
        assert!(call.wait() > 4_000);
    }

    #[test]
    fn a_single_100_keeps_a_gateway_until_the_call_takes_too_long_as_a_whole() {
        let mut call = Call::by_one(|_| {});
        call.sent(ONE);
        call.progress(ONE, 100, false);
        call.take();
        assert_eq!(call.wait(), 60_000);
        assert_eq!(call.take(), ["abandon 1 carrier_timeout", "give up carrier_timeout 0 102"]);
    }

    #[test]
    fn ringing_has_a_time_of_its_own_from_its_first_sign() {
        let mut call = Call::by_one(|_| {});
        call.sent(ONE);
        call.now += Duration::from_secs(59);
        call.progress(ONE, 183, true);
        call.now += Duration::from_secs(5);
        call.progress(ONE, 180, false);
        call.take();
        assert_eq!(call.wait(), 40_000);
        assert_eq!(call.take(), ["abandon 1 no_answer", "give up no_answer 0 19"]);
    }

    #[test]
    fn an_answer_ends_the_search_and_nothing_disturbs_it() {
        let mut call = Call::by_one(|_| {});
        call.sent(ONE);
        call.tell(Input::Answered { id: ONE });
        assert_eq!(call.take(), ["try 1 trunk-1/a", "connected 1"]);
        call.refuse(ONE, 503);
        call.tell(Input::Cancelled);
        call.tell(Input::DeadlineReached);
        assert!(call.take().is_empty());
        assert_eq!(call.attempt.deadline(), None);
    }

    #[test]
    fn a_cancelled_call_is_abandoned_and_tries_nothing_more() {
        let mut call = Call::by_one(|_| {});
        call.sent(ONE);
        call.progress(ONE, 180, false);
        call.take();
        call.tell(Input::Cancelled);
        assert_eq!(call.take(), ["abandon 1 caller_cancelled", "give up caller_cancelled 0 16"]);
        call.refuse(ONE, 487);
        assert!(call.take().is_empty());
    }

    #[test]
    fn a_call_given_up_in_silence_leaves_a_trial_of_its_gateway_to_the_next() {
        for heard in [false, true] {
            let mut call = Call::by_one(|_| {});
            call.sent(ONE);
            if heard {
                call.progress(ONE, 180, false);
            }
            call.tell(Input::Cancelled);
            assert_eq!(call.health().contains(&health::Input::CallLeft), !heard);
        }
    }

    #[test]
    fn a_503_rests_its_gateway_as_long_as_the_carrier_says() {
        let wish = Some(Duration::from_secs(7));
        for (honour, retry_after, told) in [
            (true, wish, health::Input::Throttled { retry_after: wish }),
            (false, wish, health::Input::CallFailed { retry_after: None }),
            (true, None, health::Input::CallFailed { retry_after: None }),
        ] {
            let mut call = Call::by_one(|outbound| outbound.failover.honour_retry_after = honour);
            call.sent(ONE);
            let refusal = CarrierRefusal { status: 503, retry_after, ..CarrierRefusal::default() };
            call.refuse_with(ONE, refusal);
            assert!(call.health().contains(&told), "{told:?}");
            assert_eq!(call.take().last().map(String::as_str), Some("try 2 trunk-1/b"));
        }
    }

    #[test]
    fn a_carrier_that_wants_fewer_calls_is_not_asked_by_its_other_gateways() {
        let mut call = Call::by_two(|outbound| {
            outbound.failover.throttle = vec![Pattern::parse("CPS limit exceeded").unwrap()];
        });
        call.sent(ONE);
        call.take();
        let phrase = "Trunk CPS limit exceeded".to_owned();
        let refusal = CarrierRefusal { status: 403, phrase, ..CarrierRefusal::default() };
        call.refuse_with(ONE, refusal.clone());
        let throttled = |output: &Output| matches!(output, Output::Throttle { .. });
        assert_eq!(call.out.iter().filter(|output| throttled(output)).count(), 1);
        assert_eq!(call.take(), ["try 2 trunk-1/a"]);
        call.refuse_with(TWO, refusal);
        assert_eq!(call.take(), ["give up carrier_throttled 403 42"]);
    }

    fn moved_to(contact: (&str, &str)) -> CarrierRefusal {
        let contacts = vec![("nobody".into(), "x".into()), (contact.0.into(), contact.1.into())];
        CarrierRefusal { status: 302, contacts, ..CarrierRefusal::default() }
    }

    #[test]
    fn redirections_go_no_further_than_the_trunk_says() {
        let cases = [
            (RedirectPolicy::Reject, ("+15557654321", "b.example"), None),
            (RedirectPolicy::SameGateway, ("+15557654321", "evil.example"), Some("a")),
            (RedirectPolicy::SameGateway, ("+442079460000", "a.example"), None),
            (RedirectPolicy::OwnGateways, ("+15557654321", "b.example"), Some("b")),
            (RedirectPolicy::OwnGateways, ("+15557654321", "evil.example"), None),
        ];
        for (policy, contact, followed) in cases {
            let mut call = Call::by_one(|outbound| {
                outbound.redirect = Redirect { policy, max: 1 };
                outbound.failover.on_codes = vec![302];
            });
            call.sent(ONE);
            call.progress(ONE, 180, false);
            call.take();
            call.refuse_with(ONE, moved_to(contact));
            let expected = match followed {
                Some(gateway) => format!("try 2 trunk-1/{gateway}"),
                None => "give up redirect_refused 302 23".to_owned(),
            };
            assert_eq!(call.take(), [expected], "{policy:?} {contact:?}");
            if followed.is_some() {
                let (_, attempt) = call.attempt.current().unwrap();
                assert_eq!(attempt.dialled.as_str(), contact.0);
                assert!(attempt.invite.uri.starts_with("sip:+15557654321@"));
                // A second one is one too many.
                call.sent(TWO);
                call.refuse_with(TWO, moved_to(contact));
                assert_eq!(call.take(), ["give up redirect_refused 302 23"]);
            }
        }
    }

    #[test]
    fn a_redirection_spends_no_more_than_a_call_may() {
        let mut lab = Lab::new(vec![trunk(1, |outbound| {
            outbound.redirect = Redirect { policy: RedirectPolicy::SameGateway, max: 1 };
            outbound.budget.per_destination_min = 1;
            outbound.budget.daily_spend = Micros(2_000_000);
            outbound.budget.rates = vec![Rate {
                prefix: "+1555".parse().unwrap(),
                per_minute: Micros(1_000_000),
                increment: Duration::from_secs(60),
            }];
        })]);
        for (to, dialled, judged) in [
            // Without a price it would cost nothing.
            ("+12125550100", "+15551234567", Err(HangupCause::BudgetSpent)),
            ("+15557654321", "+15551234568", Ok(())),
            ("+15557654321", "+15551234569", Err(HangupCause::DestinationLimit)),
        ] {
            let plan = lab.plan(request(dialled)).unwrap();
            let usage = (&mut lab.usage, lab.wall);
            assert_eq!(judge_redirected(lab.now, usage, plan.tries.first().unwrap()), Ok(()));
            let mut call = Call::of(plan);
            call.sent(ONE);
            call.take();
            call.refuse_with(ONE, moved_to((to, "a.example")));
            assert_eq!(call.take(), ["try 2 trunk-1/a"]);
            let (_, attempt) = call.attempt.current().unwrap();
            let usage = (&mut lab.usage, lab.wall);
            assert_eq!(judge_redirected(lab.now, usage, attempt), judged, "{to}");
            if let Err(cause) = judged {
                call.tell(Input::NotAdmitted { id: TWO, cause });
                let said = call.take().join(", ");
                assert!(said.starts_with(&format!("give up {cause}")), "{said}");
            }
        }
    }

    #[test]
    fn a_redirection_binds_no_gateway_but_its_own() {
        let same = Redirect { policy: RedirectPolicy::SameGateway, max: 1 };
        let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.redirect = same)]);
        let mut call = Call::of(lab.plan(request("+15551234567")).unwrap());
        let dialled = |call: &Call| call.attempt.current().unwrap().1.dialled.to_string();
        call.sent(ONE);
        call.refuse_with(ONE, moved_to(("+15557654321", "a.example")));
        assert_eq!(call.take().last().map(String::as_str), Some("try 2 trunk-1/a"));
        assert_eq!(dialled(&call), "+15557654321");
        call.sent(TWO);
        call.tell(Input::Unreachable { id: TWO });
        assert_eq!(call.take().last().map(String::as_str), Some("try 3 trunk-1/b"));
        assert_eq!(dialled(&call), "+15551234567");
    }

    #[test]
    fn a_redirection_does_not_leave_what_the_tenant_may_call() {
        let mut lab = Lab::new(vec![trunk(1, |outbound| {
            outbound.redirect = Redirect { policy: RedirectPolicy::SameGateway, max: 1 };
        })]);
        let mut narrow = crate::routing::outbound::tests::tenant(1, Some(1));
        narrow.outbound.destinations = Some(prefixes(&["+1555"]));
        lab.table.apply(crate::routing::contents::Change::Tenant(narrow)).unwrap();
        let mut call = Call::of(lab.plan(request("+15551234567")).unwrap());
        call.sent(ONE);
        call.take();
        call.refuse_with(ONE, moved_to(("+12125550100", "a.example")));
        assert_eq!(call.take(), ["give up redirect_refused 302 23"]);
    }

    #[test]
    fn limits_of_ours_send_a_call_to_the_next_gateway() {
        let mut call = Call::by_one(|_| {});
        call.take();
        call.tell(Input::NotAdmitted { id: ONE, cause: HangupCause::TrunkLimit });
        assert_eq!(call.take(), ["try 2 trunk-1/b"]);
        call.tell(Input::NotAdmitted { id: TWO, cause: HangupCause::TrunkLimit });
        assert_eq!(call.take(), ["give up trunk_limit 0 34"]);
    }

    #[test]
    fn a_fault_of_ours_is_no_failure_of_the_gateway() {
        for (is_heard, moves_on) in [(false, true), (true, true), (false, false)] {
            let mut call = Call::by_one(|outbound| {
                outbound.failover.on_transport_error = moves_on;
                outbound.failover.never_after = NeverAfter::Ringing;
            });
            call.sent(ONE);
            if is_heard {
                call.progress(ONE, 100, false);
            }
            call.tell(Input::CutOff { id: ONE, cause: HangupCause::SwitchFault });
            let said = if is_heard { health::Input::CallServed } else { health::Input::CallLeft };
            assert_eq!(call.health(), [health::Input::CallSent, said]);
            let next = if moves_on { "try 2 trunk-1/b" } else { "give up switch_fault 0 41" };
            assert_eq!(call.take().last().map(String::as_str), Some(next));
            let text = call.attempt.decision().to_string();
            assert!(text.contains("cut off by this switch: switch_fault"), "{text}");
        }
    }

    #[test]
    fn unreachable_and_timed_out_gateways_fail_over_as_configured() {
        for (timeout, transport) in [(true, false), (false, true)] {
            for input in [Input::TimedOut { id: ONE }, Input::Unreachable { id: ONE }] {
                let mut call = Call::by_one(|outbound| {
                    outbound.failover.on_timeout = timeout;
                    outbound.failover.on_transport_error = transport;
                });
                call.sent(ONE);
                call.take();
                let moves =
                    if matches!(input, Input::TimedOut { .. }) { timeout } else { transport };
                call.tell(input);
                assert_eq!(call.take() == ["try 2 trunk-1/b"], moves);
            }
        }
    }

    fn input() -> impl proptest::strategy::Strategy<Value = Input> {
        use proptest::prelude::Just;
        use proptest::prelude::Strategy;
        let id = (0_u8..6).prop_map(TryId);
        let refusal = (300_u16..700, any::<bool>()).prop_map(|(status, moved)| CarrierRefusal {
            status,
            contacts: if moved {
                vec![("+15557654321".into(), "b.example".into())]
            } else {
                vec![]
            },
            ..CarrierRefusal::default()
        });
        proptest::prop_oneof![
            Just(Input::Started),
            id.clone().prop_map(|id| Input::Sent { id }),
            (id.clone(), 100_u16..200, any::<bool>()).prop_map(|(id, status, early_media)| {
                Input::Progressed { id, status, early_media }
            }),
            (id.clone(), refusal).prop_map(|(id, refusal)| Input::Refused { id, refusal }),
            id.clone().prop_map(|id| Input::TimedOut { id }),
            id.clone().prop_map(|id| Input::Unreachable { id }),
            id.clone().prop_map(|id| Input::CutOff { id, cause: HangupCause::SwitchFault }),
            id.clone().prop_map(|id| Input::NotAdmitted { id, cause: HangupCause::TrunkLimit }),
            id.prop_map(|id| Input::Answered { id }),
            Just(Input::Cancelled),
            Just(Input::DeadlineReached),
        ]
    }

    proptest! {
        /// Whatever happens, tries are numbered in order, one runs at a time, and the call ends once.
        #[test]
        fn every_call_ends_once_and_tries_one_gateway_at_a_time(
            inputs in proptest::collection::vec((input(), 0_u64..20_000), 0..60),
        ) {
            let mut call = Call::by_two(|outbound| {
                outbound.redirect = Redirect { policy: RedirectPolicy::OwnGateways, max: 2 };
            });
            for (input, pause) in inputs {
                call.now += Duration::from_millis(pause);
                call.tell(input);
            }
            // Left alone, it ends by itself.
            while let Some(at) = call.attempt.deadline() {
                call.now = call.now.max(at);
                call.tell(Input::DeadlineReached);
            }
            let (mut tried, mut ends) = (0, 0);
            for output in &call.out {
                match output {
                    Output::Try { id, .. } => {
                        tried += 1;
                        prop_assert_eq!(id.0, tried);
                        prop_assert_eq!(ends, 0);
                    }
                    Output::Connected { id } => {
                        prop_assert_eq!(id.0, tried);
                        ends += 1;
                    }
                    Output::GiveUp { .. } => ends += 1,
                    Output::Abandon { id, .. } => prop_assert_eq!(id.0, tried),
                    Output::Health { .. } | Output::Throttle { .. } => {}
                }
            }
            prop_assert_eq!(ends, 1);
            prop_assert!(tried <= 6, "{tried} tries of four gateways and two redirections");
        }
    }
}
