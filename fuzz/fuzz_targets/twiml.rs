//! Reads a document as TwiML and follows it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::agent::twiml::exercise(data));
