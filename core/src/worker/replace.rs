//! Connections that close because their user has a newer one.

use std::time::Instant;

use crate::close_code::CloseCode;

use super::admin::Selector;
use super::{Key, Worker};
use crate::close_code;
use crate::policy::Replaced;

impl Worker {
    /// Closes, with 4409, a connection of this worker that has been replaced at another one. It is
    /// [due](Worker::next_due) afterwards. A connection of another worker is ignored.
    pub fn replace(&mut self, replaced: &Replaced, now: Instant) {
        if let Some(key) = self.find_replaced(replaced) {
            self.close_replaced(key, now);
            self.due.push_back(key);
        }
    }

    /// The next connection of another worker that one of this worker has replaced. Pass it to the other workers
    /// ([`replace`](Worker::replace)). Call this when nothing is [due](Worker::next_due).
    pub fn next_replaced_elsewhere(&mut self) -> Option<Replaced> {
        self.elsewhere.pop()
    }

    /// Closes the next connection of this worker that has been replaced, and returns it.
    pub(super) fn replace_next(&mut self, now: Instant) -> Option<Key> {
        loop {
            let replaced = self.shared.replaced.borrow_mut().pop()?;
            match self.find_replaced(&replaced) {
                Some(key) => {
                    self.close_replaced(key, now);
                    return Some(key);
                }
                None => self.elsewhere.push(replaced),
            }
        }
    }

    fn find_replaced(&self, replaced: &Replaced) -> Option<Key> {
        let is_it = |key: &Key| {
            self.connections.get(key.0).is_some_and(|connection| connection.id == replaced.connection)
        };
        self.find(&Selector::User(replaced.user.to_string())).into_iter().find(is_it)
    }

    fn close_replaced(&mut self, key: Key, now: Instant) {
        self.turn(key, now, |connection, _, turn| {
            let code = CloseCode(close_code::REPLACED);
            connection.disconnect(turn, code, code.reason());
        });
    }
}
