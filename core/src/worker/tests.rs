//! A worker in a [`ModelRuntime`].

mod answers;
mod application;
mod backlog;
mod bodies;
mod capacity;
mod drain;
mod expiry;
mod fanout;
mod first_message;
mod handshake_limits;
mod in_band;
mod keep_alive;
mod manage;
mod memory;
mod pause;
mod rates;
mod readable;
mod refusals;
mod replace;
mod revalidate;
mod splits;
mod standstill;
mod timeouts;
mod wipe;

use std::time::Duration;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{self, Control, Data, OpCode};

use super::*;
use crate::CloseCode;
use crate::handshake::HandshakeConfig;
use crate::model::{ModelRuntime, ModelSocket, PEER, client_frame as frame};
use crate::policy::KeepAliveConfig;
use crate::record::Record;
use crate::session::SessionConfig;

const HEAD: &str = "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n\
    User-Name: John Doe\r\nUser-Email: john@example.com\r\n\r\n";

/// Keeps records as text, so that two runs can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Notes(Vec<String>, IsFull);

/// Whether a recorder cannot accept more records.
type IsFull = bool;

/// Returns a payload, or the length and the checksum of a long one.
fn shown(payload: &[u8]) -> String {
    let sum = |sum: u64, &byte: &u8| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
    match payload.len() {
        0..=1000 => payload.escape_ascii().to_string(),
        len => format!("{len} bytes with sum {:x}", payload.iter().fold(0, sum)),
    }
}

impl Recorder for Notes {
    fn record(&mut self, record: &Record<'_>) {
        self.0.push(match record {
            Record::Message { payload, kind, identity, .. } => {
                format!("message {kind} {} from {}", shown(payload), identity.id())
            }
            Record::Publication { payload, channel, identity, .. } => {
                format!("publication {} from {} in {channel}", shown(payload), identity.id())
            }
            Record::Established { identity, subprotocol, .. } => {
                format!("established {identity:?} {subprotocol:?}")
            }
            Record::Pong { identity, round_trip, .. } => {
                format!("pong of {} after {round_trip:?}", identity.id())
            }
            Record::RateExceeded { kind, is_first: true, .. } => format!("exceeds its {kind:?}"),
            Record::RateExceeded { .. } => return,
            Record::RateKept { lasted, pauses, .. } => {
                format!("keeps its rate after {lasted:?} and {pauses} pauses")
            }
            Record::TokenRefreshed { identity, .. } => {
                format!("token of {} is refreshed to {:?}", identity.id(), identity.token_exp())
            }
            Record::RefreshRefused { identity, refusal, .. } => {
                format!("refresh of {} is refused: {refusal:?}", identity.id())
            }
            Record::CredentialsEnded { identity, cause, .. } => {
                format!("credentials of {} {cause:?}", identity.id())
            }
            Record::Closed { identity, ending, summary, .. } => {
                format!("closed {} {ending:?} {:?}", identity.id(), summary.traffic)
            }
            Record::Rejected { error, close_code: None, .. } => format!("rejected {error:?}"),
            Record::Rejected { error, close_code: Some(code), .. } => {
                format!("rejected {error:?} by a Close of {code}")
            }
            Record::Abandoned { received, .. } => format!("abandoned after {received}"),
        });
    }

    fn is_full(&self) -> bool {
        self.1
    }
}

type Runtime<A = Echo> = ModelRuntime<A, Notes>;

impl Runtime {
    fn of(config: WorkerConfig) -> Runtime {
        Runtime::with_application(Echo, config)
    }
}

impl<A: Application> Runtime<A> {
    fn with_application(application: A, config: WorkerConfig) -> Runtime<A> {
        let now = Instant::now();
        let worker = Worker::with_application(application, Arc::new(config), 1, now);
        Runtime::new(worker, Notes::default(), now)
    }

    /// Pauses reads until [`Runtime::resume_reads`], as if the log were full.
    fn pause_reads(&mut self) {
        self.recorder.1 = true;
        assert!(!self.worker.apply_backpressure(&self.recorder, self.now));
    }

    fn resume_reads(&mut self) {
        self.recorder.1 = false;
        assert!(self.worker.apply_backpressure(&self.recorder, self.now));
    }
}

/// Runs one connection over `portions` and its end; returns everything that could be observed.
fn observe<'p>(portions: impl Iterator<Item = &'p [u8]>) -> (Vec<u8>, Notes, Transport) {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    portions.for_each(|portion| runtime.feed(key, portion));
    let transport = runtime.transport(key);
    runtime.end(key);
    assert!(runtime.worker.is_empty(), "a connection whose peer has left is removed");
    (runtime.take_wire(key), runtime.recorder, transport)
}

#[test]
fn a_connection_is_recorded_from_its_user_to_its_end() {
    let messages = [frame(0x81, b"Hello World"), frame(0x82, b"\x00\x01"), frame(0x88, b"\x03\xe8")].concat();
    let (wire, notes, transport) = observe([HEAD.as_bytes(), &messages].into_iter());
    let (_, frames) = wire.split_at(wire.len() - 2 - 11 - 2 - 2 - 4);
    assert_eq!(frames, b"\x81\x0bHello World\x82\x02\x00\x01\x88\x02\x03\xe8");
    assert_eq!(transport, Transport::Close);
    let expected = [
        r#"established Identity { id: "123", email: Some("john@example.com"), name: Some("John Doe"), session_id: None, token_exp: None, request_id: None } None"#,
        "message text Hello World from 123",
        r"message binary \x00\x01 from 123",
        "closed 123 PeerClosed(Some(CloseCode(1000))) Traffic { messages_received: 2, bytes_received: 13, messages_sent: 2, bytes_sent: 13 }",
    ];
    assert_eq!(notes.0, expected);
}

