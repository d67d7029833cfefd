//! The commands of a node to Redis, their replies and failures, as plain data. A driver encodes them; a model executes them.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::{HistoryOptions, Version};
use crate::publication::{ClientId, Epoch, Position};

/// The name of a Pub/Sub channel, without the prefix of the setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Messages to one node, by its number. These and the next ones are subscribed first, because they are about all channels.
    Node(u64),
    /// Messages to all nodes.
    Control,
    /// The publications of a channel.
    Channel(Arc<str>),
}

impl Topic {
    /// Returns the name.
    pub fn name(&self) -> String {
        match self {
            Topic::Channel(channel) => format!("ch:{{{channel}}}"),
            Topic::Node(node) => format!("n:{node:016x}"),
            Topic::Control => "ctl".to_owned(),
        }
    }

    /// Parses a name. Other programs may publish under other names.
    pub fn parse(name: &str) -> Option<Topic> {
        if name == "ctl" {
            return Some(Topic::Control);
        }
        if let Some(node) = name.strip_prefix("n:") {
            return u64::from_str_radix(node, 16).ok().map(Topic::Node);
        }
        let channel = name.strip_prefix("ch:{")?.strip_suffix('}')?;
        Some(Topic::Channel(channel.into()))
    }
}

/// The connection that a [`Command`] is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The connection that receives messages. It has no other commands, because the server ends it if messages wait for too long.
    Messages,
    /// The connection of all other commands.
    Commands,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `ROLE`: whether the server is a master.
    Role,
    /// `INFO replication`: the history of replication that the data of the server belongs to.
    Replication,
    /// `SCRIPT LOAD` of all scripts.
    LoadScripts,
    /// `SUBSCRIBE`, in one command.
    Subscribe(Vec<Topic>),
    /// `UNSUBSCRIBE`, in one command.
    Unsubscribe(Vec<Topic>),
    /// `PUBLISH` of a message to nodes.
    Send {
        /// The nodes.
        topic: Topic,
        /// The message.
        message: Arc<[u8]>,
    },
    /// Publishes to a channel, by a script.
    Publish(Box<PublishCommand>),
    /// Reads the position of a channel and a part of its stream, by a script.
    Read(Box<ReadCommand>),
    /// Adds a revocation to the stream of revocations.
    AddRevocation(Arc<[u8]>),
    /// Reads the revocations of all nodes.
    ReadRevocations {
        /// The id of the entry that they follow. Empty: all.
        after: Box<str>,
    },
    /// Renews a lease, by a script.
    RenewLease {
        /// The lease.
        lease: u64,
        /// The time for which it holds.
        time: Duration,
        /// The description of the node that has the lease. Empty: as before.
        description: Arc<[u8]>,
    },
    /// Reads the descriptions of the nodes whose leases have not expired, by a script.
    ReadNodes,
    /// Removes a part of the entries of a lease, by a script.
    Reap {
        /// The lease.
        lease: u64,
        /// Whether the subscribers of the channels learn that the clients have left.
        is_announced: bool,
    },
    /// Writes clients that are present in a channel, by a script.
    AddPresence(Box<AddPresence>),
    /// Removes a client that was present in a channel, by a script.
    RemovePresence(Box<RemovePresence>),
    /// Reads the clients that are present in a channel.
    ReadPresence {
        /// The channel.
        channel: Arc<str>,
    },
    /// Writes the connections of a user on this node, and asks which ones are too many on all nodes, by a script.
    WriteUser(Box<WriteUser>),
    /// Removes the entries of a channel's stream. Its position stays.
    Clear {
        /// The channel.
        channel: Arc<str>,
    },
}

impl Command {
    /// Returns the connection that the command is sent on.
    pub fn place(&self) -> Place {
        match self {
            Command::Subscribe(_) | Command::Unsubscribe(_) => Place::Messages,
            Command::Role
            | Command::Replication
            | Command::LoadScripts
            | Command::Send { .. }
            | Command::Publish(_)
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
            | Command::Clear { .. } => Place::Commands,
        }
    }

    /// Returns about how many bytes of memory the command keeps. The client of Redis also keeps the encoded form of a publication.
    pub fn memory(&self) -> usize {
        let more = match self {
            Command::Publish(publish) => size_of::<PublishCommand>() + 2 * publish.body.len() + ENCODED,
            Command::Send { message, .. } => message.len(),
            Command::Read(_) => size_of::<ReadCommand>(),
            Command::Subscribe(topics) | Command::Unsubscribe(topics) => topics.len() * 64,
            Command::AddRevocation(revocation) => revocation.len(),
            Command::RenewLease { description, .. } => description.len(),
            Command::Role
            | Command::Replication
            | Command::LoadScripts
            | Command::ReadRevocations { .. }
            | Command::ReadNodes
            | Command::Reap { .. }
            | Command::ReadPresence { .. }
            | Command::Clear { .. } => 0,
            Command::AddPresence(add) => add.clients.iter().map(|(_, info)| 64 + info.len()).sum(),
            Command::WriteUser(write) => size_of::<WriteUser>() + write.connections.len() * 32,
            Command::RemovePresence(remove) => size_of::<RemovePresence>() + remove.leave.len(),
        };
        size_of::<Command>() + more
    }
}

