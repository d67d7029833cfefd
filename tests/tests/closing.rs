//! The end of a connection, on both binaries and to the byte: a Close of either side and of both at once, messages around a
//! Close, ends without one, resets, and the end of the socket.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::frames::{BINARY, CLOSE, PING, PONG, TEXT, client as frame, close, receive, rest, server};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::wait_until;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

#[track_caller]
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the bytes are taken");
}

/// Checks that `expected` arrives, and then the end of the stream and no reset.
#[track_caller]
fn check_last_words(stream: &mut TcpStream, expected: &[u8], what: &str) {
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    if received != expected {
        let show = |bytes: &[u8]| bytes[bytes.len().saturating_sub(200)..].escape_ascii().to_string();
        let (got, wanted) = (received.len(), expected.len());
        panic!("{what}: {got} bytes, {}\nnot {wanted}, {}", show(&received), show(expected));
    }
    end.unwrap_or_else(|error| panic!("{what}: the end of the stream is expected, not: {error}"));
}

/// Sends a unique message and expects it back.
#[track_caller]
fn check_alive(stream: &mut TcpStream, what: &str) {
    send(stream, &frame(TEXT, what.as_bytes()));
    let expected = server(TEXT, what.as_bytes());
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(received, expected, "{what}");
}

/// Closes by a reset.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
}

#[test]
fn both_sides_close_at_the_same_time_and_each_gets_one_close() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[]);
        let ours = server(CLOSE, &close(1012, "service restart"));
        let echoed = server(CLOSE, &close(3000, ""));
        let mut clients: Vec<_> = (0..20).map(|_| postern.open_stream()).collect();
        let (early, late) = clients.split_at_mut(10);
        // Half of them just before the signal, so that either side may be first.
        early.iter_mut().for_each(|client| send(client, &frame(CLOSE, &close(3000, "mine"))));
        postern.process.signal(Signal::TERM).expect("a signal");
        // The other half after the server's Close has arrived, but before they have read it.
        for client in late.iter_mut() {
            client.peek(&mut [0]).expect("bytes have arrived");
            send(client, &frame(CLOSE, &close(3000, "mine")));
        }
        for client in early {
            let received = rest(client);
            assert!([&ours, &echoed].contains(&&received), "{runtime}: {}", received.escape_ascii());
        }
        late.iter_mut().for_each(|client| check_last_words(client, &ours, &format!("{runtime}")));
        let status = postern.process.wait(Duration::from_secs(3)).expect("all connections have ended");
        assert!(status.success(), "{runtime}: {status}");
        assert_eq!(postern.count("closed for user"), 20, "{runtime}");
    }
}

#[test]
fn messages_before_a_close_are_answered_before_it() {
    for postern in Postern::both(&[]) {
        let frames = [
            frame(TEXT, b"first"),
            frame(PING, b"p"),
            frame(0x02, b"in "),
            frame(0x80, b"parts"),
            frame(CLOSE, &close(1000, "that was all")),
        ];
        let expected = [
            server(TEXT, b"first"),
            server(PONG, b"p"),
            server(BINARY, b"in parts"),
            server(CLOSE, &close(1000, "")),
        ]
        .concat();
        let mut stream = postern.open_stream();
        send(&mut stream, &frames.concat());
        check_last_words(&mut stream, &expected, "in one piece");
        let mut stream = postern.open_stream();
        for frame in &frames {
            send(&mut stream, frame);
            thread::sleep(Duration::from_millis(2));
        }
        check_last_words(&mut stream, &expected, "frame by frame");
        let mut stream = TcpStream::connect(postern.address()).expect("a connection");
        let head = postern.john().bytes();
        send(&mut stream, &[head, frames.concat()].concat());
        let received = rest(&mut stream);
        assert!(received.starts_with(b"HTTP/1.1 101 "), "{}", received.escape_ascii());
        let at = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(received[at..], expected, "with the request");
    }
}

