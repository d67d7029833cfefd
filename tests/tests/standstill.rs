//! A process that makes no progress, because its log is not read or because it is stopped. It closes no client that has
//! answered in time, and removes clients that leave. On both binaries.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postern_tests::frames::{self, BINARY, CLOSE, TEXT, receive};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::wait_until;
use postern_tests::ws::Outcome;
use rustix::process::Signal;

/// Shorter than [`STANDSTILL`].
const HEARTBEAT: [(&str, &str); 2] = [("POSTERN_PING_INTERVAL", "1s"), ("POSTERN_PONG_TIMEOUT", "800ms")];

const STANDSTILL: Duration = Duration::from_secs(4);

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients that answer each ping after a delay, until [`stop`](Self::stop).
struct Answering {
    is_over: Arc<AtomicBool>,
    /// Returns the clients, and how many of them were closed.
    thread: JoinHandle<(Vec<TcpStream>, usize)>,
}

impl Answering {
    /// Starts the clients. `delay` is the time of a pong: long enough for some pongs to be in transit at any time.
    fn start(mut clients: Vec<TcpStream>, delay: Duration) -> Answering {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        let thread = thread::spawn(move || {
            clients.iter().for_each(|client| client.set_nonblocking(true).expect("it can be"));
            let mut owed: Vec<(Instant, usize, Vec<u8>)> = Vec::new();
            let mut closed = vec![false; clients.len()];
            while !until.load(Ordering::Relaxed) {
                for (index, client) in clients.iter_mut().enumerate() {
                    let mut frame = [0; 10];
                    match client.read(&mut frame) {
                        Ok(10) if frame[..2] == [0x89, 8] => {
                            let pong = [&[0x8a, 0x88, 0, 0, 0, 0][..], &frame[2..]].concat();
                            owed.push((Instant::now() + delay, index, pong));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Ok(_) | Err(_) => closed[index] = true,
                    }
                }
                owed.retain(|(at, index, pong)| {
                    let is_due = *at <= Instant::now();
                    if is_due {
                        closed[*index] |= (&clients[*index]).write_all(pong).is_err();
                    }
                    !is_due
                });
                thread::sleep(Duration::from_millis(5));
            }
            clients.iter().for_each(|client| client.set_nonblocking(false).expect("it can be"));
            let closed = closed.into_iter().filter(|is_closed| *is_closed).count();
            (clients, closed)
        });
        Answering { is_over, thread }
    }

    /// Returns the clients, and how many of them were closed.
    fn stop(self) -> (Vec<TcpStream>, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients answer")
    }
}

/// Starts Postern with a control port and a log that is not read.
fn start_unread(runtime: Runtime, more: &[(&str, &str)]) -> (Postern, PipeReader) {
    let ours = [
        ("POSTERN_LOG_STALL", "pause"),
        ("POSTERN_LOG_MESSAGES", "full"),
        ("POSTERN_LOG_QUEUE", "64KiB"),
        ("POSTERN_WORKERS", "1"),
    ];
    Postern::with(runtime, &[&ours, more].concat()).control().start_unread()
}

/// Sends messages until the log is full and Postern stops reading.
fn fill_log(client: &TcpStream) {
    let frame = frames::client(BINARY, &[b'x'; 10_000]);
    let mut echoes = client.try_clone().expect("a second descriptor");
    thread::spawn(move || io::copy(&mut echoes, &mut io::sink()));
    client.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    for _ in 0..5000 {
        let mut client = client;
        match client.write_all(&frame) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the connection has ended: {error}"),
        }
    }
    panic!("it continues to read");
}

/// Reads the log from now on.
fn drain(mut log: PipeReader) {
    thread::spawn(move || io::copy(&mut log, &mut io::sink()));
}

#[track_caller]
fn check_echo(client: &mut TcpStream) {
    client.write_all(&frames::client(TEXT, b"y")).expect("it is accepted");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // Pings may come before it.
    let mut received = Vec::new();
    while !received.ends_with(&[0x81, 1, b'y']) {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an echo");
        received.extend(byte);
    }
}

#[test]
fn clients_that_answer_pings_stay_connected_while_the_log_is_not_read() {
    for runtime in Runtime::BOTH {
        let (postern, log) = start_unread(runtime, &HEARTBEAT);
        let filler = postern.open_stream();
        let clients = (0..20).map(|_| postern.open_stream()).collect();
        let answering = Answering::start(clients, Duration::from_millis(200));
        fill_log(&filler);
        thread::sleep(STANDSTILL);
        assert!(postern.metric("postern_log_stalled") == Some(1.0), "{runtime}");
        drain(log);
        // Longer than the time of a ping and its pong.
        thread::sleep(STANDSTILL);
        let (mut clients, closed) = answering.stop();
        assert_eq!(closed, 0, "{runtime}: closed although they answered");
        clients.iter_mut().for_each(check_echo);
        wait_until("the log is taken", || postern.metric("postern_log_stalled") == Some(0.0));
        let stalled = postern.metric("postern_log_stalled_seconds_total");
        assert!(stalled >= Some(STANDSTILL.as_secs_f64()), "{runtime}: {stalled:?}");
    }
}

