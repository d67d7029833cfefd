//! A model of Redis: the commands and scripts that a node uses, with the answers of the real one, in virtual time.
//!
//! A [`Server`] executes one [`Command`] after the other, as Redis does. It knows connections by numbers, and returns the messages
//! of Pub/Sub for them. It has no sockets: the world that contains it delays, loses and orders what is sent.
//!
//! `tests/tests/redis_model.rs` gives the same commands to a model and to a real server, and compares the answers.
//!
//! * `data`: the keys and their values; `scripts`: the scripts.

mod data;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postern_channels::publication::{Epoch, Position};
use postern_channels::relay::PAGE;
use postern_channels::relay::command::{Cause, Command, Failure, PublishResult, Reply, Topic};

use self::data::{Data, Id};
use self::scripts::Script;

pub use self::data::Error;

type Answer<T> = Result<T, Error>;

/// The result of a publication, as the script returns it.
struct Published {
    outcome: PublishResult,
    epoch: Vec<u8>,
    offset: Vec<u8>,
}

/// The number of a connection.
pub type Connection = u64;

/// A message for a connection that has subscribed to its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The connection.
    pub connection: Connection,
    /// The name of the topic, without the prefix of the setting.
    pub topic: String,
    /// The content.
    pub content: Vec<u8>,
}

/// A command that nodes do not send: it comes from an operator, or from another program with the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// `SET` of a text.
    Set(String, Vec<u8>),
    /// `HSET` of one field.
    SetField(String, Vec<u8>, Vec<u8>),
    /// `XADD` of one field, with this id.
    AddEntry(String, (u64, u64), Vec<u8>, Vec<u8>),
    /// `DEL`.
    Remove(String),
    /// `PUBLISH` to a topic.
    Publish(String, Vec<u8>),
    /// `FLUSHALL`.
    RemoveAll,
    /// `SCRIPT FLUSH`.
    ForgetScripts,
}

/// A copy of the data of a server, such as a replica or a file has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot(Data);

/// A model of a server.
#[derive(Debug)]
pub struct Server {
    data: Data,
    /// The history of replication, as `INFO` returns it.
    pub replication: String,
    /// Whether it accepts writes of nodes.
    pub is_master: bool,
    /// Whether there is no memory left.
    pub is_full: bool,
    has_scripts: bool,
    topics: BTreeMap<String, BTreeSet<Connection>>,
}

impl Server {
    /// Starts a master without data.
    pub fn new(replication: String) -> Server {
        Server {
            data: Data::default(),
            replication,
            is_master: true,
            is_full: false,
            has_scripts: false,
            topics: BTreeMap::new(),
        }
    }

    /// Starts it again: only the data of a file is left. The history of replication is another one.
    pub fn start_again(&mut self, data: Snapshot, replication: String) {
        *self = Server { data: data.0, ..Server::new(replication) };
    }

