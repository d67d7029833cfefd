//! See [`postern_fuzz::log_line`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::log_line::check(bytes));
