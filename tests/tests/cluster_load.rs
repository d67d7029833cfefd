//! Many clients, channels and publications with Redis: a restart of Redis closes no connection and reads little, an acknowledged
//! publication survives the node, and memory stays within its limits while Redis is frozen.
//!
//! `CLUSTER=full` runs it with the numbers of docs/scale.md, and `--nocapture` prints the figures. They need a limit of open files of
//! 12,000, and an idle machine for the times.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, is_full, node, publish};
use postern_tests::frames::{self, TEXT};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use postern_tests::wait_until;
use serde_json::{Value, json};

/// Returns a figure for an idle machine, or one for any.
fn limit(full: Duration) -> Duration {
    if is_full() { full } else { Duration::from_secs(20) }
}

fn metric(node: &Postern, name: &str) -> f64 {
    node.metric(name).unwrap_or_default()
}

/// Returns the number of executions of a command since Redis started.
fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.run(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number"))
}

#[test]
fn a_restart_of_redis_with_many_subscribers_closes_none_and_reads_each_channel_once() {
    let (count, channels) = if is_full() { (5_000, 2_000) } else { (400, 160) };
    for runtimes in PAIRS {
        let mut redis = Redis::start();
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &[("POSTERN_LOG_MESSAGES", "off")]));
        let mut clients: Vec<(Client, String)> = (0..count)
            .map(|number| {
                let mut client = Client::connect(&nodes[number % 2], "7", "Jane Roe");
                let channel = format!("open:{}", number / 2 % channels);
                client.subscribe(&channel);
                (client, channel)
            })
            .collect();
        let reads = || nodes.iter().map(|node| metric(node, "postern_engine_reads_total")).sum::<f64>();
        let before = reads();

        redis.kill();
        redis.start_again();
        let start = Instant::now();
        for (client, channel) in &mut clients {
            let push = client.next();
            assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
            client.subscribe(channel);
        }
        for channel in 0..channels {
            publish(&nodes[channel % 2], &json!({ "channel": format!("open:{channel}"), "data": channel }));
        }
        for (client, channel) in &mut clients {
            let push = client.next();
            assert_eq!(
                (&push["push"]["channel"], &push["push"]["pub"]["offset"]),
                (&json!(channel), &json!(1))
            );
        }
        let took = start.elapsed();
        let reads = reads() - before;
        println!(
            "{runtimes:?}: {count} clients of {channels} channels are live after {took:?}, with {reads} reads"
        );
        // Each node has subscribers of each channel.
        assert!(reads <= 2.0 * channels as f64 * 1.02, "{reads} reads");
        assert!(took < limit(Duration::from_secs(3)), "{took:?}");
        for node in &nodes {
            assert_eq!(node.count("side: server"), 0, "a connection was closed");
            assert_eq!(metric(node, "postern_connections") as usize, count / 2);
        }
    }
}

#[test]
fn many_channels_are_subscribed_again_in_few_commands() {
    const OF_EACH: usize = 100;
    let count = if is_full() { 100_000 } else { 5_000 };
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let postern = node(runtime, &redis, &[]);
        let mut clients: Vec<Client> = (0..count / OF_EACH)
            .map(|number| {
                let mut client = Client::connect(&postern, "7", "Jane Roe");
                let subscribe = |channel| {
                    json!({ "id": 2, "subscribe": { "channel": format!("live:{number}-{channel}") } })
                };
                client.send(&(0..OF_EACH).map(subscribe).collect::<Vec<_>>());
                for _ in 0..OF_EACH {
                    let reply = client.next();
                    assert!(reply["subscribe"].is_object(), "{reply}");
                }
                client
            })
            .collect();
        let before = calls(&redis, "subscribe");
        let start = Instant::now();
        redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        postern.wait_for_count("channels are connected with Redis", 2);
        wait_until("all are subscribed", || metric(&postern, "postern_engine_up") == 1.0);
        let (took, commands) = (start.elapsed(), calls(&redis, "subscribe") - before);
        println!("{runtime}: {count} channels are subscribed again within {took:?}, by {commands} commands");
        assert!(commands <= count as u64 / 500 + 4, "{commands} commands");
        assert!(took < limit(Duration::from_secs(2)), "{took:?}");
        let last = clients.len() - 1;
        publish(&postern, &json!({ "channel": format!("live:{last}-99"), "data": 1 }));
        assert_eq!(clients[last].next()["push"]["pub"]["data"], 1);
    }
}

