//! The records of messages, by far the most.
//!
//! They become the lines that slog-term and slog-json would make of them, to the byte, without what makes those slow:
//! nothing is allocated, no lock is taken, the clock is read once for a batch, and values are written without
//! `format_args!`, which alone would double the cost.

use std::fmt::{self, Write};

use postern_core::ConnectionId;
use postern_core::frame::DataKind;

use super::LogFormat;
use super::json::JsonText;
use super::payload::Payload;
use super::timestamp::BatchClock;
use super::user::{Email, UserFields, UserLabel};
use crate::escape::Text;

/// Collects lines of one worker.
pub(super) struct MessageLines {
    format: LogFormat,
    /// What a request's id begins with, if the gateway has not given it one; the connection's number follows.
    id_prefix: String,
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
        MessageLines { format, id_prefix: format!("{instance:08x}-"), batch }
    }

    /// The batch, also for lines that come another way and have to stand in their order among these.
    #[inline]
    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Writes the record of a message.
    #[inline]
    pub(super) fn message(&mut self, connection: ConnectionId, user: UserFields<'_>, payload: Payload<'_>) {
        let Batch { lines, clock } = &mut self.batch;
        let start = lines.len();
        // Enough for most, so that the pieces need not ask for room one by one.
        lines.reserve(512 + 2 * payload.bytes.len().min(256));
        let message = Message { connection, id_prefix: &self.id_prefix, user, payload };
        let timestamp = clock.timestamp().as_bytes();
        let written = match self.format {
            LogFormat::Term => Line::<false> { out: lines }.write(timestamp, &message),
            LogFormat::Json => Line::<true> { out: lines }.write(timestamp, &message),
        };
        if written.is_err() {
            lines.truncate(start);
        }
    }
}

/// Writes a key. Its length is known when this is compiled, so it costs a few stores and not a copy.
macro_rules! key {
    ($line:expr, $key:literal) => {
        if $line.is_json() {
            $line.out.extend_from_slice(concat!(",\"", $key, "\":").as_bytes());
        } else {
            $line.out.extend_from_slice(concat!(", ", $key, ": ").as_bytes());
        }
    };
}

/// What a record of a message is made of.
struct Message<'a> {
    connection: ConnectionId,
    id_prefix: &'a str,
    user: UserFields<'a>,
    payload: Payload<'a>,
}

impl Message<'_> {
    #[inline]
    fn write_to<const JSON: bool>(&self, line: &mut Line<'_, JSON>) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        let number = digits.format(self.connection.0);
        key!(line, "conn");
        line.plain(&[number]);
        key!(line, "request_id");
        match self.user.identity.request_id() {
            Some(given) => line.id(&[given]),
            None => line.id(&[self.id_prefix, number]),
        }
        if line.is_json() {
            key!(line, "session_id");
            line.id(&[self.id_prefix, number]);
            self.write_user(line);
        }
        key!(line, "opcode");
        line.id(&[match self.payload.kind {
            DataKind::Text => "text",
            DataKind::Binary => "binary",
        }]);
        key!(line, "bytes");
        line.plain(&[itoa::Buffer::new().format(self.payload.bytes.len())]);
        if line.is_json()
            && let Some(text) = self.payload.text()
        {
            key!(line, "text");
            line.text([text].into_iter());
            if text.len() < self.payload.bytes.len() {
                key!(line, "is_truncated");
                line.plain(&["true"]);
            }
        }
        Ok(())
    }

    /// The fields of [`UserFields::each`], for JSON.
    #[inline]
    fn write_user<const JSON: bool>(&self, line: &mut Line<'_, JSON>) {
        let UserFields { identity, email } = self.user;
        key!(line, "user_id");
        line.text([identity.id().as_bytes()].into_iter());
        if let Some(name) = identity.name() {
            key!(line, "user_name");
            line.text([name.as_bytes()].into_iter());
        }
        if let Some(pieces) = Email(identity, email).pieces() {
            key!(line, "user_email");
            line.text(pieces.into_iter().filter(|piece| !piece.is_empty()).map(str::as_bytes));
        }
    }

    /// The sentence of the record.
    #[inline]
    fn write_sentence(&self, out: &mut impl Text) -> fmt::Result {
        out.write_str("Message from ")?;
        UserLabel(self.user.identity).write_to(out)?;
        out.write_str(": ")?;
        self.payload.write_to(out)
    }
}

/// A line as it is written, in either format: each is compiled by itself. One value takes one `key!` and one call for its
/// kind.
struct Line<'a, const JSON: bool> {
    out: &'a mut Vec<u8>,
}

