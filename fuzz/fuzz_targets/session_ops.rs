#![no_main]
//! See `paloma_fuzz::session_ops`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::session_ops::run(data));
