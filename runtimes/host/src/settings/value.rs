//! Texts that are one value: sizes, durations, numbers, choices.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What is wrong with a text, and what to write instead: the end of a sentence that begins with the setting.
pub(super) type Complaint = Cow<'static, str>;

/// A number of bytes: `64KiB`, `1MiB`, `512B`, or bare, `4096`.
pub(super) fn size(text: &str, range: RangeInclusive<usize>) -> Result<usize, Complaint> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => KIB,
        "mib" => MIB,
        "gib" => GIB,
        // KB is 1000 bytes to some and 1024 to others.
        "k" | "kb" | "m" | "mb" | "g" | "gb" if !number.is_empty() => {
            let letter = unit.chars().next().unwrap_or_default().to_ascii_uppercase();
            return Err(format!("not a size; units are powers of 1024, write {number}{letter}iB").into());
        }
        _ => return Err(NO_SIZE.into()),
    };
    let number: usize = number.parse().map_err(|_| Complaint::from(NO_SIZE))?;
    let size = number.checked_mul(factor).ok_or(Complaint::from(NO_SIZE))?;
    in_range(size, range, show_size)
}

/// A time that is more than zero: `25s`, `500ms`, `1m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    match duration_or_off(text)? {
        Duration::ZERO => Err("must be more than 0".into()),
        duration => Ok(duration),
    }
}

/// A time, or 0 for a limit that is off.
pub(super) fn duration_or_off(text: &str) -> Result<Duration, Complaint> {
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| Complaint::from(NO_DURATION))?;
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "" if number == 0 => Some(Duration::ZERO),
        "" => return Err(format!("a duration needs a unit; write {number}s or {number}ms").into()),
        _ => return Err(NO_DURATION.into()),
    };
    duration.filter(|duration| *duration <= DAY).ok_or("must be at most 24h".into())
}

/// A whole number.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, Complaint> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|_| is_number).ok_or(Complaint::from("not a number"))?;
    in_range(count, range, |count| count.to_string())
}

/// The same, of 32 bits.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, Complaint> {
    let wide = |end: &u32| usize::try_from(*end).unwrap_or(usize::MAX);
    let number = count(text, wide(range.start())..=wide(range.end()))?;
    // It is in the range.
    Ok(u32::try_from(number).unwrap_or(*range.end()))
}

/// The mode of a file, in octal: `0660`.
pub(super) fn mode(text: &str) -> Result<u32, Complaint> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or("not the mode of a socket in octal; write for example 0660".into())
}

/// `true` or `false`, and nothing that looks like one of them.
pub(super) fn boolean(text: &str) -> Result<bool, Complaint> {
    choice(text, &[("true", true), ("false", false)])
}

/// One of several words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Complaint> {
    let chosen = choices.iter().find(|(word, _)| *word == text);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", words.join(", ")).into()
    })
}

/// The digits at the front, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn in_range(
    number: usize,
    range: RangeInclusive<usize>,
    show: impl Fn(usize) -> String,
) -> Result<usize, Complaint> {
    if number < *range.start() {
        return Err(format!("must be at least {}", show(*range.start())).into());
    }
    if number > *range.end() {
        return Err(format!("must be at most {}", show(*range.end())).into());
    }
    Ok(number)
}

fn show_size(size: usize) -> String {
    match [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;

/// The longest duration. Long enough to be for ever, and far from what an `Instant` cannot be moved by.
const DAY: Duration = Duration::from_secs(24 * 3600);

const NO_SIZE: &str = "not a size; write for example 64KiB";
const NO_DURATION: &str = "not a duration; write for example 25s, 500ms or 1m";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_size(text: &str, result: Result<usize, &'static str>) {
        assert_eq!(size(text, 1..=2 * GIB), result.map_err(Complaint::from), "{text}");
    }

    #[track_caller]
    fn check_duration(text: &str, result: Result<u64, &'static str>) {
        assert_eq!(
            duration_or_off(text),
            result.map(Duration::from_millis).map_err(Complaint::from),
            "{text}"
        );
    }

    #[test]
    fn sizes_have_units_of_1024() {
        check_size("1", Ok(1));
        check_size("4096", Ok(4096));
        check_size("512B", Ok(512));
        check_size("64KiB", Ok(65_536));
        check_size("64kib", Ok(65_536));
        check_size("1MiB", Ok(1 << 20));
        check_size("2GiB", Ok(2 << 30));
        for text in [
            "",
            "B",
            "KiB",
            "64Q",
            "64 KiB",
            "-1",
            "+1",
            "1.5MiB",
            "64KiB ",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            check_size(text, Err("not a size; write for example 64KiB"));
        }
        check_size("64KB", Err("not a size; units are powers of 1024, write 64KiB"));
        check_size("1M", Err("not a size; units are powers of 1024, write 1MiB"));
        check_size("2gb", Err("not a size; units are powers of 1024, write 2GiB"));
    }

    #[test]
    fn numbers_out_of_range_are_told_the_nearest_that_is_not() {
        assert_eq!(size("511", 512..=MIB), Err("must be at least 512B".into()));
        assert_eq!(size("512", 512..=MIB), Ok(512));
        assert_eq!(size("1MiB", 512..=MIB), Ok(MIB));
        assert_eq!(size("1048577", 512..=MIB), Err("must be at most 1MiB".into()));
        assert_eq!(size("2047KiB", 1..=1536), Err("must be at most 1536B".into()));
        assert_eq!(count("0", 1..=9), Err("must be at least 1".into()));
        assert_eq!(count("10", 1..=9), Err("must be at most 9".into()));
        for text in ["", "nine", "+9", "-9", "9.0", "99999999999999999999"] {
            assert_eq!(count(text, 1..=9), Err("not a number".into()), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_unless_they_are_zero() {
        check_duration("0", Ok(0));
        check_duration("0s", Ok(0));
        check_duration("500ms", Ok(500));
        check_duration("25s", Ok(25_000));
        check_duration("1m", Ok(60_000));
        check_duration("24h", Ok(86_400_000));
        check_duration("25", Err("a duration needs a unit; write 25s or 25ms"));
        for text in ["", "s", "soon", "1.5s", "25 s", "-1s", "25S", "1d", "1m30s", "99999999999999999999s"] {
            check_duration(text, Err("not a duration; write for example 25s, 500ms or 1m"));
        }
        for text in ["25h", "86400001ms", "18446744073709551615h"] {
            check_duration(text, Err("must be at most 24h"));
        }
        assert_eq!(duration("0"), Err("must be more than 0".into()));
        assert_eq!(duration("0ms"), Err("must be more than 0".into()));
        assert_eq!(duration("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn a_mode_is_octal() {
        for (text, expected) in [("0660", 0o660), ("660", 0o660), ("0777", 0o777), ("0", 0)] {
            assert_eq!(mode(text), Ok(expected));
        }
        for text in ["", "0o660", "0800", "1777", "-1", "+1", "rw-rw----", "7777777777777"] {
            assert_eq!(mode(text), Err("not the mode of a socket in octal; write for example 0660".into()));
        }
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        assert_eq!(boolean("true"), Ok(true));
        assert_eq!(boolean("false"), Ok(false));
        for text in ["", "True", "yes", "1"] {
            assert_eq!(boolean(text), Err("must be one of true, false".into()), "{text}");
        }
    }
}
