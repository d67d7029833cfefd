//! The share of a worker in the channels of its process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::engine::{ChannelEvent, Effect, Operation, Request};
use postern_channels::exchange::WorkerId;
use postern_core::worker::{CheckRequest, PeerMessage};

use super::Node;
use super::node::Task;
use crate::application::{Worker, WorkerMessage};
use crate::metrics::LogAndCounters;

/// The share of a worker in the channels of its process. A runtime calls, for each turn:
///
/// 1. [`read`](NodeWorker::read), if it was woken or [`has_unread`](NodeWorker::has_unread).
/// 2. [`execute`](NodeWorker::execute) for each effect of the worker. If there was one, it begins again.
/// 3. [`handle_timeout`](NodeWorker::handle_timeout) when the time of [`poll_timeout`](NodeWorker::poll_timeout) has passed.
#[derive(Debug)]
pub struct NodeWorker {
    node: Arc<Node>,
    worker: WorkerId,
    /// The events of one turn. Empty between turns.
    events: Vec<ChannelEvent>,
    /// Whether events may be left. No wake follows for them.
    has_unread: bool,
    /// The cost of the events that were handed over since all messages were last written.
    cost: u64,
    /// When something may expire.
    expiry: Option<Instant>,
}

impl NodeWorker {
    pub(crate) fn new(node: Arc<Node>, index: usize) -> NodeWorker {
        // A plan has at most `WorkerId::MAX_WORKERS` workers.
        let worker = WorkerId::new(index).unwrap_or_default();
        NodeWorker { node, worker, events: Vec::new(), has_unread: false, cost: 0, expiry: None }
    }

    /// Begins to receive events. `wake` makes the runtime call [`read`](NodeWorker::read).
    pub fn start(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        self.node.start_worker(self.worker, wake);
    }

    /// Performs an effect of the worker. The answer to a request to the channels is among the events afterwards, without a wake.
    /// The answer to the check of a token may arrive later, with a wake.
    pub fn execute(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Request(Request { client, command, operation: Operation::CheckToken(check), .. }) => {
                self.node.check_token(self.worker, client, command, &check);
            }
            Effect::Request(request) => self.node.execute(self.worker, request, now),
            Effect::Hook(request) => self.node.ask(self.worker, &request),
        }
    }

    /// Checks a token for a connection of the worker. The verdict may be among the events afterwards, without a wake, or arrive
    /// later, with one.
    pub fn check_token(&mut self, request: CheckRequest) {
        self.node.check_token_of_connection(self.worker, &request);
    }

    /// Performs tasks, and hands events that have arrived to the worker: as many as it handles in about a millisecond. The next
    /// ones follow after the runtime has written all messages, in slices between which it reads.
    pub fn read(&mut self, worker: &mut Worker, now: Instant, recorder: &mut LogAndCounters) {
        for task in self.node.take_tasks(self.worker) {
            match task {
                Task::Revoke(revocation) => _ = worker.revoke(&revocation, now),
                Task::Close(closed) => {
                    let message = WorkerMessage::Peer(PeerMessage::Replace(closed));
                    worker.handle_message(message, now, recorder);
                }
                Task::Command(command) => {
                    // It may close connections, and must not overtake publications that were made before.
                    self.read_all(worker, now, recorder);
                    command.perform(worker, recorder, now);
                }
                Task::Verdict(ticket, verdict) => {
                    worker.handle_message(WorkerMessage::TokenChecked(ticket, verdict), now, recorder);
                }
            }
        }
        if !worker.has_unwritten() {
            self.cost = 0;
        }
        while self.cost < MOST_COST {
            let before = worker.application().visited();
            let count = self.read_some(worker, now, recorder);
            self.cost += worker.application().visited() - before + EVENT_COST * count as u64;
            if !self.has_unread {
                return;
            }
        }
        // More messages would wait in each connection, and be written in large pieces.
        self.has_unread = true;
    }

    /// Hands all events to the worker, in any time. A Close that another thread asks for must not precede a publication that was
    /// made before.
    pub fn read_all(&mut self, worker: &mut Worker, now: Instant, recorder: &mut LogAndCounters) {
        self.read_some(worker, now, recorder);
        while self.has_unread {
            self.read_some(worker, now, recorder);
        }
    }

    /// Returns whether [`read`](NodeWorker::read) has left events. No wake follows for them.
    pub fn has_unread(&self) -> bool {
        self.has_unread
    }

    /// Hands a few events to the worker, and returns their number.
    fn read_some(&mut self, worker: &mut Worker, now: Instant, recorder: &mut LogAndCounters) -> usize {
        self.take_some(now);
        let count = self.events.len();
        for event in self.events.drain(..) {
            worker.handle_message(WorkerMessage::Application(event), now, recorder);
        }
        count
    }

    fn take_some(&mut self, now: Instant) {
        if self.expiry.is_none() && self.node.may_expire(self.worker) {
            self.expiry = Some(now + EXPIRY_INTERVAL);
        }
        self.has_unread = self.node.take_events(self.worker, &mut self.events, FEW);
    }

    /// Returns when to call [`handle_timeout`](NodeWorker::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.expiry
    }

    /// Removes what has expired, if the time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.expiry.is_some_and(|at| at <= now) {
            // Not more often than that, however much expires.
            self.expiry = self.node.expire(self.worker, now).map(|at| at.max(now + EXPIRY_INTERVAL));
        }
    }
}

