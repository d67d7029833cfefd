//! Where values come from: flags, then the environment, then `.env`, then the defaults.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;

use super::error::SettingsError;
use super::near::nearest;
use super::table::{CONTROL, IDENTITY, LISTEN, SETTINGS, Setting};
use super::{net, parts, preset};
use crate::listen::Address;
use crate::successor::VARIABLE;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Environment,
    DotEnv,
    Default,
}

/// A setting with the text that holds.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) source: Source,
}

/// Chooses a text for each setting, in the order of the table. `flags` has one entry for each.
///
/// An empty text in the environment or in `.env` counts as none: Compose and shells write `NAME=` for a name
/// that is not set. A default may refer to a setting before it, as `$PORT`.
pub(super) fn choose(
    flags: Vec<Option<String>>,
    environment: &HashMap<String, String>,
    dotenv: &HashMap<String, String>,
) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Vec::with_capacity(SETTINGS.len());
    for (setting, flag) in SETTINGS.iter().copied().zip(flags) {
        let set_in = |names: &HashMap<String, String>| {
            names.get(setting.name).filter(|text| !text.trim().is_empty()).cloned()
        };
        let (text, source) = if let Some(text) = flag {
            (text, Source::Flag)
        } else if let Some(text) = set_in(environment) {
            (text, Source::Environment)
        } else if let Some(text) = set_in(dotenv) {
            (text, Source::DotEnv)
        } else {
            (default(setting, &chosen), Source::Default)
        };
        chosen.push(Chosen { setting, text: text.trim().to_owned(), source });
    }
    chosen
}

/// Takes what is ours from the environment.
///
/// # Errors
/// A name with our prefix that is no setting: whoever writes it believes that it has an effect. A value that is
/// not UTF-8.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<HashMap<String, String>, SettingsError> {
    let mut ours = HashMap::new();
    for (name, value) in variables {
        // Names of settings are ASCII; what cannot be text is somebody else's.
        let Ok(name) = name.into_string() else { continue };
        if name == VARIABLE {
            // A process says it to its successor; it is nobody's setting.
            continue;
        }
        check_known(&name, "")?;
        if is_setting(&name) {
            let value = value
                .into_string()
                .map_err(|_| SettingsError::new(format_args!("{name}: the value is not UTF-8")))?;
            ours.insert(name, value);
        }
    }
    Ok(ours)
}

/// Takes what is ours from `.env`, of which there may be none.
///
/// # Errors
/// The file cannot be read or is no env file; a name with our prefix that is no setting.
pub(super) fn dotenv(file: io::Result<Option<String>>) -> Result<HashMap<String, String>, SettingsError> {
    let text = match file {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(HashMap::new()),
        Err(error) => return Err(SettingsError::new(format_args!("cannot read .env: {}", error.kind()))),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // A last line that ends in a space is taken for an unfinished one, unless it has an end.
    let text = format!("{text}\n");
    let mut ours = HashMap::new();
    let mut last = None;
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        // The error quotes the line, which may hold a secret; so the line is named by the one before it.
        let Ok((name, value)) = line else {
            let place =
                last.map_or("its first line".to_owned(), |name| format!("the line behind that of {name}"));
            return Err(SettingsError::new(format_args!(
                "cannot read .env: {place} is not NAME=value; a value with spaces needs quotes"
            )));
        };
        check_known(&name, ".env: ")?;
        if is_setting(&name) {
            // As in a shell, the last one holds.
            ours.insert(name.clone(), value);
        }
        last = Some(name);
    }
    Ok(ours)
}

fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == name)
}

/// `place` is where the name stands.
fn check_known(name: &str, place: &str) -> Result<(), SettingsError> {
    let Some(typed) = name.strip_prefix(PREFIX) else { return Ok(()) };
    if is_setting(name) {
        return Ok(());
    }
    let ours = SETTINGS.iter().filter_map(|setting| setting.name.strip_prefix(PREFIX));
    Err(match nearest(typed, ours) {
        Some(meant) => {
            SettingsError::new(format_args!("{place}{name}: no such setting; did you mean {PREFIX}{meant}?"))
        }
        None => SettingsError::new(format_args!("{place}{name}: no such setting; --help lists them")),
    })
}

/// What holds if nobody says anything: what the preset of the identity headers says, or the table.
fn default(setting: &Setting, chosen: &[Chosen]) -> String {
    if setting.name == CONTROL
        && let Some(address) = default_control(chosen)
    {
        return address;
    }
    let identity = chosen.iter().find(|chosen| chosen.setting.name == IDENTITY);
    match identity.and_then(|identity| preset::default(&identity.text, setting.name)) {
        Some(header) => header.to_owned(),
        None => refer(parts::default(setting), chosen),
    }
}

/// The default address of the control port if a data listener has its port: the next port that no data listener has.
/// An instance with `PORT=8081` and no other setting starts.
fn default_control(chosen: &[Chosen]) -> Option<String> {
    let listen = chosen.iter().find(|chosen| chosen.setting.name == LISTEN)?;
    let addresses = net::addresses(&listen.text).ok()?;
    let is_taken = |port: u16| {
        addresses.iter().any(|address| matches!(address, Address::Tcp(tcp) if tcp.port() == port))
    };
    let default: SocketAddr = net::control(parts::default(setting(CONTROL)?)).ok()??;
    is_taken(default.port()).then_some(())?;
    let port = (default.port()..=u16::MAX).find(|port| !is_taken(*port))?;
    Some(SocketAddr::new(default.ip(), port).to_string())
}

fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().copied().find(|setting| setting.name == name)
}

/// The default of the table, with the texts of the settings that it refers to.
fn refer(default: &str, chosen: &[Chosen]) -> String {
    let replace =
        |text: String, chosen: &Chosen| text.replace(&format!("${}", chosen.setting.name), &chosen.text);
    if default.contains('$') { chosen.iter().fold(default.to_owned(), replace) } else { default.to_owned() }
}

/// What our own names begin with. `PORT`, `LOG_LEVEL` and `LOG_FORMAT` are shared with others.
pub(super) const PREFIX: &str = "POSTERN_";
