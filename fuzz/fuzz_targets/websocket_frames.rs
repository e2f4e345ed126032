#![no_main]
//! See `paloma_fuzz::websocket_frames`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::websocket_frames::run(data));
