//! The protocol of NATS clients: bytes to events, and commands to bytes. No socket and no clock.

use std::str;

use serde_json::Value;

/// Decodes the bytes of a server. After an error, no more events are returned.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// The bytes of `buffer` that are decoded. `decoded <= scanned <= buffer.len()` while a line is expected.
    decoded: usize,
    /// The bytes of `buffer` that have no end of a line.
    scanned: usize,
    max_payload: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Line,
    /// The headers and the payload follow, and the end of a line.
    Body(Head),
    /// They follow and are dropped. The number of bytes that are left, with the end of the line.
    Skip(Head, usize),
    Failed(ProtocolError),
}

/// The line before a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The subject that the message was sent to.
    pub subject: String,
    /// The subject that the answer is sent to.
    pub reply: Option<String>,
    /// The bytes of the headers.
    pub headers: usize,
    /// The bytes of the payload.
    pub payload: usize,
}

/// A line of a server, with the message that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Properties of the server.
    Info(Info),
    /// A message: its headers and its payload.
    Message(Head, Vec<u8>, Vec<u8>),
    /// A message whose headers or payload are too long. They were dropped.
    Skipped(Head),
    /// A question that must be answered.
    Ping,
    /// The answer to a question.
    Pong,
    /// A command was accepted.
    Accepted,
    /// The server refuses something. It may close the connection.
    Refused(String),
}

/// Properties of a server, as far as they matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// The connection must continue by TLS.
    pub requires_tls: bool,
    /// The connection can continue by TLS.
    pub offers_tls: bool,
}

/// Why the bytes are not of a NATS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolError {
    /// A line is longer than its kind may be.
    LongLine,
    /// A line is not one of the protocol.
    Line,
    /// A message does not end where its line says.
    End,
}

impl ProtocolError {
    /// Returns the end of a sentence in the log.
    pub(super) fn text(self) -> &'static str {
        match self {
            ProtocolError::LongLine => "the server has sent a line that is too long; check that it is NATS",
            ProtocolError::Line => {
                "the server has sent a line that NATS does not have; check that it is NATS"
            }
            ProtocolError::End => "the server has sent a message with another length than it has announced",
        }
    }
}

impl Decoder {
    /// Creates a decoder that keeps at most `max_payload` bytes of a payload.
    pub(super) fn new(max_payload: usize) -> Decoder {
        Decoder { buffer: Vec::new(), decoded: 0, scanned: 0, max_payload, state: State::Line }
    }

    /// Adds bytes of the server. Take all events before you add more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.decoded);
        self.scanned -= self.decoded;
        self.decoded = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns whether there are bytes that belong to no returned event.
    pub(super) fn has_rest(&self) -> bool {
        self.decoded < self.buffer.len()
    }

    /// Returns the next event. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not of a NATS server. The same error is returned from then on.
    pub(super) fn next_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        let result = self.decode();
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    fn decode(&mut self) -> Result<Option<Event>, ProtocolError> {
        loop {
            match std::mem::replace(&mut self.state, State::Line) {
                State::Failed(error) => return Err(error),
                State::Line => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    match parse(&line)? {
                        Parsed::Event(event) => return Ok(Some(event)),
                        Parsed::Head(head) => {
                            let is_long = head.headers > MAX_HEADERS || head.payload > self.max_payload;
                            let length = head.headers.saturating_add(head.payload).saturating_add(END.len());
                            self.state = if is_long { State::Skip(head, length) } else { State::Body(head) };
                        }
                    }
                }
                State::Body(head) => {
                    let rest = self.buffer.get(self.decoded..).unwrap_or_default();
                    let Some((headers, rest)) = rest.split_at_checked(head.headers) else {
                        return Ok(self.wait(State::Body(head)));
                    };
                    let Some((payload, rest)) = rest.split_at_checked(head.payload) else {
                        return Ok(self.wait(State::Body(head)));
                    };
                    let Some(end) = rest.get(..END.len()) else {
                        return Ok(self.wait(State::Body(head)));
                    };
                    if end != END {
                        return Err(ProtocolError::End);
                    }
                    let (headers, payload) = (headers.to_vec(), payload.to_vec());
                    self.take(headers.len() + payload.len() + END.len());
                    return Ok(Some(Event::Message(head, headers, payload)));
                }
                State::Skip(head, left) => {
                    let now = left.min(self.buffer.len() - self.decoded);
                    self.take(now);
                    if now < left {
                        return Ok(self.wait(State::Skip(head, left - now)));
                    }
                    return Ok(Some(Event::Skipped(head)));
                }
            }
        }
    }

    fn wait(&mut self, state: State) -> Option<Event> {
        self.state = state;
        None
    }

    fn take(&mut self, bytes: usize) {
        self.decoded += bytes;
        self.scanned = self.decoded;
    }

    /// Returns the next line without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, ProtocolError> {
        let rest = self.buffer.get(self.decoded..).unwrap_or_default();
        let is_info = rest.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"INFO"));
        let most = if is_info { MAX_INFO } else { MAX_LINE };
        let new = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(at) = new.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return if rest.len() > most { Err(ProtocolError::LongLine) } else { Ok(None) };
        };
        let end = self.scanned + at;
        let line = self.buffer.get(self.decoded..end).unwrap_or_default();
        if line.len() > most {
            return Err(ProtocolError::LongLine);
        }
        let line = line.strip_suffix(b"\r").ok_or(ProtocolError::Line)?.to_vec();
        self.take(line.len() + END.len());
        Ok(Some(line))
    }
}

