//! What is decided about session timers (RFC 4028): who asks, who refreshes, when a session expires.

use crate::sip::endpoint::policy;
use crate::sip::endpoint::policy::RefresherChoice;
use crate::sip::endpoint::policy::SessionTimerMode;
use crate::sip::endpoint::policy::SessionTimerPolicy;
use crate::sip::message::header::session_expires::Refresher;
use crate::sip::message::header::session_expires::SessionExpires;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::types::moment::Moment;
use std::time::Duration;

/// A running session timer (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The session interval, in seconds.
    pub(crate) interval_s: u32,
    /// We refresh; else the peer does.
    pub(crate) is_ours: bool,
    /// The refresh of this interval was sent; what is armed is the expiry.
    pub(crate) is_refreshed: bool,
    /// How often the refresh of this interval was refused.
    pub(crate) refusals: u8,
    /// When we give up, once it runs.
    pub(crate) ends: Moment,
}

impl Session {
    /// What follows from the Session-Expires of a 2xx; `is_uac` when the request was ours.
    pub(crate) fn agreed(agreed: SessionExpires, is_uac: bool) -> Self {
        let ours = if is_uac { Refresher::Uac } else { Refresher::Uas };
        // RFC 4028 §7.2: without the parameter the sender of the request refreshes.
        let is_ours = agreed.refresher.unwrap_or(Refresher::Uac) == ours;
        // An interval of nothing would end the call at once; RFC 4028 §5 allows none below 90 s.
        let interval_s = agreed.interval_s.max(SHORTEST_S);
        let ends = Moment::START;
        Self { interval_s, is_ours, is_refreshed: false, refusals: 0, ends }
    }

    /// The refresher as it is written in a request of ours (`is_uac`) or of the peer's.
    pub(crate) const fn refresher(&self, is_uac: bool) -> Refresher {
        if self.is_ours == is_uac { Refresher::Uac } else { Refresher::Uas }
    }

    /// How long from the last refresh until something is to be done: half the interval until we
    /// refresh, and min(32 s, a third) before its end until we give up (RFC 4028 §10).
    pub(crate) fn wait(&self) -> Duration {
        let interval = Duration::from_secs(self.interval_s.into());
        if self.is_ours && !self.is_refreshed { interval / 2 } else { self.expiry() }
    }

    fn expiry(&self) -> Duration {
        let interval = Duration::from_secs(self.interval_s.into());
        interval - (interval / 3).min(Duration::from_secs(32))
    }

    /// It runs from now on.
    pub(crate) fn begin(&mut self, now: Moment) {
        self.ends = now + self.expiry();
    }

    /// How long a refresh waits that was refused with this status; `None`: it is not tried again before the
    /// end. A refusal says when (RFC 3261 §20.33), or that the peer has a trouble of its own, which may pass;
    /// the same request is not sent again and again (RFC 4028 §10).
    pub(crate) fn again_after(
        &mut self,
        now: Moment,
        (status, retry_after): (u16, Option<Duration>),
    ) -> Option<Duration> {
        let may_pass = matches!(status, 408 | 480 | 486 | 500 | 502 | 503 | 504 | 600);
        let usual = AGAIN_AFTER.saturating_mul(1_u32 << self.refusals.min(AGAIN_DOUBLED_MAX));
        let wait = retry_after.or(may_pass.then_some(usual))?.max(AGAIN_AFTER_LEAST);
        self.refusals = self.refusals.saturating_add(1);
        (now + wait < self.ends).then_some(wait)
    }
}

/// How long a refused refresh waits where the refusal says nothing; twice as long after each one.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Beyond any interval.
const AGAIN_DOUBLED_MAX: u8 = 16;
/// The shortest wait, whatever a refusal says.
const AGAIN_AFTER_LEAST: Duration = Duration::from_secs(2);

/// The shortest interval that is ever run, in seconds.
const SHORTEST_S: u32 = 90;

/// How an offered session timer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAnswer {
    /// No timer runs.
    None,
    /// 422 with Min-SE.
    TooShort,
    /// This goes into the 2xx.
    Run(SessionExpires),
}

impl SessionAnswer {
    /// The answer to a request with these headers, while `running` is in force.
    ///
    /// A peer that does not support `timer` is not refused and not relied on: some carriers pass on a
    /// Session-Expires that nobody on the way will honour, and a 422 breaks their calls.
    pub(crate) fn to(
        headers: &Headers,
        policy: SessionTimerPolicy,
        running: Option<Session>,
    ) -> Self {
        if policy.mode == SessionTimerMode::Off {
            return Self::None;
        }
        let has = |name| headers.tokens(name).has(policy::TIMER);
        let is_able = has(HeaderName::Supported) || has(HeaderName::Require);
        let offered = headers.session_expires().ok().flatten();
        if let Some(offered) = offered
            && offered.interval_s < policy.min_se_s
            && (is_able || !policy.spares_old_peers)
        {
            return Self::TooShort;
        }
        let least_s = headers.min_se().ok().flatten().map_or(SHORTEST_S, |it| it.interval_s);
        let wanted_s = policy.expires_s.max(least_s).max(SHORTEST_S);
        match (offered, policy.asks()) {
            (Some(offered), false) if is_able => {
                Self::Run(agree(offered, offered.interval_s, (policy, running)))
            }
            (Some(offered), true) if is_able => {
                let interval_s = offered.interval_s.min(wanted_s);
                Self::Run(agree(offered, interval_s, (policy, running)))
            }
            (None, true) if is_able => {
                let refresher = match policy.refresher {
                    RefresherChoice::Remote => Refresher::Uac,
                    RefresherChoice::Auto | RefresherChoice::Local => Refresher::Uas,
                };
                let refresher = running.map_or(refresher, |it| it.refresher(false));
                Self::Run(SessionExpires { interval_s: wanted_s, refresher: Some(refresher) })
            }
            // RFC 4028 §9: with a peer that cannot, only we can refresh.
            (offered, true) => {
                let interval_s = offered.map_or(wanted_s, |it| it.interval_s.min(wanted_s));
                let refresher = Some(Refresher::Uas);
                Self::Run(SessionExpires { interval_s: interval_s.max(SHORTEST_S), refresher })
            }
            (_, false) => Self::None,
        }
    }
}

