//! Operators' requests and probes as plain data: what they select and send, and the replies.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::Key;
use crate::close_code::CloseCode;
use crate::frame::DataKind;
use crate::handshake::{Identity, RequestId};
use crate::id::ConnectionId;
use crate::session::Traffic;

/// Selects admitted connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of them.
    All,
    /// The connections of the user with this id.
    User(String),
    /// The connections whose identity has this session id.
    Session(String),
    /// The connection with this number.
    Connection(ConnectionId),
}

/// A request to a worker: see [`Worker::handle_request`](super::Worker::handle_request).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminRequest {
    /// Reply with [`AdminReply::Alive`], to show that the worker makes progress.
    Probe,
    /// Reply with [`AdminReply::Load`].
    Load,
    /// Reply with [`AdminReply::Totals`].
    Totals,
    /// Reply with [`AdminReply::Connections`]: in no order, those with the lowest numbers.
    List {
        /// The connections.
        selector: Selector,
        /// Only connections with a higher number are listed.
        after: ConnectionId,
        /// The largest number of connections in the reply.
        limit: usize,
    },
    /// Close the connections, and reply with the number of those that were open.
    Disconnect {
        /// The connections.
        selector: Selector,
        /// The code of the Close.
        code: CloseCode,
        /// The reason of the Close, of which 123 bytes are sent.
        reason: String,
    },
    /// Send a message to the connections, and reply with the number of those that were open.
    Send {
        /// The connections.
        selector: Selector,
        /// The message.
        message: OutgoingMessage,
    },
}

/// The reply to an [`AdminRequest`].
#[derive(Debug, Clone)]
pub enum AdminReply {
    /// The worker makes progress.
    Alive,
    /// The load, for health checks.
    Load(WorkerLoad),
    /// The sums over all connections, for metrics.
    Totals(Box<WorkerTotals>),
    /// The connections of a listing.
    Connections(Vec<ConnectionStatus>),
    /// The number of connections that the request affected.
    Affected(usize),
}

/// The load of a worker that decides whether its process should be sent more users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLoad {
    /// The number of connections that are admitted or may become so.
    pub admitted: usize,
    /// Whether the buffers are close to [`max_memory`](super::WorkerConfig::max_memory).
    pub is_nearly_out_of_memory: bool,
    /// Whether reads have been paused for more than a second because the log is full.
    pub is_log_stalled: bool,
}

/// The metrics of a worker, except for the metrics of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTotals {
    /// The sums over all connections.
    pub totals: Totals,
    /// See [`Worker::user_fingerprints`](super::Worker::user_fingerprints).
    pub user_fingerprints: Vec<u32>,
    /// Whether reads have been paused for more than a second because the log is full.
    pub is_log_stalled: bool,
    /// The total time for which reads have been paused since the start.
    pub reads_paused_for: Duration,
}

/// An admitted connection in a listing: a [`Status`] that does not borrow from the worker.
#[derive(Debug, Clone)]
pub struct ConnectionStatus {
    /// The key of the connection, by which the runtime finds its socket.
    pub key: Key,
    /// The number of the connection.
    pub id: ConnectionId,
    /// See [`Status::request_id`].
    pub request_id: String,
    /// See [`Status::identity`].
    pub identity: Identity,
    /// See [`Status::since`].
    pub since: Instant,
    /// See [`Status::last_received`].
    pub last_received: Instant,
    /// See [`Status::round_trip`].
    pub round_trip: Option<Duration>,
    /// See [`Status::traffic`].
    pub traffic: Traffic,
    /// See [`Status::backlog`].
    pub backlog: usize,
    /// See [`Status::is_open`].
    pub is_open: bool,
    /// See [`Status::exceeds_since`].
    pub exceeds_since: Option<Instant>,
}

impl ConnectionStatus {
    pub(super) fn new(key: Key, status: &Status<'_>) -> ConnectionStatus {
        ConnectionStatus {
            key,
            id: status.id,
            request_id: status.request_id.to_string(),
            identity: status.identity.clone(),
            since: status.since,
            last_received: status.last_received,
            round_trip: status.round_trip,
            traffic: status.traffic,
            backlog: status.backlog,
            is_open: status.is_open,
            exceeds_since: status.exceeds_since,
        }
    }
}

/// An [`Outgoing`] message that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutgoingMessage {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

impl OutgoingMessage {
    /// Returns the message without ownership.
    pub fn as_outgoing(&self) -> Outgoing<'_> {
        match self {
            OutgoingMessage::Text(text) => Outgoing::Text(text),
            OutgoingMessage::Binary(payload) => Outgoing::Binary(payload),
        }
    }

    /// Returns the length of the payload in bytes.
    pub fn len(&self) -> usize {
        match self {
            OutgoingMessage::Text(text) => text.len(),
            OutgoingMessage::Binary(payload) => payload.len(),
        }
    }

    /// Returns whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A server-initiated message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outgoing<'p> {
    /// A text message.
    Text(&'p str),
    /// A binary message.
    Binary(&'p [u8]),
}

impl<'p> Outgoing<'p> {
    /// Returns the kind and the payload.
    pub(super) fn parts(self) -> (DataKind, &'p [u8]) {
        match self {
            Outgoing::Text(text) => (DataKind::Text, text.as_bytes()),
            Outgoing::Binary(payload) => (DataKind::Binary, payload),
        }
    }
}

/// An admitted connection as an operator sees it.
#[derive(Debug, Clone, Copy)]
pub struct Status<'s> {
    /// Its number.
    pub id: ConnectionId,
    /// The id of its request, as in the log.
    pub request_id: RequestId<'s>,
    /// The user.
    pub identity: &'s Identity,
    /// When it was admitted.
    pub since: Instant,
    /// When bytes were last read from it.
    pub last_received: Instant,
    /// The round trip of the last ping, if one was answered.
    pub round_trip: Option<Duration>,
    /// Messages and bytes until now.
    pub traffic: Traffic,
    /// Its pending output, in bytes.
    pub backlog: usize,
    /// Whether messages can still be sent; not after a Close in either direction.
    pub is_open: bool,
    /// The time since which its client has exceeded a rate, so that reading pauses repeatedly. `None` if it has kept
    /// its rates for ten seconds.
    pub exceeds_since: Option<Instant>,
}

/// Sums over the current connections of a worker.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Admitted connections.
    pub connections: usize,
    /// Connections whose request heads are arriving.
    pub pending: usize,
    /// Messages and bytes of the admitted connections.
    pub traffic: Traffic,
    /// Pending output, in bytes.
    pub backlog: usize,
    /// Bytes in buffers: [`Worker::memory_held`](super::Worker::memory_held).
    pub memory: usize,
    /// The limit of these bytes. [`usize::MAX`] is unlimited.
    pub max_memory: usize,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.connections += other.connections;
        self.pending += other.pending;
        self.traffic += other.traffic;
        self.backlog += other.backlog;
        self.memory += other.memory;
        self.max_memory = self.max_memory.saturating_add(other.max_memory);
    }
}
