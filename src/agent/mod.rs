//! Agents: the session with one, the dialects it speaks, and the built-in ones.

pub mod asterisk;
pub mod builtin;
pub mod dialect;
mod outbox;
pub mod realtime;
pub mod script;
pub mod session;
pub mod stream;
pub mod twilio;
pub mod twiml;
