//! The records of messages, by far the most.
//!
//! They become the lines that slog-term and slog-json would make of them, to the byte, without what makes those slow:
//! nothing is allocated, no lock is taken, the clock is read once for a batch, and no `format_args!` stands between a
//! value and its place, which alone would double the cost.

use std::fmt::{self, Write};

use postern_core::ConnectionId;
use postern_core::frame::DataKind;

use super::LogFormat;
use super::payload::Payload;
use super::stamp::BatchClock;
use super::who::Who;
use crate::escape::{Text, prefix_without};

/// Collects lines of one worker.
pub(super) struct MessageLines {
    format: LogFormat,
    /// What a request's id begins with, if the gateway has not given it one; the connection's number follows.
    made_id: String,
    batch: Batch,
}

/// What has been written since the worker last handed over.
pub(super) struct Batch {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    pub(super) clock: BatchClock,
}

impl MessageLines {
    /// `instance` is the number of the process in the ids of requests.
    pub(super) fn new(format: LogFormat, instance: u32) -> MessageLines {
        let batch = Batch { lines: Vec::new(), clock: BatchClock::new() };
        MessageLines { format, made_id: format!("{instance:08x}-"), batch }
    }

    /// The batch, also for lines that come another way and have to stand in their order among these.
    #[inline]
    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Writes the record of a message.
    #[inline]
    pub(super) fn message(&mut self, connection: ConnectionId, who: &Who<'_>, payload: &Payload<'_>) {
        let Batch { lines, clock } = &mut self.batch;
        let start = lines.len();
        // Enough for most, so that the pieces need not ask for room one by one.
        lines.reserve(256 + payload.bytes.len().min(256));
        let stamp = clock.stamp().as_bytes();
        let written = match self.format {
            LogFormat::Term => write_message_term(lines, stamp, connection, &self.made_id, who, payload),
            LogFormat::Json => write_message_json(lines, stamp, connection, &self.made_id, who, payload),
        };
        if written.is_err() {
            lines.truncate(start);
        }
    }
}

#[inline]
fn write_message_term(
    lines: &mut Vec<u8>,
    stamp: &[u8],
    connection: ConnectionId,
    made_id: &str,
    who: &Who<'_>,
    payload: &Payload<'_>,
) -> fmt::Result {
    lines.extend_from_slice(stamp);
    let mut out = Plain(lines);
    out.write_str(" INFO ")?;
    write_sentence(&mut out, who, payload)?;
    out.write_str(", conn: ")?;
    let mut digits = itoa::Buffer::new();
    let number = digits.format(connection.0);
    out.write_str(number)?;
    out.write_str(", request_id: ")?;
    write_request_id(&mut out, who, made_id, number)?;
    out.write_str(match payload.kind {
        DataKind::Text => ", opcode: text, bytes: ",
        DataKind::Binary => ", opcode: binary, bytes: ",
    })?;
    out.write_str(itoa::Buffer::new().format(payload.bytes.len()))?;
    out.write_str("\n")
}

#[inline]
fn write_message_json(
    lines: &mut Vec<u8>,
    stamp: &[u8],
    connection: ConnectionId,
    made_id: &str,
    who: &Who<'_>,
    payload: &Payload<'_>,
) -> fmt::Result {
    lines.extend_from_slice(b"{\"ts\":\"");
    lines.extend_from_slice(stamp);
    lines.extend_from_slice(b"\",\"level\":\"INFO\",\"msg\":\"");
    write_sentence(&mut JsonText(lines), who, payload)?;
    let mut out = Plain(lines);
    out.write_str("\",\"conn\":")?;
    let mut digits = itoa::Buffer::new();
    let number = digits.format(connection.0);
    out.write_str(number)?;
    out.write_str(",\"request_id\":\"")?;
    // None of its characters is special in JSON.
    write_request_id(&mut out, who, made_id, number)?;
    out.write_str(match payload.kind {
        DataKind::Text => "\",\"opcode\":\"text\",\"bytes\":",
        DataKind::Binary => "\",\"opcode\":\"binary\",\"bytes\":",
    })?;
    out.write_str(itoa::Buffer::new().format(payload.bytes.len()))?;
    out.write_str("}\n")
}

