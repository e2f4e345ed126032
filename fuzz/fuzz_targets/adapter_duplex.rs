#![no_main]
//! See `paloma_fuzz::adapter_duplex`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::adapter_duplex::run(data));
