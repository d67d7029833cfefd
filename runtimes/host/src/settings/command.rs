//! The command line, made from the table of settings.
//!
//! clap formats `--help`. The arguments are parsed here, because clap stops at the first error, and operators should
//! see all of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, ValueHint};

use super::error::{SettingsError, SettingsErrors};
use super::feature::Feature;
use super::model::Program;
use super::names::WORKERS;
use super::setting::Setting;
use super::suggest::suggest;
use super::table::SETTINGS;
use crate::healthcheck::Probe;

/// The request of a command line.
#[derive(Debug)]
pub(super) enum Arguments {
    /// Load the settings.
    Run {
        /// The text of each setting's flag, in the order of the table.
        flags: Vec<Option<String>>,
        /// Their purpose.
        purpose: Purpose,
    },
    /// Print this text and exit.
    Print(String),
}

/// The purpose of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Serve.
    Serve,
    /// Print them.
    PrintConfig,
    /// Probe a process that serves with them.
    Check(Probe),
    /// Check them, and this channels file.
    CheckConfig(Option<PathBuf>),
}

/// Parses the command line, without the name of the program, and adds all errors to `errors`. If it asks for the help
/// or the version, errors do not count.
pub(super) fn parse(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    errors: &mut SettingsErrors,
) -> Arguments {
    let mut words = arguments.into_iter().map(Word::new).peekable();
    // Only the first argument can be the subcommand.
    let subcommand = words.peek().and_then(Subcommand::of);
    if subcommand.is_some() {
        words.next();
    }
    if subcommand == Some(Subcommand::Healthcheck) && !Feature::Control.is_enabled() {
        errors.add(SettingsError::new(format_args!("{HEALTHCHECK}: {}", Feature::Control.lack())));
    }
    let switch = match subcommand {
        None => Some(PRINT_CONFIG),
        Some(Subcommand::Healthcheck) => Some(READY),
        Some(Subcommand::CheckConfig) => None,
    };
    let mut file = None;
    let mut is_switched_on = false;
    let mut flags: Vec<Option<String>> = SETTINGS.iter().map(|_| None).collect();
    while let Some(word) = words.next() {
        let Word { name, value } = word;
        let long = name.strip_prefix("--").unwrap_or_default();
        match (name.as_str(), &value) {
            ("-h" | "--help", None) => {
                return Arguments::Print(command(program, subcommand).render_help().to_string());
            }
            ("-V" | "--version", None) => {
                return Arguments::Print(format!("{} {}\n", program.name, program.version));
            }
            _ if switch == Some(long) || ["help", "version"].contains(&long) => {
                if value.is_some() {
                    errors.add(SettingsError::new(format_args!("{name}: takes no value; write {name}")));
                }
                is_switched_on |= switch == Some(long);
                continue;
            }
            _ => {}
        }
        let Some((index, setting)) =
            SETTINGS.iter().enumerate().find(|(_, setting)| !long.is_empty() && setting.flag() == long)
        else {
            if subcommand == Some(Subcommand::CheckConfig) && !name.starts_with('-') {
                let path = PathBuf::from(Word { name, value }.whole());
                if let Some(first) = file.replace(path) {
                    errors.add(SettingsError::new(format_args!(
                        "{CHECK_CONFIG}: checks one file; leave out {}",
                        first.display()
                    )));
                }
                continue;
            }
            errors.add(unknown(program, &name, subcommand));
            // The next argument is the value of the misspelt flag, not another error.
            if name.starts_with('-') && value.is_none() {
                words.next_if(|next| !next.is_flag());
            }
            continue;
        };
        let value = value.or_else(|| Some(words.next_if(|next| !next.is_flag())?.whole()));
        let error = match (value.map(OsString::into_string), flags.get_mut(index)) {
            (Some(Ok(value)), Some(flag @ None)) => {
                *flag = Some(value);
                continue;
            }
            (Some(Ok(_)), _) => format!("{name}: given twice; leave out one of the two"),
            (Some(Err(_)), _) => {
                format!("{name}: the value is not UTF-8; write it with visible ASCII characters")
            }
            (None, _) => format!("{name}: a value is missing; write {name} <{}>", setting.placeholder),
        };
        errors.add(SettingsError::new(format_args!("{error}")));
    }
    let purpose = match (subcommand, is_switched_on) {
        (Some(Subcommand::Healthcheck), true) => Purpose::Check(Probe::Ready),
        (Some(Subcommand::Healthcheck), false) => Purpose::Check(Probe::Live),
        (Some(Subcommand::CheckConfig), _) => Purpose::CheckConfig(file),
        (None, true) => Purpose::PrintConfig,
        (None, false) => Purpose::Serve,
    };
    Arguments::Run { flags, purpose }
}

