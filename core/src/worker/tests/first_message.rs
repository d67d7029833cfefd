//! Connections whose clients identify themselves by their first message.

use super::in_band::{answer, frame_of, received, request, send, user};
use super::*;
use crate::handshake::Identity;
use crate::policy::ExpiryConfig;
use crate::worker::FirstMessageConfig;
use crate::{TokenCheck, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> WorkerConfig {
    let handshake = HandshakeConfig {
        paths: vec!["/chat".to_owned(), "/ws".to_owned()],
        first_message_paths: vec![1],
        wall_clock: Some(|| Duration::from_secs(1_000)),
        ..HandshakeConfig::default()
    };
    let expiry = ExpiryConfig { grace: Duration::ZERO, spread: Duration::ZERO };
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    WorkerConfig { handshake, expiry: Some(expiry), keep_alive, ..WorkerConfig::default() }
}

/// Opens a connection with these header lines. The 101 is removed from the wire.
fn open(runtime: &mut Runtime, lines: &str) -> Key {
    let key = runtime.open();
    let head = HEAD.replace("User-ID: 123\r\n    User-Name: John Doe\r\n", "");
    let (request, _) = head.split_once("User-ID").unwrap_or((&head, ""));
    runtime.feed(key, format!("{request}{lines}\r\n").as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "), "{}", runtime.wire(key).escape_ascii());
    runtime.take_wire(key);
    key
}

const AUTH: &str = r#"{"type":"auth","token":"a.b.c"}"#;

fn close_of(code: u16, reason: &str) -> Vec<u8> {
    let mut frame = vec![0x88, reason.len() as u8 + 2];
    frame.extend(code.to_be_bytes());
    frame.extend(reason.as_bytes());
    frame
}

#[test]
fn a_token_that_holds_admits_its_user_and_the_messages_after_it_follow() {
    let mut runtime = Runtime::of(config());
    // The client's own identity headers do not count.
    let key = open(
        &mut runtime,
        "User-ID: admin\r\nOrigin: http://app.example\r\nX-Forwarded-For: 203.0.113.9\r\n",
    );
    assert_eq!(runtime.worker.user(key).map(Identity::id), None);
    assert!(runtime.recorder.0.is_empty(), "{:?}", runtime.recorder.0);
    let messages = [AUTH, "first", "second"].map(frame_of).concat();
    runtime.feed(key, &messages);
    runtime.wait(Duration::ZERO);
    assert_eq!(received(&mut runtime, key), Vec::<String>::new());
    let asked = request(&mut runtime).expect("a token");
    let TokenCheck { token, path, origin, client } = &asked.check;
    assert_eq!((token.as_bytes(), path.as_deref()), (&b"a.b.c"[..], Some("/ws")));
    assert_eq!((origin.as_deref(), client.as_deref()), (Some("http://app.example"), Some("203.0.113.9")));
    answer(&mut runtime, &asked, Verdict::Valid(user("7", 2_000)));
    assert_eq!(
        received(&mut runtime, key),
        [r#"{"type":"authenticated","expires_at":2000}"#, "first", "second"]
    );
    let known = runtime.worker.user(key).expect("a user");
    assert_eq!(
        (known.id(), known.origin(), known.client()),
        ("7", Some("http://app.example"), Some("203.0.113.9"))
    );
    assert_eq!(runtime.recorder.0.iter().filter(|note| note.starts_with("established")).count(), 1);
    send(&mut runtime, key, AUTH);
    assert_eq!(received(&mut runtime, key), [AUTH], "a message like any other");
    assert!(!runtime.recorder.0[0].contains("a.b.c"));
    assert_eq!((runtime.worker.admitted(), runtime.worker.pending()), (1, 0));
}

#[test]
fn without_a_token_that_holds_the_connection_is_closed_at_once() {
    for (verdict, close) in [
        (Verdict::Refused, close_of(4401, "token_refused")),
        (Verdict::Unknown, close_of(1013, "token_unchecked")),
        (Verdict::Valid(user("7", 1_000)), close_of(4401, "token_expired")),
    ] {
        let mut runtime = Runtime::of(config());
        let key = open(&mut runtime, "");
        send(&mut runtime, key, AUTH);
        let asked = request(&mut runtime).expect("a token");
        answer(&mut runtime, &asked, verdict);
        assert_eq!(runtime.wire(key), close);
        assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("established")));
        assert_eq!((runtime.worker.admitted(), runtime.worker.pending()), (0, 0));
    }
    let binary = [&[0x82][..], &frame_of(AUTH)[1..]].concat();
    for message in [frame_of("hello"), frame_of("{}"), frame_of(r#"{"type":"auth"}"#), binary, frame_of("")] {
        let mut runtime = Runtime::of(config());
        let key = open(&mut runtime, "");
        runtime.feed(key, &message);
        runtime.wait(Duration::ZERO);
        assert_eq!(runtime.wire(key), close_of(4401, "first_message"), "{}", message.escape_ascii());
        assert!(request(&mut runtime).is_none());
    }
}

#[test]
fn a_client_has_ten_seconds_for_its_first_message_and_the_check() {
    for is_sent in [false, true] {
        let mut runtime = Runtime::of(config());
        let key = open(&mut runtime, "");
        runtime.wait(9 * SECOND);
        if is_sent {
            send(&mut runtime, key, AUTH);
        }
        runtime.wait(Duration::from_millis(999));
        assert_eq!(runtime.wire(key), b"");
        runtime.wait(Duration::from_millis(2));
        let (code, reason) = if is_sent { (1013, "token_unchecked") } else { (4401, "first_message") };
        assert_eq!(runtime.wire(key), close_of(code, reason));
    }
}

#[test]
fn a_first_message_is_short_and_there_are_few_such_connections() {
    let first_message = FirstMessageConfig { max_waiting: 2, ..FirstMessageConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { first_message, ..config() });
    let long = open(&mut runtime, "");
    let mut frame = vec![0x81, 0xfe];
    frame.extend(20_000_u16.to_be_bytes());
    frame.extend([0; 4]);
    runtime.feed(long, &frame);
    let wire = runtime.wire(long);
    assert!(matches!(wire, [0x88, _, 0x03, 0xf1, ..]), "{}", wire.escape_ascii());
    let waiting = [open(&mut runtime, ""), open(&mut runtime, "")];
    let refused = runtime.open();
    let (request_head, _) = HEAD.split_once("User-ID").unwrap();
    runtime.feed(refused, format!("{request_head}\r\n").as_bytes());
    assert!(runtime.wire(refused).starts_with(b"HTTP/1.1 503 "), "{}", runtime.wire(refused).escape_ascii());
    // An admitted connection does not count.
    send(&mut runtime, waiting[0], AUTH);
    let asked = request(&mut runtime).expect("a token");
    answer(&mut runtime, &asked, Verdict::Valid(user("7", 2_000)));
    open(&mut runtime, "");
}

#[test]
fn other_paths_need_an_identity_and_this_one_has_no_refresh_through_the_gateway() {
    let mut runtime = Runtime::of(config());
    let (request_head, _) = HEAD.split_once("User-ID").unwrap();
    for (head, status) in [
        (format!("{}\r\n", request_head.replace("/ws", "/chat")), "401"),
        (
            "GET /ws/refresh?session=s HTTP/1.1\r\nHost: x\r\nUser-ID: 7\r\nUser-Token-Exp: 9999\r\n\r\n"
                .to_owned(),
            "404",
        ),
        (format!("{request_head}Origin: http://evil.example\r\n\r\n"), "403"),
    ] {
        let key = runtime.open();
        runtime.feed(key, head.as_bytes());
        assert!(runtime.wire(key).starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{head}");
    }
}

#[test]
fn connections_that_wait_are_refused_when_the_process_stops_or_their_place_is_needed() {
    let mut runtime = Runtime::of(config());
    let key = open(&mut runtime, "");
    runtime.worker.drain(runtime.now, Duration::ZERO);
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), close_of(1012, "draining"));
    let mut runtime = Runtime::of(WorkerConfig { max_connections: Some(1), ..config() });
    let key = open(&mut runtime, "");
    let next = open(&mut runtime, "");
    while let Some(due) = runtime.worker.next_eviction(runtime.now, &mut runtime.recorder) {
        runtime.handle_due(due);
    }
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), close_of(1013, "crowded"));
    assert_eq!((runtime.wire(next), runtime.worker.pending()), (&b""[..], 1));
    let mut runtime = Runtime::of(config());
    let key = open(&mut runtime, "");
    runtime.end(key);
    assert!(runtime.recorder.0.iter().any(|note| note.starts_with("abandoned")), "{:?}", runtime.recorder.0);
}
