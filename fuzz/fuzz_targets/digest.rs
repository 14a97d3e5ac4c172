//! Feeds a challenge or credentials to everything that reads one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::sip::digest::exercise::exercise(data));
