//! An attack generator: one thread with many connections that all run the same attack.
//!
//! The bytes of an attack are created before the run, and all connections send them from the same memory, so an
//! attacker needs less processor time than the server. Each connection that the server ends is counted by the status,
//! the close code or the lack of both, with the time that it lasted. It can be opened again then.
//!
//! The attack lasts until the end of standard input: `sleep 5 | attack 127.0.0.1:8080 --attack pings`.

mod attacker;
mod frames;
mod options;
mod plan;
mod report;
mod run;

use std::process::ExitCode;

/// An error message.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run::run(&options::Options::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("attack: {failure}");
            ExitCode::FAILURE
        }
    }
}
