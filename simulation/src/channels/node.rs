//! The channels of a node: exchanges, and the inboxes of workers. A real host has a lock around each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use centrifuge_client_core::Bytes;
use postern_channels::engine::{Answer, ChannelEvent, Inboxes, Operation, Request};
use postern_channels::exchange::{
    Exchange, ExchangeConfig, ExchangeStats, HistoryOptions, PresenceStats, Publish, WorkerId,
};
use postern_channels::inbox::{Added, Inbox, Taken};
use postern_channels::publication::{Position, Tags};

use crate::channels::hooks::Backend;
use crate::channels::plan::{ChannelPlan, LARGE_INBOX, Plan};
use crate::channels::truth::{Entry, Truth};
use crate::fault::Fault;
use crate::random::Random;

/// The channels of a node, from its start to its end.
#[derive(Debug)]
pub(crate) struct Node {
    shards: Vec<Exchange>,
    pub(crate) mail: Mail,
    races: usize,
    part_in: usize,
    longest: usize,
    plans: Arc<[ChannelPlan]>,
    pub(crate) truth: Truth,
    /// The number of publications by clients.
    pub(crate) published: usize,
    /// The first promise that is broken.
    pub(crate) violation: Option<&'static str>,
    pub(crate) backend: Backend,
    next_number: u64,
}

/// The inboxes of the workers.
#[derive(Debug)]
pub(crate) struct Mail {
    inboxes: Vec<Inbox>,
    /// The workers that were woken and have not taken their events.
    pub(crate) is_woken: Vec<bool>,
    limit: usize,
    channels: BTreeMap<Arc<str>, usize>,
    fault: Option<Fault>,
    /// Deliveries that a fault has delayed.
    late: Vec<(WorkerId, ChannelEvent)>,
    /// The workers that have missed an event of a channel because an inbox was full.
    pub(crate) lossy: BTreeSet<(usize, usize)>,
    /// The rare things that have happened.
    pub(crate) marks: BTreeSet<&'static str>,
}

impl Node {
    pub(crate) fn new(plan: &Plan, plans: Arc<[ChannelPlan]>, seed: u64, fault: Option<Fault>) -> Node {
        let names = plans.iter().enumerate().map(|(index, channel)| (channel.name.clone(), index));
        let mut node = Node {
            shards: Vec::new(),
            mail: Mail {
                inboxes: Vec::new(),
                is_woken: Vec::new(),
                limit: plan.inbox,
                channels: names.collect(),
                fault,
                late: Vec::new(),
                lossy: BTreeSet::new(),
                marks: BTreeSet::new(),
            },
            races: plan.races,
            part_in: plan.part_in,
            longest: plan.longest,
            truth: Truth::new(plans.len()),
            plans,
            published: 0,
            violation: None,
            backend: Backend::default(),
            next_number: 0,
        };
        node.start(plan, seed);
        node
    }

    /// Starts the node, or starts it again: nothing is left of its channels.
    pub(crate) fn start(&mut self, plan: &Plan, seed: u64) {
        let seed = if self.mail.fault == Some(Fault::RepeatedEpoch) { 1 } else { seed };
        let exchange = |shard: usize| {
            Exchange::new(ExchangeConfig {
                seed: seed.wrapping_add(shard as u64),
                history_memory: plan.history_memory,
                idempotency_ttl: std::time::Duration::from_secs(300),
                max_idempotency_keys: 100,
            })
        };
        self.shards = (0..plan.shards).map(exchange).collect();
        self.mail.inboxes = (0..plan.workers).map(|_| Inbox::default()).collect();
        self.mail.is_woken = vec![false; plan.workers];
        self.mail.late.clear();
    }

    pub(crate) fn channel(&self, name: &str) -> Option<usize> {
        self.mail.channels.get(name).copied()
    }

