//! The control port: health checks, metrics, and the API for operators.
//!
//! ```text
//!                         ┌────────── control ───────────┐  requests  ┌─ worker ─┐
//!   probe, Prometheus ──► │ server ─ router ─ admin_api ─┼──────────► │  Worker  │
//!   backend with a key    └──────────────────────────────┘ ◄──────────┴──────────┘
//!                                                           replies
//! ```
//!
//! In the order in which a request passes through it:
//!
//! * `server` reads the request from the socket.
//! * `key` checks the API key.
//! * `router` finds the endpoint.
//! * `api` has the methods of the server API, `perform` performs them. `listing` describes a connection.
//! * `admin_api` does what the request asks for. `worker_pool` queries the workers for it, and `health` answers probes, such as
//!   [`healthcheck`](crate::healthcheck).
//! * `console` is a page for people, which uses the other endpoints.
//! * `response` has the responses and the errors.
//!
//! All decisions about connections are made in the core (`postern_core::worker`). A runtime implements [`Workers`].
//! It runs the port on a separate thread ([`Control::spawn`])
//! or in its own executor ([`Control::serve`]).

mod admin_api;
mod api;
mod console;
mod health;
mod key;
mod listing;
mod perform;
mod response;
mod router;
mod server;
mod worker_pool;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use postern_channels::publication::ClientId;
use slog::{error, info};
use smol::{Async, LocalExecutor};

use crate::channels::Node;
use crate::lifecycle::status::ProcessStatus;
use crate::listen::{self, Access, Address, ListenError, Listener};
use crate::log::Log;
use crate::revocations::RevocationTable;
use crate::settings::Plan;
use crate::source::{Source, SourceSettings};
use crate::workers::Workers;
use admin_api::{AdminApi, ProcessInfo};
use api::KnownTokens;
pub(crate) use api::{Instance, describe, parse_remote};

/// A control port that listens, but does not serve requests yet.
#[derive(Debug)]
pub struct Control {
    listener: Listener,
    process: ProcessInfo,
}

impl Control {
    /// Listens on the control address, or uses the listener `inherited` from a predecessor. Returns `None` without
    /// a control address. `listeners` are those for users; `status` is the state of the process, which the runtime
    /// updates; `node` has the channels, `revocations` the revoked credentials.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn bind(
        plan: &Plan,
        listeners: &[Listener],
        inherited: Option<Listener>,
        status: &ProcessStatus,
        node: &Arc<Node>,
        revocations: &Arc<RevocationTable>,
        log: &Log,
    ) -> Result<Option<Control>, ControlError> {
        let started = SystemTime::now();
        // Other instances list this one, too, even if it has no control port.
        node.set_instance(Instance {
            id: ClientId::from_random(random_bits()).to_string(),
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            version: plan.program.version,
            started,
        });
        let Some(address) = plan.settings.control.address else { return Ok(None) };
        let listener = match inherited {
            Some(listener) => Some(listener),
            None => {
                let bound = listen::bind(&[Address::Tcp(address)], &Access::default());
                bound.map_err(ControlError::new)?.into_iter().next()
            }
        };
        let Some(listener) = listener else { return Ok(None) };
        let process = ProcessInfo {
            program: plan.program,
            started,
            listen: listeners.iter().map(|listener| listener.address().to_string()).collect(),
            max_connections: plan.max_connections,
            control_connections: plan.control_connections,
            max_message: plan.settings.session.max_message,
            trusts_any: plan.settings.handshake.trusted_proxies.trusts_any(),
            api_keys: plan.settings.control.api_keys.clone(),
            has_console: plan.settings.control.has_console,
            settings: plan.shown.clone(),
            status: status.clone(),
            node: node.clone(),
            source: Source::new(&SourceSettings::default()),
            revocations: revocations.clone(),
            tokens: KnownTokens::new(&plan.settings),
            dropped_records: log.dropped_records(),
            log: log.logger(),
        };
        Ok(Some(Control { listener, process }))
    }

    /// Sets the source whose figures are shown.
    pub(crate) fn with_source(mut self, source: &Source) -> Control {
        self.process.source = source.clone();
        self
    }

    /// Returns the listener, to be passed to a successor.
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Serves requests in this executor until the future is dropped or a successor serves them. Returns only if the
    /// listener cannot be watched, and logs that error.
    pub async fn serve(self, executor: Rc<LocalExecutor<'static>>, workers: impl Workers + 'static) {
        let Control { listener, process } = self;
        info!(process.log, # "control_listening", "control port listens on {}", listener.address());
        match Async::new_nonblocking(listener) {
            Ok(listener) => {
                match server::serve(listener, Rc::new(AdminApi::new(process, workers)), executor).await {}
            }
            Err(error) => {
                error!(process.log, # "control_failed", "the control port does not answer"; "error" => %error)
            }
        }
    }

    /// Serves requests on a new thread until the process ends.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn spawn(self, workers: impl Workers + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            smol::block_on(executor.run(self.serve(executor.clone(), workers)));
        })?;
        Ok(())
    }
}

/// Returns 128 random bits.
fn random_bits() -> u128 {
    let half = || u128::from(RandomState::new().hash_one("id"));
    half() << 64 | half()
}

/// The control port cannot listen.
#[derive(Debug)]
pub struct ControlError(ListenError);

impl ControlError {
    fn new(error: ListenError) -> ControlError {
        ControlError(ListenError { setting: "POSTERN_CONTROL", ..error })
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "POSTERN_CONTROL: {}", self.0)
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
