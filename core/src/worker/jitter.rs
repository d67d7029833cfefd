//! Random delays that spread reconnections over time. Not for secrets.

use std::cell::Cell;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and a mix for each number.
#[derive(Debug)]
pub(super) struct Jitter(Cell<u64>);

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter(Cell::new(seed))
    }

    /// Returns the seconds of a `Retry-After`: 1 to 10, so that clients that were refused together do not return
    /// together.
    pub(super) fn retry_after(&self) -> u32 {
        // The remainder is below ten, so the cast does not truncate.
        1 + (self.next() % 10) as u32
    }

    /// Returns the time after which a client is asked to reconnect: 100 to 3,099 ms, so that clients that were
    /// disconnected together do not return together.
    pub(super) fn reconnect_after(&self) -> Duration {
        Duration::from_millis(100 + self.next() % 3000)
    }

    /// Returns a random time from zero up to `most`.
    pub(super) fn within(&self, most: Duration) -> Duration {
        // 2^64 ns are 584 years, and 32 random bits are sufficient.
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        let part = (u128::from(most) * u128::from(self.next() >> 32)) >> 32;
        Duration::from_nanos(u64::try_from(part).unwrap_or(most))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_split_mix_64() {
        // The first numbers of the reference implementation for this seed.
        let jitter = Jitter::new(1_234_567);
        for number in [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423] {
            assert_eq!(jitter.next(), number);
        }
    }

    #[test]
    fn times_within_a_bound_are_spread_evenly_over_it() {
        let jitter = Jitter::new(7);
        let most = Duration::from_secs(10);
        let mut seen = [0u32; 10];
        (0..1000).for_each(|_| seen[jitter.within(most).as_secs() as usize] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        assert_eq!(jitter.within(Duration::ZERO), Duration::ZERO);
        assert!((0..1000).all(|_| (100..3100).contains(&jitter.reconnect_after().as_millis())));
    }

    #[test]
    fn retries_spread_over_one_to_ten_seconds() {
        let jitter = Jitter::new(7);
        let mut seen = [0u32; 11];
        (0..1000).for_each(|_| seen[jitter.retry_after() as usize] += 1);
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|&count| count > 50), "{seen:?}");
    }
}
