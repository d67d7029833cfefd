//! permessage-deflate: bombs, invalid streams, and negotiation.

use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use postern_core::handshake::HandshakeConfig;
use postern_core::{SessionConfig, Transport, WorkerConfig};

use crate::connection::{Connection, ask, check_time, frame, with};

/// Returns a connection to a service that can compress, with an empty wire, and the value of `Sec-WebSocket-Extensions`
/// in its answer.
#[track_caller]
fn offer(session: SessionConfig, offer: &str) -> (Connection, Option<String>) {
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let config = WorkerConfig { handshake, session: session.into(), ..WorkerConfig::default() };
    let mut connection = ask(config, with("", &format!("Sec-WebSocket-Extensions: {offer}")).as_bytes());
    let answer = String::from_utf8(connection.take_wire()).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let line = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    (connection, line.map(str::to_owned))
}

/// Returns a connection that has agreed on compression.
#[track_caller]
fn agreed() -> Connection {
    let (connection, answer) = offer(SessionConfig::default(), "permessage-deflate");
    assert!(answer.is_some(), "compression is agreed on");
    connection
}

/// Returns the payload of a compressed message.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 1024);
    let mut deflater = Compress::new(Compression::best(), false);
    deflater.compress_vec(payload, &mut out, FlushCompress::Sync).expect("any bytes compress");
    assert_eq!(deflater.total_in(), payload.len() as u64);
    assert_eq!(out.split_off(out.len() - 4), TAIL);
    out
}

/// Returns the message in such a payload.
fn inflated(compressed: &[u8], bits: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let whole = [compressed, &TAIL].concat();
    let mut inflater = Decompress::new_with_window_bits(false, bits);
    inflater.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("it is DEFLATE");
    assert_eq!(inflater.total_in(), whole.len() as u64);
    out
}

/// RFC 7692 §7.2.1: the bytes that are removed from the end of each message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Returns a message in `count` frames; `first` is its first byte in a single frame.
fn fragmented(first: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let part = |index: usize| &payload[index * payload.len() / count..(index + 1) * payload.len() / count];
    (0..count).fold(Vec::new(), |mut bytes, index| {
        let opcode = if index == 0 { first & 0x7f } else { 0x00 };
        let fin = if index + 1 == count { 0x80 } else { 0x00 };
        bytes.extend(frame(fin | opcode, part(index)));
        bytes
    })
}

/// Returns bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Feeds `bytes` at once and in small reads to a connection that may compress: it is failed with `code`, and only that
/// is sent.
#[track_caller]
fn check(bytes: &[u8], code: u16) {
    for portion in [bytes.len(), 7] {
        let mut connection = agreed();
        bytes.chunks(portion).for_each(|portion| connection.feed(portion));
        assert_eq!(connection.close_code(), code, "in portions of {portion}");
        assert!(connection.wire().len() <= 127, "a Close and nothing else");
        assert_eq!((connection.transport(), connection.recorder.messages), (Transport::ShutdownWrite, 0));
    }
}

