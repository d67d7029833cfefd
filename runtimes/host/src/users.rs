//! How many connections each user has, and which gives way.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::ConnectionId;
use postern_core::policy::{Decision, Users};

/// What follows if a user comes once more than he may.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum UserPolicy {
    /// He is refused.
    #[default]
    Reject,
    /// He is admitted, and his oldest connection is closed.
    Replace,
}

/// So many connections for each user, counted over all workers.
#[derive(Debug)]
pub(crate) struct PerUser {
    most: NonZeroUsize,
    policy: UserPolicy,
    /// By the user's id, in the order in which they were admitted.
    connections: Mutex<HashMap<Box<str>, VecDeque<ConnectionId>>>,
}

impl Users for PerUser {
    fn enter(&self, id: &str, connection: ConnectionId) -> Decision {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else {
            users.insert(id.into(), VecDeque::from([connection]));
            return Decision::Admitted;
        };
        let is_full = connections.len() >= self.most.get();
        let entrance = match self.policy {
            UserPolicy::Reject if is_full => return Decision::Refused,
            UserPolicy::Replace if is_full => {
                connections.pop_front().map_or(Decision::Admitted, Decision::Evict)
            }
            UserPolicy::Reject | UserPolicy::Replace => Decision::Admitted,
        };
        connections.push_back(connection);
        entrance
    }

    /// Of whom nothing is left, nothing is kept.
    fn leave(&self, id: &str, connection: ConnectionId) {
        let mut users = self.connections();
        let Some(connections) = users.get_mut(id) else { return };
        // One that was replaced is not among them any more.
        if let Some(at) = connections.iter().position(|here| *here == connection) {
            connections.remove(at);
        }
        if connections.is_empty() {
            users.remove(id);
        }
    }
}

impl PerUser {
    /// At most so many for each.
    pub(crate) fn new(most: NonZeroUsize, policy: UserPolicy) -> PerUser {
        PerUser { most, policy, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Box<str>, VecDeque<ConnectionId>>> {
        // Nothing in here leaves the lists half changed.
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
    fn each_user_has_as_many_as_allowed_and_no_more() {
        let users = two_each(UserPolicy::Reject);
        let [admitted, refused] = [Decision::Admitted, Decision::Refused];
        assert_eq!([1, 2, 3].map(|connection| enter(&users, "1", connection)), [admitted, admitted, refused]);
        assert_eq!(enter(&users, "2", 4), admitted);
        users.leave("1", ConnectionId(1));
        assert_eq!([5, 6].map(|connection| enter(&users, "1", connection)), [admitted, refused]);
    }

    #[test]
    fn the_oldest_gives_way_and_is_counted_no_more() {
        let users = two_each(UserPolicy::Replace);
        let instead = |connection| Decision::Evict(ConnectionId(connection));
        let entrances = [1, 2, 3, 4].map(|connection| enter(&users, "1", connection));
        assert_eq!(entrances, [Decision::Admitted, Decision::Admitted, instead(1), instead(2)]);
        // Their ends come later, and take nobody else's place.
        users.leave("1", ConnectionId(1));
        users.leave("1", ConnectionId(2));
        assert_eq!(enter(&users, "1", 5), instead(3));
        users.leave("1", ConnectionId(4));
        assert_eq!(enter(&users, "1", 6), Decision::Admitted);
    }

    #[test]
    fn nothing_is_kept_of_users_who_are_gone() {
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
