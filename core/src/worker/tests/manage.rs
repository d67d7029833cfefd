//! The commands of an operator to a worker.

use proptest::prelude::*;

use super::*;
use crate::session::Traffic;

fn select_user(id: &str) -> Selector {
    Selector::User(id.to_owned())
}

fn select_session(id: &str) -> Selector {
    Selector::Session(id.to_owned())
}

/// Admits a user, of a session if there is one.
fn admit(runtime: &mut Runtime, user: &str, session: Option<&str>) -> Key {
    let key = runtime.open();
    let mut head = HEAD.replace("User-ID: 123", &format!("User-ID: {user}"));
    if let Some(session) = session {
        head = head.replace("User-Name:", &format!("User-Session-ID: {session}\r\nUser-Name:"));
    }
    runtime.feed(key, head.as_bytes());
    assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "), "{}", runtime.wire(key).escape_ascii());
    runtime.take_wire(key);
    key
}

fn sorted(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_unstable();
    keys
}

#[test]
fn connections_are_found_by_user_session_and_number_and_by_nothing_else() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let one = admit(&mut runtime, "1", Some("s1"));
    let other = admit(&mut runtime, "1", Some("s2"));
    let second = admit(&mut runtime, "2", None);
    let pending = runtime.open();
    let find = |runtime: &Runtime, selector: &Selector| sorted(runtime.worker.find(selector));
    for (selector, expected) in [
        (Selector::All, vec![one, other, second]),
        (select_user("1"), vec![one, other]),
        (select_user("2"), vec![second]),
        (select_user("3"), vec![]),
        (select_user(""), vec![]),
        (select_user("s1"), vec![]),
        (select_session("s2"), vec![other]),
        (select_session("1"), vec![]),
        (Selector::Connection(ConnectionId(3)), vec![second]),
        (Selector::Connection(ConnectionId(4)), vec![]),
        (Selector::Connection(ConnectionId(9)), vec![]),
    ] {
        assert_eq!(find(&runtime, &selector), expected, "{selector:?}");
    }
    assert!(runtime.worker.status(pending).is_none());
    assert_eq!(runtime.worker.user_fingerprints().len(), 2);

    runtime.end(one);
    assert_eq!(find(&runtime, &select_user("1")), [other]);
    assert_eq!(find(&runtime, &select_session("s1")), []);
    runtime.end(other);
    runtime.end(second);
    assert!(runtime.worker.user_fingerprints().is_empty());
}

#[test]
fn a_key_that_is_given_again_belongs_to_its_new_user_alone() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let old = admit(&mut runtime, "1", Some("s1"));
    runtime.end(old);
    let new = admit(&mut runtime, "2", None);
    assert_eq!(old, new);
    assert_eq!(runtime.worker.find(&select_user("1")), []);
    assert_eq!(runtime.worker.find(&select_session("s1")), []);
    assert_eq!(runtime.worker.find(&select_user("2")), [new]);
}

#[test]
fn the_mark_of_a_user_is_the_same_at_each_worker() {
    let marks = |users: &[&str]| {
        let mut runtime = Runtime::of(WorkerConfig { hash_seed: 42, ..WorkerConfig::default() });
        for user in users {
            admit(&mut runtime, user, None);
        }
        runtime.worker.user_fingerprints()
    };
    let both = marks(&["1", "2", "1"]);
    assert_eq!(both.len(), 2);
    assert!(both.is_sorted());
    assert!(both.contains(&marks(&["2"])[0]));
}

