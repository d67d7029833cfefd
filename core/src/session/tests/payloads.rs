//! Whose memory a payload is, and text that is checked while it comes.

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
}

#[test]
fn text_is_refused_at_the_first_wrong_byte_however_it_is_split() {
    let begun = [frame(0x01, b"hello"), frame(0x00, b"abc\xc3")];
    check(&[&begun[..], &[frame(0x80, b"\xa9 c'est tout")]].concat(), &[text("helloabcé c'est tout")], b"");
    check_failure(&[&begun[..], &[frame(0x80, b"(")]].concat(), &[], ProtocolError::Utf8);
    check_failure(&[&begun[..], &[frame(0x80, b"")]].concat(), &[], ProtocolError::Utf8);
    // It is refused in the middle of its frame, so before its last byte has come.
    let mut bench = Bench::new(limits());
    bench.feed(&begun.concat());
    bench.feed(&frame(0x80, b"(and more to come)")[..7]);
    assert_eq!(bench.seen, [Seen::Failed(ProtocolError::Utf8)]);
}

#[test]
fn a_part_is_the_same_as_what_would_have_been_copied() {
    let payload: Vec<u8> = (0..PART_FROM).map(|i| i as u8).collect();
    for is_closing in [false, true] {
        let (mut bench, mut read) = (Bench::new(limits()), payload.clone());
        let mut client = Session::client(Arc::new(limits()), || [1, 2, 3, 4]);
        let mut turn =
            Turn { now: bench.now, out: &mut bench.out, is_backlogged: false, codec: &mut bench.codec };
        if is_closing {
            client.close(&mut turn, CloseCode::Away, "");
            turn.out.clear();
        }
        let mut parts = Parts::default();
        let expected = if is_closing { Err(Closing) } else { Ok(()) };
        let sent =
            client.send_payload(&mut turn, DataKind::Binary, Payload::Borrowed(&mut read), Some(&mut parts));
        assert_eq!(sent, expected);
        let in_parts: Vec<u8> = parts.slices(turn.out).iter().flat_map(|piece| piece.to_vec()).collect();
        turn.out.clear();
        assert_eq!(client.send_binary(&mut turn, &payload), expected);
        assert!(in_parts == *turn.out);
        let count = if is_closing { 0 } else { 2 };
        let (messages, bytes) = (client.traffic().messages_sent, client.traffic().bytes_sent);
        assert_eq!((messages, bytes), (count, count * PART_FROM as u64));
    }
}
