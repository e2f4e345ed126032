#![no_main]
//! See `paloma_fuzz::auth_acl`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| paloma_fuzz::auth_acl::run(data));
