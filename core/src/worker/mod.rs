//! All connections of one worker, as one state machine: sessions, timers, pending output, and the application that answers.
//!
//! Start with [`Worker`]: its documentation has the contract with a runtime.

mod admin;
mod application;
mod capacity;
mod check;
mod config;
mod connection;
mod drain;
mod due;
mod echo;
mod expiry;
mod fanout;
mod in_band;
mod index;
mod jitter;
mod manage;
mod memory;
mod message;
mod message_queue;
mod pause;
mod pending;
mod readable;
mod ready;
mod refresh;
mod replace;
mod timers;

#[cfg(test)]
mod tests;

pub use crate::policy::Replaced;
pub use admin::{
    AdminReply, AdminRequest, ConnectionStatus, Outgoing, OutgoingMessage, Selector, Status, Totals,
    WorkerLoad, WorkerTotals,
};
pub use application::{Application, FirstMessage, Message, Opening, Reply, ServerClose};
pub use check::{CheckRequest, CheckTicket, FirstMessageConfig, InBandConfig, Revalidate};
pub use config::WorkerConfig;
pub use due::{Due, DueCause};
pub use echo::{Echo, SUBPROTOCOL};
pub use fanout::{Backlog, Fanout, SharedFrame};
pub use message::{PeerMessage, WorkerEffect, WorkerMessage};
pub use message_queue::MessageQueue;
pub use readable::Socket;
pub use refresh::{Refresh, Refreshed};
pub use timers::earlier;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::compact_instant::TimeBase;
use crate::handshake::{HandshakeError, Peer};
use crate::id::ConnectionId;
use crate::input::Input;
use crate::output::{FrameTable, Output, OutputQueue};
use crate::record::Recorder;
use crate::session::{Ending, Transport};
use crate::turn::{Codec, Turn};
use capacity::Capacity;
use connection::{Connection, Context, Shared, ShutdownKind};
use drain::StopMode;
use due::PeerClosed;
use expiry::Expiries;
use index::Index;
use jitter::Jitter;
use memory::Memory;
use pending::Pending;
use ready::Ready;
use timers::Timers;

/// The number of a connection inside its worker: small, and used again after the connection is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub usize);

/// A socket that has just been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewConnection {
    /// Its number, unique in the process.
    pub id: ConnectionId,
    /// The peer of the socket.
    pub peer: Peer,
    /// The refusal of its request, if that is decided before the request is read: the result of
    /// [`Gate::check`](crate::handshake::Gate::check).
    pub refusal: Option<HandshakeError>,
}

