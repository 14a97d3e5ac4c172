//! The INVITE usage of a dialog: early, confirmed, re-INVITE and UPDATE, wait for the ACK, session
//! timer. What it decides, it decides without messages in hand or sockets; the endpoint acts.

use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::digest::client::Credentials;
use crate::sip::endpoint::config::SessionTimerPolicy;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::event::OutboundInvite;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::timers::Armed;
use crate::sip::message::Request;
use crate::sip::message::header::session_expires::Refresher;
use crate::sip::message::header::session_expires::SessionExpires;
use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::sip::transaction::key::Tag;
use crate::sip::transaction::timer::Length;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One INVITE usage, from the INVITE to the end of its dialog.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) state: State,
    /// Our tag, the same in every response.
    pub(crate) tag: Tag,
    /// The way to the peer.
    pub(crate) flow: Flow,
    /// Value of our Contact.
    pub(crate) contact: Bytes,
    /// A 2xx of ours that waits for its ACK.
    pub(crate) ack_wait: Option<AckWait>,
    /// A 2xx to our INVITE that the call has not acknowledged yet.
    pub(crate) unacknowledged: Option<Unacknowledged>,
    /// A re-INVITE or UPDATE of the peer's that waits for the call.
    pub(crate) asked: Option<Asked>,
    /// A re-INVITE or refresh of ours that waits for the peer.
    pub(crate) asking: Option<Asking>,
    /// The running session timer.
    pub(crate) session: Option<Session>,
    /// A hang-up that has to wait.
    pub(crate) ending: Option<HangupCause>,
    /// The session description we sent last.
    pub(crate) description: Bytes,
    /// The peer's Allow names UPDATE.
    pub(crate) peer_allows_update: bool,
    pub(crate) digest: Option<Box<DigestClient>>,
    pub(crate) timers: Places,
}

/// Where a usage stands.
#[derive(Debug)]
pub(crate) enum State {
    /// The peer's INVITE has no final response yet.
    Incoming(Box<Incoming>),
    /// Our INVITE has no final response yet.
    Calling(Box<Calling>),
    /// A 2xx was sent or came.
    Confirmed(Box<Dialog>),
    /// Our BYE is on its way.
    Leaving(Box<Dialog>),
}

/// The peer's unanswered INVITE.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) transaction: u64,
    pub(crate) request: Arc<Request>,
    pub(crate) dialog: Dialog,
    /// The last provisional response above 100.
    pub(crate) progress: Option<(u16, Option<Bytes>)>,
}

/// Our unanswered INVITE.
#[derive(Debug)]
pub(crate) struct Calling {
    pub(crate) transaction: u64,
    pub(crate) invite: OutboundInvite,
    pub(crate) uri: Uri,
    pub(crate) call_id: Bytes,
    /// Our From without the tag.
    pub(crate) from: Bytes,
    pub(crate) cseq: u32,
    /// Sent with the INVITE, and again with its ACK (RFC 3261 §22.1).
    pub(crate) credentials: Vec<Credentials>,
    /// A provisional response came, so a CANCEL may be sent (RFC 3261 §9.1).
    pub(crate) is_proceeding: bool,
    pub(crate) is_cancelled: bool,
    /// It rang for too long; nobody asked for the CANCEL.
    pub(crate) gave_up: bool,
}

/// A 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(crate) struct AckWait {
    pub(crate) cseq: u32,
    pub(crate) bytes: Bytes,
    pub(crate) flow: Flow,
    pub(crate) resends: u8,
    /// It answers the first INVITE, so no BYE may be sent before the ACK (RFC 3261 §15).
    pub(crate) is_first: bool,
    /// The ACK brings the answer to our offer.
    pub(crate) has_offer: bool,
}

impl AckWait {
    /// How long until the 2xx is sent again: T1 doubling to T2, on streams too, since a hop further
    /// on may be UDP.
    pub(crate) fn interval(&self, timers: Timers) -> Duration {
        Length::Capped(self.resends).of(timers)
    }
}

/// A 2xx to our INVITE that waits for the call's ACK.
#[derive(Debug)]
pub(crate) struct Unacknowledged {
    pub(crate) transaction: u64,
    pub(crate) cseq: u32,
    /// Those of the INVITE.
    pub(crate) credentials: Vec<Credentials>,
}

/// A re-INVITE or UPDATE that waits for the call's answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) transaction: u64,
    pub(crate) request: Arc<Request>,
}

