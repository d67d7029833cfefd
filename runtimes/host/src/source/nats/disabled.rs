//! The stub for builds without the feature `nats`, in which the settings refuse a URL.

use super::Context;

/// The NATS that messages come from. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsSettings {}

pub(super) fn run(settings: NatsSettings, _: Context) {
    match settings {}
}

/// The defaults of the settings, as in a build with the feature.
pub(crate) const SUBJECT: &str = "postern";
pub(crate) const QUEUE_GROUP: &str = "postern";
