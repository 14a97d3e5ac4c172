//! Feeds bytes to the decoder of G.722, and what it makes of them to the encoder.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::audio::g722::exercise(data));
