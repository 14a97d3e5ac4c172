//! `GatewayHealth`: whether a gateway may be given calls, from OPTIONS probes, the fate of calls and
//! what the carrier says.

use crate::routing::rest::Rest;
use crate::types::moment::Moment;
use crate::types::random::Random;
use std::fmt;
use std::time::Duration;

/// How the health of gateways is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// OPTIONS probes; `None`: none are sent, and only calls tell.
    pub probing: Option<Probing>,
    /// How long a gateway rests after a call failed at it.
    pub cooldown: Duration,
}

/// How a gateway is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// The time between probes; each is moved by up to a tenth of it.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row, and it is down.
    pub down_after: u32,
    /// So many answers in a row, and it is up again.
    pub up_after: u32,
    /// Which answers mean life.
    pub alive: AliveCodes,
    /// The user part of the Request-URI; empty: none.
    pub request_user: String,
}

/// Which answers to OPTIONS mean life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliveCodes {
    /// Any: who answers lives. A 503 rests the gateway all the same.
    Any,
    /// 200 to 299.
    Success,
    /// These.
    List(Vec<u16>),
}

impl AliveCodes {
    fn contain(&self, status: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Success => (200..300).contains(&status),
            Self::List(list) => list.contains(&status),
        }
    }
}

/// What a gateway can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It begins to be watched.
    Started,
    /// A probe is sent, be it later than it was asked for: the time for its answer begins.
    ProbeBegun,
    /// A probe was answered.
    ProbeAnswered {
        /// The status.
        status: u16,
        /// Its Retry-After.
        retry_after: Option<Duration>,
    },
    /// A probe was not answered, or there was no way to send it.
    ProbeFailed,
    /// A probe was not sent for want of room here, or for a fault of ours: that says nothing of the gateway. Where it only
    /// waits for its turn, [`Self::ProbeBegun`] comes later.
    ProbeUnsent,
    /// A call is sent to it.
    CallSent,
    /// A call got a response that speaks for the gateway's life, even a refusal.
    CallServed,
    /// A call was given up, of which nothing was heard yet.
    CallLeft,
    /// A call failed at it: no answer in time, no connection, or a 5xx.
    CallFailed {
        /// The carrier's own wish.
        retry_after: Option<Duration>,
    },
    /// The carrier wants fewer calls.
    Throttled {
        /// For how long; `None`: the trunk's cool-down.
        retry_after: Option<Duration>,
    },
    /// Its deadline is reached.
    DeadlineReached,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an OPTIONS to it.
    Probe,
    /// It may be given calls again, or no longer.
    Changed(Availability),
}

/// Whether a gateway may be given calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Ready,
    /// One call, to see: its rest is over, and nothing has succeeded yet.
    Trial,
    /// It rests after a failure, until this moment.
    Cooling(Moment),
    /// The carrier wants fewer calls, until this moment.
    Throttled(Moment),
    /// Probes say that it is down.
    Down,
}

impl Availability {
    /// Whether a call may be sent.
    #[must_use]
    pub const fn takes_calls(self) -> bool {
        matches!(self, Self::Ready | Self::Trial)
    }

    /// Whether it is no time for calls, and a time is known when it is.
    #[must_use]
    pub const fn rests(self) -> bool {
        matches!(self, Self::Cooling(_) | Self::Throttled(_))
    }

