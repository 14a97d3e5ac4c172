//! RTP and RTCP: packets, sequence numbers, jitter buffer, DTMF events, sender and receiver rules.

pub mod burst;
pub mod classify;
pub mod delay;
pub mod dtmf;
mod dtmf_relay;
mod dtmf_telling;
pub mod dtmf_turn;
mod exercise;
pub mod jitter;
pub mod ntp;
pub mod packet;
pub mod payloads;
pub mod quality;
pub mod receiver;
pub mod rtcp;
pub mod schedule;
pub mod sender;
pub mod sequence;
pub mod srtp;
pub mod voip_block;

pub use crate::rtp::exercise::exercise;
