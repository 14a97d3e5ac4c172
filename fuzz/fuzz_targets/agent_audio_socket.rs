//! Feeds the bytes of an agent to AudioSocket, however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::agent::exercise::audio_socket(data));
