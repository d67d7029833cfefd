//! Memory, timers and time: the memory that a peer could make Postern keep, and bytes of one connection in another.

use std::time::{Duration, Instant};

use postern_core::handshake::{HandshakeConfig, HandshakeError};
use postern_core::model::PEER;
use postern_core::policy::KeepAliveConfig;
use postern_core::{SessionConfig, Transport, WorkerConfig};

use crate::connection::{Connection, GOOD, check_time, frame, with};

const SECOND: Duration = Duration::from_secs(1);

/// ws-rs CVE-2020-35896, never fixed: pending output was kept without a limit.
#[test]
fn what_a_slow_reader_leaves_is_bounded_and_pauses_reading() {
    let config = SessionConfig::default();
    let read = frame(0x82, &[7; 4092]).repeat(16);
    let answers = 16 * 4096;
    let mut connection = Connection::admitted(config.clone());
    connection.takes = 0;
    let mut reads = 0;
    while connection.worker.wants_read(connection.key) {
        connection.feed(&read);
        reads += 1;
    }
    let waiting = connection.worker.output(connection.key).len();
    assert_eq!(waiting, reads * answers, "nothing is lost");
    assert!(waiting > config.pause_backlog && waiting <= config.pause_backlog + answers, "{waiting}");
    assert_eq!(connection.transport(), Transport::Open);
    // Reading continues as soon as some output is accepted.
    connection.takes = waiting - config.pause_backlog;
    connection.flush();
    assert!(connection.worker.wants_read(connection.key));
    connection.takes = usize::MAX;
    connection.flush();
    assert_eq!(connection.wire(), [&[0x82, 126, 0x0f, 0xfc][..], &[7; 4092]].concat().repeat(16 * reads));
    assert_eq!(connection.worker.output(connection.key), b"");
}

/// The same with a runtime that continues to read: the connection ends, because the peer is too slow.
#[test]
fn a_backlog_over_its_limit_is_4413() {
    let config = SessionConfig::default();
    let mut connection = Connection::admitted(config.clone());
    connection.takes = 0;
    let read = frame(0x82, &[7; 60_000]);
    for _ in 0..1000 {
        connection.feed(&read);
        let waiting = connection.worker.output(connection.key).len();
        assert!(waiting <= config.max_backlog + 60_004 + 127, "{waiting}");
    }
    connection.takes = usize::MAX;
    connection.flush();
    assert_eq!(connection.close_code(), 4413);
    assert_eq!(
        connection.recorder.messages,
        (config.max_backlog / 60_004) + 1,
        "no frame is handled after it"
    );
    connection.wait(5 * SECOND);
    assert!(connection.worker.is_empty());
    assert_eq!(connection.recorder.code, 4413);
}

/// The backlog of a peer that accepts no output is kept no longer than the write timeout, even if the peer sends.
#[test]
fn a_reader_that_has_stopped_is_dropped() {
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.takes = 0;
    connection.feed(&frame(0x82, &[7; 60_000]));
    for _ in 0..99 {
        connection.wait(SECOND / 10);
        connection.feed(&frame(0x89, b""));
        connection.feed(&frame(0x82, b"x"));
        assert_eq!(connection.worker.len(), 1);
    }
    connection.wait(SECOND / 10);
    assert!(connection.worker.is_empty(), "ten seconds without progress");
    assert_eq!((connection.recorder.closed, connection.recorder.code), (1, 1006));
}

/// Neither a Close nor a refusal stays pending without a limit.
#[test]
fn last_output_that_the_peer_does_not_accept_is_dropped() {
    for bytes in [&b"\xff\xff"[..], &frame(0x88, b"\x03\xe8")] {
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.takes = 0;
        connection.feed(bytes);
        assert!(connection.worker.wants_write(connection.key));
        connection.wait(5 * SECOND);
        assert!(connection.worker.is_empty(), "{}", bytes.escape_ascii());
        assert_eq!(connection.recorder.closed, 1);
        assert_eq!(connection.wire(), b"");
    }
    let mut connection = Connection::new(WorkerConfig::default());
    connection.takes = 0;
    connection.feed(b"\x16\x03\x01");
    connection.wait(SECOND);
    assert!(connection.worker.is_empty());
    // If too many are pending, the oldest get 503. The others sent no request in time.
    assert_eq!((connection.recorder.rejected, connection.recorder.abandoned), (1, 0));
}

