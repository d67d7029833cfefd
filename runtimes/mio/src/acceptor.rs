//! The one thread that accepts: it numbers connections, hands each to the worker with the fewest, and passes
//! the wish to stop on.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use postern_core::ConnectionId;
use postern_core::handshake::Peer;
use postern_core::policy::Gate;
use postern_core::service::Arrival;
use postern_host::control::Phase;
use postern_host::listen::{AcceptBackoff, Listener};
use slog::{Logger, info, warn};

use crate::worker::Handle;

/// Waits for connections and for the wish to stop.
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    signals: UnixStream,
    backoff: AcceptBackoff,
    gate: Gate,
    next_id: u64,
    phase: Phase,
    log: Logger,
}

impl Acceptor {
    /// An acceptor on these listeners. `signals` gives a byte for each wish to stop, and `phase` is told of the first.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        signals: StdUnixStream,
        gate: Gate,
        phase: Phase,
        log: Logger,
    ) -> io::Result<Acceptor> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter().enumerate() {
            let descriptor = listener.as_fd().as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(index), Interest::READABLE)?;
        }
        let mut signals = UnixStream::from_std(signals);
        poll.registry().register(&mut signals, SIGNAL, Interest::READABLE)?;
        let backoff = AcceptBackoff::new()?;
        Ok(Acceptor { poll, listeners, signals, backoff, gate, next_id: 1, phase, log })
    }

    /// Wakes the acceptor when a worker has ended. To be asked for once: a poll has one waker.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub(crate) fn waker(&self) -> io::Result<Arc<Waker>> {
        Waker::new(self.poll.registry(), WORKER_DONE).map(Arc::new)
    }

    /// Accepts until it is told to stop, then waits for the workers to end. A second wish ends that wait.
    ///
    /// # Errors
    /// Waiting for events failed.
    pub(crate) fn run(mut self, workers: &[Handle]) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut is_stopping = false;
        while !(is_stopping && workers.iter().all(Handle::is_finished)) {
            // A worker says that it is done just before its thread ends.
            let timeout = if is_stopping {
                Some(Duration::from_millis(10))
            } else {
                self.backoff.remaining(Instant::now())
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for _ in 0..self.read_signals() {
                if is_stopping {
                    warn!(self.log, "stopping at once");
                    return Ok(());
                }
                info!(self.log, "stopping"; "connections" => workers.iter().map(Handle::load).sum::<usize>());
                is_stopping = true;
                self.phase.drain();
                // Whoever is in the kernel's queue already would get a reset; so they get an answer.
                self.accept(workers);
                // Closes the ports: whoever comes now is refused by the kernel, and tries another instance.
                self.listeners.clear();
                workers.iter().for_each(Handle::stop);
            }
            self.accept(workers);
        }
        Ok(())
    }

    /// How many wishes to stop have arrived.
    fn read_signals(&mut self) -> usize {
        self.signals.read(&mut [0; 16]).unwrap_or(0)
    }

    /// Accepts all that wait. Edges come once, so every listener is asked until it has no more.
    fn accept(&mut self, workers: &[Handle]) {
        for index in 0..self.listeners.len() {
            while self.backoff.may_accept(Instant::now()) {
                let Some(listener) = self.listeners.get(index) else { return };
                match listener.accept() {
                    Ok((stream, peer)) => {
                        self.backoff.succeeded();
                        self.hand_over(stream, peer, workers);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.backoff.failed(&error, Instant::now(), &self.log, || listener.accept());
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, stream: OwnedFd, peer: Peer, workers: &[Handle]) {
        let connections: usize = workers.iter().map(Handle::load).sum();
        let refusal = self.gate.judge(connections, Instant::now());
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
            worker.arrival(stream, Arrival { id, peer, refusal });
        }
    }
}

const SIGNAL: Token = Token(usize::MAX);
const WORKER_DONE: Token = Token(usize::MAX - 1);
