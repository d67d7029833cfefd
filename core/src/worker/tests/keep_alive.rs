//! Peers that are quiet.

use super::*;
use crate::policy::{KeepAliveConfig, Rate};

const SECOND: Duration = Duration::from_secs(1);

/// The longest and the shortest time that any connection may take.
const LATEST: Duration = Duration::from_millis(27_500);
const EARLIEST: Duration = Duration::from_millis(22_500);

fn start(session: SessionConfig) -> (Runtime, Key) {
    let mut runtime = Runtime::of(WorkerConfig { session: Arc::new(session), ..WorkerConfig::default() });
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    (runtime, key)
}

/// Returns the payload of the ping, which must be all that was sent.
#[track_caller]
fn ping(runtime: &mut Runtime, key: Key) -> Vec<u8> {
    let wire = runtime.take_wire(key);
    assert_eq!((&wire[..2], wire.len()), (&[0x89, 8][..], 10), "{}", wire.escape_ascii());
    wire[2..].to_vec()
}

/// Lets the time pass after which the first connection is pinged.
fn wait_for_ping(runtime: &mut Runtime) {
    runtime.wait(KeepAliveConfig::default().of(1).interval);
}

/// Lets time pass in steps, as it does.
fn wait_in_steps(runtime: &mut Runtime, time: Duration) {
    let end = runtime.now + time;
    while runtime.now < end {
        let next = runtime.worker.poll_timeout(runtime.now).unwrap_or(end).clamp(runtime.now, end);
        runtime.wait(next.saturating_duration_since(runtime.now));
    }
}

#[test]
fn an_idle_peer_is_pinged_and_stays_if_it_answers() {
    let (mut runtime, key) = start(SessionConfig::default());
    wait_in_steps(&mut runtime, EARLIEST);
    for _ in 0..100 {
        wait_in_steps(&mut runtime, LATEST - EARLIEST);
        let payload = ping(&mut runtime, key);
        runtime.feed(key, &frame(0x8a, &payload));
        // It is not pinged again before its time.
        wait_in_steps(&mut runtime, EARLIEST - 5 * SECOND);
        assert_eq!(runtime.wire(key), b"");
        wait_in_steps(&mut runtime, 5 * SECOND);
        runtime.take_wire(key);
        runtime.feed(key, &frame(0x81, b"a"));
        assert_eq!(runtime.wire(key), b"\x81\x01a");
        runtime.take_wire(key);
        wait_in_steps(&mut runtime, EARLIEST - SECOND);
        assert_eq!(runtime.wire(key), b"", "whoever talks is not pinged");
        wait_in_steps(&mut runtime, SECOND);
    }
    assert!(
        runtime.recorder.0.iter().any(|note| note.starts_with("pong of 123 after ")),
        "{:?}",
        runtime.recorder
    );
}

#[test]
fn a_peer_that_does_not_answer_gets_4408_and_is_removed_half_a_second_later() {
    let (mut runtime, key) = start(SessionConfig::default());
    wait_for_ping(&mut runtime);
    ping(&mut runtime, key);
    runtime.wait(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(runtime.wire(key), b"");
    runtime.wait(Duration::from_nanos(1));
    assert_eq!(runtime.wire(key), b"\x88\x09\x11\x38no pong");
    assert_eq!(runtime.transport(key), Transport::ShutdownWrite);
    runtime.wait(SECOND / 2);
    assert!(runtime.worker.is_empty());
    let end = runtime.recorder.0.last().expect("a record of the end");
    assert!(end.starts_with("closed 123 Closed(CloseCode(4408))"), "{end}");
}

#[test]
fn any_bytes_are_a_sign_of_life_but_a_pong_of_its_own_making_measures_nothing() {
    let (mut runtime, key) = start(SessionConfig::default());
    wait_for_ping(&mut runtime);
    ping(&mut runtime, key);
    runtime.wait(9 * SECOND);
    runtime.feed(key, &frame(0x8a, b"12345678"));
    wait_in_steps(&mut runtime, 20 * SECOND);
    assert_eq!(runtime.wire(key), b"");
    // The first byte of a message that takes its time.
    runtime.feed(key, &frame(0x01, b"a")[..1]);
    wait_in_steps(&mut runtime, 20 * SECOND);
    assert_eq!(runtime.wire(key), b"");
    assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("pong")), "{:?}", runtime.recorder);
}

