//! The listeners that a process inherits when it starts.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use slog::{Logger, info, warn};

use super::VARIABLE;
use super::handover::{self, Role};
use crate::lifecycle::status::ProcessStatus;
use crate::listen::{self, ListenError, Listener, SocketOwner};
use crate::revocations::RevocationTable;
use crate::settings::Settings;

/// Inherited listeners, and the channels on which this process reports that it is ready.
#[derive(Debug, Default)]
pub(crate) struct InheritedListeners {
    users: Vec<Listener>,
    control: Option<Listener>,
    /// The channel to the predecessor, if there is one.
    channel: Option<BufReader<UnixStream>>,
    /// The revocations that are passed over it.
    revocations: Option<Arc<RevocationTable>>,
    /// The socket files that this process owns as soon as it serves.
    files: Vec<listen::FileOwnership>,
}

impl InheritedListeners {
    /// Takes the listeners that the environment names. Call this once, before anything is opened and before there is a second
    /// thread.
    ///
    /// # Errors
    /// An inherited descriptor cannot be used. The process does not fall back to the addresses of the settings.
    pub(crate) fn from_environment() -> Result<InheritedListeners, InheritError> {
        // Before the next call opens anything, so that each number is what it was when the process began.
        let given = from_supervisor()?;
        let of_parent = env::var(VARIABLE).is_ok_and(|parent| parent == parent_id().to_string());
        if of_parent { from_predecessor().map_err(InheritError::Predecessor) } else { Ok(given) }
    }

    /// Returns the inherited listeners for users, or binds the addresses of the settings. The log says which.
    ///
    /// # Errors
    /// An address of the settings cannot be bound.
    pub(crate) fn listeners(
        &mut self,
        settings: &Settings,
        log: &Logger,
    ) -> Result<Vec<Listener>, ListenError> {
        if self.users.is_empty() {
            return listen::bind(&settings.listen, &settings.socket_access);
        }
        let from = if self.channel.is_some() { "the process before this one" } else { "LISTEN_FDS" };
        info!(log, # "listeners_inherited", "listeners are from {from}: the addresses of POSTERN_LISTEN are not looked at";
            "count" => self.users.len());
        self.files = self.users.iter().filter_map(Listener::file_ownership).cloned().collect();
        Ok(std::mem::take(&mut self.users))
    }

    /// Returns the inherited listener of the control port, if there is one.
    pub(crate) fn control(&mut self) -> Option<Listener> {
        self.control.take()
    }

    /// Takes the revocations of the predecessor, if there is one.
    ///
    /// # Errors
    /// The predecessor does not send them. Without them, revoked credentials would be valid again.
    pub(crate) fn revocations(&mut self, table: &Arc<RevocationTable>) -> Result<(), InheritError> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        table.receive_known(channel).map_err(InheritError::Predecessor)?;
        self.revocations = Some(table.clone());
        Ok(())
    }

    /// Reports to the supervisor and to the predecessor that this process is ready. The predecessor then drains.
    pub(crate) fn notify_ready(self, status: &ProcessStatus, log: &Logger) {
        if let Some(channel) = self.channel {
            let ready = handover::send_ready(channel.get_ref());
            if let Err(error) = ready.and_then(|()| exchange(self.revocations, channel)) {
                warn!(log, # "predecessor_gone", "the process before this one is gone"; "error" => %error);
            }
        }
        self.files.iter().for_each(listen::FileOwnership::acquire);
        status.set_ready();
    }

    fn add(&mut self, of: Role, socket: OwnedFd) -> io::Result<()> {
        match of {
            Role::Users => self.users.push(Listener::from_inherited(socket, SocketOwner::Process)?),
            Role::Supervised => self.users.push(Listener::from_inherited(socket, SocketOwner::Supervisor)?),
            Role::Control => self.control = Some(Listener::from_inherited(socket, SocketOwner::Supervisor)?),
        }
        Ok(())
    }
}

/// Passes revocations to the predecessor and takes its new ones, until it ends.
fn exchange(table: Option<Arc<RevocationTable>>, channel: BufReader<UnixStream>) -> io::Result<()> {
    let Some(table) = table else { return Ok(()) };
    channel.get_ref().set_read_timeout(None)?;
    let peer = table.connect(channel.get_ref())?;
    let receive = move || table.receive(channel, peer);
    thread::Builder::new().name("predecessor".to_owned()).spawn(receive)?;
    Ok(())
}

/// Takes the listeners of a supervisor, as sd_listen_fds(3) does. The one named `control` is for the control port, all others
/// are for users.
fn from_supervisor() -> Result<InheritedListeners, InheritError> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = ListenFd::from_env();
    let mut inherited = InheritedListeners::default();
    for index in 0..given.len() {
        let of = if names.next() == Some("control") { Role::Control } else { Role::Supervised };
        let tcp = given.take_tcp_listener(index).map(|taken| taken.map(OwnedFd::from));
        let socket = tcp.or_else(|_| given.take_unix_listener(index).map(|taken| taken.map(OwnedFd::from)));
        // Each is taken once, so it exists.
        let added = socket.and_then(|socket| socket.map_or(Ok(()), |socket| inherited.add(of, socket)));
        added.map_err(|error| InheritError::Supervisor(index, error))?;
    }
    Ok(inherited)
}

/// Takes the listeners of a predecessor from standard input, and replaces that with `/dev/null`.
fn from_predecessor() -> io::Result<InheritedListeners> {
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    channel.set_read_timeout(Some(PATIENCE))?;
    let mut inherited = InheritedListeners::default();
    for (of, socket) in handover::receive(&channel)? {
        inherited.add(of, socket)?;
    }
    Ok(InheritedListeners { channel: Some(BufReader::new(channel)), ..inherited })
}

/// An inherited descriptor on which the process cannot listen.
#[derive(Debug)]
pub(crate) enum InheritError {
    /// A descriptor of the supervisor, with this index in `LISTEN_FDS`.
    Supervisor(usize, io::Error),
    /// A descriptor of the predecessor.
    Predecessor(io::Error),
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InheritError::Supervisor(index, error) => {
                write!(f, "LISTEN_FDS: cannot listen on its descriptor {index}: {error}")
            }
            InheritError::Predecessor(error) => {
                write!(f, "cannot take over from the process before this one: {error}")
            }
        }
    }
}

impl std::error::Error for InheritError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InheritError::Supervisor(_, error) | InheritError::Predecessor(error) => Some(error),
        }
    }
}

/// The time to wait for the predecessor's message, which is sent before the successor is started.
const PATIENCE: Duration = Duration::from_secs(1);
