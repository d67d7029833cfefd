//! Connections that close because their user has others.

use std::time::Instant;

use super::admin::Selector;
use super::message::{PeerMessage, WorkerEffect};
use super::refresh::PeerRequest;
use super::{Application, Key, Worker};
use crate::close_code::CloseCode;
use crate::policy::Replaced;
use crate::record::Recorder;

impl<A: Application> Worker<A> {
    /// Closes a connection that has been replaced at another worker, or that is too many for its user on all nodes. It is [due](Worker::next_due) afterwards.
    /// A connection that has ended is ignored.
    pub(super) fn replace(&mut self, replaced: &Replaced, now: Instant) {
        if let Some(key) = self.find_replaced(replaced) {
            self.close_replaced(key, replaced.code, now);
            self.due.push_back(key);
        }
    }

    /// Performs the requests of connections that may concern other workers, until one has changed a connection of this worker.
    /// Returns that connection. Requests to other workers become effects.
    pub(super) fn perform_next(&mut self, now: Instant, recorder: &mut impl Recorder) -> Option<Key> {
        loop {
            let request = self.shared.requests.borrow_mut().pop()?;
            let replaced = match request {
                PeerRequest::Replace(replaced) => replaced,
                PeerRequest::Refresh(refresh) => {
                    let key = self.begin_refresh(refresh, now, recorder);
                    if key.is_some() {
                        return key;
                    }
                    continue;
                }
                PeerRequest::Check(request) => {
                    self.effects.push_back(WorkerEffect::CheckToken(request));
                    continue;
                }
            };
            if replaced.worker != self.config.number {
                let worker = replaced.worker;
                self.effects.push_back(WorkerEffect::ToPeer(worker, PeerMessage::Replace(replaced)));
            } else if let Some(key) = self.find_replaced(&replaced) {
                self.close_replaced(key, replaced.code, now);
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

    fn close_replaced(&mut self, key: Key, code: CloseCode, now: Instant) {
        self.turn(key, now, |connection, _, turn| {
            connection.disconnect(turn, code, code.reason());
        });
    }
}
