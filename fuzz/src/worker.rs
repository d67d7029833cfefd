//! Several connections of one worker, with any of its calls in any order while time passes.
//!
//! The calls do not keep to the contract of a runtime. Only what a kernel guarantees holds: no bytes arrive after the
//! end of a stream. Output may stay unsent, connections may be removed at any time, and bytes may arrive while reading
//! is paused.
//!
//! * No call panics. After a shutdown every connection ends in bounded time, and no memory stays counted.
//! * The output of a connection is neither lost, doubled nor changed by a call for another.
//! * What a connection sent begins with one head, of a 101 or of a refusal. After a 101 there are valid frames of a
//!   server, and no bytes after a Close.
//! * These frames contain the messages that its own client sent, in their order, compressed only if that was negotiated.
//! * The records of a connection are complete and in order.
//! * When no connection is due, the next deadline is in the future.
//!
//! [`connection`](crate::connection) asserts more of one connection whose runtime keeps to the contract.

use std::io::Write;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use postern_core::handshake::{HandshakeConfig, HandshakeError};
use postern_core::policy::{KeepAliveConfig, Rate};
use postern_core::session::RatePolicy;
use postern_core::{SessionConfig, WorkerConfig};

use crate::driver::{CONNECTIONS, Driver};
use crate::frame;
use crate::upgrade;

/// Checks an input: one byte that chooses the limits, then calls. Each has one byte for the connection (bits 4
/// and 5) and the call (bits 0 to 3), and the bytes that `call` reads for it.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    run(input);
}

/// Checks an input. Returns what all connections have sent, in the order of their ends.
pub(crate) fn run(input: &[u8]) -> Vec<u8> {
    let mut script = Script(input);
    let choice = script.byte();
    let config = Arc::new(config(choice));
    let mut driver = Driver::new(config.clone(), choice.into());
    while !script.0.is_empty() {
        call(&mut driver, &mut script);
        driver.check();
    }
    abandon(&mut driver, &config.session);
    driver.sent
}

/// Shuts the worker down. No client sends or receives any more bytes. Asserts that all connections end in time.
fn abandon(driver: &mut Driver, session: &SessionConfig) {
    driver.model.worker.shut_down();
    let start = driver.model.now;
    driver.settle_due(0);
    while let Some(next) =
        driver.model.worker.poll_timeout(driver.model.now).filter(|_| !driver.model.worker.is_empty())
    {
        driver.model.now = next;
        driver.settle_due(0);
        driver.check();
    }
    assert!(driver.model.worker.is_empty(), "these connections never end: {:?}", driver.model.worker.keys());
    let most = session.write_timeout + session.close_timeout + Duration::from_secs(2);
    let time = driver.model.now - start;
    assert!(time <= most, "silent clients delay the exit by {time:?}");
    driver.check();
    assert_eq!(driver.model.worker.memory_held(), 0, "memory is counted for removed connections");
}

/// The rest of the input. After its end it reads zeros.
struct Script<'i>(&'i [u8]);

impl<'i> Script<'i> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// Returns as many bytes as the next one says.
    fn bytes(&mut self) -> &'i [u8] {
        let len = self.byte();
        let (bytes, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Returns the room of a socket, in bytes. 255 means without limit.
    fn room(&mut self) -> usize {
        match self.byte() {
            255 => usize::MAX,
            room => room.into(),
        }
    }
}

