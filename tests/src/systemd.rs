//! The units of `deploy/systemd`, and systemd's own tools, which need no systemd that runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::postern::Runtime;
use crate::{provision, workspace};

/// All units.
pub const UNITS: [&str; 3] = ["postern.service", "postern.socket", "postern-control.socket"];

/// All drop-ins for the service.
pub const DROP_INS: [&str; 2] = ["smol.conf", "secrets.conf"];

/// What a unit says, from top to bottom.
#[derive(Debug)]
pub struct Unit {
    name: String,
    /// The key and the value of each line.
    lines: Vec<(String, String)>,
}

impl Unit {
    /// A unit or a drop-in of `deploy/systemd`.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[track_caller]
    pub fn shipped(name: &str) -> Self {
        let text = text(name);
        let lines =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        Self {
            name: name.to_owned(),
            lines: lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    /// All that it says for this key.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.lines.iter().filter(|(present, _)| present == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The one thing that it says for this key.
    ///
    /// # Panics
    ///
    /// If there is none or more than one.
    #[track_caller]
    pub fn one(&self, key: &str) -> &str {
        match self.all(key)[..] {
            [value] => value,
            ref values => panic!("{}: {key}= has {values:?}, and one was expected", self.name),
        }
    }
}

/// The text of a file of `deploy/systemd`.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn text(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `deploy/systemd`.
pub fn folder() -> PathBuf {
    workspace::path("deploy/systemd")
}

/// A tool of systemd. What it starts does not inherit its libraries, if it clears the environment.
///
/// # Panics
///
/// If it cannot be fetched.
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

/// The names of all system calls that these entries of `SystemCallFilter=` let through. Each entry is a list, behind `~`
/// if it takes away.
///
/// # Panics
///
/// If `systemd-analyze` does not know a group.
pub fn system_calls(filter: &[&str]) -> BTreeSet<String> {
    // Always let through (systemd.exec(5)).
    let mut calls = BTreeSet::new();
    expand("@default", &mut calls);
    for entry in filter {
        let (names, takes_away) = entry.strip_prefix('~').map_or((*entry, false), |names| (names, true));
        let mut named = BTreeSet::new();
        names.split_whitespace().for_each(|name| expand(name, &mut named));
        if takes_away {
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
    // The name of the group, what it is for, and its members.
    let members =
        text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.for_each(|member| expand(member, calls));
}

/// A host on which the units are installed, as far as `systemd-analyze` looks at one.
#[derive(Debug)]
pub struct Host {
    root: TempDir,
}

impl Host {
    /// A host with all units, and with these drop-ins for the service.
    ///
    /// # Panics
    ///
    /// If systemd cannot be fetched, or a file not be written.
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
        // `systemd-analyze` may run as somebody else than whom the folder belongs to.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { root }
    }

    /// Changes one text of the service, as somebody might by mistake.
    ///
    /// # Panics
    ///
    /// If it is not there exactly once.
    #[track_caller]
    pub fn change(self, from: &str, to: &str) -> Self {
        let path = self.path("etc/systemd/system/postern.service");
        let text = fs::read_to_string(&path).expect("the service");
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        fs::write(path, text.replace(from, to)).expect("the service");
        self
    }

    /// Whether `systemd-analyze` is content, and all that it says.
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

    fn path(&self, relative: &str) -> PathBuf {
        Path::new(self.root.path()).join(relative)
    }
}
