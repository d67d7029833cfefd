//! See [`postern_fuzz::frames`].

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::frames::Script;

fuzz_target!(|script: Script| postern_fuzz::frames::check(&script));
