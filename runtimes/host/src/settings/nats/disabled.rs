//! In a build without NATS: `check` has refused every setting of it.

use super::error::SettingsErrors;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::source::NatsSettings;

/// Does not parse a URL.
pub(super) fn check_url(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not read a file.
pub(super) fn check_file(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not check a subject.
pub(super) fn check_subject(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not check a name.
pub(super) fn check_queue(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Receives no messages.
pub(super) fn nats(_: &[ResolvedSetting], _: usize, _: &mut SettingsErrors) -> Option<NatsSettings> {
    None
}
