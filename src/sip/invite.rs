//! The INVITE usage of a dialog: early, confirmed, re-INVITE and UPDATE, wait for the ACK, session
//! timer. What it decides, it decides without messages in hand or sockets; the endpoint acts.

use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Account;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::digest::client::Credentials;
use crate::sip::endpoint::config::Timers;
use crate::sip::endpoint::event::Body;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::endpoint::timers::Armed;
use crate::sip::endpoint::told::Furthest;
use crate::sip::locate::NextHop;
use crate::sip::message::Request;
use crate::sip::message::field::FieldValue;
use crate::sip::message::field::HeaderField;
use crate::sip::message::method::Method;
use crate::sip::message::uri::Uri;
use crate::sip::session_timer::Session;
use crate::sip::session_timer::SessionAsk;
use crate::sip::transaction::key::Tag;
use crate::sip::transaction::timer::Length;
use crate::types::cause::HangupCause;
use crate::types::peer_reason::PeerReason;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One INVITE usage, from the INVITE to the end of its dialog. What few have, or none for long, lies beside it.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) state: State,
    /// Our tag, the same in every response.
    pub(crate) tag: Tag,
    /// The way to the peer.
    pub(crate) flow: Flow,
    /// The way to it once `flow`, a connection, is gone.
    pub(crate) way_back: Option<Box<Flow>>,
    /// Where a search found its next hop last.
    pub(crate) located: Option<Box<(NextHop, Flow)>>,
    /// Value of our Contact.
    pub(crate) contact: Bytes,
    /// How the dialog behaves.
    pub(crate) policy: DialogPolicy,
    /// RSeq of a reliable provisional response of ours whose PRACK the 2xx overtook.
    pub(crate) overtaken: Option<u32>,
    /// A 2xx of ours that waits for its ACK.
    pub(crate) ack_wait: Option<Box<AckWait>>,
    /// A 2xx to our INVITE that the call has not acknowledged yet.
    pub(crate) unacknowledged: Option<Unacknowledged>,
    /// A re-INVITE or UPDATE of the peer's that waits for the call.
    pub(crate) asked: Option<Asked>,
    /// A re-INVITE or refresh of ours that waits for the peer.
    pub(crate) asking: Option<Box<Asking>>,
    /// INFOs of ours: the first is on its way, the others wait for its answer.
    pub(crate) infos: VecDeque<Info>,
    /// A REFER of ours, as long as its outcome is not known.
    pub(crate) referring: Option<Box<Referring>>,
    /// A REFER of the peer's, as long as it wants to know the outcome.
    pub(crate) referred: Option<Referral>,
    /// The running session timer.
    pub(crate) session: Option<Session>,
    /// A hang-up that has to wait.
    pub(crate) ending: Option<HangupCause>,
    /// What our BYE gives for its reason in place of that, from another peer's.
    pub(crate) reason: Option<Box<PeerReason>>,
    /// The call knows that it is over; what is left is to have our BYE answered.
    pub(crate) is_told: bool,
    /// The session description we sent last.
    pub(crate) description: Bytes,
    /// The peer's Allow names UPDATE.
    pub(crate) peer_allows_update: bool,
    /// Answers the peer's challenges; in a call of the peer's not before it has acknowledged our answer.
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
    /// Where it came from.
    pub(crate) source: SocketAddr,
    pub(crate) dialog: Dialog,
    /// The last provisional response above 100.
    pub(crate) progress: Option<(u16, Option<Bytes>)>,
    /// Numbers our reliable provisional responses.
    pub(crate) rseq: u32,
    /// A reliable provisional response that waits for its PRACK.
    pub(crate) reliable: Option<ReliableWait>,
    /// What has to wait until that PRACK came.
    pub(crate) held: Held,
    /// Offer and answer are through in reliable provisional responses, so UPDATE may offer anew.
    pub(crate) is_settled: bool,
    /// With what challenges are answered once the peer has acknowledged our answer.
    pub(crate) accounts: Option<Arc<[Account]>>,
}

impl Incoming {
    /// An INVITE that has just come; its first reliable response gets the number after `rseq`.
    pub(crate) fn new(
        transaction: u64,
        (request, source): (Arc<Request>, SocketAddr),
        dialog: Dialog,
        rseq: u64,
    ) -> Self {
        Self {
            transaction,
            request,
            source,
            dialog,
            progress: None,
            rseq: u32::try_from(rseq).unwrap_or(0),
            reliable: None,
            held: Held::default(),
            is_settled: false,
            accounts: None,
        }
    }
}

