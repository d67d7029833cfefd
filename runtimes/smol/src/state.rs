//! The state that all tasks share: the [`Worker`], the one read buffer, and the sockets.
//!
//! Every function is one short turn without an `await`, so a `RefCell` is sufficient and no lock is needed.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::time::Instant;

use postern_core::worker::{Due, DueCause, NewConnection, earlier};
use postern_core::{Key, Transport};
use postern_host::application::{Worker, WorkerEffect, WorkerMessage};
use postern_host::channels::NodeWorker;
use postern_host::metrics::LogAndCounters;
use postern_host::socket;
use postern_host::workers::Request;

use crate::notify::Notify;
use crate::reactor::{Readiness, Watched};

/// A connection, as its task and the timer task see it.
pub(crate) struct Connection {
    pub(crate) key: Key,
    pub(crate) stream: Watched<OwnedFd>,
    /// Notified when the connection has ended outside of its task, or its task must wait for other events.
    pub(crate) changed: Notify,
}

/// One worker's state, shared by the tasks of one executor.
pub(crate) struct ExecutorState {
    pub(crate) worker: Worker,
    /// The worker's share in the channels of the process.
    channels: NodeWorker,
    connections: Vec<Option<Rc<Connection>>>,
    /// The bytes of one read, of any connection. An idle connection owns no buffer.
    buffer: Box<[u8]>,
    pub(crate) recorder: LogAndCounters,
}

impl ExecutorState {
    pub(crate) fn new(worker: Worker, channels: NodeWorker, recorder: LogAndCounters) -> ExecutorState {
        ExecutorState {
            worker,
            channels,
            connections: Vec::new(),
            buffer: vec![0; socket::SMALL_READ_BUFFER].into_boxed_slice(),
            recorder,
        }
    }

    /// Takes a new connection in.
    pub(crate) fn open(&mut self, stream: Watched<OwnedFd>, arrival: NewConnection) -> Rc<Connection> {
        let now = Instant::now();
        let key = self.worker.open(arrival, now);
        let connection = Rc::new(Connection { key, stream, changed: Notify::default() });
        if self.connections.len() <= key.0 {
            self.connections.resize(key.0 + 1, None);
        }
        if let Some(slot) = self.connections.get_mut(key.0) {
            *slot = Some(connection.clone());
        }
        // The socket of an evicted connection is needed for the next one.
        while let Some(due) = self.worker.next_eviction(now, &mut self.recorder) {
            self.handle_due_connection(due, now);
        }
        connection
    }

    /// Returns the events that the connection's task should wait for; `None` when the connection has ended.
    pub(crate) fn wants(&self, connection: &Connection) -> Option<Readiness> {
        self.has(connection).then(|| {
            let read = self.worker.wants_read(connection.key);
            Readiness {
                read,
                write: self.worker.wants_write(connection.key),
                end: !read && self.worker.wants_peer_closed(connection.key),
            }
        })
    }

    /// Whether the connection still exists. The timer task may have ended it while its own task waited, and then its
    /// key may belong to another connection, which must not get events of this socket.
    fn has(&self, connection: &Connection) -> bool {
        let here = self.connections.get(connection.key.0).and_then(Option::as_deref);
        here.is_some_and(|here| ptr::eq(here, connection))
    }

    /// Runs one turn of a connection, by the readiness of its socket: one receive and one send at most.
    pub(crate) fn turn(&mut self, connection: &Connection, ready: Readiness, now: Instant) {
        if !self.has(connection) {
            return;
        }
        // Writing goes first: pending output is older than unread input.
        if ready.write {
            self.flush(connection, now);
        } else if ready.read {
            self.read(connection, now);
        } else if ready.end {
            self.worker.handle_peer_closed(connection.key, now);
        } else {
            return;
        }
        self.apply_effects(now);
        self.flush_log(now);
    }

    /// Handles that the reactor cannot watch the socket any more.
    #[cold]
    pub(crate) fn fail(&mut self, connection: &Connection) {
        if self.has(connection) {
            let now = Instant::now();
            self.worker.handle_error(connection.key);
            self.flush(connection, now);
            self.flush_log(now);
        }
    }

    // Not part of the task's state machine: registers are scarce there, and a message costs 3 % more instructions.
    #[inline(never)]
    fn read(&mut self, connection: &Connection, now: Instant) {
        let mut socket = Socket { stream: connection.stream.get_ref() };
        let transport =
            self.worker.on_readable(connection.key, now, &mut self.buffer, &mut socket, &mut self.recorder);
        self.apply(connection, transport, now);
        if self.worker.is_short_of_memory() {
            self.handle_all_due(now);
        }
    }

    /// Hands the records over to the log.
    fn flush_log(&mut self, now: Instant) {
        self.recorder.log.flush();
        if self.worker.apply_backpressure(&self.recorder, now) {
            // Their tasks check again what to wait for.
            self.connections.iter().flatten().for_each(|connection| connection.changed.notify());
        }
    }