    /// Returns a copy of the data.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.data.clone())
    }

    /// Replaces the data, as a replica does whose master has sent a copy.
    pub fn replace_data(&mut self, snapshot: Snapshot) {
        self.data = snapshot.0;
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, connection: Connection) {
        self.topics.retain(|_, connections| {
            connections.remove(&connection);
            !connections.is_empty()
        });
    }

    /// Returns the topics that a connection has subscribed to.
    pub fn topics_of(&self, connection: Connection) -> BTreeSet<&str> {
        let is_of = |(_, connections): &(&String, &BTreeSet<Connection>)| connections.contains(&connection);
        self.topics.iter().filter(is_of).map(|(topic, _)| topic.as_str()).collect()
    }

    /// Executes a command of a connection at a time in milliseconds. Messages are appended to `messages`; `choose` orders values
    /// of which Redis takes any.
    ///
    /// # Errors
    /// The failure that the driver reports to the link.
    pub fn execute(
        &mut self,
        connection: Connection,
        command: &Command,
        now: u64,
        choose: &mut impl FnMut(&mut Vec<Vec<u8>>),
        messages: &mut Vec<Message>,
    ) -> Result<Reply, Failure> {
        self.data.now = now;
        let is_script = matches!(
            command,
            Command::Publish(_)
                | Command::Read(_)
                | Command::RenewLease { .. }
                | Command::ReadNodes
                | Command::Reap { .. }
                | Command::AddPresence(_)
                | Command::RemovePresence(_)
                | Command::WriteUser(_)
        );
        if is_script && !self.has_scripts {
            return Err(failure(Error::NoScript));
        }
        let mut script = Script {
            data: &mut self.data,
            is_full: self.is_full,
            is_replica: !self.is_master,
            has_written: false,
            messages: Vec::new(),
        };
        let reply = run(command, &mut script, choose);
        let said = script.messages;
        let reply = match reply {
            Ok(Some(reply)) => Ok(reply),
            Err(failure) => Err(failure),
            Ok(None) => Ok(self.execute_simple(connection, command, messages)),
        };
        for (topic, content) in said {
            self.say(&topic, &content, messages);
        }
        reply
    }

    /// Executes a command that does not concern the data.
    fn execute_simple(
        &mut self,
        connection: Connection,
        command: &Command,
        messages: &mut Vec<Message>,
    ) -> Reply {
        match command {
            Command::Role => Reply::Role { is_master: self.is_master },
            Command::Replication => Reply::Replication(self.replication.as_str().into()),
            Command::LoadScripts => {
                self.has_scripts = true;
                Reply::Done
            }
            Command::Subscribe(topics) => {
                for topic in topics {
                    self.topics.entry(topic.name()).or_default().insert(connection);
                }
                Reply::Done
            }
            Command::Unsubscribe(topics) => {
                for topic in topics.iter().map(Topic::name) {
                    if let Some(connections) = self.topics.get_mut(&topic) {
                        connections.remove(&connection);
                        if connections.is_empty() {
                            self.topics.remove(&topic);
                        }
                    }
                }
                Reply::Done
            }
            Command::Send { topic, message } => {
                Reply::Sent { receivers: self.say(&topic.name(), message, messages) }
            }
            Command::Publish(_)
            | Command::Read(_)
            | Command::AddRevocation(_)
            | Command::ReadRevocations { .. }
            | Command::RenewLease { .. }
            | Command::ReadNodes
            | Command::Reap { .. }
            | Command::AddPresence(_)
            | Command::RemovePresence(_)
            | Command::ReadPresence { .. }
            | Command::WriteUser(_)
            | Command::Clear { .. } => Reply::Done,
        }
    }

    /// Executes a command that is not of a node.
    ///
    /// # Errors
    /// The command fails.
    pub fn interfere(
        &mut self,
        foreign: &Foreign,
        now: u64,
        messages: &mut Vec<Message>,
    ) -> Result<(), Error> {
        self.data.now = now;
        match foreign {
            Foreign::Set(key, text) => self.data.set(key, text.clone(), None),
            Foreign::SetField(key, field, value) => self.data.hset(key, field, value.clone())?,
            Foreign::AddEntry(key, id, field, value) => {
                self.data.xadd(key, None, *id, vec![(field.clone(), value.clone())])?;
            }
            Foreign::Remove(key) => self.data.del(key),
            Foreign::Publish(topic, message) => _ = self.say(topic, message, messages),
            Foreign::RemoveAll => self.data.clear(),
            Foreign::ForgetScripts => self.has_scripts = false,
        }
        Ok(())
    }

    /// Sends a message to the connections that have subscribed to a topic. Returns their number.
    fn say(&mut self, topic: &str, message: &[u8], messages: &mut Vec<Message>) -> usize {
        let Some(connections) = self.topics.get(topic) else { return 0 };
        messages.extend(connections.iter().map(|&connection| Message {
            connection,
            topic: topic.to_owned(),
            content: message.to_vec(),
        }));
        connections.len()
    }

    /// Returns the names of the keys that begin with a text.
    pub fn keys(&mut self, prefix: &str, now: u64) -> Vec<String> {
        self.data.now = now;
        self.data.keys(prefix)
    }

    /// Returns the fields of a hash with their values, if it is one.
    pub fn fields(&mut self, key: &str, now: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.data.now = now;
        self.data.hgetall(key).unwrap_or_default()
    }
}

