//! Optional features, and the texts that their settings may have in a build without them.

use super::error::SettingsError;
use super::setting::{ResolvedSetting, Setting, Source};
use super::value::boolean;

/// A feature that a build can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Control,
    Assertion,
    Compression,
}

impl Feature {
    /// Returns whether this build has it.
    pub(super) fn is_enabled(self) -> bool {
        match self {
            Feature::Control => cfg!(feature = "control"),
            Feature::Assertion => cfg!(feature = "assertion"),
            Feature::Compression => cfg!(feature = "compression"),
        }
    }

    /// Returns the error for a setting that needs the feature, without what to write instead.
    pub(super) fn lack(self) -> String {
        let (name, cargo_feature) = match self {
            Feature::Control => ("control port", "control"),
            Feature::Assertion => ("signed identities", "assertion"),
            Feature::Compression => ("compression", "compression"),
        };
        format!("this build has no {name}; build it with --features {cargo_feature}")
    }
}

impl Setting {
    /// Returns the default in this build.
    pub(super) fn default_text(&self) -> &str {
        self.without_feature(Feature::is_enabled).unwrap_or(&self.default)
    }

    /// Returns whether the setting has an effect in this build.
    pub(super) fn is_effective(&self) -> bool {
        self.without_feature(Feature::is_enabled).is_none()
    }

    /// Returns the only text that is allowed, if the feature of the setting is disabled.
    fn without_feature(&self, is_enabled: fn(Feature) -> bool) -> Option<&'static str> {
        self.feature.filter(|(feature, _)| !is_enabled(*feature)).map(|(_, without)| without)
    }
}

/// Checks that a setting does not need a feature that this build leaves out.
pub(super) fn check(chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    check_for(Feature::is_enabled, chosen)
}

fn check_for(is_enabled: fn(Feature) -> bool, chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    let ResolvedSetting { setting, text, source } = chosen;
    // A default needs no feature.
    let without = setting.without_feature(is_enabled).filter(|_| *source != Source::Default);
    let Some((without, (feature, _))) = without.zip(setting.feature) else { return Ok(()) };
    if is_same(text, without) {
        return Ok(());
    }
    let instead = match without {
        "" => "leave it out".to_owned(),
        _ => format!("write {}={without}", setting.name),
    };
    let complaint = format!("{}, or {instead}", feature.lack());
    Err(SettingsError::value(setting, text, *source, &complaint))
}

/// Whether two texts mean the same.
fn is_same(text: &str, other: &str) -> bool {
    let means = |text: &str| boolean(text).ok();
    text.eq_ignore_ascii_case(other) || means(text).is_some() && means(text) == means(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::names::{API_KEY, ASSERTION, COMPRESSION, CONTROL};
    use crate::settings::table::SETTINGS;

    fn setting(name: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.name == name).unwrap()
    }

    /// The complaint of a build without any feature.
    fn complaint(name: &str, text: &str, source: Source) -> Option<String> {
        let chosen = ResolvedSetting { setting: setting(name), text: text.to_owned(), source };
        check_for(|_| false, &chosen).err().map(|error| error.to_string())
    }

    #[test]
    fn a_setting_of_a_disabled_feature_is_refused_with_what_to_write_instead() {
        for (name, text, expected) in [
            (
                CONTROL,
                "127.0.0.1:8081",
                "POSTERN_CONTROL=127.0.0.1:8081: this build has no control port; build it with --features \
                 control, or write POSTERN_CONTROL=off",
            ),
            (
                API_KEY,
                "hunter2hunter2hunter2",
                "POSTERN_API_KEY=***: this build has no control port; build it with --features control, or \
                 leave it out",
            ),
            (
                ASSERTION,
                "pomerium",
                "POSTERN_ASSERTION=pomerium: this build has no signed identities; build it with --features \
                 assertion, or write POSTERN_ASSERTION=off",
            ),
            (
                COMPRESSION,
                "on",
                "POSTERN_COMPRESSION=on: this build has no compression; build it with --features \
                 compression, or write POSTERN_COMPRESSION=off",
            ),
        ] {
            assert_eq!(complaint(name, text, Source::Environment).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_setting_that_needs_no_disabled_feature_is_accepted() {
        let mut count = 0;
        for setting in SETTINGS.iter() {
            let Some((_, without)) = setting.feature else { continue };
            count += 1;
            assert_eq!(complaint(setting.name, without, Source::Environment), None, "{setting:?}");
            assert_eq!(complaint(setting.name, "anything", Source::Default), None, "{setting:?}");
            // If the default turns the feature off, it is the same text.
            assert!(setting.name == CONTROL || setting.default == without, "{setting:?}");
        }
        assert_eq!(count, 14);
        assert_eq!(complaint("POSTERN_PATH", "/anything", Source::Environment), None);
        assert_eq!(setting(CONTROL).without_feature(|_| false), Some("off"));
        assert_eq!(setting(CONTROL).without_feature(|_| true), None);
    }
}
