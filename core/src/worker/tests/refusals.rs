//! Refusals: by a status, or, so that a browser can see them, by a 101 and a Close frame.

use super::*;
use crate::handshake::{Reject, TrustedProxies};

/// Returns a runtime that closes instead of refusing by status.
fn closing() -> Runtime {
    let mut config = WorkerConfig::default();
    config.handshake.reject = Reject::Close;
    config.handshake.compression = true;
    config.handshake.subprotocols = vec!["postern.v1".to_owned()];
    Runtime::of(config)
}

/// Returns a request without a user.
fn anonymous() -> String {
    HEAD.replace("User-ID: 123\r\n", "")
}

/// Returns the answer to a request, and the connection, which has not ended yet.
#[track_caller]
fn dismissed(request: &str, refusal: Option<HandshakeError>) -> (Runtime, Key, String) {
    let mut runtime = closing();
    let key = runtime.open_from(PEER, refusal);
    runtime.feed(key, request.as_bytes());
    assert_eq!(runtime.transport(key), Transport::Open);
    let answer = runtime.wire(key).escape_ascii().to_string();
    (runtime, key, answer)
}

#[test]
fn a_refusal_that_is_about_the_user_is_said_by_a_close_frame() {
    let foreign = HEAD.replace("\r\n\r\n", "\r\nOrigin: https://evil.test\r\n\r\n");
    for (request, refusal, close, record) in [
        (anonymous(), None, r"\x88\x12\x111identity_missing", "rejected IdentityMissing by a Close of 4401"),
        (foreign, None, r"\x88\x14\x113origin_not_allowed", "rejected OriginNotAllowed by a Close of 4403"),
        (
            HEAD.to_owned(),
            Some(HandshakeError::TooMany),
            r"\x88\x13\x11Ntoo_many_requests",
            "rejected TooMany by a Close of 4430",
        ),
    ] {
        let (mut runtime, key, answer) = dismissed(&request, refusal);
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols"), "{answer}");
        assert!(answer.ends_with(&format!(r"\r\n\r\n{close}")), "{answer}");
        check_wire(runtime.wire(key));
        runtime.feed(key, &frame(0x88, b"\x11\x31"));
        assert!(runtime.worker.is_empty(), "the closing handshake is over");
        assert_eq!(runtime.recorder.0, [record], "never established, so never closed");
    }
}

#[test]
fn the_subprotocol_is_answered_and_no_extension_is() {
    let offers =
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: bearer, a.b.c\r\n\r\n";
    let (_, _, answer) = dismissed(&anonymous().replace("\r\n\r\n", offers), None);
    assert!(
        answer.contains("Sec-WebSocket-Protocol: bearer\\r\\nX-Request-Id: 00000000-1\\r\\n\\r\\n"),
        "{answer}"
    );
    assert!(!answer.contains("a.b.c") && !answer.contains("permessage-deflate"), "{answer}");
    let both = offers.replace("a.b.c", "a.b.c, postern.v1");
    let (_, _, answer) = dismissed(&anonymous().replace("\r\n\r\n", &both), None);
    assert!(
        answer.contains("Sec-WebSocket-Protocol: postern.v1\\r\\nX-Request-Id: 00000000-1\\r\\n\\r\\n"),
        "{answer}"
    );
}

#[test]
fn every_other_refusal_stays_a_status() {
    for (request, refusal, status) in [
        (HEAD.replace("GET /ws", "GET /other"), None, "404"),
        (HEAD.replace("User-ID: 123", "User-ID: 1,2"), None, "400"),
        (HEAD.replace("Version: 13", "Version: 12"), None, "426"),
        // Not an upgrade, with any user: there is no WebSocket to close.
        (anonymous().replace("Upgrade: websocket\r\n", ""), None, "400"),
        (HEAD.to_owned(), Some(HandshakeError::Overloaded), "503"),
        // The refusal that was decided first is sent.
        (HEAD.replace("Sec-WebSocket-Key", "X-Key"), Some(HandshakeError::TooMany), "429"),
    ] {
        let mut runtime = closing();
        let key = runtime.open_from(PEER, refusal);
        runtime.feed(key, request.as_bytes());
        let answer = runtime.wire(key).escape_ascii().to_string();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(runtime.transport(key), Transport::ShutdownWrite);
        let [note] = &runtime.recorder.0[..] else { panic!("one record expected: {:?}", runtime.recorder) };
        assert!(note.starts_with("rejected ") && !note.contains("Close"), "{note}");
    }
}

