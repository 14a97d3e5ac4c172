//! The call: legs, bridge and events. Never says SIP.

pub mod event;
