//! The stub for builds without the feature `assertion`. The settings refuse signed identities in such a build.

use std::io;

use postern_core::handshake::Assertion;
use slog::Logger;

/// The tokens that are accepted. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionSettings {}

/// A request to fetch the keys again. This build has no keys.
#[derive(Debug, Clone)]
pub enum Refresh {}

impl Refresh {
    /// Cannot be called.
    pub(crate) fn request(&self) {
        match *self {}
    }
}

/// Returns no verifier.
///
/// # Errors
/// Never fails.
pub fn start(settings: Option<&AssertionSettings>, _: &Logger) -> io::Result<Option<(Assertion, Refresh)>> {
    match settings {
        None => Ok(None),
        Some(never) => match *never {},
    }
}
