//! NATS as a child of a test, and a backend that publishes to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{ports, provision};

/// A running server. Its process ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If it cannot be downloaded or does not start.
    pub fn start() -> Server {
        Server::configured("")
    }

    /// Starts a server with these lines in its configuration.
    ///
    /// # Panics
    ///
    /// As [`start`](Server::start).
    pub fn configured(lines: &str) -> Server {
        let (address, folder) = (ports::free(), tempfile::tempdir().expect("a folder"));
        let text = format!("listen: \"{address}\"\n{lines}");
        fs::write(folder.path().join(FILE), text).expect("a configuration");
        Server { process: launch(address, &folder), address, folder }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Ends it at once.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn kill(&mut self) {
        self.process.kill();
        self.process.wait(PATIENCE).expect("NATS ends");
    }

    /// Starts it again, after it was killed.
    ///
    /// # Panics
    ///
    /// As [`start`](Server::start).
    pub fn restart(&mut self) {
        self.process = launch(self.address, &self.folder);
    }
}

fn launch(address: SocketAddr, folder: &TempDir) -> Process {
    let mut command = Command::new(provision::nats_server().expect("NATS is provided"));
    command.arg("-c").arg(folder.path().join(FILE));
    let mut process = Process::spawn("nats", &mut command).expect("NATS starts");
    process.wait_until_listening(address, PATIENCE).expect("NATS listens");
    process
}

/// A connection that publishes.
#[derive(Debug)]
pub struct Backend {
    stream: BufReader<TcpStream>,
    inboxes: u32,
}

impl Backend {
    /// Connects with a server. `login` is a part of the options of the connection, for example `"user":"a","pass":"b"`.
    ///
    /// # Panics
    ///
    /// If the server does not accept the connection.
    pub fn connect(address: SocketAddr, login: &str) -> Backend {
        let stream = TcpStream::connect(address).expect("NATS accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut backend = Backend { stream: BufReader::new(stream), inboxes: 0 };
        assert!(backend.line().starts_with("INFO "));
        let comma = if login.is_empty() { "" } else { "," };
        backend.write(
            format!("CONNECT {{\"verbose\":false,\"headers\":true{comma}{login}}}\r\nPING\r\n").as_bytes(),
        );
        assert_eq!(backend.line(), "PONG");
        backend
    }

    /// Publishes a message, and waits until the server has it.
    ///
    /// # Panics
    ///
    /// If the server does not accept it.
    pub fn send(&mut self, subject: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.publish(subject, "", headers, body);
        self.write(b"PING\r\n");
        assert_eq!(self.line(), "PONG");
    }

    /// Publishes a message, and returns the answer to it.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn request(&mut self, subject: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
        self.inboxes += 1;
        let id = self.inboxes;
        self.write(format!("SUB _INBOX.test.{id} {id}\r\nUNSUB {id} 1\r\n").as_bytes());
        self.publish(subject, &format!("_INBOX.test.{id} "), headers, body);
        let line = self.line();
        let length = line.rsplit(' ').next().and_then(|length| length.parse::<usize>().ok());
        let mut answer = vec![0; length.unwrap_or_else(|| panic!("a message: {line}")) + 2];
        self.stream.read_exact(&mut answer).expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }

    fn publish(&mut self, subject: &str, reply: &str, headers: &[(&str, &str)], body: &[u8]) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("NATS/1.0\r\n{lines}\r\n");
        let line = format!("HPUB {subject} {reply}{} {}\r\n", head.len(), head.len() + body.len());
        self.write(&[line.as_bytes(), head.as_bytes(), body, b"\r\n"].concat());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("NATS reads");
    }

    /// Returns the next line. Questions are answered.
    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a line");
            if line != "PING\r\n" {
                return line.trim_end().to_owned();
            }
            self.write(b"PONG\r\n");
        }
    }
}

const FILE: &str = "nats.conf";

/// The time for each step.
const PATIENCE: Duration = Duration::from_secs(20);
