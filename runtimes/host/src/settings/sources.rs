//! The sources of values: flags, then the environment, then `.env`, then the defaults.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::SocketAddr;

use super::error::{SettingsError, SettingsErrors};
use super::hints;
use super::links::Links;
use super::names::{ASSERTION, CONTROL, IDENTITY, LISTEN, PREFIX};
use super::setting::{ResolvedSetting, Setting, Source};
use super::suggest::suggest;
use super::table::SETTINGS;
use super::{assertion, net, preset};
use crate::lifecycle::successor::VARIABLE;
use crate::listen::Address;

/// The settings in `.env`.
#[derive(Debug, Default)]
pub(super) struct DotEnv {
    /// The values by name, each with its line.
    values: HashMap<String, (String, usize)>,
    /// Names that are set twice, each with both lines. The last one applies.
    pub(super) repeated: Vec<(&'static str, usize, usize)>,
}

/// Chooses a text for each setting, in the order of the table. `flags` has one entry for each.
///
/// An empty text in the environment or in `.env` is ignored: Compose and shells write `NAME=` for a name that is not
/// set. A default may refer to an earlier setting, as `$PORT` does.
pub(super) fn choose(
    flags: Vec<Option<String>>,
    environment: &HashMap<String, String>,
    dotenv: &DotEnv,
) -> Vec<ResolvedSetting> {
    let mut chosen: Vec<ResolvedSetting> = Vec::with_capacity(SETTINGS.len());
    for (setting, flag) in SETTINGS.iter().zip(flags) {
        let is_said = |text: &String| !text.trim().is_empty();
        let (text, source) = if let Some(text) = flag {
            (text, Source::Flag)
        } else if let Some(text) = environment.get(setting.name).filter(|text| is_said(text)) {
            (text.clone(), Source::Environment)
        } else if let Some((text, line)) = dotenv.values.get(setting.name).filter(|(text, _)| is_said(text)) {
            (text.clone(), Source::DotEnv { line: *line })
        } else {
            (default(setting, &chosen), Source::Default)
        };
        chosen.push(ResolvedSetting { setting, text: text.trim().to_owned(), source });
    }
    chosen
}

/// Reads the settings from the environment. Also returns the names of [links](Links), which are not settings.
///
/// An unknown name with our prefix is an error, because it would have no effect. A value that is not UTF-8 is also an
/// error.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    errors: &mut SettingsErrors,
) -> (HashMap<String, String>, Vec<String>) {
    let (mut ours, mut links) = (HashMap::new(), Vec::new());
    // In a fixed order, so that the same mistakes give the same lines.
    let mut variables: Vec<_> = variables.into_iter().collect();
    variables.sort();
    let texts = variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let of_links = Links::among(texts);
    for (name, value) in variables {
        // Names of settings are ASCII, so a name that is not UTF-8 belongs to another program.
        let Ok(name) = name.into_string() else { continue };
        if name == VARIABLE {
            // A process sets it for its successor; it is not a setting.
            continue;
        }
        if name.starts_with(PREFIX) && value.to_str().is_some_and(|value| of_links.has(&name, value)) {
            links.push(name);
            continue;
        }
        errors.note(check_known(&name, Source::Environment));
        if setting(&name).is_none() {
            continue;
        }
        match value.into_string() {
            Ok(value) => _ = ours.insert(name, value),
            Err(_) => errors.add(SettingsError::new(format_args!(
                "{name}: the value is not UTF-8; write it with visible ASCII characters"
            ))),
        }
    }
    (ours, links)
}

