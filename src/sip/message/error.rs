//! `ParseError`: why bytes are no usable message, and what is left to answer with.

use crate::sip::message::reply::BadRequest;
use std::fmt;

/// The bytes are no usable SIP message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ParseError {
    /// Where, in bytes from the start of the datagram.
    pub offset: usize,
    /// What is wrong.
    pub what: Malformed,
    /// The means of an answer, for a request whose Via, From, To, Call-ID and CSeq are there; never
    /// for an ACK or a response. Without it the bytes are dropped and counted.
    pub reply: Option<Box<BadRequest>>,
}

macro_rules! malformed {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $status:literal, $phrase:literal;)+) => {
        /// What is wrong with a message: a closed list, fit for a metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Malformed {
            $($(#[$doc])* $name,)+
        }

        impl Malformed {
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The label of metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// The status of an answer, where one is possible.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// The reason phrase of an answer.
            #[must_use]
            pub const fn phrase(self) -> &'static str {
                match self { $(Self::$name => $phrase,)+ }
            }
        }
    };
}

malformed! {
    /// Nothing but line ends: a keep-alive.
    Empty = "empty", 400, "Bad Request";
    /// Not SIP at all: no line with `SIP/`.
    NotSip = "not_sip", 400, "Bad Request";
    /// More than 65 535 bytes.
    TooLong = "too_long", 513, "Message Too Large";
    /// No empty line ends the head.
    HeadNotEnded = "head_not_ended", 400, "Header Section Not Ended";
    /// The request line cannot be read.
    RequestLine = "request_line", 400, "Bad Request Line";
    /// The Request-URI cannot be read.
    RequestUri = "request_uri", 400, "Bad Request-URI";
    /// The status line cannot be read.
    StatusLine = "status_line", 400, "Bad Status Line";
    /// A SIP version other than 2.0.
    Version = "version", 505, "Version Not Supported";
    /// More than 128 header lines.
    TooManyHeaders = "too_many_headers", 400, "Too Many Header Lines";
    /// A header line of more than 8192 bytes.
    HeaderTooLong = "header_too_long", 400, "Header Line Too Long";
    /// More than 100 Via entries.
    TooManyVias = "too_many_vias", 400, "Too Many Via Entries";
    /// Via is missing or its top entry, or the list, cannot be read.
    Via = "via", 400, "Bad Via";
    /// From is missing or cannot be read.
    From = "from", 400, "Bad From";
    /// To is missing or cannot be read.
    To = "to", 400, "Bad To";
    /// Call-ID is missing or empty.
    CallId = "call_id", 400, "Bad Call-ID";
    /// CSeq is missing or cannot be read.
    CSeq = "cseq", 400, "Bad CSeq";
    /// The method of CSeq is not that of the request.
    CSeqMethod = "cseq_method", 400, "CSeq Method Mismatch";
    /// From, To, Call-ID, CSeq, Max-Forwards or a differing Content-Length came twice.
    Repeated = "repeated", 400, "Repeated Header";
    /// Max-Forwards is no number of 0 to 255.
    MaxForwards = "max_forwards", 400, "Bad Max-Forwards";
    /// Content-Length is no number.
    ContentLength = "content_length", 400, "Bad Content-Length";
    /// Content-Length is larger than what came.
    BodyIncomplete = "body_incomplete", 400, "Content-Length Beyond Message";
    /// A stream message without Content-Length.
    NoContentLength = "no_content_length", 400, "Missing Content-Length";
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_kind_has_its_own_label() {
        let labels: HashSet<_> = Malformed::ALL.iter().map(|what| what.as_str()).collect();
        assert_eq!(labels.len(), Malformed::ALL.len());
        assert_eq!(Malformed::Version.status(), 505);
    }
}
