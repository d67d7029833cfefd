//! A client of the service: what a runtime does, with a clock and a socket that the test owns.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::model::ModelRuntime;
pub(crate) use postern_core::model::client_frame as frame;
use postern_core::policy::KeepAliveConfig;
use postern_core::worker::Echo;
use postern_core::{Key, Record, Recorder, SessionConfig, Transport, Worker, WorkerConfig};

/// A request that gets its 101; tests change one thing in it.
pub(crate) const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    User-ID: 123\r\nUser-Name: John Doe\r\nUser-Email: john@example.com\r\n\r\n";

/// Replaces one line of the good request, or adds lines at its end if `line` is empty.
#[track_caller]
pub(crate) fn with(line: &str, instead: &str) -> String {
    if line.is_empty() {
        return format!("{}{instead}\r\n\r\n", &GOOD[..GOOD.len() - 2]);
    }
    let changed = GOOD.replacen(&format!("{line}\r\n"), instead, 1);
    assert_ne!(changed, GOOD, "{line} is not there");
    changed
}

/// Counts records.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) established: usize,
    pub(crate) messages: usize,
    pub(crate) closed: usize,
    pub(crate) rejected: usize,
    pub(crate) abandoned: usize,
    /// The id of the last admitted user.
    pub(crate) user: String,
    /// The code of the last end.
    pub(crate) code: u16,
}

impl Recorder for Counts {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Established { identity, .. } => {
                self.established += 1;
                self.user = identity.id().to_owned();
            }
            Record::Message { .. } | Record::Publication { .. } => self.messages += 1,
            Record::Pong { .. }
            | Record::RateExceeded { .. }
            | Record::RateKept { .. }
            | Record::TokenRefreshed { .. }
            | Record::RefreshRefused { .. }
            | Record::CredentialsEnded { .. } => {}
            Record::Closed { ending, .. } => {
                self.closed += 1;
                self.code = ending.code();
            }
            Record::Rejected { .. } => self.rejected += 1,
            Record::Abandoned { .. } => self.abandoned += 1,
        }
    }
}

/// A service with one connection, or several of which `key` is the current one.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) runtime: ModelRuntime<Echo, Counts>,
    pub(crate) key: Key,
}

impl Deref for Connection {
    type Target = ModelRuntime<Echo, Counts>;

    fn deref(&self) -> &ModelRuntime<Echo, Counts> {
        &self.runtime
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ModelRuntime<Echo, Counts> {
        &mut self.runtime
    }
}

impl Connection {
    /// Creates a connection that has just been accepted.
    pub(crate) fn new(config: WorkerConfig) -> Connection {
        let now = Instant::now();
        let worker = Worker::new(Arc::new(config), 1, now);
        let mut runtime = ModelRuntime::new(worker, Counts::default(), now);
        let key = runtime.open();
        Connection { runtime, key }
    }

    /// Returns a connection that was admitted; its wire is empty.
    pub(crate) fn admitted(session: SessionConfig) -> Connection {
        // Pings would be between the frames that the tests expect.
        let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
        let config = WorkerConfig { session: Arc::new(session), keep_alive, ..WorkerConfig::default() };
        Connection::admitted_by(config, GOOD)
    }

    /// Returns a connection that was admitted by this request.
    #[track_caller]
    pub(crate) fn admitted_by(config: WorkerConfig, request: &str) -> Connection {
        let mut connection = Connection::new(config);
        connection.admit(request);
        connection
    }

    /// Opens another connection to the same service, which is the current one then. Returns the key of the previous one.
    #[track_caller]
    pub(crate) fn open_another(&mut self, request: &str) -> Key {
        let before = self.key;
        self.key = self.open();
        self.admit(request);
        before
    }

    #[track_caller]
    fn admit(&mut self, request: &str) {
        self.feed(request.as_bytes());
        let answer = self.take_wire();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.runtime.feed(self.key, bytes);
    }

