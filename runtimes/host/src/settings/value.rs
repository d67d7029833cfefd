//! Parsers of sizes, durations, numbers and choices.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The fault of a text and its correction: the end of a sentence that begins with the name of the setting.
pub(super) type ValueError = Cow<'static, str>;

/// The text that turns an optional setting off.
pub(super) const OFF: &str = "off";

/// Whether a text is `off`, in any case.
pub(super) fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case(OFF)
}

/// Parses a number of bytes: `64KiB`, `1MiB`, `512B`, or bare, `4096`.
pub(super) fn size(text: &str, range: RangeInclusive<usize>) -> Result<usize, ValueError> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => KIB,
        "mib" => MIB,
        "gib" => GIB,
        "tib" => TIB,
        _ => return Err(not_a_size(text, &range)),
    };
    if number.is_empty() {
        return Err(not_a_size(text, &range));
    }
    // The text has only digits, so a number that does not parse is too large.
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    in_range(size.unwrap_or(usize::MAX), range, show_size)
}

/// Returns the error for a text that is not a size.
fn not_a_size(text: &str, range: &RangeInclusive<usize>) -> ValueError {
    if text.is_empty() {
        return "is empty; write for example 64KiB".into();
    }
    if let Some(complaint) = off_word(text, *range.start() == 0).or_else(|| wrong_digits(text, "64KiB")) {
        return complaint;
    }
    let (sign, unsigned) = split_sign(text);
    if sign == Some('-') {
        return format!("a size is not negative; write at least {}", show_size(*range.start())).into();
    }
    let (number, rest) = split_decimal(unsigned);
    let unit = rest.trim_start();
    let Some(factor) = factor(unit).filter(|_| !number.is_empty()) else {
        let is_unit = !number.is_empty() && !unit.is_empty() && unit.chars().all(char::is_alphabetic);
        return match is_unit {
            true => format!(
                "not a size: {unit} is not a unit; write for example 64KiB, with B, KiB, MiB, GiB or TiB"
            ),
            false => "not a size; write for example 64KiB".to_owned(),
        }
        .into();
    };
    let (instead, is_whole) = match number.split_once('.') {
        None => (format!("{number}{}", unit_name(unit)), true),
        Some((whole, fraction)) => (show_size(scale(whole, fraction, factor)), false),
    };
    match (sign, is_whole) {
        (_, false) => format!("a size has no fraction; write {instead}"),
        (Some(_), true) => format!("a size has no sign; write {instead}"),
        (None, true) if rest.len() != unit.len() => format!("a size has no space; write {instead}"),
        // KB is 1000 bytes to some and 1024 to others.
        (None, true) => format!("not a size; units are powers of 1024, write {instead}"),
    }
    .into()
}

/// Returns the factor of a unit, also in the notation of Kubernetes.
fn factor(unit: &str) -> Option<usize> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => KIB,
        "m" | "mb" | "mi" | "mib" => MIB,
        "g" | "gb" | "gi" | "gib" => GIB,
        "t" | "tb" | "ti" | "tib" => TIB,
        _ => return None,
    })
}

/// Returns the unit in our notation.
fn unit_name(unit: &str) -> &'static str {
    match factor(unit) {
        Some(KIB) => "KiB",
        Some(MIB) => "MiB",
        Some(GIB) => "GiB",
        Some(TIB) => "TiB",
        _ => "B",
    }
}

/// Parses a time that is more than zero: `25s`, `500ms`, `1m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    match duration_in(text, false)? {
        Duration::ZERO => Err("must be more than 0; write for example 25s, 500ms or 1m".into()),
        duration => Ok(duration),
    }
}

/// Parses a time, or 0 for a limit that is off.
pub(super) fn duration_or_off(text: &str) -> Result<Duration, ValueError> {
    duration_in(text, true)
}

fn duration_in(text: &str, may_be_off: bool) -> Result<Duration, ValueError> {
    let (number, unit) = split_unit(text);
    let milliseconds = match unit {
        "" if !number.is_empty() && number.bytes().all(|digit| digit == b'0') => 0,
        _ => milliseconds_of(unit)
            .filter(|_| !number.is_empty())
            .ok_or_else(|| not_a_duration(text, may_be_off))?,
    };
    // The text has only digits, so a number that does not parse is too large.
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds));
    let duration = total.map(Duration::from_millis).filter(|duration| *duration <= DAY);
    duration.ok_or("must be at most 24h".into())
}

