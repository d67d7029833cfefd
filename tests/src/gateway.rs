//! Gateways as children of a test. See [`postern_chain::gateway`].

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use postern_chain::gateway::wait_until_routed;
pub use postern_chain::gateway::{Addresses, Gateway};
use tempfile::TempDir;

use crate::process::{Ending, Process};
use crate::{Failure, ports};

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
    /// Its configuration and log files. Fields are dropped in order, so it is removed after the process has ended.
    folder: TempDir,
}

impl Running {
    /// Starts a gateway on a free port, with texts of its configuration replaced.
    ///
    /// # Panics
    ///
    /// If it cannot be downloaded or does not start, or if one of the texts is not in exactly one file.
    #[track_caller]
    pub fn start(
        gateway: Gateway,
        identity: SocketAddr,
        postern: SocketAddr,
        changes: &[(&str, &str)],
    ) -> Self {
        Self::start_at(gateway, Addresses { gateway: ports::free(), identity, postern }, changes)
    }

    /// Starts a gateway at this address, with texts of its configuration replaced.
    ///
    /// # Panics
    ///
    /// As [`start`](Running::start).
    #[track_caller]
    pub fn start_at(gateway: Gateway, addresses: Addresses, changes: &[(&str, &str)]) -> Self {
        Self::try_start(gateway, addresses, changes)
            .unwrap_or_else(|failure| panic!("{gateway} does not start: {failure}"))
    }

    fn try_start(gateway: Gateway, addresses: Addresses, changes: &[(&str, &str)]) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::while_doing("creating a temporary folder"))?;
        let mut command = gateway.prepare(folder.path(), addresses, changes)?;
        let process = Process::spawn(&gateway.to_string(), &mut command)?;
        let mut process = process.ending(match gateway {
            Gateway::Traefik | Gateway::Haproxy | Gateway::Caddy | Gateway::Envoy => Ending::Kill,
            Gateway::Nginx => Ending::Terminate,
        });
        process.wait_until_listening(addresses.gateway, START_TIMEOUT)?;
        wait_until_routed(addresses.gateway)?;
        Ok(Self { process, address: addresses.gateway, folder })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process, and the folder that must outlive it.
    pub fn into_parts(self) -> (Process, TempDir) {
        (self.process, self.folder)
    }

    /// Returns everything that it has logged so far, in its output and in files.
    pub fn log(&self) -> String {
        let mut log = self.process.lines().join("\n");
        for name in ["access.log", "error.log"] {
            // Only nginx has such files.
            log.push_str(&fs::read_to_string(self.folder.path().join(name)).unwrap_or_default());
        }
        log
    }
}

/// The time that a gateway may take to start: reading the 185 MB of Traefik from a cold disk is slow.
const START_TIMEOUT: Duration = Duration::from_secs(30);
