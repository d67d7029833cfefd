//! The error of this package: a sentence for people.

use std::fmt;

/// A message that says what was tried, why it failed and, if possible, what helps.
///
/// There are no kinds of failure: a test fails with any of them, and a command ends with any of them.
#[derive(Clone)]
pub struct Failure(String);

impl Failure {
    /// Creates a failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An adapter for `map_err`: puts the action before the reason of its failure.
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
