//! The channels file: namespaces and their options, in TOML.
//!
//! ```toml
//! [without_namespace]
//! allow_subscribe_for_client = true
//!
//! [namespaces.auction]
//! subscribe_for = ["auction:*"]
//! history_size = 100
//! history_ttl = "5m"
//! ```
//!
//! All errors of a file are found at once. Each names its place, what is wrong, and what to write instead.

#![expect(clippy::wildcard_enum_match_arm, reason = "values of all other types have the same error")]

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::contradictions::CONTRADICTIONS;
use super::options::{ChannelOptions, OPTIONS, OptionKind, OptionSpec, Words};
use super::patterns::Pattern;
use super::value;
use super::{Namespaces, is_namespace_name};
use crate::channel::{NAMESPACE, PRIVATE};

/// One error in a channels file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The error and its correction, in one line.
    pub complaint: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.complaint)
    }
}

impl std::error::Error for FileError {}

/// Parses a channels file.
///
/// # Errors
/// All errors of the file, at least one, in the order of their places.
pub fn parse(text: &str) -> Result<Namespaces, Vec<FileError>> {
    let mut errors = Errors { text, found: Vec::new() };
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        errors.add(mistake.span().unwrap_or_default(), syntax_error(text, mistake.message()));
    }
    // A table with syntax errors lacks some of its parts, so its content cannot be judged.
    let namespaces =
        if errors.found.is_empty() { read(table.get_ref(), &mut errors) } else { Namespaces::default() };
    if errors.found.is_empty() { Ok(namespaces) } else { Err(errors.sorted()) }
}

/// The errors that have been found in a file.
struct Errors<'t> {
    text: &'t str,
    found: Vec<FileError>,
}

impl Errors<'_> {
    fn add(&mut self, place: Range<usize>, complaint: impl Into<String>) {
        // A place is always on the boundary of a character. An error at the end of the file may be after it.
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        self.found.push(FileError {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            complaint: complaint.into(),
        });
    }

    fn sorted(mut self) -> Vec<FileError> {
        self.found.sort_by_key(|error| (error.line, error.column));
        self.found
    }
}

fn read(file: &DeTable<'_>, errors: &mut Errors<'_>) -> Namespaces {
    let mut without = ChannelOptions::default();
    let mut named = Vec::new();
    for (key, entry) in file {
        match (&**key.get_ref(), entry.get_ref()) {
            (WITHOUT_NAMESPACE, DeValue::Table(table)) => without = options(table, None, errors),
            (NAMESPACES, DeValue::Table(tables)) => {
                for (key, entry) in tables {
                    let name = &**key.get_ref();
                    if !is_namespace_name(name) {
                        errors.add(
                            key.span(),
                            format!(
                                "{name:?} is not a name of a namespace; write at least two letters, digits, -, _ or ."
                            ),
                        );
                    } else if let DeValue::Table(table) = entry.get_ref() {
                        named.push((name.into(), options(table, Some(name), errors)));
                    } else {
                        let is_option = OPTIONS.iter().any(|option| option.name == name);
                        errors.add(
                            key.span(),
                            match is_option {
                                true => {
                                    format!("{name} belongs in a namespace; write it below [namespaces.NAME]")
                                }
                                false => {
                                    format!("namespaces.{name} is not a table; write [namespaces.{name}]")
                                }
                            },
                        );
                    }
                }
            }
            (WITHOUT_NAMESPACE, _) => errors.add(key.span(), "not a table; write [without_namespace]"),
            (NAMESPACES, _) => {
                errors.add(key.span(), "not a table; write [namespaces.NAME] for each namespace")
            }
            (name, _) => errors.add(key.span(), unknown_at_top(name)),
        }
    }
    Namespaces::new(without, named)
}

/// Reads the options of a namespace, or of the channels without one.
fn options(table: &DeTable<'_>, namespace: Option<&str>, errors: &mut Errors<'_>) -> ChannelOptions {
    let mut options = ChannelOptions::default();
    let count = errors.found.len();
    for (key, entry) in table {
        let name = &**key.get_ref();
        match OPTIONS.iter().find(|option| option.name == name) {
            Some(option) => set(&mut options, option, entry, namespace, errors),
            None => errors.add(key.span(), unknown_option(name)),
        }
    }
    // After another error, what seems to contradict an option may be its consequence.
    if errors.found.len() == count {
        for contradiction in CONTRADICTIONS {
            let place = table.keys().find(|key| contradiction.options.contains(&&**key.get_ref()));
            if let Some(key) = place.filter(|_| (contradiction.holds)(&options)) {
                errors.add(key.span(), format!("{} {}", key.get_ref(), contradiction.complaint));
            }
        }
    }
    options
}

