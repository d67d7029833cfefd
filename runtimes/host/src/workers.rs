//! The interface through which the control port and the watchdog reach the workers of a runtime.
//!
//! The state of a worker belongs to its thread. Another thread submits a [`Request`], which the worker performs between
//! two of its turns, and receives the reply over a channel. Messages have no additional cost, and a stuck worker is
//! detected because it does not reply.

use std::fmt;
use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use postern_channels::Counts;
use postern_channels::backend::{ClientCommand, ClientFilter};
use postern_core::Key;
use postern_core::handshake::{Peer, Revocation};
use postern_core::worker::{AdminReply, AdminRequest, ConnectionStatus, Selector, WorkerLoad};
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt;
use socket2::SockRef;

use crate::application::Worker;
use crate::metrics::{LogAndCounters, Snapshot};

/// The workers of a process. A runtime implements it to have a control port.
pub trait Workers {
    /// Returns the number of workers, including those that have ended.
    fn count(&self) -> usize;

    /// Submits a request to the worker with this number and does not wait for it. The request is dropped if the worker
    /// ends first.
    ///
    /// # Errors
    /// The worker does not accept the request.
    fn submit(&self, number: usize, request: Request) -> Result<(), SubmitError>;

    /// Returns the number of requests and connections that found the inbox of a worker full.
    fn refused(&self) -> u64;
}

/// A request to a worker, and where to send the reply.
#[derive(Debug)]
pub struct Request {
    command: Arc<Command>,
    reply: Sender<WorkerReply>,
}

impl Request {
    /// Returns whether the request may close connections or send to them. It must not overtake publications that were made
    /// before.
    pub fn may_close(&self) -> bool {
        self.command.may_close()
    }

    /// Performs the request on the thread of the worker. `socket` returns the socket of a connection.
    ///
    /// The worker then handles the connections that are [due](Worker::next_due).
    #[inline(never)]
    pub fn perform<'s>(
        self,
        worker: &mut Worker,
        recorder: &LogAndCounters,
        now: Instant,
        socket: &dyn Fn(Key) -> Option<BorrowedFd<'s>>,
    ) {
        let reply = self.command.perform(worker, recorder, now, socket);
        // It fails if the caller has stopped waiting.
        let _ = self.reply.try_send(reply);
    }
}

/// A command to a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// A request to its connections.
    Admin(AdminRequest),
    /// A command of a backend to clients.
    Clients {
        /// The connections among which `filter` selects.
        selector: Selector,
        filter: ClientFilter,
        command: ClientCommand,
    },
    /// Ends the connections of revoked credentials.
    Revoke(Arc<Revocation>),
    /// Several commands, which are performed in one turn. Messages to the same connection are written to its socket together.
    Batch(Vec<Command>),
}

impl From<AdminRequest> for Command {
    fn from(request: AdminRequest) -> Command {
        Command::Admin(request)
    }
}

impl Command {
    fn may_close(&self) -> bool {
        match self {
            Command::Admin(request) => {
                matches!(request, AdminRequest::Disconnect { .. } | AdminRequest::Send { .. })
            }
            Command::Clients { .. } | Command::Revoke(_) => true,
            Command::Batch(commands) => commands.iter().any(Command::may_close),
        }
    }

    fn perform<'s>(
        &self,
        worker: &mut Worker,
        recorder: &LogAndCounters,
        now: Instant,
        socket: &dyn Fn(Key) -> Option<BorrowedFd<'s>>,
    ) -> WorkerReply {
        match self {
            Command::Admin(request) => {
                let reply = worker.handle_request(request, now);
                complete(reply, worker.application().counts(), recorder, socket)
            }
            Command::Clients { selector, filter, command } => {
                let is_for_all = *selector == Selector::All
                    && matches!(command, ClientCommand::Send(_))
                    && worker.application().serves_only_echo();
                // A list of all connections would have to be allocated.
                let keys = (!is_for_all).then(|| worker.find(selector));
                WorkerReply::Affected(
                    worker.act(now, |channels, fanout| {
                        channels.command(keys.as_deref(), filter, command, fanout)
                    }),
                )
            }
            Command::Revoke(revocation) => WorkerReply::Affected(worker.revoke(revocation, now)),
            Command::Batch(commands) => WorkerReply::Batch(
                commands.iter().map(|command| command.perform(worker, recorder, now, socket)).collect(),
            ),
        }
    }
}

/// The effect of a message of another node.
#[derive(Debug)]
pub(crate) enum RemoteRequest {
    /// Each worker performs a command. The answer is the number of connections that it affects.
    Perform(Command),
    /// This is the answer.
    Answer(Vec<u8>),
}

