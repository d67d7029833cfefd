//! The settings that brokers have in common.

use std::path::PathBuf;

use super::error::{SettingsError, SettingsErrors};
use super::setting::ResolvedSetting;
use super::value::{self, ValueError};
use crate::source::{Mode, UrlPlace, UrlText};

/// Checks the URL of a broker, unless it is empty.
pub(super) fn check_url<U: UrlText>(text: &str) -> Result<(), ValueError> {
    if text.is_empty() { Ok(()) } else { U::parse(text).map(drop).map_err(|error| error.to_string().into()) }
}

/// Checks the file that has the URL of a broker, unless its path is empty.
pub(super) fn check_file<U: UrlText>(path: &str) -> Result<(), ValueError> {
    if path.is_empty() {
        return Ok(());
    }
    UrlPlace::<U>::File(path.into()).read().map(drop).map_err(ValueError::from)
}

/// Reads how the nodes share the messages.
pub(super) fn mode(text: &str) -> Result<Mode, ValueError> {
    value::choice(text, &[("shared", Mode::Shared), ("each", Mode::Each)])
}

/// Checks how the nodes share the messages.
pub(super) fn check_mode(text: &str) -> Result<(), ValueError> {
    mode(text).map(drop)
}

/// Returns the URL of a broker, from one of its two settings. Returns `None` without one, and after adding to `errors`.
pub(super) fn place<U: UrlText>(
    chosen: &[ResolvedSetting],
    errors: &mut SettingsErrors,
) -> Option<UrlPlace<U>> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).unwrap_or_default();
    let [setting, file] = U::SETTINGS;
    match (text(setting), text(file)) {
        ("", "") => None,
        ("", path) => Some(UrlPlace::File(PathBuf::from(path))),
        // A text that cannot be parsed was reported when it was checked.
        (url, "") => U::parse(url).ok().map(UrlPlace::Setting),
        (_, path) => {
            let file = find(file)?;
            let complaint = format!("{setting} is set already; leave out one of the two");
            errors.add(SettingsError::value(file.setting, path, file.source, &complaint));
            None
        }
    }
}
