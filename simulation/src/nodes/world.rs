//! The world of one seed: nodes with their workers, clients, the engine, a backend, and faults of all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::client::Client;
use super::engine::{Due, Engine, Way};
use super::limits::Limits;
use super::node::Node;
use super::plan::{EngineFault, Plan, user_limit, user_name};
use super::session::{Session, View};
use super::station::Records;
use super::truth::Truth;
use crate::carrier::Surroundings;
use crate::fault::Fault;
use crate::invariants::Violation;
use crate::random::Random;
use crate::sdk::State;
use crate::shorten::Options;
use crate::trace::{Subject, Trace};
use crate::world::Outcome;

use postern_channels::relay::WhenDown;
use postern_channels::relay::link::Attempt;
use postern_core::ConnectionId;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    let violation = world.run().err();
    Outcome {
        steps: world.trace.steps,
        hash: world.trace.hash(),
        time: world.trace.now,
        connections: world.sessions.len(),
        violation: violation.map(|(session, what)| Violation::new(session.map(connection), what)),
        seen: world.trace.seen,
        marks: world.truth.marks,
        parts: world.trace.parts,
    }
}

pub(super) struct World {
    /// The most steps of the run.
    most_steps: u64,
    pub(super) plan: Plan,
    pub(super) random: Random,
    /// The start of virtual time. Only differences to it are used.
    pub(super) start: Instant,
    pub(super) trace: Trace,
    pub(super) truth: Truth,
    records: Records,
    pub(super) nodes: Vec<Node>,
    /// When the bytes of a node arrive again.
    pub(super) stalls: Vec<Duration>,
    pub(super) clients: Vec<Client>,
    pub(super) sessions: Vec<Session>,
    pub(super) engine: Engine,
    pub(super) backend: Backend,
    pub(super) limits: Limits,
    events: BTreeMap<(Duration, u64), Event>,
    created: u64,
    pub(super) phase: Phase,
    /// When the phase has begun.
    pub(super) since: Duration,
    lives: u64,
    pub(super) fault: Option<Fault>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Event {
    Connect(usize),
    Client(usize),
    /// A turn of a worker of a node.
    Worker(usize, usize),
    /// A turn of the thread of a node's relay.
    Relay(usize),
    /// The connections of an attempt of a node are open, or cannot be opened.
    Open(usize, u64, Attempt),
    /// Bytes arrive: connection, which of both, direction.
    Bytes(u64, usize, Way),
    /// A server learns that a connection is closed.
    Forget(u64),
    /// A backend publishes: the index of the publication if it is tried again.
    Publish(Option<usize>),
    RemoveHistory,
    Command,
    /// A node has performed a command.
    Performed(usize, u64, postern_channels::relay::CommandId),
    Fault(EngineFault),
    /// The end of a fault.
    End(EngineFault),
    Replicate,
    Save,
    /// The end of streams that have expired.
    Expire,
    /// No more faults.
    Heal,
    /// Stop if nothing is on its way.
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Chaos,
    /// Everything must come to rest.
    Healing,
    /// The last publications must arrive.
    Final,
    /// All clients leave, and nothing must be left of them.
    Leaving,
    Done,
}

/// A broken promise, and the session of the client, if it is about one.
pub(super) type Broken = (Option<usize>, &'static str);

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed ^ 0x6e6f_6465);
        let mut plan = Plan::new(&mut random);
        plan.relay.user_limit = user_limit(&mut Random::new(seed ^ 0x75736572));
        // The only use of a clock: an `Instant` cannot be created in another way.
        let start = Instant::now();
        let clients = (0..plan.clients).map(|number| Client::new(number, number % plan.users, random.fork()));
        let clients = clients.collect();
        let servers = if plan.has_replica { 2 } else { 1 };
        let mut world = World {
            most_steps: options.most_steps.unwrap_or(MOST_STEPS),
            start,
            trace: Trace::new(options),
            truth: Truth::new(plan.channels.clone(), plan.longest),
            records: Records::default(),
            nodes: Vec::new(),
            stalls: vec![Duration::ZERO; plan.nodes],
            clients,
            sessions: Vec::new(),
            engine: Engine::new(servers, options.fault, &mut random),
            backend: Backend::default(),
            limits: Limits::default(),
            events: BTreeMap::new(),
            created: 0,
            phase: Phase::Chaos,
            since: Duration::ZERO,
            lives: 0,
            fault: options.fault,
            buffer: vec![0; plan.read_buffer],
            random,
            plan,
        };
        world.fill();
        world
    }

    /// Creates the events that the plan determines.
    fn fill(&mut self) {
        for node in 0..self.plan.nodes {
            self.start_node(node);
        }
        let chaos = self.plan.chaos.as_micros() as usize;
        for client in 0..self.plan.clients {
            let at = self.random.micros(1..=chaos);
            if self.trace.plan((0, client), format_args!("client {} connects at {at:?}", client + 1)) {
                self.connect_at(client, at);
            }
        }
        let mut planned = self.plan.clients;
        let mut add = |world: &mut World, event: Event| {
            let at = Duration::from_micros(world.random.within(1..=chaos) as u64);
            if world.trace.plan((0, planned), format_args!("{event:?} at {at:?}")) {
                world.add(at, event);
            }
            planned += 1;
        };
        let (publications, removals, commands) =
            (self.plan.publications, self.plan.removals, self.plan.commands);
        (0..publications).for_each(|_| add(self, Event::Publish(None)));
        (0..removals).for_each(|_| add(self, Event::RemoveHistory));
        (0..commands).for_each(|_| add(self, Event::Command));
        for fault in std::mem::take(&mut self.plan.faults) {
            add(self, Event::Fault(fault));
        }
        self.add(EXPIRY, Event::Expire);
        self.add(Duration::ZERO, Event::Replicate);
        self.add(Duration::ZERO, Event::Save);
        self.add(self.plan.chaos, Event::Heal);
    }

    fn run(&mut self) -> Result<(), Broken> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.trace.now = at;
            self.handle(event)?;
            let fault = self.truth.violation.or(self.records.fault);
            fault.map_or(Ok(()), |what| Err((None, what)))?;
            if self.phase == Phase::Done {
                break;
            }
            if self.trace.steps > self.most_steps {
                return Err((None, "the run does not end"));
            }
            if self.phase == Phase::Chaos && self.trace.steps > MOST_CHAOS {
                self.heal();
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Connect(client) => self.connect(client),
            Event::Client(client) => self.step_client(client)?,
            Event::Worker(node, worker) => self.turn(node, worker),
            Event::Relay(node) => self.relay_turn(node),
            Event::Open(node, life, attempt) => self.open(node, life, attempt),
            Event::Bytes(wire, place, way) => self.arrive(wire, place, way),
            Event::Forget(wire) => self.engine.forget(wire),
            Event::Publish(index) => self.publish(index),
            Event::RemoveHistory => self.remove_history(),
            Event::Command => self.command(),
            Event::Performed(node, life, id) => self.performed(node, life, id),
            Event::Fault(fault) => self.begin_fault(fault),
            Event::End(fault) => self.end_fault(fault),
            Event::Replicate => {
                self.engine.replicate();
                if self.is_chaos() {
                    let at = self.trace.now + self.random.micros(100..=self.plan.lag);
                    self.add(at, Event::Replicate);
                }
            }
            Event::Save => {
                for machine in &mut self.engine.machines {
                    machine.file = machine.server.snapshot();
                }
                if self.is_chaos() {
                    let at = self.trace.now + self.random.micros(100..=self.plan.lag);
                    self.add(at, Event::Save);
                }
            }
            Event::Expire => {
                let now = self.now();
                self.nodes.iter_mut().for_each(|node| node.shards.expire(now));
                self.add(self.trace.now + EXPIRY, Event::Expire);
            }
            Event::Heal if self.phase == Phase::Chaos => self.heal(),
            Event::Heal => {}
            Event::Check => self.check()?,
        }
        Ok(())
    }

    fn connect(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if this.connects_at != Some(self.trace.now) || self.phase == Phase::Leaving {
            return;
        }
        let node = self.random.within(0..=self.plan.nodes - 1);
        if self.nodes[node].is_down {
            let at = self.trace.now + self.random.micros(1000..=200_000);
            return self.connect_at(client, at);
        }
        let session = self.sessions.len();
        let worker = self.random.within(0..=self.plan.workers - 1);
        let user = user_name(this.user);
        self.trace.step(Subject::Client(client), "connects to node", node);
        let (place, buffer) = ((node, worker), self.plan.socket_buffer);
        let random = self.random.fork();
        self.sessions.push(Session::new(client, &user, connection(session), place, buffer, random));
        self.clients[client].connect(session);
        self.nodes[node].stations[worker].arrivals.push(session);
        let now = self.now();
        self.nodes[node].shards.arrived.insert(connection(session).0, now);
        self.wake_worker(node, worker, self.trace.now);
        self.schedule(client);
    }

    fn step_client(&mut self, client: usize) -> Result<(), Broken> {
        let this = &mut self.clients[client];
        let Some(number) = this.session.filter(|_| this.wakes_at == Some(self.trace.now)) else {
            return Ok(());
        };
        this.wakes_at = None;
        let session = &mut self.sessions[number];
        let (node, worker) = session.place;
        let lost_at = session.lost_at.unwrap_or(self.nodes[node].lost_at);
        let before = (session.transport.state, session.transport.close);
        let mut view = View {
            truth: &mut self.truth,
            trace: &mut self.trace,
            lost_at,
            may_be_local: lost_at > Duration::ZERO && self.plan.relay.when_down == WhenDown::Local,
        };
        this.step(session, &mut view).map_err(|what| (Some(number), what))?;
        if (session.transport.state, session.transport.close) != before {
            self.check_close(number)?;
        }
        self.wake_worker(node, worker, self.trace.now);
        self.schedule(client);
        Ok(())
    }

    /// Checks the code of the Close that a client has received, and lets it reconnect if its connection has ended.
    fn check_close(&mut self, number: usize) -> Result<(), Broken> {
        let session = &mut self.sessions[number];
        let limit = self.plan.relay.user_limit;
        let is_refused = session.transport.status == Some(TOO_MANY_REQUESTS)
            && limit.is_some_and(|limit| limit.closes_newest);
        if session.transport.status.is_some_and(|status| status != 101) && !is_refused {
            return Err((Some(number), "the status of the answer has no cause"));
        }
        let is_excess = is_refused || session.transport.close == Some(Some(CONNECTION_LIMIT));
        if let Some(Some(code)) = session.transport.close {
            self.trace.seen.insert(code);
            if !matches!(code, 3001 | 3008 | 3010 | 3012 | 3013 | 1000 | 3000)
                && (code != CONNECTION_LIMIT || limit.is_none())
            {
                return Err((Some(number), "the code of the Close has no cause"));
            }
        }
        if session.transport.state != State::Present {
            let client = session.client;
            self.clients[client].take_positions(session);
            if is_excess {
                self.end_excess(client);
                return Ok(());
            }
            let longest = if self.phase == Phase::Chaos { 3_000_000 } else { 100_000 };
            let at = self.trace.now + self.random.micros(1000..=longest);
            self.connect_at(client, at);
        }
        Ok(())
    }

    pub(super) fn connect_at(&mut self, client: usize, at: Duration) {
        self.clients[client].connects_at = Some(at);
        self.add(at, Event::Connect(client));
    }

    /// Creates the event of a client's next step.
    pub(super) fn schedule(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let Some(session) = this.session else { return };
        let Some(at) = this.next_step(&self.sessions[session], self.trace.now) else { return };
        if this.wakes_at.is_none_or(|other| at < other) {
            this.wakes_at = Some(at);
            self.add(at, Event::Client(client));
        }
    }

    /// Creates the event of a worker's next turn, some time after `at`.
    pub(super) fn wake_worker(&mut self, node: usize, worker: usize, at: Duration) {
        if self.nodes[node].is_down {
            return;
        }
        let delay = self.random.micros(1..=200);
        let station = &mut self.nodes[node].stations[worker];
        if station.wakes_at.is_none_or(|other| at + delay < other) {
            station.wakes_at = Some(at + delay);
            self.add(at + delay, Event::Worker(node, worker));
        }
    }

    /// Wakes the workers that have got events.
    pub(super) fn wake_workers(&mut self, node: usize) {
        for worker in 0..self.plan.workers {
            if self.nodes[node].shards.mail.is_woken[worker] {
                self.wake_worker(node, worker, self.trace.now);
            }
        }
    }

    /// Creates the event of the next turn of a relay's thread, some time after `at`.
    pub(super) fn wake_relay(&mut self, node: usize, at: Duration) {
        let mut delay = self.random.micros(1..=200);
        if self.plan.has_stalls && self.phase == Phase::Chaos && self.random.one_in(100) {
            delay = self.random.micros(10_000..=1_000_000);
        }
        let this = &mut self.nodes[node];
        if !this.is_down && this.wakes_at.is_none_or(|other| at + delay < other) {
            this.wakes_at = Some(at + delay);
            self.add(at + delay, Event::Relay(node));
        }
    }

    fn turn(&mut self, node: usize, worker: usize) {
        let this = &mut self.nodes[node];
        if this.stations[worker].wakes_at != Some(self.trace.now) || this.is_down {
            return;
        }
        this.stations[worker].wakes_at = None;
        let events = if this.shards.mail.is_woken[worker] { this.take_events(worker) } else { Vec::new() };
        let number = node * 10 + worker;
        if !events.is_empty() {
            self.trace.step(Subject::Worker(number), "takes events", events.len());
        }
        let mut around = Surroundings {
            start: self.start,
            parties: &mut self.sessions,
            records: &mut self.records,
            trace: &mut self.trace,
            random: &mut self.random,
            buffer: &mut self.buffer,
        };
        let (sessions, requests) = this.stations[worker].turn(number, events, &mut around);
        let is_asked = !requests.is_empty();
        requests.into_iter().for_each(|request| this.submit(worker, request));
        let letters = std::mem::take(&mut this.stations[worker].outgoing);
        let next = this.stations[worker].carrier.next_turn(&self.sessions, self.start, self.trace.now);
        if is_asked {
            self.wake_relay(node, self.trace.now);
        }
        self.note_users(node);
        for (other, letter) in letters {
            self.nodes[node].stations[other].letters.push(letter);
            self.wake_worker(node, other, self.trace.now);
        }
        for session in sessions {
            let client = self.sessions[session].client;
            if self.clients[client].session == Some(session) {
                self.schedule(client);
            }
        }
        if let Some(at) = next {
            self.wake_worker(node, worker, at);
        }
        self.wake_workers(node);
    }

    /// Starts a node, or starts it again.
    pub(super) fn start_node(&mut self, node: usize) {
        self.lives += 1;
        let new = Node::new(&self.plan, self.lives, self.start, self.trace.now, self.fault, &mut self.random);
        if node < self.nodes.len() {
            self.nodes[node] = new;
        } else {
            self.nodes.push(new);
        }
        if self.phase != Phase::Chaos {
            self.nodes[node].enlarge();
        }
        self.trace.step(Subject::World, "starts node", node);
        self.wake_relay(node, self.trace.now);
    }

    /// Returns a time that bytes take.
    pub(super) fn delay(&mut self) -> Duration {
        self.random.micros(10..=self.plan.delay)
    }

    pub(super) fn add_due(&mut self, due: impl IntoIterator<Item = Due>) {
        for (at, (wire, place, way)) in due {
            self.add(at, Event::Bytes(wire, place, way));
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.start + self.trace.now
    }

    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.created += 1;
        self.events.insert((at, self.created), event);
    }
}

/// The number of a session's connection.
pub(super) fn connection(session: usize) -> ConnectionId {
    ConnectionId(session as u64 + 1)
}

/// The status of an upgrade, if the user has the maximum number of connections with the node.
const TOO_MANY_REQUESTS: u16 = 429;

/// The code of a Close, if the user has too many connections.
const CONNECTION_LIMIT: u16 = 3504;

/// The most steps of a run.
const MOST_STEPS: u64 = 1_000_000;

/// The steps after which there are no more faults.
const MOST_CHAOS: u64 = 400_000;

/// The time between two removals of what has expired.
const EXPIRY: Duration = Duration::from_secs(1);
