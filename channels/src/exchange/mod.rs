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
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use self::idempotency::Idempotency;
use self::interest::{Interest, Lagging};
use self::log::Log;
use self::memory::Recency;
use self::presence::Presence;
use crate::engine::{ChannelEvent, Inboxes};
use crate::hash::Seeded;
use crate::publication::{ClientId, ClientInfo, Epoch, Position, Publication};

pub(crate) use self::copy::Arrival;
pub use self::interest::MissedEvent;
pub use self::operation::*;

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

/// Figures of an [`Exchange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExchangeStats {
    /// The number of channels in the table: with subscribers, presence or a stream.
    pub channels: usize,
    /// The number of channels with subscribers.
    pub occupied_channels: usize,
    /// The number of subscriptions.
    pub subscriptions: usize,
    /// The number of publications that are kept.
    pub publications: usize,
    /// The bytes that count towards [`ExchangeConfig::history_memory`].
    pub history_bytes: usize,
    /// The number of streams whose publications were all removed because of [`ExchangeConfig::history_memory`], since the start.
    pub evicted: u64,
    /// The number of idempotency keys.
    pub idempotency_keys: usize,
    /// The number of idempotency keys that were forgotten because there were too many, since the start.
    pub forgotten_keys: u64,
    /// The number of clients that are present, in each channel.
    pub present: usize,
    /// The number of publications by clients, since the start.
    pub published_by_clients: u64,
    /// The number of publications by the server, since the start.
    pub published_by_server: u64,
    /// The number of recoveries after which the client misses nothing, since the start.
    pub recovered: u64,
    /// The number of recoveries that have failed, since the start.
    pub unrecovered: u64,
    /// The number of events that have found an inbox full, since the start. Each begins a lag.
    pub overflows: u64,
    /// The number of lags whose publications were all found in the history, since the start.
    pub covered_lags: u64,
    /// The number of lags with publications that are lost for the worker, since the start.
    pub uncovered_lags: u64,
}

impl AddAssign for ExchangeStats {
    fn add_assign(&mut self, other: ExchangeStats) {
        self.channels += other.channels;
        self.occupied_channels += other.occupied_channels;
        self.subscriptions += other.subscriptions;
        self.publications += other.publications;
        self.history_bytes += other.history_bytes;
        self.evicted += other.evicted;
        self.idempotency_keys += other.idempotency_keys;
        self.forgotten_keys += other.forgotten_keys;
        self.present += other.present;
        self.published_by_clients += other.published_by_clients;
        self.published_by_server += other.published_by_server;
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        self.overflows += other.overflows;
        self.covered_lags += other.covered_lags;
        self.uncovered_lags += other.uncovered_lags;
    }
}

