//! The faults of the engine, of nodes and of the network between them, and their ends.

use std::time::Duration;

use super::engine::milliseconds;
use super::plan::EngineFault;
use super::world::{Event, Phase, World};
use crate::redis::Foreign;
use crate::sdk::State;
use crate::trace::Subject;

impl World {
    pub(super) fn begin_fault(&mut self, fault: EngineFault) {
        if !self.is_chaos() {
            return;
        }
        let now = self.trace.now;
        self.trace.step(Subject::World, name(fault), 0);
        self.truth.mark(name(fault));
        match fault {
            EngineFault::Cut(node) => {
                if let Some((_, wire)) = self.nodes[node].wire {
                    self.cut(wire);
                }
            }
            EngineFault::Stall(node, time) => {
                self.stalls[node] = self.stalls[node].max(now + time);
                let until = self.stalls[node];
                for wire in self.engine.wires.values_mut().filter(|wire| wire.node == node) {
                    wire.stalled_until = wire.stalled_until.max(until);
                }
            }
            EngineFault::Deafen(node) => {
                self.nodes[node].lost_at = now;
                if let Some((_, number)) = self.nodes[node].wire
                    && let Some(wire) = self.engine.wires.get_mut(&number)
                {
                    wire.is_deaf = true;
                }
            }
            EngineFault::Freeze(time) => {
                let master = self.engine.master();
                master.frozen_until = master.frozen_until.max(now + time);
            }
            EngineFault::Restart(time, _) => {
                let master = self.engine.master;
                if !std::mem::replace(&mut self.engine.machines[master].is_down, true) {
                    self.cut_all(master);
                    self.add(now + time, Event::End(fault));
                }
            }
            EngineFault::FailOver(split) => self.fail_over(split),
            EngineFault::Empty => self.interfere(&Foreign::RemoveAll),
            EngineFault::ForgetScripts => self.interfere(&Foreign::ForgetScripts),
            EngineFault::Fill(time) => {
                self.engine.master().server.is_full = true;
                self.add(now + time, Event::End(fault));
            }
            EngineFault::Junk(channel) => {
                let topic = format!("ch:{{{}}}", self.plan.channels[channel].name);
                let junk = self.random.pick(["", "hello", "-:x", "abcdefgh7:", "+", "~zz"]);
                self.interfere(&Foreign::Publish(topic, junk.into()));
            }
            EngineFault::Crash(node, time) => {
                if !self.nodes[node].is_down {
                    self.crash(node);
                    self.add(now + time, Event::End(fault));
                }
            }
        }
    }

    pub(super) fn end_fault(&mut self, fault: EngineFault) {
        self.trace.step(Subject::World, "a fault ends", 0);
        match fault {
            EngineFault::Restart(_, keeps_file) => {
                for machine in 0..self.engine.machines.len() {
                    if self.engine.machines[machine].is_down {
                        self.engine.start_again(machine, keeps_file, &mut self.random);
                        self.engine.machines[machine].server.is_master = machine == self.engine.master;
                    }
                }
            }
            EngineFault::FailOver(_) => self.demote_all(),
            EngineFault::Fill(_) => {
                self.engine.machines.iter_mut().for_each(|machine| machine.server.is_full = false);
            }
            EngineFault::Crash(node, _) => {
                if self.nodes[node].is_down {
                    self.start_node(node);
                }
            }
            EngineFault::Cut(_)
            | EngineFault::Stall(..)
            | EngineFault::Deafen(_)
            | EngineFault::Freeze(_)
            | EngineFault::Empty
            | EngineFault::ForgetScripts
            | EngineFault::Junk(_) => {}
        }
    }

    /// Makes the replica the master. The old master becomes a replica at once, or later.
    fn fail_over(&mut self, split: Option<Duration>) {
        let replica = 1 - self.engine.master;
        let is_ready = self
            .engine
            .machines
            .get(replica)
            .is_some_and(|machine| !machine.is_down && !machine.server.is_master);
        if !is_ready {
            return;
        }
        self.engine.fail_over(&mut self.random);
        match split {
            Some(time) => self.add(self.trace.now + time, Event::End(EngineFault::FailOver(split))),
            None => self.demote_all(),
        }
    }

