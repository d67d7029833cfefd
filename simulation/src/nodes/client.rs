//! A client: what it wants, across its connections with any nodes, as an application with an SDK does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use centrifuge_client_core::proto;

use super::session::{Pending, Session, View};
use super::truth::Truth;
use crate::random::Random;
use crate::sdk::{End, Known, State};
use crate::trace::{Subject, Trace};

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    pub(crate) user: usize,
    /// The number of its newest session.
    pub(crate) session: Option<usize>,
    /// When it connects, if it is not connected.
    pub(crate) connects_at: Option<Duration>,
    /// The time of its next step, if there is one.
    pub(crate) wakes_at: Option<Duration>,
    /// The channels that it wants to be subscribed to.
    pub(crate) intent: BTreeSet<usize>,
    /// The positions from which it can recover.
    positions: BTreeMap<usize, Known>,
    /// The most bytes that it reads and writes at a time.
    portion: usize,
    /// The longest time between two of its steps, in microseconds.
    pause: usize,
    /// The longest time between two of its actions, in microseconds.
    idles: usize,
    reads_at: Duration,
    acts_at: Duration,
    /// The number of its actions until now.
    chosen: usize,
    /// Whether it has no faults any more, and only keeps its subscriptions.
    pub(crate) is_hasty: bool,
    random: Random,
}

impl Client {
    pub(crate) fn new(number: usize, user: usize, mut random: Random) -> Client {
        Client {
            number,
            user,
            session: None,
            connects_at: None,
            wakes_at: None,
            intent: BTreeSet::new(),
            positions: BTreeMap::new(),
            portion: random.magnitude(64..=262_144),
            pause: random.pick([100, 1000, 20_000]),
            idles: random.pick([10_000, 100_000, 1_000_000]),
            reads_at: Duration::ZERO,
            acts_at: Duration::ZERO,
            chosen: 0,
            is_hasty: false,
            random,
        }
    }

    /// Whether it never connects, because it is left out of the plan.
    pub(crate) fn is_absent(&self) -> bool {
        self.session.is_none() && self.connects_at.is_none()
    }

    /// Begins with a new connection.
    pub(crate) fn connect(&mut self, session: usize) {
        self.session = Some(session);
        self.connects_at = None;
        self.reads_at = Duration::ZERO;
    }

    /// Returns the time of the next step, if there is something to do.
    pub(crate) fn next_step(&mut self, session: &Session, now: Duration) -> Option<Duration> {
        if session.transport.state != State::Present {
            return None;
        }
        let reads_at = if self.is_hasty { Duration::ZERO } else { self.reads_at };
        let transfers_at = session.transport.next_transfer(reads_at);
        let is_undone = self.wants_more(session) || !session.ended.is_empty();
        let acts_at = (session.is_open() && (is_undone || !self.is_hasty)).then_some(self.acts_at);
        let at = [transfers_at, acts_at].into_iter().flatten().min()?;
        let pause = if self.is_hasty { 100 } else { self.pause };
        Some(at.max(now) + self.random.micros(1..=pause))
    }

    /// Whether the session has yet to subscribe to a channel.
    pub(crate) fn wants_more(&self, session: &Session) -> bool {
        let is_wanted = |channel: &usize| session.subscriptions.get(channel).is_some_and(|it| it.is_wanted);
        session.id.is_none() && session.pending.is_empty() || !self.intent.iter().all(is_wanted)
    }

