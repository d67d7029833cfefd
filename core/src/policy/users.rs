//! The number of connections of each user.

use std::fmt;

use crate::close_code::CloseCode;
use crate::id::ConnectionId;

/// Counts the connections of each user of a process, for all its workers. The host provides it, because state that
/// workers share needs a lock. Workers call it when a connection is admitted and when it ends, never for a message.
pub trait Users: fmt::Debug + Send + Sync {
    /// Counts a new connection of the user `id` at a worker, unless the user has too many.
    fn enter(&self, id: &str, worker: usize, connection: ConnectionId) -> Decision;

    /// Stops counting a connection for which [`enter`](Users::enter) did not return [`Decision::Refused`].
    fn leave(&self, id: &str, connection: ConnectionId);
}

/// Whether a user may have one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The connection is admitted.
    Admitted,
    /// The user has the maximum number of connections.
    Refused,
    /// The connection is admitted, and an older one of the same user is closed. The older one no longer counts.
    Replace {
        /// The number of its worker.
        worker: usize,
        /// The older connection.
        connection: ConnectionId,
    },
}

/// A connection that closes because its user has others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The number of its worker.
    pub worker: usize,
    /// The id of the user.
    pub user: Box<str>,
    /// The connection that closes.
    pub connection: ConnectionId,
    /// The code of the Close: [`REPLACED`](crate::close_code::REPLACED) if the user has a newer one, or
    /// [`TOO_MANY_CONNECTIONS`](crate::close_code::TOO_MANY_CONNECTIONS) if the user has the maximum number without it.
    pub code: CloseCode,
}
