//! Postern for small hosts, and a tutorial: the same service on one smol executor, one task per connection.
//!
//! * `state`: the [`Worker`](postern_core::Worker) and one turn of a connection. It never waits.
//! * `tasks`: the tasks and their waits.
//! * `notify`: a notification between tasks.
//! * `reactor`: the waits of all tasks for the kernel.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod notify;
mod reactor;
mod state;
mod tasks;

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use postern_host::lifecycle::{self, Lifecycle, Process};
use postern_host::settings::Program;
use smol::LocalExecutor;

use reactor::Reactor;
use state::ExecutorState;
use tasks::Runtime;

/// Runs the program: takes settings from flags, the environment and `.env`, serves until a signal ends it, and returns its
/// exit status.
///
/// A function of a library, so that the end-to-end tests can build a binary of it for themselves.
pub fn main() -> ExitCode {
    lifecycle::run(&PROGRAM, start)
}

/// Prepares the executor. What it returns runs it.
fn start(mut process: Process) -> Result<impl FnOnce() -> io::Result<Lifecycle>, Box<dyn Error>> {
    let mut parts = process.workers.pop().ok_or("this runtime needs a worker")?;
    // One notification is enough for any number of events.
    let (wake, events) = smol::channel::bounded(1);
    parts.channels.start(move || {
        let _ = wake.try_send(());
    });
    let reactor = Reactor::new()?;
    Ok(move || {
        let worker = Rc::new(RefCell::new(ExecutorState::new(parts.worker, parts.channels, parts.recorder)));
        let executor = Rc::new(LocalExecutor::new());
        let runtime = Runtime::new(reactor.clone(), worker.clone(), process.acceptor);
        let run = runtime.run(
            &executor,
            process.listeners,
            process.control,
            process.watchdog,
            events,
            process.lifecycle,
        );
        let ended = reactor.block_on(executor.run(run)).and_then(|ended| ended);
        // Tasks that were not waited for keep the worker, and with it its log.
        worker.borrow_mut().recorder.log.finish();
        ended
    })
}

const PROGRAM: Program = Program {
    name: "postern-smol",
    version: env!("CARGO_PKG_VERSION"),
    about: "A WebSocket service behind an API gateway, for small hosts",
    has_workers: false,
    commands: &[],
};
