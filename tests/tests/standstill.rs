//! A process that stands still, because its log takes nothing or because it is stopped. No client that has answered in
//! time is closed for it, and clients that leave are gone. On both binaries.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postern_tests::http;
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open, Outcome};
use rustix::process::Signal;

/// Shorter than the standstills below.
const HEARTBEAT: [(&str, &str); 2] = [("POSTERN_PING_INTERVAL", "1s"), ("POSTERN_PONG_TIMEOUT", "800ms")];

const STANDSTILL: Duration = Duration::from_secs(4);

/// How long a condition may take that should take a second or two, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn stream(open: Open) -> TcpStream {
    open.socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

fn open(postern: &Postern) -> TcpStream {
    stream(Handshake::to(postern.address()).as_john().open())
}

/// Clients that answer each ping after a while, until they are told to stop.
struct Answering {
    is_over: Arc<AtomicBool>,
    /// Gives the clients back, and how many of them were closed.
    thread: JoinHandle<(Vec<TcpStream>, usize)>,
}

impl Answering {
    /// `delay` is what a pong takes: so long that some of them are under way at any time.
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

    /// Ends it; gives the clients, and how many of them were closed.
    fn stop(self) -> (Vec<TcpStream>, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients answer")
    }
}

/// Postern with a control port and a standard output that is not read, and what it would be read from.
fn start_unread(runtime: Runtime, more: &[(&str, &str)]) -> (Postern, std::net::SocketAddr, PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let control = ports::free();
    let address = control.to_string();
    let ours = [
        ("POSTERN_CONTROL", address.as_str()),
        ("POSTERN_LOG_STALL", "pause"),
        ("POSTERN_LOG_MESSAGES", "full"),
        ("POSTERN_LOG_QUEUE", "64KiB"),
        ("POSTERN_WORKERS", "1"),
    ];
    let settings: Vec<_> = ours.iter().chain(more).copied().collect();
    let postern = Postern::start_logging_to(runtime, &settings, File::from(OwnedFd::from(writer)));
    (postern, control, reader)
}

/// Sends messages until the log is full and nothing is read any more.
fn fill_log(client: &TcpStream) {
    let mut frame = vec![b'x'; 10_000];
    frame.splice(..0, [0x82, 0x80 | 126, 0x27, 0x10, 0, 0, 0, 0]);
    let mut echoes = client.try_clone().expect("a second descriptor");
    thread::spawn(move || io::copy(&mut echoes, &mut io::sink()));
    client.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    for _ in 0..5000 {
        let mut client = client;
        match client.write_all(&frame) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the connection is gone: {error}"),
        }
    }
    panic!("it goes on reading");
}

/// Reads the log from now on.
fn drain(mut log: PipeReader) {
    thread::spawn(move || io::copy(&mut log, &mut io::sink()));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn metric(control: std::net::SocketAddr, name: &str) -> f64 {
    let text = http::request(control, "GET", "/metrics", &[], b"").expect("an answer").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
}

#[track_caller]
fn check_echo(client: &mut TcpStream) {
    client.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'y']).expect("it is taken");
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
fn clients_that_answer_pings_outlive_a_log_that_takes_nothing() {
    for runtime in Runtime::BOTH {
        let (postern, control, log) = start_unread(runtime, &HEARTBEAT);
        let filler = open(&postern);
        let clients = (0..20).map(|_| open(&postern)).collect();
        let answering = Answering::start(clients, Duration::from_millis(200));
        fill_log(&filler);
        thread::sleep(STANDSTILL);
        assert!(metric(control, "postern_log_stalled") == 1.0, "{runtime}");
        drain(log);
        // Longer than a ping and its pong may take.
        thread::sleep(STANDSTILL);
        let (mut clients, closed) = answering.stop();
        assert_eq!(closed, 0, "{runtime}: closed although they answered");
        clients.iter_mut().for_each(check_echo);
        wait_until("the log is taken", || metric(control, "postern_log_stalled") == 0.0);
        assert!(
            metric(control, "postern_log_stalled_seconds_total") >= STANDSTILL.as_secs_f64(),
            "{runtime}"
        );
    }
}

