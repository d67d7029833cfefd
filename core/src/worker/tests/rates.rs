//! Peers that send too fast.

use super::*;
use crate::policy::Rate;
use crate::session::RatePolicy;

const MILLISECOND: Duration = Duration::from_millis(1);

fn paced(rate_policy: RatePolicy) -> Runtime {
    let session = SessionConfig {
        message_rate: Rate { per_second: 100, burst: 5 },
        byte_rate: Rate { per_second: 1000, burst: 1000 },
        rate_policy,
        ..SessionConfig::default()
    };
    Runtime::of(WorkerConfig { session: Arc::new(session), ..WorkerConfig::default() })
}

fn admitted(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    key
}

fn messages(count: usize) -> Vec<u8> {
    frame(0x81, b"a").repeat(count)
}

#[test]
fn at_the_burst_nothing_happens() {
    for policy in [RatePolicy::Pause, RatePolicy::Close] {
        let mut runtime = paced(policy);
        let key = admitted(&mut runtime);
        runtime.feed(key, &messages(5));
        assert!(runtime.worker.wants_read(key));
        assert_eq!(runtime.wire(key), b"\x81\x01a".repeat(5));
    }
}

#[test]
fn one_more_waits_until_it_is_due() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(7));
    assert!(!runtime.worker.wants_read(key));
    assert_eq!(runtime.wire(key), b"\x81\x01a".repeat(5), "what is due is answered");
    assert!(runtime.worker.memory_held() > 0, "deferred bytes are counted");
    runtime.wait(9 * MILLISECOND);
    assert_eq!(runtime.wire(key).len(), 15);
    for answered in [6, 7] {
        assert!(!runtime.worker.wants_read(key));
        runtime.wait(if answered == 6 { MILLISECOND } else { 10 * MILLISECOND });
        assert_eq!(runtime.wire(key), b"\x81\x01a".repeat(answered));
    }
    assert!(runtime.worker.wants_read(key), "nothing waits");
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn exceeding_a_rate_is_recorded_once_until_the_rate_has_been_kept_for_ten_seconds() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    let exceeds = |runtime: &Runtime, key: Key| runtime.worker.status(key).expect("a user").exceeds_since;
    assert_eq!(exceeds(&runtime, key), None);
    let begun = runtime.now;
    runtime.feed(key, &messages(7));
    (0..3).for_each(|_| runtime.wait(10 * MILLISECOND));
    runtime.wait(Duration::from_secs(5));
    runtime.feed(key, &messages(6));
    runtime.wait(10 * MILLISECOND);
    assert_eq!(exceeds(&runtime, key), Some(begun));
    runtime.wait(Duration::from_secs(10) - MILLISECOND);
    let told = |runtime: &Runtime| {
        runtime.recorder.0.iter().filter(|note| note.contains("s its ")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(told(&runtime), ["exceeds its Messages"]);
    runtime.wait(MILLISECOND);
    assert_eq!(told(&runtime)[1], "keeps its rate after 5.04s and 3 pauses");
    assert_eq!(exceeds(&runtime, key), None);
    runtime.feed(key, &messages(6));
    assert_eq!(told(&runtime)[2], "exceeds its Messages");
}

#[test]
fn a_ping_and_a_close_need_no_allowance_unless_they_follow_a_message() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(5));
    runtime.take_wire(key);
    runtime.feed(key, &[frame(0x89, b"p"), frame(0x81, b"a"), frame(0x88, b"\x03\xe8")].concat());
    assert_eq!(runtime.wire(key), b"\x8a\x01p");
    runtime.wait(10 * MILLISECOND);
    assert_eq!(runtime.wire(key), b"\x8a\x01p\x81\x01a\x88\x02\x03\xe8");
    assert!(runtime.worker.is_empty());
}

