//! A runtime with one connection, that keeps the contract of [`Worker`] and asserts what it may rely on. It takes a
//! turn in one call or step by step, so that the two can be compared.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::handshake::Peer;
use postern_core::policy::KeepAliveConfig;
use postern_core::worker::{NewConnection, Socket};
use postern_core::{ConnectionId, Key, SessionConfig, Transport, Worker, WorkerConfig};

use crate::notes::Notes;

/// A request that is admitted.
pub(crate) const HEAD: &[u8] = b"GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    User-ID: 123\r\n\r\n";

/// The connection, its socket and its clock.
pub(crate) struct Runtime {
    worker: Worker,
    limits: SessionConfig,
    /// Whether a read and the write behind it are one call.
    is_in_turns: bool,
    /// `None` when the socket is closed.
    key: Option<Key>,
    now: Instant,
    /// How many bytes the socket takes before it blocks.
    room: usize,
    /// Since when output waits and nothing of it was taken.
    stalled: Option<Instant>,
    /// The peer has ended its side.
    is_ended: bool,
    /// Our writing side is shut down.
    is_shut: bool,
    /// Output waited, more came, and that was too much.
    is_too_slow: bool,
    /// The longest read so far.
    longest_read: usize,
    /// What was sent.
    pub(crate) wire: Vec<u8>,
    /// What was recorded.
    pub(crate) notes: Notes,
    /// What the service said last.
    pub(crate) transport: Transport,
}

