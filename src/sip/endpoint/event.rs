//! What goes into an endpoint and what comes out of it.

use super::flow::Flow;
use super::flow::FlowId;
use super::outbound::OutboundInvite;
use super::outbound::OutboundRequest;
use super::outbound::Probe;
use super::policy::DialogPolicy;
use super::told::Declined;
use super::told::DialogName;
use super::told::Fork;
use super::told::ReferProgress;
use super::told::Referred;
use super::told::RefusalNote;
use super::told::RequestAnswer;
use super::told::Search;
use crate::sip::digest::client::Account;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::error::Malformed;
use crate::sip::message::field::FieldValue;
use crate::sip::message::field::HeaderField;
use crate::sip::message::header::replaces::Replaces;
use crate::sip::transaction::key::ClientKey;
use crate::types::cause::HangupCause;
use crate::types::peer_reason::PeerReason;
use crate::types::transport::Advertised;
use bytes::Bytes;
use std::borrow::Cow;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Names a dialog in its shard, from its INVITE to its end; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(pub u64);

/// Names what was asked for outside dialogs, chosen by who asks; the answer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What happened, or what the switch wants.
#[derive(Debug)]
pub enum Input {
    /// One message came: a datagram, or what the framer cut from a stream.
    Received {
        /// The way it came.
        flow: Flow,
        /// The whole message.
        message: Bytes,
    },
    /// One message came whose source has yet to prove that it hears us, since somebody there must authenticate: a new
    /// INVITE gets no 100 before `Command::Adopt` (RFC 3261 §8.2.7), and a longer answer without state is [`Output::Burden`].
    ReceivedUnproven {
        /// The way it came.
        flow: Flow,
        /// The whole message.
        message: Bytes,
    },
    /// A stream connection is gone.
    FlowClosed(FlowId),
    /// One of ours could not be opened.
    FlowFailed(FlowId),
    /// What was just sent by a flow that names no connection went by one.
    Led {
        /// That flow.
        by: Flow,
        /// The connection, which may not be open yet: what waits for an answer ends with it. `None`: there is no way.
        to: Option<FlowId>,
    },
    /// The network says that a request of ours did not reach `remote` (RFC 3261 §18.4).
    Unreached {
        /// Where it was sent.
        remote: SocketAddr,
        /// Its transaction.
        key: ClientKey,
    },
    /// What became of a search, where the endpoint still waits for it.
    Located {
        /// The number of the [`Search`].
        number: u64,
        /// A way there; `None`: there is none, and what waits goes where the peer was heard last.
        flow: Option<Flow>,
    },
    /// The switch wants something.
    Command(Command),
    /// The moment given by `deadline` has come.
    DeadlineReached,
}

/// What must be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Send a message.
    Transmit {
        /// The way to send it.
        flow: Flow,
        /// The whole message.
        bytes: Bytes,
    },
    /// The same of an answer that is longer than what came from who may be forged: not too many (RFC 3261 §26.3.2.4).
    Burden(Flow, Bytes),
    /// Find the way to a next hop: [`Input::Located`] tells. What waits for it goes on by itself after a while.
    Locate(Box<Search>),
    /// Tell the call.
    Event(Event),
    /// Count something that leaves no other trace.
    Counted(Counter),
}

/// Things counted, never logged one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A message that cannot be read; answered where enough of it was readable.
    Malformed(Malformed),
    /// An ACK that belongs to nothing.
    StrayAck,
    /// A response that belongs to nothing.
    StrayResponse,
    /// A CANCEL for a transaction unknown here; answered 481.
    StrayCancel,
    /// An in-dialog request for a dialog unknown here; answered 481.
    UnknownDialog,
    /// A repeated request or response, absorbed.
    RetransmissionAbsorbed,
    /// A message of ours sent again by a timer or because the peer asked again.
    RetransmissionSent,
    /// A request that reached us on two ways; answered 482.
    Merged,
    /// A request refused before any call saw it (405, 415, 416, 420, 483 ...).
    RefusedRequest,
    /// A new INVITE refused 503 because this shard is full.
    ShardFull,
    /// No ACK came for a final response of ours.
    AckTimeout,
    /// A BYE of ours was challenged and we have no answer: the peer may go on.
    ByeChallenged,
    /// A request of ours was never answered.
    RequestTimeout,
    /// A request of ours did not arrive, as the network says.
    RequestUnreached,
    /// A request of ours is too long for a datagram and may not go by a stream; it is not sent.
    RequestTooLong,
    /// A response could not be sent because its stream is gone.
    ResponseOnClosedFlow,
    /// A new INVITE refused once, without state.
    RefusedOnce,
    /// The same, or another answer without state, but nothing was sent: it is longer than it may be.
    RefusalWithheld,
    /// A response could not be written.
    Unwritable,
    /// A command for a dialog that is gone or in no state for it.
    SenselessCommand,
    /// A forked response beyond the forks kept of one call; read over.
    TooManyForks,
    /// An INVITE of ours came back as it was; answered 482.
    Loop,
    /// A reliable provisional response out of order; left for its repetition.
    ReliableOutOfOrder,
    /// No PRACK came for a reliable provisional response of ours.
    PrackTimeout,
}

