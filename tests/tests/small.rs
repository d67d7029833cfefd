//! Small hosts: a process with little memory sheds load and survives, and derives its limits from the memory.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use postern_tests::binaries::Binary;
use postern_tests::frames::{BINARY, client};
use postern_tests::postern::{Postern, Runtime};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns the limit of heap and stacks. For smol it is the limit of a small host. On mio each thread's stack counts as
/// 2 MiB even if it is unused, there are four threads in addition to the workers, each worker has a read buffer, and the
/// limit of buffered bytes is divided among the workers.
fn memory(runtime: Runtime) -> usize {
    match runtime {
        Runtime::Smol => 16 << 20,
        Runtime::Mio => 64 << 20,
    }
}

const CONNECTIONS: usize = 1000;

/// The longest message that Postern accepts by default.
const LARGEST: usize = 64 * 1024;

/// Starts Postern with this limit of heap and stacks (RLIMIT_DATA).
fn start_limited(runtime: Runtime) -> Postern {
    let script = format!("ulimit -d {} && exec \"$0\"", memory(runtime) / 1024);
    Postern::with(runtime, &[("POSTERN_WORKERS", "2")]).by_shell(&script).start()
}

/// A client that does not read.
struct Attacker {
    stream: TcpStream,
    /// Sent once, or repeatedly.
    bytes: Vec<u8>,
    repeats: bool,
    sent: usize,
    is_over: bool,
}

impl Attacker {
    /// Connects an attacker. Every other one sends an unfinished message, and the rest send whole messages.
    fn new(postern: &Postern, number: usize) -> Attacker {
        let stream =
            postern.handshake().header("User-ID", &format!("attacker-{number}")).open().into_stream();
        // The buffers of the kernel should be small.
        set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
        set_socket_send_buffer_size(&stream, 16 << 10).expect("a small buffer");
        stream.set_nonblocking(true).expect("it need not wait");
        let repeats = number.is_multiple_of(2);
        let mut bytes = client(BINARY, &[b'x'; LARGEST]);
        if !repeats {
            bytes.pop();
        }
        Attacker { stream, bytes, repeats, sent: 0, is_over: false }
    }

    /// Sends as much as the socket accepts at once. Returns whether it accepted any bytes.
    fn push(&mut self) -> bool {
        let mut has_sent = false;
        while !self.is_over && (self.repeats || self.sent < self.bytes.len()) {
            match self.stream.write(&self.bytes[self.sent % self.bytes.len()..]) {
                Ok(sent) => {
                    self.sent += sent;
                    has_sent = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        has_sent
    }
}

/// Makes all send until no socket accepts any bytes for a second: each connection has ended or is paused.
fn attack(attackers: &mut [Attacker]) {
    let mut last = Instant::now();
    let end = last + Duration::from_secs(60);
    while last.elapsed() < Duration::from_secs(1) && Instant::now() < end {
        let mut has_sent = false;
        for attacker in attackers.iter_mut() {
            has_sent |= attacker.push();
        }
        if has_sent {
            last = Instant::now();
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Allows this process enough sockets.
fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CONNECTIONS as u64 + 200).max(limit.current.unwrap_or(u64::MAX));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("a thousand open files");
}

#[test]
fn process_with_little_memory_sheds_load_and_survives() {
    allow_sockets();
    for runtime in Runtime::BOTH {
        let postern = start_limited(runtime);
        let mut attackers: Vec<Attacker> =
            (0..CONNECTIONS).map(|number| Attacker::new(&postern, number)).collect();
        attack(&mut attackers);
        // While they are connected, another client is served.
        let mut open = postern.open();
        for size in [1, 20, 1000, 60_000] {
            open.echo(vec![b'm'; size]);
        }
        // Connections with unfinished messages got a Close, and those that did not read were dropped.
        postern.wait_for("code: 1013");
        postern.wait_for("reason: too slow while memory was short");
        // The same again, after all of them have disconnected.
        drop(attackers);
        let mut again: Vec<Attacker> =
            (0..CONNECTIONS / 4).map(|number| Attacker::new(&postern, number)).collect();
        attack(&mut again);
        open.echo("still here");
    }
}

/// Returns the anonymous resident memory of a process, in bytes.
fn anonymous(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let value = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix(" kB"));
    value.expect("the memory").trim().parse::<usize>().expect("a number") * 1024
}

#[test]
fn connections_that_send_large_messages_do_not_need_a_buffer_each() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_LOG_MESSAGES", "off")]);
        let before = anonymous(postern.id());
        let output = Command::new(Binary::Load.path())
            .arg(postern.address().to_string())
            .args(["--connections", &CONNECTIONS.to_string(), "--size", &LARGEST.to_string()])
            .args(["--seconds", "1", "--warm-up", "0"])
            .output()
            .expect("load starts");
        assert!(output.status.success(), "{runtime}: {}", String::from_utf8_lossy(&output.stderr));
        let each = (anonymous(postern.id()) - before) / CONNECTIONS;
        assert!(each < LARGEST / 4, "{runtime}: {each} bytes for each connection");
    }
}

#[test]
fn memory_limit_of_the_process_determines_the_default_setting() {
    for runtime in Runtime::BOTH {
        let (limit, postern) = (memory(runtime), start_limited(runtime));
        let line = postern.wait_for("max_memory: ");
        let (_, value) = line.split_once("max_memory: ").expect("it is there");
        let value: usize = value.split(',').next().and_then(|value| value.parse().ok()).expect("a number");
        // A quarter of the memory that was free at its start.
        assert!(value <= limit / 4 && value > limit / 8, "{runtime}: {line}");
    }
}