#[test]
fn messages_after_a_rejection_by_close_are_ignored() {
    let (mut runtime, key, answer) = dismissed(&anonymous(), None);
    let large = frame(0x82, &[b'x'; 60_000]);
    let (half, rest) = large.split_at(40_000);
    for bytes in [&frame(0x81, b"let me in")[..], half, rest, &frame(0x01, b"begun")] {
        runtime.feed(key, bytes);
    }
    assert_eq!(runtime.wire(key).escape_ascii().to_string(), answer, "no bytes are sent");
    assert_eq!(runtime.transport(key), Transport::Open);
    runtime.feed(key, b"\xff\xff");
    assert_eq!(runtime.transport(key), Transport::ShutdownWrite, "frames must still be frames");
    runtime.end(key);
    assert!(runtime.worker.is_empty());
    assert_eq!(runtime.recorder.0, ["rejected IdentityMissing by a Close of 4401"]);
}

#[test]
fn messages_after_a_rejected_request_are_ignored() {
    let request = [anonymous().as_bytes(), &frame(0x81, b"early"), &frame(0x88, b"\x03\xe8")].concat();
    let mut whole = closing();
    let key = whole.open();
    whole.feed(key, &request);
    assert!(whole.worker.is_empty());
    for at in 0..request.len() {
        let mut split = closing();
        let key = split.open();
        split.feed(key, &request[..at]);
        split.feed(key, &request[at..]);
        assert_eq!(split.wire(key), whole.wire(key), "split at {at}");
        assert_eq!(split.recorder, whole.recorder, "split at {at}");
        assert!(split.worker.is_empty());
    }
}

#[test]
fn a_dismissed_peer_that_stays_is_dropped() {
    let (mut runtime, _, _) = dismissed(&anonymous(), None);
    runtime.wait(Duration::from_millis(4_999));
    runtime.worker.shut_down();
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.worker.len(), 1);
    runtime.wait(Duration::from_millis(1));
    assert!(runtime.worker.is_empty());
    assert_eq!(runtime.recorder.0, ["rejected IdentityMissing by a Close of 4401"]);
}

#[test]
fn a_dismissal_that_the_socket_does_not_take_at_once_goes_out_whole() {
    let (expected, ..) = dismissed(&anonymous(), None);
    let expected = expected.wire(Key(0)).to_vec();
    let mut runtime = closing();
    runtime.takes = 7;
    let key = runtime.open();
    runtime.feed(key, anonymous().as_bytes());
    while runtime.worker.wants_write(key) {
        runtime.flush(key);
    }
    assert_eq!(runtime.wire(key), expected);
    runtime.fail(key);
    assert!(runtime.worker.is_empty());
}

#[test]
fn a_refusal_is_the_last_thing_on_the_wire() {
    let request = HEAD.replace("Version: 13", "Version: 1337");
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, request.as_bytes());
    let refusal = runtime.wire(key).to_vec();
    assert!(refusal.starts_with(b"HTTP/1.1 426 "));
    assert_eq!(runtime.transport(key), Transport::ShutdownWrite);
    runtime.feed(key, HEAD.as_bytes());
    assert_eq!(runtime.wire(key), refusal, "a second request is not served");
    runtime.end(key);
    assert!(runtime.worker.is_empty());
    assert_eq!(runtime.recorder.0, ["rejected Version"]);
}

#[test]
fn a_refused_peer_that_stays_is_dropped_after_a_second() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, b"\x16");
    runtime.wait(Duration::from_millis(999));
    assert_eq!(runtime.worker.len(), 1);
    runtime.wait(Duration::from_millis(1));
    assert!(runtime.worker.is_empty());
}

#[test]
fn an_overloaded_process_says_when_to_come_back() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open_from(PEER, Some(HandshakeError::Overloaded));
    runtime.feed(key, HEAD.as_bytes());
    let answer = String::from_utf8_lossy(runtime.wire(key)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let seconds = answer.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    assert!((1..=10).contains(&seconds.expect("a time").parse().expect("seconds")), "{answer}");
}

#[test]
fn untrusted_peers_get_nothing_but_a_403() {
    let mut config = WorkerConfig::default();
    config.handshake.trusted_proxies = TrustedProxies::new(Vec::new());
    let mut runtime = Runtime::of(config);
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 403 "));
}
