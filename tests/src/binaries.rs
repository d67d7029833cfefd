//! The workspace's own binaries, built when a test first asks for them.
//!
//! Cargo builds a package's binaries for that package's own integration tests only. The tests here start binaries of
//! other packages, so they ask Cargo themselves: after `git clone`, `cargo test --workspace` needs no step before it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{Failure, workspace};

/// A binary of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Postern on mio.
    Postern,
    /// Postern on smol.
    PosternSmol,
    /// The development Identity service.
    Identity,
    /// The command behind `cargo chain`.
    Chain,
    /// What looks for secrets in all that the tests' processes wrote.
    Canary,
    /// What connects and ends in each way there is.
    Churn,
    /// The example of a third runtime.
    Blocking,
}

/// What a binary is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The profile of `cargo test`: quick to build, checks overflow.
    Dev,
    /// As shipped.
    Release,
}

/// What happens to Cargo's messages while it builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// They go to our standard error: somebody waits in front of a terminal.
    Shown,
    /// They are part of the failure, if there is one.
    Kept,
}

impl Binary {
    /// The path of the binary in the profile of the tests. The first call in a process builds it if it has to.
    ///
    /// # Panics
    ///
    /// If Cargo cannot build it, with what Cargo said.
    #[track_caller]
    pub fn path(self) -> &'static Path {
        // One cell each: two threads that want the same binary wait for one build, and Cargo itself keeps those
        // of two processes apart.
        static PATHS: [OnceLock<Result<PathBuf, Failure>>; 7] = [const { OnceLock::new() }; 7];

        match PATHS[self as usize].get_or_init(|| self.build(Profile::Dev, Messages::Kept)) {
            Ok(path) => path,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Builds the binary and returns its path, as Cargo tells it.
    pub fn build(self, profile: Profile, messages: Messages) -> Result<PathBuf, Failure> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace::root());
        if self == Self::Blocking {
            // As `cargo test --workspace` builds it: with the dependencies of its package alone it would be another one.
            cargo.args(["build", "--workspace", "--example", self.name()]);
        } else {
            cargo.args(["build", "--package", self.package(), "--bin", self.name()]);
        }
        cargo.arg("--message-format=json-render-diagnostics");
        without_package(&mut cargo);
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        if messages == Messages::Shown {
            cargo.stderr(Stdio::inherit());
        }
        let output = cargo
            .stdin(Stdio::null())
            .output()
            .map_err(Failure::while_doing(format_args!("running {cargo:?}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!(
                "building {self}: {cargo:?} ended with {}\n{said}",
                output.status
            )));
        }
        executable(&output.stdout, self.name())
            .ok_or_else(|| Failure::new(format!("building {self}: {cargo:?} named no executable")))
    }

    fn package(self) -> &'static str {
        match self {
            Self::Postern => "postern",
            Self::PosternSmol => "postern-smol",
            Self::Blocking => "postern-core",
            Self::Identity | Self::Chain | Self::Canary | Self::Churn => "postern-tests",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postern => "postern",
            Self::PosternSmol => "postern-smol",
            Self::Identity => "identity",
            Self::Chain => "chain",
            Self::Canary => "canary",
            Self::Churn => "churn",
            Self::Blocking => "blocking",
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What Cargo tells a test of its package is not for another Cargo: build scripts that look at it, as that of ring does,
/// would run again each time, and all that depends on them would be built anew.
pub fn without_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// Finds the binary `name` in Cargo's messages, one JSON object a line. The path is not put together here, because
/// the target folder, the profile and the target triple all have a say in it.
fn executable(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// How the names of the variables begin with which Cargo tells a program of its package.
const PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_between_other_messages() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"identity"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"identity"},"executable":"/t/identity"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "identity"), Some(PathBuf::from("/t/identity")));
        assert_eq!(executable(messages, "absent"), None);
    }

    #[test]
    fn a_binary_of_this_package_is_built_and_found() {
        assert!(Binary::Identity.path().is_file());
    }
}
