//! The model of Redis in the simulation and a real server: the same commands, chosen by seeds, must have the same answers and the
//! same messages. The commands of nodes are encoded, and the answers decoded, by the code of the engine, and the scripts are the
//! real ones.
//!
//! `REDIS_MODEL=100000` sets the number of commands, and compares with Redis 8 and Valkey 9, too.

#![expect(clippy::wildcard_enum_match_arm, reason = "most commands and replies need no special treatment")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;
use postern_channels::exchange::{HistoryOptions, Version};
use postern_channels::publication::{ClientId, Epoch};
use postern_channels::relay::command::{
    AddPresence, Cause, Command, PublishCommand, Range, ReadCommand, RemovePresence, Reply, StreamState,
    Topic, UserLimit, WriteUser,
};
use postern_channels::relay::scripts;
use postern_host::engine::encoding::{self, Encoder};
use postern_simulation::redis::{Foreign, Message, Server};
use postern_tests::redis::{Program, Redis};
use redis::{ConnectionLike, IntoConnectionInfo, ProtocolVersion, PubSub};

/// The real server.
struct Real {
    connection: redis::Connection,
    encoder: Encoder,
    names: Vec<String>,
}

/// Both servers, and the facts that commands need about them.
struct Pair<'r> {
    real: Real,
    messages: Vec<PubSub<'r>>,
    model: Server,
    /// The time of the model, in milliseconds.
    now: u64,
    /// The ids of revocations at the real server and at the model, which have other clocks.
    revocations: Vec<[Box<str>; 2]>,
    kinds: BTreeSet<String>,
}

/// An answer in a form that does not depend on the order of hashes, on clocks and on words of errors.
type Comparable = Result<String, Cause>;

#[test]
fn the_model_has_the_answers_of_redis() {
    match std::env::var("REDIS_MODEL") {
        Ok(count) => {
            let count = count.parse().expect("a number");
            Program::ALL.into_iter().for_each(|program| compare(program, count));
        }
        Err(_) => compare(Program::Distribution, 5_000),
    }
}

