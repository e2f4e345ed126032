#![no_main]
//! See `paloma_fuzz::topic_map`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::topic_map::run(data));