/// HTTP/2's CVE-2019-9511 and -9517, on our wire: a peer that reads one byte at a time makes the server move the rest
/// each time.
#[test]
fn a_reader_of_single_bytes_costs_no_more_than_one_of_all() {
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.takes = 1;
    let message = frame(0x82, &[7; 65_536]);
    for _ in 0..4 {
        connection.feed(&message);
    }
    check_time(Duration::from_secs(10), || {
        while connection.worker.wants_write(connection.key) {
            connection.flush();
        }
    });
    assert_eq!(connection.frames(), [(0x82, &[7; 65_536][..]); 4]);
}

/// Undertow CVE-2024-1635: each connection leaked a task, until there was no memory for another.
#[test]
fn a_hundred_thousand_connections_leave_no_timer() {
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&frame(0x88, b""));
    for number in 0..100_000 {
        connection.now += Duration::from_millis(1);
        connection.key = connection.open();
        assert_eq!(connection.key.0, 0, "the place of the one before");
        match number % 4 {
            // Leaves at once; is refused; has begun a message; closes.
            0 => {}
            1 => connection.feed(b"\n"),
            2 => connection.feed(&[GOOD.as_bytes(), &frame(0x01, b"beg")].concat()),
            _ => connection.feed(&[GOOD.as_bytes(), &frame(0x88, b"\x03\xe8")].concat()),
        }
        if !connection.worker.is_empty() {
            connection.end();
        }
        assert!(connection.worker.is_empty(), "connection {number}");
        connection.wait(Duration::ZERO);
        // The entries of earlier connections fire on time, and none is later than the five seconds of a handshake.
        let next = connection.worker.poll_timeout(connection.now).expect("some have not fired yet");
        assert!(next > connection.now && next <= connection.now + 5 * SECOND, "connection {number}");
    }
    connection.wait(30 * SECOND);
    assert_eq!(connection.worker.poll_timeout(connection.now), None);
    let counts = &connection.recorder;
    assert_eq!((counts.established, counts.closed), (50_001, 50_001));
    assert_eq!((counts.rejected, counts.abandoned), (25_000, 25_000));
}

/// A timer that outlives its connection must not affect the connection that has its key now.
#[test]
fn the_deadline_of_a_removed_connection_ends_no_other() {
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    let mut connection = Connection::new(WorkerConfig { keep_alive, ..WorkerConfig::default() });
    connection.wait(4 * SECOND);
    connection.end();
    let left = connection.key;
    connection.key = connection.open();
    assert_eq!(connection.key, left, "the same place");
    connection.wait(4 * SECOND);
    assert_eq!((connection.wire(), connection.worker.len()), (&b""[..], 1));
    connection.feed(GOOD.as_bytes());
    connection.take_wire();
    connection.feed(&frame(0x01, b"beg"));
    connection.wait(29 * SECOND);
    connection.feed(&frame(0x80, b"un"));
    assert_eq!(connection.wire(), b"\x81\x05begun");
    connection.wait(60 * SECOND);
    assert_eq!((connection.wire(), connection.worker.len()), (&b"\x81\x05begun"[..], 1));
    assert_eq!(connection.worker.poll_timeout(connection.now), None, "an idle connection waits for nothing");
}

/// Many connections that send nothing: all time out at once, and none causes a scan of the others.
#[test]
fn many_idle_connections_are_removed_in_one_pass() {
    let mut connection = Connection::new(WorkerConfig::default());
    for _ in 1..100_000 {
        connection.open();
    }
    check_time(Duration::from_secs(20), || {
        for _ in 0..2 {
            connection.now += 5 * SECOND;
            connection.handle_all_due();
        }
    });
    assert!(connection.worker.is_empty());
    assert_eq!((connection.recorder.rejected, connection.recorder.abandoned), (100_000 - 4096, 4096));
    assert_eq!(connection.worker.poll_timeout(connection.now), None);
}

/// A full process refuses connections, and these do not count afterwards.
#[test]
fn a_refusal_for_lack_of_room_holds_nothing() {
    let mut connection = Connection::new(WorkerConfig::default());
    for _ in 2..1000 {
        connection.key = connection.open_from(PEER, Some(HandshakeError::Overloaded));
        connection.feed(GOOD.as_bytes());
        assert!(connection.wire().starts_with(b"HTTP/1.1 503 "), "{}", connection.wire().escape_ascii());
        assert_eq!(connection.transport(), Transport::ShutdownWrite);
    }
    connection.wait(SECOND);
    assert_eq!(connection.worker.len(), 1, "only the first, which has its five seconds");
    assert_eq!(connection.recorder.established, 0);
}

