//! Postern for production: as many event loops as there are cores, and one acceptor.
//!
//! * `accept_loop`: the main thread, which stops the process, and accepts if there are several event loops.
//! * `listeners`: accepts connections, and chooses their workers.
//! * `event_loop`: one event loop around one [`Worker`](postern_core::Worker).
//! * `worker_handle`: the interface of a worker to other threads.
//! * `socket`: a worker's sockets.

mod accept_loop;
mod event_loop;
mod listeners;
mod socket;
mod worker_handle;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use postern_host::lifecycle::{self, Lifecycle, Process};
use postern_host::settings::{Command, Program};

use accept_loop::AcceptLoop;
use event_loop::EventLoops;

/// Runs the program: takes settings from flags, the environment and `.env`, serves until a signal ends it, and returns its
/// exit status.
///
/// A function of a library, so that the end-to-end tests can build a binary of it for themselves.
pub fn main() -> ExitCode {
    lifecycle::run(&PROGRAM, start)
}

/// Starts all threads except for this one, which will accept.
fn start(process: Process) -> Result<impl FnOnce() -> io::Result<Lifecycle>, Box<dyn Error>> {
    let Process { listeners, acceptor, workers, control, watchdog, lifecycle } = process;
    let EventLoops { handles, threads, listeners } =
        event_loop::spawn(workers, listeners, acceptor, lifecycle.status())?;
    let accept_loop = AcceptLoop::new(listeners, lifecycle, handles.clone(), threads)?;
    if let Some(control) = control {
        control.spawn(handles.clone())?;
    }
    if let Some(watchdog) = watchdog {
        watchdog.spawn(handles)?;
    }
    Ok(|| accept_loop.run())
}

/// The name, the version and the description of the program.
pub const PROGRAM: Program = Program {
    name: "postern",
    version: env!("CARGO_PKG_VERSION"),
    about: "A WebSocket service behind an API gateway",
    has_workers: true,
    commands: COMMANDS,
};

/// The clients, which are in a crate that the server does not use.
#[cfg(feature = "probe")]
const COMMANDS: &[Command] = &[
    Command {
        name: "probe",
        usage: postern_probe::PROBE_USAGE,
        about: postern_probe::PROBE_ABOUT,
        run: postern_probe::probe,
    },
    Command {
        name: "connect",
        usage: postern_probe::CONNECT_USAGE,
        about: postern_probe::CONNECT_ABOUT,
        run: postern_probe::connect,
    },
    Command {
        name: "top",
        usage: postern_probe::TOP_USAGE,
        about: postern_probe::TOP_ABOUT,
        run: postern_probe::top,
    },
];

#[cfg(not(feature = "probe"))]
const COMMANDS: &[Command] = &[];
