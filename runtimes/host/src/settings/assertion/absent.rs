//! In a build without signed identities: `parts` lets nothing through to here but that there are none.

use super::error::SettingsErrors;
use super::sources::Chosen;
use super::value::Complaint;
use crate::assertion::AssertionSettings;

/// Whether identities are signed.
pub(super) fn preset(_: &str) -> Result<(), Complaint> {
    Ok(())
}

/// A URL or a file with keys.
pub(super) fn keys(_: &str) -> Result<(), Complaint> {
    Ok(())
}

/// The names of claims.
pub(super) fn claims(_: &str) -> Result<(), Complaint> {
    Ok(())
}

/// What a setting is by default where the preset of this name holds.
pub(super) fn default(_: &str, _: &str) -> Option<&'static str> {
    None
}

/// What the texts say together.
pub(super) fn assertion(_: &[Chosen], _: &mut SettingsErrors) -> Option<AssertionSettings> {
    None
}
