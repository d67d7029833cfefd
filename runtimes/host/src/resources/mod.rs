//! The limits of this host and of this process: memory and open files.

pub(crate) mod memory;
pub(crate) mod open_files;