/// The id of a [`RequestId`](postern_core::handshake::RequestId), made of pieces that are at hand.
#[inline]
fn write_request_id(out: &mut Plain<'_>, who: &Who<'_>, made_id: &str, number: &str) -> fmt::Result {
    match who.0.request_id() {
        Some(given) => out.write_str(given),
        None => {
            out.write_str(made_id)?;
            out.write_str(number)
        }
    }
}

/// What is said of a message.
#[inline]
fn write_sentence(out: &mut impl Text, who: &Who<'_>, payload: &Payload<'_>) -> fmt::Result {
    out.write_str("Message from ")?;
    who.write_to(out)?;
    out.write_str(": ")?;
    payload.write_to(out)
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

impl Text for Plain<'_> {
    #[inline]
    fn write_ascii(&mut self, bytes: &[u8]) -> fmt::Result {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Text inside a JSON string (RFC 8259 §7).
struct JsonText<'a>(&'a mut Vec<u8>);

impl Write for JsonText<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_ascii(text.as_bytes())
    }
}

impl Text for JsonText<'_> {
    /// Nor does it mind what is not ASCII: none of that is special.
    #[inline]
    fn write_ascii(&mut self, bytes: &[u8]) -> fmt::Result {
        let mut rest = bytes;
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

#[cfg(test)]
mod tests {
    use postern_core::handshake::{Identity, RequestId};
    use slog::{BorrowedKV, Level, Serializer, o, record};

    use super::super::MessageLog;
    use super::super::order::InOrder;
    use super::super::stamp::Stamp;
    use super::*;
    use crate::log::line;

    /// The line that slog-term or slog-json makes of a message.
    fn by_slog(format: LogFormat, who: &Who<'_>, payload: &Payload<'_>) -> String {
        let (message, kind) = (format_args!("Message from {who}: {payload}").to_string(), payload.kind);
        let keys = InOrder(|keys: &mut dyn Serializer| {
            keys.emit_u64("conn", 7)?;
            let request_id = RequestId::new(who.0.request_id(), 0x5f, ConnectionId(7));
            keys.emit_arguments("request_id", &format_args!("{request_id}"))?;
            keys.emit_str("opcode", if kind == DataKind::Text { "text" } else { "binary" })?;
            keys.emit_u64("bytes", payload.bytes.len() as u64)
        });
        let mut out = Vec::new();
        line::write(
            format,
            &mut out,
            Stamp::now(),
            &record!(Level::Info, "", &format_args!("{message}"), BorrowedKV(&keys)),
            &o!().into(),
        );
        String::from_utf8(out).unwrap()
    }

    fn behind_the_time(line: &str) -> &str {
        line.split_once("Z").unwrap().1
    }

    #[test]
    fn a_message_is_the_line_that_slog_term_and_slog_json_make_of_it() {
        let long = "x".repeat(1000);
        let payloads: [&[u8]; 9] = [
            b"Hello World",
            b"",
            "€ \u{202e} \" \\ \n\r\t".as_bytes(),
            b"\x1b[2J",
            b"not UTF-8: \xff\xc3",
            long.as_bytes(),
            "Дима 张三 🚀".as_bytes(),
            b"{\"a\":[1,2]}",
            b"\0\x01\x7f",
        ];
        for (name, email, request_id) in [
            ("John Doe", "john@example.com", Some("4bf92f3577b34da6")),
            ("", "", None),
            ("Admin (1): x", "", None),
            ("Ren\u{e9}e \"R\"", "", Some("a/b|c")),
        ] {
            let identity = Identity::new(b"123", email.as_bytes(), name.as_bytes()).unwrap();
            let identity = identity.with_request_id(request_id);
            for bytes in payloads {
                for kind in [DataKind::Text, DataKind::Binary] {
                    for shown in [MessageLog::Full, MessageLog::Truncated, MessageLog::Size] {
                        for format in [LogFormat::Term, LogFormat::Json] {
                            let (who, payload) = (Who(&identity), Payload { kind, bytes, shown });
                            let mut lines = MessageLines::new(format, 0x5f);
                            lines.message(ConnectionId(7), &who, &payload);
                            let line = std::str::from_utf8(&lines.batch().lines).unwrap();
                            let expected = by_slog(format, &who, &payload);
                            assert_eq!(behind_the_time(line), behind_the_time(&expected));
                        }
                    }
                }
            }
        }
    }
}
