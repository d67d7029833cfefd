//! The world of one seed: workers, clients, operators and the time, in one thread.
//!
//! Each event has a time. The next event is the earliest one; events of the same time happen in the order of their creation.
//! Messages between two threads of a real process keep their order, and have any delay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::worker::{
    AdminRequest, OutgoingMessage, PeerMessage, Selector, WorkerEffect, WorkerMessage,
};
use postern_core::{CloseCode, ConnectionId, Worker};

use crate::carrier::Surroundings;
use crate::causes::{explain_close, explain_status};
use crate::client::{Client, State};
use crate::fault::Fault;
use crate::invariants::{Ledger, Violation};
use crate::plan::Plan;
use crate::random::Random;
use crate::shorten::{Options, Part};
use crate::station::{Item, Station};
use crate::trace::{Subject, Trace};

/// The result of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The number of steps: calls of workers, and what clients did.
    pub steps: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// The virtual time until all workers had finished.
    pub time: Duration,
    /// The number of connections.
    pub connections: usize,
    /// The statuses that clients received, and the close codes of connections that ended.
    pub seen: BTreeSet<u16>,
    /// Rare things that have happened. A run that never has one does not test it.
    pub marks: BTreeSet<&'static str>,
    /// The parts of the plan, with those that were left out.
    pub(crate) parts: Vec<Part>,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    world.run();
    Outcome {
        steps: world.trace.steps,
        hash: world.trace.hash(),
        time: world.trace.now,
        connections: world.clients.iter().filter(|client| client.state != State::Absent).count(),
        violation: world.ledger.violation().cloned(),
        seen: world.trace.seen,
        marks: world.marks,
        parts: world.trace.parts,
    }
}

