//! Runs fenced blocks of documents in bash.
//!
//! A block runs with `-euo pipefail` and both streams in one, in a folder with the files of the checkout except for a
//! developer's `.env`. `postern`, `postern-smol` and `jq` are in `PATH`. A document may abbreviate output: `…` matches
//! any text within a line and, alone in a line, any number of lines.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use tempfile::TempDir;

use super::Block;
use crate::binaries::Binary;
use crate::process::{Process, Stream};
use crate::{canary, provision, workspace};

/// An environment for blocks.
#[derive(Debug)]
pub struct Shell {
    /// The checkout, and a folder of programs.
    home: TempDir,
    replacements: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    /// Functions that blocks call.
    functions: String,
}

impl Shell {
    /// Creates an environment.
    ///
    /// # Panics
    ///
    /// If a folder cannot be created, or jq cannot be downloaded.
    #[track_caller]
    #[expect(clippy::new_without_default)]
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
        // curl shows a progress meter if its output is not a terminal.
        fs::write(home.path().join(".curlrc"), "no-progress-meter\n").expect("a file");
        Self { home, replacements: Vec::new(), variables: Vec::new(), functions: String::new() }
    }

    /// Replaces a text in blocks.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        self.replacements.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Replaces a documented port with the port of an address.
    pub fn port(self, documented: u16, actual: SocketAddr) -> Self {
        self.replace(&documented.to_string(), &actual.port().to_string())
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Defines the functions of a block for all later blocks.
    pub fn define(mut self, block: &Block) -> Self {
        self.functions.push_str(&self.replaced(&block.text));
        self
    }

    /// Returns a text with all replacements.
    pub fn replaced(&self, text: &str) -> String {
        self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Starts a block.
    ///
    /// # Panics
    ///
    /// If it does not contain shell commands, or bash does not start.
    #[track_caller]
    pub fn start(&self, block: &Block) -> Process {
        assert!(block.is_shell(), "{}: not a block of commands", block.place);
        let script = format!("exec 2>&1\n{}{}", self.functions, self.replaced(&block.text));
        let mut bash = self.command("bash");
        Process::spawn("document", bash.args(["-euo", "pipefail", "-c", &script])).expect("bash starts")
    }

    /// Returns a command in this environment, without settings of the developer and of Cargo.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path().join(CHECKOUT));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
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
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a block to its end, and returns what it prints.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[track_caller]
    pub fn run(&self, block: &Block) -> String {
        let mut process = self.start(block);
        process.wait(PATIENCE).unwrap_or_else(|failure| panic!("{}: {failure}", block.place));
        process.lines_of(Stream::Out).into_iter().map(|line| line + "\n").collect()
    }

    /// Runs a block until it prints what the document shows. The first attempt may come before a process is ready.
    ///
    /// # Panics
    ///
    /// If it prints something else for [`PATIENCE`].
    #[track_caller]
    pub fn prints(&self, block: &Block, shown: &Block) {
        let expected = self.replaced(&shown.text);
        let pattern = pattern(&expected);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = self.run(block);
            if pattern.is_match(&printed) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} prints\n{printed}instead of, as {} shows,\n{expected}",
                block.place,
                shown.place,
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Returns a pattern for the output that a document shows.
fn pattern(shown: &str) -> Regex {
    let lines = shown.lines().map(|line| match line {
        GAP => "(.*\n)*".to_owned(),
        line => regex::escape(line).replace(GAP, ".*") + "\n",
    });
    Regex::new(&format!("^{}$", lines.collect::<String>())).expect("a pattern")
}

const GAP: &str = "…";
const CHECKOUT: &str = "checkout";
const PROGRAMS: &str = "programs";

/// Ten times the time that a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_matches_any_text_or_any_lines() {
        for (shown, printed, expected) in [
            ("a\nb\n", "a\nb\n", true),
            ("a\nb\n", "a\n", false),
            ("a\n", "a\nb\n", false),
            ("a\n…\n", "a\nb\nc\n", true),
            ("a\n…\nc\n", "a\nb\nc\n", true),
            ("a\n…\nc\n", "a\nb\nc\nd\n", false),
            ("n: …, m: …\n", "n: 1, m: 2\n", true),
            ("n: …, m: …\n", "n: 1\n", false),
            ("n: …\n", "n: 1\n2\n", false),
            ("a.b\n", "a-b\n", false),
            ("ab…ba\n", "aba\n", false),
            ("", "", true),
        ] {
            assert_eq!(pattern(shown).is_match(printed), expected, "{shown:?} {printed:?}");
        }
    }
}
