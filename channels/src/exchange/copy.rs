//! Streams that an engine keeps for several nodes. The exchange of a node has a copy of the end of each stream with subscribers
//! here, from which it answers recoveries.

use std::sync::Arc;
use std::time::Instant;

use super::log::Log;
use super::{CatchUp, Exchange, HistoryOptions, MissedEvent, PresenceChange, Recovery, WorkerId, Workers};
use crate::engine::{ChannelEvent, ClientRef, Inboxes};
use crate::namespaces::options::RecoveryMode;
use crate::publication::{ClientId, ClientInfo, Position, Publication};

/// The place of a publication that has arrived from the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was the next one, and is delivered.
    Next,
    /// It is known already.
    Known,
    /// Publications between the end of the copy and this one are missing, or the stream is another one. It is not delivered.
    Gap,
}

impl Exchange {
    /// Returns the end of the copy of a stream, unless it has expired.
    pub(crate) fn position(&mut self, channel: &str, now: Instant) -> Option<Position> {
        let slot = self.find(channel)?;
        let channel = self.channels.get_mut(slot as usize)?;
        channel.expire(now);
        let position = channel.log.as_ref().map(|log| log.position());
        self.settle(slot);
        position
    }

    /// Replaces the copy of a stream by its end. `publications` are the last ones, without a gap.
    pub(crate) fn set_copy(
        &mut self,
        channel: &Arc<str>,
        position: Position,
        publications: Vec<Arc<Publication>>,
        options: &HistoryOptions,
        now: Instant,
    ) {
        let slot = self.slot(channel);
        if let Some(channel) = self.channels.get_mut(slot as usize) {
            channel.log = Some(Box::new(Log::copy(position, publications, options, now)));
        }
        self.recency.touch(slot);
        self.settle(slot);
    }

    /// Adds older publications to the copy of a stream, as far as they end where the copy begins.
    pub(crate) fn extend_copy(
        &mut self,
        channel: &str,
        publications: Vec<Arc<Publication>>,
        options: &HistoryOptions,
        now: Instant,
    ) {
        let Some(slot) = self.find(channel) else { return };
        if let Some(log) = self.channels.get_mut(slot as usize).and_then(|channel| channel.log.as_mut()) {
            let start = log.start();
            let mut older = publications;
            older.retain(|it| it.position.is_some_and(|position| position.offset <= start));
            let ends_there =
                older.last().and_then(|last| last.position).map(|last| last.offset) == Some(start);
            if ends_there {
                log.prepend_copy(options, older, now);
            }
        }
        self.settle(slot);
    }

    /// Removes the copy of a stream, whose next publications do not arrive any more.
    pub(crate) fn remove_copy(&mut self, channel: &str) {
        if let Some(slot) = self.find(channel) {
            if let Some(channel) = self.channels.get_mut(slot as usize) {
                channel.log = None;
            }
            self.recency.remove(slot);
            self.settle(slot);
        }
    }

    /// Removes the publications of the copy of a stream.
    pub(crate) fn clear_copy(&mut self, channel: &str) {
        if let Some(slot) = self.find(channel) {
            if let Some(log) = self.channels.get_mut(slot as usize).and_then(|channel| channel.log.as_mut()) {
                log.clear();
            }
            self.settle(slot);
        }
    }

    /// Returns the offset after which the stream must be read before a recovery can be answered from its copy. `None`: it can be
    /// answered, or the engine has not more than the copy.
    pub(crate) fn missing_since(&self, channel: &str, recovery: &Recovery) -> Option<u64> {
        let log = self.get(channel)?.log.as_ref()?;
        let Position { epoch, offset } = log.position();
        let since = match recovery.mode {
            RecoveryMode::Stream if !recovery.since.is_of(epoch) => return None,
            RecoveryMode::Stream => recovery.since.offset,
            // The last publication.
            RecoveryMode::Cache => offset.saturating_sub(1),
        };
        (since < log.start() && log.start() > 0).then_some(since)
    }