/// The memory of the keys and arguments of an encoded publication.
const ENCODED: usize = 512;

/// The properties of a stream that a script needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The epoch that the stream gets if it is new, or if its continuity cannot be proven.
    pub epoch: Epoch,
    /// The history of replication of the server. The stream gets another epoch if its last publication has another one. Empty: it
    /// is not compared.
    pub replication: Arc<str>,
}

/// Publishes to a channel: idempotency, epoch, offset, entry of the stream and message, in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishCommand {
    /// The channel.
    pub channel: Arc<str>,
    /// The encoded publication.
    pub body: Arc<[u8]>,
    /// The bounds of the stream. `None`: the publication is not kept and has no position.
    pub history: Option<HistoryOptions>,
    /// The idempotency key.
    pub key: Option<Box<str>>,
    /// The version of the state that the publication contains.
    pub version: Option<Version>,
    /// The stream.
    pub stream: StreamState,
}

/// Reads a part of the stream of a channel. The stream is created if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCommand {
    /// The channel.
    pub channel: Arc<str>,
    /// The bounds of the stream.
    pub history: HistoryOptions,
    /// The entries.
    pub range: Range,
    /// The stream.
    pub stream: StreamState,
}

/// Clients that are present in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPresence {
    /// The channel.
    pub channel: Arc<str>,
    /// The lease that the entries belong to.
    pub lease: u64,
    /// The time for which the lease holds, if the server does not know it any more.
    pub time: Duration,
    /// The clients, encoded.
    pub clients: Vec<(ClientId, Arc<[u8]>)>,
    /// The message to the subscribers of the channel. `None`: they know the clients.
    pub join: Option<Arc<[u8]>>,
}

/// A client that is not present in a channel any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovePresence {
    /// The channel.
    pub channel: Arc<str>,
    /// The lease that its entry belongs to.
    pub lease: u64,
    /// The client.
    pub client: ClientId,
    /// Whether it was the last one of the lease in the channel.
    pub is_last: bool,
    /// The message to the subscribers of the channel.
    pub leave: Arc<[u8]>,
}

/// The connections of a user on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteUser {
    /// The user.
    pub user: Arc<str>,
    /// The lease that the entries belong to.
    pub lease: u64,
    /// The time for which the lease holds, if the server does not know it any more.
    pub time: Duration,
    /// The node, which is informed if its connections become too many.
    pub node: u64,
    /// The limit.
    pub limit: UserLimit,
    /// The connections, by the numbers that their node has given to them, and how long ago they were admitted.
    pub connections: Vec<(u64, Duration)>,
}

/// The most connections of each user on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimit {
    /// Their number.
    pub most: usize,
    /// Whether the newest connections above the limit are closed, and not the oldest ones.
    pub closes_newest: bool,
}

/// A range of the entries of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The offset that the entries follow, or precede if `is_reverse`. `None`: all entries.
    pub since: Option<u64>,
    /// Whether the entries are read backwards.
    pub is_reverse: bool,
    /// The most entries. `None`: any number.
    pub limit: Option<usize>,
}

impl Range {
    /// The position of a stream, without entries.
    pub const NOTHING: Range = Range { since: None, is_reverse: false, limit: Some(0) };

    /// All entries after an offset.
    pub fn after(offset: u64) -> Range {
        Range { since: Some(offset), is_reverse: false, limit: None }
    }
}

/// The reply to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was executed.
    Done,
    /// A message was sent.
    Sent {
        /// The number of connections of this server that get it.
        receivers: usize,
    },
    /// The revocations of all nodes, with the ids of their entries.
    Revocations(Vec<(Box<str>, Vec<u8>)>),
    /// A lease was renewed.
    Lease {
        /// Whether the server has known it.
        was_known: bool,
        /// Leases that have expired.
        expired: Vec<u64>,
    },
    /// The descriptions of nodes.
    Nodes(Vec<Vec<u8>>),
    /// Clients were written.
    Present {
        /// Whether the server has known their lease.
        was_known: bool,
    },
    /// The connections of a user were written.
    User {
        /// Whether the server has known their lease.
        was_known: bool,
        /// The connections of this node that are too many.
        excess: Vec<u64>,
        /// The time for which there have been too many on all nodes.
        above: Duration,
    },
    /// Entries of a lease were removed.
    Reaped {
        /// Whether none is left.
        is_done: bool,
    },
    /// The clients that are present in a channel, encoded.
    Presence(Vec<Vec<u8>>),
    /// The role of the server.
    Role {
        /// Whether it is a master.
        is_master: bool,
    },
    /// The history of replication of the server.
    Replication(Arc<str>),
    /// The result of a publication.
    Published {
        /// Whether it was published.
        outcome: PublishResult,
        /// Its position, or the position of the publication with the same key. With an outdated version: the end of the stream.
        position: Option<Position>,
    },
    /// A part of a stream.
    Read {
        /// The end of the stream.
        position: Position,
        /// The offsets and the encoded publications.
        entries: Vec<Entry>,
    },
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// The encoded publication.
    pub body: Vec<u8>,
}

