//! Redis Cluster: both binaries find the master of their keys, and follow it.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::authority::Authority;
use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, publish, recover, unconnected};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use postern_tests::redis_cluster::{Options, RedisCluster};
use postern_tests::watcher::{Watcher, check_all, publish_at_last};
use postern_tests::ws::Outcome;
use postern_tests::{at_the_same_time, wait_until};
use serde_json::json;

/// Short times, so that a test does not wait for long, and no pings to clients that wait.
const FAST: [(&str, &str); 3] =
    [("POSTERN_REDIS_TIMEOUT", "500ms"), ("POSTERN_REDIS_PROBE", "1s"), ("POSTERN_PING_INTERVAL", "0")];

const CONNECTED: &str = "channels are connected with Redis";

/// The permissions of docs/scale.md, with a password.
const USER: [&str; 13] = [
    "--user",
    "postern",
    "on",
    ">the-password-of-a-user",
    "~{postern}:*",
    "&{postern}:*",
    "+@read",
    "+@write",
    "+@pubsub",
    "+@scripting",
    "+@connection",
    "+info",
    "+role",
];

fn start(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let node = unconnected(runtime, url, &[&FAST[..], settings].concat());
    node.wait_for(CONNECTED);
    node
}

/// Starts two nodes, and watchers of both.
fn start_pair(
    runtimes: [Runtime; 2],
    cluster: &RedisCluster,
    settings: &[(&str, &str)],
) -> ([Postern; 2], Vec<Watcher>) {
    let nodes = runtimes.map(|runtime| start(runtime, &cluster.url(), settings));
    let watchers = [0, 1, 0, 1].map(|index: usize| Watcher::new(&nodes[index])).into();
    (nodes, watchers)
}

/// Checks that no node of the cluster has refused a command because of the places of keys.
#[track_caller]
fn check_places(cluster: &RedisCluster) {
    for server in &cluster.servers {
        let errors = server.run(&["INFO", "errorstats"]);
        let is_there = |error: &&str| errors.contains(error);
        assert!(!["CROSSSLOT", "MOVED", "ASK", "TRYAGAIN"].iter().any(is_there), "{errors}");
    }
}

