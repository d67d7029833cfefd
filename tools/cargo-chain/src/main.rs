//! `cargo chain`; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    cargo_chain::main()
}
