//! Frames: lengths, masks, bits, order.

use std::time::Duration;

use postern_core::{SessionConfig, Transport};

use crate::connection::{Connection, check_time, frame};

/// Feeds `bytes` in one piece and byte by byte; the connection is failed with `code`, and what follows is ignored.
#[track_caller]
fn check_fails(config: &SessionConfig, bytes: &[u8], code: u16) {
    for portion in [bytes.len(), 1] {
        let mut connection = Connection::admitted(config.clone());
        bytes.chunks(portion).for_each(|portion| connection.feed(portion));
        assert_eq!(connection.close_code(), code, "{} in {portion}s", bytes.escape_ascii());
        assert_eq!(connection.transport(), Transport::ShutdownWrite, "{}", bytes.escape_ascii());
        let wire = connection.wire().to_vec();
        connection.feed(&frame(0x81, b"too late"));
        assert_eq!(connection.wire(), wire, "nothing follows our Close");
    }
}

#[track_caller]
fn check(bytes: &[u8], code: u16) {
    check_fails(&SessionConfig::default(), bytes, code);
}

/// gorilla CVE-2020-27813, Tomcat CVE-2020-13935, undici CVE-2026-1528, NATS 22fda09fe: lengths near 2^63.
#[test]
fn huge_lengths_overflow_nothing() {
    check(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009);
    check(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1002);
    check(b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002);
    check(b"\x82\xff\0\0\0\x01\0\0\0\0\0\0\0\0", 1009);
    let unlimited = SessionConfig { max_message: usize::MAX, max_frame: usize::MAX, ..Default::default() };
    let mut connection = Connection::admitted(unlimited.clone());
    connection.feed(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0only this");
    assert_eq!((connection.wire(), connection.transport()), (&b""[..], Transport::Open));
}

/// aiohttp PYSEC-2026-4395: the collected and the announced length were added up, above 2^63.
#[test]
fn a_length_is_not_added_to_what_has_come() {
    let near = b"\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xf8\0\0\0\0";
    check(&[&frame(0x02, &[0; 10])[..], near].concat(), 1009);
    let frames_unlimited = SessionConfig { max_frame: usize::MAX, ..SessionConfig::default() };
    check_fails(&frames_unlimited, &[&frame(0x02, &[0; 10])[..], near].concat(), 1009);
}

/// aiohttp PYSEC-2026-2108, NATS CVE-2026-33219: the limit was checked when the message was complete.
#[test]
fn a_length_over_the_limit_is_refused_before_its_payload() {
    check(b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0", 1009);
    let one = SessionConfig { max_message: 1, max_frame: 1, ..SessionConfig::default() };
    check_fails(&one, b"\x82\x82\0\0\0\0", 1009);
    let mut connection = Connection::admitted(one);
    connection.feed(&frame(0x82, b"x"));
    assert_eq!(connection.wire(), b"\x82\x01x");
}

/// Netty CVE-2014-0193, undici CVE-2026-9675: fragments without an end.
#[test]
fn fragments_add_up_to_the_limit_of_a_message() {
    let mut bytes = frame(0x02, &[0; 65_000]);
    bytes.extend(frame(0x00, &[0; 536]));
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&bytes);
    assert_eq!(connection.wire(), b"", "exactly the limit");
    connection.feed(&frame(0x00, b"x"));
    assert_eq!(connection.close_code(), 1009);
}

/// ws CVE-2026-62389 and PR 2329, undici CVE-2026-12151, h2 RUSTSEC-2026-0258: empty fragments.
#[test]
fn empty_fragments_count() {
    let mut bytes = frame(0x01, b"");
    bytes.extend(frame(0x00, b"").repeat(1022));
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&[&bytes[..], &frame(0x80, b"")].concat());
    assert_eq!(connection.wire(), b"\x81\x00", "1,024 frames of one message");
    check(&[&bytes[..], &frame(0x00, b""), &frame(0x80, b"")].concat(), 1008);
}

/// ws 8.21.0 (`maxBufferedChunks`): each small read was kept.
#[test]
fn a_message_in_single_bytes_costs_no_more_than_in_one_piece() {
    let payload = vec![b'x'; 65_536];
    check_time(Duration::from_secs(10), || {
        let mut connection = Connection::admitted(SessionConfig::default());
        frame(0x81, &payload).chunks(1).for_each(|byte| connection.feed(byte));
        assert_eq!(connection.wire().len(), 10 + payload.len());
        assert_eq!(connection.wire()[10..], payload);
    });
}