#[test]
fn status_and_totals_are_what_the_connections_have_carried() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let one = admit(&mut runtime, "1", Some("s1"));
    let two = admit(&mut runtime, "2", None);
    runtime.open();
    runtime.feed(one, &frame(0x81, b"abc"));
    runtime.takes = 0;
    runtime.feed(two, &[frame(0x81, b"de"), frame(0x82, b"f")].concat());

    let status = runtime.worker.status(two).expect("it is admitted");
    let traffic = Traffic { messages_received: 2, bytes_received: 3, messages_sent: 2, bytes_sent: 3 };
    assert_eq!((status.id, status.identity.id(), status.since), (ConnectionId(2), "2", runtime.now));
    assert_eq!((status.traffic, status.backlog, status.is_open), (traffic, 7, true));

    let totals = runtime.worker.totals();
    let traffic = Traffic { messages_received: 3, bytes_received: 6, messages_sent: 3, bytes_sent: 6 };
    assert_eq!((totals.connections, totals.pending, totals.traffic, totals.backlog), (2, 1, traffic, 7));
    assert_eq!(totals.memory, runtime.worker.memory_held());
    let mut twice = totals;
    twice += totals;
    assert_eq!((twice.connections, twice.pending, twice.backlog), (4, 2, 14));
    assert_eq!((twice.traffic.bytes_sent, twice.memory), (12, 2 * totals.memory));
}

#[test]
fn a_disconnect_is_a_close_with_its_code_and_reason_to_those_that_are_meant() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let one = admit(&mut runtime, "1", None);
    let other = admit(&mut runtime, "1", None);
    let second = admit(&mut runtime, "2", None);
    let now = runtime.now;
    let close = |runtime: &mut Runtime, selector: &Selector| {
        runtime.worker.disconnect(selector, CloseCode::from(4403), "revoked", now)
    };
    assert_eq!(close(&mut runtime, &select_user("1")), 2);
    assert_eq!(runtime.worker.poll_timeout(now), Some(now), "there is something to be settled");
    assert_eq!(close(&mut runtime, &select_user("1")), 0, "they are closing already");
    assert_eq!(close(&mut runtime, &select_user("3")), 0);
    runtime.wait(Duration::ZERO);
    for key in [one, other] {
        assert_eq!(runtime.wire(key), b"\x88\x09\x11\x33revoked");
        assert!(runtime.worker.status(key).is_some_and(|status| !status.is_open));
    }
    assert_eq!(runtime.wire(second), b"");

    // One answers, the other does not, and has the time of every Close.
    runtime.feed(one, &frame(0x88, &4403_u16.to_be_bytes()));
    assert_eq!(runtime.transport(one), Transport::Close);
    runtime.wait(SessionConfig::default().close_timeout);
    assert_eq!(runtime.transport(other), Transport::Close);
    let closed: Vec<_> =
        runtime.recorder.0.iter().filter(|note| note.starts_with("closed 1 Closed(")).collect();
    assert_eq!(closed.len(), 2, "{:?}", runtime.recorder);
    assert_eq!(runtime.worker.find(&Selector::All), [second]);
}

#[test]
fn a_message_reaches_the_selected_connections_but_not_closing_ones() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let one = admit(&mut runtime, "1", None);
    let other = admit(&mut runtime, "1", None);
    let second = admit(&mut runtime, "2", None);
    let now = runtime.now;
    assert_eq!(runtime.worker.send(&select_user("1"), Outgoing::Text("hé"), now), 2);
    assert_eq!(
        runtime.worker.send(&Selector::Connection(ConnectionId(2)), Outgoing::Binary(b"\xff"), now),
        1
    );
    runtime.wait(Duration::ZERO);
    assert_eq!(runtime.wire(one), b"\x81\x03h\xc3\xa9");
    assert_eq!(runtime.wire(other), b"\x81\x03h\xc3\xa9\x82\x01\xff");
    assert_eq!(runtime.wire(second), b"");
    let traffic = runtime.worker.status(other).expect("it is there").traffic;
    assert_eq!((traffic.messages_sent, traffic.bytes_sent), (2, 4));

    runtime.worker.disconnect(&Selector::Connection(ConnectionId(1)), CloseCode::NORMAL, "", now);
    assert_eq!(runtime.worker.send(&select_user("1"), Outgoing::Text("late"), now), 1);
}

