//! All committed inputs, and the captured requests, through the checks of their targets: without a fuzzer, so
//! that what was found once stays found.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use postern_fuzz::{
    assertion, contract, differential, extensions, frames, head, head_reference, inflate, log_line, session,
};

/// Runs `check` on every file of a folder.
fn replay(folder: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn heads() {
    replay("corpus/head", head::check);
    // The captured requests have no cuts in front of them. Once in one piece, and once for each site in many.
    for cuts in [&[0][..], &[0x0f, 1, 2, 3, 0, 1, 50, 1, 99, 7, 1, 1, 1, 1, 1, 1], &[0x13, 20, 1, 1]] {
        replay("../tests/captures", |bytes| head::check(&[cuts, bytes].concat()));
    }
}

#[test]
fn heads_by_reference() {
    replay("corpus/head_reference", head_reference::check);
    replay("../tests/captures", head_reference::check);
}

#[test]
fn streams() {
    replay("corpus/frames", frames::check);
}

#[test]
fn streams_by_reference() {
    replay("corpus/differential", differential::check);
}

#[test]
fn contracts() {
    replay("corpus/contract", |bytes| {
        contract::check(&contract::Script::arbitrary_take_rest(Unstructured::new(bytes)).expect("a script"));
    });
}

#[test]
fn compressed_messages() {
    replay("corpus/inflate", inflate::check);
}

#[test]
fn offers_of_extensions() {
    replay("corpus/extensions", extensions::check);
}

#[test]
fn lines_of_the_log() {
    replay("corpus/log_line", log_line::check);
}

#[test]
fn assertions() {
    replay("corpus/assertion", assertion::check);
}

#[test]
fn sessions() {
    replay("corpus/session", session::check);
}