#[test]
fn all_commands_run_in_one_slot() {
    at_the_same_time(PAIRS, |runtimes| {
        let user = [&USER[..], &["+time", "+cluster|nodes"]].concat();
        let cluster = RedisCluster::with(&Options { arguments: &user, is_tls: false });
        let url = cluster.url().replace("://", "://postern:the-password-of-a-user@");
        let settings = [("POSTERN_MAX_CONNECTIONS_PER_USER", "3")];
        let [first, mut second] = runtimes.map(|runtime| start(runtime, &url, &settings));
        let master = &cluster.servers[0];
        let mut john = Client::without_pings(&first, "123", "John Doe");
        let mut jane = Client::without_pings(&second, "7", "Jane Roe");
        john.subscribe("room:1");
        // Jane does not get this join, because Redis has sent it before the second node subscribes.
        wait_until("John is present", || master.run(&["HLEN", "{postern}:p:{room:1}"]) == "1");
        jane.subscribe("room:1");
        assert_eq!(john.next()["push"]["join"]["info"]["user"], "123");
        for client in [&mut john, &mut jane] {
            assert_eq!(client.next()["push"]["join"]["info"]["user"], "7");
        }
        for channel in ["news", "live:1"] {
            john.subscribe(channel);
            jane.subscribe(channel);
            for node in [&first, &second] {
                publish(node, &json!({ "channel": channel, "data": 1, "idempotency_key": "once" }));
            }
            assert_eq!(
                john.publish(channel, json!(2)).len(),
                2,
                "the publication of the API, and the own one"
            );
            assert_eq!([1, 2].map(|_| next_publication(&mut jane)["data"].clone()), [json!(1), json!(2)]);
        }
        let epoch = publish(&first, &json!({ "channel": "news", "data": 3 }))["epoch"].clone();
        let mut away = Client::without_pings(&second, "8", "Al Doe");
        let result = away.call(recover("news", 1, &epoch))["subscribe"].clone();
        let missed = result["publications"].as_array().map(Vec::len);
        assert_eq!((&result["recovered"], missed), (&json!(true), Some(2)), "{result}");
        let history = json!({ "channel": "news", "limit": 10 });
        let history = |node: &Postern| node.post("/api/history", &history).json()["result"].clone();
        assert_eq!(history(&second)["publications"].as_array().map(Vec::len), Some(3));
        // A fourth connection of a user over both nodes.
        let open =
            |node: &Postern| node.handshake().header("User-ID", "9").header("User-Name", "Jo Doe").open();
        let users = [&first, &second, &second].map(open);
        wait_until("Redis knows them", || master.run(&["HLEN", "{postern}:u:{9}"]) == "3");
        assert_eq!(open(&first).close_code(), 4430);
        drop(users);
        // Both nodes are described, and have a revocation.
        wait_until("the nodes know each other", || {
            let info = second.post("/api/info", &json!({})).json();
            info["result"]["nodes"].as_array().map(Vec::len) == Some(2)
        });
        let revoked = second.post("/api/revoke", &json!({ "user": "8" })).json()["result"].clone();
        assert_eq!(revoked, json!({ "revoked": 1, "nodes": 2, "silent_nodes": 0 }));
        let third = start(runtimes[0], &url, &settings);
        wait_until("a later node knows it", || {
            third
                .handshake()
                .header("User-ID", "8")
                .header("User-Name", "Al Doe")
                .send()
                .is_ok_and(|outcome| matches!(outcome, Outcome::Refused(_)))
        });
        // All kinds of keys exist, in this slot.
        let keys = master.run(&["KEYS", "*"]);
        for kind in [
            "m:{news}",
            "s:{news}",
            "i:{news}:once",
            "p:{room:1}",
            "pk:",
            "leases",
            "nodes",
            "u:{7}",
            "uk:",
            "rv",
        ] {
            assert!(
                keys.lines().any(|key| key.starts_with(&format!("{{postern}}:{kind}"))),
                "{kind}: {keys}"
            );
        }
        assert_eq!(
            master.run(&["CLUSTER", "COUNTKEYSINSLOT", &cluster.slot().to_string()]),
            master.run(&["DBSIZE"])
        );
        first.post("/api/history_remove", &json!({ "channel": "news" }));
        assert_eq!(history(&second)["publications"].as_array().map(Vec::len), Some(0));
        // The clients of a node that has ended are removed.
        second.process.kill();
        let start = Instant::now();
        while master.run(&["EXISTS", "{postern}:u:{7}"]) != "0"
            || master.run(&["HLEN", "{postern}:p:{room:1}"]) != "1"
        {
            assert!(start.elapsed() < Duration::from_secs(25), "{}", master.run(&["KEYS", "*"]));
            thread::sleep(Duration::from_millis(100));
        }
        check_places(&cluster);
    });
}

#[test]
fn nodes_follow_the_failover_of_a_master_that_is_killed() {
    at_the_same_time(PAIRS, |runtimes| {
        let mut cluster = RedisCluster::start();
        let (nodes, mut watchers) = start_pair(runtimes, &cluster, &[]);
        let mut live = nodes.each_ref().map(|node| {
            let mut client = Client::without_pings(node, "7", "Jane Roe");
            client.subscribe("live:1");
            client
        });
        for number in 0..50 {
            publish(&nodes[number % 2], &json!({ "channel": "news", "data": number }));
        }
        cluster.servers[0].kill();
        let start = Instant::now();
        for number in 50..100 {
            publish_at_last(&nodes[number % 2], &json!(number));
        }
        println!("published again after {:?}", start.elapsed());
        for node in &nodes {
            node.wait_for_count(CONNECTED, 2);
            assert!(node.wait_for(&format!("server: {}", cluster.known(3))).contains("redis+cluster://"));
        }
        check_all(&nodes, &mut watchers, 1);
        assert!(watchers.iter().all(|watcher| watcher.told == 1), "the new master has another history");
        publish(&nodes[1], &json!({ "channel": "live:1", "data": 1 }));
        live.iter_mut().for_each(|client| assert_eq!(next_publication(client)["data"], 1));
    });
}

#[test]
fn a_master_that_is_frozen_is_left() {
    at_the_same_time(PAIRS, |runtimes| {
        let cluster = RedisCluster::start();
        let (nodes, mut watchers) = start_pair(runtimes, &cluster, &[]);
        publish(&nodes[0], &json!({ "channel": "news", "data": 1 }));
        cluster.servers[0].freeze();
        let start = Instant::now();
        publish_at_last(&nodes[0], &json!(2));
        println!("published again after {:?}", start.elapsed());
        cluster.servers[0].thaw();
        nodes.iter().for_each(|node| node.wait_for_count(CONNECTED, 2));
        check_all(&nodes, &mut watchers, 1);
        wait_until("the old master is a replica", || cluster.servers[0].run(&["ROLE"]).starts_with("slave"));
        publish(&nodes[1], &json!({ "channel": "news", "data": 3 }));
        assert_eq!(cluster.servers[3].run(&["EXISTS", "{postern}:s:{news}"]), "1");
    });
}

