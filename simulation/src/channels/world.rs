//! The world of one seed: the workers of a node, its clients, other publishers, and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::ChannelsConfig;
use postern_channels::engine::ChannelEvent;

use super::client::Client;
use super::node::Node;
use super::plan::{Plan, user_name};
use super::records::Records;
use super::session::Session;
use super::station::Station;
use super::subscription::{Active, connection};
use super::tokens::Issuer;
use crate::carrier::Surroundings;
use crate::invariants::Violation;
use crate::random::Random;
use crate::sdk::State;
use crate::shorten::Options;
use crate::trace::{Subject, Trace};
use crate::world::Outcome;

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
    /// When there were no more faults.
    healed_at: Duration,
    /// Whether the node stops, and starts again when its workers have finished.
    is_draining: bool,
    /// The worker of the next connection.
    next_worker: usize,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Event {
    Connect(usize),
    Client(usize),
    Worker(usize),
    /// Something other than a client publishes.
    Publish,
    RemoveHistory,
    /// Expired histories are removed.
    Expire,
    Restart,
    /// The answer of a hook, or of the service that checks tokens, reaches a worker.
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

/// A broken promise, and the session of the client, if it is about one.
type Broken = (Option<usize>, &'static str);

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed ^ 0x6368_616e);
        let mut plan = Plan::new(&mut random, options.fault);
        let plans: Arc<[_]> = std::mem::take(&mut plan.channels).into();
        let issuer = Arc::new(Issuer::new(plan.tokens, options.fault, random.fork()));
        if issuer.is_used() {
            plan.channels_config.tokens = Some(issuer.clone());
        }
        let channels_config = Arc::new(std::mem::take(&mut plan.channels_config));
        // The only use of a clock: an `Instant` cannot be created in another way.
        let start = Instant::now();
        let node = Node::new(&plan, plans, issuer, random.number(), options.fault);
        let mut station =
            |number| Station::new(number, &plan, channels_config.clone(), random.number(), start);
        let stations = (0..plan.workers).map(&mut station).collect();
        let clients = (0..plan.clients).map(|number| Client::new(number, number % plan.users, random.fork()));
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
            healed_at: Duration::ZERO,
            is_draining: false,
            next_worker: 0,
            buffer: vec![0; plan.read_buffer],
            random,
            plan,
            channels_config,
        };
        world.fill();
        world
    }

    /// Creates the events that the plan determines.
    fn fill(&mut self) {
        let chaos = self.plan.chaos.as_micros() as usize;
        for client in 0..self.plan.clients {
            let at = self.random.micros(1..=chaos);
            if self.trace.plan((0, client), format_args!("client {} connects at {at:?}", client + 1)) {
                self.connect_at(client, at);
            }
        }
        let mut planned = self.plan.clients;
        let mut add = |world: &mut World, count: usize, event: fn() -> Event| {
            for _ in 0..count {
                let at = Duration::from_micros(world.random.within(1..=chaos) as u64);
                let event = event();
                if world.trace.plan((0, planned), format_args!("{event:?} at {at:?}")) {
                    world.add(at, event);
                }
                planned += 1;
            }
        };
        let (publications, removals, restarts) =
            (self.plan.publications, self.plan.removals, self.plan.restarts);
        add(self, publications, || Event::Publish);
        add(self, removals, || Event::RemoveHistory);
        add(self, restarts, || Event::Restart);
        self.add(EXPIRY, Event::Expire);
        self.add(self.plan.chaos, Event::Heal);
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
            for worker in 0..self.plan.workers {
                if self.node.mail.is_woken[worker] {
                    self.wake(worker, self.trace.now);
                }
            }
        }
        self.check_end()
    }

    /// Handles an event. Returns whether it is the last one.
    fn handle(&mut self, event: Event) -> Result<bool, Broken> {
        match event {
            Event::Connect(client) => self.connect(client),
            Event::Client(client) => self.step_client(client)?,
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
            Event::Restart => self.restart(),
            Event::Answer(worker, event) => {
                self.trace.step(Subject::World, "the backend answers to worker", worker);
                self.node.answer(worker, event);
            }
            Event::Heal if self.phase == Phase::Chaos => self.heal(),
            Event::Heal => {}
            Event::Check => self.check_rest()?,
            Event::Deadline => return Err((None, "a worker does not finish")),
        }
        Ok(self.phase == Phase::Stopping && self.stations.iter().all(|station| station.is_finished))
    }

    fn connect(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if this.connects_at != Some(self.trace.now) || self.phase == Phase::Stopping {
            return;
        }
        if self.is_draining {
            let at = self.trace.now + self.random.micros(1000..=200_000);
            return self.connect_at(client, at);
        }
        let session = self.sessions.len();
        let worker = self.next_worker % self.plan.workers;
        self.next_worker += self.random.within(0..=2);
        let user = user_name(this.user);
        self.trace.step(Subject::Client(client), "connects to worker", worker);
        let mut new = Session::new(
            client,
            &user,
            connection(session),
            worker,
            self.plan.socket_buffer,
            self.plan.has_compression,
            self.random.fork(),
        );
        new.has_refreshes = self.clients[client].has_refreshes;
        self.sessions.push(new);
        self.clients[client].connect(session);
        self.stations[worker].arrivals.push(session);
        self.wake(worker, self.trace.now);
        self.schedule(client);
    }

    fn step_client(&mut self, client: usize) -> Result<(), Broken> {
        let this = &mut self.clients[client];
        let Some(number) = this.session.filter(|_| this.wakes_at == Some(self.trace.now)) else {
            return Ok(());
        };
        this.wakes_at = None;
        let session = &mut self.sessions[number];
        let before = (session.transport.state, session.transport.close);
        this.step(session, &mut self.node, &mut self.trace).map_err(|what| (Some(number), what))?;
        if (session.transport.state, session.transport.close) != before {
            self.check_close(number)?;
        }
        let worker = self.sessions[number].worker;
        self.wake(worker, self.trace.now);
        self.schedule(client);
        Ok(())
    }

    /// Checks the code of the Close that a client has received, and lets it reconnect if its connection has ended.
    fn check_close(&mut self, number: usize) -> Result<(), Broken> {
        let session = &mut self.sessions[number];
        if session
            .transport
            .status
            .is_some_and(|status| status != 101 && !(status == 503 && self.is_draining))
        {
            return Err((Some(number), "the status of the answer has no cause"));
        }
        if let Some(Some(code)) = session.transport.close {
            self.trace.seen.insert(code);
            // The session has checked the causes of those that tokens have.
            if !matches!(code, 3001 | 3005 | 3008 | 3010 | 3012 | 3013 | 1000 | 3000 | 3500 | 3501 | 3502) {
                return Err((Some(number), "the code of the Close has no cause"));
            }
        }
        if session.transport.state != State::Present {
            let client = session.client;
            self.clients[client].take_positions(session);
            let longest = if self.phase == Phase::Chaos { 3_000_000 } else { 100_000 };
            let at = self.trace.now + self.random.micros(1000..=longest);
            self.connect_at(client, at);
        }
        Ok(())
    }

    fn connect_at(&mut self, client: usize, at: Duration) {
        self.clients[client].connects_at = Some(at);
        self.add(at, Event::Connect(client));
    }

    /// Creates the event of a client's next step.
    fn schedule(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let Some(session) = this.session else { return };
        let Some(at) = this.next_step(&self.sessions[session], self.trace.now) else { return };
        if this.wakes_at.is_none_or(|other| at < other) {
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
        if self.plan.has_stalls && self.phase == Phase::Chaos && self.random.one_in(200) {
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
        let answers = std::mem::take(&mut self.node.backend.answers);
        for (delay, worker, event) in answers {
            self.add(self.trace.now + delay, Event::Answer(worker, event));
        }
        for session in sessions {
            let client = self.sessions[session].client;
            if self.clients[client].session == Some(session) {
                self.schedule(client);
            }
        }
        let station = &self.stations[worker];
        if station.is_finished {
            self.trace.step(Subject::Worker(worker), "has finished", 0);
            if self.is_draining && self.stations.iter().all(|station| station.is_finished) {
                self.start_again();
            }
        } else if let Some(at) = station.carrier.next_turn(&self.sessions, self.start, self.trace.now) {
            self.wake(worker, at);
        }
        Ok(())
    }

    /// Stops the node: it is killed, or it closes its connections first.
    fn restart(&mut self) {
        if self.phase != Phase::Chaos || self.is_draining {
            return;
        }
        self.node.mail.marks.insert("a restart");
        if self.random.one_in(2) {
            self.trace.step(Subject::World, "stops the node", 0);
            self.is_draining = true;
            return self.drain();
        }
        self.trace.step(Subject::World, "kills the node", 0);
        for session in &mut self.sessions {
            session.transport.link.close();
        }
        self.records.forget();
        self.start_again();
    }

    fn drain(&mut self) {
        let spread = self.random.micros(1..=2_000_000);
        for worker in 0..self.plan.workers {
            self.stations[worker].drain = Some(spread);
            self.wake(worker, self.trace.now);
        }
    }

    fn start_again(&mut self) {
        self.trace.step(Subject::World, "starts the node", 0);
        self.is_draining = false;
        let (now, seed) = (self.now(), self.random.number());
        self.node.start(&self.plan, seed);
        for worker in 0..self.plan.workers {
            let (config, seed) = (self.channels_config.clone(), self.random.number());
            self.stations[worker] = Station::new(worker, &self.plan, config, seed, now);
        }
        for session in &mut self.sessions {
            // Some were waiting to be opened.
            session.transport.link.close();
        }
        (0..self.plan.clients).for_each(|client| self.schedule(client));
    }

    fn heal(&mut self) {
        self.trace.step(Subject::World, "no more faults", 0);
        self.phase = Phase::Healing;
        self.healed_at = self.trace.now;
        self.node.enlarge_inboxes();
        for client in 0..self.clients.len() {
            self.clients[client].is_hasty = true;
            let session = self.clients[client].session;
            if let Some(session) =
                session.filter(|session| self.sessions[*session].transport.state == State::Vanished)
            {
                // Its network is back, and the client connects again. The server has yet to notice.
                let session = &mut self.sessions[session];
                self.clients[client].take_positions(session);
                self.connect_at(client, self.trace.now + Duration::from_millis(1));
            }
            self.schedule(client);
        }
        self.add(self.trace.now + CHECK, Event::Check);
    }

    /// Checks what must hold if nothing is on its way, and stops then.
    fn check_rest(&mut self) -> Result<(), Broken> {
        let current = |client: &Client| client.session.map(|session| (session, &self.sessions[session]));
        let is_at_rest = |client: &Client| {
            current(client).is_some_and(|(_, session)| session.is_at_rest() && !client.wants_more(session))
        };
        let restless = self.clients.iter().find(|client| !client.is_absent() && !is_at_rest(client));
        let is_old = |(number, session): (usize, &Session)| {
            self.clients[session.client].session != Some(number) && !session.transport.link.is_closed()
        };
        let has_old = self.sessions.iter().enumerate().any(is_old);
        // It may have to write a publication, or the rest of one.
        let is_busy = |station: &Station| {
            station.carrier.next_turn(&self.sessions, self.start, self.trace.now) == Some(self.trace.now)
        };
        let has_work = self.stations.iter().any(is_busy);
        let is_quiet =
            self.node.is_quiet() && self.node.has_settled() && !self.is_draining && !has_old && !has_work;
        let has_ends = self.has_ends()?;
        if restless.is_some() || !is_quiet || has_ends {
            if self.trace.now > self.plan.chaos + LONGEST_HEALING {
                let session = restless.and_then(|client| client.session);
                return Err((session, "a command is not answered, or an event never arrives"));
            }
            self.add(self.trace.now + CHECK, Event::Check);
            return Ok(());
        }
        self.check_subscriptions()?;
        self.check_presence()?;
        if !self.node.is_within_memory(self.plan.history_memory) {
            return Err((None, "the histories take more memory than their limit"));
        }
        self.phase = Phase::Stopping;
        self.trace.step(Subject::World, "stops", 0);
        self.drain();
        self.add(self.trace.now + LONGEST_HEALING, Event::Deadline);
        Ok(())
    }

    /// Returns whether something has expired and has not ended.
    ///
    /// # Errors
    /// It should have ended long ago.
    fn has_ends(&self) -> Result<bool, Broken> {
        let mut has_ends = false;
        for number in self.clients.iter().filter_map(|client| client.session) {
            let session = &self.sessions[number];
            if !session.is_open() {
                continue;
            }
            let actives = session.subscriptions.values().filter_map(|it| it.active.as_ref());
            let grants = actives.map(|active| active.grants.as_slice());
            for serials in grants.chain([self.node.credentials(session.connection)]) {
                let ends_at = self.node.issuer.ends_at(serials).filter(|at| *at <= self.trace.now);
                let Some(ends_at) = ends_at else { continue };
                has_ends = true;
                if ends_at + LONGEST_END < self.trace.now && self.healed_at + LONGEST_END < self.trace.now {
                    return Err((Some(number), "something lasts although its token has expired"));
                }
            }
        }
        Ok(has_ends)
    }

    fn check_subscriptions(&mut self) -> Result<(), Broken> {
        for client in &self.clients {
            let Some(number) = client.session else { continue };
            let session = &mut self.sessions[number];
            let place = (session.worker, session.connection);
            for (&channel, subscription) in &mut session.subscriptions {
                if subscription.active.is_some() != subscription.is_wanted {
                    return Err((Some(number), "a subscription is lost"));
                }
                let is_complete = |active: &mut Active| active.is_complete(channel, place, &self.node);
                if !subscription.active.as_mut().is_none_or(is_complete) {
                    return Err((Some(number), "publications never arrive"));
                }
            }
        }
        Ok(())
    }

    fn check_presence(&self) -> Result<(), Broken> {
        for channel in 0..self.node.channels() {
            let is_active =
                |session: &Session| session.subscriptions.get(&channel).is_some_and(|it| it.active.is_some());
            let sessions = self.clients.iter().filter_map(|client| client.session);
            let subscribed: Vec<&Session> =
                sessions.map(|session| &self.sessions[session]).filter(|it| is_active(it)).collect();
            if self.node.subscriptions(channel) != subscribed.len() {
                return Err((None, "a channel has another number of subscriptions than clients"));
            }
            if !self.node.plan(channel).options.presence {
                continue;
            }
            let mut ids: Vec<String> = subscribed.iter().filter_map(|session| session.id.clone()).collect();
            ids.sort();
            let (present, stats) = self.node.presence(channel);
            if present != ids || stats.clients != ids.len() {
                return Err((None, "the presence differs from the clients that are subscribed"));
            }
        }
        Ok(())
    }

    /// Checks that nothing is left.
    fn check_end(&mut self) -> Result<(), Broken> {
        let holds = |holds: bool, what| if holds { Ok(()) } else { Err((None, what)) };
        for station in &self.stations {
            holds(
                station.carrier.worker.memory_held() == 0,
                "memory is counted although there are no connections",
            )?;
            let subscriptions = station.carrier.worker.application().subscriptions();
            holds(subscriptions == 0, "subscriptions are left although there are no connections")?;
        }
        let expected = self.node.published == self.records.publications;
        holds(expected, "another number of publications is recorded than executed")?;
        holds(self.records.are_complete(), "a connection has no record of its end")?;
        for worker in 0..self.plan.workers {
            // What was sent to workers without clients.
            let now = self.now();
            drop(self.node.take_events(worker, now, &mut Random::new(0)));
            while self.node.mail.is_woken[worker] {
                drop(self.node.take_events(worker, now, &mut Random::new(0)));
            }
        }
        let later = self.now() + Duration::from_secs(1_000_000);
        holds(self.node.is_empty_after(later), "channels are left although there are no clients")
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

/// The longest time until a client without faults knows of the end of something that has expired.
const LONGEST_END: Duration = Duration::from_secs(10);

/// The longest time until all clients are at rest, and until all workers have finished.
const LONGEST_HEALING: Duration = Duration::from_secs(120);
