//! Redis with Sentinel: both binaries follow a failover, and each client gets all publications, or learns that some are missing.
//!
//! One failover that loses publications for each pair of nodes; `CLUSTER=full` makes it 50 for both together.

use std::time::{Duration, Instant};

use postern_tests::authority::Authority;
use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, is_full, next_publication, publish, unconnected};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::sentinel::{NAME, Options, Sentinels};
use postern_tests::wait_until;
use postern_tests::watcher::{Watcher, check_all, publish_at_last, recover_at_last};
use serde_json::{Value, json};

/// Short times, so that a test does not wait for long, and no pings to clients that wait.
const FAST: [(&str, &str); 3] =
    [("POSTERN_REDIS_TIMEOUT", "500ms"), ("POSTERN_REDIS_PROBE", "1s"), ("POSTERN_PING_INTERVAL", "0")];

const CONNECTED: &str = "channels are connected with Redis";

fn start(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let node = unconnected(runtime, url, &[&FAST[..], settings].concat());
    node.wait_for(CONNECTED);
    node
}

#[test]
fn nodes_follow_the_failover_of_a_master_that_is_killed() {
    for runtimes in PAIRS {
        let mut sentinels = Sentinels::start();
        let nodes = runtimes.map(|runtime| start(runtime, &sentinels.url(), &[]));
        let mut watchers: Vec<Watcher> = [0, 1, 0, 1].map(|index: usize| Watcher::new(&nodes[index])).into();
        let mut live = nodes.each_ref().map(|node| {
            let mut client = Client::connect(node, "7", "Jane Roe");
            client.subscribe("live:1");
            client
        });
        for number in 0..50 {
            publish(&nodes[number % 2], &json!({ "channel": "news", "data": number }));
        }
        sentinels.servers[0].kill();
        let start = Instant::now();
        for number in 50..100 {
            publish_at_last(&nodes[number % 2], &json!(number));
        }
        println!("published again after {:?}", start.elapsed());
        let replica = sentinels.servers[1].address().to_string();
        for node in &nodes {
            node.wait_for_count(CONNECTED, 2);
            assert!(node.wait_for(&format!("server: {replica}")).contains("redis+sentinel://"));
        }
        check_all(&nodes, &mut watchers, 1);
        assert!(watchers.iter().all(|watcher| watcher.told == 1), "the new master has another history");
        publish(&nodes[1], &json!({ "channel": "live:1", "data": 1 }));
        live.iter_mut().for_each(|client| assert_eq!(next_publication(client)["data"], 1));
    }
}

/// The replica is cut off from the master, and the next publications have the offsets that the lost ones had.
#[test]
fn no_client_believes_a_wrong_position_after_a_failover_has_lost_publications() {
    let rounds = if is_full() { 25 } else { 1 };
    for runtimes in PAIRS {
        let mut sentinels = Sentinels::start();
        let nodes = runtimes.map(|runtime| start(runtime, &sentinels.url(), &[]));
        let mut watchers: Vec<Watcher> = [0, 1, 0, 1].map(|index: usize| Watcher::new(&nodes[index])).into();
        let [mut master, mut replica] = [0, 1];
        for round in 1..=rounds {
            publish_numbered(&nodes, round, 0..20);
            let state = |server: usize| sentinels.servers[server].run(&["HGETALL", "postern:m:{news}"]);
            wait_until("the replica has all publications", || state(replica) == state(master));
            // The replica stays alone from now on.
            sentinels.servers[master].run(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
            sentinels.servers[master].run(&["CLIENT", "KILL", "TYPE", "replica"]);
            let lost = round * 7 % 30 + 1;
            publish_numbered(&nodes, round, 20..20 + lost);
            assert_ne!(state(replica), state(master), "publications are lost");
            let position = position(&nodes[0]);
            sentinels.servers[master].kill();
            // As many as were lost, so the old position may exist again.
            publish_numbered(&nodes, round, 100..100 + lost);
            nodes.iter().for_each(|node| node.wait_for_count(CONNECTED, round + 1));
            for node in &nodes {
                let mut away = Client::connect(node, "8", "Al Doe");
                let result = recover_at_last(&mut away, position.0, &position.1);
                assert_ne!(result["recovered"], true, "round {round}: {result}");
            }
            check_all(&nodes, &mut watchers, round);
            // All watchers have everything after it.
            let end = json!(format!("end of round {round}"));
            publish_at_last(&nodes[1], &end);
            let expected = self::position(&nodes[round % 2]);
            for watcher in &mut watchers {
                assert!(watcher.receive_until(&end), "nothing is missing after the failover");
                assert_eq!((watcher.offset, &watcher.epoch), (expected.0, &expected.1), "round {round}");
                assert_eq!(watcher.told, round);
            }
            std::mem::swap(&mut master, &mut replica);
            if round < rounds {
                sentinels.rejoin(replica, master);
            }
        }
        println!(
            "{runtimes:?}: {rounds} failovers lost publications, and {} watchers were told",
            watchers.len()
        );
    }
}

/// Publishes, from each node in turn, until each one is accepted.
#[track_caller]
fn publish_numbered(nodes: &[Postern; 2], round: usize, numbers: std::ops::Range<usize>) {
    for number in numbers {
        publish_at_last(&nodes[number % 2], &json!(format!("{number} of round {round}")));
    }
}

/// Returns the position of the channel according to a node.
#[track_caller]
fn position(node: &Postern) -> (u64, Value) {
    let answer = node.post("/api/history", &json!({ "channel": "news", "limit": 0 })).json();
    let result = &answer["result"];
    (result["offset"].as_u64().unwrap_or_else(|| panic!("{answer}")), result["epoch"].clone())
}

#[test]
fn a_switch_that_an_operator_orders_loses_nothing_unnoticed() {
    for runtimes in PAIRS {
        let sentinels = Sentinels::start();
        let nodes = runtimes.map(|runtime| start(runtime, &sentinels.url(), &[]));
        let mut watchers: Vec<Watcher> = nodes.iter().map(Watcher::new).collect();
        assert_eq!(sentinels.ask(0, &["SENTINEL", "FAILOVER", NAME]), "OK");
        for number in 0..100 {
            publish_at_last(&nodes[number % 2], &json!(number));
            std::thread::sleep(Duration::from_millis(20));
        }
        for node in &nodes {
            node.wait_for_count(CONNECTED, 2);
        }
        check_all(&nodes, &mut watchers, 1);
    }
}

#[test]
fn a_master_that_was_replaced_and_does_not_know_it_is_left() {
    for runtimes in PAIRS {
        let sentinels = Sentinels::start();
        let nodes = runtimes.map(|runtime| start(runtime, &sentinels.url(), &[]));
        let mut watchers: Vec<Watcher> = nodes.iter().map(Watcher::new).collect();
        publish(&nodes[0], &json!({ "channel": "news", "data": 1 }));
        // The sentinels cannot make a replica of it, as if they were cut off.
        sentinels.servers[0].run(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]);
        assert_eq!(sentinels.ask(0, &["SENTINEL", "FAILOVER", NAME]), "OK");
        for node in &nodes {
            node.wait_for("the sentinels name another master");
            node.wait_for_count(CONNECTED, 2);
        }
        assert!(sentinels.servers[0].run(&["ROLE"]).starts_with("master"), "it is still a master");
        check_all(&nodes, &mut watchers, 1);
        assert!(sentinels.servers[1].run(&["ROLE"]).starts_with("master"));
        assert_eq!(sentinels.servers[1].run(&["EXISTS", "postern:s:{news}"]), "1");
    }
}

