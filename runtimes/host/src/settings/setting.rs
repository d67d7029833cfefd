//! One setting: its name, its default, its help, and the function that reads its text.
//!
//! A constructor for each kind of value makes them. Where the value has a place in [`Settings`], the default is what
//! [`Settings::default`] has there, so that each default is written once.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::feature::Feature;
use super::model::Settings;
use super::names::{
    ALLOWED_ORIGINS, ASSERTION_ISSUER, ASSERTION_JWKS, AUTH_URL, HOOK_URL, PREFIX, REDIS_URL, TOKEN_ISSUER,
    TOKEN_JWKS,
};
use super::net;
use super::value::{self, OFF, ValueError};
use crate::url;

/// One setting.
pub(super) struct Setting {
    /// The name in the environment and in `.env`. The flag is derived from it.
    pub(super) name: &'static str,
    /// The placeholder of the value in `--help`.
    pub(super) placeholder: &'static str,
    /// The text that applies if no other is given. It may refer to a setting earlier in the table, as `$PORT` does.
    pub(super) default: Cow<'static, str>,
    /// The heading in `--help`.
    pub(super) group: &'static str,
    /// Whether the value must not be shown.
    pub(super) is_secret: bool,
    /// The feature without which the setting has no effect, and the text that is allowed in a build without it.
    pub(super) feature: Option<(Feature, &'static str)>,
    /// The effect of the setting, in lines of at most 66 characters.
    pub(super) help: &'static str,
    /// Reads a text into the settings, or returns what is wrong with it.
    pub(super) apply: Apply,
}

/// Reads a text into the settings.
pub(super) type Apply = Box<dyn Fn(&mut Settings, &str) -> Result<(), ValueError> + Send + Sync>;

/// The field of the settings that holds a value.
pub(super) type Place<T> = fn(&mut Settings) -> &mut T;

impl Setting {
    /// Returns the flag without its dashes: `POSTERN_MAX_HEAD` is `max-head`, `LOG_LEVEL` is `log-level`.
    pub(super) fn flag(&self) -> String {
        let name = self.name.strip_prefix(PREFIX).unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }

    /// Returns the value as it may be printed: without a secret.
    pub(super) fn show<'t>(&self, value: &'t str) -> Cow<'t, str> {
        if self.is_secret && !value.is_empty() { Cow::Borrowed("***") } else { self.public(value) }
    }

    /// Returns a text that contains the value, without the user, the password and the query of a URL.
    pub(super) fn public<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let is_url = URLS.contains(&self.name) || text.contains("://");
        if is_url { url::redact_url(text) } else { Cow::Borrowed(text) }
    }

    /// Returns the default in this build.
    pub(super) fn default_text(&self) -> &str {
        self.without_feature(Feature::is_enabled).unwrap_or(&self.default)
    }

    /// Returns whether the setting has an effect in this build.
    pub(super) fn is_effective(&self) -> bool {
        self.without_feature(Feature::is_enabled).is_none()
    }

    /// Returns the only text that is allowed, if the feature of the setting is disabled.
    pub(super) fn without_feature(&self, is_enabled: fn(Feature) -> bool) -> Option<&'static str> {
        self.feature.filter(|(feature, _)| !is_enabled(*feature)).map(|(_, without)| without)
    }

    /// Sets the placeholder.
    pub(super) fn placeholder(mut self, placeholder: &'static str) -> Setting {
        self.placeholder = placeholder;
        self
    }

    /// Sets the default, if it is not what [`Settings::default`] has.
    pub(super) fn default(mut self, default: &'static str) -> Setting {
        self.default = default.into();
        self
    }

    /// Marks the value as a secret.
    pub(super) fn secret(mut self) -> Setting {
        self.is_secret = true;
        self
    }

    /// Makes the setting depend on a feature. A build without it allows only the text `without`.
    pub(super) fn needs(mut self, feature: Feature, without: &'static str) -> Setting {
        self.feature = Some((feature, without));
        self
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Creates a setting whose text has no single place, with its default.
pub(super) fn text(
    name: &'static str,
    placeholder: &'static str,
    default: &'static str,
    apply: fn(&mut Settings, &str) -> Result<(), ValueError>,
    help: &'static str,
) -> Setting {
    new(name, placeholder, default.into(), help, Box::new(apply))
}

/// Creates a setting whose value `read` reads and `show` writes.
// A table of 20 settings would contain 20 copies of this code.
#[inline(never)]
pub(super) fn value_at<T: 'static>(
    name: &'static str,
    placeholder: &'static str,
    place: Place<T>,
    read: impl Fn(&str) -> Result<T, ValueError> + Send + Sync + 'static,
    show: impl Fn(&T) -> String,
    help: &'static str,
) -> Setting {
    let default = show(place(&mut Settings::default())).into();
    let apply = move |settings: &mut Settings, text: &str| {
        *place(settings) = read(text)?;
        Ok(())
    };
    new(name, placeholder, default, help, Box::new(apply))
}

