//! In a build without hooks: `check` has refused every setting of them.

use super::error::SettingsErrors;
use super::model::Settings;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::hooks::HookSettings;

/// Does not parse a URL.
pub(super) fn check_url(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not parse secrets.
pub(super) fn check_secrets(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Sends no events.
pub(super) fn hooks(_: &[ResolvedSetting], _: &mut Settings, _: &mut SettingsErrors) -> Option<HookSettings> {
    None
}
