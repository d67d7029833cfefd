//! See [`postern_fuzz::connection`].

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::connection::Script;

fuzz_target!(|script: Script| postern_fuzz::connection::check(&script));
