//! The connections of a worker whose request heads are arriving.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Key;
use crate::id::ConnectionId;

/// How many there are, and which began first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// In the order of their beginning, also those whose heads are here, until the ones before them are gone: that is
    /// after the timeout of a handshake at the latest.
    begun: VecDeque<PendingHandshake>,
    len: usize,
}

/// A connection that was pending when it was put here.
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

    /// Counts one more.
    pub(super) fn begin(
        &mut self,
        handshake: PendingHandshake,
        is_pending: impl Fn(&PendingHandshake) -> bool,
    ) {
        self.forget_others(is_pending);
        self.begun.push_back(handshake);
        self.len += 1;
    }

    /// Counts one less, of which it need not be known which it is.
    pub(super) fn end(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// The earliest time at which the oldest handshake may be evicted, unless all places are taken.
    pub(super) fn next(&self) -> Option<Instant> {
        self.begun.front().map(|handshake| handshake.at + MIN_HANDSHAKE_TIME)
    }

    /// The one that began first. It is not given again, but counts until its [`end`](Pending::end).
    pub(super) fn pop_oldest(
        &mut self,
        is_pending: impl Fn(&PendingHandshake) -> bool,
    ) -> Option<PendingHandshake> {
        self.forget_others(is_pending);
        self.begun.pop_front()
    }

    /// The same, if it has had the time `least`.
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

/// The time that a head has while there are places. One that came with its connection is read long before: thousands
/// that arrive at once displace those that are slow, and not each other.
pub(super) const MIN_HANDSHAKE_TIME: Duration = Duration::from_millis(250);
