//! Processes that replace each other and share one standard output, of each kind: each record is whole and written once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postern_tests::frames::{TEXT, client as client_frame, server};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::ws::Handshake;
use postern_tests::{http, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const RESTARTS: usize = 4;

/// Clients that send at the same time.
const CLIENTS: usize = 2;

/// Connections of each client, one after the other.
const VISITS: usize = 30;

/// Messages of a visit. Two of them are longer than a pipe accepts in one piece.
const MESSAGES: usize = 40;

/// The kind of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
    File,
    AppendedFile,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Pipe, Kind::Socket, Kind::File, Kind::AppendedFile];

    /// Returns the end for writing, and the end for reading unless it is a file.
    fn open(self, path: &Path) -> (File, Option<Box<dyn Read + Send>>) {
        match self {
            Kind::Pipe => {
                let (reader, writer) = io::pipe().expect("a pipe");
                (File::from(OwnedFd::from(writer)), Some(Box::new(reader)))
            }
            Kind::Socket => {
                let (reader, writer) = UnixStream::pair().expect("a socket");
                (File::from(OwnedFd::from(writer)), Some(Box::new(reader)))
            }
            // The harness reads it, too, if it keeps the output of processes.
            Kind::File => {
                let file = File::options().create(true).truncate(true).read(true).write(true).open(path);
                (file.expect("a file"), None)
            }
            Kind::AppendedFile => {
                (File::options().create(true).read(true).append(true).open(path).expect("a file"), None)
            }
        }
    }
}

/// Reads a megabyte per second.
fn read(mut log: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match log.read(&mut buffer).expect("the log can be read") {
            0 => return bytes,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
        thread::sleep(Duration::from_millis(16));
    }
}

/// Returns the unique text of a message.
fn text(client: usize, visit: usize, message: usize) -> String {
    let padding = if message % (MESSAGES / 2) == 7 { 6_000 } else { 20 };
    format!("m{client}-{visit}-{message}-{}", "x".repeat(padding))
}

/// Sends the messages of a connection. Returns those that were echoed: the process may end in the meantime.
fn visit(to: SocketAddr, client: usize, visit: usize) -> Vec<String> {
    let texts: Vec<String> = (0..MESSAGES).map(|message| text(client, visit, message)).collect();
    let mut open = Handshake::to(to).as_john().open();
    let stream = open.socket.get_mut();
    let (mut frames, mut echoes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for text in &texts {
        frames.extend(client_frame(TEXT, text.as_bytes()));
        echoes.extend(server(TEXT, text.as_bytes()));
        ends.push(echoes.len());
    }
    // It fails if the process ends.
    let _ = stream.write_all(&frames);
    let (mut received, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while received.len() < echoes.len() {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => received.extend_from_slice(&buffer[..n]),
            Ok(_) | Err(_) => break,
        }
    }
    // The first byte that is not of an echo is the first byte of the Close.
    let same = received.iter().zip(&echoes).take_while(|(received, echo)| received == echo).count();
    texts.into_iter().zip(ends).filter(|(_, end)| *end <= same).map(|(text, _)| text).collect()
}

#[track_caller]
fn signal(process: i32, signal: Signal) {
    kill_process(Pid::from_raw(process).expect("a process"), signal).expect("a signal");
}

/// Runs [`RESTARTS`] restarts while clients send. Returns the log, and the messages that were echoed.
fn run(runtime: Runtime, kind: Kind) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let (output, reader) = kind.open(&path);
    let settings = [
        ("LOG_FORMAT", "json"),
        ("POSTERN_LOG_MESSAGES", "full"),
        ("POSTERN_LOG_STALL", "pause"),
        ("POSTERN_HANDSHAKE_TIMEOUT", "1s"),
    ];
    let postern = Postern::with(runtime, &settings).control().leading().output(output).start();
    let to = postern.address();
    let reader = reader.map(|reader| thread::spawn(|| read(reader)));
    let visits = AtomicUsize::new(0);
    let mut processes = vec![postern.id().cast_signed()];
    let echoed = thread::scope(|scope| {
        let visits = &visits;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut echoed = Vec::new();
                    for number in 0..VISITS {
                        echoed.extend(visit(to, client, number));
                        visits.fetch_add(1, Ordering::Relaxed);
                    }
                    echoed
                })
            })
            .collect();
        for restart in 0..RESTARTS {
            // All restarts happen while messages are sent.
            let begin = restart * CLIENTS * VISITS / (RESTARTS + 1);
            wait_until("clients are served", || visits.load(Ordering::Relaxed) > begin);
            signal(processes[restart], Signal::USR2);
            wait_until("a successor is ready", || {
                // The port may be closed for a moment, or belong to the predecessor.
                let key = [("X-API-Key", API_KEY)];
                let info = http::request(postern.control(), "GET", "/api/info", &key, b"");
                let process = info.ok().and_then(|info| info.json()["pid"].as_i64()).map(|id| id as i32);
                processes.extend(process.filter(|process| !processes.contains(process)));
                processes.len() > restart + 1
            });
        }
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect::<Vec<String>>()
    });
    signal(processes[RESTARTS], Signal::TERM);
    let log = match reader {
        // It ends with the last process.
        Some(reader) => reader.join().expect("the log is read"),
        None => {
            let stopped =
                || fs::read_to_string(&path).expect("the log").matches("\"event\":\"stopped\"").count();
            wait_until("all processes end", || stopped() > RESTARTS);
            fs::read(&path).expect("the log")
        }
    };
    postern.process.heard(&log);
    (String::from_utf8(log).expect("the log is UTF-8"), echoed)
}

fn check(runtime: Runtime, kind: Kind) {
    let (log, echoed) = run(runtime, kind);
    let of = format!("{runtime}, {kind:?}");
    let (mut events, mut texts) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
    for line in log.lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{of}: {error}: {line}"));
        *events.entry(record["event"].as_str().expect("an event").to_owned()).or_default() += 1;
        if let Some(text) = record["text"].as_str() {
            *texts.entry(text.to_owned()).or_default() += 1;
        }
    }
    for event in ["listening", "stopped"] {
        assert_eq!(events.get(event), Some(&(RESTARTS + 1)), "{of}: {event}: {events:?}");
    }
    assert_eq!(events.get("log_records_dropped"), None, "{of}: {events:?}");
    assert_eq!(events.get("connection_established"), events.get("connection_closed"), "{of}: {events:?}");
    let twice = texts.iter().filter(|(_, count)| **count != 1).count();
    let missing = echoed.iter().filter(|text| !texts.contains_key(*text)).count();
    assert_eq!((twice, missing), (0, 0), "{of}: of {} messages", echoed.len());
    assert!(echoed.len() > CLIENTS * VISITS * MESSAGES / 2, "{of}: {} messages", echoed.len());
}

#[test]
fn each_record_of_processes_that_share_an_output_is_whole_and_written_once() {
    for runtime in Runtime::BOTH {
        thread::scope(|scope| {
            for kind in Kind::ALL {
                scope.spawn(move || check(runtime, kind));
            }
        });
    }
}
