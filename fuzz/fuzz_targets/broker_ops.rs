#![no_main]
//! See `paloma_fuzz::broker_ops`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::broker_ops::run(data));
