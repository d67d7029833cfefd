//! The main thread: it executes the actions of the lifecycle. If there are several workers, it also accepts connections,
//! and hands each to the worker with the fewest.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use postern_host::application::WorkerMessage;
use postern_host::lifecycle::{Action, Lifecycle};

use crate::listeners::Listeners;
use crate::worker_handle::{Message, WorkerHandle, WorkerHandles};

/// Waits for actions of the lifecycle, and for connections.
pub(crate) struct AcceptLoop {
    poll: Poll,
    /// `None` if the only event loop accepts.
    listeners: Option<Listeners>,
    /// Whether the workers have been told to stop.
    is_stopping: bool,
    lifecycle: Lifecycle,
    workers: Arc<[WorkerHandle]>,
    threads: Vec<JoinHandle<()>>,
}

impl AcceptLoop {
    /// Creates the accept loop for these workers, which run in `threads`. `listeners` are those that no event loop has.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn new(
        listeners: Option<Listeners>,
        lifecycle: Lifecycle,
        WorkerHandles(workers): WorkerHandles,
        threads: Vec<JoinHandle<()>>,
    ) -> io::Result<AcceptLoop> {
        let poll = Poll::new()?;
        // Every event has the same effect, so the tokens are not checked.
        let lifecycle_events = lifecycle.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&lifecycle_events), Token(0), Interest::READABLE)?;
        if let Some(listeners) = &listeners {
            listeners.register(poll.registry(), Token(0))?;
        }
        Ok(AcceptLoop { poll, listeners, is_stopping: false, lifecycle, workers, threads })
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
        let now = Instant::now();
        // A worker wakes this thread just before its own thread ends.
        let ending = self.is_stopping.then_some(Duration::from_millis(10));
        let accept = self.listeners.as_ref().and_then(|listeners| listeners.poll_timeout(now));
        let due = [self.lifecycle.poll_timeout(), accept].into_iter().flatten().min();
        let due = due.map(|at| at.saturating_duration_since(now));
        [ending, due].into_iter().flatten().min()
    }

    /// Accepts no more, and has the workers end.
    fn stop(&mut self, message: impl Fn() -> WorkerMessage) {
        // The connections in the queues would be reset; this way they get an answer.
        if let Some(listeners) = &mut self.listeners {
            listeners.accept(Instant::now(), usize::MAX, WorkerHandle::hand_over);
        } else {
            // Before the message to stop, in the same inbox.
            self.send(|| Message::AcceptRest);
        }
        self.close_listeners();
        self.is_stopping = true;
        self.send(|| Message::Worker(message()));
    }

    fn close_listeners(&mut self) {
        match &mut self.listeners {
            Some(listeners) => listeners.close(self.poll.registry()),
            None => self.send(|| Message::CloseListeners),
        }
    }

    fn accept(&mut self) {
        let Some(listeners) = &mut self.listeners else { return };
        listeners.accept(Instant::now(), BATCH, WorkerHandle::hand_over);
        let refused = listeners.take_refused_count();
        if let Some(worker) = self.workers.first()
            && refused > 0
        {
            worker.send(Message::CountRefused(refused));
        }
    }

    /// Has the workers end at once, and waits up to [`END_TIMEOUT`] for it, so that their last records are in the log.
    fn end_workers(&self) {
        self.send(|| Message::End);
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(END_TIMEOUT / 200);
        }
    }

    /// Sends a message to each worker.
    fn send(&self, message: impl Fn() -> Message) {
        self.workers.iter().for_each(|worker| worker.send(message()));
    }
}

/// The time that a worker may take for its last turn.
const END_TIMEOUT: Duration = Duration::from_millis(200);

/// The number of connections of a listener that are accepted before signals and times are checked.
const BATCH: usize = 256;
