//! The parts that a build may lack, and what the settings of a part say where it is lacking.

use super::error::SettingsError;
use super::secret::{API_KEY, API_KEY_FILE};
use super::sources::{Chosen, Source};
use super::table::{
    ASSERTION, ASSERTION_AUDIENCE, ASSERTION_EMAIL_CLAIM, ASSERTION_HEADER, ASSERTION_ID_CLAIM,
    ASSERTION_ISSUER, ASSERTION_JWKS, ASSERTION_JWKS_INSECURE, ASSERTION_NAME_CLAIM, COMPRESSION,
    COMPRESSION_MIN, CONTROL, Setting,
};
use super::value::boolean;

/// A part that can be left out.
#[derive(Debug)]
pub(super) struct Part {
    /// The Cargo feature that it is.
    feature: &'static str,
    /// What it is, behind `this build has no`.
    name: &'static str,
    is_here: bool,
    /// Its settings, and what each of them says if the part is not there.
    settings: &'static [(&'static str, &'static str)],
}

/// The port for operators, which `healthcheck` asks.
pub(super) const CONTROL_PORT: Part = Part {
    feature: "control",
    name: "control port",
    is_here: cfg!(feature = "control"),
    settings: &[(CONTROL, "off"), (API_KEY, ""), (API_KEY_FILE, "")],
};

const PARTS: [Part; 3] = [
    CONTROL_PORT,
    Part {
        feature: "assertion",
        name: "signed identities",
        is_here: cfg!(feature = "assertion"),
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
    Part {
        feature: "compression",
        name: "compression",
        is_here: cfg!(feature = "compression"),
        settings: &[(COMPRESSION, "off"), (COMPRESSION_MIN, "64B")],
    },
];

impl Part {
    /// What is to be said to whoever asks for it, unless it is there.
    pub(super) fn lack(&self) -> Option<String> {
        let Part { feature, name, .. } = self;
        (!self.is_here).then(|| format!("this build has no {name}; build it with --features {feature}"))
    }

    /// Looks at one setting: it may say what the part's absence means, and nothing else.
    fn check(&self, chosen: &Chosen) -> Result<(), SettingsError> {
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

/// Checks that a setting does not ask for a part that this build lacks.
pub(super) fn check(chosen: &Chosen) -> Result<(), SettingsError> {
    check_for(&PARTS, chosen)
}

fn check_for(parts: &[Part], chosen: &Chosen) -> Result<(), SettingsError> {
    // A default asks for nothing.
    if chosen.source == Source::Default {
        return Ok(());
    }
    parts.iter().try_for_each(|part| part.check(chosen))
}

/// What a setting says in this build if nobody says anything.
pub(super) fn default(setting: &Setting) -> &'static str {
    without(&PARTS, setting).unwrap_or(setting.default)
}

/// Whether this build can obey the setting.
pub(super) fn obeys(setting: &Setting) -> bool {
    without(&PARTS, setting).is_none()
}

/// What a setting says because its part is not there. `None` if it is.
fn without(parts: &[Part], setting: &Setting) -> Option<&'static str> {
    let mut settings = parts.iter().filter(|part| !part.is_here).flat_map(|part| part.settings);
    settings.find(|(name, _)| *name == setting.name).map(|(_, without)| *without)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::SETTINGS;

    /// The same parts, of a build that has none of them.
    fn absent() -> [Part; 3] {
        PARTS.map(|part| Part { is_here: false, ..part })
    }

    fn said(name: &str, text: &str) -> Chosen {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        Chosen { setting, text: text.to_owned(), source: Source::Environment }
    }

    fn complaint(name: &str, text: &str) -> Option<String> {
        check_for(&absent(), &said(name, text)).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_lacking_is_named_with_what_to_write_instead() {
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
    fn who_asks_for_nothing_that_is_lacking_is_let_through() {
        for (name, text) in PARTS.iter().flat_map(|part| part.settings) {
            assert_eq!(complaint(name, text), None, "{name}={text}");
            let default = Chosen { source: Source::Default, ..said(name, "anything") };
            assert_eq!(check_for(&absent(), &default), Ok(()), "{name}");
        }
        assert_eq!(complaint("POSTERN_PATH", "/anything"), None);
        assert_eq!(check_for(&PARTS, &said(CONTROL, "127.0.0.1:1")), Ok(()), "the part is there");
    }

    #[test]
    fn what_holds_without_a_part_is_its_absence() {
        let setting = |name| SETTINGS.iter().find(|setting| setting.name == name).copied().unwrap();
        assert_eq!(without(&absent(), setting(CONTROL)), Some("off"));
        assert_eq!(without(&PARTS, setting(CONTROL)), None);
        assert_eq!(default(setting(CONTROL)), "127.0.0.1:8081");
        assert!(obeys(setting(CONTROL)));
        // Where a part's default is its absence, it is the same text.
        for (name, without) in PARTS.iter().flat_map(|part| part.settings) {
            assert!(*name == CONTROL || setting(name).default == *without, "{name}");
        }
    }
}
