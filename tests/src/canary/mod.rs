//! The canary: a search for secrets in the output of all processes that tests start.
//!
//! With `CANARY=FOLDER` in the environment, tests record each secret in that folder, the output of their children is
//! kept there, and each Postern logs at the trace level. `.ci/canary` runs all tests in this way, and then searches the
//! output for each secret. Without the variable, no secret is recorded.
//!
//! There is no list to maintain: tokens are recorded where they are signed, the secrets in settings where a child gets its
//! environment, and those in requests where a request is put together ([`request`]).
//!
//! The settings determine what may be logged, so two kinds of secret are secret for some children only: an e-mail
//! address for those with `POSTERN_LOG_EMAIL=masked` or `off`, a message for those with `POSTERN_LOG_MESSAGES=size` or
//! `off`. The name of the file with the output of a child says which of the two it must not contain.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, process};

pub mod check;
mod forms;
mod requests;
pub mod search;

/// The kind of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A bearer token, a signed assertion.
    Token,
    /// Credentials in `Authorization` other than a bearer token.
    Credentials,
    /// A cookie.
    Cookie,
    /// The query of a URL.
    Query,
    /// A secret that a proxy sends.
    ProxySecret,
    /// A secret in another setting: a key, a password in a URL.
    Setting,
    /// An e-mail address; secret if `POSTERN_LOG_EMAIL` is not `full`.
    Email,
    /// A message of a user; secret if `POSTERN_LOG_MESSAGES` is `size` or `off`.
    Message,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Token,
        Self::Credentials,
        Self::Cookie,
        Self::Query,
        Self::ProxySecret,
        Self::Setting,
        Self::Email,
        Self::Message,
    ];

    /// Returns its name in a report and in the list of secrets.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Credentials => "credentials",
            Self::Cookie => "cookie",
            Self::Query => "query",
            Self::ProxySecret => "proxy secret",
            Self::Setting => "secret of a setting",
            Self::Email => "e-mail address",
            Self::Message => "message",
        }
    }
}

/// A secret that was used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Secret {
    /// Its kind.
    pub kind: Kind,
    /// The secret.
    pub bytes: Vec<u8>,
}

/// Records a secret, and returns it.
///
/// # Panics
///
/// If it cannot be recorded.
pub fn secret<S: AsRef<[u8]>>(kind: Kind, secret: S) -> S {
    if let Some(run) = run() {
        run.note(kind, secret.as_ref());
    }
    secret
}