/// A channel. It is in the table as long as it has a subscription, presence or a stream.
#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    interest: Interest,
    log: Option<Box<Log>>,
    presence: Option<Box<Presence>>,
    /// The key of the channel in `deadlines`.
    scheduled: Option<Instant>,
    /// Its share of the totals.
    counted: Counted,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    subscriptions: usize,
    publications: usize,
    bytes: usize,
    present: usize,
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

    /// Changes the memory of streams, and evicts what exceeds it.
    pub fn set_history_memory(&mut self, bytes: usize) {
        self.config.history_memory = bytes;
        self.evict();
    }

    /// Returns when to call [`handle_timeout`](Exchange::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        first.into_iter().chain(self.idempotency.deadline()).min()
    }

    /// Removes what has expired, of at most 1,000 channels, so that a host does not hold its lock for long. If there are more,
    /// [`poll_timeout`](Exchange::poll_timeout) returns a past time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.idempotency.expire(now);
        for _ in 0..1_000 {
            match self.deadlines.first() {
                Some(&(at, slot)) if at <= now => {
                    self.deadlines.pop_first();
                    if let Some(channel) = self.channels.get_mut(slot as usize) {
                        channel.scheduled = None;
                        channel.expire(now);
                    }
                    self.settle(slot);
                }
                _ => break,
            }
        }
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    fn get(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.find(name)? as usize)
    }

    /// Returns the slot of a channel, which is added to the table if it is not there. Call [`settle`](Exchange::settle) then.
    fn slot(&mut self, name: &Arc<str>) -> u32 {
        if let Some(slot) = self.find(name) {
            return slot;
        }
        let (name, interest, counted) = (Arc::clone(name), Interest::default(), Counted::default());
        let channel = Channel { name, interest, log: None, presence: None, scheduled: None, counted };
        let name = Arc::clone(&channel.name);
        // The memory of a process cannot contain 2^32 channels.
        let slot = self.channels.insert(channel) as u32;
        self.names.insert(name, slot);
        slot
    }

    /// Returns the stream of a channel without what has expired. It is created if there is none.
    fn log(&mut self, slot: u32, options: &HistoryOptions, now: Instant) -> Option<&mut Log> {
        let channel = self.channels.get_mut(slot as usize)?;
        channel.expire(now);
        self.recency.touch(slot);
        let log = channel.log.get_or_insert_with(|| {
            self.epochs += 1;
            Box::new(Log::new(Epoch::from_bits(scramble(self.config.seed, self.epochs)), options, now))
        });
        log.touch(options, now);
        Some(log)
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

    /// Completes the removal of a subscription or of presence.
    fn release(&mut self, slot: u32, now: Instant) {
        if let Some(channel) = self.channels.get_mut(slot as usize).filter(|channel| channel.is_idle())
            && let Some(log) = &mut channel.log
        {
            log.release(now);
            self.recency.touch(slot);
        }
        self.settle(slot);
    }

    fn settle_if(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.settle(slot);
        }
    }

    /// Completes a change of a channel: counts it, schedules its expiry, removes it from the table if nothing is left, and
    /// evicts streams if there is not enough memory.
    fn settle(&mut self, slot: u32) {
        self.settle_one(slot);
        self.evict();
    }

    fn settle_one(&mut self, slot: u32) {
        let Some(channel) = self.channels.get_mut(slot as usize) else {
            return;
        };
        let counted = channel.count();
        let before = std::mem::replace(&mut channel.counted, counted);
        let totals = &mut self.totals;
        totals.subscriptions = totals.subscriptions + counted.subscriptions - before.subscriptions;
        totals.publications = totals.publications + counted.publications - before.publications;
        totals.history_bytes = totals.history_bytes + counted.bytes - before.bytes;
        totals.present = totals.present + counted.present - before.present;
        let [was_occupied, is_occupied] =
            [before, counted].map(|counted| usize::from(counted.subscriptions > 0));
        totals.occupied_channels = totals.occupied_channels + is_occupied - was_occupied;

        let deadline = channel.log.as_ref().and_then(|log| log.deadline(channel.is_idle()));
        let is_unused = channel.is_idle() && channel.log.is_none();
        if let Some(scheduled) =
            channel.scheduled.filter(|&scheduled| is_unused || deadline.is_some_and(|at| at < scheduled))
        {
            self.deadlines.remove(&(scheduled, slot));
            channel.scheduled = None;
        }
        // A deadline that has moved to a later time is scheduled again when the earlier time is reached.
        if let Some(at) = deadline.filter(|_| channel.scheduled.is_none()) {
            self.deadlines.insert((at, slot));
            channel.scheduled = Some(at);
        }
        if is_unused {
            self.recency.remove(slot);
            let channel = self.channels.remove(slot as usize);
            self.names.remove(&channel.name);
        }
    }

    /// Evicts the least recently used streams, until the rest fits into the memory. The last one loses its oldest publications
    /// only.
    fn evict(&mut self) {
        while self.totals.history_bytes > self.config.history_memory {
            let Some(slot) = self.recency.oldest() else {
                break;
            };
            self.recency.remove(slot);
            let is_last = self.recency.oldest().is_none();
            let excess = self.totals.history_bytes - self.config.history_memory;
            let Some(channel) = self.channels.get_mut(slot as usize) else {
                continue;
            };
            let is_idle = channel.is_idle();
            if let Some(log) = &mut channel.log {
                if is_last && log.bytes() > excess {
                    let fitting = log.bytes() - excess;
                    while log.bytes() > fitting {
                        log.remove_oldest();
                    }
                    self.recency.touch(slot);
                } else {
                    self.totals.evicted += 1;
                    // While there are subscribers, the stream keeps its position: they have missed nothing.
                    log.clear();
                    if is_idle {
                        // Its offset is not known any more, so the channel has another epoch when it is used again.
                        channel.log = None;
                    }
                }
            }
            self.settle_one(slot);
        }
    }
}

impl Channel {
    /// Returns whether there is neither a subscription nor presence.
    fn is_idle(&self) -> bool {
        self.interest.is_empty() && self.presence.is_none()
    }

    /// Removes what has expired.
    fn expire(&mut self, now: Instant) {
        let is_idle = self.is_idle();
        if let Some(log) = &mut self.log {
            log.expire(now);
            if is_idle && log.is_expired(now) {
                self.log = None;
            }
        }
    }

    fn count(&self) -> Counted {
        // The sizes of the structs, and what the tables need per channel.
        const IDLE: usize = size_of::<Channel>() + size_of::<Log>() + 128;
        let (publications, bytes) = self.log.as_ref().map_or((0, 0), |log| (log.len(), log.bytes()));
        // The limit of subscriptions bounds the number of other channels.
        let fixed = if self.log.is_some() && self.is_idle() { IDLE + self.name.len() } else { 0 };
        let present = self.presence.as_ref().map_or(0, |presence| presence.stats().clients);
        Counted { subscriptions: self.interest.subscriptions(), publications, bytes: bytes + fixed, present }
    }
}

/// Returns bits that look random. Different numbers have different bits.
fn scramble(seed: u64, number: u64) -> u64 {
    // SplitMix64: each step is a bijection.
    let mut bits = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
