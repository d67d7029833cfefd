//! A load generator: one thread, many WebSockets, echoes counted to the last byte.
//!
//! It has to cost less than the server that it measures, so the frames are made before the run and the echoes are
//! counted, not parsed: all of them have the same length. That they are echoes is checked by the core's client, on
//! each connection before the run and after it; the one after it would be out of step if a byte were missing.
//!
//! The clock is read once for each batch of events, so a latency may be too long by what its batch took.

mod connection;
mod frames;
mod options;
mod process;
mod quota;
mod report;
mod run;

use std::process::ExitCode;

/// What went wrong, for the person who reads it.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = options::Options::parse();
    match run::run(&options) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}