#[test]
fn nodes_follow_keys_that_are_moved_to_another_master() {
    at_the_same_time(PAIRS, |runtimes| {
        let cluster = RedisCluster::start();
        // Only a reply says that the keys are elsewhere.
        let slow = ("POSTERN_REDIS_PROBE", "1m");
        for (round, (from, to, failover)) in [(0, 1, "rotate"), (1, 0, "trust")].into_iter().enumerate() {
            let settings = [slow, ("POSTERN_REDIS_FAILOVER", failover)];
            let (nodes, mut watchers) = start_pair(runtimes, &cluster, &settings);
            for number in 0..10 {
                publish(&nodes[number % 2], &json!({ "channel": "news", "data": number }));
            }
            cluster.begin_move(from, to);
            // The key of a publication without history is at the other master, and half of these are.
            for body in [
                json!({ "channel": "live:1", "data": 1 }),
                json!({ "channel": "news", "data": 1, "idempotency_key": failover }),
            ] {
                let refused = nodes[0].post("/api/publish", &body).json();
                assert_eq!(refused["error"]["code"], 100, "{refused}");
            }
            publish(&nodes[1], &json!({ "channel": "news", "data": "still here" }));
            assert_eq!(nodes[0].count(CONNECTED) + nodes[1].count(CONNECTED), 2, "the connections stay");
            cluster.end_move(from, to);
            for (number, node) in nodes.iter().enumerate() {
                publish_at_last(node, &json!(format!("{number} after the move of round {round}")));
                node.wait_for("another node of the cluster has the keys: ");
                node.wait_for_count(CONNECTED, 2);
                node.wait_for(&format!("server: {}", cluster.known(to)));
            }
            check_all(&nodes, &mut watchers, round);
            let expected = if failover == "trust" { 0 } else { 1 };
            assert!(watchers.iter().all(|watcher| watcher.told == expected), "{watchers:?}");
        }
    });
}

#[test]
fn another_master_is_noticed_without_a_command() {
    let cluster = RedisCluster::start();
    let fast = [("POSTERN_REDIS_PROBE", "200ms")];
    let nodes = Runtime::BOTH.map(|runtime| start(runtime, &cluster.url_of(&[2]), &fast));
    let noticed =
        || -> usize { nodes.iter().map(|node| node.count("names another master of the keys")).sum() };
    // An instance renews its lease each 5 s, and may learn of it from the reply to that.
    for (round, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        cluster.move_slot(from, to);
        nodes.iter().for_each(|node| node.wait_for_count(CONNECTED, round + 2));
    }
    assert!(noticed() > 0);
}

#[test]
fn a_cluster_that_is_down_is_used_again_when_it_is_up() {
    at_the_same_time(Runtime::BOTH, |runtime| {
        let mut cluster = RedisCluster::start();
        let node = start(runtime, &cluster.url(), &[]);
        // A node that has no replica, so the cluster refuses all keys.
        cluster.servers[2].kill();
        node.wait_for("POSTERN_REDIS_URL: Redis cannot be reached; trying again");
        node.wait_for("The cluster is down");
        assert_eq!(node.metric("postern_engine_up"), Some(0.0));
        cluster.servers[2].start_again();
        node.wait_for_count(CONNECTED, 2);
        // The master of the keys and its replica.
        let master = cluster.id(0);
        [3, 0].into_iter().for_each(|server| cluster.servers[server].kill());
        wait_until("the cluster knows that the master has failed", || {
            let is_known = |server: &Redis| {
                let nodes = server.run(&["CLUSTER", "NODES"]);
                nodes.lines().any(|line| line.starts_with(&master) && line.contains("master,fail "))
            };
            cluster.servers[1..=2].iter().all(is_known)
        });
        let slot = cluster.slot();
        let later = unconnected(runtime, &cluster.url(), &FAST);
        let line = later.wait_for("POSTERN_REDIS_URL: Redis cannot be reached; trying again");
        assert!(
            line.contains(&format!("no node of the cluster names the master of slot {slot}: ")),
            "{line}"
        );
        assert!(line.contains("the slot has no master, or it has failed"), "{line}");
        cluster.servers[0].start_again();
        later.wait_for(CONNECTED);
        node.wait_for_count(CONNECTED, 3);
    });
}

