//! The payloads of frames: text, closes, pings and pongs.

use std::time::Duration;

use postern_core::{SessionConfig, Transport};

use crate::connection::{Connection, check_time, frame};

/// RFC 3629: overlong forms, surrogates and values above U+10FFFF pass filters that look for characters.
#[test]
fn text_that_is_not_utf8_is_refused_at_its_first_bad_byte() {
    for (bad, valid_prefix) in [
        (&b"\x80"[..], 0),
        (b"\xc0\xaf", 0),
        (b"\xc1\xbf", 0),
        (b"\xe0\x80\xaf", 1),
        (b"\xed\xa0\x80", 1),
        (b"\xf0\x80\x80\xaf", 1),
        (b"\xf4\x90\x80\x80", 1),
        (b"\xf5\x80", 0),
        (b"\xff", 0),
        (b"\xe2\x82\x41", 2),
    ] {
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.feed(&frame(0x81, bad));
        assert_eq!(connection.close_code(), 1007, "{}", bad.escape_ascii());
        assert_eq!(connection.recorder.messages, 0);
        // In fragments it is refused at the first byte that no character can have there.
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.feed(&frame(0x01, b"fine: "));
        for byte in &bad[..valid_prefix] {
            connection.feed(&frame(0x00, &[*byte]));
            assert_eq!(connection.wire(), b"", "{}", bad.escape_ascii());
        }
        connection.feed(&frame(0x00, &bad[valid_prefix..=valid_prefix]));
        assert_eq!(connection.close_code(), 1007, "{}", bad.escape_ascii());
    }
    for cut in [&b"\xe2\x82"[..], b"\xf0\x9f\x98", b"\xc3"] {
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.feed(&frame(0x01, cut));
        assert_eq!(connection.wire(), b"");
        connection.feed(&frame(0x80, b""));
        assert_eq!(connection.close_code(), 1007, "a character that the message does not finish");
    }
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.feed(&frame(0x01, b"\xf0\x9f"));
    connection.feed(&frame(0x80, b"\x98\x80"));
    assert_eq!(
        connection.wire(),
        "\u{81}\u{4}😀".chars().map(|c| c as u32).fold(Vec::new(), |mut bytes, c| {
            if c < 0x100 {
                bytes.push(c as u8)
            } else {
                bytes.extend("😀".bytes())
            }
            bytes
        })
    );
}

/// Tomcat CVE-2024-23672 and NATS 036aa3aab, ab56ffe50: invalid closes.
#[test]
fn a_close_is_valid_or_refused() {
    let answer = |payload: &[u8]| {
        let mut connection = Connection::admitted(SessionConfig::default());
        connection.feed(&frame(0x88, payload));
        let code = connection.close_code();
        connection.feed(&frame(0x81, b"too late"));
        assert_eq!(connection.recorder.messages, 0, "no frame is handled after a Close");
        assert_eq!(connection.close_code(), code, "and no bytes are sent");
        (code, connection.transport())
    };
    for code in [0u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(answer(&code.to_be_bytes()), (1002, Transport::ShutdownWrite), "{code}");
    }
    for code in [1000u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
        assert_eq!(answer(&code.to_be_bytes()), (code, Transport::Close), "{code}");
    }
    assert_eq!(answer(b""), (1005, Transport::Close));
    assert_eq!(answer(b"\x03"), (1002, Transport::ShutdownWrite));
    assert_eq!(answer(b"\x03\xe8\xff"), (1007, Transport::ShutdownWrite));
    assert_eq!(answer(b"\x03\xe8\xe2\x82"), (1007, Transport::ShutdownWrite));
    assert_eq!(answer(&[&b"\x03\xe8"[..], &[b'x'; 123]].concat()), (1000, Transport::Close));
}

/// Tomcat CVE-2024-23672: a peer that keeps the connection after the Close.
#[test]
fn a_peer_that_never_closes_is_dropped() {
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.worker.shut_down();
    connection.wait(Duration::ZERO);
    assert_eq!(connection.close_code(), 1001);
    for _ in 0..49 {
        connection.wait(Duration::from_millis(100));
        connection.feed(&frame(0x82, b"never closing"));
        assert_eq!(connection.worker.len(), 1);
    }
    connection.wait(Duration::from_millis(100));
    assert!(connection.worker.is_empty(), "five seconds after our Close, for any input");
    assert_eq!((connection.recorder.code, connection.recorder.messages), (1001, 0));
}

/// ws 8.23.0, curl CVE-2026-11586, undici GHSA-9fm3-97px-rjf6, ws CVE-2016-10518: pings of a peer that does not read.
#[test]
fn pings_of_a_peer_that_does_not_read_grow_nothing() {
    // Without the limit of their rate, which would end it after forty.
    let config = SessionConfig { control_rate: 0, ..SessionConfig::default() };
    let mut connection = Connection::admitted(config);
    connection.takes = 0;
    connection.feed(&frame(0x89, b"first"));
    let waiting = connection.worker.output(connection.key).len();
    assert_eq!(waiting, 7);
    for number in 0..100_000u32 {
        connection.feed(&frame(0x89, &[&number.to_be_bytes()[..], &[0; 121]].concat()));
    }
    assert_eq!(
        connection.worker.output(connection.key).len(),
        waiting,
        "one pong waits, outside the backlog"
    );
    connection.takes = usize::MAX;
    connection.flush();
    connection.wait(Duration::ZERO);
    let last = [&b"\x8a\x7d"[..], &99_999u32.to_be_bytes(), &[0; 121]].concat();
    assert_eq!(connection.wire(), [b"\x8a\x05first", &last[..]].concat());
}

/// The same with the default rate.
#[test]
fn a_flood_of_pings_is_1008() {
    let mut connection = Connection::admitted(SessionConfig::default());
    connection.takes = 0;
    connection.feed(&frame(0x89, &[0; 125]).repeat(41));
    connection.takes = usize::MAX;
    connection.flush();
    assert_eq!(connection.close_code(), 1008);
}

/// Undertow CVE-2021-3690: unsolicited pongs were kept.
#[test]
fn unsolicited_pongs_grow_nothing() {
    let config = SessionConfig { control_rate: 0, ..SessionConfig::default() };
    let mut connection = Connection::admitted(config);
    let pongs = frame(0x8a, &[7; 125]).repeat(1000);
    check_time(Duration::from_secs(20), || (0..1000).for_each(|_| connection.feed(&pongs)));
    assert_eq!((connection.wire().len(), connection.transport()), (0, Transport::Open));
    assert_eq!(connection.worker.poll_timeout(connection.now + Duration::from_secs(5)).map(|_| ()), Some(()));
    connection.wait(Duration::from_secs(5));
    assert_eq!(connection.worker.poll_timeout(connection.now), None, "no timer of theirs");
    connection.feed(&frame(0x81, b"still here"));
    assert_eq!(connection.wire(), b"\x81\x0astill here");
}
