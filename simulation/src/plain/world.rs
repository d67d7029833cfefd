//! The world of one seed: the workers of a node, plain clients, an operator, and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_client::Backoff;
use postern_core::policy::KeepAliveConfig;
use postern_core::worker::{AdminRequest, Echo, Selector, WorkerMessage};
use postern_core::{CloseCode, ConnectionId, Record, Recorder, SessionConfig, Worker, WorkerConfig};

use super::client::{Client, ClientPlan, Step};
use crate::carrier::{self, Carrier, Surroundings};
use crate::invariants::Violation;
use crate::machines::session::Session;
use crate::random::Random;
use crate::shorten::Options;
use crate::trace::{Subject, Trace};
use crate::world::Outcome;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    let broken = world.run().err();
    Outcome {
        steps: world.trace.steps,
        hash: world.trace.hash(),
        time: world.trace.now,
        connections: world.sessions.len(),
        violation: broken.map(|(session, what)| {
            Violation::new(session.map(|session| ConnectionId(session as u64 + 1)), what)
        }),
        seen: world.trace.seen,
        marks: world.marks,
        parts: world.trace.parts,
    }
}

struct World {
    plan: Plan,
    /// The most steps of the run.
    most_steps: u64,
    /// The start of virtual time. Only differences to it are used.
    start: Instant,
    trace: Trace,
    records: Records,
    stations: Vec<Station>,
    clients: Vec<Client>,
    /// The time of the next step of each client.
    wakes: Vec<Option<Duration>>,
    sessions: Vec<Session>,
    events: BTreeMap<(Duration, u64), Event>,
    created: u64,
    marks: BTreeSet<&'static str>,
    phase: Phase,
    is_down: bool,
    buffer: Vec<u8>,
    random: Random,
}

/// A worker of the node.
struct Station {
    carrier: Carrier<Echo>,
    arrivals: Vec<usize>,
    messages: Vec<WorkerMessage>,
    requests: Vec<AdminRequest>,
    wakes_at: Option<Duration>,
    is_finished: bool,
}

/// The choices of a seed.
struct Plan {
    workers: usize,
    clients: usize,
    client: ClientPlan,
    config: Arc<WorkerConfig>,
    chaos: Duration,
    cuts: usize,
    restarts: usize,
    disconnects: usize,
    socket_buffer: usize,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A client connects for the first time.
    Begin(usize),
    Client(usize),
    Worker(usize),
    /// A connection is reset, or loses its network.
    Cut,
    /// An operator closes the connections of a client, with a code.
    Disconnect,
    Restart,
    Start,
    /// No more faults.
    Heal,
    /// Checks whether all clients are at rest, and lets them finish then.
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Chaos,
    Healing,
    Finishing,
}

