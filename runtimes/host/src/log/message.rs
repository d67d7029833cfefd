//! The records of messages, by far the most: a drain of our own.
//!
//! It writes what slog-term and slog-json would, without what makes those slow: nothing is allocated, no lock
//! is taken, and the clock is read once for a batch.

use std::cell::RefCell;
use std::fmt::{self, Write};

use slog::{Drain, KV as _, Key, Never, OwnedKVList, Record, Serializer};

use super::LogFormat;
use super::stamp::BatchClock;
use crate::escape::prefix_without;

/// Collects lines of one worker.
pub(super) struct MessageDrain {
    format: LogFormat,
    /// Drains log through a shared reference. This one belongs to a single worker, so it is never borrowed
    /// twice.
    batch: RefCell<Batch>,
}

/// What has been written since the worker last handed over.
pub(super) struct Batch {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    pub(super) clock: BatchClock,
}

impl MessageDrain {
    pub(super) fn new(format: LogFormat) -> MessageDrain {
        let batch = Batch { lines: Vec::new(), clock: BatchClock::new() };
        MessageDrain { format, batch: RefCell::new(batch) }
    }

    /// The batch, also for lines that come another way and have to stand in their order among these.
    #[inline]
    pub(super) fn batch(&mut self) -> &mut Batch {
        self.batch.get_mut()
    }
}

impl Drain for MessageDrain {
    type Ok = ();
    type Err = Never;

    #[inline]
    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let Batch { lines, clock } = &mut *self.batch.borrow_mut();
        let start = lines.len();
        let stamp = clock.stamp().as_bytes();
        let written = match self.format {
            LogFormat::Term => write_term(lines, stamp, record, values),
            LogFormat::Json => write_json(lines, stamp, record, values),
        };
        // A value that cannot be formatted; a whole line less is better than half a line more.
        if written.is_err() {
            lines.truncate(start);
        }
        Ok(())
    }
}

#[inline]
fn write_term(lines: &mut Vec<u8>, stamp: &[u8], record: &Record<'_>, values: &OwnedKVList) -> slog::Result {
    lines.extend_from_slice(stamp);
    lines.push(b' ');
    lines.extend_from_slice(record.level().as_short_str().as_bytes());
    lines.push(b' ');
    fmt::write(&mut Plain(lines), *record.msg())?;
    record.kv().serialize(record, &mut TermKeys(lines))?;
    values.serialize(record, &mut TermKeys(lines))?;
    lines.push(b'\n');
    Ok(())
}

#[inline]
fn write_json(lines: &mut Vec<u8>, stamp: &[u8], record: &Record<'_>, values: &OwnedKVList) -> slog::Result {
    lines.extend_from_slice(b"{\"ts\":\"");
    lines.extend_from_slice(stamp);
    lines.extend_from_slice(b"\",\"level\":\"");
    lines.extend_from_slice(record.level().as_str().as_bytes());
    lines.extend_from_slice(b"\",\"msg\":\"");
    fmt::write(&mut JsonText(lines), *record.msg())?;
    lines.push(b'"');
    record.kv().serialize(record, &mut JsonKeys(lines))?;
    values.serialize(record, &mut JsonKeys(lines))?;
    lines.extend_from_slice(b"}\n");
    Ok(())
}

/// Text as it is.
struct Plain<'a>(&'a mut Vec<u8>);

impl Write for Plain<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Text inside a JSON string (RFC 8259 §7).
struct JsonText<'a>(&'a mut Vec<u8>);

impl Write for JsonText<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        loop {
            let (plain, special) = rest.split_at(prefix_without(rest, is_special));
            self.0.extend_from_slice(plain);
            let Some((&byte, behind)) = special.split_first() else { return Ok(()) };
            match byte {
                b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
                _ => write!(Plain(self.0), "\\u{byte:04x}")?,
            }
            rest = behind;
        }
    }
}

/// Whether a byte may not stand in a JSON string as it is.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// `, key: value` for each pair.
struct TermKeys<'a>(&'a mut Vec<u8>);

impl Serializer for TermKeys<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(Plain(self.0), ", {key}: {value}").map_err(slog::Error::from)
    }

    #[inline]
    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        [", ", key, ": ", value].iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
        Ok(())
    }

    #[inline]
    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        [", ", key, ": "].iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
        write!(Plain(self.0), "{value}").map_err(slog::Error::from)
    }
}

/// `,"key":value` for each pair; whatever is no `u64` is a string.
struct JsonKeys<'a>(&'a mut Vec<u8>);

impl JsonKeys<'_> {
    #[inline]
    fn begin(&mut self, key: Key) {
        [",\"", key, "\":"].iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }
}

impl Serializer for JsonKeys<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.begin(key);
        self.0.push(b'"');
        fmt::write(&mut JsonText(self.0), *value)?;
        self.0.push(b'"');
        Ok(())
    }

    #[inline]
    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        self.begin(key);
        self.0.push(b'"');
        JsonText(self.0).write_str(value)?;
        self.0.push(b'"');
        Ok(())
    }

    #[inline]
    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.begin(key);
        write!(Plain(self.0), "{value}").map_err(slog::Error::from)
    }
}
