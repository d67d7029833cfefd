//! See [`postern_fuzz::assertion`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::assertion::check(bytes));
