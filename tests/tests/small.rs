//! Small hosts: a process with little memory sheds load instead of dying, and knows how little it has.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much heap and stack each may have. On smol it is what a small host has. On mio each thread's stack counts 2 MiB,
/// whether it is used or not, and there are four beside the workers; each of these has a read buffer of 512 KiB; and
/// what may be held is shared out among them.
fn memory(runtime: Runtime) -> usize {
    match runtime {
        Runtime::Smol => 16 << 20,
        Runtime::Mio => 64 << 20,
    }
}

const CONNECTIONS: usize = 1000;

/// The longest message that Postern takes by default.
const LARGEST: usize = 64 * 1024;

/// A client's frame of a binary message, masked with zeros, of which `payload` is sent and `announced` bytes are said
/// to come.
fn frame(announced: usize, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend((announced as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(bytes.len() + payload, b'x');
    bytes
}

/// One that does what harm it can.
struct Attacker {
    stream: TcpStream,
    /// What it sends once, or again and again. It never reads.
    bytes: Vec<u8>,
    repeats: bool,
    sent: usize,
    is_over: bool,
}

impl Attacker {
    /// Each second one sends most of a message, and the others whole ones without reading the echoes.
    fn new(postern: &Postern, number: usize) -> Attacker {
        let Open { socket, .. } =
            Handshake::to(postern.address()).header("User-ID", &format!("attacker-{number}")).open();
        let stream = socket.get_ref().try_clone().expect("a second descriptor of the socket");
        // Not the kernel's memory is to be filled.
        set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
        set_socket_send_buffer_size(&stream, 16 << 10).expect("a small buffer");
        stream.set_nonblocking(true).expect("it need not wait");
        let repeats = number.is_multiple_of(2);
        let bytes = if repeats { frame(LARGEST, LARGEST) } else { frame(LARGEST, LARGEST - 1) };
        Attacker { stream, bytes, repeats, sent: 0, is_over: false }
    }

    /// Sends what is taken at once. Says whether anything was.
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

/// All push until nothing is taken any more for a second: then everybody is ended, or paused.
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

/// As many sockets as it takes.
fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CONNECTIONS as u64 + 200).max(limit.current.unwrap_or(u64::MAX));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("a thousand open files");
}

#[test]
fn little_memory_sheds_load_and_does_not_kill() {
    allow_sockets();
    for runtime in Runtime::BOTH {
        let kibibytes = memory(runtime) / 1024;
        let postern = Postern::start_limited(runtime, &[("POSTERN_WORKERS", "2")], kibibytes);
        let mut attackers: Vec<Attacker> =
            (0..CONNECTIONS).map(|number| Attacker::new(&postern, number)).collect();
        attack(&mut attackers);
        // They hold what they have, and others are served: messages of every size come back.
        let Open { mut socket, .. } = Handshake::to(postern.address()).as_john().open();
        for size in [1, 20, 1000, 60_000] {
            let message = vec![b'm'; size];
            socket.send(message.clone().into()).expect("the message is taken");
            assert_eq!(socket.read().expect("the echo").into_data(), message, "{runtime}: {size} bytes");
        }
        // Those whose message was not whole were told, unless they had gone on; those who did not read were dropped.
        postern.wait_for("code: 1013");
        postern.wait_for("reason: too slow while memory was short");
        // And again, when those who are left have gone.
        drop(attackers);
        let mut again: Vec<Attacker> =
            (0..CONNECTIONS / 4).map(|number| Attacker::new(&postern, number)).collect();
        attack(&mut again);
        socket.send("still here".into()).expect("the message is taken");
        assert_eq!(socket.read().expect("the echo").into_data(), "still here".as_bytes(), "{runtime}");
    }
}

#[test]
fn the_limits_on_the_process_are_those_of_its_settings() {
    for runtime in Runtime::BOTH {
        let limit = memory(runtime);
        let postern = Postern::start_limited(runtime, &[("POSTERN_WORKERS", "2")], limit / 1024);
        let line = postern.wait_for("max_memory: ");
        let (_, value) = line.split_once("max_memory: ").expect("it is there");
        let value: usize = value.split(',').next().and_then(|value| value.parse().ok()).expect("a number");
        // Half of half of what it had not used at its start.
        assert!(value <= limit / 4 && value > limit / 8, "{runtime}: {line}");
        let printed = Postern::print_config(runtime, &[("POSTERN_MAX_MEMORY", "3MiB")]).join("\n");
        assert!(printed.contains("POSTERN_MAX_MEMORY=3MiB"), "{printed}");
    }
}

#[test]
fn a_log_queue_that_holds_nothing_is_refused() {
    for runtime in Runtime::BOTH {
        let (status, said) = Postern::refuse(runtime, &[("POSTERN_LOG_QUEUE", "1KiB")]);
        assert_eq!(status.code(), Some(2));
        let [line] = &said[..] else { panic!("{said:?}") };
        assert!(line.contains("POSTERN_LOG_QUEUE=1KiB: "), "{line}");
    }
}
