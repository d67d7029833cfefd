//! The rates of messages and bytes of one connection.

use std::time::{Duration, Instant};

/// A rate with a burst.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The amount per second. Zero is unlimited.
    pub per_second: u64,
    /// The amount that may arrive at once. Zero counts as one.
    pub burst: u64,
}

/// One of the two rates of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RateKind {
    /// The rate of messages.
    Messages,
    /// The rate of bytes.
    Bytes,
}

/// The remaining allowance of messages and bytes of one connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// The allowance of messages.
    pub messages: TokenBucket,
    /// The allowance of bytes.
    pub bytes: TokenBucket,
}

impl Rates {
    /// Spends the messages and bytes of one read, even if the allowance is smaller. Returns whether it was large enough.
    pub fn charge(
        &mut self,
        now: Instant,
        (messages, most_messages): (u64, Rate),
        (bytes, most_bytes): (u64, Rate),
    ) -> bool {
        let are_kept = [
            self.messages.left(now, now, most_messages) >= messages,
            self.bytes.left(now, now, most_bytes) >= bytes,
        ];
        self.messages.spend(now, messages, most_messages);
        self.bytes.spend(now, bytes, most_bytes);
        are_kept == [true; 2]
    }
}

/// The allowance that is left of a rate, by the generic cell rate algorithm (ITU-T I.371): a bucket that fills at the
/// rate and holds the burst, kept as the one instant at which it is full again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// Returns the allowance at `now`.
    ///
    /// `since` is `now`, or the earlier time for which a timer was set: what the bucket gains after that counts in addition to
    /// the burst. So a timer that fires late does not reduce the rate.
    pub fn left(&self, now: Instant, since: Instant, rate: Rate) -> u64 {
        if rate.per_second == 0 {
            return u64::MAX;
        }
        let full = rate.time_of(rate.burst.max(1), Rounding::Up);
        let full_at = self.full_at.map_or(since, |at| at.max(since));
        let missing = full_at.saturating_duration_since(now);
        let beyond = now.saturating_duration_since(full_at);
        rate.amount_of(full.saturating_sub(missing).saturating_add(beyond))
    }

    /// Spends `amount`. `since` is as for [`left`](TokenBucket::left).
    pub fn spend(&mut self, since: Instant, amount: u64, rate: Rate) {
        if rate.per_second != 0 && amount != 0 {
            let full_at = self.full_at.map_or(since, |at| at.max(since));
            self.full_at = full_at.checked_add(rate.time_of(amount, Rounding::Down)).or(Some(full_at));
        }
    }

    /// Returns the time at which the allowance will be `amount`, or the burst if that is less. `None` if it is already.
    pub fn at_least(&self, amount: u64, rate: Rate) -> Option<Instant> {
        let burst = rate.burst.max(1);
        let until_full = rate.time_of(burst, Rounding::Up) - rate.time_of(amount.min(burst), Rounding::Up);
        self.full_at?.checked_sub(until_full).filter(|_| rate.per_second != 0)
    }
}

impl Rate {
    /// Returns the amount to wait for when the allowance is used up: the amount of ten milliseconds, at least one.
    /// Larger steps would be noticeable, smaller ones would cost processor time.
    pub fn step(self) -> u64 {
        (self.per_second / 100).clamp(1, self.burst.max(1))
    }

    /// Returns the time in which this amount arrives.
    fn time_of(self, amount: u64, rounding: Rounding) -> Duration {
        let (nanos, per_second) = (u128::from(amount) * NANOS_PER_SEC, u128::from(self.per_second.max(1)));
        let nanos = match rounding {
            Rounding::Up => nanos.div_ceil(per_second),
            Rounding::Down => nanos / per_second,
        };
        // More than 500 years are equivalent to no limit.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the amount that is gained in this time.
    fn amount_of(self, time: Duration) -> u64 {
        let amount = time.as_nanos().saturating_mul(self.per_second.into()) / NANOS_PER_SEC;
        u64::try_from(amount).unwrap_or(u64::MAX)
    }
}

/// The rounding to nanoseconds. A spent amount is rounded down and the content of the bucket up, so that a burst is
/// never one too small.
#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const HUNDRED: Rate = Rate { per_second: 100, burst: 200 };
    const ANY: Rate = Rate { per_second: 0, burst: 0 };

