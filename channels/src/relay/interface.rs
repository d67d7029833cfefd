//! The interface of a relay with its host: configuration, requests, answers and events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CommandId;
use super::command::{Failure, UserLimit};
use super::link::{LinkConfig, LinkStats};
use crate::engine::Inboxes;
use crate::exchange::{Exchange, History, HistoryError, HistoryOptions, HistoryQuery, Publish};
use crate::publication::{ClientInfo, Position};

/// The behaviour of a [`Relay`](super::Relay).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// The limits of its connections.
    pub link: LinkConfig,
    /// The service for clients while the engine cannot be reached.
    pub when_down: WhenDown,
    /// Whether a stream gets another epoch if the server has another history of replication than at its last publication.
    /// Otherwise publications that a failover has lost may go unnoticed.
    pub is_failover_noticed: bool,
    /// The time without a message after which the position of a channel is checked. It varies by a fifth.
    pub position_check: Duration,
    /// The most reads of streams in a second. 0: any number.
    pub recover_rate: u32,
    /// The most connections of each user on all nodes.
    pub user_limit: Option<UserLimit>,
}

/// The service for clients while the engine cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// They can subscribe, and channels without history work within this node.
    Local,
    /// Subscriptions and publications have a temporary error.
    Refuse,
}

/// The exchanges of a node, and the connections of its users.
pub trait Local {
    /// The inboxes of its workers.
    type Inboxes<'a>: Inboxes;

    /// Calls `operate` with the exchange of a channel and with the inboxes. The host holds the lock of the exchange during the
    /// call.
    fn with<R>(
        &mut self,
        channel: &str,
        operate: impl for<'a> FnOnce(&mut Exchange, &mut Self::Inboxes<'a>) -> R,
    ) -> R;

    /// Returns the connections of a user with the times of their admission, if the connections of users are counted.
    fn connections(&mut self, user: &str) -> Vec<(u64, Instant)>;

    /// Returns the users with connections, if the connections of users are counted.
    fn users(&mut self) -> Vec<Arc<str>>;

    /// Returns the time for publications, in milliseconds since the Unix epoch.
    fn time(&self) -> i64;
}

/// A request of the server API.
#[derive(Debug, Clone)]
pub struct ServerRequest {
    /// A number that its answer has.
    pub token: u64,
    /// The operation.
    pub operation: ServerOperation,
}

/// The operation of a [`ServerRequest`].
#[derive(Debug, Clone)]
pub enum ServerOperation {
    /// Publishes a message.
    Publish(Box<Publish>),
    /// Asks for publications of the past.
    History(Arc<str>, HistoryQuery, HistoryOptions),
    /// Asks for the clients that are present.
    Presence(Arc<str>),
    /// Asks for the descriptions of all nodes.
    Nodes,
    /// Removes the publications of a channel's history.
    RemoveHistory(Arc<str>),
    /// Lets all other nodes perform a command to their clients.
    Command {
        /// The command, as [`RelayEvent::Command`] returns it there.
        command: Arc<[u8]>,
        /// The revocation that the command consists of, if it is one.
        revocation: Option<Arc<[u8]>>,
    },
}

/// The answer to a [`ServerRequest`].
#[derive(Debug, Clone)]
pub enum ServerAnswer {
    /// The message is published.
    Published {
        /// Its position.
        position: Option<Position>,
        /// The number of subscriptions on this node.
        subscriptions: usize,
    },
    /// Publications of the past.
    History(Result<History, HistoryError>),
    /// The clients that are present.
    Presence(Vec<Arc<ClientInfo>>),
    /// The descriptions of nodes. A node that has connected again a short time ago may have two.
    Nodes(Vec<Vec<u8>>),
    /// It is done.
    Done,
    /// Other nodes have performed the command.
    Command {
        /// The number of connections that were affected there.
        affected: usize,
        /// The number of other nodes.
        nodes: usize,
        /// The number of nodes without an answer.
        silent: usize,
        /// The contents of the answers, in any order.
        contents: Vec<Box<[u8]>>,
    },
    /// It was not performed, or its result is unknown.
    Unavailable(Failure),
}

/// A task of the host, in addition to the actions of the link.
#[derive(Debug, Clone)]
pub enum RelayEvent {
    /// Answer a request of the server API.
    Answer(u64, ServerAnswer),
    /// Perform a command of another node, and then call [`Relay::handle_performed`](super::Relay::handle_performed).
    Command(CommandId, Box<[u8]>),
    /// Describe this node, and then call [`Relay::handle_description`](super::Relay::handle_description).
    Describe,
    /// Close a connection, because its user has too many on all nodes. It may have ended.
    Close {
        /// The user.
        user: Arc<str>,
        /// The number of the connection.
        connection: u64,
    },
    /// Revoke credentials. Some may be revoked already.
    Revocations(Vec<Vec<u8>>),
    /// The engine is connected, and all subscriptions exist: log it.
    Live,
    /// The engine cannot be reached: log it.
    Down(Failure),
}

/// Figures of a [`Relay`](super::Relay) since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayStats {
    /// The connections.
    pub link: LinkStats,
    /// Gaps whose publications were read and delivered.
    pub covered_gaps: u64,
    /// Gaps of which subscribers were informed.
    pub told_gaps: u64,
    /// Streams that were found with another epoch.
    pub rotated_epochs: u64,
    /// Reads of streams.
    pub reads: u64,
    /// Messages that are not of a node, or damaged.
    pub foreign_messages: u64,
    /// Publications of this node whose result is not known yet.
    pub unanswered: usize,
    /// Requests that wait for their channel.
    pub waiting: usize,
}
