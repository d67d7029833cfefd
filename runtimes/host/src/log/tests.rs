//! The records of the log in both formats, and the behaviour of a log as a whole.

mod golden;
mod injection;
mod stall;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern_core::frame::DataKind;
use postern_core::handshake::{
    AssertionError, Client, HandshakeError, IdCharset, Identity, IdentityRules, IdentityValues, Peer,
};
use postern_core::session::{Ending, Traffic};
use postern_core::{CloseCode, ConnectionId, Record, Recorder, Summary};
use slog::{Level, debug, info, o, warn};

use super::*;

const TERM: LogSettings = LogSettings {
    level: Level::Trace,
    format: LogFormat::Term,
    messages: MessageLog::Truncated,
    email: EmailLog::Full,
    queue: 8 << 20,
    stall: Stall::Drop,
};
const JSON: LogSettings = LogSettings { format: LogFormat::Json, ..TERM };
const CONNECTION: ConnectionId = ConnectionId(7);
const PEER: Peer = Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 40_000 };

/// A sink that can be read when the log is closed.
struct Sink(mpsc::Sender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls `write` with a log, and returns the lines that were written.
fn log(settings: LogSettings, write: impl FnOnce(&Log)) -> Vec<String> {
    let (sink, written) = mpsc::channel();
    let log = Log::start(&settings, Sink(sink)).unwrap();
    write(&log);
    drop(log);
    let written: Vec<u8> = written.into_iter().flatten().collect();
    let written = String::from_utf8(written).unwrap();
    assert!(written.is_empty() || written.ends_with('\n'), "{written}");
    written.lines().map(str::to_owned).collect()
}

/// Returns the lines of these records.
fn lines(settings: LogSettings, records: &[Record<'_>]) -> Vec<String> {
    log(settings, |log| records.iter().for_each(|record| log.worker(0x5f).record(record)))
}

/// Returns the line of a record without its time.
#[track_caller]
fn line(settings: LogSettings, record: Record<'_>) -> String {
    let lines = lines(settings, &[record]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    without_time(&lines[0])
}

#[track_caller]
fn without_time(line: &str) -> String {
    let (time, rest) = match line.strip_prefix("{\"ts\":\"") {
        Some(line) => line.split_once("\",").unwrap(),
        None => line.split_once(' ').unwrap(),
    };
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
    if line.starts_with('{') { format!("{{{rest}") } else { rest.to_owned() }
}

/// Returns the JSON line of a record.
#[track_caller]
fn json(settings: LogSettings, record: Record<'_>) -> serde_json::Value {
    serde_json::from_str(&line(settings, record)).unwrap()
}

fn john() -> Identity {
    Identity::new(b"123", b"john@example.com", b"John Doe").unwrap()
}

fn text<'a>(identity: &'a Identity, payload: &'a str) -> Record<'a> {
    Record::Message { connection: CONNECTION, identity, kind: DataKind::Text, payload: payload.as_bytes() }
}

fn established(identity: &Identity) -> Record<'_> {
    let took = Duration::from_millis(3);
    Record::Established {
        connection: CONNECTION,
        peer: PEER,
        identity,
        subprotocol: None,
        is_offer_unanswered: false,
        took,
    }
}

fn closed(identity: &Identity) -> Record<'_> {
    Record::Closed {
        connection: CONNECTION,
        identity,
        ending: Ending::Eof,
        reason: Ending::Eof.reason(),
        summary: Summary {
            lasted: Duration::from_millis(12_345),
            round_trip: Some(Duration::from_micros(1_234)),
            traffic: Traffic { messages_received: 1, bytes_received: 11, messages_sent: 2, bytes_sent: 22 },
        },
    }
}

fn rejected() -> Record<'static> {
    refused(HandshakeError::IdentityMissing, None)
}

fn refused(error: HandshakeError, close_code: Option<CloseCode>) -> Record<'static> {
    let (request_id, took) = (Some("r-1"), Duration::from_micros(1_900));
    Record::Rejected {
        connection: CONNECTION,
        peer: PEER,
        request_id,
        client: None,
        is_refresh: false,
        error,
        close_code,
        took,
    }
}

