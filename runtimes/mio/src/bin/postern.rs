//! The binary `postern`; the library of this package has everything it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::main()
}
