//! The owner of a payload's memory, and text that is checked while it arrives.

use super::*;

#[test]
fn what_comes_whole_is_not_copied() {
    let mut bench = Bench::new(limits());
    let mut bytes =
        [frame(0x81, b"text"), frame(0x82, b"binary"), frame(0x89, b"ping"), frame(0x8a, b"pong")].concat();
    bench.act(|session, turn| {
        let mut input = Input::new(&mut bytes);
        let mut is_borrowed = || match session.next_event(turn, &mut input) {
            Ok(Some(Event::Text(text))) => matches!(text.into_payload(), Payload::Borrowed(_)),
            Ok(Some(Event::Binary(payload) | Event::Ping(payload) | Event::Pong(payload))) => {
                matches!(payload, Payload::Borrowed(_))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!([is_borrowed(), is_borrowed(), is_borrowed(), is_borrowed()], [true; 4]);
    });
    // Longer than the fast path accepts.
    let mut bench = Bench::new(SessionConfig { max_message: 70_000, max_frame: 70_000, ..limits() });
    let mut bytes = frame(0x82, &[7; 70_000]);
    bench.act(|session, turn| {
        let event = session.next_event(turn, &mut Input::new(&mut bytes));
        assert!(
            matches!(event, Ok(Some(Event::Binary(Payload::Borrowed(payload)))) if payload == [7; 70_000])
        );
    });
}

#[test]
fn the_short_way_is_for_whole_messages_that_are_right_and_leaves_others_as_they_are() {
    #[track_caller]
    fn check(bytes: &[u8], taken: Option<(DataKind, &[u8])>) {
        let config = SessionConfig { max_message: 1000, max_frame: 1000, ..SessionConfig::default() };
        let mut session = Session::new(Arc::new(config));
        let mut read = bytes.to_vec();
        let mut input = Input::new(&mut read);
        let taken_whole = session.take_whole_message(session.config.longest_whole(), &mut input);
        let got = taken_whole.map(|(kind, payload)| (kind, payload.to_vec()));
        assert_eq!(got, taken.map(|(kind, payload)| (kind, payload.to_vec())));
        let messages = u64::from(taken.is_some());
        assert_eq!(session.traffic().messages_received, messages);
        assert_eq!(session.traffic().bytes_received, taken.map_or(0, |(_, payload)| payload.len() as u64));
        assert_eq!(input.peek(), if taken.is_some() { &[][..] } else { bytes });
    }
    for len in [0, 1, 125, 126, 127, 255, 256, 257, 512, 999, 1000] {
        check(&frame(0x81, &vec![b'x'; len]), Some((DataKind::Text, &vec![b'x'; len])));
        check(&frame(0x82, &vec![0xff; len]), Some((DataKind::Binary, &vec![0xff; len])));
        if len > 0 {
            check(&frame(0x81, &vec![0xff; len]), None);
        }
        let whole = frame(0x82, &vec![7; len]);
        (0..whole.len()).for_each(|cut| check(&whole[..cut], None));
    }
    check(&frame(0x82, &[7; 1001]), None);
    for first in [0x00, 0x01, 0x02, 0x80, 0x88, 0x89, 0x8a, 0x83, 0xc1, 0xc2, 0xa1, 0x92] {
        check(&frame(first, b"x"), None);
    }
    check(b"\x82\x01x", None);
    check(b"\x82\x00", None);
    check(&[&b"\x82\xfe\x00\x7d\x00\x00\x00\x00"[..], &[7; 125]].concat(), None);
    check(&[&b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"[..], &[7; 1]].concat(), None);
}

#[test]
fn between_messages_nothing_has_begun() {
    let mut bench = Bench::new(limits());
    let message = frame(0x82, b"message");
    for (bytes, is_between) in [
        (&b""[..], true),
        (&message[..1], false),
        (&message[1..7], false),
        (&message[7..], true),
        (&frame(0x01, b"begun"), false),
        (&frame(0x89, b"p"), false),
        (&frame(0x80, b""), true),
        (&frame(0x88, b""), false),
    ] {
        bench.feed(bytes);
        assert_eq!(bench.session.is_between_messages(), is_between, "{bytes:02x?}");
    }
}

#[test]
fn text_is_refused_at_the_first_wrong_byte_however_it_is_split() {
    let begun = [frame(0x01, b"hello"), frame(0x00, b"abc\xc3")];
    check(&[&begun[..], &[frame(0x80, b"\xa9 c'est tout")]].concat(), &[text("helloabcé c'est tout")], b"");
    check_failure(&[&begun[..], &[frame(0x80, b"(")]].concat(), &[], ProtocolError::Utf8);
    check_failure(&[&begun[..], &[frame(0x80, b"")]].concat(), &[], ProtocolError::Utf8);
    // It is refused in the middle of its frame, so before its last byte has arrived.
    let mut bench = Bench::new(limits());
    bench.feed(&begun.concat());
    bench.feed(&frame(0x80, b"(and more to come)")[..7]);
    assert_eq!(bench.seen, [Seen::Failed(ProtocolError::Utf8)]);
}

#[test]
fn a_part_is_the_same_as_what_would_have_been_copied() {
    let payload: Vec<u8> = (0..MIN_SEGMENT).map(|i| i as u8).collect();
    for is_closing in [false, true] {
        let (mut bench, mut read) = (Bench::new(limits()), payload.clone());
        let mut client = Session::client(Arc::new(limits()), || [1, 2, 3, 4]);
        let mut turn =
            Turn { now: bench.now, out: &mut bench.out, is_backlogged: false, codec: &mut bench.codec };
        if is_closing {
            client.close(&mut turn, CloseCode::GOING_AWAY, "");
            turn.out.clear();
        }
        let mut segments = OutputSegments::default();
        let expected = if is_closing { Err(Closing) } else { Ok(()) };
        let sent = client.send_payload(
            &mut turn,
            DataKind::Binary,
            Payload::Borrowed(&mut read),
            Some(&mut segments),
        );
        assert_eq!(sent, expected);
        let in_parts: Vec<u8> =
            segments.write(turn.out, |pieces| pieces.iter().flat_map(|piece| piece.to_vec()).collect());
        turn.out.clear();
        assert_eq!(client.send_binary(&mut turn, &payload), expected);
        assert!(in_parts == *turn.out);
        let count = if is_closing { 0 } else { 2 };
        let (messages, bytes) = (client.traffic().messages_sent, client.traffic().bytes_sent);
        assert_eq!((messages, bytes), (count, count * MIN_SEGMENT as u64));
    }
}