fn call(driver: &mut Driver, script: &mut Script<'_>) {
    let byte = script.byte();
    let at = usize::from(byte >> 4) % CONNECTIONS;
    match byte & 0x0f {
        0 => driver.open(at, (script.byte() % 8 == 7).then_some(HandshakeError::Overloaded)),
        1 => {
            let head = &HEADS[usize::from(script.byte()) % HEADS.len()];
            driver.receive(at, head);
        }
        2 => driver.receive(at, script.bytes()),
        3 => {
            if driver.wants_read(at) {
                driver.receive(at, script.bytes());
            }
        }
        4 | 5 => {
            let first = script.byte();
            let mut read = Vec::new();
            frame::write_masked(&mut read, first, script.bytes());
            driver.receive(at, &read);
        }
        6 => {
            let first = script.byte() & 0x0f | frame::COMPRESSED;
            let mut read = Vec::new();
            frame::write_masked(&mut read, first, &compress(script.bytes()));
            driver.receive(at, &read);
        }
        7 => {
            driver.write(at, script.room());
        }
        8 => driver.flush(at, script.room()),
        9 => driver.model.now += Duration::from_millis(8 * u64::from(script.byte())),
        10 => driver.settle_due(script.room()),
        11 => driver.leave(at),
        12 => driver.fail(at),
        13 => driver.remove(at),
        14 => match at {
            1 => driver.pause_reads(),
            2 => driver.resume_reads(),
            _ => driver.model.worker.shut_down(),
        },
        _ => (0..CONNECTIONS).for_each(|at| driver.flush(at, usize::MAX)),
    }
}

/// Beginnings of the bytes that a client sends.
static HEADS: LazyLock<[Vec<u8>; 8]> = LazyLock::new(|| {
    let admitted = |extensions: &[&str]| upgrade::request(extensions.iter().map(|value| value.as_bytes()));
    let plain = admitted(&[]);
    let without =
        |line: &str| String::from_utf8(plain.clone()).expect("ASCII").replace(line, "").into_bytes();
    [
        plain.clone(),
        admitted(&["permessage-deflate; client_max_window_bits"]),
        admitted(&["permessage-deflate; server_max_window_bits=8"]),
        without("User-ID: 123\r\n"),
        without("Upgrade: websocket\r\n"),
        // A head in two reads; one of them alone is never complete.
        plain[..plain.len() / 2].to_vec(),
        plain[plain.len() / 2..].to_vec(),
        // Frames in the same read.
        [&plain[..], b"\x81\x85\x00\x00\x00\x00hello\x89\x80\x00\x00\x00\x00"].concat(),
    ]
});

/// Returns a message as a client compresses it.
fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("room");
    // A block with BFINAL set: RFC 7692 §7.2.3.4 allows it, and asks for one zero byte after it.
    let mut compressed = encoder.finish().expect("room");
    compressed.push(0);
    compressed
}

/// Returns the defaults, or limits and times that short inputs reach.
fn config(choice: u8) -> WorkerConfig {
    let millis = Duration::from_millis;
    let defaults = SessionConfig::default();
    let small = SessionConfig {
        max_message: 300,
        max_fragments: 5,
        compression_min: 0,
        message_timeout: millis(500),
        close_timeout: millis(300),
        write_timeout: millis(400),
        ..defaults.clone()
    };
    let session = match choice % 4 {
        0 => defaults,
        1 => SessionConfig { max_frame: 200, pause_backlog: 60, max_backlog: 250, control_rate: 2, ..small },
        2 => SessionConfig { max_frame: 400, pause_backlog: 250, max_backlog: 60, control_rate: 0, ..small },
        _ => SessionConfig { max_message: 0, pause_backlog: 0, max_backlog: 0, ..small },
    };
    let rate = |per_second, burst| Rate { per_second, burst };
    let session = match choice & 0x30 {
        0x10 => SessionConfig { message_rate: rate(10, 2), ..session },
        0x20 => SessionConfig { byte_rate: rate(500, 100), rate_policy: RatePolicy::Close, ..session },
        0x30 => SessionConfig { message_rate: rate(1, 1), byte_rate: rate(100, 50), ..session },
        _ => session,
    };
    let max_memory = if choice & 0x40 == 0 { usize::MAX } else { 1000 };
    let max_handshakes = if choice & 0x80 == 0 { 4096 } else { 1 };
    let (timeout, max_head) =
        if choice & 4 == 0 { (Duration::from_secs(5), 1024) } else { (millis(100), 260) };
    let handshake = HandshakeConfig {
        compression: true,
        timeout,
        max_head,
        max_handshakes,
        ..HandshakeConfig::default()
    };
    let keep_alive = match choice & 8 {
        0 => KeepAliveConfig::default(),
        _ => KeepAliveConfig { interval: millis(200), timeout: millis(100) },
    };
    WorkerConfig { handshake, session: Arc::new(session), keep_alive, max_memory, ..WorkerConfig::default() }
}
