//! Which of two calls of ours a message belongs to that share a Call-ID: one placed it, the other got it.

use crate::sip::message::Message;
use crate::sip::message::parse;
use crate::sip::trace::TracedMessage;
use crate::sip::trace::Way;
use bytes::Bytes;

/// The end of a dialog that is a call of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We sent the INVITE.
    Caller,
    /// We got it.
    Called,
}

impl End {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Called => 1,
        }
    }
}

/// The tag of whoever began, by the first request.
pub(super) fn beginner<'m>(
    messages: impl IntoIterator<Item = &'m TracedMessage>,
) -> Option<Vec<u8>> {
    messages.into_iter().find_map(|message| match read(&message.bytes)? {
        Message::Request(request) => request.headers.from().tag().map(<[u8]>::to_vec),
        Message::Response(_) => None,
    })
}

/// The end of ours that sent or got a message, by its tag in it; `None` for what cannot be read.
pub(super) fn of(message: &TracedMessage, beginner: &[u8]) -> Option<End> {
    let read = read(&message.bytes)?;
    let is_request = matches!(read, Message::Request(_));
    let headers = read.headers();
    // A request is from who sends it; its answer goes back to that.
    let own = match (message.way, is_request) {
        (Way::Out, true) | (Way::In, false) => headers.from().tag(),
        (Way::In, true) | (Way::Out, false) => headers.to().tag(),
    };
    Some(if own == Some(beginner) { End::Caller } else { End::Called })
}

fn read(bytes: &Bytes) -> Option<Message> {
    parse(bytes.clone()).ok()
}
