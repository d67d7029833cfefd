//! The interface of a worker to other threads: its inbox, and the load that it reports.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::Waker;
use postern_core::worker::NewConnection;
use postern_host::application::WorkerMessage;
use postern_host::inbox::{Inbox, SendError, Sender, inbox};
use postern_host::workers::{Request, SubmitError, Workers};

/// A message of the acceptor, the control port or another worker to a worker.
pub(crate) enum Message {
    /// A new connection, and the number of other workers that had no place for it.
    NewConnection(OwnedFd, NewConnection, usize),
    /// A request of the control port or the watchdog.
    Request(Request),
    /// The number of clients that the acceptor has refused.
    CountRefused(u64),
    /// A message to the worker in this event loop.
    Worker(WorkerMessage),
    /// Accept all connections in the queues of the listeners. For an event loop that has the listeners.
    AcceptRest,
    /// Close the listeners. For an event loop that has them.
    CloseListeners,
    /// End at once, even if connections remain.
    End,
}

/// A worker, as other threads see it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    sender: Sender<Message>,
    load: Arc<WorkerLoad>,
    /// The number of connections that may have a place.
    places: usize,
}

/// The worker's end of its handle.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) inbox: Inbox<Message>,
    pub(crate) load: Arc<WorkerLoad>,
}

/// The load that a worker reports to the acceptor.
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
    /// Takes note of a connection that has reached the worker. If it begins a handshake, call [`WorkerLoad::set_pending`]
    /// first.
    pub(crate) fn handle_arrival(&self) {
        self.in_transit.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn remove_connections(&self, count: usize) {
        self.connections.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn set_pending(&self, pending: usize) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    /// Takes note of a connection that will reach the worker.
    fn add(&self, connection: &NewConnection) {
        self.in_transit.fetch_add(1, Ordering::Relaxed);
        if connection.refusal.is_none() {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl WorkerHandle {
    /// Creates the handle of a worker with this many places that waits for `waker`, and the worker's end of it.
    pub(crate) fn new(waker: Arc<Waker>, places: usize) -> (WorkerHandle, Mailbox) {
        // It fails only if the poll was dropped, and with it the worker.
        let (sender, inbox) = inbox(move || drop(waker.wake()));
        let load: Arc<WorkerLoad> = Arc::default();
        let handle = WorkerHandle { sender, load: load.clone(), places };
        (handle, Mailbox { inbox, load })
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

    /// Handshakes in progress, and connections on their way to the worker.
    pub(crate) fn handshakes(&self) -> usize {
        // In this order: a worker reports a handshake before it takes the connection off those on their way.
        self.load.in_transit.load(Ordering::Acquire) + self.pending()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.places
    }

    /// Takes note of a connection that is about to be handed over, or opened by the worker itself.
    pub(crate) fn expect(&self, connection: &NewConnection) {
        self.load.add(connection);
    }

    /// Hands over an [expected](WorkerHandle::expect) connection.
    pub(crate) fn hand_over(&self, stream: OwnedFd, connection: NewConnection) {
        self.send(Message::NewConnection(stream, connection, 0));
    }

    /// Hands over a connection for which `passed` other workers had no place. Returns its socket if the inbox is full.
    pub(crate) fn try_hand_over(
        &self,
        stream: OwnedFd,
        connection: NewConnection,
        passed: usize,
    ) -> Option<OwnedFd> {
        self.expect(&connection);
        match self.sender.send_below(INBOX_LIMIT, Message::NewConnection(stream, connection, passed)) {
            Ok(()) => None,
            Err(SendError::Full(message) | SendError::Closed(message)) => {
                self.load.handle_arrival();
                self.load.remove_connections(1);
                if let Message::NewConnection(stream, ..) = message { Some(stream) } else { None }
            }
        }
    }

    /// Sends a message. A worker that has ended does not need it.
    pub(crate) fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }
}

/// All workers, as other threads see them.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandles(pub(crate) Arc<[WorkerHandle]>);

impl Workers for WorkerHandles {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn submit(&self, number: usize, request: Request) -> Result<(), SubmitError> {
        let worker = self.0.get(number).ok_or(SubmitError::Gone)?;
        worker.sender.send_below(INBOX_LIMIT, Message::Request(request)).map_err(|error| match error {
            SendError::Full(_) => SubmitError::Busy,
            SendError::Closed(_) => SubmitError::Gone,
        })
    }

    fn refused(&self) -> u64 {
        self.0.iter().map(|worker| worker.sender.refused()).sum()
    }
}

/// The number of messages that may wait for a worker before messages other than its shutdown are refused.
pub(crate) const INBOX_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use mio::{Poll, Token};
    use postern_core::ConnectionId;
    use postern_core::handshake::Peer;

    use super::*;

    #[test]
    fn a_full_inbox_returns_a_connection_and_counts_it() {
        let poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (handle, mailbox) = WorkerHandle::new(waker, 1);
        (0..INBOX_LIMIT).for_each(|_| handle.send(Message::CountRefused(1)));
        let (stream, _client) = UnixStream::pair().expect("a pair");
        let arrival = NewConnection { id: ConnectionId(1), peer: Peer::Unix, refusal: None };
        let returned = handle.try_hand_over(stream.into(), arrival, 1).expect("the inbox is full");
        assert_eq!((handle.connections(), handle.in_transit()), (0, 0));
        assert_eq!(WorkerHandles([handle.clone()].into()).refused(), 1);
        let mut taken = Vec::new();
        mailbox.inbox.take(&mut taken);
        assert_eq!(taken.len(), INBOX_LIMIT);
        assert!(handle.try_hand_over(returned, arrival, 1).is_none());
    }
}
