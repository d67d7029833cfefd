//! Messages to any connections of a worker, at any time.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;
use std::time::{Duration, Instant};

use slab::Slab;

use super::admin::Outgoing;
use super::connection::{Connection, Shared};
use super::expiry::Expiries;
use super::memory::Memory;
use super::ready::Ready;
use super::timers::Timers;
use super::{Application, Key, Worker, WorkerConfig};
use crate::close_code::CloseCode;
use crate::frame::{DataKind, MAX_HEADER, write_compressed_frame, write_frame};
use crate::handshake::Identity;
use crate::output::{FrameId, FrameTable, Output, OutputQueue};
use crate::record::CredentialsEnd;
use crate::session::SharedForm;
use crate::turn::{Codec, Turn};

/// Sends messages to connections of a worker, and closes them.
///
/// A message to many connections is encoded and stored once: [`frame`](Fanout::frame) adds it, and
/// [`deliver`](Fanout::deliver) sends it to one of them. Several short messages are joined once for all connections that get the
/// same ones, and a message is compressed once for all connections with the same window. A delivery neither copies nor allocates,
/// unless the socket has not accepted earlier output, or the messages of the connection are long.
///
/// Nothing is written before the runtime handles the connections, which are [due](Worker::next_due) afterwards, each once for
/// all its messages. A connection is closed if its socket has not accepted all output that it was offered, and the pending output
/// exceeds [`max_backlog`](crate::SessionConfig::max_backlog).
#[derive(Debug)]
pub struct Fanout<'w, A: Application> {
    now: Instant,
    config: &'w WorkerConfig,
    shared: &'w Shared,
    connections: &'w mut Slab<Connection<A>>,
    frames: &'w mut FrameTable,
    memory: &'w mut Memory,
    timers: &'w mut Timers,
    expiries: &'w mut Expiries,
    codec: &'w mut Codec,
    /// See the field of the same name of [`Worker`].
    due: &'w mut VecDeque<Key>,
    ready: &'w mut Ready,
    /// The connection whose client the application may have changed since its memory was counted.
    uncounted: Option<Key>,
}

/// The pending output of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Its size in bytes.
    pub bytes: usize,
    /// Whether its socket was offered it and has not accepted all.
    pub is_blocked: bool,
}

/// An encoded message of a [`Fanout`], which cannot be used with any other.
#[derive(Debug, Clone, Copy)]
pub struct SharedFrame<'w> {
    id: FrameId,
    kind: DataKind,
    /// The length of the payload in bytes.
    len: usize,
    fanout: PhantomData<fn(&'w ()) -> &'w ()>,
}

/// Connections that had the same output before a delivery, and have the same output after it.
#[derive(Debug)]
struct Run {
    before: Option<FrameId>,
    /// The form of the message that they get.
    form: SharedForm,
    after: FrameId,
    /// The number of connections whose references are not counted yet.
    count: u32,
}

impl<A: Application> Worker<A> {
    /// Returns the application, and what it sends with.
    pub(super) fn fan_out(&mut self, now: Instant) -> (&mut A, Fanout<'_, A>) {
        // Output of an earlier turn that the runtime has not written goes first.
        self.claim_cork(Key(usize::MAX), now);
        let fanout = Fanout {
            now,
            config: &self.config,
            shared: &self.shared,
            connections: &mut self.connections,
            frames: &mut self.frames,
            memory: &mut self.memory,
            timers: &mut self.timers,
            expiries: &mut self.expiries,
            codec: &mut self.codec,
            due: &mut self.due,
            ready: &mut self.ready,
            uncounted: None,
        };
        (&mut self.application, fanout)
    }
}

impl<'w, A: Application> Fanout<'w, A> {
    /// Returns the current time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the state and the user of an admitted connection. `None` if `key` is of no such connection.
    pub fn client(&mut self, key: Key) -> Option<(&mut A::Client, &Identity)> {
        self.count_client();
        self.uncounted = Some(key);
        self.connections.get_mut(key.0)?.client()
    }