#[test]
fn an_acknowledged_publication_survives_the_node() {
    /// The history of a channel has room for more.
    const MOST: usize = 900;
    let rounds = if is_full() { 90 } else { 3 };
    for runtimes in PAIRS {
        let redis = Redis::start();
        let reader = node(runtimes[1], &redis, &[]);
        let mut total = 0;
        for round in 0..rounds {
            let mut publisher = node(runtimes[0], &redis, &[("POSTERN_LOG_MESSAGES", "off")]);
            let channel = format!("open:{round}");
            let mut client = Client::connect(&publisher, "7", "Jane Roe");
            // Commands wait in the connection when the node ends.
            let command =
                |number| json!({ "id": number + 2, "publish": { "channel": channel, "data": number } });
            let commands: Vec<Value> = (0..MOST).map(command).collect();
            client.send(&commands);
            let acknowledged: HashSet<usize> = (0..MOST * 2 / 3)
                .map(|_| {
                    let reply = client.next();
                    assert!(reply["publish"].is_object(), "{reply}");
                    reply["id"].as_u64().expect("a number") as usize - 2
                })
                .collect();
            publisher.process.kill();
            total += acknowledged.len();
            let history = reader.post("/api/history", &json!({ "channel": channel, "limit": -1 })).json();
            let kept: Vec<usize> = history["result"]["publications"]
                .as_array()
                .unwrap_or_else(|| panic!("{history}"))
                .iter()
                .map(|publication| publication["data"].as_u64().expect("a number") as usize)
                .collect();
            assert!(kept.is_sorted(), "{kept:?}");
            let kept: HashSet<usize> = kept.into_iter().collect();
            let missing: Vec<_> = acknowledged.difference(&kept).collect();
            assert!(missing.is_empty(), "{missing:?} were acknowledged and are not there");
        }
        println!(
            "{runtimes:?}: {total} publications were acknowledged before {rounds} nodes were killed, and all are there"
        );
    }
}

#[test]
fn memory_stays_within_its_limits_while_redis_is_frozen() {
    const MIB: usize = 1024 * 1024;
    const HISTORY: usize = 16 * MIB;
    /// `POSTERN_REDIS_QUEUE`, for commands and for messages.
    const QUEUES: usize = 2 * 8 * MIB;
    /// The events that wait for a worker.
    const INBOX: usize = 8 * MIB;
    let (rate, seconds) = if is_full() { (20_000, 60) } else { (4_000, 5) };
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let history = HISTORY.to_string();
        let settings = [
            ("POSTERN_LOG_MESSAGES", "off"),
            ("POSTERN_WORKERS", "1"),
            ("POSTERN_HISTORY_MEMORY", &history),
            ("POSTERN_PING_INTERVAL", "0"),
        ];
        let postern = node(runtime, &redis, &settings);
        let mut load = Load::start(&postern);
        load.run(rate / 10, 2);
        let before = postern.reset_peak_memory();
        redis.freeze();
        let start = Instant::now();
        let sent = load.run(rate, seconds);
        let (took, highest) = (start.elapsed(), postern.peak_memory());
        redis.thaw();
        let limit = (before + HISTORY + QUEUES + INBOX) * 11 / 10;
        println!(
            "{runtime}: {sent} publications within {took:?} while Redis was frozen; {} KiB of resident memory before, and at most {} \
             KiB of {}",
            before / 1024,
            highest / 1024,
            limit / 1024
        );
        assert!(highest <= limit, "{runtime}: {highest} bytes of {limit}");
        postern.wait_for_count("channels are connected with Redis", 2);
        publish(&postern, &json!({ "channel": "open:0", "data": 1 }));
        assert_eq!(postern.count("side: server"), 0, "a connection was closed");
    }
}