#[test]
fn backlog_is_sent_before_the_close() {
    for postern in Postern::both(&[("POSTERN_LOG_MESSAGES", "off")]) {
        // More than the kernel's buffers of both sides and Postern's limits together.
        let messages: Vec<_> = (0..200u8).map(|number| vec![number; 60_000]).collect();
        let expected = messages.iter().map(|message| server(BINARY, message)).collect::<Vec<_>>().concat();
        for (end, last_words) in [
            (Some(frame(CLOSE, &close(1000, "bye"))), server(CLOSE, &close(1000, ""))),
            (Some(frame(CLOSE, b"")), server(CLOSE, b"")),
            (Some(frame(0x83, b"")), server(CLOSE, &close(1002, "reserved opcode"))),
            // The client ends its side without a Close, and so does Postern.
            (None, vec![]),
        ] {
            let mut stream = postern.open_stream();
            let mut writer = stream.try_clone().expect("a second descriptor");
            let frames: Vec<_> = messages.iter().map(|message| frame(BINARY, message)).collect();
            let sender = thread::spawn(move || {
                frames.iter().for_each(|frame| send(&mut writer, frame));
                match end {
                    Some(end) => send(&mut writer, &end),
                    None => writer.shutdown(Shutdown::Write).expect("a half-closed socket"),
                }
            });
            thread::sleep(Duration::from_millis(100));
            let expected = [&expected[..], &last_words].concat();
            check_last_words(&mut stream, &expected, &format!("{}", last_words.escape_ascii()));
            sender.join().expect("all was sent");
        }
    }
}

#[test]
fn bytes_after_a_close_are_ignored() {
    for postern in Postern::both(&[]) {
        let valid = frame(CLOSE, &close(1000, ""));
        let echoed = server(CLOSE, &close(1000, ""));
        for (what, after) in [
            ("a message", frame(TEXT, b"too late")),
            ("a ping", frame(PING, b"too late")),
            ("another Close", frame(CLOSE, &close(1001, ""))),
            ("an invalid Close", frame(CLOSE, b"\x03")),
            ("no frame", b"\xff\xff\xff\xff".to_vec()),
            ("part of a frame", b"\x81\xfe\x10".to_vec()),
            ("a request", b"GET /ws HTTP/1.1\r\n\r\n".to_vec()),
        ] {
            let mut stream = postern.open_stream();
            send(&mut stream, &[&valid[..], &after].concat());
            check_last_words(&mut stream, &echoed, what);
        }
        // The same after Postern's own Close for an error.
        let failed = [frame(TEXT, b"\xff"), frame(TEXT, b"too late"), valid.clone()].concat();
        let mut stream = postern.open_stream();
        send(&mut stream, &failed);
        let expected = server(CLOSE, &close(1007, "invalid UTF-8"));
        check_last_words(&mut stream, &expected, "a message after an error");
        // An unfinished message is not a message.
        let mut stream = postern.open_stream();
        send(&mut stream, &[frame(0x01, b"unfinished"), valid, frame(0x80, b"")].concat());
        check_last_words(&mut stream, &echoed, "the rest of a message");
        let mut witness = postern.open_stream();
        check_alive(&mut witness, "witness");
        postern.wait_for("Message from John Doe (123): witness");
        assert_eq!(postern.count("Message from"), 1);
    }
}

