//! Bytes in, events and bytes out; every case in one piece, byte by byte, and split at each offset.

mod endings;
mod payloads;

use super::*;
use crate::model::client_frame as frame;
use crate::turn::Codec;

/// An event, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(ProtocolError),
}

/// Gives a session what a runtime would give it.
struct Bench {
    session: Session,
    codec: Codec,
    now: Instant,
    out: Vec<u8>,
    is_backlogged: bool,
    seen: Vec<Seen>,
}

impl Bench {
    fn new(config: SessionConfig) -> Bench {
        let session = Session::new(Arc::new(config));
        Bench {
            session,
            codec: Codec::new(),
            now: Instant::now(),
            out: Vec::new(),
            is_backlogged: false,
            seen: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut input = Input::new(&mut bytes);
        let mut turn = Turn {
            now: self.now,
            out: &mut self.out,
            is_backlogged: self.is_backlogged,
            codec: &mut self.codec,
        };
        loop {
            self.seen.push(match self.session.next_event(&mut turn, &mut input) {
                Ok(Some(Event::Text(text))) => Seen::Text(text.as_str().to_owned()),
                Ok(Some(Event::Binary(payload))) => Seen::Binary(payload.to_vec()),
                Ok(Some(Event::Ping(payload))) => Seen::Ping(payload.to_vec()),
                Ok(Some(Event::Pong(payload))) => Seen::Pong(payload.to_vec()),
                Ok(Some(Event::Close { code, reason })) => {
                    Seen::Close(code.map(u16::from), reason.as_str().to_owned())
                }
                Ok(None) => break,
                Err(error) if self.seen.last() == Some(&Seen::Failed(error)) => break,
                Err(error) => Seen::Failed(error),
            });
        }
        assert!(input.is_empty(), "asks for more although bytes are left");
    }

    fn act(&mut self, action: impl FnOnce(&mut Session, &mut Turn<'_>)) {
        let mut turn = Turn {
            now: self.now,
            out: &mut self.out,
            is_backlogged: self.is_backlogged,
            codec: &mut self.codec,
        };
        action(&mut self.session, &mut turn);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.act(|session, turn| session.handle_timeout(turn));
    }
}

fn limits() -> SessionConfig {
    SessionConfig { max_message: 300, max_frame: 200, max_fragments: 4, ..SessionConfig::default() }
}

#[track_caller]
fn check(frames: &[Vec<u8>], seen: &[Seen], out: &[u8]) {
    let bytes = frames.concat();
    let run = |portions: &mut dyn Iterator<Item = &[u8]>, how: &str| {
        let mut bench = Bench::new(limits());
        portions.for_each(|portion| bench.feed(portion));
        assert_eq!(bench.seen, seen, "{how}");
        assert_eq!(bench.out, out, "{how}");
    };
    run(&mut [&bytes[..]].into_iter(), "in one piece");
    run(&mut bytes.chunks(1), "byte by byte");
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        run(&mut [a, b].into_iter(), &format!("split at {at}"));
    }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

#[test]
fn messages_in_one_frame() {
    check(
        &[frame(0x81, b"hello"), frame(0x82, b"\x00\xff")],
        &[text("hello"), Seen::Binary(vec![0, 255])],
        b"",
    );
    check(&[frame(0x81, b""), frame(0x82, b"")], &[text(""), Seen::Binary(vec![])], b"");
    check(&[frame(0x82, &[7; 130])], &[Seen::Binary(vec![7; 130])], b"");
}

#[test]
fn messages_in_fragments() {
    check(&[frame(0x01, b"hel"), frame(0x00, b""), frame(0x80, b"lo")], &[text("hello")], b"");
    check(&[frame(0x02, b""), frame(0x80, b"")], &[Seen::Binary(vec![])], b"");
    let euro = "€".as_bytes();
    check(&[frame(0x01, &euro[..1]), frame(0x80, &euro[1..])], &[text("€")], b"");
}

#[test]
fn control_frames_between_fragments() {
    check(
        &[frame(0x01, b"hel"), frame(0x89, b"p"), frame(0x8a, b"q"), frame(0x80, b"lo"), frame(0x81, b"x")],
        &[Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), text("hello"), text("x")],
        b"\x8a\x01p",
    );
}

#[test]
fn every_ping_is_answered_with_its_payload() {
    let long = [b'x'; 125];
    let mut out = b"\x8a\x00\x8a\x7d".to_vec();
    out.extend_from_slice(&long);
    check(&[frame(0x89, b""), frame(0x89, &long)], &[Seen::Ping(vec![]), Seen::Ping(long.to_vec())], &out);
}

#[track_caller]
fn check_failure(frames: &[Vec<u8>], seen: &[Seen], error: ProtocolError) {
    let mut seen = seen.to_vec();
    seen.push(Seen::Failed(error));
    let mut out = Vec::new();
    write_close(&mut out, Some(error.close_code()), error.reason(), None);
    check(frames, &seen, &out);
    let mut more = frames.to_vec();
    more.push(frame(0x81, b"too late"));
    check(&more, &seen, &out);
}

#[test]
fn what_breaks_the_protocol_fails_the_connection() {
    check_failure(&[frame(0xc1, b"x")], &[], ProtocolError::ReservedBits);
    check_failure(&[frame(0x91, b"x")], &[], ProtocolError::ReservedBits);
    check_failure(&[frame(0xc9, b"x")], &[], ProtocolError::ReservedBits);
    check_failure(&[frame(0x83, b"x")], &[], ProtocolError::ReservedOpcode);
    check_failure(&[frame(0x8b, b"x")], &[], ProtocolError::ReservedOpcode);
    check_failure(&[frame(0x09, b"x")], &[], ProtocolError::FragmentedControl);
    check_failure(&[frame(0x89, &[0; 126])], &[], ProtocolError::LongControl);
    check_failure(&[b"\x81\x01x".to_vec()], &[], ProtocolError::Unmasked);
    check_failure(&[frame(0x80, b"x")], &[], ProtocolError::UnexpectedContinuation);
    check_failure(&[frame(0x00, b"")], &[], ProtocolError::UnexpectedContinuation);
    check_failure(&[frame(0x01, b"x"), frame(0x81, b"x")], &[], ProtocolError::ExpectedContinuation);
    check_failure(&[frame(0x81, b"a"), frame(0x83, b"")], &[text("a")], ProtocolError::ReservedOpcode);
    check_failure(&[b"\x82\xfe\x00\x05\x00\x00\x00\x00".to_vec()], &[], ProtocolError::NonMinimalLength);
    check_failure(
        &[b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()],
        &[],
        ProtocolError::LengthOverflow,
    );
}

#[test]
fn text_must_be_utf8() {
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xe2\x82", b"\x80"] {
        check_failure(&[frame(0x81, bad)], &[], ProtocolError::Utf8);
        let mut fragments = vec![frame(0x01, b"fine")];
        fragments.extend(bad.iter().map(|byte| frame(0x00, &[*byte])).take(2));
        if bad.len() <= 2 {
            fragments.push(frame(0x80, b""));
            check_failure(&fragments, &[], ProtocolError::Utf8);
        }
    }
}

