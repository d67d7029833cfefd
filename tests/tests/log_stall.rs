//! Standard output that takes nothing, on both binaries: records are dropped and counted, or nothing more is read until
//! it does again. Nobody waits for ever, and nothing ends.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};

/// The text of a message. Two hundred of them are more than the log's queue of 8 MiB.
const LEN: usize = 60_000;

/// How long nothing has to happen to be taken for a standstill.
const STILL: Duration = Duration::from_secs(1);

/// Postern with a standard output that is not read yet.
fn start(runtime: Runtime, stall: &str) -> (Postern, PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let settings = [("POSTERN_LOG_STALL", stall), ("POSTERN_LOG_MESSAGES", "full"), ("POSTERN_WORKERS", "1")];
    let postern = Postern::start_logging_to(runtime, &settings, File::from(OwnedFd::from(writer)));
    (postern, reader)
}

fn open(postern: &Postern) -> TcpStream {
    let Open { socket, .. } = Handshake::to(postern.address()).as_john().open();
    socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

/// A client's frame, with a masking key of zeros, and its echo.
fn message() -> (Vec<u8>, Vec<u8>) {
    let len = (LEN as u16).to_be_bytes();
    let text = vec![b'x'; LEN];
    let frame = [&[0x81, 0x80 | 126][..], &len, &[0; 4], &text].concat();
    (frame, [&[0x81, 126][..], &len, &text].concat())
}

/// Reads the whole log, in the background, until its end.
fn drain(mut log: PipeReader) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).expect("the log is UTF-8");
        text
    })
}

/// How many messages are in the log, and how many records it says it has dropped.
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
fn records_are_dropped_and_counted_and_nobody_waits() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = start(runtime, "drop");
        let (frame, echo) = message();
        let mut client = open(&postern);
        const MESSAGES: usize = 400;
        for _ in 0..MESSAGES {
            client.write_all(&frame).expect("it is read");
            let mut received = vec![0; echo.len()];
            client.read_exact(&mut received).expect("it is answered");
            assert!(received == echo, "{runtime}");
        }
        let log = drain(log);
        Handshake::to(postern.address()).as_john().open().close();
        assert!(postern.terminate().success(), "{runtime}");
        let log = log.join().expect("the log is read");
        postern.process.heard(log.as_bytes());
        let (messages, dropped) = count(&log);
        assert!(dropped > 0 && messages > 100, "{runtime}: {messages} logged, {dropped} dropped");
        // The records of one connection that came and went may be among those dropped.
        let all = messages + dropped;
        assert!((MESSAGES..=MESSAGES + 3).contains(&all), "{runtime}: {messages} logged, {dropped} dropped");
    }
}

#[test]
fn nothing_is_read_until_there_is_room_and_then_all_goes_on() {
    for runtime in Runtime::BOTH {
        let (mut postern, log) = start(runtime, "pause");
        let (frame, echo) = message();
        let (mut other, mut client) = (open(&postern), open(&postern));
        client.set_write_timeout(Some(STILL)).expect("a timeout");
        let mut echoes = client.try_clone().expect("a second descriptor");
        // Reads echoes until the client has ended its side.
        let counting = thread::spawn(move || {
            let mut received = Vec::new();
            echoes.read_to_end(&mut received).expect("the server closes in order");
            received
        });

        let mut sent = 0;
        let rest = loop {
            match write(&mut client, &frame) {
                [] => sent += 1,
                rest => break rest.to_vec(),
            }
            assert!(sent < 2000, "{runtime}: it goes on reading");
        };
        assert!(sent * LEN > 8 << 20, "{runtime}: {sent} messages");
        // The other one is not heard either, whoever comes is not turned away, and the process is not busy.
        other.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'y']).expect("the system takes it");
        other.set_read_timeout(Some(STILL)).expect("a timeout");
        let unheard = other.read(&mut [0; 3]).map_err(|error| error.kind());
        assert_eq!(unheard, Err(ErrorKind::WouldBlock), "{runtime}");
        let late = TcpStream::connect(postern.address()).expect("the port is open");
        let before = cpu_time(postern.id());
        thread::sleep(STILL);
        let spent = cpu_time(postern.id()) - before;
        assert!(spent < STILL / 5, "{runtime}: busy for {spent:?}");

        let log = drain(log);
        client.set_write_timeout(None).expect("no timeout");
        client.write_all(&rest).expect("it is read again");
        sent += 1;
        let mut heard = [0; 3];
        other.set_read_timeout(None).expect("no timeout");
        other.read_exact(&mut heard).expect("the other one is heard");
        assert_eq!(heard, [0x81, 1, b'y'], "{runtime}");
        drop(late);
        // A Close of 1000, which is answered behind the last echo.
        client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).expect("it is read");
        let received = counting.join().expect("the echoes are read");
        assert!(
            received == [echo.repeat(sent), vec![0x88, 2, 0x03, 0xe8]].concat(),
            "{runtime}: an echo is wrong"
        );
        assert!(postern.terminate().success(), "{runtime}");
        let log = log.join().expect("the log is read");
        postern.process.heard(log.as_bytes());
        assert_eq!(count(&log), (sent, 0), "{runtime}");
    }
}

/// Writes until all is written, or nothing can be for a while; gives what is left.
fn write<'b>(stream: &mut TcpStream, mut bytes: &'b [u8]) -> &'b [u8] {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("the connection is gone: {error}"),
        }
    }
    bytes
}

/// What a process has used of the processors.
fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, in ticks of a hundredth of a second.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
