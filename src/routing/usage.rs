//! `Usage`: what calls out have used of their limits per minute and per day. The brake on fraud and on
//! dialers that run wild.

use crate::routing::destination::Micros;
use crate::routing::destination::Prefix;
use crate::routing::destination::Rate;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::DESTINATIONS_WATCHED_MAX;
use crate::types::moment::Moment;
use crate::types::number::E164;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// The window of the rate per destination.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a call may run before its budget is looked at again: others spend of it too.
pub const BRAKE_STEP: Duration = Duration::from_secs(60);
/// A call this short is one a carrier complains about.
const SHORT_CALL: Duration = Duration::from_secs(12);
/// How many calls the share of short ones is taken of, and from how many on.
const SHORT_CALLS_OF: usize = 100;
const SHORT_CALLS_FROM: usize = 20;

/// Who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// All calls of a tenant.
    Tenant(TenantId),
    /// All calls by a trunk.
    Trunk(TrunkId),
}

/// The limits of an account for one day; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DailyLimit {
    /// Minutes of answered calls.
    pub minutes: u32,
    /// Money.
    pub spend: Micros,
}

/// An account, its day and its limits, as they are for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who pays.
    pub account: Account,
    /// The day in the account's time zone.
    pub day: Date,
    /// Its limits.
    pub limit: DailyLimit,
}

/// An answered call that is paid for until [`Usage::ended`] takes this back. Not to be copied.
#[derive(Debug)]
#[must_use = "a call that is not ended is paid for ever"]
pub struct Meter {
    accounts: Vec<Account>,
    rate: Option<Rate>,
    since: Moment,
}

/// A call out that is over, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCall {
    /// Whose call it was.
    pub tenant: TenantId,
    /// The trunk it was planned by.
    pub trunk: Option<TrunkId>,
    /// By what it was paid.
    pub priced: Priced,
    /// When it ended.
    pub ended: Timestamp,
    /// From its answer to its end.
    pub lasted: Duration,
}

/// Which rate of its trunk a past call was paid by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Priced {
    /// That of the number called.
    Number(E164),
    /// That of this prefix.
    Prefix(Prefix),
    /// None.
    Free,
}

/// Something an operator should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// So many percent of the trunk's recent calls were short.
    ShortCalls {
        /// Of the last hundred.
        percent: u8,
    },
}

/// What was used.
#[derive(Debug, Default)]
pub struct Usage {
    accounts: HashMap<Account, Ledger>,
    destinations: HashMap<(TenantId, E164), VecDeque<Moment>>,
    short: HashMap<TrunkId, ShortCalls>,
}

/// One account's day.
#[derive(Debug, Default)]
struct Ledger {
    day: Date,
    talked: Duration,
    spent: Micros,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    since: Moment,
    per_minute: Micros,
}

#[derive(Debug, Default)]
struct ShortCalls {
    recent: VecDeque<bool>,
    raised: bool,
}

impl Ledger {
    /// Begins a new day; a call over midnight counts on the day it ends.
    fn turn_to(&mut self, day: Date) {
        if day > self.day {
            (self.day, self.talked, self.spent) = (day, Duration::ZERO, Micros::default());
        }
    }

    /// What is used at `now`, calls that run included.
    fn used(&self, now: Moment, day: Date) -> (Duration, Micros) {
        let fresh = day > self.day;
        let mut talked = if fresh { Duration::ZERO } else { self.talked };
        let mut spent = if fresh { Micros::default() } else { self.spent };
        for call in &self.running {
            let lasted = now.since(call.since);
            talked = talked.saturating_add(lasted);
            spent = spent.plus(linear(call.per_minute, lasted));
        }
        (talked, spent)
    }

    fn run_no_more(&mut self, meter: &Meter) {
        let per_minute = meter.rate.as_ref().map_or(Micros::default(), |rate| rate.per_minute);
        let same = |call: &Running| call.since == meter.since && call.per_minute == per_minute;
        if let Some(at) = self.running.iter().position(same) {
            self.running.swap_remove(at);
        }
    }

    /// How long all running calls, and one that joins them at a price, may go on; zero: the day's
    /// limit is reached. `None`: there is no limit.
    fn left(&self, now: Moment, charge: &Charge, joining: Option<Micros>) -> Option<Duration> {
        let (talked, spent) = self.used(now, charge.day);
        let calls = self.running.len() + usize::from(joining.is_some());
        let calls = u32::try_from(calls).unwrap_or(u32::MAX).max(1);
        let minutes = (charge.limit.minutes > 0).then(|| {
            let all = Duration::from_secs(u64::from(charge.limit.minutes) * 60);
            all.saturating_sub(talked) / calls
        });
        let running = self.running.iter().map(|call| call.per_minute);
        let price = running.chain(joining).fold(Micros::default(), Micros::plus);
        let money = (charge.limit.spend > Micros::default()).then(|| {
            let rest = charge.limit.spend.0.saturating_sub(spent.0);
            match (rest, price.0) {
                (0, _) => Duration::ZERO,
                // Calls that cost nothing take nothing of it.
                (_, 0) => BRAKE_STEP,
                (rest, price) => {
                    let ms = u128::from(rest) * 60_000 / u128::from(price);
                    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
                }
            }
        });
        [minutes, money].into_iter().flatten().min()
    }
}

