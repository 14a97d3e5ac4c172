//! Feeds bytes to the decoder of Opus and to that of linear audio, with holes, and encodes what they make of them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::audio::packed::exercise(data));
