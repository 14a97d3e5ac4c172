//! Keeping one binding at a registrar: register, refresh, retry, give up, take it away (RFC 3261 §10.2).

mod answer;

use crate::sip::message::Response;
use crate::sip::register::answer::Binding;
use crate::sip::register::answer::Judgement;
use crate::types::moment::Moment;
use crate::types::random::Random;
use std::time::Duration;

/// How a trunk registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationPolicy {
    /// The life asked for; the registrar may grant less.
    pub expires: Duration,
    /// The share of the granted life after which the binding is refreshed, in percent.
    pub refresh_percent: u8,
    /// How long to wait after each failure in a row; the last holds from then on. Empty: 60 s.
    pub retry: Vec<Duration>,
    /// How long to wait after the registrar said that it will not have us (403, 404, refused
    /// credentials): asking more often gets an address banned. Never less than 5 s.
    pub forbidden_retry: Duration,
    /// The first request is sent within this time, so that a node with many trunks does not send all
    /// of them at once.
    pub start_within: Duration,
    /// The user part of our Contact, by which the granted life is found among the bindings.
    pub contact_user: String,
}

/// Something that happened to the registration.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The trunk is in force.
    Started,
    /// The final response to the last request came; a challenge that could be answered has been.
    Answered(&'a Response),
    /// The last request had no answer, or could not be sent.
    Unanswered,
    /// The last request was not sent, for want of room on our side: that says nothing of the registrar.
    Unasked,
    /// The connection over which the binding was made is gone: what was bound to it cannot be reached.
    FlowLost,
    /// The trunk is going: the binding shall be taken away.
    Stopped,
    /// The moment of [`Registration::deadline`] has come.
    DeadlineReached,
}

/// Something that must be done for the registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send REGISTER with this life in seconds; 0 takes the binding away.
    Register {
        /// Seconds.
        expires_s: u32,
    },
    /// What operators and outbound calls see has changed.
    Changed(Standing),
    /// Nothing follows.
    Finished,
}

/// Where a registration stands, for operators and for outbound calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is bound yet.
    Registering,
    /// Bound until that moment.
    Registered {
        /// When the binding ends unless it is refreshed.
        until: Moment,
        /// The route that requests of ours take, in order (RFC 3608 §5.1).
        service_route: Vec<String>,
    },
    /// Not bound.
    Failed {
        /// The final status; `None` when there was no answer.
        status: Option<u16>,
        /// When it is tried again.
        retry_at: Moment,
    },
    /// Taken away.
    Removed,
}

/// Why a request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not started, or over.
    Idle,
    /// The first request waits for its moment.
    Waiting { at: Moment },
    /// A request is under way; `raised` once Min-Expires was obeyed.
    Asking { raised: bool },
    /// Bound.
    Bound { since: Moment, refresh_at: Moment },
    /// The removal is under way.
    Removing,
}

/// One binding of ours at a registrar.
#[derive(Debug)]
pub struct Registration {
    policy: RegistrationPolicy,
    random: Random,
    state: State,
    /// The life asked for; grows by a registrar's Min-Expires.
    expires_s: u32,
    /// When the present binding ends.
    until: Option<Moment>,
    /// Failures in a row.
    failures: usize,
}

/// The longest life asked for, whatever a registrar demands: a week.
const EXPIRES_MAX_S: u32 = 604_800;
/// A registrar's Retry-After counts from some seconds, or one that says 0 would have us ask without
/// end, up to an hour. After a refusal we wait no less.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// The wait without a list of waits.
const RETRY: Duration = Duration::from_secs(60);
/// A binding that ends sooner would have us register all the time: it is refreshed no more often.
const REFRESH_MIN: Duration = Duration::from_secs(5);
/// A connection that closes sooner after it bound us is a failure: it is not made anew at once.
const FLOW_LIFE_MIN: Duration = Duration::from_secs(30);
/// Who finds no room on our side asks again after this time to twice that.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Retries are spread by this share, in percent, so that trunks do not fall into step.
const JITTER_PERCENT: u64 = 20;