    #[test]
    fn a_burst_is_left_at_first_and_what_is_spent_comes_back_at_the_rate() {
        for per_second in [1, 3, 7, 100, 999, 1 << 20] {
            for burst in [1, 2, 3, 200] {
                let (now, rate) = (Instant::now(), Rate { per_second, burst });
                let mut allowance = TokenBucket::default();
                for spent in 0..burst {
                    assert_eq!(allowance.left(now, now, rate), burst - spent, "{rate:?}");
                    allowance.spend(now, 1, rate);
                }
                assert_eq!(allowance.left(now, now, rate), 0, "{rate:?}");
                for amount in 1..=burst {
                    let at = allowance.at_least(amount, rate).unwrap();
                    assert!(allowance.left(at, at, rate) >= amount, "{rate:?}: {amount}");
                    let before = at - Duration::from_nanos(burst + 2);
                    assert!(allowance.left(before, before, rate) < amount, "{rate:?}: {amount}");
                }
                let later = now + Duration::from_secs(3600);
                assert_eq!(allowance.left(later, later, rate), burst, "{rate:?}: no more than the burst");
            }
        }
    }

    #[test]
    fn a_client_that_is_served_late_gets_its_whole_rate_however_small_the_burst() {
        for (per_second, burst) in [(100, 1), (100, 200), (1000, 1), (7, 1), (1 << 20, 4096)] {
            let (start, rate) = (Instant::now(), Rate { per_second, burst });
            let mut allowance = TokenBucket::default();
            let (mut now, mut since, mut handled) = (start, start, 0);
            while now < start + Duration::from_secs(60) {
                let left = allowance.left(now, since, rate);
                assert!(left > 0, "{rate:?}: nothing is left at the time that was said");
                allowance.spend(since, left, rate);
                handled += left;
                since = allowance.at_least(rate.step(), rate).unwrap();
                // A timer is late by as much as this.
                now = since + MILLISECOND;
            }
            let expected = 60 * per_second + burst;
            let tolerance = 1 + expected / 1000 + rate.step();
            assert!(handled.abs_diff(expected) <= tolerance, "{rate:?}: {handled}, not {expected}");
        }
    }

    #[test]
    fn the_rate_can_be_kept_for_ever() {
        let (mut now, mut rates) = (Instant::now(), Rates::default());
        let exact = Rate { per_second: 100, burst: 1 };
        for _ in 0..1000 {
            assert!(rates.charge(now, (1, exact), (0, ANY)));
            now += 10 * MILLISECOND;
        }
        assert!(!rates.charge(now, (2, exact), (0, ANY)));
    }

    #[test]
    fn one_more_than_the_burst_is_too_much_and_either_rate_counts() {
        let (now, kib) = (Instant::now(), Rate { per_second: 1024, burst: 1024 });
        assert!(Rates::default().charge(now, (200, HUNDRED), (1024, kib)));
        assert!(!Rates::default().charge(now, (201, HUNDRED), (1024, kib)));
        assert!(!Rates::default().charge(now, (200, HUNDRED), (1025, kib)));
        let mut rates = Rates::default();
        assert!(rates.charge(now, (200, HUNDRED), (0, kib)));
        assert!(!rates.charge(now, (1, HUNDRED), (0, kib)));
        assert!(rates.charge(now + 20 * MILLISECOND, (1, HUNDRED), (0, kib)));
    }

    #[test]
    fn nothing_overflows_and_no_rate_is_any() {
        let (now, slow) = (Instant::now(), Rate { per_second: 1, burst: u64::MAX });
        assert!(Rates::default().charge(now, (1 << 30, slow), (u64::MAX >> 8, ANY)));
        let mut allowance = TokenBucket::default();
        allowance.spend(now, u64::MAX, slow);
        allowance.spend(now, u64::MAX, Rate { per_second: u64::MAX, burst: u64::MAX });
        assert_eq!(TokenBucket::default().left(now, now, ANY), u64::MAX);
        assert_eq!(allowance.at_least(1, ANY), None);
    }

    #[test]
    fn a_step_is_ten_milliseconds_or_one() {
        let step = |per_second, burst| Rate { per_second, burst }.step();
        assert_eq!(
            (step(1, 2), step(100, 200), step(1000, 2000), step(1 << 20, 1 << 20)),
            (1, 1, 10, 10_485)
        );
        assert_eq!((step(1000, 3), step(1000, 0)), (3, 1));
    }
}