/// A command that each worker performs, for another node or for its description of this one.
pub(crate) struct RemoteCommand {
    command: Command,
    progress: Mutex<Progress>,
    /// Called with the replies, after the last worker.
    done: Box<dyn Fn(Vec<WorkerReply>) + Send + Sync>,
}

#[derive(Debug)]
struct Progress {
    /// The workers that have yet to perform it.
    missing: usize,
    replies: Vec<WorkerReply>,
}

impl RemoteCommand {
    /// Creates a command for this many workers.
    pub(crate) fn new(
        command: Command,
        workers: usize,
        done: impl Fn(Vec<WorkerReply>) + Send + Sync + 'static,
    ) -> RemoteCommand {
        let progress = Mutex::new(Progress { missing: workers, replies: Vec::new() });
        RemoteCommand { command, progress, done: Box::new(done) }
    }

    /// Performs the command on the thread of a worker.
    pub(crate) fn perform(&self, worker: &mut Worker, recorder: &LogAndCounters, now: Instant) {
        let reply = self.command.perform(worker, recorder, now, &|_| None);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.missing = progress.missing.saturating_sub(1);
        progress.replies.push(reply);
        if progress.missing == 0 {
            (self.done)(mem::take(&mut progress.replies));
        }
    }
}

impl fmt::Debug for RemoteCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommand").field("command", &self.command).finish_non_exhaustive()
    }
}

/// Adds the counts of the recorder and the peers of the sockets to a reply.
fn complete<'s>(
    reply: AdminReply,
    channels: &Counts,
    recorder: &LogAndCounters,
    socket: &dyn Fn(Key) -> Option<BorrowedFd<'s>>,
) -> WorkerReply {
    match reply {
        AdminReply::Alive => WorkerReply::Alive,
        AdminReply::Load(load) => WorkerReply::Load(load),
        AdminReply::Totals(totals) => WorkerReply::Snapshot(Box::new(Snapshot::new(
            *totals,
            recorder.counts().clone(),
            channels.clone(),
        ))),
        AdminReply::Connections(connections) => {
            let with_peer = |status: ConnectionStatus| {
                let peer = socket(status.key).and_then(peer);
                (status, peer)
            };
            WorkerReply::Connections(connections.into_iter().map(with_peer).collect())
        }
        AdminReply::Affected(count) => WorkerReply::Affected(count),
    }
}

/// The reply of a worker, completed with what its thread and its sockets add.
#[derive(Debug, Clone)]
pub(crate) enum WorkerReply {
    Alive,
    Load(WorkerLoad),
    Snapshot(Box<Snapshot>),
    Connections(Vec<(ConnectionStatus, Option<Peer>)>),
    Affected(usize),
    Batch(Vec<WorkerReply>),
}

impl WorkerReply {
    /// Returns the number of connections that were affected.
    pub(crate) fn affected(&self) -> usize {
        match self {
            WorkerReply::Affected(count) => *count,
            WorkerReply::Alive
            | WorkerReply::Load(_)
            | WorkerReply::Snapshot(_)
            | WorkerReply::Connections(_)
            | WorkerReply::Batch(_) => 0,
        }
    }
}

/// Returns the peer of a socket. The system knows it, so connections do not store it.
fn peer(socket: BorrowedFd<'_>) -> Option<Peer> {
    let address = SockRef::from(&socket).peer_addr().ok()?;
    if address.is_unix() { Some(Peer::Unix) } else { address.as_socket().map(Peer::from) }
}

/// Why a worker does not accept a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// Its inbox is full.
    Busy,
    /// It has ended, as workers do when the process stops and they have no connections left.
    Gone,
}

/// Submits a request to the worker with this number. The reply is sent to the [`PendingReply`].
pub(crate) fn call(
    workers: &dyn Workers,
    number: usize,
    command: Arc<Command>,
) -> Result<PendingReply, SubmitError> {
    let (reply, receiver) = bounded(1);
    workers.submit(number, Request { command, reply })?;
    Ok(PendingReply(receiver))
}

/// A reply that has not arrived yet.
#[derive(Debug, Clone)]
pub(crate) struct PendingReply(Receiver<WorkerReply>);

impl PendingReply {
    /// Waits for the reply until `deadline`.
    pub(crate) async fn until(&self, deadline: Instant) -> Reply<WorkerReply> {
        // The channel is closed without a reply if the worker has ended and dropped the request.
        let received = async { self.0.recv().await.map_or(Reply::Gone, Reply::Ok) };
        let timeout = async {
            Timer::at(deadline).await;
            Reply::Timeout
        };
        received.or(timeout).await
    }
}

/// The reply of a worker to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply<T> {
    /// With this result.
    Ok(T),
    /// Not in time. The request may still be performed later.
    Timeout,
    /// No reply, because it has ended.
    Gone,
}
