//! The vocabulary every layer shares: time, identities, numbers, codecs, causes, limits, secrets.

pub mod agent;
pub mod answer_hook;
pub mod answering_machine;
pub mod barge_in;
pub mod cause;
pub mod codec;
pub mod fault_policy;
pub mod header;
pub mod id;
pub mod limit;
pub mod moment;
pub mod name;
pub mod number;
pub mod peer;
pub mod random;
pub mod reach;
pub mod recording;
pub mod script;
pub mod secret;
pub mod srtp;
pub mod talk;
pub mod tls;
pub mod trace_context;
pub mod transport;
