//! The capacity of a worker, and evictions in favour of new connections.

use super::*;

const SLOW: &[u8] = b"GET /ws HTTP/1.1\r\n";

fn runtime(max_connections: usize, max_sockets: usize) -> Runtime {
    Runtime::of(WorkerConfig {
        max_connections: Some(max_connections),
        max_sockets: Some(max_sockets),
        ..WorkerConfig::default()
    })
}

fn slow(runtime: &mut Runtime) -> Key {
    let key = runtime.open();
    runtime.feed(key, SLOW);
    key
}

fn admitted(runtime: &mut Runtime) -> Option<Key> {
    let key = runtime.open();
    runtime.feed(key, HEAD.as_bytes());
    runtime.wait(Duration::ZERO);
    runtime.wire(key).starts_with(b"HTTP/1.1 101").then_some(key)
}

#[track_caller]
fn check_refused(runtime: &Runtime, key: Key, code: &str) {
    let wire = String::from_utf8_lossy(runtime.wire(key)).into_owned();
    assert!(wire.starts_with("HTTP/1.1 503 ") && wire.contains(&format!("\"{code}\"")), "{wire}");
}

#[test]
fn one_more_than_the_places_is_refused_and_a_place_that_comes_free_is_taken() {
    let mut runtime = runtime(3, 100);
    let users: Vec<Key> = (0..3).filter_map(|_| admitted(&mut runtime)).collect();
    assert_eq!(users.len(), 3);
    assert!(runtime.worker.is_full() && runtime.worker.admitted() == 3);
    let refused = runtime.open();
    runtime.feed(refused, HEAD.as_bytes());
    check_refused(&runtime, refused, "overloaded");
    // While it lingers it does not have a place.
    runtime.end(users[0]);
    assert_eq!(runtime.worker.len(), 3);
    assert!(admitted(&mut runtime).is_some());
    assert!(admitted(&mut runtime).is_none());
}

#[test]
fn the_oldest_slow_handshake_is_evicted_at_once_when_all_places_are_taken() {
    let mut runtime = runtime(3, 100);
    let user = admitted(&mut runtime).expect("a place");
    let slow: Vec<Key> = (0..2).map(|_| slow(&mut runtime)).collect();
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now + Duration::from_secs(5)));
    let quick = runtime.open();
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    // If its head gets complete first, it is refused as well: its place is taken.
    runtime.feed(slow[0], &HEAD.as_bytes()[SLOW.len()..]);
    check_refused(&runtime, slow[0], "crowded");
    runtime.feed(quick, HEAD.as_bytes());
    assert!(runtime.wire(quick).starts_with(b"HTTP/1.1 101"));
    runtime.wait(Duration::ZERO);
    assert!(runtime.wire(slow[1]).is_empty(), "one new connection costs one");
    assert!(admitted(&mut runtime).is_some());
    check_refused(&runtime, slow[1], "crowded");
    assert!(admitted(&mut runtime).is_none(), "users keep their places");
    assert!(runtime.wire(user).starts_with(b"HTTP/1.1 101"));
}

#[test]
fn places_are_counted_however_connections_end() {
    let mut runtime = runtime(2, 100);
    let ends: [fn(&mut Runtime, Key); 6] = [
        |runtime, key| {
            runtime.feed(key, HEAD.as_bytes());
            runtime.end(key);
        },
        |runtime, key| runtime.feed(key, b"GET / HTTP/1.1\r\n\r\n"),
        |runtime, key| runtime.end(key),
        |runtime, _| runtime.wait(Duration::from_secs(6)),
        |runtime, key| {
            runtime.fail(key);
        },
        |runtime, _| {
            // Two others take its place and the one that is left.
            let others = [runtime.open(), runtime.open()];
            runtime.wait(Duration::ZERO);
            others.into_iter().for_each(|key| runtime.end(key));
        },
    ];
    for (round, end) in ends.iter().cycle().take(60).enumerate() {
        let key = runtime.open();
        end(&mut runtime, key);
        assert!(!runtime.worker.is_full(), "round {round}");
        runtime.wait(Duration::from_secs(2));
        let given_up = runtime.worker.take_places_given_up();
        assert_eq!(given_up, if round % 6 == 5 { 3 } else { 1 }, "round {round}");
        assert!(runtime.worker.is_empty(), "round {round}");
    }
    let users = [admitted(&mut runtime), admitted(&mut runtime), admitted(&mut runtime)];
    assert_eq!(users.map(|user| user.is_some()), [true, true, false]);
}

#[test]
fn refused_connections_are_closed_early_when_sockets_are_scarce_the_oldest_first() {
    let mut runtime = runtime(2, 4);
    let refused: Vec<Key> = (0..3)
        .map(|_| {
            let key = runtime.open();
            runtime.feed(key, b"GET / HTTP/1.1\r\n\r\n");
            key
        })
        .collect();
    let user = admitted(&mut runtime).expect("a place");
    assert_eq!(runtime.worker.len(), 4, "as many as may be");
    assert_eq!(runtime.transport(refused[0]), Transport::ShutdownWrite);
    let next = runtime.open();
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.transport(refused[0]), Transport::Close);
    assert_eq!(runtime.worker.len(), 4);
    assert!(
        [user, next, refused[1], refused[2]].iter().all(|key| runtime.transport(*key) != Transport::Close)
    );
}

#[test]
fn slow_heads_that_are_to_be_refused_do_not_keep_sockets() {
    let mut runtime = runtime(1, 3);
    let user = admitted(&mut runtime).expect("a place");
    let slow: Vec<Key> = (0..2).map(|_| slow(&mut runtime)).collect();
    runtime.wait(Duration::ZERO);
    assert!(slow.iter().all(|key| runtime.wire(*key).is_empty()), "there are sockets");
    let third = runtime.open();
    runtime.wait(Duration::ZERO);
    check_refused(&runtime, slow[0], "overloaded");
    assert_eq!(runtime.transport(slow[0]), Transport::Close);
    assert_eq!(runtime.worker.len(), 3);
    for key in [user, slow[1], third] {
        assert_eq!(runtime.transport(key), Transport::Open);
    }
}

#[test]
fn any_number_of_slow_heads_leaves_room_for_a_complete_one() {
    let mut runtime = runtime(50, 60);
    let mut users = 0;
    for round in 0..1000 {
        slow(&mut runtime);
        runtime.wait(Duration::ZERO);
        assert!(runtime.worker.len() <= 60, "round {round}");
        if round % 50 == 0 {
            assert!(admitted(&mut runtime).is_some(), "round {round}");
            users += 1;
        }
    }
    assert_eq!(runtime.worker.totals().connections, users);
}
