//! `postern probe`, which checks each step of the path from a client to Postern and states what to do about a fault;
//! `postern connect`, an interactive client; and `postern top`, the figures of a running process.
//!
//! The probe is a client: it sees a chain from the outside, and needs no access to the gateway or to Postern. It has two parts.
//! `walk` does all I/O and collects observations. `judge` turns observations into steps with remedies, without sockets and
//! clocks, so that each fault has a test with values.
//!
//! Modules in reading order:
//!
//! * `options`, `target`: the command line and the URL.
//! * `report`: steps, as text and as JSON.
//! * `walk`: the order of the steps.
//! * `judge`: what an observation means, and what to do.
//! * `net`: names, TCP, TLS, HTTP and WebSocket connections, with time limits.
//! * `credentials`, `token`: the credentials of the requests, and JSON Web Tokens.
//! * `display`, `time`: text of a server as it may be printed; dates and durations.
//! * `connect`: the interactive client.
//! * `top`: the figures.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connect;
mod credentials;
mod display;
mod judge;
mod net;
mod options;
mod report;
mod target;
mod time;
mod token;
mod top;
mod walk;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use options::{ConnectOptions, Parsed, ProbeOptions, TopOptions};

/// The arguments of `postern probe`, for the usage of the program.
pub const PROBE_USAGE: &str = "[OPTIONS] URL";

/// The description of `postern probe`, for the help of the program.
pub const PROBE_ABOUT: &str = "\
probe checks each step from this machine to a WebSocket, such as wss://example.com/ws, and
prints what to do about a fault. It exits with 0 or 1. `probe --help` lists its options.";

/// The arguments of `postern connect`, for the usage of the program.
pub const CONNECT_USAGE: &str = "[OPTIONS] URL";

/// The description of `postern connect`, for the help of the program.
pub const CONNECT_ABOUT: &str = "\
connect opens a WebSocket, sends each line of standard input as a message, and prints the
messages that arrive. `connect --help` lists its options.";

/// The arguments of `postern top`, for the usage of the program.
pub const TOP_USAGE: &str = "[OPTIONS] [URL]";

/// The description of `postern top`, for the help of the program.
pub const TOP_ABOUT: &str = "\
top shows the figures of a running Postern in the terminal, from the URL of its control port.
`top --help` lists its options.";

/// Runs `postern probe`. `arguments` are those after the name of the subcommand.
///
/// Exits with 0 if all checks passed, with 1 if one failed, and with 2 if the command line cannot be used.
pub fn probe(arguments: Vec<OsString>) -> ExitCode {
    run(options::probe(arguments), |options: ProbeOptions| {
        let mut report = report::Report::new(&options.target, options.is_json, io::stdout().is_terminal());
        walk::walk(&options, &mut report);
        report.finish()
    })
}

/// Runs `postern connect`. `arguments` are those after the name of the subcommand.
///
/// Exits with 0 after a Close with 1000 and at the end of standard input, with 1 if the connection cannot be opened or
/// ends otherwise, and with 2 if the command line cannot be used.
pub fn connect(arguments: Vec<OsString>) -> ExitCode {
    run(options::connect(arguments), |options: ConnectOptions| connect::run(&options))
}

/// Runs `postern top`. `arguments` are those after the name of the subcommand.
///
/// Exits with 1 if the figures cannot be read, and with 2 if the command line cannot be used.
pub fn top(arguments: Vec<OsString>) -> ExitCode {
    run(options::top(arguments), |options: TopOptions| top::run(&options))
}

fn run<O>(parsed: Parsed<O>, serve: impl FnOnce(O) -> ExitCode) -> ExitCode {
    match parsed {
        Parsed::Run(options) => serve(*options),
        Parsed::Print(text) => {
            // The reader may have closed the pipe.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Parsed::Refuse(text) => {
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::from(2)
        }
    }
}
