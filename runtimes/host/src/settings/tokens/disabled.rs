//! In a build without signed identities: `check` has refused every setting of tokens except for the secret, which is ignored.

use super::error::SettingsErrors;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::assertion::TokenSettings;

/// Does not parse a source of keys.
pub(super) fn keys(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Accepts no token.
pub(super) fn tokens(_: &[ResolvedSetting], _: &mut SettingsErrors) -> Option<TokenSettings> {
    None
}
