#![no_main]
//! See `paloma_fuzz::store_recover`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::store_recover::run(data));
