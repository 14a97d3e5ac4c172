//! Feeds a message of an agent to everything that reads one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::agent::twilio::exercise(data));
