//! File descriptors: descriptors for users, for the control port and for responses stay available when clients open as
//! many connections as they can. On both binaries.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Open, Outcome};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// The limit of open files, and the number of attackers, which is larger even without the queue of the kernel.
const OPEN_FILES: usize = 256;
const SLOW_HEADS: usize = 600;

/// Clients that send the beginning of a request, and reconnect as soon as they are refused.
struct SlowHeads {
    to: SocketAddr,
    streams: Vec<TcpStream>,
}

impl SlowHeads {
    fn new(to: SocketAddr) -> Self {
        let mut heads = Self { to, streams: Vec::new() };
        heads.reconnect();
        heads
    }

    fn reconnect(&mut self) {
        self.streams.retain_mut(is_open);
        while self.streams.len() < SLOW_HEADS {
            let Ok(mut stream) = TcpStream::connect_timeout(&self.to, Duration::from_secs(1)) else { return };
            // It may be refused already.
            let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nHo");
            stream.set_nonblocking(true).expect("a non-blocking socket");
            self.streams.push(stream);
        }
    }
}

/// Whether the server has not ended the connection.
fn is_open(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Starts Postern with a control port and this limit of open files (RLIMIT_NOFILE).
fn start_with_open_files(runtime: Runtime, settings: &[(&str, &str)], limit: usize) -> Postern {
    Postern::with(runtime, settings).control().by_shell(&format!("ulimit -n {limit} && exec \"$0\"")).start()
}

/// The kernel enlarges the table of a process with several threads only after a wait of some 10 ms, at each power of two. A
/// storm of reconnecting clients once stopped the accepting thread that often.
#[test]
fn the_table_of_descriptors_does_not_grow_while_clients_connect() {
    for runtime in Runtime::BOTH {
        let postern = start_with_open_files(runtime, &[], 2048);
        let status = fs::read_to_string(format!("/proc/{}/status", postern.id())).expect("the status");
        let size =
            status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("the size of the table");
        assert_eq!(size.trim(), "2048", "{runtime}");
    }
}

/// Runs `work` during an attack by slow heads.
fn under_attack<T>(postern: &Postern, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let mut heads = SlowHeads::new(postern.address());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                heads.reconnect();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let end = End(&is_over);
        let result = work();
        drop(end);
        result
    })
}

/// Ends an attack, even if the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the number of its descriptors.
fn files_of(postern: &Postern) -> usize {
    fs::read_dir(format!("/proc/{}/fd", postern.id())).expect("its descriptors").count()
}

/// More than a busy machine needs, and less than the time-out of a head, five seconds.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn slow_heads_that_reconnect_delay_neither_users_nor_operators() {
    for (runtime, workers) in Runtime::WITH_WORKERS {
        let postern = start_with_open_files(runtime, &[("POSTERN_WORKERS", workers)], OPEN_FILES);
        let john = postern.john();
        let mut users: Vec<Open> = (0..10).map(|_| john.open()).collect();
        under_attack(&postern, || {
            let (begin, used) = (Instant::now(), postern.cpu_time());
            while begin.elapsed() < Duration::from_secs(3) {
                let asked = Instant::now();
                users.push(john.open());
                assert!(asked.elapsed() < PROMPT, "{runtime}: a user waits for {:?}", asked.elapsed());
                let asked = Instant::now();
                assert_eq!(postern.get("/livez").status, 200, "{runtime}");
                assert!(asked.elapsed() < PROMPT, "{runtime}: an operator waits for {:?}", asked.elapsed());
                let files = files_of(&postern);
                assert!(files < OPEN_FILES - 16, "{runtime}: {files} of {OPEN_FILES} descriptors are in use");
                thread::sleep(Duration::from_millis(200));
            }
            let used = postern.cpu_time() - used;
            let share = used.as_secs_f64() / begin.elapsed().as_secs_f64();
            assert!(share < 0.7, "{runtime}: {share:.2} of a processor");
            users.iter_mut().for_each(|user| user.echo("not disturbed"));
        });
        assert!(
            postern.metric("postern_handshakes_rejected_total{reason=\"crowded\"}") > Some(0.0),
            "{runtime}"
        );
        assert_eq!(postern.count("cannot accept connections"), 0, "{runtime}");
    }
}

