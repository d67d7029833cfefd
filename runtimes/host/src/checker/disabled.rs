//! The stub for builds without the feature `assertion`. The settings refuse checks of tokens in such a build.

use std::convert::Infallible;
use std::sync::Arc;

use postern_channels::claims::Tokens;
use postern_core::handshake::HandshakeConfig;
use postern_core::{TokenCheck, Verdict};
use slog::Logger;

use crate::assertion::TokenVerifier;

/// The service that checks tokens. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthSettings {}

/// Checks tokens. This build cannot have one.
#[derive(Debug)]
pub struct Checker(Infallible);

/// Figures of the checks of a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckStats {
    pub(crate) outcomes: [u64; 3],
    pub(crate) requests: u64,
}

/// Returns no verifier.
pub(crate) fn tokens(_: bool, _: Option<Arc<TokenVerifier>>) -> Option<Arc<dyn Tokens>> {
    None
}

impl Checker {
    /// Returns no checker.
    pub(crate) fn start(
        _: Option<&AuthSettings>,
        _: Option<&Arc<TokenVerifier>>,
        _: &HandshakeConfig,
        _: &Logger,
    ) -> Option<Arc<Checker>> {
        None
    }

    /// Cannot be called.
    pub(crate) fn check(&self, _: &TokenCheck, _: impl FnOnce(Verdict) + Send + 'static) {
        match self.0 {}
    }

    /// Cannot be called.
    pub(crate) fn stats(&self) -> CheckStats {
        match self.0 {}
    }
}
