//! The channels of a node: exchanges, and the inboxes of workers. A real host has a lock around each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use centrifuge_client_core::Bytes;
use postern_channels::engine::{Answer, ChannelEvent, Inboxes, Operation, Request};
use postern_channels::exchange::{
    Exchange, ExchangeConfig, ExchangeStats, HistoryOptions, PresenceStats, Publish, WorkerId,
};
use postern_channels::inbox::{Added, Inbox, Taken};
use postern_channels::publication::{Position, Tags};
use postern_core::ConnectionId;

use crate::channels::filters;
use crate::channels::hooks::Backend;
use crate::channels::plan::{ChannelPlan, LARGE_INBOX, Plan};
use crate::channels::tokens::{Issuer, Serial};
use crate::channels::truth::{Entry, Truth};
use crate::fault::Fault;
use crate::random::Random;

/// The channels of a node, from its start to its end.
#[derive(Debug)]
pub(crate) struct Node {
    shards: Vec<Exchange>,
    pub(crate) mail: Mail,
    races: usize,
    /// The time of the last fault, once there are no more.
    healed_at: Option<Duration>,
    part_in: usize,
    longest: usize,
    plans: Arc<[ChannelPlan]>,
    pub(crate) truth: Truth,
    /// The number of publications by clients.
    pub(crate) published: usize,
    /// The first promise that is broken.
    pub(crate) violation: Option<&'static str>,
    pub(crate) backend: Backend,
    pub(crate) issuer: Arc<Issuer>,
    /// The connection tokens of each connection, in the order in which it sends them.
    credentials: BTreeMap<ConnectionId, Vec<Serial>>,
    /// The times of the turns of each worker since the start.
    turns: Vec<Vec<Duration>>,
    /// The virtual time.
    pub(crate) now: Duration,
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
    pub(super) fault: Option<Fault>,
    /// Deliveries that a fault has delayed.
    late: Vec<(WorkerId, ChannelEvent)>,
    /// The channels with conflation of which a publication is in the inbox of a worker, if a fault needs them.
    waiting: BTreeSet<(usize, Arc<str>)>,
    /// The names of the channels with conflation.
    conflated: BTreeSet<Arc<str>>,
    /// The workers that have missed an event of a channel because an inbox was full.
    pub(crate) lossy: BTreeSet<(usize, usize)>,
    /// The rare things that have happened.
    pub(crate) marks: BTreeSet<&'static str>,
}

