//! Finds the end of a head in bytes that arrive in any portions.

use zeroize::Zeroizing;

use super::error::HandshakeError;
use crate::field::is_token;
use crate::input::{Input, Payload};
use crate::wipe;

/// Collects a head, of a request or of an answer, up to and including its empty line.
///
/// Each byte is read once. httparse cannot resume, and parsing again from the start after each read is quadratic
/// (CVE-2023-43669: a head of 64 KiB in single bytes costs 432 ms). So the end is found first, and the complete head is parsed
/// once.
#[derive(Debug)]
pub struct HeadReader {
    /// The bytes of earlier reads. Empty while the head may still arrive in one piece, which is not copied.
    /// They may contain a token, so the memory is overwritten when it is dropped.
    collected: Zeroizing<Vec<u8>>,
    /// Bytes of the current line so far, its CR included.
    line: usize,
    /// Whether the last byte was CR.
    after_cr: bool,
    /// The number of bytes of [`HEAD`] that the request has begun with; [`OTHER_METHOD`] once it differs.
    method: u8,
    /// The longest head.
    max: usize,
}

impl HeadReader {
    /// Creates a reader of a head of at most `max` bytes, its last empty line included.
    pub fn new(max: usize) -> HeadReader {
        HeadReader { collected: Zeroizing::default(), line: 0, after_cr: false, method: 0, max }
    }

    /// Whether the method is HEAD, as far as the request has arrived: the answer then has no content (RFC 9110 §9.3.2).
    pub fn is_head(&self) -> bool {
        usize::from(self.method) == HEAD.len()
    }

    /// Returns the number of bytes from earlier reads.
    pub fn collected(&self) -> usize {
        self.collected.len()
    }

    /// Keeps a complete head until [`HeadReader::resume`], because its body has not arrived yet.
    pub(crate) fn suspend(&mut self, head: &[u8]) {
        self.collected = Zeroizing::new(head.to_vec());
    }

    /// Returns the head that was kept.
    pub(crate) fn resume<'b>(&mut self) -> Payload<'b> {
        Payload::Owned(std::mem::take(&mut *self.collected))
    }

    /// Returns the size of the buffer for these bytes.
    pub(crate) fn memory(&self) -> usize {
        self.collected.capacity()
    }

    /// Consumes bytes until the head is complete, and returns it. Bytes after it stay in `input`. `None` means that more bytes
    /// are needed.
    ///
    /// # Errors
    /// [`HandshakeError::NotHttp`] if the first byte cannot begin a method, such as the first byte of TLS or of the
    /// PROXY protocol (v2); [`HandshakeError::BareLineFeed`]; [`HandshakeError::HeadTooLarge`].
    pub fn receive<'b>(&mut self, input: &mut Input<'b>) -> Result<Option<Payload<'b>>, HandshakeError> {
        // RFC 9112 §2.2 suggests to skip an empty line before the request line, for clients that add one after a body.
        // This connection has one request, so no body can precede it.
        if let (true, [first, ..]) = (self.collected.is_empty(), input.peek())
            && !is_token(*first)
        {
            return Err(HandshakeError::NotHttp);
        }
        let room = self.max.saturating_sub(self.collected.len());
        let fresh = input.peek();
        self.see_method(fresh);
        let within = fresh.get(..room).unwrap_or(fresh);
        let end = self.scan(within)?;
        let used = end.unwrap_or(within.len());
        let is_full = end.is_none() && used == room;
        let taken = input.take(used);
        if is_full {
            return Err(HandshakeError::HeadTooLarge);
        }
        if end.is_some() && self.collected.is_empty() {
            return Ok(Some(Payload::Borrowed(taken)));
        }
        wipe::reserve(&mut self.collected, taken.len());
        self.collected.extend_from_slice(taken);
        Ok(end.map(|_| Payload::Owned(std::mem::take(&mut *self.collected))))
    }

    /// Compares the rest of the method.
    fn see_method(&mut self, fresh: &[u8]) {
        for byte in fresh {
            match HEAD.get(usize::from(self.method)) {
                Some(expected) if expected == byte => self.method += 1,
                Some(_) => self.method = OTHER_METHOD,
                None => return,
            }
        }
    }

    /// Returns the offset after the empty line, if it is in `bytes`.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let mut rest = bytes;
        // From one line feed to the next: this takes a third of the time of a loop over all bytes.
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, from) = rest.split_at_checked(at).unwrap_or_default();
            self.add_to_line(line);
            if !self.after_cr {
                return Err(HandshakeError::BareLineFeed);
            }
            rest = from.get(1..).unwrap_or_default();
            if self.line == 1 {
                return Ok(Some(bytes.len() - rest.len()));
            }
            (self.line, self.after_cr) = (0, false);
        }
        self.add_to_line(rest);
        Ok(None)
    }

    /// Adds bytes without a line feed to the current line.
    fn add_to_line(&mut self, bytes: &[u8]) {
        self.line += bytes.len();
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
    }
}

