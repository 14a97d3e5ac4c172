//! Calls out: planned, admitted and paid for under the registry's lock.

use crate::clock;
use crate::engine::registry::PermitGuard;
use crate::engine::registry::Registry;
use crate::routing::admission::OutboundAsk;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_board::Action;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health;
use crate::routing::health::Availability;
use crate::routing::outbound;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::OutboundRefusal;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound::Surroundings;
use crate::routing::outbound::Try;
use crate::routing::outbound_attempt::Output;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
#[cfg(test)]
use crate::routing::usage::Account;
use crate::routing::usage::Alarm;
use crate::routing::usage::BRAKE_STEP;
use crate::routing::usage::Charge;
use crate::routing::usage::Meter;
use crate::routing::usage::PastCall;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::moment::Moment;
use jiff::Timestamp;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

impl Registry {
    /// Decides by which gateways a call is placed.
    ///
    /// # Errors
    /// Why it is not placed; `Draining` while the node shuts down.
    pub fn plan_out(
        &self,
        now: Moment,
        table: &RoutingTable,
        request: OutboundRequest,
    ) -> Result<OutboundPlan, Box<OutboundRefusal>> {
        self.among_surroundings(|around| outbound::plan(now, table, around, request))
    }

    /// Says what stands against a call that is asked for, as far as it can be known before it is placed. Counts nothing.
    ///
    /// # Errors
    /// Why it would not be placed, or no try of it be admitted; `Draining` while the node shuts down.
    pub fn judge_out(
        &self,
        now: Moment,
        table: &RoutingTable,
        request: OutboundRequest,
    ) -> Result<(), Box<OutboundRefusal>> {
        let plan =
            self.among_surroundings(|around| outbound::rehearse(now, table, around, request))?;
        let admitted = if self.is_draining() {
            Err(HangupCause::Draining)
        } else {
            self.check_out(now, &plan)
        };
        admitted.map_err(|cause| {
            let mut decision = plan.decision;
            decision.note("admission", format!("refused: {cause}"));
            let (tenant, dialled) = (Some(plan.tenant), Some(plan.dialled));
            Box::new(OutboundRefusal { cause, tenant, trunk: None, dialled, decision })
        })
    }

    fn among_surroundings<T>(&self, decide: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut around = Surroundings {
            board: &mut inner.board,
            admission: &inner.admission,
            usage: &mut inner.usage,
            wall: clock::wall_now(),
            random: &mut inner.random,
        };
        decide(&mut around)
    }

    /// Takes over what calls before this start used of their budgets.
    pub fn restore_usage(&self, table: &RoutingTable, past: &[PastCall]) {
        for call in past {
            outbound::restore(&mut self.lock().usage, table, call);
        }
    }

