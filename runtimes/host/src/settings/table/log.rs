//! Log: what is logged, and how.

use slog::Level;

use super::{Group, Setting, set};
use crate::log::{EmailLog, LogFormat, MessageLog, Stall};
use crate::settings::value::{GIB, ValueError, choice, size};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "LOG_LEVEL",
        placeholder: "LEVEL",
        default: "info",
        group: Group::Log,
        is_secret: false,
        help: "trace, debug, info, warn, error or critical; connections and\nmessages are info, refusals are warn",
        apply: |settings, text| set(&mut settings.log.level, level(text)),
    },
    Setting {
        name: "LOG_FORMAT",
        placeholder: "FORMAT",
        default: "term",
        group: Group::Log,
        is_secret: false,
        help: "term, or json with one object a line",
        apply: |settings, text| set(&mut settings.log.format, format(text)),
    },
    Setting {
        name: "POSTERN_LOG_MESSAGES",
        placeholder: "HOW",
        default: "truncated",
        group: Group::Log,
        is_secret: false,
        help: "What is logged of each message: full, truncated (256 bytes),\nsize, or off. Messages are personal data in most cases",
        apply: |settings, text| {
            let choices = [
                ("full", MessageLog::Full),
                ("truncated", MessageLog::Truncated),
                ("size", MessageLog::Size),
                ("off", MessageLog::Off),
            ];
            set(&mut settings.log.messages, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_LOG_EMAIL",
        placeholder: "HOW",
        default: "full",
        group: Group::Log,
        is_secret: false,
        help: "What is logged of e-mail addresses: full, masked (j***@e***.com),\nor off",
        apply: |settings, text| {
            let choices = [("full", EmailLog::Full), ("masked", EmailLog::Masked), ("off", EmailLog::Off)];
            set(&mut settings.log.email, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_LOG_QUEUE",
        placeholder: "SIZE",
        default: "0",
        group: Group::Log,
        is_secret: false,
        help: "How much may wait for standard output; 0 is 8MiB, or the\n\
               32nd part of the least limit on this process if that is less",
        apply: |settings, text| set(&mut settings.log.queue, queue(text)),
    },
    Setting {
        name: "POSTERN_LOG_STALL",
        placeholder: "HOW",
        default: "drop",
        group: Group::Log,
        is_secret: false,
        help: "What happens when standard output takes nothing and the queue is\n\
               full: drop loses records and logs how many; pause reads no\n\
               more messages until there is room again",
        apply: |settings, text| {
            let choices = [("drop", Stall::Drop), ("pause", Stall::Pause)];
            set(&mut settings.log.stall, choice(text, &choices))
        },
    },
];

/// A level by its name, or by one that other programs have for it.
fn level(text: &str) -> Result<Level, ValueError> {
    let known = match text.to_ascii_lowercase().as_str() {
        "verbose" => "debug",
        "information" | "informational" | "notice" => "info",
        "warning" => "warn",
        "err" => "error",
        "crit" | "fatal" | "panic" | "alert" | "emerg" | "emergency" => "critical",
        _ => text,
    };
    choice(known, LEVELS)
}

/// A format by its name, or by one that other programs have for it.
fn format(text: &str) -> Result<LogFormat, ValueError> {
    let known = match text.to_ascii_lowercase().as_str() {
        "text" | "plain" | "console" | "pretty" => "term",
        _ => text,
    };
    choice(known, &[("term", LogFormat::Term), ("json", LogFormat::Json)])
}

/// A size that holds some batches, or 0.
fn queue(text: &str) -> Result<usize, ValueError> {
    match size(text, 0..=GIB)? {
        0 => Ok(0),
        _ => size(text, 64 * 1024..=GIB),
    }
}

const LEVELS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warning),
    ("error", Level::Error),
    ("critical", Level::Critical),
];
