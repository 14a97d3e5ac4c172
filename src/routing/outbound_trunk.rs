//! `OutboundTrunk`: how a trunk calls out.

use crate::routing::caller_id::CallerIdPolicy;
use crate::routing::destination::Destinations;
use crate::routing::destination::Micros;
use crate::routing::destination::Rate;
use crate::routing::gateway::Gateway;
use crate::routing::gateway::Strategy;
use crate::routing::health::HealthPolicy;
use crate::routing::numbers::NumberRules;
use crate::routing::template::Template;
use crate::routing::trunk::DigestAlgorithm;
use crate::types::header::FieldName;
use crate::types::header::NameGlob;
use crate::types::number::E164;
use crate::types::secret::Secret;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use regex::Regex;
use std::sync::Arc;
use std::time::Duration;

/// How a trunk calls out.
#[derive(Clone, Debug)]
pub struct OutboundTrunk {
    /// Where its calls are sent.
    pub gateways: Vec<Arc<Gateway>>,
    /// In which order.
    pub strategy: Strategy,
    /// How its requests look.
    pub form: RequestForm,
    /// With what it answers challenges; `None`: it does not.
    pub account: Option<ClientAccount>,
    /// Requests go by the flow over which the trunk registered.
    pub via_registered_flow: bool,
    /// No calls out while the trunk is not registered.
    pub needs_registration: bool,
    /// Rewrites E.164 into what the carrier dials.
    pub called: NumberRules,
    /// Rewrites E.164 into how the carrier writes callers.
    pub calling: NumberRules,
    /// What may be dialled at all, before it is rewritten; `None`: nothing.
    pub must_match: Option<Pattern>,
    /// Which caller is shown, and how.
    pub caller_id: CallerIdPolicy,
    /// Headers of its requests beside the protocol's own.
    pub headers: HeaderPolicy,
    /// When the next gateway is tried.
    pub failover: Failover,
    /// How long things may take.
    pub patience: Patience,
    /// What becomes of redirections.
    pub redirect: Redirect,
    /// How the health of its gateways is watched.
    pub health: HealthPolicy,
    /// How many calls out it takes.
    pub limits: OutboundLimits,
    /// What may be called.
    pub destinations: Destinations,
    /// What that costs, and how much of it is enough.
    pub budget: Budget,
    /// What the law wants.
    pub compliance: Compliance,
}

impl OutboundTrunk {
    /// A trunk that calls out by `gateways` with the defaults of every profile: as long as nothing is
    /// allowed, it calls nobody.
    #[must_use]
    pub fn new(gateways: Vec<Arc<Gateway>>) -> Self {
        let host = Template::gateway_host();
        Self {
            gateways,
            strategy: Strategy::default(),
            form: RequestForm {
                request_host: host.clone(),
                from_host: host.clone(),
                to_host: host,
                contact_user: Template::caller(),
                user_phone: false,
                max_forwards: 70,
                early_media_header: false,
            },
            account: None,
            via_registered_flow: false,
            needs_registration: false,
            called: NumberRules::default(),
            calling: NumberRules::default(),
            must_match: Pattern::parse(r"^\+[1-9]\d{6,14}$").ok(),
            caller_id: CallerIdPolicy::default(),
            headers: HeaderPolicy::default(),
            failover: Failover::default(),
            patience: Patience { no_reply: Duration::from_secs(4), setup: Duration::from_secs(60) },
            redirect: Redirect { policy: RedirectPolicy::Reject, max: 1 },
            health: HealthPolicy { probing: None, cooldown: Duration::from_secs(30) },
            limits: OutboundLimits { queue: Duration::from_secs(2), ..OutboundLimits::default() },
            destinations: Destinations::default(),
            budget: Budget { per_destination_min: 10, short_calls_pct: 40, ..Budget::default() },
            compliance: Compliance { hours: None, zone: TimeZone::UTC, class: CallClass::Any },
        }
    }
}

