//! A node: its exchanges, the inboxes of its workers, its relay, and the queue of the relay's thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::engine::{Answer, ChannelEvent, Inboxes, Operation, Request};
use postern_channels::exchange::{Exchange, ExchangeConfig, WorkerId};
use postern_channels::inbox::{Added, Inbox, Taken};
use postern_channels::publication::Position;
use postern_channels::relay::command::{Cause, Failure, Reply};
use postern_channels::relay::link::{Attempt, LinkConfig, Ticket};
use postern_channels::relay::{CommandId, Local, Relay, RelayConfig, ServerRequest};
use postern_core::ConnectionId;
use postern_core::policy::Users;

use super::plan::{LARGE, Plan};
use super::station::Station;
use super::truth::number;
use crate::fault::Fault;
use crate::random::Random;
use crate::users::ModelUsers;

/// A node, from its start to its end.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) shards: Shards,
    pub(crate) relay: Relay,
    pub(crate) stations: Vec<Station>,
    pub(crate) queue: Queue,
    /// The connections of the relay, and the attempt that they belong to.
    pub(crate) wire: Option<(Attempt, u64)>,
    /// The time of the next turn of the relay's thread.
    pub(crate) wakes_at: Option<Duration>,
    pub(crate) is_down: bool,
    /// The number of times that it was started. Reports of an earlier life are ignored.
    pub(crate) life: u64,
    /// When messages may last have been lost: the connections were lost, or an inbox was full. Zero: never.
    pub(crate) lost_at: Duration,
    /// Whether all of its subscriptions at the engine are confirmed.
    pub(crate) is_live: bool,
    /// The commands of other nodes that it has got, and the revocations.
    pub(crate) commands: BTreeSet<u64>,
    pub(crate) revocations: BTreeSet<u64>,
}

/// The inputs of the relay's thread, as `runtimes/host/src/engine/queue.rs` keeps them.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) inputs: VecDeque<Input>,
    bytes: usize,
    limit: usize,
    lost: Option<Attempt>,
}

/// An input of the relay's thread.
#[derive(Debug)]
pub(crate) enum Input {
    Worker(WorkerId, Request),
    Server(ServerRequest),
    Connected(Attempt, u64),
    Failed(Attempt, Failure),
    Reply(Attempt, Ticket, Result<Reply, Failure>),
    Performed(CommandId),
    User(String),
    Message { attempt: Attempt, topic: String, content: Vec<u8> },
}

/// The exchanges and the inboxes.
#[derive(Debug)]
pub(crate) struct Shards {
    exchanges: Vec<Exchange>,
    pub(crate) mail: Mail,
    /// The connections of each user, if they are limited.
    pub(crate) users: Option<Arc<ModelUsers>>,
    /// When connections have arrived, by their numbers.
    pub(crate) arrived: BTreeMap<u64, Instant>,
    /// The time for publications, in milliseconds.
    pub(crate) time: i64,
}

/// The inboxes of the workers.
#[derive(Debug)]
pub(crate) struct Mail {
    inboxes: Vec<Inbox>,
    pub(crate) is_woken: Vec<bool>,
    limit: usize,
    /// Whether an inbox was full since this was last reset.
    pub(crate) has_lost: bool,
    /// Publications of clients that are not answered, by connection and command.
    pub(crate) publishing: BTreeMap<(ConnectionId, u32), u64>,
    /// Those that were answered as published, with their positions.
    pub(crate) published: Vec<(u64, Option<Position>)>,
    fault: Option<Fault>,
}

impl Node {
    pub(crate) fn new(
        plan: &Plan,
        life: u64,
        start: Instant,
        now: Duration,
        fault: Option<Fault>,
        random: &mut Random,
    ) -> Node {
        let seed = random.number();
        let exchange = |shard: usize| {
            Exchange::new(ExchangeConfig {
                seed: seed.wrapping_add(shard as u64),
                history_memory: plan.history_memory,
                idempotency_ttl: Duration::from_secs(300),
                max_idempotency_keys: 100,
            })
        };
        let link = LinkConfig { node: random.number() | 1, ..plan.relay.link.clone() };
        let is_failover_noticed = fault != Some(Fault::TrustedFailover);
        let config = RelayConfig { link, is_failover_noticed, ..plan.relay.clone() };
        let seed = u128::from(random.number()) << 64 | u128::from(random.number());
        let limit = plan.relay.user_limit;
        let users = limit.map(|limit| Arc::new(ModelUsers::new(limit.most, !limit.closes_newest)));
        let stations = (0..plan.workers).map(|worker| {
            let users = users.clone().map(|users| users as Arc<dyn Users>);
            Station::new(worker, plan, users, random.number(), start + now)
        });
        let stations = stations.collect();
        Node {
            shards: Shards {
                exchanges: (0..plan.shards).map(exchange).collect(),
                mail: Mail {
                    inboxes: (0..plan.workers).map(|_| Inbox::default()).collect(),
                    is_woken: vec![false; plan.workers],
                    limit: plan.inbox,
                    has_lost: false,
                    publishing: BTreeMap::new(),
                    published: Vec::new(),
                    fault,
                },
                users,
                arrived: BTreeMap::new(),
                time: 0,
            },
            stations,
            relay: Relay::new(config, seed, start + now),
            queue: Queue { inputs: VecDeque::new(), bytes: 0, limit: plan.queue, lost: None },
            wire: None,
            wakes_at: None,
            is_down: false,
            life,
            lost_at: Duration::ZERO,
            is_live: false,
            commands: BTreeSet::new(),
            revocations: BTreeSet::new(),
        }
    }

