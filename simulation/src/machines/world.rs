//! The world of one seed: the workers of a node, clients that are state machines, other publishers, and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::ChannelsConfig;
use postern_channels::engine::ChannelEvent;
use postern_core::ConnectionId;

use super::application::Application;
use super::driver::Driver;
use super::plan::Plan;
use super::session::Session;
use crate::carrier::Surroundings;
use crate::channels::node::Node;
use crate::channels::plan::user_name;
use crate::channels::records::Records;
use crate::channels::station::Station;
use crate::channels::tokens::Issuer;
use crate::invariants::Violation;
use crate::random::Random;
use crate::shorten::Options;
use crate::trace::{Subject, Trace};
use crate::world::Outcome;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    let violation = world.run().err();
    let connection = |session: usize| ConnectionId(session as u64 + 1);
    Outcome {
        steps: world.trace.steps,
        hash: world.trace.hash(),
        time: world.trace.now,
        connections: world.sessions.len(),
        violation: violation.map(|(session, what)| Violation::new(session.map(connection), what)),
        seen: world.trace.seen,
        marks: world.node.mail.marks,
        parts: world.trace.parts,
    }
}

struct World {
    /// The most steps of the run.
    most_steps: u64,
    plan: Plan,
    channels_config: Arc<ChannelsConfig>,
    random: Random,
    /// The start of virtual time. Only differences to it are used.
    start: Instant,
    trace: Trace,
    node: Node,
    records: Records,
    stations: Vec<Station>,
    clients: Vec<Client>,
    sessions: Vec<Session>,
    events: BTreeMap<(Duration, u64), Event>,
    created: u64,
    phase: Phase,
    stage: Stage,
    /// The worker of the next connection.
    next_worker: usize,
    buffer: Vec<u8>,
}

/// A client with its application.
#[derive(Debug)]
struct Client {
    user: usize,
    driver: Driver,
    application: Application,
    /// Whether it has connected for the first time.
    is_present: bool,
    /// The time of its next step, if there is one.
    wakes_at: Option<Duration>,
}

#[derive(Debug)]
enum Event {
    /// A client begins.
    Begin(usize),
    Client(usize),
    Worker(usize),
    /// Something other than a client publishes.
    Publish,
    RemoveHistory,
    /// Expired histories are removed.
    Expire,
    /// A connection is cut, or does not pass bytes for some time.
    Cut,
    Restart,
    /// The node starts again.
    Start,
    /// The answer of the service that checks tokens reaches a worker.
    Answer(usize, ChannelEvent),
    /// No more faults.
    Heal,
    /// Stop if nothing is on its way.
    Check,
    /// All workers must have finished.
    Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Chaos,
    Healing,
    Stopping,
}

/// The stage of the life of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Up,
    /// It closes its connections.
    Draining,
    /// It refuses connections.
    Down,
}

