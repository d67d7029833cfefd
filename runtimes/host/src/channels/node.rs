//! The channels of a process, in shards.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_channels::ChannelsConfig;
use postern_channels::engine::{Answer, ChannelEvent, ClientRef, Inboxes, Receipt, Request};
#[cfg(feature = "control")]
use postern_channels::exchange::ExchangeStats;
use postern_channels::exchange::{Exchange, ExchangeConfig, Publish, WorkerId};
use postern_channels::hooks::HookRequest;
use postern_channels::inbox::{Added, Inbox, Taken};
use postern_channels::relay::{
    RelayStats, ServerAnswer, ServerOperation,
    command::{Cause, Failure},
};
use postern_core::handshake::Revocation;
use postern_core::policy::Replaced;
use postern_core::worker::{CheckRequest, CheckTicket};
use postern_core::{TokenCheck, Verdict};

use smol::channel::Receiver;

use crate::checker::Checker;
#[cfg(feature = "control")]
use crate::control::Instance;
use crate::engine::Engine;
use crate::hooks::Hooks;
use crate::workers::{Command, RemoteCommand, WorkerReply};

/// The channels of a process. Each channel belongs to one shard, by the hash of its name. The lock of a shard is held while a
/// request is executed and its events are put into inboxes, so they have the order of the requests in all of them.
#[derive(Debug)]
pub struct Node {
    shards: Box<[Mutex<Exchange>]>,
    hash: RandomState,
    workers: Box<[WorkerSlot]>,
    config: Mutex<Arc<ChannelsConfig>>,
    hooks: Hooks,
    /// The engine, if several nodes share the channels.
    engine: OnceLock<Engine>,
    /// Checks the tokens that clients send on open connections.
    checker: OnceLock<Arc<Checker>>,
    /// The properties of the process that the server API returns.
    #[cfg(feature = "control")]
    instance: OnceLock<Instance>,
}

/// Figures of all channels and inboxes.
#[cfg(feature = "control")]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeStats {
    pub(crate) channels: ExchangeStats,
    /// The memory of the events that wait for workers.
    pub(crate) inbox_bytes: usize,
    /// `None` without an engine.
    pub(crate) engine: Option<RelayStats>,
}

/// A worker, as other threads see it.
#[derive(Default)]
struct WorkerSlot {
    /// `None` before the worker has started, and after it has ended.
    inbox: Mutex<Option<Inbox>>,
    /// Makes the worker take its events.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Tasks that it has yet to perform, in addition to its events.
    tasks: Mutex<Vec<Task>>,
    /// Whether there are tasks.
    has_tasks: AtomicBool,
    /// Whether something may expire in the share of the shards that the worker looks after.
    may_expire: AtomicBool,
}

/// A task of a worker that is not an event of its channels.
pub(super) enum Task {
    /// End the connections of revoked credentials.
    Revoke(Arc<Revocation>),
    /// Close a connection, because its user has too many on all nodes.
    Close(Replaced),
    /// Perform a command of another node.
    Command(Arc<RemoteCommand>),
    /// Handle the verdict about a token.
    Verdict(CheckTicket, Verdict),
}

impl Node {
    /// Creates the channels of a process with this many workers, whose histories take at most `history_memory` bytes.
    /// `hooks` gets the events of channels.
    pub fn new(
        workers: usize,
        history_memory: usize,
        config: Arc<ChannelsConfig>,
        hooks: Hooks,
    ) -> Arc<Node> {
        let random = RandomState::new();
        let exchange = |shard| ExchangeConfig {
            seed: random.hash_one(shard),
            history_memory: history_memory / SHARDS,
            idempotency_ttl: IDEMPOTENCY_TTL,
            max_idempotency_keys: IDEMPOTENCY_KEYS / SHARDS,
        };
        Arc::new(Node {
            shards: (0..SHARDS).map(|shard| Mutex::new(Exchange::new(exchange(shard)))).collect(),
            hash: RandomState::new(),
            workers: (0..workers).map(|_| WorkerSlot::default()).collect(),
            config: Mutex::new(config),
            hooks,
            engine: OnceLock::new(),
            checker: OnceLock::new(),
            #[cfg(feature = "control")]
            instance: OnceLock::new(),
        })
    }

