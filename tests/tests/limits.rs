//! Limits of a connection, of a user and of the process: each at its value and one above it, on both binaries.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use postern_tests::frames::{
    CLOSE, FIRST, LAST, MIDDLE, PING, PONG, TEXT, client, close, close_code, receive, rest, server,
};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::settings_in;
use postern_tests::ws::Outcome;

/// Settings by name and value.
type Settings<'s> = &'s [(&'s str, &'s str)];

/// Returns a client's frame with a payload of `len` bytes.
fn frame(first: u8, len: usize) -> Vec<u8> {
    client(first, &vec![b'a'; len])
}

/// Sends `bytes` and then a Close of 1000. Returns the code of the Close of the server.
#[track_caller]
fn close_code_after(postern: &Postern, bytes: &[u8]) -> u16 {
    let mut stream = postern.open_stream();
    stream.write_all(bytes).expect("the bytes are taken");
    // An error is answered before the Close is read.
    thread::sleep(Duration::from_millis(50));
    let _ = stream.write_all(&client(CLOSE, &close(1000, "")));
    close_code(&rest(&mut stream))
}

#[test]
fn messages_fragments_and_rates_above_a_limit_end_the_connection() {
    let fragments = |middle| {
        let middle: Vec<u8> = frame(MIDDLE, 0).repeat(middle);
        [frame(FIRST, 1), middle, frame(LAST, 1)].concat()
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
            [frame(FIRST, 1000), frame(LAST, 1000)].concat(),
            [frame(FIRST, 999), frame(LAST, 1001)].concat(),
            1009,
        ),
        (
            &frames,
            [frame(FIRST, 1000), frame(MIDDLE, 1000), frame(LAST, 0)].concat(),
            [frame(FIRST, 1000), frame(MIDDLE, 1000), frame(LAST, 1)].concat(),
            1009,
        ),
        (&[("POSTERN_MAX_FRAGMENTS", "10")], fragments(8), fragments(9), 1008),
        // The Close after them counts, too.
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
            // Another client that keeps the limit is not affected.
            assert_eq!(close_code_after(&postern, allowed), 1000, "{runtime}, {settings:?}");
        }
    }
}

#[test]
fn messages_above_the_rate_are_delayed_and_not_lost() {
    let pause = [("POSTERN_MESSAGE_RATE", "1"), ("POSTERN_MESSAGE_BURST", "3")];
    for postern in Postern::both(&pause) {
        let mut other = postern.open();
        let mut stream = postern.open_stream();
        let echoes = |stream: &mut TcpStream, count: usize| {
            let mut received = vec![0; 3 * count];
            stream.read_exact(&mut received).expect("echoes");
            assert_eq!(received, b"\x81\x01a".repeat(count));
        };
        // Five more than the burst, which takes five seconds.
        stream.write_all(&frame(TEXT, 1).repeat(8)).expect("the messages are accepted");
        echoes(&mut stream, 8);
        stream.write_all(&frame(TEXT, 1)).expect("the message is taken");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let early = stream.read(&mut [0; 1]);
        assert!(matches!(early, Err(error) if error.kind() == ErrorKind::WouldBlock), "too early");
        other.echo("not disturbed");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        echoes(&mut stream, 1);
    }
}

#[test]
fn connection_above_the_limit_of_its_user_is_refused() {
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_MAX_CONNECTIONS_PER_USER", "2"), ("POSTERN_WORKERS", "2")];
        let settings = &settings[..if runtime == Runtime::BOTH[0] { 2 } else { 1 }];
        let postern = Postern::start(runtime, settings);
        let john = postern.john();
        let (first, mut second) = (john.open(), john.open());
        let refused = john.refused_with(429, "too_many_requests");
        assert!(refused.headers.contains_key("retry-after"), "{runtime}: {refused}");
        let mut jane = postern.handshake().header("User-ID", "124").open();
        jane.echo("another user");
        second.echo("not disturbed");
        first.close();
        john.open_in_time().close();
    }
    let settings = [("POSTERN_MAX_CONNECTIONS_PER_USER", "1"), ("POSTERN_REJECT", "close")];
    for postern in Postern::both(&settings) {
        let _first = postern.open_stream();
        assert_eq!(postern.open().closed(), (4430, "too_many_requests".to_owned()));
    }
}

#[test]
fn oldest_connection_of_a_user_is_replaced_by_the_newest() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_MAX_CONNECTIONS_PER_USER", "2"),
            ("POSTERN_USER_POLICY", "replace"),
            // With one worker, and with several that notify each other.
            ("POSTERN_WORKERS", "3"),
        ];
        let settings = &settings[..if runtime == Runtime::BOTH[0] { 3 } else { 2 }];
        let mut postern = Postern::start(runtime, settings);
        let john = postern.john();
        let mut jane = postern.handshake().header("User-ID", "124").open();
        let mut connections = vec![john.open(), john.open()];
        for _ in 0..10 {
            connections.push(john.open());
            let mut oldest = connections.remove(0);
            assert_eq!(oldest.closed(), (4409, "replaced".to_owned()), "{runtime}");
        }
        for open in connections.iter_mut().chain([&mut jane]) {
            open.echo("not disturbed");
        }
        drop(connections);
        assert!(postern.terminate().success(), "{runtime}");
        assert_eq!(postern.count(", code: 4409, side: server, reason: replaced, "), 10, "{runtime}");
    }
}

