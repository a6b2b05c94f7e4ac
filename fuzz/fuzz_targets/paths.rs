//! Fuzzes `paths` of the crate beside this one.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pointsman_fuzz_targets::run("paths", data));