#[test]
fn while_the_log_takes_nothing_readiness_says_so_and_new_users_get_an_answer() {
    for runtime in Runtime::BOTH {
        let (postern, control, log) = start_unread(runtime, &[]);
        let ready = || http::request(control, "GET", "/readyz", &[], b"").expect("an answer");
        wait_until("it is ready", || ready().status == 200);
        let filler = open(&postern);
        let mut early = TcpStream::connect(postern.address()).expect("the port is open");
        fill_log(&filler);
        early.write_all(&Handshake::to(postern.address()).as_john().bytes()).expect("it is taken");
        wait_until("it is not ready", || ready().status == 503);
        assert_eq!(ready().json()["reasons"], serde_json::json!(["log"]), "{runtime}");
        let refused = Handshake::to(postern.address()).as_john().refused();
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("log_stalled")));
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{runtime}");
        early.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut status = [0; 12];
        early.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 503", "{runtime}");
        drain(log);
        wait_until("it is ready again", || ready().status == 200);
        check_echo(&mut open(&postern));
    }
}

#[test]
fn users_that_leave_while_the_log_takes_nothing_are_gone() {
    for runtime in Runtime::BOTH {
        let (postern, control, _log) = start_unread(runtime, &[]);
        let filler = open(&postern);
        let [fin, reset, mut close] = [(); 3].map(|()| open(&postern));
        fill_log(&filler);
        wait_until("the log counts as stalled", || metric(control, "postern_log_stalled") == 1.0);
        assert_eq!(metric(control, "postern_connections"), 4.0, "{runtime}");
        close.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).expect("it is taken");
        rustix::net::sockopt::set_socket_linger(&reset, Some(Duration::ZERO)).expect("it can be");
        drop((fin, reset, close));
        wait_until("three are gone", || metric(control, "postern_connections") == 1.0);
    }
}

#[test]
fn clients_that_answer_pings_outlive_a_process_that_is_stopped() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &HEARTBEAT);
        let clients = (0..100).map(|_| open(&postern)).collect();
        let answering = Answering::start(clients, Duration::from_millis(400));
        thread::sleep(Duration::from_secs(2));
        postern.process.signal(Signal::STOP).expect("it is there");
        thread::sleep(STANDSTILL);
        postern.process.signal(Signal::CONT).expect("it is there");
        thread::sleep(STANDSTILL);
        let (mut clients, closed) = answering.stop();
        assert_eq!(closed, 0, "{runtime}: closed although they answered");
        clients.iter_mut().for_each(check_echo);
    }
}

#[test]
fn requests_that_arrive_while_the_process_is_stopped_are_answered() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
        let address = postern.address();
        let connect = || TcpStream::connect(address).expect("the port is open");
        let mut clients: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
        // These have been accepted when a later connection has been answered.
        open(&postern);
        postern.process.signal(Signal::STOP).expect("it is there");
        // And these wait to be accepted.
        clients.extend((0..50).map(|_| connect()));
        let request = Handshake::to(address).as_john().bytes();
        clients.iter_mut().for_each(|client| client.write_all(&request).expect("it is taken"));
        thread::sleep(STANDSTILL);
        postern.process.signal(Signal::CONT).expect("it is there");
        for client in &mut clients {
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut status = [0; 12];
            client.read_exact(&mut status).expect("an answer");
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 101", "{runtime}");
        }
    }
}

/// The only connection that the user may have is in its closing handshake when the next one comes.
#[test]
fn a_connection_that_is_closing_takes_no_place_of_its_user() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_MAX_CONNECTIONS_PER_USER", "1")]);
        let mut before = open(&postern);
        for _ in 0..3 {
            assert!(matches!(Handshake::to(postern.address()).as_john().send(), Ok(Outcome::Refused(_))));
            // A frame with reserved bits. The answer is a Close, and the socket stays for a second.
            before.write_all(&[0xf1, 0x80, 0, 0, 0, 0]).expect("it is taken");
            let mut close = [0; 2];
            before.read_exact(&mut close).expect("a Close");
            assert_eq!(close[0], 0x88, "{runtime}");
            let next = open(&postern);
            drop(std::mem::replace(&mut before, next));
        }
    }
}
