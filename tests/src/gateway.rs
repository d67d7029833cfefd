//! Real gateways, run with the configurations of `deploy/`.
//!
//! The files are the shipped ones, word for word, except for the addresses: that of Traefik's entry point, and all of
//! nginx's and HAProxy's. Traefik takes the other two from its environment, as in `deploy/compose.yaml`. Each replacement must happen
//! exactly as often as expected, so a change of the files that these tests do not see is an error and not a gap.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Ending, Process, Sink};
use crate::{Failure, http, ports, provision, workspace};

/// A gateway that asks Identity about each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Traefik with `forwardAuth`.
    Traefik,
    /// nginx with `auth_request`.
    Nginx,
    /// HAProxy with an action in Lua that asks Identity.
    Haproxy,
}

/// The addresses of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// The Identity service.
    pub identity: SocketAddr,
    /// Postern.
    pub postern: SocketAddr,
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
    /// Its configuration, and what it writes. Removed after the process has ended: fields are dropped in order.
    folder: TempDir,
}

impl Gateway {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traefik, Self::Nginx, Self::Haproxy];

    /// Starts it on a free port before these two.
    ///
    /// # Panics
    ///
    /// If it cannot be fetched or does not start.
    #[track_caller]
    pub fn start(self, identity: SocketAddr, postern: SocketAddr) -> Running {
        self.start_changed(identity, postern, &[])
    }

    /// Starts it with texts of its configuration replaced, as somebody else might have configured it.
    ///
    /// # Panics
    ///
    /// If it cannot be fetched or does not start, or if one of the texts is not there exactly once.
    #[track_caller]
    pub fn start_changed(
        self,
        identity: SocketAddr,
        postern: SocketAddr,
        changes: &[(&str, &str)],
    ) -> Running {
        let addresses = Addresses { gateway: ports::free(), identity, postern };
        self.run(addresses, changes, Sink::Memory)
            .unwrap_or_else(|failure| panic!("{self} does not start: {failure}"))
    }

    /// Starts it, wherever its output goes, and waits until it routes. Identity must be running: it is asked.
    pub fn run(self, addresses: Addresses, changes: &[(&str, &str)], sink: Sink) -> Result<Running, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::while_doing("creating a temporary folder"))?;
        self.configure(folder.path(), addresses, changes)?;
        let mut command = self.command(folder.path(), addresses)?;
        let process = Process::spawn_into(&self.to_string(), &mut command, sink)?;
        let mut process = process.ending(match self {
            Self::Traefik | Self::Haproxy => Ending::Kill,
            Self::Nginx => Ending::Terminate,
        });
        process.wait_until_listening(addresses.gateway, PATIENCE)?;
        wait_until_routed(addresses.gateway)?;
        Ok(Running { process, address: addresses.gateway, folder })
    }

    /// The change of its configuration by which it routes `/` to the page of the Identity service, as `cargo chain` does.
    pub fn with_page(self, addresses: Addresses) -> (String, String) {
        match self {
            Self::Traefik => {
                let rule = "rule: \"PathPrefix(`/identity`)\"";
                (rule.to_owned(), rule.replace(")\"", ") || Path(`/`)\""))
            }
            Self::Nginx => {
                let rest = "        location / {\n            return 404;";
                let page = format!(
                    "        location = / {{\n            proxy_pass http://{};\n            \
                     proxy_set_header Host $http_host;\n        }}\n\n",
                    addresses.identity
                );
                (rest.to_owned(), page + rest)
            }
            Self::Haproxy => {
                let rule = "{ path /ws } or { path_beg /identity/ }\n";
                let all = "    http-request return status 404 unless ";
                (
                    format!("{all}{rule}"),
                    format!("{all}{{ path / }} or {rule}    use_backend identity if {{ path / }}\n"),
                )
            }
        }
    }

    /// The executable, fetched if it is not there yet.
    pub fn provision(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Traefik => provision::traefik(),
            Self::Nginx => provision::nginx(),
            Self::Haproxy => provision::haproxy().map(|(executable, _)| executable),
        }
    }

    fn command(self, folder: &Path, addresses: Addresses) -> Result<Command, Failure> {
        let mut command = Command::new(self.provision()?);
        command.current_dir(folder);
        match self {
            Self::Traefik => command
                .arg("--configFile=traefik.yaml")
                .env("IDENTITY_URL", format!("http://{}", addresses.identity))
                .env("WEBSOCKET_URL", format!("http://{}", addresses.postern)),
            Self::Nginx => {
                command.args(["-e", "error.log", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"))
            }
            Self::Haproxy => {
                let (_, libraries) = provision::haproxy()?;
                command.env("LD_LIBRARY_PATH", libraries).args(["-db", "-f", "haproxy.cfg"])
            }
        };
        Ok(command)
    }

    /// Writes the configuration into `folder`.
    fn configure(self, folder: &Path, addresses: Addresses, changes: &[(&str, &str)]) -> Result<(), Failure> {
        let Addresses { gateway, identity, postern } = addresses;
        let mut files = match self {
            Self::Traefik => vec![traefik_listening_on(gateway)?, File::read("deploy/traefik/dynamic.yaml")?],
            Self::Nginx => vec![
                File::read("deploy/nginx/nginx.conf")?
                    .replace(SHIPPED_GATEWAY, gateway, 1)?
                    .replace(SHIPPED_IDENTITY, identity, 2)?
                    .replace(SHIPPED_POSTERN, postern, 1)?,
            ],
            Self::Haproxy => vec![
                File::read("deploy/haproxy/haproxy.cfg")?
                    .replace(SHIPPED_GATEWAY, gateway, 1)?
                    .replace(SHIPPED_IDENTITY, identity, 2)?
                    .replace(SHIPPED_POSTERN, postern, 1)?,
                File::read("deploy/haproxy/identity.lua")?,
            ],
        };
        for (from, to) in changes {
            let holders = files.iter_mut().filter(|file| file.text.contains(from));
            let [file] = &mut holders.collect::<Vec<_>>()[..] else {
                return Err(Failure::new(format!("{from:?} is not in exactly one file of {self}")));
            };
            file.text = file.text.replacen(from, to, 1);
        }
        for file in files {
            let path = folder.join(file.name());
            fs::write(&path, file.text)
                .map_err(Failure::while_doing(format_args!("writing {}", path.display())))?;
        }
        Ok(())
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traefik => "traefik",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        })
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, and the folder that must outlive it.
    pub fn into_parts(self) -> (Process, TempDir) {
        (self.process, self.folder)
    }

    /// Everything it has logged so far, in its output and in the files it writes.
    pub fn log(&self) -> String {
        let mut log = self.process.lines().join("\n");
        for name in ["access.log", "error.log"] {
            // Only nginx has such files; the others log to their output.
            log.push_str(&fs::read_to_string(self.folder.path().join(name)).unwrap_or_default());
        }
        log
    }
}

