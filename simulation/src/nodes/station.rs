//! One worker of a node. Its requests go to the relay, and the answers arrive in its inbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::Channels;
use postern_channels::engine::{Effect, Request};
use postern_core::policy::Users;
use postern_core::worker::{PeerMessage, WorkerEffect, WorkerMessage};
use postern_core::{ConnectionId, Record, Recorder, Worker, WorkerConfig};

use super::plan::Plan;
use super::session::Session;
use crate::carrier::{self, Carrier, Party};
use crate::socket::Link;
use crate::trace::Subject;

/// A worker with its sockets.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) carrier: Carrier<Channels>,
    /// Sessions that have connected.
    pub(crate) arrivals: Vec<usize>,
    /// Messages of other workers and of the relay.
    pub(crate) letters: Vec<PeerMessage>,
    /// Messages to other workers, with their numbers.
    pub(crate) outgoing: Vec<(usize, PeerMessage)>,
    /// The time of the next turn, if there is one.
    pub(crate) wakes_at: Option<Duration>,
}

/// The records of all workers. `simulation/src/channels` checks them.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The first fault.
    pub(crate) fault: Option<&'static str>,
}

impl Recorder for Records {
    fn record(&mut self, _: &Record<'_>) {}

    fn is_full(&self) -> bool {
        false
    }
}

impl carrier::Records for Records {
    fn report(&mut self, _: Option<ConnectionId>, what: &'static str) {
        self.fault.get_or_insert(what);
    }
}

type Surroundings<'w> = carrier::Surroundings<'w, Session, Records>;

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
        users: Option<Arc<dyn Users>>,
        seed: u64,
        now: Instant,
    ) -> Station {
        let config = Arc::new(WorkerConfig { users, ..plan.config.share(number, plan.workers) });
        let slice = config.fanout_slice;
        let application = Channels::new(plan.channels_config.clone(), u128::from(seed) << 7 | 1, now);
        Station {
            carrier: Carrier::new(Worker::with_application(application, config, seed, now), slice),
            arrivals: Vec::new(),
            letters: Vec::new(),
            outgoing: Vec::new(),
            wakes_at: None,
        }
    }

    /// Handles the events of the channels, all sockets that are ready, and all connections that are due. Returns the sessions
    /// that may have something to read, and the requests of the application.
    pub(crate) fn turn(
        &mut self,
        worker: usize,
        events: Vec<postern_channels::engine::ChannelEvent>,
        around: &mut Surroundings<'_>,
    ) -> (Vec<usize>, Vec<Request>) {
        for session in std::mem::take(&mut self.arrivals) {
            self.carrier.open(session, around);
        }
        let now = around.now();
        for letter in std::mem::take(&mut self.letters) {
            self.carrier.worker.handle_message(WorkerMessage::Peer(letter), now, around.records);
        }
        for event in events {
            if around.trace.is_printed() {
                println!("                  worker {worker}: {event:?}");
            }
            self.carrier.worker.handle_message(WorkerMessage::Application(event), now, around.records);
        }
        let sessions = self.carrier.handle_all_ready(around);
        self.carrier.handle_all_due(around);
        let mut requests = Vec::new();
        while let Some(effect) = self.carrier.worker.poll_effect() {
            match effect {
                WorkerEffect::Application(Effect::Request(request)) => {
                    let key = request.client.key.0;
                    around.trace.step(Subject::Worker(worker), "sends a request of client", key);
                    requests.push(request);
                }
                WorkerEffect::ToPeer(other, letter) => self.outgoing.push((other, letter)),
                WorkerEffect::CheckToken(_) | WorkerEffect::Application(Effect::Hook(_)) => {
                    around.records.fault = Some("a worker has an effect that no setting allows");
                }
            }
        }
        self.carrier.check(around.records);
        (sessions, requests)
    }
}
