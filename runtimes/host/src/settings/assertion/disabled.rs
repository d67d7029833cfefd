//! In a build without signed identities: `check` has refused every setting that asks for them.

use super::error::SettingsErrors;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::assertion::AssertionSettings;

/// Does not parse a preset.
pub(super) fn preset(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not parse a source of keys.
pub(super) fn keys(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not parse names of claims.
pub(super) fn claims(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Returns no default.
pub(super) fn default(_: &str, _: &str) -> Option<&'static str> {
    None
}

/// Returns no assertion.
pub(super) fn assertion(_: &[ResolvedSetting], _: &mut SettingsErrors) -> Option<AssertionSettings> {
    None
}