#[test]
fn invalid_text_is_refused_at_its_first_invalid_byte() {
    let mut bench = Bench::new(limits());
    let bytes = frame(0x01, b"ab\xed\xa0 and much more");
    bench.feed(&bytes[..6 + 3]);
    assert_eq!(bench.seen, [], "ED begins a character");
    bench.feed(&bytes[6 + 3..6 + 4]);
    assert_eq!(bench.seen, [Seen::Failed(ProtocolError::Utf8)], "ED A0 would be a surrogate");
}

#[test]
fn sizes_pass_at_the_limit_and_not_beyond() {
    check(&[frame(0x82, &[1; 200])], &[Seen::Binary(vec![1; 200])], b"");
    check_failure(&[frame(0x82, &[1; 201])], &[], ProtocolError::FrameTooBig);
    check_failure(&[frame(0x82, &[1; 301])], &[], ProtocolError::MessageTooBig);
    check(&[frame(0x02, &[1; 200]), frame(0x80, &[1; 100])], &[Seen::Binary(vec![1; 300])], b"");
    check_failure(&[frame(0x02, &[1; 200]), frame(0x80, &[1; 101])], &[], ProtocolError::MessageTooBig);
    let four = [frame(0x02, b""), frame(0x00, b""), frame(0x00, b""), frame(0x80, b"")];
    check(&four, &[Seen::Binary(vec![])], b"");
    let five = [frame(0x02, b""), frame(0x00, b""), frame(0x00, b""), frame(0x00, b""), frame(0x80, b"")];
    check_failure(&five, &[], ProtocolError::TooManyFragments);
}

