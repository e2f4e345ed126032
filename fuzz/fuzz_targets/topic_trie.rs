#![no_main]
//! See `paloma_fuzz::topic_trie`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::topic_trie::run(data));
