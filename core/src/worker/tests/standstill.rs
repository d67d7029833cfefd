//! A process that was suspended: it reads the bytes that have arrived before it judges any peer.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Runtime {
    /// Handles everything that is due once, with one socket and a small buffer.
    pub(super) fn attend_with(&mut self, socket: &mut ModelSocket) -> Transport {
        let mut last = Transport::Open;
        let mut buffer = [0; 100];
        while let Some(due) = self.worker.next_due(self.now, &mut self.recorder) {
            last = self.worker.handle_due(due, self.now, &mut buffer, socket, &mut self.recorder);
            if last == Transport::Close {
                self.worker.remove(due.key, self.now, &mut self.recorder);
            }
        }
        last
    }
}

/// Returns a connection with the default heartbeat, pinged just before, and the ping's payload.
fn pinged() -> (Runtime, Key, Vec<u8>) {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    runtime.wait(KeepAliveConfig::default().of(1).interval);
    let payload = runtime.wire(key)[2..].to_vec();
    (runtime, key, payload)
}

#[test]
fn a_pong_that_has_arrived_counts_however_late_it_is_read() {
    for late in [0, 1, 30, 3600] {
        let (mut runtime, _, payload) = pinged();
        runtime.now += (10 + late) * SECOND;
        let mut socket = ModelSocket::with(&frame(0x8a, &payload));
        assert_eq!(runtime.attend_with(&mut socket), Transport::Open, "{late}");
        assert!(socket.incoming.is_empty() && socket.sent.is_empty(), "{late}: {:?}", socket.sent);
    }
}

#[test]
fn a_peer_that_has_sent_nothing_is_asked_once_more_and_then_ended() {
    let (mut runtime, _, _) = pinged();
    runtime.now += 60 * SECOND;
    let mut socket = ModelSocket::with(b"");
    runtime.attend_with(&mut socket);
    assert_eq!((socket.sent[0], socket.sent.len()), (0x89, 10), "another ping");
    socket.sent.clear();
    runtime.now += 10 * SECOND;
    assert_eq!(runtime.attend_with(&mut socket), Transport::ShutdownWrite);
    assert_eq!(socket.sent, b"\x88\x09\x11\x38no pong");
}

#[test]
fn a_request_that_has_arrived_is_answered_and_not_timed_out() {
    for late in [0, 60] {
        let mut runtime = Runtime::of(WorkerConfig::default());
        runtime.open();
        runtime.now += (5 + late) * SECOND;
        let mut socket = ModelSocket::with(HEAD.as_bytes());
        runtime.attend_with(&mut socket);
        assert!(socket.sent.starts_with(b"HTTP/1.1 101 "), "{}", socket.sent.escape_ascii());
    }
}

#[test]
fn the_oldest_request_of_too_many_is_read_before_it_makes_room() {
    let handshake = HandshakeConfig { max_handshakes: 1, ..HandshakeConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { handshake, ..WorkerConfig::default() });
    let [_, _] = [runtime.open(), runtime.open()];
    runtime.now += SECOND;
    let mut socket = ModelSocket::with(HEAD.as_bytes());
    runtime.attend_with(&mut socket);
    assert!(socket.sent.starts_with(b"HTTP/1.1 101 "), "{}", socket.sent.escape_ascii());
    assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("rejected")), "{:?}", runtime.recorder);
}

#[test]
fn the_rest_of_a_message_counts_and_what_had_no_room_gets_time() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"a"));
    runtime.now += 30 * SECOND;
    let mut socket = ModelSocket::with(&frame(0x80, b"b"));
    runtime.attend_with(&mut socket);
    assert_eq!(socket.sent, b"\x81\x02ab");

    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"a"));
    runtime.now += 90 * SECOND;
    let mut socket = ModelSocket::with(&frame(0x00, b"b"));
    runtime.attend_with(&mut socket);
    runtime.now += 30 * SECOND - Duration::from_nanos(1);
    runtime.attend_with(&mut socket);
    assert_eq!(socket.sent, b"", "as much time again as a message has");
    runtime.now += Duration::from_nanos(1);
    runtime.attend_with(&mut socket);
    assert!(socket.sent.ends_with(b"message took too long"));
}

#[test]
fn an_answered_close_is_an_answered_close() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.worker.disconnect(&Selector::All, CloseCode::NORMAL, "", runtime.now);
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), b"\x88\x02\x03\xe8");
    runtime.now += 5 * SECOND;
    let mut socket = ModelSocket::with(&frame(0x88, b"\x03\xe8"));
    assert_eq!(runtime.attend_with(&mut socket), Transport::Close);
    assert!(socket.incoming.is_empty(), "it was read");
}

#[test]
fn a_peer_that_has_made_room_meanwhile_is_not_too_slow() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.now += 60 * SECOND;
    let mut socket = ModelSocket::with(b"");
    socket.takes = 1;
    assert_eq!(runtime.attend_with(&mut socket), Transport::Open, "a byte is progress");
    assert_eq!(socket.sent, b"\x81");
    socket.takes = 0;
    runtime.now += 10 * SECOND;
    assert_eq!(runtime.attend_with(&mut socket), Transport::Close);
    assert!(runtime.recorder.0.last().is_some_and(|note| note.starts_with("closed 123 WriteStalled")));
}

#[test]
fn a_peer_that_never_stops_sending_is_judged_all_the_same() {
    let (mut runtime, _) = admitted(SessionConfig::default());
    runtime.worker.disconnect(&Selector::All, CloseCode::NORMAL, "", runtime.now);
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.worker.len(), 1);
    runtime.now += 5 * SECOND;
    let mut socket = ModelSocket::with(&frame(0x82, &[0; 60_000]));
    assert_eq!(runtime.attend_with(&mut socket), Transport::Close);
    assert!(!socket.incoming.is_empty(), "the work is bounded");
}
