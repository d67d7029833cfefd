//! Classes of vulnerabilities that other servers had, as far as sockets and a process are needed to show them, on both
//! binaries. `core/tests/vulnerabilities` has the classes that concern the core alone.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use postern_tests::frames::{self, BINARY, CLOSE, PING, PONG, TEXT, receive, server};
use postern_tests::postern::{Postern, Runtime};
use rustix::net::sockopt::set_socket_linger;

/// Sends a message and expects it back. Returns the time that this took.
#[track_caller]
fn echo(stream: &mut TcpStream, text: &str) -> Duration {
    let started = Instant::now();
    stream.write_all(&frames::client(TEXT, text.as_bytes())).expect("the message is taken");
    let expected = server(TEXT, text.as_bytes());
    assert_eq!(receive(stream, expected.len()), expected);
    started.elapsed()
}

/// Returns the resident memory of the server, in bytes.
fn resident(postern: &Postern) -> usize {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", postern.process.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Returns all bytes up to the end of the stream, which may be a reset.
fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    received
}

/// RFC 9110 §15.5.9. Each byte of a slow head postponed the deadline, or there was none (Traefik CVE-2026-26999, H11).
#[test]
fn slow_heads_end_at_their_deadline_and_do_not_delay_others() {
    for postern in Postern::both(&[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]) {
        let mut good = postern.open_stream();
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
            let answer = all(stream);
            assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
        }
        // All were opened at nearly the same time, and each has a second from then on.
        let took = started.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
        echo(&mut good, "still here");
    }
}

/// tungstenite CVE-2023-43669 (H1): a head of 16 KiB in single bytes cost as much as one of a gigabyte.
#[test]
fn long_head_in_single_bytes_is_answered() {
    for postern in Postern::both(&[]) {
        let request = postern.john().header("Cookie", &"x".repeat(15_900)).bytes();
        assert!(request.len() > 16_000 && request.len() <= 16 * 1024, "{}", request.len());
        let mut stream = TcpStream::connect(postern.address()).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        request.iter().for_each(|byte| stream.write_all(&[*byte]).expect("a byte is taken"));
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101 ");
    }
}

/// engine.io CVE-2022-41940, Undertow CVE-2017-2670 (H12): an unexpected reset.
#[test]
fn reset_after_any_byte_ends_only_its_connection() {
    for postern in Postern::both(&[]) {
        let mut other = postern.open_stream();
        let request = postern.john().bytes();
        let frames = [
            frames::client(TEXT, b"hello"),
            frames::client(0x02, b"a"),
            frames::client(PING, b"p"),
            frames::client(CLOSE, b"\x03\xe8"),
        ];
        let session = [request, frames.concat()].concat();
        for len in 0..=session.len() {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            stream.write_all(&session[..len]).expect("the bytes are taken");
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
        }
        echo(&mut other, "after the resets");
    }
}

/// rust-websocket CVE-2022-35922 (F2): memory for a length that was only announced.
#[test]
fn announced_lengths_use_no_memory() {
    for postern in Postern::both(&[]) {
        const MANY: usize = 1000;
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| postern.open_stream()).collect();
        for client in &mut clients {
            echo(client, "idle then");
        }
        let before = resident(&postern);
        for client in &mut clients {
            let announced = [&[0x82, 0xff][..], &65_536u64.to_be_bytes(), &[0; 4], b"x"].concat();
            client.write_all(&announced).expect("the bytes are taken");
        }
        let mut last = postern.open_stream();
        echo(&mut last, "all of them have been read before this");
        let each = resident(&postern).saturating_sub(before) / MANY;
        assert!(each < 1024, "{each} bytes for each");
    }
}

