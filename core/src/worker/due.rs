//! Due connections: their pending output, their deadlines, which are checked after the socket was written to and read, and the
//! end of connections whose peer has left.

use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, Instant};

use super::{Application, Key, Socket, Worker};

use crate::id::ConnectionId;
use crate::output::Output;
use crate::record::Recorder;
use crate::session::{Ending, Transport};

/// A connection that is due, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The connection.
    pub key: Key,
    /// Why it is due.
    pub cause: DueCause,
}

/// Why a connection is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueCause {
    /// A message to several connections must be written to its socket.
    Frame,
    /// A command or an earlier turn has changed it: output is pending, it has ended, or reading from it resumes.
    Change,
    /// A deadline has passed. If the peer could have met it, the socket is read first.
    Deadline,
    /// It is evicted for other handshakes, unless the rest of its request head has arrived.
    Eviction,
}

/// A connection whose peer has left while reading from it was paused.
#[derive(Debug)]
pub(super) struct PeerClosed {
    /// When it is ended.
    at: Instant,
    key: Key,
    id: ConnectionId,
}

impl<A: Application> Worker<A> {
    /// Handles a connection that [`next_due`](Worker::next_due) returned: sends pending output, handles passed deadlines, and
    /// sends the output of that. Returns what to do with the socket.
    ///
    /// If a deadline has passed that the peer could have met, the socket is read first. So no connection ends because
    /// bytes that arrived in time were not read, for example while the machine was suspended. `buffer` and `socket` are
    /// as for [`on_readable`](Worker::on_readable).
    // Inlined as far as a message to many needs.
    #[inline]
    pub fn handle_due(
        &mut self,
        due: Due,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        if due.cause == DueCause::Frame {
            return self.write_frame(due.key, now, socket);
        }
        self.handle_other_due(due, now, buffer, socket, recorder)
    }

    /// Does the same for any cause.
    #[inline(never)]
    fn handle_other_due(
        &mut self,
        due: Due,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let key = due.key;
        match due.cause {
            DueCause::Frame => self.write_frame(key, now, socket),
            DueCause::Change => {
                let transport = self.flush(key, now, socket);
                let has_deferred =
                    self.connections.get(key.0).is_some_and(|connection| connection.has_deferred());
                if has_deferred && self.wants_read(key) && !self.is_read_blocked(key, recorder) {
                    // A connection that closes has no rate, so the deferred bytes are handled in this turn.
                    return self.read_in_any_state(key, now, buffer, socket, recorder);
                }
                transport
            }
            DueCause::Deadline | DueCause::Eviction => self.judge(due, now, buffer, socket, recorder),
        }
    }

    /// Writes the shared frame of a connection, or any other pending output.
    #[inline]
    fn write_frame(&mut self, key: Key, now: Instant, socket: &mut impl Socket) -> Transport {
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        let Output::Frame(id) = connection.output else { return self.write_queue(key, now, socket) };
        if !connection.is_open() {
            return self.write_queue(key, now, socket);
        }
        let bytes = self.frames.get(id);
        self.ready.spend(bytes.len());
        let sent = socket.send(&[IoSlice::new(bytes)]);
        if !matches!(sent, Ok(n) if n == bytes.len()) {
            self.handle_sent(key, now, sent);
            return self.transport(key);
        }
        connection.output = Output::Empty;
        self.memory.free_shared(self.frames.release(id));
        Transport::Open
    }

    /// Writes other pending output of a connection.
    #[cold]
    #[inline(never)]
    fn write_queue(&mut self, key: Key, now: Instant, socket: &mut impl Socket) -> Transport {
        let queue = self.connections.get(key.0).map(|connection| &connection.output);
        self.ready.spend(queue.map_or(0, |queue| queue.len(&self.frames)));
        self.flush(key, now, socket)
    }

    /// Reads the socket of a connection whose deadline has passed, and then handles the deadline.
    fn judge(
        &mut self,
        due: Due,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let key = due.key;
        let mut socket = Observed { socket, is_drained: false, is_blocked: false };
        let mut transport = self.flush(key, now, &mut socket);
        for _ in 0..MOST_READS {
            let is_read = self.wants_read(key) && !self.is_read_blocked(key, recorder);
            if transport == Transport::Close || socket.is_drained || !is_read || !self.is_expired(due, now) {
                break;
            }
            transport = self.read_in_any_state(key, now, buffer, &mut socket, recorder);
        }
        if transport == Transport::Close {
            return transport;
        }
        let is_paused = |worker: &Worker<A>| {
            worker.connections.get(key.0).is_some_and(|connection| connection.is_paused())
        };
        let was_paused = is_paused(self);
        self.handle_deadlines(due, now, recorder);
        let has_deferred = self.connections.get(key.0).is_some_and(|connection| connection.has_deferred());
        if (was_paused || has_deferred) && self.wants_read(key) && !self.is_read_blocked(key, recorder) {
            // Its pause may have ended, so its bytes are handled in this turn.
            return self.read_in_any_state(key, now, buffer, &mut socket, recorder);
        }
        // A socket that has just accepted less than was offered accepts no more.
        if socket.is_blocked { self.transport(key) } else { self.flush(key, now, &mut socket) }
    }

