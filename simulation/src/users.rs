//! The limit of connections of each user, over all workers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::ConnectionId;
use postern_core::policy::{Decision, Users};

/// Counts the connections of each user.
#[derive(Debug)]
pub(crate) struct ModelUsers {
    most: usize,
    /// Whether the oldest connection of a user with too many is closed, or the newest refused.
    replaces: bool,
    // `Users` is shared by threads elsewhere. Here the lock is never contended.
    counted: Mutex<Counted>,
}

/// The counted connections of each user with their workers, the oldest first.
type Counted = BTreeMap<String, Vec<(usize, ConnectionId)>>;

impl ModelUsers {
    pub(crate) fn new(most: usize, replaces: bool) -> ModelUsers {
        ModelUsers { most, replaces, counted: Mutex::default() }
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn replaces(&self) -> bool {
        self.replaces
    }

    /// Whether this connection counts for its user.
    pub(crate) fn counts(&self, id: &str, connection: ConnectionId) -> bool {
        self.counted().get(id).is_some_and(|list| list.iter().any(|(_, counted)| *counted == connection))
    }

    /// Returns the number of counted connections.
    pub(crate) fn len(&self) -> usize {
        self.counted().values().map(Vec::len).sum()
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users for ModelUsers {
    fn enter(&self, id: &str, worker: usize, connection: ConnectionId) -> Decision {
        let mut counted = self.counted();
        let list = counted.entry(id.to_owned()).or_default();
        let is_full = list.len() >= self.most;
        if is_full && !self.replaces {
            return Decision::Refused;
        }
        list.push((worker, connection));
        if !is_full {
            return Decision::Admitted;
        }
        let (worker, connection) = list.remove(0);
        Decision::Replace { worker, connection }
    }

    fn leave(&self, id: &str, connection: ConnectionId) {
        if let Some(list) = self.counted().get_mut(id) {
            list.retain(|(_, counted)| *counted != connection);
        }
    }
}