#[test]
fn the_sentences_of_a_connection_are_exact() {
    let user = john();
    assert_eq!(
        line(TERM, established(&user)),
        "INFO WebSocket connection established - User: John Doe (john@example.com) - ID: 123, \
         conn: 7, request_id: 0000005f-7, peer: 127.0.0.1:40000, handshake_ms: 3"
    );
    assert_eq!(
        line(TERM, text(&user, "Hello World")),
        "INFO Message from John Doe (123): Hello World, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 11"
    );
    assert_eq!(
        line(TERM, closed(&user)),
        "INFO WebSocket connection closed for user John Doe (123), conn: 7, request_id: 0000005f-7, code: 1006, side: client, \
         reason: connection ended without a close frame, duration_ms: 12345, rtt_ms: 1.234, \
         messages_received: 1, messages_sent: 2, bytes_received: 11, bytes_sent: 22"
    );
}

#[test]
fn a_panic_is_a_record() {
    let lines = log(JSON, |log| {
        process::record_panics(log);
        let worker = thread::Builder::new().name("worker-3".to_owned());
        assert!(worker.spawn(|| panic!("two\nlines")).unwrap().join().is_err());
    });
    let record: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&record["level"], &record["event"]), (&"CRITICAL".into(), &"panicked".into()));
    assert_eq!((&record["msg"], &record["thread"]), (&"panicked: two\nlines".into(), &"worker-3".into()));
    assert!(record["place"].as_str().unwrap().contains("tests.rs:"), "{record}");
}

#[test]
fn records_below_the_level_are_left_out() {
    let user = john();
    let records = [established(&user), text(&user, "x"), rejected(), closed(&user)];
    for (level, count) in [(Level::Info, 4), (Level::Warning, 1), (Level::Error, 0)] {
        assert_eq!(lines(LogSettings { level, ..TERM }, &records).len(), count, "{level}");
    }
}

#[test]
fn records_of_a_worker_keep_their_order_and_have_the_time_of_their_batch() {
    let user = john();
    let lines = log(TERM, |log| {
        let mut worker = log.worker(0x5f);
        worker.record(&established(&user));
        (0..3).for_each(|number| worker.record(&text(&user, &number.to_string())));
        worker.record(&closed(&user));
        worker.flush();
        worker.flush();
    });
    let starts: Vec<String> =
        lines.iter().map(|line| without_time(line).chars().take(29).collect()).collect();
    assert_eq!(
        starts,
        [
            "INFO WebSocket connection est",
            "INFO Message from John Doe (1",
            "INFO Message from John Doe (1",
            "INFO Message from John Doe (1",
            "INFO WebSocket connection clo",
        ]
    );
    for (number, line) in lines[1..4].iter().enumerate() {
        assert!(line.contains(&format!("(123): {number}, ")), "{line}");
    }
    let times: Vec<&str> = lines.iter().map(|line| &line[..24]).collect();
    assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
}

#[test]
fn records_of_the_process_keep_the_order_of_their_fields() {
    let say = |log: &Log| {
        let logger = log.logger().new(o!("node" => "a"));
        info!(logger, # "listening", "listening"; "address" => "0.0.0.0:8080", "workers" => 2, "ratio" => 0.5, "tls" => false);
        debug!(logger, "left out");
        warn!(logger, "odd\nthing {}", 1);
    };
    let term: Vec<_> =
        log(LogSettings { level: Level::Info, ..TERM }, say).iter().map(|line| without_time(line)).collect();
    assert_eq!(
        term,
        [
            "INFO listening, node: a, address: 0.0.0.0:8080, workers: 2, ratio: 0.5, tls: false",
            "WARN odd\\nthing 1, node: a",
        ]
    );
    let json: Vec<_> =
        log(LogSettings { level: Level::Info, ..JSON }, say).iter().map(|line| without_time(line)).collect();
    assert_eq!(
        json,
        [
            r#"{"level":"INFO","event":"listening","msg":"listening","node":"a","address":"0.0.0.0:8080","workers":2,"ratio":0.5,"tls":false}"#,
            r#"{"level":"WARN","event":"process","msg":"odd\nthing 1","node":"a"}"#,
        ]
    );
}
