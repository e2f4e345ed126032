#![no_main]
//! See `paloma_fuzz::proxy_headers`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::proxy_headers::run(data));
