//! System calls that fail, on both binaries: strace has every so many calls of a kind fail, while clients connect, talk
//! and close. Each failure may cost the connection that it met, and nothing else.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::Connection;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;
use tempfile::TempDir;

/// A Postern some of whose system calls fail.
struct Faulty {
    postern: Postern,
    folder: TempDir,
    what: String,
}

impl Faulty {
    /// These system calls fail with this error, when strace's `when` says: in each thread by itself the first, the last
    /// and the distance.
    #[track_caller]
    fn start(runtime: Runtime, calls: &str, error: &str, when: &str) -> Self {
        // With one worker it has all calls, whatever machine this is.
        let settings: &[_] = if runtime == Runtime::Mio { &[("POSTERN_WORKERS", "1")] } else { &[] };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = [
            "-f".to_owned(),
            "--seccomp-bpf".to_owned(),
            format!("--output={}", folder.path().join("trace").display()),
            format!("--trace={calls}"),
            format!("--inject={calls}:error={error}:when={when}"),
        ];
        let postern = Postern::start_traced(runtime, settings, &arguments);
        Self { postern, folder, what: format!("{runtime}, {error} of {calls}") }
    }

    /// Many clients, some at once. Gives how many of them were cut off.
    fn visit(&self) -> usize {
        let address = self.postern.address();
        let visitors: Vec<_> = (0..AT_ONCE)
            .map(|_| thread::spawn(move || (0..VISITS).filter(|_| !visit(address)).count()))
            .collect();
        visitors.into_iter().map(|visitor| visitor.join().expect("nobody waits in vain")).sum()
    }

    /// Checks that nothing is done while there is nothing to be done.
    #[track_caller]
    fn check_rest(&self) {
        let used = ticks_of(&self.postern);
        thread::sleep(Duration::from_millis(400));
        let used = ticks_of(&self.postern) - used;
        assert!(used < 10, "{}: {used} of 40 ticks while nothing happens", self.what);
    }

    /// Checks that SIGTERM ends it in order, and that each connection's end is in the log. Gives how many calls have
    /// failed.
    #[track_caller]
    fn end(mut self) -> usize {
        assert!(visit(self.postern.address()), "{}: nobody is answered afterwards", self.what);
        let status = self.postern.terminate();
        assert!(status.success(), "{}: {status}", self.what);
        let log = self.postern.log();
        let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        let (opened, closed) = (count("connection established"), count("connection closed for user"));
        assert_eq!(opened, closed, "{}: {log:#?}", self.what);
        self.failed()
    }