    /// Returns the number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.plans.len()
    }

    /// Returns the personal channel of a user, if there are such channels.
    pub(crate) fn personal_channel(&self, user: usize) -> Option<usize> {
        self.plans.iter().position(|channel| channel.user == Some(user))
    }

    pub(crate) fn plan(&self, channel: usize) -> &ChannelPlan {
        &self.plans[channel]
    }

    /// Returns a new number for the data of a publication, and the data.
    pub(crate) fn data(&mut self, random: &mut Random) -> String {
        self.next_number += 1;
        let padding = "x".repeat(random.magnitude(1..=self.longest));
        // Deltas are longer than short data.
        format!(r#"{{"n":{},"p":"the same in all {padding}"}}"#, self.next_number)
    }

    /// Returns the same, and the number.
    pub(crate) fn numbered_data(&mut self, random: &mut Random) -> (u64, Bytes) {
        let data = self.data(random);
        (self.next_number, data.into_bytes().into())
    }

    /// Executes a request of a worker.
    pub(crate) fn execute(&mut self, worker: usize, request: Request, now: Instant, random: &mut Random) {
        self.race(now, random);
        let (connection, command) = (request.client.connection, request.command);
        let Some(channel) = self.channel(&request.channel) else {
            self.violation.get_or_insert("a request names a channel that no client has named");
            return;
        };
        let fault = self.mail.fault;
        let is_own = matches!(request.operation, Operation::Unsubscribe { .. }) && command == 0;
        if fault == Some(Fault::LostUnsubscribe) && is_own {
            return;
        }
        if matches!(request.operation, Operation::Subscribe { .. }) {
            self.truth.start(connection, channel);
        }
        let number = match &request.operation {
            Operation::Publish { publish, .. } => number(&publish.data),
            Operation::Subscribe { .. }
            | Operation::Unsubscribe { .. }
            | Operation::Presence
            | Operation::PresenceStats
            | Operation::History(..)
            | Operation::CheckToken(_)
            | Operation::Close => None,
        };
        let waiting = (fault == Some(Fault::EarlyAnswer)).then(|| self.mail.take(worker));
        let shard = self.shard(&request.channel);
        let mut delivery = self.mail.delivery(Some(worker));
        self.shards[shard].execute(id(worker), request, now, 0, &mut delivery);
        let position = delivery.published;
        if let Some(waiting) = waiting {
            let mut events = self.mail.take(worker);
            events.sort_by_key(|event| !matches!(event, ChannelEvent::Answer { .. }));
            for event in waiting.into_iter().chain(events) {
                self.mail.inboxes[worker].add(event, usize::MAX);
            }
        }
        if let Some(number) = number {
            self.published += 1;
            let at = self.append(channel, Entry { number, position, publisher: Some(connection) });
            self.truth.note_published(connection, command, channel, at);
        }
    }

    /// Publishes to a channel, as a request of the API does, on a thread without a worker.
    pub(crate) fn publish(&mut self, now: Instant, random: &mut Random) {
        let channel = random.within(0..=self.plans.len() - 1);
        let data = self.data(random);
        let number = number(data.as_bytes()).unwrap_or_default();
        let plan = &self.plans[channel];
        let publish = Publish {
            channel: plan.name.clone(),
            data: data.as_bytes().into(),
            info: None,
            tags: Tags::default(),
            delta: plan.options.delta_publish,
            time: 0,
            history: HistoryOptions::of(&plan.options),
            key: None,
            version: None,
        };
        let shard = self.shard(&publish.channel);
        let mut delivery = self.mail.delivery(None);
        let position = self.shards[shard].publish_to(publish, None, now, &mut delivery).position;
        self.append(channel, Entry { number, position, publisher: None });
        if random.one_in(2) {
            self.mail.deliver_late();
        }
    }

    /// Gives inboxes the size that they have in a host, and makes the backend allow everything.
    pub(super) fn enlarge_inboxes(&mut self) {
        self.mail.limit = LARGE_INBOX;
        self.backend.is_healed = true;
    }

    /// Takes the events of a worker, as a host does. It may take a part of them. If the inbox has overflowed, every
    /// shard puts what is missing there.
    pub(crate) fn take_events(
        &mut self,
        worker: usize,
        now: Instant,
        random: &mut Random,
    ) -> Vec<ChannelEvent> {
        self.mail.deliver_late();
        let mut events = Vec::new();
        let most = if random.one_in(self.part_in) { random.within(1..=3) } else { usize::MAX };
        let taken = self.mail.inboxes[worker].take(&mut events, most);
        // No wake follows for the events that are left.
        self.mail.is_woken[worker] = taken == Taken::Part;
        self.race(now, random);
        if taken != Taken::AllWithLoss || self.mail.fault == Some(Fault::ForgottenOverflow) {
            return events;
        }
        self.mail.marks.insert("a worker catches up");
        for shard in 0..self.shards.len() {
            self.race(now, random);
            let mut delivery = self.mail.delivery(None);
            delivery.missed = Some(&mut events).filter(|_| delivery.mail.fault == Some(Fault::EarlyCatchUp));
            self.shards[shard].catch_up_all(id(worker), &mut delivery);
        }
        events
    }

    /// Lets another thread publish, sometimes.
    fn race(&mut self, now: Instant, random: &mut Random) {
        if self.races > 0 && random.one_in(self.races * 4) {
            self.publish(now, random);
        }
    }

    /// Does what the time requires.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.shards.iter_mut().for_each(|shard| shard.handle_timeout(now));
    }

    pub(crate) fn remove_history(&mut self, channel: usize, now: Instant) {
        let name = self.plans[channel].name.clone();
        let shard = self.shard(&name);
        self.shards[shard].remove_history(&name, now);
    }

    /// Returns the ids of the clients that are present in a channel, and their number.
    pub(crate) fn presence(&self, channel: usize) -> (Vec<String>, PresenceStats) {
        let name = &self.plans[channel].name;
        let exchange = &self.shards[self.shard(name)];
        let mut clients: Vec<String> =
            exchange.presence(name).iter().map(|info| info.client.to_string()).collect();
        clients.sort();
        (clients, exchange.presence_stats(name))
    }

    /// Returns the number of subscriptions of a channel.
    pub(crate) fn subscriptions(&self, channel: usize) -> usize {
        let name = &self.plans[channel].name;
        self.shards[self.shard(name)].subscriptions(name)
    }

    /// Whether no event waits for a worker.
    pub(crate) fn is_quiet(&self) -> bool {
        self.mail.inboxes.iter().all(Inbox::is_empty) && self.mail.late.is_empty()
    }

    /// Whether the memory of histories is kept within its limit.
    pub(crate) fn is_within_memory(&self, limit: usize) -> bool {
        self.shards.iter().all(|shard| shard.stats().history_bytes <= limit)
    }

    /// Whether nothing is left once everything has expired.
    pub(crate) fn is_empty_after(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.shards.iter().all(|shard| {
            let ExchangeStats { channels, subscriptions, publications, history_bytes, .. } = shard.stats();
            (channels, subscriptions, publications, history_bytes) == (0, 0, 0, 0)
        }) && self.mail.inboxes.iter().all(|inbox| inbox.bytes() == 0)
    }

    fn append(&mut self, channel: usize, entry: Entry) -> usize {
        let appended = self.truth.append(channel, entry);
        if let Err(what) = appended {
            self.violation.get_or_insert(what);
        }
        appended.unwrap_or_default()
    }

    fn shard(&self, channel: &str) -> usize {
        channel.bytes().map(usize::from).sum::<usize>() % self.shards.len()
    }
}

