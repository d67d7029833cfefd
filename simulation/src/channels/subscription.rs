//! What a client may receive of a channel, and what it knows of it.

use centrifuge_client_core::codec::Protocol;
use centrifuge_client_core::{delta, proto};
use postern_channels::namespaces::options::RecoveryMode;
use postern_core::ConnectionId;

use super::node::{Node, number};
use super::truth::Entry;

/// The last position in a channel that a client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// A channel, as one connection of a client uses it.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// The subscription, between the reply to `subscribe` and the reply to `unsubscribe` or a notification of a gap.
    pub(crate) active: Option<Active>,
    /// Whether the last command for the channel was `subscribe`.
    pub(crate) is_wanted: bool,
}

/// A subscription that receives publications.
#[derive(Debug)]
pub(crate) struct Active {
    /// The number of publications of the channel that the client has received, or that precede it.
    pub(crate) cursor: usize,
    /// Whether the client learns of gaps.
    pub(crate) is_positioned: bool,
    /// Its position, if it can recover.
    pub(crate) known: Option<Known>,
    protocol: Protocol,
    /// Whether publications may be differences to the ones before.
    has_deltas: bool,
    /// The data of the last publication.
    base: Option<Vec<u8>>,
}

impl Active {
    /// Begins with the reply to a subscription.
    ///
    /// # Errors
    /// The promise that the reply breaks.
    pub(crate) fn new(
        result: &proto::SubscribeResult,
        asked: Option<&Known>,
        channel: usize,
        start: usize,
        protocol: Protocol,
        node: &mut Node,
    ) -> Result<Active, &'static str> {
        let mut active = Active {
            cursor: start,
            is_positioned: result.positioned,
            known: None,
            protocol,
            has_deltas: result.delta,
            base: None,
        };
        let mut numbers = Vec::new();
        for publication in &result.publications {
            numbers.push(active.number(publication, node)?);
        }
        let truth = &node.truth;
        let options = &node.plan(channel).options;
        if !result.recovered && !numbers.is_empty() {
            return Err("publications come without a recovery");
        }
        if let (true, Some(asked)) = (result.recovered, asked) {
            let missed = truth.after(channel, &asked.epoch, asked.offset, start);
            match options.force_recovery_mode {
                RecoveryMode::Stream if result.epoch != asked.epoch => {
                    return Err("a recovery from another stream claims to be complete");
                }
                RecoveryMode::Stream if numbers != missed => {
                    return Err("a recovery claims to be complete, and is not");
                }
                RecoveryMode::Cache if !missed.is_empty() || result.epoch != asked.epoch => {
                    let all = truth.after(channel, &result.epoch, 0, start);
                    if numbers.last() != all.last() || numbers.len() != 1 {
                        return Err("a recovery of the last publication has another one");
                    }
                }
                RecoveryMode::Stream | RecoveryMode::Cache => {}
            }
        } else if result.recovered {
            return Err("a recovery was not asked for");
        }
        let offset = result.publications.last().map_or(result.offset, |publication| publication.offset);
        if options.has_history() && offset != truth.offset(channel, &result.epoch, start) {
            return Err("a subscription starts at another position than the end of the stream");
        }
        active.known = result.recoverable.then(|| Known { epoch: result.epoch.clone(), offset });
        Ok(active)
    }

    /// Returns the number in the data of a publication, which may be a difference to the one before.
    fn number(&mut self, publication: &proto::Publication, node: &mut Node) -> Result<u64, &'static str> {
        let mut data = publication.data.to_vec();
        if !self.has_deltas && publication.delta {
            return Err("a delta comes to a client that has not asked for it");
        }
        if self.has_deltas {
            if self.protocol == Protocol::Json {
                let text: String =
                    serde_json::from_slice(&data).map_err(|_| "a delta is not a JSON string")?;
                data = text.into_bytes();
            }
            if publication.delta {
                node.mail.marks.insert("a delta");
                let base = self.base.as_deref().ok_or("a delta comes without a publication before it")?;
                data = delta::apply(base, &data, usize::MAX).map_err(|_| "a delta does not fit its base")?;
            }
            self.base = Some(data.clone());
        }
        number(&data).ok_or("a publication has other data")
    }

    /// Receives a publication, which must be the next one.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub(crate) fn receive(
        &mut self,
        publication: &proto::Publication,
        channel: usize,
        session: (usize, ConnectionId),
        node: &mut Node,
    ) -> Result<(), &'static str> {
        let (worker, connection) = session;
        let found = self.number(publication, node)?;
        let is_lossy = node.mail.lossy.contains(&(worker, channel));
        self.skip_own(channel, connection, node);
        let stream = &node.truth.streams[channel];
        let next = stream.get(self.cursor..).unwrap_or_default();
        let Some(skipped) = next.iter().position(|entry| entry.number == found) else {
            return Err("a publication comes twice, or too early");
        };
        let is_own = |entry: &Entry| excludes(channel, node) && entry.publisher == Some(connection);
        if next.get(skipped).is_some_and(is_own) {
            return Err("a client gets its own publication");
        }
        let may_miss = !self.is_positioned && is_lossy || next[..skipped].iter().all(is_own);
        if skipped > 0 && !may_miss {
            return Err("publications are missing without a notification");
        }
        let Some(entry) = next.get(skipped) else { return Ok(()) };
        if entry.position.map_or(0, |position| position.offset) != publication.offset {
            return Err("a publication has another offset");
        }
        if entry.publisher.is_some() != publication.info.is_some() {
            return Err("a publication has another publisher");
        }
        self.cursor += skipped + 1;
        if let Some(known) = &mut self.known {
            if entry.position.is_some_and(|position| position.epoch.as_str() != known.epoch) {
                return Err("the stream of a subscription changes");
            }
            known.offset = publication.offset;
        }
        Ok(())
    }

    /// Skips the client's own publications, if it does not get them.
    fn skip_own(&mut self, channel: usize, connection: ConnectionId, node: &Node) {
        while excludes(channel, node)
            && let Some(entry) = node.truth.streams[channel].get(self.cursor)
            && entry.publisher == Some(connection)
        {
            self.cursor += 1;
        }
    }

    /// Checks that a client's own publication has arrived when its reply arrives.
    pub(crate) fn has_own(&self, at: usize, channel: usize, worker: usize, node: &Node) -> bool {
        self.cursor > at
            || excludes(channel, node)
            || !self.is_positioned && node.mail.lossy.contains(&(worker, channel))
    }

    /// Checks that nothing is missing when nothing is on its way.
    pub(crate) fn is_complete(
        &mut self,
        channel: usize,
        (worker, connection): (usize, ConnectionId),
        node: &Node,
    ) -> bool {
        self.skip_own(channel, connection, node);
        let may_miss = !self.is_positioned && node.mail.lossy.contains(&(worker, channel));
        self.cursor == node.truth.streams[channel].len() || may_miss
    }
}

/// Returns whether clients do not get their own publications.
fn excludes(channel: usize, node: &Node) -> bool {
    node.plan(channel).options.exclude_publisher
}

/// Returns whether the publications of an answer to `history` are those that were published.
pub(crate) fn is_history(result: &proto::HistoryResult, channel: usize, node: &Node) -> bool {
    result.publications.iter().all(|publication| {
        let published = node.truth.find(channel, &result.epoch, publication.offset);
        published.is_some() && published == number(&publication.data)
    }) && result.publications.windows(2).all(|pair| pair[0].offset.abs_diff(pair[1].offset) == 1)
}

/// The number of a session's connection.
pub(crate) fn connection(session: usize) -> ConnectionId {
    ConnectionId(session as u64 + 1)
}
