#![no_main]
//! See `paloma_fuzz::config_file`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::config_file::run(data));
