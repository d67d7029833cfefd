//! Links lead somewhere, and what is called a file is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postern_tests::documents::markdown::{Document, spans};
use postern_tests::documents::{all, document};
use postern_tests::workspace;

#[test]
fn each_link_leads_somewhere() {
    let documents = all();
    let mut count = 0;
    for from in &documents {
        let folder = Path::new(&from.path).parent().unwrap_or(Path::new(""));
        for link in from.links() {
            let place = format!("{}:{}: {}#{:?}", from.path, link.line, link.path, link.anchor);
            let path = if link.path.is_empty() { PathBuf::from(&from.path) } else { folder.join(&link.path) };
            let path = fs::canonicalize(workspace::path(&path.to_string_lossy()));
            let path = path.unwrap_or_else(|error| panic!("{place}: {error}"));
            let root = fs::canonicalize(workspace::root()).expect("the root");
            let to =
                path.strip_prefix(root).unwrap_or_else(|_| panic!("{place} leads out of the repository"));
            if let Some(anchor) = &link.anchor {
                let to = documents.iter().find(|document| Path::new(&document.path) == to);
                let headings = &to.unwrap_or_else(|| panic!("{place}: an anchor in no document")).headings;
                assert!(headings.iter().any(|heading| heading.anchor == *anchor), "{place}: no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} links");
}

/// Whether it begins as a path from the root of the repository does.
fn is_path(word: &str) -> bool {
    let mut parts = word.split('/');
    let first = parts.next().unwrap_or_default();
    let folders =
        ["core", "runtimes", "tests", "tools", "benches", "docs", "fuzz", "deploy", ".ci", ".cargo"]
            .contains(&first);
    folders && parts.next().is_some() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

#[test]
fn each_path_that_is_named_exists() {
    let mut count = 0;
    for document in all() {
        for (line, span) in document.code_spans() {
            for word in span.split_whitespace().filter(|word| is_path(word)) {
                // What is made by running something.
                if word.starts_with("fuzz/artifacts") {
                    continue;
                }
                assert!(workspace::path(word).exists(), "{}:{line}: there is no {word}", document.path);
                count += 1;
            }
        }
    }
    assert!(count > 60, "{count} paths");
}

/// The files and folders that the first column of a table names, from the folder that it is about. Behind the first one of a
/// cell may stand names that are in the same folder.
fn named(document: &Document, heading: &str, folder: &str) -> BTreeSet<PathBuf> {
    let first = format!("in `{folder}`");
    let table = document.table(heading, &first);
    let mut paths = BTreeSet::new();
    for (line, cells) in &table.rows {
        let mut here = PathBuf::new();
        for span in spans(&cells[0]) {
            let found = [PathBuf::from(span), here.join(span)]
                .into_iter()
                .find(|path| workspace::path(folder).join(path).exists());
            let path = found.unwrap_or_else(|| panic!("{}:{line}: no {span} in {folder}", document.path));
            here = path.parent().unwrap_or(Path::new("")).to_owned();
            paths.insert(path);
        }
    }
    paths
}

/// The modules of a folder: files, and folders with all that is in them.
fn modules(folder: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(workspace::path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| PathBuf::from(entry.expect("an entry").file_name()));
    let known = ["lib.rs", "main.rs", "mod.rs", "tests.rs", "tests", "bin"];
    names.filter(|name| !known.iter().any(|known| name == Path::new(known))).collect()
}

/// The code map is complete: each module stands in it, or the folder that it is in.
#[test]
fn the_code_map_has_each_module() {
    let architecture = document("ARCHITECTURE.md");
    for (folder, parts) in [
        ("core/src", &["", "handshake", "worker"][..]),
        ("runtimes/host/src", &[""]),
        ("runtimes/mio/src", &[""]),
        ("runtimes/smol/src", &[""]),
        ("tests/src", &[""]),
    ] {
        let named = named(&architecture, "The folders", folder);
        for part in parts {
            for module in modules(&format!("{folder}/{part}")) {
                let module = Path::new(part).join(module);
                let is_named = |path: &PathBuf| *path == module || path.join("") == module.join("");
                // Of a folder that is named by its files.
                let is_in_parts = parts.iter().any(|part| !part.is_empty() && module == Path::new(part));
                assert!(
                    named.iter().any(is_named) || is_in_parts,
                    "ARCHITECTURE.md: {folder}/{} is not in the code map",
                    module.display()
                );
            }
        }
    }
}

/// What the table of invariants names as their tests.
#[test]
fn each_invariant_has_its_tests() {
    let architecture = document("ARCHITECTURE.md");
    let table = architecture.table("Invariants, and where they are tested", "invariant");
    for (line, cells) in &table.rows {
        let mut here = PathBuf::new();
        for span in spans(&cells[1]).filter(|span| span.contains('.') || span.contains('/')) {
            let places = [PathBuf::from("core/src").join(span), PathBuf::from(span), here.join(span)];
            let found = places.into_iter().find(|path| workspace::root().join(path).exists());
            let path = found.unwrap_or_else(|| panic!("ARCHITECTURE.md:{line}: there is no {span}"));
            here = path.parent().unwrap_or(Path::new("")).to_owned();
        }
    }
}

/// A table whose header has no line of dashes below it, or a row behind an empty line, is shown as a paragraph of pipes.
#[test]
fn each_table_is_one() {
    let mut count = 0;
    for document in all() {
        let mut before: Option<&(usize, String)> = None;
        let lines: Vec<_> = document.prose.iter().collect();
        for (index, (line, text)) in lines.iter().map(|line| (line.0, &line.1)).enumerate() {
            let follows = before.is_some_and(|(number, text)| *number + 1 == line && text.starts_with('|'));
            if text.starts_with('|') && !follows {
                let is_rule = |(_, text): &&(usize, String)| {
                    text.starts_with('|') && text.contains('-') && text.chars().all(|c| "|-: ".contains(c))
                };
                let next = lines.get(index + 1).copied();
                assert!(next.as_ref().is_some_and(is_rule), "{}:{line}: no table begins here", document.path);
                count += 1;
            }
            before = Some(lines[index]);
        }
    }
    assert!(count > 40, "{count} tables");
}
