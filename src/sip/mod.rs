//! SIP: messages, framing, transactions, dialogs. Pure: bytes and time in, bytes and events out.

pub mod endpoint;
pub mod framing;
pub mod message;
pub mod multipart;
pub mod transaction;