/// Clients that publish to channels with and without history, and one that is subscribed to all of them.
struct Load {
    publishers: Vec<TcpStream>,
    subscriber: TcpStream,
}

impl Load {
    const PUBLISHERS: usize = 20;

    fn start(postern: &Postern) -> Load {
        let mut subscriber = Client::without_pings(postern, "7", "Jane Roe");
        for number in 0..Load::PUBLISHERS {
            for namespace in ["open", "live"] {
                subscriber.subscribe(&format!("{namespace}:{number}"));
            }
        }
        let publishers = (0..Load::PUBLISHERS)
            .map(|_| stream(&Client::without_pings(postern, "123", "John Doe")))
            .collect();
        let load = Load { publishers, subscriber: stream(&subscriber) };
        for stream in load.publishers.iter().chain([&load.subscriber]) {
            let mut stream = stream.try_clone().expect("a descriptor");
            // It ends with the connection.
            thread::spawn(move || _ = io::copy(&mut stream, &mut io::sink()));
        }
        load
    }

    /// Publishes at this rate, and returns the number of publications.
    fn run(&mut self, rate: usize, seconds: u64) -> usize {
        const STEP: Duration = Duration::from_millis(50);
        let steps = (seconds * 1000 / STEP.as_millis() as u64) as u32;
        let each = rate * STEP.as_millis() as usize / 1000 / Load::PUBLISHERS;
        let frame = |number: usize| {
            let line = |count: usize| {
                let channel = format!("{}:{number}", if count.is_multiple_of(2) { "open" } else { "live" });
                json!({ "id": 3, "publish": { "channel": channel, "data": "x".repeat(200) } }).to_string()
            };
            frames::client(TEXT, (0..each).map(line).collect::<Vec<_>>().join("\n").as_bytes())
        };
        let frames: Vec<Vec<u8>> = (0..Load::PUBLISHERS).map(frame).collect();
        let start = Instant::now();
        for step in 0..steps {
            for (stream, frame) in self.publishers.iter_mut().zip(&frames) {
                stream.write_all(frame).expect("a message is sent");
            }
            thread::sleep((STEP * (step + 1)).saturating_sub(start.elapsed()));
        }
        steps as usize * each * Load::PUBLISHERS
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for stream in self.publishers.iter().chain([&self.subscriber]) {
            // The server may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Returns the stream of a client, without a time limit for reads.
fn stream(client: &Client) -> TcpStream {
    let stream = client.open.socket.get_ref().try_clone().expect("a descriptor");
    stream.set_read_timeout(None).expect("no time limit");
    stream
}

#[test]
fn presence_of_clients_that_stay_costs_few_writes() {
    let count = if is_full() { 2_000 } else { 200 };
    let seconds = 10;
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let clients: Vec<Client> = (0..count)
            .map(|number| {
                let mut client = Client::connect(&nodes[number % 2], "7", "Jane Roe");
                // Joins and leaves are pushed here.
                client
                    .send(&[json!({ "id": 2, "subscribe": { "channel": format!("room:{}", number % 50) } })]);
                client
            })
            .collect();
        let stats = || nodes[0].post("/api/presence_stats", &json!({ "channel": "room:0" })).json();
        wait_until("all are present", || stats()["result"]["num_clients"] == count / 50);
        let writes = || {
            ["hset", "hdel", "zadd", "sadd", "srem", "del"]
                .map(|name| calls(&redis, name))
                .iter()
                .sum::<u64>()
        };
        let before = writes();
        thread::sleep(Duration::from_secs(seconds));
        let writes = writes() - before;
        println!("{runtimes:?}: {writes} writes within {seconds} s for {count} clients");
        assert!(writes <= 2 * seconds, "{writes} writes");
        drop(clients);
    }
}
