//! The error of this package: a sentence for the person whose test just failed.

use std::fmt;

/// What went wrong, in words that say what was tried and, where there is one, what helps.
///
/// No caller acts on the kind of a failure: a test fails with it, a command ends with it. So there are no kinds.
#[derive(Clone)]
pub struct Failure(String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An adapter for `map_err`: puts what was being done before the reason it failed for.
    pub fn while_doing<E: fmt::Display>(action: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{action}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same text as `Display`: `expect` prints the `Debug` form, and a failure with quoted line ends is no help.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
