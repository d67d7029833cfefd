//! How many connections each user has.

use std::fmt;

use crate::id::ConnectionId;

/// Counts the connections of a process by their user, for all its workers. The host lends it, because what workers
/// share takes a lock. It is asked when a connection is admitted and when it ends, never by a message.
pub trait Users: fmt::Debug + Send + Sync {
    /// Counts one more connection of the user `id`, if it may be. Says whether it may.
    fn enter(&self, id: &str, connection: ConnectionId) -> Decision;

    /// Counts one less, for which [`enter`](Users::enter) did not say [`Decision::Refused`].
    fn leave(&self, id: &str, connection: ConnectionId);
}

/// Whether a user may have one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The connection is admitted.
    Admitted,
    /// The user has the maximum number of connections.
    Refused,
    /// The connection is admitted, and this one of the same user is evicted. It no longer counts.
    Evict(ConnectionId),
}

/// A connection that closes with 4409, because its user has a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The id of the user.
    pub user: Box<str>,
    /// The connection that closes.
    pub connection: ConnectionId,
}
