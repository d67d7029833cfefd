//! What was published to each channel, in the order of execution. Clients are compared with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use postern_channels::publication::Position;
use postern_core::ConnectionId;

use super::filters::Tags;

/// A publication.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The number in its data, which no other publication has.
    pub(crate) number: u64,
    pub(crate) position: Option<Position>,
    /// The client that has published it.
    pub(crate) publisher: Option<ConnectionId>,
    pub(crate) tags: Tags,
    pub(crate) at: Duration,
}

/// The execution of a subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// The number of publications that precede it.
    pub(crate) cursor: usize,
    pub(crate) at: Duration,
}

/// The channels, and what is known about requests that are executed and not answered.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The publications of each channel.
    pub(crate) streams: Vec<Vec<Entry>>,
    /// By connection and channel: the subscriptions that are not answered.
    starts: BTreeMap<(ConnectionId, usize), VecDeque<Start>>,
    /// By connection and command: the channel and the index of the publication.
    published: BTreeMap<(ConnectionId, u32), (usize, usize)>,
}

impl Truth {
    pub(crate) fn new(channels: usize) -> Truth {
        Truth { streams: vec![Vec::new(); channels], ..Truth::default() }
    }

    /// Adds a publication.
    ///
    /// # Errors
    /// Its offset is not the next one of its stream.
    pub(crate) fn append(&mut self, channel: usize, entry: Entry) -> Result<usize, &'static str> {
        let stream = &mut self.streams[channel];
        if let Some(position) = entry.position {
            let of_epoch = |other: &Entry| other.position.filter(|other| other.epoch == position.epoch);
            let last = stream.iter().rev().find_map(of_epoch).map_or(0, |last| last.offset);
            if position.offset != last + 1 {
                return Err("an offset does not follow the one before");
            }
        }
        stream.push(entry);
        Ok(stream.len() - 1)
    }

    /// Notes the execution of a subscription.
    pub(crate) fn start(&mut self, connection: ConnectionId, channel: usize, at: Duration) {
        let cursor = self.streams[channel].len();
        self.starts.entry((connection, channel)).or_default().push_back(Start { cursor, at });
    }

    /// Returns the execution of the subscription whose answer has arrived.
    pub(crate) fn take_start(&mut self, connection: ConnectionId, channel: usize) -> Option<Start> {
        self.starts.get_mut(&(connection, channel))?.pop_front()
    }

    pub(crate) fn note_published(
        &mut self,
        connection: ConnectionId,
        command: u32,
        channel: usize,
        at: usize,
    ) {
        self.published.insert((connection, command), (channel, at));
    }

    /// Returns the channel and the index of the publication of a command whose answer has arrived.
    pub(crate) fn take_published(
        &mut self,
        connection: ConnectionId,
        command: u32,
    ) -> Option<(usize, usize)> {
        self.published.remove(&(connection, command))
    }

    /// Returns the publications of a stream after an offset, among the first `end` of the channel.
    pub(crate) fn after(&self, channel: usize, epoch: &str, offset: u64, end: usize) -> Vec<&Entry> {
        let is_after = |entry: &&Entry| {
            entry.position.is_some_and(|own| own.epoch.as_str() == epoch && own.offset > offset)
        };
        self.streams[channel][..end].iter().filter(is_after).collect()
    }

    /// Returns the last offset of a stream among the first `end` publications of the channel.
    pub(crate) fn offset(&self, channel: usize, epoch: &str, end: usize) -> u64 {
        let own = |entry: &Entry| entry.position.filter(|own| own.epoch.as_str() == epoch);
        self.streams[channel][..end].iter().rev().find_map(own).map_or(0, |own| own.offset)
    }

    /// Returns the number of a publication at a position.
    pub(crate) fn find(&self, channel: usize, epoch: &str, offset: u64) -> Option<u64> {
        let is_there = |entry: &&Entry| {
            entry.position.is_some_and(|own| own.epoch.as_str() == epoch && own.offset == offset)
        };
        self.streams[channel].iter().find(is_there).map(|entry| entry.number)
    }
}
