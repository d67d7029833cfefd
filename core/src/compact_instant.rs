//! Instants in half the size of an `Instant`, because each connection has several.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The instant from which [`CompactInstant`]s are counted. Only those with the same time base can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBase(Instant);

/// An instant to the nanosecond, 292 years at most before or after its [`TimeBase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactInstant(NonZeroU64);

impl CompactInstant {
    /// Returns bytes that no other instant has.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl TimeBase {
    /// Creates a time base at `now`.
    pub fn new(now: Instant) -> TimeBase {
        TimeBase(now)
    }

    /// Converts an instant.
    #[inline]
    pub fn compact(self, at: Instant) -> CompactInstant {
        let after = nanoseconds(at.saturating_duration_since(self.0));
        let before = nanoseconds(self.0.saturating_duration_since(at));
        // One of the two is zero.
        let moment = MIDDLE.saturating_add(after).get().saturating_sub(before);
        CompactInstant(NonZeroU64::new(moment).unwrap_or(NonZeroU64::MIN))
    }

    /// Converts an instant back that was converted with this time base.
    #[inline]
    pub fn instant(self, CompactInstant(moment): CompactInstant) -> Instant {
        let after = Duration::from_nanos(moment.get().saturating_sub(MIDDLE.get()));
        let before = Duration::from_nanos(MIDDLE.get().saturating_sub(moment.get()));
        // A value that was converted from an instant can be converted back.
        (self.0 + after).checked_sub(before).unwrap_or(self.0)
    }
}

/// The time base itself.
const MIDDLE: NonZeroU64 = NonZeroU64::MIN.saturating_add((1 << 63) - 1);

/// Returns the nanoseconds, at most 2^64 - 1, which are 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_an_instant_before_or_after_the_epoch() {
        let now = Instant::now();
        let time_base = TimeBase::new(now);
        let near = [0, 1, 999_999_999, 1_000_000_000, 86_400_000_000_000].map(Duration::from_nanos);
        for time in near {
            for at in [now + time, now.checked_sub(time).unwrap_or(now)] {
                assert_eq!(time_base.instant(time_base.compact(at)), at);
                assert_eq!(time_base.compact(at).cmp(&time_base.compact(now)), at.cmp(&now));
            }
        }
        assert_eq!(time_base.compact(now).0, MIDDLE);
    }

    #[test]
    fn it_takes_eight_bytes_also_where_there_may_be_none() {
        assert_eq!((size_of::<CompactInstant>(), size_of::<Option<CompactInstant>>()), (8, 8));
    }
}
