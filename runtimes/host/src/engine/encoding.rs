//! Commands and replies in the form of Redis.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use postern_channels::exchange::{HistoryOptions, Version};
use postern_channels::publication::{ClientId, Epoch, Position};
use postern_channels::relay::command::{
    AddPresence, Cause, Command, Entry, Failure, PublishCommand, PublishResult, Range, ReadCommand,
    RemovePresence, Reply, Topic, WriteUser,
};
use postern_channels::relay::{PAGE, scripts};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};

use crate::tls;

/// The names of the scripts that Redis has loaded, in the order of [`scripts::ALL`].
pub type Scripts = Vec<String>;

/// Makes commands.
#[derive(Debug)]
pub struct Encoder {
    prefix: String,
}

impl Encoder {
    /// Creates an encoder with the prefix of the setting.
    pub fn new(prefix: &str) -> Encoder {
        Encoder { prefix: format!("{prefix}:") }
    }

    /// Creates an encoder for Redis Cluster, in which all keys with the prefix are on one node: scripts use keys of channels,
    /// leases and users together.
    pub fn in_cluster(prefix: &str) -> Encoder {
        Encoder { prefix: format!("{{{prefix}}}:") }
    }

    /// Makes a command that succeeds only on a server with all keys. It has no effect.
    pub(super) fn check(&self) -> Cmd {
        let mut exists = cmd("EXISTS");
        exists.arg(self.leases()).arg(self.nodes());
        exists
    }

