//! Feeds events of a server to a Realtime session.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::agent::exercise::realtime(data));