    pub(crate) fn end(&mut self) {
        self.runtime.end(self.key);
    }

    pub(crate) fn fail(&mut self) {
        self.runtime.fail(self.key);
    }

    pub(crate) fn flush(&mut self) {
        self.runtime.flush(self.key);
    }

    pub(crate) fn wire(&self) -> &[u8] {
        self.runtime.wire(self.key)
    }

    pub(crate) fn take_wire(&mut self) -> Vec<u8> {
        self.runtime.take_wire(self.key)
    }

    pub(crate) fn transport(&self) -> Transport {
        self.runtime.transport(self.key)
    }

    /// Returns the frames on the wire: the first byte and the payload of each.
    #[track_caller]
    pub(crate) fn frames(&self) -> Vec<(u8, &[u8])> {
        let mut frames = Vec::new();
        let mut rest = self.wire();
        while !rest.is_empty() {
            let (first, len, skip) = match *rest {
                [first, len @ 0..=125, ..] => (first, usize::from(len), 2),
                [first, 126, a, b, ..] => (first, usize::from(u16::from_be_bytes([a, b])), 4),
                [first, 127, 0, 0, 0, 0, a, b, c, d, ..] => {
                    (first, u32::from_be_bytes([a, b, c, d]) as usize, 10)
                }
                _ => panic!("no frame: {}", rest.escape_ascii()),
            };
            let (frame, behind) = rest.split_at(skip + len);
            frames.push((first, &frame[skip..]));
            rest = behind;
        }
        frames
    }

    /// Returns the code of the only Close frame, which must be the last frame on the wire.
    #[track_caller]
    pub(crate) fn close_code(&self) -> u16 {
        let frames = self.frames();
        let at = frames.iter().position(|(first, _)| *first == 0x88).expect("a Close frame");
        assert_eq!(at + 1, frames.len(), "nothing follows our Close");
        frames[at].1.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// Returns the result of one request: the answer, and whether a user was admitted.
pub(crate) fn ask(config: WorkerConfig, request: &[u8]) -> Connection {
    let mut connection = Connection::new(config);
    connection.feed(request);
    connection
}

/// Checks the status and the code of a refusal, and that no other output follows, even after more input.
#[track_caller]
pub(crate) fn check_refused(request: impl AsRef<[u8]>, status: u16, code: &str) {
    check_refused_by(WorkerConfig::default(), request, status, code);
}

#[track_caller]
pub(crate) fn check_refused_by(config: WorkerConfig, request: impl AsRef<[u8]>, status: u16, code: &str) {
    let request = request.as_ref();
    let mut connection = ask(config, request);
    let answer = String::from_utf8(connection.wire().to_vec()).expect("ASCII");
    let request = request.escape_ascii();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
    assert!(answer.contains(&format!(r#"{{"error":{{"code":"{code}","#)), "{request}\n{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{answer}");
    assert!(head.contains("\r\nConnection: close"), "{answer}");
    assert_eq!(connection.transport(), Transport::ShutdownWrite, "{request}");
    connection.feed(GOOD.as_bytes());
    assert_eq!(connection.wire(), answer.as_bytes(), "{request}: a second request was served");
    assert_eq!((connection.recorder.established, connection.recorder.rejected), (0, 1), "{request}");
}

/// Checks that a request is admitted, for the user 123.
#[track_caller]
pub(crate) fn check_admitted(request: impl AsRef<[u8]>) -> String {
    let connection = ask(WorkerConfig::default(), request.as_ref());
    let answer = String::from_utf8(connection.wire().to_vec()).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(connection.recorder.user, "123");
    answer
}

/// Runs `work` and checks that it took no more than `most`: many times what it takes, and a small part of what it
/// would take if it were quadratic.
#[track_caller]
pub(crate) fn check_time(most: Duration, work: impl FnOnce()) {
    let started = Instant::now();
    work();
    let took = started.elapsed();
    assert!(took < most, "{took:?}");
}
