//! The record and the bytes at the end of a session.

use super::*;

#[test]
fn every_ending_has_a_code_a_side_and_words() {
    let closed = |code: u16| Ending::Closed(CloseCode::from(code));
    for (ending, code, side, reason) in [
        (Ending::PeerClosed(Some(CloseCode::NORMAL)), 1000, "client", "closed by the client"),
        (Ending::PeerClosed(None), 1005, "client", "closed by the client"),
        (closed(1000), 1000, "server", "closed"),
        (closed(1001), 1001, "server", "going away"),
        (closed(1011), 1011, "server", "internal error"),
        (closed(1012), 1012, "server", "service restart"),
        (closed(1013), 1013, "server", "overloaded"),
        (closed(4413), 4413, "server", "slow consumer"),
        (closed(4429), 4429, "server", "rate exceeded"),
        (closed(4000), 4000, "server", "closed by the server"),
        (Ending::Failed(ProtocolError::Utf8), 1007, "server", "invalid UTF-8"),
        (Ending::Eof, 1006, "client", "connection ended without a close frame"),
        (Ending::Broken, 1006, "client", "connection broke"),
        (Ending::WriteStalled, 1006, "server", "nothing could be sent for too long"),
    ] {
        assert_eq!(
            (ending.code(), ending.side().to_string().as_str(), ending.reason()),
            (code, side, reason),
            "{ending:?}"
        );
    }
}

#[test]
fn every_protocol_error_has_a_code_and_words_of_its_own() {
    use ProtocolError as E;
    let mut words = std::collections::HashSet::new();
    for (code, errors) in [
        (
            1002,
            &[
                E::ReservedOpcode,
                E::ReservedBits,
                E::Unmasked,
                E::Masked,
                E::FragmentedControl,
                E::LongControl,
                E::NonMinimalLength,
                E::LengthOverflow,
                E::UnexpectedContinuation,
                E::ExpectedContinuation,
                E::ClosePayload,
                E::CloseCode,
            ][..],
        ),
        (1007, &[E::Utf8, E::Inflate]),
        (1009, &[E::FrameTooBig, E::MessageTooBig]),
        (1008, &[E::TooManyFragments, E::ControlRate, E::MessageTimeout]),
    ] {
        for error in errors {
            assert_eq!(u16::from(error.close_code()), code, "{error}");
            assert!(words.insert(error.to_string()), "{error}");
            assert_eq!(error.to_string(), error.reason());
            assert!((1..=123).contains(&error.reason().len()), "{error} fits a Close");
        }
    }
    assert_eq!(E::MessageTimeout.reason(), "message took too long");
    assert_eq!(Closing.to_string(), "the connection is closing");
}

#[test]
fn a_session_is_open_until_a_close_in_either_direction() {
    let mut bench = Bench::new(limits());
    assert!(bench.session.is_open() && bench.session.wants_read());
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, ""));
    assert!(!bench.session.is_open() && bench.session.wants_read(), "the answer is awaited");
    bench.feed(&frame(0x88, b""));
    assert!(!bench.session.is_open() && !bench.session.wants_read());

    let mut bench = Bench::new(limits());
    bench.feed(b"\xff");
    assert!(!bench.session.is_open() && bench.session.wants_read(), "the peer may linger");
    bench.wait(LINGER);
    assert!(!bench.session.wants_read());
}

#[test]
fn an_end_that_comes_again_changes_nothing() {
    let mut bench = Bench::new(limits());
    bench.feed(&frame(0x88, b"\x03\xe8"));
    let timeout = bench.session.poll_timeout();
    bench.now += Duration::from_secs(1);
    bench.session.handle_eof(bench.now);
    assert_eq!(bench.session.poll_timeout(), timeout, "the last Close has no more time than it had");
    assert_eq!(bench.session.ending(), Some(Ending::PeerClosed(Some(CloseCode::NORMAL))));

    bench.wait(Duration::from_secs(4));
    assert!(bench.session.is_aborted());
    bench.session.handle_eof(bench.now);
    assert!(bench.session.is_aborted(), "and a session that has given up does not recover");
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn output_has_its_time_after_the_end_of_the_peers_side() {
    let mut bench = Bench::new(limits());
    bench.session.handle_eof(bench.now);
    assert_eq!(bench.session.poll_timeout(), Some((bench.now + Duration::from_secs(5), TimerKind::Close)));
    bench.wait(Duration::from_millis(4_999));
    assert!(!bench.session.is_aborted());
    bench.wait(Duration::from_millis(1));
    assert!(bench.session.is_aborted());
    assert_eq!(bench.session.ending(), Some(Ending::Eof));
}

#[test]
fn further_input_returns_the_same_error() {
    let mut bench = Bench::new(limits());
    bench.feed(b"\xff");
    let error = ProtocolError::ReservedBits;
    for bytes in [&frame(0x81, b"late")[..], b"\xff", b""] {
        let mut bytes = bytes.to_vec();
        bench.act(|session, turn| {
            let mut input = Input::new(&mut bytes);
            assert_eq!(session.next_event(turn, &mut input), Err(error));
            assert!(input.is_empty());
        });
    }
    // After an end without an error there are no events, and no error.
    let mut bench = Bench::new(limits());
    bench.session.handle_eof(bench.now);
    bench.feed(&frame(0x81, b"late"));
    assert_eq!(bench.seen, []);
}

#[test]
fn messages_after_our_close_are_not_even_inflated() {
    let mut bench = compressing("permessage-deflate", limits());
    bench.act(|session, turn| session.close(turn, CloseCode::GOING_AWAY, ""));
    bench.feed(&frame(0xc2, b"\xff\xff\xff"));
    bench.feed(&[frame(0x42, b"\xff"), frame(0x80, b"\xff\xff")].concat());
    assert_eq!(bench.seen, []);
    assert_eq!(bench.session.traffic(), Traffic::default());
}

#[test]
fn the_reason_of_a_close_is_that_of_the_caller() {
    for (reason, stored) in
        [("logged out", "logged out"), ("", "closed by the server"), (&"é".repeat(100), &"é".repeat(61))]
    {
        let mut bench = Bench::new(limits());
        bench.act(|session, turn| session.close(turn, CloseCode(4403), reason));
        bench.act(|session, turn| session.close(turn, CloseCode(4401), "the second close does nothing"));
        assert_eq!(bench.session.reason(), stored);
        bench.session.abort(Ending::Broken);
        assert_eq!(bench.session.reason(), stored, "the first cause stays the cause");
        assert_eq!(bench.session.ending(), Some(Ending::Closed(CloseCode(4403))));
    }
    let mut bench = Bench::new(limits());
    bench.act(|session, turn| session.close(turn, CloseCode(4429), CloseCode(4429).reason()));
    assert_eq!(bench.session.reason(), "rate exceeded");
    assert!(bench.session.control.is_none(), "the reason of a code takes no memory");
}
