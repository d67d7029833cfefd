//! Random numbers from a seed, for ids and for delays. They are not secret.

use std::time::Duration;

/// A generator of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u128,
}

impl Random {
    /// Creates a generator. Two generators with different seeds have different numbers, as far as 128 bits suffice.
    pub(crate) fn new(seed: u128) -> Random {
        Random { state: seed }
    }

    /// Returns the next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        // PCG: a linear congruential generator of 128 bits, whose upper half is permuted.
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// Returns the next 128 bits.
    pub(crate) fn next_wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// Returns a random time that is shorter than this one.
    pub(crate) fn within(&mut self, longest: Duration) -> Duration {
        // 32 bits: exact to a millisecond for a spread of weeks.
        longest.mul_f64((self.next() >> 32) as f64 / (1_u64 << 32) as f64)
    }
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const INCREMENT: u128 = 0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_differ() {
        let mut random = Random::new(7);
        let numbers: BTreeSet<u128> = (0..10_000).map(|_| random.next_wide()).collect();
        assert_eq!(numbers.len(), 10_000);
        assert_ne!(Random::new(1).next(), Random::new(2).next());
    }
}
