//! Whether the process lives, and whether it should be sent more users. The two differ: who is full or about to stop
//! lives well, and to start it anew would send all its users to the others at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use smol::channel::{Receiver, Sender, bounded};

use super::reply::{Reply, as_json};
use super::watchdog::Watchdog;
use super::workers::{Answer, Desk, Worker};
use crate::supervisor::Supervisor;

/// Where a process is between its start and its end. Its runtime says so, the supervisor hears of it, and the control
/// port tells others.
#[derive(Debug, Clone)]
pub struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    is_draining: AtomicBool,
    supervisor: Supervisor,
    /// Nothing is ever sent. It is closed when a successor has taken over.
    handed_over: (Sender<Infallible>, Receiver<Infallible>),
}

/// Of a process that nobody looks after.
impl Default for Phase {
    fn default() -> Phase {
        Phase::new(Supervisor::default())
    }
}

impl Phase {
    /// Of a process that starts.
    pub fn new(supervisor: Supervisor) -> Phase {
        Phase(Arc::new(State { is_draining: AtomicBool::new(false), supervisor, handed_over: bounded(1) }))
    }

    /// From now on the process takes users.
    pub(crate) fn ready(&self) {
        self.0.supervisor.ready();
    }

    /// From now on the process takes no more users, and those that it has are on their way out.
    pub fn drain(&self) {
        if !self.0.is_draining.swap(true, Ordering::Relaxed) {
            self.0.supervisor.stopping();
        }
    }

    /// From now on the process with this number takes the users, and answers at the control port.
    pub(crate) fn hand_over(&self, successor: u32) {
        // To the supervisor the service does not stop.
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.supervisor.succeeded_by(successor);
        self.0.handed_over.0.close();
    }

    /// Waits until a successor has taken over.
    pub(super) async fn handed_over(&self) {
        // An error, since nothing is sent, and the channel is closed then.
        let _ = self.0.handed_over.1.recv().await;
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.0.handed_over.0.is_closed()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.0.supervisor
    }

    /// What gives the supervisor signs of life, if it waits for them.
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.0.supervisor.watchdog().map(|patience| Watchdog::new(self.clone(), patience))
    }
}

/// 503 if a worker has not done anything for ten seconds, although it was asked to.
pub(super) async fn livez(desk: &Desk) -> Reply {
    judge(desk.silent_since().await.map(|since| since.elapsed()))
}

/// What the longest silence of a worker means.
pub(super) fn judge(silence: Option<Duration>) -> Reply {
    match silence {
        Some(silence) if silence >= STUCK => {
            as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stuck" }))
        }
        Some(_) | None => as_json(StatusCode::OK, &json!({ "status": "live" })),
    }
}

/// 503 while the process drains, is full, or has a worker that does not answer.
pub(super) async fn readyz(desk: &Desk, phase: &Phase, max_connections: usize) -> Reply {
    let reasons = unready(desk, phase, max_connections).await;
    if reasons.is_empty() {
        return as_json(StatusCode::OK, &json!({ "status": "ready" }));
    }
    as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "reasons": reasons }))
}

/// Why it should be sent no more users. Nothing, if it may.
async fn unready(desk: &Desk, phase: &Phase, max_connections: usize) -> Vec<&'static str> {
    let load = |worker: &mut dyn Worker| {
        let service = worker.service();
        (service.len(), service.is_nearly_out_of_memory())
    };
    let answers = desk.ask(PATIENCE, || load).await;
    let mut connections = 0;
    let (mut is_out_of_memory, mut is_silent) = (false, false);
    for answer in answers {
        match answer {
            Answer::Said((here, is_short)) => {
                connections += here;
                is_out_of_memory |= is_short;
            }
            Answer::Silent => is_silent = true,
            Answer::Gone => {}
        }
    }
    let reasons = [
        (phase.is_draining(), "draining"),
        (connections >= max_connections, "connections"),
        (is_out_of_memory, "memory"),
        (is_silent, "workers"),
    ];
    reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
}

/// How long a worker may owe a sign of life before the process is better started anew.
const STUCK: Duration = Duration::from_secs(10);

/// How long a worker has to say how full it is. Those who ask wait a second, usually.
const PATIENCE: Duration = Duration::from_millis(500);
