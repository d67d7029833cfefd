//! The classes of vulnerability that other servers had and that need sockets and a process to be seen, on both
//! binaries. What the core decides alone is in `core/tests/vulnerabilities`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use rustix::net::sockopt::set_socket_linger;

/// A client's frame with a mask of zeros, which changes nothing in its payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match payload.len() {
        len @ 0..=125 => vec![first, 0x80 | len as u8],
        len @ 126..=0xffff => [&[first, 0xfe][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[first, 0xff][..], &(len as u64).to_be_bytes()].concat(),
    };
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A connection of John Doe, open, as a bare socket.
#[track_caller]
fn open_with(postern: &Postern, header: Option<(&str, &str)>) -> TcpStream {
    let mut handshake = Handshake::to(postern.address()).as_john();
    if let Some((name, value)) = header {
        handshake = handshake.header(name, value);
    }
    let Open { socket, .. } = handshake.open();
    socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

#[track_caller]
fn open(postern: &Postern) -> TcpStream {
    open_with(postern, None)
}

/// Sends a message and expects it back; says how long that took.
#[track_caller]
fn echo(stream: &mut TcpStream, text: &str) -> Duration {
    let started = Instant::now();
    stream.write_all(&frame(0x81, text.as_bytes())).expect("the message is taken");
    let mut received = vec![0; 2 + text.len()];
    stream.read_exact(&mut received).expect("the echo");
    assert_eq!(received, [&[0x81, text.len() as u8], text.as_bytes()].concat());
    started.elapsed()
}

/// Resident memory of the server, in bytes.
fn resident(postern: &Postern) -> usize {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", postern.process.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Everything up to the end of the stream; a reset may stand there as well.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    received
}

/// RFC 9110 §15.5.9; slow heads: each byte put the deadline off, or there was none (Traefik CVE-2026-26999, H11).
#[test]
fn heads_that_drip_end_at_their_deadline_and_hold_nobody_up() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
        let mut good = open(&postern);
        let started = Instant::now();
        let mut slow: Vec<TcpStream> =
            (0..200).map(|_| TcpStream::connect(postern.address()).expect("a connection")).collect();
        for byte in b"GET /ws HT" {
            for stream in &mut slow {
                stream.write_all(&[*byte]).expect("a byte is taken");
            }
            echo(&mut good, "among slow ones");
            thread::sleep(Duration::from_millis(50));
        }
        for stream in &mut slow {
            let answer = rest(stream);
            assert!(answer.starts_with(b"HTTP/1.1 408 "), "{runtime}: {}", answer.escape_ascii());
        }
        // All of them were opened within moments, and each has a second from then on.
        let took = started.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{runtime}: {took:?}");
        echo(&mut good, "still here");
    }
}

/// tungstenite CVE-2023-43669 (H1): a head of 16 KiB in single bytes cost as much as one of a gigabyte.
#[test]
fn a_long_head_in_single_bytes_is_read_and_answered() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let request =
            Handshake::to(postern.address()).as_john().header("Cookie", &"x".repeat(15_900)).bytes();
        assert!(request.len() > 16_000 && request.len() <= 16 * 1024, "{}", request.len());
        let mut stream = TcpStream::connect(postern.address()).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        request.iter().for_each(|byte| stream.write_all(&[*byte]).expect("a byte is taken"));
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101 ", "{runtime}");
    }
}

/// github.com/0ang3el/websocket-smuggle (H6): a tunnel behind a refused upgrade.
#[test]
fn a_second_request_behind_a_refusal_gets_no_answer() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let refused =
            Handshake::to(postern.address()).as_john().instead("Sec-WebSocket-Version", "1337").bytes();
        let good = Handshake::to(postern.address()).as_john().bytes();
        let mut stream = TcpStream::connect(postern.address()).expect("a connection");
        stream.write_all(&[refused, good].concat()).expect("the requests are taken");
        let answer = String::from_utf8(rest(&mut stream)).expect("ASCII");
        assert!(answer.starts_with("HTTP/1.1 426 "), "{runtime}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{runtime}: {answer}");
    }
}

/// engine.io CVE-2022-41940, Undertow CVE-2017-2670 (H12): a reset where nobody expected one.
#[test]
fn a_reset_after_any_byte_ends_one_connection_only() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let mut other = open(&postern);
        let request = Handshake::to(postern.address()).as_john().bytes();
        let frames = [frame(0x81, b"hello"), frame(0x02, b"a"), frame(0x89, b"p"), frame(0x88, b"\x03\xe8")];
        let session = [request, frames.concat()].concat();
        for len in 0..=session.len() {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            stream.write_all(&session[..len]).expect("the bytes are taken");
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
        }
        echo(&mut other, "nobody else notices");
    }
}

