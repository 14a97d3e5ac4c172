//! Feeds a next hop, and answers of DNS, to everything that reads one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::sip::locate::exercise::exercise(data));
