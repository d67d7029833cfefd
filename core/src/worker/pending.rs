//! The handshakes in progress of a worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Key;
use crate::id::ConnectionId;

/// The number of handshakes in progress, and their order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// In the order in which they began. A handshake that has ended stays in the queue until those before it have
    /// ended, which takes at most the timeout of a handshake.
    begun: VecDeque<PendingHandshake>,
    len: usize,
}

/// A connection whose handshake was in progress when this was created.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingHandshake {
    pub(super) key: Key,
    pub(super) id: ConnectionId,
    pub(super) at: Instant,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a handshake.
    pub(super) fn begin(
        &mut self,
        handshake: PendingHandshake,
        is_pending: impl Fn(&PendingHandshake) -> bool,
    ) {
        self.forget_others(is_pending);
        self.begun.push_back(handshake);
        self.len += 1;
    }

    /// Counts one handshake less. It need not be known which one ended.
    pub(super) fn end(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// Returns the earliest time at which the oldest handshake may be evicted, unless all places are taken.
    pub(super) fn next(&self) -> Option<Instant> {
        self.begun.front().map(|handshake| handshake.at + MIN_HANDSHAKE_TIME)
    }

    /// Removes the oldest handshake. It counts until its [`end`](Pending::end).
    pub(super) fn pop_oldest(
        &mut self,
        is_pending: impl Fn(&PendingHandshake) -> bool,
    ) -> Option<PendingHandshake> {
        self.forget_others(is_pending);
        self.begun.pop_front()
    }

    /// Removes the oldest handshake if it began at least `least` ago.
    pub(super) fn pop_oldest_after(
        &mut self,
        least: Duration,
        now: Instant,
        is_pending: impl Fn(&PendingHandshake) -> bool,
    ) -> Option<Key> {
        self.forget_others(is_pending);
        self.begun.front().filter(|handshake| handshake.at + least <= now)?;
        Some(self.begun.pop_front()?.key)
    }

    fn forget_others(&mut self, is_pending: impl Fn(&PendingHandshake) -> bool) {
        while self.begun.front().is_some_and(|handshake| !is_pending(handshake)) {
            self.begun.pop_front();
        }
    }
}

/// The time that a handshake has before it is evicted, unless all places are taken. A head that arrives with its connection is
/// read long before that, so thousands of connections that arrive at once evict slow handshakes and not each other.
pub(super) const MIN_HANDSHAKE_TIME: Duration = Duration::from_millis(250);
