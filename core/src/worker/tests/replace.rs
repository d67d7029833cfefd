//! Users with too many connections, of which the newest stays.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::policy::{Decision, Users};

/// One connection of user 123, the newest, with its worker in the upper half; zero means none. Others are unlimited.
#[derive(Debug, Default)]
struct Newest(AtomicU64);

impl Newest {
    fn encode(worker: usize, connection: ConnectionId) -> u64 {
        (worker as u64) << 32 | connection.0
    }
}

impl Users for Newest {
    fn enter(&self, id: &str, worker: usize, connection: ConnectionId) -> Decision {
        if id != "123" {
            return Decision::Admitted;
        }
        match self.0.swap(Newest::encode(worker, connection), Relaxed) {
            0 => Decision::Admitted,
            older => Decision::Replace {
                worker: (older >> 32) as usize,
                connection: ConnectionId(older & u64::from(u32::MAX)),
            },
        }
    }

    fn leave(&self, _: &str, connection: ConnectionId) {
        // If another has taken its place, it is not counted any more.
        for worker in 0..2 {
            let _ = self.0.compare_exchange(Newest::encode(worker, connection), 0, Relaxed, Relaxed);
        }
    }
}

const CLOSE_4409: &[u8] = b"\x88\x0a\x11\x39replaced";

fn runtime(users: &Arc<Newest>, number: usize) -> Runtime {
    let users: Arc<dyn Users> = users.clone();
    Runtime::of(WorkerConfig { users: Some(users), number, ..WorkerConfig::default() })
}

fn admitted(runtime: &mut Runtime, head: &str) -> Key {
    let key = runtime.open();
    runtime.feed(key, head.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "));
    runtime.take_wire(key);
    key
}

#[test]
fn the_older_connection_of_a_user_is_closed_with_4409() {
    let mut runtime = runtime(&Arc::default(), 0);
    let other = admitted(&mut runtime, &HEAD.replace("123", "124"));
    let keys: Vec<Key> = (0..3).map(|_| admitted(&mut runtime, HEAD)).collect();
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now), "an eviction is pending");
    runtime.wait(Duration::ZERO);
    assert_eq!((runtime.wire(keys[0]), runtime.wire(keys[1])), (CLOSE_4409, CLOSE_4409));
    assert_eq!((runtime.wire(keys[2]), runtime.wire(other)), (&b""[..], &b""[..]));
    assert_eq!(runtime.worker.poll_effect(), None);
    runtime.feed(keys[0], &frame(0x88, b"\x11\x39"));
    let end = runtime.recorder.0.last().expect("a record");
    assert!(end.starts_with("closed 123 Closed(CloseCode(4409))"), "{end}");
    runtime.feed(keys[2], &frame(0x81, b"a"));
    assert_eq!(runtime.wire(keys[2]), b"\x81\x01a");
}

#[test]
fn one_at_another_worker_is_closed_there() {
    let users = Arc::default();
    let (mut first, mut second) = (runtime(&users, 0), runtime(&users, 1));
    second.last_id = ConnectionId(100);
    let old = admitted(&mut first, HEAD);
    let new = admitted(&mut second, HEAD);
    second.wait(Duration::ZERO);
    let Some(WorkerEffect::ToPeer(_, PeerMessage::Replace(replaced))) = second.worker.poll_effect() else {
        panic!("no effect")
    };
    assert_eq!(replaced.worker, 0);
    assert_eq!(second.worker.poll_effect(), None);
    assert_eq!(second.wire(new), b"");
    first.worker.handle_message(
        WorkerMessage::Peer(PeerMessage::Replace(replaced.clone())),
        first.now,
        &mut first.recorder,
    );
    first.wait(Duration::ZERO);
    assert_eq!(first.wire(old), CLOSE_4409);
    // A repeated eviction, and the eviction of a removed connection, have no effect.
    first.worker.handle_message(
        WorkerMessage::Peer(PeerMessage::Replace(replaced.clone())),
        first.now,
        &mut first.recorder,
    );
    first.end(old);
    first.worker.handle_message(
        WorkerMessage::Peer(PeerMessage::Replace(replaced.clone())),
        first.now,
        &mut first.recorder,
    );
    assert_eq!(first.wire(old), CLOSE_4409);
}

#[test]
fn a_connection_that_has_left_is_not_replaced() {
    let mut runtime = runtime(&Arc::default(), 0);
    let old = admitted(&mut runtime, HEAD);
    runtime.end(old);
    assert_eq!(admitted(&mut runtime, HEAD), old, "the key is used again");
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.worker.poll_effect(), None);
    assert_eq!(runtime.wire(old), b"");
}
