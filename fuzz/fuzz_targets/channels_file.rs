//! See [`postern_fuzz::channels_file`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::channels_file::check(bytes));
