//! All records but those of messages as lines, by slog-term and slog-json.
//!
//! These make each line from scratch, which costs microseconds: cheap enough for the start and the end of a process or
//! a connection. Messages have [`MessageLines`](super::message::MessageLines).
//!
//! The tag of a slog record (`info!(log, # "listening", "…")`) is the field `event` in JSON. A record without one has
//! the event `process`.

use std::io;

use slog::{Drain, OwnedKVList, PushFnValue, Record, o};
use slog_json::Json;
use slog_term::{FullFormat, PlainDecorator, RecordDecorator, ThreadSafeTimestampFn};

use super::timestamp::Timestamp;
use super::{LogFormat, json, level};
use crate::escape::{Escaped, is_harmful};

/// Appends one record to `out` as one line. Its keys come in the order in which they are serialised.
///
/// If a value cannot be formatted, nothing is appended; none that this crate makes is such.
pub(super) fn write(
    format: LogFormat,
    out: &mut Vec<u8>,
    timestamp: Timestamp,
    record: &Record<'_>,
    values: &OwnedKVList,
) {
    let start = out.len();
    let written = match format {
        LogFormat::Term => write_term(out, timestamp, record, values),
        LogFormat::Json => write_json(out, timestamp, record, values),
    };
    match written {
        Ok(()) => make_one_harmless_line(format, out, start),
        Err(_) => out.truncate(start),
    }
}

fn write_term(
    out: &mut Vec<u8>,
    timestamp: Timestamp,
    record: &Record<'_>,
    values: &OwnedKVList,
) -> io::Result<()> {
    FullFormat::new(PlainDecorator::new(out))
        .use_custom_timestamp(move |out| out.write_all(timestamp.as_bytes()))
        .use_custom_header_print(write_head)
        .build()
        .log(record, values)
}

/// Time, level and sentence. slog-term would shorten the names of levels to four letters.
fn write_head(
    timestamp: &dyn ThreadSafeTimestampFn<Output = io::Result<()>>,
    mut out: &mut dyn RecordDecorator,
    record: &Record<'_>,
    _: bool,
) -> io::Result<bool> {
    timestamp(&mut out)?;
    write!(out, " {} {}", level::name(record.level()), record.msg())?;
    // Key-values follow after a comma; no sentence is empty.
    Ok(true)
}

fn write_json(
    out: &mut Vec<u8>,
    timestamp: Timestamp,
    record: &Record<'_>,
    values: &OwnedKVList,
) -> io::Result<()> {
    Json::new(out)
        .add_key_value(o!("ts" => format!("{timestamp:?}")))
        .add_key_value(o!("level" => level::name(record.level())))
        .add_key_value(
            o!("event" => if record.tag().is_empty() { "process" } else { record.tag() }.to_owned()),
        )
        .add_key_value(o!("msg" => PushFnValue(|record, serializer| serializer.emit(record.msg()))))
        .build()
        .log(record, values)
}

/// The last guard, for what no rule of ours has seen: the text of a system error, a path, a setting. Values
/// that users control are escaped where they are formatted, and pass here untouched.
fn make_one_harmless_line(format: LogFormat, out: &mut Vec<u8>, start: usize) {
    let line = out.get(start..).unwrap_or_default();
    let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    if !line.contains(is_harmful) {
        return;
    }
    let mut harmless = String::with_capacity(line.len() + 32);
    for c in line.chars() {
        match format {
            _ if !is_harmful(c) => harmless.push(c),
            LogFormat::Term => harmless.push_str(&Escaped(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string()),
            // Such characters stand inside strings only, where JSON has an escape of its own.
            LogFormat::Json => {
                let mut escape = Vec::new();
                json::write_escape(c, &mut escape);
                harmless.push_str(&String::from_utf8_lossy(&escape));
            }
        }
    }
    harmless.push('\n');
    out.truncate(start);
    out.extend_from_slice(harmless.as_bytes());
}

#[cfg(test)]
mod tests {
    use slog::{Level, b, record};

    use super::*;

    fn line(format: LogFormat, message: &str) -> String {
        let mut out = b"before\n".to_vec();
        let values: OwnedKVList = o!().into();
        write(
            format,
            &mut out,
            Timestamp::now(),
            &record!(Level::Warning, "", &format_args!("{message}"), b!("key" => message)),
            &values,
        );
        let out = String::from_utf8(out).unwrap();
        let line = out.strip_prefix("before\n").unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        line.trim_end().to_owned()
    }

    #[test]
    fn term_is_what_slog_term_writes() {
        assert_eq!(line(LogFormat::Term, "a b").split_once(' ').unwrap().1, "WARN a b, key: a b");
    }

    #[test]
    fn json_begins_with_time_level_event_and_message() {
        let line = line(LogFormat::Json, "a \"b\"");
        assert_eq!(
            line.split_once("Z\"").unwrap().1,
            r#","level":"WARN","event":"process","msg":"a \"b\"","key":"a \"b\""}"#
        );
    }

    #[test]
    fn whatever_slips_through_is_harmless_and_one_line() {
        for text in ["a\nb", "\u{202e}x", "\u{9b}", "\u{e0041}y", "\x1b[2J"] {
            let term = line(LogFormat::Term, text);
            assert!(!term.contains(is_harmful), "{term}");
            let json = line(LogFormat::Json, text);
            assert!(!json.contains(is_harmful), "{json}");
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value["msg"], text);
        }
    }
}
