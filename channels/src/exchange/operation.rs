//! The operations of an [`Exchange`](super::Exchange) and their answers: plain data that can cross threads.

use std::sync::Arc;
use std::time::Duration;

use crate::namespaces::options::{ChannelOptions, RecoveryMode};
use crate::publication::{ClientInfo, Position, Publication, Since, Tags};

/// A worker of the node, from 0 to 127.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The most workers of a node.
    pub const MAX_WORKERS: usize = 128;

    /// Creates the id of the worker with this index, if it is below [`MAX_WORKERS`](WorkerId::MAX_WORKERS).
    pub fn new(index: usize) -> Option<WorkerId> {
        (index < WorkerId::MAX_WORKERS).then_some(WorkerId(index as u8))
    }

    /// Returns the index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Workers(u128);

impl Workers {
    /// Returns the workers in ascending order.
    pub fn iter(self) -> impl Iterator<Item = WorkerId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let index = rest.trailing_zeros();
                rest &= rest - 1;
                WorkerId(index as u8)
            })
        })
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether a worker is in the set.
    pub fn contains(self, worker: WorkerId) -> bool {
        self.0 & Workers::bit(worker) != 0
    }

    pub(super) fn insert(&mut self, worker: WorkerId) {
        self.0 |= Workers::bit(worker);
    }

    pub(super) fn remove(&mut self, worker: WorkerId) {
        self.0 &= !Workers::bit(worker);
    }

    fn bit(worker: WorkerId) -> u128 {
        1 << worker.0
    }
}

/// The bounds of a channel's history, from the options of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The most publications.
    pub size: usize,
    /// The time after the last publication after which all publications are removed.
    pub ttl: Duration,
    /// The most bytes of data of all publications.
    pub bytes: usize,
    /// The time for which epoch and offset are kept after the last use, also without publications.
    pub meta_ttl: Duration,
}

impl HistoryOptions {
    /// Returns the bounds that a namespace sets, or `None` if its channels have no history.
    pub fn of(options: &ChannelOptions) -> Option<HistoryOptions> {
        options.has_history().then_some(HistoryOptions {
            size: options.history_size,
            ttl: options.history_ttl,
            bytes: if options.history_bytes == 0 { usize::MAX } else { options.history_bytes },
            meta_ttl: options.history_meta_ttl,
        })
    }
}

/// A message that is published to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The payload.
    pub data: Arc<[u8]>,
    /// The publishing client, unless the server publishes.
    pub info: Option<Arc<ClientInfo>>,
    /// Labels for filters.
    pub tags: Tags,
    /// Whether subscribers that have asked for it get the difference to the publication before.
    pub delta: bool,
    /// The time, in milliseconds since the Unix epoch.
    pub time: i64,
    /// The history to append to. `None`: the publication is delivered and not kept, and has no position.
    pub history: Option<HistoryOptions>,
    /// The idempotency key: a second publication to the channel with the same key is not published.
    pub key: Option<Box<str>>,
    /// The version of the state that the publication contains. A publication that is not newer than the last one is not published.
    /// It needs history.
    pub version: Option<Version>,
}

/// The version of the state that a publication contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version, counted upwards.
    pub number: u64,
    /// The sequence to which the number belongs. Numbers of different sequences are not compared.
    pub epoch: Box<str>,
}

/// The answer to [`Publish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The position of the publication, or of the one with the same key. With an outdated version: the end of the stream.
    pub position: Option<Position>,
    /// Whether it was published.
    pub outcome: PublishOutcome,
}

/// Whether a message was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It was appended, and must be delivered.
    Published {
        /// The publication, for the inboxes of workers.
        delivery: Delivery<Arc<Publication>>,
        /// The number of subscriptions of the channel.
        subscriptions: usize,
    },
    /// A publication with the same idempotency key precedes it.
    Duplicate,
    /// A publication with the same or a newer version precedes it.
    Outdated,
}

/// A value and the workers whose inboxes must receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<T> {
    /// The value.
    pub value: T,
    /// The workers.
    pub workers: Workers,
}

/// A subscription of one connection of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The history of the channel, if it has one. It gives the subscription a position.
    pub history: Option<HistoryOptions>,
    /// The publications that the client asks for.
    pub recovery: Option<Recovery>,
}

/// The publications that a new subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The last publication that the client knows.
    pub since: Since,
    /// All publications after the position, or the last one only.
    pub mode: RecoveryMode,
    /// The most publications of an answer. If more are missing, none is recovered.
    pub limit: usize,
    /// The most bytes of an answer, as [`Publication::memory`] counts them. If more are missing, none is recovered.
    pub bytes: usize,
    /// Whether the subscription fails if publications are missing.
    pub is_required: bool,
}

/// The answer to [`Subscribe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The end of the stream. The next publication that the worker receives has the next offset. `None` without history.
    pub position: Option<Position>,
    /// The publications that the client has missed, by ascending offset.
    pub publications: Vec<Arc<Publication>>,
    /// Whether the client misses nothing: neither of the stream nor, in cache mode, the last publication.
    pub is_recovered: bool,
    /// The events that the worker must deliver to the other subscribers of the channel before it adds this one, if the worker was
    /// [lagging](super::Exchange::mark_lagging).
    pub catch_up: Option<CatchUp>,
    /// Whether it is the first subscription of the channel.
    pub is_occupied: bool,
}

/// Publications are missing, and the subscription requires them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrecoverable;

/// The events of a channel that a lagging worker has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The publications that follow the last one that the worker has received, by ascending offset.
    pub publications: Vec<Arc<Publication>>,
    /// Whether these are all. If not, subscribers must learn that they have a gap.
    pub is_complete: bool,
    /// Whether the worker has missed neither a join nor a leave.
    pub is_presence_complete: bool,
    /// The end of the stream, if the channel has one.
    pub position: Option<Position>,
}

/// A part of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryQuery {
    /// The most publications; `None` for all that are kept. With 0 the answer has the position only.
    pub limit: Option<usize>,
    /// The position to start from; the publication there is not part of the answer.
    pub since: Option<Since>,
    /// Whether to go backwards: from the end, or from `since`.
    pub is_reverse: bool,
}

/// The answer to [`HistoryQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The publications, in the order of the query.
    pub publications: Vec<Arc<Publication>>,
    /// The end of the stream.
    pub position: Position,
}

/// Why a [`HistoryQuery`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryError {
    /// The position is of another stream.
    UnrecoverablePosition,
    /// Nothing can precede offset 0.
    NothingBefore,
}

/// A client has joined or left a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEvent {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The client.
    pub info: Arc<ClientInfo>,
    /// Whether it has joined or left.
    pub change: PresenceChange,
}

/// Whether a client has joined or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceChange {
    /// The client is present now.
    Join,
    /// The client is not present any more.
    Leave,
}

/// The size of a channel's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PresenceStats {
    /// The number of clients.
    pub clients: usize,
    /// The number of distinct users.
    pub users: usize,
}
