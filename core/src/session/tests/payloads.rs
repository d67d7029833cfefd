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
