//! See [`postern_fuzz::head_reference`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::head_reference::check(bytes));
