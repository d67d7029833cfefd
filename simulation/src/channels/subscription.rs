//! What a client may receive of a channel, and what it knows of it.

use std::time::Duration;

use centrifuge_client_core::codec::Protocol;
use centrifuge_client_core::{delta, proto};
use postern_channels::namespaces::options::RecoveryMode;
use postern_core::ConnectionId;

use super::filters::selects;
use super::node::{Node, number};
use super::tokens::Serial;
use super::truth::{Entry, Start};
use crate::sdk::Known;

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
    /// The filter that the client has asked for.
    filter: Option<proto::FilterNode>,
    /// The number of publications since the reply, and the time of the execution.
    received: u32,
    begun_at: Duration,
    /// The tokens that allow it, in the order in which they were sent.
    pub(crate) grants: Vec<Serial>,
    /// When the client refreshes it.
    pub(crate) refreshes_at: Option<Duration>,
}

/// The request for a subscription, as far as the reply depends on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The position from which it recovers.
    pub(crate) known: Option<Known>,
    pub(crate) filter: Option<proto::FilterNode>,
    pub(crate) token: Option<Serial>,
}

impl Active {
    /// Begins with the reply to a subscription.
    ///
    /// # Errors
    /// The promise that the reply breaks.
    pub(crate) fn new(
        result: &proto::SubscribeResult,
        request: &Request,
        channel: usize,
        start: Start,
        protocol: Protocol,
        node: &mut Node,
    ) -> Result<Active, &'static str> {
        let mut active = Active {
            cursor: start.cursor,
            is_positioned: result.positioned,
            known: None,
            protocol,
            has_deltas: result.delta,
            base: None,
            filter: request.filter.clone(),
            received: 0,
            begun_at: start.at,
            grants: request.token.into_iter().collect(),
            refreshes_at: None,
        };
        let mut numbers = Vec::new();
        for publication in &result.publications {
            numbers.push(active.number(publication, node)?);
        }
        let (truth, start) = (&node.truth, start.cursor);
        let options = &node.plan(channel).options;
        if !result.recovered && !numbers.is_empty() {
            return Err("publications come without a recovery");
        }
        let mut is_partial = false;
        let mut expected_offset = truth.offset(channel, &result.epoch, start);
        if let (true, Some(asked)) = (result.recovered, &request.known) {
            let selected = |entry: &&&Entry| active.selects(entry);
            let missed = truth.after(channel, &asked.epoch, asked.offset, start);
            let is_other = result.epoch != asked.epoch;
            let expected: Vec<&Entry> = match options.force_recovery_mode {
                RecoveryMode::Stream if is_other => {
                    return Err("a recovery from another stream claims to be complete");
                }
                RecoveryMode::Stream => missed.iter().filter(selected).copied().collect(),
                RecoveryMode::Cache if missed.is_empty() && !is_other => Vec::new(),
                RecoveryMode::Cache => {
                    let all = truth.after(channel, &result.epoch, 0, start);
                    all.last().iter().copied().filter(selected).copied().collect()
                }
            };
            if numbers != expected.iter().map(|entry| entry.number).collect::<Vec<_>>() {
                return Err(match options.force_recovery_mode {
                    RecoveryMode::Stream => "a recovery claims to be complete, and is not",
                    RecoveryMode::Cache => "a recovery of the last publication has another one",
                });
            }
            if active.filter.is_some() {
                is_partial = expected.len() < missed.len();
                // The client moves its position by the publications.
                match expected.last().and_then(|entry| entry.position) {
                    Some(last) => expected_offset = last.offset,
                    None if is_other => {}
                    None => expected_offset = asked.offset,
                }
            }
        } else if result.recovered {
            return Err("a recovery was not asked for");
        }
        let offset = result.publications.last().map_or(result.offset, |publication| publication.offset);
        if options.has_history() && offset != expected_offset {
            return Err("a subscription starts at another position than the end of the stream");
        }
        if is_partial {
            node.mail.marks.insert("a filter leaves out a part of a recovery");
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

    /// Receives a publication, which must be the next one, or the latest one of an interval.
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
        let at = match node.plan(channel).interval() {
            Some(interval) => self.find_latest(found, channel, worker, interval, node)?,
            None => self.find_next(found, channel, session, node)?,
        };
        let entry = &node.truth.streams[channel][at];
        if entry.position.map_or(0, |position| position.offset) != publication.offset {
            return Err("a publication has another offset");
        }
        if entry.publisher.is_some() != publication.info.is_some() {
            return Err("a publication has another publisher");
        }
        let has_tag = |&(key, value): &(&str, &str)| publication.tags.get(key).is_some_and(|it| it == value);
        if publication.tags.len() != entry.tags.len() || !entry.tags.iter().all(has_tag) {
            return Err("a publication has other tags");
        }
        let is_after_end = |serials: &[Serial]| {
            let ended = node.issuer.ends_at(serials).and_then(|at| node.turn_after(worker, at));
            ended.is_some_and(|at| at < entry.at)
        };
        if is_after_end(&self.grants) || is_after_end(node.credentials(connection)) {
            return Err("a publication arrives although the token has expired");
        }
        self.cursor = self.cursor.max(at + 1);
        self.received += 1;
        if let Some(known) = &mut self.known {
            if entry.position.is_some_and(|position| position.epoch.as_str() != known.epoch) {
                return Err("the stream of a subscription changes");
            }
            known.offset = publication.offset;
        }
        Ok(())
    }

