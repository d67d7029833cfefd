//! The interface through which the control port and the watchdog reach the workers of a runtime.
//!
//! The state of a worker belongs to its thread. Another thread submits a [`Job`], a closure that the worker runs
//! between two of its turns, and receives the result over a channel. This costs messages nothing, and a stuck
//! worker is detected because it does not reply.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use postern_core::{Key, Worker};
use smol::Timer;
use smol::channel::{Receiver, bounded};
use smol::future::FutureExt;

use crate::metrics::Counts;

/// The workers of a process. A runtime implements it to have a control port.
pub trait Workers {
    /// Returns the number of workers, including those that have ended.
    fn count(&self) -> usize;

    /// Submits a job to the worker with this number and does not wait for it. The job is dropped if the worker ends
    /// first.
    ///
    /// # Errors
    /// The worker does not accept the job.
    fn submit(&self, number: usize, job: Job) -> Result<(), SubmitError>;
}

/// Work for the thread of a worker.
pub type Job = Box<dyn FnOnce(&mut dyn WorkerContext) + Send>;

/// The worker that runs a [`Job`].
pub trait WorkerContext {
    /// Returns its connections. After the job, the worker settles the connections that the job has made due.
    fn worker(&mut self) -> &mut Worker;
    /// Returns its counters.
    fn counts(&self) -> &Counts;
    /// Returns the time of this turn.
    fn now(&self) -> Instant;
    /// Returns the socket of a connection.
    fn socket(&self, key: Key) -> Option<BorrowedFd<'_>>;
}

/// Why a worker does not accept a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// Its mailbox is full.
    Busy,
    /// It has ended, as workers do when the process stops and they have no connections left.
    Gone,
}

/// Submits `work` to the worker with this number. The result is sent to the [`PendingReply`].
pub(crate) fn call<T: Send + 'static>(
    workers: &dyn Workers,
    number: usize,
    work: impl FnOnce(&mut dyn WorkerContext) -> T + Send + 'static,
) -> Result<PendingReply<T>, SubmitError> {
    let (sender, receiver) = bounded(1);
    let job = move |context: &mut dyn WorkerContext| {
        // It fails if the caller has stopped waiting.
        let _ = sender.try_send(work(context));
    };
    workers.submit(number, Box::new(job))?;
    Ok(PendingReply(receiver))
}

/// A reply that has not arrived yet.
#[derive(Debug)]
pub(crate) struct PendingReply<T>(Receiver<T>);

impl<T> Clone for PendingReply<T> {
    fn clone(&self) -> PendingReply<T> {
        PendingReply(self.0.clone())
    }
}

impl<T> PendingReply<T> {
    /// Waits for the reply until `deadline`.
    pub(crate) async fn until(&self, deadline: Instant) -> Reply<T> {
        // The channel is closed without a reply if the worker has ended and dropped the job.
        let received = async { self.0.recv().await.map_or(Reply::Gone, Reply::Ok) };
        let timeout = async {
            Timer::at(deadline).await;
            Reply::Timeout
        };
        received.or(timeout).await
    }
}

/// How a worker replied to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<T> {
    /// With this result.
    Ok(T),
    /// Not in time. The job may still be done later.
    Timeout,
    /// Not at all: it has ended.
    Gone,
}
