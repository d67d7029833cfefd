//! A backend that uses the server API of any node: publications with idempotency keys, removals of histories, commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use centrifuge_client_core::Bytes;
use postern_channels::exchange::{HistoryOptions, Publish};
use postern_channels::publication::Tags;
use postern_channels::relay::{ServerAnswer, ServerOperation, ServerRequest, WhenDown};

use super::node::Input;
use super::world::{Event, Phase, World};
use crate::fault::Fault;
use crate::trace::Subject;

/// The requests of the backend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    pub(super) publications: Vec<Publication>,
    /// The requests without an answer, by the life of the node and their number.
    pub(super) asked: BTreeMap<(u64, u64), Asked>,
    last: u64,
    /// The commands that were sent, and those that are revocations.
    commands: u64,
    pub(super) revocations: Vec<u64>,
    /// Whether all other nodes have performed the last command.
    pub(super) is_performed: bool,
}

/// A publication of the backend.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) channel: usize,
    pub(super) number: u64,
    key: Option<u64>,
    data: Bytes,
    /// Whether it is published, or given up.
    pub(super) is_done: bool,
}

/// The subject of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// The publication with this index, at this node.
    Publication(usize, usize),
    Removal,
    Command,
}

impl World {
    /// Publishes to any channel, or tries a publication again, at any node.
    pub(super) fn publish(&mut self, again: Option<usize>) {
        let index = again.unwrap_or_else(|| {
            let channel = self.random.within(0..=self.plan.channels.len() - 1);
            let key = self.random.one_in(2).then(|| self.random.number());
            self.new_publication(channel, key)
        });
        let up: Vec<usize> = (0..self.plan.nodes).filter(|&node| !self.nodes[node].is_down).collect();
        if up.is_empty() {
            let at = self.trace.now + self.random.micros(10_000..=100_000);
            return self.add(at, Event::Publish(Some(index)));
        }
        let node = up[self.random.within(0..=up.len() - 1)];
        self.trace.step(Subject::World, "publishes at node", node);
        let publication = &self.backend.publications[index];
        let plan = &self.plan.channels[publication.channel];
        let publish = Publish {
            channel: plan.name.clone(),
            data: publication.data.to_vec().into(),
            info: None,
            tags: Tags::default(),
            delta: false,
            time: 0,
            history: HistoryOptions::of(&plan.options),
            key: publication.key.map(|key| key.to_string().into()),
            version: None,
        };
        self.ask(node, ServerOperation::Publish(Box::new(publish)), Asked::Publication(index, node));
    }

    /// Creates a publication. Returns its index.
    pub(super) fn new_publication(&mut self, channel: usize, key: Option<u64>) -> usize {
        let (number, data) = self.truth.issue(channel, &mut self.random);
        self.backend.publications.push(Publication { channel, number, key, data, is_done: false });
        self.backend.publications.len() - 1
    }

    pub(super) fn remove_history(&mut self) {
        let channel = self.random.within(0..=self.plan.channels.len() - 1);
        let node = self.random.within(0..=self.plan.nodes - 1);
        if !self.nodes[node].is_down {
            self.trace.step(Subject::World, "removes the history of channel", channel);
            let name = self.plan.channels[channel].name.clone();
            self.ask(node, ServerOperation::RemoveHistory(name), Asked::Removal);
        }
    }

    /// Sends a command to the clients of all other nodes. Every second one is a revocation.
    pub(super) fn command(&mut self) {
        let node = self.random.within(0..=self.plan.nodes - 1);
        if self.nodes[node].is_down {
            return;
        }
        self.trace.step(Subject::World, "sends a command from node", node);
        self.backend.commands += 1;
        let number = self.backend.commands;
        let bytes: Arc<[u8]> = number.to_le_bytes().into();
        let is_revocation = number.is_multiple_of(2);
        if is_revocation {
            self.backend.revocations.push(number);
        }
        let revocation = is_revocation.then(|| bytes.clone());
        self.ask(node, ServerOperation::Command { command: bytes, revocation }, Asked::Command);
    }

    fn ask(&mut self, node: usize, operation: ServerOperation, asked: Asked) {
        self.backend.last += 1;
        let token = self.backend.last;
        self.backend.asked.insert((self.nodes[node].life, token), asked);
        self.nodes[node].queue.inputs.push_back(Input::Server(ServerRequest { token, operation }));
        self.wake_relay(node, self.trace.now);
    }

    /// Handles an answer of a node.
    pub(super) fn handle_answer(&mut self, life: u64, token: u64, answer: ServerAnswer) {
        let Some(asked) = self.backend.asked.remove(&(life, token)) else {
            return self.truth.report("a request of the server API is answered twice");
        };
        match (asked, answer) {
            (Asked::Publication(index, node), ServerAnswer::Published { position, .. }) => {
                let publication = &mut self.backend.publications[index];
                publication.is_done = true;
                let may_be_local =
                    self.nodes[node].lost_at > Duration::ZERO && self.plan.relay.when_down == WhenDown::Local;
                let (channel, number) = (publication.channel, publication.number);
                self.truth.check_published(channel, number, position, may_be_local);
            }
            (Asked::Publication(index, _), ServerAnswer::Unavailable(_)) => self.try_again(index),
            (Asked::Removal, ServerAnswer::Done | ServerAnswer::Unavailable(_))
            | (Asked::Command, ServerAnswer::Unavailable(_)) => {}
            (Asked::Command, ServerAnswer::Command { affected, nodes, silent, .. }) => {
                // Each node has answered that one connection was affected.
                if affected + silent != nodes {
                    self.truth.report("a command counts other nodes than those that have performed it");
                }
                if silent > 0 {
                    self.truth.mark("a node does not answer a command");
                }
                self.backend.is_performed = silent == 0 && affected == self.plan.nodes - 1;
            }
            (_, _) => self.truth.report("a request of the server API has the answer of another one"),
        }
    }

    /// The result of a publication is not known. It is tried again if nothing else is published by that.
    pub(super) fn try_again(&mut self, index: usize) {
        let publication = &mut self.backend.publications[index];
        let is_safe = publication.key.is_some();
        if !is_safe && !self.is_planted(Fault::RepeatedPublication) {
            self.backend.publications[index].is_done = true;
            return;
        }
        self.truth.mark("a publication is tried again");
        let longest = if self.phase == Phase::Chaos { 1_000_000 } else { 50_000 };
        let at = self.trace.now + self.random.micros(1_000..=longest);
        self.add(at, Event::Publish(Some(index)));
    }

    /// The requests to a node that was killed have no answers.
    pub(super) fn forget_requests(&mut self, life: u64) {
        let of_node: Vec<(u64, u64)> =
            self.backend.asked.range((life, 0)..=(life, u64::MAX)).map(|(key, _)| *key).collect();
        for key in of_node {
            if let Some(Asked::Publication(index, _)) = self.backend.asked.remove(&key) {
                self.try_again(index);
            }
        }
    }
}