    /// Gives queues the sizes that they have in a host.
    pub(crate) fn enlarge(&mut self) {
        self.shards.mail.limit = LARGE;
        self.queue.limit = LARGE;
    }

    /// Hands a request of a worker to the relay.
    pub(crate) fn submit(&mut self, worker: usize, request: Request) {
        if let Operation::Publish { publish, .. } = &request.operation
            && let Some(number) = number(&publish.data)
        {
            let key = (request.client.connection, request.command);
            self.shards.mail.publishing.insert(key, number);
        }
        self.queue.inputs.push_back(Input::Worker(id(worker), request));
    }

    /// Takes the events of a worker, as a host does.
    pub(crate) fn take_events(&mut self, worker: usize) -> Vec<ChannelEvent> {
        let mut events = Vec::new();
        let taken = self.shards.mail.inboxes[worker].take(&mut events, usize::MAX);
        self.shards.mail.is_woken[worker] = taken == Taken::Part;
        if taken == Taken::AllWithLoss {
            for exchange in &mut self.shards.exchanges {
                exchange.catch_up_all(id(worker), &mut Delivery(&mut self.shards.mail));
            }
        }
        events
    }

    /// Whether nothing waits for a worker or for the relay.
    pub(crate) fn is_quiet(&self) -> bool {
        self.shards.mail.inboxes.iter().all(Inbox::is_empty) && self.queue.inputs.is_empty()
    }
}

impl Queue {
    /// Adds a message that has arrived. If too many bytes wait, it is lost, and its connection fails.
    pub(crate) fn add_message(&mut self, attempt: Attempt, topic: String, content: Vec<u8>) {
        if self.lost == Some(attempt) {
            return;
        }
        if self.bytes >= self.limit {
            self.lost = Some(attempt);
            let failure = Failure::new(Cause::Overflow, "messages arrive faster than they are handled");
            return self.inputs.push_back(Input::Failed(attempt, failure));
        }
        self.bytes += size_of::<Input>() + topic.len() + content.len();
        self.inputs.push_back(Input::Message { attempt, topic, content });
    }

    pub(crate) fn take(&mut self) -> VecDeque<Input> {
        self.bytes = 0;
        std::mem::take(&mut self.inputs)
    }
}

impl Shards {
    fn exchange(&mut self, channel: &str) -> (&mut Exchange, &mut Mail) {
        let index = channel.bytes().map(usize::from).sum::<usize>() % self.exchanges.len();
        (&mut self.exchanges[index], &mut self.mail)
    }

    /// Returns the number of subscriptions of a channel.
    pub(crate) fn subscriptions(&mut self, channel: &str) -> usize {
        self.exchange(channel).0.subscriptions(channel)
    }

    /// Does what the time requires.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.exchanges.iter_mut().for_each(|exchange| exchange.handle_timeout(now));
    }
}

impl Local for Shards {
    type Inboxes<'a> = Delivery<'a>;

    fn with<R>(
        &mut self,
        channel: &str,
        operate: impl for<'a> FnOnce(&mut Exchange, &mut Delivery<'a>) -> R,
    ) -> R {
        let (exchange, mail) = self.exchange(channel);
        operate(exchange, &mut Delivery(mail))
    }

    fn connections(&mut self, user: &str) -> Vec<(u64, Instant)> {
        let connections = self.users.as_ref().map(|users| users.of(user)).unwrap_or_default();
        connections.into_iter().filter_map(|it| Some((it.0, *self.arrived.get(&it.0)?))).collect()
    }

    fn users(&mut self) -> Vec<Arc<str>> {
        let users = self.users.as_ref().map(|users| users.all()).unwrap_or_default();
        users.into_iter().map(Arc::from).collect()
    }

    fn time(&self) -> i64 {
        self.time
    }
}

/// Puts events into inboxes.
#[derive(Debug)]
pub(crate) struct Delivery<'m>(&'m mut Mail);

impl Delivery<'_> {
    fn add(&mut self, worker: WorkerId, event: ChannelEvent, limit: usize) -> bool {
        let added = self.0.inboxes[worker.index()].add(event, limit);
        self.0.is_woken[worker.index()] |= added == Added::First;
        added != Added::Refused
    }
}

impl Inboxes for Delivery<'_> {
    fn send(&mut self, worker: WorkerId, event: ChannelEvent) -> bool {
        let is_sent = self.add(worker, event, self.0.limit);
        self.0.has_lost |= !is_sent;
        is_sent
    }

    fn answer(&mut self, worker: WorkerId, event: ChannelEvent) {
        if let ChannelEvent::Answer { client, command, answer, .. } = &event {
            let number = self.0.publishing.remove(&(client.connection, *command));
            if let (Some(number), Answer::Published(position)) = (number, answer) {
                self.0.published.push((number, *position));
            }
        }
        let is_gap = matches!(&event, ChannelEvent::CatchUp(missed) if !missed.is_complete);
        if is_gap && self.0.fault == Some(Fault::UntoldGap) {
            return;
        }
        self.add(worker, event, usize::MAX);
    }
}

fn id(worker: usize) -> WorkerId {
    WorkerId::new(worker).unwrap_or_default()
}
