//! Typed header values, one a file.

pub mod contact;
pub mod content_type;
pub mod cseq;
pub mod name_addr;
pub mod rack;
pub mod reason;
pub mod replaces;
pub mod retry_after;
pub mod session_expires;
pub mod token_list;
pub mod via;

/// The value breaks the grammar of its header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header value cannot be read")]
pub struct BadValue;
