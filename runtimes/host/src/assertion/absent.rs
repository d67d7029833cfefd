//! In a build without signed identities (the feature `assertion`): nobody's are believed, and no settings can say that
//! somebody's are.

use std::io;

use postern_core::handshake::Assertion;
use slog::Logger;

/// Which tokens are believed: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionSettings {}

/// Has keys fetched again, of which there are none.
#[derive(Debug, Clone)]
pub enum Refresh {}

impl Refresh {
    /// Never does anything.
    pub(crate) fn request(&self) {
        match *self {}
    }
}

/// Never makes a judge of assertions.
///
/// # Errors
/// Never.
pub fn start(settings: Option<&AssertionSettings>, _: &Logger) -> io::Result<Option<(Assertion, Refresh)>> {
    match settings {
        None => Ok(None),
        Some(never) => match *never {},
    }
}