/// Checks that `bytes` are this one message, and that the next one is not affected.
#[track_caller]
fn check_message(bytes: &[u8], message: &[u8]) {
    let mut connection = agreed();
    connection.feed(bytes);
    connection.feed(&frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
    let frames = connection.frames();
    let [(first, payload), (0x81, b"Hello")] = frames[..] else { panic!("{frames:02x?}") };
    let payload = if first & 0x40 == 0 { payload.to_vec() } else { inflated(payload, 15) };
    assert!(payload == message, "{} bytes", payload.len());
}

/// Python websockets CVE-2018-1000518, uws CVE-2016-10544, NATS CVE-2026-27571, undici CVE-2026-1526, autobahn-python
/// GHSA-hxp9-w8x3-p566, tornado #2391, websocketpp #1191, Centrifugo PR 1162, netdata PR 22828: a message that is small
/// until it is inflated.
#[test]
fn a_bomb_is_1009_in_any_number_of_frames() {
    let bomb = deflated(&vec![0; 16 << 20]);
    assert!(bomb.len() < 17_000, "{}", bomb.len());
    for first in [0xc1, 0xc2] {
        for count in [1, 10, 1000] {
            check(&fragmented(first, &bomb, count), 1009);
        }
    }
}

/// The same, in time: an inflater whose whole output is checked afterwards does a thousand times the work.
#[test]
fn a_thousand_bombs_cost_no_more_than_a_thousand_messages() {
    let bomb = frame(0xc2, &deflated(&vec![0; 16 << 20]));
    let mut connection = agreed();
    check_time(Duration::from_secs(20), || {
        for _ in 0..1000 {
            connection.feed(&bomb);
            assert_eq!(connection.close_code(), 1009);
            connection.open_another(&with("", "Sec-WebSocket-Extensions: permessage-deflate"));
        }
    });
}

/// The same advisories: a limit of the bytes on the wire does not limit the message.
#[test]
fn the_limit_is_of_the_message_and_exact() {
    for byte in [0, b'x'] {
        let message = vec![byte; 65_537];
        check_message(&frame(0xc2, &deflated(&message[1..])), &message[1..]);
        check_message(&fragmented(0xc1, &deflated(&message[1..]), 10), &message[1..]);
        check(&frame(0xc2, &deflated(&message)), 1009);
        check(&fragmented(0xc1, &deflated(&message), 10), 1009);
    }
    // Data that does not compress gets longer, although the message does not. The additional bytes are not allowed for
    // uncompressed messages.
    let noise = noise(65_537);
    let compressed = deflated(&noise[1..]);
    assert!(compressed.len() > 65_536);
    check_message(&frame(0xc2, &compressed), &noise[1..]);
    check(&frame(0xc2, &deflated(&noise)), 1009);
    check(&frame(0x82, &noise), 1009);
    check(&fragmented(0x82, &noise, 2), 1009);
}

/// Empty blocks: no output that a limit could stop, only work.
#[test]
fn compressed_bytes_that_give_nothing_are_limited_too() {
    let stored = |count: usize| b"\x00\x00\x00\xff\xff".repeat(count);
    check_message(&frame(0xc2, &stored(15_168)), b"");
    check(&frame(0xc2, &stored(15_169)), 1009);
    check(&fragmented(0xc2, &stored(15_169), 1000), 1009);
    // Refused when its length is announced, as every message that is too long.
    check(&frame(0xc2, &stored(15_169))[..14], 1009);
    // Empty blocks that end a stream each, so that the decompressor restarts at every second byte.
    for blocks in [stored(15_168), b"\x03\x00".repeat(37_920)] {
        let message = frame(0xc2, &blocks);
        let mut connection = agreed();
        check_time(Duration::from_secs(20), || (0..100).for_each(|_| connection.feed(&message)));
        assert_eq!(connection.wire(), b"\x82\x00".repeat(100));
    }
}

/// RFC 7692 §7.2.3.6 makes one byte of an empty message, and a peer may send none.
#[test]
fn an_empty_message_may_be_compressed() {
    check_message(&frame(0xc1, b"\x00"), b"");
    check_message(&frame(0xc1, b"\x02\x00"), b"");
    check_message(&frame(0xc1, b""), b"");
    check_message(&fragmented(0xc1, b"", 3), b"");
}

/// RFC 7692 §7.2.3.4: a block with BFINAL set ends a stream of DEFLATE, and the inflater stops there; the bytes after
/// it still belong to the message.
#[test]
fn a_final_block_is_not_the_end_of_the_message() {
    let hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    check_message(&frame(0xc1, &[&hello[..], b"\x00"].concat()), b"Hello");
    check_message(&frame(0xc1, hello), b"Hello");
    check_message(&frame(0xc1, &hello.repeat(3)), b"HelloHelloHello");
    // It restarts: no match refers to earlier messages.
    check(&frame(0xc1, &[&hello[..], b"\xf2\x00\x11\x00\x00"].concat()), 1007);
    let zeros = [&deflated(&[0; 40_000])[..], &TAIL, b"\x03\x00"].concat();
    check(&frame(0xc2, &zeros.repeat(2)), 1009);
}

/// zlib-rs RUSTSEC-2024-0401, Apache HttpComponents #821 and #822: invalid input must not crash an inflater.
#[test]
fn what_is_no_deflate_is_1007() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for invalid in [
        &b"\xff\xff"[..],
        b"\x06",
        b"Hello",
        b"\x00\x05\x00\x00\x00",
        // Trailing garbage, after a whole stream and after a message.
        b"\xf3\x48\xcd\xc9\xc9\x07\x00garbage",
        b"\xf2\x48\xcd\xc9\xc9\x07\x00\xff\xff\xff",
        // A zlib header, and a gzip header.
        b"\x78\x9c\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        // A distance beyond the beginning of the message, and distance codes that are reserved.
        b"\xf2\x00\x11\x00\x00",
        b"\x4b\x04\x5e\x00",
    ] {
        check(&frame(0xc1, invalid), 1007);
        check(&fragmented(0xc2, invalid, 2), 1007);
    }
    // Each prefix and each flipped bit of a message.
    let whole = deflated("Postern lets you in. ".repeat(20).as_bytes());
    let mut connection = agreed();
    let mut check_any = |payload: &[u8]| {
        connection.feed(&frame(0xc2, payload));
        if connection.transport() != Transport::Open {
            assert_eq!(connection.close_code(), 1007);
            connection.open_another(&with("", "Sec-WebSocket-Extensions: permessage-deflate"));
        }
        connection.take_wire();
        connection.feed(&frame(0xc2, hello));
        assert_eq!(connection.wire(), b"\x82\x05Hello", "the next message is none the worse for it");
        connection.take_wire();
    };
    for len in 0..whole.len() {
        check_any(&whole[..len]);
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[len] ^= 1 << bit;
            check_any(&flipped);
        }
    }
}

