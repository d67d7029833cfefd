//! Memory that runs short.

use std::convert::Infallible;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a runtime whose connections may have `max_memory` bytes in buffers together. Its sockets accept no bytes
/// once a user is admitted.
fn short(max_memory: usize) -> Runtime {
    let session = SessionConfig { max_message: 1 << 20, max_frame: 1 << 20, ..SessionConfig::default() };
    Runtime::of(WorkerConfig { session: Arc::new(session), max_memory, ..WorkerConfig::default() })
}

/// An application that keeps as many bytes for a client as the client has last asked for, or as an event says.
#[derive(Debug)]
struct Keeper;

impl Application for Keeper {
    type Client = usize;
    type Inbound = Vec<(Key, usize)>;
    type Effect = Infallible;

    fn message<'b>(
        &mut self,
        client: &mut usize,
        message: Message<'_, 'b>,
        _: &mut Reply<'_, '_, 'b>,
        _: &mut impl Recorder,
    ) {
        *client = String::from_utf8_lossy(&message.payload).parse().expect("a number");
    }

    fn inbound(&mut self, event: Vec<(Key, usize)>, fanout: &mut Fanout<'_, Keeper>, _: &mut impl Recorder) {
        for (key, bytes) in event {
            *fanout.client(key).expect("a user").0 = bytes;
        }
    }

    fn has_client_memory(_: &usize) -> bool {
        true
    }

    fn client_memory(client: &usize) -> usize {
        *client
    }
}

/// Returns a runtime of that application, and three connections, which were admitted one second after another.
fn keeping(max_memory: usize) -> (Runtime<Keeper>, [Key; 3]) {
    let config = WorkerConfig { max_memory, ..WorkerConfig::default() };
    let mut runtime = Runtime::with_application(Keeper, config);
    let keys = [(); 3].map(|()| {
        runtime.wait(SECOND);
        admitted(&mut runtime)
    });
    runtime.takes = usize::MAX;
    (runtime, keys)
}

fn admitted<A: Application>(runtime: &mut Runtime<A>) -> Key {
    let key = runtime.open();
    runtime.takes = usize::MAX;
    runtime.feed(key, HEAD.as_bytes());
    runtime.take_wire(key);
    runtime.takes = 0;
    key
}

/// Returns the beginning of a message, `len` bytes of it.
fn beginning(len: usize) -> Vec<u8> {
    frame(0x01, &vec![b'a'; len])
}

fn is_gone<A: Application>(runtime: &Runtime<A>, key: Key) -> bool {
    runtime.transport(key) != Transport::Open
}

#[test]
fn what_is_held_is_counted_until_it_is_gone_however_it_goes() {
    let mut runtime = short(0);
    let ends: [fn(&mut Runtime, Key); 6] = [
        |runtime, key| runtime.feed(key, &frame(0x80, b"")),
        |runtime, key| runtime.end(key),
        |runtime, _| runtime.wait(31 * SECOND),
        |runtime, key| runtime.feed(key, b"\xff\xff"),
        |runtime, key| {
            runtime.fail(key);
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
    runtime.end(key);
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
    let evicted = runtime.recorder.0.iter().filter(|note| note.starts_with("closed 123 Evicted ")).count();
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
    assert_eq!(runtime.transport(much), Transport::ShutdownWrite);
    runtime.end(much);
    assert!(runtime.recorder.0.iter().any(|note| note.starts_with("closed 123 Closed(CloseCode(1013)) ")));
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

#[test]
fn the_state_of_a_client_is_counted_however_it_changes() {
    let (mut runtime, [first, second, _]) = keeping(usize::MAX);
    let held = |runtime: &Runtime<Keeper>| runtime.worker.memory_held();
    runtime.feed(first, &frame(0x81, b"100"));
    assert_eq!(held(&runtime), 100);
    // By the path of short messages.
    let mut socket = ModelSocket::with(&frame(0x81, b"70"));
    runtime.worker.on_readable(first, runtime.now, &mut [0; 100], &mut socket, &mut runtime.recorder);
    assert_eq!(held(&runtime), 70);
    let event = vec![(first, 10), (second, 5), (first, 20)];
    runtime.worker.handle_message(WorkerMessage::Application(event), runtime.now, &mut runtime.recorder);
    assert_eq!(held(&runtime), 25);
    runtime.feed(first, &frame(0x88, b""));
    assert_eq!(held(&runtime), 5, "the first one is closing");
    runtime.fail(second);
    runtime.worker.remove(second, runtime.now, &mut runtime.recorder);
    assert_eq!(held(&runtime), 0);
}

/// The state exists until the connection is removed. An eviction that did not reduce the count was once repeated without end.
#[test]
fn a_client_with_much_state_is_evicted_once_and_no_other_for_it() {
    let (mut runtime, [first, second, third]) = keeping(10_000);
    runtime.feed(first, &frame(0x81, b"1000"));
    runtime.feed(second, &frame(0x81, b"9100"));
    assert!(runtime.worker.is_short_of_memory());
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(second), b"\x88\x0c\x03\xf5overloaded", "1013");
    assert!(!is_gone(&runtime, first) && !is_gone(&runtime, third));
    assert_eq!(runtime.worker.memory_held(), 1000);
    assert_eq!(runtime.worker.next_due(runtime.now, &mut runtime.recorder), None);
    assert!(runtime.worker.poll_timeout(runtime.now).is_none_or(|at| at > runtime.now));
    // It cannot get its memory counted again: its messages are discarded.
    runtime.feed(second, &frame(0x81, b"20000"));
    assert_eq!(runtime.worker.memory_held(), 1000);
    // Nor does the application, with what it keeps for a connection that is closing.
    let event = vec![(second, 30_000)];
    runtime.worker.handle_message(WorkerMessage::Application(event), runtime.now, &mut runtime.recorder);
    assert!(!runtime.worker.is_short_of_memory());
}

/// Idle clients have some state each, and were admitted earlier. Their average is small, and they could be evicted in place of a
/// few large ones.
#[test]
fn many_clients_with_little_state_are_not_evicted_for_one_with_much() {
    let (mut runtime, _) = keeping(100_000);
    let little: Vec<Key> = (0..500)
        .map(|_| {
            let key = admitted(&mut runtime);
            runtime.takes = usize::MAX;
            runtime.feed(key, &frame(0x81, b"150"));
            key
        })
        .collect();
    runtime.wait(SECOND);
    let much: Vec<Key> = (0..3).map(|_| admitted(&mut runtime)).collect();
    runtime.takes = usize::MAX;
    much.iter().for_each(|&key| runtime.feed(key, &frame(0x81, b"9000")));
    assert!(runtime.worker.is_short_of_memory());
    runtime.wait(Duration::ZERO);
    assert!(little.iter().all(|&key| !is_gone(&runtime, key)));
    assert_eq!(much.iter().filter(|&&key| is_gone(&runtime, key)).count(), 2);
}