impl Runtime {
    /// A connection just accepted, whose socket takes everything.
    pub(crate) fn new(limits: &SessionConfig) -> Runtime {
        // When a ping comes depends on when something was read, which this reference does not know.
        let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
        let config =
            WorkerConfig { session: Arc::new(limits.clone()), keep_alive, ..WorkerConfig::default() };
        let now = Instant::now();
        let mut worker = Worker::new(Arc::new(config), 1, now);
        let peer = Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 40_000 };
        let key = worker.open(NewConnection { id: ConnectionId(1), peer, refusal: None }, now);
        Runtime {
            worker,
            limits: limits.clone(),
            is_in_turns: false,
            key: Some(key),
            now,
            room: usize::MAX,
            stalled: None,
            is_ended: false,
            is_shut: false,
            is_too_slow: false,
            longest_read: 0,
            wire: Vec::new(),
            notes: Notes::default(),
            transport: Transport::Open,
        }
    }

    /// The same that takes its turns by [`Worker::on_readable`].
    pub(crate) fn in_turns(limits: &SessionConfig) -> Runtime {
        Runtime { is_in_turns: true, ..Runtime::new(limits) }
    }

    /// Whether a runtime would read now.
    pub(crate) fn wants_read(&self) -> bool {
        !self.is_ended && self.key.is_some_and(|key| self.worker.wants_read(key))
    }

    /// The socket brought bytes; never none, which would be the end.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let Some(key) = self.key.filter(|_| !bytes.is_empty()) else { return };
        self.longest_read = self.longest_read.max(bytes.len());
        let before = self.worker.output(key).len();
        if self.is_in_turns {
            return self.on_readable(key, bytes, before);
        }
        self.worker.receive(key, self.now, &mut bytes.to_vec(), &mut self.notes);
        let after = self.worker.output(key).len();
        self.judge(before, after);
        self.flush();
    }

    fn on_readable(&mut self, key: Key, bytes: &[u8], before: usize) {
        let mut socket = Gate { bytes, room: self.room, offered: 0, taken: Vec::new() };
        let mut buffer = vec![0; bytes.len()];
        let transport = self.worker.on_readable(key, self.now, &mut buffer, &mut socket, &mut self.notes);
        assert!(socket.bytes.is_empty(), "what may be read is read");
        assert_eq!(transport, self.worker.transport(key));
        self.judge(before, socket.offered);
        self.wire.extend_from_slice(&socket.taken);
        self.wrote(key, socket.offered, socket.taken.len());
        self.apply(key);
    }

    /// Notes what waited before a read and what with its answers.
    fn judge(&mut self, before: usize, after: usize) {
        assert!(!self.is_too_slow || after == before, "answers to a peer that is too slow for them");
        self.is_too_slow |= before > 0 && after > self.limits.max_backlog;
    }

    /// The peer ends its side.
    pub(crate) fn end(&mut self) {
        if let Some(key) = self.key.filter(|_| !self.is_ended) {
            self.is_ended = true;
            self.worker.handle_eof(key, self.now);
            self.flush();
        }
    }

    /// The socket fails.
    pub(crate) fn fail(&mut self) {
        if let Some(key) = self.key {
            self.worker.handle_error(key);
            self.flush();
            assert!(self.is_closed(), "a socket that failed is kept");
        }
    }

    /// The socket says that it takes `room` bytes.
    pub(crate) fn make_room(&mut self, room: usize) {
        self.room = room;
        self.flush();
    }

    /// The process begins to stop.
    pub(crate) fn shut_down(&mut self) {
        self.worker.shut_down();
        self.settle_due();
    }

    /// Time passes; what is due is settled.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.settle_due();
    }

    /// The peer neither sends nor takes anything any more, and the process stops. Asserts that the connection
    /// is gone in bounded time and work.
    pub(crate) fn abandon(&mut self) {
        self.room = 0;
        self.shut_down();
        let start = self.now;
        for _ in 0..MOST_TIMERS {
            let Some(next) = self.worker.poll_timeout(self.now).filter(|_| !self.is_closed()) else { break };
            self.now = self.now.max(next);
            self.settle_due();
        }
        assert!(self.is_closed(), "a silent peer holds the process");
        let most = self.limits.write_timeout.max(self.limits.close_timeout) + Duration::from_secs(1);
        assert!(self.now - start <= most, "a silent peer holds the process for {:?}", self.now - start);
    }

    /// Whether the socket is closed.
    pub(crate) fn is_closed(&self) -> bool {
        assert_eq!(self.key.is_none(), self.worker.is_empty());
        self.key.is_none()
    }

    /// Writes once, and does with the socket what the service says.
    fn flush(&mut self) {
        let Some(key) = self.key else { return };
        let output = self.worker.output(key);
        let (waiting, n) = (output.len(), output.len().min(self.room));
        self.wire.extend_from_slice(&output[..n]);
        if waiting > 0 {
            self.worker.sent(key, n, self.now);
        }
        self.wrote(key, waiting, n);
        self.apply(key);
    }

    fn apply(&mut self, key: Key) {
        self.transport = self.worker.transport(key);
        match self.transport {
            Transport::Open => assert!(!self.is_shut, "open behind the shutdown"),
            Transport::ShutdownWrite | Transport::Close => {
                assert!(!self.worker.wants_write(key), "closed before all is written");
                self.is_shut = true;
            }
        }
        if self.transport == Transport::Close {
            self.worker.remove(key, self.now, &mut self.notes);
            self.key = None;
        }
    }

    /// Of `waiting` bytes `n` were taken.
    fn wrote(&mut self, key: Key, waiting: usize, n: usize) {
        // What one read brought is answered whole. A message may have been collected before it; the rest is
        // for the 101 and a Close.
        let most = self.limits.pause_backlog + self.longest_read + self.limits.max_message + 512;
        assert!(waiting <= most, "{waiting} bytes wait");
        assert!(waiting == 0 || !self.is_shut, "output behind the shutdown");
        if self.room != usize::MAX {
            self.room -= n;
        }
        assert_eq!(self.worker.output(key).len(), waiting - n, "bytes doubled or lost");
        // After a Close nothing is answered any more, so reading goes on up to the peer's own.
        let answers = self.worker.status(key).is_some_and(|status| status.is_open);
        let is_clogged = waiting - n > self.limits.pause_backlog;
        assert!(!(answers && is_clogged && self.worker.wants_read(key)), "does not pause");
        let is_over = self.worker.transport(key) == Transport::Close;
        assert!(self.worker.wants_read(key) || waiting > n || is_over, "pauses for nothing");
        self.stalled = match self.stalled {
            _ if waiting == n => None,
            Some(since) if n == 0 => Some(since),
            Some(_) | None => Some(self.now),
        };
    }

    fn settle_due(&mut self) {
        for _ in 0..MOST_DUE {
            if let Some(due) = self.worker.next_due(self.now, &mut self.notes) {
                // What the socket brought is read already.
                self.flush();
                self.worker.judge(due, self.now, &mut self.notes);
                self.flush();
                continue;
            }
            let next = self.worker.poll_timeout(self.now);
            assert!(next.is_none_or(|at| at > self.now), "a runtime that sleeps until then spins");
            let is_late = |since: Instant| since + self.limits.write_timeout <= self.now;
            assert!(
                self.is_closed() || !self.stalled.is_some_and(is_late),
                "a peer that takes nothing is kept"
            );
            return;
        }
        panic!("one connection is due again and again");
    }
}

/// The socket of one turn.
struct Gate<'b> {
    /// What it brings.
    bytes: &'b [u8],
    /// How many bytes it takes.
    room: usize,
    /// How many it was given to take.
    offered: usize,
    taken: Vec<u8>,
}

impl Socket for Gate<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len();
        buffer.copy_from_slice(std::mem::take(&mut self.bytes));
        Ok(n)
    }

    fn receive_into_spare(&mut self, _: &mut Vec<u8>) -> Result<usize> {
        unreachable!("the limits leave no room for a message so large");
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        assert_eq!(self.offered, 0, "two writes in a turn");
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.offered = bytes.len();
        self.taken.extend_from_slice(&bytes[..bytes.len().min(self.room)]);
        if self.taken.is_empty() { Err(Error::from(ErrorKind::WouldBlock)) } else { Ok(self.taken.len()) }
    }
}

/// How often one connection may be due at one time: for the stop, for what waits to be sent, for its state.
const MOST_DUE: usize = 4;

/// How often the clock may have to move on before a silent connection is gone. Entries of earlier deadlines
/// fire too.
const MOST_TIMERS: usize = 16;