/// Compares this number of commands.
fn compare(program: Program, count: usize) {
    let redis = Redis::of(program, &[]);
    let info = redis.url().into_connection_info().expect("a URL");
    let open = |version| {
        let settings = info.redis_settings().clone().set_protocol(version);
        let client = redis::Client::open(info.clone().set_redis_settings(settings)).expect("a client");
        client.get_connection().expect("a connection")
    };
    let connection = open(ProtocolVersion::RESP3);
    let mut subscribers = [open(ProtocolVersion::RESP2), open(ProtocolVersion::RESP2)];
    let real = Real { connection, encoder: Encoder::new("p"), names: Vec::new() };
    let messages = subscribers.iter_mut().map(redis::Connection::as_pubsub).collect();
    let model = Server::new("first".to_owned());
    let (revocations, kinds) = (Vec::new(), BTreeSet::new());
    let mut pair = Pair { real, messages, model, now: 1_000_000_000_000, revocations, kinds };
    for pubsub in &pair.messages {
        pubsub.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    }
    let mut random = Rng::with_seed(7);
    let mut history = Vec::new();
    for number in 0..count {
        pair.step(number, &mut random, &mut history);
    }
    println!("{program:?}: {count} commands, {} kinds of answers: {:?}", pair.kinds.len(), pair.kinds);
    let expected = [
        "Publish Published",
        "Publish Duplicate",
        "Publish Outdated",
        "Publish NoScript",
        "Publish Storage",
        "Publish Server",
        "Publish Replica",
        "Read Server",
        "Read entries",
        "Reap true",
        "Lease expired",
        "Nodes",
        "User excess",
        "WriteUser Server",
        "WriteUser Storage",
        "ReadNodes Server",
        "Send 1",
        "Send 2",
        "AddPresence Storage",
        "AddRevocation Server",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|kind| !pair.kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

impl Pair<'_> {
    /// Executes one command at both servers, and compares.
    fn step(&mut self, number: usize, random: &mut Rng, history: &mut Vec<String>) {
        let is_short = match random.u32(0..100) {
            0..=7 => {
                self.interfere(random, history);
                false
            }
            _ => {
                let (command, is_short) = self.choose(random);
                history.push(format!("{command:?}"));
                self.compare(number, &command, history);
                is_short
            }
        };
        if is_short {
            // Nothing happens between the command and the end of the short time.
            sleep(SHORT * 2);
            self.now += 2 * SHORT.as_millis() as u64;
        }
        let most = history.len().saturating_sub(60);
        history.drain(..most);
    }

    /// Executes a command of a node at both servers.
    fn compare(&mut self, number: usize, command: &Command, history: &[String]) {
        let mut expected = Vec::new();
        let (connection, at_real) = match command {
            Command::Subscribe(topics) | Command::Unsubscribe(topics) => {
                let which = topics.len() % 2;
                let names: Vec<String> = topics.iter().map(|topic| self.real.encoder.topic(topic)).collect();
                // One at a time: the client waits for one confirmation of each command.
                let messages = &mut self.messages[which];
                let result = names.iter().try_for_each(|name| match command {
                    Command::Subscribe(_) => messages.subscribe(name),
                    _ => messages.unsubscribe(name),
                });
                (which as u64, result.map(|()| Reply::Done).map_err(|error| encoding::failure(&error)))
            }
            Command::LoadScripts => (9, self.real.load_scripts()),
            _ => (9, self.real.execute(command)),
        };
        let at_model = self.model.execute(connection, command, self.now, &mut |_| {}, &mut expected);
        if let (Ok(Reply::Revocations(real)), Ok(Reply::Revocations(model))) = (&at_real, &at_model) {
            self.revocations =
                real.iter().zip(model).map(|(real, model)| [real.0.clone(), model.0.clone()]).collect();
        }
        self.kinds.insert(kind(command, &at_model));
        let [real, model] = [at_real, at_model].map(comparable);
        assert_eq!(
            real, model,
            "command {number}, the real server first: {command:?}; before it: {history:#?}"
        );
        self.compare_messages(expected, command, history);
        if matches!(command, Command::ReadRevocations { after } if after.is_empty()) {
            self.compare_rest(number);
        }
    }

    /// Reads the revocations after one of them.
    fn compare_rest(&mut self, number: usize) {
        let Some([real, model]) = self.revocations.get(number % (self.revocations.len() + 1)).cloned() else {
            return;
        };
        let at_real = self.real.execute(&Command::ReadRevocations { after: real });
        let command = Command::ReadRevocations { after: model };
        let at_model = self.model.execute(9, &command, self.now, &mut |_| {}, &mut Vec::new());
        assert_eq!(comparable(at_real), comparable(at_model), "command {number}");
    }

    fn compare_messages(
        &mut self,
        mut expected: Vec<Message>,
        command: &impl std::fmt::Debug,
        history: &[String],
    ) {
        let mut arrived = Vec::new();
        for (connection, pubsub) in self.messages.iter_mut().enumerate() {
            let connection = connection as u64;
            for _ in expected.iter().filter(|message| message.connection == connection) {
                let message = pubsub.get_message().unwrap_or_else(|error| {
                    panic!("a message is missing: {error}; {command:?}; before it: {history:#?}")
                });
                let topic =
                    self.real.encoder.strip(message.get_channel_name()).expect("the prefix").to_owned();
                arrived.push(Message { connection, topic, content: message.get_payload_bytes().to_vec() });
            }
        }
        let order = |one: &Message, other: &Message| {
            (one.connection, &one.topic, &one.content).cmp(&(other.connection, &other.topic, &other.content))
        };
        arrived.sort_by(order);
        expected.sort_by(order);
        assert_eq!(arrived, expected, "{command:?}; before it: {history:#?}");
    }

    /// Does something at both servers that nodes do not do.
    fn interfere(&mut self, random: &mut Rng, history: &mut Vec<String>) {
        let channel = channel(random);
        let key = match random.u32(0..8) {
            0 => format!("m:{{{channel}}}"),
            1 => format!("s:{{{channel}}}"),
            2 => format!("i:{{{channel}}}:k1"),
            3 => "leases".to_owned(),
            4 => "nodes".to_owned(),
            5 => format!("u:{{u{}}}", random.u32(0..2)),
            6 => format!("uk:{:016x}", random.u64(1..5)),
            _ => "rv".to_owned(),
        };
        let stream = format!("s:{{{channel}}}");
        let meta = format!("m:{{{channel}}}");
        let is_writable = !self.model.is_full && self.model.is_master;
        let foreign = match random.u32(0..20) {
            0..=1 if is_writable => Foreign::Set(key, b"junk".to_vec()),
            2 if is_writable => Foreign::Set(format!("i:{{{channel}}}:k1"), b"abcdefgh:7".to_vec()),
            3..=4 if is_writable => {
                let field = *random.choice(["e", "s", "r", "v"].as_slice()).unwrap_or(&"e");
                let value = *random.choice(["x", "", "7", "-1", "abcdefgh"].as_slice()).unwrap_or(&"");
                Foreign::SetField(meta, field.into(), value.into())
            }
            14 if is_writable && random.bool() => {
                let field = *random.choice(["junk", "since", "0000000000000001/7"].as_slice()).unwrap_or(&"");
                let value =
                    *random.choice(["x", "", "7", "1000/", "7/1", "/1", "1.5/2"].as_slice()).unwrap_or(&"");
                Foreign::SetField(format!("u:{{u{}}}", random.u32(0..2)), field.into(), value.into())
            }
            5 if is_writable => {
                let id = (random.u64(0..30), random.u64(0..2));
                Foreign::AddEntry(
                    stream,
                    id,
                    if random.bool() { b"d".into() } else { b"x".into() },
                    b"junk".into(),
                )
            }
            6..=8 if is_writable => Foreign::Remove(key),
            9 if is_writable => Foreign::RemoveAll,
            10 => Foreign::ForgetScripts,
            11 => Foreign::Publish(format!("ch:{{{channel}}}"), b"hello".to_vec()),
            12..=15 => {
                self.model.is_full = !self.model.is_full && random.bool();
                let most = if self.model.is_full { "1" } else { "0" };
                history.push(format!("maxmemory {most}"));
                return self.real.run(&["CONFIG", "SET", "maxmemory", most]);
            }
            16..=19 => {
                self.model.is_master = !self.model.is_master || random.bool();
                let master = if self.model.is_master { ["NO", "ONE"] } else { ["127.0.0.1", "1"] };
                history.push(format!("replica of {master:?}"));
                return self.real.run(&["REPLICAOF", master[0], master[1]]);
            }
            _ => return,
        };
        history.push(format!("{foreign:?}"));
        let name = |key: &String| format!("p:{key}");
        let parts: Vec<Vec<u8>> = match &foreign {
            Foreign::Set(key, text) => vec!["SET".into(), name(key).into(), text.clone()],
            Foreign::SetField(key, field, value) => {
                vec!["HSET".into(), name(key).into(), field.clone(), value.clone()]
            }
            Foreign::AddEntry(key, (time, part), field, value) => {
                let id = format!("{time}-{part}").into();
                vec!["XADD".into(), name(key).into(), id, field.clone(), value.clone()]
            }
            Foreign::Remove(key) => vec!["DEL".into(), name(key).into()],
            Foreign::Publish(topic, message) => vec!["PUBLISH".into(), name(topic).into(), message.clone()],
            Foreign::RemoveAll => vec!["FLUSHALL".into()],
            Foreign::ForgetScripts => vec!["SCRIPT".into(), "FLUSH".into()],
        };
        if matches!(foreign, Foreign::RemoveAll | Foreign::Remove(_) | Foreign::Set(..)) {
            self.revocations.clear();
        }
        let mut expected = Vec::new();
        let at_model = self.model.interfere(&foreign, self.now, &mut expected).is_ok();
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| _ = command.arg(part.as_slice()));
        let at_real = command.exec(&mut self.real.connection).is_ok();
        assert_eq!(at_real, at_model, "the real server first: {foreign:?}; before it: {history:#?}");
        self.compare_messages(expected, &foreign, history);
    }

    /// Chooses a command. Returns whether a short time has begun.
    fn choose(&mut self, random: &mut Rng) -> (Command, bool) {
        let is_short = random.u32(0..60) == 0;
        let time = if is_short { SHORT } else { LONG };
        let channel: Arc<str> = channel(random).into();
        let replication = *random.choice(["", "one", "one", "two"].as_slice()).unwrap_or(&"");
        let stream = StreamState { epoch: Epoch::from_bits(random.u64(..)), replication: replication.into() };
        let (ttl, meta_ttl) = if random.bool() { (time, LONG) } else { (LONG, time) };
        let history = HistoryOptions { size: random.usize(1..5), ttl, bytes: usize::MAX, meta_ttl };
        let lease = random.u64(1..5);
        let client = ClientId::from_random(random.u128(0..6));
        let command = match random.u32(0..100) {
            0..=34 => Command::Publish(Box::new(PublishCommand {
                channel,
                body: body(random),
                history: (random.u32(0..5) > 0).then_some(history),
                key: (random.u32(0..3) == 0).then(|| format!("k{}", random.u32(0..3)).into()),
                version: (random.u32(0..3) == 0).then(|| version(random)),
                stream,
            })),
            35..=54 => {
                let since = random.bool().then(|| random.u64(0..12));
                let limit = random.bool().then(|| random.usize(0..4));
                let range = Range { since, is_reverse: random.bool(), limit };
                let read = ReadCommand {
                    channel,
                    history: HistoryOptions { ttl: LONG, meta_ttl: time, ..history },
                    range,
                    stream,
                };
                return (Command::Read(Box::new(read)), is_short);
            }
            55..=57 => Command::Clear { channel },
            58..=61 => Command::AddRevocation(body(random)),
            62 => Command::ReadRevocations { after: "".into() },
            63..=64 => Command::WriteUser(Box::new(write_user(random, lease, time))),
            65..=66 => Command::ReadNodes,
            67..=70 => {
                let is_short = random.u32(0..8) == 0;
                let time = if is_short { SHORT } else { LONG };
                let description = if random.bool() { body(random) } else { [].into() };
                return (Command::RenewLease { lease, time, description }, is_short);
            }
            71..=74 => Command::Reap { lease, is_announced: random.bool() },
            75..=81 => {
                let clients =
                    (0..random.usize(0..3)).map(|_| (ClientId::from_random(random.u128(0..6)), body(random)));
                let clients = clients.collect();
                let join = random.bool().then(|| Arc::from(*b"+join"));
                Command::AddPresence(Box::new(AddPresence { channel, lease, time, clients, join }))
            }
            82..=87 => {
                let leave = Arc::from(*b"~leave");
                let is_last = random.bool();
                Command::RemovePresence(Box::new(RemovePresence { channel, lease, client, is_last, leave }))
            }
            88..=91 => Command::ReadPresence { channel },
            92..=93 => Command::Send { topic: topic(random), message: body(random) },
            94..=96 => Command::Subscribe((0..random.usize(1..4)).map(|_| topic(random)).collect()),
            97 => Command::Unsubscribe((0..random.usize(1..4)).map(|_| topic(random)).collect()),
            98 => Command::Role,
            _ => Command::LoadScripts,
        };
        let has_time =
            matches!(command, Command::Publish(_) | Command::AddPresence(_) | Command::WriteUser(_));
        (command, is_short && has_time)
    }
}

