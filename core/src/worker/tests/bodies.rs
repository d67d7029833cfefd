//! Upgrades that announce a body in chunks, as some proxies do for every request.

use super::splits::check_splits;
use super::*;
use crate::handshake::Reject;

fn chunked() -> String {
    HEAD.replace("\r\n\r\n", "\r\nTransfer-Encoding: Chunked\r\n\r\n")
}

/// The time limit of the last chunk.
const LAST_CHUNK: Duration = Duration::from_secs(1);

#[test]
fn an_empty_body_in_chunks_is_consumed_before_the_upgrade_at_any_split() {
    let request =
        [chunked().as_bytes(), b"0\r\n\r\n", &frame(0x81, b"Hello"), &frame(0x88, b"\x03\xe8")].concat();
    check_splits(&request);
    let (wire, notes, transport) = observe([&request[..]].into_iter());
    assert!(wire.starts_with(b"HTTP/1.1 101 ") && wire.ends_with(b"\x81\x05Hello\x88\x02\x03\xe8"));
    assert_eq!((notes.0.len(), transport), (3, Transport::Close), "{notes:?}");
}

#[test]
fn a_body_with_content_is_refused_at_any_split() {
    for body in [
        &b"5\r\nhello\r\n0\r\n\r\n"[..],
        b"0;a\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"00\r\n\r\n",
        b"0\n\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        let request = [chunked().as_bytes(), body].concat();
        check_splits(&request);
        let (wire, notes, _) = observe([&request[..]].into_iter());
        assert!(wire.starts_with(b"HTTP/1.1 400 "), "{}", body.escape_ascii());
        assert_eq!(notes.0, ["rejected Body"], "{}", body.escape_ascii());
    }
}

#[test]
fn frames_before_the_answer_are_no_body() {
    let request = [chunked().as_bytes(), &frame(0x81, b"Hello")].concat();
    check_splits(&request);
    assert_eq!(observe([&request[..]].into_iter()).1.0, ["rejected Body"]);
}

#[test]
fn a_body_that_does_not_end_within_a_second_is_refused() {
    for part in [&b""[..], b"0", b"0\r\n\r"] {
        let mut runtime = Runtime::of(WorkerConfig::default());
        let key = runtime.open();
        runtime.feed(key, chunked().as_bytes());
        runtime.feed(key, part);
        runtime.wait(LAST_CHUNK - Duration::from_millis(1));
        assert_eq!(runtime.wire(key), b"", "{}", part.escape_ascii());
        runtime.wait(Duration::from_millis(1));
        assert!(runtime.wire(key).starts_with(b"HTTP/1.1 400 "), "{}", part.escape_ascii());
        assert_eq!(runtime.recorder.0, ["rejected Body"]);
    }
}

#[test]
fn a_body_that_ends_a_moment_later_is_consumed() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, chunked().as_bytes());
    runtime.wait(LAST_CHUNK / 2);
    runtime.feed(key, b"0\r\n\r\n");
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
    runtime.wait(LAST_CHUNK);
    runtime.feed(key, &frame(0x81, b"Hello"));
    assert!(runtime.wire(key).ends_with(b"\x81\x05Hello"));
    assert_eq!(runtime.worker.totals().connections, 1);
}

#[test]
fn other_bodies_are_refused_at_once() {
    for lines in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
    ] {
        let request = HEAD.replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
        let (wire, notes, _) = observe([request.as_bytes()].into_iter());
        assert!(wire.starts_with(b"HTTP/1.1 400 "), "{lines}");
        assert_eq!(notes.0, ["rejected Body"], "{lines}");
    }
}

#[test]
fn what_is_refused_in_any_case_waits_for_no_body() {
    let request = chunked().replace("GET /ws", "GET /other");
    assert!(observe([request.as_bytes()].into_iter()).0.starts_with(b"HTTP/1.1 404 "));
    let mut config = WorkerConfig::default();
    config.handshake.reject = Reject::Close;
    let mut runtime = Runtime::of(config);
    let key = runtime.open_from(PEER, Some(HandshakeError::Draining));
    runtime.feed(key, chunked().as_bytes());
    assert_ne!(runtime.wire(key), b"");
}

#[test]
fn a_client_that_leaves_before_its_body_is_abandoned() {
    let (wire, notes, _) = observe([chunked().as_bytes()].into_iter());
    assert_eq!((wire.len(), notes.0), (0, vec![format!("abandoned after {}", chunked().len())]));
}
