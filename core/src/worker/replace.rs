//! Connections that close because their user has a newer one.

use std::time::Instant;

use super::admin::Selector;
use super::message::WorkerEffect;
use super::{Application, Key, Worker};
use crate::close_code::{self, CloseCode};
use crate::policy::Replaced;

impl<A: Application> Worker<A> {
    /// Closes, with 4409, a connection that has been replaced at another worker. It is [due](Worker::next_due) afterwards.
    /// A connection that has ended is ignored.
    pub(super) fn replace(&mut self, replaced: &Replaced, now: Instant) {
        if let Some(key) = self.find_replaced(replaced) {
            self.close_replaced(key, now);
            self.due.push_back(key);
        }
    }

    /// Closes the next connection of this worker that has been replaced, and returns it. Connections of other workers
    /// become effects.
    pub(super) fn replace_next(&mut self, now: Instant) -> Option<Key> {
        loop {
            let replaced = self.shared.replaced.borrow_mut().pop()?;
            if replaced.worker != self.config.number {
                self.effects.push_back(WorkerEffect::Replace(replaced));
            } else if let Some(key) = self.find_replaced(&replaced) {
                self.close_replaced(key, now);
                return Some(key);
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
