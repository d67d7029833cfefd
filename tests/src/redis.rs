//! A Redis server as a child of a test, and its client.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::Process;
use crate::{Failure, ports, provision};

/// A Redis server. It keeps nothing on a disk, unless the arguments say so.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    program: Program,
    address: SocketAddr,
    arguments: Vec<String>,
    folder: TempDir,
}

/// The program of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Redis of the distribution.
    Distribution,
    /// Redis 8.2.
    Redis8,
    /// Valkey 9.1, which is compatible with Redis.
    Valkey9,
}

impl Program {
    /// All.
    pub const ALL: [Program; 3] = [Program::Distribution, Program::Redis8, Program::Valkey9];

    /// Returns the executable, and the `LD_LIBRARY_PATH` that it needs.
    fn provide(self) -> Result<(PathBuf, OsString), Failure> {
        match self {
            Program::Distribution => provision::redis(),
            Program::Redis8 => Ok((provision::redis_8()?, OsString::new())),
            Program::Valkey9 => Ok((provision::valkey_9()?, OsString::new())),
        }
    }
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    /// Starts a server with these arguments in addition to its own.
    ///
    /// # Panics
    ///
    /// As [`start`](Redis::start).
    #[track_caller]
    pub fn with(arguments: &[&str]) -> Redis {
        Redis::of(Program::Distribution, arguments)
    }

    /// Starts a server of this program with these arguments in addition to its own.
    ///
    /// # Panics
    ///
    /// As [`start`](Redis::start).
    #[track_caller]
    pub fn of(program: Program, arguments: &[&str]) -> Redis {
        let (address, folder) = (ports::free(), tempfile::tempdir().expect("a folder"));
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = launch(program, address, &folder, &arguments);
        Redis { process, program, address, arguments, folder }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it at once.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn kill(&mut self) {
        self.process.kill();
        self.process.wait(PATIENCE).expect("Redis ends");
    }

    /// Starts it again, after it was killed.
    ///
    /// # Panics
    ///
    /// As [`start`](Redis::start).
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = launch(self.program, self.address, &self.folder, &self.arguments);
    }

    /// Stops it, as if its host were unresponsive.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("a signal");
    }

    /// Executes a command on a new connection, and returns the reply as text: arrays as lines.
    ///
    /// # Panics
    ///
    /// If there is no reply.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        run(self.address, "", command)
    }
}

/// Executes a command of a server or a sentinel on a new connection, with a password unless it is empty. Returns the reply as
/// text: arrays as lines.
///
/// # Panics
///
/// If there is no reply.
#[track_caller]
pub fn run(address: SocketAddr, password: &str, command: &[&str]) -> String {
    let mut connection = BufReader::new(TcpStream::connect(address).expect("Redis accepts"));
    connection.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
    if !password.is_empty() {
        assert_eq!(call(&mut connection, &["AUTH", password]), "OK");
    }
    call(&mut connection, command)
}

fn call(connection: &mut BufReader<TcpStream>, command: &[&str]) -> String {
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    connection.get_mut().write_all(request.as_bytes()).expect("a command is sent");
    reply(connection)
}

fn launch(program: Program, address: SocketAddr, folder: &TempDir, arguments: &[String]) -> Process {
    let (executable, libraries) = program.provide().expect("Redis is provided");
    let mut command = Command::new(executable);
    command
        .env("LD_LIBRARY_PATH", libraries)
        .args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .args(arguments);
    let mut process = Process::spawn("redis", &mut command).expect("Redis starts");
    process.wait_until_listening(address, PATIENCE).expect("Redis listens");
    process
}

/// Reads a reply (RESP2).
fn reply(connection: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    connection.read_line(&mut line).expect("a reply");
    let (kind, rest) = line.trim_end().split_at(1);
    let number = || rest.parse::<isize>().expect("a length");
    match kind {
        "+" | "-" | ":" => rest.to_owned(),
        "$" if number() < 0 => String::new(),
        "$" => {
            let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
            connection.read_exact(&mut bytes).expect("a reply");
            bytes.truncate(bytes.len() - 2);
            String::from_utf8_lossy(&bytes).into_owned()
        }
        "*" => (0..number()).map(|_| reply(connection)).collect::<Vec<_>>().join("\n"),
        other => panic!("a reply of the kind {other:?}"),
    }
}

/// The time for each step.
const PATIENCE: Duration = Duration::from_secs(20);
