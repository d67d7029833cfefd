//! See [`postern_fuzz::inflate`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::inflate::check(bytes));