#[test]
fn no_ping_is_sent_after_a_backlog_and_one_in_it_starts_again() {
    let unstalled = SessionConfig { write_timeout: Duration::ZERO, ..SessionConfig::default() };
    let (mut runtime, key) = start(unstalled);
    wait_for_ping(&mut runtime);
    ping(&mut runtime, key);
    runtime.takes = 0;
    runtime.worker.receive(key, runtime.now, &mut frame(0x81, b"ab"), &mut runtime.recorder);
    runtime.flush(key);
    wait_in_steps(&mut runtime, 100 * SECOND);
    assert_eq!(runtime.worker.len(), 1);
    assert_eq!(runtime.worker.output(key), b"\x81\x02ab");
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.wire(key), b"\x81\x02ab");
    runtime.take_wire(key);
    wait_in_steps(&mut runtime, SECOND);
    let payload = ping(&mut runtime, key);
    runtime.feed(key, &frame(0x8a, &payload));
    wait_in_steps(&mut runtime, EARLIEST - SECOND);
    assert_eq!(runtime.wire(key), b"");
}

#[test]
fn a_pong_that_is_not_read_is_not_missed() {
    // While the log is full.
    let (mut runtime, key) = start(SessionConfig::default());
    wait_for_ping(&mut runtime);
    ping(&mut runtime, key);
    runtime.pause_reads();
    for _ in 0..60 {
        runtime.wait(SECOND);
        assert!(runtime.worker.poll_timeout(runtime.now).is_none_or(|at| at > runtime.now), "does not spin");
    }
    runtime.resume_reads();
    // A peer that has not answered by now is pinged again.
    runtime.wait(SECOND);
    ping(&mut runtime, key);
    runtime.wait(10 * SECOND - Duration::from_nanos(1));
    assert_eq!((runtime.wire(key), runtime.worker.len()), (&b""[..], 1));
    runtime.wait(Duration::from_nanos(1));
    assert_eq!(runtime.wire(key), b"\x88\x09\x11\x38no pong");

    // While its peer has to keep its rate.
    let (mut runtime, key) =
        start(SessionConfig { byte_rate: Rate { per_second: 1, burst: 20 }, ..SessionConfig::default() });
    wait_for_ping(&mut runtime);
    ping(&mut runtime, key);
    runtime.feed(key, &frame(0x82, &[0; 100]));
    assert!(!runtime.worker.wants_read(key));
    wait_in_steps(&mut runtime, 80 * SECOND);
    assert_eq!(
        (runtime.worker.wants_read(key), runtime.worker.len()),
        (false, 1),
        "it is not read to its end"
    );
}

#[test]
fn with_an_interval_of_zero_no_peer_is_pinged() {
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { keep_alive, ..WorkerConfig::default() });
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    runtime.wait(3600 * SECOND);
    assert_eq!(runtime.worker.poll_timeout(runtime.now), None);
    assert_eq!(runtime.wire(key), b"");
}

#[test]
fn a_hundred_thousand_are_one_small_timer_each_and_are_pinged_apart() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let keys: Vec<Key> = (0..100_000)
        .map(|_| {
            let key = runtime.open();
            runtime.feed(key, HEAD.as_bytes());
            runtime.take_wire(key);
            key
        })
        .collect();
    runtime.wait(5 * SECOND);
    assert_eq!(runtime.worker.timers.len(), keys.len());
    // Messages arm none.
    keys.iter().for_each(|&key| runtime.feed(key, &frame(0x81, b"")));
    assert_eq!(runtime.worker.timers.len(), keys.len());
    keys.iter().for_each(|&key| drop(runtime.take_wire(key)));
    wait_in_steps(&mut runtime, EARLIEST - SECOND);
    let mut pinged = 0;
    for _ in 0..70 {
        runtime.wait(Duration::from_millis(100));
        let now = keys.iter().filter(|key| !runtime.wire(**key).is_empty()).count();
        assert!(now - pinged <= 2 * keys.len() / 50, "{} at once", now - pinged);
        pinged = now;
    }
    assert_eq!(pinged, keys.len());
    assert_eq!(runtime.worker.timers.len(), keys.len());
}

#[test]
fn with_an_interval_shorter_than_the_timeout_pings_come_at_the_interval() {
    let keep_alive = KeepAliveConfig { interval: SECOND, timeout: 10 * SECOND };
    let mut runtime = Runtime::of(WorkerConfig { keep_alive, ..WorkerConfig::default() });
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    for _ in 0..10 {
        wait_in_steps(&mut runtime, SECOND * 11 / 10);
        let payload = ping(&mut runtime, key);
        runtime.feed(key, &frame(0x8a, &payload));
    }
}
