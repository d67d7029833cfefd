//! Drives one worker and its connections, and asserts what must hold after each call. The targets choose the calls.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::handshake::HandshakeError;
use postern_core::worker::{Due, NewConnection, Socket};
use postern_core::{ConnectionId, Key, Transport, Worker, WorkerConfig};

use crate::notes::Notes;
use crate::upgrade::PEER;
use crate::wire;

/// The most connections at the same time.
pub(crate) const CONNECTIONS: usize = 4;

/// A worker, its connections and its clock. Connections are named by their place.
pub(crate) struct Driver {
    pub(crate) worker: Worker,
    pub(crate) now: Instant,
    connections: [Option<Connection>; CONNECTIONS],
    /// The number of connections that have been opened.
    opened: u64,
    /// All records.
    pub(crate) notes: Notes,
    /// The bytes that the sockets of all ended connections accepted, in the order of their ends.
    pub(crate) sent: Vec<u8>,
}

struct Connection {
    key: Key,
    id: ConnectionId,
    /// The bytes that its socket accepted.
    wire: Vec<u8>,
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
        Driver {
            worker: Worker::new(config, seed, now),
            now,
            connections: [const { None }; CONNECTIONS],
            opened: 0,
            notes: Notes::default(),
            sent: Vec::new(),
        }
    }

    /// Opens a connection, unless there is one in its place.
    pub(crate) fn open(&mut self, at: usize, refusal: Option<HandshakeError>) {
        if self.connections[at].is_some() {
            return;
        }
        self.opened += 1;
        let id = ConnectionId(self.opened);
        let key = self.worker.open(NewConnection { id, peer: PEER, refusal }, self.now);
        let is_taken = self.connections.iter().flatten().any(|other| other.key == key);
        assert!(!is_taken, "two connections have one key");
        let (wire, pending) = (Vec::new(), Vec::new());
        self.connections[at] = Some(Connection { key, id, wire, pending, has_ended: false, is_shut: false });
    }

    /// Returns the key of a connection that has not been removed.
    pub(crate) fn key(&self, at: usize) -> Option<Key> {
        self.connections[at].as_ref().map(|connection| connection.key)
    }

    /// Whether a runtime would read now.
    pub(crate) fn wants_read(&self, at: usize) -> bool {
        self.connections[at].as_ref().is_some_and(|it| !it.has_ended && self.worker.wants_read(it.key))
    }

    /// Whether the client has not ended its side yet.
    fn connected(&mut self, at: usize) -> Option<&mut Connection> {
        self.connections[at].as_mut().filter(|connection| !connection.has_ended)
    }

    /// Passes received bytes to the worker, even if it does not want to read.
    pub(crate) fn receive(&mut self, at: usize, bytes: &[u8]) {
        let Some(key) = self.connected(at).map(|connection| connection.key) else { return };
        if !bytes.is_empty() {
            self.worker.receive(key, self.now, &mut bytes.to_vec(), &mut self.notes);
            self.look(at);
        }
    }

    /// Reads and writes in one call. The socket brings `bytes` and has room for `room` bytes of output. Returns the
    /// numbers of bytes that it was offered and that it accepted.
    pub(crate) fn on_readable(&mut self, at: usize, bytes: &[u8], room: usize) -> (usize, usize) {
        let connection = self.connections[at].as_mut().expect("a connection");
        let mut socket = OneTurn { bytes, room, offered: None, taken: Vec::new() };
        let mut buffer = vec![0; bytes.len()];
        let key = connection.key;
        let transport = self.worker.on_readable(key, self.now, &mut buffer, &mut socket, &mut self.notes);
        assert!(socket.bytes.is_empty(), "does not read what it may read");
        assert_eq!(transport, self.worker.transport(key));
        let offered = socket.offered.unwrap_or_default();
        assert!(offered.starts_with(&connection.pending), "pending output is lost or changed");
        assert!(offered.is_empty() || !connection.is_shut, "output after the shutdown");
        connection.wire.extend_from_slice(&socket.taken);
        connection.pending = self.worker.output(key).to_vec();
        assert!(connection.pending == offered[socket.taken.len()..], "bytes doubled or lost");
        (offered.len(), socket.taken.len())
    }

    /// Ends the client's side, as a read has shown it.
    pub(crate) fn end(&mut self, at: usize) {
        if let Some(connection) = self.connected(at) {
            connection.has_ended = true;
            let key = connection.key;
            self.worker.handle_eof(key, self.now);
            self.look(at);
        }
    }

    /// Ends the client's side. While the worker does not read, the runtime reports it, and a later read may show it.
    pub(crate) fn leave(&mut self, at: usize) {
        let Some(key) = self.connected(at).map(|connection| connection.key) else { return };
        if !self.worker.wants_peer_closed(key) {
            return self.end(at);
        }
        assert!(!self.worker.wants_read(key), "a read would show the end");
        self.worker.handle_peer_closed(key, self.now);
        assert!(!self.worker.wants_peer_closed(key), "the end is reported twice");
    }

    /// Makes the socket fail.
    pub(crate) fn fail(&mut self, at: usize) {
        if let Some(key) = self.key(at) {
            self.worker.handle_error(key);
            self.look(at);
            assert!(!self.worker.wants_write(key), "output for a socket that failed");
            assert_eq!(self.worker.transport(key), Transport::Close);
        }
    }

    /// Writes to a socket that accepts at most `room` bytes. Returns the numbers of pending and of accepted bytes.
    pub(crate) fn write(&mut self, at: usize, room: usize) -> (usize, usize) {
        let Some(connection) = &mut self.connections[at] else { return (0, 0) };
        let output = self.worker.output(connection.key);
        let (pending, n) = (output.len(), output.len().min(room));
        assert!(pending == 0 || !connection.is_shut, "output after the shutdown");
        connection.wire.extend_from_slice(&output[..n]);
        self.worker.sent(connection.key, n, self.now);
        let left = self.worker.output(connection.key);
        assert!(left == &connection.pending[n..], "bytes doubled or lost");
        connection.pending.drain(..n);
        (pending, n)
    }

    /// Does with the socket what the worker returns, and returns it.
    pub(crate) fn apply(&mut self, at: usize) -> Transport {
        let Some(connection) = &mut self.connections[at] else { return Transport::Close };
        let transport = self.worker.transport(connection.key);
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
        self.worker.remove(connection.key, self.now, &mut self.notes);
        assert!(self.worker.output(connection.key).is_empty(), "output of a removed connection");
        wire::check_life(&connection.wire, &self.notes.of(connection.id));
        self.sent.extend_from_slice(&connection.wire);
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Stops reading from clients.
    pub(crate) fn pause_reads(&mut self) {
        self.notes.is_full = true;
        self.worker.apply_backpressure(&self.notes, self.now);
        let is_user = |it: &&Connection| self.worker.status(it.key).is_some_and(|status| status.is_open);
        assert!(self.connections.iter().flatten().filter(is_user).all(|it| !self.worker.wants_read(it.key)));
    }

    /// Reads from clients again.
    pub(crate) fn resume_reads(&mut self) {
        self.notes.is_full = false;
        self.worker.apply_backpressure(&self.notes, self.now);
    }

    /// Returns a connection that is due, and its place. If there is none, asserts that the next deadline is in the
    /// future.
    pub(crate) fn next_due(&mut self) -> Option<(usize, Due)> {
        let Some(due) = self.worker.next_due(self.now, &mut self.notes) else {
            let next = self.worker.poll_timeout(self.now);
            assert!(next.is_none_or(|at| at > self.now), "a runtime that sleeps until then spins");
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
            self.worker.handle_deadlines(due, self.now, &mut self.notes);
            self.look(at);
        }
    }

    /// Handles all connections that are due, with sockets that accept `room` bytes. Asserts that this ends.
    pub(crate) fn settle_due(&mut self, room: usize) {
        for _ in 0..MOST_DUE {
            let Some((at, due)) = self.next_due() else {
                assert!(!self.worker.is_short_of_memory(), "no connection is evicted");
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
        assert_eq!(self.worker.len(), self.connections.iter().flatten().count());
        assert_eq!(self.worker.is_empty(), self.connections.iter().all(Option::is_none));
        for connection in self.connections.iter().flatten() {
            let output = self.worker.output(connection.key);
            assert!(output == connection.pending, "a call for another connection changed this output");
            assert_eq!(self.worker.wants_write(connection.key), !output.is_empty());
        }
    }

    /// Asserts, after a call for this connection, that pending output stays pending, unless the worker has dropped the
    /// connection.
    fn look(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else { return };
        let output = self.worker.output(connection.key);
        let transport = self.worker.transport(connection.key);
        let is_dropped = output.is_empty() && transport == Transport::Close;
        assert!(is_dropped || output.starts_with(&connection.pending), "pending output is lost or changed");
        assert!(output.is_empty() || transport == Transport::Open, "closed before all output is written");
        connection.pending = output.to_vec();
    }
}

/// The socket of one call of [`Worker::on_readable`].
struct OneTurn<'b> {
    /// The bytes to receive.
    bytes: &'b [u8],
    /// The number of bytes that it accepts.
    room: usize,
    /// The output that it was offered.
    offered: Option<Vec<u8>>,
    taken: Vec<u8>,
}

impl Socket for OneTurn<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len();
        buffer.copy_from_slice(std::mem::take(&mut self.bytes));
        Ok(n)
    }

    fn receive_into_spare(&mut self, _: &mut Vec<u8>) -> Result<usize> {
        unreachable!("the limits leave no room for a message of this size");
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        assert!(self.offered.is_none(), "two writes in a turn");
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.taken.extend_from_slice(&bytes[..bytes.len().min(self.room)]);
        self.offered = Some(bytes);
        if self.taken.is_empty() { Err(Error::from(ErrorKind::WouldBlock)) } else { Ok(self.taken.len()) }
    }
}

/// The most connections that can be due at one time: each can be due several times, for the shutdown, for its pending
/// output and for its state.
const MOST_DUE: usize = 4096;
