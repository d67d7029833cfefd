//! The settings of RabbitMQ as a source, which are interpreted together.

use std::path::PathBuf;

use super::error::{SettingsError, SettingsErrors};
use super::names::{
    AMQP_DEAD_LETTER, AMQP_EXCHANGE, AMQP_MODE, AMQP_PREFETCH, AMQP_QUEUE, AMQP_URL, AMQP_URL_FILE,
};
use super::setting::ResolvedSetting;
use super::tls;
use super::value::{self, ValueError, is_off};
use crate::source::{BrokerUrl, Mode, SourceSettings, UrlPlace};

/// Checks the URL of the broker.
pub(super) fn check_url(text: &str) -> Result<(), ValueError> {
    BrokerUrl::parse(text).map(drop).map_err(|error| error.to_string().into())
}

/// Checks the file that has the URL of the broker.
pub(super) fn check_file(path: &str) -> Result<(), ValueError> {
    UrlPlace::File(path.into()).read().map(drop).map_err(ValueError::from)
}

/// Reads how the nodes share the messages.
fn mode(text: &str) -> Result<Mode, ValueError> {
    value::choice(text, &[("shared", Mode::Shared), ("each", Mode::Each)])
}

/// Checks how the nodes share the messages.
pub(super) fn check_mode(text: &str) -> Result<(), ValueError> {
    mode(text).map(drop)
}

/// Checks the name of an exchange or a queue.
pub(super) fn check_name(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(format!("a name must have 1 to {MAX_NAME} bytes and no control characters").into());
    }
    Ok(())
}

/// Reads the number of messages that are not acknowledged.
fn prefetch(text: &str) -> Result<u16, ValueError> {
    let count = value::count(text, 1..=usize::from(u16::MAX))?;
    Ok(u16::try_from(count).unwrap_or(u16::MAX))
}

/// Checks the number of messages that are not acknowledged.
pub(super) fn check_prefetch(text: &str) -> Result<(), ValueError> {
    prefetch(text).map(drop)
}

/// Interprets the texts together. Each is valid alone. Returns `None` if there is no broker, or after adding to `errors`.
pub(super) fn source(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) -> Option<SourceSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).unwrap_or_default();
    let url = match (text(AMQP_URL), text(AMQP_URL_FILE)) {
        ("", "") => return None,
        ("", path) => UrlPlace::File(PathBuf::from(path)),
        // A text that cannot be parsed was reported when it was checked.
        (url, "") => UrlPlace::Setting(BrokerUrl::parse(url).ok()?),
        (_, path) => {
            let file = find(AMQP_URL_FILE)?;
            let complaint = "POSTERN_AMQP_URL is set already; leave out one of the two";
            errors.add(SettingsError::value(file.setting, path, file.source, complaint));
            return None;
        }
    };
    let dead_letter = text(AMQP_DEAD_LETTER);
    Some(SourceSettings {
        url,
        tls: tls::files(chosen, tls::AMQP, errors),
        mode: mode(text(AMQP_MODE)).ok()?,
        exchange: text(AMQP_EXCHANGE).to_owned(),
        queue: text(AMQP_QUEUE).to_owned(),
        prefetch: prefetch(text(AMQP_PREFETCH)).ok()?,
        dead_letter: (!is_off(dead_letter)).then(|| dead_letter.to_owned()),
    })
}

/// The longest name, in bytes. AMQP allows 255; with `each` the name of the node is added.
const MAX_NAME: usize = 127;