/// Returns the messages of a client that never stops sending that were handled, and the bytes that were read from it,
/// at each time with progress.
fn flood(session: SessionConfig, chunk: &[u8], seconds: u64) -> Vec<(Duration, u64, u64)> {
    let mut runtime = Runtime::of(WorkerConfig {
        session: Arc::new(session),
        handshake: HandshakeConfig { compression: true, ..HandshakeConfig::default() },
        ..WorkerConfig::default()
    });
    let key = runtime.open();
    let head = HEAD.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n",
    );
    runtime.feed(key, head.as_bytes());
    let start = runtime.now;
    let (mut socket, mut buffer, mut sent) = (ModelSocket::with(b""), vec![0; 64 * 1024], 0);
    let mut recorder = crate::record::NullRecorder;
    let mut steps = Vec::new();
    while runtime.now < start + Duration::from_secs(seconds) {
        while socket.incoming.len() < 128 * 1024 {
            socket.incoming.extend_from_slice(chunk);
            sent += chunk.len() as u64;
        }
        if runtime.worker.wants_read(key) {
            runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut socket, &mut recorder);
        } else {
            let at = runtime.worker.poll_timeout(runtime.now).expect("a pause ends");
            // As late as a timer may be.
            runtime.now = at.max(runtime.now) + Duration::from_micros(700);
            while let Some(due) = runtime.worker.next_due(runtime.now, &mut recorder) {
                runtime.worker.handle_due(due, runtime.now, &mut buffer, &mut socket, &mut recorder);
            }
        }
        socket.sent.clear();
        assert!(runtime.worker.memory_held() < 200_000, "{}", runtime.worker.memory_held());
        let messages = runtime.worker.status(key).expect("it is there").traffic.messages_received;
        steps.push((runtime.now - start, messages, sent - socket.incoming.len() as u64));
    }
    steps
}

/// Asserts that in every second after the first, however it is chosen, a client gets its rate and no silence is long.
#[track_caller]
fn check_even(what: &str, steps: &[(Duration, u64)], rate: u64, grain: u64) {
    let total_at = |at: Duration| match steps.partition_point(|(time, _)| *time <= at) {
        0 => 0,
        count => steps[count - 1].1,
    };
    let last = steps.last().expect("steps").0;
    let mut from = Duration::from_secs(1);
    while from + Duration::from_secs(1) < last {
        let got = total_at(from + Duration::from_secs(1)) - total_at(from);
        let tolerance = (rate / 50).max(grain);
        assert!(got.abs_diff(rate) <= tolerance, "{what}: {got} in the second from {from:?}, not {rate}");
        from += Duration::from_millis(37);
    }
}

#[test]
fn a_rate_of_messages_holds_over_every_second() {
    let fragments = [frame(0x01, b"ab"), frame(0x00, b"c"), frame(0x89, b""), frame(0x80, b"d")].concat();
    let mut compressed = frame(0x81, b"\xca\x48\xcd\xc9\xc9\x07\x00");
    compressed[0] |= 0x40;
    for (what, chunk) in [
        ("empty messages", frame(0x82, b"")),
        ("twenty bytes", frame(0x81, &[b'a'; 20])),
        ("a message of 60 kB", frame(0x82, &vec![0; 60_000])),
        ("fragments", fragments),
        ("compressed", compressed),
    ] {
        for (per_second, burst) in [(100, 200), (100, 1), (10, 20), (1000, 2000), (1, 1)] {
            let session = SessionConfig {
                message_rate: Rate { per_second, burst },
                control_rate: 0,
                ..SessionConfig::default()
            };
            let steps = flood(session, &chunk, 60);
            let steps: Vec<_> = steps.into_iter().map(|(at, messages, _)| (at, messages)).collect();
            assert!(steps[0].1 <= burst, "{what}: {} at once, of {burst}", steps[0].1);
            for (at, messages) in &steps {
                let most = burst + 1 + (at.as_secs_f64() * per_second as f64) as u64;
                assert!(*messages <= most, "{what}: {messages} after {at:?}, of {most}");
            }
            check_even(what, &steps, per_second, 1);
        }
    }
}

#[test]
fn a_rate_of_bytes_holds_over_every_second() {
    for (what, chunk) in
        [("empty messages", frame(0x82, b"")), ("a message of 60 kB", frame(0x82, &vec![0; 60_000]))]
    {
        for (per_second, burst) in [(1 << 20, 1 << 20), (10_000, 1), (10_000, 10_000), (100, 200)] {
            let byte_rate = Rate { per_second, burst };
            let session = SessionConfig { byte_rate, ..SessionConfig::default() };
            let steps = flood(session, &chunk, 60);
            let steps: Vec<_> = steps.into_iter().map(|(at, _, bytes)| (at, bytes)).collect();
            assert!(steps[0].1 <= burst, "{what}: {} at once, of {burst}", steps[0].1);
            check_even(what, &steps, per_second, byte_rate.step());
        }
    }
}

