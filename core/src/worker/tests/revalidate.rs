//! Tokens that are checked again before a message is handled.

use std::cell::Cell;

use super::in_band::{answer, frame_of, received, request, user};
use super::*;
use crate::Verdict;
use crate::policy::ExpiryConfig;
use crate::worker::{CheckRequest, InBandConfig, Revalidate};

thread_local! {
    /// The time since 1970.
    static TIME: Cell<Duration> = const { Cell::new(START) };
}

const START: Duration = Duration::from_secs(1_000);
const SECOND: Duration = Duration::from_secs(1);
const AFTER: Revalidate = Revalidate::After(Duration::from_secs(30));

fn config(revalidate: Revalidate) -> WorkerConfig {
    TIME.set(START);
    let handshake =
        HandshakeConfig { wall_clock: Some(|| TIME.get()), keeps_tokens: true, ..HandshakeConfig::default() };
    let expiry = ExpiryConfig { grace: Duration::ZERO, spread: Duration::ZERO };
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    let revalidate = Some(revalidate);
    WorkerConfig { handshake, expiry: Some(expiry), keep_alive, revalidate, ..WorkerConfig::default() }
}

fn admit(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    let lines = "Authorization: Bearer a.b.c\r\nUser-Name:";
    runtime.feed(key, HEAD.replace("User-Name:", lines).as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
    runtime.take_wire(key);
    key
}

/// Sends text messages in one read.
fn send(runtime: &mut Runtime, key: Key, texts: &[&str]) {
    let frames: Vec<u8> = texts.iter().flat_map(|text| frame_of(text)).collect();
    runtime.feed(key, &frames);
    runtime.wait(Duration::ZERO);
}

#[track_caller]
fn asked(runtime: &mut Runtime) -> CheckRequest {
    let asked = request(runtime).expect("a token");
    assert_eq!(asked.check.token.as_bytes(), b"a.b.c");
    asked
}

fn holds() -> Verdict {
    Verdict::Valid(user("123", 9_000))
}

#[test]
fn each_message_waits_for_a_check() {
    let mut runtime = Runtime::of(config(Revalidate::EachMessage));
    let key = admit(&mut runtime);
    send(&mut runtime, key, &["one", "two", "three"]);
    for text in ["one", "two", "three"] {
        assert_eq!(runtime.wire(key), b"", "{text} is handled before the check");
        assert!(!runtime.worker.wants_read(key));
        let asked = asked(&mut runtime);
        assert!(request(&mut runtime).is_none(), "one check at a time");
        answer(&mut runtime, &asked, holds());
        assert_eq!(received(&mut runtime, key), [text]);
    }
    assert!(request(&mut runtime).is_none() && runtime.worker.wants_read(key));
    // Control frames do not wait.
    runtime.feed(key, &[0x89, 0x81, 0, 0, 0, 0, b'p']);
    assert_eq!(runtime.wire(key), b"\x8a\x01p");
    assert!(request(&mut runtime).is_none());
    // Fragments with a control frame in between are one message.
    runtime.take_wire(key);
    runtime.feed(key, b"\x01\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b");
    runtime.wait(Duration::ZERO);
    let asked = asked(&mut runtime);
    answer(&mut runtime, &asked, holds());
    assert_eq!(runtime.wire(key), b"\x8a\x00\x81\x02ab");
}

#[test]
fn a_token_that_does_not_hold_any_more_ends_the_connection_before_its_message() {
    for (verdict, close) in [
        (Verdict::Refused, &b"\x88\x0f\x11\x31token refused"[..]),
        (Verdict::Valid(user("124", 9_000)), b"\x88\x0f\x11\x31token refused"),
        (Verdict::Valid(user("123", 1_000)), b"\x88\x0f\x11\x31token refused"),
        (Verdict::Unknown, b"\x88\x13\x03\xf5token not checked"),
    ] {
        for revalidate in [Revalidate::EachMessage, AFTER] {
            let mut runtime = Runtime::of(config(revalidate));
            let key = admit(&mut runtime);
            runtime.wait(31 * SECOND);
            send(&mut runtime, key, &["one"]);
            let asked = asked(&mut runtime);
            answer(&mut runtime, &asked, verdict.clone());
            assert_eq!(runtime.wire(key), close, "{verdict:?}");
            assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("message")));
            assert!(runtime.recorder.0.iter().any(|note| note.starts_with("credentials of 123")));
        }
    }
}