enum Parsed {
    Event(Event),
    Head(Head),
}

fn parse(line: &[u8]) -> Result<Parsed, ProtocolError> {
    let line = str::from_utf8(line).map_err(|_| ProtocolError::Line)?;
    let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Ok(Parsed::Event(match &*name.to_ascii_uppercase() {
        "INFO" => Event::Info(info(rest)?),
        "PING" => Event::Ping,
        "PONG" => Event::Pong,
        "+OK" => Event::Accepted,
        "-ERR" => Event::Refused(rest.trim().trim_matches('\'').to_owned()),
        "MSG" => return Ok(Parsed::Head(head(rest, false)?)),
        "HMSG" => return Ok(Parsed::Head(head(rest, true)?)),
        _ => return Err(ProtocolError::Line),
    }))
}

fn info(text: &str) -> Result<Info, ProtocolError> {
    let info: Value = serde_json::from_str(text).map_err(|_| ProtocolError::Line)?;
    let flag = |name| info.get(name).and_then(Value::as_bool).unwrap_or(false);
    if !info.is_object() {
        return Err(ProtocolError::Line);
    }
    Ok(Info { requires_tls: flag("tls_required"), offers_tls: flag("tls_available") || flag("tls_required") })
}

/// Parses `SUBJECT SID [REPLY] BYTES`, or with headers `SUBJECT SID [REPLY] HEADER_BYTES TOTAL_BYTES`.
fn head(text: &str, has_headers: bool) -> Result<Head, ProtocolError> {
    let mut parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let mut number = || -> Result<usize, ProtocolError> {
        let digits = parts.pop().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).ok_or(ProtocolError::Line)
    };
    let total = number()?;
    let headers = if has_headers { number()? } else { 0 };
    let payload = total.checked_sub(headers).ok_or(ProtocolError::Line)?;
    let (subject, reply) = match *parts.as_slice() {
        [subject, _] => (subject, None),
        [subject, _, reply] => (subject, Some(reply.to_owned())),
        _ => return Err(ProtocolError::Line),
    };
    Ok(Head { subject: subject.to_owned(), reply, headers, payload })
}

/// Returns the names in lower case and the values of headers. `None`: they are not headers of NATS. A value that is not UTF-8 is
/// `None`.
pub(super) fn headers(bytes: &[u8]) -> Option<Vec<(String, Option<&str>)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut lines = bytes.strip_suffix(b"\r\n\r\n")?.split(|byte| *byte == b'\n');
    lines.next().filter(|line| line.starts_with(b"NATS/1."))?;
    let header = |line: &'_ [u8]| line.iter().position(|byte| *byte == b':');
    lines
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let at = header(line)?;
            let (name, value) = line.split_at_checked(at)?;
            let name = str::from_utf8(name).ok()?.trim().to_ascii_lowercase();
            Some((name, str::from_utf8(value.get(1..)?).ok().map(str::trim)))
        })
        .collect()
}

/// Appends `SUB`, with the queue group if there is one.
pub(super) fn subscribe(out: &mut Vec<u8>, subject: &str, group: Option<&str>, id: u32) {
    let group = group.map(|group| format!("{group} ")).unwrap_or_default();
    out.extend_from_slice(format!("SUB {subject} {group}{id}\r\n").as_bytes());
}

/// Appends `PUB`.
pub(super) fn publish(out: &mut Vec<u8>, subject: &str, payload: &str) {
    out.extend_from_slice(format!("PUB {subject} {}\r\n{payload}\r\n", payload.len()).as_bytes());
}

const END: &[u8] = b"\r\n";

/// The longest line, in bytes. It has at most two subjects, which a server limits to 4 KiB together.
const MAX_LINE: usize = 4096;

/// The longest line with properties of a server, in bytes. It has the addresses of the whole cluster.
const MAX_INFO: usize = 64 * 1024;

