//! One message to many connections.

use super::*;
use crate::frame::DataKind;
use crate::worker::Backlog;

/// Opens a connection and admits its user.
fn admit(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    key
}

/// A worker with `count` admitted connections, and their sockets.
fn crowd(count: usize, max_memory: usize) -> (Runtime, Vec<Key>, Vec<ModelSocket>) {
    let mut runtime = Runtime::of(WorkerConfig { max_memory, ..WorkerConfig::default() });
    let keys: Vec<Key> = (0..count).map(|_| admit(&mut runtime)).collect();
    let sockets = keys.iter().map(|_| ModelSocket::with(b"")).collect();
    (runtime, keys, sockets)
}

/// Handles all due connections. Returns those whose sockets must be closed.
fn handle_all_due(runtime: &mut Runtime, sockets: &mut [ModelSocket]) -> Vec<Key> {
    let mut closed = Vec::new();
    while let Some(due) = runtime.worker.next_due(runtime.now, &mut runtime.recorder) {
        let (now, socket) = (runtime.now, &mut sockets[due.key.0]);
        if runtime.worker.handle_due(due, now, &mut [0; 64], socket, &mut runtime.recorder)
            == Transport::Close
        {
            runtime.worker.remove(due.key, now, &mut runtime.recorder);
            closed.push(due.key);
        }
    }
    closed
}

/// A broadcast was once kept by each connection until it was written, as if its peer were slow, and connections were evicted.
#[test]
fn a_broadcast_evicts_no_healthy_connection() {
    let (mut runtime, keys, mut sockets) = crowd(1000, 512 * 1024);
    let text = "x".repeat(1024);
    let now = runtime.now;
    assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Text(&text), now), 1000);
    assert_eq!(runtime.worker.memory_held(), 1028, "the frame is stored once");
    assert_eq!(runtime.worker.poll_timeout(now), Some(now));
    while runtime.worker.poll_timeout(now) == Some(now) {
        assert_eq!(handle_all_due(&mut runtime, &mut sockets), []);
    }
    for key in keys {
        let socket = &sockets[key.0];
        assert_eq!((socket.sends, socket.sent.len()), (1, 1028));
    }
    assert_eq!((runtime.worker.memory_held(), runtime.worker.totals().backlog), (0, 0));
}

/// Returns the number of frames that are written until the runtime must look at its sockets.
fn write_slice(runtime: &mut Runtime, sockets: &mut [ModelSocket]) -> usize {
    let before: usize = sockets.iter().map(|socket| socket.sends).sum();
    handle_all_due(runtime, sockets);
    sockets.iter().map(|socket| socket.sends).sum::<usize>() - before
}

#[test]
fn a_message_to_many_is_written_in_slices() {
    // Each 16 KiB of a write count as one more.
    for (len, slices) in
        [(5, &[256, 256, 88][..]), (16 * 1024, &[128, 128, 128, 128, 88]), (64 * 1024, &[52])]
    {
        let (mut runtime, keys, mut sockets) = crowd(600, usize::MAX);
        let now = runtime.now;
        runtime.worker.send(&Selector::All, Outgoing::Binary(&vec![7; len]), now);
        for &slice in slices {
            assert_eq!(runtime.worker.poll_timeout(now), Some(now));
            assert_eq!(write_slice(&mut runtime, &mut sockets), slice, "{len} bytes");
        }
        // A message to a connection that has not had its turn is written with the one before.
        runtime.worker.send(&Selector::All, Outgoing::Text("second"), now);
        while runtime.worker.poll_timeout(now) == Some(now) {
            assert!(write_slice(&mut runtime, &mut sockets) <= 256);
        }
        for key in keys {
            let socket = &sockets[key.0];
            assert!(socket.sent.ends_with(b"second") && socket.sent.len() > len, "{key:?}");
            assert!(socket.sends <= 2, "{key:?}");
        }
        assert_eq!(runtime.worker.memory_held(), 0);
    }
}

