//! The gateways of `deploy/`, on other addresses.
//!
//! The configuration files are the shipped ones except for the addresses: Traefik's entry point, and all addresses of
//! the others. Traefik reads the other two from its environment, as in `deploy/compose.yaml`. Each replacement
//! must happen exactly as often as expected, so an incompatible change of a shipped file is an error.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, provision, workspace};

/// A gateway that asks the Identity service about each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Traefik with `forwardAuth`.
    Traefik,
    /// nginx with `auth_request`.
    Nginx,
    /// HAProxy with an action in Lua that asks Identity.
    Haproxy,
    /// Caddy with `forward_auth`.
    Caddy,
    /// Envoy with `ext_authz`.
    Envoy,
}

/// The addresses of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The address that the gateway listens on.
    pub gateway: SocketAddr,
    /// The Identity service.
    pub identity: SocketAddr,
    /// Postern.
    pub postern: SocketAddr,
}

impl Gateway {
    /// All gateways.
    pub const ALL: [Self; 5] = [Self::Traefik, Self::Nginx, Self::Haproxy, Self::Caddy, Self::Envoy];

    /// Writes the shipped configuration into `folder`, with these addresses and these texts replaced, and returns the
    /// command that starts the gateway with it.
    ///
    /// # Errors
    /// The executable cannot be downloaded, the folder cannot be written, or one of the texts is not in exactly one file.
    pub fn prepare(
        self,
        folder: &Path,
        addresses: Addresses,
        changes: &[(&str, &str)],
    ) -> Result<Command, Failure> {
        self.configure(folder, addresses, changes)?;
        self.command(folder, addresses)
    }

    /// Returns the change of its configuration that routes `/`, the page of the Identity service, and the files of an example below
    /// `/example/`.
    pub fn with_page(self, addresses: Addresses) -> (String, String) {
        match self {
            Self::Traefik => {
                let rule = "rule: \"PathPrefix(`/identity`)\"";
                (rule.to_owned(), rule.replace(")\"", ") || Path(`/`) || PathPrefix(`/example/`)\""))
            }
            Self::Nginx => {
                let rest = "        location / {\n            return 404;";
                let page = format!(
                    " {{\n            proxy_pass http://{};\n            proxy_set_header Host $http_host;\n        \
                     }}\n\n",
                    addresses.identity
                );
                let pages = format!("        location = /{page}        location /example/{page}");
                (rest.to_owned(), pages + rest)
            }
            Self::Haproxy => {
                let rule = "{ path /ws /ws/refresh /connection/websocket /connection/websocket/refresh } or { path_beg /identity/ }\n";
                let all = "    http-request return status 404 unless ";
                (
                    format!("{all}{rule}"),
                    format!(
                        "{all}{{ path / }} or {{ path_beg /example/ }} or {rule}    use_backend identity if {{ path / }} or {{ \
                         path_beg /example/ }}\n"
                    ),
                )
            }
            Self::Caddy => {
                let rest = "\thandle {\n\t\trespond 404\n";
                let page =
                    |path| format!("\thandle {path} {{\n\t\treverse_proxy {}\n\t}}\n", addresses.identity);
                (rest.to_owned(), page("/") + &page("/example/*") + rest)
            }
            Self::Envoy => {
                let rule = "match: { prefix: /identity/ }";
                (
                    rule.to_owned(),
                    "match: { safe_regex: { regex: \"/|/identity/.*|/example/.*\" } }".to_owned(),
                )
            }
        }
    }

    /// Returns the change of the configuration of Traefik that adds more Posterns.
    pub fn with_nodes(more: &[SocketAddr]) -> (String, String) {
        let first = "          - url: '{{ env \"WEBSOCKET_URL\" | default \"http://127.0.0.1:8080\" }}'\n";
        let more = more.iter().map(|address| format!("          - url: 'http://{address}'\n"));
        (first.to_owned(), std::iter::once(first.to_owned()).chain(more).collect())
    }

