//! A node: an exchange, two workers with their inboxes, clients, and the model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use postern_channels::exchange::{
    CatchUp, Delivery, Exchange, ExchangeConfig, HistoryOptions, HistoryQuery, MissedEvent, PresenceEvent,
    PresenceStats, Publish, PublishOutcome, Recovery, Subscribe, Subscribed, WorkerId,
};
use postern_channels::hub::{Form, Hub};
use postern_channels::namespaces::options::RecoveryMode;
use postern_channels::publication::{Epoch, Position, Publication, Since, Tags};

use crate::Case;
use crate::clients::{Client, Subscription};
use crate::streams::{Event, IDEMPOTENCY, Stream};

const OPTIONS: HistoryOptions =
    HistoryOptions { size: 4, ttl: Duration::from_secs(30), bytes: 24, meta_ttl: Duration::from_secs(200) };

pub(crate) struct Node {
    case: Case,
    now: Instant,
    exchange: Exchange,
    hubs: [Hub; 2],
    /// The position of each worker in its channels with subscribers.
    positions: [BTreeMap<usize, Position>; 2],
    inboxes: [VecDeque<Item>; 2],
    clients: Vec<Client>,
    streams: Vec<Stream>,
    names: Vec<Arc<str>>,
    /// The number of requests and of publications.
    requests: u64,
    is_exact: bool,
}

/// An item of an inbox. `events` is the number of events of the channel at that time, for the checks only.
enum Item {
    Publication(usize, Arc<Publication>),
    Presence(usize),
    Subscribed {
        client: u32,
        channel: usize,
        request: u64,
        answer: Subscribed,
        events: usize,
        recovery: Option<Recovery>,
    },
    CatchUp(usize, CatchUp, usize),
    /// The publication of a client was appended, as the event with this index, and its worker does not lag.
    Published {
        client: u32,
        channel: usize,
        event: usize,
        request: Option<u64>,
    },
}

impl Node {
    pub(crate) fn new(seed: u64, case: Case) -> Node {
        let config = ExchangeConfig {
            seed,
            history_memory: case.memory.unwrap_or(usize::MAX),
            idempotency_ttl: IDEMPOTENCY,
            max_idempotency_keys: usize::MAX,
        };
        Node {
            case,
            now: Instant::now(),
            exchange: Exchange::new(config),
            hubs: [Hub::new(seed, 128), Hub::new(seed, 128)],
            positions: Default::default(),
            inboxes: Default::default(),
            clients: (0..case.clients).map(Client::new).collect(),
            streams: (0..case.channels).map(|_| Stream::default()).collect(),
            names: (0..case.channels).map(|channel| format!("channel:{channel}").into()).collect(),
            requests: 0,
            is_exact: case.memory.is_none(),
        }
    }

    pub(crate) fn publish(&mut self, random: &mut Rng, client: u32, channel: usize) {
        self.expire(channel);
        self.requests += 1;
        let data = self.requests;
        let publisher = &self.clients[client as usize];
        let key = random.bool().then(|| random.u64(0..4));
        let history = (has_history(channel) && random.u32(0..8) > 0).then_some(OPTIONS);
        let published = self.exchange.publish(
            Publish {
                channel: Arc::clone(&self.names[channel]),
                data: data.to_be_bytes().as_slice().into(),
                info: Some(Arc::clone(&publisher.info)),
                tags: Tags::default(),
                delta: false,
                time: 0,
                history,
                key: key.map(|key| key.to_string().into()),
                version: None,
            },
            self.now,
        );
        let stream = &mut self.streams[channel];
        if let Some(position) = key.and_then(|key| stream.find_key(key)) {
            assert_eq!((published.position, published.outcome), (position, PublishOutcome::Duplicate));
            return;
        }
        let PublishOutcome::Published { delivery, subscriptions } = published.outcome else {
            panic!("{published:?}")
        };
        assert_eq!(published.position.is_some(), history.is_some());
        if let Some(position) = published.position {
            stream.adopt(Position { offset: position.offset - 1, ..position }, self.is_exact);
            stream.append(&OPTIONS, data, self.now);
        }
        if let Some(key) = key {
            stream.add_key(key, published.position, self.now);
        }
        stream.events.push(Event::Publication(published.position, data));
        assert_eq!(subscriptions, self.subscriptions(channel).count());
        let (worker, event) = (publisher.worker, self.streams[channel].events.len() - 1);
        let request = publisher.subscriptions.get(&channel).map(|subscription| subscription.request);
        let reached =
            self.deliver(channel, &delivery, MissedEvent::Publication(published.position), |publication| {
                Item::Publication(channel, Arc::clone(publication))
            });
        let request = request.filter(|_| reached[worker]);
        self.inboxes[worker].push_back(Item::Published { client, channel, event, request });
    }

