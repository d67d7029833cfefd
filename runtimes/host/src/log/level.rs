//! The names of levels: one spelling in both formats, and in lower case in the setting `LOG_LEVEL`.

use slog::Level;

/// The name of a level in a record.
pub(super) fn name(level: Level) -> &'static str {
    match level {
        Level::Critical => "CRITICAL",
        Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}
