//! An index of connections by the name of a user or of a session.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Key;

/// The connections of each name, by the fingerprint of the name. A name may have several connections, and several names may
/// have the same fingerprint.
///
/// A fingerprint has 32 bits, so a lookup must compare the name of each connection that it finds. An entry takes eight bytes,
/// and names are not stored again. It is a tree and not a hash table, because all connections may have the same name, which is
/// quadratic in a hash table.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeSet<(u32, u32)>,
}

impl Index {
    pub(super) fn insert(&mut self, fingerprint: u32, key: Key) {
        self.entries.insert((fingerprint, short(key)));
    }

    pub(super) fn remove(&mut self, fingerprint: u32, key: Key) {
        self.entries.remove(&(fingerprint, short(key)));
    }

    /// Returns the connections that may have the name.
    pub(super) fn find(&self, fingerprint: u32) -> impl Iterator<Item = Key> {
        self.entries.range((fingerprint, 0)..=(fingerprint, u32::MAX)).map(|&(_, key)| Key(key as usize))
    }

    /// Returns all fingerprints, each once, in ascending order.
    pub(super) fn fingerprints(&self) -> Vec<u32> {
        let mut fingerprints: Vec<u32> = self.entries.iter().map(|&(fingerprint, _)| fingerprint).collect();
        fingerprints.dedup();
        fingerprints
    }
}

/// Returns a 32-bit keyed hash of `name`. Without `seed` an attacker cannot construct collisions.
pub(super) fn fingerprint(seed: u64, name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    // The lower half is as good as the other.
    hasher.finish() as u32
}

/// Converts a key to 32 bits. A process has fewer than 2^31 descriptors, so no key is larger.
fn short(key: Key) -> u32 {
    key.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &Index, fingerprint: u32) -> Vec<usize> {
        index.find(fingerprint).map(|key| key.0).collect()
    }

    #[test]
    fn a_name_has_exactly_the_connections_that_it_was_given() {
        let mut index = Index::default();
        for (fingerprint, key) in [(7, 3), (7, 1), (0, 0), (u32::MAX, 2), (8, 1)] {
            index.insert(fingerprint, Key(key));
        }
        assert_eq!(found(&index, 7), [1, 3]);
        assert_eq!(found(&index, 6), [0_usize; 0]);
        assert_eq!(found(&index, u32::MAX), [2]);
        assert_eq!(index.fingerprints(), [0, 7, 8, u32::MAX]);
        index.remove(7, Key(1));
        index.remove(8, Key(1));
        assert_eq!(found(&index, 7), [3]);
        assert_eq!(index.fingerprints(), [0, 7, u32::MAX]);
    }

    #[test]
    fn fingerprints_depend_on_the_name_and_on_the_seed() {
        assert_eq!(fingerprint(1, "123"), fingerprint(1, "123"));
        assert_ne!(fingerprint(1, "123"), fingerprint(1, "124"));
        assert_ne!(fingerprint(1, "123"), fingerprint(2, "123"));
    }
}
