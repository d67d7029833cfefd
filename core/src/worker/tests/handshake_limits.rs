//! More connections than allowed: of one user, and of handshakes in progress.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::handshake::HandshakeConfig;
use crate::policy::{Decision, Users};

fn head_of(user: &str) -> Vec<u8> {
    HEAD.replace("User-ID: 123", &format!("User-ID: {user}")).into_bytes()
}

/// Two connections of user 1, and any number of others.
#[derive(Debug, Default)]
struct TwoOfFirst(AtomicUsize);

impl Users for TwoOfFirst {
    fn enter(&self, id: &str, _: usize, _: ConnectionId) -> Decision {
        let may_be = id != "1"
            || self.0.fetch_update(Relaxed, Relaxed, |count| (count < 2).then_some(count + 1)).is_ok();
        if may_be { Decision::Admitted } else { Decision::Refused }
    }

    fn leave(&self, id: &str, _: ConnectionId) {
        assert!(id != "1" || self.0.fetch_sub(1, Relaxed) > 0, "nobody leaves twice");
    }
}

#[test]
fn a_user_has_as_many_connections_as_allowed_on_all_workers_together() {
    let users: Arc<dyn Users> = Arc::new(TwoOfFirst::default());
    let [one, other] = &mut [0, 1]
        .map(|_| Runtime::of(WorkerConfig { users: Some(users.clone()), ..WorkerConfig::default() }));
    let admitted = |runtime: &mut Runtime, user: &str| {
        let key = runtime.open();
        runtime.feed(key, &head_of(user));
        let wire = String::from_utf8_lossy(runtime.wire(key)).into_owned();
        assert!(wire.starts_with("HTTP/1.1 101") || wire.starts_with("HTTP/1.1 429"), "{wire}");
        wire.starts_with("HTTP/1.1 101").then_some(key)
    };
    let first = admitted(one, "1").expect("the first");
    assert!(admitted(other, "1").is_some());
    assert!(admitted(one, "1").is_none() && admitted(other, "1").is_none());
    assert!(admitted(one, "2").is_some(), "another user");
    one.end(first);
    assert!(admitted(other, "1").is_some(), "one has left");
    assert!(admitted(other, "1").is_none());
}

/// Each way in which a connection begins to end makes it not count for its user any more, before it is removed.
#[test]
fn a_connection_that_is_ending_does_not_count_for_its_user() {
    type End = fn(&mut Runtime, Key);
    let ends: [(&str, End); 7] = [
        ("their Close behind a backlog", |runtime, key| {
            runtime.takes = 0;
            runtime.feed(key, &[frame(0x81, b"a"), frame(0x88, b"\x03\xe8")].concat());
        }),
        ("the end of their side behind a backlog", |runtime, key| {
            runtime.takes = 0;
            runtime.feed(key, &frame(0x81, b"a"));
            runtime.end(key);
        }),
        ("an error of theirs", |runtime, key| runtime.feed(key, b"\xff\xff")),
        ("an operator", |runtime, _| {
            runtime.worker.disconnect(&Selector::All, CloseCode::NORMAL, "", runtime.now);
        }),
        ("the stop of the process", |runtime, _| {
            runtime.worker.shut_down();
            runtime.wait(Duration::ZERO);
            runtime.worker.stop = None;
        }),
        ("no pong", |runtime, _| {
            runtime.wait(KeepAliveConfig::default().of(1).interval);
            runtime.wait(Duration::from_secs(10));
        }),
        ("an end that cannot be read", |runtime, key| {
            runtime.pause_reads();
            runtime.worker.handle_peer_closed(key, runtime.now);
            runtime.resume_reads();
        }),
    ];
    for (how, end) in ends {
        let users: Arc<dyn Users> = Arc::new(TwoOfFirst::default());
        let mut runtime = Runtime::of(WorkerConfig { users: Some(users), ..WorkerConfig::default() });
        let first = runtime.open();
        runtime.feed(first, &head_of("1"));
        end(&mut runtime, first);
        assert_eq!(runtime.worker.len(), 1, "{how}: it is still there");
        runtime.takes = usize::MAX;
        for status in ["HTTP/1.1 101", "HTTP/1.1 101", "HTTP/1.1 429"] {
            let key = runtime.open();
            runtime.feed(key, &head_of("1"));
            assert!(runtime.wire(key).starts_with(status.as_bytes()), "{how}: {status}");
        }
        // Its removal does not free the place of another.
        runtime.fail(first);
        let key = runtime.open();
        runtime.feed(key, &head_of("1"));
        assert!(runtime.wire(key).starts_with(b"HTTP/1.1 429"), "{how}");
    }
}

#[test]
fn the_slowest_handshake_is_evicted() {
    let handshake = HandshakeConfig { max_handshakes: 2, ..HandshakeConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { handshake, ..WorkerConfig::default() });
    let slow: Vec<Key> = (0..2)
        .map(|_| {
            let key = runtime.open();
            runtime.feed(key, b"GET /ws HTTP/1.1\r\n");
            key
        })
        .collect();
    runtime.wait(Duration::from_millis(1));
    assert!(slow.iter().all(|key| runtime.wire(*key).is_empty()), "as many as may be");
    let quick = runtime.open();
    runtime.feed(quick, HEAD.as_bytes());
    runtime.wait(Duration::from_millis(1));
    assert!(runtime.wire(quick).starts_with(b"HTTP/1.1 101"));
    assert!(slow.iter().all(|key| runtime.wire(*key).is_empty()), "it is not pending any more");

    let third = runtime.open();
    runtime.wait(Duration::from_millis(247));
    assert!(slow.iter().all(|key| runtime.wire(*key).is_empty()), "each has its time");
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now + Duration::from_millis(1)));
    runtime.wait(Duration::from_millis(1));
    assert!(runtime.wire(slow[0]).starts_with(b"HTTP/1.1 503"), "the oldest goes");
    assert!(runtime.wire(slow[1]).is_empty());
    runtime.feed(third, HEAD.as_bytes());
    assert!(runtime.wire(third).starts_with(b"HTTP/1.1 101"));
    assert_eq!(runtime.worker.pending.len(), 1);
    assert_eq!(runtime.recorder.0.iter().filter(|note| *note == "rejected Crowded").count(), 1);
}

#[test]
fn handshakes_are_counted_until_they_end_however_they_end() {
    let handshake = HandshakeConfig { max_handshakes: 1, ..HandshakeConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { handshake, ..WorkerConfig::default() });
    let ends: [fn(&mut Runtime, Key); 5] = [
        |runtime, key| runtime.feed(key, HEAD.as_bytes()),
        |runtime, key| runtime.feed(key, b"GET / HTTP/1.1\r\n\r\n"),
        |runtime, key| runtime.end(key),
        |runtime, _| runtime.wait(Duration::from_secs(6)),
        |runtime, key| {
            runtime.fail(key);
        },
    ];
    for end in ends.iter().cycle().take(50) {
        let key = runtime.open();
        assert_eq!(runtime.worker.pending.len(), 1);
        end(&mut runtime, key);
        assert_eq!(runtime.worker.pending.len(), 0);
    }
    assert!(!runtime.recorder.0.iter().any(|note| note == "rejected Crowded"), "never two at a time");
}
