//! Messages with tokens.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::handshake::{Identity, IdentityRules, IdentityValues, Revocation, Revocations};
use crate::policy::ExpiryConfig;
use crate::worker::{CheckRequest, InBandConfig, WorkerEffect, WorkerMessage};
use crate::{TokenCheck, Verdict};

thread_local! {
    /// The time since 1970.
    static TIME: Cell<Duration> = const { Cell::new(START) };
}

const START: Duration = Duration::from_millis(1_000_500);
const SECOND: Duration = Duration::from_secs(1);

fn config() -> WorkerConfig {
    TIME.set(START);
    let handshake = HandshakeConfig { wall_clock: Some(|| TIME.get()), ..HandshakeConfig::default() };
    let expiry = ExpiryConfig { grace: Duration::ZERO, spread: Duration::ZERO };
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    let in_band = InBandConfig { refresh: true };
    WorkerConfig { handshake, expiry: Some(expiry), keep_alive, in_band, ..WorkerConfig::default() }
}

fn admit(runtime: &mut Runtime, exp: u64) -> Key {
    let key = runtime.open();
    let lines = format!("User-Token-Exp: {exp}\r\nUser-Name:");
    runtime.feed(key, HEAD.replace("User-Name:", &lines).as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
    runtime.take_wire(key);
    key
}

/// Sends a text message.
pub(super) fn send(runtime: &mut Runtime, key: Key, text: &str) {
    let frame = frame_of(text);
    runtime.feed(key, &frame);
    runtime.wait(Duration::ZERO);
}

pub(super) fn frame_of(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// Returns the text messages that have arrived.
pub(super) fn received(runtime: &mut Runtime, key: Key) -> Vec<String> {
    let wire = runtime.take_wire(key);
    let (mut texts, mut rest) = (Vec::new(), &wire[..]);
    while let [0x81, length, more @ ..] = rest {
        let (text, more) = more.split_at(usize::from(*length));
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = more;
    }
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    texts
}

/// Returns the token that the worker wants to be checked.
pub(super) fn request(runtime: &mut Runtime) -> Option<CheckRequest> {
    match runtime.worker.poll_effect()? {
        WorkerEffect::CheckToken(request) => Some(*request),
        other => panic!("{other:?}"),
    }
}

pub(super) fn answer(runtime: &mut Runtime, request: &CheckRequest, verdict: Verdict) {
    let message = WorkerMessage::TokenChecked(request.ticket, verdict);
    runtime.worker.handle_message(message, runtime.now, &mut runtime.recorder);
    runtime.wait(Duration::ZERO);
}

pub(super) fn user(id: &str, exp: u64) -> Identity {
    let exp = exp.to_string();
    let values = IdentityValues { id: id.as_bytes(), token_exp: exp.as_bytes(), ..IdentityValues::default() };
    IdentityRules::default().identity(&values).unwrap()
}

const REFRESH: &str = r#"{"type":"refresh","token":"a.b.c"}"#;

#[test]
fn a_token_that_holds_refreshes_its_connection() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, 1_005);
    send(&mut runtime, key, REFRESH);
    let asked = request(&mut runtime).expect("a token");
    let TokenCheck { token, path, origin, client } = &asked.check;
    assert_eq!((token.as_bytes(), path, origin, client), (&b"a.b.c"[..], &None, &None, &None));
    // Other messages do not wait.
    send(&mut runtime, key, "hello");
    assert_eq!(received(&mut runtime, key), ["hello"]);
    answer(&mut runtime, &asked, Verdict::Valid(user("123", 1_100)));
    assert_eq!(received(&mut runtime, key), [r#"{"type":"refreshed","expires_at":1100}"#]);
    assert!(runtime.recorder.0.iter().any(|note| note == "token of 123 is refreshed to Some(1100)"));
    // An older token does not shorten the time.
    send(&mut runtime, key, REFRESH);
    let asked = request(&mut runtime).expect("a token");
    answer(&mut runtime, &asked, Verdict::Valid(user("123", 1_050)));
    assert_eq!(received(&mut runtime, key), [r#"{"type":"refreshed","expires_at":1100}"#]);
    for _ in 0..99 {
        TIME.set(TIME.get() + SECOND);
        runtime.wait(SECOND);
    }
    assert_eq!(runtime.wire(key), b"", "it is open until 1100");
    TIME.set(TIME.get() + SECOND);
    runtime.wait(SECOND);
    assert!(runtime.wire(key).ends_with(b"token expired"));
    assert!(!runtime.recorder.0.iter().any(|note| note.contains("a.b.c")), "the token is recorded");
}

#[test]
fn a_token_that_does_not_hold_leaves_the_connection_as_it_was() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, 1_005);
    for (verdict, code) in [
        (Verdict::Refused, "token_refused"),
        (Verdict::Unknown, "unavailable"),
        (Verdict::Valid(user("124", 2_000)), "other_user"),
        (Verdict::Valid(user("123", 1_000)), "token_expired"),
    ] {
        send(&mut runtime, key, REFRESH);
        let asked = request(&mut runtime).expect("a token");
        answer(&mut runtime, &asked, verdict);
        let expected = format!(r#"{{"type":"refresh_refused","code":"{code}"}}"#);
        assert_eq!(received(&mut runtime, key), [expected]);
        runtime.wait(SECOND);
    }
    let refused =
        runtime.recorder.0.iter().filter(|note| note.starts_with("refresh of 123 is refused")).count();
    assert_eq!(refused, 4);
    let identity = runtime.worker.status(key).map(|status| status.identity.token_exp());
    assert_eq!(identity, Some(Some(1_005)));
}

/// Revokes one session.
#[derive(Debug)]
struct Revoked;

impl Revocations for Revoked {
    fn are_revoked(&self, identity: &Identity) -> bool {
        identity.session_id() == Some("s-1")
    }
}

#[test]
fn a_revoked_token_is_refused_and_a_connection_that_is_ending_stays_so() {
    let mut runtime = Runtime::of(WorkerConfig { revocations: Some(Arc::new(Revoked)), ..config() });
    let key = admit(&mut runtime, 1_005);
    send(&mut runtime, key, REFRESH);
    let asked = request(&mut runtime).expect("a token");
    let values = IdentityValues { id: b"123", session_id: b"s-1", ..IdentityValues::default() };
    let revoked = IdentityRules::default().identity(&values).unwrap();
    answer(&mut runtime, &asked, Verdict::Valid(revoked));
    assert_eq!(received(&mut runtime, key), [r#"{"type":"refresh_refused","code":"revoked"}"#]);
    send(&mut runtime, key, REFRESH);
    let asked = request(&mut runtime).expect("a token");
    let revocation = Revocation { user: Some("123".into()), ..Revocation::default() };
    assert_eq!(runtime.worker.revoke(&revocation, runtime.now), 1);
    answer(&mut runtime, &asked, Verdict::Valid(user("123", 9_000)));
    assert!(runtime.wire(key).ends_with(b"revoked"), "{}", runtime.wire(key).escape_ascii());
}

#[test]
fn a_flood_of_refreshes_is_limited() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, 1_005);
    let too_many = r#"{"type":"refresh_refused","code":"too_many"}"#;
    // One at a time.
    let flood: Vec<u8> = (0..3).flat_map(|_| frame_of(REFRESH)).collect();
    runtime.feed(key, &flood);
    runtime.wait(Duration::ZERO);
    assert_eq!(received(&mut runtime, key), [too_many; 2]);
    let asked = request(&mut runtime).expect("a token");
    assert!(request(&mut runtime).is_none());
    answer(&mut runtime, &asked, Verdict::Refused);
    received(&mut runtime, key);
    // Five at once, and one a second.
    for _ in 0..4 {
        send(&mut runtime, key, REFRESH);
        let asked = request(&mut runtime).expect("a token");
        answer(&mut runtime, &asked, Verdict::Refused);
    }
    received(&mut runtime, key);
    send(&mut runtime, key, REFRESH);
    assert_eq!(received(&mut runtime, key), [too_many]);
    runtime.wait(SECOND);
    send(&mut runtime, key, REFRESH);
    assert!(request(&mut runtime).is_some());
}

#[test]
fn messages_with_faults_are_answered_and_not_sent_back() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, 1_005);
    for (message, code) in [
        (r#"{"type":"refresh","token":"a b"}"#.to_owned(), "malformed"),
        (r#"{"type":"refresh","token":"a.b.c""#.to_owned(), "malformed"),
        (format!(r#"{{"type":"auth","token":"{}"}}"#, "a".repeat(8193)), "too_long"),
    ] {
        send(&mut runtime, key, &message);
        let expected = format!(r#"{{"type":"refresh_refused","code":"{code}"}}"#);
        assert_eq!(received(&mut runtime, key), [expected]);
    }
    assert!(request(&mut runtime).is_none());
    assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("message")), "{:?}", runtime.recorder.0);
    let binary = {
        let mut frame = frame_of(REFRESH);
        frame[0] = 0x82;
        frame
    };
    runtime.feed(key, &binary);
    assert!(runtime.wire(key).starts_with(&[0x82]), "a binary message is an echo");
}

#[test]
fn messages_with_tokens_are_messages_like_any_other_by_default() {
    let mut runtime = Runtime::of(WorkerConfig { in_band: InBandConfig::default(), ..config() });
    let key = admit(&mut runtime, 1_005);
    send(&mut runtime, key, REFRESH);
    assert_eq!(received(&mut runtime, key), [REFRESH]);
    assert!(request(&mut runtime).is_none());
}

#[test]
fn a_verdict_for_a_connection_that_has_gone_is_ignored() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, 1_005);
    send(&mut runtime, key, REFRESH);
    let asked = request(&mut runtime).expect("a token");
    runtime.end(key);
    let other = admit(&mut runtime, 1_005);
    assert_eq!(key, other, "the key is used again");
    answer(&mut runtime, &asked, Verdict::Valid(user("123", 9_000)));
    assert_eq!(runtime.wire(other), b"");
}
