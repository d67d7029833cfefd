//! Attackers: one thread and many connections, each of which does the one thing that a server must survive.
//!
//! What they send is made before the run and sent from the same memory by all of them, so that an attacker costs less
//! than what it attacks. Each connection that the server ends is counted by how it was ended, a status, a close code or
//! nothing, and after how long; it may come back then, as an attacker does.
//!
//! The attack goes on until the standard input ends: `sleep 5 | attack 127.0.0.1:8080 --attack pings`.

mod attacker;
mod frames;
mod options;
mod plan;
mod report;
mod run;

use std::process::ExitCode;

/// What went wrong, for the person who reads it.
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
