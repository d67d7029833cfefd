//! How fast one user's connection may talk.

use std::time::{Duration, Instant};

/// Messages and bytes of one connection against their rates, by the generic cell rate algorithm (ITU-T I.371) in
/// debt: what one read brought is never taken back, but what is too much of it has to be made up for by silence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    messages: Debt,
    bytes: Debt,
}

/// A rate, and how much of it may come at once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A second. Zero is any.
    pub per_second: u64,
    /// At once.
    pub burst: u64,
}

impl Rates {
    /// Counts what one read brought. Gives the time from which both rates are kept again, if one of them is
    /// exceeded now.
    pub fn charge(
        &mut self,
        now: Instant,
        (messages, most_messages): (u64, Rate),
        (bytes, most_bytes): (u64, Rate),
    ) -> Option<Instant> {
        let messages = self.messages.charge(now, messages, most_messages);
        let bytes = self.bytes.charge(now, bytes, most_bytes);
        messages.max(bytes)
    }
}

/// When all that has come would have come at exactly its rate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Debt {
    until: Option<Instant>,
}

impl Debt {
    fn charge(&mut self, now: Instant, amount: u64, most: Rate) -> Option<Instant> {
        if most.per_second == 0 || amount == 0 {
            return None;
        }
        let until = self.until.map_or(now, |until| until.max(now)) + most.time_of(amount);
        self.until = Some(until);
        // Within the burst, it is no debt.
        let settled = until.checked_sub(most.time_of(most.burst))?;
        (settled > now).then_some(settled)
    }
}

impl Rate {
    /// How long it takes for so much to come, to the nanosecond.
    fn time_of(self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * NANOS_PER_SEC / u128::from(self.per_second.max(1));
        // More than 500 years are as good as for ever.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HUNDRED: Rate = Rate { per_second: 100, burst: 200 };
    const ANY: Rate = Rate { per_second: 0, burst: 0 };

    #[test]
    fn a_burst_is_no_debt_and_one_more_is() {
        let now = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.charge(now, (200, HUNDRED), (0, ANY)), None);
        assert_eq!(rates.charge(now, (1, HUNDRED), (0, ANY)), Some(now + Duration::from_millis(10)));
        assert_eq!(rates.charge(now, (1, HUNDRED), (0, ANY)), Some(now + Duration::from_millis(20)));
    }

    #[test]
    fn the_rate_can_be_kept_for_ever() {
        let (mut now, mut rates) = (Instant::now(), Rates::default());
        let exact = Rate { per_second: 100, burst: 1 };
        for _ in 0..1000 {
            assert_eq!(rates.charge(now, (1, exact), (0, ANY)), None);
            now += Duration::from_millis(10);
        }
        assert_eq!(rates.charge(now, (2, exact), (0, ANY)), Some(now + Duration::from_millis(10)));
    }

    #[test]
    fn silence_pays_and_saves_no_more_than_the_burst() {
        let now = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.charge(now, (300, HUNDRED), (0, ANY)), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        assert_eq!(rates.charge(later, (1, HUNDRED), (0, ANY)), Some(later + Duration::from_millis(10)));
        let much_later = now + Duration::from_secs(3600);
        assert_eq!(rates.charge(much_later, (200, HUNDRED), (0, ANY)), None);
        assert!(rates.charge(much_later, (1, HUNDRED), (0, ANY)).is_some());
    }

    #[test]
    fn the_later_of_both_holds() {
        let now = Instant::now();
        let kib = Rate { per_second: 1024, burst: 1024 };
        let charged = Rates::default().charge(now, (201, HUNDRED), (3 * 1024, kib));
        assert_eq!(charged, Some(now + Duration::from_secs(2)));
        let charged = Rates::default().charge(now, (401, HUNDRED), (1025, kib));
        assert_eq!(charged, Some(now + Duration::from_millis(2010)));
    }

    #[test]
    fn nothing_overflows() {
        let (now, slow) = (Instant::now(), Rate { per_second: 1, burst: u64::MAX });
        assert_eq!(Rates::default().charge(now, (1 << 30, slow), (u64::MAX >> 8, ANY)), None);
    }
}
