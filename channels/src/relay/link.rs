//! The connections of a node to Redis: when they are opened, what is sent on them, when they are given up.
//!
//! A [`Link`] decides; a driver has the sockets. The driver performs each [`Action`], and reports what happens by
//! [`handle_connected`](Link::handle_connected), [`handle_reply`](Link::handle_reply), [`handle_message`](Link::handle_message)
//! and [`handle_failed`](Link::handle_failed). Each attempt to connect has a number, so a report of an earlier attempt is
//! ignored.
//!
//! ```text
//!  Closed ──pause──► Connecting ──► Opening ──────────► Open ─────────────► (all subscriptions confirmed: live)
//!    ▲                   │          ROLE, INFO,           │ SUBSCRIBE in batches of 512
//!    └───── any failure ─┴───────── SCRIPT LOAD ──────────┘ probes, deadlines
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Cause, Command, Failure, Place, Reply, Topic};
use crate::random::Random;

/// The limits of a [`Link`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// The number of this node, which is different for each start of a process. Probes are messages to its topic.
    pub node: u64,
    /// The time for a reply, and for the start of a connection.
    pub timeout: Duration,
    /// The time without a message after which a probe is sent, and the time for its arrival.
    pub probe: Duration,
    /// The most bytes of commands that wait for replies.
    pub queue: usize,
}

/// The number of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The number of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(u64);

/// A task of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open both connections.
    Connect(Attempt),
    /// Close the connections of an attempt.
    Close(Attempt),
    /// Send a command. Commands of a [`Place`] keep their order.
    Send(Attempt, Ticket, Arc<Command>),
}

/// An event of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkEvent {
    /// Commands can be sent.
    Up,
    /// The connections are lost, or an attempt has failed. Commands without a reply have none.
    Down(Failure),
    /// Messages of a topic arrive from now on.
    Subscribed(Topic),
    /// All topics that were wanted when the connections were opened are subscribed.
    Resubscribed,
    /// The result of a command.
    Reply(Ticket, Result<Reply, Failure>),
    /// A command whose reply was late has found that the server had lost the lease.
    LeaseLost,
}

/// Figures of a link since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkStats {
    /// Whether all subscriptions are confirmed.
    pub is_live: bool,
    /// Lost connections and failed attempts, in the order of [`Cause::ALL`].
    pub failures: [u64; Cause::ALL.len()],
    /// Connections that were opened.
    pub connections: u64,
    /// Probes that have not arrived.
    pub lost_probes: u64,
    /// Commands that wait for replies.
    pub in_flight: usize,
    /// Topics that are subscribed or shall be.
    pub topics: usize,
    /// Replies that have not arrived in time.
    pub timeouts: u64,
    /// Scripts that the server did not know.
    pub reloads: u64,
}

/// The state machine of the connections. The module describes its use.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    state: State,
    attempt: Attempt,
    /// Attempts that have failed since the link was last open.
    failed: u32,
    /// The last number of a command.
    last: u64,
    /// The commands without a reply.
    sent: BTreeMap<Ticket, Sent>,
    /// The memory of these commands, and of those that are held.
    bytes: usize,
    /// When commands without a reply are late, in their order. Commands that have a reply may be among them.
    deadlines: VecDeque<(Instant, Ticket)>,
    /// Late replies since the last reply that was not late.
    late: u32,
    topics: BTreeMap<Topic, Subscription>,
    /// Topics that are not subscribed yet. Some may be gone from `topics`.
    wanted: VecDeque<Topic>,
    unwanted: BTreeSet<Topic>,
    /// `SUBSCRIBE` and `UNSUBSCRIBE` without a reply.
    batches: usize,
    /// The scripts are being loaded again, and commands wait for it.
    held: Option<Held>,
    /// The history of replication of the server.
    replication: Arc<str>,
    /// When something has last arrived on the connection of messages.
    heard: Instant,
    /// When the probe that was sent must have arrived.
    probe: Option<Instant>,
    is_resubscribed: bool,
    random: Random,
    actions: VecDeque<Action>,
    events: VecDeque<LinkEvent>,
    stats: LinkStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection until the time.
    Closed(Instant),
    /// The driver opens connections, and must have done so at the time.
    Connecting(Instant),
    /// The server is asked what it is. The number of replies that are missing.
    Opening(usize),
    /// Commands can be sent.
    Open,
}

#[derive(Debug)]
struct Sent {
    command: Arc<Command>,
    /// Whether the link itself has sent it.
    is_own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    Wanted,
    Sent(Ticket),
    Confirmed,
}

/// The commands that wait until the scripts are loaded, in their order.
#[derive(Debug, Default)]
struct Held {
    /// Those that have failed.
    failed: Vec<(Ticket, Sent)>,
    /// Those that were submitted later.
    new: Vec<(Ticket, Sent)>,
}

