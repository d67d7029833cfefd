//! A log that can take no more.

use std::io::{IoSlice, Result};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A recorder that is full.
#[derive(Debug, Default)]
struct Full(Notes);

impl Recorder for Full {
    fn record(&mut self, record: &Record<'_>) {
        self.0.record(record);
    }

    fn is_full(&self) -> bool {
        true
    }
}

/// A socket that must not be read, and takes everything.
struct Unread(Vec<u8>);

impl Socket for Unread {
    fn receive(&mut self, _: &mut [u8]) -> Result<usize> {
        panic!("read although nothing can be recorded");
    }

    fn receive_behind(&mut self, _: &mut Vec<u8>) -> Result<usize> {
        panic!("read although nothing can be recorded");
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }
}

#[test]
fn with_a_full_recorder_a_turn_sends_and_does_not_read() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"ab"));
    let mut socket = Unread(Vec::new());
    let (now, buffer) = (runtime.now, &mut [0; 100]);
    for _ in 0..2 {
        let transport = runtime.service.exchange(key, now, buffer, &mut socket, &mut Full::default());
        assert_eq!(transport, Transport::Open);
    }
    assert_eq!(socket.0, b"\x81\x02ab");
}

#[test]
fn while_it_is_held_nobody_is_read_from_and_nobody_ends_for_that() {
    let (mut runtime, quiet) = admitted(SessionConfig::default());
    let slow = runtime.open();
    runtime.feed(slow, HEAD.as_bytes());
    runtime.wires[slow.0].clear();
    let head = runtime.open();
    runtime.feed(head, b"GET /ws HTTP/1.1\r\n");
    runtime.feed(slow, &frame(0x01, b"a"));
    runtime.wait(4 * SECOND);

    runtime.service.hold(runtime.now);
    let late = runtime.open();
    for key in [quiet, slow, head, late] {
        assert!(!runtime.service.wants_read(key));
    }
    for _ in 0..60 {
        runtime.wait(SECOND);
        let next = runtime.service.poll_timeout(runtime.now);
        assert!(next.is_none_or(|at| at > runtime.now), "does not spin");
    }
    assert!(runtime.notes.0.iter().all(|note| note.starts_with("established ")), "{:?}", runtime.notes);
    runtime.service.release(runtime.now);
    for key in [quiet, slow, head, late] {
        assert!(runtime.service.wants_read(key));
    }

    // One second of five is left, five of five, 26 of 30.
    runtime.wait(SECOND - Duration::from_millis(1));
    assert!(runtime.wire(head).is_empty());
    runtime.wait(SECOND);
    assert!(runtime.wire(head).starts_with(b"HTTP/1.1 408 "));
    assert!(runtime.wire(late).is_empty());
    runtime.wait(4 * SECOND);
    assert!(runtime.wire(late).starts_with(b"HTTP/1.1 408 "));
    assert!(runtime.wire(slow).is_empty());
    runtime.wait(21 * SECOND);
    assert_eq!(runtime.wire(slow)[..4], *b"\x88\x17\x03\xf0", "1008");
    runtime.feed(quiet, &frame(0x81, b"hello"));
    assert_eq!(runtime.wire(quiet), b"\x81\x05hello");
}

#[test]
fn what_is_held_still_comes_to_its_end() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.service.hold(runtime.now);
    runtime.service.shut_down();
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key)[..4], *b"\x88\x0c\x03\xe9", "1001");
    runtime.wait(5 * SECOND);
    assert!(runtime.service.is_empty());
}
