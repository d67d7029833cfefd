//! How a connection ends, on both binaries and to the byte: closes of either side, and of both at once; what stands
//! around them; ends without a Close, in order and by reset; and when the socket is gone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

/// A client's frame: its first byte, the shortest length, a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut bytes = answer(first, payload);
    bytes[1] |= 0x80;
    let at = bytes.len() - payload.len();
    for (byte, key) in bytes[at..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    bytes.splice(at..at, mask);
    bytes
}

/// The frame of a server that says the same.
fn answer(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let header = match len {
        0..=125 => vec![first, len as u8],
        126..=0xffff => [&[first, 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    [&header, payload].concat()
}

/// The payload of a Close.
fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A connection of John Doe, open, as a bare socket.
#[track_caller]
fn open(postern: &Postern) -> TcpStream {
    let Open { socket, .. } = Handshake::to(postern.address()).as_john().open();
    socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

#[track_caller]
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the bytes are taken");
}

/// Checks that `expected` comes, and then the end of the stream and no reset.
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

/// Sends a message of its own and expects it back.
#[track_caller]
fn check_alive(stream: &mut TcpStream, what: &str) {
    send(stream, &frame(TEXT, what.as_bytes()));
    let expected = answer(TEXT, what.as_bytes());
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(received, expected, "{what}");
}

/// The next `len` bytes.
#[track_caller]
fn receive(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut received = vec![0; len];
    stream.read_exact(&mut received).expect("bytes");
    received
}

/// Closes by a reset, whatever is under way.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
}

#[test]
fn both_sides_close_at_once_and_each_gets_one_close() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[]);
        let ours = answer(CLOSE, &close(1012, "service restart"));
        let echoed = answer(CLOSE, &close(3000, ""));
        let mut clients: Vec<_> = (0..20).map(|_| open(&postern)).collect();
        let (early, late) = clients.split_at_mut(10);
        // Half of them just before the signal, so that each may be first.
        early.iter_mut().for_each(|client| send(client, &frame(CLOSE, &close(3000, "mine"))));
        postern.process.signal(Signal::TERM).expect("a signal");
        // The other half when the server's has come, which they do not read before: theirs are no answers.
        for client in late.iter_mut() {
            client.peek(&mut [0]).expect("something has come");
            send(client, &frame(CLOSE, &close(3000, "mine")));
        }
        for client in early {
            let mut received = Vec::new();
            client.read_to_end(&mut received).expect("the end, and no reset");
            assert!([&ours, &echoed].contains(&&received), "{runtime}: {}", received.escape_ascii());
        }
        late.iter_mut().for_each(|client| check_last_words(client, &ours, &format!("{runtime}")));
        let status = postern.process.wait(Duration::from_secs(3)).expect("nobody is waited for");
        assert!(status.success(), "{runtime}: {status}");
        let log = postern.log();
        assert_eq!(log.iter().filter(|line| line.contains("closed for user")).count(), 20, "{log:?}");
    }
}

#[test]
fn what_comes_before_a_close_is_answered_before_it() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let frames = [
            frame(TEXT, b"first"),
            frame(PING, b"p"),
            frame(0x02, b"in "),
            frame(0x80, b"parts"),
            frame(CLOSE, &close(1000, "that was all")),
        ];
        let expected = [
            answer(TEXT, b"first"),
            answer(PONG, b"p"),
            answer(BINARY, b"in parts"),
            answer(CLOSE, &close(1000, "")),
        ]
        .concat();
        let mut stream = open(&postern);
        send(&mut stream, &frames.concat());
        check_last_words(&mut stream, &expected, &format!("{runtime}: in one piece"));
        let mut stream = open(&postern);
        for frame in &frames {
            send(&mut stream, frame);
            thread::sleep(Duration::from_millis(2));
        }
        check_last_words(&mut stream, &expected, &format!("{runtime}: frame by frame"));
        let mut stream = TcpStream::connect(postern.address()).expect("a connection");
        let head = Handshake::to(postern.address()).as_john().bytes();
        send(&mut stream, &[head, frames.concat()].concat());
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the end, and no reset");
        assert!(received.starts_with(b"HTTP/1.1 101 "), "{runtime}: {}", received.escape_ascii());
        let at = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(received[at..], expected, "{runtime}: with the request");
    }
}