impl Link {
    /// Creates a link, which connects at once. `seed` is random.
    pub fn new(config: LinkConfig, seed: u128, now: Instant) -> Link {
        let mut link = Link {
            state: State::Closed(now),
            attempt: Attempt(0),
            failed: 0,
            last: 0,
            sent: BTreeMap::new(),
            bytes: 0,
            deadlines: VecDeque::new(),
            late: 0,
            topics: BTreeMap::new(),
            wanted: VecDeque::new(),
            unwanted: BTreeSet::new(),
            batches: 0,
            held: None,
            replication: "".into(),
            heard: now,
            probe: None,
            is_resubscribed: false,
            random: Random::new(seed),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: LinkStats::default(),
            config,
        };
        link.subscribe(Topic::Node(link.config.node));
        link.subscribe(Topic::Control);
        link
    }

    /// Returns whether commands can be sent.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Returns whether an attempt has failed, and none has succeeded since.
    pub fn is_down(&self) -> bool {
        self.failed > 0 && !self.is_open()
    }

    /// Returns the history of replication of the server.
    pub fn replication(&self) -> &Arc<str> {
        &self.replication
    }

    /// Returns figures.
    pub fn stats(&self) -> LinkStats {
        LinkStats {
            is_live: self.is_open() && self.is_resubscribed,
            in_flight: self.sent.len(),
            topics: self.topics.len(),
            ..self.stats
        }
    }

    /// Returns whether messages of a topic arrive.
    pub fn is_subscribed(&self, topic: &Topic) -> bool {
        self.topics.get(topic) == Some(&Subscription::Confirmed)
    }

    /// Sends a command, whose reply is an event.
    ///
    /// # Errors
    /// There is no connection, or too many commands wait for replies.
    pub(super) fn submit(&mut self, command: Command, now: Instant) -> Result<Ticket, Failure> {
        if !self.is_open() {
            return Err(Failure::new(Cause::Down, "not connected to Redis"));
        }
        if self.bytes >= self.config.queue {
            return Err(Failure::new(Cause::Busy, "too many commands wait for replies of Redis"));
        }
        Ok(self.send(command, false, now))
    }

    /// Subscribes to a topic, now and after each new connection.
    pub(super) fn subscribe(&mut self, topic: Topic) {
        if let Entry::Vacant(entry) = self.topics.entry(topic) {
            self.wanted.push_back(entry.key().clone());
            entry.insert(Subscription::Wanted);
        }
    }

    /// Ends the subscription of a topic.
    pub(super) fn unsubscribe(&mut self, topic: &Topic) {
        match self.topics.remove(topic) {
            Some(Subscription::Sent(_) | Subscription::Confirmed) if self.is_open() => {
                self.unwanted.insert(topic.clone());
            }
            Some(_) | None => {}
        }
    }

    /// Both connections of an attempt are open.
    pub fn handle_connected(&mut self, attempt: Attempt, now: Instant) {
        if attempt != self.attempt || !matches!(self.state, State::Connecting(_)) {
            return;
        }
        let commands = [Command::Role, Command::Replication, Command::LoadScripts];
        self.state = State::Opening(commands.len());
        for command in commands {
            self.send(command, true, now);
        }
    }

    /// An attempt to connect has failed, or a connection has ended.
    pub fn handle_failed(&mut self, attempt: Attempt, failure: Failure, now: Instant) {
        if attempt == self.attempt && !matches!(self.state, State::Closed(_)) {
            self.fail(failure, now);
        }
    }

    /// Something has arrived on the connection of messages. The driver also passes the message on. Returns whether it belongs to
    /// the current attempt.
    pub fn handle_message(&mut self, attempt: Attempt, now: Instant) -> bool {
        if attempt != self.attempt || matches!(self.state, State::Closed(_)) {
            return false;
        }
        self.heard = now;
        self.probe = None;
        true
    }