/// The connections of one worker.
///
/// A runtime owns the sockets and the clock, and makes no decisions. `examples/blocking.rs` is the smallest one. For
/// each connection, a runtime does this:
///
/// 1. Accept a socket, call [`open`](Worker::open), and keep the socket under the [`Key`].
/// 2. When the socket is readable, call [`on_readable`](Worker::on_readable). It receives once, sends once, and returns what to
///    do with the socket. On [`Transport::Close`], close the socket and [`remove`](Worker::remove) the connection. Repeat while
///    there is more to read and [`wants_read`](Worker::wants_read) agrees.
/// 3. When the socket is writable and [`wants_write`](Worker::wants_write) agrees, call [`flush`](Worker::flush), and resume
///    reading if it had paused. `flush` returns a [`Transport`] too.
/// 4. Sleep until [`poll_timeout`](Worker::poll_timeout). Then call [`handle_due`](Worker::handle_due) for each connection that
///    [`next_due`](Worker::next_due) returns, apply the [`Transport`], and resume reading if it had paused.
/// 5. While [`wants_peer_closed`](Worker::wants_peer_closed) agrees, watch the socket only for errors and for the end of the
///    peer's side, and report either with [`handle_peer_closed`](Worker::handle_peer_closed).
/// 6. To stop, call [`drain`](Worker::drain) or [`shut_down`](Worker::shut_down), and continue until
///    [`is_finished`](Worker::is_finished).
///
/// The methods, by when to call them:
///
/// * Events of a socket: `on_readable`, `flush`, `handle_peer_closed`. A runtime whose kernel completes reads and writes on its
///   own, as io_uring does, has no [`Socket`]. It calls the steps of `on_readable` one by one: [`receive`](Worker::receive),
///   [`handle_eof`](Worker::handle_eof) or [`handle_error`](Worker::handle_error), then [`output`](Worker::output),
///   [`sent`](Worker::sent) and [`transport`](Worker::transport). For a due connection it writes the pending output, receives the
///   bytes that have arrived, and then calls [`handle_deadlines`](Worker::handle_deadlines).
/// * Time: `poll_timeout`, `next_due`, `handle_due`.
/// * Commands between turns: `open`, `remove`, [`handle_message`](Worker::handle_message), `drain`, `shut_down`,
///   [`apply_backpressure`](Worker::apply_backpressure), and for operators
///   [`handle_request`](Worker::handle_request), [`disconnect`](Worker::disconnect) and [`send`](Worker::send). The
///   connections that a command affects are due afterwards.
/// * Effects on other workers: [`poll_effect`](Worker::poll_effect).
/// * Getters: [`find`](Worker::find), [`status`](Worker::status), [`totals`](Worker::totals) and the `is_` and `wants_` methods.
#[derive(Debug)]
pub struct Worker<A: Application = Echo> {
    config: Arc<WorkerConfig>,
    application: A,
    connections: Slab<Connection<A>>,
    timers: Timers,
    /// Connections that end when their credentials do.
    expiries: Expiries,
    /// Connections that are due although no event of their sockets or timers has occurred.
    due: VecDeque<Key>,
    /// Connections with output of a [`Fanout`].
    ready: Ready,
    /// The frames that several connections send.
    frames: FrameTable,
    /// Whether the process stops, and how.
    stop: Option<StopMode>,
    /// The output of one turn, of the connection `corked`. Empty between turns.
    cork: Vec<u8>,
    corked: Key,
    codec: Codec,
    shared: Shared,
    /// The effects that [`Worker::poll_effect`] has not returned yet.
    effects: VecDeque<WorkerEffect<A::Effect>>,
    /// Connections whose request heads are arriving, and that may be admitted.
    pending: Pending,
    capacity: Capacity,
    /// The admitted connections by their users, and by their sessions where the gateway names them.
    users: Index,
    sessions: Index,
    memory: Memory,
    /// The time since which reads are paused, because they could cause records.
    reads_paused_since: Option<Instant>,
    /// The total time of earlier pauses.
    reads_paused_before: Duration,
    /// Peers that have left while reading from them was paused, in the order in which their connections are ended.
    peer_closed: VecDeque<PeerClosed>,
}

impl Worker {
    /// Creates a worker without connections whose application is [`Echo`]. `seed` determines its random delays: any number, a
    /// different one for each worker.
    pub fn new(config: Arc<WorkerConfig>, seed: u64, now: Instant) -> Worker {
        Worker::with_application(Echo, config, seed, now)
    }
}

impl<A: Application> Worker<A> {
    /// Does the same as [`new`](Worker::new) for another application.
    pub fn with_application(application: A, config: Arc<WorkerConfig>, seed: u64, now: Instant) -> Worker<A> {
        let codec = Codec::within(config.max_memory);
        let longest_whole = config.session.longest_whole();
        Worker {
            config,
            application,
            connections: Slab::new(),
            timers: Timers::default(),
            expiries: Expiries::default(),
            due: VecDeque::new(),
            ready: Ready::default(),
            frames: FrameTable::default(),
            stop: None,
            cork: Vec::new(),
            corked: Key(usize::MAX),
            codec,
            shared: Shared {
                longest_whole,
                time_base: TimeBase::new(now),
                jitter: Jitter::new(seed),
                unidentified: Arc::default(),
                requests: RefCell::default(),
                is_stalled: Cell::default(),
                is_draining: Cell::default(),
            },
            effects: VecDeque::new(),
            pending: Pending::default(),
            capacity: Capacity::default(),
            users: Index::default(),
            sessions: Index::default(),
            memory: Memory::default(),
            reads_paused_since: None,
            reads_paused_before: Duration::ZERO,
            peer_closed: VecDeque::new(),
        }
    }

    /// Adds a new connection. If all [places](WorkerConfig::max_connections) are taken, another connection is evicted and is
    /// [due](Worker::next_due), or the new one will be refused.
    pub fn open(&mut self, arrival: NewConnection, now: Instant) -> Key {
        let arrival = NewConnection { refusal: self.reserve_place(arrival.refusal), ..arrival };
        let key =
            Key(self.connections.insert(Connection::new(arrival, now, self.shared.time_base, &self.config)));
        self.begin(key, &arrival, arrival.refusal.is_some(), now);
        if self.stop.is_some() {
            self.due.push_back(key);
        }
        self.arm(key);
        key
    }

