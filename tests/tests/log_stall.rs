//! A log that is not read, on both binaries: records are dropped and counted, or Postern stops reading until the log is read
//! again. No connection ends.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use postern_tests::frames::{self, CLOSE, TEXT, receive, server};
use postern_tests::postern::{Postern, Runtime};

/// The text of a message. Two hundred of them are more than the log's queue of 8 MiB.
const LEN: usize = 60_000;

/// The time for which a write may block before it counts as blocked forever.
const STILL: Duration = Duration::from_secs(1);

/// Starts Postern with a log that is not read yet, and a message to it with its echo.
fn start(runtime: Runtime, stall: &str) -> (Postern, PipeReader, Vec<u8>, Vec<u8>) {
    let settings = [("POSTERN_LOG_STALL", stall), ("POSTERN_LOG_MESSAGES", "full"), ("POSTERN_WORKERS", "1")];
    let (postern, log) = Postern::with(runtime, &settings).start_unread();
    (postern, log, frames::client(TEXT, &[b'x'; LEN]), server(TEXT, &[b'x'; LEN]))
}

/// Reads the whole log, in the background, until its end.
fn drain(mut log: PipeReader) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).expect("the log is UTF-8");
        text
    })
}

/// Returns the messages in the log, and the number of dropped records that it reports.
fn count(log: &str) -> (usize, usize) {
    let messages = log.lines().filter(|line| line.contains("Message from John Doe (123): x")).count();
    let dropped = log
        .lines()
        .filter_map(|line| line.split_once("log records dropped, count: "))
        .map(|(_, count)| count.parse::<usize>().expect("a number"))
        .sum();
    (messages, dropped)
}

#[test]
fn log_that_drops_counts_its_dropped_records_and_delays_no_client() {
    for runtime in Runtime::BOTH {
        let (mut postern, log, frame, echo) = start(runtime, "drop");
        let mut client = postern.open_stream();
        const MESSAGES: usize = 400;
        for _ in 0..MESSAGES {
            client.write_all(&frame).expect("it is read");
            assert!(receive(&mut client, echo.len()) == echo, "{runtime}");
        }
        let log = drain(log);
        postern.open().close();
        assert!(postern.terminate().success(), "{runtime}");
        let log = log.join().expect("the log is read");
        postern.process.heard(log.as_bytes());
        let (messages, dropped) = count(&log);
        assert!(dropped > 0 && messages > 100, "{runtime}: {messages} logged, {dropped} dropped");
        // The records of the second connection may be among the dropped ones.
        let all = messages + dropped;
        assert!((MESSAGES..=MESSAGES + 3).contains(&all), "{runtime}: {messages} logged, {dropped} dropped");
    }
}

#[test]
fn log_that_pauses_stops_all_reading_until_it_is_read_again() {
    for runtime in Runtime::BOTH {
        let (mut postern, log, frame, echo) = start(runtime, "pause");
        let (mut other, mut client) = (postern.open_stream(), postern.open_stream());
        client.set_write_timeout(Some(STILL)).expect("a timeout");
        let mut echoes = client.try_clone().expect("a second descriptor");
        // Reads echoes until the client has ended its side.
        let counting = thread::spawn(move || {
            let mut received = Vec::new();
            echoes.read_to_end(&mut received).expect("the server closes without a reset");
            received
        });

        let mut sent = 0;
        let rest = loop {
            match write(&mut client, &frame) {
                [] => sent += 1,
                rest => break rest.to_vec(),
            }
            assert!(sent < 2000, "{runtime}: it continues to read");
        };
        assert!(sent * LEN > 8 << 20, "{runtime}: {sent} messages");
        // Postern does not read from the other client, accepts a new one, and uses no processor time.
        other.write_all(&frames::client(TEXT, b"y")).expect("the system accepts it");
        other.set_read_timeout(Some(STILL)).expect("a timeout");
        let early = other.read(&mut [0; 3]).map_err(|error| error.kind());
        assert_eq!(early, Err(ErrorKind::WouldBlock), "{runtime}");
        let late = TcpStream::connect(postern.address()).expect("the port is open");
        let before = postern.cpu_time();
        thread::sleep(STILL);
        let spent = postern.cpu_time() - before;
        assert!(spent < STILL / 5, "{runtime}: busy for {spent:?}");

        let log = drain(log);
        client.set_write_timeout(None).expect("no timeout");
        client.write_all(&rest).expect("it is read again");
        sent += 1;
        other.set_read_timeout(None).expect("no timeout");
        assert_eq!(receive(&mut other, 3), server(TEXT, b"y"), "{runtime}");
        drop(late);
        // The Close is answered after the last echo.
        client.write_all(&frames::client(CLOSE, &frames::close(1000, ""))).expect("it is read");
        let received = counting.join().expect("the echoes are read");
        assert!(
            received == [echo.repeat(sent), server(CLOSE, &frames::close(1000, ""))].concat(),
            "{runtime}: an echo is wrong"
        );
        assert!(postern.terminate().success(), "{runtime}");
        let log = log.join().expect("the log is read");
        postern.process.heard(log.as_bytes());
        assert_eq!(count(&log), (sent, 0), "{runtime}");
    }
}

/// Writes until all is written or a write times out. Returns the rest.
fn write<'b>(stream: &mut TcpStream, mut bytes: &'b [u8]) -> &'b [u8] {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("the connection has ended: {error}"),
        }
    }
    bytes
}