#[test]
fn messages_within_the_time_of_the_last_check_do_not_wait() {
    let mut runtime = Runtime::of(config(AFTER));
    let key = admit(&mut runtime);
    for _ in 0..3 {
        runtime.wait(29 * SECOND);
        send(&mut runtime, key, &["soon", "enough"]);
        assert_eq!(received(&mut runtime, key), ["soon", "enough"]);
        // No check without a message.
        runtime.wait(1_000 * SECOND);
        assert!(request(&mut runtime).is_none());
        send(&mut runtime, key, &["late", "too"]);
        let asked = asked(&mut runtime);
        runtime.wait(SECOND);
        assert_eq!(runtime.wire(key), b"");
        answer(&mut runtime, &asked, holds());
        assert_eq!(received(&mut runtime, key), ["late", "too"]);
    }
}

#[test]
fn a_check_without_a_verdict_ends_the_connection() {
    let mut runtime = Runtime::of(config(Revalidate::EachMessage));
    let key = admit(&mut runtime);
    send(&mut runtime, key, &["one"]);
    runtime.wait(9 * SECOND);
    assert_eq!(runtime.wire(key), b"");
    runtime.wait(SECOND + Duration::from_millis(2));
    assert_eq!(runtime.wire(key), b"\x88\x13\x03\xf5token not checked");
}

#[test]
fn large_messages_wait_too() {
    for revalidate in [Revalidate::EachMessage, AFTER] {
        let mut runtime = Runtime::of(config(revalidate));
        let key = admit(&mut runtime);
        runtime.wait(31 * SECOND);
        let text = "x".repeat(60_000);
        let frame = frame_of(&text);
        for part in frame.chunks(10_000) {
            runtime.feed(key, part);
        }
        runtime.wait(Duration::ZERO);
        assert_eq!(runtime.wire(key), b"");
        let asked = asked(&mut runtime);
        answer(&mut runtime, &asked, holds());
        assert!(runtime.wire(key).ends_with(text.as_bytes()));
        assert!(runtime.wire(key).len() < text.len() + 8);
    }
}

#[test]
fn an_upgrade_without_a_token_is_refused() {
    let mut runtime = Runtime::of(config(AFTER));
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 401 "));
    assert!(
        runtime.recorder.0.iter().any(|note| note == "rejected TokenMissing"),
        "{:?}",
        runtime.recorder.0
    );
}

#[test]
fn a_refreshed_token_is_checked_in_place_of_the_one_before() {
    let in_band = InBandConfig { refresh: true };
    let mut runtime = Runtime::of(WorkerConfig { in_band, ..config(AFTER) });
    let key = admit(&mut runtime);
    send(&mut runtime, key, &[r#"{"type":"refresh","token":"d.e.f"}"#]);
    let asked = request(&mut runtime).expect("a token");
    assert_eq!(asked.check.token.as_bytes(), b"d.e.f");
    answer(&mut runtime, &asked, holds());
    assert_eq!(received(&mut runtime, key), [r#"{"type":"refreshed","expires_at":9000}"#]);
    runtime.wait(31 * SECOND);
    send(&mut runtime, key, &["late"]);
    let asked = request(&mut runtime).expect("a token");
    assert_eq!(asked.check.token.as_bytes(), b"d.e.f");
    // A token that is refused does not replace it.
    answer(&mut runtime, &asked, holds());
    assert_eq!(received(&mut runtime, key), ["late"]);
    send(&mut runtime, key, &[r#"{"type":"refresh","token":"x.y.z"}"#]);
    let refused = request(&mut runtime).expect("a token");
    answer(&mut runtime, &refused, Verdict::Refused);
    received(&mut runtime, key);
    runtime.wait(31 * SECOND);
    send(&mut runtime, key, &["late"]);
    assert_eq!(request(&mut runtime).expect("a token").check.token.as_bytes(), b"d.e.f");
}

#[test]
fn a_token_passed_through_the_gateway_replaces_the_one_before() {
    let mut runtime = Runtime::of(config(AFTER));
    let key = admit(&mut runtime);
    let number = runtime.worker.status(key).expect("a user").id;
    let refresh = runtime.open();
    runtime.feed(
        refresh,
        format!(
            "POST /ws/refresh?connection={number} HTTP/1.1\r\nHost: x\r\nUser-ID: 123\r\nUser-Token-Exp: 9999\r\n\
             Authorization: Bearer d.e.f\r\n\r\n"
        )
        .as_bytes(),
    );
    runtime.wait(Duration::ZERO);
    assert!(runtime.wire(refresh).starts_with(b"HTTP/1.1 204 "), "{}", runtime.wire(refresh).escape_ascii());
    runtime.wait(31 * SECOND);
    send(&mut runtime, key, &["late"]);
    assert_eq!(request(&mut runtime).expect("a token").check.token.as_bytes(), b"d.e.f");
}