/// The beginning of a request line with the method HEAD.
const HEAD: &[u8] = b"HEAD ";

/// Larger than the length of [`HEAD`].
const OTHER_METHOD: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `portions`. Returns the verdict, and the bytes after the head.
    fn read(max: usize, portions: &[&[u8]]) -> (Result<Option<Vec<u8>>, HandshakeError>, Vec<u8>) {
        let mut reader = HeadReader::new(max);
        for (i, portion) in portions.iter().enumerate() {
            let mut bytes = portion.to_vec();
            let mut input = Input::new(&mut bytes);
            match reader.receive(&mut input) {
                Ok(None) => assert!(input.is_empty(), "asks for more although bytes are left"),
                verdict => {
                    let verdict = verdict.map(|head| head.map(Payload::into_vec));
                    let mut left = input.peek().to_vec();
                    portions[i + 1..].iter().for_each(|p| left.extend_from_slice(p));
                    return (verdict, left);
                }
            }
        }
        (Ok(None), Vec::new())
    }

    #[track_caller]
    fn check(max: usize, bytes: &[u8], verdict: Result<Option<&[u8]>, HandshakeError>, left: &[u8]) {
        let expected = (verdict.map(|head| head.map(<[u8]>::to_vec)), left.to_vec());
        assert_eq!(read(max, &[bytes]), expected, "in one piece");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let dripped = read(max, &single);
        assert_eq!(dripped.0, expected.0, "byte by byte");
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(read(max, &[a, b]).0, expected.0, "split at {at}");
        }
    }

    #[test]
    fn the_head_ends_after_the_first_empty_line() {
        check(99, b"GET / HTTP/1.1\r\nA: b\r\n\r\n", Ok(Some(b"GET / HTTP/1.1\r\nA: b\r\n\r\n")), b"");
        check(99, b"G\r\n\r\n\x81\x85", Ok(Some(b"G\r\n\r\n")), b"\x81\x85");
        check(99, b"G\r\nA:\r\r\n\r\nx", Ok(Some(b"G\r\nA:\r\r\n\r\n")), b"x");
    }

    #[test]
    fn an_unfinished_head_asks_for_more() {
        for bytes in [&b""[..], b"G", b"G\r", b"G\r\n", b"G\r\n\r", b"G\r\r", b"G\r\nA: \r"] {
            check(99, bytes, Ok(None), b"");
        }
    }

    #[test]
    fn a_line_feed_without_carriage_return_is_refused_at_once() {
        check(99, b"GET / HTTP/1.1\nA: b", Err(HandshakeError::BareLineFeed), b"GET / HTTP/1.1\nA: b");
        check(99, b"G\r\n\n", Err(HandshakeError::BareLineFeed), b"G\r\n\n");
        check(
            99,
            b"G\r\nUser-ID: 1\nEvil: 1\r\n\r\n",
            Err(HandshakeError::BareLineFeed),
            b"G\r\nUser-ID: 1\nEvil: 1\r\n\r\n",
        );
    }

    #[test]
    fn what_cannot_begin_a_method_is_refused_at_once() {
        for bytes in [&b"\x16\x03\x01"[..], b"\r\n\r\n\0\r\nQUIT\n", b" GET", b"\n", b"\x81\x80"] {
            check(99, bytes, Err(HandshakeError::NotHttp), bytes);
        }
    }

    #[test]
    fn a_head_of_the_limit_passes_and_one_byte_more_does_not() {
        let head = b"G\r\nA: bc\r\n\r\n";
        check(head.len(), head, Ok(Some(head)), b"");
        check(head.len() - 1, head, Err(HandshakeError::HeadTooLarge), b"\n");
    }

    #[test]
    fn the_method_head_is_known_as_soon_as_it_is_there() {
        for (bytes, is_head) in [
            (&b"HEAD /ws HTTP/1.1\r\n\r\n"[..], true),
            (b"HEAD ", true),
            (b"HEAD /\n", true),
            (b"HEAD", false),
            (b"HEADS / HTTP/1.1\r\n\r\n", false),
            (b"head / HTTP/1.1\r\n\r\n", false),
            (b"GET /HEAD HTTP/1.1\r\n\r\n", false),
            (b"HHEAD / HTTP/1.1\r\n\r\n", false),
            (b"", false),
        ] {
            for at in 0..=bytes.len() {
                let mut reader = HeadReader::new(20);
                for part in [&bytes[..at], &bytes[at..]] {
                    // The method is known even if the rest is invalid.
                    let _ = reader.receive(&mut Input::new(&mut part.to_vec()));
                }
                assert_eq!(reader.is_head(), is_head, "{} split at {at}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_head_in_one_read_is_not_copied() {
        let mut bytes = *b"G\r\n\r\n";
        let mut input = Input::new(&mut bytes);
        let head = HeadReader::new(99).receive(&mut input);
        assert!(matches!(head, Ok(Some(Payload::Borrowed(_)))), "{head:?}");
    }
}
