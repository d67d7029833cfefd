//! One record as one line, in either format.
//!
//! [`LineWriter`] writes all lines. Records of messages use it directly (`super::message`), without an allocation.
//! Every other record is an [`Entry`], with a formatted sentence and fields that are passed through slog's
//! [`Serializer`].
//!
//! Term is `TIME LEVEL sentence, key: value, key: value`. JSON has the fields `ts`, `level`, `event` and `msg`, and
//! after them the same keys and values.

use std::fmt::{self, Write};

use slog::{Key, Level, Serializer};

use super::LogFormat;
use super::json::{EscapedText, JsonText};
use super::timestamp::Timestamp;
use crate::escape::escape_harmful;

/// Writes the pieces of a line. Each format is compiled by itself.
pub(super) struct LineWriter<'a, const JSON: bool> {
    pub(super) out: &'a mut Vec<u8>,
}

/// Writes a key. Its length is known at compile time, so it is written with a few stores.
macro_rules! key {
    ($line:expr, $key:literal) => {
        if $line.is_json() {
            $line.out.extend_from_slice(concat!(",\"", $key, "\":").as_bytes());
        } else {
            $line.out.extend_from_slice(concat!(", ", $key, ": ").as_bytes());
        }
    };
}
pub(super) use key;

impl<const JSON: bool> LineWriter<'_, JSON> {
    #[inline(always)]
    pub(super) fn is_json(&self) -> bool {
        JSON
    }

    /// Writes everything before the sentence. `head` is the text between the time and the sentence: the level, and
    /// in JSON the event.
    #[inline]
    pub(super) fn begin(&mut self, timestamp: &Timestamp, head: &[u8]) {
        if JSON {
            self.out.extend_from_slice(b"{\"ts\":\"");
        }
        self.out.extend_from_slice(timestamp.as_bytes());
        self.out.extend_from_slice(head);
    }

    /// Ends the sentence. The fields follow.
    #[inline]
    pub(super) fn end_sentence(&mut self) {
        if JSON {
            self.out.push(b'"');
        }
    }

    /// Ends the line.
    #[inline]
    pub(super) fn end(&mut self) {
        self.out.extend_from_slice(if JSON { b"}\n" } else { b"\n" });
    }

    /// Writes a value without quotation marks: a number, or a word of JSON.
    // Always inlined, as `id` is, because each caller knows the number of pieces.
    #[inline(always)]
    pub(super) fn plain(&mut self, pieces: &[&str]) {
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece.as_bytes()));
    }

    /// Writes text without characters that are special in either format.
    #[inline(always)]
    pub(super) fn id(&mut self, pieces: &[&str]) {
        if !JSON {
            return self.plain(pieces);
        }
        self.out.push(b'"');
        self.plain(pieces);
        self.out.push(b'"');
    }

    /// Writes any text, for JSON.
    #[inline]
    pub(super) fn text<'t>(&mut self, pieces: impl Iterator<Item = &'t [u8]>) {
        self.out.push(b'"');
        pieces.for_each(|piece| JsonText(self.out).write_lossy(piece));
        self.out.push(b'"');
    }

    /// Writes formatted text that may contain anything, such as a system error, a path or a setting. Harmful
    /// characters are escaped. Values that users control are escaped where they are formatted, and pass unchanged.
    fn formatted(&mut self, text: &fmt::Arguments<'_>) -> fmt::Result {
        if JSON { JsonText(self.out).write_fmt(*text) } else { HarmlessText(self.out).write_fmt(*text) }
    }
}

/// Escapes the harmful characters of text.
struct HarmlessText<'a>(&'a mut Vec<u8>);

impl Write for HarmlessText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape_harmful(text, &mut EscapedText(self.0))
    }
}

/// A record that is not about a message. These are rare, so formatting one may take microseconds.
pub(super) struct Entry<'a> {
    pub(super) timestamp: Timestamp,
    pub(super) level: Level,
    /// The field `event` in JSON.
    pub(super) event: &'a str,
    /// The sentence.
    pub(super) message: fmt::Arguments<'a>,
}

/// The order in which the fields of an [`Entry`] are serialised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldOrder {
    /// The order in which they are written.
    AsWritten,
    /// The last one first, as slog's macros do it.
    Reversed,
}

/// Serialises the fields of a record.
pub(super) type Fields<'a> = &'a dyn Fn(&mut dyn Serializer) -> slog::Result;

impl Entry<'_> {
    /// Appends the record to `out` as one line. Appends nothing if a value cannot be formatted, which does not
    /// happen with the values that this crate logs.
    pub(super) fn write(&self, format: LogFormat, out: &mut Vec<u8>, order: FieldOrder, fields: Fields<'_>) {
        let start = out.len();
        let written = match format {
            LogFormat::Term => self.write_line(LineWriter::<false> { out }, order, fields),
            LogFormat::Json => self.write_line(LineWriter::<true> { out }, order, fields),
        };
        if written.is_err() {
            out.truncate(start);
        }
    }

    fn write_line<const JSON: bool>(
        &self,
        mut line: LineWriter<'_, JSON>,
        order: FieldOrder,
        fields: Fields<'_>,
    ) -> slog::Result {
        let level = level_name(self.level);
        let head = if JSON {
            format!("\",\"level\":\"{level}\",\"event\":\"{}\",\"msg\":\"", self.event)
        } else {
            format!(" {level} ")
        };
        line.begin(&self.timestamp, head.as_bytes());
        line.formatted(&self.message)?;
        line.end_sentence();
        let mut serializer = FieldWriter { line, starts: Vec::new() };
        fields(&mut serializer)?;
        if order == FieldOrder::Reversed {
            serializer.reverse();
        }
        serializer.line.end();
        Ok(())
    }
}

