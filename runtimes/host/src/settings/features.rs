//! Optional features, and the values that their settings may have in a build without them.

use super::error::SettingsError;
use super::secret::{API_KEY, API_KEY_FILE};
use super::sources::{ResolvedSetting, Source};
use super::table::{
    ASSERTION, ASSERTION_AUDIENCE, ASSERTION_EMAIL_CLAIM, ASSERTION_HEADER, ASSERTION_ID_CLAIM,
    ASSERTION_ISSUER, ASSERTION_JWKS, ASSERTION_JWKS_INSECURE, ASSERTION_NAME_CLAIM, COMPRESSION,
    COMPRESSION_MIN, CONTROL, Setting,
};
use super::value::boolean;

/// A feature that a build can leave out.
#[derive(Debug)]
pub(super) struct Feature {
    /// The name of the Cargo feature.
    cargo_feature: &'static str,
    /// The name in errors, after `this build has no`.
    name: &'static str,
    is_enabled: bool,
    /// Its settings, each with the value that it has in a build without the feature.
    settings: &'static [(&'static str, &'static str)],
}

/// The control port, which `healthcheck` connects to.
pub(super) const CONTROL_PORT: Feature = Feature {
    cargo_feature: "control",
    name: "control port",
    is_enabled: cfg!(feature = "control"),
    settings: &[(CONTROL, "off"), (API_KEY, ""), (API_KEY_FILE, "")],
};

const FEATURES: [Feature; 3] = [
    CONTROL_PORT,
    Feature {
        cargo_feature: "assertion",
        name: "signed identities",
        is_enabled: cfg!(feature = "assertion"),
        settings: &[
            (ASSERTION, "off"),
            (ASSERTION_HEADER, ""),
            (ASSERTION_ISSUER, ""),
            (ASSERTION_AUDIENCE, ""),
            (ASSERTION_JWKS, ""),
            (ASSERTION_JWKS_INSECURE, "false"),
            (ASSERTION_ID_CLAIM, "sub"),
            (ASSERTION_EMAIL_CLAIM, "email"),
            (ASSERTION_NAME_CLAIM, "name,preferred_username"),
        ],
    },
    Feature {
        cargo_feature: "compression",
        name: "compression",
        is_enabled: cfg!(feature = "compression"),
        settings: &[(COMPRESSION, "off"), (COMPRESSION_MIN, "64B")],
    },
];

impl Feature {
    /// The error for a setting that needs the feature. `None` if this build has it.
    pub(super) fn lack(&self) -> Option<String> {
        let Feature { cargo_feature, name, .. } = self;
        (!self.is_enabled)
            .then(|| format!("this build has no {name}; build it with --features {cargo_feature}"))
    }

    /// Checks one setting of a feature that is left out: only the value that means so is allowed.
    fn check(&self, chosen: &ResolvedSetting) -> Result<(), SettingsError> {
        let Some(lack) = self.lack() else { return Ok(()) };
        let own = self.settings.iter().find(|(name, _)| *name == chosen.setting.name);
        let Some((name, without)) = own.filter(|(_, without)| !is_same(&chosen.text, without)) else {
            return Ok(());
        };
        let instead =
            if without.is_empty() { "leave it out".to_owned() } else { format!("write {name}={without}") };
        let complaint = format!("{lack}, or {instead}");
        Err(SettingsError::value(chosen.setting, &chosen.text, chosen.source, &complaint))
    }
}

/// Whether two texts mean the same.
fn is_same(text: &str, other: &str) -> bool {
    let means = |text: &str| boolean(text).ok();
    text.eq_ignore_ascii_case(other) || means(text).is_some() && means(text) == means(other)
}

/// Checks that a setting does not need a feature that this build leaves out.
pub(super) fn check(chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    check_for(&FEATURES, chosen)
}

fn check_for(features: &[Feature], chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    // Defaults need no feature.
    if chosen.source == Source::Default {
        return Ok(());
    }
    features.iter().try_for_each(|feature| feature.check(chosen))
}

/// The setting's default in this build.
pub(super) fn default(setting: &Setting) -> &'static str {
    without(&FEATURES, setting).unwrap_or(setting.default)
}

/// Whether the setting has an effect in this build.
pub(super) fn obeys(setting: &Setting) -> bool {
    without(&FEATURES, setting).is_none()
}

/// The value of a setting whose feature is left out. `None` if this build has the feature.
fn without(features: &[Feature], setting: &Setting) -> Option<&'static str> {
    let mut settings =
        features.iter().filter(|feature| !feature.is_enabled).flat_map(|feature| feature.settings);
    settings.find(|(name, _)| *name == setting.name).map(|(_, without)| *without)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::SETTINGS;

    /// The same features, of a build that has none of them.
    fn disabled() -> [Feature; 3] {
        FEATURES.map(|feature| Feature { is_enabled: false, ..feature })
    }

    fn said(name: &str, text: &str) -> ResolvedSetting {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        ResolvedSetting { setting, text: text.to_owned(), source: Source::Environment }
    }

    fn complaint(name: &str, text: &str) -> Option<String> {
        check_for(&disabled(), &said(name, text)).err().map(|error| error.to_string())
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
                "POSTERN_API_KEY=***: this build has no control port; build it with --features \
                 control, or leave \
                 it out",
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
            assert_eq!(complaint(name, text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_setting_that_needs_no_disabled_feature_is_accepted() {
        for (name, text) in FEATURES.iter().flat_map(|feature| feature.settings) {
            assert_eq!(complaint(name, text), None, "{name}={text}");
            let default = ResolvedSetting { source: Source::Default, ..said(name, "anything") };
            assert_eq!(check_for(&disabled(), &default), Ok(()), "{name}");
        }
        assert_eq!(complaint("POSTERN_PATH", "/anything"), None);
        assert_eq!(check_for(&FEATURES, &said(CONTROL, "127.0.0.1:1")), Ok(()), "the feature is enabled");
    }

    #[test]
    fn the_default_of_a_disabled_feature_turns_it_off() {
        let setting = |name| SETTINGS.iter().find(|setting| setting.name == name).copied().unwrap();
        assert_eq!(without(&disabled(), setting(CONTROL)), Some("off"));
        assert_eq!(without(&FEATURES, setting(CONTROL)), None);
        assert_eq!(default(setting(CONTROL)), "127.0.0.1:8081");
        assert!(obeys(setting(CONTROL)));
        // If the default of a setting turns its feature off, it is the same text.
        for (name, without) in FEATURES.iter().flat_map(|feature| feature.settings) {
            assert!(*name == CONTROL || setting(name).default == *without, "{name}");
        }
    }
}
