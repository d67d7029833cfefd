//! Memory that runs short.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a runtime whose connections may have `max_memory` bytes in buffers together. Its sockets accept no bytes
/// once a user is admitted.
fn short(max_memory: usize) -> Runtime {
    let session = SessionConfig { max_message: 1 << 20, max_frame: 1 << 20, ..SessionConfig::default() };
    Runtime::new(WorkerConfig { session: Arc::new(session), max_memory, ..WorkerConfig::default() })
}

fn admitted(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    runtime.takes = usize::MAX;
    runtime.feed(key, HEAD.as_bytes());
    runtime.wires[key.0].clear();
    runtime.takes = 0;
    key
}

/// Returns the beginning of a message, `len` bytes of it.
fn beginning(len: usize) -> Vec<u8> {
    frame(0x01, &vec![b'a'; len])
}

fn is_gone(runtime: &Runtime, key: Key) -> bool {
    runtime.transports[key.0] != Transport::Open
}

#[test]
fn what_is_held_is_counted_until_it_is_gone_however_it_goes() {
    let mut runtime = short(0);
    let ends: [fn(&mut Runtime, Key); 6] = [
        |runtime, key| runtime.feed(key, &frame(0x80, b"")),
        |runtime, key| runtime.eof(key),
        |runtime, _| runtime.wait(31 * SECOND),
        |runtime, key| runtime.feed(key, b"\xff\xff"),
        |runtime, key| {
            runtime.worker.handle_error(key);
            runtime.flush(key);
        },
        |runtime, _| {
            runtime.worker.shut_down();
            runtime.wait(6 * SECOND);
        },
    ];
    for end in ends {
        let key = admitted(&mut runtime);
        assert_eq!(runtime.worker.memory_held(), 0);
        runtime.feed(key, &beginning(5000));
        assert!((5000..20_000).contains(&runtime.worker.memory_held()), "{}", runtime.worker.memory_held());
        end(&mut runtime, key);
        runtime.takes = usize::MAX;
        runtime.flush(key);
        (0..11).for_each(|_| runtime.wait(SECOND));
        assert_eq!(runtime.worker.memory_held(), 0);
    }
    let key = runtime.open();
    runtime.feed(key, b"GET /ws HTTP/1.1\r\n");
    assert!((18..100).contains(&runtime.worker.memory_held()), "a head counts, too");
    runtime.eof(key);
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn what_is_not_taken_counts_until_it_is() {
    let mut runtime = short(0);
    let key = admitted(&mut runtime);
    runtime.feed(key, &frame(0x82, &[7; 3000]));
    assert!((3000..10_000).contains(&runtime.worker.memory_held()), "{}", runtime.worker.memory_held());
    runtime.takes = usize::MAX;
    runtime.flush(key);
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn above_the_limit_the_slowest_are_evicted() {
    let mut runtime = short(100_000);
    let mut keys = Vec::new();
    while runtime.worker.memory_held() < 90_000 {
        let key = admitted(&mut runtime);
        runtime.feed(key, &frame(0x82, &[7; 10_000]));
        runtime.wait(Duration::from_millis(100));
        keys.push(key);
    }
    assert!(!runtime.worker.is_short_of_memory());
    assert!(keys.iter().all(|key| !is_gone(&runtime, *key)));

    let idle = admitted(&mut runtime);
    let late = admitted(&mut runtime);
    runtime.feed(late, &frame(0x82, &[7; 30_000]));
    assert!(runtime.worker.is_short_of_memory());
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    runtime.wait(Duration::ZERO);
    let gone: Vec<bool> = keys.iter().map(|key| is_gone(&runtime, *key)).collect();
    let first_kept = gone.iter().position(|gone| !gone).expect("not all");
    assert!(first_kept > 0 && gone[first_kept..].iter().all(|gone| !gone), "the oldest go: {gone:?}");
    assert!(!is_gone(&runtime, late) && !is_gone(&runtime, idle));
    let held = runtime.worker.memory_held();
    assert!((60_000..=87_500).contains(&held), "an eighth is free again, and no more: {held}");
    let evicted = runtime.notes.0.iter().filter(|note| note.starts_with("closed 123 Evicted ")).count();
    assert_eq!(evicted, first_kept);
}

#[test]
fn a_small_buffer_is_not_evicted_for_a_large_one() {
    let mut runtime = short(100_000);
    let little: Vec<Key> = (0..20)
        .map(|_| {
            let key = admitted(&mut runtime);
            runtime.feed(key, &beginning(10));
            key
        })
        .collect();
    runtime.wait(SECOND);
    let much = admitted(&mut runtime);
    runtime.takes = usize::MAX;
    runtime.feed(much, &beginning(99_000));
    runtime.wait(Duration::ZERO);
    assert!(little.iter().all(|key| !is_gone(&runtime, *key)));
    assert_eq!(runtime.wire(much), b"\x88\x0c\x03\xf5overloaded", "1013");
    assert_eq!(runtime.transports[much.0], Transport::ShutdownWrite);
    runtime.eof(much);
    assert!(runtime.notes.0.iter().any(|note| note.starts_with("closed 123 Closed(CloseCode(1013)) ")));
}

#[test]
fn handshakes_are_evicted_too() {
    let mut runtime = short(10_000);
    let keys: Vec<Key> = (0..12)
        .map(|_| {
            let key = runtime.open();
            runtime.feed(key, &[b"GET /ws HTTP/1.1\r\nA: ", &[b'a'; 1000][..]].concat());
            runtime.wait(Duration::from_millis(1));
            key
        })
        .collect();
    assert!(runtime.wire(keys[0]).starts_with(b"HTTP/1.1 503 "));
    assert!(runtime.wire(keys[11]).is_empty());
    assert!(runtime.worker.memory_held() <= 10_000);
}

/// The frame belongs to no single connection. It once made the average so large that no connection was evicted, and the worker
/// remained due.
#[test]
fn a_shared_frame_above_the_limit_is_evicted_with_its_connections() {
    let mut runtime = short(10_000);
    let keys = [admitted(&mut runtime), admitted(&mut runtime)];
    runtime.worker.send(&Selector::All, Outgoing::Binary(&[7; 20_000]), runtime.now);
    assert!(runtime.worker.is_short_of_memory());
    runtime.wait(Duration::ZERO);
    assert!(!runtime.worker.is_short_of_memory());
    assert!(keys.iter().all(|key| is_gone(&runtime, *key)));
}