/// A context that several connections share, as ours do: a distance beyond the message would read another's bytes.
#[test]
fn no_message_refers_to_another_one() {
    let secret = noise(300);
    let mut connection = agreed();
    connection.feed(&frame(0xc2, &deflated(&secret)));
    assert_eq!(connection.wire().len(), 4 + 300);
    // Fixed block: a match of length 3 at the distance 1, then 2, 4, 7, 13, 25 ... without any data before it.
    for distance_code in 0..30u8 {
        let reversed = distance_code.reverse_bits() >> 3;
        // 0, 01 (block), 0000001 (length code 257), five bits of distance, and zeros: extra bits, the end of the block.
        let bits = 0b010 | 1 << 9 | u32::from(reversed) << 10;
        let payload = [&bits.to_le_bytes()[..], &[0; 4]].concat();
        let before = connection.open_another(&with("", "Sec-WebSocket-Extensions: permessage-deflate"));
        connection.feed(&frame(0xc2, &payload));
        assert_eq!(connection.close_code(), 1007, "distance code {distance_code}");
        connection.take_wire();
        connection.key = before;
        connection.feed(&frame(0xc2, &payload));
        assert_eq!(connection.close_code(), 1007, "nor to its own");
        connection.open_another(&with("", "Sec-WebSocket-Extensions: permessage-deflate"));
    }
    // A message that we compress does not depend on other connections: the same message gives the same bytes.
    let text = frame(0x81, &b"attack at dawn; ".repeat(8));
    let mut fresh = agreed();
    fresh.feed(&text);
    connection.feed(&frame(0x81, &b"attack at dusk; ".repeat(8)));
    connection.open_another(&with("", "Sec-WebSocket-Extensions: permessage-deflate"));
    connection.feed(&text);
    assert_eq!(connection.wire(), fresh.wire());
}

/// zlib has no window of 8 bits and silently takes 9: a peer that has 256 bytes gets distances it cannot follow.
#[test]
fn a_window_of_eight_bits_is_one() {
    let answer = |bits: u8, message: &[u8]| {
        let (mut connection, agreed) = offer(
            SessionConfig::default(),
            &format!("permessage-deflate; server_max_window_bits={bits}; client_max_window_bits=8"),
        );
        let agreed = agreed.expect("compression is agreed on");
        assert!(agreed.ends_with(&format!("; server_max_window_bits={bits}")), "{agreed}");
        connection.feed(&frame(0x82, message));
        let frames = connection.frames();
        let [(first, payload)] = frames[..] else { panic!("{frames:02x?}") };
        (first, payload.to_vec())
    };
    // The same 300 bytes twice: in a window of 256 they do not get shorter.
    let twice = noise(300).repeat(2);
    assert_eq!(answer(8, &twice), (0x82, twice.clone()));
    let (first, compressed) = answer(10, &twice);
    assert!(first == 0xc2 && compressed.len() < 400, "{}", compressed.len());
    assert_eq!(inflated(&compressed, 10), twice);
    // Repeated within the window, they do.
    let often = noise(100).repeat(20);
    let (first, compressed) = answer(8, &often);
    assert!(first == 0xc2 && compressed.len() < 1500, "{}", compressed.len());
    assert_eq!(inflated(&compressed, 9), often);
}

