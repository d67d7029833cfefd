//! The end of the log of both binaries: accepted records are written before the process ends, or counted on standard error.

use std::io::{PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::frames::{TEXT, client, receive, server};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Stream;
use postern_tests::ws::Handshake;
use rustix::process::Signal;

/// Messages of a client. Their records are about 1.6 MB.
const MESSAGES: usize = 15_000;

/// Messages that a client sends at once.
const BATCH: usize = 500;

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends all messages of a client, and waits for their echoes.
fn send_all(to: SocketAddr) {
    let mut open = Handshake::to(to).as_john().open();
    let stream = open.socket.get_mut();
    for _ in 0..MESSAGES / BATCH {
        stream.write_all(&client(TEXT, b"hello").repeat(BATCH)).expect("the messages are taken");
        let echoes = server(TEXT, b"hello").repeat(BATCH);
        assert!(receive(stream, echoes.len()) == echoes);
    }
    open.close();
}

/// Reads to the end in pieces of this size, with a pause after each.
fn read(mut log: PipeReader, piece: usize, pause: Duration) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match log.read(&mut buffer).expect("the log can be read") {
            0 => return String::from_utf8(bytes).expect("the log is UTF-8"),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
        thread::sleep(pause);
    }
}

fn messages(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" INFO Message from John Doe (123): hello, conn: ")).count()
}

/// Asserts that the log contains whole records only.
fn check_lines(log: &str) {
    assert!(log.is_empty() || log.ends_with('\n'), "{:?}", log.lines().last());
    for line in log.lines() {
        assert!(line.starts_with("20") && line.get(23..25) == Some("Z "), "{line}");
    }
}

#[test]
fn all_accepted_records_are_written_before_the_process_ends_with_a_slow_reader() {
    for runtime in Runtime::BOTH {
        for stall in ["pause", "drop"] {
            let (mut postern, log) = Postern::with(runtime, &[("POSTERN_LOG_STALL", stall)]).start_unread();
            // A megabyte per second.
            let log = thread::spawn(|| read(log, 16 * 1024, Duration::from_millis(16)));
            send_all(postern.address());
            postern.process.signal(Signal::TERM).expect("a signal");
            let status = postern.process.wait(PATIENCE).expect("it ends");
            let log = log.join().expect("the log is read");
            postern.process.heard(log.as_bytes());
            assert!(status.success(), "{runtime}, {stall}: {status}");
            check_lines(&log);
            assert_eq!(messages(&log), MESSAGES, "{runtime}, {stall}");
            assert!(!log.contains("records dropped"), "{runtime}, {stall}");
            assert!(
                log.lines().last().is_some_and(|line| line.ends_with(" INFO stopped")),
                "{runtime}, {stall}"
            );
            assert_eq!(postern.process.lines_of(Stream::Err), [""; 0], "{runtime}, {stall}");
        }
    }
}

/// Returns the number of lost records on standard error.
fn lost(postern: &Postern) -> usize {
    let lines = postern.process.lines_of(Stream::Err);
    let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
    let number = line.split_once(": log records lost at the end: ").map(|(_, rest)| rest);
    number
        .and_then(|rest| rest.split_once(';'))
        .and_then(|(number, _)| number.parse().ok())
        .expect("a number")
}

/// Asserts that each record is in the log or counted as lost. Returns the log.
fn check_all_accounted(postern: &Postern, log: PipeReader) -> String {
    let log = read(log, 64 * 1024, Duration::ZERO);
    postern.process.heard(log.as_bytes());
    check_lines(&log);
    let all = log.lines().count() + lost(postern);
    // The records of the messages, of the connection, and of the process: it listens, stops and has stopped.
    assert!((MESSAGES + 5..MESSAGES + 15).contains(&all), "{all} records");
    log
}

#[test]
fn records_that_the_hard_limit_leaves_unwritten_are_counted_on_standard_error() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = Postern::with(runtime, &[("POSTERN_DRAIN_HARD", "3s")]).start_unread();
        send_all(postern.address());
        let begun = Instant::now();
        postern.process.signal(Signal::TERM).expect("a signal");
        let status = postern.process.wait(PATIENCE).expect("it ends");
        let took = begun.elapsed();
        assert!(status.success(), "{runtime}: {status}");
        assert!(took >= Duration::from_secs(2), "{runtime}: {took:?}");
        let log = check_all_accounted(&postern, log);
        assert!(messages(&log) < MESSAGES, "{runtime}");
    }
}

#[test]
fn second_signal_while_the_log_is_written_ends_the_process_after_a_second() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = Postern::with(runtime, &[]).start_unread();
        send_all(postern.address());
        postern.process.signal(Signal::TERM).expect("a signal");
        let begun = Instant::now();
        // After its port is closed it waits for its log only.
        while TcpStream::connect(postern.address()).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "{runtime}: it accepts");
            thread::sleep(Duration::from_millis(10));
        }
        // Two signals within 100 ms, or 200 ms on a busy machine, are one.
        thread::sleep(Duration::from_millis(500));
        assert!(postern.process.try_wait().expect("a process").is_none(), "{runtime}");
        postern.process.signal(Signal::TERM).expect("a signal");
        let status = postern.process.wait(PATIENCE).expect("it ends");
        assert!(begun.elapsed() < Duration::from_secs(30), "{runtime}: {:?}", begun.elapsed());
        assert!(status.success(), "{runtime}: {status}");
        check_all_accounted(&postern, log);
    }
}
