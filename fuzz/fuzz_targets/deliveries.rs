//! See [`postern_fuzz::deliveries`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::deliveries::check(bytes));