/// The body of a message; a multipart body is already reduced to its session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Content type without parameters, as received.
    pub content_type: Bytes,
    /// Content.
    pub bytes: Bytes,
}

/// An INVITE that opens a dialog.
#[derive(Debug)]
pub struct Invitation {
    /// The new dialog.
    pub dialog: DialogId,
    /// The way it came.
    pub flow: Flow,
    /// The INVITE.
    pub request: Arc<Request>,
    /// Its session description, if it has one.
    pub body: Option<Body>,
    /// The dialog it wants to take the place of; `None` where that is not supported.
    pub replaces: Option<Replaces>,
}

/// What happened to a dialog.
///
/// The last event of a dialog is `Cancelled`, `Refused`, `TooLarge` or `Ended`, exactly one of them;
/// after `Command::Refuse` or `RefuseOnce` of a new INVITE there is none.
#[derive(Debug)]
pub enum Event {
    /// Somebody calls; 100 is already sent, unless its source is unproven.
    Invited(Box<Invitation>),
    /// The caller gave up; everything is answered and the dialog is gone.
    Cancelled {
        /// Which dialog.
        dialog: DialogId,
        /// Value of the CANCEL's `Reason` header: of several the one that says that another party has answered, else the one
        /// with a cause of Q.850.
        reason: Option<Bytes>,
    },
    /// The first ACK of a 2xx of ours came, of the first INVITE or of a later one.
    Acknowledged {
        /// Which dialog.
        dialog: DialogId,
        /// The answer to a delayed offer.
        body: Option<Body>,
    },
    /// The peer wants to change the session by re-INVITE, or by UPDATE with a body; before the answer too, by UPDATE or
    /// PRACK. To be answered with `AnswerReinvite` or `RefuseReinvite`.
    Reinvited {
        /// Which dialog.
        dialog: DialogId,
        /// The new offer; `None` asks for ours.
        body: Option<Body>,
    },
    /// The peer sent a digit by INFO; it is already answered.
    Digit {
        /// Which dialog.
        dialog: DialogId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// Length in ms; 0 where it was not told.
        duration_ms: u32,
    },
    /// A call asked for by `Command::Invite` has begun; its other events follow.
    Placed {
        /// The command's.
        token: Token,
        /// The new dialog.
        dialog: DialogId,
    },
    /// The INVITE is too large for a datagram and was not sent (again, after a challenge); the dialog is gone.
    TooLarge {
        /// Which dialog.
        dialog: DialogId,
        /// The INVITE, to be sent by a stream.
        invite: Box<OutboundInvite>,
    },
    /// Somebody on the way to the called party has the INVITE (100), or that party makes progress.
    Progressed {
        /// Which dialog.
        dialog: DialogId,
        /// Which party, where several were called.
        fork: Fork,
        /// 100 to 199.
        status: u16,
        /// Early session description.
        body: Option<Body>,
    },
    /// The called party answered; `Command::Acknowledge` must follow.
    Answered {
        /// Which dialog.
        dialog: DialogId,
        /// Which party, where several were called; the others are over.
        fork: Fork,
        /// Its session description: where the answer to our offer has none, the last of its provisional
        /// responses (RFC 6337 §2.1), never that of another party.
        body: Option<Body>,
        /// What names the dialog in the network.
        name: DialogName,
        /// Addresses that its requests may come from, beside the one that was called: those in its Contact and Record-Route.
        addresses: Vec<IpAddr>,
    },
    /// The called party refused or was never reached; the dialog is gone.
    Refused {
        /// Which dialog.
        dialog: DialogId,
        /// The final status; 408 for a time-out, 503 for a lost connection.
        status: u16,
        /// Reason phrase.
        reason: Bytes,
        /// What else was said.
        note: Box<RefusalNote>,
        /// The response, if one came.
        response: Option<Arc<Response>>,
    },
    /// Our re-INVITE was accepted; it is already acknowledged.
    ReinviteAnswered {
        /// Which dialog.
        dialog: DialogId,
        /// The peer's session description.
        body: Option<Body>,
    },
    /// Our re-INVITE was refused; the session goes on as it was.
    ReinviteRefused {
        /// Which dialog.
        dialog: DialogId,
        /// The final status; 408 for a time-out. 491 too where it could not be sent, since another is under way.
        status: u16,
        /// The wait is over that 491 asks for (RFC 3261 §14.1): what is still wanted can be offered at once.
        has_waited: bool,
    },
    /// The peer answered the re-INVITE that refreshes the session with our last description; it is acknowledged already.
    Refreshed {
        /// Which dialog.
        dialog: DialogId,
        /// The peer's session description.
        body: Body,
    },
    /// The answer to the offer of a reliable provisional response came with its PRACK.
    EarlyAnswered {
        /// Which dialog.
        dialog: DialogId,
        /// The answer.
        body: Body,
    },
    /// An INFO of ours was answered.
    InfoAnswered {
        /// Which dialog.
        dialog: DialogId,
        /// The final status; 408 for a time-out.
        status: u16,
    },
    /// What became of our REFER.
    Referring {
        /// Which dialog.
        dialog: DialogId,
        /// The news.
        progress: ReferProgress,
    },
    /// The peer wants another called instead. To be answered with `AcceptRefer` or `RefuseRefer`.
    Referred {
        /// Which dialog.
        dialog: DialogId,
        /// What it asks for.
        referred: Box<Referred>,
    },
    /// An INVITE came to nothing before anybody was asked; it is answered, where it could be. Comes
    /// again with each copy of it.
    Declined(Box<Declined>),
    /// What became of a `Command::Request`.
    RequestAnswered {
        /// The command's.
        token: Token,
        /// The outcome.
        answer: Box<RequestAnswer>,
    },
    /// What became of a `Command::Probe`.
    Probed {
        /// The command's.
        token: Token,
        /// The final status; `None`: nobody answered.
        status: Option<u16>,
        /// How long that took.
        took: Duration,
    },
    /// The dialog is over.
    Ended {
        /// Which dialog.
        dialog: DialogId,
        /// By what.
        how: DialogEnd,
    },
}