    /// Returns the pending output of a connection.
    pub fn backlog(&self, key: Key) -> Backlog {
        let output = self.connections.get(key.0).map(|connection| &connection.output);
        output.map_or(Backlog::default(), |output| Backlog {
            bytes: output.len(self.frames),
            is_blocked: output.queue().is_some_and(OutputQueue::is_offered),
        })
    }

    /// Encodes a message, for [`deliver`](Fanout::deliver). A text message must be UTF-8, which is not checked.
    pub fn frame(&mut self, kind: DataKind, payload: &[u8]) -> SharedFrame<'w> {
        let mut bytes = Vec::with_capacity(MAX_HEADER + payload.len());
        write_frame(&mut bytes, kind.opcode(), payload, None);
        self.memory.count_shared(bytes.len());
        SharedFrame { id: self.frames.insert(bytes), kind, len: payload.len(), fanout: PhantomData }
    }

    /// Sends a message to one connection. Returns false if it is not open.
    #[inline]
    pub fn deliver(&mut self, key: Key, frame: SharedFrame<'w>) -> bool {
        let Some(connection) = self.connections.get_mut(key.0) else { return false };
        let Some(form) = connection.share_message(frame.len) else { return false };
        self.deliver_form(key, frame, form);
        true
    }

    /// Sends a message, which is counted, to one connection.
    #[inline]
    fn deliver_form(&mut self, key: Key, frame: SharedFrame<'w>, form: SharedForm) {
        let id = match form {
            SharedForm { bits: 0 } => frame.id,
            SharedForm { bits } => self.compressed(frame, bits),
        };
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        // Pending output is written when its turn comes, or when the socket becomes writable again.
        if connection.output.is_empty() {
            self.ready.push(key);
        }
        let change = connection.output.push_frame(id, self.frames, self.now);
        self.memory.count_shared(change.added);
        self.memory.free_shared(change.freed);
        if connection.output.queue().is_some() {
            self.update(key);
        }
    }

    /// Returns the form of a frame that is compressed in a window of 2^`bits` bytes. Without context takeover, it is the same for
    /// all connections with this window. A message of less than [`compression_min`](crate::SessionConfig::compression_min) bytes,
    /// and one that would not get shorter, is sent uncompressed.
    #[inline(never)]
    fn compressed(&mut self, frame: SharedFrame<'w>, bits: u8) -> FrameId {
        let Fanout { config, frames, codec, memory, .. } = self;
        let (id, added) = frames.compressed(frame.id, bits, |bytes| {
            // The payload follows the header.
            let payload = bytes.get(bytes.len() - frame.len..).unwrap_or_default();
            let compressed = codec.deflate.deflate(payload, bits, config.session.compression_min)?;
            let mut bytes = Vec::with_capacity(MAX_HEADER + compressed.len());
            write_compressed_frame(&mut bytes, frame.kind.opcode(), compressed, None);
            Some(bytes)
        });
        memory.count_shared(added);
        id
    }

    /// Sends a message to connections. Returns the number of those that are open. This is faster than one call of
    /// [`deliver`](Fanout::deliver) for each.
    pub fn deliver_to(&mut self, keys: impl IntoIterator<Item = Key>, frame: SharedFrame<'w>) -> usize {
        // Most connections have the same output before, and so the same output afterwards: the table is asked once for all of
        // them, and their references are counted together.
        let mut run: Option<Run> = None;
        let mut sent = 0;
        for key in keys {
            let Some(connection) = self.connections.get_mut(key.0) else { continue };
            let Some(form) = connection.share_message(frame.len) else { continue };
            if let Some(run) = &mut run
                && run.form == form
            {
                let is_same = match (&mut connection.output, run.before) {
                    (Output::Frame(id), Some(before)) if *id == before => {
                        *id = run.after;
                        true
                    }
                    (output @ Output::Empty, None) => {
                        // There is nothing to drop, which the compiler does not see.
                        mem::forget(mem::replace(output, Output::Frame(run.after)));
                        self.ready.push(key);
                        true
                    }
                    _ => false,
                };
                if is_same {
                    run.count += 1;
                    continue;
                }
            }
            let before = connection.output.frame();
            sent += 1 + self.end(run.take());
            self.deliver_form(key, frame, form);
            let connection = self.connections.get(key.0);
            let after = connection.and_then(|connection| connection.output.frame());
            run = after.map(|after| Run { before, form, after, count: 0 });
        }
        sent + self.end(run)
    }

    /// Sends a message to all connections that are open. Returns their number.
    pub fn deliver_to_all(&mut self, frame: SharedFrame<'w>) -> usize {
        // No key is larger. A list of the keys would have to be allocated.
        let keys = 0..self.connections.capacity();
        self.deliver_to(keys.map(Key), frame)
    }

    /// Counts the memory of the client that the application has used last.
    fn count_client(&mut self) {
        if let Some(key) = self.uncounted.take()
            && let Some(connection) = self.connections.get_mut(key.0)
        {
            self.memory.count(connection);
        }
    }

    /// Counts the references of a run. Returns the number of its connections after the first one.
    fn end(&mut self, run: Option<Run>) -> usize {
        let Some(Run { before, after, count: count @ 1.., .. }) = run else { return 0 };
        self.memory.free_shared(self.frames.replace(before, after, count));
        count as usize
    }

    /// Sends a message to one connection. Returns false if it is not open. A message to several connections is cheaper as a
    /// [`frame`](Fanout::frame).
    pub fn send(&mut self, key: Key, message: Outgoing<'_>) -> bool {
        let (kind, payload) = message.parts();
        let frame = self.frame(kind, payload);
        self.deliver(key, frame)
    }

    /// Begins to close a connection, with this code and at most 123 bytes of this reason. Returns whether it was open.
    pub fn close(&mut self, key: Key, code: CloseCode, reason: &str) -> bool {
        let Some(connection) = self.connections.get_mut(key.0).filter(|connection| connection.is_open())
        else {
            return false;
        };
        let mut queue = queue_of(connection, self.frames, self.now);
        let mut turn =
            Turn { now: self.now, out: queue.tail(), is_backlogged: true, codec: &mut *self.codec };
        connection.close_for_application(&mut turn, code, reason);
        connection.output = Output::Queue(queue);
        self.update(key);
        self.due.push_back(key);
        true
    }

    /// Changes when the token of a connection expires, as a refresh does. `None`: never. Returns whether it is open.
    pub fn set_token_expiry(&mut self, key: Key, expires_at: Option<Instant>) -> bool {
        let Some(connection) = self.connections.get_mut(key.0).filter(|connection| connection.is_open())
        else {
            return false;
        };
        let clock = self.config.handshake.wall_clock;
        let exp = expires_at.zip(clock).map(|(at, clock)| {
            // To the next second: the two clocks were not read at the same time.
            (clock() + at.saturating_duration_since(self.now) + Duration::from_millis(500)).as_secs()
        });
        connection.set_token_exp(exp);
        if let (Some(expires_at), Some(expiry)) = (expires_at, self.config.expiry) {
            let end = expires_at + expiry.grace + self.shared.jitter.within(expiry.spread);
            let place = (key, connection.id);
            let at = self.shared.time_base.compact(end);
            self.expiries.schedule(self.timers, place, at, CredentialsEnd::Expired);
        }
        true
    }

    /// Applies the limits to a connection with pending output, and updates its timer and its memory.
    fn update(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.enforce_max_backlog(self.config, self.now, self.codec);
        connection.arm(key, self.timers, self.config, self.shared.time_base);
        connection.release_user_if_closing(self.config);
        self.memory.count(connection);
    }
}

impl<A: Application> Drop for Fanout<'_, A> {
    /// Removes the frames that were delivered to no connection.
    fn drop(&mut self) {
        self.count_client();
        self.memory.free_shared(self.frames.end_additions());
    }
}

/// Removes the output of a connection as a queue, to which more is appended.
fn queue_of<A: Application>(
    connection: &mut Connection<A>,
    frames: &FrameTable,
    now: Instant,
) -> Box<OutputQueue> {
    let queue = connection.output.take_queue(frames, now);
    queue.unwrap_or_else(|| Box::new(OutputQueue::resume(Vec::new(), 0, now)))
}
