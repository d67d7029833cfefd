//! The effects of time on connections, and the memory that a worker keeps and frees.

use super::*;
use crate::record::Summary;

#[test]
fn a_message_that_does_not_end_is_closed_with_1008_and_then_dropped() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"begun"));
    runtime.wait(Duration::from_millis(29_999));
    assert_eq!(runtime.wire(key), b"");
    runtime.wait(Duration::from_millis(1));
    assert_eq!(runtime.wire(key), b"\x88\x17\x03\xf0message took too long");
    assert_eq!(runtime.transport(key), Transport::ShutdownWrite);
    runtime.wait(Duration::from_secs(1));
    assert!(runtime.worker.is_empty());
    assert!(runtime.recorder.0[1].starts_with("closed 123 Failed(MessageTimeout)"), "{:?}", runtime.recorder);
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_dropped_with_what_waits() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.worker.shut_down();
    runtime.wait(Duration::ZERO);
    runtime.wait(Duration::from_millis(4_999));
    assert_eq!(runtime.worker.len(), 1);
    assert!(runtime.worker.wants_write(key));
    runtime.now += Duration::from_millis(1);
    let due = Due { key, cause: DueCause::Deadline };
    assert_eq!(runtime.worker.next_due(runtime.now, &mut runtime.recorder), Some(due));
    runtime.worker.handle_deadlines(due, runtime.now, &mut runtime.recorder);
    assert!(runtime.worker.connections[key.0].output.is_empty(), "its memory is given back");
    runtime.flush(key);
    assert!(runtime.worker.is_empty());
    assert!(
        runtime.recorder.0[2].starts_with("closed 123 Closed(CloseCode(1001))"),
        "{:?}",
        runtime.recorder
    );
}

#[test]
fn a_timer_that_fires_for_nothing_is_armed_anew() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.feed(key, &frame(0x01, b"a"));
    runtime.feed(key, &frame(0x80, b"b"));
    runtime.wait(Duration::from_secs(20));
    runtime.feed(key, &frame(0x01, b"a"));
    // The entry of the first message fires now, and the second has twenty seconds left.
    runtime.wait(Duration::from_secs(10));
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now + Duration::from_secs(20)));
    runtime.wait(Duration::from_secs(20));
    assert!(runtime.wire(key).ends_with(b"message took too long"));
}

#[test]
fn what_a_socket_takes_later_is_recorded_with_its_times() {
    struct Times(Vec<Duration>);
    impl Recorder for Times {
        fn record(&mut self, record: &Record<'_>) {
            match record {
                Record::Established { took: time, .. }
                | Record::Rejected { took: time, .. }
                | Record::Closed { summary: Summary { lasted: time, .. }, .. } => self.0.push(*time),
                Record::Message { .. }
                | Record::Publication { .. }
                | Record::Pong { .. }
                | Record::RateExceeded { .. }
                | Record::RateKept { .. }
                | Record::CredentialsEnded { .. }
                | Record::TokenRefreshed { .. }
                | Record::RefreshRefused { .. }
                | Record::Abandoned { .. } => {}
            }
        }
    }
    let mut runtime = Runtime::of(WorkerConfig::default());
    let second = Duration::from_secs(1);
    let mut times = Times(Vec::new());
    let (key, start) = (runtime.open(), runtime.now);
    runtime.worker.receive(key, start + second, &mut HEAD.as_bytes().to_vec(), &mut times);
    runtime.worker.handle_error(key);
    runtime.worker.remove(key, start + 8 * second, &mut times);
    let key = runtime.open();
    runtime.worker.receive(key, start + 3 * second, &mut b"\x16".to_vec(), &mut times);
    assert_eq!(times.0, [second, 7 * second, 3 * second], "from accept, from the 101, from accept");
}

#[test]
fn an_error_of_one_socket_leaves_the_others_as_they_are() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    let two = runtime.open();
    runtime.feed(two, HEAD.as_bytes());
    assert_eq!((runtime.worker.keys(), runtime.worker.len()), (vec![one, two], 2));
    assert!(!runtime.worker.is_empty());
    runtime.feed(one, b"");
    runtime.feed(two, b"");
    assert!(
        runtime.worker.connections.iter().all(|(_, connection)| connection.output.is_empty()),
        "turns without output leave none"
    );
    runtime.worker.receive(two, runtime.now, &mut frame(0x81, b"abc"), &mut runtime.recorder);
    assert_eq!(runtime.worker.output(one), b"");
    runtime.worker.handle_error(one);
    assert_eq!(runtime.worker.output(two), b"\x81\x03abc");
    runtime.flush(one);
    assert_eq!(runtime.worker.keys(), [two]);
    assert_eq!(runtime.worker.output(two), b"\x81\x03abc", "nor does its removal");
    // Calls with unknown keys return a result, and do not panic.
    runtime.worker.handle_error(one);
    runtime.worker.sent(one, 1, runtime.now);
    runtime.worker.receive(one, runtime.now, &mut [0x81], &mut runtime.recorder);
    assert_eq!(runtime.worker.output(one), b"");
    assert_eq!(runtime.worker.transport(one), Transport::Close);
    assert!(!runtime.worker.wants_read(one) && !runtime.worker.wants_write(one));
}