    /// Shares the channels with other nodes.
    // A build without an engine has none.
    pub(crate) fn set_engine(&self, engine: Engine) {
        // It is called once, at the start.
        let _ = self.engine.set(engine);
    }

    /// Returns the engine, if there is one.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.get()
    }

    /// Creates the inbox of a worker. `wake` makes the worker take its events.
    pub(super) fn start_worker(&self, worker: WorkerId, wake: impl Fn() + Send + Sync + 'static) {
        if let Some(slot) = self.workers.get(worker.index()) {
            // A worker starts once.
            let _ = slot.wake.set(Box::new(wake));
            *lock(&slot.inbox) = Some(Inbox::default());
        }
    }

    /// Removes the inbox of a worker that ends.
    pub(super) fn end_worker(&self, worker: WorkerId) {
        if let Some(slot) = self.workers.get(worker.index()) {
            // Dropped after the lock is released.
            let inbox = lock(&slot.inbox).take();
            drop(inbox);
        }
    }

    /// Executes a request of a worker. The worker takes its own events afterwards, and is not woken for them. With an engine, the
    /// answer may arrive later.
    pub(super) fn execute(&self, worker: WorkerId, request: Request, now: Instant) {
        match self.engine.get() {
            None => self.execute_here(worker, request, now),
            Some(engine) => {
                if let Some(request) = engine.submit(worker, request) {
                    self.refuse(worker, request, now);
                }
            }
        }
    }

    /// Answers that too many requests wait for the engine.
    #[cold]
    fn refuse(&self, worker: WorkerId, request: Request, now: Instant) {
        let index = self.index(&request.channel);
        let mut delivery = Delivery { node: self, wakes: Wakes::Others(worker) };
        lock(&self.shards[index]).refuse(worker, request, now, &mut delivery);
        self.note_expiry(index);
    }

    fn execute_here(&self, worker: WorkerId, request: Request, now: Instant) {
        let index = self.index(&request.channel);
        let mut delivery = Delivery { node: self, wakes: Wakes::Others(worker) };
        lock(&self.shards[index]).execute(worker, request, now, unix_ms(), &mut delivery);
        self.note_expiry(index);
    }

    /// Asks the backend about a command. The answer arrives in the inbox of the worker, with a wake.
    pub(super) fn ask(self: &Arc<Node>, worker: WorkerId, request: &HookRequest) {
        let (node, client, number) = (self.clone(), request.client, request.number);
        self.hooks.ask(request, move |answer| {
            let event = ChannelEvent::Hook { client, number, answer: Box::new(answer) };
            Delivery { node: &node, wakes: Wakes::All }.answer(worker, event);
        });
    }

    /// Sets the properties of the process that the server API returns, once.
    #[cfg(feature = "control")]
    pub(crate) fn set_instance(&self, instance: Instance) {
        // There is one for each process.
        let _ = self.instance.set(instance);
    }

    /// Returns the properties of the process that the server API returns.
    #[cfg(feature = "control")]
    pub(crate) fn instance(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// Sets what checks tokens, once.
    pub(crate) fn set_checker(&self, checker: Arc<Checker>) {
        // There is one for each process.
        let _ = self.checker.set(checker);
    }

    /// Returns what checks tokens.
    pub(crate) fn checker(&self) -> Option<&Arc<Checker>> {
        self.checker.get()
    }

    /// Checks a token of a client of a worker. The answer becomes an event of the worker, with a wake.
    pub(super) fn check_token(
        self: &Arc<Node>,
        worker: WorkerId,
        client: ClientRef,
        command: u32,
        check: &TokenCheck,
    ) {
        let node = self.clone();
        let answer = move |verdict| {
            let answer = Answer::TokenChecked(verdict);
            let event = ChannelEvent::Answer { client, command, channel: "".into(), answer };
            Delivery { node: &node, wakes: Wakes::All }.answer(worker, event);
        };
        match self.checker() {
            Some(checker) => checker.check(check, answer),
            None => answer(Verdict::Unknown),
        }
    }

    /// Checks a token for a connection of a worker. The verdict arrives with a wake.
    pub(super) fn check_token_of_connection(self: &Arc<Node>, worker: WorkerId, request: &CheckRequest) {
        let (node, ticket) = (self.clone(), request.ticket);
        let answer = move |verdict| {
            if let Some(slot) = node.workers.get(worker.index()) {
                slot.add_task(Task::Verdict(ticket, verdict));
            }
        };
        match self.checker() {
            Some(checker) => checker.check(&request.check, answer),
            None => answer(Verdict::Unknown),
        }
    }

    /// Calls `operation` with the share of the channels to which `channel` belongs. Its lock is held during the call.
    pub(crate) fn with<R>(&self, channel: &str, operation: impl FnOnce(&mut Exchange) -> R) -> R {
        let index = self.index(channel);
        let result = operation(&mut lock(&self.shards[index]));
        self.note_expiry(index);
        result
    }

    /// Returns access to the channels for several operations, whose events wake a worker together.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { node: self, wakes: 0, operations: 0 }
    }

    /// Informs the worker that looks after a shard that something may expire there.
    fn note_expiry(&self, shard: usize) {
        let worker = self.workers.get(shard % self.workers.len().max(1));
        if let Some(worker) = worker
            && !worker.may_expire.load(Ordering::Relaxed)
            && !worker.may_expire.swap(true, Ordering::Relaxed)
        {
            worker.wake();
        }
    }

    /// Returns whether something may expire in the share of the shards that `worker` looks after.
    pub(super) fn may_expire(&self, worker: WorkerId) -> bool {
        self.workers.get(worker.index()).is_some_and(|slot| slot.may_expire.load(Ordering::Relaxed))
    }

    /// Returns the channels with subscribers whose names `matches` accepts, with the number of subscriptions, in any order.
    #[cfg(feature = "control")]
    pub(crate) fn channels(&self, matches: impl Fn(&str) -> bool) -> Vec<(Arc<str>, usize)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let matching = shard.channels().filter(|(name, _)| matches(name));
            found.extend(matching.map(|(name, subscriptions)| (name.clone(), subscriptions)));
        }
        found
    }

    /// Returns the hooks, which get the events of channels.
    #[cfg(feature = "control")]
    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Returns the configuration.
    pub(crate) fn config(&self) -> Arc<ChannelsConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the configuration, and sends it to all workers.
    pub(crate) fn set_config(&self, config: Arc<ChannelsConfig>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.clone();
        self.broadcast(&ChannelEvent::Config(config));
    }

    /// Makes each worker end the connections of revoked credentials.
    pub(crate) fn revoke(&self, revocation: &Arc<Revocation>) {
        for slot in &self.workers {
            slot.add_task(Task::Revoke(revocation.clone()));
        }
    }

    /// Makes each worker perform a command. `done` gets their replies.
    pub(crate) fn command(&self, command: Command, done: impl Fn(Vec<WorkerReply>) + Send + Sync + 'static) {
        let is_running = |slot: &&WorkerSlot| lock(&slot.inbox).is_some();
        let running: Vec<&WorkerSlot> = self.workers.iter().filter(is_running).collect();
        if running.is_empty() {
            return done(Vec::new());
        }
        let command = Arc::new(RemoteCommand::new(command, running.len(), done));
        for slot in running {
            slot.add_task(Task::Command(command.clone()));
        }
    }

    /// Makes a worker close a connection, because its user has too many on all nodes.
    pub(crate) fn close(&self, closed: Replaced) {
        if let Some(slot) = self.workers.get(closed.worker) {
            slot.add_task(Task::Close(closed));
        }
    }

    /// Takes the tasks of a worker.
    pub(super) fn take_tasks(&self, worker: WorkerId) -> Vec<Task> {
        let slot = self.workers.get(worker.index()).filter(|slot| slot.has_tasks.load(Ordering::Acquire));
        let Some(slot) = slot else { return Vec::new() };
        let mut tasks = lock(&slot.tasks);
        slot.has_tasks.store(false, Ordering::Relaxed);
        mem::take(&mut *tasks)
    }

    /// Puts an event into the inbox of each worker.
    fn broadcast(&self, event: &ChannelEvent) {
        for slot in &self.workers {
            if slot.add(event.clone(), usize::MAX) == Added::First {
                slot.wake();
            }
        }
    }

    /// Takes at most `most` events of a worker. What it has missed because its inbox was full arrives there after the others,
    /// with a wake. Returns whether events are left, for which there is none.
    pub(super) fn take_events(&self, worker: WorkerId, events: &mut Vec<ChannelEvent>, most: usize) -> bool {
        let Some(slot) = self.workers.get(worker.index()) else { return false };
        let taken = lock(&slot.inbox).as_mut().map_or(Taken::All, |inbox| inbox.take(events, most));
        if taken == Taken::AllWithLoss {
            for shard in &self.shards {
                lock(shard).catch_up_all(worker, &mut Delivery { node: self, wakes: Wakes::All });
            }
        }
        taken == Taken::Part
    }

    /// Returns figures of all channels and inboxes.
    #[cfg(feature = "control")]
    pub(crate) fn stats(&self) -> NodeStats {
        let mut channels = ExchangeStats::default();
        self.shards.iter().for_each(|shard| channels += lock(shard).stats());
        let bytes = |slot: &WorkerSlot| lock(&slot.inbox).as_ref().map_or(0, Inbox::bytes);
        NodeStats {
            channels,
            inbox_bytes: self.workers.iter().map(bytes).sum(),
            engine: self.engine().map(Engine::stats),
        }
    }

    /// Removes what has expired from the share of the shards that `worker` looks after. Returns when something expires next.
    pub(super) fn expire(&self, worker: WorkerId, now: Instant) -> Option<Instant> {
        let slot = self.workers.get(worker.index())?;
        // Before the search, so that what another thread adds during it is not missed.
        slot.may_expire.store(false, Ordering::Relaxed);
        let step = self.workers.len().max(1);
        let shards = self.shards.iter().skip(worker.index()).step_by(step);
        let expire = |shard: &Mutex<Exchange>| {
            let mut shard = lock(shard);
            shard.handle_timeout(now);
            shard.poll_timeout()
        };
        let next = shards.filter_map(expire).min();
        if next.is_some() {
            slot.may_expire.store(true, Ordering::Relaxed);
        }
        next
    }

    /// Returns the number of the shard of a channel, which is below [`SHARDS`].
    fn index(&self, channel: &str) -> usize {
        self.hash.hash_one(channel) as usize % SHARDS
    }
}