    /// Whether any try of a new call would be admitted now. Counts nothing.
    ///
    /// # Errors
    /// The limit that stands against the first try.
    pub fn check_out(&self, now: Moment, plan: &OutboundPlan) -> Result<(), HangupCause> {
        let inner = self.lock();
        let check = |attempt: &Try| {
            let limits = attempt.outbound().limits;
            inner.admission.check_out(now, &ask(attempt, true), limits, self.limits)
        };
        let mut first = None;
        for attempt in &plan.tries {
            match check(attempt) {
                Ok(()) => return Ok(()),
                Err(cause) => first = first.or(Some(cause)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Admits one try of a call out.
    ///
    /// # Errors
    /// The limit that stands against it, or `Draining`.
    pub fn admit_out(
        self: &Arc<Self>,
        now: Moment,
        attempt: &Try,
        first: bool,
    ) -> Result<PermitGuard, HangupCause> {
        if self.is_draining() {
            return Err(HangupCause::Draining);
        }
        let limits = attempt.outbound().limits;
        let ask = ask(attempt, first);
        let mut inner = self.lock();
        outbound::judge_redirected(now, (&mut inner.usage, clock::wall_now()), attempt)?;
        let permit = inner.admission.admit_out(now, &ask, limits, self.limits)?;
        drop(inner);
        Ok(self.guard(permit))
    }

    /// Takes the place of the one call that tries a gateway after its rest; `None` where it needs no trial.
    ///
    /// # Errors
    /// `NoGateway` while another call tries it.
    pub fn take_trial(
        self: &Arc<Self>,
        now: Moment,
        key: GatewayKey,
    ) -> Result<Option<TrialGuard>, HangupCause> {
        let taken = self.on_board(|board, actions| board.take_trial(now, &key, actions));
        let until = taken.map_err(|_| HangupCause::NoGateway)?;
        Ok(until.map(|until| TrialGuard { registry: Arc::clone(self), key, until }))
    }

    /// Has a call go to one address of a gateway, if that takes it; how it stood before.
    pub fn take_address(&self, now: Moment, of: (&GatewayKey, GatewayAddress)) -> Availability {
        self.on_board(|board, actions| board.take_address(now, of, actions))
    }

    /// Asks the board something that may change how gateways stand.
    fn on_board<T>(&self, ask: impl FnOnce(&mut GatewayBoard, &mut Vec<Action>) -> T) -> T {
        let mut actions = Vec::new();
        let mut inner = self.lock();
        let said = ask(&mut inner.board, &mut actions);
        inner.board_actions.extend(actions);
        drop(inner);
        self.board_changed.notify_one();
        said
    }

    /// Takes the turn of an INVITE to one address of a carrier.
    ///
    /// # Errors
    /// `TrunkLimit` when the turn would come too late.
    pub fn turn_out(
        &self,
        now: Moment,
        address: IpAddr,
        attempt: &Try,
    ) -> Result<Moment, HangupCause> {
        let limits = attempt.outbound().limits;
        self.lock().admission.turn_out(now, &ask(attempt, false), address, limits)
    }

    /// Tells the board what a try says of its gateway.
    pub fn note_gateway(&self, now: Moment, said: Output) {
        let mut actions = Vec::new();
        let mut inner = self.lock();
        match said {
            Output::Health { key, address: None, input } => {
                inner.board.handle(now, &key, input, &mut actions);
            }
            Output::Health { key, address: Some(address), input } => {
                inner.board.handle_at(now, (&key, address), input, &mut actions);
            }
            Output::Throttle { trunk, retry_after } => {
                inner.board.throttle(now, trunk, retry_after, &mut actions);
            }
            Output::Try { .. }
            | Output::Abandon { .. }
            | Output::Connected { .. }
            | Output::GiveUp { .. } => return,
        }
        inner.board_actions.extend(actions);
        drop(inner);
        self.board_changed.notify_one();
    }

    /// Tells the board which addresses a gateway has; says how each stands.
    #[must_use]
    pub fn find_addresses(
        &self,
        now: Moment,
        key: &GatewayKey,
        found: Vec<GatewayAddress>,
    ) -> Vec<(GatewayAddress, Availability)> {
        self.lock().board.find_addresses(now, key, found)
    }

    /// Tells the board all the addresses that a gateway has.
    pub fn find_all(&self, now: Moment, key: &GatewayKey, found: Vec<GatewayAddress>) {
        self.lock().board.find_all(now, key, found);
    }

    /// Whether a trunk of somebody else than `tenant` calls out by a carrier at `address`: a shared one that lists it,
    /// or one whose gateway the operator named and that is there. What a tenant lists of its own says nothing: it would
    /// bar others from wherever it likes.
    #[must_use]
    pub fn is_others_carrier(
        &self,
        table: &RoutingTable,
        (address, tenant): (IpAddr, TenantId),
    ) -> bool {
        let is_shared = |trunk: &Trunk| trunk.tenant.is_none() && is_others(trunk, tenant);
        let is_known = |trunk| table.trunk(trunk).is_some_and(|trunk| is_others(trunk, tenant));
        table.any_trunk_from(address, is_shared)
            || self.lock().board.trunks_at(address).any(is_known)
    }

    /// The gateways of such trunks whose name was not found yet, or not lately or not whole: what
    /// [`Self::is_others_carrier`] knows of them may not be all.
    #[must_use]
    pub fn unfound_carriers(
        &self,
        now: Moment,
        table: &RoutingTable,
        tenant: TenantId,
    ) -> Vec<(GatewayKey, Arc<Gateway>)> {
        let inner = self.lock();
        let unfound = inner.board.unfound(now).filter(|(key, _)| {
            table.trunk(key.trunk).is_some_and(|trunk| is_others(trunk, tenant))
        });
        unfound.map(|(key, gateway)| (key.clone(), Arc::clone(gateway))).collect()
    }

    /// Takes note of the addresses of a peer, by the SIP address it is called by; says how each stands.
    #[must_use]
    pub fn find_peer(
        &self,
        now: Moment,
        peer: &str,
        found: Vec<GatewayAddress>,
    ) -> Vec<(GatewayAddress, Availability)> {
        self.lock().peers.find(now, peer, found)
    }

    /// Has a call go to one address of a peer, if that takes it; how it stood before.
    pub fn take_peer(&self, now: Moment, of: (&str, GatewayAddress)) -> Availability {
        self.lock().peers.take_address(now, of)
    }

    /// Notes what became of a call at one address of a peer.
    pub fn note_peer(&self, now: Moment, of: (&str, GatewayAddress), input: health::Input) {
        self.lock().peers.note(now, of, input);
    }

    /// Takes the trunks of `table` over to the board, moves it on to `now`, and gives what is to be
    /// done for gateways.
    pub fn turn_board(&self, now: Moment, table: Option<&RoutingTable>) -> Vec<Action> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut actions = std::mem::take(&mut inner.board_actions);
        if let Some(table) = table {
            inner.board.follow(now, table, &mut actions);
            // A trunk may have registered before the board knew it.
            for (trunk, is_registered) in inner.registrations.all() {
                inner.board.set_registered(trunk, is_registered);
            }
        }
        inner.board.tick(now, &mut actions);
        actions
    }

    /// When [`Self::turn_board`] has something to do next.
    #[must_use]
    pub fn board_deadline(&self) -> Option<Moment> {
        self.lock().board.deadline()
    }

    /// Waits until a try said something of a gateway.
    pub async fn board_changed(&self) {
        self.board_changed.notified().await;
    }

    /// Tells the board how a probe ended.
    pub fn note_probe(&self, now: Moment, key: &GatewayKey, input: health::Input) {
        self.on_board(|board, actions| board.handle(now, key, input, actions));
    }

    /// All gateways with how they stand.
    #[must_use]
    pub fn gateways(&self, now: Moment) -> Vec<(GatewayKey, Availability)> {
        self.lock().board.all(now).map(|(key, state)| (key.clone(), state)).collect()
    }

    /// The addresses of a gateway that are not ready, with how they stand.
    #[must_use]
    pub fn unready_addresses(
        &self,
        now: Moment,
        key: &GatewayKey,
    ) -> Vec<(GatewayAddress, Availability)> {
        self.lock().board.unready_addresses(now, key).collect()
    }

    /// Tells the board what a probe of one address of a gateway says of that.
    pub fn note_address(
        &self,
        now: Moment,
        (key, address): (&GatewayKey, GatewayAddress),
        input: health::Input,
    ) {
        let (key, address) = (key.clone(), Some(address));
        self.note_gateway(now, Output::Health { key, address, input });
    }

    /// How long the answered calls of an account were on the last day that had any.
    #[cfg(test)]
    pub(in crate::engine) fn used(&self, now: Moment, account: Account) -> Duration {
        self.lock().usage.used(now, account, jiff::civil::Date::MIN).0
    }

    /// Begins to charge an answered call out.
    #[must_use]
    pub fn meter(self: &Arc<Self>, now: Moment, attempt: &Try) -> CallMeter {
        let charges = outbound::charges(attempt.tenant(), &attempt.trunk, clock::wall_now());
        let rate = outbound::rate(&attempt.trunk, attempt.dialled).cloned();
        let meter = self.lock().usage.answered(now, &charges, rate);
        CallMeter {
            registry: Arc::clone(self),
            attempt: Box::new(attempt.clone()),
            meter: Some(meter),
        }
    }
}

fn ask(attempt: &Try, first: bool) -> OutboundAsk<'_> {
    let (trunk, gateway) = (attempt.trunk.as_ref(), attempt.gateway.as_ref());
    OutboundAsk { tenant: attempt.tenant(), trunk, gateway, first }
}

/// The place of the call that tries a gateway after its rest. Dropped, it is free again, unless what became of
/// the call has decided of it.
#[derive(Debug)]
pub struct TrialGuard {
    registry: Arc<Registry>,
    key: GatewayKey,
    until: Moment,
}

impl Drop for TrialGuard {
    fn drop(&mut self) {
        let (now, place) = (clock::now(), (&self.key, self.until));
        self.registry.on_board(|board, actions| board.leave_trial(now, place, actions));
    }
}

/// An answered call out, charged until this is dropped.
#[derive(Debug)]
pub struct CallMeter {
    registry: Arc<Registry>,
    attempt: Box<Try>,
    meter: Option<Meter>,
}

impl CallMeter {
    /// How long the call may go on before this is asked again; zero: a budget is spent, and the call has to
    /// end. The day is the one that it is now, and the limits are those of `table`: a call may run past
    /// midnight, and longer than limits stand.
    #[must_use]
    pub fn time_left(&self, table: &RoutingTable, now: Moment) -> Duration {
        self.time_left_at(table, now, clock::wall_now())
    }

    fn time_left_at(&self, table: &RoutingTable, now: Moment, wall: Timestamp) -> Duration {
        let charges = self.charges(table, wall);
        // Where nothing limits it now, something may when it is asked again.
        self.registry.lock().usage.time_left(now, &charges).unwrap_or(BRAKE_STEP)
    }

    /// The accounts as they are at `wall`; as they were where the tenant or the trunk is gone.
    fn charges(&self, table: &RoutingTable, wall: Timestamp) -> SmallVec<[Charge; 2]> {
        let (tenant, trunk) = (self.attempt.tenant(), &self.attempt.trunk);
        let tenant = table.tenant(tenant.id).map_or(tenant, Arc::as_ref);
        outbound::charges(tenant, table.trunk(trunk.id).unwrap_or(trunk), wall)
    }

    /// Charges nothing: another party had the leg when this one answered.
    pub fn withdraw(mut self) {
        if let Some(meter) = self.meter.take() {
            self.registry.lock().usage.withdrawn(meter);
        }
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        let Some(meter) = self.meter.take() else { return };
        let now = clock::now();
        // The call may have run past midnight: its end is of today.
        let trunk = &self.attempt.trunk;
        let charges = outbound::charges(self.attempt.tenant(), trunk, clock::wall_now());
        let percent = self.attempt.outbound().budget.short_calls_pct;
        let alarm = self.registry.lock().usage.ended(now, meter, &charges, percent);
        if let Some(Alarm::ShortCalls { percent }) = alarm {
            tracing::warn!(trunk = %trunk.name, percent, "many calls out by this trunk are short");
        }
    }
}

/// Whether somebody else than `tenant` calls out by a trunk.
fn is_others(trunk: &Trunk, tenant: TenantId) -> bool {
    trunk.enabled && trunk.outbound.is_some() && trunk.tenant != Some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::admission::NodeLimits;
    use crate::routing::contents::Contents;
    use crate::routing::outbound::tests::Lab;
    use crate::routing::outbound::tests::request;
    use crate::routing::outbound::tests::tenant_id;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::outbound::tests::trunk_id;
    use crate::routing::usage::Priced;
    use std::io::Write;
    use std::sync::Mutex;

    #[test]
    fn a_carrier_is_others_where_they_call_out_by_it_and_the_operator_says_so() {
        let registry = Registry::new(NodeLimits::default());
        let others = |change: fn(&mut Trunk)| {
            let mut own = trunk(1, |outbound| {
                if let Some(gateway) = outbound.gateways.first_mut() {
                    Arc::make_mut(gateway).uri.host = "198.51.100.9".to_owned();
                }
            });
            own.sources = vec!["192.0.2.0/24".parse().expect("a network")];
            change(&mut own);
            let table = RoutingTable::new(Contents { trunks: vec![own], ..Contents::default() });
            let _none = registry.turn_board(clock::now(), Some(&table));
            ["192.0.2.7", "198.51.100.9", "203.0.113.1"].map(|address| {
                let address = address.parse().expect("an address");
                registry.is_others_carrier(&table, (address, tenant_id(1)))
            })
        };
        assert_eq!(others(|_| {}), [true, true, false], "a shared one");
        assert_eq!(others(|own| own.tenant = Some(tenant_id(1))), [false; 3], "its own");
        // Of another's trunk by a profile the gateways are the operator's word, its sources may be the tenant's.
        assert_eq!(others(|own| own.tenant = Some(tenant_id(2))), [false, true, false]);
        let own_peers: fn(&mut Trunk) = |own| {
            own.tenant = Some(tenant_id(2));
            own.path.is_tenants = true;
        };
        assert_eq!(others(own_peers), [false; 3], "nobody bars others by naming their agents");
        assert_eq!(others(|own| own.enabled = false), [false; 3]);
        assert_eq!(others(|own| own.outbound = None), [false; 3], "nothing is called by it");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while a trunk that bears so many short calls in a hundred has nothing else.
    fn logged(short_calls_pct: u8) -> String {
        let own = trunk(1, |outbound| outbound.budget.short_calls_pct = short_calls_pct);
        let attempt = Lab::new(vec![own]).first(request("+15551234567"));
        let registry = Registry::new(NodeLimits::default());
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                drop(registry.meter(clock::now(), &attempt));
            }
        });
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn many_short_calls_by_a_trunk_are_told_once_where_it_wants_to_know() {
        let told = logged(40);
        assert_eq!(told.matches("calls out by this trunk are short").count(), 1, "{told}");
        assert!(told.contains("trunk-1") && told.contains("percent=100"), "{told}");
        assert_eq!(logged(0), "");
    }

    const DAY: Duration = Duration::from_secs(86_400);

    /// What talks by a trunk that may so many minutes a day.
    fn lab(daily_minutes: u32) -> Lab {
        Lab::new(vec![trunk(1, |outbound| outbound.budget.daily_minutes = daily_minutes)])
    }

    /// A call by the trunk that was over at that time and took so many minutes.
    fn past(ended: Timestamp, minutes: u64) -> PastCall {
        let (tenant, trunk) = (tenant_id(1), Some(trunk_id(1)));
        let lasted = Duration::from_secs(minutes * 60);
        PastCall { tenant, trunk, priced: Priced::Free, ended, lasted }
    }

    #[test]
    fn a_call_over_midnight_goes_on_by_the_new_days_budget() {
        let mut lab = lab(100);
        let attempt = lab.first(request("+15551234567"));
        let registry = Registry::new(NodeLimits::default());
        let today = clock::wall_now();
        registry.restore_usage(&lab.table, &[past(today, 98)]);
        let now = clock::now();
        let running = registry.meter(now, &attempt);
        let later = now + Duration::from_secs(180);
        assert_eq!(running.time_left_at(&lab.table, later, today), Duration::ZERO);
        // Nothing else has turned the ledger's day.
        let tomorrow = today + DAY;
        assert_eq!(running.time_left_at(&lab.table, later, tomorrow), BRAKE_STEP);
        // It counts whole on the day it ends: 97 minutes are left after three.
        let left =
            running.time_left_at(&lab.table, later + Duration::from_secs(96 * 60 + 50), tomorrow);
        assert_eq!(left, Duration::from_secs(10));
    }

    #[test]
    fn limits_that_are_set_reach_calls_that_run() {
        let attempt = lab(0).first(request("+15551234567"));
        let registry = Registry::new(NodeLimits::default());
        let running = registry.meter(clock::now(), &attempt);
        let later = clock::now() + Duration::from_secs(300);
        let left = |lab: &Lab| running.time_left_at(&lab.table, later, clock::wall_now());
        assert_eq!(left(&lab(0)), BRAKE_STEP, "asked again all the same");
        assert_eq!(left(&lab(5)), Duration::ZERO);
        assert_eq!(left(&lab(50)), BRAKE_STEP);
        // By a trunk that is gone it goes on as it began.
        assert_eq!(left(&Lab::new(Vec::new())), BRAKE_STEP);
    }

    #[test]
    fn what_is_only_asked_for_is_judged_as_it_would_be_and_counts_for_nothing() {
        let lab = Lab::new(vec![trunk(1, |outbound| {
            outbound.budget.per_destination_min = 1;
            outbound.limits.calls_max = 1;
        })]);
        let registry = Registry::new(NodeLimits::default());
        let judge = |to: &str| {
            let judged = registry.judge_out(clock::now(), &lab.table, request(to));
            judged.map_err(|refusal| (refusal.cause, refusal.decision.to_string()))
        };
        for _ in 0..2 {
            assert_eq!(judge("+15551234567"), Ok(()));
        }
        let refused = |to: &str, cause, words: &str| {
            let (why, said) = judge(to).expect_err("it is refused");
            assert!(why == cause && said.contains(words), "{why}: {said}");
        };
        refused("+4420555", HangupCause::DestinationDenied, "+4420555");
        let plan = registry.plan_out(clock::now(), &lab.table, request("+15551234567"));
        let plan = plan.expect("a plan");
        let first = plan.tries.first().expect("a try");
        let permit = registry.admit_out(clock::now(), first, true).expect("a place");
        refused("+15557654321", HangupCause::TrunkLimit, "refused: trunk_limit");
        drop(permit);
        registry.drain();
        refused("+15557654321", HangupCause::Draining, "refused: draining");
    }

    #[test]
    fn the_day_is_the_calendars_however_far_the_clock_was_off_at_the_start() {
        let mut lab = lab(100);
        let attempt = lab.first(request("+15551234567"));
        // A clock that was set back by a day, or a start before it was set: the time since the start is no date.
        let now = clock::now() + DAY;
        let registry = Registry::new(NodeLimits::default());
        registry.restore_usage(&lab.table, &[past(clock::wall_now(), 100)]);
        let plan = registry.plan_out(now, &lab.table, request("+15551234567"));
        assert_eq!(plan.map_err(|refusal| refusal.cause).err(), Some(HangupCause::BudgetSpent));
        drop(registry.meter(now, &attempt));
        let plan = registry.plan_out(now, &lab.table, request("+15551234567"));
        assert_eq!(plan.map_err(|refusal| refusal.cause).err(), Some(HangupCause::BudgetSpent));
        let mut redirected = attempt;
        let sender = Arc::get_mut(&mut redirected.sender).expect("nobody else has it");
        sender.redirected_from = Some(redirected.dialled);
        let admitted = registry.admit_out(now, &redirected, true);
        assert_eq!(admitted.err(), Some(HangupCause::BudgetSpent));
    }
}
