//! Starting a successor, and waiting until it serves.

use std::env;
use std::fmt;
use std::io::{self, BufReader, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use slog::{Logger, error, info};

use super::VARIABLE;
use super::handover::{self, Role};
use crate::control::Control;
use crate::lifecycle::status::ProcessStatus;
use crate::listen::{FileOwnership, Listener, SocketOwner};
use crate::revocations::RevocationTable;

/// Starts a successor of this process, and passes the listeners to it. This process continues to serve until the successor
/// is ready.
#[derive(Debug)]
pub(crate) struct SuccessorLauncher {
    /// Empty when this process stops.
    listeners: Vec<Arc<Listener>>,
    /// A second descriptor of the control port's listener: the control port owns the first.
    control: Option<OwnedFd>,
    successor: Option<Successor>,
    revocations: Arc<RevocationTable>,
    status: ProcessStatus,
    log: Logger,
}

/// A successor that has been started.
#[derive(Debug)]
struct Successor {
    child: Option<Arc<Mutex<Child>>>,
    /// The number of its process as soon as it serves, or why it does not.
    outcome: Receiver<Result<u32, HandoverError>>,
}

impl SuccessorLauncher {
    /// Creates a launcher for a process with these listeners and this control port. It sets `status` when a successor has
    /// taken over.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn new(
        listeners: Vec<Arc<Listener>>,
        control: Option<&Control>,
        revocations: &Arc<RevocationTable>,
        status: &ProcessStatus,
        log: &Logger,
    ) -> io::Result<SuccessorLauncher> {
        let control = control.map(|control| control.listener().as_fd().try_clone_to_owned()).transpose()?;
        Ok(SuccessorLauncher {
            listeners,
            control,
            successor: None,
            revocations: revocations.clone(),
            status: status.clone(),
            log: log.clone(),
        })
    }

    /// Starts a successor: the program that this process was started by, with the same arguments and the same environment.
    /// Does not wait for it: the lifecycle is woken when there is an outcome.
    pub(crate) fn spawn(&mut self) {
        let (sender, outcome) = mpsc::channel();
        let child = match self.start(sender.clone()) {
            Ok(child) => Some(child),
            Err(error) => {
                // It does not fail: the receiver is here.
                let _ = sender.send(Err(error));
                None
            }
        };
        self.successor = Some(Successor { child, outcome });
    }

    fn start(&self, outcome: Sender<Result<u32, HandoverError>>) -> Result<Arc<Mutex<Child>>, HandoverError> {
        let role = |owner| match owner {
            SocketOwner::Process => Role::Users,
            SocketOwner::Supervisor => Role::Supervised,
        };
        let listeners = self.listeners.iter().map(|listener| (role(listener.owner()), listener.as_fd()));
        let control = self.control.iter().map(|control| (Role::Control, control.as_fd()));
        let (child, channel) = start(&listeners.chain(control).collect::<Vec<_>>())?;
        info!(self.log, # "successor_started", "a successor is started"; "successor" => child.id());
        let child = Arc::new(Mutex::new(child));
        let peer = self.revocations.connect(&channel).inspect_err(|_| kill(&child));
        let peer = peer.map_err(HandoverError::Start)?;
        let (watched, status, revocations) = (child.clone(), self.status.clone(), self.revocations.clone());
        let watch = move || {
            let result = watch(&channel, &watched);
            let is_ready = result.is_ok();
            // It fails only if the launcher was dropped.
            let _ = outcome.send(result);
            status.wake();
            // Both processes serve until the connections of this one have ended.
            if is_ready && channel.set_read_timeout(None).is_ok() {
                revocations.receive(BufReader::new(channel), peer);
            }
        };
        let watching = thread::Builder::new().name("successor".to_owned()).spawn(watch);
        watching.inspect_err(|_| kill(&child)).map_err(HandoverError::Start)?;
        Ok(child)
    }

    /// Returns the outcome of the start of a successor, once: true if it serves, and this process should stop accepting; false
    /// if there is no successor. The log has the reason.
    pub(crate) fn poll_outcome(&mut self) -> Option<bool> {
        let outcome = self.successor.as_ref()?.outcome.try_recv().ok()?;
        self.successor = None;
        match outcome {
            Ok(pid) => {
                let files = self.listeners.iter().filter_map(|listener| listener.file_ownership());
                files.for_each(FileOwnership::release);
                self.status.set_handed_over(pid);
                info!(self.log, # "successor_ready", "a successor is ready; no longer accepting"; "successor" => pid);
                Some(true)
            }
            Err(why) => {
                error!(self.log, # "successor_failed", "there is no successor, so this process continues to serve: {why}");
                Some(false)
            }
        }
    }

    /// Ends a successor that does not serve yet, and drops the listeners: this process stops, and with it the service.
    pub(crate) fn stop(&mut self) {
        self.listeners.clear();
        if let Some(child) = self.successor.take().and_then(|successor| successor.child) {
            info!(self.log, # "successor_ended", "the successor is ended, too");
            kill(&child);
        }
    }
}

/// Starts the successor. Returns the channel to it.
fn start(descriptors: &[(Role, BorrowedFd<'_>)]) -> Result<(Child, UnixStream), HandoverError> {
    if process::id() == 1 {
        return Err(HandoverError::IsInit);
    }
    let mut arguments = env::args_os();
    // By its name, because a new version may have replaced the file since this process started.
    let program = arguments.next().ok_or(HandoverError::UnknownProgram)?;
    let (here, there) = UnixStream::pair().map_err(HandoverError::Start)?;
    here.set_read_timeout(Some(PATIENCE)).map_err(HandoverError::Start)?;
    handover::send(&here, descriptors).map_err(HandoverError::Start)?;
    let child = Command::new(program)
        .args(arguments)
        .env(VARIABLE, process::id().to_string())
        // These apply to this process only.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .stdin(OwnedFd::from(there))
        .spawn()
        .map_err(HandoverError::Start)?;
    // Dropping the command closes this process's descriptor of the other end, so the end of the successor is detected.
    Ok((child, here))
}

/// Waits until the successor serves, and returns the number of its process.
///
/// # Errors
/// The successor does not serve, and has ended.
fn watch(channel: &UnixStream, child: &Mutex<Child>) -> Result<u32, HandoverError> {
    match handover::receive_ready(channel) {
        Ok(()) => Ok(lock(child).id()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            kill(child);
            Err(HandoverError::TimedOut)
        }
        Err(_) => Err(HandoverError::Exited(end(child))),
    }
}

/// Describes the end of a successor that has closed its channel.
fn end(child: &Mutex<Child>) -> String {
    let deadline = Instant::now() + MOMENT;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = lock(child).try_wait() {
            return status.to_string();
        }
        thread::sleep(MOMENT / 100);
    }
    kill(child);
    "killed after it had closed its channel".to_owned()
}

/// Kills the process and waits for it.
fn kill(child: &Mutex<Child>) {
    let mut child = lock(child);
    // Both fail only if it has ended and been waited for.
    let _ = child.kill();
    let _ = child.wait();
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    // A poisoned lock has a valid state, because no change of it can be interrupted.
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no successor.
#[derive(Debug)]
enum HandoverError {
    /// This process has PID 1, as in a container: the kernel kills all others of its PID namespace when it exits.
    IsInit,
    /// The program of this process is unknown.
    UnknownProgram,
    /// It cannot be started.
    Start(io::Error),
    /// It ended before it served, in this way.
    Exited(String),
    /// It did not serve within [`PATIENCE`].
    TimedOut,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoverError::IsInit => {
                f.write_str("this process has PID 1, and a successor would be killed when it exits")
            }
            HandoverError::UnknownProgram => f.write_str("this process does not know what it was started by"),
            HandoverError::Start(error) => write!(f, "it cannot be started: {error}"),
            HandoverError::Exited(how) => write!(f, "it ended before it served: {how}"),
            HandoverError::TimedOut => write!(f, "it did not serve within {PATIENCE:?}"),
        }
    }
}

/// The longest time from the start of a successor until it serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time from the end of a successor's channel to the end of its process.
const MOMENT: Duration = Duration::from_secs(1);
