#![no_main]
//! See `paloma_fuzz::codec_message`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::codec_message::run(data));