/// Sets an option to a value of the file.
fn set(
    options: &mut ChannelOptions,
    option: &OptionSpec,
    entry: &Spanned<DeValue<'_>>,
    namespace: Option<&str>,
    errors: &mut Errors<'_>,
) {
    let name = option.name;
    let result = match option.kind {
        OptionKind::Switch(field) => switch(entry.get_ref()).map(|is_on| *field(options) = is_on),
        OptionKind::Count(field, most) => count(entry.get_ref(), most).map(|count| *field(options) = count),
        OptionKind::Rate(field) => count(entry.get_ref(), MAX_RATE)
            .map(|count| *field(options) = u32::try_from(count).unwrap_or(u32::MAX)),
        OptionKind::Duration(field, most) => match entry.get_ref() {
            DeValue::String(text) => value::duration(text, most),
            DeValue::Integer(number) if digits(number) == Some(0) => Ok(Duration::ZERO),
            DeValue::Integer(number) => {
                Err(format!("a duration is a text with a unit; write for example \"{number}s\""))
            }
            other => Err(not_a("a duration", other, value::DURATIONS)),
        }
        .map(|duration| *field(options) = duration),
        OptionKind::Size(field) => match entry.get_ref() {
            DeValue::String(text) => value::size(text),
            DeValue::Integer(number) => digits(number)
                .filter(|number| *number <= value::MAX_SIZE)
                .ok_or_else(|| format!("{number} is not a size; {}", value::MAXIMUM)),
            other => Err(not_a("a size", other, value::SIZES)),
        }
        .map(|size| *field(options) = size),
        OptionKind::Recovery(field) => word(entry.get_ref()).map(|word| *field(options) = word),
        OptionKind::Format(field) => word(entry.get_ref()).map(|word| *field(options) = word),
        OptionKind::Conflation(field) => word(entry.get_ref()).map(|word| *field(options) = word),
        OptionKind::Slow(field) => word(entry.get_ref()).map(|word| *field(options) = word),
        OptionKind::Deltas(field) => {
            let Some(items) = list(name, entry, "[\"fossil\"]", errors) else { return };
            for item in items {
                match word(item.get_ref()) {
                    Ok(delta) => field(options).push(delta),
                    Err(complaint) => errors.add(item.span(), format!("{name}: {complaint}")),
                }
            }
            return;
        }
        OptionKind::Patterns(field) => {
            let example = format!("[\"{}*\"]", namespace.map(|name| format!("{name}:")).unwrap_or_default());
            let Some(items) = list(name, entry, &example, errors) else { return };
            for item in items {
                match pattern(name, item.get_ref(), namespace) {
                    Ok(pattern) => field(options).push(pattern),
                    Err(complaint) => errors.add(item.span(), format!("{name}: {complaint}")),
                }
            }
            return;
        }
    };
    if let Err(complaint) = result {
        errors.add(entry.span(), format!("{name}: {complaint}"));
    }
}

fn switch(entry: &DeValue<'_>) -> Result<bool, String> {
    match entry {
        DeValue::Boolean(is_on) => Ok(*is_on),
        DeValue::String(text) if text == "true" || text == "false" => {
            Err(format!("a text, not true or false; write {text} without quotation marks"))
        }
        other => Err(not_a("true or false", other, "write true or false")),
    }
}

fn count(entry: &DeValue<'_>, most: usize) -> Result<usize, String> {
    match entry {
        DeValue::Integer(number) => digits(number)
            .filter(|number| *number <= most)
            .ok_or_else(|| format!("{number} is out of range; write a number from 0 to {most}")),
        DeValue::String(text) if text.parse::<usize>().is_ok() => {
            Err(format!("a text, not a number; write {text} without quotation marks"))
        }
        other => Err(not_a("a whole number", other, &format!("write a number from 0 to {most}"))),
    }
}

fn word<T: Words>(entry: &DeValue<'_>) -> Result<T, String> {
    let words = || {
        let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("write {}", words.join(" or "))
    };
    match entry {
        DeValue::String(text) => {
            let found = T::WORDS.iter().find(|(word, _)| word == text);
            found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is not a value; {}", words()))
        }
        other => Err(not_a("a text", other, &words())),
    }
}

