//! Child processes whose output is printed line by line, each line after the name of its process.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// A running child. Dropping it kills the process.
pub(crate) struct Child {
    name: String,
    process: Process,
}

impl Child {
    /// Starts `command` and waits until it listens on `address`.
    pub(crate) fn start(name: &str, command: &mut Command, address: SocketAddr) -> Result<Self, Failure> {
        let mut child = Self::spawn(name, command)?;
        child.wait_until_listening(address)?;
        Ok(child)
    }

    /// Starts `command`, which does not listen.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self, Failure> {
        // Ctrl-C at a terminal signals the whole foreground group. Each child has its own group, so that `chain` ends
        // them, one after the other.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process =
            command.spawn().map_err(Failure::while_doing(format_args!("starting {name} ({command:?})")))?;
        if let Some(output) = process.stdout.take() {
            print_in_background(name, output);
        }
        if let Some(output) = process.stderr.take() {
            print_in_background(name, output);
        }
        Ok(Self { name: name.to_owned(), process })
    }

    fn wait_until_listening(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.try_wait()? {
                return Err(Failure::new(format!(
                    "{} ended with {status} before it listened on {address}",
                    self.name
                )));
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!(
                    "{} does not listen on {address} after {START_TIMEOUT:?}",
                    self.name
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the exit status if the child has ended.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.process.try_wait().map_err(Failure::while_doing(format_args!("waiting for {}", self.name)))
    }

    /// Sends SIGTERM, unless the child has ended.
    pub(crate) fn terminate(&mut self) -> Result<(), Failure> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // The child has not been reaped, so its id cannot belong to another process.
        kill_process(Pid::from_child(&self.process), Signal::TERM)
            .map_err(Failure::while_doing(format_args!("sending SIGTERM to {}", self.name)))
    }

    /// Sends SIGKILL and reaps the child.
    pub(crate) fn kill(&mut self) {
        // Both calls fail only if the child has been reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) {
            // The workers of nginx survive a SIGKILL of their master and would keep the port.
            let _ = self.terminate();
            let deadline = Instant::now() + STOP_TIMEOUT;
            while matches!(self.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(POLL_INTERVAL);
            }
        }
        self.kill();
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process.id())
    }
}

fn print_in_background(name: &str, output: impl Read + Send + 'static) {
    let name = name.to_owned();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // An error of the pipe ends the stream as its end does.
        while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            // If standard output is closed (`| head`), the children still run until a signal ends them.
            let _ = writeln!(std::io::stdout(), "{name:>12} | {}", text.trim_end_matches(['\n', '\r']));
            line.clear();
        }
    });
}

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The time that a child may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(10);