#[test]
fn a_backlog_is_sent_before_the_close_that_answers() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_LOG_MESSAGES", "off")]);
        // More than the kernel's buffers of both sides and our limits together.
        let messages: Vec<_> = (0..200u8).map(|number| vec![number; 60_000]).collect();
        let expected = messages.iter().map(|message| answer(BINARY, message)).collect::<Vec<_>>().concat();
        for (end, last_words) in [
            (Some(frame(CLOSE, &close(1000, "bye"))), answer(CLOSE, &close(1000, ""))),
            (Some(frame(CLOSE, b"")), answer(CLOSE, b"")),
            (Some(frame(0x83, b"")), answer(CLOSE, &close(1002, "reserved opcode"))),
            // The client ends its side without a word, and so do we.
            (None, vec![]),
        ] {
            let mut stream = open(&postern);
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
            check_last_words(&mut stream, &expected, &format!("{runtime}: {}", last_words.escape_ascii()));
            sender.join().expect("all was sent");
        }
    }
}

#[test]
fn what_comes_after_a_close_is_ignored() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let valid = frame(CLOSE, &close(1000, ""));
        let echoed = answer(CLOSE, &close(1000, ""));
        for (what, after) in [
            ("a message", frame(TEXT, b"too late")),
            ("a ping", frame(PING, b"too late")),
            ("another Close", frame(CLOSE, &close(1001, ""))),
            ("an invalid Close", frame(CLOSE, b"\x03")),
            ("no frame", b"\xff\xff\xff\xff".to_vec()),
            ("part of a frame", b"\x81\xfe\x10".to_vec()),
            ("a request", b"GET /ws HTTP/1.1\r\n\r\n".to_vec()),
        ] {
            let mut stream = open(&postern);
            send(&mut stream, &[&valid[..], &after].concat());
            check_last_words(&mut stream, &echoed, &format!("{runtime}: {what}"));
        }
        // Behind our own Close, after an error, as well.
        let failed = [frame(TEXT, b"\xff"), frame(TEXT, b"too late"), valid.clone()].concat();
        let mut stream = open(&postern);
        send(&mut stream, &failed);
        let expected = answer(CLOSE, &close(1007, "invalid UTF-8"));
        check_last_words(&mut stream, &expected, &format!("{runtime}: a message after an error"));
        // A message that is not finished is none, and is not missed.
        let mut stream = open(&postern);
        send(&mut stream, &[frame(0x01, b"unfinished"), valid, frame(0x80, b"")].concat());
        check_last_words(&mut stream, &echoed, &format!("{runtime}: the rest of a message"));
        let mut witness = open(&postern);
        check_alive(&mut witness, "witness");
        postern.wait_for("Message from John Doe (123): witness");
        let log = postern.log();
        assert_eq!(log.iter().filter(|line| line.contains("Message from")).count(), 1, "{runtime}: {log:?}");
    }
}

#[test]
fn a_close_is_echoed_or_told_what_is_wrong_with_it() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let check = |payload: &[u8], expected: &[u8]| {
            let mut stream = open(&postern);
            send(&mut stream, &frame(CLOSE, payload));
            let what = format!("{runtime}: {}", payload.escape_ascii());
            check_last_words(&mut stream, &answer(CLOSE, expected), &what);
        };
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
            check(&close(code, "whatever"), &close(code, ""));
        }
        check(b"", b"");
        check(&close(1000, &"é".repeat(61)), &close(1000, ""));
        check(&close(1000, &"x".repeat(123)), &close(1000, ""));
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535] {
            check(&close(code, "whatever"), &close(1002, "invalid close code"));
        }
        check(b"\x03", &close(1002, "close payload of one byte"));
        for reason in [&b"\xff"[..], b"\xed\xa0\x80", b"cut \xe2\x82", b"\xc0\xaf"] {
            check(&[&close(1000, ""), reason].concat(), &close(1007, "invalid UTF-8"));
        }
        // The code is looked at first.
        check(b"\x03\xed\xff", &close(1002, "invalid close code"));
        check(&close(1000, &"x".repeat(124)), &close(1002, "control frame too long"));
        let mut fragment = open(&postern);
        send(&mut fragment, &frame(0x08, &close(1000, "")));
        let expected = answer(CLOSE, &close(1002, "fragmented control frame"));
        check_last_words(&mut fragment, &expected, &format!("{runtime}: a Close in fragments"));
    }
}

