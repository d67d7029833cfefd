//! The thread that accepts: it hands each connection to the worker with the fewest, and stops the process on request of
//! the lifecycle.

use std::cmp::Reverse;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use postern_core::worker::{NewConnection, WorkerMessage};
use postern_host::lifecycle::{Action, Lifecycle};
use postern_host::listen::{Accepted, Acceptor, Listener};

use crate::worker_handle::{INBOX_LIMIT, Message, WorkerHandle, WorkerHandles};

/// Waits for connections, and for actions of the lifecycle.
pub(crate) struct AcceptLoop {
    poll: Poll,
    listeners: Vec<Arc<Listener>>,
    acceptor: Acceptor,
    /// Whether the last turn left connections in the queue of a listener.
    has_more: bool,
    lifecycle: Lifecycle,
    workers: Arc<[WorkerHandle]>,
    threads: Vec<JoinHandle<()>>,
}

impl AcceptLoop {
    /// Creates the accept loop for these listeners and workers, which run in `threads`.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn new(
        listeners: Vec<Arc<Listener>>,
        acceptor: Acceptor,
        lifecycle: Lifecycle,
        WorkerHandles(workers): WorkerHandles,
        threads: Vec<JoinHandle<()>>,
    ) -> io::Result<AcceptLoop> {
        let poll = Poll::new()?;
        let sources = listeners.iter().map(AsFd::as_fd).chain([lifecycle.as_fd()]);
        // Every event has the same effect, so the tokens are not checked.
        for source in sources {
            poll.registry().register(&mut SourceFd(&source.as_raw_fd()), Token(0), Interest::READABLE)?;
        }
        Ok(AcceptLoop { poll, listeners, acceptor, has_more: false, lifecycle, workers, threads })
    }

    /// Accepts until the lifecycle ends that, then waits for the workers to end, as long as it allows.
    ///
    /// # Errors
    /// Waiting for events failed.
    pub(crate) fn run(mut self) -> io::Result<Lifecycle> {
        self.lifecycle.notify_ready();
        let workers = self.workers.clone();
        let connections = || workers.iter().map(WorkerHandle::connections).sum();
        // Twice, because a full worker may pass a connection on to a worker that has been counted.
        let handshakes = || {
            let count = || workers.iter().map(WorkerHandle::handshakes).sum::<usize>();
            count().max(count())
        };
        let mut events = Events::with_capacity(64);
        // A worker ends only after it has been told to stop.
        while !self.has_ended() {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            while let Some(action) = self.lifecycle.poll_action(Instant::now(), connections, handshakes) {
                match action {
                    Action::CloseListeners => self.close_listeners(),
                    Action::Drain(spread) => self.stop(|| WorkerMessage::Drain(spread)),
                    Action::Close => self.stop(|| WorkerMessage::Close),
                    Action::Exit => {
                        self.end_workers();
                        return Ok(self.lifecycle);
                    }
                }
            }
            self.accept();
        }
        Ok(self.lifecycle)
    }

    fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    fn timeout(&self) -> Option<Duration> {
        if self.has_more {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        // A worker wakes this thread just before its own thread ends.
        let ending = self.listeners.is_empty().then_some(Duration::from_millis(10));
        let due = [self.lifecycle.poll_timeout(), self.acceptor.poll_timeout()].into_iter().flatten().min();
        let due = due.map(|at| at.saturating_duration_since(now));
        [ending, due].into_iter().flatten().min()
    }

    /// Accepts no more, and has the workers end.
    fn stop(&mut self, message: impl Fn() -> WorkerMessage) {
        // The connections in the queues would be reset; this way they get an answer.
        self.accept();
        while self.has_more {
            self.accept();
        }
        self.close_listeners();
        self.workers.iter().for_each(|worker| worker.send(Message::Worker(message())));
    }

    fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            // Closing is not enough: the poll watches a socket until all processes that share it have closed it. It fails
            // only if the socket is not watched.
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()));
        }
    }

    /// Accepts the connections that wait. Edges are reported once, so every listener is polled until it has no more, or
    /// until [`Acceptor`] says to wait. After [`BATCH`] connections of a listener the rest is left to the next turn.
    fn accept(&mut self) {
        self.has_more = false;
        for index in 0..self.listeners.len() {
            for accepted in 0.. {
                let Some(listener) = self.listeners.get(index) else { return };
                if accepted == BATCH {
                    self.has_more = true;
                    break;
                }
                let now = Instant::now();
                match self.acceptor.accept(listener, now) {
                    Accepted::Connection(stream, connection) => self.hand_over(stream, connection, now),
                    Accepted::Nothing | Accepted::Later(_) => break,
                }
            }
        }
        let refused = self.acceptor.take_refused_count();
        if let Some(worker) = self.workers.first()
            && refused > 0
        {
            worker.send(Message::CountRefused(refused));
        }
    }

    fn hand_over(&mut self, stream: OwnedFd, connection: NewConnection, now: Instant) {
        // While there are places it goes where most of them are left; then to one where a handshake can be evicted.
        let preference = |worker: &&WorkerHandle| {
            (worker.connections(), Reverse(if worker.is_full() { worker.pending() } else { 0 }))
        };
        let Some(worker) = self.workers.iter().min_by_key(preference) else { return };
        let is_full = worker.is_full();
        worker.hand_over(stream, connection);
        if is_full {
            self.acceptor.handle_full(now);
        }
        // Descriptors are not counted before they have reached their worker, unless they have a place there.
        let in_transit = || self.workers.iter().map(WorkerHandle::in_transit).sum::<usize>();
        let has_no_place = is_full || connection.refusal.is_some();
        // While a worker does not take its connections, the rest waits in the kernel's queue, where it costs the least.
        if has_no_place && in_transit() >= MAX_IN_TRANSIT || worker.in_transit() >= INBOX_LIMIT {
            self.acceptor.pause(now);
        }
    }

    /// Has the workers end at once, and waits up to [`END_TIMEOUT`] for it, so that their last records are in the log.
    fn end_workers(&self) {
        for worker in self.workers.iter() {
            worker.send(Message::End);
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(END_TIMEOUT / 200);
        }
    }
}

/// The time that a worker may take for its last turn.
const END_TIMEOUT: Duration = Duration::from_millis(200);

/// The number of connections of a listener that are accepted before signals and times are checked.
const BATCH: usize = 256;

/// The most connections without a place on their way to the workers.
const MAX_IN_TRANSIT: usize = 32;