    pub(crate) fn subscribe(&mut self, random: &mut Rng, client: u32, channel: usize) {
        let worker = self.clients[client as usize].worker;
        if self.hubs[worker].join(client, &self.names[channel], Form::default()).is_err() {
            assert!(self.clients[client as usize].subscriptions.contains_key(&channel));
            return;
        }
        self.expire(channel);
        let history = has_history(channel).then_some(OPTIONS);
        let recovery = random.bool().then(|| Recovery {
            since: self.since(random, client, channel),
            mode: if random.bool() { RecoveryMode::Stream } else { RecoveryMode::Cache },
            limit: random.usize(0..5),
            bytes: usize::MAX,
            is_required: random.u32(0..4) == 0,
        });
        let subscribe = Subscribe { channel: Arc::clone(&self.names[channel]), history, recovery };
        let answer = self.exchange.subscribe(worker_id(worker), &subscribe, self.now);
        let stream = &mut self.streams[channel];
        let Ok(answer) = answer else {
            let recovery = recovery.unwrap();
            assert!(recovery.is_required && !(self.is_exact && stream.recover(&recovery).is_some()));
            stream.touch(self.now);
            if has_history(channel) && stream.position.is_none() {
                // The epoch of the new stream is not known; it is asked for.
                let query = HistoryQuery { limit: Some(0), ..HistoryQuery::default() };
                let history =
                    self.exchange.history(&self.names[channel], &query, &OPTIONS, self.now).unwrap();
                stream.adopt(history.position, false);
            }
            assert!(self.hubs[worker].leave(client, &self.names[channel]).is_some());
            return;
        };
        assert_eq!(answer.position.is_some(), has_history(channel));
        if let Some(position) = answer.position {
            stream.adopt(position, self.is_exact);
            stream.touch(self.now);
        }
        let recovered = answer
            .is_recovered
            .then(|| answer.publications.iter().map(|publication| number(publication)).collect());
        if self.is_exact {
            assert_eq!(recovered, recovery.and_then(|recovery| stream.recover(&recovery)));
        }
        self.requests += 1;
        let (request, events) = (self.requests, self.streams[channel].events.len());
        assert_eq!(answer.is_occupied, self.subscriptions(channel).count() == 0);
        self.clients[client as usize].subscriptions.insert(channel, Subscription { request, received: None });
        self.inboxes[worker].push_back(Item::Subscribed {
            client,
            channel,
            request,
            answer,
            events,
            recovery,
        });
        let info = Arc::clone(&self.clients[client as usize].info);
        let delivery = self.exchange.add_presence(&self.names[channel], info).unwrap();
        self.announce(channel, &delivery);
    }

    pub(crate) fn unsubscribe(&mut self, client: u32, channel: usize) {
        let worker = self.clients[client as usize].worker;
        let left = self.hubs[worker].leave(client, &self.names[channel]);
        assert_eq!(left.is_some(), self.clients[client as usize].subscriptions.contains_key(&channel));
        if left.is_some() {
            self.leave(client, channel);
        }
    }

    pub(crate) fn disconnect(&mut self, client: u32) {
        let worker = self.clients[client as usize].worker;
        while let Some((name, _)) = self.hubs[worker].leave_any(client) {
            let channel = self.names.iter().position(|other| *other == name).unwrap();
            self.leave(client, channel);
        }
        assert!(self.clients[client as usize].subscriptions.is_empty());
    }

