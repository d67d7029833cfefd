//! The error type of this package: a message.

use std::fmt;

/// A message with the attempted action, the reason of the failure and, if possible, a remedy.
///
/// It has no variants, because callers only print it.
#[derive(Clone)]
pub struct Failure(String);

impl Failure {
    /// Creates a failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns an adapter for `map_err`, which puts the action before the reason of its failure.
    pub fn while_doing<E: fmt::Display>(action: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{action}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same text as `Display`, because `expect` prints the `Debug` form, in which line ends would be quoted.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
