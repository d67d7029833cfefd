//! What one connection, one user and all of them may take: each limit at its value and one past it, on both binaries.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open, Outcome};
use tungstenite::Message;

/// Settings by name and value.
type Settings<'s> = &'s [(&'s str, &'s str)];

const TEXT: u8 = 0x81;
const BEGINNING: u8 = 0x01;
const MIDDLE: u8 = 0x00;
const END: u8 = 0x80;
const PING: u8 = 0x89;

/// A client's frame of a payload of `len` bytes, with a masking key of zeros.
fn frame(first: u8, len: usize) -> Vec<u8> {
    let mut frame = match len {
        0..=125 => vec![first, 0x80 | len as u8],
        126..=0xffff => [&[first, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + len, b'a');
    frame
}

fn open(postern: &Postern) -> TcpStream {
    let Open { socket, .. } = Handshake::to(postern.address()).as_john().open();
    socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

/// Sends `bytes`, and then a Close of 1000; gives the code of the Close that comes back.
#[track_caller]
fn close_code_after(postern: &Postern, bytes: &[u8]) -> u16 {
    let mut stream = open(postern);
    stream.write_all(bytes).expect("the bytes are taken");
    // What is wrong with them is answered before this is read. If it has been, nobody reads this.
    thread::sleep(Duration::from_millis(50));
    let _ = stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the server closes in order");
    let at = received.iter().rposition(|&byte| byte == 0x88).expect("a Close frame");
    u16::from_be_bytes([received[at + 2], received[at + 3]])
}

#[test]
fn what_a_connection_may_send() {
    let fragments = |middle| {
        let middle: Vec<u8> = frame(MIDDLE, 0).repeat(middle);
        [frame(BEGINNING, 1), middle, frame(END, 1)].concat()
    };
    let rates =
        [("POSTERN_MESSAGE_RATE", "1"), ("POSTERN_MESSAGE_BURST", "100"), ("POSTERN_RATE_POLICY", "close")];
    let default_burst = [("POSTERN_MESSAGE_RATE", "50"), ("POSTERN_RATE_POLICY", "close")];
    let bytes = [("POSTERN_BYTE_RATE", "16KiB"), ("POSTERN_RATE_POLICY", "close")];
    let frames = [("POSTERN_MAX_FRAME", "1000"), ("POSTERN_MAX_MESSAGE", "2000")];
    let rows: [(Settings, Vec<u8>, Vec<u8>, u16); 8] = [
        (&[("POSTERN_MAX_MESSAGE", "1000")], frame(TEXT, 1000), frame(TEXT, 1001), 1009),
        (
            &frames,
            [frame(BEGINNING, 1000), frame(END, 1000)].concat(),
            [frame(BEGINNING, 999), frame(END, 1001)].concat(),
            1009,
        ),
        (
            &frames,
            [frame(BEGINNING, 1000), frame(MIDDLE, 1000), frame(END, 0)].concat(),
            [frame(BEGINNING, 1000), frame(MIDDLE, 1000), frame(END, 1)].concat(),
            1009,
        ),
        (&[("POSTERN_MAX_FRAGMENTS", "10")], fragments(8), fragments(9), 1008),
        // The Close that follows is one of them.
        (&[("POSTERN_CONTROL_RATE", "1")], frame(PING, 0), frame(PING, 0).repeat(3), 1008),
        (&rates, frame(TEXT, 1).repeat(100), frame(TEXT, 1).repeat(101), 4429),
        (&default_burst, frame(TEXT, 1).repeat(100), frame(TEXT, 1).repeat(120), 4429),
        // Without the 8 bytes of the Close, and with 8 of a frame's header.
        (&bytes, frame(TEXT, 16 * 1024 - 16), frame(TEXT, 16 * 1024 - 7), 4429),
    ];
    for runtime in Runtime::BOTH {
        for (settings, allowed, too_much, code) in &rows {
            let postern = Postern::start(runtime, settings);
            assert_eq!(close_code_after(&postern, allowed), 1000, "{runtime}, {settings:?}");
            assert_eq!(close_code_after(&postern, too_much), *code, "{runtime}, {settings:?}");
            // Whoever keeps to it is not disturbed.
            assert_eq!(close_code_after(&postern, allowed), 1000, "{runtime}, {settings:?}");
        }
    }
}

#[test]
fn who_talks_too_fast_waits_and_loses_nothing() {
    let pause = [("POSTERN_MESSAGE_RATE", "1"), ("POSTERN_MESSAGE_BURST", "3")];
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &pause);
        let mut other = Handshake::to(postern.address()).as_john().open();
        let mut stream = open(&postern);
        let echoes = |stream: &mut TcpStream, count: usize| {
            let mut received = vec![0; 3 * count];
            stream.read_exact(&mut received).expect("echoes");
            assert_eq!(received, b"\x81\x01a".repeat(count), "{runtime}");
        };
        // Five too many, which takes five seconds.
        stream.write_all(&frame(TEXT, 1).repeat(8)).expect("the messages are taken");
        echoes(&mut stream, 8);
        stream.write_all(&frame(TEXT, 1)).expect("the message is taken");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let early = stream.read(&mut [0; 1]);
        assert!(matches!(early, Err(error) if error.kind() == ErrorKind::WouldBlock), "{runtime}: too early");
        other.echo("not disturbed");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        echoes(&mut stream, 1);
    }
}

#[test]
fn a_user_may_have_so_many_connections() {
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_MAX_CONNECTIONS_PER_USER", "2"), ("POSTERN_WORKERS", "2")];
        let settings = &settings[..if runtime == Runtime::BOTH[0] { 2 } else { 1 }];
        let postern = Postern::start(runtime, settings);
        let john = Handshake::to(postern.address()).as_john();
        let (first, mut second) = (john.open(), john.open());
        let refused = john.refused();
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &"too_many_requests".into()));
        assert!(refused.headers.contains_key("retry-after"), "{runtime}: {refused}");
        let mut jane = Handshake::to(postern.address()).header("User-ID", "124").open();
        jane.echo("somebody else");
        second.echo("not disturbed");
        first.close();
        wait_until_admitted(&john).close();
    }
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_MAX_CONNECTIONS_PER_USER", "1"), ("POSTERN_REJECT", "close")];
        let postern = Postern::start(runtime, &settings);
        let _first = open(&postern);
        let Message::Close(Some(frame)) = Handshake::to(postern.address()).as_john().open().receive() else {
            panic!("{runtime}: a close frame with a code expected")
        };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4430, "too_many_requests"), "{runtime}");
    }
}

