//! In a build without signed identities: `check` has refused every setting that asks for them.

use super::error::SettingsErrors;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::assertion::AssertionSettings;

/// Whether identities are signed.
pub(super) fn preset(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// A URL or a file with keys.
pub(super) fn keys(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// The names of claims.
pub(super) fn claims(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// What a setting is by default where the preset of this name holds.
pub(super) fn default(_: &str, _: &str) -> Option<&'static str> {
    None
}

/// What the texts say together.
pub(super) fn assertion(_: &[ResolvedSetting], _: &mut SettingsErrors) -> Option<AssertionSettings> {
    None
}
