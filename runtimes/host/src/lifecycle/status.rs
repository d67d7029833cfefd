//! Where a process is between its start and its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_core::handshake::Readiness;
use smol::channel::{Receiver, Sender, bounded};

use super::supervisor::Supervisor;

/// The phase of a process between its start and its end. The runtime sets it; the supervisor and the control port's probes
/// report it.
#[derive(Debug, Clone)]
pub struct ProcessStatus(Arc<State>);

#[derive(Debug)]
struct State {
    is_draining: AtomicBool,
    supervisor: Supervisor,
    /// Nothing is ever sent. It is closed when a successor has taken over.
    handed_over: (Sender<Infallible>, Receiver<Infallible>),
}

impl Readiness for State {
    fn is_ready(&self) -> bool {
        !self.is_draining.load(Ordering::Relaxed)
    }
}

/// The status of a process without a supervisor.
impl Default for ProcessStatus {
    fn default() -> ProcessStatus {
        ProcessStatus::new(Supervisor::default())
    }
}

impl ProcessStatus {
    /// Of a process that starts.
    pub fn new(supervisor: Supervisor) -> ProcessStatus {
        ProcessStatus(Arc::new(State {
            is_draining: AtomicBool::new(false),
            supervisor,
            handed_over: bounded(1),
        }))
    }

    /// From now on the process takes users.
    pub(crate) fn set_ready(&self) {
        self.0.supervisor.ready();
    }

    /// From now on the process takes no more users, and those that it has are on their way out.
    pub fn set_draining(&self) {
        if !self.0.is_draining.swap(true, Ordering::Relaxed) {
            self.0.supervisor.stopping();
        }
    }

    /// From now on the process with this number takes the users, and answers at the control port.
    pub(crate) fn set_handed_over(&self, successor: u32) {
        // To the supervisor the service does not stop.
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.supervisor.set_main_pid(successor);
        self.0.handed_over.0.close();
    }

    /// Waits until a successor has taken over.
    pub(crate) async fn handed_over(&self) {
        // An error, since nothing is sent, and the channel is closed then.
        let _ = self.0.handed_over.1.recv().await;
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.0.handed_over.0.is_closed()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Whether the process takes users, for health checks on the data port.
    pub fn readiness(&self) -> Arc<dyn Readiness> {
        self.0.clone()
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.0.supervisor
    }
}