impl<const JSON: bool> Line<'_, JSON> {
    #[inline(always)]
    fn is_json(&self) -> bool {
        JSON
    }

    /// The whole line.
    #[inline]
    fn write(mut self, timestamp: &[u8], message: &Message<'_>) -> fmt::Result {
        self.begin(timestamp, message)?;
        message.write_to(&mut self)?;
        self.end();
        Ok(())
    }

    /// Time, level, event and sentence.
    #[inline]
    fn begin(&mut self, timestamp: &[u8], message: &Message<'_>) -> fmt::Result {
        if JSON {
            self.out.extend_from_slice(b"{\"ts\":\"");
            self.out.extend_from_slice(timestamp);
            self.out.extend_from_slice(b"\",\"level\":\"INFO\",\"event\":\"message\",\"msg\":\"");
            message.write_sentence(&mut JsonText(self.out))?;
            self.out.push(b'"');
            Ok(())
        } else {
            self.out.extend_from_slice(timestamp);
            self.out.extend_from_slice(b" INFO ");
            message.write_sentence(&mut Plain(self.out))
        }
    }

    #[inline]
    fn end(&mut self) {
        self.out.extend_from_slice(if self.is_json() { b"}\n" } else { b"\n" });
    }

    /// A number or a word of JSON.
    // Always inlined, as `id` is: the number of pieces is known to each caller.
    #[inline(always)]
    fn plain(&mut self, pieces: &[&str]) {
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece.as_bytes()));
    }

    /// A text of which no character is special in either format.
    #[inline(always)]
    fn id(&mut self, pieces: &[&str]) {
        if !self.is_json() {
            return self.plain(pieces);
        }
        self.out.push(b'"');
        self.plain(pieces);
        self.out.push(b'"');
    }

    /// Any text, as JSON.
    #[inline]
    fn text<'t>(&mut self, pieces: impl Iterator<Item = &'t [u8]>) {
        self.out.push(b'"');
        pieces.for_each(|piece| JsonText(self.out).write_lossy(piece));
        self.out.push(b'"');
    }
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

#[cfg(test)]
mod tests {
    use postern_core::handshake::{Identity, RequestId};
    use slog::{BorrowedKV, Level, Serializer, o, record};

    use super::super::order::InOrder;
    use super::super::timestamp::Timestamp;
    use super::super::{EmailLog, MessageLog};
    use super::*;
    use crate::log::line;

    /// The line that slog-term or slog-json makes of a message.
    fn by_slog(format: LogFormat, user: UserFields<'_>, payload: &Payload<'_>) -> String {
        let (who, kind) = (UserLabel(user.identity), payload.kind);
        let message = format_args!("Message from {who}: {payload}").to_string();
        let keys = InOrder(|keys: &mut dyn Serializer| {
            keys.emit_u64("conn", 7)?;
            let request_id = RequestId::new(user.identity.request_id(), 0x5f, ConnectionId(7));
            keys.emit_arguments("request_id", &format_args!("{request_id}"))?;
            if format == LogFormat::Json {
                keys.emit_str("session_id", "0000005f-7")?;
                user.each(|key, pieces| keys.emit_str(key, &pieces.concat()))?;
            }
            keys.emit_str("opcode", if kind == DataKind::Text { "text" } else { "binary" })?;
            keys.emit_u64("bytes", payload.bytes.len() as u64)?;
            if format == LogFormat::Json
                && let Some(text) = payload.text()
            {
                keys.emit_str("text", &String::from_utf8_lossy(text))?;
                if text.len() < payload.bytes.len() {
                    keys.emit_bool("is_truncated", true)?;
                }
            }
            Ok(())
        });
        let mut out = Vec::new();
        line::write(
            format,
            &mut out,
            Timestamp::now(),
            &record!(Level::Info, "message", &format_args!("{message}"), BorrowedKV(&keys)),
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
            for (bytes, email) in payloads.into_iter().zip([EmailLog::Full, EmailLog::Masked].iter().cycle())
            {
                for kind in [DataKind::Text, DataKind::Binary] {
                    for shown in [MessageLog::Full, MessageLog::Truncated, MessageLog::Size] {
                        for format in [LogFormat::Term, LogFormat::Json] {
                            let user = UserFields { identity: &identity, email: *email };
                            let payload = || Payload { kind, bytes, shown };
                            let mut lines = MessageLines::new(format, 0x5f);
                            lines.message(ConnectionId(7), user, payload());
                            let line = std::str::from_utf8(&lines.batch().lines).unwrap();
                            let expected = by_slog(format, user, &payload());
                            assert_eq!(behind_the_time(line), behind_the_time(&expected));
                        }
                    }
                }
            }
        }
    }
}