impl Event {
    /// The dialog it is of; `None` of what happens outside dialogs.
    #[must_use]
    pub fn dialog(&self) -> Option<DialogId> {
        match self {
            Self::Invited(invitation) => Some(invitation.dialog),
            Self::Cancelled { dialog, .. }
            | Self::Acknowledged { dialog, .. }
            | Self::Reinvited { dialog, .. }
            | Self::Digit { dialog, .. }
            | Self::Placed { dialog, .. }
            | Self::TooLarge { dialog, .. }
            | Self::Progressed { dialog, .. }
            | Self::Answered { dialog, .. }
            | Self::Refused { dialog, .. }
            | Self::ReinviteAnswered { dialog, .. }
            | Self::ReinviteRefused { dialog, .. }
            | Self::Refreshed { dialog, .. }
            | Self::EarlyAnswered { dialog, .. }
            | Self::InfoAnswered { dialog, .. }
            | Self::Referring { dialog, .. }
            | Self::Referred { dialog, .. }
            | Self::Ended { dialog, .. } => Some(*dialog),
            Self::Declined(_) | Self::RequestAnswered { .. } | Self::Probed { .. } => None,
        }
    }

    /// True of the last event of a dialog.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Cancelled { .. }
                | Self::Refused { .. }
                | Self::TooLarge { .. }
                | Self::Ended { .. }
        )
    }
}

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogEnd {
    /// The peer sent BYE; it is answered.
    Bye {
        /// Value of its `Reason` header, of several the one with a cause of Q.850.
        reason: Option<Bytes>,
    },
    /// No ACK came for our 2xx; BYE is sent.
    AckTimeout,
    /// No refresh came in time (RFC 4028 §10); BYE is sent.
    SessionExpired,
    /// The peer does not answer within the dialog, or does not know it any more.
    PeerTimeout,
    /// The connection of an unanswered call is gone, and none leads back to the caller.
    FlowLost,
    /// Our hang-up finished: BYE answered, CANCEL done, or the refusal sent.
    ByeAnswered,
}

/// Why and how a new INVITE is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 300 to 699.
    pub status: u16,
    /// Written as `Reason: Q.850`.
    pub cause: HangupCause,
    /// `Retry-After`, in seconds, at least: it is [spread](crate::sip::message::header::retry_after::RetryAfter::spread).
    pub retry_after_s: Option<u32>,
    /// More headers: challenges, `Warning`.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// Somebody else says so, whom the caller was to be connected with: no `Warning` names us as who refuses its session
    /// description.
    pub is_passed_on: bool,
}