#[test]
fn all_messages_are_answered_when_the_client_ends_its_side() {
    for postern in Postern::both(&[]) {
        for (what, bytes, expected) in [
            ("nothing", vec![], vec![]),
            ("a message", frame(TEXT, b"last words"), server(TEXT, b"last words")),
            ("messages", frame(BINARY, &[7; 300]).repeat(9), server(BINARY, &[7; 300]).repeat(9)),
            ("a ping", frame(PING, b"p"), server(PONG, b"p")),
            ("half a message", [frame(TEXT, b"a"), frame(0x01, b"b")].concat(), server(TEXT, b"a")),
            ("half a frame", [&frame(TEXT, b"a")[..], b"\x81\x85\0\0"].concat(), server(TEXT, b"a")),
            ("one byte", b"\x81".to_vec(), vec![]),
            ("a Close", frame(CLOSE, &close(4000, "")), server(CLOSE, &close(4000, ""))),
            ("an error", b"\xff".to_vec(), server(CLOSE, &close(1002, "reserved bits"))),
        ] {
            let mut stream = postern.open_stream();
            let started = Instant::now();
            send(&mut stream, &bytes);
            stream.shutdown(Shutdown::Write).expect("a half-closed socket");
            check_last_words(&mut stream, &expected, what);
            assert!(started.elapsed() < Duration::from_secs(1), "{what}: {:?}", started.elapsed());
        }
        // Before the 101 there is no answer.
        let head = postern.john().bytes();
        for len in [0, 1, head.len() / 2, head.len() - 1] {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            send(&mut stream, &head[..len]);
            stream.shutdown(Shutdown::Write).expect("a half-closed socket");
            check_last_words(&mut stream, b"", &format!("{len} bytes of the request"));
        }
    }
}

#[test]
fn reset_in_any_state_ends_only_its_connection() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_WORKERS", "1"), ("POSTERN_LOG_MESSAGES", "off")]);
        let mut bystander = postern.open_stream();
        let head = postern.john().bytes();
        for len in [0, 1, head.len() - 1, head.len()] {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            send(&mut stream, &head[..len]);
            reset(stream);
            check_alive(&mut bystander, &format!("after a reset {len} bytes into the request"));
        }
        let states: [(&str, Vec<u8>); 9] = [
            ("idle", vec![]),
            ("in a header", b"\x81".to_vec()),
            ("in a frame", b"\x81\x85\0\0\0\0he".to_vec()),
            ("in a control frame", b"\x89\x85\0\0\0\0he".to_vec()),
            ("in a message", frame(0x01, b"hel")),
            ("with an answer under way", frame(BINARY, &[7; 60_000])),
            ("in a Close", b"\x88\x82\0\0".to_vec()),
            ("after its Close", frame(CLOSE, b"\x03\xe8")),
            ("after an error, before its end", b"\xff\xff".to_vec()),
        ];
        for pause in [Duration::ZERO, Duration::from_millis(20)] {
            for (what, bytes) in &states {
                let mut stream = postern.open_stream();
                send(&mut stream, bytes);
                thread::sleep(pause);
                reset(stream);
                check_alive(&mut bystander, &format!("after a reset {what}"));
            }
        }
        // A client that does not read, with a backlog and while reading is paused.
        let mut deaf = postern.open_stream();
        deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let message = frame(BINARY, &vec![7; 60_000]);
        while deaf.write_all(&message).is_ok() {}
        reset(deaf);
        check_alive(&mut bystander, "after a reset with a backlog");
        // A socket of which either side is closed.
        let mut half = postern.open_stream();
        half.shutdown(Shutdown::Write).expect("a half-closed socket");
        check_last_words(&mut half, b"", "the end of both sides");
        reset(half);
        check_alive(&mut bystander, "after a reset of what was ended");
        send(&mut bystander, &frame(CLOSE, b""));
        check_last_words(&mut bystander, b"\x88\x00", &format!("{runtime}"));
        // The end of each connection is logged.
        wait_until("all ends are logged", || {
            postern.count("closed for user") == postern.count("established")
        });
        // The bystander, the clients in 18 states, the deaf one, the half-closed one, and perhaps the one whose request
        // was complete when it was reset.
        let count = postern.count("established");
        assert!((21..=22).contains(&count), "{runtime}: {count}");
    }
}

