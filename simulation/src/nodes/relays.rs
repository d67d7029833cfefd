//! The thread of a node's relay in the world, as `runtimes/host/src/engine/driver.rs` runs it, and the network to the engine.

use std::time::Duration;

use postern_channels::relay::command::{Cause, Failure};
use postern_channels::relay::link::{Action, Attempt};
use postern_channels::relay::{CommandId, RelayEvent, WhenDown};

use super::engine::{Arrival, Way};
use super::node::{Input, Node};
use super::world::{Event, Phase, World};
use crate::fault::Fault;
use crate::trace::Subject;

impl World {
    /// Handles all inputs, and performs the actions that follow.
    pub(super) fn relay_turn(&mut self, number: usize) {
        if self.nodes[number].wakes_at != Some(self.trace.now) || self.nodes[number].is_down {
            return;
        }
        let now = self.now();
        let time = super::engine::milliseconds(self.trace.now) as i64;
        let node = &mut self.nodes[number];
        node.wakes_at = None;
        node.shards.time = time;
        let inputs = node.queue.take();
        self.trace.step(Subject::Worker(number * 10 + 9), "handles inputs", inputs.len());
        let mut closed = Vec::new();
        for input in inputs {
            if self.trace.is_printed() {
                println!("                  node {number}: {input:?}");
            }
            handle(node, input, now, &mut closed);
        }
        node.relay.handle_timeout(now, &mut node.shards);
        self.handle_events(number);
        self.note_users(number);
        let node = &mut self.nodes[number];
        if std::mem::take(&mut node.shards.mail.has_lost) {
            node.lost_at = self.trace.now;
        }
        let may_be_local = node.lost_at > Duration::ZERO && self.plan.relay.when_down == WhenDown::Local;
        for (publication, position) in std::mem::take(&mut node.shards.mail.published) {
            if let Some(channel) = self.truth.channel_of(publication) {
                self.truth.check_published(channel, publication, position, may_be_local);
            }
        }
        while let Some(action) = self.nodes[number].relay.poll_action(now) {
            self.perform(number, action, &mut closed);
        }
        closed.into_iter().for_each(|wire| self.close(wire));
        self.wake_workers(number);
        if let Some(at) = self.nodes[number].relay.poll_timeout() {
            let at = at.saturating_duration_since(self.start).max(self.trace.now);
            self.wake_relay(number, at);
        }
    }

    fn handle_events(&mut self, number: usize) {
        while let Some(event) = self.nodes[number].relay.poll_event() {
            if self.trace.is_printed() {
                println!("                  node {number}: {event:?}");
            }
            let node = &mut self.nodes[number];
            let life = node.life;
            match event {
                RelayEvent::Answer(token, answer) => self.handle_answer(life, token, answer),
                RelayEvent::Command(id, message) => {
                    let command = <[u8; 8]>::try_from(&*message).map(u64::from_le_bytes).unwrap_or_default();
                    if !node.commands.insert(command) {
                        self.truth.report("a command is performed twice");
                    }
                    let at = self.trace.now + self.random.micros(1..=200_000);
                    self.add(at, Event::Performed(number, life, id));
                }
                RelayEvent::Revocations(revocations) => {
                    let read = revocations.iter().filter_map(|it| <[u8; 8]>::try_from(&**it).ok());
                    node.revocations.extend(read.map(u64::from_le_bytes));
                }
                // Its lease is valid without a description.
                RelayEvent::Describe => {}
                RelayEvent::Close { user, connection } => self.close_excess(number, &user, connection),
                RelayEvent::Live => {
                    self.trace.step(Subject::Worker(number * 10 + 9), "is live", number);
                    (node.is_live, node.lost_at) = (true, self.trace.now);
                }
                RelayEvent::Down(failure) => {
                    self.trace.step(Subject::Worker(number * 10 + 9), failure.cause.label(), number);
                    self.trace.seen.insert(failure.cause as u16);
                    (node.is_live, node.lost_at) = (false, self.trace.now);
                }
            }
        }
    }

    fn perform(&mut self, number: usize, action: Action, closed: &mut Vec<u64>) {
        let node = &mut self.nodes[number];
        match action {
            Action::Connect(attempt) => {
                let life = node.life;
                let at = self.trace.now + self.delay() + self.delay();
                self.add(at, Event::Open(number, life, attempt));
            }
            Action::Close(attempt) => {
                closed.extend(node.wire.take_if(|(of, _)| *of == attempt).map(|(_, wire)| wire));
            }
            Action::Send(attempt, ticket, command) => {
                let Some((_, wire)) = node.wire.filter(|(of, _)| *of == attempt) else { return };
                let at = self.trace.now + self.delay();
                let due = self.engine.send(wire, ticket, command, at);
                self.add_due(due);
            }
        }
    }

