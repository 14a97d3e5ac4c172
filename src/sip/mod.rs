//! SIP: messages, framing, transactions, dialogs. Pure: bytes and time in, bytes and events out.

pub mod endpoint;
pub mod message;
