//! Where things are in the checkout that these tests were built from.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn root() -> &'static Path {
    // The manifest of this package lies in a folder of the root, so there always is a parent.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the workspace")
}

/// A file or folder of the repository, by its path from the root.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}
