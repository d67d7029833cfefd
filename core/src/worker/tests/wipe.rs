//! The read buffer keeps no request head and no message with a token.

use super::in_band::{answer, frame_of, request, user};
use super::*;
use crate::Verdict;
use crate::worker::InBandConfig;

/// A worker with one connection, and the read buffer of its runtime.
struct Reader {
    runtime: Runtime,
    key: Key,
    buffer: Vec<u8>,
}

impl Reader {
    fn new() -> Reader {
        let in_band = InBandConfig { refresh: true };
        let mut runtime = Runtime::of(WorkerConfig { in_band, ..WorkerConfig::default() });
        let key = runtime.open();
        Reader { runtime, key, buffer: vec![0; 4096] }
    }

    /// Receives these bytes in one read. Returns whether the buffer has only zeros afterwards.
    fn is_wiped_after(&mut self, bytes: &[u8]) -> bool {
        let Reader { runtime, key, buffer } = self;
        let socket = &mut ModelSocket::with(bytes);
        runtime.worker.on_readable(*key, runtime.now, buffer, socket, &mut runtime.recorder);
        buffer.iter().all(|byte| *byte == 0)
    }
}

const REFRESH: &str = r#"{"type":"refresh","token":"a.b-c"}"#;

#[test]
fn a_head_and_a_message_with_a_token_are_overwritten_and_other_messages_are_not() {
    let mut reader = Reader::new();
    let (begin, end) = HEAD.as_bytes().split_at(HEAD.len() / 2);
    assert!(reader.is_wiped_after(begin), "a part of a head");
    assert!(reader.is_wiped_after(end), "the rest of it");
    assert!(!reader.is_wiped_after(&frame_of("hello")));
    assert!(reader.is_wiped_after(&frame_of(REFRESH)));
    reader.runtime.wait(Duration::ZERO);
    let request = request(&mut reader.runtime).expect("a check");
    answer(&mut reader.runtime, &request, Verdict::Valid(user("123", 2_000)));
    // A part may be anything. The whole buffer is overwritten when the message turns out to have a token.
    let (begin, end) = REFRESH.as_bytes().split_at(20);
    assert!(!reader.is_wiped_after(&frame(0x01, begin)));
    assert!(reader.is_wiped_after(&frame(0x80, end)));
}

#[test]
fn a_refused_head_is_overwritten() {
    for bytes in ["GET / HTTP/1.1\nAuthorization: Bearer a", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\nx"] {
        assert!(Reader::new().is_wiped_after(bytes.as_bytes()), "{bytes:?}");
    }
    assert!(Reader::new().is_wiped_after(&[b'a'; 4000]), "an incomplete head");
}