#[test]
fn a_message_is_sent_after_the_backlog_and_closes_slow_connections() {
    let limits = SessionConfig { max_backlog: 100, ..SessionConfig::default() };
    let mut runtime = Runtime::of(WorkerConfig { session: Arc::new(limits), ..WorkerConfig::default() });
    let slow = admit(&mut runtime, "1", None);
    let fast = admit(&mut runtime, "2", None);
    runtime.takes = 1;
    runtime.feed(slow, &frame(0x81, b"first"));
    let now = runtime.now;
    assert_eq!(runtime.worker.send(&Selector::All, Outgoing::Text("second"), now), 2);
    runtime.wait(Duration::ZERO);
    runtime.takes = usize::MAX;
    // Its socket becomes writable.
    runtime.flush(slow);
    assert_eq!(runtime.wire(slow), b"\x81\x05first\x81\x06second");
    runtime.flush(fast);
    assert_eq!(runtime.wire(fast), b"\x81\x06second");

    runtime.takes = 0;
    let long = "x".repeat(60);
    for _ in 0..2 {
        assert_eq!(runtime.worker.send(&select_user("1"), Outgoing::Text(&long), now), 1);
        runtime.wait(Duration::ZERO);
    }
    assert_eq!(
        runtime.worker.send(&select_user("1"), Outgoing::Text(&long), now),
        0,
        "it is closing with 4413"
    );
    runtime.takes = usize::MAX;
    runtime.flush(slow);
    assert!(runtime.wire(slow).ends_with(b"\x88\x0f\x11\x3dslow consumer"));
}

/// A call of a worker in a random sequence of calls.
#[derive(Debug, Clone)]
enum Step {
    Admit { user: u8, session: Option<u8> },
    Arrive,
    Leave(usize),
    Say(usize),
    Send(u8),
    Close(u8),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u8, proptest::option::of(0..3_u8)).prop_map(|(user, session)| Step::Admit { user, session }),
        1 => Just(Step::Arrive),
        3 => (0..20_usize).prop_map(Step::Leave),
        2 => (0..20_usize).prop_map(Step::Say),
        2 => (0..4_u8).prop_map(Step::Send),
        2 => (0..4_u8).prop_map(Step::Close),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Asserts that the indices find the same connections of each name as a scan of all connections.
fn check_indices(runtime: &Runtime) {
    let worker = &runtime.worker;
    let all: Vec<Key> = worker.keys().into_iter().filter(|key| worker.status(*key).is_some()).collect();
    let identity = |key: &Key| worker.status(*key).expect("it is admitted").identity;
    assert_eq!(sorted(worker.find(&Selector::All)), sorted(all.clone()));
    let mut users = 0;
    for name in ["0", "1", "2", "3"] {
        let expected: Vec<Key> = all.iter().copied().filter(|key| identity(key).id() == name).collect();
        users += usize::from(!expected.is_empty());
        assert_eq!(sorted(worker.find(&select_user(name))), sorted(expected), "user {name}");
        let of_session = |key: &Key| identity(key).session_id() == Some(name);
        let expected: Vec<Key> = all.iter().copied().filter(of_session).collect();
        assert_eq!(sorted(worker.find(&select_session(name))), sorted(expected), "session {name}");
    }
    assert_eq!(worker.user_fingerprints().len(), users);
    let totals = worker.totals();
    assert_eq!(totals.connections, all.len());
    // Connections that are being refused are neither.
    assert!(totals.connections + totals.pending <= worker.len());
}