/// A reliable provisional response that waits for its PRACK (RFC 3262 §3).
#[derive(Debug)]
pub(crate) struct ReliableWait {
    pub(crate) rseq: u32,
    pub(crate) bytes: Bytes,
    pub(crate) resends: u8,
    /// It has a session description, so a 2xx has to wait for its PRACK.
    pub(crate) has_body: bool,
}

/// What the call wants said while a reliable provisional response waits for its PRACK: only the last
/// word counts.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The next provisional response.
    pub(crate) progress: Option<(u16, Option<Bytes>)>,
    /// The session description of the 2xx.
    pub(crate) accept: Option<Bytes>,
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
    /// What is asked of the session timer.
    pub(crate) session: SessionAsk,
    /// How often 422 was answered.
    pub(crate) refused_intervals: u8,
    /// The early dialogs, one for each party that answered; the place of one is its `Fork`.
    pub(crate) early: Vec<Early>,
    /// How far the call has come.
    pub(crate) furthest: Furthest,
    /// A provisional response came, so a CANCEL may be sent (RFC 3261 §9.1).
    pub(crate) is_proceeding: bool,
    pub(crate) is_cancelled: bool,
    /// It rang for too long; nobody asked for the CANCEL.
    pub(crate) gave_up: bool,
}

/// An early dialog of our INVITE: one of the parties it reached.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) dialog: Dialog,
    /// Number of its last reliable provisional response.
    pub(crate) rseq: Option<u32>,
    /// Our offer is answered reliably, so UPDATE may offer anew.
    pub(crate) is_settled: bool,
    /// The last session description of its provisional responses: its 2xx may repeat none. Or of an offer of its own.
    pub(crate) body: Option<Body>,
    /// It offered anew and was answered: that is its session, and no response to our INVITE describes it any more.
    pub(crate) is_moved: bool,
}

impl Calling {
    /// The early dialog with this tag of the peer's.
    pub(crate) fn early_of(&mut self, remote_tag: &[u8]) -> Option<&mut Early> {
        self.early.iter_mut().find(|early| early.dialog.remote_tag() == remote_tag)
    }
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
    /// With what challenges are answered from the ACK on.
    pub(crate) accounts: Option<Arc<[Account]>>,
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

/// An INFO of ours.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) content_type: FieldValue,
    pub(crate) body: Bytes,
}

/// A REFER of ours and the subscription it makes (RFC 3515 §2.4).
#[derive(Clone, Debug)]
pub(crate) struct Referring {
    /// What Refer-To and Referred-By say, and headers of the call's.
    pub(crate) refer_to: String,
    pub(crate) referred_by: Option<String>,
    pub(crate) headers: Vec<HeaderField>,
    /// Its CSeq number, which is the `id` of its NOTIFYs.
    pub(crate) cseq: u32,
    /// A 2xx came.
    pub(crate) is_accepted: bool,
}

/// A REFER of the peer's.
#[derive(Clone, Debug)]
pub(crate) struct Referral {
    /// Its CSeq number, which is the `id` of our NOTIFYs.
    pub(crate) cseq: u32,
    /// The REFER, until it is answered.
    pub(crate) unanswered: Option<(u64, Arc<Request>)>,
    /// News that wait for the NOTIFY before them to be answered; only the last counts.
    pub(crate) next: Option<u16>,
    /// What the NOTIFY on its way says.
    pub(crate) telling: Option<u16>,
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
    /// Min-SE that a 422 demanded, in seconds.
    pub(crate) least_s: u32,
}

impl Asking {
    pub(crate) const fn new(why: Why, body: Bytes) -> Self {
        let credentials = Vec::new();
        Self { why, body, collisions: 0, transaction: None, credentials, least_s: 0 }
    }

    pub(crate) const fn method(&self) -> Method {
        match self.why {
            Why::Call | Why::RefreshByInvite => Method::Invite,
            Why::CallByUpdate | Why::RefreshByUpdate => Method::Update,
        }
    }
}

