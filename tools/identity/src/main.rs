//! The development Identity service; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_identity::run::run(|_| {})
}