/// Access to the channels of a node for several operations. Their events wake a worker once for up to [`OPERATIONS`] of them: a
/// worker that was woken for each would often send each publication by itself, which takes several times as much processor time.
#[derive(Debug)]
pub(crate) struct Batch<'n> {
    node: &'n Node,
    /// The workers with events that need a wake, one bit each.
    wakes: u128,
    /// The number of operations since the last wake.
    operations: usize,
}

impl Batch<'_> {
    /// Calls `operation` with the share of the channels to which `channel` belongs, and with the inboxes of all workers. The lock
    /// of the shard is held during the call.
    pub(crate) fn with<R>(
        &mut self,
        channel: &str,
        operation: impl for<'d> FnOnce(&mut Exchange, &mut Delivery<'d>) -> R,
    ) -> R {
        let index = self.node.index(channel);
        let mut delivery = Delivery { node: self.node, wakes: Wakes::Later(&mut self.wakes) };
        let result = operation(&mut lock(&self.node.shards[index]), &mut delivery);
        self.node.note_expiry(index);
        self.operations += 1;
        if self.operations == OPERATIONS {
            self.wake();
        }
        result
    }

    /// Publishes a message of a backend.
    pub(crate) fn publish(&mut self, publish: Publish) -> Publishing {
        if let Some(engine) = self.node.engine() {
            return Publishing::Waiting(engine.ask(ServerOperation::Publish(Box::new(publish))));
        }
        let channel = publish.channel.clone();
        Publishing::Done(
            self.with(&channel, |exchange, inboxes| {
                exchange.publish_to(publish, None, Instant::now(), inboxes)
            }),
        )
    }

    /// Returns the node.
    pub(crate) fn node(&self) -> &Node {
        self.node
    }

    /// Wakes the workers that have events.
    pub(crate) fn wake(&mut self) {
        let wakes = mem::take(&mut self.wakes);
        self.operations = 0;
        let slots = self.node.workers.iter().enumerate();
        slots.filter(|(index, _)| wakes & 1 << index != 0).for_each(|(_, slot)| slot.wake());
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.wake();
    }
}