#[test]
fn a_head_that_arrives_byte_by_byte_must_be_complete_in_time() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    for byte in HEAD.as_bytes().chunks(1).take(49) {
        runtime.feed(key, byte);
        runtime.wait(Duration::from_millis(100));
    }
    assert_eq!(runtime.wire(key), b"");
    runtime.wait(Duration::from_millis(100));
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 408 "));
    assert_eq!(runtime.recorder.0, ["rejected Timeout"]);
}

#[test]
fn a_peer_that_leaves_before_its_request_is_abandoned() {
    assert_eq!(observe([&b"GET /"[..]].into_iter()).1.0, ["abandoned after 5"]);
    assert_eq!(observe([].into_iter()).1.0, ["abandoned after 0"]);
}

/// Returns a runtime with one admitted connection, without pings. Its 101 has been removed from the wire.
fn admitted(session: SessionConfig) -> (Runtime, Key) {
    let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
    let config = WorkerConfig { session: Arc::new(session), keep_alive, ..WorkerConfig::default() };
    let mut runtime = Runtime::of(config);
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    (runtime, key)
}

#[test]
fn stopping_ends_every_connection_in_its_way() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let [admitted, beginning, refused] = [runtime.open(), runtime.open(), runtime.open()];
    runtime.feed(admitted, HEAD.as_bytes());
    runtime.take_wire(admitted);
    runtime.feed(refused, b"\x16");
    let refusal = runtime.wire(refused).to_vec();
    runtime.worker.shut_down();
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(admitted), b"\x88\x0c\x03\xe9going away");
    assert!(runtime.wire(beginning).starts_with(b"HTTP/1.1 503 "));
    assert_eq!(runtime.wire(refused), refusal);
    let late = runtime.open();
    runtime.wait(Duration::ZERO);
    assert!(runtime.wire(late).starts_with(b"HTTP/1.1 503 "));
    runtime.feed(admitted, &frame(0x88, b"\x03\xe9"));
    runtime.wait(Duration::from_secs(1));
    assert!(runtime.worker.is_empty());
}

#[test]
fn a_timer_of_a_connection_that_is_gone_touches_no_other() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.end(key);
    runtime.wait(Duration::from_secs(3));
    assert_eq!(runtime.open(), key);
    runtime.feed(key, b"GET ");
    runtime.wait(Duration::from_secs(3));
    assert_eq!(runtime.wire(key), b"", "its own time is not up");
    runtime.wait(Duration::from_secs(2));
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn messages_arm_no_timer() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.wait(Duration::from_secs(5));
    assert_eq!(runtime.worker.poll_timeout(runtime.now), None);
    for _ in 0..1000 {
        runtime.feed(key, &frame(0x81, b"hello"));
    }
    assert_eq!(runtime.worker.poll_timeout(runtime.now), None);
    assert!(runtime.worker.cork.is_empty() && runtime.worker.cork.capacity() <= LARGEST_CORK);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection<Echo>>() <= 200, "{}", size_of::<Connection<Echo>>());
}

/// Reads a wire as a client would: the answer to the request, then frames, with tungstenite's own parser.
fn check_wire(wire: &[u8]) {
    let Some(head) = wire.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        assert!(wire.is_empty(), "{}", wire.escape_ascii());
        return;
    };
    if !wire.starts_with(b"HTTP/1.1 101 ") {
        return;
    }
    let mut cursor = std::io::Cursor::new(&wire[head + 4..]);
    let mut is_closed = false;
    while (cursor.position() as usize) < cursor.get_ref().len() {
        assert!(!is_closed, "something follows our Close");
        let (header, len) = FrameHeader::parse(&mut cursor).expect("a valid frame").expect("a whole frame");
        assert!(header.mask.is_none() && header.is_final && !header.rsv1 && !header.rsv2 && !header.rsv3);
        let at = cursor.position() as usize;
        let payload = cursor.get_ref().get(at..at + len as usize).expect("a whole payload");
        match header.opcode {
            OpCode::Data(Data::Text) => assert!(std::str::from_utf8(payload).is_ok()),
            OpCode::Data(Data::Binary) => {}
            OpCode::Control(Control::Pong) => assert!(payload.len() <= 125),
            OpCode::Control(Control::Close) => {
                is_closed = true;
                if let Some((code, reason)) = payload.split_first_chunk::<2>() {
                    let code = coding::CloseCode::from(u16::from_be_bytes(*code));
                    assert!(code.is_allowed() || u16::from(code) == 1014, "{code}");
                    assert!(std::str::from_utf8(reason).is_ok());
                }
            }
            other => panic!("a server does not send {other:?}"),
        }
        cursor.set_position((at + len as usize) as u64);
    }
}