/// The answer to an offered timer: the peer's choice of refresher counts, then the role it has, then
/// ours.
fn agree(
    offered: SessionExpires,
    interval_s: u32,
    (policy, running): (SessionTimerPolicy, Option<Session>),
) -> SessionExpires {
    let choice = match policy.refresher {
        RefresherChoice::Local => Refresher::Uas,
        RefresherChoice::Auto | RefresherChoice::Remote => Refresher::Uac,
    };
    let choice = running.map_or(choice, |it| it.refresher(false));
    SessionExpires { interval_s, refresher: Some(offered.refresher.unwrap_or(choice)) }
}

impl SessionTimerPolicy {
    /// True when we ask for a timer.
    const fn asks(self) -> bool {
        match self.mode {
            SessionTimerMode::Off | SessionTimerMode::Accept => false,
            SessionTimerMode::Offer | SessionTimerMode::Require => true,
        }
    }
}

/// What an INVITE of ours asks of the session timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionAsk {
    /// Session-Expires, in seconds; `None`: not asked for.
    pub(crate) interval_s: Option<u32>,
    /// Min-SE, in seconds.
    pub(crate) min_se_s: u32,
}

impl SessionAsk {
    pub(crate) fn new(policy: SessionTimerPolicy) -> Self {
        let min_se_s = policy.min_se_s.max(SHORTEST_S);
        let interval_s = policy.asks().then_some(policy.expires_s.max(min_se_s));
        Self { interval_s, min_se_s }
    }

    /// Asks for at least `least_s`, as a 422 says; `false` when that is no reason to try again.
    pub(crate) fn raise(&mut self, least_s: u32) -> bool {
        if least_s > INTERVAL_S_MAX || self.interval_s.is_some_and(|own| own >= least_s) {
            return false;
        }
        self.min_se_s = self.min_se_s.max(least_s);
        self.interval_s = Some(least_s.max(self.min_se_s));
        true
    }
}

/// The longest interval a peer can make us ask for, in seconds: a day.
const INTERVAL_S_MAX: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;
    use bytes::Bytes;

    fn answer(lines: &str) -> SessionAnswer {
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@y>;tag=f\r\n\
             To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        let message: Message = parse(Bytes::from(text)).unwrap();
        SessionAnswer::to(message.headers(), SessionTimerPolicy::default(), None)
    }

    #[test]
    fn the_uas_never_raises_session_expires() {
        let run = |interval_s, refresher| {
            SessionAnswer::Run(SessionExpires { interval_s, refresher: Some(refresher) })
        };
        let supported = "Supported: 100rel, timer\r\n";
        let offered = format!("{supported}Session-Expires: 600\r\n");
        assert_eq!(answer(&offered), run(600, Refresher::Uac));
        let offered = format!("{supported}x: 90;refresher=uas\r\n");
        assert_eq!(answer(&offered), run(90, Refresher::Uas));
        assert_eq!(answer(supported), SessionAnswer::None);
    }

    #[test]
    fn only_a_peer_that_supports_timer_gets_422() {
        let short = "Session-Expires: 30\r\n";
        assert_eq!(answer(&format!("Supported: timer\r\n{short}")), SessionAnswer::TooShort);
        assert_eq!(answer(short), SessionAnswer::None);
    }

    #[test]
    fn a_session_ends_32_s_or_a_third_before_its_interval() {
        let session = |interval_s, is_ours, is_refreshed| Session {
            interval_s,
            is_ours,
            is_refreshed,
            refusals: 0,
            ends: Moment::START,
        };
        let check = |session: Session, seconds| {
            assert_eq!(session.wait(), Duration::from_secs(seconds), "{session:?}");
        };
        check(session(1800, true, false), 900);
        check(session(1800, false, false), 1768);
        check(session(90, false, false), 60);
        check(session(90, true, false), 45);
        let mut begun = session(1800, true, true);
        begun.begin(Moment::START + Duration::from_secs(5));
        assert_eq!(begun.ends, Moment::START + Duration::from_secs(1773));
    }

    #[test]
    fn roles_follow_from_the_agreed_refresher() {
        let agreed = |refresher| SessionExpires { interval_s: 1800, refresher };
        assert!(Session::agreed(agreed(Some(Refresher::Uas)), false).is_ours);
        assert!(!Session::agreed(agreed(None), false).is_ours);
        assert!(Session::agreed(agreed(None), true).is_ours);
        let nothing = SessionExpires { interval_s: 0, refresher: None };
        assert_eq!(Session::agreed(nothing, true).interval_s, SHORTEST_S);
    }
}