#[test]
fn slow_heads_are_evicted_for_users_and_users_are_not() {
    let settings = [("POSTERN_MAX_CONNECTIONS", "4"), ("POSTERN_WORKERS", "2")];
    for runtime in Runtime::BOTH {
        let postern = start_with_open_files(runtime, &settings, 1024);
        let mut slow = SlowHeads { to: postern.address(), streams: Vec::new() };
        for _ in 0..20 {
            let mut stream = TcpStream::connect(postern.address()).expect("it listens");
            stream.write_all(b"GET /ws HTTP/1.1\r\n").expect("the bytes are taken");
            stream.set_nonblocking(true).expect("a non-blocking socket");
            slow.streams.push(stream);
        }
        let john = postern.john();
        let mut users: Vec<Open> = (0..4).map(|_| john.open()).collect();
        let refused = john.refused_with(503, "overloaded");
        assert!(refused.headers.contains_key("retry-after"), "{runtime}: {refused}");
        users.iter_mut().for_each(|user| user.echo("not disturbed"));
        // The place of a user that has left is free at once.
        users.remove(0).close();
        users.push(john.open());
        assert_eq!(john.refused().status, 503, "{runtime}");
    }
}

#[test]
fn limits_above_the_descriptors_are_reduced_with_one_warning_each() {
    let settings = [("POSTERN_MAX_CONNECTIONS", "5000"), ("POSTERN_MAX_HANDSHAKES", "4096")];
    for runtime in Runtime::BOTH {
        let postern = start_with_open_files(runtime, &settings, OPEN_FILES);
        let holds = |setting: &str| -> usize {
            let line =
                postern.wait_for(&format!("{setting} is more than the limit of open files allows, so "));
            let (_, rest) = line.split_once("allows, so ").expect("it is there");
            let number = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
            assert!(line.contains("WARN") && line.contains(&format!("open_files: {OPEN_FILES}")), "{line}");
            number
        };
        let (connections, handshakes) =
            (holds("POSTERN_MAX_CONNECTIONS=5000"), holds("POSTERN_MAX_HANDSHAKES=4096"));
        assert!(connections > 50 && connections < OPEN_FILES - 64, "{runtime}: {connections}");
        assert_eq!(handshakes, connections.div_ceil(2), "{runtime}");
        assert_eq!(postern.metric("postern_connections_max"), Some(connections as f64), "{runtime}");
        let first = postern.wait_for(" listens on ");
        assert!(
            first.contains(&format!("max_connections: {connections}, max_handshakes: {handshakes}")),
            "{first}"
        );
        assert_eq!(postern.count("limit of open files"), 2, "{runtime}: {:?}", postern.log());
    }
    for runtime in Runtime::BOTH {
        let postern = start_with_open_files(runtime, &[], OPEN_FILES);
        postern.wait_for("max_handshakes: ");
        assert_eq!(postern.count("limit of open files"), 0, "{runtime}: the defaults follow the limit");
    }
}

#[test]
fn without_descriptors_clients_get_503_operators_a_response_and_the_process_is_idle() {
    for (runtime, workers) in Runtime::WITH_WORKERS {
        let postern = Postern::start_with_control(runtime, &[("POSTERN_WORKERS", workers)]);
        let john = postern.john();
        let mut users: Vec<Open> = (0..20).map(|_| john.open()).collect();
        // No more descriptors than it has now.
        let process = Pid::from_raw(postern.id().try_into().expect("a process id"));
        let limit = Rlimit { current: Some(files_of(&postern) as u64), ..getrlimit(Resource::Nofile) };
        let before = prlimit(process, Resource::Nofile, limit).expect("the limit of a child can be lowered");
        let mut refused = 0;
        for _ in 0..30 {
            match john.send().expect("an answer, and not a reset") {
                // A descriptor that was free for a moment.
                Outcome::Open(user) => users.push(*user),
                Outcome::Refused(response) => {
                    refused += 1;
                    assert_eq!((response.status, &*response.code()), (503, "overloaded"));
                    assert_eq!(response.header("connection"), "close");
                    let seconds: u32 = response.header("retry-after").parse().expect("seconds");
                    assert!((1..=10).contains(&seconds), "{seconds}");
                }
            }
        }
        assert!(refused >= 25, "{refused} of 30 were refused");
        postern.wait_for("the process has as many descriptors as it may (ulimit -n)");
        for _ in 0..10 {
            assert_eq!(postern.get("/livez").status, 200);
        }
        let counted = postern.metric("postern_handshakes_rejected_total{reason=\"overloaded\"}");
        assert_eq!(counted, Some(f64::from(refused)));
        // Idle connections, which send no bytes.
        let _silent: Vec<TcpStream> =
            (0..50).map(|_| TcpStream::connect(postern.address()).expect("the kernel takes it")).collect();
        let used = postern.cpu_time();
        thread::sleep(Duration::from_secs(2));
        let used = postern.cpu_time() - used;
        assert!(used < Duration::from_millis(500), "{used:?} in two seconds");
        users[0].echo("not disturbed");
        // Descriptors are available again, first because users leave and then by the limit.
        users.truncate(10);
        users.push(john.open_in_time());
        prlimit(process, Resource::Nofile, before).expect("the limit can be raised again");
        for _ in 0..15 {
            users.push(john.open_in_time());
        }
        users.iter_mut().for_each(|user| user.echo("all are equal"));
    }
}
