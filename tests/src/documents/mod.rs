//! The documents of this repository, as tests read them: what they claim is looked up, what they tell to run is run.
//!
//! * [`markdown`]: headings, fenced blocks, tables, links, and what stands between backticks;
//! * [`transcript`]: whether something prints what a document says that it prints;
//! * [`shell`]: a newcomer's terminal, in which the blocks are run as they stand there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace;
use markdown::Document;

pub mod markdown;
pub mod shell;
pub mod transcript;

/// One document, by its path from the root.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn document(path: &str) -> Document {
    let text = fs::read_to_string(workspace::path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Document::parse(path, &text)
}

/// All documents of the repository, in the order of their paths.
///
/// # Panics
///
/// If a folder cannot be read.
pub fn all() -> Vec<Document> {
    let mut paths = Vec::new();
    collect(workspace::root(), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "there are no documents");
    paths.iter().map(|path| document(path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path: PathBuf = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What is built, fetched or found by a fuzzer is nobody's document, and there is much of it.
        if path.is_symlink() || name.starts_with('.') || ["target", "corpus", "artifacts"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else if name.ends_with(".md") {
            let relative = path.strip_prefix(workspace::root()).unwrap_or(&path);
            paths.push(relative.to_string_lossy().into_owned());
        }
    }
}