/// Whether a publication was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// It was.
    Published,
    /// A publication with the same key precedes it.
    Duplicate,
    /// A publication with the same or a newer version precedes it.
    Outdated,
}

/// Why a connection or a command has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cause.
    pub cause: Cause,
    /// The words of the server or of the system. They contain no secret.
    pub text: Box<str>,
}

impl Failure {
    /// Creates a failure.
    pub fn new(cause: Cause, text: impl Into<Box<str>>) -> Failure {
        Failure { cause, text: text.into() }
    }
}

impl Reply {
    /// Whether the server did not know the lease of the command. It does from then on.
    pub(super) fn has_lost_lease(&self) -> bool {
        let (Reply::Lease { was_known, .. } | Reply::Present { was_known } | Reply::User { was_known, .. }) =
            self
        else {
            return false;
        };
        !was_known
    }
}

/// The cause of a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The server cannot be reached.
    Unreachable,
    /// The connection has ended.
    Closed,
    /// A reply has not arrived in time.
    Timeout,
    /// A message that the server has accepted has not arrived.
    Undelivered,
    /// The server is a replica, or has become one.
    Replica,
    /// The user or the password is wrong.
    Credentials,
    /// The user may not execute a command.
    Permission,
    /// The TLS handshake has failed.
    Tls,
    /// The server is a node of a Redis Cluster, and the address is the one of a single server, or the other way round.
    Cluster,
    /// The server has no memory left, or cannot write to its disk.
    Storage,
    /// The server does not know a script.
    NoScript,
    /// The server is loading its data.
    Loading,
    /// The reply has another form.
    Protocol,
    /// Any other error of the server.
    Server,
    /// Too many messages wait in this process.
    Overflow,
    /// Too many commands wait for replies.
    Busy,
    /// There is no connection.
    Down,
}

impl Cause {
    /// All causes with their labels in metrics.
    pub const ALL: [(Cause, &'static str); 17] = [
        (Cause::Unreachable, "unreachable"),
        (Cause::Closed, "closed"),
        (Cause::Timeout, "timeout"),
        (Cause::Undelivered, "undelivered"),
        (Cause::Replica, "replica"),
        (Cause::Credentials, "credentials"),
        (Cause::Permission, "permission"),
        (Cause::Tls, "tls"),
        (Cause::Cluster, "cluster"),
        (Cause::Storage, "storage"),
        (Cause::NoScript, "no_script"),
        (Cause::Loading, "loading"),
        (Cause::Protocol, "protocol"),
        (Cause::Server, "server"),
        (Cause::Overflow, "overflow"),
        (Cause::Busy, "busy"),
        (Cause::Down, "down"),
    ];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        Cause::ALL.iter().find(|(cause, _)| *cause == self).map_or("", |(_, label)| label)
    }

    /// Returns whether a connection on which a command fails so is of no use.
    pub(super) fn ends_link(self) -> bool {
        match self {
            Cause::Unreachable
            | Cause::Closed
            | Cause::Undelivered
            | Cause::Replica
            | Cause::Credentials
            | Cause::Tls
            | Cause::Cluster
            | Cause::Loading
            | Cause::Protocol
            | Cause::Overflow => true,
            Cause::Timeout
            | Cause::Permission
            | Cause::Storage
            | Cause::NoScript
            | Cause::Server
            | Cause::Busy
            | Cause::Down => false,
        }
    }

    /// Returns whether an operator must change something before another attempt can succeed.
    pub fn needs_operator(self) -> bool {
        matches!(self, Cause::Credentials | Cause::Permission | Cause::Tls | Cause::Cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_topic_can_be_parsed() {
        for topic in [Topic::Channel("a{b}:c".into()), Topic::Node(7), Topic::Control] {
            assert_eq!(Topic::parse(&topic.name()), Some(topic));
        }
        for foreign in ["", "ch:", "ch:{a", "n:", "n:xyz", "ctl2", "other"] {
            assert_eq!(Topic::parse(foreign), None, "{foreign:?}");
        }
    }
}