/// What the switch wants from a dialog.
#[derive(Debug)]
pub enum Command {
    /// Place a call; `Event::Placed` names its dialog.
    Invite {
        /// Names the call until then.
        token: Token,
        /// The call.
        invite: Box<OutboundInvite>,
    },
    /// Send a request outside dialogs; `Event::RequestAnswered` follows.
    Request(Box<OutboundRequest>),
    /// Ask whether somebody is there; `Event::Probed` follows.
    Probe(Box<Probe>),
    /// Put a policy in force for a call of a peer's, before anything else is answered to it.
    Adopt {
        /// Which dialog.
        dialog: DialogId,
        /// Its policy from now on.
        policy: DialogPolicy,
    },
    /// Answer with these what the peer of an unanswered call of its own will challenge (RFC 3261 §22), once its ACK proves that it
    /// hears us: who forged the address of its INVITE learns nothing of a password.
    Trust(DialogId, Arc<[Account]>),
    /// Reach the peer of a call by `way` once the connection it came by is gone.
    ReachBy {
        /// Which dialog.
        dialog: DialogId,
        /// The way.
        way: Flow,
    },
    /// Tell the peer of a call that we are somewhere else than at the listener's address, before anything else is answered to it.
    Advertise {
        /// Which dialog.
        dialog: DialogId,
        /// Where we are.
        advertised: Arc<Advertised>,
    },
    /// Tell the peer something by INFO; `Event::InfoAnswered` follows.
    Info {
        /// Which dialog.
        dialog: DialogId,
        /// Its type.
        content_type: FieldValue,
        /// Content.
        body: Bytes,
    },
    /// Ask the peer to call another instead (RFC 3515); `Event::Referring` follows.
    Refer {
        /// Which dialog.
        dialog: DialogId,
        /// URI of Refer-To; for an attended transfer with an embedded Replaces header.
        refer_to: String,
        /// URI of Referred-By (RFC 3892).
        referred_by: Option<String>,
        /// More headers.
        headers: Vec<HeaderField>,
    },
    /// Answer a REFER of the peer's with 202, and tell it that we try.
    AcceptRefer {
        /// Which dialog.
        dialog: DialogId,
    },
    /// Refuse a REFER of the peer's.
    RefuseRefer {
        /// Which dialog.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
        /// Written as `Reason: Q.850`.
        cause: HangupCause,
    },
    /// Tell the peer how the call it asked for stands; a final status is the last word.
    NotifyRefer {
        /// Which dialog.
        dialog: DialogId,
        /// 100 to 699.
        status: u16,
    },
    /// Send a provisional response, 101 to 199.
    Progress {
        /// Which dialog.
        dialog: DialogId,
        /// 101 to 199.
        status: u16,
        /// Early session description.
        body: Option<Bytes>,
    },
    /// Answer the INVITE with 200.
    Accept {
        /// Which dialog.
        dialog: DialogId,
        /// Session description.
        body: Bytes,
    },
    /// Refuse the INVITE; the dialog is gone afterwards.
    Refuse {
        /// Which dialog.
        dialog: DialogId,
        /// Why and how.
        refusal: Refusal,
    },
    /// Refuse the INVITE once and keep nothing of it: the answer is not repeated but when the INVITE
    /// is, and its ACK is absorbed (RFC 3261 §8.2.7, §26.3.2.4). The dialog is gone afterwards.
    RefuseOnce {
        /// Which dialog.
        dialog: DialogId,
        /// Why and how.
        refusal: Refusal,
        /// Nothing is sent if that were more bytes.
        bytes_max: Option<usize>,
    },
    /// Answer a re-INVITE or UPDATE with 200.
    AnswerReinvite {
        /// Which dialog.
        dialog: DialogId,
        /// Session description.
        body: Bytes,
    },
    /// Refuse a re-INVITE or UPDATE; the session goes on as it was.
    RefuseReinvite {
        /// Which dialog.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
        /// Written as `Reason: Q.850`.
        cause: HangupCause,
    },
    /// Change the session by a re-INVITE of ours.
    Reinvite {
        /// Which dialog.
        dialog: DialogId,
        /// Session description.
        body: Bytes,
    },
    /// The same by UPDATE (RFC 3311) where the peer allows it.
    Update {
        /// Which dialog.
        dialog: DialogId,
        /// Session description.
        body: Bytes,
    },
    /// Acknowledge the answer to our INVITE.
    Acknowledge {
        /// Which dialog.
        dialog: DialogId,
        /// The answer to a delayed offer.
        body: Option<Bytes>,
    },
    /// Have the BYE of a hang-up that follows give this for its reason.
    Explain {
        /// Which dialog.
        dialog: DialogId,
        /// What another peer said.
        reason: Box<PeerReason>,
    },
    /// End the dialog in whatever way its state asks for; `Event::Ended` follows.
    Hangup {
        /// Which dialog.
        dialog: DialogId,
        /// Written as `Reason: Q.850`.
        cause: HangupCause,
    },
}
