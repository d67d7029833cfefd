//! Redis as the engine of channels over several nodes.
//!
//! One thread has the `Relay` of the process, and the connections to Redis. Workers and the control port hand requests to it, and
//! do not wait.
//!
//! * `address`: the URL of Redis.
//! * `queue`: the inputs of the thread.
//! * `driver`: the thread.
//! * `connector`: opens connections, also by TLS, by Sentinel and to Redis Cluster.
//! * `sentinel`, `cluster`: ask for the master.
//! * [`encoding`]: commands and replies in the form of Redis. It is public for the test that compares Redis with a model.

mod address;
mod cluster;
mod connector;
mod driver;
pub mod encoding;
mod queue;
mod sentinel;

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

use postern_channels::engine::Request;
use postern_channels::exchange::WorkerId;
use postern_channels::relay::{RelayStats, ServerAnswer, ServerOperation};
use slog::Logger;
use smol::channel::{Receiver, bounded};

use crate::channels::Node;
use crate::revocations::RevocationTable;
use crate::settings::EngineSettings;
use crate::users::PerUser;
use address::Address;
use queue::{Input, Queue};

/// The engine of the process, as other threads see it.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Queue,
    /// Whether the process is not ready while Redis cannot be reached.
    is_required: bool,
}

/// Checks the URL of Redis.
///
/// # Errors
/// The end of a sentence that begins with the setting. It does not quote the URL.
pub(crate) fn check_url(text: &str) -> Result<(), &'static str> {
    Address::parse(text).map(drop)
}

impl Engine {
    /// Starts the thread, if the settings ask for it, and makes `node` use it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        settings: &EngineSettings,
        node: &Arc<Node>,
        users: Option<&Arc<PerUser>>,
        revocations: &Arc<RevocationTable>,
        log: &Logger,
    ) -> io::Result<()> {
        if !settings.is_redis {
            return Ok(());
        }
        let (queue, wakes) = Queue::new(settings.queue);
        let engine = Engine(Arc::new(Shared { queue, is_required: settings.is_required }));
        if let Some(users) = users {
            let shared = engine.0.clone();
            users.watch(move |user| shared.queue.add(Input::User(user.into())));
        }
        let users = users.cloned();
        driver::spawn(
            settings,
            engine.0.clone(),
            node.clone(),
            users,
            revocations.clone(),
            wakes,
            log.clone(),
        )?;
        node.set_engine(engine);
        Ok(())
    }

    /// Hands over a request of a worker. Returns it if too many wait.
    pub(crate) fn submit(&self, worker: WorkerId, request: Request) -> Option<Request> {
        self.0.queue.add_request(worker, request)
    }

    /// Hands over a request of the server API. Its answer arrives in the channel.
    pub(crate) fn ask(&self, operation: ServerOperation) -> Receiver<ServerAnswer> {
        let (sender, receiver) = bounded(1);
        self.0.queue.add(Input::Server(operation, sender));
        receiver
    }

    /// Returns figures.
    pub(crate) fn stats(&self) -> RelayStats {
        *self.0.queue.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the process should not be sent users.
    pub(crate) fn is_unready(&self) -> bool {
        self.0.is_required && !self.stats().link.is_live
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.stats()).finish()
    }
}