/// RFC 6455 §8.1 is about the message, which is text only after it was inflated.
#[test]
fn compressed_text_that_is_not_utf8_is_1007() {
    for text in [&b"\xff"[..], b"fine \xed\xa0\x80", b"\xc0\xaf", b"cut \xe2\x82", &[b'x', 0x80].repeat(1000)]
    {
        let compressed = deflated(text);
        check(&frame(0xc1, &compressed), 1007);
        check(&fragmented(0xc1, &compressed, 3), 1007);
        check_message(&frame(0xc2, &compressed), text);
    }
    check_message(
        &fragmented(0xc1, &deflated("€😀".repeat(500).as_bytes()), 100),
        "€😀".repeat(500).as_bytes(),
    );
}

/// aiohttp CVE-2026-59881 and RFC 7692 §6: the bit belongs only to the first frame of a message.
#[test]
fn the_bit_of_compression_stands_on_first_frames_only() {
    for first in [0xc8, 0xc9, 0xca] {
        check(&frame(first, b""), 1002);
        check(&frame(first, b"\x00"), 1002);
    }
    for first in [0x01, 0x41, 0x02, 0x42] {
        check(&[frame(first, b"\x00"), frame(0xc0, b"\x00")].concat(), 1002);
        check(&[frame(first, b"\x00"), frame(0x40, b"\x00")].concat(), 1002);
        check(&[frame(first, b"\x00"), frame(0xc9, b"")].concat(), 1002);
        check(&[frame(first, b"\x00"), frame(0xc1, b"\x00")].concat(), 1002);
    }
    check(&frame(0xc0, b"\x00"), 1002);
    for bits in [0xa0, 0x90, 0xb0, 0xe0, 0xd0, 0xf0] {
        check(&frame(bits | 0x01, b"\x00"), 1002);
    }
    // Control frames between the frames of a compressed message are as always.
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let mut connection = agreed();
    connection.feed(&[frame(0x41, &hello[..3]), frame(0x89, b"p"), frame(0x80, &hello[3..])].concat());
    assert_eq!(connection.wire(), b"\x8a\x01p\x81\x05Hello");
}

/// undici CVE-2026-2229 (`server_max_window_bits` outside 8 to 15), ws 3.3.1 (names of JavaScript's prototypes):
/// parameters that crashed a handshake.
#[test]
fn malformed_parameters_are_declined_and_crash_nothing() {
    for params in [
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=0",
        "server_max_window_bits=-1",
        "server_max_window_bits=008",
        "server_max_window_bits=99999999999999999999",
        "server_max_window_bits=1e1",
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=\"\"",
        "server_max_window_bits=\"10",
        "server_max_window_bits=10; server_max_window_bits=10",
        "server_max_window_bits=10; server_max_window_bits=11",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits; client_max_window_bits",
        "server_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=1",
        "__proto__",
        "constructor=1",
        "hasOwnProperty",
        "x",
        "=",
        ";",
        "\u{e9}",
    ] {
        let (mut connection, answer) =
            offer(SessionConfig::default(), &format!("permessage-deflate; {params}"));
        assert_eq!(answer, None, "{params}");
        connection.feed(&frame(0x81, &[b'x'; 1000]));
        assert_eq!(connection.frames(), [(0x81, &[b'x'; 1000][..])], "{params}: nothing is compressed");
        connection.feed(&frame(0xc1, b"\x00"));
        assert_eq!(connection.close_code(), 1002, "{params}");
    }
    for extensions in ["__proto__", "permessage-deflate2", "permessage_deflate", "Permessage-Deflate", ""] {
        assert_eq!(offer(SessionConfig::default(), extensions).1, None, "{extensions}");
    }
    // Only the offer after a declined one counts.
    let (_, answer) = offer(
        SessionConfig::default(),
        "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=9",
    );
    assert!(answer.is_some_and(|answer| answer.ends_with("server_max_window_bits=9")));
}

/// gorilla, ws, Cowboy and Centrifugo compress only if configured; so does Postern.
#[test]
fn compression_is_off_unless_it_is_switched_on() {
    let request = with("", "Sec-WebSocket-Extensions: permessage-deflate");
    let mut connection = ask(WorkerConfig::default(), request.as_bytes());
    let answer = String::from_utf8(connection.take_wire()).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("Extensions"), "{answer}");
    connection.feed(&frame(0xc1, b"\x00"));
    assert_eq!(connection.close_code(), 1002);
}