#[test]
fn the_oldest_connection_of_a_user_may_give_way_to_the_newest() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_MAX_CONNECTIONS_PER_USER", "2"),
            ("POSTERN_USER_POLICY", "replace"),
            // On one worker, and on several that have to tell each other.
            ("POSTERN_WORKERS", "3"),
        ];
        let settings = &settings[..if runtime == Runtime::BOTH[0] { 3 } else { 2 }];
        let mut postern = Postern::start(runtime, settings);
        let john = Handshake::to(postern.address()).as_john();
        let mut jane = Handshake::to(postern.address()).header("User-ID", "124").open();
        let mut connections = vec![john.open(), john.open()];
        for _ in 0..10 {
            connections.push(john.open());
            let mut oldest = connections.remove(0);
            let Message::Close(Some(frame)) = oldest.receive() else {
                panic!("{runtime}: a close frame with a code expected")
            };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4409, "replaced"), "{runtime}");
            while oldest.socket.read().is_ok() {}
        }
        for open in connections.iter_mut().chain([&mut jane]) {
            open.echo("not disturbed");
        }
        drop(connections);
        assert!(postern.terminate().success(), "{runtime}");
        let log = postern.log();
        let replaced =
            log.iter().filter(|line| line.contains(", code: 4409, side: server, reason: replaced, "));
        assert_eq!(replaced.count(), 10, "{runtime}: {log:#?}");
    }
}

/// The end of a connection takes a moment.
#[track_caller]
fn wait_until_admitted(handshake: &Handshake) -> Open {
    for _ in 0..200 {
        match handshake.send().expect("an answer") {
            Outcome::Open(open) => return *open,
            Outcome::Refused(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    panic!("there is room, and nobody is admitted");
}

#[test]
fn so_many_may_arrive_in_a_second() {
    for runtime in Runtime::BOTH {
        // The first is the one that waits until it listens; more may come while the second passes.
        let postern = Postern::start(runtime, &[("POSTERN_CONNECT_RATE", "3")]);
        let john = Handshake::to(postern.address()).as_john();
        let mut open = Vec::new();
        let refused = loop {
            match john.send().expect("an answer") {
                Outcome::Open(connection) => open.push(connection),
                Outcome::Refused(response) => break response,
            }
            assert!(open.len() < 1000, "{runtime}: nobody counts");
        };
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (503, &"too_fast".into()),
            "{runtime}"
        );
        assert!(open.len() >= 2, "{runtime}: {} were admitted", open.len());
        open[0].echo("not disturbed");
        wait_until_admitted(&john).close();
    }
}

#[test]
fn who_dribbles_makes_room_for_who_does_not() {
    for runtime in Runtime::BOTH {
        let settings =
            [("POSTERN_MAX_HANDSHAKES", "2"), ("POSTERN_HANDSHAKE_TIMEOUT", "1m"), ("POSTERN_WORKERS", "1")];
        let settings = &settings[..if runtime == Runtime::BOTH[0] { 3 } else { 2 }];
        let postern = Postern::start(runtime, settings);
        let mut slow = [0, 1].map(|_| {
            let mut stream = TcpStream::connect(postern.address()).expect("it listens");
            stream.write_all(b"GET /ws HTTP/1.1\r\n").expect("the bytes are taken");
            stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            stream
        });
        for stream in &mut slow {
            let answer = stream.read(&mut [0; 1]);
            assert!(
                matches!(answer, Err(error) if error.kind() == ErrorKind::WouldBlock),
                "{runtime}: two may"
            );
        }
        let mut quick = Handshake::to(postern.address()).as_john().open();
        quick.echo("admitted");
        let _third = TcpStream::connect(postern.address()).expect("it listens");
        slow[0].set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut answer = Vec::new();
        slow[0].read_to_end(&mut answer).expect("the server closes in order");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"crowded\""), "{runtime}: {answer}");
        postern.wait_for("WebSocket upgrade refused - 503");
    }
}

