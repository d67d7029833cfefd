//! How many connections each user has.

use std::fmt;

/// Counts the connections of a process by their user, for all its workers. The host lends it, because what workers
/// share takes a lock. It is asked when a connection is admitted and when it ends, never by a message.
pub trait Users: fmt::Debug + Send + Sync {
    /// Counts one more connection of the user `id`, if that is not more than one may have. Says whether it did.
    fn enter(&self, id: &str) -> bool;

    /// Counts one less, of a user for whom [`enter`](Users::enter) said yes.
    fn leave(&self, id: &str);
}
