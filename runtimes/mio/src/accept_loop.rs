//! The one thread that accepts: it numbers connections, hands each to the worker with the fewest, and handles requests to
//! stop and to restart.

use std::cmp::Reverse;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use postern_core::ConnectionId;
use postern_core::handshake::Gate;
use postern_core::handshake::Peer;
use postern_core::policy::{DrainConfig, Shutdown, ShutdownAction, ShutdownRequest};
use postern_core::worker::NewConnection;
use postern_host::lifecycle::signals::Signals;
use postern_host::lifecycle::status::ProcessStatus;
use postern_host::lifecycle::successor::SuccessorLauncher;
use postern_host::listen::{Accepted, Acceptor, Listener};
use postern_host::log::Ending;
use slog::{Logger, info, warn};

use crate::event_loop::WorkerThread;

/// Waits for connections and for the wish to stop.
pub(crate) struct AcceptLoop {
    poll: Poll,
    waker: Arc<Waker>,
    listeners: Vec<Listener>,
    signals: Signals,
    acceptor: Acceptor,
    /// Whether the last look at the listeners ended before they had no more connections.
    has_more: bool,
    gate: Gate,
    next_id: u64,
    shutdown: Shutdown,
    drain: DrainRequest,
    launcher: SuccessorLauncher,
    status: ProcessStatus,
    log: Logger,
}

/// Requests from any thread that the process drains. Wake the acceptor after one.
#[derive(Debug, Default, Clone)]
pub(crate) struct DrainRequest(Arc<AtomicBool>);

impl DrainRequest {
    pub(crate) fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Acquire)
    }
}