    /// Handles the passed deadlines of a connection: the step of [`handle_due`](Worker::handle_due) for a runtime without a
    /// [`Socket`]. Call it for each connection that [`next_due`](Worker::next_due) returns, after its pending output was
    /// written and the bytes that have arrived were [received](Worker::receive).
    pub fn handle_deadlines(&mut self, due: Due, now: Instant, recorder: &mut impl Recorder) {
        let key = due.key;
        let Some(connection) = self.connections.get(key.0) else { return };
        match due.cause {
            DueCause::Frame | DueCause::Change => return,
            DueCause::Eviction if self.is_crowded() && connection.is_pending() => {
                return self.refuse(key, now, recorder);
            }
            DueCause::Eviction | DueCause::Deadline => {}
        }
        // It may have been postponed by the bytes that were read.
        if connection.poll_timeout(&self.config, self.shared.time_base).is_none_or(|at| now < at) {
            return self.arm(key);
        }
        let is_read_blocked = self.is_read_blocked(key, recorder);
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_stalled(&self.config, now) {
            return connection.abort(Ending::WriteStalled);
        }
        let is_unread = is_read_blocked || connection.is_over_pause_backlog(&self.config);
        self.turn(key, now, |connection, context, turn| {
            connection.handle_deadlines(context, turn, is_unread, recorder);
        });
    }

    /// Whether to call [`handle_peer_closed`](Worker::handle_peer_closed) when the peer ends its side or resets the connection:
    /// reading is paused, so no read reports it.
    pub fn wants_peer_closed(&self, key: Key) -> bool {
        self.connections.get(key.0).is_some_and(|connection| {
            let is_unread = connection.is_paused() || self.are_reads_paused();
            is_unread && connection.is_open() && !connection.flags.is_peer_closed()
        })
    }

    /// Handles that the peer has ended its side or reset the connection while reading is paused. If reading does not resume
    /// within a second, the connection ends, and its unread bytes are lost. It no longer counts for its user.
    pub fn handle_peer_closed(&mut self, key: Key, now: Instant) {
        if !self.wants_peer_closed(key) {
            return;
        }
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.flags.set_peer_closed(true);
        self.peer_closed.push_back(PeerClosed { at: now + GRACE, key, id: connection.id });
        connection.release_user(&self.config);
    }

    /// Returns the time at which the first of the connections whose peers have left is ended.
    pub(super) fn peer_closed_ends_at(&self) -> Option<Instant> {
        self.peer_closed.front().map(|left| left.at)
    }

    /// Ends the next connection whose peer has left and whose time has passed. Returns its key.
    pub(super) fn end_peer_closed(&mut self, now: Instant) -> Option<Key> {
        while self.peer_closed_ends_at().is_some_and(|at| at <= now) {
            let PeerClosed { key, id, .. } = self.peer_closed.pop_front()?;
            let are_reads_paused = self.are_reads_paused();
            let Some(connection) = self.connections.get_mut(key.0) else { continue };
            if connection.id != id || !connection.is_open() || !connection.flags.is_peer_closed() {
                continue;
            }
            connection.flags.set_peer_closed(false);
            // If reading from it resumes, the end of its peer's side is read.
            if are_reads_paused || connection.is_pacing() {
                connection.abort(Ending::Eof);
                return Some(key);
            }
        }
        None
    }

    /// Whether a deadline of a connection has passed that its peer could have met.
    fn is_expired(&self, Due { key, cause }: Due, now: Instant) -> bool {
        cause == DueCause::Eviction
            || self.connections.get(key.0).is_some_and(|connection| {
                connection.expires_at(&self.config, self.shared.time_base).is_some_and(|at| at <= now)
            })
    }
}

/// A socket whose results are recorded.
struct Observed<'s, S> {
    socket: &'s mut S,
    /// All its bytes were read.
    is_drained: bool,
    /// It accepted less than was offered.
    is_blocked: bool,
}

impl<S: Socket> Observed<'_, S> {
    fn note(&mut self, received: io::Result<usize>, room: usize) -> io::Result<usize> {
        self.is_drained = match &received {
            Ok(n) => *n < room,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        received
    }
}

impl<S: Socket> Socket for Observed<'_, S> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.socket.receive(buffer);
        self.note(received, buffer.len())
    }

    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let received = self.socket.receive_into_spare(buffer);
        self.note(received, room)
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.socket.send(pieces);
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.is_blocked = match &sent {
            Ok(n) => *n < offered,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        sent
    }
}

/// The most reads of a socket before a deadline is judged. A peer that fills that many reads would fill any number.
const MOST_READS: usize = 64;

/// The time for which a connection is kept whose peer has left while reading from it is paused.
const GRACE: Duration = Duration::from_millis(500);
