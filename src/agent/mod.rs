//! Agents: the session with one, the dialects it speaks, and the built-in ones.

pub mod asterisk;
pub mod breaker;
pub mod builtin;
pub mod dialect;
pub mod exercise;
mod outbox;
pub mod realtime;
pub mod script;
pub mod session;
pub mod story;
pub mod stream;
pub mod twilio;
pub mod twiml;