/// Why we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The call wants it, by re-INVITE.
    Call,
    /// The call wants it, by UPDATE.
    CallByUpdate,
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
    /// Nothing at all was heard of a call of ours.
    Silence,
    /// The reliable provisional response is sent again (RFC 3262 §3).
    Reliable,
    /// No PRACK came.
    Prack,
    /// The peer tells nothing more about our REFER.
    Refer,
    /// The call tells nothing more about the peer's REFER.
    Referral,
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
    silence: Option<Armed>,
    reliable: Option<Armed>,
    prack: Option<Armed>,
    refer: Option<Armed>,
    referral: Option<Armed>,
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
            UsageTimer::Silence => &mut self.silence,
            UsageTimer::Reliable => &mut self.reliable,
            UsageTimer::Prack => &mut self.prack,
            UsageTimer::Refer => &mut self.refer,
            UsageTimer::Referral => &mut self.referral,
        }
    }

    pub(crate) const ALL: [UsageTimer; 11] = [
        UsageTimer::Answer,
        UsageTimer::Ack,
        UsageTimer::Session,
        UsageTimer::Ringing,
        UsageTimer::Patience,
        UsageTimer::Collision,
        UsageTimer::Silence,
        UsageTimer::Reliable,
        UsageTimer::Prack,
        UsageTimer::Refer,
        UsageTimer::Referral,
    ];
}

impl Usage {
    /// A usage that has just begun.
    pub(crate) fn new(
        state: State,
        (tag, flow): (Tag, Flow),
        contact: Bytes,
        policy: DialogPolicy,
    ) -> Self {
        Self {
            state,
            tag,
            flow,
            way_back: None,
            located: None,
            contact,
            policy,
            overtaken: None,
            ack_wait: None,
            unacknowledged: None,
            asked: None,
            asking: None,
            infos: VecDeque::new(),
            referring: None,
            referred: None,
            session: None,
            ending: None,
            reason: None,
            is_told: false,
            description: Bytes::new(),
            peer_allows_update: false,
            digest: None,
            timers: Places::default(),
        }
    }

    /// Call-ID.
    pub(crate) const fn call_id(&self) -> &Bytes {
        match &self.state {
            State::Incoming(incoming) => incoming.dialog.call_id(),
            State::Calling(calling) => &calling.call_id,
            State::Confirmed(dialog) | State::Leaving(dialog) => dialog.call_id(),
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

    /// The dialog that a request of the peer's with this From-tag is of, early ones included.
    pub(crate) fn dialog_with(&mut self, remote_tag: &[u8]) -> Option<&mut Dialog> {
        match &mut self.state {
            State::Calling(calling) => calling.early_of(remote_tag).map(|early| &mut early.dialog),
            State::Incoming(incoming) => Some(&mut incoming.dialog),
            State::Confirmed(dialog) | State::Leaving(dialog) => Some(dialog),
        }
    }

    /// Why the call is to end as soon as the peer acknowledged our answer, where it is.
    pub(crate) fn hang_up_held(&self) -> Option<HangupCause> {
        let is_confirmed = matches!(self.state, State::Confirmed(_));
        let waits = self.ack_wait.as_ref().is_some_and(|wait| wait.is_first);
        self.ending.filter(|_| is_confirmed && waits)
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
            State::Incoming(_) | State::Calling(_) | State::Confirmed(_)
                if self.asked.is_some() =>
            {
                Err(Collision::Theirs)
            }
            State::Incoming(incoming) if incoming.is_settled => Ok(()),
            State::Incoming(_) => Err(Collision::Theirs),
            // Nobody would answer it: the call has let go of it.
            State::Calling(_) if self.ending.is_some() => Err(Collision::Gone),
            // One party alone, whose answer came reliably: of several none has the session yet.
            State::Calling(calling) => match calling.early.as_slice() {
                [early] if early.is_settled => Ok(()),
                _ => Err(Collision::Ours),
            },
            State::Leaving(_) => Err(Collision::Gone),
            State::Confirmed(_) if self.is_asking() => Err(Collision::Ours),
            // RFC 3311 §5.2: our offer in the 2xx has no answer yet.
            State::Confirmed(_) if self.ack_wait.as_ref().is_some_and(|wait| wait.has_offer) => {
                Err(Collision::Ours)
            }
            State::Confirmed(_) => Ok(()),
        }
    }

    /// True while a re-INVITE or UPDATE of ours is unanswered; one that waits after 491 is over for the peer.
    fn is_asking(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.transaction.is_some())
    }

    /// True while a re-INVITE of ours is unanswered.
    fn is_inviting(&self) -> bool {
        self.asking
            .as_ref()
            .is_some_and(|asking| asking.transaction.is_some() && asking.method() == Method::Invite)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_stays_small() {
        assert!(size_of::<Usage>() <= 584, "{}", size_of::<Usage>());
    }
}
