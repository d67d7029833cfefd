//! Probes that detect stuck workers, for the watchdog and `/livez`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::worker::AdminRequest;

use crate::workers::{self, PendingReply, Reply, SubmitError, Workers};

/// Probes all workers of a process: each gets a probe and is unresponsive until it has replied.
pub(crate) struct Liveness {
    workers: Rc<dyn Workers>,
    /// For each worker its unanswered probe. A worker has at most one.
    pending: RefCell<Vec<Option<PendingProbe>>>,
}

#[derive(Debug)]
struct PendingProbe {
    since: Instant,
    /// `None` if the worker was too busy to accept the probe.
    reply: Option<PendingReply>,
}

impl Liveness {
    pub(crate) fn new(workers: Rc<dyn Workers>) -> Liveness {
        let pending = (0..workers.count()).map(|_| None).collect();
        Liveness { workers, pending: RefCell::new(pending) }
    }

    /// Probes all workers and returns since when one has been unresponsive: the earliest time if there are several. A
    /// sleeping worker has [`PROBE_TIMEOUT`] to wake up.
    pub(crate) async fn unresponsive_since(&self) -> Option<Instant> {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let mut earliest = None;
        for number in 0..self.workers.count() {
            self.probe(number);
            let reply = self.pending.borrow().get(number).and_then(|probe| probe.as_ref()?.reply.clone());
            // A concurrent call may have received the reply and cleared the probe, so the time is looked up
            // afterwards.
            if let Some(reply) = reply
                && !matches!(reply.until(deadline).await, Reply::Timeout)
            {
                self.clear(number);
            }
            let since = self.pending.borrow().get(number).and_then(|probe| Some(probe.as_ref()?.since));
            earliest = [earliest, since].into_iter().flatten().min();
        }
        earliest
    }

    /// Sends a probe to a worker, unless it has one already.
    fn probe(&self, number: usize) {
        let mut pending = self.pending.borrow_mut();
        let Some(pending) = pending.get_mut(number) else { return };
        if let Some(PendingProbe { reply: Some(_), .. }) = pending {
            return;
        }
        match workers::call(&*self.workers, number, Arc::new(AdminRequest::Probe.into())) {
            Ok(reply) => {
                let since = pending.take().map_or_else(Instant::now, |probe| probe.since);
                *pending = Some(PendingProbe { since, reply: Some(reply) });
            }
            Err(SubmitError::Busy) => {
                pending.get_or_insert_with(|| PendingProbe { since: Instant::now(), reply: None });
            }
            Err(SubmitError::Gone) => *pending = None,
        }
    }

    fn clear(&self, number: usize) {
        if let Some(pending) = self.pending.borrow_mut().get_mut(number) {
            *pending = None;
        }
    }
}

/// The time that a worker may take to answer a probe before it counts as unresponsive.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
