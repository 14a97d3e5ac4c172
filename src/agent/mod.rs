//! Agents: the session with one, the dialects it speaks, and the built-in ones.

pub mod builtin;
pub mod session;
pub mod twilio;