#[test]
fn a_frame_larger_than_a_message_may_be_is_refused_whether_split_or_not() {
    let config = SessionConfig { max_message: 10, max_frame: 100, ..SessionConfig::default() };
    for portion in [1, 99] {
        let mut bench = Bench::new(config.clone());
        frame(0x82, &[0; 11]).chunks(portion).for_each(|bytes| bench.feed(bytes));
        assert_eq!(bench.seen, [Seen::Failed(ProtocolError::MessageTooBig)]);
        let mut bench = Bench::new(config.clone());
        frame(0x82, &[0; 10]).chunks(portion).for_each(|bytes| bench.feed(bytes));
        assert_eq!(bench.seen, [Seen::Binary(vec![0; 10])], "but one that is as large is not");
    }
}

#[test]
fn an_announced_length_is_refused_before_any_payload_and_allocates_nothing() {
    let mut bench = Bench::new(limits());
    bench.feed(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00");
    assert_eq!(bench.seen, [Seen::Failed(ProtocolError::MessageTooBig)]);

    let mut bench = Bench::new(SessionConfig { max_frame: 1 << 40, max_message: 1 << 40, ..limits() });
    bench.feed(b"\x02\xff\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00only this");
    let incoming = bench.session.incoming.expect("a message has begun");
    assert!(incoming.message.expect("a message").bytes.capacity() < 64);

    // A fragment, and then a length near 2^63: the sum must not overflow.
    let near = [frame(0x02, &[0; 10]), b"\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xf8\x00\x00\x00\x00".to_vec()];
    check_failure(&near, &[], ProtocolError::MessageTooBig);
    let mut bench = Bench::new(SessionConfig { max_frame: usize::MAX, ..limits() });
    bench.feed(&near.concat());
    assert_eq!(bench.seen, [Seen::Failed(ProtocolError::MessageTooBig)]);
}

#[test]
fn the_peers_close_is_answered_with_its_code() {
    let close = |payload: &[u8], code, reason: &str, out: &[u8]| {
        check(&[frame(0x88, payload)], &[Seen::Close(code, reason.to_owned())], out);
        check(&[frame(0x88, payload), frame(0x81, b"x")], &[Seen::Close(code, reason.to_owned())], out);
    };
    close(b"\x03\xe8", Some(1000), "", b"\x88\x02\x03\xe8");
    close(b"\x0f\xa1bye", Some(4001), "bye", b"\x88\x02\x0f\xa1");
    close(b"", None, "", b"\x88\x00");
    check_failure(&[frame(0x88, b"\x03")], &[], ProtocolError::ClosePayload);
    check_failure(&[frame(0x88, b"\x03\xed")], &[], ProtocolError::CloseCode);
    check_failure(&[frame(0x88, b"\x03\xe8\xff")], &[], ProtocolError::Utf8);
}

#[test]
fn the_peers_close_ends_the_connection_from_its_side() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.session.transport(), Transport::Open);
    bench.feed(&frame(0x88, b"\x03\xe9"));
    assert_eq!(bench.session.transport(), Transport::Close);
    let ending = bench.session.ending().expect("an end");
    assert_eq!((ending.code(), ending.side()), (1001, Side::Client));
    bench.act(|session, turn| assert_eq!(session.send_binary(turn, b"x"), Err(Closing)));
    assert_eq!(bench.out, b"\x88\x02\x03\xe9", "nothing follows our Close");
}

