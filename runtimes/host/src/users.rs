//! The limit of connections of each user.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::ConnectionId;
use postern_core::policy::{Decision, Users};

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
#[derive(Debug)]
pub(crate) struct PerUser {
    most: NonZeroUsize,
    policy: UserPolicy,
    connections: Mutex<Connections>,
}

/// The connections of each user with the numbers of their workers, in the order of their admission.
type Connections = HashMap<Box<str>, VecDeque<(usize, ConnectionId)>>;

impl Users for PerUser {
    fn enter(&self, id: &str, worker: usize, connection: ConnectionId) -> Decision {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else {
            users.insert(id.into(), VecDeque::from([(worker, connection)]));
            return Decision::Admitted;
        };
        let is_full = connections.len() >= self.most.get();
        let decision = match self.policy {
            UserPolicy::Reject if is_full => return Decision::Refused,
            UserPolicy::Replace if is_full => match connections.pop_front() {
                Some((worker, connection)) => Decision::Replace { worker, connection },
                None => Decision::Admitted,
            },
            UserPolicy::Reject | UserPolicy::Replace => Decision::Admitted,
        };
        connections.push_back((worker, connection));
        decision
    }

    /// Stops counting a connection. A user without connections is removed.
    fn leave(&self, id: &str, connection: ConnectionId) {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else { return };
        // A replaced connection has been removed already.
        if let Some(at) = connections.iter().position(|(_, here)| *here == connection) {
            connections.remove(at);
        }
        if connections.is_empty() {
            users.remove(id);
        }
    }
}

impl PerUser {
    /// Limits each user to `most` connections.
    pub(crate) fn new(most: NonZeroUsize, policy: UserPolicy) -> PerUser {
        PerUser { most, policy, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // No code that holds the lock panics while the lists are inconsistent.
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
