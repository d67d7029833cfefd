//! All committed inputs, and the captured requests, through the checks of their targets: without a fuzzer, so
//! that what was found once stays found.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use postern_fuzz::{frames, head};

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
    replay("../tests/captures", head::check);
}

#[test]
fn streams() {
    replay("corpus/frames", |bytes| {
        frames::check(&frames::Script::arbitrary_take_rest(Unstructured::new(bytes)).expect("a script"));
    });
}
