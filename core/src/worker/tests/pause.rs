//! A log that cannot accept more records.

use std::io::{IoSlice, Result};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A socket that must not be read, and accepts all output.
struct Unread(Vec<u8>);

impl Socket for Unread {
    fn receive(&mut self, _: &mut [u8]) -> Result<usize> {
        panic!("read although nothing can be recorded");
    }

    fn receive_into_spare(&mut self, _: &mut Vec<u8>) -> Result<usize> {
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
    runtime.recorder.1 = true;
    for _ in 0..2 {
        let transport = runtime.worker.on_readable(key, now, buffer, &mut socket, &mut runtime.recorder);
        assert_eq!(transport, Transport::Open);
    }
    assert_eq!(socket.0, b"\x81\x02ab");
}

#[test]
fn while_it_is_held_no_message_is_read_and_no_user_is_ended_for_that() {
    let (mut runtime, quiet) = admitted(SessionConfig::default());
    let slow = runtime.open();
    runtime.feed(slow, HEAD.as_bytes());
    runtime.take_wire(slow);
    let head = runtime.open();
    runtime.feed(head, b"GET /ws HTTP/1.1\r\n");
    runtime.feed(slow, &frame(0x01, b"a"));
    runtime.wait(4 * SECOND);

    runtime.pause_reads();
    let late = runtime.open();
    for key in [quiet, slow, head, late] {
        assert!(!runtime.worker.wants_read(key));
    }
    // After a second the log counts as stalled, and requests are read. Earlier requests get a second more.
    runtime.wait(SECOND);
    assert!(runtime.worker.is_log_stalled());
    for (key, is_read) in [(quiet, false), (slow, false), (head, true), (late, true)] {
        assert_eq!(runtime.worker.wants_read(key), is_read);
    }
    runtime.feed(late, b"GET ");
    runtime.wait(SECOND - Duration::from_millis(1));
    assert!(runtime.wire(head).is_empty());
    runtime.wait(Duration::from_millis(1));
    assert!(runtime.wire(head).starts_with(b"HTTP/1.1 408 "));
    for _ in 0..60 {
        runtime.wait(SECOND);
        let next = runtime.worker.poll_timeout(runtime.now);
        assert!(next.is_none_or(|at| at > runtime.now), "does not spin");
    }
    assert!(runtime.wire(late).starts_with(b"HTTP/1.1 408 "));
    assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("closed")), "{:?}", runtime.recorder);
    assert_eq!(runtime.worker.reads_paused_for(runtime.now), 62 * SECOND);
    runtime.resume_reads();
    assert!(!runtime.worker.is_log_stalled());
    assert!([quiet, slow].into_iter().all(|key| runtime.worker.wants_read(key)));

    // Of the thirty seconds that a message has, four had passed.
    runtime.wait(26 * SECOND - Duration::from_millis(1));
    assert!(runtime.wire(slow).is_empty());
    runtime.wait(Duration::from_millis(1));
    assert_eq!(runtime.wire(slow)[..4], *b"\x88\x17\x03\xf0", "1008");
    runtime.feed(quiet, &frame(0x81, b"hello"));
    assert_eq!(runtime.wire(quiet), b"\x81\x05hello");
}

#[test]
fn while_the_log_is_stalled_a_new_user_is_refused_and_later_admitted() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    runtime.pause_reads();
    let early = runtime.open();
    runtime.wait(SECOND);
    runtime.feed(early, HEAD.as_bytes());
    let answer = String::from_utf8_lossy(runtime.wire(early)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    assert!(answer.contains("\"log_stalled\""), "{answer}");
    assert_eq!(runtime.recorder.0, ["rejected LogStalled"]);
    // An invalid request is refused for its fault, as always.
    let wrong = runtime.open();
    runtime.feed(wrong, HEAD.replace("User-ID: 123\r\n", "").as_bytes());
    assert!(runtime.wire(wrong).starts_with(b"HTTP/1.1 401 "));
    runtime.resume_reads();
    let late = runtime.open();
    runtime.feed(late, HEAD.as_bytes());
    assert!(runtime.wire(late).starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_full_log_that_takes_more_within_a_second_refuses_nothing() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    for _ in 0..10 {
        runtime.pause_reads();
        runtime.wait(SECOND - Duration::from_nanos(1));
        assert!(!runtime.worker.is_log_stalled());
        runtime.resume_reads();
    }
    runtime.feed(key, HEAD.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_user_that_leaves_while_nothing_is_read_is_gone_half_a_second_later() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    assert!(!runtime.worker.wants_peer_closed(key), "a read tells");
    runtime.pause_reads();
    assert!(runtime.worker.wants_peer_closed(key));
    runtime.worker.handle_peer_closed(key, runtime.now);
    assert!(!runtime.worker.wants_peer_closed(key), "it is reported once");
    runtime.wait(SECOND / 2 - Duration::from_nanos(1));
    assert_eq!(runtime.worker.len(), 1);
    runtime.wait(Duration::from_nanos(1));
    assert!(runtime.worker.is_empty());
    assert!(runtime.recorder.0[1].starts_with("closed 123 Eof"), "{:?}", runtime.recorder);
}

#[test]
fn a_user_that_leaves_is_read_to_the_end_if_reading_goes_on_in_time() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.pause_reads();
    runtime.worker.handle_peer_closed(key, runtime.now);
    runtime.resume_reads();
    runtime.feed(key, &frame(0x81, b"last words"));
    runtime.wait(SECOND);
    assert_eq!(runtime.worker.len(), 1, "a read reports its end");
    runtime.end(key);
    assert!(runtime.recorder.0[1].starts_with("message text last words"), "{:?}", runtime.recorder);
}

#[test]
fn what_is_held_still_comes_to_its_end() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.pause_reads();
    runtime.worker.shut_down();
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key)[..4], *b"\x88\x0c\x03\xe9", "1001");
    runtime.wait(5 * SECOND);
    assert!(runtime.worker.is_empty());
}
