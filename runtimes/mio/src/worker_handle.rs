//! How other threads reach a worker: its mailbox, and the load that it reports.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use mio::Waker;
use postern_core::worker::{NewConnection, Replaced};
use postern_host::workers::{Job, SubmitError, Workers};

/// What the acceptor, the control port and the other workers send to a worker.
pub(crate) enum WorkerMessage {
    /// A new connection, and the number of other workers that had no place for it.
    NewConnection(OwnedFd, NewConnection, usize),
    /// Work of the control port or the watchdog.
    Job(Job),
    /// The number of clients that the acceptor has refused.
    CountRefused(u64),
    /// A connection that a user of another worker has replaced. Close it if it is one of yours.
    Replaced(Replaced),
    /// Close all connections at once, then end. No connection follows.
    Close,
    /// Close all connections over this time, then end. No connection follows.
    Drain(Duration),
    /// End at once, even if connections remain.
    End,
}

/// A worker, as other threads see it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    mailbox: SyncSender<WorkerMessage>,
    waker: Arc<Waker>,
    load: Arc<WorkerLoad>,
    /// How many connections may have a place.
    places: usize,
}

/// The worker's end of its handle.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) messages: Receiver<WorkerMessage>,
    pub(crate) load: Arc<WorkerLoad>,
}

/// What a worker reports to the acceptor.
#[derive(Debug, Default)]
pub(crate) struct WorkerLoad {
    /// Connections that have a place, or are on their way to one.
    connections: AtomicUsize,
    /// Handshakes in progress, which are evicted for new connections when all places are taken.
    pending: AtomicUsize,
    /// Connections that are on their way to the worker.
    in_transit: AtomicUsize,
}

impl WorkerLoad {
    /// Takes note of a connection that has reached the worker.
    pub(crate) fn handle_arrival(&self) {
        self.in_transit.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_connections(&self, count: usize) {
        self.connections.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn set_pending(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    /// Takes note of a connection that is handed to the worker.
    fn add(&self, connection: &NewConnection) {
        self.in_transit.fetch_add(1, Ordering::Relaxed);
        if connection.refusal.is_none() {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl WorkerHandle {
    /// Creates the handle of a worker with this many places that waits for `waker`, and the worker's end of it.
    pub(crate) fn new(waker: Waker, places: usize) -> (WorkerHandle, Mailbox) {
        let (mailbox, messages) = mpsc::sync_channel(MAILBOX_CAPACITY);
        let load: Arc<WorkerLoad> = Arc::default();
        let handle = WorkerHandle { mailbox, waker: Arc::new(waker), load: load.clone(), places };
        (handle, Mailbox { messages, load })
    }

    /// Connections that have a place, or are on their way to one.
    pub(crate) fn connections(&self) -> usize {
        self.load.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn pending(&self) -> usize {
        self.load.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn in_transit(&self) -> usize {
        self.load.in_transit.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.places
    }

    /// Hands over a connection. Waits while the worker has too many unread messages: the rest wait in the
    /// kernel's queue, where they cost the least.
    pub(crate) fn hand_over(&self, stream: OwnedFd, connection: NewConnection) {
        self.load.add(&connection);
        self.send(WorkerMessage::NewConnection(stream, connection, 0));
    }

    /// Hands over a connection for which `passed` other workers had no place. Returns its socket if the mailbox is full.
    pub(crate) fn try_hand_over(
        &self,
        stream: OwnedFd,
        connection: NewConnection,
        passed: usize,
    ) -> Option<OwnedFd> {
        self.load.add(&connection);
        match self.try_send(WorkerMessage::NewConnection(stream, connection, passed)) {
            Ok(()) => None,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.load.handle_arrival();
                self.load.remove_connections(1);
                if let WorkerMessage::NewConnection(stream, ..) = message { Some(stream) } else { None }
            }
        }
    }

    /// Sends a message, and waits while the mailbox is full. A worker that has ended does not need the message.
    pub(crate) fn send(&self, message: WorkerMessage) {
        if self.mailbox.send(message).is_ok() {
            self.wake();
        }
    }

    /// Sends a message unless the mailbox is full or the worker has ended.
    pub(crate) fn try_send(&self, message: WorkerMessage) -> Result<(), TrySendError<WorkerMessage>> {
        self.mailbox.try_send(message)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // It fails only if the poll is gone, and with it the worker.
        let _ = self.waker.wake();
    }
}

/// All workers, as other threads see them.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandles(pub(crate) Arc<[WorkerHandle]>);

impl Workers for WorkerHandles {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn submit(&self, number: usize, job: Job) -> Result<(), SubmitError> {
        let worker = self.0.get(number).ok_or(SubmitError::Gone)?;
        worker.try_send(WorkerMessage::Job(job)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Disconnected(_) => SubmitError::Gone,
        })
    }
}

/// How many messages the mailbox of a worker holds.
const MAILBOX_CAPACITY: usize = 1024;
