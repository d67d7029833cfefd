//! The empty body that some proxies announce for an upgrade, by `Transfer-Encoding: chunked`.

use super::error::HandshakeError;
use crate::input::Input;

/// The progress of an empty body, which consists only of the last chunk (RFC 9112 §7.1).
///
/// No byte of it can be taken for a frame: `0` as the first byte of a frame has two reserved bits set.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmptyBody {
    /// At most the length of [`LAST_CHUNK`].
    received: u8,
}

impl EmptyBody {
    /// Takes bytes until the body is complete. Returns whether it is; what follows it stays in `input`.
    ///
    /// # Errors
    /// [`HandshakeError::Body`] if the body is not empty, or has chunk extensions or trailers.
    pub(crate) fn receive(&mut self, input: &mut Input<'_>) -> Result<bool, HandshakeError> {
        let missing = LAST_CHUNK.get(usize::from(self.received)..).unwrap_or_default();
        let len = missing.len().min(input.len());
        if input.peek().get(..len) != missing.get(..len) {
            return Err(HandshakeError::Body);
        }
        input.take(len);
        // The length is at most five.
        self.received += len as u8;
        Ok(len == missing.len())
    }
}

/// A chunk of size zero and an empty trailer section.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in two portions. Returns the verdict, and how many bytes are left.
    fn receive(bytes: &[u8], at: usize) -> (Result<bool, HandshakeError>, usize) {
        let mut body = EmptyBody::default();
        let mut left = bytes.len();
        let mut verdict = Ok(false);
        for portion in [&bytes[..at], &bytes[at..]] {
            if verdict == Ok(false) {
                let mut portion = portion.to_vec();
                let mut input = Input::new(&mut portion);
                let before = input.len();
                verdict = body.receive(&mut input);
                left -= before - input.len();
            }
        }
        (verdict, left)
    }

    #[test]
    fn the_last_chunk_is_taken_at_any_split_and_nothing_that_follows() {
        for at in 0..=LAST_CHUNK.len() + 2 {
            assert_eq!(receive(b"0\r\n\r\n\x81\x80", at), (Ok(true), 2), "split at {at}");
        }
    }

    #[test]
    fn a_part_of_the_last_chunk_asks_for_more() {
        for len in 0..LAST_CHUNK.len() {
            for at in 0..=len {
                assert_eq!(receive(&LAST_CHUNK[..len], at), (Ok(false), 0), "{len} bytes, split at {at}");
            }
        }
    }

    #[test]
    fn any_other_body_is_refused_at_any_split() {
        let others = [
            &b"5\r\nhello\r\n0\r\n\r\n"[..],
            b"00\r\n\r\n",
            b"0;a=b\r\n\r\n",
            b"0\n\n",
            b"0\r\nA: b\r\n\r\n",
            b"\x81",
        ];
        for other in others {
            for at in 0..=other.len() {
                assert_eq!(receive(other, at).0, Err(HandshakeError::Body), "{}", other.escape_ascii());
            }
        }
    }
}