    /// The reply to a command has arrived.
    pub fn handle_reply(
        &mut self,
        attempt: Attempt,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        now: Instant,
    ) {
        if attempt != self.attempt {
            return;
        }
        let Some(sent) = self.sent.remove(&ticket) else {
            // A late reply has no command. But the server has the lease again, so no other reply will say that it was lost.
            if result.is_ok_and(|reply| reply.has_lost_lease()) {
                self.events.push_back(LinkEvent::LeaseLost);
            }
            return;
        };
        self.late = 0;
        self.bytes = self.bytes.saturating_sub(sent.command.memory());
        match &result {
            Err(failure) if failure.cause == Cause::NoScript => {
                self.stats.reloads += 1;
                if self.held.is_none() {
                    self.send(Command::LoadScripts, true, now);
                }
                let held = self.held.get_or_insert_default();
                // Another node may have loaded the scripts in between, so a later command may have been executed. The presence is
                // written as it is then.
                if matches!(*sent.command, Command::AddPresence(_) | Command::RemovePresence(_)) {
                    return self.events.push_back(LinkEvent::Reply(ticket, result));
                }
                self.bytes += sent.command.memory();
                return held.failed.push((ticket, sent));
            }
            Err(failure) if failure.cause.ends_link() || sent.is_own => {
                let failure = failure.clone();
                if !sent.is_own {
                    self.events.push_back(LinkEvent::Reply(ticket, result));
                }
                return self.fail(failure, now);
            }
            Ok(_) | Err(_) => {}
        }
        if !sent.is_own {
            return self.events.push_back(LinkEvent::Reply(ticket, result));
        }
        match (&*sent.command, result) {
            (Command::Role, Ok(Reply::Role { is_master: false })) => {
                return self.fail(Failure::new(Cause::Replica, "the server is a replica"), now);
            }
            (Command::Replication, Ok(Reply::Replication(replication))) => self.replication = replication,
            (Command::Subscribe(topics), Ok(_)) => {
                self.batches = self.batches.saturating_sub(1);
                self.heard = now;
                topics.iter().for_each(|topic| self.confirm(topic, ticket));
                return self.note_resubscribed();
            }
            (Command::Unsubscribe(_), Ok(_)) => {
                self.batches = self.batches.saturating_sub(1);
                return self.note_resubscribed();
            }
            (Command::LoadScripts, Ok(_)) if self.is_open() => return self.release(now),
            (_, Ok(_) | Err(_)) => {}
        }
        if let State::Opening(missing) = &mut self.state {
            *missing -= 1;
            if *missing == 0 {
                self.open(now);
            }
        }
    }

