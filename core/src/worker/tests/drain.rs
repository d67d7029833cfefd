//! A process that stops.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CLOSE_1012: &[u8] = b"\x88\x11\x03\xf4service restart";

fn crowd(count: usize) -> (Runtime, Vec<Key>) {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let keys: Vec<Key> = (0..count).map(|_| runtime.open()).collect();
    for &key in &keys {
        runtime.feed(key, HEAD.as_bytes());
        runtime.take_wire(key);
    }
    (runtime, keys)
}

#[test]
fn connections_are_closed_one_after_the_other_over_the_whole_time() {
    let (mut runtime, keys) = crowd(1000);
    runtime.worker.drain(runtime.now, 10 * SECOND);
    let (mut closed, mut largest) = (0, 0);
    for _ in 0..100 {
        runtime.wait(SECOND / 10);
        let now = keys.iter().filter(|key| runtime.wire(**key) == CLOSE_1012).count();
        largest = largest.max(now - closed);
        closed = now;
    }
    assert_eq!(closed, 1000);
    assert!(largest <= 20, "{largest} in a tenth of a second, and 10 are the mean");
    assert_eq!(runtime.worker.drains_at(), None);
    for key in keys {
        runtime.feed(key, &frame(0x88, b"\x03\xf4"));
    }
    assert!(runtime.worker.is_empty());
}

#[test]
fn until_its_turn_a_connection_is_served() {
    let (mut runtime, keys) = crowd(2);
    runtime.worker.drain(runtime.now, 10 * SECOND);
    runtime.wait(SECOND / 1000);
    for &key in &keys {
        runtime.feed(key, &frame(0x81, b"a"));
        assert_eq!(runtime.wire(key), b"\x81\x01a");
    }
    runtime.wait(10 * SECOND);
    for &key in &keys {
        assert_eq!(runtime.wire(key), [b"\x81\x01a", CLOSE_1012].concat());
    }
}

#[test]
fn a_request_that_arrives_in_the_turn_of_the_drain_gets_503() {
    let (mut runtime, _) = crowd(1);
    let early = runtime.open();
    runtime.worker.drain(runtime.now, 10 * SECOND);
    let late = runtime.open();
    for key in [early, late] {
        // It is read before `next_due` is called.
        runtime.feed(key, HEAD.as_bytes());
        assert!(runtime.wire(key).starts_with(b"HTTP/1.1 503 "));
    }
}

#[test]
fn handshakes_and_new_connections_get_503_at_once() {
    let (mut runtime, _) = crowd(1);
    let early = runtime.open();
    runtime.feed(early, b"GET /ws HTTP/1.1\r\n");
    runtime.worker.drain(runtime.now, 10 * SECOND);
    let late = runtime.open();
    runtime.wait(Duration::ZERO);
    for key in [early, late] {
        assert!(runtime.wire(key).starts_with(b"HTTP/1.1 503 "), "{}", runtime.wire(key).escape_ascii());
    }
}

#[test]
fn connections_that_end_before_their_turn_cost_none() {
    let (mut runtime, keys) = crowd(3);
    runtime.worker.drain(runtime.now, 9 * SECOND);
    runtime.end(keys[0]);
    assert_eq!(runtime.open(), keys[0], "the key is used again");
    runtime.wait(9 * SECOND);
    assert!(runtime.wire(keys[0]).starts_with(b"HTTP/1.1 503 "));
    assert_eq!((runtime.wire(keys[1]), runtime.wire(keys[2])), (CLOSE_1012, CLOSE_1012));
}

#[test]
fn without_a_spread_all_are_closed_at_once_and_a_hurry_overtakes_a_drain() {
    let (mut runtime, keys) = crowd(10);
    runtime.worker.drain(runtime.now, Duration::ZERO);
    runtime.wait(Duration::ZERO);
    assert!(keys.iter().all(|&key| runtime.wire(key) == CLOSE_1012));

    let (mut runtime, keys) = crowd(10);
    runtime.worker.drain(runtime.now, 10 * SECOND);
    runtime.worker.shut_down();
    runtime.wait(Duration::ZERO);
    assert!(keys.iter().all(|&key| runtime.wire(key) == b"\x88\x0c\x03\xe9going away"));
}

#[test]
fn what_waits_to_be_sent_goes_before_the_close() {
    let (mut runtime, keys) = crowd(1);
    runtime.takes = 0;
    runtime.feed(keys[0], &frame(0x81, b"answered"));
    runtime.worker.drain(runtime.now, Duration::ZERO);
    runtime.wait(Duration::ZERO);
    runtime.takes = usize::MAX;
    runtime.flush(keys[0]);
    assert_eq!(runtime.wire(keys[0]), [b"\x81\x08answered", CLOSE_1012].concat());
}

#[test]
fn clients_of_the_subprotocol_get_different_times_to_reconnect() {
    let subprotocols = vec![SUBPROTOCOL.to_owned()];
    let handshake = HandshakeConfig { subprotocols, ..HandshakeConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { handshake, ..WorkerConfig::default() });
    let offer = format!("\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n");
    let keys: Vec<Key> = (0..20).map(|_| runtime.open()).collect();
    for &key in &keys {
        runtime.feed(key, HEAD.replace("\r\n\r\n", &offer).as_bytes());
        runtime.take_wire(key);
    }
    runtime.worker.drain(runtime.now, Duration::ZERO);
    runtime.wait(Duration::ZERO);
    let mut delays = std::collections::BTreeSet::new();
    for &key in &keys {
        let wire = runtime.wire(key);
        let text =
            wire.strip_prefix(b"\x81").and_then(|rest| rest.strip_suffix(CLOSE_1012)).expect("a notice");
        let text = std::str::from_utf8(&text[1..]).expect("text");
        let delay = text
            .strip_prefix(r#"{"type":"disconnect","code":1012,"reason":"service restart","reconnect":true,"reconnect_after_ms":"#)
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_else(|| panic!("{text}"));
        delays.insert(delay.parse::<u32>().expect("a number"));
    }
    assert!(delays.len() > 15 && delays.iter().all(|delay| (100..3100).contains(delay)), "{delays:?}");
}
