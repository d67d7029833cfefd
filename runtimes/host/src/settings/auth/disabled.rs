//! The stub for builds without the feature `assertion`, which refuse these settings.

use std::time::Duration;

use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::checker::AuthSettings;

/// Accepts any text: the setting is refused because of the feature.
pub(super) fn check_url(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Returns no service.
pub(super) fn auth(_: &[ResolvedSetting], _: Duration) -> Option<AuthSettings> {
    None
}