/// The pong is after the bytes that are not due.
#[test]
fn a_paused_client_is_pinged_and_not_missed() {
    let session =
        SessionConfig { message_rate: Rate { per_second: 1, burst: 1 }, ..SessionConfig::default() };
    let keep_alive = KeepAliveConfig { interval: 200 * MILLISECOND, timeout: 100 * MILLISECOND };
    let config = WorkerConfig { session: Arc::new(session), keep_alive, ..WorkerConfig::default() };
    let mut runtime = Runtime::of(config);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(10));
    runtime.take_wire(key);
    let mut pings = 0;
    for _ in 0..8000 {
        runtime.wait(MILLISECOND);
        pings += usize::from(runtime.wire(key).starts_with(b"\x89"));
        assert!(!runtime.wire(key).starts_with(b"\x88"), "it is ended unread");
        runtime.take_wire(key);
    }
    assert!(pings > 0, "no gateway may take it for dead");
}

#[test]
fn a_paused_client_that_leaves_is_gone_half_a_second_later() {
    let session =
        SessionConfig { message_rate: Rate { per_second: 10, burst: 10 }, ..SessionConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { session: Arc::new(session), ..WorkerConfig::default() });
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(5000));
    assert!(runtime.worker.wants_peer_closed(key));
    runtime.worker.handle_peer_closed(key, runtime.now);
    (0..49).for_each(|_| runtime.wait(10 * MILLISECOND));
    assert_eq!(runtime.worker.len(), 1);
    runtime.wait(10 * MILLISECOND);
    assert!(runtime.worker.is_empty());
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn one_more_closes() {
    let mut runtime = paced(RatePolicy::Close);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(6));
    let wire = runtime.wire(key);
    assert_eq!(wire[18..], *b"\x88\x0f\x11\x4drate exceeded");
    runtime.feed(key, &[messages(1), frame(0x88, b"\x11\x4d")].concat());
    assert_eq!(runtime.wire(key).len(), 18 + 17, "nothing is answered any more");
    assert_eq!(runtime.transport(key), Transport::Close);
    let closed = "closed 123 Closed(CloseCode(4429)) Traffic { messages_received: 6, bytes_received: 6, messages_sent: 6, bytes_sent: 6 }";
    assert_eq!(runtime.recorder.0.last().map(String::as_str), Some(closed));
}

#[test]
fn bytes_count_with_their_frames_but_without_the_head() {
    for (payload, is_kept) in [(1000 - 8, true), (1000 - 7, false)] {
        let mut runtime = paced(RatePolicy::Pause);
        let key = runtime.open();
        runtime.feed(key, &[HEAD.as_bytes(), &frame(0x82, &vec![0; payload])].concat());
        assert_eq!(runtime.worker.wants_read(key), is_kept, "{payload}");
    }
}

#[test]
fn a_message_that_takes_long_because_of_its_rate_loses_no_time_by_that() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    // 40 s at this rate; a message has 30 s.
    runtime.feed(key, &[frame(0x01, b"a"), frame(0x80, &[0; 41_000])].concat());
    for _ in 0..3990 {
        assert!(!runtime.worker.wants_read(key));
        runtime.wait(10 * MILLISECOND);
    }
    (0..100).for_each(|_| runtime.wait(10 * MILLISECOND));
    let [high, low] = 41_001_u16.to_be_bytes();
    let echo = [0x81, 126, high, low, b'a'];
    assert!(runtime.wire(key).windows(5).any(|bytes| bytes == echo), "pings and its echo");
}

#[test]
fn a_paused_peer_gets_a_close_when_the_process_stops_and_can_answer() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(500));
    assert!(!runtime.worker.wants_read(key));
    runtime.worker.shut_down();
    runtime.wait(Duration::ZERO);
    assert!(runtime.worker.wants_read(key), "its answer is awaited");
    runtime.feed(key, &frame(0x88, b"\x03\xe9"));
    assert!(runtime.worker.is_empty());
}
