//! The second half of `cargo chain`; see the library of this package.

use std::process::ExitCode;

use postern_chain::args::Args;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    match postern_chain::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("chain: {failure}");
            ExitCode::FAILURE
        }
    }
}