    /// Returns the index of a publication that must be the next one for the client.
    fn find_next(
        &mut self,
        found: u64,
        channel: usize,
        (worker, connection): (usize, ConnectionId),
        node: &mut Node,
    ) -> Result<usize, &'static str> {
        let is_lossy = node.mail.lossy.contains(&(worker, channel));
        let before = self.cursor;
        self.skip_others(channel, connection, node);
        if self.cursor > before && self.filter.is_some() {
            node.mail.marks.insert("a filter leaves out a publication");
        }
        let next = node.truth.streams[channel].get(self.cursor..).unwrap_or_default();
        let Some(skipped) = next.iter().position(|entry| entry.number == found) else {
            let before = &node.truth.streams[channel][..self.cursor];
            let is_unselected = before.iter().any(|entry| entry.number == found && !self.selects(entry));
            return Err(if is_unselected {
                "a publication arrives that the filter leaves out"
            } else {
                "a publication comes twice, or too early"
            });
        };
        let is_own = |entry: &Entry| excludes(channel, node) && entry.publisher == Some(connection);
        if next.get(skipped).is_some_and(is_own) {
            return Err("a client gets its own publication");
        }
        if !next.get(skipped).is_some_and(|entry| self.selects(entry)) {
            return Err("a publication arrives that the filter leaves out");
        }
        let mut missing = next[..skipped].iter().filter(|entry| !is_own(entry) && self.selects(entry));
        if missing.next().is_some() && (self.is_positioned || !is_lossy) {
            return Err("publications are missing without a notification");
        }
        Ok(self.cursor + skipped)
    }

    /// Returns the index of a publication that must be the latest one of an interval.
    fn find_latest(
        &self,
        found: u64,
        channel: usize,
        worker: usize,
        interval: Duration,
        node: &mut Node,
    ) -> Result<usize, &'static str> {
        let stream = &node.truth.streams[channel];
        let at = stream.iter().rposition(|entry| entry.number == found);
        let at = at.ok_or("a publication arrives that was not published")?;
        if at < self.cursor {
            // The first one may have waited since before the subscription, also if it was recovered. Then it is the latest one.
            let may_be_older =
                self.received == 0 && (at + 1 == self.cursor || node.mail.lossy.contains(&(worker, channel)));
            if !may_be_older {
                return Err("an older publication follows a newer one");
            }
            node.mail.marks.insert("a publication waits for a subscription");
        }
        if node.now.saturating_sub(self.begun_at) < interval * self.received {
            return Err("publications follow each other faster than in the interval");
        }
        if at > self.cursor {
            node.mail.marks.insert("a publication replaces an older one");
        }
        Ok(at)
    }

    /// Whether the filter selects a publication.
    fn selects(&self, entry: &Entry) -> bool {
        self.filter.as_ref().is_none_or(|filter| selects(filter, &entry.tags))
    }

    /// Skips publications that are not for the client: its own ones, if it does not get them, and others that its filter leaves
    /// out.
    fn skip_others(&mut self, channel: usize, connection: ConnectionId, node: &Node) {
        while let Some(entry) = node.truth.streams[channel].get(self.cursor)
            && (excludes(channel, node) && entry.publisher == Some(connection) || !self.selects(entry))
        {
            self.cursor += 1;
        }
    }

    /// Checks that a client's own publication has arrived when its reply arrives, unless it waits for the end of an interval.
    pub(crate) fn has_own(
        &mut self,
        at: usize,
        channel: usize,
        (worker, connection): (usize, ConnectionId),
        node: &Node,
    ) -> bool {
        self.skip_others(channel, connection, node);
        self.cursor > at
            || node.plan(channel).interval().is_some()
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
        self.skip_others(channel, connection, node);
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
