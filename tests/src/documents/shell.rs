//! A newcomer's terminal: runs blocks of documents as they stand there.
//!
//! A block runs in bash, and ends at the first command that fails (`-euo pipefail`), both streams in one. It runs in a
//! folder that has what a checkout has, but for a developer's `.env`; `postern`, `postern-smol` and `jq` are found by their
//! names. What is replaced in a block, ports above all, is replaced in what the document shows of the output, too.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::markdown::Block;
use super::transcript;
use crate::binaries::Binary;
use crate::process::{Process, Stream};
use crate::{canary, provision, workspace};

/// A terminal.
#[derive(Debug)]
pub struct Shell {
    /// Its folder, with the programs in one beside it.
    home: TempDir,
    replacements: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    /// What was pasted into it before.
    history: String,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What was printed, on either stream.
    pub lines: Vec<String>,
}

impl Shell {
    /// A terminal in a checkout.
    ///
    /// # Panics
    ///
    /// If a folder cannot be made, or jq cannot be had.
    #[track_caller]
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (checkout, programs) = (home.path().join(CHECKOUT), home.path().join(PROGRAMS));
        for folder in [&checkout, &programs] {
            fs::create_dir(folder).expect("a folder");
        }
        for entry in fs::read_dir(workspace::root()).expect("the checkout") {
            let entry = entry.expect("an entry of the checkout");
            if ![".env", ".git", "target"].iter().any(|name| entry.file_name() == *name) {
                symlink(entry.path(), checkout.join(entry.file_name())).expect("a link");
            }
        }
        for binary in [Binary::Postern, Binary::PosternSmol] {
            symlink(binary.path(), programs.join(binary.to_string())).expect("a link");
        }
        let (jq, libraries) = provision::jq().expect("jq");
        let script =
            format!("#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n", libraries.display(), jq.display());
        fs::write(programs.join("jq"), script).expect("a script");
        fs::set_permissions(programs.join("jq"), fs::Permissions::from_mode(0o755)).expect("a mode");
        // It shows a meter where its output is no terminal.
        fs::write(home.path().join(".curlrc"), "no-progress-meter\n").expect("a file");
        Self { home, replacements: Vec::new(), environment: Vec::new(), history: String::new() }
    }

    /// Puts one text in the place of another, wherever it stands.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        self.replacements.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Puts the port of this address in the place of one that documents name.
    pub fn port(self, documented: u16, actual: SocketAddr) -> Self {
        let (from, to) = (documented.to_string(), actual.port().to_string());
        self.replace(&from, &to)
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Pastes a block whose effect is to stay: functions and variables.
    pub fn remember(&mut self, block: &Block) {
        self.history.push_str(&self.replaced(&block.text));
    }

    /// The folder that blocks run in.
    pub fn checkout(&self) -> PathBuf {
        self.home.path().join(CHECKOUT)
    }

    /// A text with what is replaced.
    pub fn replaced(&self, text: &str) -> String {
        self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Starts a block.
    ///
    /// # Panics
    ///
    /// If bash does not start.
    #[track_caller]
    pub fn start(&self, block: &Block) -> Process {
        assert!(block.is(&["sh", "bash"]), "{block} is no block of commands");
        self.start_text(&block.text)
    }

    /// Starts a text that is none of a document's.
    ///
    /// # Panics
    ///
    /// If bash does not start.
    #[track_caller]
    pub fn start_text(&self, text: &str) -> Process {
        let script = format!("exec 2>&1\n{}{}", self.history, self.replaced(text));
        let mut bash = self.command("bash");
        bash.args(["-euo", "pipefail", "-c", &script]);
        Process::spawn("document", &mut bash).expect("bash starts")
    }

    /// A program in this terminal.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.checkout());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            // As a newcomer has it, without settings of the developer or of Cargo.
            if ["POSTERN_", "LOG_", "CARGO_"].iter().any(|prefix| text.starts_with(prefix))
                || ["PORT", "HOST_PORT", "JWT_SECRET", "TOKEN", "KEY"].contains(&text.as_ref())
            {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.home.path().join(PROGRAMS).display()));
        command.env("CURL_HOME", self.home.path());
        canary::talk(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a block to its end.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[track_caller]
    pub fn run(&self, block: &Block) -> Outcome {
        let process = self.start(block);
        finish(process).unwrap_or_else(|failure| panic!("{block}: {failure}"))
    }

    /// Runs a block that must succeed, and returns what it prints.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn succeed(&self, block: &Block) -> Vec<String> {
        let outcome = self.run(block);
        assert_eq!(outcome.status, Some(0), "{block} fails:\n{}", outcome.lines.join("\n"));
        outcome.lines
    }

    /// Runs a block, once because it changes something, that must succeed and print what another block shows.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn prints_at_once(&self, block: &Block, shown: &Block) {
        let (expected, printed) = (self.replaced(&shown.text), self.succeed(block));
        assert!(
            transcript::matches(&expected, &printed),
            "{block} prints\n{}\ninstead of, as {shown} says,\n{expected}",
            printed.join("\n")
        );
    }

    /// Runs a block, again if need be, until it ends with this status and prints what another block shows: what it asks
    /// may need a moment to be as it should, and a busy machine more than that.
    ///
    /// # Panics
    ///
    /// If it never does.
    #[track_caller]
    pub fn prints(&self, block: &Block, status: i32, shown: &Block) {
        assert!(shown.is(&["text"]), "{shown} shows no output");
        let expected = self.replaced(&shown.text);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.run(block);
            if outcome.status == Some(status) && transcript::matches(&expected, &outcome.lines) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{block} ends with {:?} and prints\n{}\ninstead of {status} and, as {shown} says,\n{expected}",
                outcome.status,
                outcome.lines.join("\n")
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a process has written the lines that a block shows, in their order, with more around them.
    ///
    /// # Panics
    ///
    /// If it never does.
    #[track_caller]
    pub fn logged(&self, process: &Process, shown: &Block) {
        assert!(shown.is(&["text"]), "{shown} shows no log");
        let expected = self.replaced(&shown.text);
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = transcript::missing(&expected, &process.lines()) {
            assert!(
                Instant::now() < deadline,
                "{shown}: {line}\nis not in the log:\n{}",
                process.lines().join("\n")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for the end of a process.
///
/// # Errors
/// It does not end.
pub fn finish(mut process: Process) -> Result<Outcome, crate::Failure> {
    let status = process.wait(PATIENCE)?;
    Ok(Outcome { status: status.code(), lines: process.lines_of(Stream::Out) })
}

const CHECKOUT: &str = "checkout";
const PROGRAMS: &str = "programs";

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
