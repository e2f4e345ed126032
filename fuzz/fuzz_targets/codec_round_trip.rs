#![no_main]
//! See `paloma_fuzz::codec_round_trip`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::codec_round_trip::run(data));
