//! Delays between attempts.

use std::time::Duration;

/// Delays that grow exponentially, with full jitter: a delay is random between zero and a bound that doubles with each attempt.
/// Clients that have lost their connections together therefore do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first delay.
    pub first: Duration,
    /// The largest bound.
    pub most: Duration,
}

impl Default for Backoff {
    /// 500 ms and 20 s.
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(500), most: Duration::from_secs(20) }
    }
}

impl Backoff {
    /// Returns the bound of a delay after this many failed attempts.
    pub fn bound(&self, failed: u32) -> Duration {
        self.first.saturating_mul(1 << failed.min(20)).min(self.most)
    }

    /// Returns a random delay after this many failed attempts.
    pub fn delay(&self, failed: u32, random: &mut fastrand::Rng) -> Duration {
        self.bound(failed).mul_f64(random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_largest() {
        let backoff = Backoff::default();
        let bounds = [0, 1, 2, 5, 6, 100].map(|failed| backoff.bound(failed).as_millis());
        assert_eq!(bounds, [500, 1_000, 2_000, 16_000, 20_000, 20_000]);
    }

    #[test]
    fn delays_are_spread_evenly_below_the_bound() {
        let (backoff, mut random) = (Backoff::default(), fastrand::Rng::with_seed(1));
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let delay = backoff.delay(3, &mut random);
            tenths[(delay.as_secs_f64() / 4.0 * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| (850..1_150).contains(&count)), "{tenths:?}");
    }
}
