//! How many connections each user has.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_core::policy::Users;

/// So many connections for each user, counted over all workers.
#[derive(Debug)]
pub(crate) struct PerUser {
    most: NonZeroUsize,
    counts: Mutex<HashMap<Box<str>, usize>>,
}

impl Users for PerUser {
    fn enter(&self, id: &str) -> bool {
        let mut counts = self.counts();
        match counts.get_mut(id) {
            Some(count) if *count >= self.most.get() => return false,
            Some(count) => *count += 1,
            None => drop(counts.insert(id.into(), 1)),
        }
        true
    }

    /// Of whom nothing is left, nothing is kept.
    fn leave(&self, id: &str) {
        let mut counts = self.counts();
        match counts.get_mut(id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(id)),
        }
    }
}

impl PerUser {
    /// At most so many for each.
    pub(crate) fn new(most: NonZeroUsize) -> PerUser {
        PerUser { most, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        // Nothing in here leaves the counts half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_each() -> PerUser {
        PerUser::new(NonZeroUsize::new(2).unwrap())
    }

    #[test]
    fn each_user_has_as_many_as_allowed_and_no_more() {
        let users = two_each();
        assert!(users.enter("1") && users.enter("1") && !users.enter("1"));
        assert!(users.enter("2"));
        users.leave("1");
        assert!(users.enter("1") && !users.enter("1"));
    }

    #[test]
    fn nothing_is_kept_of_users_who_are_gone() {
        let users = two_each();
        for id in ["1", "1", "2"] {
            assert!(users.enter(id));
        }
        for id in ["2", "1", "1", "1", "never"] {
            users.leave(id);
        }
        assert!(users.counts().is_empty());
    }
}
