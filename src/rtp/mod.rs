//! RTP and RTCP: packets, sequence numbers, jitter buffer, DTMF events, sender and receiver rules.

pub mod classify;
pub mod jitter;
pub mod packet;
pub mod sequence;
