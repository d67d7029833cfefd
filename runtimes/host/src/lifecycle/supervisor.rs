//! Notifications to the supervisor: systemd and others that implement sd_notify(3). Without one, they cost nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use slog::{Logger, warn};

/// Sends notifications about this process. The default sends none.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    socket: Option<NotifySocket>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Supervisor {
    /// Returns the supervisor that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` name. If its socket cannot be used, `log`
    /// gets a warning, and the process serves without it.
    pub(crate) fn from_environment(log: &Logger) -> Supervisor {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let watchdog = watchdog(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), process::id());
        Supervisor::at(&name, watchdog).unwrap_or_else(|error| {
            warn!(log, # "supervisor_unreachable", "NOTIFY_SOCKET cannot be used: the supervisor gets no notifications";
                "error" => %error);
            Supervisor::default()
        })
    }

    /// Returns the supervisor with this socket and this timeout between two notifications of the watchdog.
    pub(crate) fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Supervisor> {
        Ok(Supervisor { socket: Some(NotifySocket::new(name)?), watchdog })
    }

    /// Reports that the process serves, and that it is the main process.
    pub(crate) fn ready(&self) {
        self.send(&format!("MAINPID={}\nREADY=1", process::id()));
    }

    /// Reports that the process stops.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports that another process serves from now on. A supervisor may accept messages from the main process only, so this one
    /// reports it too.
    pub(crate) fn set_main_pid(&self, successor: u32) {
        self.send(&format!("MAINPID={successor}"));
    }

    /// Reports that the workers of the process respond.
    pub(crate) fn ping_watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// Returns the longest time between two notifications of the watchdog; `None` if the supervisor expects none.
    pub(crate) fn watchdog_timeout(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, state: &str) {
        if let Some(NotifySocket { socket, address }) = &self.socket {
            // A supervisor that has closed its socket needs no message.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

impl NotifySocket {
    fn new(name: &OsStr) -> io::Result<NotifySocket> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // The supervisor's queue may be full for a moment; only the calling thread blocks.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(NotifySocket { socket, address })
    }
}

/// Returns the longest time between two notifications of the watchdog, if the process with the number `own` must send
/// them.
fn watchdog(microseconds: Option<u64>, of: Option<u64>, own: u32) -> Option<Duration> {
    let is_ours = of.is_none_or(|of| of == u64::from(own));
    microseconds.filter(|microseconds| *microseconds > 0 && is_ours).map(Duration::from_micros)
}

const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut state = [0; 128];
        let length = socket.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    }

    #[test]
    fn notifications_go_to_a_path_or_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("postern-test-{}", process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().to_owned()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            let supervisor = Supervisor::at(&name, None).unwrap();
            supervisor.ready();
            assert_eq!(received(&socket), format!("MAINPID={}\nREADY=1", process::id()));
            supervisor.set_main_pid(7);
            assert_eq!(received(&socket), "MAINPID=7");
            supervisor.ping_watchdog();
            supervisor.stopping();
            assert_eq!(
                (received(&socket), received(&socket)),
                ("WATCHDOG=1".to_owned(), "STOPPING=1".to_owned())
            );
        }
    }

    #[test]
    fn another_kind_of_address_is_refused() {
        for name in ["vsock:2:1234", "notify", ""] {
            assert!(Supervisor::at(OsStr::new(name), None).is_err(), "{name}");
        }
    }

    #[test]
    fn the_watchdog_runs_only_in_the_process_that_the_supervisor_names() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some(1_000_000), None, 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(7), 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(8), 7), None);
        assert_eq!(watchdog(Some(0), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }
}