/// A request of ours that may change or refresh the session.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) why: Why,
    /// Our session description; empty in an UPDATE that only refreshes.
    pub(crate) body: Bytes,
    /// How often 491 was answered.
    pub(crate) collisions: u8,
    /// The transaction that asks; `None` while it waits after 491.
    pub(crate) transaction: Option<u64>,
    /// Sent with the request, and again with its ACK.
    pub(crate) credentials: Vec<Credentials>,
}

impl Asking {
    pub(crate) const fn new(why: Why, body: Bytes) -> Self {
        Self { why, body, collisions: 0, transaction: None, credentials: Vec::new() }
    }

    pub(crate) const fn method(&self) -> Method {
        match self.why {
            Why::Call | Why::RefreshByInvite => Method::Invite,
            Why::RefreshByUpdate => Method::Update,
        }
    }
}

/// Why we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The call wants it.
    Call,
    /// The session timer wants it, by re-INVITE.
    RefreshByInvite,
    /// The session timer wants it, by UPDATE.
    RefreshByUpdate,
}

/// A timer of a usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageTimer {
    /// The 2xx is sent again.
    Answer,
    /// No ACK came.
    Ack,
    /// The session is to be refreshed, or has expired.
    Session,
    /// The provisional response is sent again (RFC 3261 §13.3.1.1).
    Ringing,
    /// A CANCEL has been waiting long enough, or a call is not answered for too long.
    Patience,
    /// The wait after 491 is over.
    Collision,
}

/// The armed timers of a usage.
#[derive(Debug, Default)]
pub(crate) struct Places {
    answer: Option<Armed>,
    ack: Option<Armed>,
    session: Option<Armed>,
    ringing: Option<Armed>,
    patience: Option<Armed>,
    collision: Option<Armed>,
}

impl Places {
    pub(crate) const fn place(&mut self, timer: UsageTimer) -> &mut Option<Armed> {
        match timer {
            UsageTimer::Answer => &mut self.answer,
            UsageTimer::Ack => &mut self.ack,
            UsageTimer::Session => &mut self.session,
            UsageTimer::Ringing => &mut self.ringing,
            UsageTimer::Patience => &mut self.patience,
            UsageTimer::Collision => &mut self.collision,
        }
    }

    pub(crate) const ALL: [UsageTimer; 6] = [
        UsageTimer::Answer,
        UsageTimer::Ack,
        UsageTimer::Session,
        UsageTimer::Ringing,
        UsageTimer::Patience,
        UsageTimer::Collision,
    ];
}

impl Usage {
    /// A usage that has just begun.
    pub(crate) fn new(state: State, tag: Tag, flow: Flow, contact: Bytes) -> Self {
        Self {
            state,
            tag,
            flow,
            contact,
            ack_wait: None,
            unacknowledged: None,
            asked: None,
            asking: None,
            session: None,
            ending: None,
            description: Bytes::new(),
            peer_allows_update: false,
            digest: None,
            timers: Places::default(),
        }
    }

    /// The dialog, once there is one.
    pub(crate) const fn dialog(&self) -> Option<&Dialog> {
        match &self.state {
            State::Incoming(incoming) => Some(&incoming.dialog),
            State::Calling(_) => None,
            State::Confirmed(dialog) | State::Leaving(dialog) => Some(dialog),
        }
    }

    /// The dialog, to be changed.
    pub(crate) const fn dialog_mut(&mut self) -> Option<&mut Dialog> {
        match &mut self.state {
            State::Incoming(incoming) => Some(&mut incoming.dialog),
            State::Calling(_) => None,
            State::Confirmed(dialog) | State::Leaving(dialog) => Some(dialog),
        }
    }

    /// Whether a re-INVITE of the peer's can be taken now.
    pub(crate) fn judge_reinvite(&self) -> Result<(), Collision> {
        let asked_by_invite =
            self.asked.as_ref().is_some_and(|asked| asked.request.method == Method::Invite);
        match &self.state {
            // RFC 3261 §14.2: the peer's first INVITE is unanswered.
            State::Incoming(_) => Err(Collision::Theirs),
            State::Calling(_) => Err(Collision::Ours),
            State::Leaving(_) => Err(Collision::Gone),
            State::Confirmed(_) if asked_by_invite => Err(Collision::Theirs),
            State::Confirmed(_) if self.asked.is_some() || self.is_inviting() => {
                Err(Collision::Ours)
            }
            // RFC 6337 §2.2: our offer in the 2xx has no answer yet.
            State::Confirmed(_) if self.ack_wait.as_ref().is_some_and(|wait| wait.has_offer) => {
                Err(Collision::Ours)
            }
            State::Confirmed(_) => Ok(()),
        }
    }

