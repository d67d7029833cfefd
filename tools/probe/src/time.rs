//! Dates of HTTP and of certificates, and durations as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time in seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Parses a `Date` in the form that RFC 9110 §5.6.7 requires of senders: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let year = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    (words.next() == Some("GMT")).then(|| seconds(year, month as i64, day, hour, minute, second))
}

/// Parses a time of a certificate (RFC 5280 §4.1.2.5): `YYMMDDHHMMSSZ`, or with four digits of the year.
pub(crate) fn certificate_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match text.len() {
        12 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        14 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    Some(seconds(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?))
}

/// Returns the seconds since 1970 of a time in the proleptic Gregorian calendar.
fn seconds(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> i64 {
    // A year that begins in March ends with the leap day.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    days * 86_400 + hour * 3600 + minute * 60 + second
}

/// Returns a number of seconds in its largest unit: `59 min`.
pub(crate) fn period(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

/// Returns a duration of a network with three digits: `12.1 ms`.
pub(crate) fn latency(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    match millis {
        0.0..10.0 => format!("{millis:.2} ms"),
        10.0..100.0 => format!("{millis:.1} ms"),
        100.0..10_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
        ] {
            assert_eq!(http_date(date), Some(seconds), "{date}");
        }
        for text in [
            "",
            "Sun, ",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(http_date(text), None, "{text}");
        }
        assert_eq!(certificate_time("941106084937Z"), Some(784_111_777));
        assert_eq!(certificate_time("20240229235959Z"), Some(1_709_251_199));
        for text in ["", "Z", "9411060849Z", "9411060849370Z", "941106084937+0100", "éééééé"] {
            assert_eq!(certificate_time(text), None, "{text}");
        }
    }

    #[test]
    fn periods_have_one_unit() {
        let texts = [-5, 119, 120, 7199, 7200, 86_400 * 90].map(period);
        assert_eq!(texts, ["5 s", "119 s", "2 min", "119 min", "2 h", "90 days"]);
        let texts = [12, 12_345, 123_456_789].map(|micros| latency(Duration::from_micros(micros)));
        assert_eq!(texts, ["0.01 ms", "12.3 ms", "123.5 s"]);
    }
}