    /// Every spelling.
    pub const SPELLINGS: [&'static str; 5] = ["ready", "trial", "cooling", "throttled", "down"];

    /// The spelling of decisions, metrics and APIs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Trial => "trial",
            Self::Cooling(_) => "cooling",
            Self::Throttled(_) => "throttled",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Up, with so many failures in a row.
    Up(u32),
    /// Down, with so many answers in a row.
    Down(u32),
}

/// The health of one gateway.
#[derive(Clone, Debug)]
pub struct GatewayHealth {
    policy: HealthPolicy,
    link: Link,
    rest: Rest,
    /// When the next probe is due.
    probe_at: Option<Moment>,
    /// Until when the probe under way may be answered.
    answer_by: Option<Moment>,
    random: Random,
}

impl GatewayHealth {
    /// A gateway that is taken to live until something says otherwise.
    #[must_use]
    pub const fn new(policy: HealthPolicy, random: Random) -> Self {
        Self {
            policy,
            link: Link::Up(0),
            rest: Rest::None,
            probe_at: None,
            answer_by: None,
            random,
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// Takes another policy; what is known of the gateway stays.
    pub fn set_policy(&mut self, now: Moment, policy: HealthPolicy) {
        let (old, new) = (&self.policy.probing, &policy.probing);
        let probes_anew = old.as_ref().map(|p| p.interval) != new.as_ref().map(|p| p.interval);
        self.policy = policy;
        if self.policy.probing.is_none() {
            // Nothing would ever say that it is up again.
            (self.link, self.probe_at, self.answer_by) = (Link::Up(0), None, None);
        } else if probes_anew {
            self.schedule(now, true);
        }
    }

    /// Whether it may be given calls.
    #[must_use]
    pub fn availability(&self, now: Moment) -> Availability {
        if matches!(self.link, Link::Down(_)) {
            return Availability::Down;
        }
        self.rest.availability(now)
    }

    /// Until when a trial call has the place that there is for one; `None`: none is under way.
    pub(super) fn trial_until(&self, now: Moment) -> Option<Moment> {
        self.rest.trial_until(now)
    }

    /// The next moment at which this wants `Input::DeadlineReached`.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let rest = self.rest.end();
        let probe = self.answer_by.or(self.probe_at);
        [rest, probe].into_iter().flatten().min()
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        let before = self.availability(now);
        match input {
            Input::Started => self.schedule(now, true),
            Input::ProbeBegun => self.probe_begun(now),
            Input::ProbeAnswered { status, retry_after } => {
                self.probe_answered(now, status, retry_after);
            }
            Input::ProbeFailed => self.probe_failed(now),
            Input::ProbeUnsent => {
                if self.answer_by.take().is_some() {
                    self.schedule(now, false);
                }
            }
            Input::CallSent => {
                if before == Availability::Trial {
                    self.rest.call_sent(now);
                }
            }
            Input::CallServed => self.rest.call_served(),
            Input::CallLeft => self.rest.call_left(),
            Input::CallFailed { retry_after } => {
                self.rest.cool(now, self.pause(retry_after));
            }
            Input::Throttled { retry_after } => {
                self.rest.throttle(now, self.pause(retry_after));
            }
            Input::DeadlineReached => self.deadline_reached(now, out),
        }
        let after = self.availability(now);
        if std::mem::discriminant(&before) != std::mem::discriminant(&after)
            || (input == Input::DeadlineReached && self.rest.is_over(now))
        {
            self.rest.settle(now);
            out.push(Output::Changed(after));
        }
    }

    fn pause(&self, wish: Option<Duration>) -> Duration {
        wish.unwrap_or(self.policy.cooldown)
    }

    fn probe_begun(&mut self, now: Moment) {
        if let Some(probing) = &self.policy.probing {
            (self.probe_at, self.answer_by) = (None, Some(now + probing.timeout));
        }
    }

    fn probe_answered(&mut self, now: Moment, status: u16, retry_after: Option<Duration>) {
        if self.answer_by.take().is_none() {
            return;
        }
        self.schedule(now, false);
        let Some(probing) = &self.policy.probing else { return };
        if status == 503 {
            // It lives, and says that it wants no calls: a carrier that drains does so.
            self.rest.throttle(now, self.pause(retry_after));
        }
        if !probing.alive.contain(status) {
            return self.missed();
        }
        self.link = match self.link {
            Link::Up(_) => Link::Up(0),
            Link::Down(answers) if answers + 1 >= probing.up_after => Link::Up(0),
            Link::Down(answers) => Link::Down(answers + 1),
        };
    }

    fn probe_failed(&mut self, now: Moment) {
        if self.answer_by.take().is_some() {
            self.schedule(now, false);
            self.missed();
        }
    }

    fn missed(&mut self) {
        let Some(probing) = &self.policy.probing else { return };
        self.link = match self.link {
            Link::Up(failures) if failures + 1 >= probing.down_after => Link::Down(0),
            Link::Up(failures) => Link::Up(failures + 1),
            Link::Down(_) => Link::Down(0),
        };
    }

    fn deadline_reached(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.answer_by.is_some_and(|by| by <= now) {
            self.probe_failed(now);
        }
        if self.probe_at.is_some_and(|at| at <= now) && self.answer_by.is_none() {
            self.probe_at = None;
            if let Some(probing) = &self.policy.probing {
                self.answer_by = Some(now + probing.timeout);
                out.push(Output::Probe);
            }
        }
    }

    /// Sets the next probe an interval from now, moved by up to a tenth; the first somewhere within
    /// the first interval, so that a start does not probe all gateways at once.
    fn schedule(&mut self, now: Moment, first: bool) {
        self.answer_by = None;
        self.probe_at = self.policy.probing.as_ref().map(|probing| {
            let interval = u64::try_from(probing.interval.as_nanos()).unwrap_or(u64::MAX);
            let wait = if first {
                self.random.below(interval)
            } else {
                let tenth = interval / 10;
                (interval - tenth).saturating_add(self.random.below(tenth.saturating_mul(2)))
            };
            now + Duration::from_nanos(wait)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probing(alive: AliveCodes) -> Probing {
        Probing {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(4),
            down_after: 3,
            up_after: 2,
            alive,
            request_user: String::new(),
        }
    }

    struct Watch {
        health: GatewayHealth,
        now: Moment,
        out: Vec<Output>,
    }

    impl Watch {
        fn new(probing: Option<Probing>) -> Self {
            let policy = HealthPolicy { probing, cooldown: Duration::from_secs(30) };
            let health = GatewayHealth::new(policy, Random::from_seed(3));
            let mut watch = Self { health, now: Moment::from_millis(5_000), out: Vec::new() };
            watch.tell(Input::Started);
            watch
        }

        fn tell(&mut self, input: Input) {
            self.health.handle(self.now, input, &mut self.out);
        }

        /// Goes on to the next deadline; in milliseconds, how long that took.
        fn wait(&mut self) -> u128 {
            let at = self.health.deadline().expect("a deadline");
            let waited = at.since(self.now).as_millis();
            self.now = at;
            self.tell(Input::DeadlineReached);
            waited
        }

        /// Waits for the next probe and answers it.
        fn probe(&mut self, status: Option<u16>) -> Availability {
            while !self.out.contains(&Output::Probe) {
                self.wait();
            }
            self.out.clear();
            match status {
                Some(status) => self.tell(Input::ProbeAnswered { status, retry_after: None }),
                None => drop(self.wait()),
            }
            self.health.availability(self.now)
        }
    }

    #[test]
    fn a_gateway_goes_down_and_comes_up_after_several_probes_not_one() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        assert_eq!(watch.probe(None), Availability::Ready);
        assert_eq!(watch.probe(None), Availability::Ready);
        // One answer between makes the count begin anew.
        assert_eq!(watch.probe(Some(404)), Availability::Ready);
        assert_eq!(watch.probe(None), Availability::Ready);
        assert_eq!(watch.probe(None), Availability::Ready);
        assert_eq!(watch.probe(None), Availability::Down);
        assert!(watch.out.contains(&Output::Changed(Availability::Down)));
        assert_eq!(watch.probe(Some(200)), Availability::Down);
        assert_eq!(watch.probe(None), Availability::Down);
        assert_eq!(watch.probe(Some(200)), Availability::Down);
        assert_eq!(watch.probe(Some(200)), Availability::Ready);
        assert!(watch.out.contains(&Output::Changed(Availability::Ready)));
    }

    #[test]
    fn which_answers_mean_life_is_configured() {
        for (alive, status, lives) in [
            (AliveCodes::Any, 483, true),
            (AliveCodes::Success, 200, true),
            (AliveCodes::Success, 404, false),
            (AliveCodes::List(vec![404]), 404, true),
            (AliveCodes::List(vec![404]), 200, false),
        ] {
            let mut watch = Watch::new(Some(probing(alive.clone())));
            let states: Vec<_> = (0..3).map(|_| watch.probe(Some(status))).collect();
            let expected = if lives { Availability::Ready } else { Availability::Down };
            assert_eq!(states.last(), Some(&expected), "{alive:?} {status}");
        }
    }

    #[test]
    fn probes_are_spread_and_never_closer_than_nine_tenths_of_the_interval() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        let mut gaps = Vec::new();
        for _ in 0..50 {
            let before = watch.now;
            watch.probe(Some(200));
            gaps.push(watch.now.since(before).as_millis());
        }
        assert!(gaps.first() <= Some(&30_000));
        assert!(gaps.iter().skip(1).all(|gap| (27_000..=33_000).contains(gap)), "{gaps:?}");
        gaps.dedup();
        assert!(gaps.len() > 40, "all alike");
    }

    #[test]
    fn a_503_to_a_probe_throttles_and_does_not_kill() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        while !watch.out.contains(&Output::Probe) {
            watch.wait();
        }
        let retry_after = Some(Duration::from_secs(10));
        watch.tell(Input::ProbeAnswered { status: 503, retry_after });
        let until = watch.now + Duration::from_secs(10);
        assert_eq!(watch.health.availability(watch.now), Availability::Throttled(until));
        assert_eq!(watch.wait(), 10_000);
        assert_eq!(watch.health.availability(watch.now), Availability::Ready);
        assert_eq!(watch.out.last(), Some(&Output::Changed(Availability::Ready)));
    }

    #[test]
    fn after_a_rest_one_call_tries_before_all_do() {
        let mut watch = Watch::new(None);
        watch.tell(Input::CallFailed { retry_after: None });
        let until = watch.now + Duration::from_secs(30);
        assert_eq!(watch.health.availability(watch.now), Availability::Cooling(until));
        assert_eq!(watch.wait(), 30_000);
        assert_eq!(watch.health.availability(watch.now), Availability::Trial);
        watch.tell(Input::CallSent);
        assert!(!watch.health.availability(watch.now).takes_calls());
        watch.tell(Input::CallServed);
        assert_eq!(watch.health.availability(watch.now), Availability::Ready);
        assert_eq!(watch.health.deadline(), None);
        // A trial that fails begins another rest; one that is never told of frees its place.
        watch.tell(Input::CallFailed { retry_after: None });
        watch.wait();
        watch.tell(Input::CallSent);
        watch.tell(Input::CallFailed { retry_after: None });
        assert_eq!(watch.wait(), 30_000);
        watch.tell(Input::CallSent);
        assert_eq!(watch.wait(), 64_000);
        assert_eq!(watch.health.availability(watch.now), Availability::Trial);
    }

    #[test]
    fn a_longer_rest_is_not_cut_by_a_shorter_one_nor_stretched_beyond_an_hour() {
        let mut watch = Watch::new(None);
        let throttled = |s| Input::Throttled { retry_after: Some(Duration::from_secs(s)) };
        watch.tell(throttled(100));
        watch.tell(throttled(5));
        watch.tell(Input::CallFailed { retry_after: None });
        let until = watch.now + Duration::from_secs(100);
        assert_eq!(watch.health.availability(watch.now), Availability::Throttled(until));
        watch.tell(throttled(1_000_000));
        let until = watch.now + Duration::from_secs(3_600);
        assert_eq!(watch.health.availability(watch.now), Availability::Throttled(until));
    }

    #[test]
    fn a_gateway_that_is_probed_no_more_is_not_down_for_ever() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        for _ in 0..3 {
            watch.probe(None);
        }
        let policy = HealthPolicy { probing: None, cooldown: Duration::from_secs(30) };
        watch.health.set_policy(watch.now, policy);
        assert_eq!(watch.health.availability(watch.now), Availability::Ready);
        assert_eq!(watch.health.deadline(), None);
    }

