//! Scripted agents on real sockets prove each dialect message by message, and that no agent, however bad,
//! harms a call.

#[path = "../agent_support/mod.rs"]
mod agent_support;
mod asterisk;
#[path = "../support/python.rs"]
mod python;
mod realtime;
mod twilio;
mod twiml;
