//! The binary `postern-smol`; the library of this package has everything it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_smol::main()
}
