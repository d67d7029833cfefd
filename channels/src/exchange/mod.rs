//! The channels of a node: streams, idempotency keys, presence, and the workers with subscribers.
//!
//! An [`Exchange`] decides and remembers; it has no lock and delivers nothing. A host keeps several of them, each behind a
//! mutex, and finds the one of a channel by a hash of the channel's name. It holds the lock while it executes an operation and
//! puts the answer and the [`Delivery`] into the inboxes of workers. So the order of operations on a channel, the order of its
//! offsets and the order in each inbox are the same:
//!
//! * A worker that subscribes at offset n receives n + 1 and the following ones after the answer to [`Exchange::subscribe`].
//! * A publisher's own publication precedes the answer to [`Exchange::publish`], if the host delivers first and answers then.
//!
//! If an inbox is full, the host calls [`Exchange::mark_lagging`] in place of putting the event there. The worker then receives
//! nothing more of the channel, until it has called [`Exchange::catch_up`].
//!
//! Times are arguments, and never go backwards. Something that has expired at `now` is not part of an answer, even if
//! [`Exchange::handle_timeout`] has not been called yet.

mod copy;
mod idempotency;
mod interest;
mod log;
mod memory;
mod operation;
mod presence;
mod stats;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use self::idempotency::Idempotency;
use self::interest::Lagging;
use self::memory::Recency;
use self::presence::Presence;
use self::table::Channel;
use crate::engine::{ChannelEvent, Inboxes};
use crate::hash::Seeded;
use crate::publication::{ClientId, ClientInfo, Position, Publication};

pub(crate) use self::copy::Arrival;
pub use self::interest::MissedEvent;
pub use self::operation::*;
pub use self::stats::ExchangeStats;

/// The bounds of an [`Exchange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// Random bits, different for each start of a process. Epochs and the hash of names are derived from them.
    pub seed: u64,
    /// The most bytes of streams: all publications, and streams without subscribers. The least recently used streams above it
    /// are evicted.
    pub history_memory: usize,
    /// The time for which a publication with an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// The most idempotency keys. Above it the oldest ones are forgotten. One takes about 100 bytes.
    pub max_idempotency_keys: usize,
}

/// The state of a share of the channels of a node. The module describes the use.
#[derive(Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    names: HashMap<Arc<str>, u32, Seeded>,
    channels: Slab<Channel>,
    /// The slots with something that expires, each once, not later than it expires.
    deadlines: BTreeSet<(Instant, u32)>,
    /// The slots with a stream that can be evicted.
    recency: Recency,
    lagging: Lagging,
    idempotency: Idempotency,
    /// The number of epochs that were created.
    epochs: u64,
    totals: ExchangeStats,
}

impl Exchange {
    /// Creates an exchange without channels.
    pub fn new(config: ExchangeConfig) -> Exchange {
        let hash = Seeded(config.seed);
        Exchange {
            config,
            names: HashMap::with_hasher(hash),
            channels: Slab::new(),
            deadlines: BTreeSet::new(),
            recency: Recency::default(),
            lagging: Lagging::default(),
            idempotency: Idempotency::new(hash, config.idempotency_ttl, config.max_idempotency_keys),
            epochs: 0,
            totals: ExchangeStats::default(),
        }
    }

    /// Publishes a message, unless its key or its version says that it was published already.
    ///
    /// The host must put the delivery into the inboxes of its workers before the next operation on the channel.
    pub fn publish(&mut self, publish: Publish, now: Instant) -> Published {
        let Publish { channel, data, info, tags, delta, time, history, key, version } = publish;
        let fingerprint = match key.map(|key| self.idempotency.find(&channel, &key, now)) {
            Some(Ok(position)) => return Published { position, outcome: PublishOutcome::Duplicate },
            Some(Err(fingerprint)) => Some(fingerprint),
            None => None,
        };
        let slot = match history {
            Some(_) => Some(self.slot(&channel)),
            None => self.find(&channel),
        };
        // All references to a publication share the name in the table.
        let name = slot
            .and_then(|slot| self.channels.get(slot as usize))
            .map_or(channel, |channel| Arc::clone(&channel.name));
        let publication =
            |position| Arc::new(Publication { channel: name, data, info, tags, delta, time, position });
        let log = match (slot, &history) {
            (Some(slot), Some(options)) => self.log(slot, options, now).map(|log| (log, options)),
            _ => None,
        };
        let publication = match log {
            Some((log, _)) if version.as_ref().is_some_and(|version| log.is_outdated(version)) => {
                let position = Some(log.position());
                self.settle_if(slot);
                return Published { position, outcome: PublishOutcome::Outdated };
            }
            Some((log, options)) => log.append(options, version, now, |position| publication(Some(position))),
            None => publication(None),
        };
        match publication.info {
            Some(_) => self.totals.published_by_clients += 1,
            None => self.totals.published_by_server += 1,
        }
        let position = publication.position;
        if let Some(fingerprint) = fingerprint {
            self.totals.forgotten_keys += self.idempotency.insert(fingerprint, position, now);
        }
        let (workers, subscriptions) = match slot {
            Some(slot) => self.audience(slot, MissedEvent::Publication(position)),
            None => (Workers::default(), 0),
        };
        self.settle_if(slot.filter(|_| history.is_some()));
        let delivery = Delivery { value: publication, workers };
        Published { position, outcome: PublishOutcome::Published { delivery, subscriptions } }
    }

