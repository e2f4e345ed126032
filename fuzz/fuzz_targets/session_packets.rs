#![no_main]
//! See `paloma_fuzz::session_packets`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::session_packets::run(data));
