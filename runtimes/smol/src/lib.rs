//! Postern for small hosts, and a tutorial: the same service on one smol executor, one task per connection.
//!
//! * `state`: the [`Worker`] and one turn of a connection. Nothing in it waits.
//! * `tasks`: the tasks and their waits.
//! * `notify`: how one task wakes another.
//! * `reactor`: how all of them wait for the kernel.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod notify;
mod reactor;
mod state;
mod tasks;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use postern_core::Worker;
use postern_host::assertion;
use postern_host::control::Control;
use postern_host::lifecycle::reload::Reload;
use postern_host::lifecycle::signals::Signals;
use postern_host::lifecycle::status::ProcessStatus;
use postern_host::lifecycle::successor::{InheritError, InheritedListeners, SuccessorLauncher};
use postern_host::lifecycle::supervisor::Supervisor;
use postern_host::listen::Acceptor;
use postern_host::log::{self, Ending, Log};
use postern_host::settings::{self, Plan, Program, SharedParts};
use slog::{crit, info};
use smol::LocalExecutor;

use reactor::Reactor;
use state::ExecutorState;
use tasks::Runtime;

/// Runs the program: takes settings from flags, the environment and `.env`, serves until a signal ends it, and returns its
/// exit status.
///
/// A function of a library, so that the end-to-end tests can build a binary of it for themselves.
pub fn main() -> ExitCode {
    let inherited = InheritedListeners::from_environment();
    let plan = settings::load_or_exit(&PROGRAM);
    log::run(&PROGRAM, &plan.log, plan.settings.drain.hard, |log| serve(&plan, inherited, log))
}

/// Serves until a request to stop.
fn serve(
    plan: &Plan,
    inherited: Result<InheritedListeners, InheritError>,
    log: &Log,
) -> Result<Ending, Box<dyn std::error::Error>> {
    let logger = log.logger();
    let mut signals = Signals::register(&logger)?;
    let mut inherited = inherited?;
    let listeners = inherited.listeners(&plan.settings, &logger)?;
    let status = ProcessStatus::new(Supervisor::from_environment(&logger));
    let control = Control::bind(plan, &listeners, inherited.control(), &status, log)?;
    let launcher = SuccessorLauncher::new(control.as_ref(), &status, &logger)?;
    plan.announce(&listeners, &logger);
    let (assertion, keys) = assertion::start(plan.settings.assertion.as_ref(), &logger)?.unzip();
    signals.set_reload(Reload::new(plan, keys, &logger));
    let parts = SharedParts {
        readiness: status.readiness(),
        assertion,
        // 32 bits distinguish the processes in one log.
        instance: RandomState::new().hash_one("instance") as u32,
        hash_seed: RandomState::new().hash_one(0),
    };
    let (gate, drain) = (plan.gate(), plan.drain(&listeners));
    let worker =
        Worker::new(Arc::new(plan.worker(0, &parts)), RandomState::new().hash_one(0), Instant::now());
    let worker = Rc::new(RefCell::new(ExecutorState::new(worker, log.worker(parts.instance))));
    let executor = Rc::new(LocalExecutor::new());
    let reactor = Reactor::new()?;
    let acceptor = Acceptor::new()?;
    let runtime =
        Runtime::new(reactor.clone(), worker.clone(), gate, acceptor, drain, status, logger.clone());
    let run = runtime.run(&executor, listeners, control, signals, inherited, launcher);
    let ended = reactor.block_on(executor.run(run)).and_then(|ended| ended);
    // Tasks that were not waited for keep the worker, and with it its log.
    worker.borrow_mut().finish_log();
    let ending = ended.inspect_err(|error| crit!(logger, # "failed", "{error}"))?;
    info!(logger, # "stopped", "stopped");
    Ok(ending)
}

const PROGRAM: Program = Program {
    name: "postern-smol",
    version: env!("CARGO_PKG_VERSION"),
    about: "A WebSocket service behind an API gateway, for small hosts",
    has_workers: false,
};
