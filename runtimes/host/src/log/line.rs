//! Rare records as lines, by slog-term and slog-json.
//!
//! They make each line from scratch and cost microseconds, which nobody notices at the start, at the end and at
//! the two ends of a connection. Messages have [`MessageLines`](super::message::MessageLines).

use std::io;

use slog::{Drain, OwnedKVList, PushFnValue, Record, o};
use slog_json::Json;
use slog_term::{FullFormat, PlainDecorator};

use super::LogFormat;
use super::stamp::Stamp;
use crate::escape::{Escaped, is_harmful};

/// Appends one record to `out` as one line. Its keys come in the order in which they are serialised.
///
/// If a value cannot be formatted, nothing is appended; none that this crate makes is such.
pub(super) fn write(
    format: LogFormat,
    out: &mut Vec<u8>,
    stamp: Stamp,
    record: &Record<'_>,
    values: &OwnedKVList,
) {
    let start = out.len();
    let written = match format {
        LogFormat::Term => write_term(out, stamp, record, values),
        LogFormat::Json => write_json(out, stamp, record, values),
    };
    match written {
        Ok(()) => make_one_harmless_line(format, out, start),
        Err(_) => out.truncate(start),
    }
}

fn write_term(out: &mut Vec<u8>, stamp: Stamp, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
    FullFormat::new(PlainDecorator::new(out))
        .use_custom_timestamp(move |out| out.write_all(stamp.as_bytes()))
        .build()
        .log(record, values)
}

fn write_json(out: &mut Vec<u8>, stamp: Stamp, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
    Json::new(out)
        .add_key_value(o!("ts" => format!("{stamp:?}")))
        .add_key_value(o!("level" => record.level().as_str()))
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
                c.encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| harmless.push_str(&format!("\\u{unit:04x}")));
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
            Stamp::now(),
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
    fn json_begins_with_time_level_and_message() {
        let line = line(LogFormat::Json, "a \"b\"");
        assert_eq!(
            line.split_once("Z\"").unwrap().1,
            r#","level":"WARNING","msg":"a \"b\"","key":"a \"b\""}"#
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