/// Executes a command on the data. Returns `None` for a command that does not concern the data.
fn run(
    command: &Command,
    script: &mut Script<'_>,
    choose: &mut impl FnMut(&mut Vec<Vec<u8>>),
) -> Result<Option<Reply>, Failure> {
    let reply = match command {
        Command::Publish(publish) => {
            let Published { outcome, epoch, offset } = script.publish(publish).map_err(failure)?;
            let position = if epoch.is_empty() { None } else { Some(position(&epoch, &offset)?) };
            Reply::Published { outcome, position }
        }
        Command::Read(read) => {
            let (epoch, offset, entries) = script.read(read).map_err(failure)?;
            Reply::Read { position: position(&epoch, &offset)?, entries: scripts::entries(entries) }
        }
        Command::RenewLease { lease, time, description } => {
            let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (is_new, expired) = script.renew_lease(*lease, time, description).map_err(failure)?;
            let number = |name: &Vec<u8>| u64::from_str_radix(str::from_utf8(name).ok()?, 16).ok();
            Reply::Lease { was_known: !is_new, expired: expired.iter().filter_map(number).collect() }
        }
        Command::ReadNodes => Reply::Nodes(script.read_nodes().map_err(failure)?),
        Command::Reap { lease, is_announced } => {
            Reply::Reaped { is_done: script.reap(*lease, *is_announced, choose).map_err(failure)? }
        }
        Command::AddPresence(add) => Reply::Present { was_known: script.add_presence(add).map_err(failure)? },
        Command::WriteUser(write) => {
            let (was_known, excess, above) = script.write_user(write).map_err(failure)?;
            Reply::User { was_known, excess, above: Duration::from_millis(above) }
        }
        Command::RemovePresence(remove) => {
            script.remove_presence(remove).map_err(failure)?;
            Reply::Done
        }
        Command::AddRevocation(revocation) => {
            script.add_revocation(revocation).map_err(failure)?;
            Reply::Done
        }
        Command::ReadRevocations { after } => {
            let first = if after.is_empty() { Some((0, 0)) } else { next_id(after) };
            let first = first.ok_or_else(|| failure(Error::Malformed))?;
            let mut items = script.data.xrange(REVOCATIONS, first, (u64::MAX, u64::MAX)).map_err(failure)?;
            items.truncate(PAGE);
            let revocation = |((time, part), fields): data::Item| match <[_; 1]>::try_from(fields) {
                Ok([(name, body)]) if name == b"d" => Some((format!("{time}-{part}").into(), body)),
                Ok(_) | Err(_) => None,
            };
            Reply::Revocations(items.into_iter().filter_map(revocation).collect())
        }
        Command::ReadPresence { channel } => {
            let fields = script.data.hgetall(&format!("p:{{{channel}}}")).map_err(failure)?;
            Reply::Presence(fields.into_iter().map(|(_, info)| info).collect())
        }
        Command::Clear { channel } => {
            script.clear(channel).map_err(failure)?;
            Reply::Done
        }
        Command::Role
        | Command::Replication
        | Command::LoadScripts
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::Send { .. } => return Ok(None),
    };
    Ok(Some(reply))
}

/// Returns the id that follows the id in a text.
fn next_id(text: &str) -> Option<Id> {
    let (time, part) = text.split_once('-')?;
    Some((time.parse().ok()?, part.parse::<u64>().ok()? + 1))
}

fn hexadecimal(number: u64) -> Vec<u8> {
    format!("{number:016x}").into_bytes()
}

/// Returns a position, as the driver parses it.
fn position(epoch: &[u8], offset: &[u8]) -> Result<Position, Failure> {
    let position = Epoch::parse(epoch).zip(str::from_utf8(offset).ok().and_then(|text| text.parse().ok()));
    let form = || Failure::new(Cause::Protocol, "a reply has another form");
    position.map(|(epoch, offset)| Position { epoch, offset }).ok_or_else(form)
}

/// Returns the failure that the driver reports for an error.
fn failure(error: Error) -> Failure {
    let (cause, text) = match error {
        Error::WrongType => (Cause::Server, "WRONGTYPE"),
        Error::Malformed | Error::SmallId => (Cause::Server, "ERR"),
        Error::Memory => (Cause::Storage, "OOM"),
        Error::ReadOnly => (Cause::Replica, "READONLY"),
        Error::NoScript => (Cause::NoScript, "NOSCRIPT"),
    };
    Failure::new(cause, text)
}

/// The stream of revocations.
const REVOCATIONS: &str = "rv";
