//! SIP messages: bytes to typed values and back, without a copy of the bytes.
#![warn(clippy::indexing_slicing)]

pub mod error;
pub mod exercise;
pub mod field;
pub mod header;
pub mod headers;
pub(crate) mod lexis;
pub mod method;
pub mod name;
pub mod param;
mod parse;
pub mod peek;
pub mod reply;
mod scan;
mod span;
pub mod status;
pub mod table;
pub mod uri;
pub mod write;

pub use parse::parse;

use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::uri::Uri;
use bytes::Bytes;
use std::fmt;

/// A SIP message.
#[derive(Clone, Debug)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// The header fields of either kind.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}

/// A request whose core headers are readable and whose CSeq names its method.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The header fields.
    pub headers: Headers,
    /// The body as Content-Length gives it.
    pub body: Bytes,
}

/// A response whose core headers are readable.
#[derive(Clone)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase as received.
    pub reason: Bytes,
    /// The header fields.
    pub headers: Headers,
    /// The body as Content-Length gives it.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    /// Without the body: it may hold addresses and dialled digits, and `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("uri", &self.uri)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl fmt::Debug for Response {
    /// Without the body, as for requests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_prints_without_numbers_credentials_and_body() {
        let text = "INVITE sip:+15550100@h SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:+15550111@h>;tag=1\r\n\
            t: \"5550100\" <tel:+15550100>\r\ni: x\r\nCSeq: 1 INVITE\r\n\
            Authorization: Digest secret\r\n\r\nSignal=5550100";
        let printed = format!("{:?}", parse(text.into()));
        assert!(printed.contains("INVITE") && printed.contains("Authorization"), "{printed}");
        for hidden in ["55501", "secret", "Signal"] {
            assert!(!printed.contains(hidden), "{hidden} in {printed}");
        }
    }
}
