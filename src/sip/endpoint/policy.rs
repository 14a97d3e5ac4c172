//! How dialogs behave: session timer, reliable provisional responses, which methods are taken.

use super::event::Refusal;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::sip::session_timer::SessionAnswer;
use crate::types::cause::HangupCause;
use crate::types::transport::DatagramRule;

/// How one dialog behaves.
///
/// Calls of ours bring theirs with them. A call of a peer's begins with the endpoint's; once its trunk
/// is known, [`DialogPolicy::refusal`] says whether the INVITE can be taken under the trunk's policy and
/// `Command::Adopt` puts that in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialogPolicy {
    /// Session timer (RFC 4028).
    pub session: SessionTimerPolicy,
    /// Reliable provisional responses (RFC 3262).
    pub reliable: Reliable,
    /// UPDATE is taken and announced (RFC 3311).
    pub takes_update: bool,
    /// A REFER of the peer's is told by `Event::Referred`; else it is answered 603.
    pub takes_refer: bool,
    /// Which of our requests are too long for UDP.
    pub datagrams: DatagramRule,
}

impl Default for DialogPolicy {
    fn default() -> Self {
        Self {
            session: SessionTimerPolicy::default(),
            reliable: Reliable::Supported,
            takes_update: true,
            takes_refer: false,
            datagrams: DatagramRule::default(),
        }
    }
}

impl DialogPolicy {
    /// Why an INVITE with these headers cannot be taken under this policy: 420, 421 or 422.
    #[must_use]
    pub fn refusal(&self, headers: &Headers) -> Option<Refusal> {
        let supported = headers.tokens(HeaderName::Supported);
        let required = headers.tokens(HeaderName::Require);
        let can = |tag| supported.has(tag) || required.has(tag);
        let refusal = |status, name: &'static str, value: String| Refusal {
            status,
            cause: HangupCause::Policy,
            retry_after_s: None,
            headers: vec![(name.into(), value.into_bytes())],
            is_passed_on: false,
        };
        if self.reliable == Reliable::Off && required.has(RELIABLE) {
            return Some(refusal(420, "Unsupported", RELIABLE.to_owned()));
        }
        if self.reliable == Reliable::Required && !can(RELIABLE) {
            return Some(refusal(421, "Require", RELIABLE.to_owned()));
        }
        if self.session.mode == SessionTimerMode::Require && !can(TIMER) {
            return Some(refusal(421, "Require", TIMER.to_owned()));
        }
        match SessionAnswer::to(headers, self.session, None) {
            SessionAnswer::TooShort => {
                Some(refusal(422, "Min-SE", self.session.min_se_s.to_string()))
            }
            SessionAnswer::None | SessionAnswer::Run(_) => None,
        }
    }
}

/// The option tag of RFC 3262.
pub(crate) const RELIABLE: &str = "100rel";
/// The option tag of RFC 4028.
pub(crate) const TIMER: &str = "timer";
/// The option tag of RFC 3891.
pub(crate) const REPLACES: &str = "replaces";

/// Whether provisional responses are sent reliably (RFC 3262).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliable {
    /// Not supported. A reliable one that comes all the same is acknowledged by PRACK.
    Off,
    /// When the peer requires it.
    #[default]
    Supported,
    /// Always: we require it of the peer.
    Required,
}

/// Who asks for a session timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionTimerMode {
    /// None runs. Refreshes of the peer's are answered all the same.
    Off,
    /// One runs when the peer asks for it.
    #[default]
    Accept,
    /// We ask for it; a peer without it is fine.
    Offer,
    /// We ask for it, and take no call without it.
    Require,
}

/// Who should refresh, where we may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefresherChoice {
    /// Whoever the other side would have; we, where it says nothing and we asked for the timer.
    #[default]
    Auto,
    /// We.
    Local,
    /// The peer, where it can.
    Remote,
}

/// How we refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshMethod {
    /// UPDATE where the peer allows it, else re-INVITE.
    #[default]
    Auto,
    /// UPDATE; re-INVITE only after it was refused 405 or 501.
    Update,
    /// Re-INVITE.
    Invite,
}

/// How session timers (RFC 4028) are asked for and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimerPolicy {
    /// Who asks.
    pub mode: SessionTimerMode,
    /// The session interval we ask for, in seconds.
    pub expires_s: u32,
    /// Shortest session interval accepted, in seconds; a shorter one gets 422 with this as Min-SE,
    /// where the peer supports `timer`.
    pub min_se_s: u32,
    /// Who refreshes.
    pub refresher: RefresherChoice,
    /// How.
    pub method: RefreshMethod,
    /// 422 only to a peer that supports `timer`. False: to every peer that asks for too little, which
    /// breaks calls through carriers that pass on a Session-Expires nobody honours.
    pub spares_old_peers: bool,
}

impl Default for SessionTimerPolicy {
    fn default() -> Self {
        Self {
            mode: SessionTimerMode::Accept,
            expires_s: 1_800,
            min_se_s: 90,
            refresher: RefresherChoice::Auto,
            method: RefreshMethod::Auto,
            spares_old_peers: true,
        }
    }
}
