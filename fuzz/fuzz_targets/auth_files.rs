#![no_main]
//! See `paloma_fuzz::auth_files`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::auth_files::run(data));