#[test]
fn the_end_of_the_clients_side_comes_after_what_it_has_sent() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        for (what, bytes, expected) in [
            ("nothing", vec![], vec![]),
            ("a message", frame(TEXT, b"last words"), answer(TEXT, b"last words")),
            ("messages", frame(BINARY, &[7; 300]).repeat(9), answer(BINARY, &[7; 300]).repeat(9)),
            ("a ping", frame(PING, b"p"), answer(PONG, b"p")),
            ("half a message", [frame(TEXT, b"a"), frame(0x01, b"b")].concat(), answer(TEXT, b"a")),
            ("half a frame", [&frame(TEXT, b"a")[..], b"\x81\x85\0\0"].concat(), answer(TEXT, b"a")),
            ("one byte", b"\x81".to_vec(), vec![]),
            ("a Close", frame(CLOSE, &close(4000, "")), answer(CLOSE, &close(4000, ""))),
            ("an error", b"\xff".to_vec(), answer(CLOSE, &close(1002, "reserved bits"))),
        ] {
            let mut stream = open(&postern);
            let started = Instant::now();
            send(&mut stream, &bytes);
            stream.shutdown(Shutdown::Write).expect("a half-closed socket");
            check_last_words(&mut stream, &expected, &format!("{runtime}: {what}"));
            assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {what}: {:?}", started.elapsed());
        }
        // Before the 101 there is nothing to be said.
        let head = Handshake::to(postern.address()).as_john().bytes();
        for len in [0, 1, head.len() / 2, head.len() - 1] {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            send(&mut stream, &head[..len]);
            stream.shutdown(Shutdown::Write).expect("a half-closed socket");
            check_last_words(&mut stream, b"", &format!("{runtime}: {len} bytes of the request"));
        }
    }
}

#[test]
fn a_reset_in_any_state_ends_one_connection_only() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_WORKERS", "1"), ("POSTERN_LOG_MESSAGES", "off")]);
        let mut bystander = open(&postern);
        let head = Handshake::to(postern.address()).as_john().bytes();
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
            ("after an error, while we wait for its end", b"\xff\xff".to_vec()),
        ];
        for pause in [Duration::ZERO, Duration::from_millis(20)] {
            for (what, bytes) in &states {
                let mut stream = open(&postern);
                send(&mut stream, bytes);
                thread::sleep(pause);
                reset(stream);
                check_alive(&mut bystander, &format!("after a reset {what}"));
            }
        }
        // One that takes nothing, with a backlog, and while reading is paused.
        let mut deaf = open(&postern);
        deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let message = frame(BINARY, &vec![7; 60_000]);
        while deaf.write_all(&message).is_ok() {}
        reset(deaf);
        check_alive(&mut bystander, "after a reset with a backlog");
        // And of a socket that has been half closed, by either side.
        let mut half = open(&postern);
        half.shutdown(Shutdown::Write).expect("a half-closed socket");
        check_last_words(&mut half, b"", "the end of both sides");
        reset(half);
        check_alive(&mut bystander, "after a reset of what was ended");
        send(&mut bystander, &frame(CLOSE, b""));
        check_last_words(&mut bystander, b"\x88\x00", &format!("{runtime}"));
        // Each of them has ended, and is accounted for.
        let deadline = Instant::now() + Duration::from_secs(5);
        let ended = |what: &str| postern.log().iter().filter(|line| line.contains(what)).count();
        while ended("closed for user") < ended("established") && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ended("closed for user"), ended("established"), "{runtime}");
        // The bystander, those in 18 states, the deaf one, the half-closed one, and perhaps the one whose request was
        // whole when it was reset.
        assert!((21..=22).contains(&ended("established")), "{runtime}: {}", ended("established"));
    }
}

