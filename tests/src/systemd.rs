//! The units of `deploy/systemd`, and systemd's own tools, which do not need a running systemd.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::postern::Runtime;
use crate::{provision, workspace};

/// All units.
pub const UNITS: [&str; 3] = ["postern.service", "postern.socket", "postern-control.socket"];

/// All drop-ins for the service.
pub const DROP_INS: [&str; 2] = ["smol.conf", "secrets.conf"];

/// Returns the values of a key in a unit or a drop-in of `deploy/systemd`, from top to bottom.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn values(unit: &str, key: &str) -> Vec<String> {
    let text = text(unit);
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

/// Returns the one value of a key.
///
/// # Panics
///
/// If there is none or more than one.
#[track_caller]
pub fn value(unit: &str, key: &str) -> String {
    let values = values(unit, key);
    assert_eq!(values.len(), 1, "{unit}: {key}= has {values:?}");
    values.concat()
}

/// Returns the text of a file of `deploy/systemd`.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn text(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the path of `deploy/systemd`.
pub fn folder() -> PathBuf {
    workspace::path("deploy/systemd")
}

/// Returns a tool of systemd. Programs that it starts with an empty environment do not inherit its libraries.
///
/// # Panics
///
/// If it cannot be downloaded.
#[track_caller]
pub fn tool(name: &str) -> Command {
    let root = provision::systemd().expect("systemd");
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["lib", "usr/lib"].map(|lib| root.join(lib));
    let libraries = folders.iter().flat_map(|lib| {
        let own = lib.join(&architecture);
        [own.join("systemd"), own, lib.join("systemd")]
    });
    let mut command = Command::new(root.join("usr/bin").join(name));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("no colon in a path"));
    command
}

/// Returns the names of all system calls that these entries of `SystemCallFilter=` allow. Each entry is a list; after
/// `~` it forbids.
///
/// # Panics
///
/// If `systemd-analyze` does not know a group.
pub fn system_calls(filter: &[String]) -> BTreeSet<String> {
    // Always allowed (systemd.exec(5)).
    let mut calls = BTreeSet::new();
    expand("@default", &mut calls);
    for entry in filter {
        let mut named = BTreeSet::new();
        entry.trim_start_matches('~').split_whitespace().for_each(|name| expand(name, &mut named));
        if entry.starts_with('~') {
            calls.retain(|call| !named.contains(call));
        } else {
            calls.extend(named);
        }
    }
    calls
}

/// Adds the system call of this name, or all of the group.
fn expand(name: &str, calls: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        calls.insert(name.to_owned());
        return;
    }
    let output = tool("systemd-analyze").args(["syscall-filter", name]).output().expect("it starts");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    // The name of the group, its description, and its members.
    let members =
        text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.for_each(|member| expand(member, calls));
}

/// The root of a host on which the units are installed, for `systemd-analyze`.
#[derive(Debug)]
pub struct Host {
    root: TempDir,
}

impl Host {
    /// Returns a host with all units, and with these drop-ins for the service.
    ///
    /// # Panics
    ///
    /// If systemd cannot be downloaded, or a file cannot be written.
    #[track_caller]
    pub fn with(drop_ins: &[&str]) -> Self {
        let systemd = provision::systemd().expect("systemd");
        let root = tempfile::tempdir().expect("a folder");
        let place = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            path
        };
        for name in UNITS {
            fs::copy(folder().join(name), place(&format!("etc/systemd/system/{name}"))).expect("a unit");
        }
        for name in drop_ins {
            let path = place(&format!("etc/systemd/system/postern.service.d/{name}"));
            fs::copy(folder().join(name), path).expect("a drop-in");
        }
        // systemd's own, such as the targets.
        let own = ["usr/lib/systemd/system", "lib/systemd/system"].map(|path| systemd.join(path));
        let own = own.iter().find(|path| path.is_dir()).expect("units of systemd");
        symlink(own, place("usr/lib/systemd/system")).expect("a link");
        for runtime in Runtime::BOTH {
            let path = place(&format!("usr/local/bin/{runtime}"));
            fs::hard_link(runtime.binary().path(), &path)
                .or_else(|_| fs::copy(runtime.binary().path(), &path).map(drop))
                .expect("a binary");
        }
        let kill = ["usr/bin/kill", "bin/kill"].map(|path| systemd.join(path));
        let kill = kill.iter().find(|path| path.is_file()).expect("kill");
        fs::copy(kill, place("bin/kill")).expect("kill");
        // `systemd-analyze` may run as another user than the owner of the folder.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { root }
    }

    /// Introduces a mistake into the service.
    ///
    /// # Panics
    ///
    /// If it is not there exactly once.
    #[track_caller]
    pub fn change(self, from: &str, to: &str) -> Self {
        let path = self.root.path().join("etc/systemd/system/postern.service");
        let text = fs::read_to_string(&path).expect("the service");
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        fs::write(path, text.replace(from, to)).expect("the service");
        self
    }

    /// Runs `systemd-analyze`. Returns whether it succeeded, and its output.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn analyze(&self, arguments: &[&str]) -> (bool, String) {
        let (verb, arguments) = arguments.split_first().expect("a verb");
        let output = tool("systemd-analyze")
            .arg(verb)
            .arg(format!("--root={}", self.root.path().display()))
            .args(arguments)
            .output()
            .expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}