    /// Returns the name of a topic in Redis.
    pub fn topic(&self, topic: &Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// Returns the name of a topic without the prefix.
    pub fn strip<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&self.prefix)
    }

    fn key(&self, kind: &str, channel: &str) -> String {
        format!("{}{kind}:{{{channel}}}", self.prefix)
    }

    /// Encodes a command of the connection of commands, except for those that the driver itself performs.
    pub fn command(&self, command: &Command, names: &Scripts) -> Option<Cmd> {
        match command {
            Command::Role => Some(cmd("ROLE")),
            Command::Replication => {
                let mut info = cmd("INFO");
                info.arg("replication");
                Some(info)
            }
            Command::Send { topic, message } => {
                let mut publish = cmd("PUBLISH");
                publish.arg(self.topic(topic)).arg(&**message);
                Some(publish)
            }
            Command::Publish(command) => Some(self.publish(command, names)),
            Command::Read(command) => Some(self.read(command, names)),
            Command::AddRevocation(revocation) => {
                let mut add = cmd("XADD");
                add.arg(self.revocations()).arg("MAXLEN").arg("~").arg(MOST_REVOCATIONS).arg("*");
                add.arg("d").arg(&**revocation);
                Some(add)
            }
            Command::ReadRevocations { after } => {
                let mut read = cmd("XRANGE");
                let first = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
                read.arg(self.revocations()).arg(first).arg("+").arg("COUNT").arg(PAGE);
                Some(read)
            }
            Command::RenewLease { lease, time, description } => {
                let mut eval = evaluate(names, scripts::RENEW_LEASE, 2);
                eval.arg(self.leases()).arg(self.nodes()).arg(hexadecimal(*lease));
                eval.arg(milliseconds(*time)).arg(&**description);
                Some(eval)
            }
            Command::ReadNodes => {
                let mut eval = evaluate(names, scripts::READ_NODES, 2);
                eval.arg(self.leases()).arg(self.nodes());
                Some(eval)
            }
            Command::Reap { lease, is_announced } => {
                let mut eval = evaluate(names, scripts::REAP, 4);
                eval.arg(self.leases()).arg(self.channels_of(*lease)).arg(self.nodes());
                eval.arg(self.users_of(*lease));
                eval.arg(hexadecimal(*lease)).arg(u8::from(*is_announced)).arg(&self.prefix);
                Some(eval)
            }
            Command::AddPresence(add) => {
                let AddPresence { channel, lease, time, clients, join } = &**add;
                let mut eval = evaluate(names, scripts::ADD_PRESENCE, 3);
                eval.arg(self.key("p", channel)).arg(self.channels_of(*lease)).arg(self.leases());
                eval.arg(&**channel).arg(self.topic(&Topic::Channel(channel.clone())));
                eval.arg(join.as_deref().unwrap_or_default());
                eval.arg(hexadecimal(*lease)).arg(milliseconds(*time));
                for (client, info) in clients {
                    eval.arg(field(*lease, *client)).arg(&**info);
                }
                Some(eval)
            }
            Command::RemovePresence(remove) => {
                let RemovePresence { channel, lease, client, is_last, leave } = &**remove;
                let mut eval = evaluate(names, scripts::REMOVE_PRESENCE, 2);
                eval.arg(self.key("p", channel)).arg(self.channels_of(*lease)).arg(&**channel);
                eval.arg(self.topic(&Topic::Channel(channel.clone()))).arg(&**leave);
                eval.arg(field(*lease, *client)).arg(u8::from(*is_last));
                Some(eval)
            }
            Command::ReadPresence { channel } => {
                let mut read = cmd("HVALS");
                read.arg(self.key("p", channel));
                Some(read)
            }
            Command::WriteUser(write) => Some(self.write_user(write, names)),
            Command::Clear { channel } => {
                let mut clear = cmd("DEL");
                clear.arg(self.key("s", channel));
                Some(clear)
            }
            Command::LoadScripts | Command::Subscribe(_) | Command::Unsubscribe(_) => None,
        }
    }

    fn leases(&self) -> String {
        format!("{}leases", self.prefix)
    }

    fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    fn channels_of(&self, lease: u64) -> String {
        format!("{}pk:{}", self.prefix, hexadecimal(lease))
    }

    fn revocations(&self) -> String {
        format!("{}rv", self.prefix)
    }

    fn users_of(&self, lease: u64) -> String {
        format!("{}uk:{}", self.prefix, hexadecimal(lease))
    }

    fn write_user(&self, write: &WriteUser, names: &Scripts) -> Cmd {
        let WriteUser { user, lease, time, node, limit, connections } = write;
        let mut eval = evaluate(names, scripts::WRITE_USER, 3);
        eval.arg(self.key("u", user)).arg(self.users_of(*lease)).arg(self.leases());
        eval.arg(&**user).arg(hexadecimal(*lease)).arg(milliseconds(*time)).arg(hexadecimal(*node));
        eval.arg(limit.most).arg(u8::from(limit.closes_newest)).arg(&self.prefix);
        for (connection, age) in connections {
            eval.arg(*connection).arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX).min(MOST_MS));
        }
        eval
    }

    fn publish(&self, command: &PublishCommand, names: &Scripts) -> Cmd {
        let PublishCommand { channel, body, history, key, version, stream } = command;
        let meta = self.key("m", channel);
        let idempotency = key.as_ref().map(|key| format!("{}:{key}", self.key("i", channel)));
        let HistoryOptions { size, ttl, meta_ttl, .. } = history.unwrap_or(HistoryOptions {
            size: 0,
            ttl: Default::default(),
            bytes: 0,
            meta_ttl: Default::default(),
        });
        let none = Version { number: 0, epoch: "".into() };
        let version = version.as_ref().unwrap_or(&none);
        let mut eval = evaluate(names, scripts::PUBLISH, 3);
        eval.arg(&meta)
            .arg(self.key("s", channel))
            .arg(idempotency.as_ref().unwrap_or(&meta))
            .arg(self.topic(&Topic::Channel(channel.clone())))
            .arg(&**body)
            .arg(size)
            .arg(milliseconds(ttl))
            .arg(milliseconds(meta_ttl))
            .arg(if key.is_some() { IDEMPOTENCY_MS } else { 0 })
            .arg(stream.epoch.as_str())
            .arg(&*stream.replication)
            .arg(version.number)
            .arg(&*version.epoch);
        eval
    }

    fn read(&self, command: &ReadCommand, names: &Scripts) -> Cmd {
        let ReadCommand { channel, history, range, stream } = command;
        let Range { since, is_reverse, limit } = *range;
        let (first, last) = match (since, is_reverse) {
            (None, false) => ("-".to_owned(), "+".to_owned()),
            (None, true) => ("+".to_owned(), "-".to_owned()),
            (Some(since), false) => (since.saturating_add(1).to_string(), "+".to_owned()),
            (Some(since), true) => (since.saturating_sub(1).to_string(), "-".to_owned()),
        };
        let mut eval = evaluate(names, scripts::READ, 2);
        eval.arg(self.key("m", channel))
            .arg(self.key("s", channel))
            .arg(stream.epoch.as_str())
            .arg(&*stream.replication)
            .arg(milliseconds(history.meta_ttl))
            .arg(first)
            .arg(last)
            .arg(limit.map(|limit| limit.to_string()).unwrap_or_default())
            .arg(u8::from(is_reverse));
        eval
    }
}

