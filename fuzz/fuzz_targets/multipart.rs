//! Feeds a body and its type to everything that reads one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::sip::message::exercise::exercise_multipart(data));
