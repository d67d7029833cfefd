//! Starting a successor, and waiting until it serves.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind};
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

/// Starts a successor of this process, and passes the listeners to it. This process continues to serve until the successor
/// is ready.
#[derive(Debug)]
pub(crate) struct SuccessorLauncher {
    /// Empty when this process stops.
    listeners: Vec<Arc<Listener>>,
    /// Another descriptor of the control port, which is somewhere else by then.
    control: Option<OwnedFd>,
    successor: Option<Successor>,
    status: ProcessStatus,
    log: Logger,
}

/// A successor that has been started.
#[derive(Debug)]
struct Successor {
    child: Option<Arc<Mutex<Child>>>,
    /// The number of its process, when it serves.
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
        status: &ProcessStatus,
        log: &Logger,
    ) -> io::Result<SuccessorLauncher> {
        let control = control.map(|control| control.listener().as_fd().try_clone_to_owned()).transpose()?;
        Ok(SuccessorLauncher {
            listeners,
            control,
            successor: None,
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
        let (watched, status) = (child.clone(), self.status.clone());
        let watch = move || {
            // It fails only if the launcher is gone.
            let _ = outcome.send(watch(&channel, &watched));
            status.wake();
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
                info!(self.log, # "successor_ready", "a successor serves: accepting is left to it"; "successor" => pid);
                Some(true)
            }
            Err(why) => {
                error!(self.log, # "successor_failed", "there is no successor, so this process serves on: {why}");
                Some(false)
            }
        }
    }

    /// Ends a successor that does not serve yet, and lets go of the listeners: this process stops, and with it the service.
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
    // By its name, not by what the name stood for when this process began: that is how a new version comes in.
    let program = arguments.next().ok_or(HandoverError::UnknownProgram)?;
    let (here, there) = UnixStream::pair().map_err(HandoverError::Start)?;
    here.set_read_timeout(Some(PATIENCE)).map_err(HandoverError::Start)?;
    handover::send(&here, descriptors).map_err(HandoverError::Start)?;
    let child = Command::new(program)
        .args(arguments)
        .env(VARIABLE, process::id().to_string())
        // These are of this process's number.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .stdin(OwnedFd::from(there))
        .spawn()
        .map_err(HandoverError::Start)?;
    // With the command goes our descriptor of the successor's end, so that its end is seen.
    Ok((child, here))
}

/// Waits until the successor serves, and gives the number of its process.
///
/// # Errors
/// It does not, and is not there any more.
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

/// How a successor ended whose channel is at its end.
fn end(child: &Mutex<Child>) -> String {
    let deadline = Instant::now() + MOMENT;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = lock(child).try_wait() {
            return status.to_string();
        }
        thread::sleep(MOMENT / 100);
    }
    kill(child);
    "without a word".to_owned()
}

/// Ends it, and waits for its end, so that nothing is left of it.
fn kill(child: &Mutex<Child>) {
    let mut child = lock(child);
    // Both fail only if it has ended and been waited for.
    let _ = child.kill();
    let _ = child.wait();
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    // Nothing in here leaves it half changed.
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no successor.
#[derive(Debug)]
enum HandoverError {
    /// A container ends with its first process.
    IsInit,
    /// It is not known what this process was started by.
    UnknownProgram,
    /// It could not be started.
    Start(io::Error),
    /// It ended so.
    Exited(String),
    /// It took too long.
    TimedOut,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoverError::IsInit => f.write_str("a container ends with its first process, which this is"),
            HandoverError::UnknownProgram => f.write_str("this process does not know what it was started by"),
            HandoverError::Start(error) => write!(f, "it cannot be started: {error}"),
            HandoverError::Exited(how) => write!(f, "it ended before it served: {how}"),
            HandoverError::TimedOut => write!(f, "it did not serve within {PATIENCE:?}"),
        }
    }
}

/// How long a successor may take until it serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a process may take to end once its channel has.
const MOMENT: Duration = Duration::from_secs(1);