/// The fields of a line, written as slog serialises them.
struct FieldWriter<'a, const JSON: bool> {
    line: LineWriter<'a, JSON>,
    /// The position at which each field begins.
    starts: Vec<usize>,
}

impl<const JSON: bool> FieldWriter<'_, JSON> {
    fn key(&mut self, key: Key) {
        self.starts.push(self.line.out.len());
        let (before, after) = if JSON { (",\"", "\":") } else { (", ", ": ") };
        self.line.plain(&[before, key, after]);
    }

    /// Writes a field whose value is a number, or a word of JSON.
    fn plain(&mut self, key: Key, value: fmt::Arguments<'_>) -> slog::Result {
        self.key(key);
        Ok(EscapedText(self.line.out).write_fmt(value)?)
    }

    /// Reverses the order of the fields.
    fn reverse(&mut self) {
        let Some(&first) = self.starts.first() else { return };
        let out = &mut *self.line.out;
        let mut reversed = Vec::with_capacity(out.len() - first);
        let mut end = out.len();
        for &start in self.starts.iter().rev() {
            reversed.extend_from_slice(out.get(start..end).unwrap_or_default());
            end = start;
        }
        out.truncate(first);
        out.append(&mut reversed);
    }
}

macro_rules! emit_integers {
    ($($method:ident: $integer:ty),*) => {
        $(fn $method(&mut self, key: Key, value: $integer) -> slog::Result {
            self.plain(key, format_args!("{value}"))
        })*
    };
}

/// An integer that does not fit into 64 bits is written as text, because few JSON parsers support it. A number that
/// is not finite is `null` in JSON.
impl<const JSON: bool> Serializer for FieldWriter<'_, JSON> {
    emit_integers!(
        emit_u8: u8, emit_u16: u16, emit_u32: u32, emit_u64: u64, emit_usize: usize,
        emit_i8: i8, emit_i16: i16, emit_i32: i32, emit_i64: i64, emit_isize: isize
    );

    fn emit_u128(&mut self, key: Key, value: u128) -> slog::Result {
        match u64::try_from(value) {
            Ok(value) => self.emit_u64(key, value),
            Err(_) => self.emit_arguments(key, &format_args!("{value}")),
        }
    }

    fn emit_i128(&mut self, key: Key, value: i128) -> slog::Result {
        match i64::try_from(value) {
            Ok(value) => self.emit_i64(key, value),
            Err(_) => self.emit_arguments(key, &format_args!("{value}")),
        }
    }

    fn emit_f32(&mut self, key: Key, value: f32) -> slog::Result {
        self.emit_f64(key, value.into())
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        match JSON {
            // JSON has neither infinity nor NaN.
            true => match serde_json::Number::from_f64(value) {
                Some(number) => self.plain(key, format_args!("{number}")),
                None => self.plain(key, format_args!("null")),
            },
            false => self.plain(key, format_args!("{value}")),
        }
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.plain(key, format_args!("{value}"))
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.plain(key, format_args!("{}", if JSON { "null" } else { "None" }))
    }

    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        let quotation_mark = if JSON { "\"" } else { "" };
        self.key(key);
        self.line.plain(&[quotation_mark]);
        self.line.formatted(value)?;
        self.line.plain(&[quotation_mark]);
        Ok(())
    }
}

/// Returns the name of a level in a record. The setting `LOG_LEVEL` has the same names in lower case.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical => "CRITICAL",
        Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::is_harmful;

    fn line(format: LogFormat, order: FieldOrder, message: &str, fields: Fields<'_>) -> String {
        let mut out = b"before\n".to_vec();
        let timestamp = Timestamp::now();
        Entry { timestamp, level: Level::Warning, event: "event", message: format_args!("{message}") }
            .write(format, &mut out, order, fields);
        String::from_utf8(out).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn fields_keep_their_order_or_are_reversed() {
        let fields = |keys: &mut dyn Serializer| {
            keys.emit_str("a", "1")?;
            keys.emit_u64("b", 2)?;
            keys.emit_none("c")
        };
        for (order, expected) in [
            (FieldOrder::AsWritten, ", a: 1, b: 2, c: None\n"),
            (FieldOrder::Reversed, ", c: None, b: 2, a: 1\n"),
        ] {
            let line = line(LogFormat::Term, order, "sentence", &fields);
            assert_eq!(line.split_once(" WARN sentence").unwrap().1, expected);
        }
        let line = line(LogFormat::Json, FieldOrder::Reversed, "sentence", &fields);
        let expected = r#"","level":"WARN","event":"event","msg":"sentence","c":null,"b":2,"a":"1"}"#;
        assert!(line.ends_with(&format!("{expected}\n")), "{line}");
    }

    #[test]
    fn a_value_that_cannot_be_formatted_leaves_no_part_of_a_line() {
        for format in [LogFormat::Term, LogFormat::Json] {
            let fails = |keys: &mut dyn Serializer| {
                keys.emit_u64("a", 1)?;
                Err(slog::Error::Other)
            };
            assert_eq!(line(format, FieldOrder::AsWritten, "sentence", &fails), "");
        }
    }

    #[test]
    fn harmful_text_of_any_origin_is_escaped_and_stays_one_line() {
        for text in ["a\nb", "\u{202e}x", "\u{9b}", "\u{e0041}y", "\x1b[2J"] {
            let fields = |keys: &mut dyn Serializer| keys.emit_str("key", text);
            for format in [LogFormat::Term, LogFormat::Json] {
                let line = line(format, FieldOrder::AsWritten, text, &fields);
                let line = line.strip_suffix('\n').unwrap();
                assert!(!line.contains(is_harmful), "{line}");
                if format == LogFormat::Json {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!((&value["msg"], &value["key"]), (&text.into(), &text.into()));
                }
            }
        }
    }
}
