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
    // `Users` is shared by threads elsewhere. Here the locks are never contended.
    counted: Mutex<Counted>,
    /// The users whose connections have changed, and how many have ended.
    changed: Mutex<BTreeMap<String, usize>>,
}

/// The counted connections of each user with their workers, the oldest first.
type Counted = BTreeMap<String, Vec<(usize, ConnectionId)>>;

impl ModelUsers {
    pub(crate) fn new(most: usize, replaces: bool) -> ModelUsers {
        ModelUsers { most, replaces, counted: Mutex::default(), changed: Mutex::default() }
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

    /// Returns the connections of a user.
    pub(crate) fn of(&self, id: &str) -> Vec<ConnectionId> {
        self.counted().get(id).into_iter().flatten().map(|(_, connection)| *connection).collect()
    }

    /// Returns the users with connections.
    pub(crate) fn all(&self) -> Vec<String> {
        let counted = self.counted();
        counted.iter().filter(|(_, list)| !list.is_empty()).map(|(id, _)| id.clone()).collect()
    }

    /// Stops counting a connection. Returns its worker, if it was counted.
    pub(crate) fn remove(&self, id: &str, connection: ConnectionId) -> Option<usize> {
        let mut counted = self.counted();
        let list = counted.get_mut(id)?;
        let at = list.iter().position(|(_, counted)| *counted == connection)?;
        *self.changed().entry(id.to_owned()).or_default() += 1;
        Some(list.remove(at).0)
    }

    /// Returns the users whose connections have changed since the last call, and how many have ended.
    pub(crate) fn take_changed(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.changed())
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.changed().entry(id.to_owned()).or_default();
        if !is_full {
            return Decision::Admitted;
        }
        let (worker, connection) = list.remove(0);
        Decision::Replace { worker, connection }
    }

    fn leave(&self, id: &str, connection: ConnectionId) {
        self.remove(id, connection);
    }
}