/// Reads the settings from `.env`. There may be no such file.
///
/// A file that cannot be read, a line that is not `NAME=value`, and an unknown name with our prefix are errors.
pub(super) fn dotenv(file: io::Result<Option<String>>, errors: &mut SettingsErrors) -> DotEnv {
    let mut ours = DotEnv::default();
    let text = match file {
        Ok(Some(text)) => text,
        Ok(None) => return ours,
        Err(error) => {
            errors.add(SettingsError::new(format_args!("cannot read .env: {}", hints::file(&error))));
            return ours;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // dotenvy treats a last line that ends in a space as unfinished, unless a line feed follows.
    let text = format!("{text}\n");
    let delivered = Cell::new(0);
    let mut entries = dotenvy::from_read_iter(Lines { rest: text.as_bytes(), delivered: &delivered });
    loop {
        let before = delivered.get();
        let Some(entry) = entries.next() else { break };
        let line = first_line_of_entry(&text, before);
        // The error of dotenvy quotes the line, which may contain a secret, so only its number is reported.
        let Ok((name, value)) = entry else {
            errors.add(SettingsError::new(format_args!(
                ".env line {line}: not NAME=value; a value with spaces needs quotation marks around it, and each \
                 quotation mark its partner"
            )));
            continue;
        };
        errors.note(check_known(&name, Source::DotEnv { line }));
        let Some(setting) = setting(&name) else { continue };
        // As in a shell, the last one applies.
        if let Some((_, earlier)) = ours.values.insert(name, (value, line)) {
            ours.repeated.push((setting.name, earlier, line));
        }
    }
    ours
}

/// Returns the number of the line at which an entry begins, if `before` lines were read before it: blank lines and
/// comments are not entries.
fn first_line_of_entry(text: &str, before: usize) -> usize {
    let is_entry = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    before + 1 + text.lines().skip(before).position(is_entry).unwrap_or_default()
}

/// A reader that delivers a text line by line and counts the lines.
struct Lines<'t> {
    rest: &'t [u8],
    delivered: &'t Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |end| end + 1);
        let count = self.rest.get(..line).unwrap_or_default().read(buffer)?;
        let (taken, rest) = self.rest.split_at(count);
        self.delivered.set(self.delivered.get() + usize::from(taken.ends_with(b"\n")));
        self.rest = rest;
        Ok(count)
    }
}

/// Checks that a name with our prefix is a setting.
fn check_known(name: &str, source: Source) -> Result<(), SettingsError> {
    let has_prefix = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if !has_prefix || setting(name).is_some() {
        return Ok(());
    }
    let typed = name.get(PREFIX.len()..).unwrap_or_default();
    let short = |full: &'static str| full.strip_prefix(PREFIX).unwrap_or(full);
    let names = SETTINGS.iter().map(|setting| short(setting.name));
    // `PORT` has no prefix, but may be meant.
    let full = |meant: &str| {
        let settings = SETTINGS.iter().map(|setting| setting.name);
        settings.into_iter().find(|full| short(full) == meant).unwrap_or_default().to_owned()
    };
    let advice = suggest(typed, names, full, "--help lists them");
    Err(SettingsError::new(format_args!("{}{name}: no such setting; {advice}", source.place())))
}

/// Returns the default: from the preset of the identity headers or of the assertion, or from the table.
fn default(setting: &Setting, chosen: &[ResolvedSetting]) -> String {
    if setting.name == CONTROL
        && let Some(address) = default_control(chosen)
    {
        return address;
    }
    let text =
        |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name).map(|chosen| &*chosen.text);
    let of_identity = text(IDENTITY).and_then(|preset| preset::default(preset, setting.name));
    let of_preset =
        of_identity.or_else(|| text(ASSERTION).and_then(|preset| assertion::default(preset, setting.name)));
    match of_preset {
        Some(text) => text.to_owned(),
        None => refer(setting.default_text(), chosen),
    }
}

/// Returns the default address of the control port if a data listener has its usual port: the next port that is not
/// taken. So a process with `PORT=8081` and no other setting starts.
fn default_control(chosen: &[ResolvedSetting]) -> Option<String> {
    let listen = chosen.iter().find(|chosen| chosen.setting.name == LISTEN)?;
    let addresses = net::addresses(&listen.text).ok()?;
    let is_taken = |port: u16| {
        addresses.iter().any(|address| matches!(address, Address::Tcp(tcp) if tcp.port() == port))
    };
    let default: SocketAddr = net::control(setting(CONTROL)?.default_text()).ok()??;
    is_taken(default.port()).then_some(())?;
    let port = (default.port()..=u16::MAX).find(|port| !is_taken(*port))?;
    Some(SocketAddr::new(default.ip(), port).to_string())
}

fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns the default of the table, with the texts of the settings that it refers to.
fn refer(default: &str, chosen: &[ResolvedSetting]) -> String {
    let replace = |text: String, chosen: &ResolvedSetting| {
        text.replace(&format!("${}", chosen.setting.name), &chosen.text)
    };
    if default.contains('$') { chosen.iter().fold(default.to_owned(), replace) } else { default.to_owned() }
}
