//! A client of the service: what a runtime does, with a clock and a socket that the test owns.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::handshake::Peer;
use postern_core::policy::KeepAliveConfig;
use postern_core::worker::{Due, NewConnection};
use postern_core::{ConnectionId, Key, Record, Recorder, SessionConfig, Transport, Worker, WorkerConfig};

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

/// Returns a masked frame of a client, with the shortest length.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0xa1, 0xb2, 0xc3, 0xd4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
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

/// One service with one connection, and the wire to its peer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Worker,
    pub(crate) key: Key,
    pub(crate) now: Instant,
    pub(crate) counts: Counts,
    /// The bytes that the peer received.
    pub(crate) wire: Vec<u8>,
    /// The number of bytes that the peer accepts at once.
    pub(crate) takes: usize,
    /// The result of the last turn for the socket.
    pub(crate) transport: Transport,
}

impl Connection {
    /// Creates a connection that has just been accepted.
    pub(crate) fn new(config: WorkerConfig) -> Connection {
        let now = Instant::now();
        let mut connection = Connection {
            worker: Worker::new(Arc::new(config), 1, now),
            key: Key(0),
            now,
            counts: Counts::default(),
            wire: Vec::new(),
            takes: usize::MAX,
            transport: Transport::Open,
        };
        connection.key = connection.worker.open(arrival(1), connection.now);
        connection
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
        connection.feed(request.as_bytes());
        assert!(connection.wire.starts_with(b"HTTP/1.1 101 "), "{}", connection.wire.escape_ascii());
        connection.wire.clear();
        connection
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.worker.receive(self.key, self.now, &mut bytes.to_vec(), &mut self.counts);
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        let output = self.worker.output(self.key);
        if !output.is_empty() {
            let n = output.len().min(self.takes);
            self.wire.extend_from_slice(&output[..n]);
            self.worker.sent(self.key, n, self.now);
        }
        self.transport = self.worker.transport(self.key);
        if self.transport == Transport::Close {
            self.worker.remove(self.key, self.now, &mut self.counts);
        }
    }

    /// Offers pending output to the socket, handles what is due, and flushes.
    pub(crate) fn handle_due(&mut self, due: Due) {
        self.flush();
        self.worker.handle_deadlines(due, self.now, &mut self.counts);
        self.flush();
    }

    /// Lets time pass and settles what is due. Output of other connections is discarded.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        while let Some(due) = self.worker.next_due(self.now, &mut self.counts) {
            if due.key == self.key {
                self.handle_due(due);
                continue;
            }
            let own = (self.key, self.transport, std::mem::take(&mut self.wire));
            self.key = due.key;
            self.handle_due(due);
            (self.key, self.transport, self.wire) = own;
        }
    }

    /// Opens another connection to the same service. `key` and `wire` belong to it. Returns the previous key.
    #[track_caller]
    pub(crate) fn open_another(&mut self, request: &str) -> Key {
        let before = self.key;
        self.key = self.worker.open(arrival(self.counts.established as u64 + 1), self.now);
        self.wire.clear();
        self.feed(request.as_bytes());
        assert!(self.wire.starts_with(b"HTTP/1.1 101 "), "{}", self.wire.escape_ascii());
        self.wire.clear();
        before
    }

    /// Returns the frames on the wire: the first byte and the payload of each.
    #[track_caller]
    pub(crate) fn frames(&self) -> Vec<(u8, &[u8])> {
        let mut frames = Vec::new();
        let mut rest = &self.wire[..];
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

/// Returns a connection from this host, which is trusted. All tests use it.
pub(crate) fn arrival(id: u64) -> NewConnection {
    let peer = Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 40_000 };
    NewConnection { id: ConnectionId(id), peer, refusal: None }
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
    let answer = String::from_utf8(connection.wire.clone()).expect("ASCII");
    let request = request.escape_ascii();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
    assert!(answer.contains(&format!(r#"{{"error":{{"code":"{code}","#)), "{request}\n{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{answer}");
    assert!(head.contains("\r\nConnection: close"), "{answer}");
    assert_eq!(connection.transport, Transport::ShutdownWrite, "{request}");
    connection.feed(GOOD.as_bytes());
    assert_eq!(connection.wire, answer.as_bytes(), "{request}: a second request was served");
    assert_eq!((connection.counts.established, connection.counts.rejected), (0, 1), "{request}");
}

/// Checks that a request is admitted, for the user 123.
#[track_caller]
pub(crate) fn check_admitted(request: impl AsRef<[u8]>) -> String {
    let connection = ask(WorkerConfig::default(), request.as_ref());
    let answer = String::from_utf8(connection.wire).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(connection.counts.user, "123");
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
