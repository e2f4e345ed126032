#![no_main]
//! See `paloma_fuzz::codec_split`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::codec_split::run(data));