/// Returns the items of a list.
fn list<'f, 'i>(
    name: &str,
    entry: &'f Spanned<DeValue<'i>>,
    example: &str,
    errors: &mut Errors<'_>,
) -> Option<&'f DeArray<'i>> {
    let items = entry.get_ref().as_array();
    if items.is_none() {
        errors.add(
            entry.span(),
            format!("{name}: {}", not_a("a list", entry.get_ref(), &format!("write for example {example}"))),
        );
    }
    items
}

/// Returns a pattern, if it can match a channel of the namespace.
fn pattern(option: &str, entry: &DeValue<'_>, namespace: Option<&str>) -> Result<Pattern, String> {
    let DeValue::String(text) = entry else {
        return Err(not_a("a text", entry, "write a pattern such as \"auction:*\""));
    };
    let pattern = Pattern::parse(text).map_err(|error| format!("{text:?} {}", error.complaint()))?;
    let public = text.strip_prefix(PRIVATE).unwrap_or(text);
    if public.len() < text.len() && option == "subscribe_for" {
        return Err(format!(
            "{text:?} begins with $; private channels need a subscription token, so leave it out"
        ));
    }
    match (namespace, public.split_once(NAMESPACE)) {
        (Some(namespace), Some((front, _))) if front == namespace => Ok(pattern),
        (Some(namespace), _) => {
            Err(format!("{text:?} matches no channel of this namespace; begin it with \"{namespace}:\""))
        }
        (None, Some((front, _))) if is_namespace_name(front) => Err(format!(
            "{text:?} matches no channel without a namespace; write it below [namespaces.{front}]"
        )),
        (None, Some(_)) => {
            Err(format!("{text:?} matches no channel without a namespace, because of its colon"))
        }
        (None, None) => Ok(pattern),
    }
}

/// Returns a whole number without a sign. `None` if it is negative or too large.
fn digits(number: &DeInteger<'_>) -> Option<usize> {
    usize::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok()
}

fn not_a(expected: &str, entry: &DeValue<'_>, advice: &str) -> String {
    let found = match entry {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("{found} instead of {expected}; {advice}")
}

/// Returns the complaint about a syntax error.
fn syntax_error(text: &str, message: &str) -> String {
    if text.trim_start().starts_with('{') {
        return "the file is not TOML; a namespace begins with a line such as [namespaces.auction]"
            .to_owned();
    }
    // The text of the library is one line, unless it repeats a part of the file.
    let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("not TOML: {message}")
}

fn unknown_at_top(name: &str) -> String {
    if OPTIONS.iter().any(|option| option.name == name) {
        return format!(
            "{name} belongs in a namespace; write it below [without_namespace] or [namespaces.NAME]"
        );
    }
    match nearest(name, [WITHOUT_NAMESPACE, NAMESPACES]) {
        Some(meant) => format!("{name:?} is unknown; did you mean {meant}?"),
        None => format!("{name:?} is unknown; the tables are [without_namespace] and [namespaces.NAME]"),
    }
}

fn unknown_option(name: &str) -> String {
    if let Some((_, advice)) =
        MISSING.iter().find(|(prefix, _)| name.starts_with(prefix) || name.ends_with(prefix))
    {
        return format!("{name:?} is not an option of Postern; {advice}");
    }
    match nearest(name, OPTIONS.iter().map(|option| option.name)) {
        Some(meant) => format!("{name:?} is unknown; did you mean {meant}?"),
        None => format!("{name:?} is unknown; docs/channels.md lists the options"),
    }
}

/// Returns the name that is nearest to a misspelt one.
fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    // A very long text is not a misspelt name, and would take long to compare.
    if typed.len() > 64 {
        return None;
    }
    let slips = (typed.chars().count() / 3).max(1);
    let by_distance = names.into_iter().map(|name| (strsim::osa_distance(&typed, name), name));
    by_distance
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

const WITHOUT_NAMESPACE: &str = "without_namespace";
const NAMESPACES: &str = "namespaces";

/// The maximum of a rate for each second.
const MAX_RATE: usize = 1_000_000;

/// Parts of the names of options of Centrifugo that Postern does not have, and what to do instead.
const MISSING: &[(&str, &str)] = &[
    ("_for_anonymous", "every user has an id, so leave it out"),
    ("_anonymous", "every user has an id, so leave it out"),
    ("channel_regex", "patterns in subscribe_for and publish_for limit the names"),
    ("subscribe_proxy", "leave it out"),
    ("publish_proxy", "leave it out"),
    ("sub_refresh_proxy", "leave it out"),
    ("map_", "leave it out"),
    ("shared_poll", "leave it out"),
];

#[cfg(test)]
mod tests;
