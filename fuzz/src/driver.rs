//! Drives one worker and its connections, and asserts what must hold after each call. The targets choose the calls.

use std::sync::Arc;
use std::time::Instant;

use postern_core::handshake::HandshakeError;
use postern_core::model::{ModelRuntime, ModelSocket, PEER};
use postern_core::worker::{Due, Echo};
use postern_core::{ConnectionId, Key, Transport, Worker, WorkerConfig};

use crate::notes::Notes;
use crate::wire;

/// The most connections at the same time.
pub(crate) const CONNECTIONS: usize = 4;

/// A worker and its connections, which are named by their place.
pub(crate) struct Driver {
    pub(crate) model: ModelRuntime<Echo, Notes>,
    connections: [Option<Connection>; CONNECTIONS],
    /// The bytes that the sockets of all ended connections accepted, in the order of their ends.
    pub(crate) sent: Vec<u8>,
}

struct Connection {
    key: Key,
    id: ConnectionId,
    /// The pending output after the last call for this connection.
    pending: Vec<u8>,
    /// The client has ended its side.
    has_ended: bool,
    /// Our writing side is shut down.
    is_shut: bool,
}

impl Driver {
    pub(crate) fn new(config: Arc<WorkerConfig>, seed: u64) -> Driver {
        let now = Instant::now();
        let model = ModelRuntime::new(Worker::new(config, seed, now), Notes::default(), now);
        Driver { model, connections: [const { None }; CONNECTIONS], sent: Vec::new() }
    }

    /// Opens a connection, unless there is one in its place.
    pub(crate) fn open(&mut self, at: usize, refusal: Option<HandshakeError>) {
        if self.connections[at].is_some() {
            return;
        }
        let key = self.model.open_from(PEER, refusal);
        let is_taken = self.connections.iter().flatten().any(|other| other.key == key);
        assert!(!is_taken, "two connections have one key");
        let (id, pending) = (self.model.last_id, Vec::new());
        self.connections[at] = Some(Connection { key, id, pending, has_ended: false, is_shut: false });
    }

    /// Returns the key of a connection that has not been removed.
    pub(crate) fn key(&self, at: usize) -> Option<Key> {
        self.connections[at].as_ref().map(|connection| connection.key)
    }

    /// Whether a runtime would read now.
    pub(crate) fn wants_read(&self, at: usize) -> bool {
        self.connections[at].as_ref().is_some_and(|it| !it.has_ended && self.model.worker.wants_read(it.key))
    }

    /// Whether the client has not ended its side yet.
    fn connected(&mut self, at: usize) -> Option<&mut Connection> {
        self.connections[at].as_mut().filter(|connection| !connection.has_ended)
    }

    /// Passes received bytes to the worker, even if it does not want to read.
    pub(crate) fn receive(&mut self, at: usize, bytes: &[u8]) {
        let Some(key) = self.connected(at).map(|connection| connection.key) else { return };
        if !bytes.is_empty() {
            self.model.worker.receive(key, self.model.now, &mut bytes.to_vec(), &mut self.model.recorder);
            self.look(at);
        }
    }

    /// Reads and writes in one call. The socket brings `bytes` and has room for `room` bytes of output. Returns the
    /// numbers of bytes that it was offered and that it accepted.
    pub(crate) fn on_readable(&mut self, at: usize, bytes: &[u8], room: usize) -> (usize, usize) {
        let connection = self.connections[at].as_mut().expect("a connection");
        let mut socket = ModelSocket { takes: room, ..ModelSocket::with(bytes) };
        let transport = self.model.on_readable(connection.key, bytes.len(), &mut socket);
        assert!(socket.incoming.is_empty(), "does not read what it may read");
        assert_eq!(transport, self.model.worker.transport(connection.key));
        assert!(socket.sends <= 1, "two writes in a turn");
        let ModelSocket { offered, sent, .. } = socket;
        assert!(offered.starts_with(&connection.pending), "pending output is lost or changed");
        assert!(offered.is_empty() || !connection.is_shut, "output after the shutdown");
        connection.pending = self.model.worker.output(connection.key).to_vec();
        assert!(connection.pending == offered[sent.len()..], "bytes doubled or lost");
        (offered.len(), sent.len())
    }

    /// Ends the client's side, as a read has shown it.
    pub(crate) fn end(&mut self, at: usize) {
        if let Some(connection) = self.connected(at) {
            connection.has_ended = true;
            let key = connection.key;
            self.model.worker.handle_eof(key, self.model.now);
            self.look(at);
        }
    }

    /// Ends the client's side. While the worker does not read, the runtime reports it, and a later read may show it.
    pub(crate) fn leave(&mut self, at: usize) {
        let Some(key) = self.connected(at).map(|connection| connection.key) else { return };
        if !self.model.worker.wants_peer_closed(key) {
            return self.end(at);
        }
        assert!(!self.model.worker.wants_read(key), "a read would show the end");
        self.model.worker.handle_peer_closed(key, self.model.now);
        assert!(!self.model.worker.wants_peer_closed(key), "the end is reported twice");
    }

