//! Searches the output of all processes of a run of the tests for its secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::search::{Leak, Search};
use super::{Kind, NO_EMAIL, NO_MESSAGE, OUTPUT, noted};
use crate::postern::Runtime;

/// The searched output, and the leaks.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of secrets of each kind.
    pub secrets: BTreeMap<Kind, usize>,
    /// The number of processes of each name that wrote output.
    pub processes: BTreeMap<String, usize>,
    /// The number of lines that they wrote.
    pub lines: usize,
    /// A line for each secret in the output: its place and its kind, but not the secret.
    pub leaks: Vec<String>,
    /// The reasons why a search without leaks is not conclusive.
    pub gaps: Vec<String>,
}

/// Searches a folder of a run of the tests.
///
/// # Errors
/// It cannot be read, or is not such a folder.
pub fn check(folder: &Path) -> io::Result<Report> {
    let secrets = noted(folder)?;
    let mut report = Report::default();
    for secret in &secrets {
        *report.secrets.entry(secret.kind).or_default() += 1;
    }
    let search = Search::new(&secrets);
    report.gaps.extend(search.blind_spots().iter().map(|form| format!("a secret {form} would not be found")));

    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    // For each runtime, whether an output is verbose, omits e-mail addresses, and omits messages.
    let mut seen = [(Runtime::Mio, [false; 3]), (Runtime::Smol, [false; 3])];
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = name.strip_suffix(OUTPUT) else { continue };
        let process = stem.split('.').next().unwrap_or_default();
        if CLIENTS.contains(&process) {
            continue;
        }
        *report.processes.entry(process.to_owned()).or_default() += 1;
        let (no_email, no_message) = (stem.contains(NO_EMAIL), stem.contains(NO_MESSAGE));
        let counts = |kind| match kind {
            Kind::Email => no_email,
            Kind::Message => no_message,
            Kind::Token
            | Kind::Credentials
            | Kind::Cookie
            | Kind::Query
            | Kind::ProxySecret
            | Kind::Setting => true,
        };
        let text = fs::read(&path)?;
        report.lines += text.iter().filter(|byte| **byte == b'\n').count();
        for leak in search.leaks(&text, counts) {
            report.leaks.push(describe(&path, &text, &leak));
        }
        for (_, seen) in seen.iter_mut().filter(|(runtime, _)| runtime.to_string() == process) {
            let is_verbose = || contains(&text, b" DEBUG ") || contains(&text, b"\"level\":\"DEBUG\"");
            *seen = [seen[0] || is_verbose(), seen[1] || no_email, seen[2] || no_message];
        }
    }
    for (runtime, seen) in seen {
        let asked = ["at the most verbose level", "without e-mail addresses", "without messages"];
        let missing = asked.iter().zip(seen).filter(|(_, seen)| !seen);
        report.gaps.extend(missing.map(|(what, _)| format!("no {runtime} has logged {what}")));
    }
    let missing = Kind::ALL.into_iter().filter(|kind| !report.secrets.contains_key(kind));
    report.gaps.extend(missing.map(|kind| format!("no {} was used", kind.name())));
    Ok(report)
}

/// Returns a line such as `FILE:LINE: a token unencoded, "eyJh…", 620 bytes`.
fn describe(path: &Path, text: &[u8], leak: &Leak) -> String {
    let before = text.get(..leak.place.start).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let (path, kind, form) = (path.display(), leak.kind.name(), leak.form);
    format!(
        "{path}:{line}: a {kind} {form}, \"{}…\", {} bytes",
        leak.beginning.escape_debug(),
        leak.place.len()
    )
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = self.secrets.iter().map(|(kind, count)| format!("{count} {}", plural(kind.name())));
        let processes = self.processes.iter().map(|(name, count)| format!("{count} {name}"));
        writeln!(f, "secrets: {}", secrets.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "processes: {}", processes.collect::<Vec<_>>().join(", "))?;
        write!(f, "{} lines, {} leaks", self.lines, self.leaks.len())
    }
}

/// Clients, which print the data of their user.
const CLIENTS: [&str; 4] = ["curl", "node", "python", "sh"];

fn plural(name: &str) -> String {
    match name {
        "query" => "queries".to_owned(),
        "credentials" => name.to_owned(),
        "e-mail address" => "e-mail addresses".to_owned(),
        "secret of a setting" => "secrets of settings".to_owned(),
        _ => format!("{name}s"),
    }
}