#[test]
fn a_node_is_enough_to_find_the_others_and_may_be_replaced() {
    let mut cluster = RedisCluster::start();
    let nodes = Runtime::BOTH.map(|runtime| start(runtime, &cluster.url_of(&[3]), &[]));
    cluster.servers[3].kill();
    cluster.servers[0].run(&["CLIENT", "KILL", "TYPE", "normal"]);
    nodes.iter().for_each(|node| node.wait_for_count(CONNECTED, 2));
}

#[test]
fn a_url_that_does_not_fit_the_server_is_reported() {
    let (single, cluster) = (Redis::start(), RedisCluster::start());
    let in_cluster = single.url().replace("redis:", "redis+cluster:");
    for (url, error) in [
        (&in_cluster, "the server is not in cluster mode; write redis:// or rediss://"),
        (&cluster.servers[0].url(), "write redis+cluster:// or rediss+cluster://"),
        (&cluster.servers[3].url(), "write redis+cluster:// or rediss+cluster://"),
    ] {
        for runtime in Runtime::BOTH {
            let node = unconnected(runtime, url, &FAST);
            let line = node
                .wait_for("POSTERN_REDIS_URL: the scheme is wrong for this server; trying again each 30 s");
            assert!(line.contains(error), "{line}");
            assert_eq!(node.metric("postern_engine_failures_total{reason=\"cluster\"}"), Some(1.0));
            assert_eq!(node.count(CONNECTED), 0);
        }
    }
    for runtime in Runtime::BOTH {
        let url = cluster.url().replace("://", "://postern:hunter2@");
        let node = unconnected(runtime, &url, &FAST);
        let line = node.wait_for("Redis refuses the user or the password; trying again each 30 s");
        assert!(line.contains("no node of the cluster names the master of slot"), "{line}");
        assert_eq!(node.count("hunter2"), 0);
    }
}

#[test]
fn a_url_of_another_form_ends_the_start() {
    for (url, expected) in [
        (
            "redis+cluster://john:hunter2@a,b/3",
            "a Redis Cluster has only database 0; leave out the number after the slash",
        ),
        (
            "redis+cluster://john:hunter2@a,,b",
            "not the addresses of nodes of a Redis Cluster; write for example",
        ),
        ("rediss+cluster://john:hunter2@a/#insecure", "certificates are always checked"),
    ] {
        for runtime in Runtime::BOTH {
            let settings = [("POSTERN_ENGINE", "redis"), ("POSTERN_REDIS_URL", url)];
            let (status, lines) = Postern::refuse(runtime, &settings);
            assert_eq!(status.code(), Some(2));
            let [line] = &lines[..] else { panic!("{lines:?}") };
            assert!(line.contains(expected) && !line.contains("hunter2"), "{line}");
        }
    }
}

/// The certificates are for names, which the nodes announce.
#[test]
fn nodes_with_tls_are_known_by_their_names() {
    let authority = Authority::new("one");
    let (own, file) = (authority.issue(&["localhost"]), authority.file());
    let arguments = [
        &["--tls-cert-file", &own.certificate, "--tls-key-file", &own.key, "--tls-ca-cert-file", &file],
        &["--tls-auth-clients", "no", "--cluster-announce-hostname", "localhost"][..],
        &USER[..4],
        &["~*", "&*", "+@all"],
    ]
    .concat();
    let cluster = RedisCluster::with(&Options { arguments: &arguments, is_tls: true });
    wait_until("all names are known", || {
        let nodes = |server: &Redis| server.run(&["CLUSTER", "NODES"]).matches(",localhost ").count();
        cluster.servers.iter().all(|server| nodes(server) == cluster.servers.len())
    });
    let url =
        cluster.url().replace("127.0.0.1", "localhost").replace("://", "://postern:the-password-of-a-user@");
    let ca = ("POSTERN_REDIS_CA_FILE", file.as_str());
    for runtimes in PAIRS {
        let nodes = runtimes.map(|runtime| start(runtime, &url, &[ca]));
        let name = cluster.known(0).replace("127.0.0.1", "localhost");
        nodes.iter().for_each(|node| drop(node.wait_for(&format!("server: {name}"))));
        let mut jane = Client::without_pings(&nodes[1], "7", "Jane Roe");
        jane.subscribe("news");
        publish(&nodes[0], &json!({ "channel": "news", "data": 1 }));
        assert_eq!(next_publication(&mut jane)["data"], 1);
        assert!(cluster.servers[0].run(&["CLIENT", "LIST"]).contains("user=postern"));
        assert!(nodes.iter().all(|node| node.count("the-password-of-a-user") == 0));
    }
}
