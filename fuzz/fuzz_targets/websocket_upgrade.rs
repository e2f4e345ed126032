#![no_main]
//! See `paloma_fuzz::websocket_upgrade`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::websocket_upgrade::run(data));
