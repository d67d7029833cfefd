//! The state of the lifecycle that the other threads of a process see, and their requests to it.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_core::handshake::Readiness;
use rustix::net::{SendFlags, send};
use smol::channel::{Receiver, Sender, bounded};

use super::supervisor::Supervisor;

/// The phase of a process between its start and its end. The [`Lifecycle`](super::Lifecycle) sets it; the supervisor and
/// the control port's probes report it. Other threads reach the lifecycle through it.
#[derive(Debug, Clone)]
pub struct ProcessStatus(Arc<State>);

#[derive(Debug)]
struct State {
    is_draining: AtomicBool,
    is_drain_requested: AtomicBool,
    /// Makes the descriptor of the lifecycle readable.
    waker: Option<Arc<UnixStream>>,
    supervisor: Supervisor,
    /// No message is ever sent. It is closed when a successor has taken over.
    handed_over: (Sender<Infallible>, Receiver<Infallible>),
}

impl Readiness for State {
    fn is_ready(&self) -> bool {
        !self.is_draining.load(Ordering::Relaxed)
    }
}

/// The status of a process without a supervisor and without a lifecycle.
impl Default for ProcessStatus {
    fn default() -> ProcessStatus {
        ProcessStatus::new(Supervisor::default(), None)
    }
}

impl ProcessStatus {
    /// Creates the status of a process that starts. A byte sent to `waker` wakes its lifecycle.
    pub(crate) fn new(supervisor: Supervisor, waker: Option<Arc<UnixStream>>) -> ProcessStatus {
        ProcessStatus(Arc::new(State {
            is_draining: AtomicBool::new(false),
            is_drain_requested: AtomicBool::new(false),
            waker,
            supervisor,
            handed_over: bounded(1),
        }))
    }

    /// Asks the lifecycle to drain the process, which is not ready from now on. Repeating it has no effect.
    pub(crate) fn request_drain(&self) {
        self.0.is_drain_requested.store(true, Ordering::Release);
        self.wake();
        // Not left to the lifecycle: a probe that follows the answer to this request must not find the process ready.
        self.set_draining();
    }

    pub(crate) fn take_drain_request(&self) -> bool {
        self.0.is_drain_requested.swap(false, Ordering::Acquire)
    }

    /// Wakes the runtime that waits for the lifecycle.
    pub fn wake(&self) {
        if let Some(waker) = &self.0.waker {
            // It fails if the lifecycle has not read earlier bytes yet, and is awake, or if it was dropped.
            let _ = send(waker, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Reports that the process serves.
    pub(crate) fn set_ready(&self) {
        self.0.supervisor.ready();
    }

    /// Reports that the process stops, to the supervisor and to health checks.
    pub(crate) fn set_draining(&self) {
        if !self.0.is_draining.swap(true, Ordering::Relaxed) {
            self.0.supervisor.stopping();
        }
    }

    /// Reports that the process with this number serves from now on, for users and at the control port.
    pub(crate) fn set_handed_over(&self, successor: u32) {
        // For the supervisor the service continues.
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.supervisor.set_main_pid(successor);
        self.0.handed_over.0.close();
    }

    /// Waits until a successor has taken over.
    pub(crate) async fn handed_over(&self) {
        // It returns an error when the channel is closed; no message is ever sent.
        let _ = self.0.handed_over.1.recv().await;
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.0.handed_over.0.is_closed()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Whether the process is ready for users, for health checks on the data port.
    pub(crate) fn readiness(&self) -> Arc<dyn Readiness> {
        self.0.clone()
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.0.supervisor
    }
}