    /// Handles the bytes of one read. They are unmasked in place.
    #[inline]
    pub fn receive(&mut self, key: Key, now: Instant, bytes: &mut [u8], recorder: &mut impl Recorder) {
        self.turn(key, now, |connection, context, turn| {
            connection.on_received(now);
            connection.receive(context, turn, &mut Input::new(bytes), 0, None, recorder);
        });
    }

    /// Handles the end of the peer's side: a read returned zero bytes.
    pub fn handle_eof(&mut self, key: Key, now: Instant) {
        self.turn(key, now, |connection, _, turn| connection.handle_eof(turn.now));
    }

    /// Handles an error of the socket in reading or writing. Pending output is lost.
    pub fn handle_error(&mut self, key: Key) {
        if self.corked == key {
            self.clear_cork();
        }
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.abort(Ending::Broken);
        }
    }

    /// Returns the first part of the pending output. Write it to the socket and call [`Worker::sent`], until it is empty or the
    /// socket accepts less than all of it.
    #[inline]
    pub fn output(&self, key: Key) -> &[u8] {
        match self.connections.get(key.0) {
            None => &[],
            Some(connection) if connection.is_aborted() => &[],
            Some(connection) if !connection.output.is_empty() => connection.output.first(&self.frames),
            Some(_) if self.corked == key => &self.cork,
            Some(_) => &[],
        }
    }

    /// Removes the first `n` bytes of [`Worker::output`], which the socket accepted; zero if it would have blocked.
    // Out of line: the path of a short message, into which it would be inlined, rarely calls it.
    #[inline(never)]
    pub fn sent(&mut self, key: Key, n: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if !connection.output.is_empty() {
            let was_queued = connection.output.queue().is_some();
            let (freed, buffer) = connection.output.advance(n, &mut self.frames, now);
            self.memory.free_shared(freed);
            match (connection.output.is_empty(), was_queued) {
                // A frame that the socket accepted at once leaves no trace.
                (true, false) => return,
                (true, true) => {
                    self.codec.buffers.put(buffer.unwrap_or_default());
                    connection.on_drained(now, self.shared.time_base);
                    if connection.has_pong() {
                        self.due.push_back(key);
                    }
                    self.arm(key);
                }
                // The write timeout begins.
                (false, false) => self.arm(key),
                (false, true) => {
                    if connection.is_limited(&self.config) {
                        // The pending output may now be small enough for its reading to resume.
                        self.arm(key);
                    }
                }
            }
            self.count_memory(key);
        } else if self.corked == key {
            if let Some(unsent @ [_, ..]) = self.cork.get(n..) {
                let queue = OutputQueue::resume(unsent.to_vec(), 0, now);
                connection.output = Output::Queue(Box::new(queue));
                self.arm(key);
                self.count_memory(key);
            }
            self.clear_cork();
        }
    }

    /// Whether to read from the socket. Ask again after a call of [`flush`](Worker::flush), [`sent`](Worker::sent) or
    /// [`handle_due`](Worker::handle_due).
    #[inline]
    pub fn wants_read(&self, key: Key) -> bool {
        self.connections.get(key.0).is_some_and(|connection| connection.wants_read(&self.config))
            && !(self.are_reads_paused() && self.is_recorded(key))
    }

    /// Whether output is pending.
    #[inline]
    pub fn wants_write(&self, key: Key) -> bool {
        !self.output(key).is_empty()
    }

    /// Returns what to do with the socket. While output is pending, it stays open.
    #[inline]
    pub fn transport(&self, key: Key) -> Transport {
        match self.connections.get(key.0) {
            Some(_) if self.wants_write(key) => Transport::Open,
            Some(connection) => connection.transport(),
            None => Transport::Close,
        }
    }

    /// Removes a connection whose socket is closed, and records its end.
    pub fn remove(&mut self, key: Key, now: Instant, recorder: &mut impl Recorder) {
        if self.corked == key {
            self.clear_cork();
        }
        if let Some(mut connection) = self.connections.try_remove(key.0) {
            self.memory.free_shared(connection.output.release(&mut self.frames));
            self.end_admission(connection.admission_state());
            self.forget_memory(connection.held);
            if let Some(user) = connection.user() {
                self.expiries.remove(key);
                self.unindex_user(key, user);
                if let Some(users) = self.config.users.as_ref().filter(|_| connection.flags.is_counted()) {
                    users.leave(user.id(), connection.id);
                }
            }
            connection.record_end(now, self.shared.time_base, recorder);
            if let Some((client, identity)) = connection.into_client() {
                let (application, mut fanout) = self.fan_out(now);
                application.closed(key, client, &identity, &mut fanout);
            }
        }
    }

    /// Returns the latest time for the next call of [`Worker::next_due`]. `None` if no connection has a deadline.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let has_requests = !self.shared.requests.borrow().is_empty();
        if !(self.due.is_empty() && self.ready.is_empty()) || self.is_short_of_memory() || has_requests {
            return Some(now);
        }
        let timers = self.timers.next().map(|at| self.shared.time_base.instant(at));
        let timers = earlier(timers, self.application.poll_timeout());
        let is_stopping_or_paused = self.stop.is_some() || self.reads_paused_since.is_some();
        if is_stopping_or_paused || !self.peer_closed.is_empty() || self.must_evict() {
            return self.poll_rare_timeout(now, timers);
        }
        timers
    }

    /// Does the same as [`Worker::poll_timeout`] while more than timers may be due.
    // A runtime with a task for each connection asks after each turn.
    #[cold]
    fn poll_rare_timeout(&self, now: Instant, timers: Option<Instant>) -> Option<Instant> {
        let evicts_at = self.evicts_at(now);
        let times = [timers, evicts_at, self.drains_at(), self.peer_closed_ends_at(), self.stalls_at()];
        times.into_iter().flatten().min()
    }

    /// Returns the next connection that has a deadline in the past or output from a command, and the cause. Call
    /// [`handle_due`](Worker::handle_due) for it before the next call.
    ///
    /// After `None`, handle the events of all sockets before the next call, even if [`poll_timeout`](Worker::poll_timeout)
    /// returns `now`: then a [slice](WorkerConfig::fanout_slice) of a message to many connections was written, and the next slice
    /// is due.
    pub fn next_due(&mut self, now: Instant, recorder: &mut impl Recorder) -> Option<Due> {
        // Before all else, so that the writes of a slice cost little.
        if let Some(key) = self.next_ready() {
            return Some(Due { key, cause: DueCause::Frame });
        }
        if self.application.poll_timeout().is_some_and(|at| at <= now) {
            let (application, mut fanout) = self.fan_out(now);
            application.handle_timeout(&mut fanout, recorder);
            drop(fanout);
            if let Some(key) = self.next_ready() {
                return Some(Due { key, cause: DueCause::Frame });
            }
        }
        let due = self.next_other(now, recorder);
        if due.is_none() && self.ready.is_used() {
            self.ready.begin_slice();
        }
        due
    }

    /// Returns the next due connection without those to be written for a message to many.
    #[inline(always)]
    fn next_other(&mut self, now: Instant, recorder: &mut impl Recorder) -> Option<Due> {
        let changed = |key| Some(Due { key, cause: DueCause::Change });
        if let Some(key) = self.evict_for_memory(now, recorder) {
            return changed(key);
        }
        if let Some(due) = self.next_eviction(now, recorder) {
            return Some(due);
        }
        self.detect_log_stall(now);
        if let Some(key) = self.end_peer_closed(now) {
            return changed(key);
        }
        if let Some(key) = self.perform_next(now, recorder) {
            return changed(key);
        }
        while let Some(key) = self.due.pop_front() {
            if self.connections.contains(key.0) {
                let kind = match self.stop {
                    None => None,
                    Some(StopMode::AtOnce) => Some(ShutdownKind::Away),
                    // Admitted users have their own times in the schedule.
                    Some(StopMode::Spread(_)) => Some(ShutdownKind::Refusal),
                };
                self.turn(key, now, |connection, context, turn| {
                    connection.send_pong(turn);
                    if let Some(kind) = kind {
                        connection.shut_down(context, turn, kind, recorder);
                    }
                });
                return changed(key);
            }
        }
        if let Some(key) = self.drain_next(now) {
            self.turn(key, now, |connection, context, turn| {
                connection.shut_down(context, turn, ShutdownKind::Restart, recorder);
            });
            return changed(key);
        }
        while let Some(entry) = self.timers.pop_fired(self.shared.time_base.compact(now)) {
            let key = entry.key();
            if entry.is_of_credentials() {
                if self.handle_credentials_end(entry, now, recorder) {
                    return changed(key);
                }
                continue;
            }
            let Some(connection) = self.connections.get_mut(key.0) else { continue };
            if !entry.is_of(connection.id) || connection.armed != Some(entry.at) {
                continue;
            }
            connection.armed = None;
            if connection.poll_timeout(&self.config, self.shared.time_base).is_some_and(|at| at <= now) {
                if self.reschedule(key, now, recorder) {
                    continue;
                }
                return Some(Due { key, cause: DueCause::Deadline });
            }
            self.arm(key);
        }
        None
    }

    /// Returns the application.
    pub fn application(&self) -> &A {
        &self.application
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns the keys of all connections.
    pub fn keys(&self) -> Vec<Key> {
        self.connections.iter().map(|(key, _)| Key(key)).collect()
    }

    /// Runs one turn of one connection: passes it the output buffer, and updates its backlog limit and its timer
    /// afterwards.
    #[inline]
    fn turn(
        &mut self,
        key: Key,
        now: Instant,
        work: impl FnOnce(&mut Connection<A>, &mut Context<'_, A>, &mut Turn<'_>),
    ) {
        self.claim_cork(key, now);
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let mut context =
            Context { key, config: &self.config, application: &mut self.application, shared: &self.shared };
        let admission_state = connection.admission_state();
        let was_quiet = connection.is_quiet() && connection.armed.is_some();
        // The backlog is passed as the output, so that new output is appended to pending output.
        let mut queue = connection.output.take_queue(&self.frames, now);
        let is_backlogged = queue.is_some();
        let out = queue.as_mut().map_or(&mut self.cork, |queue| queue.tail());
        work(connection, &mut context, &mut Turn { now, out, is_backlogged, codec: &mut self.codec });
        if let Some(queue) = queue {
            if connection.is_aborted() {
                self.memory.free_shared(queue.release(&mut self.frames));
            } else {
                connection.output = Output::Queue(queue);
                connection.enforce_max_backlog(&self.config, now, &mut self.codec);
            }
        }
        // The only deadline of a quiet connection is for its next ping, which a turn can only postpone. So the armed timer still
        // holds.
        if !(was_quiet && self.connections.get(key.0).is_some_and(Connection::is_quiet)) {
            self.arm(key);
        }
        self.count_memory(key);
        self.update_admission(key, admission_state, now);
    }

    /// Ensures that a timer entry exists for the connection's deadline, or for an earlier time. A connection that has
    /// begun to close no longer counts for its user.
    // Out of line: the path of a short message, into which it would be inlined, rarely calls it.
    #[inline(never)]
    fn arm(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.arm(key, &mut self.timers, &self.config, self.shared.time_base);
        connection.release_user_if_closing(&self.config);
    }

    /// Assigns the cork buffer to the connection `key`. Output of another connection that the runtime has left in it becomes
    /// the backlog of that one, so bytes never go to the wrong connection.
    #[inline]
    fn claim_cork(&mut self, key: Key, now: Instant) {
        if !self.cork.is_empty() {
            self.move_cork_to_backlog(key, now);
        }
        self.corked = key;
    }

    #[cold]
    fn move_cork_to_backlog(&mut self, key: Key, now: Instant) {
        if self.corked == key {
            return;
        }
        if let Some(connection) = self.connections.get_mut(self.corked.0)
            && !connection.is_aborted()
        {
            let queue = connection.output.take_queue(&self.frames, now);
            let mut queue = queue.unwrap_or_else(|| Box::new(OutputQueue::resume(Vec::new(), 0, now)));
            queue.tail().append(&mut self.cork);
            connection.output = Output::Queue(queue);
        }
        self.count_memory(self.corked);
        self.cork.clear();
    }

    /// Empties the cork buffer, and gives its memory back if a burst made it large.
    #[inline]
    fn clear_cork(&mut self) {
        self.cork.clear();
        if self.cork.capacity() > LARGEST_CORK {
            self.cork = Vec::new();
        }
    }
}

/// The most memory, in bytes, that the cork buffer keeps between turns.
const LARGEST_CORK: usize = 1024 * 1024;
