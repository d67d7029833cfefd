//! Queries to all workers at once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::workers::{self, Command, Reply, SubmitError, WorkerReply, Workers};

/// The workers, as the control port queries them.
pub(super) struct WorkerPool(Rc<dyn Workers>);

impl WorkerPool {
    pub(super) fn new(workers: Rc<dyn Workers>) -> WorkerPool {
        WorkerPool(workers)
    }

    pub(super) fn count(&self) -> usize {
        self.0.count()
    }

    /// Returns the number of requests and connections that found the inbox of a worker full.
    pub(super) fn refused(&self) -> u64 {
        self.0.refused()
    }

    /// Submits a command to every worker, in parallel, and waits for all replies, in total at most `timeout`.
    pub(super) async fn query(
        &self,
        timeout: Duration,
        command: impl Into<Command>,
    ) -> Vec<Reply<WorkerReply>> {
        let command = Arc::new(command.into());
        let pending: Vec<_> =
            (0..self.count()).map(|number| workers::call(&*self.0, number, command.clone())).collect();
        let deadline = Instant::now() + timeout;
        let mut replies = Vec::with_capacity(pending.len());
        for pending in pending {
            replies.push(match pending {
                Ok(reply) => reply.until(deadline).await,
                Err(SubmitError::Busy) => Reply::Timeout,
                Err(SubmitError::Gone) => Reply::Gone,
            });
        }
        replies
    }
}
