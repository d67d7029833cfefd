//! Channels whose subscribers get the latest publication of each interval.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::ClientRef;
use crate::hash::Seeded;
use crate::publication::Publication;

/// The intervals that have begun, by channel.
#[derive(Debug)]
pub(crate) struct Intervals {
    channels: HashMap<Arc<str>, Interval, Seeded>,
    /// When each of them ends.
    ends: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
}

#[derive(Debug)]
struct Interval {
    length: Duration,
    latest: Option<Waiting>,
}

/// The latest publication of an interval, and the client that does not get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) publication: Arc<Publication>,
    pub(crate) excluded: Option<ClientRef>,
}

impl Intervals {
    pub(crate) fn new(seed: u64) -> Intervals {
        Intervals { channels: HashMap::with_hasher(Seeded(seed)), ends: BinaryHeap::new() }
    }

    /// Takes a publication in a channel with this interval. Returns it if it must be delivered now, because no interval has begun.
    pub(crate) fn take(&mut self, waiting: Waiting, length: Duration, now: Instant) -> Option<Waiting> {
        let channel = &waiting.publication.channel;
        if let Some(interval) = self.channels.get_mut(channel) {
            interval.latest = Some(waiting);
            return None;
        }
        self.channels.insert(Arc::clone(channel), Interval { length, latest: None });
        self.ends.push(Reverse((now + length, Arc::clone(channel))));
        Some(waiting)
    }

    /// Returns when the next interval ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.peek().map(|Reverse((end, _))| *end)
    }

    /// Returns the latest publication of an interval that has ended. The next interval begins with it.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Waiting> {
        while self.poll_timeout().is_some_and(|end| end <= now) {
            let Reverse((_, channel)) = self.ends.pop()?;
            let interval = self.channels.get_mut(&channel)?;
            if let Some(latest) = interval.latest.take() {
                self.ends.push(Reverse((now + interval.length, channel)));
                return Some(latest);
            }
            self.channels.remove(&channel);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(channel: &str, data: &str) -> Waiting {
        Waiting { publication: Arc::new(Publication::of(channel, data)), excluded: None }
    }

    #[test]
    fn the_first_publication_is_delivered_at_once_and_the_latest_one_at_the_end() {
        let length = Duration::from_millis(100);
        let start = Instant::now();
        let mut intervals = Intervals::new(1);
        let take = |intervals: &mut Intervals, channel, data, at: u64| {
            intervals.take(publication(channel, data), length, start + Duration::from_millis(at)).is_some()
        };
        assert!(take(&mut intervals, "a", "1", 0));
        assert!(!take(&mut intervals, "a", "2", 10));
        assert!(!take(&mut intervals, "a", "3", 20));
        assert!(take(&mut intervals, "b", "1", 50));
        let due = |intervals: &mut Intervals, at| intervals.next_due(start + Duration::from_millis(at));
        assert_eq!(due(&mut intervals, 99), None);
        assert_eq!(due(&mut intervals, 100), Some(publication("a", "3")));
        assert_eq!(due(&mut intervals, 100), None);
        // The next interval has begun at 100. The one of the other channel ends.
        assert_eq!(due(&mut intervals, 150), None);
        assert!(!take(&mut intervals, "a", "4", 199) && take(&mut intervals, "b", "2", 199));
        assert_eq!(due(&mut intervals, 250), Some(publication("a", "4")));
        // Intervals without publications end, and leave nothing.
        assert_eq!(due(&mut intervals, 1_000), None);
        assert_eq!((intervals.poll_timeout(), intervals.channels.len()), (None, 0));
        assert!(take(&mut intervals, "a", "5", 1_000));
    }
}