proptest! {
    #[test]
    fn whatever_happens_each_name_has_its_connections(steps in steps()) {
        let mut runtime = Runtime::of(WorkerConfig { hash_seed: 7, ..WorkerConfig::default() });
        for step in steps {
            let keys = runtime.worker.keys();
            let now = runtime.now;
            let pick = |index: usize| keys.get(index % keys.len().max(1)).copied();
            let reply = frame(0x88, &1000_u16.to_be_bytes());
            match step {
                Step::Admit { user, session } => {
                    let session = session.map(|session| session.to_string());
                    admit(&mut runtime, &user.to_string(), session.as_deref());
                }
                Step::Arrive => {
                    runtime.open();
                }
                Step::Leave(index) => {
                    if let Some(key) = pick(index) {
                        // By a Close, or in the middle of its request; a client that is still connected closes.
                        runtime.feed(key, &reply);
                        if runtime.worker.keys().contains(&key) {
                            runtime.end(key);
                        }
                    }
                }
                Step::Say(index) => {
                    if let Some(key) = pick(index)
                        && runtime.worker.status(key).is_some()
                    {
                        runtime.feed(key, &frame(0x81, b"hello"));
                    }
                }
                Step::Send(user) => {
                    let selector = select_user(&user.to_string());
                    let meant = runtime.worker.find(&selector);
                    let is_open = |key: &&Key| runtime.worker.status(**key).is_some_and(|status| status.is_open);
                    let open = meant.iter().filter(is_open).count();
                    let sent = runtime.worker.send(&selector, Outgoing::Text("hi"), now);
                    prop_assert_eq!(sent, open);
                }
                Step::Close(user) => {
                    let selector = select_user(&user.to_string());
                    runtime.worker.disconnect(&selector, CloseCode::NORMAL, "", now);
                    let left = runtime.worker.send(&selector, Outgoing::Text("late"), now);
                    prop_assert_eq!(left, 0);
                }
                Step::Wait => runtime.wait(Duration::from_secs(6)),
            }
            runtime.wait(Duration::ZERO);
            check_indices(&runtime);
        }
    }
}

#[test]
fn a_listing_has_the_lowest_numbers_after_the_given_one() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    for _ in 0..5 {
        admit(&mut runtime, "1", None);
    }
    admit(&mut runtime, "2", None);
    let now = runtime.now;
    let mut list = |selector: Selector, after: u64, limit: usize| {
        let request = AdminRequest::List { selector, after: ConnectionId(after), limit };
        let AdminReply::Connections(connections) = runtime.worker.handle_request(&request, now) else {
            panic!("another reply")
        };
        assert!(connections.iter().all(|listed| runtime.worker.status(listed.key).unwrap().id == listed.id));
        let mut numbers: Vec<u64> = connections.iter().map(|listed| listed.id.0).collect();
        numbers.sort_unstable();
        numbers
    };
    let first = list(Selector::All, 0, 9)[0];
    let expected = |range: std::ops::Range<u64>| range.map(|number| first + number).collect::<Vec<u64>>();
    assert_eq!(list(Selector::All, 0, 9), expected(0..6));
    assert_eq!(list(select_user("1"), 0, 9), expected(0..5));
    assert_eq!(list(select_user("1"), first, 2), expected(1..3));
    assert_eq!(list(select_user("1"), first + 4, 2), expected(0..0));
    assert_eq!(list(select_user("2"), 0, 0), expected(0..0));
}

#[test]
fn requests_report_how_many_connections_they_affect() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let keys = ["1", "1", "2"].map(|user| admit(&mut runtime, user, None));
    let now = runtime.now;
    let message = OutgoingMessage::Text("hi".to_owned());
    let send = AdminRequest::Send { selector: select_user("1"), message };
    let disconnect = AdminRequest::Disconnect {
        selector: select_user("1"),
        code: CloseCode::NORMAL,
        reason: "bye".to_owned(),
    };
    for (request, expected) in [(&send, 2), (&disconnect, 2), (&disconnect, 0), (&send, 0)] {
        let reply = runtime.worker.handle_request(request, now);
        assert!(matches!(reply, AdminReply::Affected(count) if count == expected), "{request:?}: {reply:?}");
        runtime.wait(Duration::ZERO);
    }
    let wire = b"\x81\x02hi\x88\x05\x03\xe8bye";
    assert_eq!([runtime.wire(keys[0]), runtime.wire(keys[1]), runtime.wire(keys[2])], [wire, wire, &b""[..]]);
    let AdminReply::Load(load) = runtime.worker.handle_request(&AdminRequest::Load, now) else { panic!() };
    assert_eq!((load.admitted, load.is_nearly_out_of_memory, load.is_log_stalled), (3, false, false));
    let AdminReply::Totals(totals) = runtime.worker.handle_request(&AdminRequest::Totals, now) else {
        panic!()
    };
    assert_eq!((totals.totals.connections, totals.user_fingerprints.len()), (3, 2));
}
