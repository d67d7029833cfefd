//! The time of a record as text: RFC 3339 in UTC with milliseconds, so that lines of several hosts sort.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::{Rfc3339Timestamp, format_rfc3339_millis};

/// `2026-05-09T12:34:56.789Z`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp([u8; LENGTH]);

impl Timestamp {
    /// Returns the current time.
    pub(super) fn now() -> Timestamp {
        Timestamp::at(since_epoch(SystemTime::now()))
    }

    fn at(since_epoch: Duration) -> Timestamp {
        let mut timestamp = Timestamp([b' '; LENGTH]);
        // It does not fail, because all times up to the year 9999 have this length.
        let _ = write!(timestamp.0.as_mut_slice(), "{}", formatted(since_epoch));
        timestamp
    }

    fn set_milliseconds(&mut self, mut milliseconds: u32) {
        for digit in self.0.iter_mut().skip("2026-05-09T12:34:56.".len()).take(3).rev() {
            // A digit fits into u8.
            *digit = b'0' + (milliseconds % 10) as u8;
            milliseconds /= 10;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns a time in the format of the log, for responses of the control port.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    formatted(since_epoch(time)).to_string()
}

/// Reads the system clock once for each batch of records, and only if the batch has a record.
#[derive(Debug)]
pub(super) struct BatchClock {
    timestamp: Timestamp,
    /// The second since 1970 that `timestamp` is in. Within it, only the milliseconds are written again.
    second: u64,
    /// Whether `timestamp` was read for this batch.
    is_fresh: bool,
}

impl BatchClock {
    pub(super) fn new() -> BatchClock {
        let now = since_epoch(SystemTime::now());
        BatchClock { timestamp: Timestamp::at(now), second: now.as_secs(), is_fresh: false }
    }

    /// Returns the time of this batch.
    #[inline]
    pub(super) fn timestamp(&mut self) -> &Timestamp {
        if !self.is_fresh {
            self.refresh(since_epoch(SystemTime::now()));
        }
        &self.timestamp
    }

    /// Ends the batch: the next record begins a new one.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        self.is_fresh = false;
    }

    fn refresh(&mut self, now: Duration) {
        if now.as_secs() == self.second {
            self.timestamp.set_milliseconds(now.subsec_millis());
        } else {
            self.timestamp = Timestamp::at(now);
            self.second = now.as_secs();
        }
        self.is_fresh = true;
    }
}

/// Returns the time since 1970. A clock that shows an earlier time has not been set, and counts as 1970.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Formats a time since 1970. A time after the year 9999 is formatted as the end of that year.
fn formatted(since_epoch: Duration) -> Rfc3339Timestamp {
    format_rfc3339_millis(UNIX_EPOCH + since_epoch.min(END_OF_9999))
}

const LENGTH: usize = "2026-05-09T12:34:56.789Z".len();

const END_OF_9999: Duration = Duration::from_millis(253_402_300_799_999);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(since_epoch: Duration, text: &str) {
        assert_eq!(Timestamp::at(since_epoch).as_bytes(), text.as_bytes());
        assert_eq!(rfc3339(UNIX_EPOCH + since_epoch), text);
    }

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_007, "2024-02-29T00:00:00.007Z"),
            (1_795_545_304_123, "2026-11-24T18:35:04.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
        ] {
            check(Duration::from_millis(milliseconds), text);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn all_records_of_a_batch_have_the_same_time() {
        let mut clock = BatchClock::new();
        clock.refresh(Duration::from_millis(1_000));
        let first = *clock.timestamp();
        assert_eq!(*clock.timestamp(), first);
        clock.end_batch();
        assert_ne!(*clock.timestamp(), first);
    }

    #[test]
    fn a_clock_that_keeps_the_date_of_the_last_second_is_right() {
        let mut clock = BatchClock::new();
        for milliseconds in [999, 1_000, 1_001, 1_999, 61_000, 60_999, 3_661_001] {
            let now = Duration::from_millis(milliseconds);
            clock.refresh(now);
            assert_eq!(clock.timestamp, Timestamp::at(now));
        }
    }
}