#[test]
fn our_close_waits_for_the_answer_and_lets_no_more_messages_through() {
    let mut bench = Bench::new(limits());
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, "going away"));
    bench.act(|session, turn| session.close(turn, CloseCode::NORMAL, "only the first counts"));
    bench.act(|session, turn| assert_eq!(session.send_text(turn, "x"), Err(Closing)));
    assert_eq!(bench.out, b"\x88\x0c\x03\xe9going away");
    bench.feed(&[frame(0x81, b"late"), frame(0x89, b"late")].concat());
    assert_eq!(
        (bench.seen.as_slice(), bench.session.transport()),
        (&[Seen::Ping(b"late".to_vec())][..], Transport::Open)
    );
    bench.feed(&frame(0x88, b"\x03\xe9"));
    assert_eq!(bench.session.transport(), Transport::Close);
    assert_eq!(bench.session.ending().map(|end| (end.code(), end.side())), Some((1001, Side::Server)));
    assert_eq!(bench.out.len(), 14, "nothing follows our Close");
    assert_eq!(bench.session.traffic(), Traffic::default());
}

#[test]
fn an_error_after_our_close_sends_no_second_close() {
    let mut bench = Bench::new(limits());
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, ""));
    bench.feed(b"\xff\xff");
    assert_eq!(bench.out, b"\x88\x02\x03\xe9");
    assert_eq!(bench.session.transport(), Transport::ShutdownWrite);
    assert_eq!(bench.session.ending(), Some(Ending::Closed(CloseCode::GOING_AWAY)));
}

#[test]
fn a_peer_that_never_answers_our_close_is_dropped() {
    let mut bench = Bench::new(limits());
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, ""));
    assert_eq!(bench.session.poll_timeout(), Some((bench.now + Duration::from_secs(5), TimerKind::Close)));
    bench.wait(Duration::from_millis(4_999));
    assert_eq!(bench.session.transport(), Transport::Open);
    bench.wait(Duration::from_millis(1));
    assert!(bench.session.is_aborted());
    assert_eq!(bench.session.ending(), Some(Ending::Closed(CloseCode::GOING_AWAY)));
}

#[test]
fn a_peer_may_linger_for_a_second_after_an_error() {
    let mut bench = Bench::new(limits());
    bench.feed(b"\xff");
    assert_eq!(bench.session.transport(), Transport::ShutdownWrite);
    bench.wait(LINGER - Duration::from_millis(1));
    assert_eq!(bench.session.transport(), Transport::ShutdownWrite);
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.session.transport(), Transport::Close);

    let mut bench = Bench::new(limits());
    bench.feed(b"\xff");
    bench.session.handle_eof(bench.now);
    assert_eq!(bench.session.transport(), Transport::Close);
}

#[test]
fn the_end_of_the_stream_without_a_close_is_1006() {
    let mut bench = Bench::new(limits());
    bench.feed(&frame(0x01, b"unfinished"));
    bench.session.handle_eof(bench.now);
    assert_eq!(bench.session.transport(), Transport::Close);
    assert_eq!(bench.session.ending().map(|end| (end.code(), end.side())), Some((1006, Side::Client)));
    assert_eq!(bench.out, b"");
}

#[test]
fn a_message_must_be_whole_in_time() {
    for begun in [&frame(0x01, b"x")[..], b"\x81", b"\x81\x85\x00\x00\x00\x00h", &frame(0x89, b"ping")[..3]] {
        let mut bench = Bench::new(limits());
        bench.feed(begun);
        assert_eq!(
            bench.session.poll_timeout(),
            Some((bench.now + Duration::from_secs(30), TimerKind::Message))
        );
        bench.wait(Duration::from_millis(29_999));
        assert_eq!(bench.session.transport(), Transport::Open);
        bench.wait(Duration::from_millis(1));
        assert_eq!(bench.session.ending(), Some(Ending::Failed(ProtocolError::MessageTimeout)));
        assert_eq!(bench.out[..4], [0x88, 23, 0x03, 0xf0], "1008");
    }
}

#[test]
fn the_message_timer_is_not_moved_by_bytes_and_ends_with_the_message() {
    let mut bench = Bench::new(limits());
    bench.feed(&frame(0x01, b"a"));
    let first = bench.session.poll_timeout();
    bench.wait(Duration::from_secs(10));
    bench.feed(&[frame(0x89, b"still here"), frame(0x00, b"b")].concat());
    assert_eq!(bench.session.poll_timeout(), first);
    bench.feed(&frame(0x80, b"c"));
    assert_eq!(bench.session.poll_timeout(), None);
    assert_eq!(bench.seen.last(), Some(&text("abc")));
    // Frames that are split each time, but each of them in time, are not one slow message.
    let pings = frame(0x89, b"p").repeat(100);
    let mut portions = pings.chunks(4);
    for portion in &mut portions {
        bench.wait(Duration::from_secs(9));
        bench.feed(portion);
    }
    assert_eq!(bench.session.ending(), None);
}

