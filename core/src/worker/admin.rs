//! The values of operators' requests: what they select and send, and what they see.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

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

/// A server-initiated message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outgoing<'p> {
    /// A text message.
    Text(&'p str),
    /// A binary message.
    Binary(&'p [u8]),
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
    /// Since when its client has exceeded a rate, so that reading pauses repeatedly. `None` if it has kept its rates for ten
    /// seconds.
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