/// The static configuration of Traefik as it is shipped, with another entry point: for those who have routes of their
/// own.
pub fn traefik_on(entry_point: SocketAddr) -> Result<String, Failure> {
    traefik_listening_on(entry_point).map(|file| file.text)
}

fn traefik_listening_on(entry_point: SocketAddr) -> Result<File, Failure> {
    File::read("deploy/traefik/traefik.yaml")?.replace(
        SHIPPED_ENTRY_POINT,
        format_args!("\"{entry_point}\""),
        1,
    )
}

/// A shipped configuration file on its way into a test.
struct File {
    path: &'static str,
    text: String,
}

impl File {
    fn read(path: &'static str) -> Result<Self, Failure> {
        let text = fs::read_to_string(workspace::path(path))
            .map_err(Failure::while_doing(format_args!("reading {path}")))?;
        Ok(Self { path, text })
    }

    fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    fn replace(mut self, shipped: &str, actual: impl fmt::Display, times: usize) -> Result<Self, Failure> {
        let found = self.text.matches(shipped).count();
        if found != times {
            return Err(Failure::new(format!(
                "{}: {shipped} stands there {found} times, and {times} were expected",
                self.path
            )));
        }
        self.text = self.text.replace(shipped, &actual.to_string());
        Ok(self)
    }
}

/// Waits until the gateway knows the way to `/ws`: Traefik listens a moment before it has read its routes, and
/// answers 404 until then. Without a token the answer will be 401.
pub fn wait_until_routed(gateway: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = http::request(gateway, "GET", "/ws", &[], b"")?;
        match response.status {
            401 => return Ok(()),
            404 if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            _ => {
                return Err(Failure::new(format!(
                    "a request without a token should get 401, not {response}"
                )));
            }
        }
    }
}

/// How long a gateway may take: 185 MB of Traefik are read from a cold disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// The addresses in the shipped files. Traefik's entry point is that of a container, with its quotes, because the
/// comment above it names another.
const SHIPPED_ENTRY_POINT: &str = "\":9191\"";
const SHIPPED_GATEWAY: &str = "127.0.0.1:9191";
const SHIPPED_IDENTITY: &str = "127.0.0.1:9292";
const SHIPPED_POSTERN: &str = "127.0.0.1:8080";

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses { gateway: address(1), identity: address(2), postern: address(3) }
    }

    #[test]
    fn the_shipped_files_differ_from_the_tested_ones_in_addresses_only() {
        let mut unchanged = Vec::new();
        for gateway in Gateway::ALL {
            let folder = tempfile::tempdir().expect("a temporary folder");
            gateway.configure(folder.path(), addresses(), &[]).expect("every address is found");
            for entry in fs::read_dir(folder.path()).expect("it is there") {
                let path = entry.expect("it is readable").path();
                let name = path.file_name().expect("a file").to_string_lossy().into_owned();
                let tested = fs::read_to_string(&path).expect("text");
                let shipped =
                    fs::read_to_string(workspace::path(&format!("deploy/{gateway}/{name}"))).expect("text");
                let back = tested
                    .replace("\"127.0.0.1:1\"", SHIPPED_ENTRY_POINT)
                    .replace("127.0.0.1:1", SHIPPED_GATEWAY)
                    .replace("127.0.0.1:2", SHIPPED_IDENTITY)
                    .replace("127.0.0.1:3", SHIPPED_POSTERN);
                assert_eq!(back, shipped, "{gateway} {name}");
                if tested == shipped {
                    unchanged.push(name);
                }
            }
        }
        // Traefik takes its addresses from the environment, and the Lua action from `haproxy.cfg`.
        assert_eq!(unchanged, ["dynamic.yaml", "identity.lua"]);
    }

    #[test]
    fn a_change_that_changes_nothing_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let failure = Gateway::Traefik
            .configure(folder.path(), addresses(), &[("no such text", "")])
            .expect_err("there is nothing to replace");
        assert!(failure.to_string().contains("no such text"), "{failure}");
    }
}