/// Returns the error for a text that is not a duration.
fn not_a_duration(text: &str, may_be_off: bool) -> ValueError {
    const EXAMPLE: &str = "write for example 25s, 500ms or 1m";
    if text.is_empty() {
        return format!("is empty; {EXAMPLE}").into();
    }
    if let Some(complaint) = off_word(text, may_be_off).or_else(|| wrong_digits(text, "25s")) {
        return complaint;
    }
    let (sign, unsigned) = split_sign(text);
    if sign == Some('-') {
        return format!("a duration is not negative; {EXAMPLE}").into();
    }
    let (number, rest) = split_decimal(unsigned);
    let unit = rest.trim_start();
    if number.is_empty() {
        return format!("not a duration; {EXAMPLE}").into();
    }
    if unit.is_empty() && !number.contains('.') {
        return format!("a duration needs a unit; write {number}s or {number}ms").into();
    }
    if let Some(total) = sum_of_units(unsigned) {
        return format!("a duration has one number and one unit; write {}", show_duration(total)).into();
    }
    let milliseconds = match unit.to_ascii_lowercase().as_str() {
        "ms" | "msec" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" | "" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return format!("not a duration: {unit} is not a unit; {EXAMPLE}, with ms, s, m or h").into(),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let instead = show_duration(scale(whole, fraction, milliseconds));
    match number.contains('.') {
        true => format!("a duration has no fraction; write {instead}"),
        false => format!("not a duration: the units are ms, s, m and h; write {instead}"),
    }
    .into()
}

/// Returns the milliseconds of a unit.
fn milliseconds_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    })
}

/// Returns the milliseconds of a text such as `1h30m`, with at least two units. `None` if it is not one.
fn sum_of_units(text: &str) -> Option<usize> {
    let (mut rest, mut total, mut count) = (text, 0_usize, 0);
    while !rest.is_empty() {
        let (number, after) = split_unit(rest);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = usize::try_from(milliseconds_of(unit)?).ok()?;
        total = total.checked_add(number.parse::<usize>().ok()?.checked_mul(factor)?)?;
        (rest, count) = (after.trim_start(), count + 1);
    }
    (count >= 2).then_some(total)
}

/// Parses a whole number.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_count(text, &range));
    }
    // There are only digits, so it is too large if it does not fit.
    in_range(text.parse().unwrap_or(usize::MAX), range, |count| count.to_string())
}

/// Returns the error for a text that is not a whole number.
fn not_a_count(text: &str, range: &RangeInclusive<usize>) -> ValueError {
    let (start, end) = (range.start(), range.end());
    let expected = match *end {
        usize::MAX => format!("write a whole number from {start}"),
        _ => format!("write a whole number from {start} to {end}"),
    };
    if let Some(complaint) = off_word(text, *start == 0) {
        return complaint;
    }
    let condition = match text {
        "" => "is empty",
        _ if text.strip_prefix('-').is_some_and(is_decimal) => "is negative",
        _ if is_of_other_digits(text) => "is not written with the digits 0 to 9",
        _ => "not a whole number",
    };
    format!("{condition}; {expected}").into()
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Parses a whole number of 32 bits.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
    let wide = |end: &u32| usize::try_from(*end).unwrap_or(usize::MAX);
    let number = count(text, wide(range.start())..=wide(range.end()))?;
    // It is in the range.
    Ok(u32::try_from(number).unwrap_or(*range.end()))
}

/// Parses the mode of a file, in octal: `0660`.
pub(super) fn mode(text: &str) -> Result<u32, ValueError> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or("not the mode of a socket in octal; write for example 0660".into())
}

/// Parses `true` or `false`, or what other programs write for it.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    switch(text, [("true", true), ("false", false)])
}

/// Parses one of two words that mean yes and no, or what other programs write for it, in any case.
pub(super) fn switch(text: &str, words: [(&str, bool); 2]) -> Result<bool, ValueError> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "1", "yes", "on"]) {
        Ok(true)
    } else if is_one_of(["false", "0", "no", "off"]) {
        Ok(false)
    } else {
        choice(text, &words)
    }
}

/// Parses one of several words, in any case: variables such as `LOG_LEVEL` are shared with other programs.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, ValueError> {
    let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", words.join(", ")).into()
    })
}

/// Returns the error for a word such as `off`, if 0 disables the limit.
fn off_word(text: &str, may_be_off: bool) -> Option<ValueError> {
    let is_word = OFF_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    (may_be_off && is_word).then_some("not a number; write 0".into())
}

/// Returns the error for a number in other digits than 0 to 9, such as Arabic ones.
fn wrong_digits(text: &str, example: &str) -> Option<ValueError> {
    is_of_other_digits(text)
        .then(|| format!("is not written with the digits 0 to 9; write for example {example}").into())
}

fn is_of_other_digits(text: &str) -> bool {
    text.chars().any(|c| c.is_numeric() && !c.is_ascii())
}