    /// Returns when [`ExecutorState::handle_due`] must be called at the latest.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.channels.has_unread() {
            return Some(now);
        }
        let due = earlier(self.worker.poll_timeout(now), self.channels.poll_timeout());
        earlier(due, self.recorder.log.retry_at(now))
    }

    /// Handles events of channels that are left, and all connections that are due.
    pub(crate) fn handle_due(&mut self) {
        let now = Instant::now();
        if self.channels.has_unread() {
            self.read_channels(now);
        }
        self.handle_all_due(now);
        self.apply_effects(now);
        self.channels.handle_timeout(now);
        self.flush_log(now);
    }

    /// Performs the requests of the application, and those to other workers, which are all this one.
    #[inline]
    fn apply_effects(&mut self, now: Instant) {
        if let Some(effect) = self.worker.poll_effect() {
            self.apply_all_effects(effect, now);
        }
    }

    /// Performs this effect and all others.
    // Out of line: few turns have an effect.
    #[cold]
    #[inline(never)]
    fn apply_all_effects(&mut self, first: WorkerEffect, now: Instant) {
        let mut next = Some(first);
        while next.is_some() {
            let mut is_executed = false;
            while let Some(effect) = next {
                is_executed |= self.apply_effect(effect, now);
                next = self.worker.poll_effect();
            }
            if is_executed {
                // What is sent is written by the timer task, after the turns of all connections that can be read now. Otherwise
                // each publication would be written by itself.
                self.read_channels(now);
                next = self.worker.poll_effect();
            }
        }
    }

    /// Hands events of channels to the worker.
    fn read_channels(&mut self, now: Instant) {
        self.channels.read(&mut self.worker, now, &mut self.recorder);
    }

    /// Handles the events of channels that other threads have sent, and what is due then.
    pub(crate) fn handle_channels(&mut self) {
        let is_writing = self.worker.has_unwritten();
        self.read_channels(Instant::now());
        // The timer task writes the slices of a message to many, one in each turn of the reactor.
        if !is_writing {
            self.handle_due();
        }
    }

    /// Performs an effect. Returns whether it is a request, whose answer has arrived.
    fn apply_effect(&mut self, effect: WorkerEffect, now: Instant) -> bool {
        match effect {
            WorkerEffect::ToPeer(_, message) => {
                self.worker.handle_message(WorkerMessage::Peer(message), now, &mut self.recorder);
                false
            }
            WorkerEffect::Application(request) => {
                self.channels.execute(request, now);
                true
            }
            WorkerEffect::CheckToken(request) => {
                self.channels.check_token(*request);
                true
            }
        }
    }

    /// Performs a request of the control port or the watchdog, and handles what is due then.
    pub(crate) fn perform(&mut self, request: Request) {
        if request.may_close() {
            self.channels.read_all(&mut self.worker, Instant::now(), &mut self.recorder);
        }
        let connections = &self.connections;
        let socket = |key: Key| Some(connections.get(key.0)?.as_ref()?.stream.as_fd());
        request.perform(&mut self.worker, &self.recorder, Instant::now(), &socket);
        self.handle_due();
    }

    fn handle_all_due(&mut self, now: Instant) {
        while let Some(due) = self.worker.next_due(now, &mut self.recorder) {
            self.handle_due_connection(due, now);
        }
    }

    fn handle_due_connection(&mut self, due: Due, now: Instant) {
        let Some(connection) = self.connections.get(due.key.0).cloned().flatten() else { return };
        let mut socket = Socket { stream: connection.stream.get_ref() };
        let transport = self.worker.handle_due(due, now, &mut self.buffer, &mut socket, &mut self.recorder);
        if due.cause == DueCause::Frame && transport == Transport::Open && !self.worker.wants_write(due.key) {
            // The socket has accepted a message to many, so its task waits for the same events as before.
            return;
        }
        self.apply(&connection, transport, now);
        if self.wants(&connection).is_none_or(|wants| !connection.stream.is_watched_for(wants)) {
            connection.changed.notify();
        }
    }

    /// Writes pending output, once, and applies the transport state to the socket.
    fn flush(&mut self, connection: &Connection, now: Instant) {
        let mut socket = Socket { stream: connection.stream.get_ref() };
        let transport = self.worker.flush(connection.key, now, &mut socket);
        self.apply(connection, transport, now);
    }

    fn apply(&mut self, connection: &Connection, transport: Transport, now: Instant) {
        match transport {
            Transport::Open => {}
            // It fails if the peer has disconnected, which the next read reports.
            Transport::ShutdownWrite => drop(socket::shut_down_write(connection.stream.get_ref())),
            Transport::Close => {
                // The task drops the other reference at once, which closes the socket.
                if let Some(slot) = self.connections.get_mut(connection.key.0) {
                    *slot = None;
                }
                self.worker.remove(connection.key, now, &mut self.recorder);
            }
        }
    }
}

/// A connection's socket, for a turn.
struct Socket<'c> {
    stream: &'c OwnedFd,
}

impl postern_core::worker::Socket for Socket<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::receive(self.stream, buffer)
    }

    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        socket::receive_into_spare(self.stream, buffer)
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        socket::send(self.stream, pieces)
    }
}

/// Shared by the tasks of one executor.
pub(crate) type Shared = Rc<RefCell<ExecutorState>>;
