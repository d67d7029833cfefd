//! The settings of NATS as a source, which are interpreted together.

use super::error::SettingsErrors;
use super::names::{NATS_MODE, NATS_QUEUE, NATS_SUBJECT};
use super::setting::ResolvedSetting;
use super::source::{self, mode, place};
use super::tls;
use super::value::ValueError;
use crate::source::{MAX_QUEUE, MAX_SUBJECT, NatsSettings, NatsUrl};

/// Checks the URL of the server.
pub(super) fn check_url(text: &str) -> Result<(), ValueError> {
    source::check_url::<NatsUrl>(text)
}

/// Checks the file that has the URL of the server.
pub(super) fn check_file(path: &str) -> Result<(), ValueError> {
    source::check_file::<NatsUrl>(path)
}

/// Checks the beginning of the subjects.
pub(super) fn check_subject(text: &str) -> Result<(), ValueError> {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_plain);
    if text.len() > MAX_SUBJECT || !text.split('.').all(is_part) {
        return Err(format!(
            "a subject must have 1 to {MAX_SUBJECT} visible ASCII characters without * and >, and no empty part between dots"
        )
        .into());
    }
    Ok(())
}

/// Checks the name of the queue group.
pub(super) fn check_queue(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || text.len() > MAX_QUEUE || !text.bytes().all(is_plain) {
        return Err(
            format!("a name must have 1 to {MAX_QUEUE} visible ASCII characters without * and >").into()
        );
    }
    Ok(())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>')
}

/// Interprets the texts together. Each is valid alone. `max_payload` is the most bytes of a message. Returns `None` without a URL,
/// and after adding to `errors`.
pub(super) fn nats(
    chosen: &[ResolvedSetting],
    max_payload: usize,
    errors: &mut SettingsErrors,
) -> Option<NatsSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).unwrap_or_default();
    let url = place::<NatsUrl>(chosen, errors)?;
    Some(NatsSettings {
        url,
        tls: tls::files(chosen, tls::NATS, errors),
        mode: mode(text(NATS_MODE)).ok()?,
        subject: text(NATS_SUBJECT).to_owned(),
        queue: text(NATS_QUEUE).to_owned(),
        max_payload,
    })
}