    /// A node closes its connections. What it has sent may still be executed.
    pub(super) fn close(&mut self, wire: u64) {
        let is_kept = self.random.one_in(2);
        self.engine.close(wire, is_kept);
        let at = self.engine.last_arrival(wire).max(self.trace.now) + self.delay();
        self.add(at, Event::Forget(wire));
    }

    /// The connections of an attempt are open, or cannot be opened.
    pub(super) fn open(&mut self, number: usize, life: u64, attempt: Attempt) {
        let now = self.trace.now;
        let (node, frozen) = (&mut self.nodes[number], self.engine.master().frozen_until);
        if node.life != life || node.is_down {
            return;
        }
        let stalled = self.stalls[number].max(frozen);
        if stalled > now {
            return self.add(stalled, Event::Open(number, life, attempt));
        }
        if self.engine.master().is_down {
            let failure = Failure::new(Cause::Unreachable, "refused");
            node.queue.inputs.push_back(Input::Failed(attempt, failure));
        } else {
            let wire = self.engine.connect(number, life, attempt);
            node.queue.inputs.push_back(Input::Connected(attempt, wire));
        }
        self.wake_relay(number, now);
    }

    /// Bytes arrive at a server or at a node.
    pub(super) fn arrive(&mut self, number: u64, place: usize, way: Way) {
        let now = self.trace.now;
        let Some(wire) = self.engine.wires.get(&number) else { return };
        let machine = &self.engine.machines[wire.machine];
        let frozen = if way == Way::ToServer { machine.frozen_until } else { Duration::ZERO };
        let later = wire.stalled_until.max(frozen);
        if later > now {
            return self.add(later, Event::Bytes(number, place, way));
        }
        let (node, life, attempt) = (wire.node, wire.life, wire.attempt);
        if way == Way::ToServer {
            let (random, longest) = (&mut self.random, self.plan.delay);
            let mut delays = random.fork();
            let mut delay = || delays.micros(10..=longest);
            let due = self.engine.execute(number, place, now, &mut self.truth, random, &mut delay);
            return self.add_due(due);
        }
        let Some(arrival) = self.engine.take(number, place) else { return };
        let this = &mut self.nodes[node];
        if this.life != life || this.is_down {
            return;
        }
        match arrival {
            Arrival::Reply(ticket, result) => {
                this.queue.inputs.push_back(Input::Reply(attempt, ticket, result));
            }
            Arrival::Message(topic, content) => this.queue.add_message(attempt, topic, content),
            Arrival::Failed(failure) => this.queue.inputs.push_back(Input::Failed(attempt, failure)),
        }
        self.wake_relay(node, now);
    }

    /// A node has performed a command of another one.
    pub(super) fn performed(&mut self, node: usize, life: u64, id: CommandId) {
        if self.nodes[node].life == life {
            self.nodes[node].queue.inputs.push_back(Input::Performed(id));
            self.wake_relay(node, self.trace.now);
        }
    }

    /// Ends the connections of a node, as seen from the server.
    pub(super) fn cut(&mut self, wire: u64) {
        let failure = Failure::new(Cause::Closed, "the connection has ended");
        let at = self.trace.now + self.delay();
        let due = self.engine.end(wire, &failure, at);
        self.add_due(due);
    }

    /// Whether faults may happen.
    pub(super) fn is_chaos(&self) -> bool {
        self.phase == Phase::Chaos
    }

    /// Whether a planted fault is this one.
    pub(super) fn is_planted(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// Handles an input of the relay's thread.
fn handle(node: &mut Node, input: Input, now: std::time::Instant, closed: &mut Vec<u64>) {
    let (relay, shards) = (&mut node.relay, &mut node.shards);
    match input {
        Input::Worker(worker, request) => return relay.handle_request(worker, request, now, shards),
        Input::Server(request) => return relay.handle_server_request(request, now, shards),
        Input::User(user) => relay.handle_user_changed(user.into()),
        Input::Performed(id) => relay.handle_performed(id, 1, &[], now),
        Input::Message { attempt, topic, content } => {
            relay.handle_message(attempt, &topic, &content, now, shards);
        }
        Input::Connected(attempt, wire) => {
            if node.wire.is_none_or(|(of, _)| of < attempt) {
                closed.extend(node.wire.replace((attempt, wire)).map(|(_, old)| old));
                relay.link().handle_connected(attempt, now);
            } else {
                closed.push(wire);
            }
        }
        Input::Failed(attempt, failure) => relay.link().handle_failed(attempt, failure, now),
        Input::Reply(attempt, ticket, result) => relay.link().handle_reply(attempt, ticket, result, now),
    }
    relay.handle_events(now, shards);
}
