//! See [`postern_fuzz::frames`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::frames::check(bytes));