/// ws 8.23.0, curl CVE-2026-11586 (F7): pongs accumulated for a client that did not read. Undertow CVE-2021-3690 (F8).
#[test]
fn pings_and_pongs_of_a_client_that_does_not_read_use_no_memory() {
    for postern in Postern::both(&[("POSTERN_CONTROL_RATE", "0")]) {
        let mut other = postern.open_stream();
        echo(&mut other, "before");
        let before = resident(&postern);
        let mut flood = postern.open_stream();
        flood.set_write_timeout(Some(Duration::from_millis(500))).expect("an option");
        let pings = frames::client(PING, &[7; 125]).repeat(500);
        let pongs = frames::client(PONG, &[7; 125]).repeat(500);
        for _ in 0..400 {
            match flood.write_all(&pings).and_then(|()| flood.write_all(&pongs)) {
                Ok(()) => {}
                // The server may stop reading while the client does not read its answers.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
        }
        echo(&mut other, "after");
        let growth = resident(&postern).saturating_sub(before);
        assert!(growth < 2 * 1024 * 1024, "{growth} bytes");
    }
}

/// NATS CVE-2026-27571, undici CVE-2026-1526 and others: 16 KiB that become 16 MiB.
#[test]
fn compression_bomb_is_1009_and_uses_the_memory_of_one_message() {
    let mut bomb = Vec::with_capacity(64 * 1024);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(&vec![0; 16 << 20], &mut bomb, FlushCompress::Sync).expect("it compresses");
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    for postern in Postern::both(&[("POSTERN_COMPRESSION", "on")]) {
        let compressed =
            || postern.john().header("Sec-WebSocket-Extensions", "permessage-deflate").open().into_stream();
        let mut other = compressed();
        echo(&mut other, "before");
        let before = resident(&postern);
        let mut clients: Vec<TcpStream> = (0..20).map(|_| compressed()).collect();
        for client in &mut clients {
            client.write_all(&frames::client(0xc2, &bomb)).expect("the bomb is taken");
        }
        for client in &mut clients {
            let received = all(client);
            assert_eq!(received.get(..4), Some(&[0x88, received.len() as u8 - 2, 0x03, 0xf1][..]));
            let _ = client.shutdown(Shutdown::Both);
        }
        echo(&mut other, "after");
        let growth = resident(&postern).saturating_sub(before);
        assert!(growth < 4 * 1024 * 1024, "{growth} bytes");
    }
}

/// A loop that reads one busy socket until it is empty does not serve others.
#[test]
fn busy_client_does_not_delay_others() {
    for runtime in Runtime::BOTH {
        // One event loop for both connections. The other runtime has only one.
        let settings = [("POSTERN_LOG_MESSAGES", "off"), ("POSTERN_WORKERS", "1")];
        let settings = if runtime == Runtime::Mio { &settings[..] } else { &settings[..1] };
        let postern = Postern::start(runtime, settings);
        let mut quiet = postern.open_stream();
        let talker = postern.open_stream();
        let (mut mouth, mut ear) = (talker.try_clone().expect("a descriptor"), talker);
        thread::scope(|scope| {
            let until = Instant::now() + Duration::from_secs(2);
            scope.spawn(move || {
                let chatter = frames::client(BINARY, &[1; 100]).repeat(1000);
                while Instant::now() < until && mouth.write_all(&chatter).is_ok() {}
                let _ = mouth.shutdown(Shutdown::Write);
            });
            let heard = scope.spawn(move || all(&mut ear).len());
            let mut slowest = Duration::ZERO;
            let mut echoes = 0;
            while Instant::now() < until {
                slowest = slowest.max(echo(&mut quiet, "among talkers"));
                echoes += 1;
            }
            let heard = heard.join().expect("the echoes");
            assert!(heard > 10_000_000, "{runtime}: the busy client got only {heard} bytes");
            assert!(echoes > 50, "{runtime}: {echoes} echoes, the slowest in {slowest:?}");
            assert!(slowest < Duration::from_secs(1), "{runtime}: {slowest:?}");
        });
    }
}

/// A key is reused when its connection has been removed. Bytes that a client sends after the end of its connection must
/// not reach the next one.
#[test]
fn bytes_after_the_end_of_a_connection_do_not_reach_the_next() {
    for postern in Postern::both(&[]) {
        let john = postern.john();
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        let mut stream = postern.open_stream();
                        // A reserved opcode is 1002, and the socket is closed a second later.
                        while stream.write_all(&[0x83; 16 * 1024]).is_ok() {}
                        let mut next = john.open();
                        next.echo("for me alone");
                    }
                });
            }
        });
    }
}