/// A compiled regular expression that is equal to others by its text.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl Pattern {
    /// Takes a pattern.
    ///
    /// # Errors
    ///
    /// When it is no regular expression, or one that would take too much memory.
    pub fn parse(text: &str) -> Result<Self, regex::Error> {
        let bytes_max = 256 * 1024;
        let mut builder = regex::RegexBuilder::new(text);
        builder.size_limit(bytes_max).dfa_size_limit(bytes_max).build().map(Self)
    }
}

impl OutboundTrunk {
    /// Whether a number may be dialled at all.
    #[must_use]
    pub fn may_dial(&self, number: E164) -> bool {
        self.must_match.as_ref().is_some_and(|pattern| pattern.0.is_match(number.as_str()))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// How requests of a trunk look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestForm {
    /// The host of the Request-URI, kept apart from the next hop.
    pub request_host: Template,
    /// The host of From.
    pub from_host: Template,
    /// The host of To.
    pub to_host: Template,
    /// The user part of our Contact.
    pub contact_user: Template,
    /// `;user=phone` in Request-URI, From, To and the asserted identity.
    pub user_phone: bool,
    /// Max-Forwards of a call that begins here.
    pub max_forwards: u8,
    /// `P-Early-Media: supported` (RFC 5009).
    pub early_media_header: bool,
}

/// Credentials of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAccount {
    /// The user name of digests.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
    /// The only realm that is answered; `None`: any.
    pub realm: Option<String>,
    /// The algorithms that are answered, the strongest offered first.
    pub algorithms: Vec<DigestAlgorithm>,
}

/// Headers of requests beside the protocol's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// Written in every INVITE.
    pub set: Vec<(FieldName, HeaderText)>,
    /// Of headers that come with the call, those whose names match are passed on.
    pub pass: Vec<NameGlob>,
    /// Calls that go on say through which numbers of ours, so that one that comes back is known.
    pub trail: bool,
}

impl Default for HeaderPolicy {
    fn default() -> Self {
        Self { set: Vec::new(), pass: Vec::new(), trail: true }
    }
}

impl HeaderPolicy {
    /// The names of headers whose values are secrets of the trunk, not to be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &FieldName> {
        let is_secret = |text: &HeaderText| match text {
            HeaderText::Secret(_) => true,
            HeaderText::Template(_) => false,
        };
        self.set.iter().filter(move |(_, text)| is_secret(text)).map(|(name, _)| name)
    }

    /// Whether the value of a header is a secret of the trunk, not to be shown.
    #[must_use]
    pub fn is_secret(&self, name: &FieldName) -> bool {
        self.secrets().any(|own| own == name)
    }
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// A template. Where a variable it names is not set, the header is left out.
    Template(Template),
    /// A secret, as it is.
    Secret(Secret<String>),
}

/// When the next gateway is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// After these statuses.
    pub on_codes: Vec<u16>,
    /// After no answer in time.
    pub on_timeout: bool,
    /// After a next hop that cannot be reached.
    pub on_transport_error: bool,
    /// Not any more after this.
    pub never_after: NeverAfter,
    /// Reason phrases that mean "slower": the trunk is let rest, and the same carrier is not tried
    /// elsewhere.
    pub throttle: Vec<Pattern>,
    /// A Retry-After is obeyed.
    pub honour_retry_after: bool,
    /// Most gateways of the trunk tried for one call.
    pub attempts_max: usize,
}

impl Failover {
    /// Whether a carrier says by this reason phrase that it wants fewer calls.
    #[must_use]
    pub fn is_throttling(&self, phrase: &str) -> bool {
        self.throttle.iter().any(|pattern| pattern.0.is_match(phrase))
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            on_codes: vec![500, 502, 503, 504, 513],
            on_timeout: true,
            on_transport_error: true,
            never_after: NeverAfter::Ringing,
            throttle: Vec::new(),
            honour_retry_after: true,
            attempts_max: 3,
        }
    }
}

/// What ends failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeverAfter {
    /// Any response: the carrier has taken the call.
    Trying,
    /// 180 to 189: somebody's telephone rang.
    Ringing,
    /// Early media.
    EarlyMedia,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One gateway, until the first response, even a 100. Zero: as long as the protocol waits.
    pub no_reply: Duration,
    /// All gateways of the trunk together, until it rings. Zero: no limit.
    pub setup: Duration,
}

