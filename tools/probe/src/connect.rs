//! `postern connect`: an interactive client.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::display::Redaction;
use crate::judge::answer::{self, Asked};
use crate::judge::codes;
use crate::judge::gateway::{Gateway, Kind};
use crate::net::websocket::{Arrival, Ended, Socket};
use crate::options::ConnectOptions;
use crate::report::Report;
use crate::walk::{self, Knock};

/// Connects, and passes messages on until one side closes.
pub(crate) fn run(options: &ConnectOptions) -> ExitCode {
    let Some(socket) = open(options) else { return ExitCode::FAILURE };
    let mut terminal = Terminal {
        socket,
        redaction: options.common.credentials.redaction(),
        has_channels: options.has_channels,
        is_terminal: io::stdout().is_terminal(),
    };
    match terminal.serve(options.common.connect_token.as_deref()) {
        Ok(()) | Err(Ended::Closed { code: 1000, .. }) => ExitCode::SUCCESS,
        Err(ended) => {
            terminal.explain(&ended);
            ExitCode::FAILURE
        }
    }
}

/// Opens the connection. If it cannot be opened, prints the step of the probe that fails, with what to do.
fn open(options: &ConnectOptions) -> Option<Socket> {
    let common = &options.common;
    let mut report = Report::silent(&common.target);
    let fail = |report: Report| {
        eprint(&report.failures());
        None
    };
    let Some(dialer) = walk::reach(common, &mut report) else { return fail(report) };
    let credentials = &common.credentials;
    let knock = Knock { dialer: &dialer, common, credentials: Some(credentials) };
    let (seen, opened) = knock.open();
    if let Some(opened) = opened {
        eprint(&format!("connected to {}; end the input (Ctrl-D) to close\n", common.target.shown()));
        return Some(opened.socket);
    }
    let exchange = walk::ask_for_nothing(&dialer, &common.target);
    let gateway = exchange.map_or(UNKNOWN, |exchange| Gateway::recognize(&exchange.answer));
    let asked = Asked {
        target: &common.target,
        gateway: &gateway,
        has_credentials: !credentials.is_empty(common.target.credentials().next().is_some()),
        origin: common.origin.as_deref(),
        redaction: credentials.redaction(),
    };
    report.add(answer::upgrade(&asked, &seen));
    fail(report)
}

/// The connection, and the two streams of the terminal.
struct Terminal<'t> {
    socket: Socket,
    redaction: &'t Redaction,
    has_channels: bool,
    /// Whether standard output is a terminal, which control characters could change.
    is_terminal: bool,
}

impl Terminal<'_> {
    fn serve(&mut self, connect_token: Option<&str>) -> Result<(), Ended> {
        if self.has_channels {
            self.socket.send_text(&walk::connect_command(connect_token))?;
        }
        let mut typed = Vec::new();
        loop {
            let is_typed = self.wait();
            while self.receive_for(GLANCE)? {}
            if !is_typed {
                continue;
            }
            let mut portion = [0; 4096];
            let count = io::stdin().read(&mut portion).unwrap_or_default();
            typed.extend_from_slice(portion.get(..count).unwrap_or_default());
            while let Some(at) = typed.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = typed.drain(..=at).collect();
                self.send(&line)?;
            }
            if count == 0 {
                if !typed.is_empty() {
                    self.send(&typed)?;
                }
                self.linger()?;
                return self.close();
            }
        }
    }

    /// Waits for a frame, or for input. Returns whether there is input.
    fn wait(&self) -> bool {
        let stdin = io::stdin();
        let mut events =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::new(self.socket.stream(), PollFlags::IN)];
        // An interrupted wait is repeated by the caller.
        poll(&mut events, None).is_ok() && events.first().is_some_and(|event| !event.revents().is_empty())
    }

    fn send(&mut self, line: &[u8]) -> Result<(), Ended> {
        let line = String::from_utf8_lossy(line);
        self.socket.send_text(line.trim_end_matches(['\n', '\r']))
    }

    /// Prints the answers to the last messages: a session receives no messages after its Close.
    fn linger(&mut self) -> Result<(), Ended> {
        while self.receive_for(LINGER)? {}
        Ok(())
    }

    /// Sends a Close, and waits for its answer.
    fn close(&mut self) -> Result<(), Ended> {
        self.socket.start_close();
        match self.receive_for(CLOSE_TIMEOUT) {
            Ok(_) | Err(Ended::Closed { code: 1000 | 1005, .. }) => Ok(()),
            Err(ended) => Err(ended),
        }
    }

    /// Waits for a frame for this time, and prints its message. Returns whether there was one.
    fn receive_for(&mut self, time: Duration) -> Result<bool, Ended> {
        match self.socket.next(Instant::now() + time)? {
            Some(Arrival::Text(text)) if self.has_channels && text == "{}" => self.socket.send_text("{}")?,
            Some(Arrival::Text(text)) => self.print(&text),
            Some(Arrival::Binary(bytes)) => eprint(&format!("a binary message of {} bytes\n", bytes.len())),
            Some(Arrival::Ping | Arrival::Pong(_)) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Prints a message, with indentation if all of its lines are JSON objects or arrays.
    fn print(&self, text: &str) {
        let values: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let pretty =
            values.ok().filter(|values| values.iter().all(|value| value.is_object() || value.is_array()));
        let pretty = pretty
            .filter(|values| !values.is_empty())
            .map(|values| values.iter().map(|value| format!("{value:#}")).collect::<Vec<_>>().join("\n"));
        let text = pretty.unwrap_or_else(|| text.to_owned());
        let is_odd = |character: char| character.is_control() && character != '\n' && character != '\t';
        let text = if self.is_terminal && text.contains(is_odd) {
            text.chars()
                .flat_map(|character| {
                    if is_odd(character) { character.escape_unicode().collect() } else { vec![character] }
                })
                .collect()
        } else {
            text
        };
        let mut stdout = io::stdout();
        // The reader may have closed the pipe.
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    fn explain(&self, ended: &Ended) {
        let text = match ended {
            Ended::Closed { code, reason } => {
                let advice = codes::close(*code, reason, &UNKNOWN);
                format!("closed by the server: {code} {}\n  → {advice}\n", self.redaction.show(reason))
            }
            Ended::Lost(how) => format!("{}\n", self.redaction.show(how)),
            Ended::Invalid(error) => format!("the server violates the protocol: {error}\n"),
        };
        eprint(&text);
    }
}

fn eprint(text: &str) {
    // If it cannot be printed, the exit status still reports a fault.
    let _ = io::stderr().write_all(text.as_bytes());
}

const UNKNOWN: Gateway = Gateway { kind: Kind::Other, name: String::new() };

/// The time for which frames that have arrived are handled before the next wait.
const GLANCE: Duration = Duration::from_millis(2);

/// The time without a frame after which the last messages count as answered.
const LINGER: Duration = Duration::from_millis(500);

/// The time for the answer to a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