    /// How many calls have failed. The trace is complete when Postern's own end is in it.
    #[track_caller]
    fn failed(&self) -> usize {
        let id = self.postern.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let trace = self.trace();
            // The id stands before it if there may be others.
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

/// One client: it is admitted, has a short message echoed, a large and one in parts, and closes. Says whether all of it
/// went as it should; if not, its connection has ended.
///
/// # Panics
///
/// If nothing comes, neither what it waits for nor an end.
fn visit(address: SocketAddr) -> bool {
    match try_visit(address) {
        Ok(()) => true,
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            panic!("a connection is left alone, and not ended")
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
    let large = [7; 20_000];
    let long = [&20_000_u16.to_be_bytes()[..], &large].concat();
    for (sent, expected) in [
        (b"\x81\x85\0\0\0\0Hello".to_vec(), b"\x81\x05Hello".to_vec()),
        ([b"\x82\xfe\x4e\x20\0\0\0\0", &large[..]].concat(), [b"\x82\x7e", &long[..]].concat()),
        (b"\x01\x83\0\0\0\0Hel".to_vec(), b"".to_vec()),
        (b"\x80\x82\0\0\0\0lo".to_vec(), b"\x81\x05Hello".to_vec()),
        (b"\x88\x82\0\0\0\0\x03\xe8".to_vec(), b"\x88\x02\x03\xe8".to_vec()),
    ] {
        stream.write_all(&sent)?;
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received)?;
        assert!(received == expected, "{}", received.escape_ascii());
    }
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => panic!("nothing comes behind a Close"),
    }
}

/// The processor time that it has used, in hundredths of a second.
fn ticks_of(postern: &Postern) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", postern.id())).expect("its times");
    let (_, fields) = stat.rsplit_once(") ").expect("the name of the program");
    // proc_pid_stat(5): the state is the third field; utime is the 14th, stime the 15th.
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Each of these errors costs connections, but no more than there were errors.
fn check_that_each_costs_one(calls: &str, when: &str, errors: &[&str]) {
    for runtime in Runtime::BOTH {
        errors.iter().for_each(|error| check_cost(runtime, calls, error, when));
    }
}

fn check_cost(runtime: Runtime, calls: &str, error: &str, when: &str) {
    let faulty = Faulty::start(runtime, calls, error, when);
    let what = faulty.what.clone();
    let lost = faulty.visit();
    faulty.check_rest();
    let failed = faulty.end();
    assert!(failed >= 5, "{what}: {failed} calls have failed");
    assert!(0 < lost && lost <= failed, "{what}: {failed} errors have ended {lost} connections");
}

/// None of these errors costs anything.
fn check_that_none_costs_any(calls: &str, when: &str, errors: &[&str]) {
    for runtime in Runtime::BOTH {
        for error in errors {
            let faulty = Faulty::start(runtime, calls, error, when);
            let what = faulty.what.clone();
            assert_eq!(faulty.visit(), 0, "{what}");
            faulty.check_rest();
            let failed = faulty.end();
            assert!(failed >= 5, "{what}: {failed} calls have failed");
        }
    }
}

#[test]
fn an_accept_that_fails_costs_nobody_but_who_is_turned_away() {
    check_that_none_costs_any(
        "accept4",
        "5..60+3",
        &["EINTR", "ECONNABORTED", "EPROTO", "ENOBUFS", "ENOMEM"],
    );
}

#[test]
fn a_client_without_a_descriptor_is_told_so_and_not_reset() {
    for runtime in Runtime::BOTH {
        for error in ["EMFILE", "ENFILE"] {
            let faulty = Faulty::start(runtime, "accept4", error, "5..60+3");
            let what = faulty.what.clone();
            let address = faulty.postern.address();
            let visit = move || (0..VISITS).filter_map(|_| try_visit(address).err()).collect::<Vec<_>>();
            let visitors: Vec<_> = (0..AT_ONCE).map(|_| thread::spawn(visit)).collect();
            let errors = visitors.into_iter().flat_map(|visitor| visitor.join().expect("no panic"));
            let refused: Vec<_> = errors.map(|error| error.kind()).collect();
            faulty.check_rest();
            let failed = faulty.end();
            // Each failed call has up to eight waiting clients answered, one with each descriptor of the reserve.
            let most = 8 * failed;
            assert!((1..=most).contains(&refused.len()), "{what}: {failed} errors, {refused:?}");
            assert!(refused.iter().all(|kind| *kind == ErrorKind::ConnectionRefused), "{what}: {refused:?}");
        }
    }
}

#[test]
fn a_receive_that_fails_ends_one_connection() {
    check_that_each_costs_one("recvfrom", "10..150+7", &["ECONNRESET", "ETIMEDOUT", "ENOBUFS", "ENOMEM"]);
    check_that_none_costs_any("recvfrom", "10..150+3", &["EINTR"]);
}

#[test]
fn a_send_that_fails_ends_one_connection() {
    check_that_each_costs_one("sendto", "10..150+7", &["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM"]);
    check_that_none_costs_any("sendto", "10..150+3", &["EINTR"]);
}

#[test]
fn a_send_of_pieces_that_fails_ends_one_connection() {
    check_that_each_costs_one("writev", "2..40+5", &["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM"]);
    check_that_none_costs_any("writev", "2..40+3", &["EINTR"]);
}

#[test]
fn a_wait_that_is_interrupted_costs_nothing() {
    check_that_none_costs_any("?epoll_wait,?epoll_pwait,?epoll_pwait2", "4+2", &["EINTR"]);
}

#[test]
fn a_socket_that_cannot_be_watched_ends() {
    // It is called when a connection comes, and on smol also when one goes, which costs nothing.
    check_that_each_costs_one("epoll_ctl", "10..50+7", &["ENOMEM", "ENOSPC"]);
}

#[test]
fn a_socket_whose_side_cannot_be_ended_is_closed_all_the_same() {
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
            faulty.check_rest();
            assert_eq!(faulty.end(), 5);
        }
    }
}

/// How many clients there are at a time, and how many of them one after the other.
const AT_ONCE: usize = 6;
const VISITS: usize = 12;

/// Less than the ping interval, so that a connection that is forgotten is not saved by a ping.
const PATIENCE: Duration = Duration::from_secs(10);