impl AcceptLoop {
    /// Creates the accept loop for these listeners, which `launcher` hands over. It sets `status` when the process begins to
    /// stop.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        signals: Signals,
        gate: Gate,
        drain: DrainConfig,
        launcher: SuccessorLauncher,
        status: ProcessStatus,
        log: Logger,
    ) -> io::Result<AcceptLoop> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter().enumerate() {
            let descriptor = listener.as_fd().as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(index), Interest::READABLE)?;
        }
        let descriptor = signals.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), SIGNAL, Interest::READABLE)?;
        Ok(AcceptLoop {
            waker: Arc::new(Waker::new(poll.registry(), WAKE)?),
            poll,
            listeners,
            signals,
            acceptor: Acceptor::new()?,
            has_more: false,
            gate,
            next_id: 1,
            shutdown: Shutdown::new(drain),
            drain: DrainRequest::default(),
            launcher,
            status,
            log,
        })
    }

    /// Wakes the accept loop when a worker has ended, or for a request.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Returns the handle by which other threads ask the process to drain.
    pub(crate) fn drain_request(&self) -> DrainRequest {
        self.drain.clone()
    }

    /// Accepts until a request to stop, then waits for the workers to end, as long as [`Shutdown`] allows.
    ///
    /// # Errors
    /// Waiting for events failed.
    pub(crate) fn run(mut self, workers: &[WorkerThread]) -> io::Result<Ending> {
        let mut events = Events::with_capacity(64);
        // A worker ends when it has been told to stop, and at no other time.
        while !workers.iter().all(WorkerThread::is_finished) {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let now = Instant::now();
            let mut steps: Vec<ShutdownAction> =
                self.signals.pending().filter_map(|request| self.shutdown.handle(request, now)).collect();
            if self.drain.take() {
                steps.extend(self.shutdown.handle(ShutdownRequest::Drain, now));
            }
            steps.extend(self.shutdown.handle_timeout(now));
            for action in steps {
                if self.take(action, workers) {
                    return Ok(Ending { shutdown: self.shutdown, signals: self.signals });
                }
            }
            if let Some(serves) = self.launcher.poll_outcome()
                && let Some(action) = self.shutdown.handle_successor(serves, now)
            {
                self.take(action, workers);
            }
            self.accept(workers);
        }
        Ok(Ending { shutdown: self.shutdown, signals: self.signals })
    }

    fn timeout(&self) -> Option<Duration> {
        if self.has_more {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        // A worker says that it is done just before its thread ends.
        let ending = self.listeners.is_empty().then_some(Duration::from_millis(10));
        let due = [self.shutdown.poll_timeout(), self.acceptor.poll_timeout()].into_iter().flatten().min();
        let due = due.map(|at| at.saturating_duration_since(now));
        [ending, due].into_iter().flatten().min()
    }

    /// Takes a step on the way to the end. Says whether it was the last.
    fn take(&mut self, action: ShutdownAction, workers: &[WorkerThread]) -> bool {
        let connections: usize = workers.iter().map(WorkerThread::load).sum();
        match action {
            ShutdownAction::SpawnSuccessor => {
                let waker = self.waker.clone();
                // It fails only if this poll is gone, and with it the waiting thread.
                self.launcher.spawn(self.listeners.iter(), move || drop(waker.wake()));
            }
            ShutdownAction::StopAccepting => {
                self.launcher.kill();
                self.status.set_draining();
                info!(self.log, # "yielding", "serving those who have come"; "connections" => connections);
                self.close_ports();
            }
            ShutdownAction::Announce => {
                self.launcher.kill();
                self.status.set_draining();
                info!(self.log, # "draining", "draining: not ready any more, and still accepting"; "connections" => connections);
            }
            ShutdownAction::Drain(spread) => {
                info!(self.log, # "stopping", "stopping"; "connections" => connections, "spread_s" => spread.as_secs_f64());
                self.stop_accepting(workers);
                workers.iter().for_each(|worker| worker.drain(spread));
            }
            ShutdownAction::Close => {
                info!(self.log, # "stopping", "stopping"; "connections" => connections);
                self.stop_accepting(workers);
                workers.iter().for_each(WorkerThread::close);
            }
            ShutdownAction::Exit => {
                warn!(self.log, # "stopping_at_once", "stopping at once"; "connections" => connections);
                end(workers);
                return true;
            }
        }
        false
    }

    fn stop_accepting(&mut self, workers: &[WorkerThread]) {
        self.launcher.kill();
        self.status.set_draining();
        // Connections in the kernel's queue would get a reset; this way they get an answer.
        self.accept(workers);
        self.close_ports();
    }

    /// Later connections go to a successor, or the kernel refuses them, and clients try another instance.
    fn close_ports(&mut self) {
        for listener in self.listeners.drain(..) {
            // To close a socket that a successor listens on, too, would not do: the poll would go on watching it. It
            // fails only if it has not been watched.
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()));
        }
    }

    /// Accepts the connections that wait. Edges come once, so every listener is asked until it has no more, or until
    /// [`Acceptor`] says to wait. After [`BATCH`] connections of a listener the rest is left to the next turn.
    fn accept(&mut self, workers: &[WorkerThread]) {
        self.has_more = false;
        for index in 0..self.listeners.len() {
            for accepted in 0.. {
                let Some(listener) = self.listeners.get(index) else { return };
                if accepted == BATCH {
                    self.has_more = true;
                    break;
                }
                match self.acceptor.accept(listener, Instant::now(), &self.log) {
                    Accepted::Connection(stream, peer) => self.hand_over(stream, peer, workers),
                    Accepted::Nothing | Accepted::Later(_) => break,
                }
            }
        }
        let refused = self.acceptor.take_refused_count();
        if let Some(worker) = workers.first()
            && refused > 0
        {
            worker.count_refused(refused);
        }
    }

    fn hand_over(&mut self, stream: OwnedFd, peer: Peer, workers: &[WorkerThread]) {
        let now = Instant::now();
        let refusal = self.gate.judge(now);
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        // While there are places it goes where most of them are left; then to one where a handshake can be evicted.
        let preference = |worker: &&WorkerThread| {
            (worker.load(), Reverse(if worker.is_full() { worker.pending() } else { 0 }))
        };
        let Some(worker) = workers.iter().min_by_key(preference) else { return };
        let is_full = worker.is_full();
        worker.arrival(stream, NewConnection { id, peer, refusal });
        let is_fast = is_full && !self.gate.may_displace(now);
        // Descriptors are not counted before they have reached their worker, unless they have a place there.
        let in_transit = || workers.iter().map(WorkerThread::in_transit).sum::<usize>();
        if is_fast || ((is_full || refusal.is_some()) && in_transit() >= MAX_IN_TRANSIT) {
            self.acceptor.pause(now + Gate::PAUSE);
        }
    }
}

/// Has the workers end at once, and waits a moment for it, so that their last records are in the log.
fn end(workers: &[WorkerThread]) {
    workers.iter().for_each(WorkerThread::end);
    let deadline = Instant::now() + MOMENT;
    while !workers.iter().all(WorkerThread::is_finished) && Instant::now() < deadline {
        thread::sleep(MOMENT / 200);
    }
}

/// How long a worker may take for its last turn.
const MOMENT: Duration = Duration::from_millis(200);
/// How many connections of a listener are accepted before signals and times are looked at.
const BATCH: usize = 256;

/// How many connections without a place may be on their way to the workers.
const MAX_IN_TRANSIT: usize = 32;

const SIGNAL: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);