#[test]
fn deadlines_do_not_wait_for_the_last_slice() {
    let (mut runtime, _, mut sockets) = crowd(600, usize::MAX);
    let late = runtime.open();
    sockets.push(ModelSocket::with(b""));
    runtime.now += HandshakeConfig::default().timeout;
    runtime.worker.send(&Selector::All, Outgoing::Text("hello"), runtime.now);
    assert_eq!(handle_all_due(&mut runtime, &mut sockets), [late]);
    assert_eq!(sockets.iter().map(|socket| socket.sends).sum::<usize>(), 256);
}

/// The eviction would begin with connections whose output has not been offered to their sockets.
#[test]
fn all_output_is_offered_before_memory_evicts_a_connection() {
    let (mut runtime, _, mut sockets) = crowd(600, 220_000);
    // Two long frames make a queue, which counts.
    for text in ["x".repeat(70_000), "y".repeat(70_000)] {
        runtime.worker.send(&Selector::All, Outgoing::Text(&text), runtime.now);
    }
    assert!(runtime.worker.is_short_of_memory());
    while runtime.worker.poll_timeout(runtime.now) == Some(runtime.now) {
        assert_eq!(handle_all_due(&mut runtime, &mut sockets), []);
    }
    assert!(sockets.iter().all(|socket| socket.sent.len() == 2 * 70_010 && socket.sends == 1));
}

#[test]
fn connections_that_read_nothing_hold_little_beside_the_frame() {
    let (mut runtime, keys, mut sockets) = crowd(500, usize::MAX);
    sockets.iter_mut().for_each(|socket| socket.takes = 0);
    let payload = vec![7; 64 * 1024];
    let now = runtime.now;
    runtime.worker.send(&Selector::All, Outgoing::Binary(&payload), now);
    handle_all_due(&mut runtime, &mut sockets);
    let frame = payload.len() + 10;
    let own = runtime.worker.memory_held() - frame;
    assert!(own <= 200 * keys.len(), "{} bytes each", own / keys.len());
    // One of them accepts everything, and the others leave.
    sockets[0].takes = usize::MAX;
    assert_eq!(runtime.worker.flush(keys[0], now, &mut sockets[0]), Transport::Open);
    assert_eq!((sockets[0].sent.len(), sockets[0].sends), (frame, 2));
    for &key in &keys[1..] {
        runtime.worker.handle_error(key);
        runtime.worker.remove(key, now, &mut runtime.recorder);
    }
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn messages_arrive_whole_and_in_order_whatever_a_socket_accepts() {
    for takes in [1, 2, 3, 7, 50, usize::MAX] {
        let (mut runtime, keys, mut sockets) = crowd(2, usize::MAX);
        sockets[0].takes = takes;
        let now = runtime.now;
        let mut expected = Vec::new();
        for round in 0..20 {
            let text = format!("message {round}");
            runtime.worker.send(&Selector::All, Outgoing::Text(&text), now);
            expected.extend_from_slice(&frame_of_server(0x81, text.as_bytes()));
            if round % 3 == 0 {
                // The echo of a message is written after what was sent before.
                let mut bytes = frame(0x82, &[round]);
                runtime.worker.receive(keys[0], now, &mut bytes, &mut runtime.recorder);
                expected.extend_from_slice(&frame_of_server(0x82, &[round]));
            }
            if round % 4 == 0 {
                handle_all_due(&mut runtime, &mut sockets);
            }
        }
        handle_all_due(&mut runtime, &mut sockets);
        for _ in 0..1000 {
            runtime.worker.flush(keys[0], now, &mut sockets[0]);
        }
        assert!(sockets[0].sent == expected, "{takes} bytes a write");
        assert_eq!(runtime.worker.memory_held(), 0, "{takes} bytes a write");
    }
}

#[test]
fn messages_of_one_batch_are_written_at_once_and_stored_once() {
    let (mut runtime, keys, mut sockets) = crowd(100, usize::MAX);
    let now = runtime.now;
    let mut expected = Vec::new();
    for round in 0..8 {
        let text = format!("message {round}");
        assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Text(&text), now), 100);
        expected.extend_from_slice(&frame_of_server(0x81, text.as_bytes()));
    }
    assert_eq!(runtime.worker.memory_held(), expected.len(), "the frames are joined once");
    assert_eq!(handle_all_due(&mut runtime, &mut sockets), []);
    for key in keys {
        let socket = &sockets[key.0];
        assert_eq!(socket.sends, 1);
        assert!(socket.sent == expected);
    }
    assert_eq!(runtime.worker.memory_held(), 0);
}

