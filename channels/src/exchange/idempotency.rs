//! Idempotency keys: a publication whose answer was lost can be sent again without being published twice.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use crate::hash::Seeded;
use crate::publication::Position;

/// The keys of the last minutes, each with the position of its publication.
///
/// Instead of a channel and a key it stores a keyed hash of 128 bits, so all entries have the same size. Two keys of a node have
/// the same hash with a probability below 10^-20.
#[derive(Debug)]
pub(super) struct Idempotency {
    hash: Seeded,
    ttl: Duration,
    max_keys: usize,
    positions: HashMap<u128, Option<Position>, Seeded>,
    /// The keys by age, with their expiry.
    by_age: VecDeque<(Instant, u128)>,
}

impl Idempotency {
    pub(super) fn new(hash: Seeded, ttl: Duration, max_keys: usize) -> Idempotency {
        let (positions, by_age) = (HashMap::with_hasher(hash), VecDeque::new());
        Idempotency { hash, ttl, max_keys, positions, by_age }
    }

    /// Returns the position of the publication with this key; or the fingerprint to [`insert`](Idempotency::insert), if there is
    /// no such publication.
    pub(super) fn find(
        &mut self,
        channel: &str,
        key: &str,
        now: Instant,
    ) -> Result<Option<Position>, Fingerprint> {
        self.expire(now);
        let half = |index: u8| u128::from(self.hash.hash_one((index, channel, key)));
        let fingerprint = half(0) << 64 | half(1);
        self.positions.get(&fingerprint).copied().ok_or(Fingerprint(fingerprint))
    }

    /// Adds a key. The oldest one is removed if there are too many. Returns the number of keys that are removed before their
    /// time.
    pub(super) fn insert(
        &mut self,
        Fingerprint(key): Fingerprint,
        position: Option<Position>,
        now: Instant,
    ) -> u64 {
        let Some(expires) = now.checked_add(self.ttl) else {
            return 0;
        };
        self.positions.insert(key, position);
        self.by_age.push_back((expires, key));
        let mut removed = 0;
        while self.by_age.len() > self.max_keys {
            self.remove_oldest();
            removed += 1;
        }
        removed
    }

    /// Removes expired keys.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|expires| expires <= now) {
            self.remove_oldest();
        }
    }

    /// Returns when the next key expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_age.front().map(|&(expires, _)| expires)
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    fn remove_oldest(&mut self) {
        if let Some((_, key)) = self.by_age.pop_front() {
            self.positions.remove(&key);
        }
        if self.by_age.len() < self.by_age.capacity() / 4 {
            self.by_age.shrink_to(self.by_age.capacity() / 2);
            self.positions.shrink_to(self.positions.capacity() / 2);
        }
    }
}

/// The keyed hash of a channel and a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint(u128);
