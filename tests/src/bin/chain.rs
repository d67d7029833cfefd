//! `cargo chain`; see the module `postern_tests::command`.

use std::process::ExitCode;

use postern_tests::command;
use postern_tests::command::args::Args;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    match command::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("chain: {failure}");
            ExitCode::FAILURE
        }
    }
}
