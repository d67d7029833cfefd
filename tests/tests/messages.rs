//! Messages over real sockets, on both binaries: what a client may send, at the limits and beyond them, and that
//! nobody is disturbed by what another does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use tungstenite::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A client's frame, masked.
fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let header =
        FrameHeader { is_final: fin, rsv1: false, rsv2: false, rsv3: false, opcode, mask: Some(mask) };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).expect("a vector takes all");
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUATION: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);

/// An open connection as a bare socket.
#[track_caller]
fn open(postern: &Postern) -> TcpStream {
    let Open { socket, .. } = Handshake::to(postern.address()).as_john().open();
    socket.get_ref().try_clone().expect("a second descriptor of the socket")
}

/// Sends bytes and reads until the server closes; gives what came, frame headers included.
#[track_caller]
fn last_words(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).expect("the bytes are taken");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the server closes in order");
    received
}

/// The code of the Close frame with which `bytes` end.
#[track_caller]
fn close_code(bytes: &[u8]) -> u16 {
    let at = bytes.iter().rposition(|&byte| byte == 0x88).expect("a Close frame");
    assert_eq!(at + 2 + usize::from(bytes[at + 1]), bytes.len(), "nothing follows {:?}", &bytes[at..]);
    u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])
}

#[test]
fn messages_of_every_size_come_back() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let mut open = Handshake::to(postern.address()).as_john().open();
        for size in [0, 1, 125, 126, 4096, 65_535, 65_536] {
            open.echo(Message::binary(vec![0xa5; size]));
            open.echo(Message::text("ü".repeat(size / 2)));
        }
        open.close();
        let line = postern.wait_for("closed for user John Doe (123)");
        assert!(line.contains("1000"), "{line}");
    }
}

#[test]
fn a_message_over_the_limit_is_1009() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        // The header is enough; nobody has to send the rest.
        let over = &frame(BINARY, true, &vec![0; 65_537])[..14];
        assert_eq!(close_code(&last_words(&mut open(&postern), over)), 1009, "{runtime}");
        let fragments = [frame(BINARY, false, &vec![0; 65_536]), frame(CONTINUATION, true, b"x")].concat();
        assert_eq!(close_code(&last_words(&mut open(&postern), &fragments)), 1009, "{runtime}");
        let postern =
            Postern::start(runtime, &[("POSTERN_MAX_FRAME", "100"), ("POSTERN_MAX_FRAGMENTS", "2")]);
        assert_eq!(close_code(&last_words(&mut open(&postern), &frame(TEXT, true, &[b'x'; 101]))), 1009);
        let three =
            [frame(TEXT, false, b""), frame(CONTINUATION, false, b""), frame(CONTINUATION, true, b"")];
        assert_eq!(close_code(&last_words(&mut open(&postern), &three.concat())), 1008, "{runtime}");
        Handshake::to(postern.address()).as_john().open().echo(Message::binary(vec![7; 100]));
    }
}

#[test]
fn what_breaks_the_protocol_is_told_why() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        for (name, bytes, code) in [
            ("not masked", b"\x81\x01x".to_vec(), 1002),
            ("reserved bit", b"\xc1\x80\x00\x00\x00\x00".to_vec(), 1002),
            ("reserved opcode", b"\x83\x80\x00\x00\x00\x00".to_vec(), 1002),
            ("length of 2^63", b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00".to_vec(), 1002),
            ("invalid UTF-8", frame(TEXT, true, b"\xed\xa0\x80"), 1007),
            ("nothing to continue", frame(CONTINUATION, true, b"x"), 1002),
            ("an HTTP request", b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), 1002),
            ("close code 1005", frame(OpCode::Control(Control::Close), true, b"\x03\xed"), 1002),
        ] {
            let received = last_words(&mut open(&postern), &bytes);
            assert_eq!(close_code(&received), code, "{runtime}: {name}");
        }
    }
}

#[test]
fn a_flood_of_pings_is_1008() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let mut received = last_words(&mut open(&postern), &frame(PING, true, b"p").repeat(41));
        assert_eq!(close_code(&received), 1008, "{runtime}");
        received.truncate(40 * 3);
        assert_eq!(received, b"\x8a\x01p".repeat(40), "{runtime}: the forty before are answered");
        let unlimited = Postern::start(runtime, &[("POSTERN_CONTROL_RATE", "0")]);
        let mut stream = open(&unlimited);
        stream.write_all(&frame(PING, true, b"p").repeat(1000)).expect("the bytes are taken");
        let mut pongs = vec![0; 3000];
        stream.read_exact(&mut pongs).expect("a thousand pongs");
    }
}

#[test]
fn compression_is_agreed_on_only_where_it_is_switched_on() {
    for runtime in Runtime::BOTH {
        for (setting, agreed) in [("off", false), ("on", true)] {
            let postern = Postern::start(runtime, &[("POSTERN_COMPRESSION", setting)]);
            let offer = "permessage-deflate; client_max_window_bits";
            let handshake =
                Handshake::to(postern.address()).as_john().header("Sec-WebSocket-Extensions", offer);
            let Open { response, socket } = handshake.open();
            assert_eq!(response.headers.contains_key("Sec-WebSocket-Extensions"), agreed, "{runtime}");
            // "Hello" as RFC 7692 §7.2.3.1 compresses it.
            let mut bytes = frame(TEXT, true, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
            bytes[0] |= 0x40;
            let mut stream = socket.get_ref();
            stream.write_all(&bytes).expect("the bytes are taken");
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).expect("an answer");
            if agreed {
                assert_eq!(&answer, b"\x81\x05Hello", "{runtime}");
                postern.wait_for("Message from John Doe (123): Hello");
            } else {
                assert_eq!((answer[0], &answer[2..4]), (0x88, &b"\x03\xea"[..]), "{runtime}: 1002");
            }
        }
    }
}

