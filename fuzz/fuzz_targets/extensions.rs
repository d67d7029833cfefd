//! See [`postern_fuzz::extensions`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::extensions::check(bytes));
