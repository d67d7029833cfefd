//! A client: what it wants, across its connections, as an application with an SDK does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use centrifuge_client_core::proto;

use super::filters;
use super::node::Node;
use super::plan::user_name;
use super::session::{Pending, Session};
use super::subscription::Request;
use crate::fault::Fault;
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
    /// Whether its connections have tokens.
    has_tokens: bool,
    /// Whether it refreshes the tokens of its connections and subscriptions.
    pub(crate) has_refreshes: bool,
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
            portion: random.magnitude(32..=262_144),
            pause: random.pick([100, 1000, 20_000]),
            idles: random.pick([2_000, 100_000, 1_000_000]),
            reads_at: Duration::ZERO,
            acts_at: Duration::ZERO,
            has_tokens: random.one_in(2),
            has_refreshes: !random.one_in(3),
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
        let acts_at = match (self.is_hasty, is_undone) {
            (false, _) => Some(self.acts_at),
            (true, true) => Some(Duration::ZERO),
            (true, false) => session.next_refresh(),
        };
        let acts_at = acts_at.filter(|_| session.is_open());
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
    pub(crate) fn step(
        &mut self,
        session: &mut Session,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        let portion = if self.is_hasty { usize::MAX } else { self.random.magnitude(1..=self.portion) };
        if self.reads_at <= trace.now || self.is_hasty {
            session.read(portion, node, trace)?;
        }
        for (channel, known, end) in std::mem::take(&mut session.ended) {
            match (known, end) {
                (Some(known), End::Asked | End::Gap) => _ = self.positions.insert(channel, known),
                // Its publications are lost.
                (None, End::Gap) => _ = self.positions.remove(&channel),
                (None, End::Asked) => {}
            }
        }
        if session.is_open() && (self.is_hasty || self.acts_at <= trace.now) {
            self.act(session, node, trace);
            self.acts_at = trace.now + self.random.micros(1..=self.idles);
        }
        session.transport.write(portion, trace);
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

    fn act(&mut self, session: &mut Session, node: &mut Node, trace: &mut Trace) {
        let mut commands = Vec::new();
        if session.id.is_none() && session.pending.is_empty() {
            commands.push(self.connect_command(session, node));
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
        commands.extend(missing.into_iter().map(|channel| self.subscribe_command(channel, node)));
        if session.id.is_some() {
            self.refresh(session, node, trace.now, &mut commands);
        }
        if !self.is_hasty {
            for _ in 0..self.random.magnitude(1..=4) {
                let part = (self.number + 1, self.chosen);
                self.chosen += 1;
                let now = trace.now;
                if trace.plan(part, format_args!("client {} acts at {now:?}", part.0)) {
                    self.choose(session, node, trace, &mut commands);
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
        node: &mut Node,
        trace: &mut Trace,
        commands: &mut Vec<(proto::Command, Pending)>,
    ) {
        let subject = Subject::Client(self.number);
        let channel = self.random.within(0..=node.channels() - 1);
        let plan = node.plan(channel);
        let (name, options) = (plan.name.to_string(), &plan.options);
        let is_own = plan.user.is_none();
        let mut add = |command: proto::Command, pending| commands.push((command, pending));
        match self.random.within(0..=99) {
            0..=29 if is_own && self.intent.insert(channel) => {
                commands.push(self.subscribe_command(channel, node))
            }
            30..=37 if is_own && self.intent.contains(&channel) => {
                let unsubscribe = Some(proto::UnsubscribeRequest { channel: name });
                add(proto::Command { unsubscribe, ..Default::default() }, Pending::Unsubscribe(channel));
                if self.random.one_in(2) {
                    // It subscribes again without waiting.
                    commands.push(self.subscribe_command(channel, node));
                } else {
                    self.intent.remove(&channel);
                }
            }
            38..=69 if options.allow_publish_for_client || options.publish_hook => {
                let (number, data) = node.numbered_data(&mut self.random);
                let publish = Some(proto::PublishRequest { channel: name, data, ..Default::default() });
                add(proto::Command { publish, ..Default::default() }, Pending::Publish { channel, number });
            }
            70..=75 if options.presence && is_own => {
                let presence = Some(proto::PresenceRequest { channel: name });
                add(proto::Command { presence, ..Default::default() }, Pending::Presence(channel));
            }
            76..=77 if options.presence && is_own => {
                let presence_stats = Some(proto::PresenceStatsRequest { channel: name });
                add(proto::Command { presence_stats, ..Default::default() }, Pending::PresenceStats(channel));
            }
            78..=83 if options.has_history() && is_own => {
                let (limit, reverse) = (self.random.within(0..=6) as i32 - 1, self.random.one_in(2));
                let history = Some(proto::HistoryRequest { channel: name, limit, reverse, since: None });
                add(proto::Command { history, ..Default::default() }, Pending::History(channel));
            }
            94..=99 if options.rpc_hook => {
                let (number, data) = node.numbered_data(&mut self.random);
                let method = name.trim_start_matches('$').to_owned();
                let rpc = proto::RpcRequest { method, data: data.clone() };
                let command = proto::Command { rpc: Some(rpc), ..Default::default() };
                add(command, Pending::Rpc { number, data });
            }
            84..=89 => {
                let time = self.random.micros(1000..=8_000_000);
                trace.step(subject, "stops reading for milliseconds", time.as_millis() as usize);
                self.reads_at = trace.now + time;
            }
            90..=91 => session.transport.send_close(self.random.pick([None, Some(1000), Some(3000)])),
            92 => {
                trace.step(subject, "resets the connection", 0);
                session.transport.reset();
            }
            93 if self.random.one_in(2) => {
                trace.step(subject, "vanishes", 0);
                session.transport.state = State::Vanished;
            }
            _ => {}
        }
    }

    /// Refreshes what expires soon.
    fn refresh(
        &mut self,
        session: &mut Session,
        node: &mut Node,
        now: Duration,
        commands: &mut Vec<(proto::Command, Pending)>,
    ) {
        let user = user_name(self.user);
        let begun: Vec<usize> = commands.iter().filter_map(|(_, pending)| pending.subscription()).collect();
        if session.refreshes_at.take_if(|at| *at <= now).is_some() {
            let (serial, token) = node.issuer.issue(&user, None, self.is_hasty, &mut self.random);
            node.add_credentials(session.connection, serial);
            let refresh = Some(proto::RefreshRequest { token });
            commands
                .push((proto::Command { refresh, ..Default::default() }, Pending::Refresh { token: serial }));
        }
        for channel in session.due_refreshes(now) {
            if begun.contains(&channel) {
                continue;
            }
            let name = node.plan(channel).name.to_string();
            let (serial, token) = node.issuer.issue(&user, Some(&name), self.is_hasty, &mut self.random);
            if let Some(active) = &mut session.subscription(channel).active {
                active.refreshes_at = None;
                active.grants.push(serial);
            }
            let sub_refresh = Some(proto::SubRefreshRequest { channel: name, token, ..Default::default() });
            let command = proto::Command { sub_refresh, ..Default::default() };
            commands.push((command, Pending::SubRefresh { channel, token: serial }));
        }
    }

    fn connect_command(&mut self, session: &Session, node: &mut Node) -> (proto::Command, Pending) {
        let personal = node.personal_channel(self.user);
        let asked = personal.and_then(|channel| Some((channel, self.positions.get(&channel)?.clone())));
        let subs = asked.iter().map(|(channel, known)| {
            let request = proto::SubscribeRequest {
                recover: true,
                epoch: known.epoch.clone(),
                offset: known.offset,
                // It has no effect here: `connect` is answered in any case.
                flag: if self.random.one_in(4) { REJECT_UNRECOVERED } else { 0 },
                ..Default::default()
            };
            (node.plan(*channel).name.to_string(), request)
        });
        let subs = subs.collect();
        let token = (self.has_tokens && node.has_tokens())
            .then(|| node.issuer.issue(&user_name(self.user), None, self.is_hasty, &mut self.random));
        let (serial, token) = token.unzip();
        if let Some(serial) = serial {
            node.add_credentials(session.connection, serial);
        }
        let token = node.issuer.on_the_way(token, &user_name(self.user), None);
        let connect = Some(proto::ConnectRequest { subs, token, ..Default::default() });
        let command = proto::Command { connect, ..Default::default() };
        (command, Pending::Connect { asked, token: serial })
    }

    fn subscribe_command(&mut self, channel: usize, node: &mut Node) -> (proto::Command, Pending) {
        let asked = self.positions.get(&channel).cloned();
        let is_required = asked.is_some() && self.random.one_in(4);
        let mut flag = if self.random.one_in(2) { COMPACTION } else { 0 };
        if is_required {
            flag |= REJECT_UNRECOVERED;
        }
        let (number, data) = match node.plan(channel).options.subscribe_hook {
            true => node.numbered_data(&mut self.random),
            false => Default::default(),
        };
        let mut delta = if self.random.one_in(2) { "fossil" } else { "" };
        let (filter, has_bad_filter) = self.choose_filter(channel, &mut delta, node);
        let plan = node.plan(channel);
        // A token also allows what others may do without it.
        let has_token = node.has_tokens()
            && match plan.is_private {
                true => self.is_hasty || !self.random.one_in(12),
                false => self.random.one_in(6),
            };
        let token = has_token.then(|| {
            node.issuer.issue(&user_name(self.user), Some(&plan.name), self.is_hasty, &mut self.random)
        });
        let (serial, token) = token.unzip();
        let sent = filter.clone().and_then(|filter| match node.mail.fault {
            Some(Fault::ForgottenFilter) => None,
            Some(Fault::OtherFilter) if !has_bad_filter => Some(filters::filter(&mut self.random)),
            _ => Some(filter),
        });
        let request = proto::SubscribeRequest {
            channel: plan.name.to_string(),
            token: node.issuer.on_the_way(token, &user_name(self.user), Some(&plan.name)),
            data,
            recover: asked.is_some(),
            epoch: asked.as_ref().map(|known| known.epoch.clone()).unwrap_or_default(),
            offset: asked.as_ref().map_or(0, |known| known.offset),
            positioned: self.random.one_in(2),
            recoverable: self.random.one_in(2),
            join_leave: self.random.one_in(2),
            flag,
            delta: delta.to_owned(),
            tf: sent,
            ..Default::default()
        };
        let command = proto::Command { subscribe: Some(request), ..Default::default() };
        let request = Box::new(Request { known: asked, filter, token: serial });
        (command, Pending::Subscribe { channel, request, is_required, number, has_bad_filter })
    }

    /// Chooses a filter, and whether it must be refused.
    fn choose_filter(
        &mut self,
        channel: usize,
        delta: &mut &str,
        node: &Node,
    ) -> (Option<proto::FilterNode>, bool) {
        let is_allowed = node.plan(channel).options.allow_tags_filter;
        if is_allowed && self.random.one_in(2) {
            // A delta would refer to a publication that the filter leaves out.
            *delta = "";
            return (Some(filters::filter(&mut self.random)), false);
        }
        if self.is_hasty || !self.random.one_in(10) {
            return (None, false);
        }
        if is_allowed && delta.is_empty() {
            return (Some(filters::malformed_filter(&mut self.random)), true);
        }
        (Some(filters::filter(&mut self.random)), true)
    }
}

/// The flag of a `subscribe` that accepts a number in place of the name of the channel.
const COMPACTION: i64 = 1;

/// The flag of a `subscribe` that fails if its publications cannot be recovered.
const REJECT_UNRECOVERED: i64 = 2;
