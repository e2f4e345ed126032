#![no_main]
//! See `paloma_fuzz::codec_decode_v5`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::codec_decode_v5::run(data));