/// ws CVE-2026-45736 (uninitialised memory in answers), NATS f5985b546 and d1b647e3a (buffers used again too early).
#[test]
fn an_answer_never_contains_bytes_of_another_connection() {
    const PEERS: usize = 40;
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let session = SessionConfig { control_rate: 0, ..SessionConfig::default() };
    let mut connection = Connection::admitted_by(
        WorkerConfig { handshake, session: session.into(), ..WorkerConfig::default() },
        GOOD,
    );
    let compressing = with("", "Sec-WebSocket-Extensions: permessage-deflate");
    let mut keys = vec![connection.key];
    for number in 1..PEERS {
        connection.open_another(if number % 2 == 0 { GOOD } else { &compressing });
        keys.push(connection.key);
    }
    let mut expected = [0; PEERS];
    // The bytes that each must still send: its messages arrive in pieces, between pieces of others.
    let mut unsent = vec![Vec::new(); PEERS];
    for round in 0..60_000 {
        let peer = random(PEERS);
        // Their own number in each byte of each message; too short to be compressed, and of any length below that.
        let tag = vec![peer as u8; random(64)];
        if round < 50_000 {
            let (front, back) = tag.split_at(random(tag.len() + 1));
            match random(3) {
                0 => unsent[peer].extend(frame(0x82, &tag)),
                1 => unsent[peer].extend([frame(0x02, front), frame(0x80, back)].concat()),
                _ if peer % 2 == 0 => unsent[peer].extend(frame(0x81, &tag)),
                _ => unsent[peer].extend(frame(0xc1, &stored(&tag))),
            }
            expected[peer] += tag.len();
        }
        connection.key = keys[peer];
        connection.takes = [0, 1, 5, 40, usize::MAX][random(5)];
        let portion = random(200).min(unsent[peer].len());
        let rest = unsent[peer].split_off(portion);
        let bytes = std::mem::replace(&mut unsent[peer], rest);
        if random(8) == 0 {
            // A runtime that forgets to settle.
            let Connection { runtime, key } = &mut connection;
            runtime.worker.receive(*key, runtime.now, &mut bytes.clone(), &mut runtime.recorder);
        } else {
            connection.feed(&bytes);
        }
    }
    connection.takes = usize::MAX;
    for peer in 0..PEERS {
        connection.key = keys[peer];
        connection.feed(&unsent[peer]);
        while connection.worker.wants_write(connection.key) {
            connection.flush();
        }
        let answer = connection.frames().iter().flat_map(|(_, payload)| payload.iter().copied()).collect();
        let answer: Vec<u8> = answer;
        assert!(answer.iter().all(|byte| usize::from(*byte) == peer), "peer {peer} got bytes of another");
        assert_eq!(answer.len(), expected[peer], "peer {peer}");
    }
    assert_eq!(connection.recorder.messages, 50_000);
}

/// Returns DEFLATE that is only stored (RFC 1951 §3.2.4), ended as RFC 7692 §7.2.1 requires.
fn stored(payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), payload, &[0]].concat()
}

/// Limits near the largest numbers, as a setting may have them, do not overflow.
#[test]
fn settings_without_a_bound_overflow_nothing() {
    let session = SessionConfig {
        max_message: usize::MAX,
        max_frame: usize::MAX,
        max_fragments: u32::MAX,
        control_rate: u32::MAX,
        pause_backlog: usize::MAX,
        max_backlog: usize::MAX,
        message_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        ..SessionConfig::default()
    };
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let keep_alive = KeepAliveConfig { interval: Duration::MAX, timeout: Duration::MAX };
    let config = WorkerConfig { handshake, session: session.into(), keep_alive, ..WorkerConfig::default() };
    let mut connection =
        Connection::admitted_by(config, &with("", "Sec-WebSocket-Extensions: permessage-deflate"));
    connection.takes = 0;
    connection.feed(&[frame(0x89, b"p"), frame(0xc1, &stored(b"Hello")), frame(0x02, b"a")].concat());
    connection.feed(&frame(0x80, b"b"));
    connection.wait(Duration::from_secs(1_000_000));
    connection.takes = usize::MAX;
    connection.flush();
    assert_eq!(connection.wire(), b"\x8a\x01p\x81\x05Hello\x82\x02ab");
    assert_eq!(connection.worker.poll_timeout(Instant::now()), None);
}
