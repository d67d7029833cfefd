//! The settings of RabbitMQ as a source, which are interpreted together.

use super::error::SettingsErrors;
use super::names::{AMQP_DEAD_LETTER, AMQP_EXCHANGE, AMQP_MODE, AMQP_PREFETCH, AMQP_QUEUE};
use super::setting::ResolvedSetting;
use super::source::{self, mode, place};
use super::tls;
use super::value::{self, ValueError, is_off};
use crate::source::{AmqpSettings, BrokerUrl};

/// Checks the URL of the broker.
pub(super) fn check_url(text: &str) -> Result<(), ValueError> {
    source::check_url::<BrokerUrl>(text)
}

/// Checks the file that has the URL of the broker.
pub(super) fn check_file(path: &str) -> Result<(), ValueError> {
    source::check_file::<BrokerUrl>(path)
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

/// Interprets the texts together. Each is valid alone. Returns `None` without a URL, and after adding to `errors`.
pub(super) fn amqp(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) -> Option<AmqpSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).unwrap_or_default();
    let url = place::<BrokerUrl>(chosen, errors)?;
    let dead_letter = text(AMQP_DEAD_LETTER);
    Some(AmqpSettings {
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
