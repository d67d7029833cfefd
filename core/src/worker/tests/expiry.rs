//! Connections whose credentials no longer hold.

use std::cell::Cell;

use super::*;
use crate::handshake::{Revocation, Revocations};
use crate::policy::ExpiryConfig;

thread_local! {
    /// The time since 1970.
    static TIME: Cell<Duration> = const { Cell::new(START) };
}

const START: Duration = Duration::from_millis(1_000_500);
const SECOND: Duration = Duration::from_secs(1);
const EXPIRED: &[u8] = b"\x88\x0f\x11\x31token expired";

fn config() -> WorkerConfig {
    TIME.set(START);
    let handshake = HandshakeConfig { wall_clock: Some(|| TIME.get()), ..HandshakeConfig::default() };
    let expiry = ExpiryConfig { grace: 25 * SECOND, spread: 10 * SECOND };
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    WorkerConfig { handshake, expiry: Some(expiry), keep_alive, ..WorkerConfig::default() }
}

/// Admits a user with these header lines. The 101 is removed from the wire.
fn admit(runtime: &mut Runtime, lines: &str) -> Key {
    let key = runtime.open();
    runtime.feed(key, HEAD.replace("User-Name:", &format!("{lines}User-Name:")).as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "), "{}", runtime.wire(key).escape_ascii());
    runtime.take_wire(key);
    key
}

fn expires(runtime: &mut Runtime, exp: u64) -> Key {
    admit(runtime, &format!("User-Token-Exp: {exp}\r\n"))
}

/// Advances both clocks.
fn wait(runtime: &mut Runtime, time: Duration) {
    TIME.set(TIME.get() + time);
    runtime.wait(time);
}

/// Advances both clocks, from deadline to deadline, and calls `look` after each.
fn wait_in_steps(runtime: &mut Runtime, time: Duration, mut look: impl FnMut(&Runtime)) {
    let end = runtime.now + time;
    while runtime.now < end {
        let next = runtime.worker.poll_timeout(runtime.now).unwrap_or(end).clamp(runtime.now, end);
        wait(runtime, next - runtime.now);
        look(runtime);
    }
}

#[test]
fn a_connection_ends_after_the_grace_period_of_its_token_and_before_the_end_of_the_spread() {
    let mut runtime = Runtime::of(config());
    let keys: Vec<Key> = (0..20).map(|_| expires(&mut runtime, 1_005)).collect();
    // 5 s to the expiry, less the half second that has passed of this one, and 25 s of grace.
    wait(&mut runtime, 29 * SECOND + Duration::from_millis(499));
    assert!(keys.iter().all(|key| runtime.wire(*key).is_empty()), "closed before the grace period ends");
    wait(&mut runtime, 5 * SECOND);
    let closed = keys.iter().filter(|key| runtime.wire(**key) == EXPIRED).count();
    assert!((2..=18).contains(&closed), "{closed} of 20 in the first half of the spread");
    wait(&mut runtime, 5 * SECOND + Duration::from_millis(2));
    assert!(keys.iter().all(|key| runtime.wire(*key) == EXPIRED));
    let ended = runtime.recorder.0.iter().filter(|note| *note == "credentials of 123 Expired").count();
    assert_eq!(ended, 20);
}

#[test]
fn a_connection_without_an_expiry_has_no_entry() {
    let mut runtime = Runtime::of(config());
    let key = admit(&mut runtime, "");
    assert_eq!(runtime.worker.timers.len(), 1, "the deadline of its handshake");
    wait(&mut runtime, 1_000_000 * SECOND);
    assert_eq!((runtime.wire(key), runtime.worker.poll_timeout(runtime.now)), (&b""[..], None));
}

#[test]
fn an_expiry_that_is_not_enforced_has_no_effect() {
    let enforced = config();
    let without_clock = HandshakeConfig { wall_clock: None, ..enforced.handshake.clone() };
    for config in [
        WorkerConfig { expiry: None, ..enforced.clone() },
        WorkerConfig { handshake: without_clock, ..enforced },
    ] {
        let mut runtime = Runtime::of(config);
        let key = expires(&mut runtime, 1);
        wait(&mut runtime, 1_000_000 * SECOND);
        assert_eq!(runtime.wire(key), b"");
    }
}

#[test]
fn an_upgrade_with_a_token_whose_grace_period_has_passed_is_refused() {
    let mut runtime = Runtime::of(config());
    TIME.set(Duration::from_secs(1_030));
    for (exp, status) in [(1_004, "401"), (1_005, "401"), (1_006, "101"), (99_999_999_999_u64, "101")] {
        let key = runtime.open();
        let lines = format!("User-Token-Exp: {exp}\r\nUser-Name:");
        runtime.feed(key, HEAD.replace("User-Name:", &lines).as_bytes());
        assert!(runtime.wire(key).starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{exp}");
    }
    assert_eq!(runtime.recorder.0.iter().filter(|note| *note == "rejected TokenExpired").count(), 2);
}

#[test]
fn a_clock_that_is_set_back_postpones_the_end() {
    let mut runtime = Runtime::of(config());
    let key = expires(&mut runtime, 1_005);
    runtime.wait(40 * SECOND);
    assert_eq!(runtime.wire(key), b"", "it is still the same time of day");
    wait(&mut runtime, 40 * SECOND);
    assert_eq!(runtime.wire(key), EXPIRED);
}

#[test]
fn a_refreshed_connection_stays_and_keeps_one_entry() {
    let mut runtime = Runtime::of(config());
    let key = expires(&mut runtime, 1_005);
    let entries = runtime.worker.timers.len();
    for step in 1..100u32 {
        let later = runtime.now + (step + 60) * SECOND;
        assert!(runtime.worker.act(runtime.now, |_, fanout| fanout.set_token_expiry(key, Some(later))));
    }
    assert_eq!(runtime.worker.timers.len(), entries);
    wait(&mut runtime, 150 * SECOND);
    assert_eq!(runtime.wire(key), b"");
    assert_eq!(runtime.worker.status(key).unwrap().identity.token_exp(), Some(1_160));
    // 159.5 s after the start, and the grace period.
    wait(&mut runtime, 45 * SECOND);
    assert_eq!(runtime.wire(key), EXPIRED);

    let key = expires(&mut runtime, 1_300);
    runtime.worker.act(runtime.now, |_, fanout| fanout.set_token_expiry(key, None));
    wait(&mut runtime, 1_000 * SECOND);
    assert_eq!(runtime.wire(key), b"", "it no longer expires");
    let sooner = runtime.now + SECOND;
    runtime.worker.act(runtime.now, |_, fanout| fanout.set_token_expiry(key, Some(sooner)));
    wait(&mut runtime, 36 * SECOND);
    assert_eq!(runtime.wire(key), EXPIRED, "a backend may shorten it");
    assert!(!runtime.worker.act(runtime.now, |_, fanout| fanout.set_token_expiry(key, None)));
}

#[test]
fn an_entry_of_a_connection_that_is_gone_touches_no_other() {
    let mut runtime = Runtime::of(config());
    let key = expires(&mut runtime, 1_005);
    runtime.end(key);
    assert_eq!(expires(&mut runtime, 2_000), key);
    wait(&mut runtime, 100 * SECOND);
    assert_eq!(runtime.wire(key), b"");
}

#[test]
fn many_connections_that_end_together_are_ended_in_slices() {
    let mut config = config();
    config.expiry = Some(ExpiryConfig { grace: SECOND, spread: Duration::ZERO });
    let mut runtime = Runtime::of(config);
    let keys: Vec<Key> = (0..1_000).map(|_| expires(&mut runtime, 1_005)).collect();
    let mut closed = 0;
    wait_in_steps(&mut runtime, 6 * SECOND, |runtime| {
        let now = keys.iter().filter(|key| !runtime.wire(**key).is_empty()).count();
        assert!(now - closed <= 128, "{} in one turn", now - closed);
        closed = now;
    });
    assert_eq!(closed, 1_000);
}

#[test]
fn revoked_credentials_end_within_a_second_and_no_others() {
    let mut runtime = Runtime::of(config());
    let token = |id: &str| format!("X-Token-ID: {id}\r\nUser-Session-ID: s-{id}\r\n");
    let mut config = config();
    config.handshake.identity.token_id = "X-Token-ID".to_owned();
    config.handshake.identity.token_issued_at = "X-Issued".to_owned();
    runtime.worker = Worker::new(Arc::new(config), 1, runtime.now);
    let keys = ["1", "2", "3"].map(|id| admit(&mut runtime, &token(id)));
    let issued = admit(&mut runtime, "X-Issued: 100\r\n");
    let some = |text: &str| Some(Box::from(text));
    let by_token = Revocation { token_id: some("1"), ..Revocation::default() };
    let by_session = Revocation { user: some("123"), session: some("s-2"), ..Revocation::default() };
    let by_time = Revocation { issued_before: Some(100), ..Revocation::default() };
    let of_nobody = Revocation { user: some("4"), ..Revocation::default() };
    for (revocation, count, ended) in [
        (of_nobody, 0, vec![]),
        (Revocation::default(), 0, vec![]),
        (by_token, 1, vec![keys[0]]),
        (by_session, 1, vec![keys[0], keys[1]]),
        // The one without a time, which may be older.
        (by_time, 1, keys.to_vec()),
    ] {
        assert_eq!(runtime.worker.revoke(&revocation, runtime.now), count, "{revocation:?}");
        wait(&mut runtime, SECOND);
        let closed = |key: &Key| runtime.wire(*key) == b"\x88\x09\x11\x33revoked";
        assert_eq!(keys.iter().copied().filter(closed).collect::<Vec<_>>(), ended, "{revocation:?}");
    }
    assert_eq!(runtime.wire(issued), b"");
    assert_eq!(runtime.recorder.0.iter().filter(|note| *note == "credentials of 123 Revoked").count(), 3);
}

#[test]
fn no_user_is_admitted_with_revoked_credentials() {
    #[derive(Debug)]
    struct Session;

    impl Revocations for Session {
        fn are_revoked(&self, identity: &crate::handshake::Identity) -> bool {
            identity.session_id() == Some("s-1")
        }
    }

    let mut runtime = Runtime::of(WorkerConfig { revocations: Some(Arc::new(Session)), ..config() });
    for (session, status) in [("s-1", "403"), ("s-2", "101")] {
        let key = runtime.open();
        let lines = format!("User-Session-ID: {session}\r\nUser-Name:");
        runtime.feed(key, HEAD.replace("User-Name:", &lines).as_bytes());
        assert!(runtime.wire(key).starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{session}");
    }
    assert_eq!(runtime.recorder.0[0], "rejected Revoked");
}
