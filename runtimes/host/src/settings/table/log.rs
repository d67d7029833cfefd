//! Log: what is logged, and how.

use slog::Level;

use crate::log::{EmailLog, LogFormat, MessageLog, Stall};
use crate::settings::names::*;
use crate::settings::setting::{Setting, choice, optional_size, value_at};
use crate::settings::value::{self, GIB, ValueError};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        value_at(
            LOG_LEVEL,
            "LEVEL",
            |settings| &mut settings.log.level,
            level,
            |level| LEVELS.iter().find(|(_, known)| known == level).map_or("", |(word, _)| word).to_owned(),
            "trace, debug, info, warn, error or critical. Connections and\nmessages are info, refusals are warn",
        ),
        value_at(
            "LOG_FORMAT",
            "FORMAT",
            |settings| &mut settings.log.format,
            format,
            |format| {
                FORMATS.iter().find(|(_, known)| known == format).map_or("", |(word, _)| word).to_owned()
            },
            "term, or json with one object per line",
        ),
        choice(
            LOG_MESSAGES,
            |settings| &mut settings.log.messages,
            &[
                ("full", MessageLog::Full),
                ("truncated", MessageLog::Truncated),
                ("size", MessageLog::Size),
                ("off", MessageLog::Off),
            ],
            "How much of each message is logged: full, truncated (256 bytes),\n\
             size, or off. Messages are personal data in most cases",
        ),
        choice(
            "POSTERN_LOG_EMAIL",
            |settings| &mut settings.log.email,
            &[("full", EmailLog::Full), ("masked", EmailLog::Masked), ("off", EmailLog::Off)],
            "How e-mail addresses are logged: full, masked (j***@e***.com),\nor off",
        ),
        optional_size(
            LOG_QUEUE,
            |settings| &mut settings.log_queue,
            64 * 1024..=GIB,
            "The size of the queue for standard output. 0 is 8MiB, or 1/32 of\n\
             the memory if that is less",
        ),
        choice(
            "POSTERN_LOG_STALL",
            |settings| &mut settings.log.stall,
            &[("drop", Stall::Drop), ("pause", Stall::Pause)],
            "What to do when standard output stalls and the queue is full: drop\n\
             discards records and logs how many; pause stops reading messages\n\
             until the queue has room",
        ),
    ]
}

/// Parses a level by its name, or by a name that other programs have for it.
fn level(text: &str) -> Result<Level, ValueError> {
    let known = match text.to_ascii_lowercase().as_str() {
        "verbose" => "debug",
        "information" | "informational" | "notice" => "info",
        "warning" => "warn",
        "err" => "error",
        "crit" | "fatal" | "panic" | "alert" | "emerg" | "emergency" => "critical",
        _ => text,
    };
    value::choice(known, LEVELS)
}

/// Parses a format by its name, or by a name that other programs have for it.
fn format(text: &str) -> Result<LogFormat, ValueError> {
    let known = match text.to_ascii_lowercase().as_str() {
        "text" | "plain" | "console" | "pretty" => "term",
        _ => text,
    };
    value::choice(known, FORMATS)
}

const LEVELS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warning),
    ("error", Level::Error),
    ("critical", Level::Critical),
];

const FORMATS: &[(&str, LogFormat)] = &[("term", LogFormat::Term), ("json", LogFormat::Json)];
