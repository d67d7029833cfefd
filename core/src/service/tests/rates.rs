//! Peers that talk too fast.

use super::*;
use crate::policy::Rate;
use crate::session::RatePolicy;

const MILLISECOND: Duration = Duration::from_millis(1);

fn paced(rate_policy: RatePolicy) -> Runtime {
    let session = SessionConfig {
        message_rate: Rate { per_second: 100, burst: 5 },
        byte_rate: Rate { per_second: 1000, burst: 1000 },
        rate_policy,
        ..SessionConfig::default()
    };
    Runtime::new(ServiceConfig { session: Arc::new(session), ..ServiceConfig::default() })
}

fn admitted(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.wires[key.0].clear();
    key
}

fn messages(count: usize) -> Vec<u8> {
    frame(0x81, b"a").repeat(count)
}

#[test]
fn at_the_burst_nothing_happens() {
    for policy in [RatePolicy::Pause, RatePolicy::Close] {
        let mut runtime = paced(policy);
        let key = admitted(&mut runtime);
        runtime.feed(key, &messages(5));
        assert!(runtime.service.wants_read(key));
        assert_eq!(runtime.wire(key), b"\x81\x01a".repeat(5));
    }
}

#[test]
fn one_more_pauses_until_the_rate_is_kept() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(6));
    assert!(!runtime.service.wants_read(key));
    assert_eq!(runtime.wire(key), b"\x81\x01a".repeat(6), "what was read is answered");
    runtime.wait(9 * MILLISECOND);
    assert!(!runtime.service.wants_read(key));
    runtime.wait(MILLISECOND);
    assert!(runtime.service.wants_read(key));
    runtime.feed(key, &messages(1));
    assert!(!runtime.service.wants_read(key), "the burst is spent");
}

#[test]
fn one_more_closes() {
    let mut runtime = paced(RatePolicy::Close);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(6));
    let wire = runtime.wire(key);
    assert_eq!(wire[18..], *b"\x88\x0f\x11\x4drate exceeded");
    runtime.feed(key, &[messages(1), frame(0x88, b"\x11\x4d")].concat());
    assert_eq!(runtime.wire(key).len(), 18 + 17, "nothing is answered any more");
    assert_eq!(runtime.transports[key.0], Transport::Close);
    let closed = "closed 123 Closed(Library(4429)) Traffic { messages_received: 6, bytes_received: 6, messages_sent: 6, bytes_sent: 6 }";
    assert_eq!(runtime.notes.0.last().map(String::as_str), Some(closed));
}

#[test]
fn bytes_count_with_their_frames_but_without_the_head() {
    for (payload, is_kept) in [(1000 - 8, true), (1000 - 7, false)] {
        let mut runtime = paced(RatePolicy::Pause);
        let key = runtime.open();
        runtime.feed(key, &[HEAD.as_bytes(), &frame(0x82, &vec![0; payload])].concat());
        assert_eq!(runtime.service.wants_read(key), is_kept, "{payload}");
    }
}

#[test]
fn a_message_that_waits_for_its_rest_loses_no_time_by_a_pause() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    // 41 s of silence follow from it; a message has 30 s.
    runtime.feed(key, &[frame(0x01, b"a"), frame(0x80, &[0; 41_000]), frame(0x01, b"b")].concat());
    let pause = Duration::from_secs(41);
    runtime.wait(pause - Duration::from_secs(1));
    assert!(!runtime.service.wants_read(key));
    runtime.wait(Duration::from_secs(2));
    assert!(runtime.service.wants_read(key));
    runtime.feed(key, &frame(0x80, b"c"));
    assert!(runtime.wire(key).ends_with(b"\x81\x02bc"));
}

#[test]
fn a_peer_that_is_paused_is_told_of_the_stop_and_can_answer() {
    let mut runtime = paced(RatePolicy::Pause);
    let key = admitted(&mut runtime);
    runtime.feed(key, &messages(500));
    assert!(!runtime.service.wants_read(key));
    runtime.service.shut_down();
    runtime.wait(Duration::ZERO);
    assert!(runtime.service.wants_read(key), "its answer is awaited");
    runtime.feed(key, &frame(0x88, b"\x03\xe9"));
    assert!(runtime.service.is_empty());
}