#[test]
fn output_that_was_forgotten_of_a_connection_that_broke_is_lost() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    let two = runtime.open();
    runtime.worker.receive(one, runtime.now, &mut frame(0x81, b"secret"), &mut runtime.recorder);
    runtime.worker.receive(two, runtime.now, &mut HEAD.as_bytes()[..1].to_vec(), &mut runtime.recorder);
    assert_eq!(runtime.worker.output(one), b"\x81\x06secret");
    runtime.worker.handle_error(one);
    assert_eq!(runtime.worker.output(one), b"");
    assert_eq!(runtime.worker.transport(one), Transport::Close);
    runtime.feed(two, &HEAD.as_bytes()[1..]);
    assert!(runtime.wire(two).starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_burst_does_not_keep_the_cork_large() {
    let limits = SessionConfig { max_message: 2 << 20, max_frame: 2 << 20, ..SessionConfig::default() };
    let (mut runtime, key) = admitted(limits);
    runtime.worker.cork = Vec::with_capacity(1 << 20);
    runtime.feed(key, &frame(0x82, b"abc"));
    assert_eq!(runtime.worker.cork.capacity(), 1 << 20, "what is usual is kept");
    runtime.feed(key, &frame(0x82, &vec![7; 2 << 20]));
    assert_eq!(runtime.worker.cork.capacity(), 0);
    runtime.feed(key, &frame(0x81, b"abc"));
    assert!(runtime.wire(key).ends_with(b"\x81\x03abc"));
}

#[test]
fn bytes_that_drip_leave_one_timer_entry() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    HEAD.as_bytes().chunks(1).for_each(|byte| runtime.feed(key, byte));
    frame(0x81, &[b'x'; 100]).chunks(1).skip(1).for_each(|byte| runtime.feed(key, byte));
    let entries = format!("{:?}", runtime.worker.timers).matches("Entry").count();
    assert!(entries <= 2, "one from the handshake, one from the message: {entries}");
}

#[test]
fn a_connection_that_is_gone_is_not_due() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    let two = runtime.open();
    runtime.worker.shut_down();
    runtime.end(one);
    let due = Due { key: two, cause: DueCause::Change };
    assert_eq!(runtime.worker.next_due(runtime.now, &mut runtime.recorder), Some(due));
    assert_eq!(runtime.worker.next_due(runtime.now, &mut runtime.recorder), None);
}

#[test]
fn a_socket_takes_nothing_where_there_is_nothing() {
    let (mut runtime, one) = admitted(SessionConfig::default());
    let two = runtime.open();
    runtime.worker.receive(one, runtime.now, &mut frame(0x81, b"abc"), &mut crate::record::NullRecorder);
    runtime.worker.sent(two, 3, runtime.now);
    runtime.flush(one);
    assert_eq!(runtime.wire(one), b"\x81\x03abc");
    assert_eq!(runtime.recorder.0.len(), 1, "{:?}", runtime.recorder);
}

#[test]
fn an_early_check_of_deadlines_changes_nothing() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let [beginning, refused] = [runtime.open(), runtime.open()];
    runtime.feed(beginning, b"GET ");
    runtime.feed(refused, b"\x16");
    let refusal = runtime.wire(refused).to_vec();
    let mut look = |key, now| {
        let notes = &mut runtime.recorder;
        runtime.worker.turn(key, now, |connection, context, turn| {
            connection.handle_deadlines(context, turn, false, notes);
        });
        (runtime.worker.transport(key), runtime.worker.output(key).is_empty())
    };
    let second = Duration::from_secs(1);
    assert_eq!(look(beginning, runtime.now + 4 * second), (Transport::Open, true));
    assert_eq!(
        look(beginning, runtime.now + 5 * second),
        (Transport::Open, false),
        "the refusal must be sent"
    );
    assert_eq!(look(refused, runtime.now + second / 2), (Transport::ShutdownWrite, true));
    assert_eq!(look(refused, runtime.now + second), (Transport::Close, true));
    assert!(refusal.starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn a_backlog_that_is_sent_leaves_nothing_due() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.wire(key), b"\x81\x03abc");
    assert_eq!(runtime.worker.next_due(runtime.now, &mut runtime.recorder), None);
}

#[test]
fn messages_are_recorded_if_the_recorder_wants_them() {
    struct Ends(usize);
    impl Recorder for Ends {
        fn record(&mut self, record: &Record<'_>) {
            assert!(!matches!(record, Record::Message { .. }), "asked for none");
            self.0 += 1;
        }

        fn wants_messages(&self) -> bool {
            false
        }
    }
    let (mut runtime, key) = admitted(SessionConfig::default());
    let mut ends = Ends(0);
    let bytes = [frame(0x81, b"a"), frame(0x01, b"b"), frame(0x80, b"c"), frame(0x88, b"")].concat();
    runtime.worker.receive(key, runtime.now, &mut bytes.clone(), &mut ends);
    assert_eq!(runtime.worker.output(key), b"\x81\x01a\x81\x02bc\x88\x00");
    runtime.worker.remove(key, runtime.now, &mut ends);
    assert_eq!(ends.0, 1);
    // A connection without a request.
    let key = runtime.open();
    runtime.worker.receive(key, runtime.now, &mut HEAD.as_bytes().to_vec(), &mut crate::record::NullRecorder);
    assert!(runtime.worker.output(key).starts_with(b"HTTP/1.1 101 "));
}
