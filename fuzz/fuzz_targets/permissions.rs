//! See [`postern_fuzz::permissions`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::permissions::check(bytes));