#[test]
fn the_socket_is_gone_within_a_second_after_a_finished_close() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[]);
        for payload in [&b""[..], &close(1000, ""), &close(4999, "reason")] {
            let mut stream = open(&postern);
            let started = Instant::now();
            send(&mut stream, &frame(CLOSE, payload));
            let expected = answer(CLOSE, &payload[..payload.len().min(2)]);
            check_last_words(&mut stream, &expected, &format!("{runtime}"));
            assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {:?}", started.elapsed());
            // Ours was the last side that was open: what is sent now meets no socket.
            thread::sleep(Duration::from_millis(20));
            let mut write = || stream.write_all(&frame(PING, b"")).map(|()| thread::sleep(SOON));
            assert!((0..3).any(|_| write().is_err()), "{runtime}: the socket is still there");
        }
        // A close that the server began, while one that does not answer keeps the process up.
        let mut deaf = open(&postern);
        let mut stream = open(&postern);
        let restart = answer(CLOSE, &close(1012, "service restart"));
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(receive(&mut stream, restart.len()), restart, "{runtime}");
        let started = Instant::now();
        send(&mut stream, &frame(CLOSE, &close(1012, "")));
        check_last_words(&mut stream, b"", &format!("{runtime}: nothing follows the answer"));
        assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {:?}", started.elapsed());
        assert!(postern.process.try_wait().expect("its status").is_none(), "{runtime}: one is left");
        assert_eq!(receive(&mut deaf, restart.len()), restart, "{runtime}");
        // An answer with another code, or with none, or an invalid one, ends it too.
        send(&mut deaf, &frame(CLOSE, b"\x03"));
        check_last_words(&mut deaf, b"", &format!("{runtime}: no second Close for a wrong answer"));
        let status = postern.process.wait(Duration::from_secs(3)).expect("it ends with the last");
        assert!(status.success(), "{runtime}: {status}");
    }
}

/// Long enough for a reset to come back over the loopback.
const SOON: Duration = Duration::from_millis(20);

#[test]
fn after_an_error_the_close_arrives_and_not_a_reset() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        for (what, error, expected) in [
            ("reserved bits", b"\xff\xff".to_vec(), close(1002, "reserved bits")),
            ("no mask", b"\x81\x01x".to_vec(), close(1002, "frame not masked")),
            ("not UTF-8", frame(TEXT, b"\xff"), close(1007, "invalid UTF-8")),
            ("too big", frame(BINARY, &vec![0; 65_537])[..14].to_vec(), close(1009, "message too big")),
            ("pings", frame(PING, b"").repeat(41), close(1008, "too many control frames")),
        ] {
            let pongs = if what == "pings" { answer(PONG, b"").repeat(40) } else { vec![] };
            let expected = [pongs, answer(CLOSE, &expected)].concat();
            // At once; with two megabytes behind it, so that some are always under way; and read late.
            for (more, pause) in [(0, 0), (2 << 20, 0), (2 << 20, 300)] {
                let mut stream = open(&postern);
                send(&mut stream, &[&error[..], &vec![0; more]].concat());
                thread::sleep(Duration::from_millis(pause));
                let name = format!("{runtime}: {what}, {more} bytes behind it, read after {pause} ms");
                check_last_words(&mut stream, &expected, &name);
                // We have ended our side, and still take what it sends, until it ends its own.
                send(&mut stream, &frame(CLOSE, &close(1002, "")));
                stream.shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        // Refusals of the handshake likewise.
        for more in [0, 2 << 20] {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            let head = Handshake::to(postern.address()).bytes();
            send(&mut stream, &[head, vec![b'x'; more]].concat());
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("the end, and no reset");
            assert!(received.starts_with(b"HTTP/1.1 401 "), "{runtime}: {}", received.escape_ascii());
            let at = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
            let (head, body) = (String::from_utf8_lossy(&received[..at]), &received[at..]);
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{runtime}: {head}");
        }
    }
}
