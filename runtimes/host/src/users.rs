//! The limit of connections for each user.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::ConnectionId;
use postern_core::policy::{Decision, Users};

/// What happens to a new connection of a user that has reached the limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum UserPolicy {
    /// The connection is refused.
    #[default]
    Reject,
    /// The connection is admitted, and the oldest connection of the user is closed.
    Replace,
}

/// A limit of connections for each user, counted over all workers.
#[derive(Debug)]
pub(crate) struct PerUser {
    limit: NonZeroUsize,
    policy: UserPolicy,
    /// The connections by the user's id, in the order in which they were admitted.
    connections: Mutex<HashMap<Box<str>, VecDeque<ConnectionId>>>,
}

impl Users for PerUser {
    fn enter(&self, id: &str, connection: ConnectionId) -> Decision {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else {
            users.insert(id.into(), VecDeque::from([connection]));
            return Decision::Admitted;
        };
        let is_full = connections.len() >= self.limit.get();
        let decision = match self.policy {
            UserPolicy::Reject if is_full => return Decision::Refused,
            UserPolicy::Replace if is_full => {
                connections.pop_front().map_or(Decision::Admitted, Decision::Evict)
            }
            UserPolicy::Reject | UserPolicy::Replace => Decision::Admitted,
        };
        connections.push_back(connection);
        decision
    }

    fn leave(&self, id: &str, connection: ConnectionId) {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else { return };
        // An evicted connection is not in the list anymore.
        if let Some(at) = connections.iter().position(|here| *here == connection) {
            connections.remove(at);
        }
        if connections.is_empty() {
            users.remove(id);
        }
    }
}

impl PerUser {
    /// Creates a limit without connections.
    pub(crate) fn new(limit: NonZeroUsize, policy: UserPolicy) -> PerUser {
        PerUser { limit, policy, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Box<str>, VecDeque<ConnectionId>>> {
        // No code panics while it holds the lock, so a poisoned lock has valid lists.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_each(policy: UserPolicy) -> PerUser {
        PerUser::new(NonZeroUsize::new(2).unwrap(), policy)
    }

    fn enter(users: &PerUser, id: &str, connection: u64) -> Decision {
        users.enter(id, ConnectionId(connection))
    }

    #[test]
    fn with_reject_a_connection_over_the_limit_is_refused() {
        let users = two_each(UserPolicy::Reject);
        let [admitted, refused] = [Decision::Admitted, Decision::Refused];
        assert_eq!([1, 2, 3].map(|connection| enter(&users, "1", connection)), [admitted, admitted, refused]);
        assert_eq!(enter(&users, "2", 4), admitted);
        users.leave("1", ConnectionId(1));
        assert_eq!([5, 6].map(|connection| enter(&users, "1", connection)), [admitted, refused]);
    }

    #[test]
    fn with_replace_the_oldest_connection_is_evicted_and_not_counted() {
        let users = two_each(UserPolicy::Replace);
        let evict = |connection| Decision::Evict(ConnectionId(connection));
        let decisions = [1, 2, 3, 4].map(|connection| enter(&users, "1", connection));
        assert_eq!(decisions, [Decision::Admitted, Decision::Admitted, evict(1), evict(2)]);
        // The evicted connections end later, and are not counted a second time.
        users.leave("1", ConnectionId(1));
        users.leave("1", ConnectionId(2));
        assert_eq!(enter(&users, "1", 5), evict(3));
        users.leave("1", ConnectionId(4));
        assert_eq!(enter(&users, "1", 6), Decision::Admitted);
    }

    #[test]
    fn a_user_without_connections_has_no_entry() {
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
