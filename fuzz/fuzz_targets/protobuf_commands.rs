//! See [`postern_fuzz::protobuf_commands`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postern_fuzz::protobuf_commands::check(bytes));