impl Drop for NodeWorker {
    fn drop(&mut self) {
        self.node.end_worker(self.worker);
    }
}

/// The least time between two searches for what has expired. Nothing that has expired is part of an answer.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// The most events that are taken at once, for which a channel may have many subscribers.
const FEW: usize = 16;

/// The cost of an event in addition to the cost of its subscribers: an encoded message takes as long as this many references to
/// it.
const EVENT_COST: u64 = 32;

/// The most cost of events whose messages are not written. A subscriber costs 1, which takes about 20 ns.
const MOST_COST: u64 = 48 * 1024;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use postern_channels::engine::{ClientRef, Operation, Request};
    use postern_channels::exchange::{HistoryOptions, Publish};
    use postern_channels::namespaces::file;
    use postern_channels::publication::Tags;
    use postern_channels::{Channels, ChannelsConfig};
    use postern_core::model::{ModelRuntime, client_frame};
    use postern_core::{ConnectionId, Key};

    use super::super::node::OPERATIONS;
    use super::*;
    use crate::application::WorkerEffect;
    use crate::hooks::Hooks;
    use crate::log::{Log, LogSettings};

    fn publication(ttl: Duration, channel: &str) -> Publish {
        Publish {
            channel: channel.into(),
            data: b"1".as_slice().into(),
            info: None,
            tags: Tags::default(),
            delta: false,
            time: 0,
            history: Some(HistoryOptions { size: 10, ttl, bytes: usize::MAX, meta_ttl: ttl }),
            key: None,
            version: None,
        }
    }

    fn publish(now: Instant, node: &Node, channel: &str) {
        let publish = publication(Duration::from_secs(60), channel);
        node.batch().with(channel, |exchange, inboxes| exchange.publish_to(publish, None, now, inboxes));
    }

    /// Takes all events, and returns their number.
    fn take(worker: &mut NodeWorker, now: Instant) -> usize {
        let mut count = 0;
        loop {
            worker.take_some(now);
            count += worker.events.drain(..).count();
            if !worker.has_unread {
                return count;
            }
        }
    }

    /// A worker that took events faster than it wrote their messages once wrote them in pieces of many KiB, and a pong waited for
    /// tens of milliseconds.
    #[test]
    fn events_wait_until_the_messages_of_earlier_ones_are_written() {
        let (now, log) = (Instant::now(), Log::start(&LogSettings::default(), io::sink()).unwrap());
        let namespaces = file::parse("[without_namespace]\nallow_subscribe_for_client = true").unwrap();
        let config = Arc::new(ChannelsConfig { namespaces, ..ChannelsConfig::default() });
        let node = Node::new(1, usize::MAX, config.clone(), Hooks::default());
        let mut share = NodeWorker::new(node.clone(), 0);
        share.start(|| {});
        let worker = Worker::with_application(Channels::new(config, 1, now), Arc::default(), 1, now);
        let recorder = LogAndCounters::new(log.worker(0), Hooks::default());
        let mut runtime = ModelRuntime::new(worker, recorder, now);
        let key = runtime.open();
        let request = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUser-ID: 42\r\n\r\n";
        runtime.feed(key, request.as_bytes());
        for command in [r#"{"id":1,"connect":{}}"#, r#"{"id":2,"subscribe":{"channel":"news"}}"#] {
            runtime.feed(key, &client_frame(0x81, command.as_bytes()));
            runtime.handle_all_due();
            while let Some(WorkerEffect::Application(request)) = runtime.worker.poll_effect() {
                share.execute(request, now);
            }
            share.read(&mut runtime.worker, now, &mut runtime.recorder);
            runtime.handle_all_due();
        }
        runtime.take_wire(key);
        let received = |runtime: &mut ModelRuntime<_, _>| {
            runtime.handle_all_due();
            let wire = runtime.take_wire(key);
            wire.windows(6).filter(|bytes| *bytes == b"\"pub\":").count()
        };
        (0..2_000).for_each(|_| publish(now, &node, "news"));
        // The second call reads none.
        for _ in 0..2 {
            share.read(&mut runtime.worker, now, &mut runtime.recorder);
            assert!(runtime.worker.has_unwritten() && share.has_unread());
        }
        let part = MOST_COST.div_ceil((EVENT_COST + 1) * FEW as u64) as usize * FEW;
        assert_eq!(received(&mut runtime), part);
        share.read(&mut runtime.worker, now, &mut runtime.recorder);
        assert_eq!((received(&mut runtime), share.has_unread()), (2_000 - part, false));
    }

    #[test]
    fn publications_of_a_batch_wake_a_worker_once() {
        let (now, wakes) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let node = Node::new(1, usize::MAX, Arc::new(ChannelsConfig::default()), Hooks::default());
        let mut worker = NodeWorker::new(node.clone(), 0);
        let of_worker = wakes.clone();
        worker.start(move || _ = of_worker.fetch_add(1, Ordering::SeqCst));
        let client = ClientRef { key: Key(0), connection: ConnectionId(1) };
        let operation =
            Operation::Subscribe { history: None, recovery: None, presence: None, is_certain: false };
        let request = Request { client, command: 1, channel: "news".into(), operation };
        worker.execute(Effect::Request(request), now);
        assert_eq!(take(&mut worker, now), 1, "the answer");
        // Something may expire now, which has woken the worker once.
        let before = wakes.swap(0, Ordering::SeqCst);
        assert!(before <= 1);
        let mut batch = node.batch();
        for number in 1..=100 {
            let publish = Publish { history: None, ..publication(Duration::ZERO, "news") };
            batch.with("news", |exchange, inboxes| exchange.publish_to(publish, None, now, inboxes));
            let expected = if number < OPERATIONS { 0 } else { 1 };
            assert_eq!(wakes.load(Ordering::SeqCst), expected, "after publication {number}");
        }
        drop(batch);
        assert_eq!(take(&mut worker, now), 100);
        assert_eq!(wakes.load(Ordering::SeqCst), 1, "the worker has not taken the first ones before");
    }

    #[test]
    fn what_other_threads_have_added_expires_without_a_request_of_a_worker() {
        let (start, wakes) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let node = Node::new(2, usize::MAX, Arc::new(ChannelsConfig::default()), Hooks::default());
        let mut workers = [0, 1].map(|index| {
            let (mut worker, wakes) = (NodeWorker::new(node.clone(), index), wakes.clone());
            worker.start(move || _ = wakes.fetch_add(1, Ordering::SeqCst));
            worker
        });
        // In the shares of both, most likely in every shard.
        (0..1_000).for_each(|number| publish(start, &node, &number.to_string()));
        assert_eq!(wakes.load(Ordering::SeqCst), 2, "one for each worker");
        let mut now = start;
        for worker in &mut workers {
            worker.take_some(start);
            while let Some(at) = worker.poll_timeout() {
                now = now.max(at);
                worker.handle_timeout(now);
            }
        }
        assert!(now >= start + Duration::from_secs(60));
        let kept = |channel: &str| node.with(channel, |exchange| exchange.stats().channels);
        assert!((0..1_000).all(|number| kept(&number.to_string()) == 0));
        // Asking has set the flags again, once.
        assert_eq!(wakes.load(Ordering::SeqCst), 4);
    }
}