    #[test]
    fn a_probe_that_was_never_sent_says_nothing() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        for _ in 0..2 {
            assert_eq!(watch.probe(None), Availability::Ready);
        }
        for _ in 0..10 {
            while !watch.out.contains(&Output::Probe) {
                watch.wait();
            }
            watch.out.clear();
            watch.tell(Input::ProbeUnsent);
            assert_eq!(watch.health.availability(watch.now), Availability::Ready);
            assert!(watch.wait() >= 27_000, "the next one has its time");
        }
        // It is no answer either: the silences before still count.
        assert_eq!(watch.probe(None), Availability::Down);
    }

    #[test]
    fn the_time_for_an_answer_begins_when_a_probe_is_sent_however_late() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Any)));
        for silences in 1..=3 {
            while !watch.out.contains(&Output::Probe) {
                watch.wait();
            }
            watch.out.clear();
            // There is no place for it for longer than it may take.
            watch.tell(Input::ProbeUnsent);
            watch.now += Duration::from_secs(20);
            assert_eq!(watch.health.availability(watch.now), Availability::Ready);
            watch.tell(Input::ProbeBegun);
            assert_eq!(watch.wait(), 4_000);
            let is_down = watch.health.availability(watch.now) == Availability::Down;
            assert_eq!(is_down, silences == 3, "{silences}");
        }
        for answers in 1..=2 {
            while !watch.out.contains(&Output::Probe) {
                watch.wait();
            }
            watch.out.clear();
            watch.tell(Input::ProbeUnsent);
            watch.now += Duration::from_secs(20);
            watch.tell(Input::ProbeBegun);
            watch.tell(Input::ProbeAnswered { status: 200, retry_after: None });
            let is_ready = watch.health.availability(watch.now) == Availability::Ready;
            assert_eq!(is_ready, answers == 2, "{answers}");
        }
        let policy = HealthPolicy { probing: None, cooldown: Duration::from_secs(30) };
        watch.health.set_policy(watch.now, policy);
        watch.tell(Input::ProbeBegun);
        assert_eq!(watch.health.deadline(), None, "nobody waits for it any more");
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let mut watch = Watch::new(Some(probing(AliveCodes::Success)));
        let before = watch.health.deadline();
        for _ in 0..10 {
            watch.tell(Input::ProbeAnswered { status: 500, retry_after: None });
            watch.tell(Input::ProbeFailed);
            watch.tell(Input::ProbeUnsent);
        }
        assert_eq!(watch.health.availability(watch.now), Availability::Ready);
        assert_eq!(watch.health.deadline(), before);
    }
}