/// Decodes the reply to a command.
///
/// # Errors
/// The server has returned an error, or something that is not a reply to this command.
pub fn reply(command: &Command, value: Value) -> Result<Reply, Failure> {
    if let Value::ServerError(error) = value {
        return Err(failure(&error.into()));
    }
    let reply = match command {
        Command::Role => role(&value),
        Command::Replication => replication(&value),
        Command::Publish(_) => published(value),
        Command::Read(_) => read(value),
        Command::LoadScripts
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::AddRevocation(_)
        | Command::RemovePresence(_)
        | Command::Clear { .. } => Some(Reply::Done),
        Command::AddPresence(_) => present(&value),
        Command::WriteUser(_) => user(&value),
        Command::RenewLease { .. } => renewed(value),
        Command::Reap { .. } => reaped(&value),
        Command::ReadPresence { .. } => texts(value).map(Reply::Presence),
        Command::ReadNodes => texts(value).map(Reply::Nodes),
        Command::Send { .. } => receivers(&value),
        Command::ReadRevocations { .. } => revocations(value),
    };
    reply.ok_or_else(|| Failure::new(Cause::Protocol, "a reply has another form"))
}

fn role(value: &Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    Some(Reply::Role { is_master: text(parts.first()?)? == "master" })
}

fn replication(value: &Value) -> Option<Reply> {
    let line = |line: &str| line.strip_prefix("master_replid:").map(|id| id.trim().into());
    Some(Reply::Replication(text(value)?.lines().find_map(line)?))
}

fn published(value: Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    let [outcome, epoch, offset] = &parts[..] else { return None };
    let outcome = match text(outcome)? {
        "0" => PublishResult::Published,
        "1" => PublishResult::Duplicate,
        "2" => PublishResult::Outdated,
        _ => return None,
    };
    let position = match text(epoch)? {
        "" => None,
        epoch => Some(position(epoch, text(offset)?)?),
    };
    Some(Reply::Published { outcome, position })
}

fn read(value: Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    let [epoch, offset, entries] = <[Value; 3]>::try_from(parts).ok()?;
    let position = position(text(&epoch)?, text(&offset)?)?;
    let Value::Array(entries) = entries else { return None };
    // An entry of another program leaves a gap.
    let entries = entries.into_iter().filter_map(entry).collect();
    Some(Reply::Read { position, entries })
}

fn renewed(value: Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(added), Value::Array(expired)] = &parts[..] else { return None };
    let lease = |value| u64::from_str_radix(text(value)?, 16).ok();
    Some(Reply::Lease { was_known: *added == 0, expired: expired.iter().filter_map(lease).collect() })
}

fn present(value: &Value) -> Option<Reply> {
    let Value::Int(added) = value else { return None };
    Some(Reply::Present { was_known: *added == 0 })
}

fn user(value: &Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(added), Value::Array(excess), Value::Int(above)] = &parts[..] else { return None };
    let excess = excess.iter().filter_map(|value| text(value)?.parse().ok()).collect();
    let above = Duration::from_millis(u64::try_from(*above).ok()?);
    Some(Reply::User { was_known: *added == 0, excess, above })
}

fn reaped(value: &Value) -> Option<Reply> {
    let Value::Int(is_done) = value else { return None };
    Some(Reply::Reaped { is_done: *is_done == 1 })
}

fn texts(value: Value) -> Option<Vec<Vec<u8>>> {
    let Value::Array(values) = value else { return None };
    let bytes = |value| if let Value::BulkString(bytes) = value { Some(bytes) } else { None };
    Some(values.into_iter().filter_map(bytes).collect())
}

/// Begins the call of a script with this number of keys.
fn evaluate(names: &Scripts, script: &str, keys: usize) -> Cmd {
    let index = scripts::ALL.iter().position(|known| *known == script);
    let mut eval = cmd("EVALSHA");
    // The scripts are loaded before any is called.
    eval.arg(index.and_then(|index| names.get(index)).map_or("", String::as_str)).arg(keys);
    eval
}

fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

fn field(lease: u64, client: ClientId) -> String {
    format!("{}/{client}", hexadecimal(lease))
}

fn receivers(value: &Value) -> Option<Reply> {
    let Value::Int(receivers) = value else { return None };
    Some(Reply::Sent { receivers: usize::try_from(*receivers).ok()? })
}

fn revocations(value: Value) -> Option<Reply> {
    let Value::Array(entries) = value else { return None };
    Some(Reply::Revocations(entries.into_iter().filter_map(stream_entry).collect()))
}

fn entry(value: Value) -> Option<Entry> {
    let (id, body) = stream_entry(value)?;
    Some(Entry { offset: id.strip_suffix("-0")?.parse().ok()?, body })
}

/// Returns the id and the content of an entry of ours.
fn stream_entry(value: Value) -> Option<(Box<str>, Vec<u8>)> {
    let Value::Array(parts) = value else { return None };
    let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
    let Value::Array(fields) = fields else { return None };
    let [name, body] = <[Value; 2]>::try_from(fields).ok()?;
    let Value::BulkString(body) = body else { return None };
    (text(&name)? == "d").then_some((text(&id)?.into(), body))
}

fn position(epoch: &str, offset: &str) -> Option<Position> {
    Some(Position { epoch: Epoch::parse(epoch.as_bytes())?, offset: offset.parse().ok()? })
}

/// Returns a text of any kind.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the client grows")]
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

/// Returns the cause of an error. Its text has neither a user nor a password.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the client grows")]
pub fn failure(error: &RedisError) -> Failure {
    if let Some(text) = of_tls(error) {
        return Failure::new(Cause::Tls, text);
    }
    let cause = match error.kind() {
        ErrorKind::Server(ServerErrorKind::CrossSlot) => return in_cluster(),
        ErrorKind::Server(ServerErrorKind::Moved) => {
            return Failure::new(
                Cause::Replica,
                format!("another node of the cluster has the keys: {error}"),
            );
        }
        // No key can be used until the cluster has repaired itself.
        ErrorKind::Server(ServerErrorKind::ClusterDown) => Cause::Unreachable,
        ErrorKind::AuthenticationFailed => Cause::Credentials,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::RESP3NotSupported => Cause::Protocol,
        ErrorKind::Server(ServerErrorKind::NoScript) => Cause::NoScript,
        ErrorKind::Server(ServerErrorKind::NoPerm) => Cause::Permission,
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Cause::Replica,
        ErrorKind::Server(ServerErrorKind::BusyLoading) => Cause::Loading,
        ErrorKind::Io if error.is_timeout() => Cause::Timeout,
        ErrorKind::Io if error.is_connection_refusal() => Cause::Unreachable,
        ErrorKind::Io if error.is_connection_dropped() => Cause::Closed,
        ErrorKind::Io => Cause::Unreachable,
        _ => match error.code() {
            Some("WRONGPASS" | "NOAUTH") => Cause::Credentials,
            Some("OOM" | "MISCONF" | "NOREPLICAS") => Cause::Storage,
            _ => Cause::Server,
        },
    };
    Failure::new(cause, error.to_string())
}

/// Returns the failure of a node of a cluster whose address is the one of a single server.
pub(super) fn in_cluster() -> Failure {
    let text = "the server is a node of a Redis Cluster; write redis+cluster:// or rediss+cluster://";
    Failure::new(Cause::Cluster, text)
}

/// Describes an error of TLS after the handshake, such as the refusal of a certificate.
fn of_tls(error: &RedisError) -> Option<String> {
    let source: &Arc<dyn Error + Send + Sync> = error.source()?.downcast_ref()?;
    tls::describe(source.downcast_ref()?)
}

fn milliseconds(time: Duration) -> u64 {
    // Redis refuses times beyond its range, and more than a century is as good as never.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, MOST_MS)
}

/// The most revocations that Redis keeps, about.
const MOST_REVOCATIONS: usize = 100_000;

/// The time for which the result of a publication with an idempotency key is kept.
const IDEMPOTENCY_MS: u64 = 5 * 60 * 1000;

const MOST_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1000;
