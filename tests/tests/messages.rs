//! Messages over real sockets, on both binaries: compression, and clients that read late or never.
//!
//! `conformance.rs` sends messages of all sizes and all errors of the protocol.

use std::io::Write;
use std::time::{Duration, Instant};

use postern_tests::frames::{BINARY, TEXT, client, receive, server};
use postern_tests::postern::{Postern, Runtime};

#[test]
fn compression_is_negotiated_only_if_it_is_enabled() {
    for runtime in Runtime::BOTH {
        for (setting, is_agreed) in [("off", false), ("on", true)] {
            let postern = Postern::start(runtime, &[("POSTERN_COMPRESSION", setting)]);
            let offer = "permessage-deflate; client_max_window_bits";
            let open = postern.john().header("Sec-WebSocket-Extensions", offer).open();
            let extensions = open.response.headers.contains_key("Sec-WebSocket-Extensions");
            assert_eq!(extensions, is_agreed, "{runtime}");
            // "Hello" as RFC 7692 §7.2.3.1 compresses it.
            let mut stream = open.into_stream();
            let frame = client(TEXT | 0x40, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
            stream.write_all(&frame).expect("the bytes are taken");
            let answer = receive(&mut stream, 7);
            if is_agreed {
                assert_eq!(answer, server(TEXT, b"Hello"), "{runtime}");
                postern.wait_for("Message from John Doe (123): Hello");
            } else {
                assert_eq!((answer[0], &answer[2..4]), (0x88, &b"\x03\xea"[..]), "{runtime}: 1002");
            }
        }
    }
}

#[test]
fn client_that_reads_late_gets_all_messages_in_order() {
    for postern in Postern::both(&[("POSTERN_LOG_MESSAGES", "off")]) {
        let mut stream = postern.open_stream();
        let mut writer = stream.try_clone().expect("a second descriptor");
        // 40 MB: more than the kernel's buffers of both sides and all limits of Postern together.
        let messages = || (0..1000_u32).map(|number| number.to_be_bytes().repeat(10_000));
        let sender = std::thread::spawn(move || {
            for message in messages() {
                writer.write_all(&client(BINARY, &message)).expect("the server continues to read");
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        for (number, message) in messages().enumerate() {
            let expected = server(BINARY, &message);
            assert!(receive(&mut stream, expected.len()) == expected, "message {number}");
        }
        sender.join().expect("all messages are sent");
    }
}

#[test]
fn client_that_never_reads_is_dropped_and_does_not_delay_others() {
    let settings =
        [("POSTERN_WRITE_TIMEOUT", "500ms"), ("POSTERN_LOG_MESSAGES", "off"), ("POSTERN_WORKERS", "1")];
    for postern in Postern::both(&settings) {
        let mut deaf = postern.open_stream();
        deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let message = client(BINARY, &vec![7; 60_000]);
        while deaf.write_all(&message).is_ok() {}
        let mut other = postern.open();
        let started = Instant::now();
        for _ in 0..100 {
            other.echo("while the other does not read");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let line = postern.wait_for("closed for user");
        assert!(line.contains("1006"), "{line}");
        other.echo("after the end of the other");
    }
}
