//! The listeners of the process, and the choice of a worker for each accepted connection.

use std::cmp::Reverse;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use postern_core::worker::NewConnection;
use postern_host::listen::{Accepted, Acceptor, Listener};

use crate::worker_handle::{INBOX_LIMIT, WorkerHandle};

/// Accepts connections, for the thread that polls the listeners: the only event loop, or the accept loop if there are
/// several event loops.
#[derive(Debug)]
pub(crate) struct Listeners {
    listeners: Vec<Arc<Listener>>,
    acceptor: Acceptor,
    /// All workers.
    workers: Arc<[WorkerHandle]>,
    /// Whether the last call of [`Listeners::accept`] left connections in the queue of a listener.
    has_more: bool,
}

impl Listeners {
    pub(crate) fn new(
        listeners: Vec<Arc<Listener>>,
        acceptor: Acceptor,
        workers: Arc<[WorkerHandle]>,
    ) -> Listeners {
        Listeners { listeners, acceptor, workers, has_more: false }
    }

    /// Has a poll report new connections under this token.
    ///
    /// # Errors
    /// The kernel cannot watch a listener.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let mut sockets = self.listeners.iter().map(|listener| listener.as_fd().as_raw_fd());
        sockets.try_for_each(|socket| registry.register(&mut SourceFd(&socket), token, Interest::READABLE))
    }

    /// Returns when to call [`accept`](Listeners::accept) at the latest, whether there was an event or not.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.has_more { Some(now) } else { self.acceptor.poll_timeout() }
    }

    /// Accepts the connections in the queues, and passes each to `hand_over` with its worker. Edges are reported once, so
    /// every listener is polled until it has no more, or until [`Acceptor`] says to wait. After `most` connections of a
    /// listener the rest is left to the next call. Closing a listener resets the connections in its queue, so `most` has no
    /// limit in the call before that.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        most: usize,
        mut hand_over: impl FnMut(&WorkerHandle, OwnedFd, NewConnection),
    ) {
        let Listeners { listeners, acceptor, workers, has_more } = self;
        *has_more = false;
        for listener in listeners {
            let mut accepted = 0;
            while let Accepted::Connection(stream, connection) = acceptor.accept(listener, now) {
                let has_refusal = connection.refusal.is_some();
                let Some(worker) = choose(workers) else { return };
                let is_full = worker.is_full();
                worker.expect(&connection);
                hand_over(worker, stream, connection);
                if is_full {
                    acceptor.handle_full(now);
                }
                // Descriptors are not counted before they have reached their worker, unless they have a place there.
                let in_transit = || workers.iter().map(WorkerHandle::in_transit).sum::<usize>();
                let has_no_place = is_full || has_refusal;
                // While a worker does not take its connections, the rest waits in the kernel's queue, where it costs the
                // least.
                if has_no_place && in_transit() >= MAX_IN_TRANSIT || worker.in_transit() >= INBOX_LIMIT {
                    acceptor.pause(now);
                }
                accepted += 1;
                if accepted == most {
                    *has_more = true;
                    break;
                }
            }
        }
    }

    /// Returns the number of clients that were refused with 503 since the last call.
    pub(crate) fn take_refused_count(&mut self) -> u64 {
        self.acceptor.take_refused_count()
    }

    /// Closes the listeners. `registry` belongs to the poll that they are registered with.
    pub(crate) fn close(&mut self, registry: &Registry) {
        for listener in self.listeners.drain(..) {
            // Closing is not enough: the poll watches a socket until all processes that share it have closed it. It fails
            // only if the socket is not watched.
            let _ = registry.deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()));
        }
    }
}

/// Chooses the worker for the next connection: while there are places, the one where most of them are left; then one where
/// a handshake can be evicted.
fn choose(workers: &[WorkerHandle]) -> Option<&WorkerHandle> {
    if let [only] = workers {
        return Some(only);
    }
    let preference = |worker: &&WorkerHandle| {
        (worker.connections(), Reverse(if worker.is_full() { worker.pending() } else { 0 }))
    };
    workers.iter().min_by_key(preference)
}

/// The most connections without a place on their way to the workers.
const MAX_IN_TRANSIT: usize = 32;
