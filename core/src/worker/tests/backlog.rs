//! Output that the socket does not accept at once.

use super::*;

#[test]
fn a_short_write_is_continued_in_order() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 3;
    runtime.feed(key, &[frame(0x81, b"abcdef"), frame(0x81, b"ghi")].concat());
    runtime.feed(key, &frame(0x81, b"jkl"));
    while runtime.worker.wants_write(key) {
        runtime.flush(key);
    }
    assert_eq!(runtime.wire(key), b"\x81\x06abcdef\x81\x03ghi\x81\x03jkl");
}

#[test]
fn reading_pauses_while_too_much_waits_and_goes_on_afterwards() {
    let limits = SessionConfig { pause_backlog: 10, max_backlog: 1000, ..SessionConfig::default() };
    let (mut runtime, key) = admitted(limits);
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"12345678"));
    assert!(runtime.worker.wants_read(key), "ten bytes wait");
    runtime.feed(key, &frame(0x81, b""));
    assert!(!runtime.worker.wants_read(key), "twelve bytes wait");
    runtime.takes = 2;
    runtime.flush(key);
    assert!(runtime.worker.wants_read(key));
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.wire(key), b"\x81\x0812345678\x81\x00");
    assert!(runtime.worker.connections[key.0].output.is_empty(), "its memory is given back");
}

#[test]
fn a_peer_that_takes_too_little_is_closed_with_4413() {
    let limits = SessionConfig { pause_backlog: 1000, max_backlog: 10, ..SessionConfig::default() };
    let (mut runtime, key) = admitted(limits);
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"12345678"));
    runtime.feed(key, &frame(0x81, b""));
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.wire(key), b"\x81\x0812345678\x81\x00\x88\x0f\x11\x3dslow consumer");
    runtime.feed(key, &frame(0x88, b"\x11\x3d"));
    assert!(
        runtime.recorder.0[3].starts_with("closed 123 Closed(CloseCode(4413))"),
        "{:?}",
        runtime.recorder
    );
}

#[test]
fn one_message_is_taken_whole_however_long_it_is() {
    let limits = SessionConfig { pause_backlog: 10, max_backlog: 10, ..SessionConfig::default() };
    let (mut runtime, key) = admitted(limits);
    runtime.takes = 1;
    runtime.feed(key, &frame(0x82, &[7; 5000]));
    assert!(!runtime.worker.wants_read(key));
    while runtime.worker.wants_write(key) {
        runtime.flush(key);
    }
    assert_eq!(runtime.wire(key).len(), 4 + 5000);
    assert_eq!(runtime.transport(key), Transport::Open);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.wait(Duration::from_secs(9));
    runtime.takes = 1;
    runtime.flush(key);
    runtime.takes = 0;
    runtime.wait(Duration::from_secs(9));
    assert_eq!(runtime.worker.len(), 1, "it has taken one byte in the meantime");
    runtime.wait(Duration::from_secs(1));
    assert!(runtime.worker.is_empty());
    assert!(runtime.recorder.0[2].starts_with("closed 123 WriteStalled"), "{:?}", runtime.recorder);
}

#[test]
fn a_close_waits_until_what_was_sent_before_is_written() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 1;
    runtime.feed(key, &[frame(0x81, b"abc"), frame(0x88, b"")].concat());
    assert_eq!(runtime.transport(key), Transport::Open);
    for _ in 0..6 {
        assert_eq!(runtime.worker.len(), 1);
        runtime.flush(key);
    }
    assert_eq!(runtime.wire(key), b"\x81\x03abc\x88\x00");
    assert!(runtime.worker.is_empty());
}

#[test]
fn nothing_is_read_after_the_end_while_output_waits() {
    for end in [
        |runtime: &mut Runtime, key| runtime.end(key),
        |runtime: &mut Runtime, key| {
            runtime.feed(key, &frame(0x88, b""));
        },
    ] {
        let (mut runtime, key) = admitted(SessionConfig::default());
        runtime.takes = 0;
        runtime.feed(key, &frame(0x81, b"abc"));
        end(&mut runtime, key);
        assert!(!runtime.worker.wants_read(key), "a socket at its end is always readable: this would spin");
        runtime.takes = usize::MAX;
        runtime.flush(key);
        assert!(runtime.wire(key).starts_with(b"\x81\x03abc"));
        assert!(runtime.worker.is_empty());
    }
}

#[test]
fn output_that_a_runtime_forgot_is_not_sent_to_another_connection() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    let two = runtime.open();
    runtime.worker.receive(one, runtime.now, &mut frame(0x81, b"secret"), &mut runtime.recorder);
    runtime.feed(two, HEAD.as_bytes());
    assert!(runtime.wire(two).starts_with(b"HTTP/1.1 101 "));
    assert!(runtime.wire(two).ends_with(b"\r\n\r\n"));
    runtime.flush(one);
    assert_eq!(runtime.wire(one), b"\x81\x06secret");
}

#[test]
fn the_end_of_a_connection_leaves_no_output_for_the_next() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    runtime.worker.receive(one, runtime.now, &mut frame(0x81, b"secret"), &mut runtime.recorder);
    runtime.fail(one);
    assert!(runtime.worker.is_empty());
    let two = runtime.open();
    assert_eq!(two, one, "the key is used again");
    assert_eq!(runtime.worker.output(two), b"");
    runtime.feed(two, HEAD.as_bytes());
    assert!(runtime.wire(two).starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_delayed_pong_is_sent_when_the_backlog_is() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    for payload in [b"1", b"2", b"3"] {
        runtime.feed(key, &frame(0x89, payload));
    }
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.wire(key), b"\x81\x03abc");
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), b"\x81\x03abc\x8a\x013");
}

#[test]
fn a_delayed_pong_is_not_sent_after_a_later_one() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.feed(key, &frame(0x89, b"earlier"));
    runtime.takes = usize::MAX;
    runtime.flush(key);
    // The next read comes before the runtime asks what is due.
    runtime.feed(key, &frame(0x89, b"later"));
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(key), b"\x81\x03abc\x8a\x05later");
}
