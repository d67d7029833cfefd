//! System calls that fail, on both binaries: strace makes some calls of a kind fail, while clients connect, send messages and
//! close. Each failure may end the connection that it affects, and no other.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::frames::{BINARY, CLOSE, FIRST, LAST, TEXT, client, close, server};
use postern_tests::http::Connection;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;
use tempfile::TempDir;

/// A Postern with failing system calls.
struct Faulty {
    postern: Postern,
    folder: TempDir,
    what: String,
}

impl Faulty {
    /// Starts one whose system calls of this kind fail with this error. `when` is as for strace: the first, the last
    /// and the distance, counted per thread.
    #[track_caller]
    fn start(runtime: Runtime, calls: &str, error: &str, when: &str) -> Self {
        // With one worker, the numbers of calls do not depend on the machine.
        let settings: &[_] = if runtime == Runtime::Mio { &[("POSTERN_WORKERS", "1")] } else { &[] };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = [
            "-f".to_owned(),
            "--seccomp-bpf".to_owned(),
            format!("--output={}", folder.path().join("trace").display()),
            format!("--trace={calls}"),
            format!("--inject={calls}:error={error}:when={when}"),
        ];
        let postern = Postern::with(runtime, settings).traced(&arguments).start();
        Self { postern, folder, what: format!("{runtime}, {error} of {calls}") }
    }

    /// Runs many clients, some at the same time. Returns how many of them were disconnected.
    fn visit(&self) -> usize {
        let address = self.postern.address();
        let visitors: Vec<_> = (0..AT_ONCE)
            .map(|_| thread::spawn(move || (0..VISITS).filter(|_| !visit(address)).count()))
            .collect();
        visitors
            .into_iter()
            .map(|visitor| visitor.join().expect("each client is served or disconnected"))
            .sum()
    }

    /// Checks that the idle process uses no processor time.
    #[track_caller]
    fn check_idle(&self) {
        let used = self.postern.cpu_time();
        thread::sleep(Duration::from_millis(400));
        let used = self.postern.cpu_time() - used;
        assert!(used < Duration::from_millis(100), "{}: {used:?} of 400 ms while idle", self.what);
    }

    /// Checks that SIGTERM stops it, and that each connection's end is in the log. Returns how many calls have failed.
    #[track_caller]
    fn end(mut self) -> usize {
        assert!(visit(self.postern.address()), "{}: a later client is not served", self.what);
        let status = self.postern.terminate();
        assert!(status.success(), "{}: {status}", self.what);
        let count = |text: &str| self.postern.count(text);
        let (opened, closed) = (count("connection established"), count("connection closed for user"));
        assert_eq!(opened, closed, "{}: {:#?}", self.what, self.postern.log());
        self.failed()
    }

    /// Returns the number of calls have failed. The trace is complete when Postern's own end is in it.
    #[track_caller]
    fn failed(&self) -> usize {
        let id = self.postern.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let trace = self.trace();
            // The line begins with the id if there are several threads.
            let end = trace.lines().filter_map(|line| line.split_once("+++ exited with 0"));
            if end.map(|(of, _)| of.trim()).any(|of| of == id || of.is_empty()) {
                return trace.matches("(INJECTED)").count();
            }
            assert!(Instant::now() < deadline, "{}: {trace}", self.what);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn trace(&self) -> String {
        fs::read_to_string(self.folder.path().join("trace")).expect("a trace")
    }
}

/// Runs a client that connects, receives the echoes of a short, a large and a fragmented message, and closes. Returns
/// whether all of it succeeded; if not, its connection has ended.
///
/// # Panics
///
/// If it receives neither a response nor the end of the connection.
fn visit(address: SocketAddr) -> bool {
    match try_visit(address) {
        Ok(()) => true,
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            panic!("a connection gets no response, and is not ended")
        }
        Err(_) => false,
    }
}

fn try_visit(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&Handshake::to(address).as_john().bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    if head.starts_with(b"HTTP/1.1 503 ") {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
    for (sent, expected) in [
        (client(TEXT, b"Hello"), server(TEXT, b"Hello")),
        (client(BINARY, &[7; 20_000]), server(BINARY, &[7; 20_000])),
        (client(FIRST, b"Hel"), Vec::new()),
        (client(LAST, b"lo"), server(TEXT, b"Hello")),
        (client(CLOSE, &close(1000, "")), server(CLOSE, &close(1000, ""))),
    ] {
        stream.write_all(&sent)?;
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received)?;
        assert!(received == expected, "{}", received.escape_ascii());
    }
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => panic!("bytes after a Close"),
    }
}

/// Checks that each of these errors ends one connection at most.
fn check_that_each_ends_one(calls: &str, when: &str, errors: &[&str]) {
    for runtime in Runtime::BOTH {
        errors.iter().for_each(|error| check_cost(runtime, calls, error, when));
    }
}