    /// Returns what to do next.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.is_open() && (!self.wanted.is_empty() || !self.unwanted.is_empty()) {
            self.send_subscriptions(now);
        }
        self.actions.pop_front()
    }

    /// Returns what has happened.
    pub(super) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Link::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let late = self.deadlines.front().map(|&(at, _)| at);
        match self.state {
            State::Closed(until) => Some(until),
            State::Connecting(deadline) => Some(deadline),
            State::Opening(_) => late,
            State::Open => {
                let probe = self.probe.or(self.heard.checked_add(self.config.probe));
                late.into_iter().chain(probe).min()
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Closed(until) if until <= now => {
                self.attempt = Attempt(self.attempt.0 + 1);
                self.state = State::Connecting(now + self.config.timeout * CONNECT_TIMEOUTS);
                self.actions.push_back(Action::Connect(self.attempt));
            }
            State::Connecting(deadline) if deadline <= now => {
                self.fail(Failure::new(Cause::Timeout, "no connection in time"), now);
            }
            State::Closed(_) | State::Connecting(_) => {}
            State::Opening(_) | State::Open => {
                self.handle_late(now);
                if self.is_open() {
                    self.handle_silence(now);
                }
            }
        }
    }

    /// Opens the link, and subscribes to all topics again.
    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.failed = 0;
        self.late = 0;
        self.heard = now;
        self.stats.connections += 1;
        self.wanted = self.topics.keys().cloned().collect();
        self.events.push_back(LinkEvent::Up);
    }

    fn confirm(&mut self, topic: &Topic, ticket: Ticket) {
        if let Some(subscription) = self.topics.get_mut(topic)
            && *subscription == Subscription::Sent(ticket)
        {
            *subscription = Subscription::Confirmed;
            self.events.push_back(LinkEvent::Subscribed(topic.clone()));
        }
    }

    fn note_resubscribed(&mut self) {
        if !self.is_resubscribed && self.wanted.is_empty() && self.batches == 0 {
            self.is_resubscribed = true;
            self.events.push_back(LinkEvent::Resubscribed);
        }
    }

    /// Sends `SUBSCRIBE` and `UNSUBSCRIBE` in batches, a few at a time.
    fn send_subscriptions(&mut self, now: Instant) {
        while self.batches < BATCHES {
            // A topic that is wanted again is subscribed after that.
            let topics: Vec<Topic> = std::iter::from_fn(|| self.unwanted.pop_first()).take(BATCH).collect();
            if !topics.is_empty() {
                self.batches += 1;
                self.send(Command::Unsubscribe(topics), true, now);
                continue;
            }
            let mut topics = Vec::new();
            while topics.len() < BATCH
                && let Some(topic) = self.wanted.pop_front()
            {
                if self.topics.get(&topic) == Some(&Subscription::Wanted) {
                    topics.push(topic);
                }
            }
            if topics.is_empty() {
                // Those that were left are not wanted any more.
                return self.note_resubscribed();
            }
            self.batches += 1;
            let ticket = self.send(Command::Subscribe(topics.clone()), true, now);
            for topic in topics {
                self.topics.insert(topic, Subscription::Sent(ticket));
            }
        }
    }

    fn send(&mut self, command: Command, is_own: bool, now: Instant) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let sent = Sent { command: Arc::new(command), is_own };
        self.bytes += sent.command.memory();
        let is_held = !is_own && sent.command.place() == Place::Commands;
        match self.held.as_mut().filter(|_| is_held) {
            Some(held) => held.new.push((ticket, sent)),
            None => self.dispatch(ticket, sent, now),
        }
        ticket
    }

    fn dispatch(&mut self, ticket: Ticket, sent: Sent, now: Instant) {
        // A batch of subscriptions, or all scripts, may take a little longer.
        self.deadlines.push_back((now + self.config.timeout, ticket));
        self.actions.push_back(Action::Send(self.attempt, ticket, sent.command.clone()));
        self.sent.insert(ticket, sent);
    }

    /// Sends the commands that have waited for the scripts.
    fn release(&mut self, now: Instant) {
        let Some(Held { failed, new }) = self.held.take() else { return };
        failed.into_iter().chain(new).for_each(|(ticket, sent)| self.dispatch(ticket, sent, now));
    }

    /// Fails the commands whose replies are late.
    fn handle_late(&mut self, now: Instant) {
        while let Some(&(at, ticket)) = self.deadlines.front() {
            if at > now && self.sent.contains_key(&ticket) {
                return;
            }
            self.deadlines.pop_front();
            let Some(sent) = self.sent.remove(&ticket) else { continue };
            self.bytes = self.bytes.saturating_sub(sent.command.memory());
            self.stats.timeouts += 1;
            self.late += 1;
            let failure = Failure::new(Cause::Timeout, "no reply in time");
            if !sent.is_own {
                self.events.push_back(LinkEvent::Reply(ticket, Err(failure.clone())));
            }
            if sent.is_own || self.late >= MOST_LATE {
                return self.fail(failure, now);
            }
        }
    }

    /// Sends a probe if nothing has arrived for some time, and gives the connection up if it does not arrive.
    fn handle_silence(&mut self, now: Instant) {
        match self.probe {
            Some(deadline) if deadline <= now => {
                self.stats.lost_probes += 1;
                let text = "a message that the server has accepted did not arrive";
                self.fail(Failure::new(Cause::Undelivered, text), now);
            }
            Some(_) => {}
            None if self.heard + self.config.probe <= now => {
                self.probe = Some(now + self.config.probe);
                let topic = Topic::Node(self.config.node);
                self.send(Command::Send { topic, message: PROBE.into() }, true, now);
            }
            None => {}
        }
    }

    /// Gives up the connections. The next attempt follows after a pause.
    fn fail(&mut self, failure: Failure, now: Instant) {
        self.actions.retain(|action| matches!(action, Action::Close(_)));
        self.actions.push_back(Action::Close(self.attempt));
        self.failed = self.failed.saturating_add(1);
        if let Some(count) = self.stats.failures.get_mut(failure.cause as usize) {
            *count += 1;
        }
        self.sent.clear();
        self.deadlines.clear();
        self.held = None;
        self.bytes = 0;
        self.batches = 0;
        self.probe = None;
        self.is_resubscribed = false;
        self.wanted.clear();
        self.unwanted.clear();
        self.topics.values_mut().for_each(|subscription| *subscription = Subscription::Wanted);
        self.state = State::Closed(now + self.pause(failure.cause));
        self.events.push_back(LinkEvent::Down(failure));
    }

    /// Returns the time before the next attempt: exponential backoff with full jitter, so that the nodes of a cluster do not
    /// connect at the same time.
    fn pause(&mut self, cause: Cause) -> Duration {
        if cause.needs_operator() {
            return OPERATOR_PAUSE;
        }
        let doublings = self.failed.saturating_sub(1).min(10);
        let most = (LEAST_PAUSE * (1 << doublings)).min(MOST_PAUSE);
        most.mul_f64(self.random.next() as f64 / u64::MAX as f64)
    }
}

/// The text of a probe.
pub(super) const PROBE: &[u8] = b"probe";

/// The most topics of a command: few enough that the server is not busy for long with one.
const BATCH: usize = 512;

/// The most batches without a reply.
const BATCHES: usize = 4;

/// Replies that are late one after the other until the connections are given up.
const MOST_LATE: u32 = 3;

/// The time for a connection with its TLS handshake and login, as a multiple of the time for a reply.
const CONNECT_TIMEOUTS: u32 = 3;

/// The longest pause after one failure. It doubles with each.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// The pause while an operator has to change something.
const OPERATOR_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
