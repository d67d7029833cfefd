//! One worker, and what its runtime keeps for it. A turn has the steps of the event loop of `postern`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::engine::{Effect, Operation, Request};
use postern_channels::{Channels, ChannelsConfig};
use postern_core::worker::{WorkerEffect, WorkerMessage};
use postern_core::{ConnectionId, Worker};

use super::node::Node;
use super::plan::Plan;
use super::records::Records;
use super::session::Session;
use crate::carrier::{self, Carrier, Party};
use crate::socket::Link;
use crate::trace::Subject;

/// A worker with its sockets.
#[derive(Debug)]
pub(crate) struct Station {
    number: usize,
    /// The clients of its connections are sessions.
    pub(crate) carrier: Carrier<Channels>,
    /// Sessions that have connected.
    pub(crate) arrivals: Vec<usize>,
    /// Whether it is asked to stop, over this time.
    pub(crate) drain: Option<Duration>,
    /// The time of the next turn, if there is one.
    pub(crate) wakes_at: Option<Duration>,
    pub(crate) is_finished: bool,
}

type Surroundings<'w, P> = carrier::Surroundings<'w, P, Records>;

impl carrier::Records for Records {
    fn report(&mut self, _: Option<ConnectionId>, what: &'static str) {
        self.fault.get_or_insert(what);
    }
}

impl Party for Session {
    // The commands and replies are steps.
    const ARE_TURNS_TRACED: bool = false;

    fn connection(&self) -> ConnectionId {
        self.connection
    }

    fn client(&self) -> usize {
        self.client
    }

    fn link(&self) -> &Link {
        &self.transport.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.transport.link
    }
}

impl Station {
    pub(crate) fn new(
        number: usize,
        plan: &Plan,
        channels_config: Arc<ChannelsConfig>,
        seed: u64,
        now: Instant,
    ) -> Station {
        let config = Arc::new(plan.config.share(number, plan.workers));
        let slice = config.fanout_slice;
        let application = Channels::new(channels_config, u128::from(seed) << 7 | 1, now);
        Station {
            number,
            carrier: Carrier::new(Worker::with_application(application, config, seed, now), slice),
            arrivals: Vec::new(),
            drain: None,
            wakes_at: None,
            is_finished: false,
        }
    }

    /// Handles what has arrived, all sockets that are ready, all connections that are due, and the requests of the application.
    /// Returns the sessions that may have something to read.
    pub(crate) fn turn<P: Party>(&mut self, node: &mut Node, around: &mut Surroundings<'_, P>) -> Vec<usize> {
        for session in std::mem::take(&mut self.arrivals) {
            self.carrier.open(session, around);
        }
        if let Some(spread) = self.drain.take() {
            let now = around.now();
            self.carrier.worker.handle_message(WorkerMessage::Drain(spread), now, around.records);
        }
        if node.mail.is_woken[self.number] {
            self.read_channels(node, around);
        }
        let sessions = self.carrier.handle_all_ready(around);
        self.carrier.handle_all_due(around);
        while self.apply_effects(node, around) {
            self.read_channels(node, around);
            self.carrier.handle_all_due(around);
        }
        self.carrier.check(around.records);
        self.is_finished = self.carrier.worker.is_finished();
        sessions
    }

    /// Performs the requests of the application. Returns whether there was one, whose answer has arrived.
    fn apply_effects<P: Party>(&mut self, node: &mut Node, around: &mut Surroundings<'_, P>) -> bool {
        let mut is_executed = false;
        let now = around.now();
        while let Some(effect) = self.carrier.worker.poll_effect() {
            match effect {
                // Users may have any number of connections.
                WorkerEffect::ToPeer(..) => {
                    around.records.fault = Some("a connection is replaced without a limit")
                }
                WorkerEffect::CheckToken(_) => {
                    around.records.fault = Some("a token is checked without such a setting")
                }
                WorkerEffect::Application(Effect::Hook(request)) => {
                    around.trace.step(
                        Subject::Worker(self.number),
                        "asks a hook for client",
                        request.client.key.0,
                    );
                    node.ask(self.number, &request, around.random);
                }
                WorkerEffect::Application(Effect::Request(Request {
                    client,
                    command,
                    operation: Operation::CheckToken(check),
                    ..
                })) => {
                    around.trace.step(
                        Subject::Worker(self.number),
                        "asks about a token of client",
                        client.key.0,
                    );
                    node.check_token(self.number, client, command, &check, around.random);
                }
                WorkerEffect::Application(Effect::Request(request)) => {
                    around.trace.step(
                        Subject::Worker(self.number),
                        "sends a request of client",
                        request.client.key.0,
                    );
                    node.execute(self.number, request, now, around.random);
                    is_executed = true;
                }
            }
        }
        is_executed
    }

    fn read_channels<P: Party>(&mut self, node: &mut Node, around: &mut Surroundings<'_, P>) {
        if self.carrier.worker.has_unwritten() && around.random.one_in(2) {
            // A runtime does not read if the unwritten messages are many. The events follow in a later turn.
            node.mail.is_woken[self.number] = true;
            return;
        }
        let now = around.now();
        let events = node.take_events(self.number, now, around.random);
        around.trace.step(Subject::Worker(self.number), "takes events", events.len());
        for event in events {
            if around.trace.is_printed() {
                println!("                  worker {}: {event:?}", self.number);
            }
            self.carrier.worker.handle_message(WorkerMessage::Application(event), now, around.records);
        }
    }
}