/// A broken promise, and the session of the client, if it is about one.
type Broken = (Option<usize>, &'static str);

impl Plan {
    fn new(random: &mut Random) -> Plan {
        let mut config = WorkerConfig { hash_seed: random.number(), ..WorkerConfig::default() };
        config.session = Arc::new(SessionConfig {
            close_timeout: random.micros(50_000..=5_000_000),
            ..SessionConfig::default()
        });
        if random.one_in(2) {
            let interval = random.micros(500_000..=10_000_000);
            config.keep_alive = KeepAliveConfig { interval, timeout: random.micros(500_000..=10_000_000) };
        }
        let first = random.pick([50, 200, 500].map(Duration::from_millis));
        Plan {
            workers: random.within(1..=3),
            clients: random.magnitude(1..=12),
            client: ClientPlan {
                backoff: Backoff { first, most: first * random.pick([4, 20]) },
                timeout: random.pick([1, 2, 5].map(Duration::from_secs)),
                messages: random.magnitude(1..=60) as u64,
                longest: random.magnitude(1..=20_000),
                events: random.pick([1, 8, 64]),
            },
            config: Arc::new(config),
            chaos: random.micros(500_000..=20_000_000),
            cuts: random.magnitude(1..=16),
            restarts: random.within(0..=2),
            disconnects: random.within(0..=3),
            socket_buffer: random.magnitude(128..=262_144),
        }
    }
}

impl Station {
    fn new(plan: &Plan, seed: u64, now: Instant) -> Station {
        let slice = plan.config.fanout_slice;
        Station {
            carrier: Carrier::new(Worker::new(plan.config.clone(), seed, now), slice),
            arrivals: Vec::new(),
            messages: Vec::new(),
            requests: Vec::new(),
            wakes_at: None,
            is_finished: false,
        }
    }
}

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed ^ 0x706c_6169_6e00);
        let plan = Plan::new(&mut random);
        // The only use of a clock: an `Instant` cannot be created in another way.
        let start = Instant::now();
        let stations = (0..plan.workers).map(|_| Station::new(&plan, random.number(), start)).collect();
        let client = |number| Client::new(number, plan.client, options.fault, random.fork());
        let clients = (0..plan.clients).map(client).collect();
        let mut world = World {
            most_steps: options.most_steps.unwrap_or(MOST_STEPS),
            start,
            trace: Trace::new(options),
            records: Records::default(),
            stations,
            clients,
            wakes: vec![None; plan.clients],
            sessions: Vec::new(),
            events: BTreeMap::new(),
            created: 0,
            marks: BTreeSet::new(),
            phase: Phase::Chaos,
            is_down: false,
            buffer: vec![0; 65_536],
            random,
            plan,
        };
        world.fill();
        world
    }

    /// Creates the events that the plan determines.
    fn fill(&mut self) {
        let chaos = self.plan.chaos.as_micros() as usize;
        let add = |count: usize, event: Event| (0..count).map(move |_| event);
        let events = (0..self.plan.clients).map(Event::Begin).chain(add(self.plan.cuts, Event::Cut));
        let events = events.chain(add(self.plan.restarts, Event::Restart));
        let events = events.chain(add(self.plan.disconnects, Event::Disconnect));
        for (number, event) in events.enumerate().collect::<Vec<_>>() {
            let at = Duration::from_micros(self.random.within(1..=chaos) as u64);
            if self.trace.plan((0, number), format_args!("{event:?} at {at:?}")) {
                self.add(at, event);
            }
        }
        self.add(self.plan.chaos, Event::Heal);
    }

    fn run(&mut self) -> Result<(), Broken> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.trace.now = at;
            self.handle(event)?;
            self.records.fault.map_or(Ok(()), Err)?;
            if self.trace.steps > self.most_steps {
                return Err((None, "the run does not end"));
            }
            if self.phase == Phase::Finishing && self.has_finished() {
                return self.check_end();
            }
        }
        Err((None, "a client does not finish"))
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Begin(client) => {
                self.clients[client].connect(self.start + self.trace.now);
                self.step_client(client)?;
            }
            Event::Client(client) if self.wakes[client] == Some(self.trace.now) => {
                self.step_client(client)?
            }
            Event::Client(_) => {}
            Event::Worker(worker) => self.turn(worker),
            Event::Cut => self.cut()?,
            Event::Disconnect => self.disconnect(),
            Event::Restart => self.restart(),
            Event::Start => self.start_again(),
            Event::Heal => {
                self.trace.step(Subject::World, "no more faults", 0);
                self.phase = Phase::Healing;
                for client in 0..self.clients.len() {
                    let this = &mut self.clients[client];
                    this.is_healed = true;
                    this.frozen_until = Duration::ZERO;
                    // One whose beginning is left out of the plan.
                    this.connect(self.start + self.trace.now);
                    self.step_client(client)?;
                }
                self.add(self.trace.now + CHECK, Event::Check);
            }
            Event::Check => self.check_rest()?,
        }
        Ok(())
    }

    /// Does what a client has to do.
    fn step_client(&mut self, client: usize) -> Result<(), Broken> {
        self.wakes[client] = None;
        let this = &mut self.clients[client];
        let number = this.session;
        let session = number.map(|number| &mut self.sessions[number]);
        let worker = session.as_ref().map(|session| session.worker);
        let mut around = Step { trace: &mut self.trace, start: self.start, marks: &mut self.marks };
        this.step(session, &mut around).map_err(|what| (number, what))?;
        if this.wants_open {
            self.open(client);
        }
        if let Some(worker) = worker {
            self.wake(worker, self.trace.now);
        }
        self.schedule(client);
        Ok(())
    }

    /// Lets an attempt of a client fail, or begins a session.
    fn open(&mut self, client: usize) {
        let worker = self.random.within(0..=self.plan.workers - 1);
        let delay = self.random.micros(1..=200_000);
        let is_unlucky = self.phase == Phase::Chaos && self.random.one_in(8);
        let this = &mut self.clients[client];
        if self.is_down || self.stations[worker].is_finished || is_unlucky {
            let has_answer = !is_unlucky || !self.random.one_in(4);
            self.trace.step(Subject::Client(client), "is refused", usize::from(has_answer));
            return this.refuse(has_answer.then(|| self.trace.now + delay));
        }
        let number = self.sessions.len();
        self.trace.step(Subject::Client(client), "connects to worker", worker);
        let user = format!("user{client}");
        let buffer = self.plan.socket_buffer;
        self.sessions.push(Session::new(client, &user, number, worker, buffer, self.random.fork()));
        this.open(number);
        self.stations[worker].arrivals.push(number);
        self.wake(worker, self.trace.now);
    }

    /// Creates the event of a client's next step.
    fn schedule(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let session = this.session.map(|number| &self.sessions[number]);
        let at = this.next_step(session, self.start, self.trace.now);
        if let Some(at) = at.filter(|at| self.wakes[client].is_none_or(|other| *at < other)) {
            self.wakes[client] = Some(at);
            self.add(at, Event::Client(client));
        }
    }

    /// Creates the event of a worker's next turn, some time after `at`.
    fn wake(&mut self, worker: usize, at: Duration) {
        let delay = self.random.micros(1..=200);
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
        let mut around = Surroundings {
            start: self.start,
            parties: &mut self.sessions,
            records: &mut self.records,
            trace: &mut self.trace,
            random: &mut self.random,
            buffer: &mut self.buffer,
        };
        for session in std::mem::take(&mut station.arrivals) {
            station.carrier.open(session, &mut around);
        }
        let now = around.now();
        for message in std::mem::take(&mut station.messages) {
            station.carrier.worker.handle_message(message, now, around.records);
        }
        for request in std::mem::take(&mut station.requests) {
            let _ = station.carrier.worker.handle_request(&request, now);
        }
        let sessions = station.carrier.handle_all_ready(&mut around);
        station.carrier.handle_all_due(&mut around);
        station.carrier.check(around.records);
        station.is_finished = station.carrier.worker.is_finished();
        let next = station.carrier.next_turn(&self.sessions, self.start, self.trace.now);
        for session in sessions {
            let client = self.clients.iter().position(|client| client.session == Some(session));
            client.into_iter().for_each(|client| self.schedule(client));
        }
        if self.stations.iter().all(|station| station.is_finished) && !self.is_down {
            self.stop();
        } else if let Some(at) = next {
            self.wake(worker, at);
        }
    }

    fn cut(&mut self) -> Result<(), Broken> {
        let client = self.random.within(0..=self.clients.len() - 1);
        let this = &mut self.clients[client];
        let Some(number) = this.session else { return Ok(()) };
        let session = &mut self.sessions[number];
        let worker = session.worker;
        if self.random.one_in(2) {
            self.trace.step(Subject::Client(client), "is reset", 0);
            let mut around = Step { trace: &mut self.trace, start: self.start, marks: &mut self.marks };
            this.reset(session, &mut around).map_err(|what| (Some(number), what))?;
        } else {
            self.trace.step(Subject::Client(client), "loses its network", 0);
            this.frozen_until = self.trace.now + self.random.micros(10_000..=30_000_000);
        }
        self.wake(worker, self.trace.now);
        self.schedule(client);
        Ok(())
    }

    fn disconnect(&mut self) {
        let client = self.random.within(0..=self.clients.len() - 1);
        let code = self.random.pick([1012, 4403, 4409, 4429]);
        self.trace.step(Subject::Client(client), "is disconnected with code", code.into());
        for worker in 0..self.plan.workers {
            let selector = Selector::User(format!("user{client}"));
            let reason = "by the operator".to_owned();
            let request = AdminRequest::Disconnect { selector, code: CloseCode(code), reason };
            self.stations[worker].requests.push(request);
            self.wake(worker, self.trace.now);
        }
    }

    /// Stops the node: it is killed, or it closes its connections first.
    fn restart(&mut self) {
        if self.phase != Phase::Chaos || self.is_down {
            return;
        }
        self.marks.insert("a restart");
        if self.random.one_in(2) {
            self.trace.step(Subject::World, "kills the node", 0);
            return self.stop();
        }
        self.trace.step(Subject::World, "stops the node", 0);
        let spread = self.random.micros(1..=2_000_000);
        for worker in 0..self.plan.workers {
            self.stations[worker].messages.push(WorkerMessage::Drain(spread));
            self.wake(worker, self.trace.now);
        }
    }

    /// Ends the node. It starts again later.
    fn stop(&mut self) {
        self.is_down = true;
        self.sessions.iter_mut().for_each(|session| session.transport.link.close());
        self.records.open.clear();
        self.stations.iter_mut().for_each(|station| station.is_finished = true);
        (0..self.clients.len()).for_each(|client| self.schedule(client));
        let delay = self.random.micros(1..=3_000_000);
        self.add(self.trace.now + delay, Event::Start);
    }

    fn start_again(&mut self) {
        self.trace.step(Subject::World, "starts the node", 0);
        self.is_down = false;
        for worker in 0..self.plan.workers {
            self.stations[worker] = Station::new(&self.plan, self.random.number(), self.now());
        }
    }

    /// Lets all clients finish once they are at rest.
    fn check_rest(&mut self) -> Result<(), Broken> {
        if let Some(restless) = self.clients.iter().find(|client| !client.is_at_rest()) {
            if self.trace.now > self.plan.chaos + LONGEST_HEALING {
                return Err((restless.session, "a client does not return, or an echo never arrives"));
            }
            self.add(self.trace.now + CHECK, Event::Check);
            return Ok(());
        }
        self.trace.step(Subject::World, "lets the clients finish", 0);
        self.phase = Phase::Finishing;
        for client in 0..self.clients.len() {
            self.clients[client].finish();
            self.step_client(client)?;
        }
        Ok(())
    }

    /// Whether all clients have ended, and the workers have removed their connections.
    fn has_finished(&self) -> bool {
        let is_idle = |station: &Station| station.carrier.worker.is_empty() && station.arrivals.is_empty();
        self.clients.iter().all(Client::has_ended) && self.stations.iter().all(is_idle)
    }

    fn check_end(&self) -> Result<(), Broken> {
        if self.stations.iter().any(|station| station.carrier.worker.memory_held() != 0) {
            return Err((None, "memory is counted although there are no connections"));
        }
        if !self.records.open.is_empty() {
            return Err((None, "a connection has no record of its end"));
        }
        let mut delays: Vec<Duration> =
            self.clients.iter().flat_map(|client| &client.delays).map(|(delay, _)| *delay).collect();
        delays.sort();
        if delays.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err((None, "two delays are the same"));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.start + self.trace.now
    }

    fn add(&mut self, at: Duration, event: Event) {
        self.created += 1;
        self.events.insert((at, self.created), event);
    }
}

