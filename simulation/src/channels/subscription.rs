//! What a client may receive of a channel, and what it knows of it.

use centrifuge_client_core::proto;
use postern_channels::namespaces::options::RecoveryMode;
use postern_core::ConnectionId;

use super::node::{Node, number};

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
        node: &Node,
    ) -> Result<Active, &'static str> {
        let truth = &node.truth;
        let options = &node.plan(channel).options;
        let numbers: Option<Vec<u64>> =
            result.publications.iter().map(|publication| number(&publication.data)).collect();
        let numbers = numbers.ok_or("a recovered publication has other data")?;
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
        let known = result.recoverable.then(|| Known { epoch: result.epoch.clone(), offset });
        Ok(Active { cursor: start, is_positioned: result.positioned, known })
    }

    /// Receives a publication, which must be the next one.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub(crate) fn receive(
        &mut self,
        publication: &proto::Publication,
        channel: usize,
        worker: usize,
        node: &Node,
    ) -> Result<(), &'static str> {
        let found = number(&publication.data).ok_or("a publication has other data")?;
        let stream = &node.truth.streams[channel];
        let next = stream.get(self.cursor..).unwrap_or_default();
        let Some(skipped) = next.iter().position(|entry| entry.number == found) else {
            return Err("a publication comes twice, or too early");
        };
        let may_miss = !self.is_positioned && node.mail.lossy.contains(&(worker, channel));
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

    /// Checks that a client's own publication has arrived when its reply arrives.
    pub(crate) fn has_own(&self, at: usize, channel: usize, worker: usize, node: &Node) -> bool {
        self.cursor > at || !self.is_positioned && node.mail.lossy.contains(&(worker, channel))
    }

    /// Checks that nothing is missing when nothing is on its way.
    pub(crate) fn is_complete(&self, channel: usize, worker: usize, node: &Node) -> bool {
        let may_miss = !self.is_positioned && node.mail.lossy.contains(&(worker, channel));
        self.cursor == node.truth.streams[channel].len() || may_miss
    }
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
