//! A keyed hash for tables whose keys users choose.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// Hashes with a secret seed. Without the seed an attacker cannot construct collisions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
