//! See [`postern_fuzz::session`].

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_fuzz::session::Script;

fuzz_target!(|script: Script| postern_fuzz::session::check(&script));