    /// Makes the socket fail.
    pub(crate) fn fail(&mut self, at: usize) {
        if let Some(key) = self.key(at) {
            self.model.worker.handle_error(key);
            self.look(at);
            assert!(!self.model.worker.wants_write(key), "output for a socket that failed");
            assert_eq!(self.model.worker.transport(key), Transport::Close);
        }
    }

    /// Writes to a socket that accepts at most `room` bytes. Returns the numbers of pending and of accepted bytes.
    pub(crate) fn write(&mut self, at: usize, room: usize) -> (usize, usize) {
        let Some(connection) = &mut self.connections[at] else { return (0, 0) };
        let pending = self.model.worker.output(connection.key).len();
        assert!(pending == 0 || !connection.is_shut, "output after the shutdown");
        let n = self.model.write(connection.key, room);
        let left = self.model.worker.output(connection.key);
        assert!(left == &connection.pending[n..], "bytes doubled or lost");
        connection.pending.drain(..n);
        (pending, n)
    }

    /// Does with the socket what the worker returns, and returns it.
    pub(crate) fn apply(&mut self, at: usize) -> Transport {
        let Some(connection) = &mut self.connections[at] else { return Transport::Close };
        let transport = self.model.apply(connection.key);
        match transport {
            Transport::Open => assert!(!connection.is_shut, "open after the shutdown"),
            Transport::ShutdownWrite => connection.is_shut = true,
            Transport::Close => self.remove(at),
        }
        transport
    }

    /// Writes once, then does with the socket what the worker returns.
    pub(crate) fn flush(&mut self, at: usize, room: usize) {
        self.write(at, room);
        self.apply(at);
    }

    /// Removes the connection, in any state. Asserts that its output follows from its records.
    pub(crate) fn remove(&mut self, at: usize) {
        let Some(connection) = self.connections[at].take() else { return };
        self.model.remove(connection.key);
        assert!(self.model.worker.output(connection.key).is_empty(), "output of a removed connection");
        let wire = self.model.take_wire(connection.key);
        wire::check_life(&wire, &self.model.recorder.of(connection.id));
        self.sent.extend_from_slice(&wire);
    }

    /// Stops reading from clients.
    pub(crate) fn pause_reads(&mut self) {
        self.model.recorder.is_full = true;
        self.model.worker.apply_backpressure(&self.model.recorder, self.model.now);
        let is_user =
            |it: &&Connection| self.model.worker.status(it.key).is_some_and(|status| status.is_open);
        assert!(
            self.connections.iter().flatten().filter(is_user).all(|it| !self.model.worker.wants_read(it.key))
        );
    }

    /// Reads from clients again.
    pub(crate) fn resume_reads(&mut self) {
        self.model.recorder.is_full = false;
        self.model.worker.apply_backpressure(&self.model.recorder, self.model.now);
    }

    /// Returns a connection that is due, and its place. If there is none, asserts that the next deadline is in the
    /// future.
    pub(crate) fn next_due(&mut self) -> Option<(usize, Due)> {
        let Some(due) = self.model.next_due() else {
            let next = self.model.worker.poll_timeout(self.model.now);
            assert!(next.is_none_or(|at| at > self.model.now), "a runtime that sleeps until then spins");
            return None;
        };
        let at = self.connections.iter().position(|it| it.as_ref().is_some_and(|it| it.key == due.key));
        let at = at.expect("a connection that is due is open");
        self.look(at);
        Some((at, due))
    }

    /// Applies the deadlines of a connection that is due.
    pub(crate) fn judge(&mut self, at: usize, due: Due) {
        if self.key(at) == Some(due.key) {
            self.model.worker.handle_deadlines(due, self.model.now, &mut self.model.recorder);
            self.look(at);
        }
    }

    /// Handles all connections that are due, with sockets that accept `room` bytes. Asserts that this ends.
    pub(crate) fn settle_due(&mut self, room: usize) {
        for _ in 0..MOST_DUE {
            let Some((at, due)) = self.next_due() else {
                assert!(!self.model.worker.is_short_of_memory(), "no connection is evicted");
                return;
            };
            self.write(at, room);
            self.judge(at, due);
            self.flush(at, room);
        }
        panic!("a connection is always due");
    }

    /// Asserts what holds between two calls.
    pub(crate) fn check(&self) {
        assert_eq!(self.model.worker.len(), self.connections.iter().flatten().count());
        assert_eq!(self.model.worker.is_empty(), self.connections.iter().all(Option::is_none));
        for connection in self.connections.iter().flatten() {
            let output = self.model.worker.output(connection.key);
            assert!(output == connection.pending, "a call for another connection changed this output");
            assert_eq!(self.model.worker.wants_write(connection.key), !output.is_empty());
        }
    }

    /// Asserts, after a call for this connection, that pending output stays pending, unless the worker has dropped the
    /// connection.
    fn look(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else { return };
        let output = self.model.worker.output(connection.key);
        let transport = self.model.worker.transport(connection.key);
        let is_dropped = output.is_empty() && transport == Transport::Close;
        assert!(is_dropped || output.starts_with(&connection.pending), "pending output is lost or changed");
        assert!(output.is_empty() || transport == Transport::Open, "closed before all output is written");
        connection.pending = output.to_vec();
    }
}

/// The most connections that can be due at one time: each can be due several times, for the shutdown, for its pending
/// output and for its state.
const MOST_DUE: usize = 4096;