#[test]
fn timeouts_of_zero_are_off() {
    let mut bench = Bench::new(SessionConfig { message_timeout: Duration::ZERO, ..limits() });
    bench.feed(&frame(0x01, b"a"));
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn traffic_counts_messages_and_payload() {
    let mut bench = Bench::new(limits());
    bench.feed(&[frame(0x01, b"hel"), frame(0x89, b"ping"), frame(0x80, b"lo"), frame(0x82, b"x")].concat());
    bench.act(|session, turn| session.send_text(turn, "hi").expect("open"));
    let expected = Traffic { messages_received: 2, bytes_received: 6, messages_sent: 1, bytes_sent: 2 };
    assert_eq!(bench.session.traffic(), expected);
}

#[test]
fn an_idle_session_is_small_and_owns_no_heap() {
    assert!(size_of::<Session>() <= 104, "{}", size_of::<Session>());
    let mut bench = Bench::new(limits());
    for portion in [frame(0x01, b"hel"), frame(0x89, &[0; 125]), frame(0x80, b"lo")].concat().chunks(3) {
        bench.feed(portion);
    }
    assert_eq!(bench.seen.last(), Some(&text("hello")));
    assert!(bench.session.incoming.is_none());
    assert_eq!((bench.session.partial_len, bench.session.deadline), (0, None));
}

/// Returns a bench whose handshake agreed on compression.
fn compressing(offer: &str, limits: SessionConfig) -> Bench {
    let mut bench = Bench::new(limits);
    let deflate = Deflate::negotiate(None, offer.as_bytes());
    assert!(deflate.is_some(), "{offer}");
    bench.session = Session::new(bench.session.config.clone()).with_deflate(deflate);
    bench
}

/// Returns a payload as a client would compress it.
fn compressed(payload: &[u8]) -> Vec<u8> {
    crate::deflate::DeflateCodec::default().deflate(payload, 15, 1).expect("it gets shorter").to_vec()
}

#[track_caller]
fn check_compressed(frames: &[Vec<u8>], seen: &[Seen]) {
    let bytes = frames.concat();
    for portion in [usize::MAX, 1, 2, 3, 7] {
        let mut bench = compressing("permessage-deflate", limits());
        bytes.chunks(portion).for_each(|portion| bench.feed(portion));
        assert_eq!(bench.seen, seen, "in portions of {portion}");
        assert!(bench.session.incoming.is_none());
    }
}

#[test]
fn compressed_messages_in_one_frame_and_in_fragments() {
    let words = "Postern lets you in only if the gate says so. ".repeat(6);
    let small = compressed(words.as_bytes());
    check_compressed(&[frame(0xc1, &small)], &[text(&words)]);
    check_compressed(&[frame(0xc2, &small)], &[Seen::Binary(words.clone().into_bytes())]);
    let (a, b) = small.split_at(5);
    check_compressed(
        &[frame(0x41, a), frame(0x89, b"p"), frame(0x80, b)],
        &[Seen::Ping(b"p".to_vec()), text(&words)],
    );
    check_compressed(&[frame(0x41, b""), frame(0x00, a), frame(0x80, b)], &[text(&words)]);
    check_compressed(&[frame(0x81, b"unchanged"), frame(0xc1, &small)], &[text("unchanged"), text(&words)]);
    check_compressed(&[frame(0xc1, &[0])], &[text("")]);
}

#[test]
fn the_compression_bit_stands_on_the_first_frame_of_a_message_alone() {
    let small = compressed(&[7; 100]);
    let reserved = [Seen::Failed(ProtocolError::ReservedBits)];
    check_compressed(&[frame(0x41, &small[..2]), frame(0xc0, &small[2..])], &reserved);
    check_compressed(&[frame(0xc9, b"")], &reserved);
    check_compressed(&[frame(0xc8, b"")], &reserved);
    check_compressed(&[frame(0xa1, b"")], &reserved);
}

#[test]
fn compressed_data_must_be_deflate_and_text_inside_it_utf8() {
    check_compressed(&[frame(0xc2, b"\xff\xff\xff")], &[Seen::Failed(ProtocolError::Inflate)]);
    check_compressed(&[frame(0xc1, &compressed(&[0xff; 100]))], &[Seen::Failed(ProtocolError::Utf8)]);
    check_compressed(&[frame(0xc2, &compressed(&[0xff; 100]))], &[Seen::Binary(vec![0xff; 100])]);
}

#[test]
fn a_compressed_message_has_the_same_limit_as_any_other() {
    check_compressed(&[frame(0xc2, &compressed(&[0; 300]))], &[Seen::Binary(vec![0; 300])]);
    check_compressed(&[frame(0xc2, &compressed(&[0; 301]))], &[Seen::Failed(ProtocolError::MessageTooBig)]);
    // Empty blocks: they inflate to an empty message, and must not be accepted without a limit.
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(30);
    let mut endless = vec![frame(0x42, &nothing)];
    endless.extend((0..2).map(|_| frame(0x00, &nothing)));
    check_compressed(&endless, &[Seen::Failed(ProtocolError::MessageTooBig)]);
}

#[test]
fn what_is_sent_is_compressed_if_that_makes_it_shorter() {
    for bits in [8, 9, 15] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let mut bench = compressing(&offer, limits());
        let long = "Postern ".repeat(100);
        bench.act(|session, turn| session.send_text(turn, long.as_str()).expect("open"));
        assert!(bench.out[0] == 0xc1 && bench.out.len() < 200, "{:02x?}", bench.out);
        let payload = bench.out.split_off(if bench.out[1] == 126 { 4 } else { 2 });
        let inflated = bench.codec.deflate.inflate(&payload, 1000);
        assert_eq!(inflated.as_deref(), Ok(long.as_bytes()));
        bench.out.clear();
        bench.act(|session, turn| session.send_text(turn, "short").expect("open"));
        assert_eq!(bench.out, b"\x81\x05short");
    }
}