#[test]
fn socket_is_closed_within_a_second_after_both_closes() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[]);
        for payload in [&b""[..], &close(1000, ""), &close(4999, "reason")] {
            let mut stream = postern.open_stream();
            let started = Instant::now();
            send(&mut stream, &frame(CLOSE, payload));
            let expected = server(CLOSE, &payload[..payload.len().min(2)]);
            check_last_words(&mut stream, &expected, &format!("{runtime}"));
            assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {:?}", started.elapsed());
            // Postern closed the last open side, so the socket does not exist any more.
            thread::sleep(Duration::from_millis(20));
            let mut write = || stream.write_all(&frame(PING, b"")).map(|()| thread::sleep(SOON));
            assert!((0..3).any(|_| write().is_err()), "{runtime}: the socket is still there");
        }
        // After an error, Postern waits for a second for a client that does not end its side.
        let mut stream = postern.open_stream();
        send(&mut stream, b"\xff\xff");
        check_last_words(&mut stream, &server(CLOSE, &close(1002, "reserved bits")), &format!("{runtime}"));
        thread::sleep(Duration::from_millis(1500));
        let mut write = || stream.write_all(b"x").map(|()| thread::sleep(SOON));
        assert!((0..3).any(|_| write().is_err()), "{runtime}: the socket is still there after an error");
        // A Close that the server began, while a client that does not answer keeps the process running.
        let mut deaf = postern.open_stream();
        let mut stream = postern.open_stream();
        let restart = server(CLOSE, &close(1012, "service restart"));
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(receive(&mut stream, restart.len()), restart, "{runtime}");
        let started = Instant::now();
        send(&mut stream, &frame(CLOSE, &close(1012, "")));
        check_last_words(&mut stream, b"", &format!("{runtime}: nothing follows the answer"));
        assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {:?}", started.elapsed());
        assert!(postern.process.try_wait().expect("its status").is_none(), "{runtime}: a connection is left");
        assert_eq!(receive(&mut deaf, restart.len()), restart, "{runtime}");
        // An invalid answer ends the connection, too.
        send(&mut deaf, &frame(CLOSE, b"\x03"));
        check_last_words(&mut deaf, b"", &format!("{runtime}: no second Close for a wrong answer"));
        let status = postern.process.wait(Duration::from_secs(3)).expect("it ends with the last");
        assert!(status.success(), "{runtime}: {status}");
    }
}

/// Long enough for a reset to arrive over the loopback.
const SOON: Duration = Duration::from_millis(20);

#[test]
fn close_after_an_error_arrives_without_a_reset() {
    for postern in Postern::both(&[]) {
        for (what, error, expected) in [
            ("reserved bits", b"\xff\xff".to_vec(), close(1002, "reserved bits")),
            ("no mask", b"\x81\x01x".to_vec(), close(1002, "frame not masked")),
            ("not UTF-8", frame(TEXT, b"\xff"), close(1007, "invalid UTF-8")),
            ("too big", frame(BINARY, &vec![0; 65_537])[..14].to_vec(), close(1009, "message too big")),
            ("pings", frame(PING, b"").repeat(41), close(1008, "too many control frames")),
        ] {
            let pongs = if what == "pings" { server(PONG, b"").repeat(40) } else { vec![] };
            let expected = [pongs, server(CLOSE, &expected)].concat();
            // At once; followed by two megabytes, so that bytes are always in transit; and read late.
            for (more, pause) in [(0, 0), (2 << 20, 0), (2 << 20, 300)] {
                let mut stream = postern.open_stream();
                send(&mut stream, &[&error[..], &vec![0; more]].concat());
                thread::sleep(Duration::from_millis(pause));
                let name = format!("{what}, followed by {more} bytes, read after {pause} ms");
                check_last_words(&mut stream, &expected, &name);
                // Postern has ended its side, and still reads until the client ends its own.
                send(&mut stream, &frame(CLOSE, &close(1002, "")));
                stream.shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        // The same for refusals of the handshake.
        for more in [0, 2 << 20] {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            let head = postern.handshake().bytes();
            send(&mut stream, &[head, vec![b'x'; more]].concat());
            let received = rest(&mut stream);
            assert!(received.starts_with(b"HTTP/1.1 401 "), "{}", received.escape_ascii());
            let at = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
            let (head, body) = (String::from_utf8_lossy(&received[..at]), &received[at..]);
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        }
    }
}