impl Registration {
    /// A registration that has not begun. `seed` spreads its retries.
    #[must_use]
    pub fn new(policy: RegistrationPolicy, seed: u64) -> Self {
        let expires_s = u32::try_from(policy.expires.as_secs()).unwrap_or(EXPIRES_MAX_S);
        Self {
            policy,
            random: Random::from_seed(seed),
            state: State::Idle,
            expires_s: expires_s.clamp(1, EXPIRES_MAX_S),
            until: None,
            failures: 0,
        }
    }

    /// Applies `input` and appends what must be done to `out`. Total: an input that makes no sense in
    /// the present state changes nothing.
    pub fn handle(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        match self.state {
            State::Idle => self.in_idle(now, input, out),
            State::Waiting { at } => self.in_waiting(now, at, input, out),
            State::Asking { raised } => self.in_asking(now, raised, input, out),
            State::Bound { since, refresh_at } => {
                self.in_bound(now, (since, refresh_at), input, out)
            }
            State::Removing => self.in_removing(input, out),
        }
    }

    /// The next moment at which this wants [`Input::DeadlineReached`].
    #[must_use]
    pub const fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Idle | State::Removing => None,
            // A registrar that is silent does not keep the binding alive.
            State::Asking { .. } => self.until,
            State::Waiting { at } | State::Bound { refresh_at: at, .. } => Some(at),
        }
    }

    /// When the next request is due; `None` while one is under way.
    #[must_use]
    pub const fn next_request(&self) -> Option<Moment> {
        match self.state {
            State::Idle | State::Asking { .. } | State::Removing => None,
            State::Waiting { at } | State::Bound { refresh_at: at, .. } => Some(at),
        }
    }

    /// True while the registrar has a binding of ours, as far as we know.
    #[must_use]
    pub fn is_bound(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn in_idle(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Started => {
                let within = u64::try_from(self.policy.start_within.as_millis()).unwrap_or(0);
                let wait = Duration::from_millis(self.random.below(within + 1));
                self.state = State::Waiting { at: now + wait };
                out.push(Output::Changed(Standing::Registering));
            }
            Input::Answered(_)
            | Input::Unanswered
            | Input::Unasked
            | Input::FlowLost
            | Input::Stopped
            | Input::DeadlineReached => (),
        }
    }

    fn in_waiting(&mut self, now: Moment, at: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::DeadlineReached if now >= at => self.ask(out),
            Input::Stopped => self.remove(now, out),
            // What still stood cannot be reached any more, however long the registrar wanted us to wait.
            Input::FlowLost if self.until.take().is_some() => {
                self.state = State::Waiting { at: at.min(now + REFRESH_MIN) };
                out.push(Output::Changed(Standing::Registering));
            }
            Input::DeadlineReached
            | Input::Started
            | Input::Answered(_)
            | Input::Unanswered
            | Input::Unasked
            | Input::FlowLost => (),
        }
    }

    fn in_asking(&mut self, now: Moment, raised: bool, input: &Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Answered(response) => {
                match answer::judge(response, &self.policy.contact_user, self.expires_s) {
                    Judgement::Bound(binding) => self.bind(now, binding, out),
                    // RFC 3261 §10.2.8: once for a request, or a confused registrar has us in a circle.
                    Judgement::TooBrief { min_s } if !raised && min_s > self.expires_s => {
                        self.expires_s = min_s.min(EXPIRES_MAX_S);
                        self.ask(out);
                        self.state = State::Asking { raised: true };
                    }
                    Judgement::TooBrief { .. } | Judgement::Failed { retry_after: None } => {
                        let wait = self.next_retry();
                        self.fail(now, Some(response.status), wait, out);
                    }
                    Judgement::Failed { retry_after: Some(after) } => {
                        self.failures += 1;
                        let wait = after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
                        self.fail(now, Some(response.status), wait, out);
                    }
                    Judgement::Forbidden => {
                        self.until = None;
                        self.failures += 1;
                        let wait = self.policy.forbidden_retry.max(RETRY_AFTER_MIN);
                        self.fail(now, Some(response.status), wait, out);
                    }
                }
            }
            Input::Unanswered => {
                let wait = self.next_retry();
                self.fail(now, None, wait, out);
            }
            Input::Unasked => self.wait_for_room(now, out),
            Input::FlowLost => {
                self.until = None;
                let wait = self.next_retry();
                self.fail(now, None, wait, out);
            }
            Input::Stopped => self.remove(now, out),
            // The binding ended before the refresh was answered.
            Input::DeadlineReached if self.until.is_some() && !self.is_bound(now) => {
                self.until = None;
                out.push(Output::Changed(Standing::Registering));
            }
            Input::Started | Input::DeadlineReached => (),
        }
    }

    fn in_bound(
        &mut self,
        now: Moment,
        (since, refresh_at): (Moment, Moment),
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) {
        match input {
            Input::DeadlineReached if now >= refresh_at => self.ask(out),
            // RFC 5626 §4.3: a new flow at once; calls to us have nowhere to go until then.
            Input::FlowLost => {
                self.until = None;
                if now.since(since) < FLOW_LIFE_MIN {
                    let wait = self.next_retry();
                    return self.fail(now, None, wait, out);
                }
                out.push(Output::Changed(Standing::Registering));
                self.ask(out);
            }
            Input::Stopped => self.remove(now, out),
            Input::DeadlineReached
            | Input::Started
            | Input::Answered(_)
            | Input::Unanswered
            | Input::Unasked => (),
        }
    }

    fn in_removing(&mut self, input: &Input<'_>, out: &mut Vec<Output>) {
        match input {
            // Whatever it said: the binding ends by itself if it still stands.
            Input::Answered(_) | Input::Unanswered | Input::Unasked | Input::FlowLost => {
                self.finish(out);
            }
            Input::Started | Input::Stopped | Input::DeadlineReached => (),
        }
    }

    fn ask(&mut self, out: &mut Vec<Output>) {
        self.state = State::Asking { raised: false };
        out.push(Output::Register { expires_s: self.expires_s });
    }

    fn bind(&mut self, now: Moment, binding: Binding, out: &mut Vec<Output>) {
        self.failures = 0;
        let life = Duration::from_secs(u64::from(binding.expires_s));
        let until = now + life;
        self.until = Some(until);
        let percent = u32::from(self.policy.refresh_percent.clamp(1, 95));
        let refresh = (life * percent / 100).max(REFRESH_MIN);
        self.state = State::Bound { since: now, refresh_at: now + refresh };
        let Binding { service_route, .. } = binding;
        out.push(Output::Changed(Standing::Registered { until, service_route }));
    }

    /// The next try; a binding that still stands stays in use until it ends.
    fn fail(&mut self, now: Moment, status: Option<u16>, wait: Duration, out: &mut Vec<Output>) {
        let spread = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) / 100 * JITTER_PERCENT;
        let mut retry_at = now + wait + Duration::from_millis(self.random.below(spread + 1));
        if let Some(until) = self.until.filter(|until| *until > now) {
            // Another try while the binding still stands may save it.
            retry_at = retry_at.min(until.max(now + REFRESH_MIN));
        }
        self.state = State::Waiting { at: retry_at };
        if !self.is_bound(now) {
            self.until = None;
            out.push(Output::Changed(Standing::Failed { status, retry_at }));
        }
    }

    /// The next try, soon: what was not asked has not failed.
    fn wait_for_room(&mut self, now: Moment, out: &mut Vec<Output>) {
        let spread = u64::try_from(ROOM_WAIT.as_millis()).unwrap_or(u64::MAX);
        let wait = ROOM_WAIT + Duration::from_millis(self.random.below(spread));
        self.state = State::Waiting { at: now + wait };
        if self.until.take_if(|until| *until <= now).is_some() {
            out.push(Output::Changed(Standing::Registering));
        }
    }

    /// The wait after one more failure in a row.
    fn next_retry(&mut self) -> Duration {
        let waits = &self.policy.retry;
        let wait = waits.get(self.failures).or(waits.last()).copied().unwrap_or(RETRY);
        self.failures += 1;
        wait
    }

    fn remove(&mut self, now: Moment, out: &mut Vec<Output>) {
        let may_be_bound = self.is_bound(now) || matches!(self.state, State::Asking { .. });
        if may_be_bound {
            self.state = State::Removing;
            out.push(Output::Register { expires_s: 0 });
        } else {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Output>) {
        self.state = State::Idle;
        self.until = None;
        out.push(Output::Changed(Standing::Removed));
        out.push(Output::Finished);
    }
}

#[cfg(test)]
mod tests;