/// RFC 6455 §5.1: masking prevents pages from poisoning caches on the path with bytes of their choice.
#[test]
fn a_frame_without_a_mask_is_refused_at_its_second_byte() {
    for first in [0x81, 0x82, 0x01, 0x88, 0x89, 0x8a] {
        check(&[first, 0x00], 1002);
        check(&[first, 0x01], 1002);
    }
    check(b"\x82\x7e", 1002);
    check(b"\x82\x7f", 1002);
    check(&[&frame(0x01, b"a")[..], b"\x80\x01b"].concat(), 1002);
}

/// aiohttp CVE-2026-59881: RSV1 was taken although no extension had been agreed on.
#[test]
fn a_reserved_bit_is_refused_at_the_first_byte() {
    for bits in (0x10..=0x70u8).step_by(0x10) {
        for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xa] {
            // RSV1 alone is judged with its header, because another connection may have agreed on it.
            let mut bytes = frame(0x80 | bits | opcode, b"");
            if bits & 0x30 != 0 {
                bytes.truncate(1);
            }
            check(&bytes, 1002);
        }
    }
}

/// RFC 6455 §5.2: undefined opcodes.
#[test]
fn a_reserved_opcode_is_refused_at_the_first_byte() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        check(&[0x80 | opcode], 1002);
        check(&[opcode], 1002);
    }
}

/// RFC 6455 §5.5: control frames are whole and short, and a parser must not wait for bytes of a frame that it will
/// refuse.
#[test]
fn a_control_frame_is_whole_and_short() {
    for opcode in [0x8, 0x9, 0xa] {
        check(&[opcode], 1002);
        check(&[0x80 | opcode, 0xfe], 1002);
        check(&[0x80 | opcode, 0xff], 1002);
    }
    check(&frame(0x89, &[0; 126]), 1002);
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&frame(0x89, &[7; 125]));
    assert_eq!(connection.wire(), [&[0x8a, 125][..], &[7; 125]].concat());
}

/// RFC 6455 §5.2, "the minimal number of bytes MUST be used": a second way to write a length smuggles frames.
#[test]
fn a_length_has_one_spelling() {
    for len in [0u16, 5, 125] {
        check(&[&[0x82, 0xfe][..], &len.to_be_bytes()].concat(), 1002);
    }
    for len in [0u64, 5, 125, 126, 65_535] {
        check(&[&[0x82, 0xff][..], &len.to_be_bytes()].concat(), 1002);
    }
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&[&frame(0x82, &[1; 126])[..], &frame(0x82, &[2; 65_536])].concat());
    assert_eq!(connection.wire().len(), 4 + 126 + 10 + 65_536);
}

/// The state of fragmentation: a message inside a message, or the end of none.
#[test]
fn messages_do_not_interleave() {
    for bytes in [
        frame(0x80, b"x"),
        frame(0x00, b"x"),
        [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        [frame(0x01, b"a"), frame(0x02, b"b")].concat(),
        [frame(0x02, b""), frame(0x82, b"")].concat(),
        [frame(0x02, b"a"), frame(0x89, b"p"), frame(0x82, b"b")].concat(),
    ] {
        check(&bytes, 1002);
    }
    let again = [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat();
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&again);
    assert!(connection.wire().starts_with(b"\x81\x02ab\x88"), "{}", connection.wire().escape_ascii());
    assert_eq!(connection.close_code(), 1002);
    // Control frames may be between fragments.
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&[frame(0x01, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat());
    assert_eq!(connection.wire(), b"\x8a\x01p\x81\x02ab");
}

/// Frames without an end (Slowloris after the handshake): one byte, and then silence.
#[test]
fn a_slow_message_gets_1008_at_its_deadline() {
    let hello = frame(0x01, b"hello");
    for len in 1..=hello.len() {
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.feed(&hello[..len]);
        connection.wait(Duration::from_millis(29_999));
        assert_eq!(connection.wire(), b"", "after {len} bytes");
        connection.wait(Duration::from_millis(1));
        assert_eq!(connection.close_code(), 1008, "after {len} bytes");
        connection.wait(Duration::from_secs(1));
        assert!(connection.worker.is_empty() && connection.recorder.code == 1008, "after {len} bytes");
    }
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&frame(0x01, b""));
    for _ in 0..29 {
        connection.wait(Duration::from_secs(1));
        connection.feed(&[frame(0x00, b"x"), frame(0x89, b"")].concat());
    }
    connection.take_wire();
    connection.wait(Duration::from_secs(1));
    assert_eq!(connection.close_code(), 1008, "bytes and pings do not put the deadline off");
}
