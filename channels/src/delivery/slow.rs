//! Subscribers that do not read fast enough, in channels whose publications may be left out.
//!
//! A subscriber is behind while output waits for its socket. Its publications are kept back, and no more than the latest one is
//! remembered. The end of the backlog is noticed by a timer, so that a delivery costs nothing if no client is behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::Key;
use postern_core::worker::{Backlog, Fanout};

use crate::application::Channels;
use crate::namespaces::options::SlowPolicy;
use crate::publication::Publication;

/// The clients that are behind, by the numbers of their connections.
#[derive(Debug, Default)]
pub(crate) struct SlowClients {
    clients: BTreeMap<u32, Vec<KeptBack>>,
    /// When to look whether they still are.
    check_at: Option<Instant>,
}

/// The publications of a channel that a subscriber has not got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeptBack {
    /// They are lost, and the subscriber must be told.
    Dropped(Arc<str>),
    /// The latest one, which it will get.
    Latest(Arc<Publication>),
}

impl KeptBack {
    fn channel(&self) -> &str {
        match self {
            KeptBack::Dropped(channel) => channel,
            KeptBack::Latest(publication) => &publication.channel,
        }
    }
}

impl SlowClients {
    /// Decides about a publication to a subscriber. Returns whether it is kept back. `limit` is the most bytes that may wait for
    /// its socket.
    pub(crate) fn keeps_back(
        &mut self,
        policy: SlowPolicy,
        limit: usize,
        connection: u32,
        publication: &Arc<Publication>,
        (backlog, now): (Backlog, Instant),
    ) -> bool {
        let known = self.clients.get_mut(&connection);
        let known = known.and_then(|all| all.iter_mut().find(|it| *it.channel() == *publication.channel));
        match known {
            Some(KeptBack::Dropped(_)) => return true,
            Some(KeptBack::Latest(latest)) => {
                *latest = Arc::clone(publication);
                return true;
            }
            None => {}
        }
        let is_exceeded = backlog.bytes > limit;
        let kept_back = match policy {
            SlowPolicy::Drop if is_exceeded => KeptBack::Dropped(Arc::clone(&publication.channel)),
            SlowPolicy::Conflate if is_exceeded || backlog.is_blocked => {
                KeptBack::Latest(Arc::clone(publication))
            }
            SlowPolicy::Close | SlowPolicy::Drop | SlowPolicy::Conflate => return false,
        };
        self.clients.entry(connection).or_default().push(kept_back);
        self.check_at.get_or_insert(now + CHECK_INTERVAL);
        true
    }

    /// Returns whether publications of a channel to a subscriber were dropped, and it has not been told yet.
    pub(crate) fn has_dropped(&self, connection: u32, channel: &str) -> bool {
        let kept_back = self.clients.get(&connection);
        kept_back.is_some_and(|all| {
            all.iter().any(|it| matches!(it, KeptBack::Dropped(dropped) if **dropped == *channel))
        })
    }

    /// Removes a connection that has ended.
    pub(crate) fn remove(&mut self, connection: u32) {
        self.clients.remove(&connection);
    }

    /// Removes a subscription that has ended.
    pub(crate) fn forget(&mut self, connection: u32, channel: &str) {
        if let Some(all) = self.clients.get_mut(&connection) {
            all.retain(|it| it.channel() != channel);
        }
    }

    /// Returns when to call [`next_caught_up`](SlowClients::next_caught_up).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.check_at
    }

    /// Returns the next client without a backlog, and what was kept back. `after` is the previous one, or `None` at first.
    fn next_caught_up(
        &mut self,
        after: Option<u32>,
        backlog: impl Fn(u32) -> Backlog,
    ) -> Option<(u32, Vec<KeptBack>)> {
        let start = after.map_or(0, |connection| connection.saturating_add(1));
        let mut clients = self.clients.range(start..).map(|(&connection, _)| connection);
        let connection = clients.find(|&connection| !backlog(connection).is_blocked)?;
        self.clients.remove_entry(&connection)
    }
}

impl Channels {
    /// Sends to clients what was kept back, if their backlogs have ended.
    pub(super) fn serve_slow(&mut self, fanout: &mut Fanout<'_, Channels>) {
        let now = fanout.now();
        if self.slow.check_at.is_none_or(|at| at > now) {
            return;
        }
        let mut after = None;
        while let Some((connection, kept_back)) =
            self.slow.next_caught_up(after, |connection| fanout.backlog(Key(connection as usize)))
        {
            after = Some(connection);
            for it in kept_back {
                match it {
                    KeptBack::Dropped(channel) => self.end_incomplete(connection, &channel, fanout),
                    KeptBack::Latest(publication) => self.deliver_to_one(connection, &publication, fanout),
                }
            }
        }
        self.slow.check_at = (!self.slow.clients.is_empty()).then(|| now + CHECK_INTERVAL);
    }
}

/// The time between two looks at the clients that are behind.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1_000;

    fn publication(channel: &str, data: &str) -> Arc<Publication> {
        Arc::new(Publication::of(channel, data))
    }

    fn backlog(bytes: usize, is_blocked: bool) -> Backlog {
        Backlog { bytes, is_blocked }
    }

    #[test]
    fn the_policy_decides_what_is_kept_back() {
        use SlowPolicy::{Close, Conflate, Drop};
        let now = Instant::now();
        for (policy, bytes, is_blocked, expected) in [
            (Close, usize::MAX, true, false),
            (Drop, LIMIT, true, false),
            (Drop, LIMIT + 1, true, true),
            (Drop, LIMIT + 1, false, true),
            (Conflate, LIMIT, false, false),
            (Conflate, 1, true, true),
            (Conflate, LIMIT + 1, false, true),
        ] {
            let mut slow = SlowClients::default();
            let kept =
                slow.keeps_back(policy, LIMIT, 7, &publication("a", "1"), (backlog(bytes, is_blocked), now));
            assert_eq!(kept, expected, "{policy:?} {bytes} {is_blocked}");
            assert_eq!(slow.poll_timeout(), expected.then(|| now + CHECK_INTERVAL));
            assert_eq!(slow.has_dropped(7, "a"), expected && policy == Drop);
        }
    }

    #[test]
    fn a_client_gets_the_latest_publication_of_each_channel_once_it_has_read() {
        let now = Instant::now();
        let mut slow = SlowClients::default();
        let keep = |slow: &mut SlowClients, connection, channel, data, is_blocked| {
            let state = (backlog(9, is_blocked), now);
            slow.keeps_back(SlowPolicy::Conflate, LIMIT, connection, &publication(channel, data), state)
        };
        assert!(keep(&mut slow, 1, "a", "1", true));
        assert!(keep(&mut slow, 1, "b", "2", true));
        // Also after the backlog has ended: an earlier publication waits.
        assert!(keep(&mut slow, 1, "a", "3", false));
        assert!(!keep(&mut slow, 1, "c", "4", false));
        assert!(keep(&mut slow, 2, "a", "3", true) && keep(&mut slow, 3, "a", "3", true));
        slow.remove(3);
        let is_blocked = |connection| backlog(0, connection == 2);
        let (connection, kept_back) = slow.next_caught_up(None, is_blocked).unwrap();
        let latest =
            [("a", "3"), ("b", "2")].map(|(channel, data)| KeptBack::Latest(publication(channel, data)));
        assert_eq!((connection, kept_back), (1, latest.to_vec()));
        assert_eq!(slow.next_caught_up(Some(1), is_blocked), None);
        slow.forget(2, "a");
        assert_eq!(slow.next_caught_up(None, |_| backlog(0, false)), Some((2, Vec::new())));
    }
}