#[test]
fn connections_above_the_connect_rate_are_refused() {
    for runtime in Runtime::BOTH {
        // The harness has connected before. More are admitted when the second has passed.
        let postern = Postern::start(runtime, &[("POSTERN_CONNECT_RATE", "3")]);
        let john = postern.john();
        let mut open = Vec::new();
        let refused = loop {
            match john.send().expect("an answer") {
                Outcome::Open(connection) => open.push(connection),
                Outcome::Refused(response) => break response,
            }
            assert!(open.len() < 1000, "{runtime}: no limit");
        };
        assert_eq!((refused.status, &*refused.code()), (503, "too_fast"), "{runtime}");
        assert!(open.len() >= 2, "{runtime}: {} were admitted", open.len());
        open[0].echo("not disturbed");
        john.open_in_time().close();
    }
}

#[test]
fn slow_handshake_is_evicted_by_a_new_connection() {
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
        let mut quick = postern.open();
        quick.echo("admitted");
        let _third = TcpStream::connect(postern.address()).expect("it listens");
        slow[0].set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let answer = String::from_utf8(rest(&mut slow[0])).expect("a response");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"crowded\""), "{runtime}: {answer}");
        postern.wait_for("WebSocket upgrade refused - 503");
    }
}

#[test]
fn unfinished_message_ends_the_connection_after_the_message_timeout() {
    for postern in Postern::both(&[("POSTERN_MESSAGE_TIMEOUT", "2s")]) {
        let mut slow = postern.open_stream();
        let mut quick = postern.open_stream();
        for stream in [&mut slow, &mut quick] {
            stream.write_all(&frame(FIRST, 1)).expect("the bytes are taken");
        }
        thread::sleep(Duration::from_millis(500));
        quick.write_all(&frame(LAST, 1)).expect("the bytes are taken");
        let mut echo = [0; 4];
        quick.read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo, b"\x81\x02aa");
        assert_eq!(close_code(&rest(&mut slow)), 1008);
        // The time-out ended with the message.
        thread::sleep(Duration::from_millis(2500));
        quick.write_all(&frame(TEXT, 1)).expect("the bytes are taken");
        quick.read_exact(&mut echo[..3]).expect("an echo");
    }
}

#[test]
fn buffered_messages_above_the_memory_limit_end_the_oldest_connections() {
    // A fragment of 60,000 bytes and a ping. After the pong the fragment is buffered.
    let held = [frame(FIRST, 60_000), frame(PING, 0)].concat();
    let settings = [("POSTERN_MAX_MEMORY", "1MiB"), ("POSTERN_WORKERS", "1")];
    for postern in Postern::both(&settings) {
        let mut clients: Vec<TcpStream> = (0..30).map(|_| postern.open_stream()).collect();
        let mut bystander = postern.open_stream();
        let mut hold = |client: &mut TcpStream| {
            client.write_all(&held).expect("it is read");
            assert_eq!(receive(client, 2), server(PONG, b""));
        };
        clients[..8].iter_mut().for_each(&mut hold);
        let ended = |client: &mut TcpStream| {
            client.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
            let mut close = [0; 14];
            let received = client.read_exact(&mut close);
            client.set_read_timeout(None).expect("no timeout");
            received.is_ok_and(|()| close == *b"\x88\x0c\x03\xf5overloaded")
        };
        assert!(!clients[..8].iter_mut().any(ended), "within the limit");

        clients[8..].iter_mut().for_each(&mut hold);
        let gone: Vec<bool> = clients.iter_mut().map(ended).collect();
        let kept = gone.iter().position(|gone| !gone).expect("not all");
        assert!(kept > 8, "{gone:?}");
        assert!(gone[kept..].iter().all(|gone| !gone), "the oldest connections are ended: {gone:?}");
        for client in &mut clients[kept..] {
            client.write_all(&frame(LAST, 0)).expect("it is read");
            let mut echo = vec![0; 4 + 60_000];
            client.read_exact(&mut echo).expect("the whole message");
        }
        bystander.write_all(&frame(TEXT, 1)).expect("it is read");
        bystander.read_exact(&mut [0; 3]).expect("the echo");
        postern.wait_for("code: 1013, side: server, reason: overloaded");
    }
}

#[test]
fn limits_for_production_are_valid_and_enforced() {
    let settings = settings_in("deploy/production.env");
    for postern in Postern::both(&settings) {
        let open: Vec<TcpStream> = (0..32).map(|_| postern.open_stream()).collect();
        assert_eq!(postern.john().status(), 429);
        drop(open);
    }
}
