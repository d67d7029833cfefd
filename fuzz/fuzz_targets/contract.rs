//! See [`postern_fuzz::contract`].

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::contract::Script;

fuzz_target!(|script: Script| postern_fuzz::contract::check(&script));