/// Splits off the sign.
fn split_sign(text: &str) -> (Option<char>, &str) {
    let sign = text.chars().next().filter(|c| "+-".contains(*c));
    (sign, text.strip_prefix(['+', '-']).unwrap_or(text))
}

/// Splits off the number, which may have a fraction.
fn split_decimal(text: &str) -> (&str, &str) {
    let (digits, rest) = split_unit(text);
    let Some(fraction) = rest.strip_prefix('.') else { return (digits, rest) };
    let length = digits.len() + 1 + split_unit(fraction).0.len();
    if digits.is_empty() || length == digits.len() + 1 { (digits, rest) } else { text.split_at(length) }
}

/// Returns a number with a fraction, times a factor, rounded down: `1`, `5` and 1024 is 1536.
fn scale(whole: &str, fraction: &str, factor: usize) -> usize {
    // Digits after the ninth are less than a byte of a GiB.
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let billionths = whole
        .parse::<u128>()
        .ok()
        .and_then(|whole| whole.checked_mul(1_000_000_000)?.checked_add(fraction.parse().ok()?));
    let scaled =
        billionths.and_then(|billionths| Some(billionths.checked_mul(factor as u128)? / 1_000_000_000));
    scaled.and_then(|scaled| usize::try_from(scaled).ok()).unwrap_or(usize::MAX)
}

/// Splits off the leading digits.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn in_range(
    number: usize,
    range: RangeInclusive<usize>,
    show: impl Fn(usize) -> String,
) -> Result<usize, ValueError> {
    if number < *range.start() {
        return Err(format!("must be at least {}", show(*range.start())).into());
    }
    if number > *range.end() {
        return Err(format!("must be at most {}", show(*range.end())).into());
    }
    Ok(number)
}