impl Mail {
    fn delivery<'m>(&'m mut self, own: Option<usize>) -> Delivery<'m> {
        Delivery { mail: self, own, published: None, missed: None }
    }

    /// Takes the events of a worker, for a fault that changes the order.
    fn take(&mut self, worker: usize) -> Vec<ChannelEvent> {
        let mut taken = Vec::new();
        if self.inboxes[worker].take(&mut taken, usize::MAX) == Taken::AllWithLoss {
            self.marks.insert("an overflow is forgotten");
        }
        taken
    }

    fn add(&mut self, worker: usize, event: ChannelEvent, limit: usize, own: Option<usize>) -> bool {
        let added = self.inboxes[worker].add(event, limit);
        if added == Added::First && own != Some(worker) && self.fault != Some(Fault::LostWake) {
            self.is_woken[worker] = true;
        }
        added != Added::Refused
    }

    /// Puts the answer of a hook into the inbox of a worker.
    pub(super) fn answer_hook(&mut self, worker: usize, event: ChannelEvent) {
        self.add(worker, event, usize::MAX, None);
    }

    fn deliver_late(&mut self) {
        for (worker, event) in std::mem::take(&mut self.late) {
            self.add(worker.index(), event, usize::MAX, None);
        }
    }
}

/// Puts events into inboxes.
struct Delivery<'m> {
    mail: &'m mut Mail,
    /// The worker that executes a request, and needs no wake.
    own: Option<usize>,
    /// The position in the answer to a publication.
    published: Option<Position>,
    /// The list to which a fault adds missed events.
    missed: Option<&'m mut Vec<ChannelEvent>>,
}

impl Inboxes for Delivery<'_> {
    fn send(&mut self, worker: WorkerId, event: ChannelEvent) -> bool {
        if self.mail.fault == Some(Fault::LateDelivery) && self.own.is_none() {
            self.mail.late.push((worker, event));
            return true;
        }
        let name = if let ChannelEvent::Publication { publication, .. } = &event {
            Some(&publication.channel)
        } else if let ChannelEvent::Presence(event) = &event {
            // The worker misses the publications that follow, too.
            Some(&event.channel)
        } else {
            None
        };
        let channel = name.and_then(|name| self.mail.channels.get(name));
        let lost = channel.map(|channel| (worker.index(), *channel));
        let is_sent = self.mail.add(worker.index(), event, self.mail.limit, self.own);
        if !is_sent {
            self.mail.marks.insert("an inbox overflows");
            self.mail.lossy.extend(lost);
        }
        is_sent
    }

    fn answer(&mut self, worker: WorkerId, event: ChannelEvent) {
        if let ChannelEvent::Answer { answer: Answer::Published(position), .. } = &event {
            self.published = *position;
        }
        if matches!(&event, ChannelEvent::CatchUp(it) if !it.is_complete) {
            self.mail.marks.insert("a gap is not covered");
        }
        if let Some(missed) = &mut self.missed {
            return missed.push(event);
        }
        self.mail.add(worker.index(), event, usize::MAX, self.own);
    }
}

/// Returns the number in the data of a publication.
pub(crate) fn number(data: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(data).ok()?.strip_prefix(r#"{"n":"#)?;
    text.split(',').next()?.parse().ok()
}

fn id(worker: usize) -> WorkerId {
    WorkerId::new(worker).unwrap_or_default()
}
