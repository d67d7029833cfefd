//! What this host and the limits of this process allow: memory and open files.

pub(crate) mod memory;
pub(crate) mod open_files;