    /// Does what follows the removal of a subscription from its hub.
    fn leave(&mut self, client: u32, channel: usize) {
        let subscriber = &mut self.clients[client as usize];
        subscriber.subscriptions.remove(&channel).unwrap();
        let (worker, id) = (subscriber.worker, subscriber.info.client);
        let is_vacated = self.exchange.unsubscribe(worker_id(worker), &self.names[channel], self.now);
        assert_eq!(is_vacated, self.subscriptions(channel).count() == 0);
        let delivery = self.exchange.remove_presence(&self.names[channel], id, self.now).unwrap();
        self.announce(channel, &delivery);
        if is_vacated {
            self.streams[channel].touch(self.now);
        }
    }

    /// Lets a worker handle items of its inbox, and catch up if the inbox is empty then.
    pub(crate) fn turn(&mut self, worker: usize, items: usize) {
        for _ in 0..items {
            match self.inboxes[worker].pop_front() {
                Some(item) => self.handle(worker, item),
                None => break,
            }
        }
        if self.inboxes[worker].is_empty()
            && let Some(name) = self.exchange.next_lagging(worker_id(worker))
        {
            let channel = self.names.iter().position(|other| *other == name).unwrap();
            let catch_up = self.exchange.catch_up(worker_id(worker), &name).unwrap();
            self.inboxes[worker].push_back(Item::CatchUp(
                channel,
                catch_up,
                self.streams[channel].events.len(),
            ));
        }
    }

    fn handle(&mut self, worker: usize, item: Item) {
        match item {
            Item::Publication(channel, publication) => {
                if let Some(slot) = self.hubs[worker].find(&self.names[channel]) {
                    if let Some(position) = publication.position
                        && !self.hubs[worker].subscribers(slot).is_empty()
                    {
                        let last = self.positions[worker].insert(channel, position);
                        let offset = position.offset - 1;
                        assert!(
                            last.is_none_or(|last| last == Position { offset, ..position }),
                            "{last:?} {position:?}"
                        );
                    }
                    self.receive(
                        worker,
                        channel,
                        Event::Publication(publication.position, number(&publication)),
                        false,
                    );
                }
            }
            Item::Presence(channel) => self.receive(worker, channel, Event::Presence, false),
            Item::Subscribed { client, channel, request, answer, events, recovery } => {
                if let Some(catch_up) = &answer.catch_up {
                    self.catch_up(worker, channel, catch_up, events);
                }
                let subscriber = &mut self.clients[client as usize];
                let Some(subscription) =
                    subscriber.subscriptions.get_mut(&channel).filter(|it| it.request == request)
                else {
                    return;
                };
                subscription.received = Some(events);
                let recovered: Vec<u64> =
                    answer.publications.iter().map(|publication| number(publication)).collect();
                if answer.is_recovered {
                    let (position, recovery) = (answer.position.unwrap(), recovery.unwrap());
                    let offset = recovery.since.offset;
                    let missed = self.streams[channel].all_after(position.epoch, offset.min(position.offset));
                    // Events after the answer are not among the missed ones.
                    let missed =
                        &missed[..missed.len().min((position.offset.saturating_sub(offset)) as usize)];
                    match recovery.mode {
                        RecoveryMode::Stream => {
                            assert!(recovered == missed && recovery.since.is_of(position.epoch))
                        }
                        RecoveryMode::Cache => assert!(recovered.len() <= 1),
                    }
                } else {
                    assert!(recovered.is_empty());
                }
                if let Some(position) = answer.position {
                    subscriber.positions.insert(channel, position);
                }
                let hub = &mut self.hubs[worker];
                let slot = hub.find(&self.names[channel]).unwrap();
                if hub.subscribers(slot).is_empty() {
                    self.positions[worker].remove(&channel);
                    self.positions[worker].extend(answer.position.map(|position| (channel, position)));
                } else {
                    assert_eq!(
                        self.positions[worker].get(&channel),
                        answer.position.as_ref(),
                        "a worker is not at the position of a new subscription"
                    );
                }
                assert!(hub.admit(client, &self.names[channel], None));
            }
            Item::CatchUp(channel, catch_up, events) => self.catch_up(worker, channel, &catch_up, events),
            Item::Published { client, channel, event, request } => {
                let subscription = self.clients[client as usize].subscriptions.get(&channel);
                if let Some(subscription) =
                    subscription.filter(|subscription| Some(subscription.request) == request)
                {
                    let received =
                        subscription.received.expect("the answer to a subscription precedes later answers");
                    assert!(received > event, "a publication reaches its publisher before the answer");
                }
            }
        }
    }

