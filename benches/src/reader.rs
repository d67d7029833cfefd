//! The receiving half of a session.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use postern_core::handshake::Deflate;
use postern_core::{Codec, Event, Input, Session, SessionConfig, Turn};

/// A [`Session`] that receives bytes and sends no answers.
///
/// It unmasks payloads in place and does not change headers, so the same buffer can be received repeatedly without a
/// copy: every second time the payloads are masked again, which does not matter for binary messages.
#[derive(Debug)]
pub struct Reader {
    session: Session,
    out: Vec<u8>,
    codec: Codec,
    now: Instant,
}

impl Reader {
    /// Creates a session with the default limits and the negotiated compression.
    pub fn new(deflate: Option<Deflate>) -> Reader {
        Reader {
            session: Session::new(Arc::new(SessionConfig::default())).with_deflate(deflate),
            out: Vec::new(),
            codec: Codec::new(),
            now: Instant::now(),
        }
    }

    /// Receives the bytes of one read. Returns the number of messages that it completed.
    ///
    /// # Panics
    ///
    /// If the bytes are not frames of messages.
    #[inline]
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut input = Input::new(bytes);
        let mut turn =
            Turn { now: self.now, out: &mut self.out, is_backlogged: false, codec: &mut self.codec };
        let mut messages = 0;
        while let Some(event) = self.session.next_event(&mut turn, &mut input).expect("the frames are valid")
        {
            assert!(matches!(event, Event::Text(_) | Event::Binary(_)), "{event:?}");
            black_box(&event);
            messages += 1;
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FullRead, Kind};

    #[test]
    fn all_messages_of_a_buffer_are_read_again_and_again_however_it_is_cut() {
        for size in [0, 20, 125, 126, 64 * 1024] {
            let read = FullRead::new(Kind::Binary, size);
            let mut bytes = read.bytes().to_vec();
            for portion in [1, 7, 1460, usize::MAX] {
                let mut reader = Reader::new(None);
                for _ in 0..2 {
                    let messages: usize =
                        bytes.chunks_mut(portion.min(read.bytes().len())).map(|part| reader.read(part)).sum();
                    assert_eq!(messages, read.messages(), "{size} bytes, in portions of {portion}");
                }
            }
        }
    }
}