    /// Makes each master a replica to which nodes do not connect. Sentinel ends its connections.
    fn demote_all(&mut self) {
        for machine in 0..self.engine.machines.len() {
            if machine != self.engine.master && self.engine.machines[machine].server.is_master {
                self.engine.machines[machine].server.is_master = false;
                let replication = self.engine.master().server.replication.clone();
                self.engine.machines[machine].server.replication = replication;
                self.engine.note_loss(machine);
                self.engine.replicate();
                self.cut_all(machine);
            }
        }
    }

    fn cut_all(&mut self, machine: usize) {
        for wire in self.engine.wires_of(machine) {
            self.cut(wire);
        }
    }

    fn interfere(&mut self, foreign: &Foreign) {
        let (now, master) = (self.trace.now, self.engine.master);
        let mut messages = Vec::new();
        // It never fails: it does not depend on types.
        let _ = self.engine.machines[master].server.interfere(foreign, milliseconds(now), &mut messages);
        if *foreign == Foreign::RemoveAll {
            self.engine.note_loss(master);
        }
        let (random, longest) = (&mut self.random, self.plan.delay);
        let due = self.engine.deliver(messages, now, &mut || random.micros(10..=longest));
        self.add_due(due);
    }

    /// Kills a node.
    fn crash(&mut self, node: usize) {
        self.nodes[node].is_down = true;
        self.note_killed(node);
        for session in self.sessions.iter_mut().filter(|session| session.place.0 == node) {
            session.transport.link.close();
            session.lost_at.get_or_insert(self.nodes[node].lost_at);
        }
        if let Some((_, wire)) = self.nodes[node].wire {
            self.close(wire);
        }
        self.forget_requests(self.nodes[node].life);
        (0..self.clients.len()).for_each(|client| self.schedule(client));
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self) {
        let now = self.trace.now;
        self.trace.step(Subject::World, "no more faults", 0);
        (self.phase, self.since) = (Phase::Healing, now);
        for machine in 0..self.engine.machines.len() {
            self.engine.machines[machine].frozen_until = now;
            self.engine.machines[machine].server.is_full = false;
            if self.engine.machines[machine].is_down {
                self.engine.start_again(machine, true, &mut self.random);
                self.engine.machines[machine].server.is_master = machine == self.engine.master;
            }
        }
        self.demote_all();
        self.stalls.iter_mut().for_each(|until| *until = now);
        let mut deaf = Vec::new();
        for (number, wire) in &mut self.engine.wires {
            wire.stalled_until = now;
            if wire.is_deaf && !wire.is_closed {
                deaf.push(*number);
            }
        }
        deaf.into_iter().for_each(|wire| self.cut(wire));
        for node in 0..self.plan.nodes {
            if self.nodes[node].is_down {
                self.start_node(node);
            }
            self.nodes[node].enlarge();
        }
        for client in 0..self.clients.len() {
            self.clients[client].is_hasty = true;
            let session = self.clients[client].session;
            if let Some(session) =
                session.filter(|session| self.sessions[*session].transport.state == State::Vanished)
            {
                // Its network is back, and the client connects again. The server has yet to notice.
                let session = &mut self.sessions[session];
                self.clients[client].take_positions(session);
                self.connect_at(client, now + Duration::from_millis(1));
            }
            self.schedule(client);
        }
        self.add(now + CHECK, Event::Check);
    }
}

fn name(fault: EngineFault) -> &'static str {
    match fault {
        EngineFault::Cut(_) => "the connections of a node end",
        EngineFault::Stall(..) => "bytes of a node do not arrive",
        EngineFault::Deafen(_) => "messages of a node do not arrive",
        EngineFault::Freeze(_) => "the server does not run",
        EngineFault::Restart(_, true) => "the server restarts with old data",
        EngineFault::Restart(_, false) => "the server restarts without data",
        EngineFault::FailOver(None) => "the replica becomes the master",
        EngineFault::FailOver(Some(_)) => "there are two masters",
        EngineFault::Empty => "all data is removed",
        EngineFault::ForgetScripts => "all scripts are removed",
        EngineFault::Fill(_) => "there is no memory left",
        EngineFault::Junk(_) => "another program publishes",
        EngineFault::Crash(..) => "a node is killed",
    }
}

/// The time between two checks.
pub(super) const CHECK: Duration = Duration::from_millis(500);
