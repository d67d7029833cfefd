//! Users who come once more than they may, and the newest connection stays.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::policy::{Decision, Users};

/// One connection of user 123, the newest, and any number of others. Zero means no connection.
#[derive(Debug, Default)]
struct Newest(AtomicU64);

impl Users for Newest {
    fn enter(&self, id: &str, connection: ConnectionId) -> Decision {
        match id {
            "123" => match self.0.swap(connection.0, Relaxed) {
                0 => Decision::Admitted,
                before => Decision::Evict(ConnectionId(before)),
            },
            _ => Decision::Admitted,
        }
    }

    fn leave(&self, _: &str, connection: ConnectionId) {
        // If another has taken its place, it is not counted any more.
        let _ = self.0.compare_exchange(connection.0, 0, Relaxed, Relaxed);
    }
}

const CLOSE_4409: &[u8] = b"\x88\x0a\x11\x39replaced";

fn runtime(users: &Arc<Newest>) -> Runtime {
    let users: Arc<dyn Users> = users.clone();
    Runtime::new(WorkerConfig { users: Some(users), ..WorkerConfig::default() })
}

fn admitted(runtime: &mut Runtime, head: &str) -> Key {
    let key = runtime.open();
    runtime.feed(key, head.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
    runtime.wires[key.0].clear();
    key
}

#[test]
fn the_older_connection_of_a_user_is_closed_with_4409() {
    let mut runtime = runtime(&Arc::default());
    let other = admitted(&mut runtime, &HEAD.replace("123", "124"));
    let keys: Vec<Key> = (0..3).map(|_| admitted(&mut runtime, HEAD)).collect();
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now), "an eviction is pending");
    runtime.wait(Duration::ZERO);
    assert_eq!((runtime.wire(keys[0]), runtime.wire(keys[1])), (CLOSE_4409, CLOSE_4409));
    assert_eq!((runtime.wire(keys[2]), runtime.wire(other)), (&b""[..], &b""[..]));
    assert_eq!(runtime.worker.next_replaced_elsewhere(), None);
    runtime.feed(keys[0], &frame(0x88, b"\x11\x39"));
    let end = runtime.notes.0.last().expect("a record");
    assert!(end.starts_with("closed 123 Closed(CloseCode(4409))"), "{end}");
    runtime.feed(keys[2], &frame(0x81, b"a"));
    assert_eq!(runtime.wire(keys[2]), b"\x81\x01a");
}

#[test]
fn one_at_another_worker_is_closed_there() {
    let users = Arc::default();
    let (mut first, mut second) = (runtime(&users), runtime(&users));
    second.opened = 100;
    let old = admitted(&mut first, HEAD);
    let new = admitted(&mut second, HEAD);
    second.wait(Duration::ZERO);
    let replaced = second.worker.next_replaced_elsewhere().expect("it is not here");
    assert_eq!(second.worker.next_replaced_elsewhere(), None);
    second.worker.replace(&replaced, second.now);
    assert_eq!(second.wire(new), b"");
    first.worker.replace(&replaced, first.now);
    first.wait(Duration::ZERO);
    assert_eq!(first.wire(old), CLOSE_4409);
    // A repeated eviction, and that of a removed connection, change nothing.
    first.worker.replace(&replaced, first.now);
    first.eof(old);
    first.worker.replace(&replaced, first.now);
    assert_eq!(first.wire(old), CLOSE_4409);
}

#[test]
fn a_connection_that_has_ended_is_not_replaced() {
    let mut runtime = runtime(&Arc::default());
    let old = admitted(&mut runtime, HEAD);
    runtime.eof(old);
    assert_eq!(admitted(&mut runtime, HEAD), old, "the key is used again");
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.worker.next_replaced_elsewhere(), None);
    assert_eq!(runtime.wire(old), b"");
}