    /// Whether an UPDATE with an offer can be taken now (RFC 3311 §5.2).
    pub(crate) fn judge_update(&self) -> Result<(), Collision> {
        match &self.state {
            State::Incoming(_) => Err(Collision::Theirs),
            State::Calling(_) => Err(Collision::Ours),
            State::Leaving(_) => Err(Collision::Gone),
            State::Confirmed(_) if self.asked.is_some() => Err(Collision::Theirs),
            State::Confirmed(_) if self.asking.is_some() => Err(Collision::Ours),
            // RFC 3311 §5.2: our offer in the 2xx has no answer yet.
            State::Confirmed(_) if self.ack_wait.as_ref().is_some_and(|wait| wait.has_offer) => {
                Err(Collision::Ours)
            }
            State::Confirmed(_) => Ok(()),
        }
    }

    /// True while a re-INVITE of ours is unanswered.
    fn is_inviting(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| {
            asking.transaction.is_some() && asking.why != Why::RefreshByUpdate
        })
    }
}

/// Why a re-INVITE or UPDATE cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collision {
    /// Another one of the peer's is unanswered: 500 with Retry-After.
    Theirs,
    /// One of ours is unanswered: 491.
    Ours,
    /// The dialog is ending: 481.
    Gone,
}

/// A running session timer (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The session interval, in seconds.
    pub(crate) interval_s: u32,
    /// We refresh; else the peer does.
    pub(crate) is_ours: bool,
    /// The refresh of this interval was sent; what is armed is the expiry.
    pub(crate) is_refreshed: bool,
}

impl Session {
    /// What follows from the Session-Expires of a 2xx; `is_uac` when the request was ours.
    pub(crate) fn agreed(agreed: SessionExpires, is_uac: bool) -> Self {
        let ours = if is_uac { Refresher::Uac } else { Refresher::Uas };
        // RFC 4028 §7.2: without the parameter the sender of the request refreshes.
        let is_ours = agreed.refresher.unwrap_or(Refresher::Uac) == ours;
        // An interval of nothing would end the call at once; RFC 4028 §5 allows none below 90 s.
        let interval_s = agreed.interval_s.max(SHORTEST_S);
        Self { interval_s, is_ours, is_refreshed: false }
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

    /// How long from our refresh until we give up.
    pub(crate) fn rest(&self) -> Duration {
        let interval = Duration::from_secs(self.interval_s.into());
        self.expiry().saturating_sub(interval / 2)
    }
}

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
    /// The answer to a request with these headers.
    ///
    /// A peer that does not support `timer` gets none: some carriers pass on a Session-Expires that
    /// nobody on the way will honour, and a 422 breaks their calls.
    pub(crate) fn to(headers: &Headers, policy: SessionTimerPolicy) -> Self {
        if !headers.tokens(HeaderName::Supported).has("timer") {
            return Self::None;
        }
        let Ok(Some(offered)) = headers.session_expires() else { return Self::None };
        if offered.interval_s < policy.min_se_s {
            return Self::TooShort;
        }
        let refresher = Some(offered.refresher.unwrap_or(Refresher::Uac));
        Self::Run(SessionExpires { interval_s: offered.interval_s, refresher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;

    fn answer(lines: &str) -> SessionAnswer {
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@y>;tag=f\r\n\
             To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        let message: Message = parse(Bytes::from(text)).unwrap();
        SessionAnswer::to(message.headers(), SessionTimerPolicy::default())
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
        let session =
            |interval_s, is_ours, is_refreshed| Session { interval_s, is_ours, is_refreshed };
        let check = |session: Session, seconds| {
            assert_eq!(session.wait(), Duration::from_secs(seconds), "{session:?}");
        };
        check(session(1800, true, false), 900);
        check(session(1800, false, false), 1768);
        check(session(90, false, false), 60);
        check(session(90, true, false), 45);
        assert_eq!(session(1800, true, true).rest(), Duration::from_secs(868));
        assert_eq!(session(90, true, true).rest(), Duration::from_secs(15));
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