impl Real {
    fn execute(&mut self, command: &Command) -> Result<Reply, postern_channels::relay::command::Failure> {
        let encoded = self.encoder.command(command, &self.names).expect("a command of the engine");
        match self.connection.req_command(&encoded) {
            Ok(value) => encoding::reply(command, value),
            Err(error) => Err(encoding::failure(&error)),
        }
    }

    fn load_scripts(&mut self) -> Result<Reply, postern_channels::relay::command::Failure> {
        let load = |script: &&str| redis::cmd("SCRIPT").arg("LOAD").arg(*script).query(&mut self.connection);
        self.names = scripts::ALL.iter().map(load).collect::<Result<_, _>>().expect("scripts");
        Ok(Reply::Done)
    }

    fn run(&mut self, parts: &[&str]) {
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| _ = command.arg(part));
        command.exec(&mut self.connection).expect("a command of an operator");
    }
}

fn channel(random: &mut Rng) -> String {
    format!("c{}", random.u32(0..3))
}

fn topic(random: &mut Rng) -> Topic {
    match random.u32(0..4) {
        0 => Topic::Control,
        1 => Topic::Node(random.u64(1..3)),
        _ => Topic::Channel(channel(random).into()),
    }
}

fn body(random: &mut Rng) -> Arc<[u8]> {
    let len = random.usize(0..90);
    (0..len).map(|_| random.u8(..)).collect()
}

