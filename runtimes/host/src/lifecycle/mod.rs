//! The life of a process, from its start to its exit.
//!
//! * [`Process`] is what a runtime gets to serve with, and [`run`] the start and the end that all runtimes share.
//! * [`Lifecycle`] decides what follows from signals, requests and time.
//! * `signals` delivers the signals of the process; `reload` is what SIGHUP does.
//! * `status` is what other threads see of the lifecycle, and how they reach it.
//! * `supervisor` notifies the program that started this process, such as systemd; `watchdog` keeps doing so while all
//!   workers make progress.
//! * `successor` passes the listeners to a new process, or takes them from the previous one.

pub(crate) mod signals;
pub(crate) mod status;
pub(crate) mod supervisor;
pub(crate) mod watchdog;

mod reload;
mod start;
pub(crate) mod successor;

use std::iter;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use postern_core::policy::{Shutdown, ShutdownAction, ShutdownRequest};
use slog::{Logger, info, warn};

pub use start::{Process, WorkerParts, run};
pub use status::ProcessStatus;
pub use watchdog::Watchdog;

use signals::Signals;
use successor::{InheritedListeners, SuccessorLauncher};

/// The state of a process between its start and its exit. A runtime drives it, and stops when it says so.
///
/// ```text
/// lifecycle.notify_ready();
/// loop {
///     wait until `lifecycle` is readable, or until `lifecycle.poll_timeout()`
///     while let Some(action) = lifecycle.poll_action(Instant::now(), connections, handshakes) { … }
/// }
/// ```
///
/// Its descriptor becomes readable when there is a signal, a request of another thread, or a result of a successor.
#[derive(Debug)]
pub struct Lifecycle {
    shutdown: Shutdown,
    signals: Signals,
    launcher: SuccessorLauncher,
    /// The inherited listeners, until the process is ready.
    inherited: InheritedListeners,
    status: ProcessStatus,
    log: Logger,
}

/// The next action of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Close the listeners. The connections in their queues are left to another process. Continue to serve.
    CloseListeners,
    /// Accept the connections in the queues of the listeners: closing a listener would reset them. Close the listeners, drain
    /// the workers over this time, and return after the last connection.
    Drain(Duration),
    /// The same, but close all connections at once.
    Close,
    /// Return, even if connections remain.
    Exit,
}

impl Lifecycle {
    /// Reports that the process serves: to its supervisor, and to its predecessor, which drains then.
    pub fn notify_ready(&mut self) {
        mem::take(&mut self.inherited).notify_ready(&self.status, &self.log);
    }

    /// Returns the part of its state that other threads see.
    pub fn status(&self) -> &ProcessStatus {
        &self.status
    }

    /// Returns what the runtime must do next, if anything. Call this until it returns `None` before waiting again.
    /// `connections` counts the connections of the process, for the log, and `handshakes` the handshakes in progress, for
    /// which the process waits before it closes connections.
    pub fn poll_action(
        &mut self,
        now: Instant,
        connections: impl Fn() -> usize,
        handshakes: impl Fn() -> usize,
    ) -> Option<Action> {
        loop {
            if self.shutdown.waits_for_handshakes() {
                self.shutdown.handle_handshakes(handshakes(), now);
            }
            let action = self.next_action(now)?;
            if let Some(action) = self.begin(action, &connections) {
                return Some(action);
            }
        }
    }

    /// Returns when to call [`poll_action`](Lifecycle::poll_action) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.shutdown.poll_timeout()?;
        let counted = self.shutdown.waits_for_handshakes().then(|| Instant::now() + COUNT_INTERVAL);
        Some(counted.map_or(due, |at| at.min(due)))
    }

    /// Returns the time by which the process must have ended; `None` if it may end at once.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.shutdown.deadline()
    }

    /// Whether a signal has asked the process to end at once. Call it after the runtime has returned.
    pub(crate) fn poll_exit(&mut self, now: Instant) -> bool {
        let shutdown = &mut self.shutdown;
        let mut actions = self.signals.pending().filter_map(|request| shutdown.handle(request, now));
        let is_exit = actions.any(|action| action == ShutdownAction::Exit);
        // The caller knows the deadline, so an action that is due by now is ignored.
        let _ = shutdown.handle_timeout(now);
        is_exit
    }

    /// Returns the next action. Requests are handled before time, as [`Shutdown::handle`] requires. Requests after the
    /// first that has an effect are left to the next call.
    fn next_action(&mut self, now: Instant) -> Option<ShutdownAction> {
        let Lifecycle { shutdown, signals, launcher, status, .. } = self;
        let drain = iter::from_fn(|| status.take_drain_request().then_some(ShutdownRequest::Drain));
        let requested = signals.pending().chain(drain).find_map(|request| shutdown.handle(request, now));
        requested
            .or_else(|| shutdown.handle_timeout(now))
            .or_else(|| shutdown.handle_successor(launcher.poll_outcome()?, now))
    }

    /// Does the part of an action that is the same for all runtimes. Returns the other part.
    fn begin(&mut self, action: ShutdownAction, connections: impl Fn() -> usize) -> Option<Action> {
        if action == ShutdownAction::SpawnSuccessor {
            self.launcher.spawn();
            return None;
        }
        self.launcher.stop();
        self.status.set_draining();
        let (log, connections) = (&self.log, connections());
        match action {
            ShutdownAction::SpawnSuccessor => None,
            ShutdownAction::Announce => {
                info!(log, # "draining", "draining: reporting not ready, still accepting"; "connections" => connections);
                None
            }
            ShutdownAction::StopAccepting => {
                info!(log, # "yielding", "serving the connections accepted so far"; "connections" => connections);
                Some(Action::CloseListeners)
            }
            ShutdownAction::Drain(spread) => {
                info!(log, # "stopping", "stopping"; "connections" => connections, "spread_s" => spread.as_secs_f64());
                Some(Action::Drain(spread))
            }
            ShutdownAction::Close => {
                info!(log, # "stopping", "stopping"; "connections" => connections);
                Some(Action::Close)
            }
            ShutdownAction::Exit => {
                warn!(log, # "stopping_at_once", "stopping at once"; "connections" => connections);
                Some(Action::Exit)
            }
        }
    }
}

/// The interval in which the handshakes in progress are counted while the process waits for them.
const COUNT_INTERVAL: Duration = Duration::from_millis(10);

impl AsFd for Lifecycle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
