//! In a build without RabbitMQ: `check` has refused every setting of it.

use super::error::SettingsErrors;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::source::AmqpSettings;

/// Does not parse a URL.
pub(super) fn check_url(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not read a file.
pub(super) fn check_file(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not check a name.
pub(super) fn check_name(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Does not parse a number.
pub(super) fn check_prefetch(_: &str) -> Result<(), ValueError> {
    Ok(())
}

/// Receives no messages.
pub(super) fn amqp(_: &[ResolvedSetting], _: &mut SettingsErrors) -> Option<AmqpSettings> {
    None
}
