//! In a build that writes no JSON (without the feature `json`).

use std::io;

use slog::{OwnedKVList, Record};

use super::stamp::Stamp;

/// Appends nothing. No settings lead to here.
pub(super) fn write(_: &mut Vec<u8>, _: Stamp, _: &Record<'_>, _: &OwnedKVList) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
