//! A frame: 20 ms of audio, the unit of everything between a jitter buffer and an agent.

use crate::audio::g711;
use crate::types::codec::Law;

/// Samples of a frame at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;

/// Samples in a millisecond.
pub const SAMPLES_PER_MS: usize = 8;

/// A frame of linear audio at 8 kHz.
pub type Pcm = [i16; FRAME_SAMPLES];

/// A frame of G.711, µ-law unless said otherwise.
pub type Encoded = [u8; FRAME_SAMPLES];

/// A frame of µ-law silence.
pub const SILENCE: Encoded = [0xff; FRAME_SAMPLES];

/// A frame of silence of either law.
#[must_use]
pub const fn silence(law: Law) -> Encoded {
    [g711::silence(law); FRAME_SAMPLES]
}

/// Samples of a frame at 16 kHz.
pub const WIDE_SAMPLES: usize = 2 * FRAME_SAMPLES;

/// A frame of linear audio at 16 kHz.
pub type WidePcm = [i16; WIDE_SAMPLES];
