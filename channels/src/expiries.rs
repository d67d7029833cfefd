//! When the tokens of clients expire.
//!
//! A client has one entry of eight bytes, at the earliest time at which one of its tokens may expire. An entry that is due
//! makes the application ask the client.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use crate::pings::Scheduled;

/// The clients whose tokens expire, by the second.
#[derive(Debug)]
pub(crate) struct Expiries {
    /// Second 0.
    start: Instant,
    seconds: BTreeMap<u64, Vec<Scheduled>>,
}

impl Expiries {
    pub(crate) fn new(start: Instant) -> Expiries {
        Expiries { start, seconds: BTreeMap::new() }
    }

    /// Adds a client. It is due at the end of the second, so never too early.
    pub(crate) fn add(&mut self, client: Scheduled, at: Instant) {
        let second = at.saturating_duration_since(self.start).as_secs() + 1;
        self.seconds.entry(second).or_default().push(client);
    }

    /// Returns when the next clients are due. `None` if that is never.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (&second, _) = self.seconds.first_key_value()?;
        self.start.checked_add(Duration::from_secs(second))
    }

    /// Returns the next clients that are due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Vec<Scheduled>> {
        (self.poll_timeout()? <= now).then(|| self.seconds.pop_first().map(|(_, clients)| clients))?
    }
}

/// The clients whose connections end, because their tokens have expired: at random times, and a few at a time.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    clients: BinaryHeap<Reverse<(Instant, Scheduled)>>,
    /// The earliest time of the next slice.
    pause: Option<Instant>,
}

impl Endings {
    pub(crate) fn add(&mut self, client: Scheduled, at: Instant) {
        self.clients.push(Reverse((at, client)));
    }

    /// Returns when the next clients are due. `None` if that is never.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let &Reverse((at, _)) = self.clients.peek()?;
        Some(self.pause.map_or(at, |pause| at.max(pause)))
    }

    /// Returns the clients that are due, at most a slice of them.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Scheduled> {
        let mut due = Vec::new();
        while due.len() < SLICE && self.poll_timeout().is_some_and(|at| at <= now) {
            due.extend(self.clients.pop().map(|Reverse((_, client))| client));
        }
        if !due.is_empty() {
            self.pause = (due.len() == SLICE).then(|| now + SLICE_PAUSE);
        }
        due
    }
}

/// The most connections that are ended before other sockets are handled, as in the core.
const SLICE: usize = 128;

/// The time between two slices.
const SLICE_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use postern_core::{ConnectionId, Key};

    use super::*;
    use crate::engine::ClientRef;

    #[test]
    fn endings_are_due_in_slices() {
        let start = Instant::now();
        let mut endings = Endings::default();
        let client = |key| Scheduled::new(ClientRef { key: Key(key), connection: ConnectionId(1) });
        (0..300).for_each(|key| endings.add(client(key), start));
        let mut now = start;
        for expected in [SLICE, SLICE, 300 - 2 * SLICE, 0] {
            assert_eq!(endings.take_due(now).len(), expected);
            assert!(endings.take_due(now).is_empty() || expected == 0);
            now += SLICE_PAUSE;
        }
        assert_eq!(endings.poll_timeout(), None);
    }

    #[test]
    fn clients_are_due_in_the_order_of_their_times_and_never_early() {
        let start = Instant::now();
        let mut expiries = Expiries::new(start);
        let client = |key| Scheduled::new(ClientRef { key: Key(key), connection: ConnectionId(1) });
        let at = |ms| start + Duration::from_millis(ms);
        for (key, ms) in [(1, 2_500), (2, 1_000), (3, 2_001)] {
            expiries.add(client(key), at(ms));
        }
        assert_eq!(expiries.poll_timeout(), Some(at(2_000)));
        assert_eq!(expiries.take_due(at(1_999)), None);
        assert_eq!(expiries.take_due(at(2_000)), Some(vec![client(2)]));
        assert_eq!(expiries.take_due(at(2_999)), None);
        assert_eq!(expiries.take_due(at(9_000)), Some(vec![client(1), client(3)]));
        assert_eq!((expiries.poll_timeout(), expiries.take_due(at(9_000))), (None, None));
    }
}
