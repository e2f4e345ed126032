#![no_main]
//! See `paloma_fuzz::topic_matches`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::topic_matches::run(data));