/// Connections with the same output are handled together, and others between them alone.
#[test]
fn connections_with_different_output_get_all_their_messages() {
    let (mut runtime, keys, mut sockets) = crowd(60, usize::MAX);
    let now = runtime.now;
    let mut expected = vec![Vec::new(); keys.len()];
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for round in 0..300 {
        let text = "y".repeat(random(40) as usize);
        let is_to_all = random(3) == 0;
        let (from, to) = (random(60) as usize, random(60) as usize);
        let chosen: Vec<Key> = if is_to_all { keys.clone() } else { keys[from.min(to)..to].to_vec() };
        let (_, mut fanout) = runtime.worker.fan_out(now);
        let frame = fanout.frame(DataKind::Text, text.as_bytes());
        let sent = fanout.deliver_to(chosen.iter().copied(), frame);
        drop(fanout);
        assert_eq!(sent, chosen.iter().filter(|key| runtime.worker.status(**key).unwrap().is_open).count());
        for key in chosen.iter().filter(|key| runtime.worker.status(**key).unwrap().is_open) {
            expected[key.0].extend_from_slice(&frame_of_server(0x81, text.as_bytes()));
        }
        match random(8) {
            0 => assert_eq!(handle_all_due(&mut runtime, &mut sockets), []),
            1 if round > 200 => {
                let number = ConnectionId(runtime.worker.status(keys[to]).unwrap().id.0);
                runtime.worker.disconnect(&Selector::Connection(number), CloseCode::NORMAL, "", now);
            }
            2 => drop(runtime.worker.flush(keys[to], now, &mut sockets[keys[to].0])),
            _ => {}
        }
    }
    handle_all_due(&mut runtime, &mut sockets);
    for key in keys {
        let written = &sockets[key.0].sent;
        let close: &[u8] = if written.len() > expected[key.0].len() { b"\x88\x02\x03\xe8" } else { b"" };
        assert!(*written == [&expected[key.0][..], close].concat(), "{key:?}");
    }
    assert_eq!(runtime.worker.memory_held(), 0);
}

/// The limit applies to output that a socket has been offered, not to output that the worker has not written yet.
#[test]
fn many_messages_of_one_batch_close_no_healthy_connection() {
    let limits = SessionConfig { max_backlog: 1000, ..SessionConfig::default() };
    let config = WorkerConfig { session: Arc::new(limits), ..WorkerConfig::default() };
    for len in [10, 300, 5_000] {
        let mut runtime = Runtime::of(config.clone());
        let key = admit(&mut runtime);
        let mut sockets = vec![ModelSocket::with(b"")];
        let (now, text) = (runtime.now, "x".repeat(len));
        for _ in 0..200 {
            assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Text(&text), now), 1, "{len} bytes");
        }
        handle_all_due(&mut runtime, &mut sockets);
        assert!(!runtime.worker.wants_write(key));
        let header = if len < 126 { 2 } else { 4 };
        assert_eq!(sockets[key.0].sent.len(), 200 * (header + len));
        assert_eq!(runtime.worker.memory_held(), 0);
    }
}

