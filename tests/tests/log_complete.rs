//! A million messages are a million lines of both binaries' log.
//!
//! The log does not wait for its output: it drops and counts records that do not fit into its queue of 8 MiB. The clients send
//! no faster than the file grows, so that no record is dropped on a busy machine.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::frames::{TEXT, client, receive, server};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;

const CONNECTIONS: usize = 8;

/// Messages of each connection.
const MESSAGES: usize = 1_000_000 / CONNECTIONS;

/// Messages that a client sends at once, before it reads their echoes.
const BATCH: usize = 1000;

/// Messages that may be sent and not yet in the file. A line has about 110 bytes, and the bytes that the writer has taken
/// count until all of them are written: at most twice 2.8 MB of a queue of 8 MiB.
const OUTSTANDING: usize = 25_000;

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn each_of_a_million_messages_is_in_the_log() {
    for runtime in Runtime::BOTH {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut log = Log::new(file.reopen().expect("the file is opened for reading"));
        let settings = [("POSTERN_LOG_MESSAGES", "full")];
        let mut postern = Postern::with(runtime, &settings).output(file.into_file()).start();
        let address = postern.address();
        let (sent, logged) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let (sent, logged) = (&sent, &logged);
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|number| scope.spawn(move || send_all(address, number, sent, logged)))
                .collect();
            while !clients.iter().all(|client| client.is_finished()) {
                log.read_on();
                logged.store(log.messages + log.dropped, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(postern.terminate().success(), "{runtime}");
        log.read_on();
        assert_eq!(log.wrong, None, "{runtime}");
        assert_eq!(log.dropped, 0, "{runtime}");
        assert_eq!(log.next, [MESSAGES; CONNECTIONS], "{runtime}");
        assert_eq!(log.messages, MESSAGES * CONNECTIONS, "{runtime}");
    }
}

/// Returns the unique text of a message.
fn payload(connection: usize, message: usize) -> String {
    format!("{connection}-{message:06}")
}

/// Sends all messages of a connection in batches, and compares their echoes.
fn send_all(to: SocketAddr, number: usize, sent: &AtomicUsize, logged: &AtomicUsize) {
    let mut open = Handshake::to(to).as_john().open();
    let stream = open.socket.get_mut();
    for first in (0..MESSAGES).step_by(BATCH) {
        let (mut frames, mut echoes) = (Vec::new(), Vec::new());
        for message in first..first + BATCH {
            let payload = payload(number, message);
            frames.extend(client(TEXT, payload.as_bytes()));
            echoes.extend(server(TEXT, payload.as_bytes()));
        }
        let deadline = Instant::now() + PATIENCE;
        let until = sent.fetch_add(BATCH, Ordering::Relaxed) + BATCH;
        while until > logged.load(Ordering::Relaxed) + OUTSTANDING {
            assert!(Instant::now() < deadline, "the log does not grow");
            thread::sleep(Duration::from_millis(1));
        }
        stream.write_all(&frames).expect("the messages are taken");
        assert!(receive(stream, echoes.len()) == echoes, "echoes of connection {number} from {first} on");
    }
    open.close();
}

/// The log, read while it grows.
struct Log {
    file: File,
    /// An unfinished line.
    rest: Vec<u8>,
    /// The next message of each connection.
    next: [usize; CONNECTIONS],
    messages: usize,
    /// The number of dropped records that the log reports.
    dropped: usize,
    /// The first unexpected line.
    wrong: Option<String>,
}

impl Log {
    fn new(file: File) -> Log {
        Log { file, rest: Vec::new(), next: [0; CONNECTIONS], messages: 0, dropped: 0, wrong: None }
    }

    fn read_on(&mut self) {
        let mut bytes = std::mem::take(&mut self.rest);
        self.file.read_to_end(&mut bytes).expect("the file can be read");
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.rest = bytes.split_off(whole);
        for line in str::from_utf8(&bytes).expect("the log is UTF-8").lines() {
            self.see(line);
        }
    }

    fn see(&mut self, line: &str) {
        if let Some((_, message)) = line.split_once(" INFO Message from John Doe (123): ") {
            self.messages += 1;
            let expected =
                message.get(..1).and_then(|digit| digit.parse::<usize>().ok()).and_then(|number| {
                    let next = self.next.get_mut(number)?;
                    let expected = payload(number, *next) + ", conn: ";
                    *next += 1;
                    Some(expected)
                });
            if !expected.is_some_and(|expected| message.starts_with(&expected)) {
                self.wrong.get_or_insert_with(|| line.to_owned());
            }
        } else if let Some((_, count)) = line.split_once("log records dropped, count: ") {
            self.dropped += count.parse::<usize>().expect("a number");
        }
    }
}
