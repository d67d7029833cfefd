//! Paths in the checkout that this package was built from.

use std::path::{Path, PathBuf};

/// Returns the root of the workspace.
pub fn root() -> &'static Path {
    // The manifest of this package is two folders below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the package is inside the workspace")
}

/// Returns the path of a file or folder of the repository, given its path from the root.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}
