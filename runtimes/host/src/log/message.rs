//! The records of messages, which are the most frequent.
//!
//! A record allocates nothing and takes no lock. The clock is read once for a batch. Values are written without
//! `format_args!`, which would double the cost.

use std::fmt;

use postern_core::ConnectionId;
use postern_core::frame::DataKind;

use super::LogFormat;
use super::json::{EscapedText, JsonText};
use super::line::{LineWriter, key};
use super::payload::Payload;
use super::timestamp::{BatchClock, Timestamp};
use super::user::{Email, UserFields, UserLabel};
use crate::escape::{Text, escape};

/// Collects lines of one worker.
pub(super) struct MessageLines {
    format: LogFormat,
    /// The prefix of the id of a request that the gateway has not given one; the connection's number follows.
    id_prefix: String,
    batch: Batch,
}

/// The lines since the worker last handed over lines.
pub(super) struct Batch {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    pub(super) clock: BatchClock,
}

impl MessageLines {
    /// Creates an empty batch. `instance` is the number of the process in the ids of requests.
    pub(super) fn new(format: LogFormat, instance: u32) -> MessageLines {
        let batch = Batch { lines: Vec::new(), clock: BatchClock::new() };
        MessageLines { format, id_prefix: format!("{instance:08x}-"), batch }
    }

    /// Returns the batch, to which other records are appended in their order.
    #[inline]
    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Writes the record of a message, or of a publication to `channel`.
    #[inline]
    pub(super) fn message(
        &mut self,
        connection: ConnectionId,
        user: UserFields<'_>,
        channel: Option<&str>,
        payload: Payload<'_>,
    ) {
        let Batch { lines, clock } = &mut self.batch;
        let start = lines.len();
        // Enough for most messages, so that the buffer grows at most once.
        lines.reserve(512 + 2 * payload.bytes.len().min(256));
        let message = Message { connection, id_prefix: &self.id_prefix, user, channel, payload };
        let timestamp = clock.timestamp();
        let written = match self.format {
            LogFormat::Term => message.write(LineWriter::<false> { out: lines }, timestamp),
            LogFormat::Json => message.write(LineWriter::<true> { out: lines }, timestamp),
        };
        if written.is_err() {
            lines.truncate(start);
        }
    }
}

/// The values of a record of a message.
struct Message<'a> {
    connection: ConnectionId,
    id_prefix: &'a str,
    user: UserFields<'a>,
    channel: Option<&'a str>,
    payload: Payload<'a>,
}

impl Message<'_> {
    /// Writes the whole line.
    #[inline]
    fn write<const JSON: bool>(&self, mut line: LineWriter<'_, JSON>, timestamp: &Timestamp) -> fmt::Result {
        if JSON {
            line.begin(timestamp, b"\",\"level\":\"INFO\",\"event\":\"message\",\"msg\":\"");
            self.write_sentence(&mut JsonText(line.out))?;
        } else {
            line.begin(timestamp, b" INFO ");
            self.write_sentence(&mut EscapedText(line.out))?;
        }
        line.end_sentence();
        self.write_fields(&mut line);
        line.end();
        Ok(())
    }

    #[inline]
    fn write_fields<const JSON: bool>(&self, line: &mut LineWriter<'_, JSON>) {
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
        if let Some(channel) = self.channel {
            key!(line, "channel");
            line.text([channel.as_bytes()].into_iter());
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
    }

    /// Writes the fields of [`UserFields::each`], for JSON.
    #[inline]
    fn write_user<const JSON: bool>(&self, line: &mut LineWriter<'_, JSON>) {
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

    /// Writes the sentence of the record.
    #[inline]
    fn write_sentence(&self, out: &mut impl Text) -> fmt::Result {
        out.write_str("Message from ")?;
        UserLabel(self.user.identity).write_to(out)?;
        if let Some(channel) = self.channel {
            out.write_str(" in ")?;
            escape(channel.as_bytes(), out)?;
        }
        out.write_str(": ")?;
        self.payload.write_to(out)
    }
}