    /// Returns the path of the executable, after downloading it if necessary.
    pub fn provision(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Traefik => provision::traefik(),
            Self::Nginx => provision::nginx(),
            Self::Haproxy => provision::haproxy().map(|(executable, _)| executable),
            Self::Caddy => provision::caddy(),
            Self::Envoy => provision::envoy(),
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
            // Its storage for certificates, which are not used.
            Self::Caddy => command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).args([
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                "Caddyfile",
            ]),
            // Several Envoys of one host would share the memory of hot restarts. The access log is written after 10 s by default.
            Self::Envoy => command
                .args(["-c", "envoy.yaml", "--disable-hot-restart", "--log-level", "warning"])
                .args(["--file-flush-interval-msec", "100"]),
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
            // A site with an address instead of a port would serve only requests with this `Host`.
            Self::Caddy => vec![
                File::read("deploy/caddy/Caddyfile")?
                    .replace(SHIPPED_SITE, format_args!("http://:{}", gateway.port()), 2)?
                    .replace(SHIPPED_IDENTITY, identity, 2)?
                    .replace(SHIPPED_POSTERN, postern, 1)?,
            ],
            Self::Envoy => {
                let mut file =
                    File::read("deploy/envoy/envoy.yaml")?.replace(SHIPPED_IDENTITY, identity, 1)?;
                for (shipped, actual) in SHIPPED_PORTS.into_iter().zip([gateway, identity, postern]) {
                    file = file.replace(shipped, format_args!("port_value: {}", actual.port()), 1)?;
                }
                vec![file]
            }
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
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
        })
    }
}

/// Returns the shipped static configuration of Traefik with another entry point, for tests with other routes.
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

/// A shipped configuration file and its changed text.
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
                "{}: {shipped} occurs {found} times instead of {times}",
                self.path
            )));
        }
        self.text = self.text.replace(shipped, &actual.to_string());
        Ok(self)
    }
}

/// Waits until the gateway routes `/ws/refresh`, which means that a request without a token gets 401. Traefik listens before
/// it has read its routes, and answers 404 until then.
pub fn wait_until_routed(gateway: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = answer(gateway).map_err(Failure::while_doing("asking the gateway for /ws/refresh"))?;
        match answer.split(' ').nth(1) {
            Some("401") => return Ok(()),
            Some("404") if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            _ => {
                return Err(Failure::new(format!(
                    "a request without a token should get 401, not {answer:?}"
                )));
            }
        }
    }
}

/// Requests `/ws/refresh` without a token, and returns the whole answer.
fn answer(gateway: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&gateway, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET /ws/refresh HTTP/1.1\r\nHost: {gateway}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The time that a gateway may take to start: reading the 185 MB of Traefik from a cold disk is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// The addresses in the shipped files. Traefik's entry point is the one in a container, with its quotes because a
/// comment in the file contains another one.
const SHIPPED_ENTRY_POINT: &str = "\":9191\"";
const SHIPPED_GATEWAY: &str = "127.0.0.1:9191";
const SHIPPED_IDENTITY: &str = "127.0.0.1:9292";
const SHIPPED_POSTERN: &str = "127.0.0.1:8080";
const SHIPPED_SITE: &str = "http://:9191";
const SHIPPED_PORTS: [&str; 3] = ["port_value: 9191", "port_value: 9292", "port_value: 8080"];

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses { gateway: address(1), identity: address(2), postern: address(3) }
    }

    #[test]
    fn configured_files_differ_from_the_shipped_ones_only_in_addresses() {
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
                let ports = SHIPPED_PORTS.iter().zip(1..);
                let back = ports
                    .fold(tested.clone(), |text, (shipped, port)| {
                        text.replace(&format!("port_value: {port} "), &format!("{shipped} "))
                    })
                    .replace("http://:1", SHIPPED_SITE)
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
    fn change_of_a_missing_text_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let failure = Gateway::Traefik
            .configure(folder.path(), addresses(), &[("no such text", "")])
            .expect_err("there is no text to replace");
        assert!(failure.to_string().contains("no such text"), "{failure}");
    }
}