/// The connections have ages that differ by far more than the commands take.
fn write_user(random: &mut Rng, lease: u64, time: Duration) -> WriteUser {
    let count = random.usize(0..4);
    let mut connections = BTreeMap::new();
    for _ in 0..count {
        let number = random.u64(1..6);
        connections.insert(number, Duration::from_secs(1_000 * (lease * 10 + number)));
    }
    let limit = UserLimit { most: random.usize(1..5), closes_newest: random.bool() };
    let user = format!("u{}", random.u32(0..2)).into();
    WriteUser {
        user,
        lease,
        time,
        node: random.u64(1..3),
        limit,
        connections: connections.into_iter().collect(),
    }
}

fn version(random: &mut Rng) -> Version {
    let number = *random.choice([0, 1, 2, 5, 1 << 53, u64::MAX].as_slice()).unwrap_or(&0);
    Version { number, epoch: if random.bool() { "a".into() } else { "".into() } }
}

/// Returns the kind of an answer, of which each must be seen.
fn kind(command: &Command, result: &Result<Reply, postern_channels::relay::command::Failure>) -> String {
    let text = format!("{command:?}");
    let name = text.split(['(', ' ']).next().unwrap_or_default();
    match result {
        Err(failure) => format!("{name} {:?}", failure.cause),
        Ok(Reply::Published { outcome, .. }) => format!("{name} {outcome:?}"),
        Ok(Reply::Read { entries, .. }) if !entries.is_empty() => format!("{name} entries"),
        Ok(Reply::Nodes(nodes)) if !nodes.is_empty() => "Nodes".to_owned(),
        Ok(Reply::User { excess, .. }) if !excess.is_empty() => "User excess".to_owned(),
        Ok(Reply::Lease { expired, .. }) if !expired.is_empty() => "Lease expired".to_owned(),
        Ok(Reply::Reaped { is_done }) => format!("{name} {is_done}"),
        Ok(Reply::Sent { receivers }) => format!("{name} {receivers}"),
        Ok(_) => name.to_owned(),
    }
}

fn comparable(result: Result<Reply, postern_channels::relay::command::Failure>) -> Comparable {
    let mut reply = result.map_err(|failure| failure.cause)?;
    match &mut reply {
        Reply::Presence(texts) | Reply::Nodes(texts) => texts.sort(),
        Reply::Lease { expired, .. } => expired.sort_unstable(),
        // The clocks differ, but by less than the age of a time that the test has written.
        Reply::User { above, .. } => *above = (*above).min(LONG).max(LONG / 2),
        Reply::Revocations(revocations) => {
            return Ok(format!("{:?}", revocations.iter().map(|(_, body)| body).collect::<Vec<_>>()));
        }
        _ => {}
    }
    Ok(format!("{reply:?}"))
}

/// A time that ends within the test, and one that does not.
const SHORT: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_secs(10_000);