#[test]
fn a_flood_of_control_frames_is_1008() {
    let pings = |count| (0..count).map(|_| frame(0x89, b"p")).collect::<Vec<_>>().concat();
    let pongs = |count| (0..count).map(|_| frame(0x8a, b"")).collect::<Vec<_>>().concat();
    let mut bench = Bench::new(limits());
    bench.feed(&[pings(20), pongs(20)].concat());
    assert_eq!(bench.session.ending(), None, "forty at once");
    bench.wait(Duration::from_secs(1));
    bench.feed(&pongs(20));
    assert_eq!(bench.session.ending(), None, "and twenty a second later");
    bench.feed(&pongs(1));
    assert_eq!(bench.session.ending(), Some(Ending::Failed(ProtocolError::ControlRate)));
    assert_eq!(bench.session.ending().map(Ending::code), Some(1008));

    let mut bench = Bench::new(limits());
    bench.feed(&[pings(40), frame(0x88, b"\x03\xe8")].concat());
    assert_eq!(bench.seen.last(), Some(&Seen::Close(Some(1000), String::new())), "a Close is always heard");

    let mut bench = Bench::new(SessionConfig { control_rate: 0, ..limits() });
    bench.feed(&pings(10_000));
    assert_eq!(bench.session.ending(), None);
}

#[test]
fn a_peer_that_does_not_read_is_owed_one_pong() {
    let mut bench = Bench::new(limits());
    bench.is_backlogged = true;
    bench.feed(&[frame(0x89, b"first"), frame(0x89, b"second"), frame(0x89, b"last")].concat());
    assert!(bench.out.is_empty() && bench.session.has_pong());
    bench.is_backlogged = false;
    bench.act(|session, turn| session.send_pong(turn));
    bench.act(|session, turn| session.send_pong(turn));
    assert_eq!(bench.out, b"\x8a\x04last");

    let mut bench = Bench::new(limits());
    bench.is_backlogged = true;
    bench.feed(&frame(0x89, b"late"));
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, ""));
    bench.is_backlogged = false;
    bench.act(|session, turn| session.send_pong(turn));
    assert_eq!(bench.out, b"\x88\x02\x03\xe9", "nothing follows our Close");
}
