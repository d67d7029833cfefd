//! The rate of an event, such as a control frame.

use std::time::{Duration, Instant};

/// A rate with a burst, by the generic cell rate algorithm (ITU-T I.371): its only state is one instant.
///
/// Each event moves the time at which the next would be on schedule by one interval. An event may come early,
/// but by no more than the burst allows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// When the next event is on schedule; `None` before the first.
    due: Option<Instant>,
}

/// Whether an event keeps to the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The event keeps to the rate.
    Conforming,
    /// The event exceeds the rate. It does not count.
    Exceeded,
}

impl RateLimit {
    /// Judges an event at `now`, with `rate` events per second and a burst of `burst`. A rate of zero is unlimited.
    pub fn check(&mut self, now: Instant, rate: u32, burst: u32) -> Verdict {
        if rate == 0 {
            return Verdict::Conforming;
        }
        let interval = Duration::from_secs(1) / rate;
        let due = self.due.map_or(now, |due| due.max(now));
        if due.saturating_duration_since(now) > interval * burst.saturating_sub(1) {
            return Verdict::Exceeded;
        }
        self.due = Some(due + interval);
        Verdict::Conforming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of `count` simultaneous events keep to the rate.
    fn kept(limit: &mut RateLimit, now: Instant, count: u32) -> u32 {
        (0..count).filter(|_| limit.check(now, 20, 40) == Verdict::Conforming).count() as u32
    }

    #[test]
    fn a_burst_passes_and_one_more_does_not() {
        let mut limit = RateLimit::default();
        assert_eq!(kept(&mut limit, Instant::now(), 41), 40);
    }

    #[test]
    fn the_rate_can_be_kept_for_ever() {
        let mut limit = RateLimit::default();
        let mut now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(limit.check(now, 20, 1), Verdict::Conforming);
            now += Duration::from_millis(50);
        }
    }

    #[test]
    fn what_was_spent_comes_back_at_the_rate() {
        let mut limit = RateLimit::default();
        let now = Instant::now();
        assert_eq!(kept(&mut limit, now, 100), 40);
        assert_eq!(kept(&mut limit, now + Duration::from_millis(49), 100), 0);
        assert_eq!(kept(&mut limit, now + Duration::from_millis(50), 100), 1);
        assert_eq!(kept(&mut limit, now + Duration::from_secs(1), 100), 19);
        assert_eq!(kept(&mut limit, now + Duration::from_secs(60), 100), 40);
    }

    #[test]
    fn a_rate_of_zero_is_any() {
        let mut limit = RateLimit::default();
        assert!((0..1000).all(|_| limit.check(Instant::now(), 0, 0) == Verdict::Conforming));
    }
}