/// The records of all workers: each connection has one of its beginning and one of its end.
#[derive(Debug, Default)]
struct Records {
    open: BTreeSet<ConnectionId>,
    fault: Option<Broken>,
}

impl Recorder for Records {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Established { connection, .. } if !self.open.insert(*connection) => {
                self.fault = Some((None, "a connection is established twice"));
            }
            Record::Closed { connection, .. } if !self.open.remove(connection) => {
                self.fault = Some((None, "a connection ends that was not established"));
            }
            Record::Established { .. }
            | Record::Closed { .. }
            | Record::Message { .. }
            | Record::Publication { .. }
            | Record::Pong { .. }
            | Record::RateExceeded { .. }
            | Record::RateKept { .. }
            | Record::TokenRefreshed { .. }
            | Record::RefreshRefused { .. }
            | Record::CredentialsEnded { .. }
            | Record::Rejected { .. }
            | Record::Abandoned { .. } => {}
        }
    }

    fn is_full(&self) -> bool {
        false
    }
}

impl carrier::Records for Records {
    fn report(&mut self, connection: Option<ConnectionId>, what: &'static str) {
        let session = connection.map(|connection| connection.0 as usize - 1);
        self.fault.get_or_insert((session, what));
    }
}

/// The most steps of a run.
const MOST_STEPS: u64 = 1_000_000;

/// The time between two checks of whether all clients are at rest.
const CHECK: Duration = Duration::from_millis(500);

/// The longest time until all clients are at rest.
const LONGEST_HEALING: Duration = Duration::from_secs(120);