    fn catch_up(&mut self, worker: usize, channel: usize, catch_up: &CatchUp, events: usize) {
        let Some(slot) = self.hubs[worker].find(&self.names[channel]) else {
            return;
        };
        let has_gap = !catch_up.is_complete || !catch_up.is_presence_complete;
        for publication in &catch_up.publications {
            self.receive(
                worker,
                channel,
                Event::Publication(publication.position, number(publication)),
                has_gap,
            );
        }
        self.positions[worker].extend(catch_up.position.map(|position| (channel, position)));
        for subscriber in self.hubs[worker].subscribers(slot).to_vec() {
            let client = &mut self.clients[subscriber.connection() as usize];
            let received = client.subscriptions.get_mut(&channel).unwrap().received.as_mut().unwrap();
            assert!(has_gap || *received == events, "a complete answer lacks an event");
            *received = events;
        }
    }

    /// Delivers an event to all subscribers of a worker.
    fn receive(&mut self, worker: usize, channel: usize, event: Event, has_gap: bool) {
        let Some(slot) = self.hubs[worker].find(&self.names[channel]) else {
            return;
        };
        for subscriber in self.hubs[worker].subscribers(slot) {
            let events = &self.streams[channel].events;
            self.clients[subscriber.connection() as usize].receive(channel, event, events, has_gap);
        }
    }

    pub(crate) fn query(&mut self, random: &mut Rng, channel: usize) {
        if !has_history(channel) {
            return;
        }
        self.expire(channel);
        let client = random.u32(0..self.case.clients);
        let query = HistoryQuery {
            limit: random.bool().then(|| random.usize(0..5)),
            since: random.bool().then(|| self.since(random, client, channel)),
            is_reverse: random.bool(),
        };
        let answer = self.exchange.history(&self.names[channel], &query, &OPTIONS, self.now);
        let stream = &mut self.streams[channel];
        if let Ok(history) = &answer {
            stream.adopt(history.position, self.is_exact);
        } else if stream.position.is_none() || !self.is_exact {
            let only_position = HistoryQuery { limit: Some(0), ..HistoryQuery::default() };
            let history =
                self.exchange.history(&self.names[channel], &only_position, &OPTIONS, self.now).unwrap();
            stream.adopt(history.position, self.is_exact);
        }
        stream.touch(self.now);
        let found = answer.map(|history| {
            assert_eq!(Some(history.position), stream.position);
            history.publications.iter().map(|publication| number(publication)).collect::<Vec<u64>>()
        });
        let expected = stream.query(&query);
        if self.is_exact {
            assert_eq!(found, expected);
        } else {
            assert_eq!(found.is_ok(), expected.is_ok());
            // An evicted publication may be missing, and no other may be there.
            assert!(
                found.unwrap_or_default().iter().all(|data| expected
                    .as_ref()
                    .is_ok_and(|all| query.limit.is_some() || all.contains(data)))
            );
        }
        if let Some(position) = stream.position {
            let offset = random.u64(0..=position.offset);
            let gap = self.exchange.since(&self.names[channel], Position { offset, ..position });
            let gap = gap.map(|publications| {
                publications.iter().map(|publication| number(publication)).collect::<Vec<u64>>()
            });
            assert!(gap.is_none_or(|gap| gap == stream.all_after(position.epoch, offset)));
        }
    }

    pub(crate) fn remove_history(&mut self, channel: usize) {
        self.expire(channel);
        self.exchange.remove_history(&self.names[channel], self.now);
        self.streams[channel].remove();
    }

    pub(crate) fn set_memory(&mut self, random: &mut Rng) {
        if self.case.memory.is_some() {
            self.exchange.set_history_memory(random.usize(0..6_000));
        }
    }

