//! See [`postern_fuzz::relay`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::relay::check(bytes));
