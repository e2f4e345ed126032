#![no_main]
//! See `paloma_fuzz::codec_decode_v3`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::codec_decode_v3::run(data));
