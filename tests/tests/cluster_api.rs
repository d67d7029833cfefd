//! The server API of a cluster: methods that concern all nodes.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, node};
use postern_tests::postern::Postern;
use postern_tests::redis::Redis;
use postern_tests::{at_the_same_time, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Calls a method without parameters.
fn call(postern: &Postern, method: &str, body: &Value) -> Value {
    postern.post(&format!("/api/{method}"), body).json()["result"].clone()
}

/// Returns a figure of the nodes that a node knows, its own first.
fn figures(postern: &Postern, name: &str) -> Vec<Value> {
    let info = call(postern, "info", &json!({}));
    let nodes = info["nodes"].as_array().unwrap_or_else(|| panic!("{info}")).clone();
    nodes.iter().map(|node| node[name].clone()).collect()
}

#[test]
fn channels_are_listed_with_the_subscriptions_of_all_nodes() {
    for runtimes in PAIRS {
        let mut redis = Redis::start();
        let small = [("POSTERN_REDIS_QUEUE", "64KiB")];
        let [first, mut second] = runtimes.map(|runtime| node(runtime, &redis, &small));
        let mut john = Client::connect(&first, "123", "John Doe");
        let mut jane = Client::connect(&second, "7", "Jane Roe");
        john.subscribe("news");
        jane.subscribe("news");
        jane.subscribe("live:1");
        let channel = |count: usize| json!({ "num_clients": count });
        let result = |channels: Value| json!({ "channels": channels, "nodes": 2, "silent_nodes": 0, "incomplete_nodes": 0 });
        let all = result(json!({ "news": channel(2), "live:1": channel(1) }));
        let live = result(json!({ "live:1": channel(1) }));
        for postern in [&first, &second] {
            assert_eq!(call(postern, "channels", &json!({})), all);
            assert_eq!(call(postern, "channels", &json!({ "pattern": "live:*" })), live);
            assert_eq!(call(postern, "channels", &json!({ "pattern": "none" })), result(json!({})));
        }
        // 100 names of 100 bytes are more than 64 KiB / 16.
        for number in 0..100 {
            jane.subscribe(&format!("live:{number:095}"));
        }
        let pattern = json!({ "pattern": "live:0*" });
        let here = call(&second, "channels", &pattern);
        assert_eq!(here["channels"].as_object().map(serde_json::Map::len), Some(100), "{here}");
        assert_eq!(here["incomplete_nodes"], 0, "{here}");
        let there = call(&first, "channels", &pattern);
        let count = there["channels"].as_object().map_or(0, serde_json::Map::len);
        assert!((1..100).contains(&count), "{there}");
        assert_eq!(there["incomplete_nodes"], 1, "{there}");
        // A node that does not answer.
        second.process.signal(Signal::STOP).expect("a signal");
        let alone = call(&first, "channels", &json!({}));
        second.process.signal(Signal::CONT).expect("a signal");
        let expected = json!({
            "channels": { "news": channel(1) }, "nodes": 2, "silent_nodes": 1, "incomplete_nodes": 0
        });
        assert_eq!(alone, expected);
        redis.kill();
        wait_until("the first node knows that Redis has ended", || {
            call(&first, "channels", &json!({}))
                == json!({ "channels": { "news": channel(1) }, "unreachable": true })
        });
    }
}

#[test]
fn info_describes_all_nodes_until_their_leases_end() {
    at_the_same_time(PAIRS, |runtimes| {
        let mut redis = Redis::start();
        let [first, mut second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut clients: Vec<Client> =
            ["7", "7", "8"].map(|user| Client::connect(&second, user, "Jane Roe")).into();
        clients[0].subscribe("news");
        let expected = [("num_clients", 3), ("num_users", 2), ("num_channels", 1), ("num_subs", 1)];
        wait_until("the first node knows the clients of the second one", || {
            expected.iter().all(|(name, count)| figures(&first, name) == [json!(0), json!(*count)])
        });
        // Each node begins with itself.
        let mut uids = [figures(&first, "uid"), figures(&second, "uid")];
        uids[1].reverse();
        assert_eq!(uids[0], uids[1]);
        assert_ne!(uids[0][0], uids[0][1]);
        assert_eq!(figures(&first, "version"), [env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_VERSION")]);
        // Foreign data is ignored.
        redis.run(&["ZADD", "postern:leases", "inf", "00000000000000aa"]);
        redis.run(&["HSET", "postern:nodes", "00000000000000aa", "junk", "stale", "{}"]);
        assert_eq!(figures(&first, "uid"), uids[0]);
        // A new connection has another lease, and the node is the same.
        redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        second.wait_for_count("channels are connected with Redis", 2);
        wait_until("the first node knows the second one again", || {
            figures(&first, "uid") == uids[0] && figures(&second, "uid").len() == 2
        });
        let start = Instant::now();
        second.process.kill();
        while figures(&first, "uid").len() > 1 {
            assert!(start.elapsed() < Duration::from_secs(40), "the node is still described");
            thread::sleep(Duration::from_millis(100));
        }
        wait_until("its description is removed", || {
            // The junk entries, and the first node.
            redis.run(&["HLEN", "postern:nodes"]).trim().ends_with('3')
        });
        redis.kill();
        wait_until("the first node knows that Redis has ended", || {
            call(&first, "info", &json!({}))["unreachable"] == true
        });
        assert_eq!(figures(&first, "uid"), uids[0][..1]);
    });
}
