//! The end of the log of both binaries: what it has accepted is written before the process ends, or counted and said on
//! standard error.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Stream;
use postern_tests::ws::Handshake;
use rustix::process::Signal;

/// Messages of a client. Their records are about 1.6 MB.
const MESSAGES: usize = 15_000;

/// Messages that a client sends at once.
const BATCH: usize = 500;

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Postern with a standard output that is not read yet.
fn start(runtime: Runtime, settings: &[(&str, &str)]) -> (Postern, PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    (Postern::start_logging_to(runtime, settings, File::from(OwnedFd::from(writer))), reader)
}

/// Sends all messages of a client, and waits for their echoes.
fn send_all(to: SocketAddr) {
    let mut open = Handshake::to(to).as_john().open();
    let stream = open.socket.get_mut();
    for _ in 0..MESSAGES / BATCH {
        let frame = b"\x81\x85\0\0\0\0hello";
        let echo = b"\x81\x05hello";
        stream.write_all(&frame.repeat(BATCH)).expect("the messages are taken");
        let mut received = vec![0; echo.len() * BATCH];
        stream.read_exact(&mut received).expect("the echoes come");
        assert!(received == echo.repeat(BATCH));
    }
    open.close();
}

/// Reads to the end, a piece of this size at a time with a rest after each.
fn read(mut log: PipeReader, piece: usize, rest: Duration) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match log.read(&mut buffer).expect("the log can be read") {
            0 => return String::from_utf8(bytes).expect("the log is UTF-8"),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
        thread::sleep(rest);
    }
}

fn messages(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" INFO Message from John Doe (123): hello, conn: ")).count()
}

/// Asserts that nothing but whole records is in the log.
fn check_lines(log: &str) {
    assert!(log.is_empty() || log.ends_with('\n'), "{:?}", log.lines().last());
    for line in log.lines() {
        assert!(line.starts_with("20") && line.get(23..25) == Some("Z "), "{line}");
    }
}

#[test]
fn everything_accepted_is_written_before_the_process_ends_however_slow_the_reader_is() {
    for runtime in Runtime::BOTH {
        for stall in ["pause", "drop"] {
            let (mut postern, log) = start(runtime, &[("POSTERN_LOG_STALL", stall)]);
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

/// The number that standard error says were lost.
fn lost(postern: &Postern) -> usize {
    let lines = postern.process.lines_of(Stream::Err);
    let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
    let number = line.split_once(": log records lost at the end: ").map(|(_, rest)| rest);
    number
        .and_then(|rest| rest.split_once(';'))
        .and_then(|(number, _)| number.parse().ok())
        .expect("a number")
}

#[test]
fn what_the_bound_of_the_drain_leaves_unwritten_is_counted_on_standard_error() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = start(runtime, &[("POSTERN_DRAIN_HARD", "3s")]);
        send_all(postern.address());
        let begun = Instant::now();
        postern.process.signal(Signal::TERM).expect("a signal");
        let status = postern.process.wait(PATIENCE).expect("it ends");
        let took = begun.elapsed();
        assert!(status.success(), "{runtime}: {status}");
        assert!(took >= Duration::from_secs(2), "{runtime}: {took:?}");
        let log = read(log, 64 * 1024, Duration::ZERO);
        postern.process.heard(log.as_bytes());
        check_lines(&log);
        let all = log.lines().count() + lost(&postern);
        // Those of the messages, of the connection, and of the process: it listens, stops and has stopped.
        assert!((MESSAGES + 5..MESSAGES + 15).contains(&all), "{runtime}: {all}");
        assert!(messages(&log) < MESSAGES, "{runtime}");
    }
}

#[test]
fn a_second_signal_while_the_log_is_written_leaves_it_a_second() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = start(runtime, &[]);
        send_all(postern.address());
        postern.process.signal(Signal::TERM).expect("a signal");
        let begun = Instant::now();
        // From then on it waits for nothing but its log.
        while TcpStream::connect(postern.address()).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "{runtime}: it accepts");
            thread::sleep(Duration::from_millis(10));
        }
        // Two within 100 ms, or 200 ms on a busy machine, are one.
        thread::sleep(Duration::from_millis(500));
        assert!(postern.process.try_wait().expect("a process").is_none(), "{runtime}");
        postern.process.signal(Signal::TERM).expect("a signal");
        let status = postern.process.wait(PATIENCE).expect("it ends");
        assert!(begun.elapsed() < Duration::from_secs(30), "{runtime}: {:?}", begun.elapsed());
        assert!(status.success(), "{runtime}: {status}");
        let log = read(log, 64 * 1024, Duration::ZERO);
        postern.process.heard(log.as_bytes());
        check_lines(&log);
        let all = log.lines().count() + lost(&postern);
        assert!((MESSAGES + 5..MESSAGES + 15).contains(&all), "{runtime}: {all}");
    }
}
