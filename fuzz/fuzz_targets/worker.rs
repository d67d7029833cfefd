//! See [`postern_fuzz::worker`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::worker::check(bytes));