fn linear(per_minute: Micros, lasted: Duration) -> Micros {
    let micros = u128::from(per_minute.0) * lasted.as_millis() / 60_000;
    Micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl Usage {
    /// Counts a call of a tenant to a number.
    ///
    /// # Errors
    ///
    /// `DestinationLimit` when it was called `most` times within a minute; 0 is no limit.
    pub fn call_destination(
        &mut self,
        now: Moment,
        tenant: TenantId,
        number: E164,
        most: u32,
    ) -> Result<(), HangupCause> {
        if most == 0 {
            return Ok(());
        }
        let full = self.destinations.len() >= DESTINATIONS_WATCHED_MAX;
        if full && !self.destinations.contains_key(&(tenant, number)) {
            self.destinations
                .retain(|_, calls| calls.back().is_some_and(|last| now.since(*last) < MINUTE));
            if self.destinations.len() >= DESTINATIONS_WATCHED_MAX {
                return Err(HangupCause::DestinationLimit);
            }
        }
        let calls = self.destinations.entry((tenant, number)).or_default();
        while calls.front().is_some_and(|first| now.since(*first) >= MINUTE) {
            calls.pop_front();
        }
        if calls.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(HangupCause::DestinationLimit);
        }
        calls.push_back(now);
        Ok(())
    }

    /// What [`Self::call_destination`] would say of a number, which it does not count.
    ///
    /// # Errors
    ///
    /// `DestinationLimit`.
    pub fn check_destination(
        &self,
        now: Moment,
        tenant: TenantId,
        number: E164,
        most: u32,
    ) -> Result<(), HangupCause> {
        let calls = self.destinations.get(&(tenant, number));
        let lately = |calls: &VecDeque<Moment>| {
            calls.iter().filter(|begun| now.since(**begun) < MINUTE).count()
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most > 0 && calls.map_or(0, lately) >= most {
            return Err(HangupCause::DestinationLimit);
        }
        Ok(())
    }

    /// Whether a call that begins now has a budget at all.
    ///
    /// # Errors
    ///
    /// `BudgetSpent`.
    pub fn check(
        &self,
        now: Moment,
        charge: &Charge,
        rate: Option<&Rate>,
    ) -> Result<(), HangupCause> {
        let price = rate.map_or(Micros::default(), |rate| rate.per_minute);
        let new = Ledger::default();
        let ledger = self.accounts.get(&charge.account).unwrap_or(&new);
        match ledger.left(now, charge, Some(price)) {
            Some(left) if left.is_zero() => Err(HangupCause::BudgetSpent),
            Some(_) | None => Ok(()),
        }
    }

    /// A call is answered.
    pub fn answered(&mut self, now: Moment, charges: &[Charge], rate: Option<Rate>) -> Meter {
        let per_minute = rate.as_ref().map_or(Micros::default(), |rate| rate.per_minute);
        for charge in charges {
            let ledger = self.accounts.entry(charge.account).or_default();
            ledger.turn_to(charge.day);
            ledger.running.push(Running { since: now, per_minute });
        }
        let accounts = charges.iter().map(|charge| charge.account).collect();
        Meter { accounts, rate, since: now }
    }

    /// How long a call that runs may go on before this is asked again; zero: it has to end now, with
    /// `BudgetSpent`. `None`: nothing limits it. Never more than a minute, so that calls that began
    /// since are reckoned with: at most a minute of each running call is spent over the limit.
    #[must_use]
    pub fn time_left(&self, now: Moment, charges: &[Charge]) -> Option<Duration> {
        let left = |charge: &Charge| self.accounts.get(&charge.account)?.left(now, charge, None);
        charges.iter().filter_map(left).min().map(|left| left.min(BRAKE_STEP))
    }

    /// An answered call ended, on these days. An alarm is given once, when the share of short calls
    /// goes above `short_calls_pct`; 0 is never.
    #[expect(clippy::needless_pass_by_value, reason = "the meter ends here")]
    pub fn ended(
        &mut self,
        now: Moment,
        meter: Meter,
        charges: &[Charge],
        short_calls_pct: u8,
    ) -> Option<Alarm> {
        let lasted = now.since(meter.since);
        let cost = meter.rate.as_ref().map_or(Micros::default(), |rate| rate.cost(lasted));
        let mut alarm = None;
        for account in &meter.accounts {
            let Some(ledger) = self.accounts.get_mut(account) else { continue };
            if let Some(charge) = charges.iter().find(|charge| charge.account == *account) {
                ledger.turn_to(charge.day);
            }
            ledger.run_no_more(&meter);
            ledger.talked = ledger.talked.saturating_add(lasted);
            ledger.spent = ledger.spent.plus(cost);
            if let Account::Trunk(trunk) = account {
                alarm = self.note_length(*trunk, lasted, short_calls_pct);
            }
        }
        alarm
    }

    /// A party answered that was not wanted any more, since another had: nobody talked, and nothing is paid.
    #[expect(clippy::needless_pass_by_value, reason = "the meter ends here")]
    pub fn withdrawn(&mut self, meter: Meter) {
        for account in &meter.accounts {
            let Some(ledger) = self.accounts.get_mut(account) else { continue };
            ledger.run_no_more(&meter);
        }
    }

    fn note_length(&mut self, trunk: TrunkId, lasted: Duration, most: u8) -> Option<Alarm> {
        let calls = self.short.entry(trunk).or_default();
        calls.recent.push_back(lasted <= SHORT_CALL);
        if calls.recent.len() > SHORT_CALLS_OF {
            calls.recent.pop_front();
        }
        let short = calls.recent.iter().filter(|short| **short).count();
        let percent = u8::try_from(short * 100 / calls.recent.len().max(1)).unwrap_or(100);
        let over = most > 0 && calls.recent.len() >= SHORT_CALLS_FROM && percent > most;
        let raise = over && !calls.raised;
        calls.raised = over;
        raise.then_some(Alarm::ShortCalls { percent })
    }

    /// What an account used on a day.
    #[must_use]
    pub fn used(&self, now: Moment, account: Account, day: Date) -> (Duration, Micros) {
        self.accounts.get(&account).map_or_else(Default::default, |ledger| ledger.used(now, day))
    }

    /// Takes over what call records say was used on a day before this node started.
    pub fn restore(&mut self, account: Account, day: Date, talked: Duration, spent: Micros) {
        let ledger = self.accounts.entry(account).or_default();
        ledger.turn_to(day);
        if ledger.day == day {
            ledger.talked = ledger.talked.saturating_add(talked);
            ledger.spent = ledger.spent.plus(spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn trunk() -> TrunkId {
        TrunkId::from_uuid(Uuid::from_u128(1))
    }

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    fn day(d: i8) -> Date {
        Date::new(2026, 11, d).unwrap()
    }

    fn charge(d: i8, minutes: u32, spend: u64) -> Charge {
        let limit = DailyLimit { minutes, spend: Micros(spend) };
        Charge { account: Account::Trunk(trunk()), day: day(d), limit }
    }

    fn rate(per_minute: u64) -> Rate {
        Rate {
            prefix: "+1".parse().unwrap(),
            per_minute: Micros(per_minute),
            increment: Duration::from_secs(60),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1_000)
    }

    #[test]
    fn minutes_are_used_by_calls_that_run_and_by_those_that_ended() {
        let mut usage = Usage::default();
        let due = [charge(21, 10, 0)];
        let one = usage.answered(at(0), &due, None);
        let two = usage.answered(at(60), &due, None);
        assert_eq!(usage.used(at(120), Account::Trunk(trunk()), day(21)).0.as_secs(), 180);
        // Seven minutes are left for two calls; asked again after one.
        assert_eq!(usage.time_left(at(120), &due), Some(Duration::from_secs(60)));
        assert_eq!(usage.ended(at(300), one, &due, 0), None);
        assert_eq!(usage.time_left(at(330), &due), Some(Duration::from_secs(30)));
        assert_eq!(usage.check(at(330), &due[0], None), Ok(()));
        assert_eq!(usage.time_left(at(360), &due), Some(Duration::ZERO));
        assert_eq!(usage.check(at(360), &due[0], None), Err(HangupCause::BudgetSpent));
        assert_eq!(usage.ended(at(360), two, &due, 0), None);
        assert_eq!(usage.check(at(400), &charge(21, 10, 0), None), Err(HangupCause::BudgetSpent));
        assert_eq!(usage.check(at(400), &charge(22, 10, 0), None), Ok(()));
        assert_eq!(usage.check(at(400), &charge(21, 0, 0), None), Ok(()));
    }

    #[test]
    fn money_is_counted_as_the_carrier_counts_it() {
        let mut usage = Usage::default();
        let due = [charge(21, 0, 3_000_000)];
        let meter = usage.answered(at(0), &due, Some(rate(1_000_000)));
        assert_eq!(usage.time_left(at(0), &due), Some(Duration::from_secs(60)));
        assert_eq!(usage.time_left(at(150), &due), Some(Duration::from_secs(30)));
        assert_eq!(usage.ended(at(61), meter, &due, 0), None);
        assert_eq!(usage.used(at(61), due[0].account, day(21)).1, Micros(2_000_000));
        assert_eq!(usage.check(at(61), &due[0], Some(&rate(1_000_000))), Ok(()));
        let meter = usage.answered(at(70), &due, Some(rate(1_000_000)));
        assert_eq!(usage.ended(at(71), meter, &due, 0), None);
        let spent = usage.check(at(71), &due[0], Some(&rate(1_000_000)));
        assert_eq!(spent, Err(HangupCause::BudgetSpent));
    }

    #[test]
    fn whoever_answered_when_another_had_is_paid_nothing_and_is_no_short_call() {
        let mut usage = Usage::default();
        let due = [charge(21, 10, 3_000_000)];
        for _ in 0..100 {
            let lost = usage.answered(at(0), &due, Some(rate(2_000_000)));
            let taken = usage.answered(at(0), &due, Some(rate(1_000_000)));
            usage.withdrawn(lost);
            // Of two that began at once it is the other one that runs on.
            assert_eq!(usage.used(at(60), due[0].account, day(21)).1, Micros(1_000_000));
            usage.withdrawn(taken);
        }
        assert_eq!(usage.used(at(60), due[0].account, day(21)), Default::default());
        assert_eq!(usage.time_left(at(60), &due), Some(BRAKE_STEP));
        // A trunk that bears none of them has none.
        for _ in 0..SHORT_CALLS_FROM {
            let long = usage.answered(at(0), &due, None);
            assert_eq!(usage.ended(at(60), long, &due, 1), None);
        }
    }

    #[test]
    fn what_was_used_before_a_restart_counts() {
        let mut usage = Usage::default();
        let due = charge(21, 10, 0);
        usage.restore(due.account, day(21), Duration::from_secs(600), Micros(0));
        assert_eq!(usage.check(at(0), &due, None), Err(HangupCause::BudgetSpent));
        // Yesterday's does not.
        usage.restore(due.account, day(20), Duration::from_secs(600), Micros(0));
        assert_eq!(usage.used(at(0), due.account, day(21)).0.as_secs(), 600);
        assert_eq!(usage.check(at(0), &charge(22, 10, 0), None), Ok(()));
    }

    #[test]
    fn a_flood_of_new_destinations_is_refused_and_forgets_nobody() {
        let mut usage = Usage::default();
        let number = |n: usize| format!("+1555{n:07}").parse::<E164>().unwrap();
        for n in 0..DESTINATIONS_WATCHED_MAX {
            assert_eq!(usage.call_destination(at(0), tenant(1), number(n), 1), Ok(()));
        }
        let full = usage.call_destination(at(1), tenant(1), number(9_999_999), 1);
        assert_eq!(full, Err(HangupCause::DestinationLimit));
        let again = usage.call_destination(at(1), tenant(1), number(5), 1);
        assert_eq!(again, Err(HangupCause::DestinationLimit));
        assert_eq!(usage.check_destination(at(1), tenant(1), number(5), 1), again);
        for (second, most) in [(60, 1), (1, 2), (1, 2), (1, 0)] {
            let asked = usage.check_destination(at(second), tenant(1), number(5), most);
            assert_eq!(asked, Ok(()), "{most} after {second} s, and asking counts for nothing");
        }
        assert_eq!(usage.call_destination(at(60), tenant(1), number(9_999_999), 1), Ok(()));
        assert_eq!(usage.call_destination(at(60), tenant(2), number(9_999_999), 1), Ok(()));
        assert_eq!(usage.call_destination(at(60), tenant(2), number(9_999_999), 0), Ok(()));
    }

    #[test]
    fn many_short_calls_raise_one_alarm() {
        let mut usage = Usage::default();
        let due = [charge(21, 0, 0)];
        let mut call = |seconds: u64| {
            let meter = usage.answered(at(0), &due, None);
            usage.ended(at(seconds), meter, &due, 40)
        };
        let alarms: Vec<_> = (0..30).map(|_| call(12)).collect();
        let raised: Vec<_> = alarms.iter().enumerate().filter(|(_, a)| a.is_some()).collect();
        assert_eq!(raised, [(19, &Some(Alarm::ShortCalls { percent: 100 }))]);
        assert!((0..100).all(|_| call(13).is_none()));
        assert_eq!((0..60).filter_map(|_| call(1)).count(), 1);
    }
}
