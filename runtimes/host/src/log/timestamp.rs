//! The time of a record as text: RFC 3339 in UTC with milliseconds, so that lines of several hosts sort.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-05-09T12:34:56.789Z`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp([u8; LENGTH]);

impl Timestamp {
    /// The timestamp of now.
    pub(super) fn now() -> Timestamp {
        Timestamp::at(since_epoch())
    }

    /// The timestamp of a time since 1970, up to the year 9999.
    fn at(since_epoch: Duration) -> Timestamp {
        let seconds = since_epoch.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let second = seconds % 86_400;
        let mut timestamp = Timestamp(*b"0000-00-00T00:00:00.000Z");
        timestamp.put::<4>(0, year);
        timestamp.put::<2>(5, month);
        timestamp.put::<2>(8, day);
        timestamp.put::<2>(11, second / 3600);
        timestamp.put::<2>(14, second / 60 % 60);
        timestamp.put::<2>(17, second % 60);
        timestamp.put_millis(since_epoch);
        timestamp
    }

    fn put_millis(&mut self, since_epoch: Duration) {
        self.put::<3>(20, u64::from(since_epoch.subsec_millis()));
    }

    /// Writes the last `N` digits of `number` at `place`.
    fn put<const N: usize>(&mut self, place: usize, mut number: u64) {
        for digit in self.0.iter_mut().skip(place).take(N).rev() {
            // A digit of a number modulo ten is within u8.
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The same of any time, for answers that are read beside the log.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    format!("{:?}", Timestamp::at(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// Reads the system's clock once for a batch of records, and only if the batch has one.
#[derive(Debug)]
pub(super) struct BatchClock {
    timestamp: Timestamp,
    /// The second that the date and time of `timestamp` stand for.
    second: u64,
    /// Whether `timestamp` is of this batch.
    is_fresh: bool,
}

impl BatchClock {
    pub(super) fn new() -> BatchClock {
        let now = since_epoch();
        BatchClock { timestamp: Timestamp::at(now), second: now.as_secs(), is_fresh: false }
    }

    /// The time of this batch.
    #[inline]
    pub(super) fn timestamp(&mut self) -> &Timestamp {
        if !self.is_fresh {
            self.refresh(since_epoch());
        }
        &self.timestamp
    }

    /// The next record begins a new batch.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        self.is_fresh = false;
    }

    fn refresh(&mut self, now: Duration) {
        if now.as_secs() == self.second {
            self.timestamp.put_millis(now);
        } else {
            self.timestamp = Timestamp::at(now);
            self.second = now.as_secs();
        }
        self.is_fresh = true;
    }
}

/// A clock before 1970 is not set, and says 1970.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`): years begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_FROM_0000_03_01_TO_1970;
    let era = days / DAYS_OF_400_YEARS;
    let day_of_era = days % DAYS_OF_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

const LENGTH: usize = "0000-00-00T00:00:00.000Z".len();
const DAYS_FROM_0000_03_01_TO_1970: u64 = 719_468;
const DAYS_OF_400_YEARS: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(millis: u64, text: &str) {
        assert_eq!(format!("{:?}", Timestamp::at(Duration::from_millis(millis))), text);
    }

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_709_164_800_007, "2024-02-29T00:00:00.007Z");
        check(1_795_545_304_123, "2026-11-24T18:35:04.123Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn all_days_of_the_calendar_follow_each_other() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..(200 * 366) {
            assert_eq!(civil(days), (year, month, day));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                4 | 6 | 9 | 11 => 30,
                2 if is_leap => 29,
                2 => 28,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn a_batch_has_one_time_however_many_records_it_has() {
        let mut clock = BatchClock::new();
        clock.refresh(Duration::from_millis(1_000));
        let first = *clock.timestamp();
        assert_eq!(*clock.timestamp(), first);
        clock.end_batch();
        assert_ne!(*clock.timestamp(), first);
    }

    #[test]
    fn what_a_clock_keeps_of_the_last_second_is_right() {
        let mut clock = BatchClock::new();
        for millis in [999, 1_000, 1_001, 1_999, 61_000, 60_999, 3_661_001] {
            let now = Duration::from_millis(millis);
            clock.refresh(now);
            assert_eq!(clock.timestamp, Timestamp::at(now));
        }
    }
}