#[test]
fn bytes_in_any_portions_give_the_same_answer() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        // Else each 101 would have an id of its own.
        let head = Handshake::to(postern.address()).as_john().header("X-Request-Id", "r-1").bytes();
        let close = frame(OpCode::Control(Control::Close), true, b"\x03\xe8");
        let frames = [
            frame(TEXT, false, "€".as_bytes()),
            frame(PING, true, b"p"),
            frame(CONTINUATION, true, b"!"),
            close,
        ];
        let bytes = [head, frames.concat()].concat();
        let answers = [bytes.len(), 1, 7].map(|portion| {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            stream.set_nodelay(true).expect("an option");
            for portion in bytes.chunks(portion) {
                stream.write_all(portion).expect("the bytes are taken");
                std::thread::sleep(Duration::from_micros(200));
            }
            last_words(&mut stream, b"")
        });
        assert!(answers[0].ends_with(b"\r\n\r\n\x8a\x01p\x81\x04\xe2\x82\xac!\x88\x02\x03\xe8"), "{runtime}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{runtime}");
    }
}

#[test]
fn a_client_that_reads_late_gets_everything_in_order() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_LOG_MESSAGES", "off")]);
        let mut stream = open(&postern);
        let mut writer = stream.try_clone().expect("a second descriptor");
        // 40 MB: more than the kernel's buffers of both sides and all limits of ours together.
        let count = 1000u32;
        let sender = std::thread::spawn(move || {
            for number in 0..count {
                let payload = number.to_be_bytes().repeat(10_000);
                writer.write_all(&frame(BINARY, true, &payload)).expect("the server goes on reading in time");
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let mut header = [0; 4];
        let mut payload = vec![0; 40_000];
        for number in 0..count {
            stream.read_exact(&mut header).expect("a header");
            assert_eq!(header, [0x82, 126, 0x9c, 0x40], "{runtime}: message {number}");
            stream.read_exact(&mut payload).expect("a payload");
            assert!(
                payload.chunks(4).all(|bytes| bytes == number.to_be_bytes()),
                "{runtime}: message {number}"
            );
        }
        sender.join().expect("all was sent");
    }
}

#[test]
fn a_client_that_never_reads_is_dropped_and_disturbs_nobody() {
    for runtime in Runtime::BOTH {
        let settings =
            [("POSTERN_WRITE_TIMEOUT", "500ms"), ("POSTERN_LOG_MESSAGES", "off"), ("POSTERN_WORKERS", "1")];
        let postern = Postern::start(runtime, &settings);
        let mut deaf = open(&postern);
        deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let message = frame(BINARY, true, &vec![7; 60_000]);
        while deaf.write_all(&message).is_ok() {}
        let mut other = Handshake::to(postern.address()).as_john().open();
        let started = Instant::now();
        for _ in 0..100 {
            other.echo(Message::text("still here"));
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{runtime}: {:?}", started.elapsed());
        let line = postern.wait_for("closed for user");
        assert!(line.contains("1006"), "{line}");
        other.echo(Message::text("and still here"));
    }
}

#[test]
fn a_reset_at_any_moment_hurts_nobody_else() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_WORKERS", "1")]);
        let mut bystander = Handshake::to(postern.address()).as_john().open();
        let session =
            [Handshake::to(postern.address()).as_john().bytes(), frame(TEXT, true, b"hello")].concat();
        for len in (0..=session.len()).step_by(5) {
            let stream = TcpStream::connect(postern.address()).expect("a connection");
            (&stream).write_all(&session[..len]).expect("the bytes are taken");
            // Closing a socket with unread bytes, or with a linger time of zero, is a reset.
            let socket = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            socket.expect("an option");
            drop(stream);
            if len % 50 == 0 {
                bystander.echo(Message::text("unharmed"));
            }
        }
        bystander.close();
    }
}

#[test]
fn the_end_of_the_clients_side_ends_the_connection_after_its_answers() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let mut stream = open(&postern);
        stream.write_all(&frame(TEXT, true, b"last words")).expect("the bytes are taken");
        stream.shutdown(Shutdown::Write).expect("a half-closed socket");
        assert_eq!(last_words(&mut stream, b""), b"\x81\x0alast words", "{runtime}");
        let line = postern.wait_for("closed for user");
        assert!(line.contains("1006"), "{line}");
    }
}

#[test]
fn the_socket_is_gone_at_once_after_a_close() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let mut stream = open(&postern);
        let started = Instant::now();
        let close = frame(OpCode::Control(Control::Close), true, b"\x03\xe8bye");
        assert_eq!(last_words(&mut stream, &close), b"\x88\x02\x03\xe8", "{runtime}");
        assert!(started.elapsed() < Duration::from_secs(1), "{runtime}: {:?}", started.elapsed());
        let mut stream = open(&postern);
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
        // After an error the server waits a second for a client that does not close, and not for ever.
        assert_eq!(close_code(&last_words(&mut stream, b"\xff\xff")), 1002, "{runtime}");
        std::thread::sleep(Duration::from_millis(1500));
        let gone = stream.write_all(b"x").and_then(|()| {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"x")
        });
        let kind = gone.expect_err("the socket is gone").kind();
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{runtime}: {kind}");
    }
}
