//! The workers whose connections are subscribed to a channel, and the workers that have missed a part of it.

use std::collections::BTreeMap;

use super::operation::{WorkerId, Workers};
use crate::publication::Position;

/// The number of subscriptions of each worker.
#[derive(Debug, Default)]
pub(super) struct Interest {
    workers: Workers,
    /// Workers with at least one subscription. A channel mostly has few of them.
    counts: Vec<(WorkerId, u32)>,
}

impl Interest {
    /// Returns the workers with a subscription.
    pub(super) fn workers(&self) -> Workers {
        self.workers
    }

    /// Returns whether there are no subscriptions.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Returns the number of subscriptions.
    pub(super) fn subscriptions(&self) -> usize {
        self.counts.iter().map(|&(_, count)| count as usize).sum()
    }

    pub(super) fn add(&mut self, worker: WorkerId) {
        self.workers.insert(worker);
        match self.counts.iter_mut().find(|(other, _)| *other == worker) {
            Some((_, count)) => *count += 1,
            None => {
                self.counts.reserve_exact(1);
                self.counts.push((worker, 1));
            }
        }
    }

    /// Removes a subscription of a worker. Returns `false` if it has none.
    pub(super) fn remove(&mut self, worker: WorkerId) -> bool {
        let Some(place) = self.counts.iter().position(|&(other, _)| other == worker) else {
            return false;
        };
        if let Some((_, count)) = self.counts.get_mut(place) {
            *count -= 1;
            if *count == 0 {
                self.counts.swap_remove(place);
                self.workers.remove(worker);
            }
        }
        true
    }
}

/// The events that workers have missed because their inboxes were full. A worker that lags in a channel receives nothing more of it until
/// it has caught up.
#[derive(Debug, Default)]
pub(super) struct Lagging {
    /// By worker, so that a worker finds its channels, and by the slot of the channel.
    missed: BTreeMap<(WorkerId, u32), Missed>,
}

/// The events of a channel that a worker has missed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missed {
    /// The position of the first publication that is missing.
    pub(super) first: Option<Position>,
    /// Whether a publication without a position is missing.
    pub(super) unpositioned: bool,
    /// Whether a join or a leave is missing.
    pub(super) presence: bool,
}

/// One missing event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedEvent {
    /// A publication, with its position if it has one.
    Publication(Option<Position>),
    /// A join or a leave.
    Presence,
}

impl Lagging {
    /// Records an event that a worker has missed.
    pub(super) fn mark(&mut self, worker: WorkerId, slot: u32, event: MissedEvent) {
        self.missed.entry((worker, slot)).or_default().add(event);
    }

    /// Removes from `workers` the ones that lag in the channel. They miss the event.
    pub(super) fn without(&mut self, mut workers: Workers, slot: u32, event: MissedEvent) -> Workers {
        if self.missed.is_empty() {
            return workers;
        }
        for worker in workers.iter() {
            if let Some(missed) = self.missed.get_mut(&(worker, slot)) {
                missed.add(event);
                workers.remove(worker);
            }
        }
        workers
    }

    /// Returns what the worker has missed, and ends the lag.
    pub(super) fn remove(&mut self, worker: WorkerId, slot: u32) -> Option<Missed> {
        self.missed.remove(&(worker, slot))
    }

    /// Returns a channel in which the worker lags.
    pub(super) fn next(&self, worker: WorkerId) -> Option<u32> {
        self.missed.range((worker, 0)..=(worker, u32::MAX)).next().map(|(&(_, slot), _)| slot)
    }
}

impl Missed {
    fn add(&mut self, event: MissedEvent) {
        match event {
            MissedEvent::Publication(Some(position)) => self.first = self.first.or(Some(position)),
            MissedEvent::Publication(None) => self.unpositioned = true,
            MissedEvent::Presence => self.presence = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subscription_of_a_worker_ends_its_interest() {
        let [first, last] = [0, 127].map(|index| WorkerId::new(index).unwrap());
        let mut interest = Interest::default();
        for worker in [first, last, last] {
            interest.add(worker);
        }
        assert_eq!(interest.workers().iter().collect::<Vec<_>>(), [first, last]);
        assert_eq!(interest.subscriptions(), 3);
        assert!(interest.remove(last) && interest.workers().contains(last));
        assert!(interest.remove(last) && !interest.workers().contains(last));
        assert!(!interest.remove(last));
        assert!(interest.remove(first) && interest.is_empty());
        assert_eq!(WorkerId::new(128), None);
    }
}
