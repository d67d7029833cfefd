//! Redis fails again and again while clients publish: each subscriber has all publications, or its subscription ends because of a gap;
//! after each failure all subscribers get publications again.
//!
//! Six faults for each pair of nodes; `CLUSTER=full` makes it 200, and `--nocapture` prints the figures.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, is_full, unconnected};
use postern_tests::postern::Postern;
use postern_tests::redis::Redis;
use postern_tests::switch::Switch;
use postern_tests::wait_until;
use serde_json::{Value, json};

const CHANNELS: [&str; 3] = ["open:1", "open:2", "open:3"];

/// A message: the number of its publisher, and its number.
type Message = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    CutMessages,
    CutCommands,
    Freeze,
    Restart,
    Flush,
    /// To a replica without the last publications.
    Failover,
}

impl Fault {
    const ALL: [Fault; 6] = [
        Fault::CutMessages,
        Fault::Failover,
        Fault::CutCommands,
        Fault::Restart,
        Fault::Freeze,
        Fault::Flush,
    ];

    /// Whether Redis has everything that it has acknowledged, in the same epoch.
    fn loses_nothing(self) -> bool {
        matches!(self, Fault::CutMessages | Fault::CutCommands | Fault::Freeze)
    }
}

/// Two servers, of which one is the master, and the address of the master.
struct Servers {
    master: Redis,
    replica: Redis,
    switch: Switch,
}

impl Servers {
    fn start() -> Servers {
        let arguments = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let (master, replica) = (Redis::with(&arguments), Redis::with(&arguments));
        let switch = Switch::new(master.address());
        Servers { master, replica, switch }
    }

    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::CutMessages => drop(self.master.run(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            Fault::CutCommands => drop(self.master.run(&["CLIENT", "KILL", "TYPE", "normal"])),
            Fault::Freeze => {
                self.master.freeze();
                thread::sleep(Duration::from_millis(2_500));
                self.master.thaw();
            }
            Fault::Restart => {
                self.master.kill();
                self.master.start_again();
            }
            Fault::Flush => drop(self.master.run(&["FLUSHALL"])),
            Fault::Failover => self.fail_over(),
        }
    }

    fn fail_over(&mut self) {
        let address = self.master.address();
        self.replica.run(&["REPLICAOF", &address.ip().to_string(), &address.port().to_string()]);
        wait_until("the replica has the data", || {
            self.replica.run(&["INFO", "replication"]).contains("master_link_status:up")
        });
        self.replica.run(&["REPLICAOF", "NO", "ONE"]);
        // The tail that is lost.
        thread::sleep(Duration::from_millis(200));
        self.switch.turn(self.replica.address());
        std::mem::swap(&mut self.master, &mut self.replica);
    }
}

/// The parts that the threads share.
#[derive(Default)]
struct Shared {
    has_ended: AtomicBool,
    /// Messages that were acknowledged, by channel.
    acknowledged: Mutex<BTreeMap<&'static str, Vec<Message>>>,
    /// Gaps that clients were told of.
    told: AtomicU64,
    /// Recoveries without a gap.
    recovered: AtomicU64,
    refused: AtomicU64,
}

/// The subscribers, by number, and channels in which a barrier has arrived.
type Barriers = Mutex<BTreeMap<u64, HashSet<(u64, String)>>>;

/// The publications of one channel that a client has received: in segments, between which it was told of a gap.
#[derive(Default)]
struct Log {
    epoch: Value,
    offset: u64,
    segments: Vec<Vec<Message>>,
}

impl Log {
    #[track_caller]
    fn push(&mut self, channel: &str, publication: &Value) {
        let offset = publication["offset"].as_u64().unwrap_or_else(|| panic!("{publication}"));
        assert_eq!(offset, self.offset + 1, "{channel} after {}: {publication}", self.offset);
        self.offset = offset;
        let number = |name: &str| publication["data"][name].as_u64().expect("a number");
        self.segments.last_mut().expect("a segment").push((number("by"), number("number")));
    }
}

struct Subscriber {
    number: u64,
    client: Client,
    logs: BTreeMap<&'static str, Log>,
    /// The channels that have had the last message.
    ended: HashSet<String>,
    shared: Arc<Shared>,
}

impl Subscriber {
    fn connect(number: u64, node: &Postern, shared: Arc<Shared>) -> Subscriber {
        let mut client = Client::connect(node, "7", "Jane Roe");
        let logs = CHANNELS.map(|channel| {
            let result = client.subscribe(channel);
            let log =
                Log { epoch: result["epoch"].clone(), offset: offset(&result), segments: vec![Vec::new()] };
            (channel, log)
        });
        Subscriber { number, client, logs: logs.into(), ended: HashSet::new(), shared }
    }