fn check_cost(runtime: Runtime, calls: &str, error: &str, when: &str) {
    let faulty = Faulty::start(runtime, calls, error, when);
    let what = faulty.what.clone();
    let lost = faulty.visit();
    faulty.check_idle();
    let failed = faulty.end();
    assert!(failed >= 5, "{what}: {failed} calls have failed");
    assert!(0 < lost && lost <= failed, "{what}: {failed} errors have ended {lost} connections");
}

/// Checks that none of these errors ends a connection.
fn check_that_none_ends_any(calls: &str, when: &str, errors: &[&str]) {
    for runtime in Runtime::BOTH {
        for error in errors {
            let faulty = Faulty::start(runtime, calls, error, when);
            let what = faulty.what.clone();
            assert_eq!(faulty.visit(), 0, "{what}");
            faulty.check_idle();
            let failed = faulty.end();
            assert!(failed >= 5, "{what}: {failed} calls have failed");
        }
    }
}

#[test]
fn failed_accept_ends_no_connection() {
    check_that_none_ends_any("accept4", "5..60+3", &["EINTR", "ECONNABORTED", "EPROTO", "ENOBUFS", "ENOMEM"]);
}

#[test]
fn client_without_a_descriptor_gets_503_without_a_reset() {
    for runtime in Runtime::BOTH {
        for error in ["EMFILE", "ENFILE"] {
            let faulty = Faulty::start(runtime, "accept4", error, "5..60+3");
            let what = faulty.what.clone();
            let address = faulty.postern.address();
            let visit = move || (0..VISITS).filter_map(|_| try_visit(address).err()).collect::<Vec<_>>();
            let visitors: Vec<_> = (0..AT_ONCE).map(|_| thread::spawn(visit)).collect();
            let errors = visitors.into_iter().flat_map(|visitor| visitor.join().expect("no panic"));
            let refused: Vec<_> = errors.map(|error| error.kind()).collect();
            faulty.check_idle();
            let failed = faulty.end();
            // For each failed call up to eight waiting clients are refused, one with each descriptor of the reserve.
            let most = 8 * failed;
            assert!((1..=most).contains(&refused.len()), "{what}: {failed} errors, {refused:?}");
            assert!(refused.iter().all(|kind| *kind == ErrorKind::ConnectionRefused), "{what}: {refused:?}");
        }
    }
}

#[test]
fn failed_receive_ends_one_connection() {
    check_that_each_ends_one("recvfrom", "10..150+7", &["ECONNRESET", "ETIMEDOUT", "ENOBUFS", "ENOMEM"]);
    check_that_none_ends_any("recvfrom", "10..150+3", &["EINTR"]);
}

#[test]
fn failed_send_ends_one_connection() {
    check_that_each_ends_one("sendto", "10..150+7", &["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM"]);
    check_that_none_ends_any("sendto", "10..150+3", &["EINTR"]);
}

#[test]
fn failed_vectored_send_ends_one_connection() {
    check_that_each_ends_one("writev", "2..40+5", &["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM"]);
    check_that_none_ends_any("writev", "2..40+3", &["EINTR"]);
}

#[test]
fn interrupted_wait_ends_no_connection() {
    check_that_none_ends_any("?epoll_wait,?epoll_pwait,?epoll_pwait2", "4+2", &["EINTR"]);
}

#[test]
fn socket_that_cannot_be_registered_is_closed() {
    // It is called for a new connection, and on smol also for an ended one.
    check_that_each_ends_one("epoll_ctl", "10..50+7", &["ENOMEM", "ENOSPC"]);
}

#[test]
fn socket_is_closed_even_if_its_shutdown_fails() {
    for runtime in Runtime::BOTH {
        for error in ["ENOTCONN", "ENOBUFS"] {
            let faulty = Faulty::start(runtime, "shutdown", error, "1+1");
            let refused: Vec<_> = (0..5)
                .map(|_| {
                    let mut client = Connection::open(faulty.postern.address()).expect("a connection");
                    client.send(&Handshake::to(faulty.postern.address()).bytes()).expect("it is taken");
                    assert_eq!(client.response().expect("an answer").status, 401, "{}", faulty.what);
                    client
                })
                .collect();
            for mut client in refused {
                assert!(client.is_closed(), "{}", faulty.what);
            }
            faulty.check_idle();
            assert_eq!(faulty.end(), 5);
        }
    }
}

/// The number of clients at the same time, and how many follow each other.
const AT_ONCE: usize = 6;
const VISITS: usize = 12;

/// Less than the ping interval, so that a ping does not end a forgotten connection.
const PATIENCE: Duration = Duration::from_secs(10);