#[test]
fn a_connection_with_more_pieces_than_one_write_takes_is_written_at_once() {
    let (mut runtime, keys, mut sockets) = crowd(1, usize::MAX);
    let now = runtime.now;
    for _ in 0..40 {
        runtime.worker.send(&Selector::All, Outgoing::Text("a"), now);
    }
    handle_all_due(&mut runtime, &mut sockets);
    assert_eq!(sockets[keys[0].0].sent.len(), 40 * 3);
    assert!(!runtime.worker.wants_write(keys[0]));
}

#[test]
fn a_slow_connection_is_closed_when_its_queue_exceeds_the_limit() {
    let limits = SessionConfig { max_backlog: 1000, ..SessionConfig::default() };
    let config = WorkerConfig { session: Arc::new(limits), ..WorkerConfig::default() };
    let mut runtime = Runtime::of(config);
    let key = admit(&mut runtime);
    let mut sockets = vec![ModelSocket { takes: 0, ..ModelSocket::with(b"") }];
    let (now, text) = (runtime.now, "x".repeat(300));
    let mut sent = 0;
    for _ in 0..6 {
        let backlog = runtime.worker.fan_out(now).1.backlog(key);
        // Finally, the Close waits as well.
        let bytes = sent * 304 + if sent == 4 { 2 + 2 + "slow consumer".len() } else { 0 };
        assert_eq!(backlog, Backlog { bytes, is_blocked: bytes > 0 });
        sent += runtime.worker.send(&Selector::All, Outgoing::Text(&text), now);
        handle_all_due(&mut runtime, &mut sockets);
    }
    assert_eq!(sent, 4, "the fourth exceeds the limit");
    sockets[0].takes = usize::MAX;
    runtime.worker.flush(key, now, &mut sockets[0]);
    assert!(sockets[0].sent.ends_with(b"\x11\x3dslow consumer"));
}

/// Each connection once had a compressed frame that was made for it alone.
#[cfg(feature = "compression")]
#[test]
fn a_message_is_compressed_once_for_each_window() {
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { handshake, ..WorkerConfig::default() });
    let keys: Vec<Key> = (0..100)
        .map(|number| {
            let offer = format!("permessage-deflate; server_max_window_bits={}", 8 + number % 8);
            let head = HEAD.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"));
            let key = runtime.open();
            runtime.feed(key, head.as_bytes());
            key
        })
        .collect();
    let mut sockets: Vec<_> = keys.iter().map(|_| ModelSocket::with(b"")).collect();
    let now = runtime.now;

    let text = "a text that becomes shorter ".repeat(6);
    assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Text(&text), now), 100);
    assert_eq!(runtime.worker.codec.deflate.compressions, 8);
    assert!(runtime.worker.memory_held() < 8 * text.len(), "only the compressed forms are stored");
    handle_all_due(&mut runtime, &mut sockets);
    for key in &keys {
        let (header, payload) = sockets[key.0].sent.split_at(2);
        assert_eq!((header[0], usize::from(header[1])), (0xc1, payload.len()));
        let inflated = runtime.worker.codec.deflate.inflate(payload, text.len());
        assert_eq!(inflated.as_deref(), Ok(text.as_bytes()));
        assert_eq!(runtime.worker.status(*key).expect("it is open").traffic.bytes_sent, text.len() as u64);
    }
    assert_eq!(runtime.worker.memory_held(), 0);

    // Bytes that do not become shorter are sent uncompressed, and are not compressed again for each connection.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..100)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Binary(&noise), now), 100);
    assert_eq!(runtime.worker.codec.deflate.compressions, 16);
    assert_eq!(runtime.worker.memory_held(), 102);
    handle_all_due(&mut runtime, &mut sockets);
    assert!(keys.iter().all(|key| sockets[key.0].sent.ends_with(&frame_of_server(0x82, &noise))));
    assert_eq!(runtime.worker.memory_held(), 0);
}

/// A frame without a mask.
fn frame_of_server(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}