    /// Lets time pass. A host is sometimes late.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        if time.as_millis().is_multiple_of(2)
            && let Some(timeout) = self.exchange.poll_timeout().filter(|&timeout| timeout <= self.now)
        {
            self.exchange.handle_timeout(self.now);
            assert!(
                self.exchange.poll_timeout().is_none_or(|next| next > self.now),
                "{timeout:?} was not handled"
            );
        }
    }

    /// Checks what must hold after each operation.
    pub(crate) fn check(&self) {
        let stats = self.exchange.stats();
        for (channel, name) in self.names.iter().enumerate() {
            let users: BTreeMap<&str, usize> =
                self.subscriptions(channel).map(|client| (&*client.info.user, 1)).collect();
            let clients = self.subscriptions(channel).count();
            assert_eq!(self.exchange.presence_stats(name), PresenceStats { clients, users: users.len() });
            assert_eq!(self.exchange.subscriptions(name), clients);
            let present = self.exchange.presence(name);
            assert!(
                self.subscriptions(channel).all(|client| present.contains(&client.info))
                    && present.len() == clients
            );
        }
        if self.case.memory.is_some() {
            let limit = 6_000;
            assert!(stats.history_bytes <= limit);
        }
        for (number, client) in self.clients.iter().enumerate() {
            assert_eq!(self.hubs[client.worker].channels_of(number as u32).len(), client.subscriptions.len());
        }
    }

    /// Delivers everything, and ends everything.
    pub(crate) fn finish(mut self) {
        for worker in [0, 1] {
            while !self.inboxes[worker].is_empty() || self.exchange.next_lagging(worker_id(worker)).is_some()
            {
                self.turn(worker, 10);
            }
        }
        for client in &self.clients {
            for (&channel, subscription) in &client.subscriptions {
                assert_eq!(
                    subscription.received,
                    Some(self.streams[channel].events.len()),
                    "events are missing at the end"
                );
            }
        }
        for client in 0..self.case.clients {
            self.disconnect(client);
        }
        self.check();
        assert!(self.hubs.iter().all(|hub| hub.counts() == (0, 0)));
        self.now += Duration::from_secs(1_000_000);
        self.exchange.handle_timeout(self.now);
        let stats = self.exchange.stats();
        assert_eq!(
            (stats.channels, stats.history_bytes, stats.publications, stats.idempotency_keys),
            (0, 0, 0, 0)
        );
        assert_eq!(
            (stats.subscriptions, stats.occupied_channels, self.exchange.poll_timeout()),
            (0, 0, None)
        );
    }

    /// Returns the clients with a subscription.
    fn subscriptions(&self, channel: usize) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(move |client| client.subscriptions.contains_key(&channel))
    }

    /// Returns the position that a client knows, or another one.
    fn since(&self, random: &mut Rng, client: u32, channel: usize) -> Since {
        let Some(&known) = self.clients[client as usize].positions.get(&channel) else {
            return Since::new("", random.u64(0..3));
        };
        match random.u32(0..8) {
            0 => Since::new("", known.offset),
            1 => Since::from(Position { epoch: Epoch::from_bits(random.u64(..)), ..known }),
            2 => Since::from(Position { offset: random.u64(0..8), ..known }),
            _ => Since::from(known),
        }
    }

    fn expire(&mut self, channel: usize) {
        let is_idle = self.subscriptions(channel).next().is_none();
        self.streams[channel].expire(&OPTIONS, is_idle, self.now);
    }

    fn announce(&mut self, channel: usize, delivery: &Delivery<Arc<PresenceEvent>>) {
        self.streams[channel].events.push(Event::Presence);
        self.deliver(channel, delivery, MissedEvent::Presence, |_| Item::Presence(channel));
    }

    /// Puts an event into inboxes. Returns the workers that it has reached.
    fn deliver<T>(
        &mut self,
        channel: usize,
        delivery: &Delivery<T>,
        event: MissedEvent,
        item: impl Fn(&T) -> Item,
    ) -> [bool; 2] {
        [0, 1].map(|worker| {
            if !delivery.workers.contains(worker_id(worker)) {
                return false;
            }
            assert!(self.subscriptions(channel).any(|client| client.worker == worker));
            let has_room = self.inboxes[worker].len() < self.case.inbox;
            if has_room {
                self.inboxes[worker].push_back(item(&delivery.value));
            } else {
                self.exchange.mark_lagging(worker_id(worker), &self.names[channel], event);
            }
            has_room
        })
    }
}

fn worker_id(worker: usize) -> WorkerId {
    WorkerId::new(worker).unwrap()
}

/// Two of three channels have history.
fn has_history(channel: usize) -> bool {
    channel % 3 != 2
}

fn number(publication: &Publication) -> u64 {
    u64::from_be_bytes((*publication.data).try_into().unwrap())
}
