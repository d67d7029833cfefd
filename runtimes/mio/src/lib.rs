//! Postern for production: one acceptor, and as many event loops as there are cores.
//!
//! * `accept_loop`: accepts, numbers and hands out connections; passes the wish to stop on.
//! * `event_loop`: one event loop around one [`Worker`], and how other threads reach it.
//! * `socket`: a worker's sockets.

mod accept_loop;
mod event_loop;
mod socket;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use postern_core::Worker;
use postern_host::assertion;
use postern_host::control::Control;
use postern_host::lifecycle::reload::Reload;
use postern_host::lifecycle::signals::Signals;
use postern_host::lifecycle::status::ProcessStatus;
use postern_host::lifecycle::successor::{InheritError, InheritedListeners, SuccessorLauncher};
use postern_host::lifecycle::supervisor::Supervisor;
use postern_host::lifecycle::watchdog::Watchdog;
use postern_host::log::{self, Ending, Log};
use postern_host::settings::{self, Plan, Program, SharedParts};
use slog::{crit, info};

use accept_loop::AcceptLoop;
use event_loop::ProcessHandle;

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
    let acceptor =
        AcceptLoop::new(listeners, signals, gate, drain, launcher, status.clone(), logger.clone())?;
    let waker = acceptor.waker();
    let all_handles = Arc::new(OnceLock::new());
    let mut workers = Vec::new();
    for index in 0..plan.event_loops() {
        let config = plan.worker(index, &parts);
        let (places, max_memory) = (config.max_connections.unwrap_or(usize::MAX), config.max_memory);
        let worker = Worker::new(Arc::new(config), RandomState::new().hash_one(index), Instant::now());
        let waker = waker.clone();
        let worker_log = log.worker(parts.instance);
        // It fails only if the accept loop has ended, and then no wake-up is needed.
        let done = move || drop(waker.wake());
        workers.push(event_loop::spawn(
            index,
            places,
            max_memory,
            all_handles.clone(),
            worker,
            || worker_log,
            done,
        )?);
    }
    let handles = || -> Vec<_> { workers.iter().map(event_loop::WorkerThread::handle).collect() };
    // It is set only here.
    let _ = all_handles.set(handles());
    let process =
        || ProcessHandle { workers: handles(), drain: acceptor.drain_request(), acceptor: waker.clone() };
    if let Some(control) = control {
        control.spawn(process())?;
    }
    if let Some(watchdog) = Watchdog::new(&status) {
        watchdog.spawn(process())?;
    }
    inherited.notify_ready(&status, &logger);
    let ending = acceptor.run(&workers).inspect_err(|error| crit!(logger, # "failed", "{error}"))?;
    info!(logger, # "stopped", "stopped");
    Ok(ending)
}

const PROGRAM: Program = Program {
    name: "postern",
    version: env!("CARGO_PKG_VERSION"),
    about: "A WebSocket service behind an API gateway",
    has_workers: true,
};