    /// Adds a subscription of a worker.
    ///
    /// # Errors
    ///
    /// [`Unrecoverable`] if the publications that the client requires cannot be given. There is no subscription then.
    pub fn subscribe(
        &mut self,
        worker: WorkerId,
        subscribe: &Subscribe,
        now: Instant,
    ) -> Result<Subscribed, Unrecoverable> {
        let Subscribe { channel, history, recovery } = subscribe;
        let slot = self.slot(channel);
        let log = history.as_ref().and_then(|options| self.log(slot, options, now));
        let position = log.as_ref().map(|log| log.position());
        let recovered = recovery.as_ref().and_then(|recovery| log?.recover(recovery));
        match recovered {
            Some(_) => self.totals.recovered += 1,
            None => self.totals.unrecovered += u64::from(recovery.is_some()),
        }
        if recovered.is_none() && recovery.is_some_and(|recovery| recovery.is_required) {
            self.settle(slot);
            return Err(Unrecoverable);
        }
        let catch_up = self.take_missed(worker, slot);
        let mut is_occupied = false;
        let mut name = Arc::clone(channel);
        if let Some(channel) = self.channels.get_mut(slot as usize) {
            is_occupied = channel.interest.is_empty();
            channel.interest.add(worker);
            name = Arc::clone(&channel.name);
        }
        self.settle(slot);
        let is_recovered = recovered.is_some();
        let publications = recovered.unwrap_or_default();
        Ok(Subscribed { channel: name, position, publications, is_recovered, catch_up, is_occupied })
    }

    /// Removes a subscription of a worker. Returns whether it was the last one of the channel.
    pub fn unsubscribe(&mut self, worker: WorkerId, channel: &str, now: Instant) -> bool {
        let Some(slot) = self.find(channel) else {
            return false;
        };
        let mut is_vacated = false;
        if let Some(channel) = self.channels.get_mut(slot as usize)
            && channel.interest.remove(worker)
        {
            is_vacated = channel.interest.is_empty();
            if !channel.interest.workers().contains(worker) {
                self.lagging.remove(worker, slot);
            }
        }
        self.release(slot, now);
        is_vacated
    }

    /// Adds a client to the presence of a channel, or replaces its info. Returns a join for the subscribers, if the client was
    /// absent.
    pub fn add_presence(
        &mut self,
        channel: &Arc<str>,
        info: Arc<ClientInfo>,
    ) -> Option<Delivery<Arc<PresenceEvent>>> {
        let hash = Seeded(self.config.seed);
        let slot = self.slot(channel);
        let entry = self.channels.get_mut(slot as usize)?;
        let presence = entry.presence.get_or_insert_with(|| Box::new(Presence::new(hash)));
        let is_new = presence.add(Arc::clone(&info));
        self.settle(slot);
        if is_new { self.announce(slot, info, PresenceChange::Join) } else { None }
    }

    /// Removes a client from the presence of a channel. Returns a leave for the subscribers, if the client was present.
    pub fn remove_presence(
        &mut self,
        channel: &str,
        client: ClientId,
        now: Instant,
    ) -> Option<Delivery<Arc<PresenceEvent>>> {
        let slot = self.find(channel)?;
        let entry = self.channels.get_mut(slot as usize)?;
        let presence = entry.presence.as_mut()?;
        let info = presence.remove(client)?;
        if presence.is_empty() {
            entry.presence = None;
        }
        let delivery = self.announce(slot, info, PresenceChange::Leave);
        self.release(slot, now);
        delivery
    }

    /// Returns the clients that are present in a channel.
    pub fn presence(&self, channel: &str) -> Vec<Arc<ClientInfo>> {
        let presence = self.get(channel).and_then(|channel| channel.presence.as_ref());
        presence.map_or_else(Vec::new, |presence| presence.clients().cloned().collect())
    }

    /// Returns the number of clients and of users that are present in a channel.
    pub fn presence_stats(&self, channel: &str) -> PresenceStats {
        let presence = self.get(channel).and_then(|channel| channel.presence.as_ref());
        presence.map_or_else(PresenceStats::default, |presence| presence.stats())
    }

    /// Returns a part of the history of a channel, whose options must keep history. The stream is created if it does not exist.
    ///
    /// # Errors
    ///
    /// See [`HistoryError`].
    pub fn history(
        &mut self,
        channel: &Arc<str>,
        query: &HistoryQuery,
        options: &HistoryOptions,
        now: Instant,
    ) -> Result<History, HistoryError> {
        let slot = self.slot(channel);
        let answer = match self.log(slot, options, now) {
            Some(log) => {
                log.query(query).map(|publications| History { publications, position: log.position() })
            }
            // A slot that was just found is in the table.
            None => Err(HistoryError::UnrecoverablePosition),
        };
        self.settle(slot);
        answer
    }