/// The most bytes of the headers of a message.
pub(super) const MAX_HEADERS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Event>, Option<ProtocolError>) {
        let (mut decoder, mut events) = (Decoder::new(10), Vec::new());
        for chunk in chunks {
            decoder.push(&chunk);
            loop {
                match decoder.next_event() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Some(error)),
                }
            }
        }
        (events, None)
    }

    fn head_of(subject: &str, reply: Option<&str>, headers: usize, payload: usize) -> Head {
        Head { subject: subject.to_owned(), reply: reply.map(str::to_owned), headers, payload }
    }

    #[test]
    fn events_are_the_same_at_every_split_point() {
        let stream =
            b"INFO {\"tls_required\":true,\"max_payload\":1}\r\nPING\r\npong\r\n+OK\r\n-ERR 'No'\r\n\
            MSG a.b 1 2\r\n{}\r\nMSG a 2 re 0\r\n\r\nHMSG c 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\n\r\n\r\n\
            MSG long 1 11\r\n01234567890\r\nPING\r\n";
        let (all, error) = decode([stream.to_vec()]);
        let expected = [
            Event::Info(Info { requires_tls: true, offers_tls: true }),
            Event::Ping,
            Event::Pong,
            Event::Accepted,
            Event::Refused("No".to_owned()),
            Event::Message(head_of("a.b", None, 0, 2), vec![], b"{}".to_vec()),
            Event::Message(head_of("a", Some("re"), 0, 0), vec![], vec![]),
            Event::Message(
                head_of("c", Some("r"), 18, 2),
                b"NATS/1.0\r\nA: b\r\n\r\n".to_vec(),
                b"\r\n".to_vec(),
            ),
            Event::Skipped(head_of("long", None, 0, 11)),
            Event::Ping,
        ];
        assert_eq!((&all[..], error), (&expected[..], None));
        for at in 0..=stream.len() {
            let (one, other) = stream.split_at(at);
            assert_eq!(decode([one.to_vec(), other.to_vec()]), (all.clone(), None), "{at}");
        }
        assert_eq!(decode(stream.iter().map(|byte| vec![*byte])), (all, None));
    }

    #[test]
    fn other_bytes_are_refused_and_lines_are_bounded() {
        let long = |name: &[u8], length| [name, &vec![b'x'; length]].concat();
        for (bytes, expected) in [
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), ProtocolError::Line),
            (b"PING\n".to_vec(), ProtocolError::Line),
            (b"\xff\r\n".to_vec(), ProtocolError::Line),
            (b"INFO []\r\n".to_vec(), ProtocolError::Line),
            (b"INFO {\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1 -1\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1 +1\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1 2 3 4\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1 99999999999999999999999\r\n".to_vec(), ProtocolError::Line),
            (b"HMSG a 1 3 2\r\n".to_vec(), ProtocolError::Line),
            (b"MSG a 1 1\r\nxxx".to_vec(), ProtocolError::End),
            (long(b"MSG ", MAX_LINE), ProtocolError::LongLine),
            (long(b"INFO", MAX_INFO), ProtocolError::LongLine),
        ] {
            let (events, error) = decode([bytes.clone()]);
            let shown = String::from_utf8_lossy(&bytes).chars().take(40).collect::<String>();
            assert_eq!((events, error), (vec![], Some(expected)), "{shown}");
        }
        let mut decoder = Decoder::new(10);
        decoder.push(b"no\r\nPING\r\n");
        assert_eq!(decoder.next_event(), Err(ProtocolError::Line));
        assert_eq!(decoder.next_event(), Err(ProtocolError::Line));
    }

    #[test]
    fn long_message_is_dropped_as_it_arrives() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"MSG a 1 18446744073709551615\r\n");
        for _ in 0..100 {
            assert_eq!(decoder.next_event(), Ok(None));
            decoder.push(&[0; 1000]);
            assert!(decoder.buffer.len() <= 1000);
        }
    }

    #[test]
    fn headers_have_names_in_lower_case() {
        assert_eq!(headers(b""), Some(vec![]));
        let read = headers(b"NATS/1.0\r\nX-A: b\r\nx-a:c:d \r\nE: \xff\r\nF:\r\n\r\n").unwrap();
        let name = str::to_owned;
        assert_eq!(
            read,
            [(name("x-a"), Some("b")), (name("x-a"), Some("c:d")), (name("e"), None), (name("f"), Some(""))]
        );
        for bytes in [&b"NATS/1.0\r\nA: b\r\n"[..], b"HTTP/1.0\r\nA: b\r\n\r\n", b"NATS/1.0\r\nab\r\n\r\n"] {
            assert_eq!(headers(bytes), None);
        }
    }

    #[test]
    fn commands_have_the_form_of_the_protocol() {
        let mut out = Vec::new();
        subscribe(&mut out, "a.>", Some("group"), 1);
        subscribe(&mut out, "b.>", None, 2);
        publish(&mut out, "r", "{}");
        assert_eq!(out, b"SUB a.> group 1\r\nSUB b.> 2\r\nPUB r 2\r\n{}\r\n");
    }
}
