#![no_main]
//! See `paloma_fuzz::topic_target`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::topic_target::run(data));
