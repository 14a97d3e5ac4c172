//! Audio: G.711, mixing, tones, voice activity, and the link between media and agent.

pub mod bridge;
pub mod call_tone;
pub mod conceal;
pub mod floor;
pub mod frame;
pub mod g711;
pub mod g722;
pub mod keys;
pub mod link;
pub mod mix;
pub mod mixdown;
pub mod mixer;
pub mod noise;
pub mod opus;
pub mod packed;
pub mod passed;
pub mod resample;
pub mod ringback;
pub mod sound;
pub mod tape;
pub mod tonality;
pub mod tone;
pub mod transcode;
pub mod vad;
pub mod voice_models;
pub mod wide;

#[cfg(test)]
pub(crate) mod voice;
