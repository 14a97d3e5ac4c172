//! SIP: messages, framing, transactions, dialogs. Pure: bytes and time in, bytes and events out.

pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod framing;
mod invite;
pub mod locate;
pub mod message;
pub mod multipart;
pub mod register;
pub mod scanner;
mod session_timer;
mod slab;
pub mod trace;
pub mod transaction;