#[test]
fn while_the_log_is_not_read_the_process_is_not_ready_and_new_users_get_503() {
    for runtime in Runtime::BOTH {
        let (postern, log) = start_unread(runtime, &[]);
        let ready = || postern.get("/readyz");
        wait_until("it is ready", || ready().status == 200);
        let filler = postern.open_stream();
        let mut early = TcpStream::connect(postern.address()).expect("the port is open");
        fill_log(&filler);
        early.write_all(&postern.john().bytes()).expect("it is accepted");
        wait_until("it is not ready", || ready().status == 503);
        assert_eq!(ready().json()["reasons"], serde_json::json!(["log"]), "{runtime}");
        let refused = postern.john().refused_with(503, "log_stalled");
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{runtime}");
        early.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(receive(&mut early, 12), b"HTTP/1.1 503", "{runtime}");
        drain(log);
        wait_until("it is ready again", || ready().status == 200);
        check_echo(&mut postern.open_stream());
    }
}

#[test]
fn users_that_leave_while_the_log_is_not_read_are_removed() {
    for runtime in Runtime::BOTH {
        let (postern, _log) = start_unread(runtime, &[]);
        let filler = postern.open_stream();
        let [fin, reset, mut close] = [(); 3].map(|()| postern.open_stream());
        fill_log(&filler);
        wait_until("the log counts as stalled", || postern.metric("postern_log_stalled") == Some(1.0));
        assert_eq!(postern.metric("postern_connections"), Some(4.0), "{runtime}");
        close.write_all(&frames::client(CLOSE, &frames::close(1000, ""))).expect("it is accepted");
        rustix::net::sockopt::set_socket_linger(&reset, Some(Duration::ZERO)).expect("it can be");
        drop((fin, reset, close));
        wait_until("three have ended", || postern.metric("postern_connections") == Some(1.0));
    }
}

#[test]
fn clients_that_answer_pings_stay_connected_while_the_process_is_stopped() {
    for mut postern in Postern::both(&HEARTBEAT) {
        let clients = (0..100).map(|_| postern.open_stream()).collect();
        let answering = Answering::start(clients, Duration::from_millis(400));
        thread::sleep(Duration::from_secs(2));
        postern.process.signal(Signal::STOP).expect("it is there");
        thread::sleep(STANDSTILL);
        postern.process.signal(Signal::CONT).expect("it is there");
        thread::sleep(STANDSTILL);
        let (mut clients, closed) = answering.stop();
        assert_eq!(closed, 0, "closed although they answered");
        clients.iter_mut().for_each(check_echo);
    }
}

#[test]
fn requests_that_arrive_while_the_process_is_stopped_are_answered() {
    for mut postern in Postern::both(&[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]) {
        let address = postern.address();
        let connect = || TcpStream::connect(address).expect("the port is open");
        let mut clients: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
        // These are accepted before a later connection is answered.
        postern.open_stream();
        postern.process.signal(Signal::STOP).expect("it is there");
        // These wait to be accepted.
        clients.extend((0..50).map(|_| connect()));
        let request = postern.john().bytes();
        clients.iter_mut().for_each(|client| client.write_all(&request).expect("it is accepted"));
        thread::sleep(STANDSTILL);
        postern.process.signal(Signal::CONT).expect("it is there");
        for client in &mut clients {
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            assert_eq!(receive(client, 12), b"HTTP/1.1 101");
        }
    }
}

/// The only connection of a user is in its closing handshake when the next one is opened.
#[test]
fn closing_connection_does_not_count_for_its_user() {
    for postern in Postern::both(&[("POSTERN_MAX_CONNECTIONS_PER_USER", "1")]) {
        let mut before = postern.open_stream();
        for _ in 0..3 {
            assert!(matches!(postern.john().send(), Ok(Outcome::Refused(_))));
            // A frame with reserved bits. The answer is a Close, and the socket stays for a second.
            before.write_all(&[0xf1, 0x80, 0, 0, 0, 0]).expect("it is accepted");
            assert_eq!(receive(&mut before, 2)[0], CLOSE);
            let next = postern.open_stream();
            drop(std::mem::replace(&mut before, next));
        }
    }
}
