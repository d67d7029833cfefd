//! The limit of connections of each user over the nodes of a cluster.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use postern_tests::cluster::{PAIRS, is_full, node};
use postern_tests::postern::Postern;
use postern_tests::redis::Redis;
use postern_tests::ws::{Handshake, Open, Outcome};
use postern_tests::{at_the_same_time, wait_until};
use serde_json::json;

/// Returns the settings of nodes that allow each user this many connections.
fn limit<'s>(most: &'s str, policy: &'s str) -> [(&'s str, &'s str); 2] {
    [("POSTERN_MAX_CONNECTIONS_PER_USER", most), ("POSTERN_USER_POLICY", policy)]
}

/// Returns the handshake of a user at a path.
fn handshake(postern: &Postern, path: &str, user: &str) -> Handshake {
    postern.handshake().target(path).header("User-ID", user).header("User-Name", "Jane Roe")
}

fn open(postern: &Postern, user: &str) -> Open {
    handshake(postern, ECHO, user).open()
}

/// Opens a connection, unless the user has too many at this node.
fn try_open(postern: &Postern, user: &str) -> Option<Open> {
    match handshake(postern, ECHO, user).send().expect("an answer") {
        Outcome::Open(open) => Some(*open),
        Outcome::Refused(refused) => {
            assert_eq!(refused.status, 429, "{refused:?}");
            None
        }
    }
}

/// Returns the number of connections of a user that are open at some nodes.
fn count(nodes: &[&Postern], user: &str) -> usize {
    let of = |postern: &&Postern| {
        let listed = postern.post("/api/connections", &json!({ "user": user })).json();
        let connections = listed["result"]["connections"].as_array().expect("connections").clone();
        connections.iter().filter(|connection| connection["closing"] == false).count()
    };
    nodes.iter().map(of).sum()
}

const ECHO: &str = "/ws";
const CHANNELS: &str = "/connection/websocket";

#[test]
fn the_newest_connection_of_a_user_with_too_many_is_closed_or_the_oldest_one() {
    for runtimes in PAIRS {
        for (policy, path, code) in [
            ("reject", ECHO, 4430),
            ("replace", ECHO, 4409),
            ("reject", CHANNELS, 3504),
            ("replace", CHANNELS, 3504),
        ] {
            let mut redis = Redis::start();
            let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &limit("2", policy)));
            let nodes = [&first, &second];
            let others = open(&first, "8");
            let mut oldest = handshake(&first, path, "7").open();
            wait_until("Redis knows the oldest connection", || {
                redis.run(&["HLEN", "postern:u:{7}"]).contains('1')
            });
            // Nodes agree on the order of admissions to a few milliseconds.
            thread::sleep(Duration::from_millis(50));
            let _middle = open(&second, "7");
            wait_until("Redis knows both connections", || {
                redis.run(&["HLEN", "postern:u:{7}"]).contains('2')
            });
            thread::sleep(Duration::from_millis(50));
            let mut newest = handshake(&second, path, "7").open();
            let closed = if policy == "reject" { &mut newest } else { &mut oldest };
            assert_eq!(closed.close_code(), code);
            wait_until("two connections are left", || count(&nodes, "7") == 2);
            drop((oldest, newest));
            wait_until("one connection is left", || count(&nodes, "7") == 1);
            // The place of a connection that has ended can be taken at another node.
            let _next = open(&first, "7");
            thread::sleep(Duration::from_millis(600));
            assert_eq!(count(&nodes, "7"), 2);
            // Without Redis, each node has its own limit.
            redis.kill();
            wait_until("the first node knows it", || first.metric("postern_engine_up") == Some(0.0));
            let more: Vec<Option<Open>> = (0..3).map(|_| try_open(&first, "7")).collect();
            wait_until("the first node has its own limit", || count(&[&first], "7") == 2);
            assert!(more.iter().any(Option::is_some));
            redis.start_again();
            wait_until("the limit of all nodes holds again", || count(&nodes, "7") == 2);
            assert_eq!(count(&nodes, "8"), 1);
            drop(others);
            wait_until("nothing is left of a user without connections", || {
                redis.run(&["EXISTS", "postern:u:{8}"]).contains('0')
            });
        }
    }
}

#[test]
fn the_limit_holds_after_random_opens_and_closes() {
    for (runtimes, policy) in PAIRS.into_iter().zip(["reject", "replace"]) {
        let redis = Redis::start();
        let [one, other] = runtimes;
        let nodes = [one, other, one].map(|runtime| node(runtime, &redis, &limit("3", policy)));
        let nodes = nodes.each_ref();
        let mut random = Rng::with_seed(7);
        let (mut opened, mut closed) = (Vec::new(), 0);
        let (mut since, mut longest): (Option<Instant>, Duration) = (None, Duration::ZERO);
        for _ in 0..if is_full() { 10_000 } else { 400 } {
            if random.u32(0..3) > 0 {
                opened.extend(try_open(nodes[random.usize(0..3)], "7"));
            } else if !opened.is_empty() {
                opened.swap_remove(random.usize(0..opened.len()));
                closed += 1;
            }
            if random.bool() {
                thread::sleep(Duration::from_millis(random.u64(0..40)));
            }
            since = (count(&nodes, "7") > 3).then(|| since.unwrap_or_else(Instant::now));
            longest = longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
        }
        println!(
            "{policy}: {} opened, {closed} closed, too many for {longest:?} at most",
            opened.len() + closed
        );
        wait_until("the limit holds", || count(&nodes, "7") <= 3);
        drop(opened);
        wait_until("all connections have ended", || redis.run(&["EXISTS", "postern:u:{7}"]).contains('0'));
    }
}

#[test]
fn the_connections_of_a_node_that_has_ended_count_until_its_lease_does() {
    at_the_same_time(PAIRS, |runtimes| {
        let redis = Redis::start();
        let [first, mut second] = runtimes.map(|runtime| node(runtime, &redis, &limit("3", "reject")));
        let _gone: Vec<Open> = (0..3).map(|_| open(&second, "7")).collect();
        let _others: Vec<Open> = (0..3).map(|_| open(&second, "8")).collect();
        wait_until("Redis knows the connections", || {
            ["7", "8"].iter().all(|user| redis.run(&["HLEN", &format!("postern:u:{{{user}}}")]).contains('3'))
        });
        second.process.kill();
        assert_eq!(open(&first, "7").close_code(), 4430);
        let start = Instant::now();
        let admitted = loop {
            let connection = open(&first, "7");
            thread::sleep(Duration::from_millis(700));
            if count(&[&first], "7") == 1 {
                break connection;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the connections still count");
        };
        // The other user has not connected again.
        wait_until("the connections of the lease are removed", || {
            redis.run(&["EXISTS", "postern:u:{8}"]).contains('0')
        });
        assert!(redis.run(&["HLEN", "postern:u:{7}"]).contains('1'));
        drop(admitted);
    });
}