    /// Reads, acts and writes.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn step(&mut self, session: &mut Session, view: &mut View<'_>) -> Result<(), &'static str> {
        let portion = if self.is_hasty { usize::MAX } else { self.random.magnitude(1..=self.portion) };
        let now = view.trace.now;
        if self.reads_at <= now || self.is_hasty {
            session.read(portion, view)?;
        }
        for (channel, known, end) in std::mem::take(&mut session.ended) {
            match (known, end) {
                (Some(known), End::Asked | End::Gap) => _ = self.positions.insert(channel, known),
                // Its publications are lost.
                (None, End::Gap) => _ = self.positions.remove(&channel),
                (None, End::Asked) => {}
            }
        }
        if std::mem::take(&mut session.is_refused) {
            // An SDK waits before it tries again.
            self.acts_at = now + self.random.micros(10_000..=500_000);
        }
        if session.is_open() && self.acts_at <= now {
            self.act(session, view.truth, view.trace);
            let idles = if self.is_hasty { 1_000 } else { self.idles };
            self.acts_at = now + self.random.micros(1..=idles);
        }
        session.transport.write(portion, view.trace);
        Ok(())
    }

    /// Remembers the positions of a session that has ended.
    pub(crate) fn take_positions(&mut self, session: &mut Session) {
        for (&channel, subscription) in &mut session.subscriptions {
            if let Some(known) = subscription.active.take().and_then(|active| active.known) {
                self.positions.insert(channel, known);
            }
        }
    }

    fn act(&mut self, session: &mut Session, truth: &mut Truth, trace: &mut Trace) {
        let mut commands = Vec::new();
        if session.id.is_none() && session.pending.is_empty() {
            commands.push(self.connect_command(truth));
            // Some clients do not wait for the reply.
            if self.random.one_in(2) {
                return session.send(commands, trace);
            }
        }
        if session.id.is_none() && commands.is_empty() && !self.random.one_in(4) {
            return;
        }
        let wanted = |channel: &usize| session.subscriptions.get(channel).is_some_and(|it| it.is_wanted);
        let missing: Vec<usize> = self.intent.iter().copied().filter(|channel| !wanted(channel)).collect();
        commands.extend(missing.into_iter().map(|channel| self.subscribe_command(channel, truth)));
        if !self.is_hasty {
            for _ in 0..self.random.magnitude(1..=4) {
                let part = (self.number + 1, self.chosen);
                self.chosen += 1;
                let now = trace.now;
                if trace.plan(part, format_args!("client {} acts at {now:?}", part.0)) {
                    self.choose(session, truth, trace, &mut commands);
                }
            }
        }
        if !commands.is_empty() && session.is_open() {
            trace.step(Subject::Client(self.number), "sends commands", commands.len());
            if self.random.one_in(2) {
                return session.send(commands, trace);
            }
            commands.into_iter().for_each(|command| session.send(vec![command], trace));
        }
    }

    /// Chooses an action.
    fn choose(
        &mut self,
        session: &mut Session,
        truth: &mut Truth,
        trace: &mut Trace,
        commands: &mut Vec<(proto::Command, Pending)>,
    ) {
        let subject = Subject::Client(self.number);
        let channel = self.random.within(0..=truth.plans.len() - 1);
        let plan = &truth.plans[channel];
        let (name, options) = (plan.name.to_string(), &plan.options);
        let is_own = plan.user.is_none();
        let mut add = |command: proto::Command, pending| commands.push((command, pending));
        match self.random.within(0..=99) {
            0..=34 if is_own && self.intent.insert(channel) => {
                commands.push(self.subscribe_command(channel, truth))
            }
            35..=40 if is_own && self.intent.contains(&channel) => {
                let unsubscribe = Some(proto::UnsubscribeRequest { channel: name });
                add(proto::Command { unsubscribe, ..Default::default() }, Pending::Unsubscribe(channel));
                if self.random.one_in(2) {
                    // It subscribes again without waiting.
                    commands.push(self.subscribe_command(channel, truth));
                } else {
                    self.intent.remove(&channel);
                }
            }
            41..=72 if options.allow_publish_for_client => {
                let (_, data) = truth.issue(channel, &mut self.random);
                let publish = Some(proto::PublishRequest { channel: name, data, ..Default::default() });
                add(proto::Command { publish, ..Default::default() }, Pending::Publish);
            }
            73..=76 if options.presence && is_own => {
                let presence = Some(proto::PresenceRequest { channel: name });
                add(proto::Command { presence, ..Default::default() }, Pending::Presence);
            }
            77..=82 if options.has_history() && is_own => {
                let (limit, reverse) = (self.random.within(0..=6) as i32 - 1, self.random.one_in(2));
                let history = Some(proto::HistoryRequest { channel: name, limit, reverse, since: None });
                add(proto::Command { history, ..Default::default() }, Pending::History(channel));
            }
            83..=86 => {
                let time = self.random.micros(1000..=4_000_000);
                trace.step(subject, "stops reading for milliseconds", time.as_millis() as usize);
                self.reads_at = trace.now + time;
            }
            87..=91 => session.transport.send_close(self.random.pick([None, Some(1000), Some(3000)])),
            92..=94 => {
                trace.step(subject, "resets the connection", 0);
                session.transport.reset();
            }
            95 if self.random.one_in(2) => {
                trace.step(subject, "vanishes", 0);
                session.transport.state = State::Vanished;
            }
            _ => {}
        }
    }

    fn connect_command(&mut self, truth: &Truth) -> (proto::Command, Pending) {
        let personal = truth.personal_channel(self.user);
        let asked = personal.and_then(|channel| Some((channel, self.positions.get(&channel)?.clone())));
        let subs = asked.iter().map(|(channel, known)| {
            let request = proto::SubscribeRequest {
                recover: true,
                epoch: known.epoch.clone(),
                offset: known.offset,
                ..Default::default()
            };
            (truth.plans[*channel].name.to_string(), request)
        });
        let connect = Some(proto::ConnectRequest { subs: subs.collect(), ..Default::default() });
        (proto::Command { connect, ..Default::default() }, Pending::Connect(asked))
    }

    fn subscribe_command(&mut self, channel: usize, truth: &Truth) -> (proto::Command, Pending) {
        let asked = self.positions.get(&channel).cloned();
        let is_required = asked.is_some() && self.random.one_in(8);
        let request = proto::SubscribeRequest {
            channel: truth.plans[channel].name.to_string(),
            recover: asked.is_some(),
            epoch: asked.as_ref().map(|known| known.epoch.clone()).unwrap_or_default(),
            offset: asked.as_ref().map_or(0, |known| known.offset),
            join_leave: self.random.one_in(2),
            flag: if is_required { REJECT_UNRECOVERED } else { 0 },
            ..Default::default()
        };
        let command = proto::Command { subscribe: Some(request), ..Default::default() };
        (command, Pending::Subscribe { channel, asked, is_required })
    }
}

/// The flag of a `subscribe` that fails if its publications cannot be recovered.
const REJECT_UNRECOVERED: i64 = 2;