/// A request other than to serve, which is the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subcommand {
    Healthcheck,
    CheckConfig,
}

impl Subcommand {
    /// Returns the subcommand that an argument names.
    fn of(word: &Word) -> Option<Subcommand> {
        match word.name.as_str() {
            HEALTHCHECK if word.value.is_none() => Some(Subcommand::Healthcheck),
            CHECK_CONFIG if word.value.is_none() => Some(Subcommand::CheckConfig),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Subcommand::Healthcheck => HEALTHCHECK,
            Subcommand::CheckConfig => CHECK_CONFIG,
        }
    }
}

/// An argument: `--port=8080`, `--port` or `8080`.
#[derive(Debug)]
struct Word {
    /// The text before the first `=`, with bytes that are not UTF-8 replaced.
    name: String,
    /// The text after it.
    value: Option<OsString>,
}

impl Word {
    fn new(argument: OsString) -> Word {
        let bytes = argument.into_vec();
        let Some(at) = bytes.iter().position(|byte| *byte == b'=').filter(|_| bytes.starts_with(b"-")) else {
            return match String::from_utf8(bytes) {
                Ok(name) => Word { name, value: None },
                // A name is always UTF-8, so it is a value.
                Err(error) => {
                    Word { name: String::new(), value: Some(OsString::from_vec(error.into_bytes())) }
                }
            };
        };
        let (name, value) = bytes.split_at(at);
        let value = value.get(1..).unwrap_or_default().to_vec();
        Word { name: String::from_utf8_lossy(name).into_owned(), value: Some(OsString::from_vec(value)) }
    }

    /// Whether it is a flag and cannot be the value of the one before it: `-1` can.
    fn is_flag(&self) -> bool {
        self.name.starts_with("--")
    }

    /// Returns the whole argument.
    fn whole(self) -> OsString {
        match (self.name.is_empty(), self.value) {
            (false, None) => self.name.into(),
            (false, Some(value)) => [OsString::from(self.name), value].join(OsStr::new("=")),
            (true, value) => value.unwrap_or_default(),
        }
    }
}

/// Returns the description of the whole command line, for completions and the manual page. It parses nothing: the programs parse
/// their command lines themselves.
pub fn command_line(program: &Program) -> Command {
    let file = Arg::new("FILE").help("Channels file").value_hint(ValueHint::FilePath);
    let check_config = command(program, Some(Subcommand::CheckConfig))
        .name(CHECK_CONFIG)
        .about("Check the settings and, if there is one, a channels file")
        .arg(file);
    let healthcheck = command(program, Some(Subcommand::Healthcheck))
        .name(HEALTHCHECK)
        .about("Probe the control port of a process that runs with the same settings");
    let healthcheck = Feature::Control.is_enabled().then_some(healthcheck);
    command(program, None).subcommand(check_config).subcommands(healthcheck)
}

/// Describes the command line to clap. The subcommands also accept all settings.
fn command(program: &Program, subcommand: Option<Subcommand>) -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        Arg::new(setting.name)
            .long(setting.flag())
            .value_name(setting.placeholder)
            .help(help(program, setting))
            .help_heading(setting.group)
            // The flag is still parsed, so that the error can say which feature is missing.
            .hide(!setting.is_effective())
            .action(ArgAction::Set)
    });
    let own = match subcommand {
        None => Some(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .help("Print the settings that apply, as an env file, and exit"),
        ),
        Some(Subcommand::Healthcheck) => Some(
            Arg::new(READY).long(READY).help("Check that it is ready for users, not only that it is alive"),
        ),
        Some(Subcommand::CheckConfig) => None,
    };
    let others = [
        Arg::new("help").short('h').long("help").help("Print this and exit").action(ArgAction::Help),
        Arg::new("version")
            .short('V')
            .long("version")
            .help("Print the version and exit")
            .action(ArgAction::Version),
    ];
    Command::new(program.name)
        .version(program.version)
        .about(program.about)
        .override_usage(usage(program))
        .after_help(after_help(program))
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(settings)
        .args(
            own.map(|own| own.action(ArgAction::SetTrue))
                .into_iter()
                .chain(others)
                .map(|other| other.help_heading("Other")),
        )
}

