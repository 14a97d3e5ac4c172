//! SIP messages: bytes to typed values and back, without a copy of the bytes.
#![warn(clippy::indexing_slicing)]

pub mod error;
pub mod exercise;
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
