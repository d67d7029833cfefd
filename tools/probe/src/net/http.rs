//! A request and its answer.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime};

use httparse::{EMPTY_HEADER, Response, Status};

use super::dial::Stream;

/// The answer of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The beginning of the content of an answer other than a 101.
    pub(crate) body: String,
}

impl Answer {
    /// Returns the value of the first line of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(present, _)| present == name).map(|(_, value)| value.as_str())
    }
}

/// The reason why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The connection could not be opened, or broke.
    Broken(String),
    /// The server has closed the connection without an answer.
    Closed,
    TimedOut,
    /// The bytes are not HTTP/1.1; their beginning.
    NotHttp(Vec<u8>),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are shown as text")]
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => NoAnswer::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => NoAnswer::Closed,
            _ => NoAnswer::Broken(error.to_string()),
        }
    }
}

/// An answer with the times of the exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) answer: Answer,
    /// The head, as it arrived.
    pub(crate) head: Vec<u8>,
    /// The bytes after the head of a 101.
    pub(crate) rest: Vec<u8>,
    pub(crate) sent: SystemTime,
    pub(crate) received: SystemTime,
}

/// Sends a request, and receives the answer, with at most `max_body` bytes of its content.
pub(crate) fn exchange(
    stream: &mut Stream,
    request: &[u8],
    timeout: Duration,
    max_body: usize,
) -> Result<Exchange, NoAnswer> {
    let (deadline, sent) = (Instant::now() + timeout, SystemTime::now());
    stream.write_all(request)?;
    stream.flush()?;
    let mut bytes = Vec::new();
    loop {
        if let Some((answer, used)) = parse(&bytes)? {
            let received = SystemTime::now();
            // An interim answer (RFC 9110 §15.2) precedes the answer.
            if (100..200).contains(&answer.status) && answer.status != 101 {
                bytes.drain(..used);
                continue;
            }
            let rest = bytes.split_off(used);
            let mut exchange = Exchange { answer, head: bytes, rest, sent, received };
            if exchange.answer.status != 101 {
                exchange.answer.body = receive_body(stream, &exchange, deadline, max_body);
            }
            return Ok(exchange);
        }
        if receive(stream, &mut bytes, deadline)? == 0 {
            return Err(if bytes.is_empty() { NoAnswer::Closed } else { NoAnswer::NotHttp(bytes) });
        }
    }
}

/// Parses a head. `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, NoAnswer> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [EMPTY_HEADER; 128];
    let mut response = Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(Status::Complete(used)) => {
            let line = |header: &httparse::Header<'_>| {
                (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
            };
            let headers = response.headers.iter().map(line).collect();
            Ok(Some((
                Answer { status: response.code.unwrap_or_default(), headers, body: String::new() },
                used,
            )))
        }
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(NoAnswer::NotHttp(bytes.get(..64).unwrap_or(bytes).to_vec())),
    }
}

/// Receives the content of an answer, at most `max_body` bytes of it. An error ends it: its beginning explains enough.
fn receive_body(stream: &mut Stream, exchange: &Exchange, deadline: Instant, max_body: usize) -> String {
    let answer = &exchange.answer;
    let is_chunked =
        answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = answer.header("content-length").and_then(|value| value.parse::<usize>().ok());
    let wanted = if is_chunked { max_body } else { length.unwrap_or(max_body).min(max_body) };
    let deadline = deadline.min(Instant::now() + BODY_TIMEOUT);
    let mut bytes = exchange.rest.clone();
    let is_whole = |bytes: &[u8]| bytes.len() >= wanted || is_chunked && bytes.ends_with(b"0\r\n\r\n");
    while !is_whole(&bytes) && matches!(receive(stream, &mut bytes, deadline), Ok(1..)) {}
    if is_chunked {
        bytes = unchunk(&bytes);
    }
    bytes.truncate(wanted);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Joins the chunks (RFC 9112 §7.1) that have arrived.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    while let Ok(Status::Complete((used, size))) = httparse::parse_chunk_size(bytes)
        && size > 0
    {
        let rest = bytes.get(used..).unwrap_or_default();
        let chunk = rest.get(..usize::try_from(size).unwrap_or(usize::MAX)).unwrap_or(rest);
        joined.extend_from_slice(chunk);
        bytes = rest.get(chunk.len() + 2..).unwrap_or_default();
    }
    joined
}

/// Reads once, until the deadline. Returns the number of bytes, zero at the end.
fn receive(stream: &mut Stream, bytes: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(left)?;
    let mut portion = [0; 4096];
    let count = stream.read(&mut portion)?;
    bytes.extend_from_slice(portion.get(..count).unwrap_or_default());
    Ok(count)
}

/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// The longest part of the content of an answer that explains a fault.
pub(crate) const MAX_BODY: usize = 16 * 1024;

/// The time for the content of an answer, which the server may leave open.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_at_every_split() {
        let head = b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nX-A:  b \r\n\r\nbody";
        for at in 0..head.len() - 4 {
            assert_eq!(parse(&head[..at]), Ok(None), "{at}");
        }
        let (answer, used) = parse(head).unwrap().unwrap();
        assert_eq!((answer.status, used, answer.header("x-a")), (404, head.len() - 4, Some("b")));
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n"), Err(NoAnswer::NotHttp(b"SSH-2.0-OpenSSH\r\n".to_vec())));
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(unchunk(b"5\r\nab"), b"ab");
        assert_eq!(unchunk(b"ffffffffffffffff\r\nab"), b"ab");
        assert_eq!(unchunk(b"x"), b"");
    }
}
