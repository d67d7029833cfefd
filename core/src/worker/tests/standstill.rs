//! A process that was suspended: it reads the bytes that have arrived before it judges any peer.

use std::io::{Error, ErrorKind, IoSlice, Result};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A socket with the bytes that the kernel has received for it.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) received: Vec<u8>,
    /// The number of bytes that it accepts before a write would block.
    pub(super) room: usize,
    pub(super) wire: Vec<u8>,
}

impl Kernel {
    pub(super) fn with(received: &[u8]) -> Kernel {
        Kernel { received: received.to_vec(), room: usize::MAX, wire: Vec::new() }
    }
}

impl Socket for Kernel {
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.received.is_empty() {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        let n = buffer.len().min(self.received.len());
        buffer[..n].copy_from_slice(&self.received[..n]);
        self.received.drain(..n);
        Ok(n)
    }

    fn receive_into_spare(&mut self, _: &mut Vec<u8>) -> Result<usize> {
        unreachable!("no message here is large");
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let n = bytes.len().min(self.room);
        self.room -= n;
        self.wire.extend_from_slice(&bytes[..n]);
        if n == 0 { Err(Error::from(ErrorKind::WouldBlock)) } else { Ok(n) }
    }
}

impl Runtime {
    /// Handles everything that is due once, with one socket and a small buffer.
    pub(super) fn attend_with(&mut self, kernel: &mut Kernel) -> Transport {
        let mut last = Transport::Open;
        let mut buffer = [0; 100];
        while let Some(due) = self.worker.next_due(self.now, &mut self.notes) {
            last = self.worker.handle_due(due, self.now, &mut buffer, kernel, &mut self.notes);
            if last == Transport::Close {
                self.worker.remove(due.key, self.now, &mut self.notes);
            }
        }
        last
    }
}

/// Returns a connection with the default heartbeat, pinged just before, and the ping's payload.
fn pinged() -> (Runtime, Key, Vec<u8>) {
    let mut runtime = Runtime::new(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.wires[key.0].clear();
    runtime.wait(KeepAliveConfig::default().of(1).interval);
    let payload = runtime.wire(key)[2..].to_vec();
    (runtime, key, payload)
}

#[test]
fn a_pong_that_has_arrived_counts_however_late_it_is_read() {
    for late in [0, 1, 30, 3600] {
        let (mut runtime, _, payload) = pinged();
        runtime.now += (10 + late) * SECOND;
        let mut kernel = Kernel::with(&frame(0x8a, &payload));
        assert_eq!(runtime.attend_with(&mut kernel), Transport::Open, "{late}");
        assert!(kernel.received.is_empty() && kernel.wire.is_empty(), "{late}: {:?}", kernel.wire);
    }
}

#[test]
fn a_peer_that_has_sent_nothing_is_asked_once_more_and_then_ended() {
    let (mut runtime, _, _) = pinged();
    runtime.now += 60 * SECOND;
    let mut kernel = Kernel::with(b"");
    runtime.attend_with(&mut kernel);
    assert_eq!((kernel.wire[0], kernel.wire.len()), (0x89, 10), "another ping");
    kernel.wire.clear();
    runtime.now += 10 * SECOND;
    assert_eq!(runtime.attend_with(&mut kernel), Transport::ShutdownWrite);
    assert_eq!(kernel.wire, b"\x88\x09\x11\x38no pong");
}

#[test]
fn a_request_that_has_arrived_is_answered_and_not_timed_out() {
    for late in [0, 60] {
        let mut runtime = Runtime::new(WorkerConfig::default());
        runtime.open();
        runtime.now += (5 + late) * SECOND;
        let mut kernel = Kernel::with(HEAD.as_bytes());
        runtime.attend_with(&mut kernel);
        assert!(kernel.wire.starts_with(b"HTTP/1.1 101 "), "{}", kernel.wire.escape_ascii());
    }
}

#[test]
fn the_oldest_request_of_too_many_is_read_before_it_makes_room() {
    let handshake = HandshakeConfig { max_handshakes: 1, ..HandshakeConfig::default() };
    let mut runtime = Runtime::new(WorkerConfig { handshake, ..WorkerConfig::default() });
    let [_, _] = [runtime.open(), runtime.open()];
    runtime.now += SECOND;
    let mut kernel = Kernel::with(HEAD.as_bytes());
    runtime.attend_with(&mut kernel);
    assert!(kernel.wire.starts_with(b"HTTP/1.1 101 "), "{}", kernel.wire.escape_ascii());
    assert!(!runtime.notes.0.iter().any(|note| note.starts_with("rejected")), "{:?}", runtime.notes);
}

#[test]
fn the_rest_of_a_message_counts_and_what_had_no_room_gets_time() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"a"));
    runtime.now += 30 * SECOND;
    let mut kernel = Kernel::with(&frame(0x80, b"b"));
    runtime.attend_with(&mut kernel);
    assert_eq!(kernel.wire, b"\x81\x02ab");

    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"a"));
    runtime.now += 90 * SECOND;
    let mut kernel = Kernel::with(&frame(0x00, b"b"));
    runtime.attend_with(&mut kernel);
    runtime.now += 30 * SECOND - Duration::from_nanos(1);
    runtime.attend_with(&mut kernel);
    assert_eq!(kernel.wire, b"", "as much time again as a message has");
    runtime.now += Duration::from_nanos(1);
    runtime.attend_with(&mut kernel);
    assert!(kernel.wire.ends_with(b"message took too long"));
}

#[test]
fn an_answered_close_is_an_answered_close() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.worker.disconnect(&Selector::All, CloseCode::NORMAL, "", runtime.now);
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), b"\x88\x02\x03\xe8");
    runtime.now += 5 * SECOND;
    let mut kernel = Kernel::with(&frame(0x88, b"\x03\xe8"));
    assert_eq!(runtime.attend_with(&mut kernel), Transport::Close);
    assert!(kernel.received.is_empty(), "it was read");
}

#[test]
fn a_peer_that_has_made_room_meanwhile_is_not_too_slow() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.now += 60 * SECOND;
    let mut kernel = Kernel::with(b"");
    kernel.room = 1;
    assert_eq!(runtime.attend_with(&mut kernel), Transport::Open, "a byte is progress");
    assert_eq!(kernel.wire, b"\x81");
    runtime.now += 10 * SECOND;
    assert_eq!(runtime.attend_with(&mut kernel), Transport::Close);
    assert!(runtime.notes.0.last().is_some_and(|note| note.starts_with("closed 123 WriteStalled")));
}

#[test]
fn a_peer_that_never_stops_sending_is_judged_all_the_same() {
    let (mut runtime, _) = admitted(SessionConfig::default());
    runtime.worker.disconnect(&Selector::All, CloseCode::NORMAL, "", runtime.now);
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.worker.len(), 1);
    runtime.now += 5 * SECOND;
    let mut kernel = Kernel::with(&frame(0x82, &[0; 60_000]));
    assert_eq!(runtime.attend_with(&mut kernel), Transport::Close);
    assert!(!kernel.received.is_empty(), "the work is bounded");
}