/// A publication of a backend.
#[derive(Debug)]
pub(crate) enum Publishing {
    /// It is published: the history has it, and the inboxes of the workers with subscribers.
    Done(Receipt),
    /// The engine answers.
    Waiting(Receiver<ServerAnswer>),
}

impl Publishing {
    /// Waits for the result. The subscriptions in it belong to this node.
    ///
    /// # Errors
    /// Why the engine does not accept it.
    pub(crate) async fn result(self) -> Result<Receipt, Failure> {
        match self {
            Publishing::Done(receipt) => Ok(receipt),
            Publishing::Waiting(answer) => match answer.recv().await {
                Ok(ServerAnswer::Published { position, subscriptions }) => {
                    Ok(Receipt { position, subscriptions, is_new: true })
                }
                Ok(ServerAnswer::Unavailable(failure)) => Err(failure),
                // The engine answers each request, and with an answer of its kind.
                Ok(_) | Err(_) => Err(Failure::new(Cause::Down, "the engine has ended")),
            },
        }
    }
}

/// Puts events into the inboxes of a node.
#[derive(Debug)]
pub(crate) struct Delivery<'n> {
    node: &'n Node,
    wakes: Wakes<'n>,
}

/// The workers that are woken for their events.
#[derive(Debug)]
enum Wakes<'w> {
    All,
    /// All but the one that executes a request, and takes its own events afterwards.
    Others(WorkerId),
    /// The workers are woken afterwards. They are added here, one bit each.
    Later(&'w mut u128),
}

