//! See [`postern_fuzz::differential`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::differential::check(bytes));
