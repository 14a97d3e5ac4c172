//! Feeds messages of an agent to chan_websocket, in both of its forms.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::agent::exercise::chan_websocket(data));