impl Delivery<'_> {
    fn add(&mut self, worker: WorkerId, event: ChannelEvent, limit: usize) -> bool {
        let Some(slot) = self.node.workers.get(worker.index()) else { return true };
        let added = slot.add(event, limit);
        if added == Added::First {
            match &mut self.wakes {
                Wakes::Others(own) if *own == worker => {}
                Wakes::All | Wakes::Others(_) => slot.wake(),
                // A node has at most 128 workers.
                Wakes::Later(workers) => **workers |= 1 << worker.index(),
            }
        }
        added != Added::Refused
    }
}

impl Inboxes for Delivery<'_> {
    fn send(&mut self, worker: WorkerId, event: ChannelEvent) -> bool {
        self.add(worker, event, INBOX_BYTES)
    }

    fn answer(&mut self, worker: WorkerId, event: ChannelEvent) {
        self.add(worker, event, usize::MAX);
    }

    fn occupancy_changed(&mut self, channel: &str, is_occupied: bool) {
        // The lock of the shard is held, so the events of a channel have the order of its subscriptions.
        self.node.hooks.channel(channel, is_occupied);
    }
}

impl WorkerSlot {
    /// Adds an event. A worker that has ended does not need it.
    fn add(&self, event: ChannelEvent, limit: usize) -> Added {
        lock(&self.inbox).as_mut().map_or(Added::Next, |inbox| inbox.add(event, limit))
    }

    /// Adds a task, and wakes the worker.
    fn add_task(&self, task: Task) {
        let mut tasks = lock(&self.tasks);
        tasks.push(task);
        // Under the lock, so that no flag is lost.
        self.has_tasks.store(true, Ordering::Release);
        drop(tasks);
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

impl fmt::Debug for WorkerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSlot").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// Returns the time in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each operation leaves an exchange and an inbox consistent; a worker that panics aborts the process anyway.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of shards. Requests to different shards do not wait for each other.
const SHARDS: usize = 64;

/// The most operations after which workers are woken: a worker should begin with its deliveries while a long batch continues.
pub(super) const OPERATIONS: usize = 64;

/// The time for which a publication with an idempotency key is remembered.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);

/// The most idempotency keys that are remembered.
const IDEMPOTENCY_KEYS: usize = 256 * 1024;

/// The most bytes of events that wait for a worker.
const INBOX_BYTES: usize = 8 * 1024 * 1024;
