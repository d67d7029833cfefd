//! A load generator: one thread with many connections, which counts every byte of the echoes.
//!
//! It must need less processor time than the server that it measures. Therefore the frames are created before the
//! run, and echoes are counted instead of parsed, because all of them have the same length. Before and after the run
//! the core's client checks one echo on each connection; the check after the run fails if a byte is missing.
//!
//! With `--publish` the connections send nothing: messages are published to all of them through the server API.
//!
//! The clock is read once for each batch of events, so a latency may be too long by the duration of the batch.

mod connection;
mod cpu;
mod frames;
mod options;
mod process;
mod publisher;
mod quota;
mod report;
mod run;

use std::process::ExitCode;

/// An error message.
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