    /// Removes the publications of a channel's history. Its position stays.
    pub fn remove_history(&mut self, channel: &str, now: Instant) {
        if let Some(slot) = self.find(channel) {
            if let Some(channel) = self.channels.get_mut(slot as usize) {
                channel.expire(now);
                if let Some(log) = &mut channel.log {
                    log.clear();
                }
            }
            self.settle(slot);
        }
    }

    /// Returns the publications after a position, or `None` if one of them is not kept, or the stream is another one.
    pub fn since(&self, channel: &str, position: Position) -> Option<Vec<Arc<Publication>>> {
        let log = self.get(channel)?.log.as_ref()?;
        if log.position().epoch != position.epoch {
            return None;
        }
        Some(log.after(position.offset)?.cloned().collect())
    }

    /// Records that the inbox of a worker was full for an event. The next events of the channel are not for this worker, until it
    /// calls [`catch_up`](Exchange::catch_up).
    pub fn mark_lagging(&mut self, worker: WorkerId, channel: &str, event: MissedEvent) {
        let Some(slot) = self.find(channel) else {
            return;
        };
        if self.channels.get(slot as usize).is_some_and(|channel| channel.interest.workers().contains(worker))
        {
            self.totals.overflows += 1;
            self.lagging.mark(worker, slot, event);
        }
    }

    /// Returns a channel in which a worker lags.
    pub fn next_lagging(&self, worker: WorkerId) -> Option<Arc<str>> {
        let slot = self.lagging.next(worker)?;
        self.channels.get(slot as usize).map(|channel| Arc::clone(&channel.name))
    }

    /// Returns what a worker has missed of a channel in which it lags, and ends the lag.
    pub fn catch_up(&mut self, worker: WorkerId, channel: &str) -> Option<CatchUp> {
        self.take_missed(worker, self.find(channel)?)
    }

    /// Puts what a worker has missed of all channels in which it lags into its inbox. There it follows the events that have
    /// arrived before the lag, and precedes those after it.
    pub fn catch_up_all(&mut self, worker: WorkerId, inboxes: &mut impl Inboxes) {
        while let Some(slot) = self.lagging.next(worker) {
            if let Some(missed) = self.take_missed(worker, slot) {
                inboxes.answer(worker, ChannelEvent::CatchUp(Box::new(missed)));
            }
        }
    }

    /// Returns the channels that have subscriptions, with the number of them, in any order.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let occupied = self.channels.iter().filter(|(_, channel)| !channel.interest.is_empty());
        occupied.map(|(_, channel)| (&channel.name, channel.interest.subscriptions()))
    }

    /// Returns the number of subscriptions of a channel.
    pub fn subscriptions(&self, channel: &str) -> usize {
        self.get(channel).map_or(0, |channel| channel.interest.subscriptions())
    }

    /// Returns figures of all channels.
    pub fn stats(&self) -> ExchangeStats {
        ExchangeStats {
            channels: self.channels.len(),
            idempotency_keys: self.idempotency.len(),
            ..self.totals
        }
    }

    /// Returns the workers that must receive an event, and the number of subscriptions.
    fn audience(&mut self, slot: u32, event: MissedEvent) -> (Workers, usize) {
        let Some(channel) = self.channels.get(slot as usize) else {
            return (Workers::default(), 0);
        };
        (self.lagging.without(channel.interest.workers(), slot, event), channel.interest.subscriptions())
    }

    fn announce(
        &mut self,
        slot: u32,
        info: Arc<ClientInfo>,
        change: PresenceChange,
    ) -> Option<Delivery<Arc<PresenceEvent>>> {
        let channel = Arc::clone(&self.channels.get(slot as usize)?.name);
        let (workers, _) = self.audience(slot, MissedEvent::Presence);
        Some(Delivery { value: Arc::new(PresenceEvent { channel, info, change }), workers })
    }

    /// Returns what a worker has missed of a channel, and ends its lag.
    fn take_missed(&mut self, worker: WorkerId, slot: u32) -> Option<CatchUp> {
        let missed = self.lagging.remove(worker, slot)?;
        let channel = self.channels.get(slot as usize)?;
        let log = channel.log.as_ref();
        let covered = match missed.first {
            Some(first) => log
                .filter(|log| log.position().epoch == first.epoch)
                .and_then(|log| Some(log.after(first.offset.checked_sub(1)?)?.cloned().collect())),
            None => Some(Vec::new()),
        };
        let is_complete = covered.is_some() && !missed.unpositioned;
        match is_complete {
            true => self.totals.covered_lags += 1,
            false => self.totals.uncovered_lags += 1,
        }
        Some(CatchUp {
            channel: Arc::clone(&channel.name),
            is_complete,
            publications: covered.unwrap_or_default(),
            is_presence_complete: !missed.presence,
            position: log.map(|log| log.position()),
        })
    }
}
