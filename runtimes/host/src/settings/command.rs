//! The command line, made from the table of settings.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::Program;
use super::error::SettingsError;
use super::near::nearest;
use super::parts::{self, CONTROL_PORT};
use super::table::{SETTINGS, Setting, WORKERS};
use crate::healthcheck::Probe;

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Arguments {
    /// To do something with the settings.
    Run {
        /// The text of each setting's flag, in the order of the table.
        flags: Vec<Option<String>>,
        /// What for.
        purpose: Purpose,
    },
    /// To print this and end.
    Print(String),
}

/// What settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve.
    Serve,
    /// To show them.
    PrintConfig,
    /// To ask who serves with them.
    Check(Probe),
}

/// Reads the command line, without the name of the program.
///
/// # Errors
/// What is wrong with it first.
pub(super) fn parse(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, SettingsError> {
    let mut arguments = arguments.into_iter().peekable();
    // One word, and only at the front: clap's subcommands would give every stray word the same look.
    let is_check = arguments.next_if(|argument| argument == HEALTHCHECK).is_some();
    if is_check && let Some(lack) = CONTROL_PORT.lack() {
        return Err(SettingsError::new(format_args!("{HEALTHCHECK}: {lack}")));
    }
    match command(program, is_check).try_get_matches_from(arguments) {
        Ok(matches) => Ok(Arguments::Run {
            flags: SETTINGS.iter().map(|setting| matches.get_one::<String>(setting.name).cloned()).collect(),
            purpose: match is_check {
                true if matches.get_flag(READY) => Purpose::Check(Probe::Ready),
                true => Purpose::Check(Probe::Live),
                false if matches.get_flag(PRINT_CONFIG) => Purpose::PrintConfig,
                false => Purpose::Serve,
            },
        }),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Arguments::Print(error.render().to_string()))
        }
        Err(error) => Err(complaint(&error)),
    }
}

/// `is_check` is for `healthcheck`, which knows all settings, too.
fn command(program: &Program, is_check: bool) -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        Arg::new(setting.name)
            .long(setting.flag())
            .value_name(setting.placeholder)
            .help(help(program, setting))
            .help_heading(setting.group.title())
            // It is known all the same, so that whoever writes it hears why it is not there.
            .hide(!parts::obeys(setting))
            .action(ArgAction::Set)
    });
    let own = if is_check {
        Arg::new(READY).long(READY).help("Ask whether it should be sent more users, not whether it lives")
    } else {
        Arg::new(PRINT_CONFIG)
            .long(PRINT_CONFIG)
            .help("Print the settings that hold, as an env file, and end")
    };
    let others = [
        own.action(ArgAction::SetTrue),
        Arg::new("help").short('h').long("help").help("Print this and end").action(ArgAction::Help),
        Arg::new("version")
            .short('V')
            .long("version")
            .help("Print the version and end")
            .action(ArgAction::Version),
    ];
    Command::new(program.name)
        .version(program.version)
        .about(program.about)
        .override_usage(match CONTROL_PORT.lack() {
            None => format!(
                "{name} [OPTIONS]\n       {name} {HEALTHCHECK} [--{READY}] [OPTIONS]",
                name = program.name
            ),
            Some(_) => format!("{} [OPTIONS]", program.name),
        })
        .after_help(match CONTROL_PORT.lack() {
            None => format!("{SYNTAX}\n\n{HEALTH}\n\n{STARTS}"),
            Some(_) => format!("{SYNTAX}\n\n{STARTS}"),
        })
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(settings)
        .args(others.map(|other| other.help_heading("Other")))
}

/// The help of a setting, with its other name and its default.
fn help(program: &Program, setting: &Setting) -> String {
    let ignored = if setting.name == WORKERS && !program.has_workers {
        ";\nfor postern alone: this program has one, and ignores it"
    } else {
        ""
    };
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    format!("{}{ignored}\n[env: {}] [default: {default}]", setting.help, setting.name)
}

/// The first thing that is wrong with the command line, in one line.
fn complaint(error: &clap::Error) -> SettingsError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // With the placeholder behind it where it is known: `--port <PORT>`.
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    #[expect(clippy::wildcard_enum_match_arm, reason = "most kinds are of things that our flags do not have")]
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => unknown(flag),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            SettingsError::new(format_args!("{argument}: no such flag; --help lists them"))
        }
        ErrorKind::UnknownArgument => SettingsError::new(format_args!(
            "{argument}: settings are flags, as in --port 8080; --help lists them"
        )),
        ErrorKind::InvalidValue => {
            SettingsError::new(format_args!("{flag}: a value is missing; write {argument}"))
        }
        ErrorKind::ArgumentConflict => SettingsError::new(format_args!("{flag}: given twice")),
        ErrorKind::TooManyValues => SettingsError::new(format_args!("{flag}: takes no value")),
        ErrorKind::InvalidUtf8 => SettingsError::new(format_args!("an argument is not UTF-8")),
        // Clap's own words, without its colours and further lines.
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            SettingsError::new(format_args!("{}", line.trim_start_matches("error: ")))
        }
    }
}

fn unknown(flag: &str) -> SettingsError {
    let flags: Vec<String> =
        SETTINGS.iter().copied().map(Setting::flag).chain([PRINT_CONFIG.to_owned()]).collect();
    match nearest(flag.trim_start_matches('-'), flags.iter().map(String::as_str)) {
        Some(meant) => SettingsError::new(format_args!("{flag}: no such flag; did you mean --{meant}?")),
        None => SettingsError::new(format_args!("{flag}: no such flag; --help lists them")),
    }
}

const PRINT_CONFIG: &str = "print-config";
const HEALTHCHECK: &str = "healthcheck";
const READY: &str = "ready";

const SYNTAX: &str = "\
Flags come first, then the environment, then a file .env in the working directory,
then the defaults. Lists have commas between their items; sizes are written as 512B,
64KiB or 1MiB, times as 500ms, 25s, 1m or 1h. Codes are those of HTTP before the
upgrade, and of WebSocket closes after it.";

const HEALTH: &str = "\
healthcheck asks a Postern that runs with the same settings, at its control port,
whether it lives, prints one line, and ends with 0 or 1.";

const STARTS: &str = "\
SIGUSR2 starts a successor that takes the listeners over, and drains this process once
that one serves. LISTEN_FDS, as systemd sets it, brings listeners that hold in place of
POSTERN_LISTEN.

HOST_PORT and JWT_SECRET, which often stand in the same .env, belong to Compose and to
the Identity service; they are left alone.";