/// rust-websocket CVE-2022-35922 (F2): memory for a length that was only announced.
#[test]
fn announced_lengths_cost_no_memory() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        const MANY: usize = 1000;
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| open(&postern)).collect();
        for client in &mut clients {
            echo(client, "idle then");
        }
        let before = resident(&postern);
        for client in &mut clients {
            let announced = [&[0x82, 0xff][..], &65_536u64.to_be_bytes(), &[0; 4], b"x"].concat();
            client.write_all(&announced).expect("the bytes are taken");
        }
        let mut last = open(&postern);
        echo(&mut last, "all of them have been read before this");
        let each = resident(&postern).saturating_sub(before) / MANY;
        assert!(each < 1024, "{runtime}: {each} bytes for each");
    }
}

/// ws 8.23.0, curl CVE-2026-11586 (F7): pongs piled up for who does not read them. Undertow CVE-2021-3690 (F8).
#[test]
fn pings_and_pongs_of_who_does_not_read_cost_no_memory() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_CONTROL_RATE", "0")]);
        let mut other = open(&postern);
        echo(&mut other, "before");
        let before = resident(&postern);
        let mut flood = open(&postern);
        flood.set_write_timeout(Some(Duration::from_millis(500))).expect("an option");
        let pings = frame(0x89, &[7; 125]).repeat(500);
        let pongs = frame(0x8a, &[7; 125]).repeat(500);
        for _ in 0..400 {
            match flood.write_all(&pings).and_then(|()| flood.write_all(&pongs)) {
                Ok(()) => {}
                // The server has stopped to read: it may, while its answers are not taken.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{runtime}: {error}"),
            }
        }
        echo(&mut other, "after");
        let growth = resident(&postern).saturating_sub(before);
        assert!(growth < 2 * 1024 * 1024, "{runtime}: {growth} bytes");
    }
}

/// NATS CVE-2026-27571, undici CVE-2026-1526, and nearly everyone else: 16 KiB that become 16 MiB.
#[test]
fn a_bomb_is_1009_and_costs_one_message() {
    let mut bomb = Vec::with_capacity(64 * 1024);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(&vec![0; 16 << 20], &mut bomb, FlushCompress::Sync).expect("it compresses");
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_COMPRESSION", "on")]);
        let offer = Some(("Sec-WebSocket-Extensions", "permessage-deflate"));
        let mut other = open_with(&postern, offer);
        echo(&mut other, "before");
        let before = resident(&postern);
        let mut clients: Vec<TcpStream> = (0..20).map(|_| open_with(&postern, offer)).collect();
        for client in &mut clients {
            client.write_all(&frame(0xc2, &bomb)).expect("the bomb is taken");
        }
        for client in &mut clients {
            let received = rest(client);
            assert_eq!(
                received.get(..4),
                Some(&[0x88, received.len() as u8 - 2, 0x03, 0xf1][..]),
                "{runtime}"
            );
            let _ = client.shutdown(Shutdown::Both);
        }
        echo(&mut other, "after");
        let growth = resident(&postern).saturating_sub(before);
        assert!(growth < 4 * 1024 * 1024, "{runtime}: {growth} bytes");
    }
}

/// One busy socket: a loop that reads until nothing is left serves nobody else.
#[test]
fn who_never_stops_talking_starves_nobody() {
    for runtime in Runtime::BOTH {
        // One event loop for both of them; the other runtime has no more.
        let settings = [("POSTERN_LOG_MESSAGES", "off"), ("POSTERN_WORKERS", "1")];
        let settings = if runtime == Runtime::Mio { &settings[..] } else { &settings[..1] };
        let postern = Postern::start(runtime, settings);
        let mut quiet = open(&postern);
        let talker = open(&postern);
        let (mut mouth, mut ear) = (talker.try_clone().expect("a descriptor"), talker);
        thread::scope(|scope| {
            let until = Instant::now() + Duration::from_secs(2);
            scope.spawn(move || {
                let chatter = frame(0x82, &[1; 100]).repeat(1000);
                while Instant::now() < until && mouth.write_all(&chatter).is_ok() {}
                let _ = mouth.shutdown(Shutdown::Write);
            });
            let heard = scope.spawn(move || rest(&mut ear).len());
            let mut slowest = Duration::ZERO;
            let mut echoes = 0;
            while Instant::now() < until {
                slowest = slowest.max(echo(&mut quiet, "among talkers"));
                echoes += 1;
            }
            let heard = heard.join().expect("the ear");
            assert!(heard > 10_000_000, "{runtime}: the talker was heard only {heard} bytes");
            assert!(echoes > 50, "{runtime}: {echoes} echoes, the slowest in {slowest:?}");
            assert!(slowest < Duration::from_secs(1), "{runtime}: {slowest:?}");
        });
    }
}

/// A key is somebody else's as soon as its connection is gone. Who was ended and did not mind sent on, to whoever came
/// next.
#[test]
fn what_who_is_gone_still_sends_reaches_nobody_else() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let john = Handshake::to(postern.address()).as_john();
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        let mut stream = open(&postern);
                        // A reserved opcode is 1002, and a second later nobody listens any more.
                        while stream.write_all(&[0x83; 16 * 1024]).is_ok() {}
                        let mut next = john.open();
                        next.echo("for me alone");
                    }
                });
            }
        });
    }
}
