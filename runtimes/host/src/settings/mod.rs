//! Settings: what an operator writes, checked, and the plan for this host that follows from it.
//!
//! * `names`, `setting`, `table`: every setting with its default, its help, and the function that reads its text.
//!   `--help`, `--print-config`, the known names and the values come from this table.
//! * `value`, `net`, `secret`, `preset`, `assertion`, `tokens`, `auth`, `hooks`, `source`, `tls`: the kinds of values.
//! * `command`, `sources`, `links`: flags, the environment and `.env`.
//! * `feature`, `check`, `error`, `hints`, `suggest`: what is wrong, and what to write instead.
//! * `model`: the values as they were written, [`Settings`].
//! * `plan`: what applies on this host, [`Plan`]; `warnings` and `print` show it.

#[cfg_attr(not(feature = "amqp"), path = "amqp/disabled.rs")]
mod amqp;
#[cfg_attr(not(feature = "assertion"), path = "assertion/disabled.rs")]
mod assertion;
#[cfg_attr(not(feature = "assertion"), path = "auth/disabled.rs")]
mod auth;
mod check;
mod command;
mod error;
mod feature;
mod hints;
#[cfg_attr(not(feature = "hooks"), path = "hooks/disabled.rs")]
mod hooks;
mod links;
mod loaded;
mod model;
mod names;
#[cfg_attr(not(feature = "nats"), path = "nats/disabled.rs")]
mod nats;
mod net;
mod plan;
mod preset;
mod print;
mod secret;
mod setting;
mod source;
mod sources;
mod suggest;
mod table;
mod tls;
#[cfg_attr(not(feature = "assertion"), path = "tokens/disabled.rs")]
mod tokens;
mod value;
mod warnings;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::process;

use postern_channels::namespaces::Namespaces;

use crate::channels_file;
use crate::healthcheck::{self, Probe};
use crate::source::SourceSettings;
use command::{Arguments, Purpose};
use setting::{ResolvedSetting, Source};

pub use command::command_line;
pub use error::{SettingsError, SettingsErrors};
pub use loaded::LoadedSettings;
pub use model::{
    ChannelSettings, Command, ControlSettings, EngineSettings, Program, ServedAtPath, Settings, TlsFiles,
};
pub use plan::{Host, Plan, SharedParts};
pub(crate) use secret::SecretFile;

pub use warnings::Warning;

/// The request of the command line.
#[derive(Debug)]
pub enum Outcome {
    /// Serve.
    Start(Box<LoadedSettings>),
    /// Probe a process that serves with these settings.
    Check(Box<LoadedSettings>, Probe),
    /// Print the settings.
    PrintConfig(Box<LoadedSettings>),
    /// Print that the settings are valid, with their warnings, and what this channels file contains.
    CheckConfig(Box<LoadedSettings>, Option<Namespaces>),
    /// Print this text, which ends in a line feed: `--help`, `--version`.
    Print(String),
}

/// Reads the settings of this process from flags, the environment, `.env` in the working directory, and defaults, in this
/// order of precedence. Raises the limit of open files, and resolves what depends on the host.
///
/// Ends the process with 0 after `--help`, `--version`, `--print-config` and `check-config`, with 0 or 1 after `healthcheck`, and
/// with 2 and a line on standard error for each setting that cannot be used.
pub fn load_or_exit(program: &Program) -> Plan {
    let plan = |loaded: &LoadedSettings| Plan::resolve(program, loaded, &Host::detect());
    let (text, code) = match load(program, std::env::args_os().skip(1), std::env::vars_os(), read_dotenv) {
        Ok(Outcome::Start(loaded)) => return plan(&loaded),
        Ok(Outcome::Check(loaded, probe)) => match healthcheck::run(loaded.settings.control.address, probe) {
            Ok(line) => (format!("{line}\n"), 0),
            Err(error) => (format!("{error}\n"), 1),
        },
        Ok(Outcome::PrintConfig(loaded)) => (print::config(&loaded.texts, &plan(&loaded)), 0),
        Ok(Outcome::CheckConfig(loaded, file)) => (print::check(&plan(&loaded), file.as_ref()), 0),
        Ok(Outcome::Print(text)) => (text, 0),
        Err(errors) => {
            errors.iter().for_each(|error| program.print_error(error));
            process::exit(2)
        }
    };
    // The reader may have closed the pipe, as `postern --help | head -1` does. The exit code still counts.
    let _ = io::stdout().write_all(text.as_bytes());
    process::exit(code)
}

