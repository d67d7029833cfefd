//! The stub for builds without the feature `assertion`. The settings refuse signed identities in such a build, and no token is
//! accepted.

use std::io;
use std::sync::Arc;

use postern_core::handshake::Assertion;
use slog::Logger;

/// The tokens that are accepted. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionSettings {}

/// The tokens of channels that are accepted. This build cannot have such settings.
#[derive(Debug, Clone)]
pub enum TokenSettings {}

/// Verifies tokens. This build has no verifier.
#[derive(Debug)]
pub enum TokenVerifier {}

/// A request to fetch the keys again. This build has no keys.
#[derive(Debug, Clone)]
pub enum Refresh {}

impl Refresh {
    /// Cannot be called.
    pub(crate) fn request(&self) {
        match *self {}
    }
}

/// A verifier of tokens, and the means to request its keys again. This build has no verifier.
pub type StartedTokens = (Arc<TokenVerifier>, Option<Refresh>);

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

/// Returns no verifier.
///
/// # Errors
/// Never fails.
pub fn start_tokens(settings: Option<&TokenSettings>, _: &Logger) -> io::Result<Option<StartedTokens>> {
    match settings {
        None => Ok(None),
        Some(never) => match *never {},
    }
}