fn new(
    name: &'static str,
    placeholder: &'static str,
    default: Cow<'static, str>,
    help: &'static str,
    apply: Apply,
) -> Setting {
    Setting { name, placeholder, default, group: "", is_secret: false, feature: None, help, apply }
}

/// Creates a setting of a number of bytes.
pub(super) fn size(
    name: &'static str,
    place: Place<usize>,
    range: RangeInclusive<usize>,
    help: &'static str,
) -> Setting {
    let read = move |text: &str| value::size(text, range.clone());
    value_at(name, "SIZE", place, read, |size| value::show_size(*size), help)
}

/// Creates a setting of a whole number.
pub(super) fn count(
    name: &'static str,
    place: Place<usize>,
    range: RangeInclusive<usize>,
    help: &'static str,
) -> Setting {
    value_at(name, "N", place, move |text| value::count(text, range.clone()), usize::to_string, help)
}

/// Creates a setting of a whole number of 32 bits.
pub(super) fn number(
    name: &'static str,
    place: Place<u32>,
    range: RangeInclusive<u32>,
    help: &'static str,
) -> Setting {
    value_at(name, "N", place, move |text| value::number(text, range.clone()), u32::to_string, help)
}

/// Creates a setting of a whole number, or 0 for `None`.
pub(super) fn optional_count(
    name: &'static str,
    place: Place<Option<NonZeroUsize>>,
    most: usize,
    help: &'static str,
) -> Setting {
    let read = move |text: &str| value::count(text, 0..=most).map(NonZeroUsize::new);
    value_at(name, "N", place, read, show_optional, help)
}

/// Creates a setting of a number of bytes within a range, or 0 for `None`.
pub(super) fn optional_size(
    name: &'static str,
    place: Place<Option<NonZeroUsize>>,
    range: RangeInclusive<usize>,
    help: &'static str,
) -> Setting {
    let read = move |text: &str| match value::size(text, 0..=*range.end())? {
        0 => Ok(None),
        _ => value::size(text, range.clone()).map(NonZeroUsize::new),
    };
    value_at(name, "SIZE", place, read, show_optional, help)
}

/// Creates a setting of a time that is more than zero.
pub(super) fn duration(name: &'static str, place: Place<Duration>, help: &'static str) -> Setting {
    value_at(name, "TIME", place, value::duration, show_seconds, help)
}

/// Creates a setting of a time, or 0 for a limit that is off.
pub(super) fn duration_or_off(name: &'static str, place: Place<Duration>, help: &'static str) -> Setting {
    value_at(name, "TIME", place, value::duration_or_off, show_seconds, help)
}

/// Creates a setting that is `true` or `false`.
pub(super) fn boolean(name: &'static str, place: Place<bool>, help: &'static str) -> Setting {
    value_at(name, "true|false", place, value::boolean, bool::to_string, help)
}

/// Creates a setting that is one of several words.
pub(super) fn choice<T: Copy + PartialEq + Send + Sync + 'static>(
    name: &'static str,
    place: Place<T>,
    choices: &'static [(&'static str, T)],
    help: &'static str,
) -> Setting {
    let read = |text: &str| value::choice(text, choices);
    let show = |value: &T| {
        let word = choices.iter().find(|(_, choice)| choice == value).map(|(word, _)| *word);
        word.unwrap_or_default().to_owned()
    };
    value_at(name, "HOW", place, read, show, help)
}

/// Creates a setting of the name of a header.
pub(super) fn header(name: &'static str, place: Place<String>, help: &'static str) -> Setting {
    value_at(name, "HEADER", place, net::header_name, String::clone, help)
}

/// Creates a setting of the name of a header, or `off`.
pub(super) fn optional_header(name: &'static str, place: Place<String>, help: &'static str) -> Setting {
    value_at(name, "HEADER", place, net::optional_header, |header| show_optional_header(header), help)
}

pub(super) fn show_optional_header(header: &str) -> String {
    if header.is_empty() { OFF } else { header }.to_owned()
}

fn show_optional(number: &Option<NonZeroUsize>) -> String {
    number.map_or(0, NonZeroUsize::get).to_string()
}

/// Defaults are whole seconds: 60s, not 1m.
fn show_seconds(duration: &Duration) -> String {
    format!("{}s", duration.as_secs())
}

/// The settings whose values are URLs, even without a scheme.
const URLS: [&str; 8] = [
    ASSERTION_ISSUER,
    ASSERTION_JWKS,
    AUTH_URL,
    HOOK_URL,
    REDIS_URL,
    TOKEN_ISSUER,
    TOKEN_JWKS,
    ALLOWED_ORIGINS,
];

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Environment,
    /// A line of `.env`. The first line has the number 1.
    DotEnv {
        line: usize,
    },
    Default,
}

impl Source {
    /// Returns the beginning of an error, before the name of the setting.
    pub(super) fn place(self) -> String {
        match self {
            Source::DotEnv { line } => format!(".env line {line}: "),
            Source::Flag | Source::Environment | Source::Default => String::new(),
        }
    }
}

/// A setting with the text that applies.
#[derive(Debug, Clone)]
pub(super) struct ResolvedSetting {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) source: Source,
}
