#![no_main]
//! See `paloma_fuzz::record_events`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::record_events::run(data));
