//! Audio: G.711, mixing, tones, voice activity, and the link between media and agent.

pub mod link;
