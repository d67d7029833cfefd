//! Reading from nobody for a time, because what is read could not be recorded.

use std::time::{Duration, Instant};

use super::{Key, Service};
use crate::service::timers::Entry;

impl Service {
    /// Reads from nobody until [`release`](Service::release). What is to be sent is sent, and connections still come
    /// and go; but no peer is ended for what it cannot say meanwhile.
    pub fn hold(&mut self, now: Instant) {
        self.held_since.get_or_insert(now);
    }

    /// Whether nobody is read from.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Reads again, and gives each peer as much more time as it was not heard. Read from every connection that
    /// [`wants_read`](Service::wants_read) then: of what has come meanwhile the runtime knows already.
    pub fn release(&mut self, now: Instant) {
        let Some(since) = self.held_since.take() else { return };
        for (_, connection) in &mut self.connections {
            connection.postpone(since, now, self.common.epoch);
        }
    }

    /// Looks at a connection later whose peer is not heard now. True if it is one of those.
    pub(super) fn defer(&mut self, key: Key, now: Instant) -> bool {
        let is_held = self.is_held();
        let Some(connection) = self.connections.get_mut(key.0) else { return false };
        if !is_held || !connection.waits_for_peer(self.common.epoch) {
            return false;
        }
        let at = self.common.epoch.moment(now + LATER);
        connection.armed = Some(at);
        self.timers.push(Entry::new(at, key, connection.id));
        true
    }
}

/// How long a deadline that cannot be judged is put off.
const LATER: Duration = Duration::from_secs(1);
