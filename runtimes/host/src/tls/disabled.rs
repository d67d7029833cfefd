//! The stub for builds without a feature that uses TLS.

use std::fmt;
use std::io;

use crate::settings::TlsFiles;

/// Why a file cannot be used. In this build it is never read.
#[derive(Debug)]
pub(crate) enum FileError {
    /// It cannot be read.
    Read(io::Error),
    /// It has something else.
    Content(String),
}

/// One of the files of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsFile {
    Authorities,
    Certificate,
    Key,
}

/// Reads nothing.
pub(crate) fn read(_: &TlsFiles) -> Result<(), (TlsFile, FileError)> {
    Ok(())
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Read(error) => error.fmt(f),
            FileError::Content(text) => f.write_str(text),
        }
    }
}