/// A broken promise, and the session of the client, if it is about one.
type Broken = (Option<usize>, &'static str);

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed ^ 0x636c_6965);
        let mut plan = Plan::new(&mut random);
        let plans: Arc<[_]> = std::mem::take(&mut plan.node.channels).into();
        let issuer = Arc::new(Issuer::new(plan.node.tokens, None, random.fork()));
        if issuer.is_used() {
            plan.node.channels_config.tokens = Some(issuer.clone());
        }
        let has_tokens = issuer.is_used();
        let channels_config = Arc::new(std::mem::take(&mut plan.node.channels_config));
        // The only use of a clock: an `Instant` cannot be created in another way.
        let start = Instant::now();
        let node = Node::new(&plan.node, plans, issuer, random.number(), None);
        let stations = (0..plan.node.workers)
            .map(|number| Station::new(number, &plan.node, channels_config.clone(), random.number(), start));
        let stations = stations.collect();
        let clients = (0..plan.node.clients).map(|number| {
            let user = number % plan.node.users;
            Client {
                user,
                driver: Driver::new(number, user, &plan, has_tokens, options.fault, random.fork()),
                application: Application::new(number, &plan, random.fork()),
                is_present: false,
                wakes_at: None,
            }
        });
        let clients = clients.collect();
        let mut world = World {
            most_steps: options.most_steps.unwrap_or(MOST_STEPS),
            start,
            trace: Trace::new(options),
            node,
            records: Records::default(),
            stations,
            clients,
            sessions: Vec::new(),
            events: BTreeMap::new(),
            created: 0,
            phase: Phase::Chaos,
            stage: Stage::Up,
            next_worker: 0,
            buffer: vec![0; plan.node.read_buffer],
            random,
            plan,
            channels_config,
        };
        world.fill();
        world
    }

    /// Creates the events that the plan determines.
    fn fill(&mut self) {
        let chaos = self.plan.node.chaos.as_micros() as usize;
        let events = (0..self.plan.node.clients).map(Event::Begin);
        let add = |count: usize, event: fn() -> Event| (0..count).map(move |_| event());
        let events = events.chain(add(self.plan.node.publications, || Event::Publish));
        let events = events.chain(add(self.plan.node.removals, || Event::RemoveHistory));
        let events = events.chain(add(self.plan.node.restarts, || Event::Restart));
        let events = events.chain(add(self.plan.cuts, || Event::Cut));
        for (number, event) in events.enumerate().collect::<Vec<_>>() {
            let at = Duration::from_micros(self.random.within(1..=chaos) as u64);
            if self.trace.plan((0, number), format_args!("{event:?} at {at:?}")) {
                self.add(at, event);
            }
        }
        self.add(EXPIRY, Event::Expire);
        self.add(self.plan.node.chaos, Event::Heal);
    }

    fn run(&mut self) -> Result<(), Broken> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.trace.now = at;
            self.node.set_now(at);
            if self.handle(event)? {
                break;
            }
            let fault = self.node.violation.or(self.records.fault);
            fault.map_or(Ok(()), |what| Err((None, what)))?;
            if self.trace.steps > self.most_steps {
                return Err((None, "the run does not end"));
            }
            // An inbox that is too small for the events of a recovery overflows again after each.
            if self.phase == Phase::Chaos && self.trace.steps > MOST_CHAOS {
                self.heal();
            }
            for worker in 0..self.plan.node.workers {
                if self.node.mail.is_woken[worker] {
                    self.wake(worker, self.trace.now);
                }
            }
        }
        self.check_delays()
    }

    /// Handles an event. Returns whether it is the last one.
    fn handle(&mut self, event: Event) -> Result<bool, Broken> {
        match event {
            Event::Begin(client) => {
                let this = &mut self.clients[client];
                this.is_present = true;
                this.driver.machine.connect(self.start + self.trace.now);
                this.wakes_at = Some(self.trace.now);
                self.step_client(client)?;
            }
            Event::Client(client) if self.clients[client].wakes_at == Some(self.trace.now) => {
                self.step_client(client)?;
            }
            Event::Client(_) => {}
            Event::Worker(worker) => self.turn(worker)?,
            Event::Publish => {
                self.trace.step(Subject::World, "publishes", 0);
                let now = self.now();
                self.node.publish(now, &mut self.random);
            }
            Event::RemoveHistory => {
                let channel = self.random.within(0..=self.node.channels() - 1);
                self.trace.step(Subject::World, "removes the history of channel", channel);
                self.node.remove_history(channel, self.now());
            }
            Event::Expire => {
                self.node.expire(self.now());
                self.add(self.trace.now + EXPIRY, Event::Expire);
            }
            Event::Cut => self.cut()?,
            Event::Restart => self.restart(),
            Event::Start => self.start_again(),
            Event::Answer(worker, event) => {
                self.trace.step(Subject::World, "the service answers to worker", worker);
                self.node.answer(worker, event);
            }
            Event::Heal if self.phase == Phase::Chaos => self.heal(),
            Event::Heal => {}
            Event::Check => self.check_rest()?,
            Event::Deadline => return Err((None, "a worker does not finish")),
        }
        Ok(self.phase == Phase::Stopping && self.stations.iter().all(|station| station.is_finished))
    }

    /// Does what a client has to do, and what its application wants.
    fn step_client(&mut self, client: usize) -> Result<(), Broken> {
        let this = &mut self.clients[client];
        this.wakes_at = None;
        let number = this.driver.session;
        let broken = |what| (number, what);
        let (node, trace) = (&mut self.node, &mut self.trace);
        let session = number.map(|number| &mut self.sessions[number]);
        let worker = session.as_ref().map(|session| session.worker);
        this.driver.step(session, node, trace, self.start).map_err(broken)?;
        this.application.step(&mut this.driver, node, trace, self.start).map_err(broken)?;
        let mut session = this.driver.session.map(|number| &mut self.sessions[number]);
        this.driver.settle(&mut session, node, trace).map_err(broken)?;
        if this.driver.wants_open && self.phase != Phase::Stopping {
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
        let this = &mut self.clients[client];
        let worker = self.next_worker % self.plan.node.workers;
        let delay = self.random.micros(1..=200_000);
        let is_down = self.stage == Stage::Down || self.stations[worker].is_finished;
        let is_unlucky = self.phase == Phase::Chaos && self.random.one_in(8);
        if is_down || is_unlucky {
            self.trace.step(Subject::Client(client), "is refused", 0);
            let is_unauthorized = is_unlucky && self.random.one_in(3);
            return this.driver.refuse(self.trace.now + delay, is_unauthorized);
        }
        let session = self.sessions.len();
        self.next_worker += self.random.within(0..=2);
        self.trace.step(Subject::Client(client), "connects to worker", worker);
        let (user, buffer) = (user_name(this.user), self.plan.node.socket_buffer);
        self.sessions.push(Session::new(client, &user, session, worker, buffer, self.random.fork()));
        this.driver.open(session);
        self.stations[worker].arrivals.push(session);
        self.wake(worker, self.trace.now);
    }

    /// Creates the event of a client's next step.
    fn schedule(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if !this.is_present || self.phase == Phase::Stopping {
            return;
        }
        let session = this.driver.session.map(|number| &self.sessions[number]);
        let at = this.driver.next_step(session, self.start, self.trace.now);
        let at = at.into_iter().chain(this.application.next_step(&this.driver, self.trace.now)).min();
        if let Some(at) = at.filter(|at| this.wakes_at.is_none_or(|other| *at < other)) {
            this.wakes_at = Some(at);
            self.add(at, Event::Client(client));
        }
    }

    /// Creates the event of a worker's next turn, some time after `at`.
    fn wake(&mut self, worker: usize, at: Duration) {
        let station = &mut self.stations[worker];
        if station.is_finished || station.wakes_at.is_some_and(|other| other <= at) {
            return;
        }
        let mut delay = self.random.micros(1..=200);
        if self.plan.node.has_stalls && self.phase == Phase::Chaos && self.random.one_in(200) {
            delay = self.random.micros(100_000..=3_000_000);
        }
        if station.wakes_at.is_none_or(|other| at + delay < other) {
            station.wakes_at = Some(at + delay);
            self.add(at + delay, Event::Worker(worker));
        }
    }

    fn turn(&mut self, worker: usize) -> Result<(), Broken> {
        let station = &mut self.stations[worker];
        if station.wakes_at != Some(self.trace.now) || station.is_finished {
            return Ok(());
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
        let sessions = station.turn(&mut self.node, &mut around);
        self.node.end_turn(worker);
        for (delay, worker, event) in std::mem::take(&mut self.node.backend.answers) {
            self.add(self.trace.now + delay, Event::Answer(worker, event));
        }
        for session in sessions {
            let owner = self.clients.iter().position(|client| client.driver.session == Some(session));
            if let Some(client) = owner {
                self.schedule(client);
            }
        }
        let station = &self.stations[worker];
        if station.is_finished {
            self.trace.step(Subject::Worker(worker), "has finished", 0);
            if self.stage == Stage::Draining && self.stations.iter().all(|station| station.is_finished) {
                self.stop();
            }
        } else if let Some(at) = station.carrier.next_turn(&self.sessions, self.start, self.trace.now) {
            self.wake(worker, at);
        }
        Ok(())
    }

    /// Resets the connection of a client, or freezes it, or ends its other side only, as a gateway does that is cut off.
    fn cut(&mut self) -> Result<(), Broken> {
        let client = self.random.within(0..=self.clients.len() - 1);
        let this = &mut self.clients[client];
        let Some(number) = this.driver.session else { return Ok(()) };
        let session = &mut self.sessions[number];
        match self.random.within(0..=2) {
            0 => {
                self.trace.step(Subject::Client(client), "is reset", 0);
                let (node, trace) = (&mut self.node, &mut self.trace);
                let reset = this.driver.reset(session, node, trace, self.start);
                reset.map_err(|what| (Some(number), what))?;
            }
            1 => {
                self.trace.step(Subject::Client(client), "loses its network", 0);
                this.driver.frozen_until = self.trace.now + self.random.micros(10_000..=60_000_000);
            }
            _ => {
                // The node learns it, and the client must notice that nothing arrives.
                self.trace.step(Subject::Client(client), "loses its gateway", 0);
                session.transport.link.client_reset();
            }
        }
        let worker = session.worker;
        self.wake(worker, self.trace.now);
        self.schedule(client);
        Ok(())
    }

    /// Stops the node: it is killed, or it closes its connections first.
    fn restart(&mut self) {
        if self.phase != Phase::Chaos || self.stage != Stage::Up {
            return;
        }
        self.node.mail.marks.insert("a restart");
        if self.random.one_in(2) {
            self.trace.step(Subject::World, "stops the node", 0);
            self.stage = Stage::Draining;
            return self.drain();
        }
        self.trace.step(Subject::World, "kills the node", 0);
        self.stop();
    }

    fn drain(&mut self) {
        let spread = self.random.micros(1..=2_000_000);
        for worker in 0..self.plan.node.workers {
            self.stations[worker].drain = Some(spread);
            self.wake(worker, self.trace.now);
        }
    }

    /// Ends the node. It starts again later.
    fn stop(&mut self) {
        self.stage = Stage::Down;
        for session in &mut self.sessions {
            session.transport.link.close();
        }
        self.records.forget();
        self.stations.iter_mut().for_each(|station| station.is_finished = true);
        (0..self.plan.node.clients).for_each(|client| self.schedule(client));
        let delay = self.random.micros(1..=3_000_000);
        self.add(self.trace.now + delay, Event::Start);
    }

    fn start_again(&mut self) {
        self.trace.step(Subject::World, "starts the node", 0);
        self.stage = Stage::Up;
        let (now, seed) = (self.now(), self.random.number());
        self.node.start(&self.plan.node, seed);
        for worker in 0..self.plan.node.workers {
            let (config, seed) = (self.channels_config.clone(), self.random.number());
            self.stations[worker] = Station::new(worker, &self.plan.node, config, seed, now);
        }
    }

    fn heal(&mut self) {
        self.trace.step(Subject::World, "no more faults", 0);
        self.phase = Phase::Healing;
        self.node.enlarge_inboxes();
        for client in 0..self.clients.len() {
            let this = &mut self.clients[client];
            this.driver.is_healed = true;
            this.driver.frozen_until = Duration::ZERO;
            this.application.is_hasty = true;
            self.schedule(client);
        }
        self.add(self.trace.now + CHECK, Event::Check);
    }

    /// Checks what must hold if nothing is on its way, and stops then.
    fn check_rest(&mut self) -> Result<(), Broken> {
        let is_at_rest = |client: &Client| {
            let session = client.driver.session.map(|number| &self.sessions[number]);
            client.driver.is_at_rest(session) && client.application.is_at_rest()
        };
        let restless = self.clients.iter().find(|client| client.is_present && !is_at_rest(client));
        let is_old = |(number, session): (usize, &Session)| {
            let is_current = |client: &Client| client.driver.session == Some(number);
            !session.transport.link.is_closed() && !self.clients.iter().any(is_current)
        };
        let has_old = self.sessions.iter().enumerate().any(is_old);
        if restless.is_some() || has_old || !self.node.is_quiet() || self.stage != Stage::Up {
            if self.trace.now > self.plan.node.chaos + LONGEST_HEALING {
                let session = restless.and_then(|client| client.driver.session);
                return Err((session, "a client does not return"));
            }
            self.add(self.trace.now + CHECK, Event::Check);
            return Ok(());
        }
        self.check_views()?;
        self.phase = Phase::Stopping;
        self.trace.step(Subject::World, "stops", 0);
        self.drain();
        self.add(self.trace.now + LONGEST_HEALING, Event::Deadline);
        Ok(())
    }

    /// Checks that nothing is missing, and that the server has the subscriptions of the clients.
    fn check_views(&self) -> Result<(), Broken> {
        for channel in 0..self.node.channels() {
            let mut subscribed = 0;
            for client in self.clients.iter().filter(|client| client.is_present) {
                let application = &client.application;
                let view = application.views.get(&channel).filter(|view| view.is_active);
                let name = &self.node.plan(channel).name;
                if view.is_some() != client.driver.machine.is_subscribed(name) {
                    return Err((client.driver.session, "the application does not know its subscriptions"));
                }
                if view.is_some_and(|view| !view.is_complete(channel, &self.node)) {
                    return Err((client.driver.session, "publications never arrive"));
                }
                subscribed += usize::from(view.is_some());
            }
            if self.node.subscriptions(channel) != subscribed {
                return Err((None, "the server has other subscriptions than the clients"));
            }
        }
        Ok(())
    }

    /// Checks that the delays of all clients are spread over their bounds.
    fn check_delays(&self) -> Result<(), Broken> {
        let delays = self.clients.iter().flat_map(|client| &client.application.delays);
        let shares: Vec<f64> =
            delays.map(|(delay, bound)| delay.as_secs_f64() / bound.as_secs_f64()).collect();
        let mut sorted = shares.clone();
        sorted.sort_by(f64::total_cmp);
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err((None, "two delays are the same"));
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        // The mean of n even shares deviates from one half by 0.29 / sqrt(n).
        let tolerance = 2.0 / (shares.len() as f64).sqrt();
        if !shares.is_empty() && (mean - 0.5).abs() > tolerance {
            return Err((None, "the delays are not spread evenly"));
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

/// The most steps of a run.
const MOST_STEPS: u64 = 1_000_000;

/// The steps after which there are no more faults.
const MOST_CHAOS: u64 = 500_000;

/// The time between two removals of what has expired.
const EXPIRY: Duration = Duration::from_secs(1);

/// The time between two checks of whether all clients are at rest.
const CHECK: Duration = Duration::from_millis(500);

/// The longest time until all clients are at rest, and until all workers have finished.
const LONGEST_HEALING: Duration = Duration::from_secs(120);
