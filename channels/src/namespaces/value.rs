//! Durations and sizes as texts of the channels file, in the notation of Postern's settings.

use std::time::Duration;

/// Parses a duration, such as `500ms`, `25s`, `5m` or `720h`, or `0`.
///
/// # Errors
/// The error and its correction.
pub(super) fn duration(text: &str, most: Duration) -> Result<Duration, String> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err(format!("{text:?} is not a duration; {DURATIONS}"));
    }
    let factor = match unit {
        "" if number.bytes().all(|digit| digit == b'0') => 0,
        "" => return Err(format!("a duration needs a unit; write for example \"{number}s\"")),
        "ms" => 1,
        "s" => 1_000,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => return Err(days(number)),
        _ => return Err(format!("{text:?} is not a duration; {DURATIONS}")),
    };
    // The text has only digits, so a number that does not parse is too large.
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let total = total.map(Duration::from_millis).filter(|total| *total <= most);
    total.ok_or_else(|| format!("{text:?} is too long; the maximum is {}", show_duration(most)))
}

/// Parses a number of bytes, such as `512B`, `64KiB` or `1MiB`, or `0`.
///
/// # Errors
/// The error and its correction.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        _ if number.is_empty() => return Err(format!("{text:?} is not a size; {SIZES}")),
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => KIB * KIB,
        "GiB" => KIB * KIB * KIB,
        _ => {
            let prefix = unit.chars().next().map(|first| first.to_ascii_uppercase());
            return Err(match prefix.filter(|prefix| "KMG".contains(*prefix)) {
                Some(prefix) => format!("{text:?} is not a size; write \"{number}{prefix}iB\""),
                None => format!("{text:?} is not a size; {SIZES}"),
            });
        }
    };
    let total = number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    total.filter(|total| *total <= MAX_SIZE).ok_or_else(|| format!("{text:?} is too large; {MAXIMUM}"))
}

/// Returns the error for a number of days, which are not a unit.
fn days(number: &str) -> String {
    match number.parse::<u64>().ok().and_then(|days| days.checked_mul(24)) {
        Some(hours) => format!("the units are ms, s, m and h; write \"{hours}h\""),
        None => DURATIONS.to_owned(),
    }
}

/// Formats a duration in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match [(HOUR, "h"), (MINUTE, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", milliseconds / unit),
        None if milliseconds == 0 => "0".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

/// Formats a number of bytes in the largest unit that divides it.
pub(super) fn show_size(size: usize) -> String {
    match [(KIB * KIB * KIB, "GiB"), (KIB * KIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

/// Splits off the leading digits.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 3_600_000;
const KIB: usize = 1024;
pub(super) const MAX_SIZE: usize = 64 * KIB * KIB * KIB;
pub(super) const MAXIMUM: &str = "the maximum is 64GiB";
pub(super) const DURATIONS: &str = "write for example \"25s\", \"500ms\", \"5m\" or \"720h\"";
pub(super) const SIZES: &str = "write for example \"64KiB\", with B, KiB, MiB or GiB";

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, milliseconds) in [
            ("0", 0),
            ("00", 0),
            ("0s", 0),
            ("1ms", 1),
            ("25s", 25_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration(text, DAY), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for (text, complaint) in [
            ("", "\"\" is not a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\""),
            ("soon", "\"soon\" is not a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\""),
            (
                "1h30m",
                "\"1h30m\" is not a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\"",
            ),
            ("1.5s", "\"1.5s\" is not a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\""),
            ("25", "a duration needs a unit; write for example \"25s\""),
            ("30d", "the units are ms, s, m and h; write \"720h\""),
            ("86400001ms", "\"86400001ms\" is too long; the maximum is 24h"),
            ("99999999999999999999h", "\"99999999999999999999h\" is too long; the maximum is 24h"),
        ] {
            assert_eq!(duration(text, DAY), Err(complaint.to_owned()));
        }
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("64GiB", 1 << 36),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, complaint) in [
            ("", "\"\" is not a size; write for example \"64KiB\", with B, KiB, MiB or GiB"),
            ("64Q", "\"64Q\" is not a size; write for example \"64KiB\", with B, KiB, MiB or GiB"),
            ("64KB", "\"64KB\" is not a size; write \"64KiB\""),
            ("1m", "\"1m\" is not a size; write \"1MiB\""),
            ("65GiB", "\"65GiB\" is too large; the maximum is 64GiB"),
            ("99999999999999999999GiB", "\"99999999999999999999GiB\" is too large; the maximum is 64GiB"),
        ] {
            assert_eq!(size(text), Err(complaint.to_owned()));
        }
    }

    #[test]
    fn a_value_is_shown_as_it_is_written() {
        for text in ["0B", "1B", "1025B", "64KiB", "3MiB", "64GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        for text in ["0", "1ms", "1500ms", "25s", "5m", "720h"] {
            assert_eq!(show_duration(duration(text, DAY * 365).unwrap()), text);
        }
    }
}