    /// Reads until each channel has had the last message.
    fn run(mut self, barriers: &Barriers) -> BTreeMap<&'static str, Log> {
        while self.ended.len() < CHANNELS.len() {
            let message = self.client.next();
            let push = &message["push"];
            let channel = push["channel"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned();
            if push["unsubscribe"]["code"] == 2500 {
                for publication in self.subscribe_again(&channel) {
                    self.take(&channel, &publication, barriers);
                }
                continue;
            }
            assert!(push["pub"].is_object(), "{message}");
            self.take(&channel, &push["pub"].clone(), barriers);
        }
        self.logs
    }

    fn take(&mut self, channel: &str, publication: &Value, barriers: &Barriers) {
        self.logs.get_mut(channel).expect("a channel").push(channel, publication);
        if let Some(barrier) = publication["data"]["barrier"].as_u64() {
            barriers
                .lock()
                .expect("no panic under it")
                .entry(barrier)
                .or_default()
                .insert((self.number, channel.to_owned()));
        }
        if publication["data"]["last"] == true {
            self.ended.insert(channel.to_owned());
        }
    }

    /// Recovers, as an SDK does, and returns the recovered publications.
    fn subscribe_again(&mut self, channel: &str) -> Vec<Value> {
        loop {
            let log = &self.logs[channel];
            let fields =
                json!({ "channel": channel, "recover": true, "offset": log.offset, "epoch": log.epoch });
            self.client.send(&[json!({ "id": 2, "subscribe": fields })]);
            let mut earlier = Vec::new();
            let reply = loop {
                let message = self.client.next();
                if message["id"] == 2 {
                    break message;
                }
                earlier.push(message);
            };
            // Pushes of the other channels are handled after this one.
            self.client.put_back(earlier);
            if reply["error"]["temporary"] == true {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            let result = &reply["subscribe"];
            assert!(result.is_object(), "{reply}");
            let log = self.logs.get_mut(channel).expect("a channel");
            let publications = result["publications"].as_array().cloned().unwrap_or_default();
            if result["recovered"] == true {
                assert_eq!(result["epoch"], log.epoch, "{reply}");
                self.shared.recovered.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shared.told.fetch_add(1, Ordering::Relaxed);
                log.segments.push(Vec::new());
                log.epoch = result["epoch"].clone();
                log.offset = offset(result) - publications.len() as u64;
            }
            return publications;
        }
    }
}

fn offset(result: &Value) -> u64 {
    result["offset"].as_u64().unwrap_or_default()
}

/// Ends the publishers when it is dropped.
struct End<'s>(&'s AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes about 500 messages a second until the end, each once: an error leaves its result unknown.
fn publish(node: &Postern, by: u64, shared: &Shared) {
    let mut client = Client::connect(node, "123", "John Doe");
    let mut next = Instant::now();
    for number in 0.. {
        if shared.has_ended.load(Ordering::Relaxed) {
            return;
        }
        let channel = CHANNELS[number as usize % CHANNELS.len()];
        let data = json!({ "by": by, "number": number });
        if is_accepted(&mut client, channel, &data) {
            shared
                .acknowledged
                .lock()
                .expect("no panic under it")
                .entry(channel)
                .or_default()
                .push((by, number));
        } else {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        next = Instant::now().max(next + Duration::from_millis(2));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn is_accepted(client: &mut Client, channel: &str, data: &Value) -> bool {
    client.send(&[json!({ "id": 3, "publish": { "channel": channel, "data": data } })]);
    let reply = client.next();
    assert!(
        reply["id"] == 3 && (reply["publish"].is_object() || reply["error"]["temporary"] == true),
        "{reply}"
    );
    reply["publish"].is_object()
}

#[test]
fn each_subscriber_has_everything_or_is_told_while_redis_fails() {
    let (count, subscribers) = if is_full() { (100, 20) } else { (6, 8) };
    for runtimes in PAIRS {
        let mut servers = Servers::start();
        let url = format!("redis://{}", servers.switch.address());
        let settings = [
            ("POSTERN_REDIS_TIMEOUT", "500ms"),
            ("POSTERN_REDIS_PROBE", "1s"),
            ("POSTERN_LOG_MESSAGES", "off"),
        ];
        let nodes = runtimes.map(|runtime| unconnected(runtime, &url, &settings));
        nodes.iter().for_each(|node| drop(node.wait_for("channels are connected with Redis")));
        let shared = Arc::new(Shared::default());
        let barriers = Barriers::default();
        let barrier = |number: u64, data: &dyn Fn() -> Value| {
            let mut client = Client::connect(&nodes[0], "123", "John Doe");
            let all: HashSet<_> = (0..subscribers)
                .flat_map(|number| CHANNELS.map(|channel| (number, channel.to_owned())))
                .collect();
            let start = Instant::now();
            loop {
                let seen =
                    barriers.lock().expect("no panic under it").get(&number).cloned().unwrap_or_default();
                let missing: Vec<_> = all.difference(&seen).collect();
                if missing.is_empty() {
                    return;
                }
                assert!(
                    start.elapsed() < PATIENCE,
                    "after fault {number}, these subscribers are not live: {missing:?}"
                );
                // Again, because it can be a part of a gap. Each attempt has another number, because the result of a failed one is
                // unknown.
                for channel in CHANNELS {
                    if missing.iter().any(|(_, missing)| missing == channel) {
                        is_accepted(&mut client, channel, &data());
                    }
                }
                thread::sleep(Duration::from_millis(50));
            }
        };
        let mut slowest = BTreeMap::<Fault, Duration>::new();
        let logs: Vec<_> = thread::scope(|scope| {
            // Publishers end after a failure, too.
            let _end = End(&shared.has_ended);
            let readers: Vec<_> = (0..subscribers)
                .map(|number| {
                    let subscriber = Subscriber::connect(number, &nodes[number as usize % 2], shared.clone());
                    let barriers = &barriers;
                    scope.spawn(move || subscriber.run(barriers))
                })
                .collect();
            for (by, node) in nodes.iter().enumerate() {
                let shared = &shared;
                scope.spawn(move || publish(node, by as u64, shared));
            }
            let attempts = AtomicU64::new(0);
            let next = || attempts.fetch_add(1, Ordering::Relaxed);
            for (number, fault) in Fault::ALL.into_iter().cycle().take(count).enumerate() {
                let number = number as u64;
                let told = shared.told.load(Ordering::Relaxed);
                servers.fail(fault);
                let start = Instant::now();
                barrier(number, &|| json!({ "by": 2, "number": next(), "barrier": number }));
                let slowest = slowest.entry(fault).or_default();
                *slowest = start.elapsed().max(*slowest);
                let told = shared.told.load(Ordering::Relaxed) - told;
                assert!(told == 0 || !fault.loses_nothing(), "{told} gaps were told after {fault:?}");
                assert!(told > 0 || fault.loses_nothing(), "no gap was told after {fault:?}");
                // Some faults begin while the nodes are busy with the last one.
                thread::sleep(Duration::from_millis(number * 137 % 700));
            }
            shared.has_ended.store(true, Ordering::Relaxed);
            barrier(u64::MAX, &|| json!({ "by": 2, "number": next(), "barrier": u64::MAX, "last": true }));
            readers.into_iter().map(|reader| reader.join().expect("a subscriber without a failure")).collect()
        });
        let acknowledged = shared.acknowledged.lock().expect("no panic under it");
        logs.iter().for_each(|logs| check(logs, &acknowledged));
        println!(
            "{runtimes:?}: {count} faults, {} publications acknowledged and {} not, {subscribers} subscribers: {} gaps told, {} \
             recoveries; the longest time until all were live: {slowest:?}",
            acknowledged.values().map(Vec::len).sum::<usize>(),
            shared.refused.load(Ordering::Relaxed),
            shared.told.load(Ordering::Relaxed),
            shared.recovered.load(Ordering::Relaxed),
        );
        nodes.iter().for_each(|node| assert_eq!(node.count("side: server"), 0, "a connection was closed"));
    }
}

/// Within a segment no acknowledged message of a publisher is missing, and each is there once and in its order.
fn check(logs: &BTreeMap<&'static str, Log>, acknowledged: &BTreeMap<&'static str, Vec<Message>>) {
    for (channel, log) in logs {
        let all: Vec<Message> = log.segments.concat();
        let unique: HashSet<Message> = all.iter().copied().collect();
        assert_eq!(unique.len(), all.len(), "{channel}: a message arrived twice");
        for segment in &log.segments {
            for by in 0..2 {
                let received: Vec<u64> =
                    segment.iter().filter(|message| message.0 == by).map(|message| message.1).collect();
                assert!(received.is_sorted(), "{channel}: {received:?}");
                let (Some(&first), Some(&last)) = (received.first(), received.last()) else { continue };
                let received: HashSet<u64> = received.into_iter().collect();
                let missing: Vec<u64> = acknowledged[channel]
                    .iter()
                    .filter(|message| message.0 == by && (first..=last).contains(&message.1))
                    .map(|message| message.1)
                    .filter(|number| !received.contains(number))
                    .collect();
                assert!(missing.is_empty(), "{channel}: {missing:?} are missing, and no gap was told");
            }
        }
    }
}

/// The time in which all subscribers must be live again.
const PATIENCE: Duration = Duration::from_secs(20);
