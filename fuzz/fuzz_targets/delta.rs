//! See [`postern_fuzz::delta`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::delta::check(bytes));