/// Reads settings from the given sources. It does not depend on the process.
///
/// `arguments` come without the name of the program. `dotenv` reads `.env`; it returns `None` if there is no such file.
///
/// # Errors
/// All settings that cannot be used: unknown flags, unknown names that begin with `POSTERN_`, lines of `.env` that are not
/// `NAME=value`, values that their settings do not accept, and settings that contradict each other. For `check-config`, also
/// the errors of the channels file.
pub fn load(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    dotenv: impl FnOnce() -> io::Result<Option<String>>,
) -> Result<Outcome, SettingsErrors> {
    let mut errors = SettingsErrors::default();
    let (flags, purpose) = match command::parse(program, arguments, &mut errors) {
        Arguments::Run { flags, purpose } => (flags, purpose),
        Arguments::Print(text) => return Ok(Outcome::Print(text)),
    };
    let (environment, links) = sources::environment(environment, &mut errors);
    let dotenv = sources::dotenv(dotenv(), &mut errors);
    let texts = sources::choose(flags, &environment, &dotenv);
    let mut settings = Settings::default();
    for chosen in &texts {
        let ResolvedSetting { setting, text, source } = chosen;
        let result = check::check_feature(chosen).and_then(|()| {
            (setting.apply)(&mut settings, text)
                .map_err(|complaint| SettingsError::value(setting, text, *source, &complaint))
        });
        // A default is valid, unless it repeats a setting that is not.
        if *source != Source::Default || errors.is_empty() {
            errors.note(result);
        }
    }
    check::check(&settings, &texts, &mut errors);
    settings.assertion = assertion::assertion(&texts, &mut errors);
    settings.channels.tokens = tokens::tokens(&texts, &mut errors);
    settings.hooks = hooks::hooks(&texts, &mut settings, &mut errors);
    let hooks = channels_file::check_hooks(&settings.channels.namespaces, settings.hooks.is_some());
    if let Err(error) = hooks
        && errors.is_empty()
        && let Some(chosen) = texts.iter().find(|chosen| chosen.setting.name == names::CHANNELS_FILE)
    {
        errors.add(SettingsError::value(chosen.setting, &chosen.text, chosen.source, &error));
    }
    settings.source = SourceSettings {
        amqp: amqp::amqp(&texts, &mut errors),
        nats: nats::nats(&texts, settings.session.max_message, &mut errors),
    };
    settings.engine.tls = tls::files(&texts, tls::REDIS, &mut errors);
    settings.auth = auth::auth(&texts, settings.auth_cache);
    check::check_tokens(&settings, &texts, &mut errors);
    let mut namespaces = None;
    if let Purpose::CheckConfig(Some(path)) = &purpose {
        match channels_file::read(path) {
            Ok(found) => {
                if let Err(error) = channels_file::check_hooks(&found, settings.hooks.is_some()) {
                    errors.add(SettingsError::new(format_args!("{}: {error}", path.display())));
                }
                namespaces = Some(found);
            }
            Err(found) => {
                let shown = path.display();
                found
                    .iter()
                    .for_each(|error| errors.add(SettingsError::new(format_args!("{shown}: {error}"))))
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let loaded = Box::new(LoadedSettings { settings, texts, repeated: dotenv.repeated, links });
    Ok(match purpose {
        Purpose::Serve => Outcome::Start(loaded),
        Purpose::PrintConfig => Outcome::PrintConfig(loaded),
        Purpose::Check(probe) => Outcome::Check(loaded, probe),
        Purpose::CheckConfig(_) => Outcome::CheckConfig(loaded, namespaces),
    })
}

fn read_dotenv() -> io::Result<Option<String>> {
    match fs::read_to_string(".env") {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