/// Creates and records a secret of 32 hexadecimal digits.
///
/// # Panics
///
/// If the system has no random bytes, or the secret cannot be recorded.
pub fn mint(kind: Kind) -> String {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("random bytes");
    secret(kind, bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Records the secrets in a request before it is sent.
///
/// # Panics
///
/// If it cannot be recorded.
pub fn request(head: &[u8]) {
    if let Some(run) = run() {
        requests::secrets(head).iter().for_each(|secret| run.note(secret.kind, &secret.bytes));
    }
}

/// Makes a Postern log as much as possible.
pub(crate) fn talk(command: &mut Command) {
    if run().is_some() {
        command.env("LOG_LEVEL", "trace");
    }
}

/// Records the secrets in the settings of a child that is about to be started, and creates a file for its output.
///
/// # Panics
///
/// If it cannot be recorded.
pub(crate) fn keep(name: &str, command: &Command) -> Option<File> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    let run = run()?;
    let setting = |name: &str| {
        let own = command.get_envs().find(|(own, _)| *own == name).map(|(_, value)| value.map(Into::into));
        let value = own.unwrap_or_else(|| env::var_os(name));
        value.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    for (kind, name) in [
        (Kind::ProxySecret, "POSTERN_PROXY_SECRET"),
        (Kind::Setting, "POSTERN_API_KEY"),
        (Kind::Setting, "JWT_SECRET"),
    ] {
        let file = setting(&format!("{name}_FILE"));
        // A file that cannot be read contains no secret.
        let in_file = if file.is_empty() { None } else { std::fs::read_to_string(file).ok() };
        for secrets in [setting(name), in_file.unwrap_or_default()] {
            secrets.split(',').for_each(|secret| run.note(kind, secret.trim().as_bytes()));
        }
    }
    let mut rules = String::new();
    if ["masked", "off"].contains(&setting("POSTERN_LOG_EMAIL").as_str()) {
        rules.push_str(NO_EMAIL);
    }
    if ["size", "off"].contains(&setting("POSTERN_LOG_MESSAGES").as_str()) {
        rules.push_str(NO_MESSAGE);
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = run.folder.join(format!("{name}.{}-{number}{rules}{OUTPUT}", process::id()));
    Some(File::create(&path).unwrap_or_else(|error| panic!("creating {}: {error}", path.display())))
}

/// The folder of one run of the tests.
struct Run {
    folder: PathBuf,
    list: File,
    /// The secrets that this process has recorded: most are used repeatedly.
    noted: Mutex<HashSet<Secret>>,
}

impl Run {
    fn open(folder: PathBuf) -> io::Result<Self> {
        // Whole lines are appended in one write, so lines of several processes do not mix.
        let list = OpenOptions::new().create(true).append(true).open(folder.join(LIST))?;
        Ok(Self { folder, list, noted: Mutex::default() })
    }

    fn note(&self, kind: Kind, bytes: &[u8]) {
        let secret = Secret { kind, bytes: bytes.to_vec() };
        if !search::is_searchable(bytes)
            || !self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(secret)
        {
            return;
        }
        let mut line = format!("{}\t", kind.name());
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        (&self.list).write_all(line.as_bytes()).expect("the list of secrets can be written");
    }
}

/// Returns the run that this process belongs to, if there is one.
fn run() -> Option<&'static Run> {
    static RUN: OnceLock<Option<Run>> = OnceLock::new();

    RUN.get_or_init(|| {
        let folder = PathBuf::from(env::var_os(VARIABLE)?);
        let opened = Run::open(folder);
        Some(opened.unwrap_or_else(|error| panic!("{VARIABLE} does not name a folder to write to: {error}")))
    })
    .as_ref()
}

/// Returns the secrets that are recorded in a folder.
///
/// # Errors
/// The list cannot be read or is damaged.
pub fn noted(folder: &Path) -> io::Result<Vec<Secret>> {
    let list = std::fs::read_to_string(folder.join(LIST))?;
    let secrets: Option<HashSet<Secret>> = list.lines().map(parse).collect();
    let secrets = secrets.ok_or_else(|| io::Error::other("the list of secrets is damaged"))?;
    let mut secrets: Vec<Secret> = secrets.into_iter().collect();
    secrets.sort();
    Ok(secrets)
}

fn parse(line: &str) -> Option<Secret> {
    let (name, digits) = line.split_once('\t')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    Some(Secret { kind, bytes: bytes? })
}

/// The variable that names the folder.
pub const VARIABLE: &str = "CANARY";

/// The file with the secrets.
const LIST: &str = "secrets";

/// The extension of the files with the output of children.
const OUTPUT: &str = ".output";

/// Part of the name of such a file: it must not contain an e-mail address.
const NO_EMAIL: &str = ".no-email";

/// Part of the name of such a file: it must not contain a message.
const NO_MESSAGE: &str = ".no-message";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_secrets_are_read_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..2 {
            let run = Run::open(folder.path().to_owned()).expect("a list");
            for _ in 0..2 {
                run.note(Kind::Token, b"a token\n\xff and more of it");
                run.note(Kind::Email, b"john@example.com");
                run.note(Kind::Cookie, b"short");
                run.note(Kind::Cookie, &[b'x'; 100]);
            }
        }
        let secrets = noted(folder.path()).expect("a list");
        let expected =
            [(Kind::Token, &b"a token\n\xff and more of it"[..]), (Kind::Email, b"john@example.com")];
        assert_eq!(
            secrets,
            expected.map(|(kind, bytes)| Secret { kind, bytes: bytes.to_vec() }),
            "short and monotonous texts are left out"
        );
    }

    #[test]
    fn damaged_list_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for list in ["token\n", "token\tabc\n", "tokens\t00\n", "token\tzz\n", "\n"] {
            std::fs::write(folder.path().join(LIST), list).expect("a file");
            assert!(noted(folder.path()).is_err(), "{list:?}");
        }
    }
}