#[test]
fn a_message_has_its_time() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_MESSAGE_TIMEOUT", "2s")]);
        let mut slow = open(&postern);
        let mut quick = open(&postern);
        for stream in [&mut slow, &mut quick] {
            stream.write_all(&frame(BEGINNING, 1)).expect("the bytes are taken");
        }
        thread::sleep(Duration::from_millis(500));
        quick.write_all(&frame(END, 1)).expect("the bytes are taken");
        let mut echo = [0; 4];
        quick.read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo, b"\x81\x02aa", "{runtime}");
        let mut answer = Vec::new();
        slow.read_to_end(&mut answer).expect("the server closes in order");
        assert_eq!(answer[..4], [&[0x88, answer[1]][..], &1008_u16.to_be_bytes()].concat(), "{runtime}");
        // A message that is whole is not under way any more.
        thread::sleep(Duration::from_millis(2500));
        quick.write_all(&frame(TEXT, 1)).expect("the bytes are taken");
        quick.read_exact(&mut echo[..3]).expect("an echo");
    }
}

#[test]
fn all_together_may_hold_so_much() {
    // A fragment of 60,000 bytes, and a ping behind it: when the pong is here, the fragment is held.
    let held = [frame(BEGINNING, 60_000), frame(PING, 0)].concat();
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_MAX_MEMORY", "1MiB"), ("POSTERN_WORKERS", "1")];
        let postern = Postern::start(runtime, &settings);
        let mut clients: Vec<TcpStream> = (0..30).map(|_| open(&postern)).collect();
        let mut bystander = open(&postern);
        let mut hold = |client: &mut TcpStream| {
            client.write_all(&held).expect("it is read");
            let mut pong = [0; 2];
            client.read_exact(&mut pong).expect("the pong comes");
            assert_eq!(pong, [0x8a, 0], "{runtime}");
        };
        // No buffer is twice as large as what is in it.
        clients[..8].iter_mut().for_each(&mut hold);
        let ended = |client: &mut TcpStream| {
            client.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
            let mut close = [0; 14];
            let received = client.read_exact(&mut close);
            client.set_read_timeout(None).expect("no timeout");
            received.is_ok_and(|()| close == *b"\x88\x0c\x03\xf5overloaded")
        };
        assert!(!clients[..8].iter_mut().any(ended), "{runtime}: within the limit");

        clients[8..].iter_mut().for_each(&mut hold);
        let gone: Vec<bool> = clients.iter_mut().map(ended).collect();
        let kept = gone.iter().position(|gone| !gone).expect("not all");
        assert!(kept > 8, "{runtime}: {gone:?}");
        assert!(gone[kept..].iter().all(|gone| !gone), "{runtime}: who has waited longest goes: {gone:?}");
        for client in &mut clients[kept..] {
            client.write_all(&frame(END, 0)).expect("it is read");
            let mut echo = vec![0; 4 + 60_000];
            client.read_exact(&mut echo).expect("what was not ended is whole");
        }
        bystander.write_all(&frame(TEXT, 1)).expect("it is read");
        bystander.read_exact(&mut [0; 3]).expect("nobody else notices");
        postern.wait_for("code: 1013, side: server, reason: overloaded");
    }
}

#[test]
fn the_limits_of_production_are_settings_and_hold() {
    let file = postern_tests::workspace::path("deploy/production.env");
    let text = fs::read_to_string(file).expect("the file is there");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let settings: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').expect("NAME=value")).collect();
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &settings);
        let open: Vec<TcpStream> = (0..32).map(|_| open(&postern)).collect();
        let response = Handshake::to(postern.address()).as_john().refused();
        assert_eq!(response.status, 429, "{runtime}");
        drop(open);
    }
}
