//! The deliveries that are not acknowledged yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The deliveries of a connection that are not acknowledged yet.
///
/// Each delivery is [received](Acknowledgements::receive), and later [completed](Acknowledgements::complete) or
/// [rejected](Acknowledgements::reject), in any order: an engine may confirm a publication after later ones. One acknowledgement
/// is for all deliveries up to a tag, so it waits for the oldest one, and for `MOST` deliveries or `LONGEST`, so that a message
/// does not cost a frame.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    /// By ascending tag.
    deliveries: VecDeque<Unacknowledged>,
    /// The number of deliveries from the front that are complete.
    ready: usize,
    /// When the first of these was completed.
    since: Option<Instant>,
}

#[derive(Debug)]
struct Unacknowledged {
    tag: u64,
    is_complete: bool,
}

impl Acknowledgements {
    /// Adds a delivery. Its tag is higher than the tags of earlier deliveries.
    pub fn receive(&mut self, tag: u64) {
        self.deliveries.push_back(Unacknowledged { tag, is_complete: false });
    }

    /// Notes that a delivery is published, or needs no publication. An unknown tag has no effect.
    pub fn complete(&mut self, tag: u64, now: Instant) {
        if let Some(index) = self.find(tag)
            && let Some(delivery) = self.deliveries.get_mut(index)
        {
            delivery.is_complete = true;
            self.count(now);
        }
    }

    /// Removes a delivery that the caller rejects. An unknown tag has no effect.
    pub fn reject(&mut self, tag: u64, now: Instant) {
        if let Some(index) = self.find(tag) {
            self.deliveries.remove(index);
            self.ready = self.ready.min(index);
            self.count(now);
        }
    }

    /// Returns the tag up to which all deliveries must be acknowledged now, if there is one. The broker knows the tag: it is the
    /// tag of a delivery that is neither acknowledged nor rejected.
    pub fn poll(&mut self, now: Instant) -> Option<u64> {
        let is_due = self.ready >= MOST || self.poll_timeout().is_some_and(|due| due <= now);
        if is_due { self.flush() } else { None }
    }

    /// Returns when to call [`poll`](Acknowledgements::poll).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + LONGEST)
    }

    /// Returns the tag up to which all deliveries can be acknowledged, without waiting for more.
    pub fn flush(&mut self) -> Option<u64> {
        let last = self.deliveries.drain(..self.ready).next_back();
        self.ready = 0;
        self.since = None;
        last.map(|delivery| delivery.tag)
    }

    /// Returns the number of deliveries that are not acknowledged.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns whether all deliveries are acknowledged or rejected.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    fn find(&self, tag: u64) -> Option<usize> {
        self.deliveries.binary_search_by_key(&tag, |delivery| delivery.tag).ok()
    }

    /// Counts the deliveries from the front that are complete.
    fn count(&mut self, now: Instant) {
        let more = self.deliveries.range(self.ready..).take_while(|delivery| delivery.is_complete).count();
        self.ready += more;
        if self.ready > 0 {
            self.since.get_or_insert(now);
        }
    }
}

/// The most deliveries that one acknowledgement waits for.
const MOST: usize = 100;

/// The longest time that an acknowledgement waits.
const LONGEST: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn received(tags: impl IntoIterator<Item = u64>) -> (Acknowledgements, Instant) {
        let mut acknowledgements = Acknowledgements::default();
        tags.into_iter().for_each(|tag| acknowledgements.receive(tag));
        (acknowledgements, Instant::now())
    }

    #[test]
    fn hundred_deliveries_are_acknowledged_at_once_and_fewer_after_twenty_milliseconds() {
        let (mut all, start) = received(1..=150);
        for tag in 1..=99 {
            all.complete(tag, start);
            assert_eq!(all.poll(start), None);
        }
        all.complete(100, start);
        assert_eq!((all.poll(start), all.len()), (Some(100), 50));
        assert_eq!(all.poll_timeout(), None);
        all.complete(101, start);
        let due = all.poll_timeout().unwrap();
        assert_eq!(due, start + Duration::from_millis(20));
        assert_eq!(all.poll(due - Duration::from_nanos(1)), None);
        assert_eq!((all.poll(due), all.poll(due), all.len()), (Some(101), None, 49));
    }

    #[test]
    fn acknowledgement_waits_for_the_oldest_delivery() {
        let (mut all, start) = received([1, 2, 3, 4]);
        all.complete(3, start);
        all.complete(2, start);
        assert_eq!((all.poll_timeout(), all.flush()), (None, None));
        all.complete(1, start);
        assert_eq!((all.flush(), all.len()), (Some(3), 1));
    }

    #[test]
    fn rejected_delivery_is_never_the_tag_of_an_acknowledgement() {
        let (mut all, start) = received([1, 2, 3]);
        all.complete(1, start);
        all.complete(2, start);
        all.reject(2, start);
        assert_eq!(all.flush(), Some(1));
        all.reject(3, start);
        assert_eq!((all.flush(), all.len(), all.is_empty()), (None, 0, true));
        // The first one is rejected after later ones were published.
        let (mut all, start) = received([4, 5, 6]);
        all.complete(5, start);
        all.complete(6, start);
        all.reject(4, start);
        assert_eq!(all.poll(start + LONGEST), Some(6));
    }

    #[test]
    fn unknown_tags_have_no_effect() {
        let (mut all, start) = received([2, 4]);
        for tag in [0, 1, 3, 5, u64::MAX] {
            all.complete(tag, start);
            all.reject(tag, start);
        }
        assert_eq!((all.flush(), all.len()), (None, 2));
        all.complete(2, start);
        all.complete(2, start);
        assert_eq!((all.flush(), all.len()), (Some(2), 1));
    }

    #[test]
    fn any_order_acknowledges_each_delivery_once() {
        for seed in 0..1000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut all, start) = received(1..=40);
            let mut order: Vec<u64> = (1..=40).collect();
            random.shuffle(&mut order);
            let (mut acknowledged, mut unsettled, mut rejected) = (0, order.clone(), Vec::new());
            for tag in order {
                unsettled.retain(|other| *other != tag);
                if random.u8(..4) == 0 {
                    rejected.push(tag);
                    all.reject(tag, start);
                } else {
                    all.complete(tag, start);
                }
                if random.bool()
                    && let Some(up_to) = all.flush()
                {
                    assert!(up_to > acknowledged && !rejected.contains(&up_to), "seed {seed}: {up_to}");
                    assert!(unsettled.iter().all(|tag| *tag > up_to), "seed {seed}: {up_to}");
                    acknowledged = up_to;
                }
            }
            all.flush();
            assert!(all.is_empty(), "seed {seed}");
        }
    }
}