struct World {
    /// The most steps of the run.
    most_steps: u64,
    plan: Plan,
    /// The fault that is planted.
    fault: Option<Fault>,
    random: Random,
    /// The start of virtual time. Only differences to it are used.
    start: Instant,
    trace: Trace,
    ledger: Ledger,
    stations: Vec<Station>,
    clients: Vec<Client>,
    events: BTreeMap<(Duration, u64), Event>,
    /// The number of events until now.
    created: u64,
    /// The number of events of the plan until now.
    planned: usize,
    /// The time of the last message between each two threads. The last thread belongs to the acceptor and the
    /// operators.
    arrivals: Vec<Duration>,
    /// The number of messages that have not reached an inbox.
    in_transit: usize,
    /// The number of requests that found an inbox full.
    refused: u64,
    marks: BTreeSet<&'static str>,
    phase: Phase,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Event {
    /// A client connects to this worker.
    Arrive {
        client: usize,
        worker: usize,
    },
    /// A client reads, writes or acts.
    Client(usize),
    /// A worker runs.
    Worker(usize),
    /// A message reaches the inbox of a worker.
    Deliver {
        worker: usize,
        item: Item,
    },
    /// An operator sends a request to all workers.
    Operate,
    /// The log accepts no records, or accepts them again.
    SetLogFull(bool),
    /// No more faults: everything that is on its way must arrive.
    Heal,
    /// Stop if all clients are at rest.
    Check,
    Stop,
    /// All workers must have finished.
    Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Chaos,
    Healing,
    Stopping,
}

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        // The only use of a clock: an `Instant` cannot be created in another way.
        let start = Instant::now();
        let station = |number, random: &mut Random| {
            let config = Arc::new(plan.config.share(number, plan.workers));
            let slice = config.fanout_slice;
            Station::new(number, Worker::new(config, random.number(), start), slice, plan.inbox_limit)
        };
        let mut world = World {
            most_steps: options.most_steps.unwrap_or(MOST_STEPS),
            fault: options.fault,
            start,
            trace: Trace::new(options),
            ledger: Ledger::new(plan.clients),
            stations: (0..plan.workers).map(|number| station(number, &mut random)).collect(),
            clients: (0..plan.clients)
                .map(|number| {
                    let portion = plan.read_buffer.min(plan.socket_buffer);
                    Client::new(number, plan.names, plan.socket_buffer, portion, random.fork())
                })
                .collect(),
            events: BTreeMap::new(),
            created: 0,
            planned: 0,
            arrivals: vec![Duration::ZERO; plan.workers * (plan.workers + 1)],
            in_transit: 0,
            refused: 0,
            marks: BTreeSet::new(),
            phase: Phase::Chaos,
            buffer: vec![0; plan.read_buffer],
            random,
            plan,
        };
        world.fill();
        world
    }

    /// Creates the events that the plan determines.
    fn fill(&mut self) {
        let chaos = self.plan.chaos.as_micros() as usize;
        for client in 0..self.plan.clients {
            let worker = self.random.within(0..=self.plan.workers - 1);
            let at = self.random.micros(1..=chaos);
            let what = format_args!("client {} arrives at {at:?} at worker {worker}", client + 1);
            if self.plan_event(at, Event::Arrive { client, worker }, what) {
                self.clients[client].plan_script(&mut self.trace);
            }
        }
        for _ in 0..self.plan.requests {
            let at = Duration::from_micros(self.random.within(1..=chaos) as u64);
            self.plan_event(at, Event::Operate, format_args!("an operator sends a request at {at:?}"));
        }
        for _ in 0..self.plan.log_stalls {
            let at = self.random.micros(1..=chaos);
            let until = at + self.random.micros(100..=4_000_000);
            let what = format_args!("the log is full from {at:?} to {until:?}");
            if self.plan_event(at, Event::SetLogFull(true), what) {
                self.add(until, Event::SetLogFull(false));
            }
        }
        self.add(self.plan.chaos, Event::Heal);
        if let Some(at) = self.plan.stops_at {
            self.plan_event(at, Event::Stop, format_args!("the workers stop at {at:?}"));
        }
    }

    /// Adds an event of the plan. Returns false if it is left out.
    fn plan_event(&mut self, at: Duration, event: Event, what: fmt::Arguments<'_>) -> bool {
        let is_kept = self.trace.plan((0, self.planned), what);
        self.planned += 1;
        if is_kept {
            self.add(at, event);
        }
        is_kept
    }

    fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.trace.now = at;
            self.handle(event);
            if self.ledger.violation().is_some() {
                return;
            }
            if self.trace.steps > self.most_steps {
                return self.ledger.report(None, "the run does not end");
            }
        }
        let may_be_evicted = self.plan.config.max_memory < usize::MAX;
        for client in &self.clients {
            client.check_end(may_be_evicted, &mut self.ledger);
        }
        if self.stations.iter().map(|station| station.inbox.refused()).sum::<u64>() != self.refused {
            self.ledger.report(None, "another number of refused requests is counted");
        }
        if self.plan.users.as_ref().is_some_and(|users| users.len() > 0) {
            self.ledger.report(None, "users are counted although there are no connections");
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { client, worker } => self.arrive(client, worker),
            Event::Client(client) => self.step_client(client),
            Event::Worker(worker) => self.turn(worker),
            Event::Deliver { worker, item } => self.deliver(worker, item),
            Event::Operate => self.operate(),
            Event::SetLogFull(is_full) => {
                self.trace.step(Subject::World, "the log is full", is_full.into());
                self.ledger.is_log_full = is_full;
                (0..self.plan.workers).for_each(|worker| self.wake(worker, self.trace.now));
            }
            Event::Heal => self.heal(),
            Event::Check => self.check_rest(),
            Event::Stop => self.stop(),
            Event::Deadline => {
                if !self.stations.iter().all(|station| station.is_finished) {
                    self.ledger.report(None, "a worker does not finish");
                }
            }
        }
    }

    fn arrive(&mut self, client: usize, worker: usize) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.trace.step(Subject::Client(client), "connects to worker", worker);
        self.clients[client].state = State::Present;
        self.send_from_outside(worker, Item::Open(client));
        self.schedule(client);
    }

    fn step_client(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if this.wakes_at != Some(self.trace.now) {
            return;
        }
        this.wakes_at = None;
        this.step(&mut self.ledger, &mut self.trace);
        self.check_client(client);
        self.schedule(client);
        for worker in 0..self.plan.workers {
            if self.stations[worker].carrier.parties().any(|(_, other)| other == client) {
                self.wake(worker, self.trace.now);
            }
        }
    }

    /// Checks that the answer and the Close that a client has received have a cause.
    fn check_client(&mut self, client: usize) {
        let is_stopping = self.phase == Phase::Stopping;
        let this = &self.clients[client];
        let (plan, connection) = (&self.plan, this.connection());
        let is_explained = this.status().is_none_or(|status| explain_status(status, this, plan, is_stopping));
        self.ledger.check(is_explained, connection, "the status of the answer has no cause");
        let Some(code) = this.received_close() else { return };
        let is_explained = explain_close(code, this, plan, is_stopping);
        self.ledger.check(is_explained, connection, "the code of the Close has no cause");
        let is_counted = plan.users.as_ref().is_some_and(|users| users.counts(&this.user, connection));
        self.ledger.check(!is_counted, connection, "it counts for its user after its Close");
    }

    /// Creates the event of a client's next step.
    fn schedule(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let Some(at) = this.next_step(self.trace.now) else { return };
        if this.wakes_at.is_none_or(|other| at < other) {
            this.wakes_at = Some(at);
            self.add(at, Event::Client(client));
        }
    }

    /// Creates the event of a worker's next turn, some time after `at`.
    fn wake(&mut self, worker: usize, at: Duration) {
        let mut delay = self.random.micros(1..=200);
        if self.plan.has_stalls && self.phase != Phase::Healing && self.random.one_in(400) {
            delay = self.random.micros(100_000..=LONGEST_STALL.as_micros() as usize);
        }
        let station = &mut self.stations[worker];
        if !station.is_finished && station.wakes_at.is_none_or(|other| at + delay < other) {
            station.wakes_at = Some(at + delay);
            self.add(at + delay, Event::Worker(worker));
        }
    }

    fn turn(&mut self, worker: usize) {
        let station = &mut self.stations[worker];
        if station.wakes_at != Some(self.trace.now) || station.is_finished {
            return;
        }
        station.wakes_at = None;
        let (effects, clients) = station.turn(&mut Surroundings {
            start: self.start,
            parties: &mut self.clients,
            records: &mut self.ledger,
            trace: &mut self.trace,
            random: &mut self.random,
            buffer: &mut self.buffer,
        });
        for effect in effects {
            match effect {
                WorkerEffect::ToPeer(_, PeerMessage::Replace(_))
                    if self.fault == Some(Fault::LostReplacement) => {}
                WorkerEffect::ToPeer(other, message) => {
                    self.trace.step(Subject::Worker(worker), "sends a message to worker", other);
                    self.send(worker, other, Item::Message(WorkerMessage::Peer(message)));
                }
                WorkerEffect::CheckToken(_) => self.trace.step(Subject::Worker(worker), "checks a token", 0),
            }
        }
        for client in clients {
            self.schedule(client);
        }
        let station = &mut self.stations[worker];
        if station.is_finished {
            self.trace.step(Subject::Worker(worker), "has finished", 0);
            let mut items = Vec::new();
            station.inbox.take(&mut items);
            for (_, item) in items {
                Station::turn_away(&item, &mut self.clients);
            }
        } else if let Some(at) = station.carrier.next_turn(&self.clients, self.start, self.trace.now) {
            self.wake(worker, at);
        }
    }

    fn deliver(&mut self, worker: usize, item: Item) {
        self.in_transit -= 1;
        if self.stations[worker].is_finished {
            return Station::turn_away(&item, &mut self.clients);
        }
        if !self.stations[worker].deliver(item, self.fault == Some(Fault::LostMessage)) {
            self.refused += 1;
            self.marks.insert("inbox full");
            self.trace.step(Subject::Worker(worker), "refuses a request, because its inbox is full", 0);
        }
        self.wake(worker, self.trace.now);
    }

    fn send_from_outside(&mut self, worker: usize, item: Item) {
        self.send(self.plan.workers, worker, item);
    }

    /// Sends a message from one thread to another.
    fn send(&mut self, from: usize, to: usize, item: Item) {
        let at = self.trace.now + self.random.micros(1..=LONGEST_DELAY.as_micros() as usize);
        let last = &mut self.arrivals[from * self.plan.workers + to];
        *last = at.max(*last);
        let at = *last;
        self.in_transit += 1;
        self.add(at, Event::Deliver { worker: to, item });
    }

    fn operate(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let random = &mut self.random;
        let selector = match random.within(0..=3) {
            0 | 1 => Selector::All,
            2 => Selector::User(format!("user{}", random.within(1..=self.plan.names))),
            _ => Selector::Connection(ConnectionId(random.within(1..=self.plan.clients) as u64)),
        };
        let request = match random.within(0..=7) {
            0 if !random.one_in(3) => {
                let code = CloseCode(random.pick([1000, 4000, 4999]));
                AdminRequest::Disconnect { selector, code, reason: "asked by an operator".to_owned() }
            }
            0 | 1 => AdminRequest::List { selector, after: ConnectionId(0), limit: usize::MAX },
            2 => AdminRequest::Totals,
            3 => random.pick([AdminRequest::Load, AdminRequest::Probe].each_ref()).clone(),
            _ => {
                let text = format!("operator {:x} ", random.number());
                let text = text.repeat(random.magnitude(1..=600));
                let message = if random.one_in(2) {
                    OutgoingMessage::Text(text)
                } else {
                    OutgoingMessage::Binary(text.into_bytes())
                };
                AdminRequest::Send { selector, message }
            }
        };
        let request = Rc::new(request);
        self.trace.step(Subject::World, "an operator sends a request", 0);
        for worker in 0..self.plan.workers {
            self.send_from_outside(worker, Item::Request(request.clone()));
        }
    }

    fn heal(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.trace.step(Subject::World, "no more faults", 0);
        self.phase = Phase::Healing;
        for client in 0..self.clients.len() {
            self.clients[client].is_hasty = true;
            self.schedule(client);
        }
        self.add(self.trace.now + CHECK, Event::Check);
    }

    /// Stops if nothing is on its way any more. Then the number of connections of each user must be within the limit.
    fn check_rest(&mut self) {
        if self.phase != Phase::Healing {
            return;
        }
        let has_messages =
            self.in_transit > 0 || self.stations.iter().any(|station| !station.inbox.is_empty());
        let ledger = &mut self.ledger;
        let restless = self.clients.iter().find(|client| !client.is_at_rest(ledger));
        if restless.is_none() && !has_messages {
            self.check_users();
            self.check_memory();
            return self.stop();
        }
        if self.trace.now > self.plan.chaos + LONGEST_HEALING {
            let connection = restless.map(Client::connection);
            self.ledger.report(connection, "a message or the end of a connection never arrives");
        }
        self.add(self.trace.now + CHECK, Event::Check);
    }

    fn check_users(&mut self) {
        let Some(users) = &self.plan.users else { return };
        let mut open: Vec<&str> = Vec::new();
        for station in &self.stations {
            let is_open = |key| station.carrier.worker.status(key).is_some_and(|status| status.is_open);
            let clients = station.carrier.parties().filter(|(key, _)| is_open(*key));
            open.extend(clients.map(|(_, client)| self.clients[client].user.as_str()));
        }
        if open.len() != users.len() {
            self.ledger.report(None, "another number of connections is counted for users than is open");
        }
        if open.iter().any(|user| open.iter().filter(|other| *other == user).count() > users.most()) {
            self.ledger.report(None, "a user has more connections than the limit");
        }
    }

    /// Connections that are idle need no memory.
    fn check_memory(&mut self) {
        for station in &self.stations {
            let are_idle = station.carrier.parties().all(|(_, client)| self.clients[client].is_idle());
            if are_idle && station.carrier.worker.memory_held() > 0 {
                self.ledger.report(None, "memory is counted although all connections are idle");
            }
        }
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopping;
        let message = match self.plan.spread {
            Some(spread) => WorkerMessage::Drain(spread),
            None => WorkerMessage::Close,
        };
        self.trace.step(Subject::World, "stops", 0);
        for worker in 0..self.plan.workers {
            self.send_from_outside(worker, Item::Message(message.clone()));
            if self.plan.spread.is_some() && self.plan.may_close_at_once && self.random.one_in(2) {
                self.send_from_outside(worker, Item::Message(WorkerMessage::Close));
            }
        }
        let session = &self.plan.config.session;
        let longest = self.plan.spread.unwrap_or_default()
            + session.write_timeout
            + session.close_timeout
            + self.plan.config.handshake.timeout
            + 3 * LONGEST_STALL
            + LONGEST_DELAY
            + Duration::from_secs(10);
        self.add(self.trace.now + longest, Event::Deadline);
    }

    fn add(&mut self, at: Duration, event: Event) {
        self.created += 1;
        self.events.insert((at, self.created), event);
    }
}

/// The most steps of a run.
const MOST_STEPS: u64 = 500_000;

/// The longest time of a message between two threads.
const LONGEST_DELAY: Duration = Duration::from_millis(500);

/// The longest time for which a worker does not run.
const LONGEST_STALL: Duration = Duration::from_secs(3);

/// The time between two checks of whether all clients are at rest.
const CHECK: Duration = Duration::from_millis(500);

/// The longest time until all clients are at rest.
const LONGEST_HEALING: Duration = Duration::from_secs(120);