/// As long as a trunk without a limit waits until it rings: a week, the longest limit that one may have.
const SETUP_MAX: Duration = Duration::from_secs(604_800);

impl Patience {
    /// The longest that a call may take until it is answered, where it may ring for `ring`.
    #[must_use]
    pub fn until_answer(&self, ring: Duration) -> Duration {
        let setup = if self.setup.is_zero() { SETUP_MAX } else { self.setup };
        setup.saturating_add(ring)
    }
}

/// What becomes of redirections (3xx).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where a call may be sent.
    pub policy: RedirectPolicy,
    /// How often in one call.
    pub max: u8,
}

/// Where a redirection may send a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPolicy {
    /// Nowhere: it is refused.
    Reject,
    /// To another number by the same gateway, if that number may be called.
    SameGateway,
    /// To another number by any gateway of the same trunk, the one the Contact names, if that number
    /// may be called.
    OwnGateways,
}

/// How many calls out a trunk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundLimits {
    /// Most calls out at once; 0 is no limit.
    pub calls_max: u32,
    /// Most new calls out per second; 0 is no limit.
    pub cps_max: u32,
    /// How long a call may wait for its turn; zero: it is refused instead.
    pub queue: Duration,
    /// Most new calls per second to one address of the carrier; 0 is no limit.
    pub cps_per_address: u32,
}

/// What calls cost, and how much of it is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Most new calls per minute to one number, of one tenant; 0 is no limit.
    pub per_destination_min: u32,
    /// The share of calls shorter than the carrier likes, in percent, above which an alarm is raised;
    /// 0 is never.
    pub short_calls_pct: u8,
    /// Minutes a day; 0 is no limit.
    pub daily_minutes: u32,
    /// Money a day; 0 is no limit.
    pub daily_spend: Micros,
    /// The currency of it.
    pub currency: String,
    /// The price of a minute. With a limit of money, a number without a price is not called.
    pub rates: Vec<Rate>,
}

/// What the law wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compliance {
    /// When it calls out.
    pub hours: Option<CallingHours>,
    /// The time zone of days and hours.
    pub zone: TimeZone,
    /// What kind of call it may carry.
    pub class: CallClass,
}

/// A part of the day; one that ends before it begins spans midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallingHours {
    /// From this time on.
    pub from: Time,
    /// Until before this.
    pub to: Time,
}

impl CallingHours {
    /// Whether `time` is within.
    #[must_use]
    pub fn contain(&self, time: Time) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }
}

/// What kind of call a trunk may carry (India, TCCCPR 2018): the caller ID tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallClass {
    /// Any.
    Any,
    /// Service and transactional calls: callers of the 160 series.
    Service,
    /// Promotional calls: callers of the 140 series.
    Promotional,
}

impl CallClass {
    /// Whether `caller` is of the series.
    #[must_use]
    pub fn permits(self, caller: E164) -> bool {
        match self {
            Self::Any => true,
            Self::Service => caller.as_str().starts_with("+91160"),
            Self::Promotional => caller.as_str().starts_with("+91140"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calling_hours_may_span_midnight() {
        let time = |hour| Time::new(hour, 0, 0, 0).unwrap();
        let day = CallingHours { from: time(9), to: time(21) };
        assert_eq!([8, 9, 20, 21].map(|hour| day.contain(time(hour))), [false, true, true, false]);
        let night = CallingHours { from: time(21), to: time(9) };
        assert_eq!(
            [8, 9, 20, 21].map(|hour| night.contain(time(hour))),
            [true, false, false, true]
        );
    }

    #[test]
    fn a_class_of_calls_is_told_by_the_series_of_its_caller() {
        let caller = |text: &str| text.parse::<E164>().unwrap();
        assert!(CallClass::Service.permits(caller("+911600112345")));
        assert!(!CallClass::Service.permits(caller("+911400112345")));
        assert!(CallClass::Promotional.permits(caller("+911401234567")));
        assert!(!CallClass::Promotional.permits(caller("+918068167000")));
        assert!(CallClass::Any.permits(caller("+15550100")));
    }
}