/// Returns the usage of each subcommand in a line.
fn usage(program: &Program) -> String {
    let check = format!("{CHECK_CONFIG} [OPTIONS] [FILE]");
    let health = Feature::Control.is_enabled().then(|| format!("{HEALTHCHECK} [--{READY}] [OPTIONS]"));
    let others = program.commands.iter().map(|command| format!("{} {}", command.name, command.usage));
    let lines = ["[OPTIONS]".to_owned(), check].into_iter().chain(health).chain(others);
    lines.map(|line| format!("{} {line}", program.name)).collect::<Vec<_>>().join("\n       ")
}

/// Returns the paragraphs after the list of settings.
fn after_help(program: &Program) -> String {
    let health = Feature::Control.is_enabled().then_some(HEALTH);
    let others = program.commands.iter().map(|command| command.about);
    let paragraphs = [SYNTAX, CHECK].into_iter().chain(health).chain(others).chain([STARTS]);
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Returns the help of a setting, with its variable and its default.
fn help(program: &Program, setting: &Setting) -> String {
    let ignored = if setting.name == WORKERS && !program.has_workers {
        ";\nfor postern only: this program has one and ignores it"
    } else {
        ""
    };
    let default = if setting.default.is_empty() { "none" } else { &*setting.default };
    format!("{}{ignored}\n[env: {}] [default: {default}]", setting.help, setting.name)
}

/// Returns the error for an argument that is neither a flag nor the value of a flag. `argument` is empty if it is not
/// UTF-8.
fn unknown(program: &Program, argument: &str, subcommand: Option<Subcommand>) -> SettingsError {
    if argument.is_empty() {
        return SettingsError::new(format_args!("an argument is not UTF-8; --help lists the flags"));
    }
    if [HEALTHCHECK, CHECK_CONFIG].contains(&argument)
        || program.commands.iter().any(|command| command.name == argument)
    {
        return SettingsError::new(format_args!("{argument}: must be the first argument"));
    }
    if let Some(subcommand) = subcommand
        && argument.trim_start_matches('-') == PRINT_CONFIG
    {
        return SettingsError::new(format_args!(
            "{argument}: not a flag of {}; leave out one of the two",
            subcommand.name()
        ));
    }
    if CLIENTS.contains(&argument) {
        return SettingsError::new(format_args!(
            "{argument}: this program does not have it; use postern, built with its feature probe"
        ));
    }
    if !argument.starts_with('-') {
        return SettingsError::new(format_args!(
            "{argument}: settings are flags, as in --port 8080; --help lists them"
        ));
    }
    let typed = argument.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let typed = typed.strip_prefix("postern-").unwrap_or(&typed);
    let flags: Vec<String> = SETTINGS.iter().map(Setting::flag).chain([PRINT_CONFIG.to_owned()]).collect();
    let advice =
        suggest(typed, flags.iter().map(String::as_str), |meant| format!("--{meant}"), "--help lists them");
    SettingsError::new(format_args!("{argument}: no such flag; {advice}"))
}

const PRINT_CONFIG: &str = "print-config";
const HEALTHCHECK: &str = "healthcheck";
const CHECK_CONFIG: &str = "check-config";
const READY: &str = "ready";

/// Subcommands of `postern` alone.
const CLIENTS: [&str; 3] = ["probe", "connect", "top"];

const SYNTAX: &str = "\
Flags take precedence over the environment, then a file .env in the working directory,
then the defaults. Lists are separated by commas. Sizes are written as 512B, 64KiB or
1MiB, times as 500ms, 25s, 1m or 1h. Codes below 1000 are HTTP statuses of a refused
upgrade; others are WebSocket close codes.";

const CHECK: &str = "\
check-config checks the settings and, if there is one, the channels file FILE. It prints
what applies and exits with 0, or prints each error with its place and exits with 2.";

const HEALTH: &str = "\
healthcheck probes the control port of a process that runs with the same settings,
prints one line, and exits with 0 or 1.";

const STARTS: &str = "\
SIGUSR2 starts a successor that takes over the listeners; this process drains when the
successor is ready. Listeners in LISTEN_FDS, as systemd passes them, replace those of
POSTERN_LISTEN.

HOST_PORT, which is often in the same .env, belongs to Compose. It is ignored.";