    /// Handles a publication that has arrived from the engine.
    pub(crate) fn arrive(
        &mut self,
        publication: &Arc<Publication>,
        options: &HistoryOptions,
        excluded: Option<(WorkerId, ClientRef)>,
        now: Instant,
        inboxes: &mut impl Inboxes,
    ) -> Arrival {
        let Some(slot) = self.find(&publication.channel) else { return Arrival::Gap };
        let log = self.channels.get_mut(slot as usize).and_then(|channel| channel.log.as_mut());
        let (Some(log), Some(position)) = (log, publication.position) else { return Arrival::Gap };
        let end = log.position();
        if end.epoch != position.epoch || position.offset > end.offset + 1 {
            return Arrival::Gap;
        }
        if position.offset <= end.offset {
            return Arrival::Known;
        }
        log.append_copy(options, Arc::clone(publication), now);
        self.recency.touch(slot);
        let (workers, _) = self.audience(slot, MissedEvent::Publication(publication.position));
        self.settle(slot);
        self.send(workers, publication, excluded, inboxes);
        Arrival::Next
    }

    /// Delivers a publication without a position.
    pub(crate) fn deliver(
        &mut self,
        publication: &Arc<Publication>,
        excluded: Option<(WorkerId, ClientRef)>,
        inboxes: &mut impl Inboxes,
    ) {
        let Some(slot) = self.find(&publication.channel) else { return };
        let (workers, _) = self.audience(slot, MissedEvent::Publication(None));
        self.send(workers, publication, excluded, inboxes);
    }

    /// Returns a client that is present in a channel.
    pub(crate) fn present(&self, channel: &str, client: ClientId) -> Option<Arc<ClientInfo>> {
        self.get(channel)?.presence.as_ref()?.get(client).cloned()
    }

    /// Delivers a join or a leave at another node.
    pub(crate) fn deliver_remote_presence(
        &mut self,
        channel: &str,
        info: Arc<ClientInfo>,
        change: PresenceChange,
        inboxes: &mut impl Inboxes,
    ) {
        let Some(slot) = self.find(channel) else { return };
        let delivery = self.announce(slot, info, change);
        self.deliver_presence(delivery, inboxes);
    }

    /// Counts a publication that the engine has accepted.
    pub(crate) fn count_published(&mut self, is_by_client: bool) {
        match is_by_client {
            true => self.totals.published_by_clients += 1,
            false => self.totals.published_by_server += 1,
        }
    }

    /// Informs the subscribers of a channel that publications are missing. Those that follow offsets subscribe again.
    pub(crate) fn announce_gap(&mut self, channel: &str, inboxes: &mut impl Inboxes) {
        let Some(found) = self.get(channel) else { return };
        let (name, workers) = (Arc::clone(&found.name), found.interest.workers());
        let position = found.log.as_ref().map(|log| log.position());
        for worker in workers.iter() {
            let missed = CatchUp {
                channel: Arc::clone(&name),
                publications: Vec::new(),
                is_complete: false,
                is_presence_complete: true,
                position,
            };
            inboxes.answer(worker, ChannelEvent::CatchUp(Box::new(missed)));
        }
    }

    /// Puts a publication into the inboxes of workers. `excluded` does not get it.
    pub(crate) fn send(
        &mut self,
        workers: Workers,
        publication: &Arc<Publication>,
        excluded: Option<(WorkerId, ClientRef)>,
        inboxes: &mut impl Inboxes,
    ) {
        for worker in workers.iter() {
            let excluded = excluded.filter(|(of, _)| *of == worker).map(|(_, client)| client);
            let event = ChannelEvent::Publication { publication: Arc::clone(publication), excluded };
            if !inboxes.send(worker, event) {
                let event = MissedEvent::Publication(publication.position);
                self.mark_lagging(worker, &publication.channel, event);
            }
        }
    }
}
