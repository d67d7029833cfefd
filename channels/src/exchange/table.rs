//! The table of the channels of an exchange: their slots, their expiry, and the eviction of streams.

use std::sync::Arc;
use std::time::Instant;

use super::Exchange;
use super::interest::Interest;
use super::log::Log;
use super::operation::HistoryOptions;
use super::presence::Presence;
use crate::publication::Epoch;

/// A channel. It is in the table as long as it has a subscription, presence or a stream.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    pub(super) interest: Interest,
    pub(super) log: Option<Box<Log>>,
    pub(super) presence: Option<Box<Presence>>,
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

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.find(name)? as usize)
    }

    /// Returns the slot of a channel, which is added to the table if it is not there. Call [`settle`](Exchange::settle) then.
    pub(super) fn slot(&mut self, name: &Arc<str>) -> u32 {
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
    pub(super) fn log(&mut self, slot: u32, options: &HistoryOptions, now: Instant) -> Option<&mut Log> {
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

    /// Completes the removal of a subscription or of presence.
    pub(super) fn release(&mut self, slot: u32, now: Instant) {
        if let Some(channel) = self.channels.get_mut(slot as usize).filter(|channel| channel.is_idle())
            && let Some(log) = &mut channel.log
        {
            log.release(now);
            self.recency.touch(slot);
        }
        self.settle(slot);
    }

    pub(super) fn settle_if(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.settle(slot);
        }
    }

    /// Completes a change of a channel: counts it, schedules its expiry, removes it from the table if nothing is left, and
    /// evicts streams if there is not enough memory.
    pub(super) fn settle(&mut self, slot: u32) {
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
                    // A copy is removed by the relay, which is about to answer from it.
                    if is_idle && !log.is_copy() {
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
    pub(super) fn is_idle(&self) -> bool {
        self.interest.is_empty() && self.presence.is_none()
    }

    /// Removes what has expired.
    pub(super) fn expire(&mut self, now: Instant) {
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
