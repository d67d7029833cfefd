//! Redis with replicas and sentinels as children of a test.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::redis::{self, Redis};
use crate::{ports, provision, wait_until};

/// A master and a replica, and three sentinels of them.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers. The first one is the master at the start.
    pub servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
    password: &'static str,
    _folder: TempDir,
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    /// Its address without TLS.
    address: SocketAddr,
    /// The address that Postern knows.
    known: SocketAddr,
}

/// The differences from the defaults.
#[derive(Debug, Default)]
pub struct Options<'o> {
    /// Arguments of the servers.
    pub arguments: &'o [&'o str],
    /// Lines of the configuration of the sentinels.
    pub lines: &'o [&'o str],
    /// The password of the sentinels.
    pub password: &'static str,
    /// Whether all of them are known by ports for TLS.
    pub is_tls: bool,
}

impl Sentinels {
    /// Starts them.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn start() -> Sentinels {
        Sentinels::with(&Options::default())
    }

    /// Starts them with options.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn with(options: &Options<'_>) -> Sentinels {
        let server = || {
            let secure = ports::free();
            let port = secure.port().to_string();
            let tls = if options.is_tls { &["--tls-port", &port][..] } else { &[] };
            let server = Redis::with(&[tls, options.arguments].concat());
            let known = if options.is_tls { secure } else { server.address() };
            (server, known)
        };
        let [(first, master), (second, _)] = [server(), server()];
        let servers = [first, second];
        servers[1].run(&["REPLICAOF", &master.ip().to_string(), &master.port().to_string()]);
        wait_until("the replica is connected", || {
            servers[0].run(&["INFO", "replication"]).contains("state=online")
        });
        let folder = tempfile::tempdir().expect("a folder");
        let sentinels = (0..3).map(|number| {
            let [address, secure] = [ports::free(), ports::free()];
            let (known, port) = if options.is_tls {
                (secure, format!("port {}\ntls-port {}\n", address.port(), secure.port()))
            } else {
                (address, format!("port {}\n", address.port()))
            };
            let path = folder.path().join(format!("sentinel-{number}.conf"));
            let text = format!(
                "{port}bind {}\n{}\nsentinel monitor {NAME} {} {} 2\nsentinel down-after-milliseconds {NAME} 500\n\
                 sentinel failover-timeout {NAME} 2000\n",
                address.ip(),
                options.lines.join("\n"),
                master.ip(),
                master.port(),
            );
            fs::write(&path, text).expect("a file");
            let (executable, libraries) = provision::redis().expect("Redis is provided");
            let mut command = Command::new(executable);
            command.env("LD_LIBRARY_PATH", libraries).arg(&path).arg("--sentinel").current_dir(folder.path());
            let mut process = Process::spawn("sentinel", &mut command).expect("a sentinel starts");
            process.wait_until_listening(address, PATIENCE).expect("a sentinel listens");
            Sentinel { process, address, known }
        });
        let (sentinels, password) = (sentinels.collect(), options.password);
        let sentinels = Sentinels { sentinels, servers, password, _folder: folder };
        for number in 0..3 {
            wait_until("the sentinels know each other and the replica", || {
                let master = sentinels.ask(number, &["SENTINEL", "MASTER", NAME]);
                let fields: Vec<&str> = master.lines().collect();
                let is = |field: &str, count: &str| fields.windows(2).any(|pair| pair == [field, count]);
                is("num-other-sentinels", "2") && is("num-slaves", "1")
            });
        }
        sentinels
    }

    /// Returns the URL by which Postern finds the master.
    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| sentinel.known.to_string()).collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// Starts a server again, which was killed, as a replica of the other one. Waits until all sentinels know it.
    ///
    /// # Panics
    ///
    /// If it does not become one.
    pub fn rejoin(&mut self, server: usize, master: usize) {
        self.servers[server].start_again();
        let address = self.servers[master].address();
        self.servers[server].run(&["REPLICAOF", &address.ip().to_string(), &address.port().to_string()]);
        wait_until("the replica is connected", || {
            self.servers[master].run(&["INFO", "replication"]).contains("state=online")
        });
        for number in 0..self.sentinels.len() {
            wait_until("the sentinels can use the replica", || {
                let replicas = self.ask(number, &["SENTINEL", "REPLICAS", NAME]);
                let fields: Vec<&str> = replicas.lines().collect();
                let is = |field: &str, value: &str| fields.windows(2).any(|pair| pair == [field, value]);
                is("flags", "slave") && is("master-link-status", "ok")
            });
        }
    }

    /// Executes a command on a sentinel.
    ///
    /// # Panics
    ///
    /// If there is no reply.
    pub fn ask(&self, number: usize, command: &[&str]) -> String {
        redis::run(self.sentinels[number].address, self.password, command)
    }

    /// Ends a sentinel at once.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn kill(&mut self, number: usize) {
        self.sentinels[number].process.kill();
        self.sentinels[number].process.wait(PATIENCE).expect("the sentinel ends");
    }
}

/// The name of the master.
pub const NAME: &str = "mymaster";

/// The time for each step.
const PATIENCE: Duration = Duration::from_secs(20);
