//! The first half of `cargo chain`: builds the programs that the second half starts.
//!
//! The second half is the binary `chain` of `tools/chain`. This package depends only on the standard library, so
//! Cargo builds it in a second even in a clean clone, and it can announce the build of the other programs. Cargo
//! prints its own progress on standard error.
//!
//! Postern is built with the release profile unless `--dev` is given. The Identity service and `chain` are always built
//! with the dev profile, because their speed does not matter.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Builds the programs that the command line of this process needs, and executes `chain` with the same command line.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let plan = Plan::of(&words);
    let folder = match env::current_exe() {
        Ok(executable) => executable.parent().map(Path::to_path_buf).unwrap_or_default(),
        Err(error) => return fail(format_args!("the path of this program is not known: {error}")),
    };
    // The announcement does not matter if standard output is closed.
    let _ = io::stdout().write_all(plan.announcement(&folder).as_bytes());
    for arguments in plan.builds() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        without_package(&mut cargo);
        match cargo.args(&arguments).status() {
            Ok(status) if status.success() => {}
            Ok(status) => return fail(format_args!("cargo {} ended with {status}", arguments.join(" "))),
            Err(error) => return fail(format_args!("cargo {}: {error}", arguments.join(" "))),
        }
    }
    let chain = folder.join("chain");
    let error = Command::new(&chain).args(words).exec();
    fail(format_args!("{}: {error}", chain.display()))
}

fn fail(what: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("cargo chain: {what}");
    ExitCode::FAILURE
}

/// The programs to build for a command line. The binary `chain` parses the command line again and reports its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The package of Postern, which is also the name of its binary. `None` if Postern is not built.
    postern: Option<&'static str>,
    is_release: bool,
    /// Whether Postern needs a feature that is not a default of `postern-smol`.
    has_rabbitmq: bool,
}

impl Plan {
    /// Returns the plan for these arguments, which do not contain the name of the program.
    pub fn of(words: &[OsString]) -> Self {
        let has = |flag: &str| words.iter().any(|word| word == OsStr::new(flag));
        let is_given = |word: &OsString| word.to_string_lossy().starts_with("--postern");
        let needs_none = has("--help") || has("-h") || words.iter().any(is_given);
        let package = if has("--smol") { "postern-smol" } else { "postern" };
        Self {
            postern: (!needs_none).then_some(package),
            is_release: !has("--dev"),
            has_rabbitmq: has("--rabbitmq"),
        }
    }

    /// Returns the arguments for each run of Cargo.
    pub fn builds(self) -> Vec<Vec<&'static str>> {
        let tools = |more: &[&'static str]| [TOOLS, more].concat();
        let features = if self.has_rabbitmq { RABBITMQ } else { &[] };
        match self.postern {
            Some(package) if self.is_release => {
                let postern = ["build", "--locked", "--package", package, "--release"];
                vec![[&postern, features].concat(), tools(&[])]
            }
            // In one run, so that shared dependencies are built once, with the features of both.
            Some(package) => vec![tools(&[&["--package", package], features].concat())],
            None => vec![tools(&[])],
        }
    }

    /// Returns the text to print before the first build. `folder` contains the binaries of the dev profile.
    pub fn announcement(self, folder: &Path) -> String {
        let Some(package) = self.postern else { return String::new() };
        let is_first =
            !(self.built(folder).is_some_and(|path| path.exists()) && folder.join("chain").exists());
        let profile = if self.is_release { "release" } else { "dev" };
        let time = if is_first { FIRST_BUILD } else { "" };
        format!(
            "{:>12} | building {package} with the {profile} profile, and the Identity service{time}\n",
            "chain"
        )
    }

    /// Returns the path at which Cargo puts Postern.
    fn built(self, folder: &Path) -> Option<PathBuf> {
        let folder = if self.is_release { folder.parent()?.join("release") } else { folder.to_path_buf() };
        Some(folder.join(self.postern?))
    }
}

/// The arguments that build the other programs of the chain.
const TOOLS: &[&str] = &["build", "--locked", "--package", "postern-chain", "--package", "postern-identity"];

/// The arguments for the feature, which Cargo enables in each selected package that has it.
const RABBITMQ: &[&str] = &["--features", "amqp"];

const FIRST_BUILD: &str = "\n             | The first build downloads about 25 MB of crates and takes about 4 minutes on 2 cores; \
                           later ones take seconds.";

/// Removes the variables by which Cargo describes a package to its program. Build scripts that read them, such as the
/// one of ring, would otherwise run again, and their dependents would be built again.
pub fn without_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// The prefixes of the variables by which Cargo describes a package to its program.
const PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn plan(words: &[&str]) -> Plan {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        Plan::of(&words)
    }

    #[test]
    fn each_flag_changes_the_plan() {
        let chain = TOOLS.join(" ");
        let dev = format!("{chain} --package postern");
        for (words, expected) in [
            (&[][..], vec!["build --locked --package postern --release", &chain]),
            (&["--smol", "--nginx"], vec!["build --locked --package postern-smol --release", &chain]),
            (&["--port", "8081", "--dev"], vec![&dev]),
            (&["--help"], vec![&chain]),
            (&["--postern", "/usr/local/bin/postern"], vec![&chain]),
            (&["--postern=/usr/local/bin/postern"], vec![&chain]),
        ] {
            let builds: Vec<_> = plan(words).builds().iter().map(|build| build.join(" ")).collect();
            assert_eq!(builds, expected, "{words:?}");
        }
    }

    #[test]
    fn announcement_of_the_first_build_includes_its_time() {
        let target = env::temp_dir().join(format!("postern-chain-{}", std::process::id()));
        let folder = target.join("debug");
        fs::create_dir_all(&folder).expect("a folder");
        fs::create_dir_all(target.join("release")).expect("a folder");
        let first = plan(&[]).announcement(&folder);
        assert!(
            first.contains("building postern with the release profile") && first.contains("minutes"),
            "{first}"
        );
        fs::write(folder.join("chain"), "").expect("a file");
        assert!(plan(&[]).announcement(&folder).contains("minutes"), "Postern is still missing");
        fs::write(target.join("release/postern"), "").expect("a file");
        let later = plan(&[]).announcement(&folder);
        assert!(later.contains("building postern") && !later.contains("minutes"), "{later}");
        assert!(
            plan(&["--dev"]).announcement(&folder).contains("minutes"),
            "the binary of the dev profile is missing"
        );
        assert_eq!(plan(&["--help"]).announcement(&folder), "");
        fs::remove_dir_all(target).expect("it is ours");
    }
}
