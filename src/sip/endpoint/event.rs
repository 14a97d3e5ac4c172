//! What goes into an endpoint and what comes out of it.

use super::flow::Flow;
use super::flow::FlowId;

use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::error::Malformed;
use crate::types::cause::HangupCause;
use crate::types::secret::Secret;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

/// Names a dialog in its shard, from its INVITE to its end; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(pub u64);

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
    /// A stream connection is gone.
    FlowClosed(FlowId),
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
    /// A request of ours was never answered.
    RequestTimeout,
    /// A response could not be sent because its stream is gone.
    ResponseOnClosedFlow,
    /// A response could not be written.
    Unwritable,
    /// A command for a dialog that is gone or in no state for it.
    SenselessCommand,
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
}

/// What happened to a dialog.
///
/// The last event of a dialog is `Cancelled`, `Refused` or `Ended`, exactly one of them; after
/// `Command::Refuse` of a new INVITE there is none.
#[derive(Debug)]
pub enum Event {
    /// Somebody calls; 100 is already sent.
    Invited(Box<Invitation>),
    /// The caller gave up; everything is answered and the dialog is gone.
    Cancelled {
        /// Which dialog.
        dialog: DialogId,
        /// Value of the CANCEL's `Reason` header.
        reason: Option<Bytes>,
    },
    /// The first ACK of a 2xx of ours came, of the first INVITE or of a later one.
    Acknowledged {
        /// Which dialog.
        dialog: DialogId,
        /// The answer to a delayed offer.
        body: Option<Body>,
    },
    /// The peer wants to change the session by re-INVITE, or by UPDATE with a body. To be answered
    /// with `AnswerReinvite` or `RefuseReinvite`.
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
    /// The called party makes progress (a 1xx above 100).
    Progressed {
        /// Which dialog.
        dialog: DialogId,
        /// 101 to 199.
        status: u16,
        /// Early session description.
        body: Option<Body>,
    },
    /// The called party answered; `Command::Acknowledge` must follow.
    Answered {
        /// Which dialog.
        dialog: DialogId,
        /// Its session description.
        body: Option<Body>,
    },
    /// The called party refused or was never reached; the dialog is gone.
    Refused {
        /// Which dialog.
        dialog: DialogId,
        /// The final status; 408 for a time-out, 503 for a lost connection.
        status: u16,
        /// Reason phrase.
        reason: Bytes,
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
        /// The final status; 408 for a time-out.
        status: u16,
    },
    /// The dialog is over.
    Ended {
        /// Which dialog.
        dialog: DialogId,
        /// By what.
        how: DialogEnd,
    },
}

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogEnd {
    /// The peer sent BYE; it is answered.
    Bye {
        /// Value of its `Reason` header.
        reason: Option<Bytes>,
    },
    /// No ACK came for our 2xx; BYE is sent.
    AckTimeout,
    /// No refresh came in time (RFC 4028 §10); BYE is sent.
    SessionExpired,
    /// The peer does not answer within the dialog, or does not know it any more.
    PeerTimeout,
    /// The connection of an unanswered call is gone.
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
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// More headers: challenges, `Warning`.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
}

/// What the switch wants from a dialog.
#[derive(Debug)]
pub enum Command {
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
    /// Acknowledge the answer to our INVITE.
    Acknowledge {
        /// Which dialog.
        dialog: DialogId,
        /// The answer to a delayed offer.
        body: Option<Bytes>,
    },
    /// End the dialog in whatever way its state asks for; `Event::Ended` follows.
    Hangup {
        /// Which dialog.
        dialog: DialogId,
        /// Written as `Reason: Q.850`.
        cause: HangupCause,
    },
}

/// A call of ours.
#[derive(Clone, Debug)]
pub struct OutboundInvite {
    /// The way to send it.
    pub flow: Flow,
    /// Request-URI, kept apart from the next hop, which is `flow.remote`.
    pub uri: String,
    /// URI of the From header.
    pub from: String,
    /// Display name of the From header.
    pub from_display: Option<String>,
    /// URI of the To header.
    pub to: String,
    /// User part of our Contact.
    pub contact_user: String,
    /// Offer; `None` asks the called party for one.
    pub body: Option<Bytes>,
    /// User name and password for one answer to a 401 or 407.
    pub credentials: Option<(String, Secret<String>)>,
    /// More headers.
    pub headers: Vec<(String, String)>,
}