impl Node {
    pub(crate) fn new(
        plan: &Plan,
        plans: Arc<[ChannelPlan]>,
        issuer: Arc<Issuer>,
        seed: u64,
        fault: Option<Fault>,
    ) -> Node {
        let conflated = plans.iter().filter(|channel| channel.interval().is_some());
        let conflated = conflated.map(|channel| channel.name.clone()).collect();
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
                waiting: BTreeSet::new(),
                conflated,
                lossy: BTreeSet::new(),
                marks: BTreeSet::new(),
            },
            races: plan.races,
            healed_at: None,
            part_in: plan.part_in,
            longest: plan.longest,
            truth: Truth::new(plans.len()),
            plans,
            published: 0,
            violation: None,
            backend: Backend::default(),
            issuer,
            credentials: BTreeMap::new(),
            turns: Vec::new(),
            now: Duration::ZERO,
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
                idempotency_ttl: Duration::from_secs(300),
                max_idempotency_keys: 100,
            })
        };
        self.shards = (0..plan.shards).map(exchange).collect();
        self.mail.inboxes = (0..plan.workers).map(|_| Inbox::default()).collect();
        self.mail.is_woken = vec![false; plan.workers];
        self.mail.late.clear();
        self.mail.waiting.clear();
        self.turns = vec![Vec::new(); plan.workers];
    }

    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = now;
        self.issuer.set_now(now);
    }

    /// Notes that a turn of a worker is complete.
    pub(crate) fn end_turn(&mut self, worker: usize) {
        self.turns[worker].push(self.now);
    }

    /// Returns the end of the first turn of a worker that was late enough to notice what happens at a time.
    pub(crate) fn turn_after(&self, worker: usize, at: Duration) -> Option<Duration> {
        let turns = self.turns.get(worker)?;
        turns.get(turns.partition_point(|turn| *turn < at)).copied()
    }

    /// Notes that a connection sends a connection token.
    pub(crate) fn add_credentials(&mut self, connection: ConnectionId, serial: Serial) {
        self.credentials.entry(connection).or_default().push(serial);
    }

    /// Whether clients may have tokens.
    pub(crate) fn has_tokens(&self) -> bool {
        self.issuer.is_used()
    }

    /// Returns the connection tokens of a connection.
    pub(crate) fn credentials(&self, connection: ConnectionId) -> &[Serial] {
        self.credentials.get(&connection).map_or(&[], Vec::as_slice)
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
        let ends_at = self.issuer.ends_at(self.credentials(connection));
        if command != 0 && ends_at.is_some_and(|at| self.turn_after(worker, at).is_some()) {
            self.violation.get_or_insert("a connection acts although its token has expired");
        }
        let fault = self.mail.fault;
        let is_own = matches!(request.operation, Operation::Unsubscribe { .. }) && command == 0;
        if fault == Some(Fault::LostUnsubscribe) && is_own {
            return;
        }
        if matches!(request.operation, Operation::Subscribe { .. }) {
            self.truth.start(connection, channel, self.now);
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
            let (publisher, tags, at) = (Some(connection), Vec::new(), self.now);
            let at = self.append(channel, Entry { number, position, publisher, tags, at });
            self.truth.note_published(connection, command, channel, at);
        }
    }

    /// Publishes to a channel, as a request of the API does, on a thread without a worker.
    pub(crate) fn publish(&mut self, now: Instant, random: &mut Random) {
        let channel = random.within(0..=self.plans.len() - 1);
        let data = self.data(random);
        let number = number(data.as_bytes()).unwrap_or_default();
        let tags = filters::tags(random);
        let plan = &self.plans[channel];
        let sent = if self.mail.fault == Some(Fault::LostTags) { &[][..] } else { &tags };
        let publish = Publish {
            channel: plan.name.clone(),
            data: data.as_bytes().into(),
            info: None,
            tags: sent.iter().copied().collect::<Tags>(),
            delta: plan.options.delta_publish,
            time: 0,
            history: HistoryOptions::of(&plan.options),
            key: None,
            version: None,
        };
        let shard = self.shard(&publish.channel);
        let mut delivery = self.mail.delivery(None);
        let position = self.shards[shard].publish_to(publish, None, now, &mut delivery).position;
        let at = self.now;
        self.append(channel, Entry { number, position, publisher: None, tags, at });
        if random.one_in(2) {
            self.mail.deliver_late();
        }
    }

    /// Gives inboxes the size that they have in a host, and makes the backend allow everything.
    pub(crate) fn enlarge_inboxes(&mut self) {
        self.mail.limit = LARGE_INBOX;
        self.backend.is_healed = true;
        self.healed_at = Some(self.now);
        self.issuer.heal();
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
        self.mail.waiting.retain(|(of, _)| *of != worker);
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
        // The clients whose tokens expire cause races as long as the world runs, and it ends after a while without any.
        if self.healed_at.is_some_and(|at| at + LONGEST_RACES < self.now) {
            return;
        }
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

    /// Whether the intervals of all channels have ended since their last publications.
    pub(crate) fn has_settled(&self) -> bool {
        self.plans.iter().zip(&self.truth.streams).all(|(plan, stream)| {
            let at = stream.last().zip(plan.interval()).map(|(last, interval)| last.at + interval);
            at.is_none_or(|at| at + LONGEST_STALL < self.now)
        })
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
        if self.mail.fault == Some(Fault::LostLatest)
            && let ChannelEvent::Publication { publication, .. } = &event
            && self.mail.conflated.contains(&publication.channel)
            && !self.mail.waiting.insert((worker.index(), publication.channel.clone()))
        {
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

/// The longest time with races after the last fault.
const LONGEST_RACES: Duration = Duration::from_secs(60);

/// More than the longest time in which a worker does not run.
pub(crate) const LONGEST_STALL: Duration = Duration::from_secs(4);

/// Returns the number in the data of a publication.
pub(crate) fn number(data: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(data).ok()?.strip_prefix(r#"{"n":"#)?;
    text.split(',').next()?.parse().ok()
}

fn id(worker: usize) -> WorkerId {
    WorkerId::new(worker).unwrap_or_default()
}
