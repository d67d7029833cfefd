//! In a build without signed identities (the feature `assertion`): nobody's are believed, and no settings can say that
//! somebody's are.

use std::io;

use postern_core::handshake::Assertion;
use slog::Logger;

/// Which tokens are believed: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionSettings {}

/// Never makes a judge of assertions.
///
/// # Errors
/// Never.
pub fn start(settings: Option<&AssertionSettings>, _: &Logger) -> io::Result<Option<Assertion>> {
    match settings {
        None => Ok(None),
        Some(never) => match *never {},
    }
}
