//! See [`postern_fuzz::json_text`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::json_text::check(bytes));
