//! See [`postern_fuzz::session`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::session::check(bytes));
