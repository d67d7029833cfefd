//! The limit of connections of each user.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use postern_channels::relay::command::UserLimit;
use postern_core::policy::{Decision, Replaced, Users};
use postern_core::{CloseCode, ConnectionId, close_code};

/// The reaction to a new connection of a user with the maximum number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum UserPolicy {
    /// It is refused.
    #[default]
    Reject,
    /// It is admitted, and the oldest connection of the user is closed.
    Replace,
}

/// Limits the connections of each user, over all workers.
pub(crate) struct PerUser {
    most: NonZeroUsize,
    policy: UserPolicy,
    connections: Mutex<Connections>,
    /// Called after the connections of a user have changed.
    watcher: OnceLock<Watcher>,
}

type Watcher = Box<dyn Fn(&str) + Send + Sync>;

/// The connections of each user, in the order of their admission.
type Connections = HashMap<Box<str>, VecDeque<Counted>>;

/// A connection that counts.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// The number of its worker.
    worker: usize,
    connection: ConnectionId,
    /// When it was admitted.
    since: Instant,
}

impl Users for PerUser {
    fn enter(&self, id: &str, worker: usize, connection: ConnectionId) -> Decision {
        let decision = self.count(id, Counted { worker, connection, since: Instant::now() });
        if decision != Decision::Refused {
            self.notify(id);
        }
        decision
    }

    /// Stops counting a connection. A user without connections is removed.
    fn leave(&self, id: &str, connection: ConnectionId) {
        // A replaced connection has been removed already.
        if self.remove(id, connection).is_some() {
            self.notify(id);
        }
    }
}

impl PerUser {
    /// Limits each user to `most` connections.
    pub(crate) fn new(most: NonZeroUsize, policy: UserPolicy) -> PerUser {
        PerUser { most, policy, connections: Mutex::default(), watcher: OnceLock::new() }
    }

    /// Calls `watcher` after the connections of a user have changed. It must not wait.
    pub(crate) fn watch(&self, watcher: impl Fn(&str) + Send + Sync + 'static) {
        // It is called once, at the start.
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// Returns the limit.
    pub(crate) fn limit(&self) -> UserLimit {
        UserLimit { most: self.most.get(), closes_newest: self.policy == UserPolicy::Reject }
    }

    /// Returns the connections of a user with the times of their admission.
    pub(crate) fn of(&self, id: &str) -> Vec<(u64, Instant)> {
        let users = self.connections();
        let connections = users.get(id).into_iter().flatten();
        connections.map(|counted| (counted.connection.0, counted.since)).collect()
    }

    /// Returns the users with connections.
    pub(crate) fn all(&self) -> Vec<Arc<str>> {
        self.connections().keys().map(|id| (**id).into()).collect()
    }

    /// Stops counting a connection that is too many on all nodes, which must then be closed. Returns `None` if it has ended.
    pub(crate) fn close(&self, id: &str, connection: u64) -> Option<Replaced> {
        let Counted { worker, connection, .. } = self.remove(id, ConnectionId(connection))?;
        self.notify(id);
        let code = CloseCode(match self.policy {
            UserPolicy::Reject => close_code::TOO_MANY_CONNECTIONS,
            UserPolicy::Replace => close_code::REPLACED,
        });
        Some(Replaced { worker, user: id.into(), connection, code })
    }

    fn count(&self, id: &str, counted: Counted) -> Decision {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else {
            users.insert(id.into(), VecDeque::from([counted]));
            return Decision::Admitted;
        };
        let is_full = connections.len() >= self.most.get();
        let decision = match self.policy {
            UserPolicy::Reject if is_full => return Decision::Refused,
            UserPolicy::Replace if is_full => match connections.pop_front() {
                Some(Counted { worker, connection, .. }) => Decision::Replace { worker, connection },
                None => Decision::Admitted,
            },
            UserPolicy::Reject | UserPolicy::Replace => Decision::Admitted,
        };
        connections.push_back(counted);
        decision
    }

    fn remove(&self, id: &str, connection: ConnectionId) -> Option<Counted> {
        let mut users = self.connections();
        let connections = users.get_mut(id)?;
        let at = connections.iter().position(|counted| counted.connection == connection);
        let removed = at.and_then(|at| connections.remove(at));
        if connections.is_empty() {
            users.remove(id);
        }
        removed
    }

    fn notify(&self, id: &str) {
        if let Some(watcher) = self.watcher.get() {
            watcher(id);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // No code that holds the lock panics while the lists are inconsistent.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PerUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerUser { most, policy, .. } = self;
        f.debug_struct("PerUser").field("most", most).field("policy", policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_each(policy: UserPolicy) -> PerUser {
        PerUser::new(NonZeroUsize::new(2).unwrap(), policy)
    }

    fn enter(users: &PerUser, id: &str, connection: u64) -> Decision {
        users.enter(id, 3, ConnectionId(connection))
    }

    #[test]
    fn a_connection_above_the_limit_is_refused() {
        let users = two_each(UserPolicy::Reject);
        let [admitted, refused] = [Decision::Admitted, Decision::Refused];
        assert_eq!([1, 2, 3].map(|connection| enter(&users, "1", connection)), [admitted, admitted, refused]);
        assert_eq!(enter(&users, "2", 4), admitted);
        users.leave("1", ConnectionId(1));
        assert_eq!([5, 6].map(|connection| enter(&users, "1", connection)), [admitted, refused]);
    }

    #[test]
    fn the_oldest_connection_is_replaced_and_no_longer_counts() {
        let users = two_each(UserPolicy::Replace);
        let instead = |connection| Decision::Replace { worker: 3, connection: ConnectionId(connection) };
        let decisions = [1, 2, 3, 4].map(|connection| enter(&users, "1", connection));
        assert_eq!(decisions, [Decision::Admitted, Decision::Admitted, instead(1), instead(2)]);
        // They end later, and do not count then.
        users.leave("1", ConnectionId(1));
        users.leave("1", ConnectionId(2));
        assert_eq!(enter(&users, "1", 5), instead(3));
        users.leave("1", ConnectionId(4));
        assert_eq!(enter(&users, "1", 6), Decision::Admitted);
    }

    #[test]
    fn users_without_connections_are_removed() {
        for policy in [UserPolicy::Reject, UserPolicy::Replace] {
            let users = two_each(policy);
            for (id, connection) in [("1", 1), ("1", 2), ("2", 3)] {
                assert_eq!(enter(&users, id, connection), Decision::Admitted);
            }
            for (id, connection) in [("2", 3), ("1", 2), ("1", 1), ("1", 1), ("never", 9)] {
                users.leave(id, ConnectionId(connection));
            }
            assert!(users.connections().is_empty());
        }
    }
}