#[test]
fn a_sentinel_is_enough_to_find_the_master() {
    for runtime in Runtime::BOTH {
        let mut sentinels = Sentinels::start();
        [0, 1].into_iter().for_each(|number| sentinels.kill(number));
        let node = start(runtime, &sentinels.url(), &[]);
        let mut john = Client::connect(&node, "123", "John Doe");
        john.subscribe("news");
        assert_eq!(john.publish("news", json!(1)).len(), 1);
        sentinels.kill(2);
        // A connection stays without sentinels.
        assert_eq!(john.publish("news", json!(2)).len(), 1);
        let node = unconnected(runtime, &sentinels.url(), &FAST);
        let line = node.wait_for("POSTERN_REDIS_URL: Redis cannot be reached; trying again");
        assert!(line.contains("no sentinel names the master: 127.0.0.1:"), "{line}");
    }
}

#[test]
fn a_name_that_the_sentinels_do_not_know_is_reported() {
    let sentinels = Sentinels::start();
    for runtime in Runtime::BOTH {
        let node = unconnected(runtime, &sentinels.url().replace(NAME, "nosuch"), &FAST);
        let line = node.wait_for("POSTERN_REDIS_URL: Redis cannot be reached; trying again");
        assert!(line.contains("no master has the name nosuch"), "{line}");
    }
}

#[test]
fn sentinels_with_tls_and_passwords() {
    const SENTINEL: &str = "the-password-of-the-sentinels";
    const REDIS: &str = "the-password-of-a-user";
    let authority = Authority::new("one");
    let own = authority.issue(&["127.0.0.1"]);
    let file = authority.file();
    let tls = [
        ("tls-cert-file", own.certificate.as_str()),
        ("tls-key-file", &own.key),
        ("tls-ca-cert-file", &file),
        ("tls-auth-clients", "no"),
        ("tls-replication", "yes"),
    ];
    let rule = format!(">{REDIS}");
    let user = ["--user", "postern", "on", &rule, "~*", "&*", "+@all"];
    let names = tls.map(|(name, _)| format!("--{name}"));
    let arguments = names.iter().zip(tls).flat_map(|(name, (_, value))| [name.as_str(), value]);
    let arguments: Vec<&str> = arguments.chain(user).collect();
    let lines = tls.map(|(name, value)| format!("{name} {value}"));
    let password = format!("requirepass {SENTINEL}");
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain([password.as_str()]).collect();
    let sentinels =
        Sentinels::with(&Options { arguments: &arguments, lines: &lines, password: SENTINEL, is_tls: true });
    let url = sentinels.url().replace("redis+sentinel://", &format!("rediss+sentinel://postern:{REDIS}@"));
    let ca = ("POSTERN_REDIS_CA_FILE", file.as_str());
    for runtimes in PAIRS {
        let settings = [ca, ("POSTERN_REDIS_SENTINEL_PASSWORD", SENTINEL)];
        let nodes = runtimes.map(|runtime| start(runtime, &url, &settings));
        let mut jane = Client::connect(&nodes[1], "7", "Jane Roe");
        jane.subscribe("news");
        publish(&nodes[0], &json!({ "channel": "news", "data": 1 }));
        assert_eq!(next_publication(&mut jane)["data"], 1);
        assert!(sentinels.servers[0].run(&["CLIENT", "LIST"]).contains("user=postern"));
        for node in &nodes {
            assert_eq!((node.count(SENTINEL), node.count(REDIS)), (0, 0));
        }
        // Without the password of the sentinels.
        let node = unconnected(runtimes[0], &url, &[ca]);
        let line = node.wait_for("Redis refuses the user or the password; trying again each 30 s");
        assert!(line.contains("POSTERN_REDIS_SENTINEL_PASSWORD"), "{line}");
    }
}