/// Formats a number of bytes in the largest unit that divides it.
pub(super) fn show_size(size: usize) -> String {
    if size == 0 {
        return "0".to_owned();
    }
    match [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

/// Formats a number of milliseconds in the largest unit that divides it.
pub(super) fn show_duration(milliseconds: usize) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

const OFF_WORDS: [&str; 9] =
    ["off", "no", "none", "false", "never", "disabled", "unlimited", "infinite", "infinity"];

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;
const TIB: usize = 1024 * GIB;

/// The longest duration. Adding it to an `Instant` cannot overflow.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const NO_DURATION: &str = "not a duration; write for example 25s, 500ms or 1m";

    #[track_caller]
    fn check_size(text: &str, result: Result<usize, &'static str>) {
        assert_eq!(size(text, 1..=2 * GIB), result.map_err(ValueError::from), "{text}");
    }

    #[track_caller]
    fn check_duration(text: &str, result: Result<u64, &'static str>) {
        assert_eq!(
            duration_or_off(text),
            result.map(Duration::from_millis).map_err(ValueError::from),
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
        check_size("2TiB", Err("must be at most 2GiB"));
        check_size("99999999999999999999", Err("must be at most 2GiB"));
        check_size("99999999999GiB", Err("must be at most 2GiB"));
        check_size("0", Err("must be at least 1B"));
    }

    #[test]
    fn an_invalid_size_has_a_suggestion() {
        for (text, complaint) in [
            ("", "is empty; write for example 64KiB"),
            ("B", "not a size; write for example 64KiB"),
            ("KiB", "not a size; write for example 64KiB"),
            ("many", "not a size; write for example 64KiB"),
            ("64KiB!", "not a size; write for example 64KiB"),
            ("0x10", "not a size; write for example 64KiB"),
            ("64Q", "not a size: Q is not a unit; write for example 64KiB, with B, KiB, MiB, GiB or TiB"),
            ("64 KiB", "a size has no space; write 64KiB"),
            ("64KB", "not a size; units are powers of 1024, write 64KiB"),
            ("1M", "not a size; units are powers of 1024, write 1MiB"),
            ("2gb", "not a size; units are powers of 1024, write 2GiB"),
            ("64Mi", "not a size; units are powers of 1024, write 64MiB"),
            ("off", "not a size; write for example 64KiB"),
            ("-1", "a size is not negative; write at least 1B"),
            ("-64KiB", "a size is not negative; write at least 1B"),
            ("+1", "a size has no sign; write 1B"),
            ("1.5MiB", "a size has no fraction; write 1536KiB"),
            ("0.5k", "a size has no fraction; write 512B"),
            ("2.25 GB", "a size has no fraction; write 2304MiB"),
            ("1.0001KiB", "a size has no fraction; write 1KiB"),
            ("\u{661}\u{662}KiB", "is not written with the digits 0 to 9; write for example 64KiB"),
        ] {
            check_size(text, Err(complaint));
        }
    }

    #[test]
    fn a_number_out_of_range_names_the_nearest_bound() {
        assert_eq!(size("511", 512..=MIB), Err("must be at least 512B".into()));
        assert_eq!(size("512", 512..=MIB), Ok(512));
        assert_eq!(size("1MiB", 512..=MIB), Ok(MIB));
        assert_eq!(size("1048577", 512..=MIB), Err("must be at most 1MiB".into()));
        assert_eq!(size("2047KiB", 1..=1536), Err("must be at most 1536B".into()));
        assert_eq!(count("0", 1..=9), Err("must be at least 1".into()));
        assert_eq!(count("10", 1..=9), Err("must be at most 9".into()));
        assert_eq!(count("99999999999999999999", 1..=9), Err("must be at most 9".into()));
    }

    #[test]
    fn an_invalid_whole_number_has_a_suggestion() {
        for (text, condition) in [
            ("", "is empty"),
            ("nine", "not a whole number"),
            ("+9", "not a whole number"),
            ("9.0", "not a whole number"),
            ("1e3", "not a whole number"),
            ("0x9", "not a whole number"),
            ("1_000", "not a whole number"),
            ("-9", "is negative"),
            ("-0.5", "is negative"),
            ("\u{669}", "is not written with the digits 0 to 9"),
        ] {
            let complaint = |expected| Err(ValueError::from(format!("{condition}; {expected}")));
            assert_eq!(count(text, 1..=9), complaint("write a whole number from 1 to 9"), "{text}");
            assert_eq!(count(text, 0..=usize::MAX), complaint("write a whole number from 0"), "{text}");
        }
    }

    #[test]
    fn a_limit_that_can_be_off_is_turned_off_by_0() {
        for word in ["off", "None", "unlimited"] {
            let complaint = || ValueError::from("not a number; write 0");
            assert_eq!(size(word, 0..=9), Err(complaint()));
            assert_eq!(count(word, 0..=9), Err(complaint()));
            assert_eq!(duration_or_off(word), Err(complaint()));
            assert_eq!(duration(word), Err(NO_DURATION.into()));
            assert_eq!(
                count(word, 1..=9),
                Err("not a whole number; write a whole number from 1 to 9".into())
            );
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
        for text in ["25h", "86400001ms", "18446744073709551615h", "99999999999999999999s"] {
            check_duration(text, Err("must be at most 24h"));
        }
        assert_eq!(duration("0"), Err("must be more than 0; write for example 25s, 500ms or 1m".into()));
        assert_eq!(duration("0ms"), Err("must be more than 0; write for example 25s, 500ms or 1m".into()));
        assert_eq!(duration("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn an_invalid_duration_has_a_suggestion() {
        for (text, complaint) in [
            ("", "is empty; write for example 25s, 500ms or 1m"),
            ("s", "not a duration; write for example 25s, 500ms or 1m"),
            ("soon", "not a duration; write for example 25s, 500ms or 1m"),
            ("Never", "not a number; write 0"),
            ("-1s", "a duration is not negative; write for example 25s, 500ms or 1m"),
            ("25", "a duration needs a unit; write 25s or 25ms"),
            ("1.5s", "a duration has no fraction; write 1500ms"),
            ("0.5h", "a duration has no fraction; write 30m"),
            ("1h30m", "a duration has one number and one unit; write 90m"),
            ("1m30s", "a duration has one number and one unit; write 90s"),
            ("1h 30m", "a duration has one number and one unit; write 90m"),
            ("1s500ms", "a duration has one number and one unit; write 1500ms"),
            ("25 s", "not a duration: the units are ms, s, m and h; write 25s"),
            ("25S", "not a duration: the units are ms, s, m and h; write 25s"),
            ("25sec", "not a duration: the units are ms, s, m and h; write 25s"),
            ("1d", "not a duration: the units are ms, s, m and h; write 24h"),
            ("1y", "not a duration: y is not a unit; write for example 25s, 500ms or 1m, with ms, s, m or h"),
            ("\u{661}s", "is not written with the digits 0 to 9; write for example 25s"),
        ] {
            check_duration(text, Err(complaint));
        }
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
        for text in ["true", "True", "TRUE", "1", "yes", "Yes", "on", "ON"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "False", "FALSE", "0", "no", "No", "off", "OFF"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "maybe", "2", "-1", "01", "truee", "y es"] {
            assert_eq!(boolean(text), Err("must be one of true, false".into()), "{text}");
        }
        let words = [("on", true), ("off", false)];
        assert_eq!((switch("TRUE", words), switch("0", words)), (Ok(true), Ok(false)));
        assert_eq!(switch("maybe", words), Err("must be one of on, off".into()));
        for text in ["json", "JSON", "Json"] {
            assert_eq!(choice(text, &[("term", 1), ("json", 2)]), Ok(2), "{text}");
        }
    }
}
